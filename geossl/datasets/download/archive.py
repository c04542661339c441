"""Unpack an archive from the network: nothing outside its folder, no links, no bombs."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from geossl.utils.io import replace_file
from geossl.utils.validate import NonNegativeInt, validated

__all__ = ["is_archive", "safe_path", "unpack"]

Entry = tuple[str, Callable[[], Any] | None]  # name, and how to open it; None: a folder

_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError,
    NotImplementedError, RuntimeError, UnicodeError,
)  # fmt: skip
_MAX_ENTRIES = 2_000_000
_COPY_BYTES = 2**20


@validated
def is_archive(name: str) -> bool:
    """Return whether `unpack` reads a file of this name."""
    return name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


@validated
def unpack(archive: Path, folder: Path, *, max_bytes: NonNegativeInt) -> None:
    """Write the files of a zip or tar archive into a folder that does not exist yet.

    The folder appears when it is complete. Only plain files and folders are written, without the
    owners and modes of the archive.

    Args:
        archive: a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz.
        folder: to write.
        max_bytes: limit of the size of all files together.

    Raises:
        ValueError: a name that leaves the folder, a link or device, a name twice, more bytes than
            ``max_bytes``, or a damaged archive. Nothing is left behind.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    read = _zip_entries if archive.suffix.lower() == ".zip" else _tar_entries
    try:
        with closing(read(archive)) as entries:  # else a refused archive stays open
            _write_entries(entries, part, archive, max_bytes)
        replace_file(part, folder)
    except _BROKEN as error:
        raise _damaged(archive, error) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        name = error.filename
        raise ValueError(
            f"{archive} has two entries of one name ({name}) and was refused."
        ) from None
    except OSError as error:
        if error.errno is not None:  # the disk is full, ...
            raise
        raise _damaged(archive, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_entries(entries: Iterable[Entry], part: Path, archive: Path, max_bytes: int) -> None:
    left = max_bytes
    for number, (name, open_entry) in enumerate(entries):
        if open_entry is None and PurePosixPath(name) == PurePosixPath("."):
            continue
        path = part / safe_path(name, archive)
        if number >= _MAX_ENTRIES:
            raise ValueError(
                f"{archive} contains more than {_MAX_ENTRIES:,} files and was refused."
            )
        if open_entry is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_entry() as content, open(path, "xb") as file:
            while block := content.read(_COPY_BYTES):
                left -= len(block)
                if left < 0:
                    raise ValueError(
                        f"{archive} contains more than {max_bytes:,} bytes and was refused."
                    )
                file.write(block)


@validated
def safe_path(name: str, source: object) -> PurePosixPath:
    """Return an untrusted name as a relative path that stays in its folder on every system.

    Raises:
        ValueError: it does not stay there.
    """
    path = PurePosixPath(name)
    odd = set(name) & set('\\:*?"<>|') or any(ord(letter) < 32 for letter in name)
    if path.is_absolute() or ".." in path.parts or not path.parts or odd:
        raise ValueError(f"{source} has an entry {name!r} that leaves its folder, and was refused.")
    return path


def _damaged(archive: Path, error: Exception) -> ValueError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
    return ValueError(f"{archive} cannot be unpacked ({reason}). Download it again.")


def _zip_entries(archive: Path) -> Generator[Entry]:
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(
                    f"{archive} has a link or device {entry.filename!r} and was refused."
                )
            yield entry.filename, None if entry.is_dir() else partial(file.open, entry)


def _tar_entries(archive: Path) -> Generator[Entry]:
    with tarfile.open(archive) as file:
        for entry in file:
            if not (entry.isfile() or entry.isdir()):
                raise ValueError(f"{archive} has a link or device {entry.name!r} and was refused.")
            yield entry.name, None if entry.isdir() else partial(file.extractfile, entry)
