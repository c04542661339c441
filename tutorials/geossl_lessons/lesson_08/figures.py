"""Figures of lesson 08."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import ArrayLike

from geossl.data.scenes import BOX
from geossl.tasks.segment import ClassMap
from geossl.utils.colors import PALETTE
from geossl.viz.plots.base import get_axes, new_figure, style_axes

_LINES = ("-", "--", ":", "-.")
_CROWD = "#bbbbbb"
_LEFT = 4  # detections of the toy with their number at the left; the fifth is the second on a box


def plot_boxes(path: str, boxes: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw a scene with its boxes, in a style for each label; gray ones do not count.

    ``boxes`` are of `geossl.datasets.blue_marble_tasks.islands`.
    """
    import rasterio

    with rasterio.open(path) as file:
        pixels = file.read()
    ax = get_axes(ax, 6.2, 6.6)
    ax.imshow(pixels.transpose(1, 2, 0), interpolation="nearest")
    boxes = boxes[boxes["path"] == path]
    crowd = boxes[boxes["crowd"]]
    for number, name in enumerate(sorted(boxes["label"].unique())):
        targets = boxes[(boxes["label"] == name) & ~boxes["crowd"]]
        style = PALETTE[(4, 6)[number % 2]], _LINES[number % len(_LINES)]
        _outline(ax, targets, *style, label=f"{name} ({len(targets)})")
    _outline(ax, crowd, _CROWD, ":", label=f"does not count ({len(crowd)})")
    ax.set_xlim(0, pixels.shape[2])  # outlines do not widen it
    ax.set_ylim(pixels.shape[1], 0)
    ax.set_xlabel("pixels from the left")
    ax.set_ylabel("pixels from the top")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, frameon=False, fontsize=9)
    return ax


def _outline(ax: Axes, boxes: pd.DataFrame, color: str, line: str, *, label: str) -> None:
    ax.plot([], [], color=color, linestyle=line, label=label)
    for box in boxes[list(BOX)].to_numpy():
        edge = _draw_box(ax, box, fill=False, edgecolor=color, linestyle=line, linewidth=1.6)
        edge.set_path_effects([Stroke(linewidth=2.8, foreground="#000000"), Normal()])


def _draw_box(ax: Axes, box: np.ndarray, **style: Any) -> Patch:
    return ax.add_patch(Rectangle(tuple(box[:2]), *(box[2:] - box[:2]), **style))


def plot_pairs_of_boxes(pairs: Sequence[tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Draw pairs of boxes ``(left, top, right, bottom)``; what both share is hatched."""
    figure, axes = new_figure(2.1 * len(pairs), 2.5, ncols=len(pairs), squeeze=False)
    corners = np.array([np.asarray(box, float) for pair in pairs for box in pair])
    low, high = corners[:, :2].min(0) - 1, corners[:, 2:].max(0) + 1
    for number, (ax, pair) in enumerate(zip(axes[0], pairs, strict=True)):
        a, b = (np.asarray(box, float) for box in pair)
        for box, color, line in ((a, PALETTE[4], "-"), (b, PALETTE[5], "--")):
            _draw_box(ax, box, fill=False, edgecolor=color, linestyle=line, linewidth=2.2)
        shared = np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])])
        if (shared[2:] > shared[:2]).all():
            _draw_box(ax, shared, facecolor="#dddddd", edgecolor="#888888", hatch="//",
                      linewidth=0, zorder=0)  # fmt: skip
        ax.set_xlim(low[0], high[0])
        ax.set_ylim(high[1], low[1])
        ax.set_aspect("equal")
        ax.set_title(chr(ord("A") + number), fontsize=11)
        ax.tick_params(labelsize=8)
    return figure


def plot_toy(truth: pd.DataFrame, detections: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the boxes of `make_toy`, and its detections with their numbers from 1."""
    ax = get_axes(ax, 5.4, 5.2)
    for box in truth[list(BOX)].to_numpy():
        _draw_box(ax, box, facecolor="#e8e8e8", edgecolor="#333333", linewidth=1.6)
    for number, box in enumerate(detections[list(BOX)].to_numpy(), 1):
        _draw_box(ax, box, fill=False, edgecolor=PALETTE[5], linestyle="--", linewidth=1.8)
        corner, shift, side = (box[:2], 3, "left") if number <= _LEFT else (box[2:], -3, "right")
        ax.annotate(str(number), corner, (shift, 2), textcoords="offset points", fontsize=11,
                    color="#8a3b00", ha=side, fontweight="bold")  # fmt: skip
    ax.set_xlim(0, 100)
    ax.set_ylim(100, 0)
    ax.set_aspect("equal")
    ax.set_xlabel("pixels from the left (gray: the true boxes; dashed: the detections)")
    ax.set_ylabel("pixels from the top")
    return ax


def plot_precision_recall(hits: Sequence[bool], boxes: int, *, ax: Axes | None = None) -> Axes:
    """Draw precision and recall down a list of detections, and the area of average precision.

    ``hits`` says whether each detection is right, by score; ``boxes`` is the number of true boxes.
    """
    count = np.cumsum(np.asarray(hits, bool))
    precision, recall = count / np.arange(1, len(count) + 1), count / boxes
    best = np.maximum.accumulate(precision[::-1])[::-1]
    ax = style_axes(get_axes(ax, 5.6, 3.6))
    ax.step([0, *recall], [best[0], *best], where="pre", color=PALETTE[0], linewidth=2,
            label="best precision from here on")  # fmt: skip
    ax.fill_between([0, *recall], [best[0], *best], step="pre", color=PALETTE[0], alpha=0.15)
    ax.plot(recall, precision, "o", color=PALETTE[5], label="after each detection")
    for number, point in enumerate(zip(recall, precision, strict=True), 1):
        ax.annotate(str(number), point, (5, -11), textcoords="offset points", fontsize=8)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.08)
    ax.set_xlabel("recall: share of the true boxes that are found")
    ax.set_ylabel("precision: share that is right")
    ax.legend(frameon=False, fontsize=8, loc="lower left")
    return ax


def plot_class_maps(maps: Mapping[str, ClassMap], *, count: int = 6) -> Figure:
    """Draw maps of one scene, and next to each where it differs from the last of them.

    The legend has the first ``count`` classes.
    """
    last = list(maps.values())[-1]
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(last.classes))]
    transform, (height, width) = last.grid.transform, last.values.shape
    left, top = transform * (0, 0)
    right, bottom = transform * (width, height)
    height_in = (5.4 * height / width + 0.35) * len(maps) + 0.4
    figure, axes = new_figure(11, height_in, nrows=len(maps), ncols=2, squeeze=False)
    for line, (name, one) in zip(axes, maps.items(), strict=True):
        differs = one.values != last.values
        pictures = ((one.values, colors), (differs, ["#f2f2f2", "k"]))
        for ax, (values, palette) in zip(line, pictures, strict=True):
            ax.imshow(values, cmap=ListedColormap(palette), vmin=-0.5, vmax=len(palette) - 0.5,
                      extent=(left, right, bottom, top), interpolation="nearest")  # fmt: skip
            ax.tick_params(labelsize=8)
        line[0].set_title(name, fontsize=9)
        line[0].set_ylabel("latitude (degrees)", fontsize=8)
        line[1].set_title(f"black: differs from the last map ({differs.mean():.1%})", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("longitude (degrees)", fontsize=8)
    patches = [Rectangle((0, 0), 1, 1, color=color) for color in colors[:count]]
    figure.legend(patches, last.classes[:count], loc="outside lower center", ncols=count,
                  frameon=False, fontsize=9)  # fmt: skip
    return figure
