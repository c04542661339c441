"""List folders: as a data set has them, and as far as a quick look goes.

What is hidden, or what an operating system or a NAS put there, is in no list.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from geossl.data.files import DatasetError

SENTINEL_2 = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12".split()
_SYSTEM = frozenset((
    "__macosx", "__pycache__", "@eadir", "#recycle", "@recycle", "$recycle.bin", "recycler",
    "system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini",
))  # fmt: skip
_IN_TIME = re.compile(r"(19|20)\d\d(\D|$|[01]\d)")


def is_in_time(name: str) -> bool:
    """Return whether a folder's name starts with a year or a date."""
    return _IN_TIME.match(name) is not None


def is_system(name: str) -> bool:
    """Return whether a file or a folder of this name is hidden, or no one's own."""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM


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
    """Return the entries of a folder by name; none where there is no such folder.

    Raises:
        DatasetError: it may not be read.
    """
    try:
        return sorted(_scan(folder, None), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that leads to itself
            return []
        raise DatasetError(
            f"The folder {folder} cannot be listed: {error.strerror}. Change its permissions or "
            "move it away."
        ) from None


def first_entries(folder: str | os.PathLike[str], limit: int | None = 64) -> list[os.DirEntry[str]]:
    """Return a few entries of a folder, however large it is; none where it cannot be listed."""
    try:
        return _scan(folder, limit)
    except (OSError, ValueError):
        return []


def _scan(folder: str | os.PathLike[str], limit: int | None) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(islice(filter(_is_own, entries), limit))


def _is_own(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file or a folder, or a dangling link; no pipe or device."""
    if is_system(entry.name):
        return False
    with suppress(OSError):  # a link that leads to itself
        return entry.is_file() or entry.is_dir() or not os.path.exists(entry.path)
    return True


def subfolders(entries: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """Return those entries that are folders."""
    folders = []
    for entry in entries:
        with suppress(OSError):  # a link that leads to itself
            if entry.is_dir():
                folders.append(entry)
    return folders


def find_files(
    folder: str | os.PathLike[str],
    accept: Collection[str] | Callable[[str], bool],
    *,
    limit: int | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Find the files in a folder and its sub-folders, and name what cannot be listed.

    Links to folders are followed, but no folder is listed twice: one that lies in ``folder`` is
    listed under its own name. A link to a file that is found anyway is left out.

    Args:
        folder: where to look.
        accept: suffixes in lower case, or a function of a file's name.
        limit: of the files to find, or a few more.

    Returns:
        Sorted paths, and path -> reason of folders that cannot be listed and of names that no table
        can hold.
    """
    fits = accept if callable(accept) else lambda name: os.path.splitext(name)[1].lower() in accept
    files: list[str] = []
    problems: dict[str, str] = {}
    linked: list[os.DirEntry[str]] = []
    seen: set[tuple[int, int]] = set()  # device and number of folders, and of files without links
    pending: list[str] = [os.fspath(folder)]
    later: list[str] = []  # links: a folder is listed under its own name where it has one here
    while (pending or later) and (limit is None or len(files) < limit):
        parent = pending.pop() if pending else later.pop(0)
        try:
            about = os.stat(parent)
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            entries = _scan(parent, None)
        except OSError as error:
            problems[parent] = f"it cannot be listed: {error.strerror}"
            continue
        for entry in sorted(entries, key=lambda entry: entry.name):
            with suppress(OSError):  # a link that leads to itself
                if entry.is_dir():
                    (later if entry.is_symlink() else pending).append(entry.path)
                elif fits(entry.name) and entry.is_file():
                    if entry.is_symlink():
                        linked.append(entry)
                        continue
                    seen.add((about.st_dev, entry.inode()))
                    files.append(entry.path)
                elif fits(entry.name):
                    problems[entry.path] = "it is a link to a file that does not exist"
    for entry in linked:
        about = os.stat(entry.path)  # an entry's own has no numbers on Windows
        if (about.st_dev, about.st_ino) not in seen:
            files.append(entry.path)
    for path in files:
        if not is_text(path):
            name = path.encode("utf-8", "backslashreplace").decode()
            problems[name] = "its name is not UTF-8, rename it"
    return sorted(filter(is_text, files)), problems


def is_text(path: str) -> bool:
    """Return whether a path can be written as UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


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
