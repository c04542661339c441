"""Figures of lesson 08."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike

from geossl.data.scenes import BOX
from geossl.tasks.segment.class_map import class_colors
from geossl.utils.colors import GRAY, PALETTE
from geossl.viz.plots.base import draw_chip, get_axes, new_figure, style_axes
from geossl_lessons.drawing import ROLES

_METHODS = (  # color, untrained, pre-trained
    ("#333333", ":", "s"), (ROLES["untrained"], "--", "o"), (ROLES["+Geo+TP"], "-", "o"),
)  # fmt: skip
_LEFT = 4  # detections of the toy with their number at the left; the fifth is the second on a box


def _draw_box(ax: Axes, box: np.ndarray, **style: Any) -> Patch:
    return ax.add_patch(Rectangle(tuple(box[:2]), *(box[2:] - box[:2]), **style))


def plot_pairs_of_boxes(pairs: Sequence[tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Draw pairs of boxes ``(left, top, right, bottom)``; what both share is hatched."""
    figure, axes = new_figure(2.1 * len(pairs), 2.5, ncols=len(pairs), squeeze=False)
    corners = np.array([np.asarray(box, float) for pair in pairs for box in pair])
    low, high = corners[:, :2].min(0) - 1, corners[:, 2:].max(0) + 1
    for number, (ax, pair) in enumerate(zip(axes[0], pairs, strict=True)):
        a, b = (np.asarray(box, float) for box in pair)
        for box, color, line in ((a, PALETTE[0], "-"), (b, PALETTE[1], "--")):
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
        _draw_box(ax, box, fill=False, edgecolor=PALETTE[0], linestyle="--", linewidth=1.8)
        corner, shift, side = (box[:2], 3, "left") if number <= _LEFT else (box[2:], -3, "right")
        ax.annotate(str(number), corner, (shift, 2), textcoords="offset points", fontsize=11,
                    color=PALETTE[0], ha=side, fontweight="bold")  # fmt: skip
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
    ax.step([0, *recall], [best[0], *best], where="pre", color=GRAY, linewidth=2,
            label="best precision from here on")  # fmt: skip
    ax.fill_between([0, *recall], [best[0], *best], step="pre", color=GRAY, alpha=0.2)
    colors = [ROLES["right" if hit else "wrong"] for hit in hits]
    ax.scatter(recall, precision, color=colors, marker="o", s=36, zorder=3)
    for name, color in (("a hit", ROLES["right"]), ("a false alarm", ROLES["wrong"])):
        ax.plot([], [], "o", color=color, label=f"after {name}")
    for number, point in enumerate(zip(recall, precision, strict=True), 1):
        ax.annotate(str(number), point, (5, -11), textcoords="offset points", fontsize=8)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.08)
    ax.set_xlabel("recall: share of the true boxes that are found")
    ax.set_ylabel("precision: share that is right")
    ax.legend(frameon=False, fontsize=8, loc="lower left")
    return ax


def plot_climates(
    pictures: np.ndarray, maps: Mapping[str, np.ndarray], *, classes: Sequence[str]
) -> Figure:
    """Draw pictures ``(N, H, W, 3)`` in a row, and below them maps ``(N, H, W)`` of their classes.

    Below a map that is not the first one stands the share of its pixels that agree with the first.
    """
    count, truth = len(pictures), next(iter(maps.values()))
    figure, axes = new_figure(
        1.45 * count + 1.2, 1.62 * (1 + len(maps)) + 0.3, nrows=1 + len(maps), ncols=count,
        squeeze=False,
    )  # fmt: skip
    for ax, picture in zip(axes[0], pictures, strict=True):
        draw_chip(ax, picture, "")
    colors = class_colors(tuple(classes))
    for line, (name, codes) in zip(axes[1:], maps.items(), strict=True):
        for ax, code, true in zip(line, codes, truth, strict=True):
            table = (255 * np.array([to_rgb(color) for color in colors])).astype(np.uint8)
            draw_chip(ax, table[code], "")
            if codes is not truth:
                ax.set_xlabel(f"{(code == true).mean():.0%} right", fontsize=8, labelpad=2)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    axes[0, 0].set_ylabel("picture", rotation=0, ha="right", va="center", fontsize=9)
    patches = [Rectangle((0, 0), 1, 1, color=color) for color in colors]
    figure.legend(patches, classes, loc="outside lower center", ncols=len(classes), frameon=False,
                  fontsize=9)  # fmt: skip
    return figure


def plot_curves(
    results: Mapping[str, Mapping[int, tuple[float, float, float]]], *, ax: Axes | None = None
) -> Axes:
    """Draw mIoU over the number of outlined scenes, with bands.

    ``results`` holds for each method and number of scenes the value and its interval.
    """
    ax = style_axes(get_axes(ax, 6.4, 3.8))
    for (name, points), (color, line, mark) in zip(results.items(), _METHODS, strict=True):
        counts = list(points)
        value, low, high = 100 * np.array(list(points.values())).T
        ax.plot(counts, value, line, marker=mark, color=color, linewidth=2, label=name)
        ax.fill_between(counts, low, high, color=color, alpha=0.15, linewidth=0)
    ax.set_xscale("log")
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.set_xlabel("outlined scenes")
    ax.set_ylabel("mIoU on held-out scenes (%)")
    ax.legend(frameon=False, fontsize=9, loc="lower right", reverse=True)
    return ax


def plot_class_maps(
    maps: Mapping[str, np.ndarray], scene: str | os.PathLike[str], *, classes: Sequence[str]
) -> Figure:
    """Draw maps ``(H, W)`` of a scene, and below each where it differs from the last of them."""
    import rasterio

    last, colors = list(maps.values())[-1], class_colors(tuple(classes))
    with rasterio.open(scene) as file:
        left, bottom, right, top = file.bounds
    height, width = last.shape
    wide = 9.6 / len(maps)
    figure, axes = new_figure(
        9.6, 2 * (wide * height / width) + 0.9, nrows=2, ncols=len(maps), squeeze=False
    )
    for column, (name, one) in enumerate(maps.items()):
        differs = one != last
        pictures = (
            (one, colors, name),
            (differs, ["#f2f2f2", "k"], f"differ: {differs.mean():.1%}"),
        )
        for ax, (values, palette, title) in zip(axes[:, column], pictures, strict=True):
            ax.imshow(values, cmap=ListedColormap(palette), vmin=-0.5, vmax=len(palette) - 0.5,
                      extent=(left, right, bottom, top), interpolation="nearest")  # fmt: skip
            ax.tick_params(labelsize=7)
            ax.set_title(title, fontsize=9)
    axes[1, -1].set_axis_off()  # the last one does not differ from itself
    axes[1, -1].set_title("")
    axes[1, -1].images[0].remove()
    for ax in axes[:, 0]:
        ax.set_ylabel("latitude (degrees)", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("longitude (degrees)", fontsize=8)
    patches = [Rectangle((0, 0), 1, 1, color=color) for color in colors]
    figure.legend(patches, classes, loc="outside lower center", ncols=len(classes), frameon=False,
                  fontsize=9)  # fmt: skip
    return figure
