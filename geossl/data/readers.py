"""Find what reads the pixels of a scene table: readers by name, from here and from plugins."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from geossl.data.pixels import Pixels

ENTRY_POINTS = "geossl.datasets"  # group; geossl's own data sets are in it too


class Reader(Protocol):
    """What reads chips: the column ``reader`` of a scene table holds its name."""

    def pixel_info(self, scenes: pd.DataFrame) -> dict[str, Any]:
        """Return ``bands``, ``dtype``, ``rgb``, ``units`` and ``source`` of a table's pixels."""

    def read_chips(self, rows: pd.DataFrame, *, size_px: int) -> Pixels:
        """Return chips ``(M, C, size_px, size_px)`` of some rows of a table."""


@dataclass(frozen=True)
class FunctionReader:
    """A reader made of two functions.

    Attributes:
        read_chips: as in `Reader`.
        pixel_info: as in `Reader`.
    """

    read_chips: Callable[..., Pixels]
    pixel_info: Callable[[pd.DataFrame], dict[str, Any]]


_READERS: dict[str, Reader] = {}


def register_reader(name: str, reader: Reader) -> None:
    """Make a reader known under a name; the last one of a name counts."""
    _READERS[name] = reader


def load_plugins() -> None:
    """Import what the entry points of the group ``geossl.datasets`` name; each registers itself."""
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        entry.load()


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
