"""What commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def print_line(text: object = "") -> None:
    """A line on the terminal, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_left_out(bad: dict[str, str]) -> None:
    """A line for each file that was left out, and why."""
    for path, reason in bad.items():
        print_line(f"left out {reason if path in reason else f'{path}: {reason}'}")


def read_table(path: Path) -> Any:
    """The scene table of a chip store's folder, or of a file."""
    from geossl import ChipStore
    from geossl.data import scenes

    return ChipStore.open(path).scenes if path.is_dir() else scenes.read(path)


def print_written(table: Any, out: Path, more: str = "") -> None:
    """What a scene table holds, where it is, and what comes next."""
    places = table["location"].nunique()
    print_line(f"{out}: {len(table):,} scenes of {places:,} places; next: geossl chips {out}{more}")
