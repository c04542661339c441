"""Register data sets, and find out which one is at a path."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from annotated_types import Interval

from geossl.data import scenes
from geossl.data.pixels import Pixels, repeat
from geossl.data.readers import FunctionReader, load_plugins, register_reader
from geossl.datasets.raster.chips import read_chips
from geossl.datasets.raster.window import pixel_info as image_info
from geossl.datasets.shared.listing import first_entries, list_entries, subfolders
from geossl.utils.validate import check_choice, validated

__all__ = ["describe_path", "matching_data_sets", "names", "open_scenes", "register"]

_MAX_ENTRIES = 2000  # of a folder to describe
_ANYWHERE = ("geotiff", "photos", "table")  # may lie beside folders that are not theirs
_MAX_PROBES = 8  # folders of a level to look into for a data set


@dataclass(frozen=True)
class _DataSet:
    open: Callable[..., pd.DataFrame]
    fits: Callable[[Path], str | None] | None
    fallback: Callable[[Path], str | None] | None
    lacks: Callable[[Path], str | None] | None


_DATA_SETS: dict[str, _DataSet] = {}


@validated
def register(
    name: str,
    *,
    open: Callable[..., pd.DataFrame],
    fits: Callable[[Path], str | None] | None = None,
    fallback: Callable[[Path], str | None] | None = None,
    lacks: Callable[[Path], str | None] | None = None,
    read: Callable[..., Pixels | np.ndarray] | None = None,
    bands: Sequence[str] | None = None,
    pixel_info: Callable[[pd.DataFrame], dict[str, Any]] | None = None,
) -> None:
    """Make a data set known to `open_scenes`, to the command line and to `ChipStore.build`.

    ``docs/extend_datasets.md`` shows a package that does it.

    Args:
        name: of the data set, and the word in the column ``reader`` of its tables.
        open: ``open(path, **options)`` returns a scene table.
        fits: ``fits(path)`` says in some words why this data set is at a path, or returns None;
            without it the data set is opened by its name only.
        fallback: the same, asked only where no data set fits: for layouts that others contain.
        lacks: ``lacks(path)`` says what is missing at a path where no data set fits, if it is near
            to this one, and what to do: "needs ... Pass ...".
        read: ``read(rows, *, size_px)`` returns chips ``(M, C, size_px, size_px)`` uint8 or uint16,
            or `geossl.data.pixels.Pixels`. If None, ``path`` names image files, and the table has
            the columns of `geossl.datasets.raster.chips.add_pixel_columns`.
        bands: names of the bands that ``read`` returns; red, green, blue for three, else
            ``band_1, ...`` if None.
        pixel_info: ``pixel_info(table)`` returns ``bands``, ``dtype``, ``rgb`` (which of the bands
            to show), ``units`` and ``source``; found out from the first chip if None.

    Raises:
        ValueError: the name is no identifier, is taken by geossl, or ``bands`` comes without
            ``read``.

    Example:
        >>> register("mine", open=my_table, read=my_chips, bands=("red", "green", "blue"))
    """
    if not name.isidentifier():
        raise ValueError(f"`name` must be an identifier, got {name!r}.")
    known = _DATA_SETS.get(name)
    ours = known is not None and known.open.__module__.startswith("geossl.datasets.")
    if ours and known is not None and known.open.__module__ != open.__module__:
        raise ValueError(f"`name` must not be that of a data set of geossl, got {name!r}.")
    if read is None and bands is not None:
        raise ValueError("`bands` needs `read`; image files have their bands in the scene table.")
    if read is None:
        read, pixel_info = read_chips, pixel_info or image_info
    _DATA_SETS[name] = _DataSet(open, fits, fallback, lacks)
    register_reader(name, FunctionReader(read, pixel_info, tuple(bands) if bands else None))


def names() -> list[str]:
    """Return the names of all data sets, also those of installed plugins."""
    load_plugins()
    return sorted(_DATA_SETS)


def option_names() -> list[str]:
    """Return the names of all options of the functions of all data sets."""
    functions = (_DATA_SETS[name].open for name in names())
    options = {
        p for function in functions for p in list(inspect.signature(function).parameters)[1:]
    }
    return sorted(options - {"skip_bad"})  # a flag of its own


@validated
def open_scenes(
    path: str | os.PathLike[str],
    *,
    reader: str | None = None,
    same_location_m: Annotated[float, Interval(gt=0, le=50_000)] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Open the scene table of whatever data set is at a path.

    Args:
        path: a folder or a file.
        reader: the name of the data set; needed where several fit.
        same_location_m: make locations within so many meters one, see
            `geossl.data.scenes.merge_locations`; None leaves them as the data set has them.
        options: of the data set's function.

    Returns:
        Its table; ``attrs["opened"]`` is the name of the data set and why it was chosen.

    Raises:
        FileNotFoundError: ``path`` does not exist.
        ValueError: no data set fits or several do, ``reader`` is unknown, or it has no such option;
            or what the data set's function raises.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if not (path.is_dir() or path.is_file()):
        raise ValueError(f"`path` must be a folder or a file, got {path}, a pipe or a device.")
    if reader is None:
        matches = matching_data_sets(path)
    else:
        check_choice("reader", reader, names())
        matches = {reader: "named by `reader`"}
    if not matches:
        list_entries(path)  # raises where it may not be read
        raise ValueError(
            f"{path} has no known layout: it is {describe_path(path)}. {_advise(path)}"
        )
    if len(matches) > 1:
        reasons = "; ".join(f"{name} ({why})" for name, why in matches.items())
        raise ValueError(f"{len(matches)} data sets fit {path}: {reasons}. Pass `reader`.")
    name, why = next(iter(matches.items()))
    open_table = _DATA_SETS[name].open
    _, *parameters = inspect.signature(open_table).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        known = [parameter.name for parameter in parameters]
        for option in options:
            if option not in known:
                raise ValueError(
                    f"`{option}` is not an option of the data set {name}, which has "
                    f"{', '.join(known) or 'none'}."
                )
    table: pd.DataFrame = open_table(path, **options)
    if "reader" not in table:
        table = scenes.check(table, positions=False, source=f"the table of {name}")
        if table["path"].notna().any():  # else points without images
            table["reader"] = repeat(name, len(table))
    if same_location_m is not None:
        table = scenes.merge_locations(table, within_m=same_location_m)
    table.attrs["opened"] = (name, why)
    return table


@validated
def matching_data_sets(path: Path, *, fallbacks: bool = True) -> dict[str, str]:
    """Return the names of the data sets whose layout is at ``path`` -> why.

    Args:
        path: a folder or a file.
        fallbacks: where none fits, ask those that have a ``fallback``.
    """
    known = [(name, _DATA_SETS[name]) for name in names()]
    tests = [{name: data_set.fits for name, data_set in known}]
    tests += [{name: data_set.fallback for name, data_set in known}] * fallbacks
    for functions in tests:
        reasons = {name: fits(path) for name, fits in functions.items() if fits is not None}
        matches = {name: why for name, why in reasons.items() if why is not None}
        if matches:
            return matches
    return {}


def _advise(path: Path) -> str:
    """Return what to do about a path where no data set is: where one is, or what it lacks."""
    level, inner = [path], []
    for _ in range(3):
        entries = [entry for folder in level for entry in first_entries(folder)]
        level = [Path(entry.path) for entry in subfolders(entries)][:_MAX_PROBES]
        inner += level
    parents = [parent for parent in path.absolute().parents[:2] if len(parent.parts) > 2]
    advice = []
    for place in [*inner, *parents]:
        is_parent = place in parents
        matches = matching_data_sets(place, fallbacks=not is_parent)
        matches = {k: why for k, why in matches.items() if not (is_parent and k in _ANYWHERE)}
        if matches:
            name, why = next(iter(matches.items()))
            at = "It lies in" if is_parent else "It contains"
            advice.append(
                f"{at} {place}, which {why}: the reader `{name}` opens that path. Pass it."
            )
            break
    known = {name: _DATA_SETS[name].lacks for name in names()}
    nearest = {name: lacks(path) for name, lacks in known.items() if lacks is not None}
    said = "; ".join(f"`{name}` {reason}" for name, reason in nearest.items() if reason)
    if said:
        advice.append(f"The nearest readers: {said}.")
    if advice:
        return " ".join(advice)
    return (
        "geossl opens folders of georeferenced files or geotagged photos, images in class folders, "
        "tables of paths and coordinates, and the data sets of `geossl.datasets`. Pass the path of "
        "one, or write a csv with the columns path, lon and lat."
    )


@validated
def describe_path(path: Path) -> str:
    """Describe in words what is at a path, for a message."""
    if not path.is_dir():
        size = path.stat().st_size
        return f"a file of {size:,} bytes" + (f" ending in {path.suffix}" if path.suffix else "")
    entries = first_entries(path, _MAX_ENTRIES)
    if not entries:
        return "an empty folder, or one of hidden files only"
    more = "+" if len(entries) == _MAX_ENTRIES else ""
    kinds: dict[str, list[str]] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        suffix = Path(entry.name).suffix.lower()
        kind = "folders" if os.path.isdir(entry.path) else f"files {suffix}".strip()
        kinds.setdefault(kind, []).append(entry.name)
    parts = []
    for kind, count in Counter({kind: len(kinds[kind]) for kind in kinds}).most_common(6):
        examples = ", ".join([*kinds[kind][:3], *(["..."] if count > 3 else [])])
        parts.append(f"{count}{more} {kind} ({examples})")
    return "a folder of " + ", ".join(parts)
