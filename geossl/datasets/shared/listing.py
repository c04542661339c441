"""List folders: as a data set has them, and as far as a quick look goes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

SENTINEL_2 = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12".split()


def list_folder(folder: str | os.PathLike[str], what: str) -> list[os.DirEntry[str]]:
    """Return the entries of the folder that a user passed, by name.

    Raises:
        FileNotFoundError: there is no such folder; ``what`` says what it should contain.
    """
    if not os.path.isdir(folder):
        problem = "is a file" if os.path.exists(folder) else "does not exist"
        raise FileNotFoundError(f"The folder {folder} {problem}. It should contain {what}.")
    return list_entries(folder)


def list_entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Return the entries of a folder by name; none where it cannot be listed."""
    return sorted(first_entries(folder, None), key=lambda entry: entry.name)


def first_entries(folder: str | os.PathLike[str], limit: int | None = 64) -> list[os.DirEntry[str]]:
    """Return a few entries of a folder, however large it is; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return list(islice(entries, limit))
    except (OSError, ValueError):
        return []


def subfolders(entries: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """Return those entries that are folders."""
    folders = []
    for entry in entries:
        with suppress(OSError):  # a link that leads to itself
            if entry.is_dir():
                folders.append(entry)
    return folders


def find_files(folder: str | os.PathLike[str], suffixes: Collection[str]) -> list[str]:
    """Return the sorted paths of the files with some suffixes in a folder and its sub-folders."""
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name[0] != "." and os.path.splitext(name)[1].lower() in suffixes
    )


def only_file(files: Sequence[Path], kind: str, folder: Path) -> Path:
    """Return the only one of the files of a kind in a folder.

    Raises:
        FileNotFoundError: there are none or several.
    """
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise FileNotFoundError(
            f"{folder} must contain one {kind}, got {names}. Pass the path of the file."
        )
    return files[0]
