"""Resolve the files that a table names: within their folder, by name or by a pattern."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def resolve_inside(root: str | os.PathLike[str], names: Iterable[Any]) -> list[str | None]:
    """Return absolute paths of files in a folder; None for a name that leads out of it.

    An absolute name must lie in ``root`` too. Names that are missing, no text or empty give None.
    """
    top = os.path.join(os.path.abspath(root), "")
    is_odd = re.compile(r"\.\.|^[/\\]|^.:").search  # the others, maybe a million, are inside

    def resolve(name: Any) -> str | None:
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            return None
        if not is_odd(name):
            return top + name
        path = os.path.normpath(os.path.join(top, name))
        inside = path.startswith(top) and not path.startswith("/vsi")  # GDAL's virtual files
        return path if inside else None

    return [resolve(name) for name in names]


def outside_reason(root: str | os.PathLike[str], name: Any) -> str:
    """Return the reason why `resolve_inside` gave no path for a name."""
    return (
        f"{name!r} is not a file in {os.path.abspath(root)}; pass `root`, the folder that paths "
        "start from"
    )


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
    existing = sorted(_walk(top, root)) if "*" in files else []
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


def _walk(top: str, root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(top):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")


def _match(paths: list[str], pattern: str) -> Iterator[str]:
    """Yield those of some sorted paths that a pattern with ``*`` fits."""
    head = pattern.split("*")[0]
    expression = re.compile("[^/]*".join(map(re.escape, pattern.split("*"))))
    for path in paths[bisect_left(paths, head) :]:
        if not path.startswith(head):
            return
        if expression.fullmatch(path):
            yield path
