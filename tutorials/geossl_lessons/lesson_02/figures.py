"""Figures of lesson 02."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from torch import Tensor

from geossl.data.store import ChipStore
from geossl.utils.colors import PALETTE
from geossl.viz.plots.base import draw_chip, get_axes, new_figure, style_axes
from geossl_lessons.drawing import plot_chip_rows
from geossl_lessons.lesson_02.experiments import to_pictures


def plot_puzzle(store: ChipStore, first: Tensor, second: Tensor, order: ArrayLike) -> Figure:
    """Draw first views with letters above second views ``(N, C, H, W)`` with numbers.

    ``order (N,)`` is the second view at each number, from 0.
    """
    count = len(first)
    figure, axes = new_figure(1.5 * count, 3.4, nrows=2, ncols=count, squeeze=False)
    rows = (to_pictures(store, first), to_pictures(store, second)[np.asarray(order)])
    names = ([chr(ord("A") + i) for i in range(count)], range(1, count + 1))
    for line, pictures, titles in zip(axes, rows, names, strict=True):
        for ax, picture, title in zip(line, pictures, titles, strict=True):
            draw_chip(ax, picture)
            ax.set_title(str(title), fontsize=12)
    return figure


def plot_views(store: ChipStore, rows: ArrayLike, first: Tensor, second: Tensor) -> Figure:
    """Draw chips, and two views of each below them."""
    return plot_chip_rows(
        {
            "the chip": store.preview(np.atleast_1d(np.asarray(rows))),
            "one view": to_pictures(store, first),
            "another": to_pictures(store, second),
        }
    )


def plot_similarity(similarity: ArrayLike, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw cosines ``(N, N)`` of queries and keys; the positives, on the diagonal, are framed."""
    values = np.asarray(similarity)
    ax = get_axes(ax, 4.6, 3.9)
    image = ax.imshow(values, cmap="cividis", vmin=min(0.0, float(values.min())), vmax=1)
    for i in range(len(values)):
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=PALETTE[5], lw=1.5))
    ax.set_xlabel("key")
    ax.set_ylabel("query")
    ax.set_title(title, fontsize=10)
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, ax=ax, shrink=0.85).set_label("cosine similarity")
    return ax


def plot_similarities(matrices: Mapping[str, ArrayLike]) -> Figure:
    """Draw several similarity matrices side by side, under their names."""
    figure, axes = new_figure(4.6 * len(matrices), 3.9, ncols=len(matrices), squeeze=False)
    for ax, (name, values) in zip(axes[0], matrices.items(), strict=True):
        plot_similarity(values, ax=ax, title=name)
    return figure


def plot_collapse(runs: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot the signs of collapse of some runs of `train_briefly`, side by side."""
    panels = {
        "loss": "loss, share of the first",
        "feature_std": "feature std (0 is collapse)",
        "effective_rank": "effective rank (1 is collapse)",
    }
    figure, axes = new_figure(10, 2.9, ncols=len(panels))
    for ax, (column, title) in zip(axes, panels.items(), strict=True):
        style_axes(ax)
        styles = zip(runs.items(), (PALETTE[0], PALETTE[5]), ("-", "--"), strict=False)
        for (name, table), color, dash in styles:
            ax.plot(table["step"], table[column], dash, color=color, label=name, linewidth=1.8)
        ax.set_xlabel("optimizer steps")
        ax.set_title(title, fontsize=10)
        ax.set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    return figure
