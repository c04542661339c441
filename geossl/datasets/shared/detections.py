"""Detection sets: json, boxes, images."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geossl.data import scenes
from geossl.data.scenes import BOX
from geossl.datasets.raster.header import read_positions
from geossl.datasets.shared import paths as named
from geossl.datasets.shared.table import drop_bad_files


def read_json(path: Path) -> Any:
    """Content of a json file of any size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no json, or nested too deep.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a json at {path}, found no file")
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"expected a json at {path}, could not read it: {error}") from None


def mapping_entries(content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of a list of a json; an entry that is none counts as empty."""
    found = content.get(key) or []
    found = found if isinstance(found, list) else []
    return [entry if isinstance(entry, Mapping) else {} for entry in found]


def to_numbers(values: Any) -> tuple[float, ...] | None:
    """Four finite numbers of a list, or None."""
    if not isinstance(values, list | tuple) or len(values) != 4:
        return None
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if all(map(math.isfinite, found)) else None


def detection_table(
    pictures: Mapping[Any, Mapping[str, Any]],
    found: Sequence[tuple[Any, ...]],
    *,
    boxes: bool,
    root: Path,
    bad: dict[str, str],
    skip_bad: bool,
    source: str,
) -> pd.DataFrame:
    """Scene table of the images of a detection set, or of its boxes.

    Args:
        pictures: key -> ``file`` (its name in ``root``) and ``time`` of an image.
        found: key of the image, left, top, right, bottom, label, crowd of each box.
        boxes: a row a box.
        root: folder of the images.
        bad: entry -> reason, of those that were found to be unusable so far.
        skip_bad: leave these out.
        source: how messages call the data set.

    Raises:
        ValueError: an entry cannot be used and not ``skip_bad``, or none is left.
    """
    whole = named.resolve_inside(root, [picture["file"] for picture in pictures.values()])
    paths = dict(zip(pictures, whole, strict=True))
    for key in (key for key, path in paths.items() if path is None):
        bad[f"{source}, image {key}"] = named.outside_reason(root, pictures[key]["file"])
    kept = pd.DataFrame(
        [row for row in found if paths[row[0]] is not None],
        columns=["key", *BOX, "label", "crowd"],
    )
    of = kept["key"] if boxes else pd.Series([k for k, path in paths.items() if path], dtype=object)
    files = of.map({key: picture["file"] for key, picture in pictures.items()})
    times = of.map({key: _text(picture.get("time")) for key, picture in pictures.items()})
    table = pd.DataFrame(
        {
            "path": of.map(paths).astype(object),
            "location": files.astype(object),
            "time": pd.to_datetime(times, errors="coerce", utc=True, format="ISO8601"),
        }
    )
    if boxes:
        number = kept.groupby("key", sort=False).cumcount() if len(kept) else kept.index
        table["location"] = [f"{file}#{n}" for file, n in zip(files, number, strict=True)]
        table = pd.concat([table, kept.drop(columns="key")], axis=1)
        middle = [(kept[low] + kept[high]).to_numpy(float) / 2
                  for low, high in (BOX[::2], BOX[1::2])]  # fmt: skip
    else:
        inside: dict[Any, list[str]] = {}
        for row in found:
            inside.setdefault(row[0], []).append(str(row[5]))
        table["n_boxes"] = [len(inside.get(key, ())) for key in of]
        table["classes"] = ["; ".join(sorted(set(inside.get(key, ())))) for key in of]
        middle = []
    what = "boxes" if boxes else "images"
    if table.empty and not bad:
        raise ValueError(f"expected {what} in {source}, found none")
    table = drop_bad_files(table, bad, skip_bad=skip_bad, of=f"{what} in {source}")
    table["lon"], table["lat"] = read_positions(table["path"].tolist(), *middle)
    return scenes.check(table, positions=False, source=source)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
