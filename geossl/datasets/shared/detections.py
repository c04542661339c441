"""Scene tables of detection sets: a json of images and boxes, next to a folder of images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from geossl.data import scenes
from geossl.data.dates import to_utc
from geossl.data.files import DatasetError
from geossl.data.scenes import BOX
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.header import detect_pixel_format, read_positions
from geossl.datasets.raster.sample import with_scale
from geossl.datasets.shared.listing import first_entries
from geossl.datasets.shared.paths import outside_reason, resolve_inside
from geossl.datasets.shared.table import drop_bad_files
from geossl.utils.io import check_file

_PEEK_BYTES = 2**16


def build_detection_table(
    images: pd.DataFrame,
    boxes: pd.DataFrame,
    problems: dict[str, str],
    *,
    reader: str,
    source: Path,
    root: Path,
    per_box: bool,
    skip_bad: bool,
    **pixels: Any,
) -> pd.DataFrame:
    """Build the scene table of the images of a detection set, or of its boxes.

    Args:
        images: columns ``file`` (name in ``root``), ``time`` and ``entry`` (name in messages).
        boxes: columns ``image`` (row number in ``images``), `BOX`, ``label`` and any more.
        problems: entry -> reason, of the entries that cannot be used; more are added.
        reader: the name of the data set.
        source: its json.
        root: folder of the images.
        per_box: a row per box instead of a row per image.
        skip_bad: leave out entries with a problem instead of raising.
        pixels: see `geossl.datasets.raster.header.detect_pixel_format`.

    Raises:
        FileNotFoundError: none of the first images exists.
        ValueError: an entry cannot be used and ``skip_bad`` is False, or none is left.
    """
    try:
        times = to_utc(images["time"])
    except ValueError:  # images need no time, and this one may be two
        times = pd.to_datetime(images["time"], errors="coerce", utc=True, format="ISO8601")
    images = images.assign(path=resolve_inside(root, images["file"]), time=times)
    outside = images["path"].isna()
    for entry, file in images.loc[outside, ["entry", "file"]].itertuples(index=False):
        problems[f"{source}, {entry}"] = outside_reason(root, file)
    images = images[~outside].drop(columns="entry")
    boxes = boxes[boxes["image"].isin(images.index)]
    if per_box:
        table = boxes.join(images, on="image")
        number = boxes.groupby("image").cumcount()
        table["location"] = [f"{file}#{n}" for file, n in zip(table["file"], number, strict=True)]
        left, top, right, bottom = table[list(BOX)].to_numpy(float).T
        center = (left + right) / 2, (top + bottom) / 2
        table = table.drop(columns="image")
    else:
        labels = boxes["label"].fillna("").astype(str).groupby(boxes["image"])
        table = images.assign(
            location=images["file"],
            n_boxes=labels.size().reindex(images.index, fill_value=0),
            classes=labels.agg(lambda names: "; ".join(sorted({*names} - {""})))
            .reindex(images.index, fill_value=""),
        )  # fmt: skip
        center = None, None
    what = "boxes" if per_box else "images"
    if table.empty and not problems:
        raise DatasetError(f"{source} contains no {what}.")
    table = drop_bad_files(
        table.drop(columns="file"), problems, skip_bad=skip_bad, what=f"{what} in {source}"
    )
    table["lon"], table["lat"] = read_positions(table["path"].tolist(), *center)
    table = scenes.check(table, positions=False, source=str(source))
    pixels = detect_pixel_format(table["path"], **pixels)
    return add_pixel_columns(table, reader=reader, **with_scale(table["path"], pixels))


def list_objects(content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the objects of a list in a json; an entry that is none counts as empty."""
    entries = content.get(key)
    entries = entries if isinstance(entries, list) else []
    return [entry if isinstance(entry, Mapping) else {} for entry in entries]


def parse_box(values: Any) -> tuple[float, ...] | None:
    """Return four finite numbers of a list, or None."""
    if not isinstance(values, list) or len(values) != 4:
        return None
    try:
        box = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return box if all(map(math.isfinite, box)) else None


def peek_json(path: Path) -> str:
    """Return the start and the end of the text of a json object; "" for other files."""
    try:
        with open(check_file(path), "rb") as file:
            start = file.read(_PEEK_BYTES)
            file.seek(max(_PEEK_BYTES, path.stat().st_size - _PEEK_BYTES))
            text = (start + file.read(_PEEK_BYTES)).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
    text = text.lstrip("\ufeff \t\r\n")
    return text if text.startswith("{") else ""


def list_jsons(folder: Path) -> list[Path]:
    """Return the json and geojson files among the first entries of a folder, sorted."""
    files = (Path(entry.path) for entry in first_entries(folder, 2000))
    return sorted(file for file in files if file.suffix.lower() in (".json", ".geojson"))
