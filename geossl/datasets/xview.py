"""xView: one geojson of all boxes, beside a folder of large georeferenced tifs."""

from __future__ import annotations

import os
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

__all__ = ["xview"]


def xview(
    path: str | os.PathLike[str],
    *,
    boxes: bool = False,
    root: str | os.PathLike[str] | None = None,
    names: Mapping[int, str] | None = None,
    bands: Sequence[int | str] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: str | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of xView.

    Coordinates come from the headers of the tifs and are missing where a tif is absent or not
    georeferenced.

    Args:
        path: the geojson, or the folder that holds it.
        boxes: a row a box, to be cut out, in place of a row an image.
        root: folder of the images; ``train_images/`` beside the geojson if it is there, else the
            geojson's own.
        names: ``type_id`` -> name of the class; the number stands for it when None.
        bands: numbers of bands; all of the first file when None.
        band_names: their names; the first file's own when None.
        dtype: "uint8" or "uint16"; the first file's own when None.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip.
        skip_bad: leave out images and boxes that cannot be used, see ``attrs["skipped"]``.

    Returns:
        See `geossl.datasets.coco.coco`; ``label`` is the class of a box. Boxes whose
        ``bounds_imcoords`` is ``[]`` or empty are left out and counted in
        ``attrs["empty_boxes"]``.

    Raises:
        FileNotFoundError: there is no such geojson, or none of the first images.
        ValueError: it is no xView geojson, or names an image or a box that cannot be used.

    Source:
        xView (arXiv 1802.07856): ``bounds_imcoords`` is "left,top,right,bottom" in pixels.
    """
    path = Path(path)
    if path.is_dir():
        found = _geojsons(path)
        if len(found) != 1:
            raise FileNotFoundError(
                f"expected one xView geojson in {path}, found "
                f"{[file.name for file in found] or 'none'}; give its path"
            )
        path = found[0]
    content = read_json(path, max_bytes=None)
    if not isinstance(content, Mapping) or not isinstance(content.get("features"), list):
        raise ValueError(f"expected an xView geojson with a list of 'features' in {path}")
    root = root or (p if (p := path.parent / "train_images").is_dir() else path.parent)
    pictures: dict[Any, dict[str, Any]] = {}
    rows: list[tuple[Any, ...]] = []
    bad: dict[str, str] = {}
    empty = 0
    for i, feature in enumerate(list_objects(content, "features")):
        about = feature.get("properties")
        about = about if isinstance(about, Mapping) else {}
        image, bounds, kind = (about.get(k) for k in ("image_id", "bounds_imcoords", "type_id"))
        if not isinstance(image, str):
            bad[f"{path}, feature {i}"] = f"expected an image_id such as '5.tif', came {image!r}"
            continue
        pictures.setdefault(image, {"file": image})
        if isinstance(bounds, str) and bounds.strip() in ("", "[]"):
            empty += 1
            continue
        box = parse_box(bounds.strip("[] ").split(",") if isinstance(bounds, str) else None)
        if box is None or box[0] >= box[2] or box[1] >= box[3]:
            bad[f"{path}, feature {i}"] = (
                f"expected bounds_imcoords 'left,top,right,bottom', came {str(bounds)[:60]!r}"
            )
        elif not isinstance(kind, int):
            bad[f"{path}, feature {i}"] = f"expected a number as type_id, came {str(kind)[:60]!r}"
        else:
            rows.append((image, *box, (names or {}).get(kind, kind), False))
    table = build_detection_table(pictures, rows, per_box=boxes, root=Path(root),
                                  problems=bad, skip_bad=skip_bad, source=str(path))  # fmt: skip
    table.attrs["empty_boxes"] = empty
    about = detect_pixel_format(
        table["path"], bands=bands, band_names=band_names, dtype=dtype, scale=scale
    )
    return chips.add_pixel_columns(
        table.drop(columns="crowd", errors="ignore"), reader="xview", **about
    )


def fits(path: Path) -> str | None:
    """Why xView is at ``path``, or None."""
    found = _geojsons(path) if path.is_dir() else [path] if _is_xview(path) else []
    return f"{found[0].name} has features with bounds_imcoords and type_id" if found else None


def _geojsons(folder: Path) -> list[Path]:
    return sorted(Path(e.path) for e in first_entries(folder, 2000) if _is_xview(Path(e.path)))


def _is_xview(path: Path) -> bool:
    if path.suffix.lower() not in (".geojson", ".json"):
        return False
    try:
        with open(path, "rb") as file:
            start = file.read(2**16)
    except OSError:
        return False
    return b'"bounds_imcoords"' in start and b'"type_id"' in start


register("xview", open=xview, fits=fits)
