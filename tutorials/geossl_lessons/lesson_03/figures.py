"""Figures of lesson 03."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from geossl.data.readers import get_reader, reader_name
from geossl.data.store import ChipStore
from geossl.viz.plots.base import get_axes, new_figure, style_axes
from geossl_lessons.drawing import ROLES, plot_dated_rows

_SHOWN_PX = 64


def read_pictures(store: ChipStore, rows: ArrayLike, *, size_px: int = _SHOWN_PX) -> np.ndarray:
    """Read some rows of a store again in more pixels: pictures ``(N, size_px, size_px, 3)``."""
    table = store.scenes.iloc[np.asarray(rows)].reset_index(drop=True)
    pixels = get_reader(reader_name(table)).read_chips(table, size_px=size_px)
    return store.to_rgb(pixels.chips)


def plot_scenes(
    store: ChipStore,
    rows: Mapping[str, ArrayLike],
    *,
    right: Mapping[str, Sequence[bool]] | None = None,
) -> Figure:
    """Draw lines of pictures, each with its date and its sensor.

    Args:
        store: the chips.
        rows: name of a line -> rows of the store, as many in each line.
        right: name of a line -> whether each of its pictures is the right one, shown by a frame
            and a word in place of the sensor.
    """
    return plot_dated_rows(store, rows, partial(read_pictures, store), right=right)


def plot_losses(logs: Mapping[str, pd.DataFrame], *, chance: float) -> Axes:
    """Draw the loss over the steps of some runs, named by their roles, and that of guessing."""
    ax = style_axes(get_axes(None, 6.4, 3.0))
    for name, log in logs.items():
        ax.plot(log["step"], log["loss"], color=ROLES[name], label=name, linewidth=1.6)
    ax.axhline(chance, color="#777777", linestyle="--", linewidth=1, label="guessing")
    ax.set_xlabel("step")
    ax.set_ylabel("loss (nats)")
    ax.set_ylim(0, None)
    ax.legend(frameon=False, fontsize=9)
    return ax


def plot_shares(
    results: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    chance: Mapping[str, float] | None = None,
) -> Figure:
    """Draw shares with their 95 % intervals: a panel for each task, a row for each network.

    Args:
        results: task -> network -> (share, low, high). What a network's name has before a comma is
            its role in `ROLES`, which gives the color.
        chance: task -> what guessing gives, a dashed line.
    """
    names = list(next(iter(results.values())))
    figure, axes = new_figure(
        3.6 * len(results) + 1.2, 0.5 * len(names) + 1.2, ncols=len(results), sharey=True,
        squeeze=False,
    )  # fmt: skip
    for ax, (task, rows) in zip(axes[0], results.items(), strict=True):
        style_axes(ax)
        for y, name in enumerate(names):
            value, low, high = (100 * x for x in rows[name])
            color = ROLES[name.split(",")[0]]
            ax.plot([low, high], [y, y], color=color, linewidth=5, solid_capstyle="round")
            ax.plot(value, y, "o", color="white", markeredgecolor="#333333", markersize=7)
            ax.annotate(
                f"{value:.0f} %" if value >= 10 else f"{value:.1f} %", (high, y), (8, 0),
                textcoords="offset points", va="center", fontsize=9,
            )  # fmt: skip
        ends = [high for _, _, high in rows.values()]
        if chance:
            ax.axvline(100 * chance[task], color="#777777", linestyle="--", linewidth=1.2)
            ends.append(chance[task])
        ax.set_xlim(0, 122 * max(ends) + 2)
        ax.set_xlabel("% right")
        ax.set_title(task, fontsize=10, loc="left")
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(range(len(names)), names)
    return figure
