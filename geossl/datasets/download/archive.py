"""Unpack an archive from the network: nothing outside its folder, no links, no bombs."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

Entry = tuple[str, Callable[[], Any] | None]  # its name, and how to open it; None: a folder

_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError,
    NotImplementedError, RuntimeError, UnicodeError,
)  # fmt: skip
_MOST_ENTRIES = 2_000_000
_COPY_BYTES = 2**20


def is_archive(name: str) -> bool:
    """Whether `unpack` takes a file of this name."""
    return name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def unpack(archive: Path, folder: Path, *, most_bytes: int) -> None:
    """Write the files of a zip or tar archive into a folder that does not exist yet.

    The folder appears when it is whole. Only plain files and folders are made, without owners and
    modes of the archive.

    Args:
        archive: a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz.
        folder: to be made.
        most_bytes: what the files may have together.

    Raises:
        ValueError: a name that leaves the folder, a link or device, a name twice, more bytes than
            ``most_bytes``, or an archive that is damaged. Nothing is left.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    entries = _zipped if archive.suffix.lower() == ".zip" else _tarred
    left = most_bytes
    try:
        for number, (name, opened) in enumerate(entries(archive)):
            if opened is None and PurePosixPath(name) == PurePosixPath("."):
                continue
            path = part / inside(name, archive)
            if number >= _MOST_ENTRIES:
                raise ValueError(f"{archive} holds more than {_MOST_ENTRIES:,} files; refused")
            if opened is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened() as content, open(path, "xb") as file:
                while block := content.read(_COPY_BYTES):
                    left -= len(block)
                    if left < 0:
                        raise ValueError(
                            f"{archive} holds more than the {most_bytes:,} bytes it should; refused"
                        )
                    file.write(block)
        os.rename(part, folder)
    except _BROKEN as error:
        raise _damaged(archive, error) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        name = error.filename
        raise ValueError(f"{archive} has two things of one name ({name}); refused") from None
    except OSError as error:
        if error.errno is not None:  # the disk is full, ...
            raise
        raise _damaged(archive, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def inside(name: str, source: object) -> PurePosixPath:
    """A relative path that stays in its folder on every system, from a name in hostile hands.

    Raises:
        ValueError: it does not stay there.
    """
    path = PurePosixPath(name)
    odd = set(name) & set('\\:*?"<>|') or any(ord(letter) < 32 for letter in name)
    if path.is_absolute() or ".." in path.parts or not path.parts or odd:
        raise ValueError(f"{source} has an entry {name!r} that leaves its folder; refused")
    return path


def _damaged(archive: Path, error: Exception) -> ValueError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
    return ValueError(f"{archive} cannot be unpacked ({reason}); fetch it again")


def _zipped(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"{archive} has a link or device {entry.filename!r}; refused")
            yield entry.filename, None if entry.is_dir() else partial(file.open, entry)


def _tarred(archive: Path) -> Iterator[Entry]:
    with tarfile.open(archive) as file:
        for entry in file:
            if not (entry.isfile() or entry.isdir()):
                raise ValueError(f"{archive} has a link or device {entry.name!r}; refused")
            yield entry.name, None if entry.isdir() else partial(file.extractfile, entry)
