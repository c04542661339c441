"""Figures of lesson 03."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geossl.utils.colors import PALETTE
from geossl.viz.plots.base import get_axes, new_figure, style_axes

_HATCH = ("", "///")


def plot_shifts(shifts: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot how far each change of `measure_shifts` moves an embedding, as pairs of bars."""
    ax = style_axes(get_axes(ax, 7.2, 0.75 * len(shifts) + 1.4))
    changes = [name for name in shifts if name != "encoder"]
    for i, (change, hatch) in enumerate(zip(changes, _HATCH, strict=True)):
        y = np.arange(len(shifts)) + 0.2 * (2 * i - 1)
        bars = ax.barh(y, shifts[change], 0.38, color=PALETTE[i], hatch=hatch, edgecolor="white",
                       label=change)  # fmt: skip
        ax.bar_label(bars, fmt="%.2f", padding=4, fontsize=9)
    ax.axvline(1, color="#777777", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(shifts)), shifts["encoder"])
    ax.invert_yaxis()
    ax.set_xlim(0, max(1.15, 1.15 * float(shifts[changes].to_numpy().max())))
    ax.set_xlabel("how far the embedding moves (1: to another location)")
    ax.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
    ax.grid(axis="y", alpha=0)
    return ax


def plot_scores(scores: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot the `change_scores` of each encoder for pairs with and without a new flood."""
    figure, axes = new_figure(3.4 * len(scores), 3.1, ncols=len(scores), sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes[0], scores.items(), strict=True):
        style_axes(ax)
        kinds = (("an ordinary change of the day", False, "-", 0), ("a new flood", True, "--", 5))
        for label, changed, dash, color in kinds:
            score = np.sort(table.loc[table["changed"] == changed, "score"].to_numpy())
            share = 100 * np.arange(1, len(score) + 1) / max(1, len(score))
            ax.plot(score, share, dash, color=PALETTE[color], label=label, linewidth=2)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("change score (1 - cosine)")
        ax.set_xlim(0, float(table["score"].quantile(0.99)))
    axes[0][0].set_ylabel("% of the pairs below")
    axes[0][0].legend(frameon=False, fontsize=8, loc="lower right")
    return figure
