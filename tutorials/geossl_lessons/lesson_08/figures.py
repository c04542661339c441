"""Figures of lesson 08."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import ArrayLike

from geossl.data.scenes import BOX
from geossl.tasks.segment import ClassMap
from geossl.utils.colors import PALETTE
from geossl.viz.plots.base import get_axes, new_figure, style_axes

_LINES = ("-", "--", ":", "-.")
_CROWD = "#bbbbbb"
_ABOVE = 4  # detections of the toy named above; the fifth is the second on a box


def plot_boxes(path: str, boxes: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """A scene with its boxes: a color and a line for each label; gray ones do not count.

    Args:
        path: of the scene.
        boxes: of `geossl.datasets.blue_marble_tasks.islands`.
        ax: where to draw; a new figure when None.
    """
    import rasterio

    with rasterio.open(path) as file:
        pixels = file.read()
    ax = get_axes(ax, 6.2, 6.6)
    ax.imshow(pixels.transpose(1, 2, 0), interpolation="nearest")
    mine = boxes[boxes["path"] == path]
    names = sorted(mine["label"].unique())
    for number, name in enumerate(names):
        some = mine[(mine["label"] == name) & ~mine["crowd"]]
        style = PALETTE[(4, 6)[number % 2]], _LINES[number % len(_LINES)]
        _outline(ax, some, *style)
        ax.plot([], [], color=style[0], linestyle=style[1], label=f"{name} ({len(some)})")
    _outline(ax, mine[mine["crowd"]], _CROWD, ":")
    ax.plot([], [], color=_CROWD, linestyle=":", label=f"not asked for ({mine['crowd'].sum()})")
    ax.set_xlim(0, pixels.shape[2])  # outlines do not widen it
    ax.set_ylim(pixels.shape[1], 0)
    ax.set_xlabel("pixels from the left")
    ax.set_ylabel("pixels from the top")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, frameon=False, fontsize=9)
    return ax


def _outline(ax: Axes, boxes: pd.DataFrame, color: str, line: str) -> None:
    for x0, y0, x1, y1 in boxes[list(BOX)].to_numpy():
        edge = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linestyle=line,
                         linewidth=1.6)  # fmt: skip
        edge.set_path_effects([Stroke(linewidth=2.8, foreground="#000000"), Normal()])
        ax.add_patch(edge)


def plot_pairs_of_boxes(pairs: Sequence[tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Pairs of boxes side by side; what both share is filled and hatched.

    Args:
        pairs: two boxes ``(left, top, right, bottom)`` each.
    """
    figure, axes = new_figure(2.1 * len(pairs), 2.5, ncols=len(pairs), squeeze=False)
    corners = np.array([np.asarray(box, float) for pair in pairs for box in pair])
    low, high = corners[:, :2].min(0) - 1, corners[:, 2:].max(0) + 1
    for number, (ax, pair) in enumerate(zip(axes[0], pairs, strict=True)):
        a, b = (np.asarray(box, float) for box in pair)
        for box, color, line in ((a, PALETTE[4], "-"), (b, PALETTE[5], "--")):
            look: dict[str, Any] = {
                "edgecolor": color,
                "linestyle": line,
                "linewidth": 2.2,
                "fill": False,
            }
            ax.add_patch(Rectangle(tuple(box[:2]), *(box[2:] - box[:2]), **look))
        inner = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
        if (inner[1] > inner[0]).all():
            shared = Rectangle(inner[0], *(inner[1] - inner[0]), facecolor="#dddddd", zorder=0)
            shared.set(edgecolor="#888888", hatch="//", linewidth=0)
            ax.add_patch(shared)
        ax.set_xlim(low[0], high[0])
        ax.set_ylim(high[1], low[1])
        ax.set_aspect("equal")
        ax.set_title(chr(ord("A") + number), fontsize=11)
        ax.tick_params(labelsize=8)
    return figure


