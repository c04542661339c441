"""Boxes of a detection set: checked against their scenes, turned with a crop, cut by its edge."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd

from geossl.data.scenes import BOX
from geossl.datasets.raster import area

_LEAST_PX = 0.1  # sides of a box within its scene; less has no area


def check_boxes(
    boxes: pd.DataFrame, scenes: pd.DataFrame | str | os.PathLike[str], *, skip_bad: bool = False
) -> pd.DataFrame:
    """The boxes of some scenes, cut at their edges.

    Args:
        boxes: columns ``path, label``, `images.BOX` in pixels of the file from its upper left, and
            ``crowd`` (bool; absent means none), as `readers.coco(..., boxes=True)` gives them.
        scenes: a table of whole scenes, or the path of one; boxes of other scenes are left out.
        skip_bad: leave out boxes that cannot be used.

    Returns:
        ``path, label``, `images.BOX` as float64 and ``crowd``, with the index of ``boxes``;
        ``attrs["skipped"]``: "row N of the boxes, file" -> reason.

    Raises:
        FileNotFoundError: a scene is absent.
        ValueError: a column is absent, or not ``skip_bad`` and a box has no path, no label, other
            than four finite numbers, no area, or lies outside its scene.
    """
    require_columns(boxes, ("path", *BOX, "label"), "boxes")
    grids = {str(row["path"]): area.read_grid(row) for row in area.scene_rows(scenes, bands=1)}
    table = boxes[["path", *BOX, "label"]].copy()
    table["crowd"] = boxes["crowd"].eq(True) if "crowd" in boxes else False
    table["path"] = [None if pd.isna(path) else os.fspath(path) for path in boxes["path"]]
    here = (table["path"].isna() | table["path"].isin(list(grids))).to_numpy(bool)
    _refuse_other_folder(table["path"], grids)
    rows, table = np.flatnonzero(here), table[here]
    table[list(BOX)] = table[list(BOX)].apply(pd.to_numeric, errors="coerce").astype("float64")
    given = table[list(BOX)].to_numpy()  # (B, 4)
    size = np.array([(grids[p].width, grids[p].height) if p in grids else (0, 0)
                     for p in table["path"]]).reshape(-1, 2)  # fmt: skip
    cut = np.clip(given, 0, np.tile(size, 2))
    with np.errstate(invalid="ignore"):  # of two infinities
        sides = np.minimum(cut[:, 2:] - cut[:, :2], given[:, 2:] - given[:, :2])
    good = np.isfinite(given).all(1) & (sides >= _LEAST_PX).all(1)
    good &= table[["path", "label"]].notna().all(axis=1).to_numpy()
    skipped = {
        f"row {rows[i]} of the boxes, {table['path'].iloc[i]}": _reason(table.iloc[i], size[i])
        for i in np.flatnonzero(~good)
    }
    if skipped and not skip_bad:
        where, reason = next(iter(skipped.items()))
        more = f" (and {len(skipped) - 1:,} more)" if len(skipped) > 1 else ""
        raise ValueError(
            f"{where}: {reason}{more}; mend it, or leave such boxes out with skip_bad=True"
        )
    table[list(BOX)] = cut
    table = table[good]
    table.attrs = {"skipped": skipped}
    return table


def require_columns(table: pd.DataFrame, names: Sequence[str], what: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        ValueError: which, and what is there.
    """
    absent = [name for name in names if name not in table]
    if absent:
        raise ValueError(
            f"expected {what} with the columns {', '.join(names)}, {', '.join(absent)} is missing "
            f"among {list(table.columns)}"
        )


def _refuse_other_folder(paths: pd.Series, grids: dict[str, area.Grid]) -> None:
    """A file of one name in two folders is most likely one and the same."""
    known = paths.dropna()
    if len(known) and not known.isin(list(grids)).any():
        names = {os.path.basename(path): path for path in grids}
        for path in known:
            if os.path.basename(path) in names:
                raise ValueError(
                    f"expected boxes with the paths of their scenes, came {path} beside "
                    f"{names[os.path.basename(path)]}; write them alike"
                )


def _reason(box: pd.Series, size: np.ndarray) -> str:
    if pd.isna(box["path"]) or pd.isna(box["label"]):
        return "expected a path and a label, came none"
    left, top, right, bottom = values = [float(box[name]) for name in BOX]
    if not np.isfinite(values).all():
        return f"expected left, top, right, bottom as finite numbers, came {values}"
    if right - left < _LEAST_PX or bottom - top < _LEAST_PX:
        return f"expected left < right and top < bottom, came {values}"
    return f"the box {values} lies outside its {size[0]} x {size[1]} pixels"


def rotate_boxes(boxes: np.ndarray, turn: int, side: float) -> np.ndarray:
    """Boxes ``(B, 4)`` in a square of ``side`` as they lie after `rotate_pixels`."""
    left, top, right, bottom = boxes.T
    for _ in range(turn % 4):  # a quarter against the clock: (x, y) -> (y, side - x)
        left, top, right, bottom = top, side - right, bottom, side - left
    if turn >= 4:
        left, right = side - right, side - left
    return np.stack([left, top, right, bottom], 1)


def rotate_pixels(pixels: np.ndarray, turn: int) -> np.ndarray:
    """``(C, S, S)`` turned by ``turn % 4`` quarters, then mirrored left to right from 4 to 7."""
    pixels = np.rot90(pixels, turn % 4, (1, 2))
    return pixels[..., ::-1] if turn >= 4 else pixels


def crop_boxes(
    boxes: np.ndarray, window: tuple[int, int, int, int], *, min_visible: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes ``(B, 4)`` of a scene as a window shows them.

    Returns:
        ``(B, 4)`` in pixels of the window, cut at its edges; ``(B,)`` which have at least
        ``min_visible`` of their area in it; ``(B,)`` which others have some.
    """
    left, top, right, bottom = window
    inside = np.clip(boxes, [left, top, left, top], [right, bottom, right, bottom])
    sides = inside[:, 2:] - inside[:, :2]
    share = sides.prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
    seen = (sides >= _LEAST_PX).all(1)
    whole = seen & (share >= min_visible)
    return inside - [left, top, left, top], whole, seen & ~whole
