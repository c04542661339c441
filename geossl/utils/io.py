"""Write files that are never half there, and read those of geossl with checks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from geossl.utils.validate import PositiveInt, check_fields, validated

__all__ = [
    "as_record", "atomic_write", "check_file", "claim_folder", "digest", "file_digest", "load_json",
    "lock_folder", "parse_json", "replace_file",
]  # fmt: skip

Record = TypeVar("Record")
_PAUSES_S = (0.1, 0.4, 1.0)
_MAX_DEPTH = 32  # lists and dictionaries within each other in a json file of ours
_KINDS: dict[Callable[[int], bool], str] = {
    stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device", stat.S_ISBLK: "a device",
}  # fmt: skip


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
        replace_file(part, path)
    finally:
        part.unlink(missing_ok=True)


@validated
def replace_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Move a file to a name on the same disk, in place of what is there.

    Windows refuses that while the target is open, which a virus scanner or a backup does for
    moments: it is tried for a second and a half.

    Raises:
        PermissionError: a program, or an array of this one, has the target open.
    """
    for pause_s in (*_PAUSES_S, None):
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            if pause_s is None:
                raise PermissionError(
                    f"{target} cannot be replaced ({error.strerror}). Close the program or the "
                    "notebook that has it open, or make it writable."
                ) from None
            time.sleep(pause_s)


@validated
@contextmanager
def lock_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Make other processes wait for a folder."""
    try:
        import fcntl
    except ImportError:  # Windows, which locks files, but no folders
        from filelock import FileLock

        with FileLock(Path(folder) / ".lock"):
            yield
        return
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@validated
@contextmanager
def claim_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Refuse a folder that another process has claimed; that of a process that died is free.

    The same process may claim it again. A file ``.lock`` stays in the folder.

    Raises:
        BlockingIOError: another process has claimed it.
    """
    from filelock import FileLock, Timeout

    path = Path(folder).resolve() / ".lock"
    lock = FileLock(path, timeout=0, is_singleton=True, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(
            f"Another process is writing to {folder}. Wait until it ends, or use another directory."
        ) from None
    try:
        yield
    finally:
        lock.release()


@validated
def check_file(
    path: str | os.PathLike[str], kind: str = "file", *, error: type[Exception] = ValueError
) -> Path:
    """Return the path of a regular file; links are followed.

    Opening what is no regular file may wait for ever (a pipe) or never end (a device).

    Args:
        path: the file.
        kind: what it should be, for the message: "chip store".
        error: class of the error for what is neither a file nor a directory.

    Raises:
        FileNotFoundError: there is nothing of this name.
        IsADirectoryError: it is a directory.
    """
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"There is no {kind} at {path}.") from None
    except ValueError:  # a null byte in the name
        raise FileNotFoundError(f"There is no {kind} at {str(path)!r}.") from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} must be a file, it is a directory.")
    for is_kind, words in _KINDS.items():
        if is_kind(mode):
            raise error(f"{path} must be a file, it is {words}. Copy its content to a file.")
    return path


def digest(*parts: Any, size: int = 8) -> str:
    """Return hexadecimal digits that identify bytes, such as ``array.tobytes()``, in their order.

    Args:
        parts: bytes or contiguous arrays.
        size: bytes of the digest; two digits each.
    """
    total = hashlib.blake2b(digest_size=size)
    for part in parts:
        total.update(part)
    return total.hexdigest()


@validated
def file_digest(
    path: str | os.PathLike[str], *, algorithm: str = "blake2b", length: int | None = None
) -> str:
    """Return the hexadecimal digest of a file or its first bytes, read piece by piece."""
    total, left = hashlib.new(algorithm), length
    with open(check_file(path), "rb") as file:
        while piece := file.read(2**20 if left is None else min(left, 2**20)):
            total.update(piece)
            left = None if left is None else left - len(piece)
    return total.hexdigest()


@validated
def load_json(
    path: str | os.PathLike[str],
    *,
    error: type[Exception] = ValueError,
    advice: str = "Write it again.",
    max_bytes: PositiveInt = 2**26,
) -> Any:
    """Read a json file that geossl wrote; see `parse_json` for what is refused.

    Args:
        path: the file.
        error: class of the error for a file that cannot be read.
        advice: what to do then.
        max_bytes: the largest size to read.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
    """
    path = check_file(path, error=error)
    try:
        if path.stat().st_size > max_bytes:
            raise ValueError(f"it has more than {max_bytes:,} bytes")
        return parse_json(path.read_bytes())
    except (OSError, ValueError) as reason:
        raise error(f"{path} cannot be read as json ({reason}). {advice}") from None


@validated
def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """Parse json as geossl writes it.

    Args:
        text: UTF-8.
        finite: refuse NaN, Infinity and integers beyond 64 bits, which metadata of users may have.

    Raises:
        ValueError: it is no json, repeats a name, is nested too deeply, or has a number that is not
            finite or does not fit into 64 bits.
    """
    try:
        content = json.loads(
            text, parse_constant=_refuse if finite else float, parse_float=_finite,
            parse_int=_int64 if finite else int, object_pairs_hook=_without_repetition,
        )  # fmt: skip
    except RecursionError:
        content = None
        depth = _MAX_DEPTH + 1
    else:
        depth = 0
    level = [content]
    while level and depth <= _MAX_DEPTH:
        level = [
            item
            for each in level
            if isinstance(each, list | dict)
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, list | dict)
        ]
        depth += 1
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
    return content


def as_record(kind: type[Record], content: Any) -> Record:
    """Make a dataclass of the content of a json file, its fields checked against their hints.

    Args:
        kind: its fields are the names in the file; those with a default may be absent.
        content: of `parse_json`; names that are no fields are left out.

    Raises:
        ValueError: it is no dictionary, a name is absent, or a value is not what the hint says.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"it must be a dictionary, not {type(content).__name__}")
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    absent = dataclasses.MISSING
    missing = [
        field.name
        for field in fields
        if field.name not in content and field.default is field.default_factory is absent
    ]
    if missing:
        raise ValueError(f"`{missing[0]}` is missing")
    try:
        record = kind(**{f.name: content[f.name] for f in fields if f.name in content})
        check_fields(record)
    except (TypeError, ValueError) as error:
        raise ValueError(str(error).rstrip(".")) from None
    return record


def _refuse(text: str) -> float:
    raise ValueError(f"a number must be finite, got {text[:40]}")


def _finite(text: str) -> float:
    number = float(text)
    return number if number - number == 0 else _refuse(text)


def _int64(text: str) -> int:
    number = int(text) if len(text) <= 20 else 2**64
    return number if -(2**63) <= number < 2**63 else int(_refuse(text))


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:40]!r} is there twice")
    return content
