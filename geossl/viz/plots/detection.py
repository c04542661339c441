"""Matplotlib figures of detections: hits, misses and false alarms on their scenes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from geossl.data.scenes import BOX
from geossl.datasets.raster import area
from geossl.datasets.raster.window import pixel_info
from geossl.models.features import Window
from geossl.tasks.detect import DetectionResult
from geossl.utils.colors import PALETTE
from geossl.viz.plots.base import _axes, _figure

# Told apart by their lines too: whole, dashed, dotted.
_STYLES = {
    "hit": (PALETTE[4], "-"), "missed": (PALETTE[6], "--"), "false alarm": (PALETTE[5], ":"),
}  # fmt: skip
_PLURALS = {"hit": "hits", "missed": "missed", "false alarm": "false alarms"}
_MOST_PX = 2**25  # pixels of a picture


def plot_detections(
    result: DetectionResult,
    scenes: pd.DataFrame | str | os.PathLike[str],
    *,
    path: str | None = None,
    window: Window | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A scene with what was found in it, from the result's score: hits, misses, false alarms.

    Args:
        result: what `detect.measure` gave.
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
        most = result.boxes["path"].value_counts()
        path = str(most.index[0]) if len(most) else next(iter(rows))
    if path not in rows:
        raise ValueError(f"expected a path of the {len(rows)} scenes, came {path}")
    if window is None:
        grid = area.read_grid(rows[path])
        window = 0, 0, grid.width, grid.height
    left, top, right, bottom = window
    if not 0 < (right - left) * (bottom - top) <= _MOST_PX:
        raise ValueError(
            f"expected a picture of at most {_MOST_PX:,} pixels, came {window} of {path}; give a "
            "smaller window=(left, top, right, bottom)"
        )
    wide = min(10.0, max(4.0, (right - left) / 60))
    ax = _axes(ax, wide, wide * (bottom - top) / (right - left) + 0.7)
    counts = _draw(ax, result, rows[path], window)
    for name, (color, line) in _STYLES.items():
        words = f"{_PLURALS[name]} ({counts[name]})"
        ax.plot([], [], color=color, linestyle=line, linewidth=2, label=words)
    ax.set_title(f"{Path(path).name}, score from {result.score:g}", fontsize=9)
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, fontsize=8, frameon=False,
        facecolor="white",
    )  # fmt: skip
    return ax


def plot_outcomes(
    result: DetectionResult,
    scenes: pd.DataFrame | str | os.PathLike[str],
    *,
    count: int = 8,
    size_px: int = 48,
) -> Figure:
    """Crops about hits and false alarms, the surest first, and about what was missed.

    Args:
        result: what `detect.measure` gave.
        scenes: the scenes measured on.
        count: crops of each kind.
        size_px: side of a crop in pixels of the scene.

    Raises:
        FileNotFoundError: a scene is absent.
        ValueError: one cannot be read.
    """
    rows = {str(row["path"]): row for row in area.scene_rows(scenes)}
    figure, axes = _figure(1.3 * count + 0.9, 4.6, nrows=3, ncols=count, squeeze=False)
    for line, name in zip(axes, _STYLES, strict=True):
        some = _of(result, name)
        if "score" in some:
            some = some.sort_values("score", ascending=False, kind="stable")
        for ax in line:
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        for ax, box in zip(line, some.head(count).to_dict("records"), strict=False):
            left, top = (round((box[BOX[i]] + box[BOX[i + 2]] - size_px) / 2) for i in (0, 1))
            _draw(ax, result, rows[box["path"]], (left, top, left + size_px, top + size_px))
            score = f" {box['score']:.2f}" if "score" in box else ""
            ax.set_title(f"{box['label']}{score}", fontsize=8, pad=3)
        line[0].set_ylabel(f"{_PLURALS[name]}\n({len(some)})", fontsize=9, rotation=0, ha="right",
                           va="center")  # fmt: skip
    return figure


def _of(result: DetectionResult, name: str) -> pd.DataFrame:
    """The boxes of an outcome: those found from the result's score on, or missed."""
    if name == "missed":
        return result.boxes[result.boxes["outcome"] == name]
    found = result.found
    return found[(found["outcome"] == name) & (found["score"] >= result.score)]


def _draw(ax: Axes, result: DetectionResult, row: area.Row, window: Window) -> dict[str, int]:
    """A window of a scene with the boxes of each outcome; how many there are of each."""
    left, top, right, bottom = window
    ax.imshow(_picture(row, window), extent=(left, right, bottom, top), interpolation="nearest")
    counts = {}
    for name, (color, line) in _STYLES.items():
        boxes = _of(result, name)
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
    ax.set_xticks([])
    ax.set_yticks([])
    return counts


def _picture(row: area.Row, window: Window) -> np.ndarray:
    """Pixels as people see them ``(H, W, 3)`` uint8; other than uint8 is stretched by its own."""
    pixels, valid = area.read_area(row, window)
    bands = pixel_info(pd.DataFrame([row]))["rgb"]
    shown = pixels[(list(bands) * 3)[:3]].transpose(1, 2, 0)
    if shown.dtype != np.uint8 and valid.any():
        low, high = np.percentile(shown[valid], [2, 98], axis=0)
        shown = np.clip((shown - low) / np.maximum(high - low, 1e-9), 0, 1) * 255 * valid[..., None]
    return shown.astype(np.uint8)
