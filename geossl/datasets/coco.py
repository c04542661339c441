"""COCO detection sets: a json of images, boxes and categories."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from geossl.data.files import DatasetError, read_json
from geossl.data.scenes import BOX
from geossl.datasets.registry import register
from geossl.datasets.shared import detections
from geossl.datasets.shared.listing import only_file
from geossl.utils.validate import PositiveInt, validated

__all__ = ["coco"]

_KEYS = ("images", "annotations", "categories")


@validated
def coco(
    path: str | os.PathLike[str],
    *,
    boxes: bool = False,
    root: str | os.PathLike[str] | None = None,
    bands: Sequence[PositiveInt | str] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: Literal["uint8", "uint16"] | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of a COCO detection set: a row per image, or a row per box.

    The format has no coordinates: ``lon, lat`` are missing, except for georeferenced tifs.

    Args:
        path: the json, or a folder that contains one, perhaps in ``annotations/``.
        boxes: a row per box, to be cut out, instead of a row per image.
        root: folder of the images; the data set's folder, or ``images/`` in it, when None.
        bands: numbers of bands; all of the first file when None.
        band_names: their names; the first file's own when None.
        dtype: "uint8" or "uint16"; the first file's own when None.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip.
        skip_bad: leave out images and boxes that cannot be used, see ``attrs["skipped"]``.

    Returns:
        Of images: ``location`` is the file name; ``n_boxes`` and ``classes`` (joined by "; ") say
        what is in it; ``time`` is ``date_captured``. Of boxes: each is a location of its own,
        ``label`` is its category, `geossl.data.scenes.BOX` its edges in pixels, and ``crowd``
        whether it contains many objects.

    Raises:
        FileNotFoundError: the json does not exist, or none of the first images does.
        ValueError: it is not a COCO json, or an image or a box cannot be used.

    Source:
        The data format of the COCO challenge: boxes are ``[x, y, width, height]`` from 0.
    """
    path = Path(path)
    if path.is_dir():
        files = [file for file in _jsons(path) if fits(file)]
        path = only_file(files, "COCO json (there or in annotations/)", path)
    content = read_json(path, max_bytes=None)
    if not isinstance(content, Mapping) or not isinstance(content.get("images"), list):
        raise DatasetError(f"{path} is not a COCO json, which needs a list of 'images'.")
    if root is None:
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        root = root / "images" if (root / "images").is_dir() else root
    problems: dict[str, str] = {}
    images: dict[int | str, tuple[Any, ...]] = {}
    for i, entry in enumerate(detections.list_objects(content, "images")):
        key, time = entry.get("id"), entry.get("date_captured")
        if not isinstance(key, int | str) or key in images:
            problems[f"{path}, image {i}"] = f"its id {key!r} is not an id, or not unique"
            continue
        time = time if isinstance(time, str) else None
        images[key] = entry.get("file_name"), time, f"image {key}"
    names = {
        entry["id"]: str(entry.get("name", entry["id"]))
        for entry in detections.list_objects(content, "categories")
        if isinstance(entry.get("id"), int | str)
    }
    row_of = {key: row for row, key in enumerate(images)}
    rows = []
    for i, entry in enumerate(detections.list_objects(content, "annotations")):
        key, category = entry.get("image_id"), entry.get("category_id")
        box = detections.parse_box(entry.get("bbox"))
        if not isinstance(key, int | str) or key not in row_of:
            problems[f"{path}, annotation {i}"] = f"no usable image has its image_id {key!r}"
        elif box is None or min(box[2:]) <= 0:
            problems[f"{path}, annotation {i}"] = "its bbox is not x, y, width > 0, height > 0"
        else:
            label = names.get(category, str(category)) if isinstance(category, int | str) else None
            corners = (box[0], box[1], box[0] + box[2], box[1] + box[3])
            rows.append((row_of[key], *corners, label, bool(entry.get("iscrowd"))))
    return detections.build_detection_table(
        pd.DataFrame(list(images.values()), columns=["file", "time", "entry"]),
        pd.DataFrame(rows, columns=["image", *BOX, "label", "crowd"]),
        problems, reader="coco", source=path, root=Path(root), per_box=boxes, skip_bad=skip_bad,
        bands=bands, band_names=band_names, dtype=dtype, scale=scale,
    )  # fmt: skip


def fits(path: Path) -> str | None:
    """Say why a COCO detection set is at ``path``, or return None."""
    for file in [path] if path.is_file() else _jsons(path):
        text = detections.peek_json(file)
        keys = [key for key in _KEYS if re.search(rf'"{key}"\s*:\s*\[', text)]
        if len(keys) >= 2:
            return f"{file.name} is a json with lists of {' and '.join(keys)}"
    return None


def _jsons(folder: Path) -> list[Path]:
    return (detections.list_jsons(folder) or detections.list_jsons(folder / "annotations"))[:8]


register("coco", open=coco, fits=fits)
