"""What the readers of tile data sets share: listings, where a tif lies, files that are left out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

SENTINEL_2 = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12".split()
_MOST_JSON = 2**26  # bytes; the largest of these data sets have some hundred thousand


def list_folder(folder: str | os.PathLike[str], what: str) -> list[os.DirEntry[str]]:
    """Entries of the folder that a user gave, by name.

    Raises:
        FileNotFoundError: there is no such folder; ``what`` says what it should hold.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"expected a folder of {what} at {folder}, found no such folder")
    return list_entries(folder)


def list_entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Entries of a folder by name; none where it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def subfolders(found: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """Those entries that are folders."""
    kept = []
    for entry in found:
        with suppress(OSError):  # a link that leads to itself
            if entry.is_dir():
                kept.append(entry)
    return kept


def first_entries(folder: str | os.PathLike[str], most: int = 64) -> list[os.DirEntry[str]]:
    """A few entries of a folder, however large it is; none where there is no such folder."""
    try:
        with os.scandir(folder) as found:
            return list(islice(found, most))
    except (OSError, ValueError):
        return []


def read_small_json(path: str | os.PathLike[str]) -> Any:
    """Content of a small json file.

    Raises:
        ValueError: it is no file, too large, or no json; the message is a reason without the name.
    """
    try:
        if not os.path.isfile(path):
            raise ValueError("there is no such file")
        if os.path.getsize(path) > _MOST_JSON:
            raise ValueError(f"it has {os.path.getsize(path):,} bytes")
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot be read as json: {error}") from None