def plot_toy(truth: pd.DataFrame, found: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """The boxes of `outlined.toy`, and its detections numbered from 1 in the order of the table."""
    ax = get_axes(ax, 5.4, 5.2)
    for x0, y0, x1, y1 in truth[list(BOX)].to_numpy():
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor="#e8e8e8",
                               edgecolor="#333333", linewidth=1.6))  # fmt: skip
    for number, (x0, y0, x1, y1) in enumerate(found[list(BOX)].to_numpy(), 1):
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=PALETTE[5],
                               linestyle="--", linewidth=1.8))  # fmt: skip
        at, side = ((x0, y0), "left") if number <= _ABOVE else ((x1, y1), "right")
        ax.annotate(str(number), at, (3 if side == "left" else -3, 2), textcoords="offset points",
                    fontsize=11, color="#8a3b00", ha=side, fontweight="bold")  # fmt: skip
    ax.set_xlim(0, 100)
    ax.set_ylim(100, 0)
    ax.set_aspect("equal")
    ax.set_xlabel("pixels from the left (gray: the true boxes; dashed: the detections)")
    ax.set_ylabel("pixels from the top")
    return ax


def plot_precision_recall(hits: Sequence[bool], boxes: int, *, ax: Axes | None = None) -> Axes:
    """Precision and recall down a list of detections, and the area that average precision is.

    Args:
        hits: whether each detection is right, the highest score first.
        boxes: number of true boxes.
        ax: where to draw; a new figure when None.
    """
    right = np.cumsum(np.asarray(hits, bool))
    precision, recall = right / np.arange(1, len(right) + 1), right / boxes
    best = np.maximum.accumulate(precision[::-1])[::-1]
    ax = style_axes(get_axes(ax, 5.6, 3.6))
    ax.step([0, *recall], [best[0], *best], where="pre", color=PALETTE[0], linewidth=2,
            label="best precision from here on")  # fmt: skip
    ax.fill_between([0, *recall], [best[0], *best], step="pre", color=PALETTE[0], alpha=0.15)
    ax.plot(recall, precision, "o", color=PALETTE[5], label="after each detection")
    for number, place in enumerate(zip(recall, precision, strict=True), 1):
        ax.annotate(str(number), place, (5, -11), textcoords="offset points", fontsize=8)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.08)
    ax.set_xlabel("recall: share of the true boxes that are found")
    ax.set_ylabel("precision: share that is right")
    ax.legend(frameon=False, fontsize=8, loc="lower left")
    return ax


def plot_class_maps(maps: Mapping[str, ClassMap], *, count: int = 6) -> Figure:
    """Maps of one scene below each other, each beside where it differs from the last of them.

    Args:
        maps: name -> map; the last one is what the others are compared with.
        count: classes in the legend.
    """
    last = list(maps.values())[-1]
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(last.classes))]
    transform, (height, width) = last.grid.transform, last.values.shape
    left, top = transform * (0, 0)
    right, bottom = transform * (width, height)
    high = 5.4 * height / width
    figure, axes = new_figure(11, (high + 0.35) * len(maps) + 0.4, nrows=len(maps), ncols=2,
                           squeeze=False)  # fmt: skip
    for (one, other), (name, found) in zip(axes, maps.items(), strict=True):
        apart = found.values != last.values
        pictures = ((one, found.values, colors, len(colors)), (other, apart, ["#f2f2f2", "k"], 2))
        for ax, values, palette, most in pictures:
            ax.imshow(values, cmap=ListedColormap(palette[:most]), vmin=-0.5, vmax=most - 0.5,
                      extent=(left, right, bottom, top), interpolation="nearest")  # fmt: skip
            ax.tick_params(labelsize=8)
        one.set_title(name, fontsize=9)
        one.set_ylabel("latitude (degrees)", fontsize=8)
        other.set_title(f"black: differs from the last map ({apart.mean():.1%})", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("longitude (degrees)", fontsize=8)
    patches = [Rectangle((0, 0), 1, 1, color=color) for color in colors[:count]]
    figure.legend(patches, last.classes[:count], loc="outside lower center", ncols=count,
                  frameon=False, fontsize=9)  # fmt: skip
    return figure
