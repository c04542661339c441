"""COCO detection sets: a json of images, boxes and categories; a row an image, or a row a box."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geossl.data.files import read_json
from geossl.datasets.raster import chips
from geossl.datasets.raster.header import detect_pixel_format
from geossl.datasets.registry import register
from geossl.datasets.shared.detections import (
    build_detection_table,
    list_objects,
    parse_box,
)
from geossl.datasets.shared.listing import first_entries

__all__ = ["coco"]

_LOOK = 2**16  # bytes of a json's start and end that `fits` reads


def coco(
    path: str | os.PathLike[str],
    *,
    boxes: bool = False,
    root: str | os.PathLike[str] | None = None,
    bands: Sequence[int | str] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: str | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of a COCO detection set.

    The format knows no coordinates: ``lon, lat`` are missing, except of georeferenced tifs, whose
    headers are read.

    Args:
        path: the json, or a folder that holds one, or one in ``annotations/``.
        boxes: a row a box, to be cut out, in place of a row an image.
        root: folder of the images; ``images/`` in the folder if it is there, else the folder.
        bands: numbers of bands; all of the first file when None.
        band_names: their names; the first file's own when None.
        dtype: "uint8" or "uint16"; the first file's own when None.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip.
        skip_bad: leave out images and boxes that cannot be used, see ``attrs["skipped"]``.

    Returns:
        Of images: ``location`` is the file's name, ``n_boxes`` and ``classes`` (joined by "; ")
        tell what is in it. Of boxes: ``label`` is the category's name, `images.BOX` the box in
        pixels, ``crowd`` whether it holds many objects; each is a location of its own.
        ``time`` is ``date_captured`` where that is an ISO date.

    Raises:
        FileNotFoundError: there is no such json, or none of the first images.
        ValueError: it is no COCO json, or names an image or a box that cannot be used.

    Source:
        The data format of the COCO challenge: boxes are ``[x, y, width, height]`` from 0.
    """
    path = _json_of(Path(path))
    content = read_json(path, max_bytes=None)
    if not isinstance(content, Mapping) or not isinstance(content.get("images"), list):
        raise ValueError(f"expected a COCO json with a list of 'images' in {path}")
    listed = [list_objects(content, key) for key in ("images", "annotations", "categories")]
    folder = _images_of(path) if root is None else Path(root)
    bad: dict[str, str] = {}
    pictures: dict[Any, dict[str, Any]] = {}
    for i, entry in enumerate(listed[0]):
        key = entry.get("id")
        if not isinstance(key, int | str) or key in pictures:
            bad[f"{path}, image {i}"] = f"its id {key!r} is no id, or of two images"
            continue
        time = entry.get("date_captured")
        pictures[key] = {"file": entry.get("file_name"), "time": time}
    names = {}
    for entry in listed[2]:
        if isinstance(entry.get("id"), int | str):
            names[entry["id"]] = str(entry.get("name", entry["id"]))
    found = []
    for i, entry in enumerate(listed[1]):
        of, kind = entry.get("image_id"), entry.get("category_id")
        box = parse_box(entry.get("bbox"))
        if not isinstance(of, int | str) or of not in pictures:
            bad[f"{path}, annotation {i}"] = f"its image_id {of!r} is of no image that can be used"
        elif box is None or min(box[2:]) <= 0:
            bad[f"{path}, annotation {i}"] = "expected a bbox of x, y, width > 0, height > 0"
        else:
            label = names.get(kind, str(kind)) if isinstance(kind, int | str) else None
            corners = (box[0], box[1], box[0] + box[2], box[1] + box[3])
            found.append((of, *corners, label, bool(entry.get("iscrowd"))))
    table = build_detection_table(pictures, found, per_box=boxes, root=folder,
                                  problems=bad, skip_bad=skip_bad, source=str(path))  # fmt: skip
    about = detect_pixel_format(
        table["path"], bands=bands, band_names=band_names, dtype=dtype, scale=scale
    )
    return chips.add_pixel_columns(table, reader="coco", **about)


def fits(path: Path) -> str | None:
    """Why a COCO detection set is at ``path``, or None."""
    for file in [path] if path.is_file() else _jsons(path):
        text = _ends(file) if file.suffix.lower() == ".json" else ""
        keys = [key for key in ("images", "annotations", "categories")
                if re.search(rf'"{key}"\s*:\s*\[', text)]  # fmt: skip
        if len(keys) >= 2:
            return f"{file.name} is a json with lists of {' and '.join(keys)}"
    return None


def _jsons(folder: Path) -> list[Path]:
    """The json files of a folder, else of its ``annotations/``, as far as a look shows them."""
    for place in (folder, folder / "annotations"):
        found = [
            Path(e.path) for e in first_entries(place, 2000) if e.name.lower().endswith(".json")
        ]
        if found:
            return sorted(found)[:8]
    return []


def _json_of(path: Path) -> Path:
    if path.is_file() or path.suffix.lower() == ".json":
        return path
    found = [file for file in _jsons(path) if fits(file)]
    if len(found) != 1:
        raise FileNotFoundError(
            f"expected one COCO json in {path} or its annotations/, found "
            f"{[file.name for file in found] or 'none'}; give its path, and root="
        )
    return found[0]


def _images_of(path: Path) -> Path:
    folder = path.parent.parent if path.parent.name == "annotations" else path.parent
    return folder / "images" if (folder / "images").is_dir() else folder


def _ends(path: Path) -> str:
    """Start and end of a json object's text; empty where it is none."""
    try:
        with open(path, "rb") as file:
            start = file.read(_LOOK)
            file.seek(max(_LOOK, path.stat().st_size - _LOOK))
            text = (start + file.read(_LOOK)).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    except OSError:
        return ""
    return text if text.startswith("{") else ""


register("coco", open=coco, fits=fits)
