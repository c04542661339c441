"""Build the scene tables of detection sets: a json of images and boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geossl.data import scenes
from geossl.data.scenes import BOX
from geossl.datasets.raster.header import read_positions
from geossl.datasets.shared.paths import outside_reason, resolve_inside
from geossl.datasets.shared.table import drop_bad_files

__all__ = ["build_detection_table", "list_objects", "parse_box"]


def list_objects(content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the objects of a list in a json; an entry that is none counts as empty."""
    entries = content.get(key)
    entries = entries if isinstance(entries, list) else []
    return [entry if isinstance(entry, Mapping) else {} for entry in entries]


def parse_box(values: Any) -> tuple[float, ...] | None:
    """Return four finite numbers of a list; None if they are not."""
    if not isinstance(values, list | tuple) or len(values) != 4:
        return None
    try:
        box = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return box if all(map(math.isfinite, box)) else None


def build_detection_table(
    images: Mapping[Any, Mapping[str, Any]],
    boxes: Sequence[tuple[Any, ...]],
    *,
    per_box: bool,
    root: Path,
    problems: dict[str, str],
    skip_bad: bool,
    source: str,
) -> pd.DataFrame:
    """Build the scene table of the images of a detection set, or of its boxes.

    Args:
        images: key -> ``file`` (its name in ``root``) and ``time`` of an image.
        boxes: key of the image, left, top, right, bottom, label, crowd of each box.
        per_box: one row per box instead of one per image.
        root: folder of the images.
        problems: entry -> reason, of those that cannot be used; images outside ``root`` are added.
        skip_bad: leave these out instead of raising.
        source: the data set in messages.

    Raises:
        ValueError: an entry cannot be used and ``skip_bad`` is False, or none is left.
    """
    files = {key: image["file"] for key, image in images.items()}
    paths = dict(zip(files, resolve_inside(root, files.values()), strict=True))
    for key in (key for key, path in paths.items() if path is None):
        problems[f"{source}, image {key}"] = outside_reason(root, files[key])
    usable = pd.DataFrame(
        [box for box in boxes if paths[box[0]] is not None],
        columns=["key", *BOX, "label", "crowd"],
    )
    keys = usable["key"] if per_box else pd.Series([k for k in paths if paths[k]], dtype=object)
    times = [images[key].get("time") for key in keys]
    times = [time if isinstance(time, str) else None for time in times]
    table = pd.DataFrame(
        {
            "path": keys.map(paths).astype(object),
            "location": keys.map(files).astype(object),
            "time": pd.to_datetime(pd.Series(times, dtype=object), errors="coerce", utc=True,
                                   format="ISO8601"),
        }
    )  # fmt: skip
    centers: list[Any] = []
    if per_box:
        number = usable.groupby("key", sort=False).cumcount() if len(usable) else usable.index
        table["location"] = [
            f"{file}#{n}" for file, n in zip(table["location"], number, strict=True)
        ]
        table = pd.concat([table, usable.drop(columns="key")], axis=1)
        centers = [(usable[low] + usable[high]).to_numpy(float) / 2
                   for low, high in (BOX[::2], BOX[1::2])]  # fmt: skip
    else:
        labels: dict[Any, list[str]] = {}
        for box in boxes:
            labels.setdefault(box[0], []).append(str(box[5]))
        table["n_boxes"] = [len(labels.get(key, ())) for key in keys]
        table["classes"] = ["; ".join(sorted(set(labels.get(key, ())))) for key in keys]
    what = f"{'boxes' if per_box else 'images'} in {source}"
    if table.empty and not problems:
        raise ValueError(f"There are no {what}.")
    table = drop_bad_files(table, problems, skip_bad=skip_bad, what=what)
    table["lon"], table["lat"] = read_positions(table["path"].tolist(), *centers)
    return scenes.check(table, positions=False, source=source)
