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


def bands_in_files(scenes: Sequence[Scene], folder: Path) -> str:
    """Return what to do with files in a folder that hold one band each; "" for others."""
    files = [scene.path for scene in scenes if len(scene.bands) == 1]
    hits = {file: hit for file in files if (hit := _ONE_BAND.fullmatch(file.stem))}
    bands = sorted({hit[1] for hit in hits.values()})
    if 2 * len(hits) < len(scenes) or len(bands) < 2:
        return ""
    first, hit = next(iter(hits.items()))
    name = f"{hit[0][: hit.start(1)]}{{band}}{hit[0][hit.end(1) :]}{first.suffix}"
    path = Path(os.path.relpath(first.with_name(name), folder)).as_posix()
    return (
        f"hold one band each ({', '.join(bands[:4])}). Stack the bands of a scene in one file, "
        f"e.g. with gdal_merge.py -separate, or write a csv in {folder} with one row per scene, "
        f"its time and the path {path!r} and so on, and pass it to `open_scenes` with "
        f"reader='table', `headers=True` and `bands=({bands[0]!r}, {bands[1]!r})`"
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
    return [] if bands_in_files(scenes, path) else scenes


def first_files(folder: Path, depth: int = 1) -> list[Path]:
    """Return some rasters of a folder, or of folders in it that do not look like classes."""
    entries = first_entries(folder, 2000)
    files = [entry.path for entry in entries if is_scene(entry.name) and entry.is_file()]
    if files:
        return [Path(file) for file in sorted(files)[:16]]
    if depth == 0:
        return []
    inner = sorted(subfolders(entries), key=lambda entry: entry.name)[:64]
    held = {entry.name: first_files(Path(entry.path), 0) for entry in inner}
    held = {name: files for name, files in held.items() if files}
    if len(inner) > 1 and not all(map(is_in_time, held)):
        return []
    return [file for files in list(held.values())[:8] for file in files][:16]


def placed_pictures(folder: Path) -> list[Path]:
    """Return some pictures of a folder that files beside them place somewhere."""
    entries = first_entries(folder, 2000)
    files = {entry.name for entry in entries if os.path.isfile(entry.path)}

    def is_placed(name: str) -> bool:
        stem, suffix = os.path.splitext(name)
        world = (f"{stem}{suffix[:2]}{suffix[-1]}w", f"{stem}{suffix}w", f"{stem}.wld")
        return any(text in files for text in (*world, f"{name}.aux.xml"))

    return [folder / name for name in sorted(files) if is_picture(name) and is_placed(name)][:16]


def is_scene(name: str) -> bool:
    """Return whether a file of this name may be georeferenced: a raster, and no picture."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in raster_suffixes() and not is_picture(name) and is_text(name)
