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
from geossl.viz.plots.base import _axes, _figure, _picture, _quiet
from geossl_lessons.lesson_02.experiments import pictures


def plot_puzzle(store: ChipStore, first: Tensor, second: Tensor, order: ArrayLike) -> Figure:
    """First views with letters above second views in another order, with numbers.

    Args:
        store: the chips they are views of.
        first: ``(N, C, H, W)`` views, shown as A, B, ...
        second: ``(N, C, H, W)`` other views of the same chips, in the same order.
        order: ``(N,)`` the second view that stands in each place, from 0.
    """
    count, order = len(first), np.asarray(order)
    figure, axes = _figure(1.5 * count, 3.4, nrows=2, ncols=count, squeeze=False)
    lines = (pictures(store, first), pictures(store, second)[order])
    for i in range(count):
        _picture(axes[0][i], lines[0][i])
        _picture(axes[1][i], lines[1][i])
        axes[0][i].set_title(chr(ord("A") + i), fontsize=12)
        axes[1][i].set_title(str(i + 1), fontsize=12)
    return figure


def plot_views(store: ChipStore, rows: ArrayLike, first: Tensor, second: Tensor) -> Figure:
    """Chips, and two views of each below them."""
    columns = np.atleast_1d(np.asarray(rows))
    lines = {
        "the chip": store.preview(columns),
        "one view": pictures(store, first),
        "another": pictures(store, second),
    }
    figure, axes = _figure(1.25 * len(columns) + 0.8, 4.0, nrows=3, ncols=len(columns),
                                 squeeze=False)  # fmt: skip
    for line, (name, images) in zip(axes, lines.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            _picture(ax, image)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def plot_similarity(similarity: ArrayLike, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Cosines ``(N, N)`` of queries and keys; the positives, on the diagonal, are framed."""
    values, size = np.asarray(similarity), len(np.asarray(similarity))
    ax = _axes(ax, 4.6, 3.9)
    drawn = ax.imshow(values, cmap="cividis", vmin=min(0.0, float(values.min())), vmax=1)
    for i in range(size):
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="#d55e00", lw=1.5))
    ax.set_xlabel("key")
    ax.set_ylabel("query")
    ax.set_title(title, fontsize=10)
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(drawn, ax=ax, shrink=0.85).set_label("cosine similarity")
    return ax


def plot_similarities(matrices: Mapping[str, ArrayLike]) -> Figure:
    """Several of them side by side, under their names."""
    figure, axes = _figure(4.6 * len(matrices), 3.9, ncols=len(matrices), squeeze=False)
    for ax, (name, values) in zip(axes[0], matrices.items(), strict=True):
        plot_similarity(values, ax=ax, title=name)
    return figure


def plot_collapse(runs: dict[str, pd.DataFrame]) -> Figure:
    """The signs of `short_run` for some runs, side by side."""
    panels = {
        "loss": "loss, share of the first",
        "feature_std": "feature std (0 is collapse)",
        "effective_rank": "effective rank (1 is collapse)",
    }
    figure, axes = _figure(10, 2.9, ncols=len(panels))
    for ax, (column, words) in zip(axes, panels.items(), strict=True):
        _quiet(ax)
        styles = zip(runs.items(), (PALETTE[0], PALETTE[5]), ("-", "--"), strict=False)
        for (name, table), color, dash in styles:
            ax.plot(table["step"], table[column], dash, color=color, label=name, linewidth=1.8)
        ax.set_xlabel("optimizer steps")
        ax.set_title(words, fontsize=10)
        ax.set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    return figure
