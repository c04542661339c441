"""Plots of probes: results, confusion, calibration, few labels, encoders compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geossl.evaluate import ProbeResult
from geossl.tasks import compare
from geossl.tasks.compare import Row
from geossl.utils.colors import GRAY, PALETTE
from geossl.utils.validate import PositiveInt, validated
from geossl.viz.plots.base import get_axes, root_figure, style_axes

_MOST_NUMBERED = 12  # classes up to which every share is written into its cell


@validated
def plot_results(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot values of `geossl.evaluate.compare` with their 95 % intervals, one line a method."""
    ax = style_axes(get_axes(ax, 6.4, 0.45 * len(table) + 1.1))
    y = np.arange(len(table))[::-1]
    value = table["value"].to_numpy()
    reach = np.abs(np.stack([value - table["low"], table["high"] - value]))
    ax.errorbar(value, y, xerr=reach, fmt="o", color=PALETTE[0], capsize=3, linewidth=1.6)
    for x, height in zip(value, y, strict=True):
        ax.annotate(f"{x:.3f}", (x, height), (0, 7), textcoords="offset points", ha="center",
                    fontsize=8)  # fmt: skip
    chance = float(table["chance"].iloc[0])
    ax.axvline(chance, color=GRAY, linestyle="--", linewidth=1)
    ax.annotate("chance", (chance, y[0] + 0.45), (3, 0), textcoords="offset points", fontsize=8,
                color="#777777")  # fmt: skip
    ax.set_yticks(y, table["method"])
    ax.set_ylim(-0.6, len(table) - 0.3)
    ax.grid(axis="y", alpha=0)
    ax.set_xlabel(str(table["metric"].iloc[0]))
    return ax


@validated
def plot_confusion(
    result: ProbeResult, *, classes: PositiveInt = 30, ax: Axes | None = None
) -> Axes:
    """Plot which classes are predicted as which, in shares of each true class's chips.

    Args:
        result: of a classifier of one class a chip.
        classes: the most frequent true classes to show; shares are of all chips of a class.
        ax: where to draw; a new figure when None.

    Raises:
        ValueError: the result has no confusion matrix.
    """
    table = result.confusion
    chips = table.sum(axis=1).sort_values(ascending=False, kind="stable")
    frequent = set(chips[chips > 0].index[:classes])
    names = [name for name in table.index if name in frequent]
    share = table.loc[names, names].to_numpy() / chips[names].to_numpy()[:, None]
    side = 1.6 + (0.42 if len(names) <= _MOST_NUMBERED else 0.2) * len(names)
    ax = get_axes(ax, side + 0.9, side)
    image = ax.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    if len(names) <= _MOST_NUMBERED:
        for row, column in np.argwhere(share >= 0.005):
            value = share[row, column]
            ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8,
                    color="white" if value > 0.6 else "#222222")  # fmt: skip
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    ax.set_yticks(range(len(names)), [f"{n} ({chips[n]:,})" for n in names], fontsize=8)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("predicted")
    ax.set_ylabel("truth (test chips)")
    ax.figure.colorbar(image, ax=ax, label="% of the true class's chips", shrink=0.7)
    return ax


@validated
def plot_calibration(
    result: ProbeResult, *, bins: PositiveInt = 15, ax: Axes | None = None
) -> Axes:
    """Plot how often a classifier is right at each confidence; on the diagonal it is calibrated.

    Args:
        result: of a classifier.
        bins: of the confidence; a dot's area grows with its chips.
        ax: where to draw; a new figure when None.

    Raises:
        ValueError: the result has no probabilities.
    """
    table = result.calibration(bins=bins)
    chips = table["chips"].to_numpy()
    ax = style_axes(get_axes(ax, 3.9, 3.9))
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


@validated
def plot_label_efficiency(tables: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """Plot how good each method is with few labels: the mean over seeds, and each seed as a dot.

    The band goes from the lowest to the highest end of the seeds' 95 % intervals. A method whose
    name begins with "random" or "untrained" is gray. Every number of labels has a tick, and a name
    where there is room for it.

    Args:
        tables: method -> result of `geossl.evaluate.label_efficiency`.
        ax: where to draw; a new figure when None.
    """
    if not tables:
        raise ValueError("`tables` needs at least one method, got none.")
    ax = style_axes(get_axes(ax, 6.4, 3.6))
    for i, (name, table) in enumerate(tables.items()):
        untrained = name.startswith(("random", "untrained"))  # the line that learning has to beat
        color = GRAY if untrained else PALETTE[i % len(PALETTE)]
        group = table.groupby("share" if "share" in table else "per_class")
        count, mean = group["locations"].mean(), group["value"].mean()
        ax.fill_between(count, group["low"].min(), group["high"].max(), color=color, alpha=0.15,
                        linewidth=0)  # fmt: skip
        ax.plot(count, mean, color=color, linewidth=2, label=name)
        ax.scatter(table["locations"], table["value"], s=14, color=color, linewidths=0)
    first = next(iter(tables.values()))
    ticks = sorted({round(n) for n in first.groupby(first.columns[0])["locations"].mean()})
    ax.axhline(first["chance"].mean(), color=GRAY, linestyle="--", linewidth=1, label="chance")
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("training locations with a label")
    ax.set_ylabel(f"share right ({first['metric'].iloc[0]})")
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    _thin_tick_labels(ax)
    return ax


def _thin_tick_labels(ax: Axes, gap_px: float = 4) -> None:
    """Leave out labels of the x axis that run into the next one to the right; the last stays."""
    root_figure(ax).draw_without_rendering()  # only then it is known where they are
    names, free = [], float("inf")
    for label in reversed(ax.get_xticklabels()):
        box = label.get_window_extent()
        fits = box.x1 + gap_px <= free
        names.append(label.get_text() if fits else "")
        free = box.x0 if fits else free
    ax.set_xticks(ax.get_xticks(), names[::-1])


@validated
def plot_comparison(rows: Sequence[Row], *, ax: Axes | None = None) -> Axes:
    """Plot encoders compared: the mean over seeds, each seed, 95 % over the test locations.

    Args:
        rows: of `geossl.tasks.compare.compare`, of one metric.
        ax: where to draw; a new figure when None.

    Raises:
        ValueError: no rows, or rows of several metrics.
    """
    metrics = {row.metric for row in rows}
    if len(metrics) != 1:
        raise ValueError(f"`rows` must be of one metric, got {sorted(metrics) or 'no rows'}.")
    table = compare.table(rows)
    ax = get_axes(ax, 6.4, 0.9 + 0.36 * len(table))
    for y, row in enumerate(table.itertuples()):
        color = GRAY if row.method == "random" else PALETTE[0]
        ax.plot([row.low, row.high], [y, y], color=color, linewidth=1.5)
        ax.plot(row.value, y, "|", color=color, markersize=13, markeredgewidth=2.5)
        values = [seed.value for seed in rows if seed.method == row.method]
        ax.plot(values, [y] * len(values), "o", color=color, markersize=4, alpha=0.6)
        ax.annotate(f"{row.value:.3f}", (row.high, y), (6, 0), va="center",
                    textcoords="offset points", fontsize=8)  # fmt: skip
    ax.set_yticks(range(len(table)), table["method"], fontsize=9)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.margins(x=0.12)
    ax.set_xlabel(f"{metrics.pop()} (line: 95 % over test locations; dots: seeds)")
    return style_axes(ax)
