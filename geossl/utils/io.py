"""Write files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geossl.utils.validate import validated

__all__ = ["atomic_write", "lock_folder"]


@validated
@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` on success.

    Args:
        path: the file to write; its folder is created if necessary.

    Yields:
        A path in the same folder and with the same suffix, to be written by the caller.

    Raises:
        OSError: the disk is full or the folder is not writable; ``path`` is left as it was.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory. Pass the name of a file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@validated
@contextmanager
def lock_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Make other processes wait for a folder, where the system has file locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
