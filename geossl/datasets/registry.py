"""`open_scenes`: which data set is at a path, by asking every reader."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from geossl.data.pixels import Pixels
from geossl.data.readers import FunctionReader, load_plugins, register_reader
from geossl.datasets.raster import chips, window
from geossl.datasets.shared.listing import first_entries


@dataclass(frozen=True)
class _DataSet:
    open: Callable[..., pd.DataFrame]
    fits: Callable[[Path], str | None] | None


_DATA_SETS: dict[str, _DataSet] = {}


def register(
    name: str,
    *,
    open: Callable[..., pd.DataFrame],
    fits: Callable[[Path], str | None] | None = None,
    read: Callable[..., Pixels] = chips.read_chips,
    pixel_info: Callable[[pd.DataFrame], dict[str, Any]] = window.pixel_info,
) -> None:
    """Make a data set known: to `open_scenes`, the command line and `ChipStore.build`.

    Args:
        name: of the data set, and the word in the column ``reader`` of its tables.
        open: ``open(path, **options)`` returns a scene table.
        fits: ``fits(path)`` says in some words why this data set is at a path, or None; without
            it the data set is opened by its name only.
        read: ``read(rows, *, size_px)`` returns `geossl.data.pixels.Pixels`; image files by
            default, as `geossl.datasets.raster.chips.add_pixel_columns` lists them.
        pixel_info: ``pixel_info(table)`` returns bands, dtype, rgb, units and source.

    Raises:
        ValueError: the name is no identifier.

    Example:
        >>> register("mine", open=my_table, fits=lambda path: None)
    """
    if not name.isidentifier():
        raise ValueError(f"`name` must be an identifier, got {name!r}.")
    _DATA_SETS[name] = _DataSet(open, fits)
    register_reader(name, FunctionReader(read, pixel_info))


def names() -> list[str]:
    """Return the names of all data sets, those of installed plugins too."""
    load_plugins()
    return list(_DATA_SETS)


def open_scenes(
    path: str | os.PathLike[str], *, reader: str | None = None, **options: Any
) -> pd.DataFrame:
    """Scene table of whatever data set is at a path.

    Args:
        path: of a folder or a file.
        reader: the name of a reader, which is then not asked whether it fits; needed where
            several fit.
        options: of the reader.

    Returns:
        The reader's table; ``attrs["opened"]`` is its name and why it was taken.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: no reader fits or several do, there is none of that name, or it has no such
            option; or what the reader raises.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"expected a data set at {path}, found nothing there")
    if reader is not None and reader not in names():
        raise ValueError(f"expected a reader of {', '.join(names())}, came {reader!r}")
    fitting = {reader: "asked for"} if reader is not None else matching_data_sets(path)
    if not fitting:
        raise ValueError(
            f"expected a data set of a known layout at {path}, found {describe_path(path)}; give reader=, "
            f"one of {', '.join(names())}, or a table of paths and coordinates"
        )
    if len(fitting) > 1:
        told = "; ".join(f"{name} ({why})" for name, why in fitting.items())
        raise ValueError(
            f"expected one layout at {path}, found {len(fitting)} that fit: {told}; give reader="
        )
    name, why = next(iter(fitting.items()))
    read = _DATA_SETS[name].open
    known = list(inspect.signature(read).parameters)[1:]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(
            f"expected options of the reader {name}, which are {', '.join(known)}; came "
            f"{', '.join(unknown)}"
        )
    table: pd.DataFrame = read(path, **options)
    table.attrs["opened"] = (name, why)
    return table


def matching_data_sets(path: Path) -> dict[str, str]:
    """Names of the readers whose layout is at ``path`` -> why."""
    fits = {name: _DATA_SETS[name].fits for name in names()}
    asked = {name: fit(path) for name, fit in fits.items() if fit is not None}
    return {name: why for name, why in asked.items() if why is not None}


def describe_path(path: Path) -> str:
    """What is at a path, in words, for a message."""
    if not path.is_dir():
        size = path.stat().st_size
        return f"a file of {size:,} bytes" + (f" ending in {path.suffix}" if path.suffix else "")
    entries = first_entries(path, 2000)
    if not entries:
        return "an empty folder, or one that may not be read"
    kinds: dict[str, list[str]] = {}
    for entry in sorted(entries, key=lambda e: e.name):
        suffix = Path(entry.name).suffix.lower()
        kind = "folders" if os.path.isdir(entry.path) else f"files {suffix}" if suffix else "files"
        kinds.setdefault(kind, []).append(entry.name)
    counts = Counter({kind: len(names) for kind, names in kinds.items()}).most_common(6)
    told = [
        f"{count}{'+' if len(entries) == 2000 else ''} {kind} ({', '.join(kinds[kind][:3])}"
        f"{', ...' if count > 3 else ''})"
        for kind, count in counts
    ]
    return ", ".join(told)
