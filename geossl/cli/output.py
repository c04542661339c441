"""What commands share: an option, what they print, and the scene tables they read and write."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from tyro.conf import arg

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Output", "print_left_out", "print_line", "print_written", "read_scenes",
    "write_scenes",
]  # fmt: skip

T = TypeVar("T")
Output = Annotated[T, arg(aliases=("-o",))]  # Output[Path]: a file or a folder to write


def print_line(text: object = "") -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_left_out(reasons: Mapping[str, str]) -> None:
    """Print a line for each file that was left out: its path and the reason."""
    for path, reason in reasons.items():
        print_line(f"left out {reason if path in reason else f'{path}: {reason}'}")


def print_written(table: pd.DataFrame, output: Path, options: str = "") -> None:
    """Print what a scene table holds, where it is, and which command comes next."""
    locations = table["location"].nunique()
    print_line(
        f"{output}: {len(table):,} scenes of {locations:,} locations; next: geossl "
        + (f"chips {output}{options}" if "reader" in table else f"map {output} --output map.html")
    )


def read_scenes(path: Path, *, normalize_lon: bool = False) -> pd.DataFrame:
    """Read the scene table of a chip store's folder, or of a file."""
    from geossl import ChipStore
    from geossl.data import scenes

    if path.is_dir():
        return ChipStore.open(path).scenes
    return scenes.read(path, normalize_lon=normalize_lon)


def write_scenes(table: pd.DataFrame, output: Path) -> None:
    """Write a scene table, and print what it holds."""
    from geossl.data.table_files import write

    print_left_out(table.attrs.get("skipped", {}))
    write(table, output)
    print_written(table, output)
