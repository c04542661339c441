"""Boxes of a detection data set: check them, rotate and cut them with a crop."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd

from geossl.data.scenes import BOX
from geossl.datasets.raster import area
from geossl.utils.validate import validated

_MIN_PX = 0.1  # side of a box within its scene; less counts as no area


@validated
def check_boxes(
    boxes: pd.DataFrame, scenes: pd.DataFrame | str | os.PathLike[str], *, skip_bad: bool = False
) -> pd.DataFrame:
    """Check boxes, and cut them at the edges of their scenes.

    Args:
        boxes: columns ``path, label``, `geossl.data.scenes.BOX` in pixels of the file from its
            upper left, and ``crowd`` (bool; absent means none), as ``datasets.coco(...,
            boxes=True)`` returns them.
        scenes: a table of scenes, or the path of one; boxes of other scenes are left out.
        skip_bad: leave out boxes that cannot be used.

    Returns:
        ``path, label``, the corners as float64 and ``crowd``, with the index of ``boxes``;
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
    corners = table[list(BOX)].to_numpy()  # (B, 4)
    sizes = {path: (grid.width, grid.height) for path, grid in grids.items()}
    size = np.array([sizes.get(path, (0, 0)) for path in table["path"]]).reshape(-1, 2)
    cut = np.clip(corners, 0, np.tile(size, 2))
    with np.errstate(invalid="ignore"):  # of two infinities
        sides = np.minimum(cut[:, 2:] - cut[:, :2], corners[:, 2:] - corners[:, :2])
    good = np.isfinite(corners).all(1) & (sides >= _MIN_PX).all(1)
    good &= table[["path", "label"]].notna().all(axis=1).to_numpy()
    skipped = {
        f"row {rows[i]} of the boxes, {table['path'].iloc[i]}": _problem(table.iloc[i], size[i])
        for i in np.flatnonzero(~good)
    }
    if skipped and not skip_bad:
        first, problem = next(iter(skipped.items()))
        more = f" (and {len(skipped) - 1:,} more)" if len(skipped) > 1 else ""
        raise ValueError(
            f"{first}: {problem}{more}. Correct it, or leave such boxes out with skip_bad=True."
        )
    table[list(BOX)] = cut
    table = table[good]
    table.attrs = {"skipped": skipped}
    return table


def require_columns(table: pd.DataFrame, names: Sequence[str], argument: str) -> None:
    """Raise if the table passed as an argument lacks a column."""
    absent = [name for name in names if name not in table]
    if absent:
        raise ValueError(
            f"`{argument}` must have the columns {', '.join(names)}, but {', '.join(absent)} is "
            f"missing among {list(table.columns)}."
        )


def _refuse_other_folder(paths: pd.Series, grids: dict[str, area.Grid]) -> None:
    """Raise if boxes and scenes have the same file names in other folders: most likely a typo."""
    known = paths.dropna()
    if len(known) and not known.isin(list(grids)).any():
        names = {os.path.basename(path): path for path in grids}
        for path in known:
            if os.path.basename(path) in names:
                raise ValueError(
                    f"`boxes` must have the paths of their scenes, but has {path} where the scene "
                    f"is {names[os.path.basename(path)]}. Write both paths the same way."
                )


def _problem(box: pd.Series, size: np.ndarray) -> str:
    if pd.isna(box["path"]) or pd.isna(box["label"]):
        return "a box must have a path and a label"
    left, top, right, bottom = values = [float(box[name]) for name in BOX]
    if not np.isfinite(values).all():
        return f"left, top, right, bottom must be finite numbers, got {values}"
    if right - left < _MIN_PX or bottom - top < _MIN_PX:
        return f"a box must have left < right and top < bottom, got {values}"
    return f"the box {values} lies outside its {size[0]} x {size[1]} pixels"


def rotate_boxes(boxes: np.ndarray, turn: int, side: float) -> np.ndarray:
    """Rotate boxes ``(B, 4)`` in a square of ``side`` as `rotate_pixels` does."""
    left, top, right, bottom = boxes.T
    for _ in range(turn % 4):  # a quarter against the clock: (x, y) -> (y, side - x)
        left, top, right, bottom = top, side - right, bottom, side - left
    if turn >= 4:
        left, right = side - right, side - left
    return np.stack([left, top, right, bottom], 1)


def rotate_pixels(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Turn ``(C, S, S)`` by ``turn % 4`` quarters, then mirror it left to right from 4 to 7."""
    pixels = np.rot90(pixels, turn % 4, (1, 2))
    return pixels[..., ::-1] if turn >= 4 else pixels


def crop_boxes(
    boxes: np.ndarray, window: tuple[int, int, int, int], *, min_visible: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut boxes ``(B, 4)`` of a scene to a window.

    Returns:
        ``(B, 4)`` in pixels of the window; ``(B,)`` which have at least ``min_visible`` of their
        area in it; ``(B,)`` which others have some.
    """
    left, top, right, bottom = window
    inside = np.clip(boxes, [left, top, left, top], [right, bottom, right, bottom])
    sides = inside[:, 2:] - inside[:, :2]
    share = sides.prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
    inside_some = (sides >= _MIN_PX).all(1)
    visible = inside_some & (share >= min_visible)
    return inside - [left, top, left, top], visible, inside_some & ~visible
