"""fMoW-rgb in its official folders: a jpg with a json beside it, a folder for each place.

``<split>/<category>/<category>_<n>/<category>_<n>_<k>_rgb.jpg``; test images are published without
their category, as ``test/<number>/<number>_<k>_rgb.jpg``.
"""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from geossl.data import scenes
from geossl.data.files import read_json
from geossl.data.scenes import BOX
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.registry import register
from geossl.datasets.shared.listing import first_entries, subfolders
from geossl.datasets.shared.table import drop_bad_files, find_faults, footprint_centers
from geossl.utils.parallel import map_threads

__all__ = ["fits", "fmow"]

_FALSE = "false_detection"
_LEAST_PX = 3  # of a box's side; fMoW's baseline leaves out narrower ones as well
# a box's share of the picture's side -> by what share of its own side it is widened
_SHARES, _CONTEXT = (0.1, 0.2, 0.3, 0.4, 0.5), (2.0, 1.0, 0.5, 0.3, 0.2, 0.15)


class _Bad(Exception):
    """A scene without usable metadata, with the reason."""


def fmow(
    folder: str | os.PathLike[str],
    *,
    kind: str = "rgb",
    boxes: bool = False,
    context: float | None = None,
    false_detection: bool = True,
    normalize_lon: bool = False,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of Functional Map of the World, from its json files.

    Args:
        folder: holds the splits; a single split, category or sequence of them does as well.
        kind: "rgb" (pan-sharpened) or "msrgb" (from the multispectral bands).
        boxes: a row for each annotated box, cut with its context, in place of one for each whole
            scene. The pseudo box around everything (ID -1) is none.
        context: by what share of its own width and height a box is widened, half on each side;
            None for fMoW's own rule: from 2, where a side is below a tenth of the picture's, to
            0.15, where it is half or more.
        false_detection: keep the 63rd category, "false_detection".
        normalize_lon: turn longitudes of 0..360 into -180..180 in place of refusing them.
        skip_bad: leave out files without a readable json, position or date, and empty pictures.

    Returns:
        Rows by location and time. ``location`` is ``split/category/sequence``, with ``boxes``
        ``split/category/sequence/ID`` in sequences that have several in a scene. ``label`` is the
        category, missing for test images without one. ``lon, lat`` is the middle of
        ``raw_location``: the box's own, if it has one. More columns: ``gsd`` (m a pixel),
        ``cloud_cover`` (%), ``country_code``; with ``boxes`` also `BOX` in pixels and ``visible``.
        ``attrs["skipped"]`` maps files that gave no row to the reason; with ``boxes`` also the
        scenes with no box of 3 pixels or more within the picture. A json without its picture is no
        scene.

    Raises:
        FileNotFoundError: no such folder, or no such pictures in it.
        ValueError: a bad file, which is named; wrong arguments.

    Source:
        Christie et al., arXiv 1711.07846. The context is that of the baseline
        (github.com/fMoW/baseline), except that it takes shares of the height for widths and of the
        width for heights; here each side is compared with its own.
    """
    if kind not in ("rgb", "msrgb"):
        raise ValueError(f"expected kind of rgb or msrgb, came {kind!r}")
    if context is not None and not (boxes and 0 <= context < math.inf):
        raise ValueError(f"expected context >= 0 with boxes=True, came {context} with {boxes}")
    folder = Path(folder)
    bad: dict[str, str] = {}
    boxless: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    pictures = list(_pictures(folder, f"_{kind}.jpg", bad))
    found = map_threads(lambda one: _rows(*one, boxes, context), pictures)
    for (path, _), part in zip(pictures, found, strict=True):
        if isinstance(part, str):
            bad[path] = part
        elif not part:
            boxless[path] = f"it has no box of {_LEAST_PX} pixels or more within the picture"
        else:
            rows += part
    table = _placed(rows, bad)
    if not bad and table.empty:
        bad = boxless
    what = f"<split>/<category>/<category>_<n>/<category>_<n>_<k>_{kind}.jpg in {folder}"
    table = drop_bad_files(table, bad, skip_bad=skip_bad, what=what)
    if boxes:
        several = table["location"].isin(table["location"][table["path"].duplicated()])
        one = table["location"] + "/" + table.pop("box_id")
        table["location"] = table["location"].mask(several, one)
    if not false_detection:
        table = table[table["label"] != _FALSE]
    table = scenes.check(table, normalize_lon=normalize_lon, source=str(folder))
    table = table.sort_values(["location", "time", "path"], kind="stable", ignore_index=True)
    table.attrs["skipped"] = bad | boxless
    return add_pixel_columns(table, reader="fmow")


def _pictures(
    folder: Path, ending: str, bad: dict[str, str]
) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Files that end so, in any sub-folder, linked ones too, each with its place."""
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder of fMoW at {folder}, found no such folder")

    def unread(error: OSError) -> None:
        bad[str(error.filename)] = f"it cannot be listed: {error.strerror}"

    seen = set()
    above = Path(os.path.abspath(folder)).parts
    for at, below, names in os.walk(folder, onerror=unread, followlinks=True):
        stat = os.stat(at)
        if (stat.st_dev, stat.st_ino) in seen:  # a link to a folder further up, or a second one
            below.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        below[:] = sorted(name for name in below if not name.startswith("."))
        inside = Path(at).relative_to(folder).parts
        place = _place((*above, *inside), len(inside))
        for name in sorted(names):
            if name.endswith(ending) and not name.startswith("."):
                yield os.path.join(at, name), place


def _place(parts: tuple[str, ...], inside: int) -> dict[str, str | None]:
    """Location, label and split of a sequence's folder, read from the right."""
    category, _, number = parts[-1].rpartition("_")
    known = number.isdigit() and parts[-2:-1] == (category,)
    depth = 3 if known else 2
    location = "/".join(parts[-max(depth, inside) :])
    split = parts[-depth] if len(parts) >= depth else None
    return {"location": location, "label": category if known else None, "split": split}


def _rows(
    path: str, place: dict[str, str | None], boxes: bool, context: float | None
) -> list[dict[str, Any]] | str:
    """The row of a scene, or those of its boxes; or why it gives none."""
    try:
        data = _json(path)
        time = data.get("timestamp")
        row = place | {
            "path": path,
            "time": None if time is None else _text(str(time)),
            "where": _text(data.get("raw_location")),
            "gsd": _number(data.get("gsd")),
            "cloud_cover": _number(data.get("cloud_cover")),
            "country_code": _text(data.get("country_code")),
        }
        return _boxes(row, data, context) if boxes else [row]
    except _Bad as error:
        return str(error)


def _boxes(
    row: dict[str, Any], data: dict[str, Any], context: float | None
) -> list[dict[str, Any]]:
    listed = data.get("bounding_boxes")
    if isinstance(listed, dict):  # one box without a list around it, or boxes by their number
        listed = [listed] if "box" in listed else list(listed.values())
    if not isinstance(listed, list) or not all(isinstance(box, dict) for box in listed):
        raise _Bad("the json beside it lacks a list of bounding_boxes")
    size = _number(data.get("img_width")), _number(data.get("img_height"))
    rows = []
    for box in listed:
        edges = None if str(box.get("ID")) == "-1" else _cut(box.get("box"), size, context)
        if edges is not None:
            rows.append(row | dict(zip(BOX, edges, strict=True)) | {
                "where": _text(box.get("raw_location")) or row["where"],
                "label": _text(box.get("category")) or row["label"],
                "visible": str(box.get("visible", True)).lower() != "false",
                "box_id": str(box.get("ID")),
            })  # fmt: skip
    return rows


def _json(path: str) -> dict[str, Any]:
    """The json beside a picture."""
    try:
        if not os.path.getsize(path):
            raise _Bad("it is empty")
        data = read_json(path[:-4] + ".json")
    except (OSError, ValueError) as error:
        raise _Bad(str(error)) from None
    if not isinstance(data, dict):
        raise _Bad(f"the json beside it holds a {type(data).__name__}, expected names and values")
    return data


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _text(value: Any) -> str | None:
    """A text that can be written as UTF-8; json lets halves of characters through."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _cut(
    box: Any, size: tuple[float, float], context: float | None
) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of a box with its context, within the picture; None: nothing."""
    numbers = [_number(value) for value in box] if isinstance(box, list) else []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise _Bad(f"expected a box [x, y, width, height], came {str(box)[:60]}")
    if not all(1 <= side < math.inf for side in size):
        raise _Bad("the json beside it lacks img_width and img_height")
    edges = []
    for start, length, side in zip(numbers[:2], numbers[2:], size, strict=True):
        if length < _LEAST_PX or start >= side or start + length <= 0:
            return None
        share = _CONTEXT[bisect_right(_SHARES, length / side)] if context is None else context
        more = share * length / 2
        edges.append((max(start - more, 0.0), min(start + length + more, side)))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _placed(rows: list[dict[str, Any]], bad: dict[str, str]) -> pd.DataFrame:
    """Rows with coordinates; those without a position or with an odd date go to ``bad``."""
    table = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["path", "time", "where"])
    table["lon"], table["lat"] = footprint_centers(table.pop("where"))
    wrong = find_faults(table)
    bad |= dict(zip(table["path"][wrong.index], wrong, strict=True))
    return table[~table["path"].isin(list(bad))].reset_index(drop=True)


def fits(path: Path) -> str | None:
    """Why fMoW-rgb lies at ``path``, from a look at some of its folders; None if it does not."""
    level = [path]
    for _ in range(4):
        below: list[Path] = []
        for at in level:
            entries = first_entries(at)
            for name in (entry.name for entry in entries):
                kind = re.fullmatch(re.escape(at.name) + r"_\d+_(rgb|msrgb)\.jpg", name)
                if kind and (at / name).with_suffix(".json").is_file():
                    return f"holds <category>_<n>/<category>_<n>_<k>_{kind[1]}.jpg with json"
            below += [Path(entry.path) for entry in subfolders(entries)][:8]
        level = below
    return None


register("fmow", open=fmow, fits=fits)
