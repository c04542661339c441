"""Figures of lesson 02."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from torch import Tensor

from geossl.data.store import ChipStore
from geossl.viz.plots.base import draw_chip, get_axes, new_figure, style_axes
from geossl_lessons.drawing import ROLES, plot_chip_rows


def to_pictures(store: ChipStore, views: Tensor) -> np.ndarray:
    """Turn normalized views ``(N, C, H, W)`` into pictures ``(N, H, W, 3)``, uint8."""
    pixels = views.numpy() * store.std[:, None, None] + store.mean[:, None, None]
    return store.to_rgb(pixels)


def plot_puzzle(store: ChipStore, first: Tensor, second: Tensor) -> Figure:
    """Draw views ``(N, C, H, W)`` with letters above views with numbers."""
    count = len(first)
    figure, axes = new_figure(1.5 * count, 3.4, nrows=2, ncols=count, squeeze=False)
    names = ([chr(ord("A") + i) for i in range(count)], range(1, count + 1))
    for line, views, titles in zip(axes, (first, second), names, strict=True):
        for ax, picture, title in zip(line, to_pictures(store, views), titles, strict=True):
            draw_chip(ax, picture)
            ax.set_title(str(title), fontsize=12)
    return figure


def plot_views(store: ChipStore, chips: Tensor, first: Tensor, second: Tensor) -> Figure:
    """Draw chips ``(N, C, H, W)`` in the store's units, and two views of each below them."""
    return plot_chip_rows(
        {
            "the chip": store.to_rgb(chips.numpy()),
            "one view": to_pictures(store, first),
            "another": to_pictures(store, second),
        }
    )


def plot_similarities(matrices: Mapping[str, ArrayLike]) -> Figure:
    """Draw cosines ``(N, N)`` of queries and keys; the positives, on the diagonal, are framed."""
    values = {name: np.asarray(matrix) for name, matrix in matrices.items()}
    low = min(0.0, *(float(matrix.min()) for matrix in values.values()))
    figure, axes = new_figure(3.9 * len(values) + 0.7, 3.9, ncols=len(values), squeeze=False)
    for ax, (name, matrix) in zip(axes[0], values.items(), strict=True):
        image = ax.imshow(matrix, cmap="cividis", vmin=low, vmax=1)
        for i in range(len(matrix)):
            frame = Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="white", lw=1.8)
            ax.add_patch(frame)
        ax.set_xticks(range(0, len(matrix), 2))
        ax.set_yticks(range(0, len(matrix), 2))
        ax.set_xlabel("key")
        ax.set_ylabel("query")
        ax.set_title(name, fontsize=10)
    figure.colorbar(image, ax=axes[0].tolist(), shrink=0.85).set_label("cosine similarity")
    return figure


def plot_losses(
    losses: Sequence[float], *, chance: float, name: str = "loss in nats", ax: Axes | None = None
) -> Axes:
    """Plot the loss of each step, and what guessing gives."""
    ax = style_axes(get_axes(ax, 6.4, 3.0))
    steps = np.arange(1, len(losses) + 1)
    ax.plot(steps, losses, color=ROLES["MoCo-v2"], linewidth=1.6)
    ax.axhline(chance, color=ROLES["untrained"], linestyle="--", linewidth=1.4)
    ax.annotate("guessing", (1, chance), (0, 4), textcoords="offset points", fontsize=9)
    ax.set_xlabel("optimizer steps")
    ax.set_ylabel(name)
    ax.set_ylim(0, 1.12 * max(chance, *losses))
    return ax


def plot_shares(
    results: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    roles: Mapping[str, str],
    unit: str = "% of the held-out pictures",
) -> Figure:
    """Draw shares with their 95 % intervals: a panel for each task, a row for each network.

    Args:
        results: task -> network -> (share, low, high).
        roles: network -> its role in `ROLES`, which gives the color.
        unit: of the axes.
    """
    names = list(roles)
    figure, axes = new_figure(
        4.4 * len(results) + 0.8, 0.5 * len(names) + 1.2, ncols=len(results), sharey=True,
        squeeze=False,
    )  # fmt: skip
    for ax, (task, rows) in zip(axes[0], results.items(), strict=True):
        style_axes(ax)
        for y, name in enumerate(names):
            value, low, high = (100 * x for x in rows[name])
            color = ROLES[roles[name]]
            ax.plot([low, high], [y, y], color=color, linewidth=5, solid_capstyle="round")
            ax.plot(value, y, "o", color="white", markeredgecolor="#333", markersize=7)
            ax.annotate(
                f"{value:.0f} %", (high, y), (8, 0), textcoords="offset points", va="center",
                fontsize=9,
            )  # fmt: skip
        top = max(high for _, _, high in rows.values())
        ax.set_xlim(0, 122 * top + 2)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_xlabel(unit)
        ax.set_title(task, fontsize=10, loc="left")
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(range(len(names)), names)
    return figure
