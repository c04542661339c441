"""Matplotlib figures of probes: confusion, calibration, few labels, encoders side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geossl.evaluate import ProbeResult
from geossl.tasks import compare
from geossl.tasks.compare import Row
from geossl.utils.colors import GRAY, PALETTE
from geossl.viz.plots.base import _axes, _quiet

_WRITTEN = 12  # classes up to which every share is written into its cell


def plot_confusion(result: ProbeResult, *, classes: int = 30, ax: Axes | None = None) -> Axes:
    """What is taken for what: each true class's chips by the class they were given.

    Args:
        result: of a classifier of one class a chip.
        classes: the most frequent true classes shown; shares are of all chips of a class.
        ax: where to draw; a new figure when None.

    Raises:
        ValueError: the result has no confusion matrix.
    """
    table = result.confusion
    chips = table.sum(axis=1).sort_values(ascending=False, kind="stable")
    shown = [name for name in table.index if name in set(chips[chips > 0].index[:classes])]
    share = table.loc[shown, shown].to_numpy() / chips[shown].to_numpy()[:, None]
    side = 1.6 + (0.42 if len(shown) <= _WRITTEN else 0.2) * len(shown)
    ax = _axes(ax, side + 0.9, side)
    image = ax.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    if len(shown) <= _WRITTEN:
        for row, column in np.argwhere(share >= 0.005):
            value = share[row, column]
            ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8,
                    color="white" if value > 0.6 else "#222222")  # fmt: skip
    ax.set_xticks(range(len(shown)), shown, rotation=90, fontsize=8)
    ax.set_yticks(range(len(shown)), [f"{n} ({chips[n]:,})" for n in shown], fontsize=8)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("predicted")
    ax.set_ylabel("truth (test chips)")
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax, label="% of the true class's chips", shrink=0.7)
    return ax


def plot_calibration(result: ProbeResult, *, bins: int = 15, ax: Axes | None = None) -> Axes:
    """How often the classifier is right when it is so sure; on the line it can be believed.

    Args:
        result: of a classifier.
        bins: of the confidence; a dot's area grows with its chips.
        ax: where to draw; a new figure when None.

    Raises:
        ValueError: the result has no probabilities.
    """
    table = result.calibration(bins=bins)
    chips = table["chips"].to_numpy()
    ax = _quiet(_axes(ax, 3.9, 3.9))
    ax.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1)
    ax.plot(table["confidence"], table["accuracy"], color=PALETTE[0], linewidth=1.2)
    ax.scatter(table["confidence"], table["accuracy"], s=8 + 150 * chips / chips.max(),
               color=PALETTE[0], alpha=0.7, linewidths=0)  # fmt: skip
    gap = (table["confidence"] - table["accuracy"]).abs().to_numpy()
    ax.set_title(f"calibration error {(gap * chips).sum() / chips.sum():.3f}", fontsize=9)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.02)
    ax.set_aspect("equal")
    ax.set_xlabel("probability of a class" if result.multi else "confidence of the prediction")
    ax.set_ylabel("share of chips that have it" if result.multi else "share that is right")
    return ax


def plot_label_efficiency(tables: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """How good each method is with few labels: the mean of the seeds, and each seed as a dot.

    Args:
        tables: method -> what `geossl.evaluate.label_efficiency` gave.
        ax: where to draw; a new figure when None. The band goes from the lowest to the highest end
            of the seeds' 95 % intervals.
    """
    ax = _quiet(_axes(ax, 6.4, 3.6))
    for (name, table), color in zip(tables.items(), PALETTE, strict=False):
        amount = "share" if "share" in table else "per_class"
        group = table.groupby(amount)
        places, mean = group["locations"].mean(), group["value"].mean()
        ax.fill_between(places, group["low"].min(), group["high"].max(), color=color, alpha=0.15,
                        linewidth=0)  # fmt: skip
        ax.plot(places, mean, color=color, linewidth=2, label=name)
        ax.scatter(table["locations"], table["value"], s=14, color=color, linewidths=0)
    first = next(iter(tables.values()))
    ticks = sorted({round(n) for n in first.groupby(first.columns[0])["locations"].mean()})
    ax.axhline(first["chance"].mean(), color=GRAY, linestyle="--", linewidth=1, label="chance")
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("training places with a label")
    ax.set_ylabel(str(first["metric"].iloc[0]))
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_comparison(rows: Sequence[Row], *, ax: Axes | None = None) -> Axes:
    """Encoders side by side: the mean of the seeds, each seed as a dot, 95 % over the test places.

    Args:
        rows: of `transfer.compare`, of one metric.
        ax: where to draw; a new figure when None.

    Raises:
        ValueError: no rows, or rows of several metrics.
    """
    metrics = {row.metric for row in rows}
    if len(metrics) != 1:
        raise ValueError(f"expected rows of one metric, came {sorted(metrics) or 'none'}")
    table = compare.table(rows)
    ax = _axes(ax, 6.4, 0.9 + 0.36 * len(table))
    for place, method in enumerate(table.itertuples()):
        color = GRAY if method.method == "random" else PALETTE[0]
        ax.plot([method.low, method.high], [place, place], color=color, linewidth=1.5)
        ax.plot(method.value, place, "|", color=color, markersize=13, markeredgewidth=2.5)
        seen = [row.value for row in rows if row.method == method.method]
        ax.plot(seen, [place] * len(seen), "o", color=color, markersize=4, alpha=0.6)
        ax.annotate(f"{method.value:.3f}", (method.high, place), (6, 0), va="center",
                    textcoords="offset points", fontsize=8)  # fmt: skip
    ax.set_yticks(range(len(table)), table["method"], fontsize=9)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.margins(x=0.12)
    ax.set_xlabel(f"{metrics.pop()} (line: 95 % over test places; dots: seeds)")
    return _quiet(ax)
