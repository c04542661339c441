"""Look into folders of rasters: which files are there, and what they hold."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from geossl.datasets.raster.files import is_picture, raster_suffixes
from geossl.datasets.raster.grid import Scene
from geossl.datasets.raster.header import read_header
from geossl.datasets.shared.listing import first_entries, is_in_time, is_text, subfolders

_ONE_BAND = re.compile(r"(?:.*_)?(B\d\d?A?|VV|VH)(?:_\d+m)?", re.IGNORECASE)  # names of bands


def bands_in_files(scenes: Sequence[Scene]) -> str:
    """Return what to do with files that hold one band of a scene each; "" for others."""
    files = [scene.path for scene in scenes if len(scene.bands) == 1]
    hits = [hit for file in files if (hit := _ONE_BAND.fullmatch(file.stem))]
    bands = sorted({hit[1] for hit in hits})
    if 2 * len(hits) < len(scenes) or len(bands) < 2:
        return ""
    start, end = hits[0].span(1)
    path = f"{hits[0][0][:start]}{{band}}{hits[0][0][end:]}{files[0].suffix}"
    return (
        f"hold one band each ({', '.join(bands[:4])}). Stack the bands of a scene in one file, "
        "e.g. with gdal_merge.py -separate, or write a csv with one row per scene, the path "
        f"{path!r} and so on, and pass it with reader='table', `headers=True` and "
        f"`bands=({bands[0]!r}, {bands[1]!r})`"
    )


def first_headers(path: Path) -> list[Scene]:
    """Return headers of the first files if all are georeferenced and hold all bands."""
    files = [path] if path.is_file() else first_files(path)
    scenes: list[Scene] = []
    for file in files:
        try:
            scenes.append(read_header(file, warp=True))
        except (OSError, ValueError):
            return []
    return [] if bands_in_files(scenes) else scenes


def first_files(folder: Path, depth: int = 1) -> list[Path]:
    """Return some rasters of a folder, or of folders in it that do not look like classes."""
    entries = first_entries(folder, 2000)
    files = [entry.path for entry in entries if is_scene(entry.name) and entry.is_file()]
    if files:
        return [Path(file) for file in sorted(files)[:16]]
    inner = subfolders(entries)
    if depth == 0 or not (len(inner) == 1 or all(is_in_time(entry.name) for entry in inner)):
        return []
    return [file for entry in inner[:8] for file in first_files(Path(entry.path), 0)][:16]


def is_scene(name: str) -> bool:
    """Return whether a file of this name may be georeferenced: a raster, and no picture."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in raster_suffixes() and not is_picture(name) and is_text(name)
