"""fMoW-rgb in its official folders: a jpg and a json per scene, a folder per location.

``<split>/<category>/<category>_<n>/<category>_<n>_<k>_rgb.jpg``; test images are published without
their category, as ``test/<number>/<number>_<k>_rgb.jpg``.
"""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_right
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from geossl.data.files import read_json
from geossl.data.scenes import BOX
from geossl.datasets.registry import register
from geossl.datasets.shared.listing import find_files, first_entries, list_folder, subfolders
from geossl.datasets.shared.table import find_faults, finish_table, footprint_centers
from geossl.utils.parallel import map_threads
from geossl.utils.validate import NonNegative, validated

__all__ = ["fmow"]

_COLUMNS = (
    "path", "location", "time", "label", "split", "footprint", "gsd", "cloud_cover", "country_code",
    "problem",
)  # fmt: skip
_BOX_COLUMNS = (*BOX, "visible", "box_id")
_MIN_BOX_PX = 3  # fMoW's baseline leaves out narrower boxes as well
_NO_BOX = f"it has no box of {_MIN_BOX_PX} pixels or more within the image"
# a box's share of the image's side -> by what share of its own side it is widened
_SHARES, _CONTEXT = (0.1, 0.2, 0.3, 0.4, 0.5), (2.0, 1.0, 0.5, 0.3, 0.2, 0.15)

Row = dict[str, Any]


