"""Figures of lesson 03."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geossl.utils.colors import PALETTE
from geossl.viz.plots.base import _axes, _figure, _quiet

_HATCH = ("", "///")


def plot_moved(found: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How far each change moves an embedding, a pair of bars an encoder.

    Args:
        found: of `geossl_lessons.lesson_03.experiments.moved`.
        ax: where to draw; a new figure when None.
    """
    ax = _quiet(_axes(ax, 7.2, 0.75 * len(found) + 1.4))
    changes = [name for name in found if name != "encoder"]
    for i, (change, hatch) in enumerate(zip(changes, _HATCH, strict=True)):
        y = np.arange(len(found)) + 0.2 * (2 * i - 1)
        ax.barh(y, found[change], 0.38, color=PALETTE[(0, 1)[i]], hatch=hatch, edgecolor="white",
                label=change)  # fmt: skip
        for height, value in zip(y, found[change], strict=True):
            ax.annotate(f"{value:.2f}", (value, height), (4, 0), textcoords="offset points",
                        va="center", fontsize=9)  # fmt: skip
    ax.axvline(1, color="#777777", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(found)), found["encoder"])
    ax.invert_yaxis()
    ax.set_xlim(0, max(1.15, 1.15 * float(found[changes].to_numpy().max())))
    ax.set_xlabel("how far the embedding moves (1: to another place)")
    ax.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
    ax.grid(axis="y", alpha=0)
    return ax


def plot_scores(scored: Mapping[str, pd.DataFrame]) -> Figure:
    """Change scores of pairs with and without a new flood, a panel an encoder.

    Args:
        scored: name of the encoder -> what `geossl_lessons.lesson_03.experiments.change_scores` gave.
    """
    figure, axes = _figure(3.4 * len(scored), 3.1, ncols=len(scored), sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes[0], scored.items(), strict=True):
        _quiet(ax)
        kinds = (("an ordinary change of the day", False, "-", 0), ("a new flood", True, "--", 5))
        for words, changed, dash, color in kinds:
            score = np.sort(table.loc[table["changed"] == changed, "score"].to_numpy())
            share = 100 * np.arange(1, len(score) + 1) / max(1, len(score))
            ax.plot(score, share, dash, color=PALETTE[color], label=words, linewidth=2)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("change score (1 - cosine)")
        ax.set_xlim(0, float(table["score"].quantile(0.99)))
    axes[0][0].set_ylabel("% of the pairs below")
    axes[0][0].legend(frameon=False, fontsize=8, loc="lower right")
    return figure
