"""Find what reads the pixels of a scene table: readers by name, from here and from plugins."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from geossl.data.natural_color import shown_bands
from geossl.data.pixels import Pixels
from geossl.utils.validate import PositiveInt, check_fields, validated

__all__ = [
    "PIXEL_INFO", "FunctionReader", "Reader", "get_reader", "load_plugins", "pixel_info_of",
    "reader_name", "register_reader",
]  # fmt: skip

PIXEL_INFO = ("bands", "dtype", "rgb", "units", "source")  # what a reader says of its pixels

_ENTRY_POINTS = "geossl.datasets"  # group; geossl's own data sets are in it too
_COLORS = ("red", "green", "blue")


@runtime_checkable
class Reader(Protocol):
    """What reads chips: the column ``reader`` of a scene table holds its name."""

    def pixel_info(self, scenes: pd.DataFrame) -> dict[str, Any]:
        """Return ``bands``, ``dtype``, ``rgb``, ``units`` and ``source`` of a table's pixels."""

    def read_chips(self, rows: pd.DataFrame, *, size_px: int) -> Pixels:
        """Return chips ``(M, C, size_px, size_px)`` of some rows of a table."""


@dataclass(frozen=True)
class FunctionReader:
    """A reader made of functions.

    Attributes:
        read: ``read(rows, *, size_px)`` returns `Pixels`, or only their ``chips``.
        info: as ``pixel_info`` of `Reader`; None: the first row that can be read tells.
        bands: names of the bands if ``info`` is None; red, green, blue of three, else
            ``band_1, ...`` if None.
        computed: whether pixels are computed from the table alone, at any time and in any size;
            pictures for the eye then need not be as small as the chips that are stored.
    """

    read: Callable[..., Pixels | np.ndarray]
    info: Callable[[pd.DataFrame], dict[str, Any]] | None = None
    bands: tuple[str, ...] | None = None
    computed: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @validated
    def read_chips(self, rows: pd.DataFrame, *, size_px: PositiveInt) -> Pixels:
        """Read some rows, see `Reader`."""
        pixels = self.read(rows, size_px=size_px)
        return pixels if isinstance(pixels, Pixels) else Pixels(np.asarray(pixels))

    @validated
    def pixel_info(self, scenes: pd.DataFrame) -> dict[str, Any]:
        """Describe the pixels, see `Reader`.

        Raises:
            ValueError: ``info`` is None, and none of the first rows can be read, or their chips
                have another shape or number of bands.
        """
        if self.info is not None:
            return self.info(scenes)
        for row in range(min(len(scenes), 100)):
            pixels = self.read_chips(scenes.iloc[[row]].reset_index(drop=True), size_px=8)
            if not pixels.bad:
                break
        else:
            raise ValueError(f"None of the first scenes can be read: {pixels.bad[0]}")
        chips = pixels.chips
        if chips.ndim != 4 or (self.bands and chips.shape[1] != len(self.bands)):
            count = len(self.bands) if self.bands else "bands"
            raise ValueError(f"`read` must return chips (1, {count}, 8, 8), got {chips.shape}.")
        numbered = tuple(f"band_{i}" for i in range(1, chips.shape[1] + 1))
        bands = self.bands or (_COLORS if chips.shape[1] == 3 else numbered)
        return {
            "bands": list(bands),
            "dtype": str(chips.dtype),
            "rgb": shown_bands(bands),
            "units": "as read",
            "source": str(scenes["reader"].iloc[0]),
        }


_READERS: dict[str, Reader] = {}


@validated
def register_reader(name: str, reader: Reader) -> None:
    """Make a reader known under a name; the last one of a name counts."""
    _READERS[name] = reader


@cache
def load_plugins() -> None:
    """Import what the entry points ``geossl.datasets`` name, once; each registers itself."""
    for entry in importlib.metadata.entry_points(group=_ENTRY_POINTS):
        try:
            entry.load()
        except Exception as error:  # whatever a plugin does, the other data sets work
            warnings.warn(
                f"The data sets of {entry.value} cannot be imported: {error}.", stacklevel=2
            )


@validated
def get_reader(name: str) -> Reader:
    """Return the reader of a name, from the installed plugins if need be.

    Raises:
        ValueError: none is registered under that name.
    """
    if name not in _READERS:
        load_plugins()
    if name not in _READERS:
        raise ValueError(
            f"No reader is registered as {name!r}; known are {', '.join(sorted(_READERS))}. "
            "`geossl.datasets.register` adds one, in the process that builds the store."
        )
    return _READERS[name]


@validated
def reader_name(table: pd.DataFrame) -> str:
    """Return the one reader of a scene table.

    Raises:
        ValueError: the table has none, or several.
    """
    names = list(table["reader"].unique()) if "reader" in table else []
    if len(names) != 1 or not isinstance(names[0], str):
        raise ValueError(
            "`scenes` needs one reader in its column 'reader', got "
            f"{names or 'no such column'}. Make the table with `geossl scenes open` or a function "
            "of geossl.datasets, from files or a table that names images: points have no pixels."
        )
    return names[0]


@validated
def pixel_info_of(table: pd.DataFrame, reader: str) -> dict[str, Any]:
    """Return what a reader says of its pixels, if a store can hold them."""
    info = get_reader(reader).pixel_info(table)
    missing = [key for key in PIXEL_INFO if not isinstance(info, dict) or key not in info]
    if missing:
        raise ValueError(
            f"`pixel_info` of the reader {reader!r} must return {', '.join(PIXEL_INFO)}; "
            f"{', '.join(missing)} is missing."
        )
    try:
        dtype = np.dtype(info["dtype"]).name
    except TypeError:
        dtype = str(info["dtype"])
    if dtype not in ("uint8", "uint16"):
        raise ValueError(
            f"The reader {reader!r} returns {dtype} chips, but a chip store holds uint8 or uint16. "
            "Convert them in the reader, e.g. reflectance from 0 to 1 times 65535 to uint16."
        )
    bands, rgb = (np.atleast_1d(info[key]).tolist() for key in ("bands", "rgb"))
    if not bands or not all(isinstance(band, str) for band in bands):
        raise ValueError(
            f"`pixel_info` of the reader {reader!r} must return names as `bands`, got {bands}."
        )
    if not rgb or not all(isinstance(i, int) and 0 <= i < len(bands) for i in rgb):
        raise ValueError(
            f"`pixel_info` of the reader {reader!r} must return `rgb` from 0 to {len(bands) - 1}, "
            f"got {rgb}."
        )
    texts = {key: "" if info[key] is None else str(info[key]) for key in ("units", "source")}
    return {**info, "bands": bands, "dtype": dtype, "rgb": rgb, **texts}
