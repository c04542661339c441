"""xView: one geojson of all boxes, next to a folder of large georeferenced tifs."""

from __future__ import annotations

import os
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

__all__ = ["xview"]


@validated
def xview(
    path: str | os.PathLike[str],
    *,
    boxes: bool = False,
    root: str | os.PathLike[str] | None = None,
    names: Mapping[int, str] | None = None,
    bands: Sequence[PositiveInt | str] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: Literal["uint8", "uint16"] | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of xView: a row per image, or a row per box.

    Args:
        path: the geojson, or the folder that contains it.
        boxes: a row per box, to be cut out, instead of a row per image.
        root: folder of the images; when None, ``train_images/`` next to the geojson or else the
            folder of the geojson.
        names: ``type_id`` -> name of the class; the number is the label when None.
        bands: see `geossl.datasets.coco`, also for the other options and the errors.
        band_names: likewise.
        dtype: likewise.
        scale: likewise.
        skip_bad: likewise.

    Returns:
        As `geossl.datasets.coco`, without ``crowd``; ``label`` is the class of a box. Boxes with an
        empty ``bounds_imcoords`` are left out and counted in ``attrs["empty_boxes"]``.

    Source:
        xView (arXiv 1802.07856): ``bounds_imcoords`` is "left,top,right,bottom" in pixels.
    """
    path = Path(path)
    if path.is_dir():
        path = only_file(_geojsons(path), "xView geojson", path)
    content = read_json(path, max_bytes=None)
    if not isinstance(content, Mapping) or not isinstance(content.get("features"), list):
        raise DatasetError(f"{path} is not an xView geojson, which needs a list of 'features'.")
    if root is None:
        nested = path.parent / "train_images"
        root = nested if nested.is_dir() else path.parent
    row_of: dict[str, int] = {}
    rows: list[tuple[Any, ...]] = []
    problems: dict[str, str] = {}
    empty = 0
    for i, feature in enumerate(detections.list_objects(content, "features")):
        about = feature.get("properties")
        about = about if isinstance(about, Mapping) else {}
        image, bounds, kind = (about.get(k) for k in ("image_id", "bounds_imcoords", "type_id"))
        if not isinstance(image, str):
            problems[f"{path}, feature {i}"] = f"its image_id {image!r} is not a file name"
            continue
        row = row_of.setdefault(image, len(row_of))
        if isinstance(bounds, str) and bounds.strip() in ("", "[]"):
            empty += 1
            continue
        edges = bounds.strip("[] ").split(",") if isinstance(bounds, str) else None
        box = detections.parse_box(edges)
        if box is None or box[0] >= box[2] or box[1] >= box[3]:
            problems[f"{path}, feature {i}"] = (
                f"its bounds_imcoords {str(bounds)[:60]!r} are not 'left,top,right,bottom'"
            )
        elif not isinstance(kind, int):
            problems[f"{path}, feature {i}"] = f"its type_id {str(kind)[:60]!r} is not a number"
        else:
            rows.append((row, *box, (names or {}).get(kind, kind)))
    images = pd.DataFrame({"file": list(row_of), "time": None}, dtype=object)
    table = detections.build_detection_table(
        images.assign(entry="image " + images["file"]),
        pd.DataFrame(rows, columns=["image", *BOX, "label"]),
        problems, reader="xview", source=path, root=Path(root), per_box=boxes, skip_bad=skip_bad,
        bands=bands, band_names=band_names, dtype=dtype, scale=scale,
    )  # fmt: skip
    table.attrs["empty_boxes"] = empty
    return table


def fits(path: Path) -> str | None:
    """Say why xView is at ``path``, or return None."""
    files = _geojsons(path) if path.is_dir() else [path] if _is_xview(path) else []
    return f"{files[0].name} has features with bounds_imcoords and type_id" if files else None


def _geojsons(folder: Path) -> list[Path]:
    return [file for file in detections.list_jsons(folder) if _is_xview(file)]


def _is_xview(path: Path) -> bool:
    text = detections.peek_json(path)
    return '"bounds_imcoords"' in text and '"type_id"' in text


register("xview", open=xview, fits=fits)
