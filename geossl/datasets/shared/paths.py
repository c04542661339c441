"""Resolve the files that a table names: within their folder, by name or by a pattern."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from geossl.datasets.raster.files import is_image
from geossl.datasets.shared.listing import find_files

_MAX_FILES = 300_000  # of a folder to look through
_MAX_LOOKS = 1000  # rows of a table whose images are looked for before all are


def resolve_inside(root: str | os.PathLike[str], names: Iterable[Any]) -> list[str | None]:
    """Return absolute paths of files in a folder; None for a name that leads out of it.

    An absolute name must lie in ``root`` too, unless it is one of another machine. Names that are
    missing, no text or empty give None.
    """
    top = os.path.join(os.path.abspath(root), "")
    is_odd = re.compile(r"\.\.|^[/\\]|^.:|\\|://").search  # the others, maybe a million, are inside

    def resolve(name: Any) -> str | None:
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            return None
        if not is_odd(name):
            return top + name
        name = name.removeprefix("file://")
        if "://" in name:
            return None
        if not os.path.exists(top + name):
            name = name.replace("\\", "/")
        bare = os.path.splitdrive(name)[1]
        if bare.startswith("/") and ".." not in name and not os.path.exists(name):
            name = bare.lstrip("/")  # to be looked up by its end
        path = os.path.normpath(os.path.join(top, name))
        inside = os.path.normcase(path).startswith(os.path.normcase(top)) and not path.startswith(
            "/vsi"
        )  # GDAL's virtual files
        return path if inside else None

    return [resolve(name) for name in names]


def outside_reason(root: str | os.PathLike[str], name: Any) -> str:
    """Return the reason why `resolve_inside` gave no path for a name."""
    if isinstance(name, str) and "://" in name:
        return f"{name!r} is a URL; download the images, and list the files' names instead"
    return (
        f"{name!r} is not a file in {os.path.abspath(root)}; pass `root`, the folder that paths "
        "start from"
    )


def find_moved(root: str | os.PathLike[str], paths: list[str | None]) -> list[str | None]:
    """Return paths of a table's images, those that lead to no file looked up in ``root``.

    Args:
        root: the folder of the images.
        paths: as `resolve_inside` returns them.
    """
    if all(path is None or os.path.isfile(path) for path in paths[:_MAX_LOOKS]):
        return paths
    lost = {path for path in paths if path and "{band}" not in path and not os.path.isfile(path)}
    top = os.path.abspath(root)
    files, _ = find_files(top, is_image, limit=_MAX_FILES)
    if len(files) >= _MAX_FILES:
        return paths
    names = [Path(os.path.relpath(file, top)).as_posix() for file in files]
    listed = sorted(lost)
    found = match_names([os.path.relpath(path, top) for path in listed], names)
    moved = {
        path: os.path.join(top, name) for path, name in zip(listed, found, strict=True) if name
    }
    return [moved.get(path, path) if path else path for path in paths]


def match_names(listed: Sequence[str], names: Sequence[str]) -> list[str | None]:
    """Return the file that each name of a list means; None where none or several fit.

    Names may have back slashes, no suffix, no folder, or one of another machine in front.

    Args:
        listed: names as a table has them.
        names: paths of the files, with ``/``.
    """
    exact = set(names)
    by_stem: dict[str, list[str]] = {}
    for name in names:
        file = PurePosixPath(name)
        for key in {file.name.lower(), file.stem.lower()}:
            by_stem.setdefault(key, []).append(name)

    def match(text: str) -> str | None:
        text = text.strip().strip("\"'").replace("\\", "/").removeprefix("./")
        if text in exact:
            return text
        parts = text.lower().split("/")
        found = by_stem.get(parts[-1], [])
        for depth in range(2, len(parts) + 1):
            end = "/".join(parts[-depth:-1])
            deeper = [n for n in found if f"/{n.lower()}".rpartition("/")[0].endswith(f"/{end}")]
            found = deeper or found
        return found[0] if len(found) == 1 else None

    return [match(text) for text in listed]


def pattern_fields(files: str) -> list[str]:
    """Return the names in braces in a pattern of files."""
    return re.findall(r"\{([^{}]*)\}", files)


def match_files(
    table: pd.DataFrame, files: str, root: Path, problems: dict[int, str]
) -> np.ndarray:
    """Return the files of the rows by a pattern, relative to ``root``; None where none fits.

    Args:
        table: has the columns that the pattern names.
        files: see `geossl.datasets.table`.
        root: the folder of the files.
        problems: position of a row -> why it has no file; this function adds to it.
    """
    names = [name for name in pattern_fields(files) if name != "band"]
    missing = [name for name in names if name not in table]
    if missing:
        raise ValueError(
            f"`files` must name columns of the table in its braces, got {files!r}; {missing[0]!r} "
            f"is not among {list(table)[:40]}."
        )
    start = re.split(r"[{*]", files)[0].rpartition("/")[0]
    top = resolve_inside(root, [start or "."])[0] or str(root)
    found = find_files(top, lambda name: True)[0] if "*" in files else []
    existing = sorted(os.path.relpath(file, root).replace(os.sep, "/") for file in found)
    values = table[names].astype("string").fillna("").to_numpy()
    matches: dict[tuple[str, ...], str | None] = {}
    paths = np.full(len(table), None, object)
    for row, key in enumerate(map(tuple, values)):
        if key not in matches:
            pattern = files
            for name, value in zip(names, key, strict=True):
                pattern = pattern.replace(f"{{{name}}}", value)
            hits = list(_match(existing, pattern)) if "*" in files else [pattern]
            matches[key] = hits[0] if len(hits) == 1 else None
        paths[row] = matches[key]
        if paths[row] is None:
            fields = dict(zip(names, key, strict=True))
            problems[row] = f"not exactly one file {files!r} with {fields} in {root}"
    return paths


def _match(paths: list[str], pattern: str) -> Iterator[str]:
    """Yield those of some sorted paths that a pattern with ``*`` fits."""
    head = pattern.split("*")[0]
    expression = re.compile("[^/]*".join(map(re.escape, pattern.split("*"))))
    for path in paths[bisect_left(paths, head) :]:
        if not path.startswith(head):
            return
        if expression.fullmatch(path):
            yield path