@validated
def fmow(
    folder: str | os.PathLike[str],
    *,
    kind: Literal["rgb", "msrgb"] = "rgb",
    boxes: bool = False,
    context: NonNegative | None = None,
    false_detection: bool = True,
    normalize_lon: bool = False,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of Functional Map of the World from its json files.

    Args:
        folder: contains the splits, or is a single split, category or sequence of them.
        kind: "rgb" (pan-sharpened) or "msrgb" (from the multispectral bands).
        boxes: a row for each annotated box, cut with its context, instead of a row for each scene.
            The pseudo box around the scene (ID -1) does not count.
        context: by what share of its width and height a box is widened, half on each side; None
            for fMoW's rule: from 2 for a side below a tenth of the image's to 0.15 from a half on.
        false_detection: keep the 63rd category, "false_detection".
        normalize_lon: convert longitudes of 0..360 to -180..180 instead of refusing them.
        skip_bad: leave out images that are empty or have no readable json, position or date.

    Returns:
        Rows by location and time. ``location`` is ``split/category/sequence``, and ``.../ID`` for
        boxes of sequences with several in a scene. ``label`` is the category, if known. ``lon,
        lat`` is the center of ``raw_location``. More columns: ``gsd`` (m per pixel),
        ``cloud_cover`` (%), ``country_code``; with ``boxes`` also `geossl.data.scenes.BOX` in
        pixels and ``visible``. ``attrs["skipped"]`` maps images that gave no row, also those
        without a box of 3 pixels or more, to the reason.

    Raises:
        FileNotFoundError: the folder or such images do not exist.
        ValueError: an image is bad, or ``context`` is given without ``boxes``.

    Source:
        Christie et al., arXiv 1711.07846. The context is that of github.com/fMoW/baseline, which
        however takes widths as shares of the height, and heights of the width.
    """
    if context is not None and not boxes:
        raise ValueError(f"`context` needs `boxes=True`, got {context} without boxes.")
    folder = Path(folder)
    images, rows = _find_images(folder, f"_{kind}.jpg")
    for image_rows in map_threads(lambda image: _read_rows(*image, boxes, context), images):
        rows += image_rows
    table = pd.DataFrame(rows, columns=[*_COLUMNS, *(_BOX_COLUMNS if boxes else ())])
    boxless = table["problem"].eq(_NO_BOX)
    skipped = dict.fromkeys(table["path"][boxless], _NO_BOX)
    if not boxless.all():
        table = table[~boxless]
    if boxes:
        several = table["location"].isin(table["location"][table["path"].duplicated()])
        with_id = table["location"] + "/" + table.pop("box_id").astype(str)
        table["location"] = table["location"].mask(several, with_id)
    if not false_detection:
        table = table[table["label"] != "false_detection"]
    table["lon"], table["lat"] = footprint_centers(table.pop("footprint"))
    faults = find_faults(table).reindex(table.index).fillna("")
    problems = table["problem"].where(table["problem"].ne(""), faults)
    table["problem"] = problems.groupby(table["path"]).transform("max")  # of any box of the image
    table = finish_table(
        table, reader="fmow", folder=folder, skip_bad=skip_bad, normalize_lon=normalize_lon,
        layout=f"<split>/<category>/<category>_<n>/<category>_<n>_<k>_{kind}.jpg",
    )  # fmt: skip
    table = table.sort_values(["location", "time", "path"], kind="stable", ignore_index=True)
    table.attrs["skipped"] |= skipped
    return table


def _find_images(folder: Path, ending: str) -> tuple[list[tuple[str, Row]], list[Row]]:
    """Return path and location of the files in all subfolders, and rows for unreadable ones."""
    list_folder(folder, "fMoW")  # raises if there is none
    files, reasons = find_files(folder, lambda name: name.endswith(ending))
    parents = Path(os.path.abspath(folder)).parts
    locations: dict[str, Row] = {}
    for parent in {os.path.dirname(path) for path in files}:
        inside = Path(parent).relative_to(folder).parts
        locations[parent] = _parse_location((*parents, *inside), len(inside))
    problems: list[Row] = [{"path": path, "problem": why} for path, why in reasons.items()]
    return [(path, locations[os.path.dirname(path)]) for path in files], problems


def _parse_location(parts: tuple[str, ...], inside: int) -> Row:
    """Return location, label and split of a sequence's folder, read from the right."""
    category, _, number = parts[-1].rpartition("_")
    named = number.isdigit() and parts[-2:-1] == (category,)
    depth = 3 if named else 2
    location = "/".join(parts[-max(depth, inside) :])
    split = parts[-depth] if len(parts) >= depth else None
    return {"location": location, "label": category if named else None, "split": split}


def _read_rows(path: str, location: Row, boxes: bool, context: float | None) -> list[Row]:
    """Return the row of a scene or those of its boxes, or one with a problem."""
    row = location | {"path": path, "problem": ""}
    try:
        if not os.path.getsize(path):
            raise ValueError("it is empty")
        about = read_json(path.removesuffix(".jpg") + ".json")
        if not isinstance(about, dict):
            raise ValueError(f"its json is a {type(about).__name__}, not an object")
        time = about.get("timestamp")
        row |= {
            "time": None if time is None else _text(str(time)),
            "footprint": _text(about.get("raw_location")),
            "gsd": _number(about.get("gsd")),
            "cloud_cover": _number(about.get("cloud_cover")),
            "country_code": _text(about.get("country_code")),
        }
        return _box_rows(row, about, context) if boxes else [row]
    except (OSError, ValueError) as error:
        return [row | {"problem": str(error)}]


def _box_rows(row: Row, about: dict[str, Any], context: float | None) -> list[Row]:
    boxes = about.get("bounding_boxes")
    if isinstance(boxes, dict):  # one box without a list around it, or boxes by their number
        boxes = [boxes] if "box" in boxes else list(boxes.values())
    if not isinstance(boxes, list) or not all(isinstance(box, dict) for box in boxes):
        raise ValueError("its json has no list of bounding_boxes")
    size = _number(about.get("img_width")), _number(about.get("img_height"))
    rows = []
    for box in boxes:
        edges = None if str(box.get("ID")) == "-1" else _widen(box.get("box"), size, context)
        if edges is not None:
            rows.append(row | dict(zip(BOX, edges, strict=True)) | {
                "footprint": _text(box.get("raw_location")) or row["footprint"],
                "label": _text(box.get("category")) or row["label"],
                "visible": str(box.get("visible", True)).lower() != "false",
                "box_id": str(box.get("ID")),
            })  # fmt: skip
    return rows or [row | {"problem": _NO_BOX}]


def _widen(
    box: Any, size: tuple[float, float], context: float | None
) -> tuple[float, float, float, float] | None:
    """Return left, top, right, bottom of a box with its context, or None if it is too small."""
    numbers = [_number(value) for value in box] if isinstance(box, list) else []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"its box {str(box)[:60]} is not [x, y, width, height]")
    if not all(1 <= side < math.inf for side in size):
        raise ValueError("its json has no img_width and img_height")
    edges = []
    for start, length, side in zip(numbers[:2], numbers[2:], size, strict=True):
        if length < _MIN_BOX_PX or start >= side or start + length <= 0:
            return None
        share = _CONTEXT[bisect_right(_SHARES, length / side)] if context is None else context
        more = share * length / 2
        edges.append((max(start - more, 0.0), min(start + length + more, side)))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _text(value: Any) -> str | None:
    """Return a text that can be written as UTF-8; json lets halves of characters through."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def fits(path: Path) -> str | None:
    """Say why fMoW-rgb is at ``path``, from a look at some of its folders, or return None."""
    level = [path]
    for _ in range(4):
        next_level: list[Path] = []
        for folder in level:
            entries = first_entries(folder)
            pattern = re.compile(re.escape(folder.name) + r"_\d+_(rgb|msrgb)\.jpg")
            for match in (pattern.fullmatch(entry.name) for entry in entries):
                if match and (folder / match[0]).with_suffix(".json").is_file():
                    return f"contains <category>_<n>/<category>_<n>_<k>_{match[1]}.jpg with json"
            next_level += [Path(entry.path) for entry in subfolders(entries)][:8]
        level = next_level
    return None


register("fmow", open=fmow, fits=fits)
