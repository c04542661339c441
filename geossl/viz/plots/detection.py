"""Plots of detections: hits, misses and false alarms on their scenes."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from geossl.data.scenes import BOX
from geossl.datasets.raster import area
from geossl.models.features import Window
from geossl.tasks.detect import DetectionResult
from geossl.utils.colors import PALETTE
from geossl.utils.validate import PositiveInt, validated
from geossl.viz.plots.base import get_axes, hide_ticks, new_figure, to_picture

# Told apart by their lines too: solid, dashed, dotted
_STYLES = {
    "hit": (PALETTE[4], "-"), "missed": (PALETTE[6], "--"), "false alarm": (PALETTE[5], ":"),
}  # fmt: skip
_TITLES = {"hit": "hits", "missed": "missed", "false alarm": "false alarms"}
_MOST_PX = 2**25  # pixels of a picture


@validated
def plot_detections(
    result: DetectionResult,
    scenes: pd.DataFrame | str | os.PathLike[str],
    *,
    path: str | None = None,
    window: Window | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot the detections of a scene from the result's score on: hits, misses, false alarms.

    Args:
        result: of `geossl.tasks.detect.measure`.
        scenes: the scenes measured on.
        path: which of them; the one with the most boxes when None.
        window: (left, top, right, bottom) in pixels; the whole scene when None.
        ax: where to draw; a new figure when None.

    Raises:
        FileNotFoundError: the scene is absent.
        ValueError: it is not among ``scenes``, cannot be read, or is too large for one picture.
    """
    rows = {str(row["path"]): row for row in area.scene_rows(scenes)}
    if path is None:
        counts = result.boxes["path"].value_counts()
        path = str(counts.index[0]) if len(counts) else next(iter(rows))
    if path not in rows:
        raise ValueError(f"`path` must be one of the {len(rows)} scenes, got {path!r}.")
    if window is None:
        grid = area.read_grid(rows[path])
        window = 0, 0, grid.width, grid.height
    left, top, right, bottom = window
    if not 0 < (right - left) * (bottom - top) <= _MOST_PX:
        raise ValueError(
            f"`window` must hold from 1 to {_MOST_PX:,} pixels, got {window} of {path}. Pass a "
            "smaller window=(left, top, right, bottom)."
        )
    width = min(10.0, max(4.0, (right - left) / 60))
    ax = get_axes(ax, width, width * (bottom - top) / (right - left) + 0.7)
    counts = _draw_boxes(ax, result, rows[path], window)
    for name, (color, line) in _STYLES.items():
        ax.plot([], [], color=color, linestyle=line, linewidth=2,
                label=f"{_TITLES[name]} ({counts[name]})")  # fmt: skip
    ax.set_title(f"{Path(path).name}, score from {result.score:.2g}", fontsize=9)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, fontsize=8, frameon=False)
    return ax


@validated
def plot_outcomes(
    result: DetectionResult,
    scenes: pd.DataFrame | str | os.PathLike[str],
    *,
    count: PositiveInt = 8,
    size_px: PositiveInt = 48,
) -> Figure:
    """Plot crops of hits and false alarms, the highest scores first, and of missed boxes.

    Args:
        result: of `geossl.tasks.detect.measure`.
        scenes: the scenes measured on.
        count: crops of each kind.
        size_px: side of a crop in pixels of the scene.

    Raises:
        FileNotFoundError: a scene is absent.
        ValueError: one cannot be read.
    """
    rows = {str(row["path"]): row for row in area.scene_rows(scenes)}
    figure, axes = new_figure(1.3 * count + 0.9, 4.6, nrows=3, ncols=count, squeeze=False)
    for line, name in zip(axes, _STYLES, strict=True):
        boxes = _boxes_of(result, name)
        if "score" in boxes:
            boxes = boxes.sort_values("score", ascending=False, kind="stable")
        for ax in line:
            hide_ticks(ax)
            ax.spines[:].set_visible(False)
        for ax, box in zip(line, boxes.head(count).to_dict("records"), strict=False):
            left, top = (round((box[BOX[i]] + box[BOX[i + 2]] - size_px) / 2) for i in (0, 1))
            window = (left, top, left + size_px, top + size_px)
            _draw_boxes(ax, result, rows[box["path"]], window)
            score = f" {box['score']:.2f}" if "score" in box else ""
            ax.set_title(f"{box['label']}{score}", fontsize=8, pad=3)
        line[0].set_ylabel(f"{_TITLES[name]}\n({len(boxes)})", fontsize=9, rotation=0, ha="right",
                           va="center")  # fmt: skip
    return figure


def _boxes_of(result: DetectionResult, name: str) -> pd.DataFrame:
    """Return the boxes of an outcome: detections from the result's score on, or missed ones."""
    if name == "missed":
        return result.boxes[result.boxes["outcome"] == name]
    boxes = result.detections
    return boxes[(boxes["outcome"] == name) & (boxes["score"] >= result.score)]


def _draw_boxes(ax: Axes, result: DetectionResult, row: area.Row, window: Window) -> dict[str, int]:
    """Draw a window of a scene with the boxes of each outcome; return how many each has."""
    left, top, right, bottom = window
    pixels, valid = area.read_area(row, window)
    picture = to_picture(row, pixels, valid)
    ax.imshow(picture, extent=(left, right, bottom, top), interpolation="nearest")
    counts = {}
    for name, (color, line) in _STYLES.items():
        boxes = _boxes_of(result, name)
        boxes = boxes[boxes["path"] == str(row["path"])]
        inside = (boxes[BOX[0]] < right) & (boxes[BOX[2]] > left)
        inside &= (boxes[BOX[1]] < bottom) & (boxes[BOX[3]] > top)
        counts[name] = int(inside.sum())
        for x0, y0, x1, y1 in boxes.loc[inside, list(BOX)].to_numpy():
            edge = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color,
                             linestyle=line, linewidth=1.6)  # fmt: skip
            edge.set_path_effects([Stroke(linewidth=2.8, foreground="#000000"), Normal()])
            ax.add_patch(edge)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    hide_ticks(ax)
    return counts
