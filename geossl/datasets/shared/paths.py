"""Image files that a table names: within their folder, their kind of pixels, where they lie."""

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
    """Absolute paths of files that data name in a folder; None for a name that leads out of it.

    An absolute name must lie in ``root`` too. Names that are missing, no text or empty give None.
    """
    top = os.path.join(os.path.abspath(root), "")
    odd = re.compile(r"\.\.|^[/\\]|^.:").search  # the others, maybe a million, need no thought

    def one(name: Any) -> str | None:
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            return None
        if not odd(name):
            return top + name
        whole = os.path.normpath(os.path.join(top, name))
        out = not whole.startswith(top) or whole.startswith("/vsi")  # GDAL's way to other places
        return None if out else whole

    return [one(name) for name in names]


def outside_reason(root: str | os.PathLike[str], name: Any) -> str:
    """The reason why `resolve_inside` gave no path for a name."""
    return f"{name!r} names no file in {os.path.abspath(root)}; give root=, the folder of the files"


def pattern_fields(files: str) -> list[str]:
    """Names in braces in a pattern of files."""
    return re.findall(r"\{([^{}]*)\}", files)


def match_files(frame: pd.DataFrame, files: str, root: Path, bad: dict[int, str]) -> np.ndarray:
    """Files of the rows by a pattern, relative to ``root``; why not goes into ``bad``."""
    names = [name for name in pattern_fields(files) if name != "band"]
    absent = [name for name in names if name not in frame]
    if absent:
        raise ValueError(
            f"expected columns of the table in files={files!r}, {absent[0]!r} is not among "
            f"{list(frame)[:40]}"
        )
    start = re.split(r"[{*]", files)[0].rpartition("/")[0]
    top = resolve_inside(root, [start or "."])[0] or str(root)
    there = sorted(_walk(top, root)) if "*" in files else []
    values = frame[names].astype("string").fillna("").to_numpy()
    found: dict[tuple[str, ...], str | None] = {}
    paths = np.full(len(frame), None, object)
    for i, key in enumerate(map(tuple, values)):
        if key not in found:
            pattern = files
            for name, value in zip(names, key, strict=True):
                pattern = pattern.replace(f"{{{name}}}", value)
            hits = list(_hits(there, pattern)) if "*" in files else [pattern]
            found[key] = hits[0] if len(hits) == 1 else None
        paths[i] = found[key]
        if paths[i] is None:
            about = dict(zip(names, key, strict=True))
            bad[i] = f"expected one file {files!r} with {about} in {root}, found none or several"
    return paths


def _walk(top: str, root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(top):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")


def _hits(there: list[str], pattern: str) -> Iterator[str]:
    """Of sorted paths those that a pattern with ``*`` fits."""
    head = pattern.split("*")[0]
    fits = re.compile("[^/]*".join(map(re.escape, pattern.split("*"))))
    for path in there[bisect_left(there, head) :]:
        if not path.startswith(head):
            return
        if fits.fullmatch(path):
            yield path
