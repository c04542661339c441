"""Figures of lesson 06, and the records of the large study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from geossl.utils.colors import GRAY
from geossl.viz.plots.base import get_axes, new_figure, style_axes
from geossl_lessons.drawing import ROLES

_INK = "#444444"
_COLORS = ROLES | {"loaded": _INK}
_MARKS = {"untrained": "s", "MoCo-v2": "D", "+TP": "o", "+Geo+TP": "^", "supervised": "v",
          "loaded": "*"}  # fmt: skip
_STUDY = Path(__file__).with_name("few_labels.json")  # a copy of the one in benchmarks/
_METHODS = {
    "random": "untrained", "moco": "MoCo-v2", "moco+tp": "+TP", "moco+geo": "+Geo",
    "moco+geo+tp": "+Geo+TP", "geoloc": "Geo alone", "bundled": "loaded",
    "supervised": "supervised",
}  # fmt: skip


def load_study() -> pd.DataFrame:
    """Return the records of ``benchmarks/few_labels.json``: method, metric, seed, value."""
    study = pd.read_json(_STUDY)
    study["method"] = pd.Categorical(study["method"].map(_METHODS), list(_METHODS.values()))
    return study.sort_values(["method", "metric", "seed"], ignore_index=True)


def plot_resamples(means: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw how accuracies spread when the test places are drawn again, and the middle 95 %."""
    percent = 100 * np.asarray(means)
    low, high = np.percentile(percent, [2.5, 97.5])
    ax = style_axes(get_axes(ax, 6.4, 2.8))
    edges = np.linspace(percent.min(), percent.max(), 31)
    inside = (percent >= low) & (percent <= high)
    ax.hist([percent[inside], percent[~inside]], edges, stacked=True, edgecolor="white",
            linewidth=0.6, color=[ROLES["test"], GRAY],
            label=[f"95 % of the draws: {low:.1f} to {high:.1f} %", "the other 5 %"])  # fmt: skip
    ax.set_xlabel("accuracy on the places drawn (%)")
    ax.set_ylabel("draws")
    ax.set_ylim(top=1.3 * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    return ax


def plot_curves(
    curves: Mapping[str, pd.DataFrame],
    draws: Mapping[str, ArrayLike] | None = None,
    *,
    read: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw accuracy by the number of labeled places, with 95 % bands.

    Args:
        curves: method -> columns ``labels, value, low, high``, shares from 0 to 1.
        draws: method -> ``(numbers of labels, draws)``, shown as small dots.
        read: number of labels and accuracy from which a line leads sideways, with the number of
            labels under each curve that it meets.
        ax: where to draw; a new figure when None.
    """
    ax = style_axes(get_axes(ax, 6.6, 3.9))
    shift = np.linspace(-0.02, 0.02, len(curves)) * (draws is not None)  # dots lie side by side
    for (name, curve), factor in zip(curves.items(), 10**shift, strict=True):
        x, color = curve["labels"] * factor, _COLORS[name]
        ax.fill_between(x, 100 * curve["low"], 100 * curve["high"], color=color, alpha=0.16,
                        linewidth=0)  # fmt: skip
        ax.plot(x, 100 * curve["value"], marker=_MARKS[name], color=color, label=name,
                linewidth=1.8, markersize=5)  # fmt: skip
        if draws is not None:
            dots = 100 * np.asarray(draws[name])
            ax.plot(np.repeat(x, dots.shape[1]), dots.ravel(), ".", color=color, markersize=6,
                    alpha=0.5, markeredgewidth=0)  # fmt: skip
    if read is not None:
        _draw_reading(ax, curves, *read)
    ticks = [round(n) for n in next(iter(curves.values()))["labels"]]
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("labeled places (one picture each)")
    ax.set_ylabel("test pictures right (%)")
    _legend_above(ax, len(curves))
    return ax


def _legend_above(ax: Axes, columns: int) -> None:
    ax.legend(frameon=False, fontsize=8, ncols=columns, loc="lower center",
              bbox_to_anchor=(0.5, 1))  # fmt: skip


def _draw_reading(
    ax: Axes, curves: Mapping[str, pd.DataFrame], labels: float, value: float
) -> None:
    """Draw a line at an accuracy, and one down from each curve that it meets."""
    floor, needed = ax.get_ylim()[0], {}
    for name, curve in curves.items():
        x, y = np.log(curve["labels"].to_numpy(float)), curve["value"].to_numpy()
        rising = np.maximum.accumulate(y)
        if rising[0] < value <= rising[-1]:
            needed[name] = float(np.exp(np.interp(value, rising, x)))
    before, height = 0.0, 3
    for name, at in sorted(needed.items(), key=lambda item: item[1]):
        height = height + 11 if at < 1.25 * before else 3  # numbers side by side would overlap
        ax.plot([at, at], [floor, 100 * value], ":", color=_COLORS[name], linewidth=1.6)
        ax.annotate(f"{at:,.0f}", (at, 0), (3, height), ax.get_xaxis_transform(), fontsize=9,
                    textcoords="offset points", color=_INK)  # fmt: skip
        before = at
    ends = [min([labels, *needed.values()]), max([labels, *needed.values()])]
    ax.plot(ends, [100 * value] * 2, ":", color=_INK, linewidth=1.6)
    ax.set_ylim(bottom=floor)


def plot_gains(gains: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw paired differences by the number of labels: ``method, than, labels, gain, low, high``.

    Differences are shares from 0 to 1, drawn in points and in the color of the method.
    """
    ax = style_axes(get_axes(ax, 6.6, 3.2))
    ax.axhline(0, color=_INK, linewidth=1)
    ticks = gains["labels"].unique()
    steps = gains.groupby(["method", "than"], sort=False)
    for (method, than), rows in steps:
        shift = 0.16 * (list(steps.groups).index((method, than)) - (len(steps) - 1) / 2)
        x = np.searchsorted(ticks, rows["labels"]) + shift
        reach = 100 * np.stack([rows["gain"] - rows["low"], rows["high"] - rows["gain"]])
        ax.errorbar(x, 100 * rows["gain"], yerr=reach, fmt=_MARKS[method], color=_COLORS[method],
                    capsize=3, linewidth=1.8, markersize=5,
                    label=f"{method} minus {than}")  # fmt: skip
    ax.set_xticks(range(len(ticks)), [f"{n:,}" for n in ticks])
    ax.grid(axis="x", alpha=0)
    ax.set_xlabel("labeled places")
    ax.set_ylabel("points of accuracy gained")
    _legend_above(ax, len(steps))
    return ax


def plot_tests(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw results of `geossl.evaluate.compare`, a panel for each test, a line for each method."""
    count = len(next(iter(tables.values())))
    figure, axes = new_figure(6.9, 0.42 * count + 1.2, ncols=len(tables), sharey=True,
                              squeeze=False)  # fmt: skip
    for ax, (title, rows) in zip(axes[0], tables.items(), strict=True):
        style_axes(ax)
        for y, row in enumerate(rows.itertuples()):
            reach = [[100 * (row.value - row.low)], [100 * (row.high - row.value)]]
            ax.errorbar(100 * row.value, y, xerr=reach, fmt=_MARKS[row.method], capsize=3,
                        color=_COLORS[row.method], linewidth=1.8, markersize=5)  # fmt: skip
            ax.annotate(f"{100 * row.value:.1f}", (100 * row.value, y), (0, 6), fontsize=8,
                        textcoords="offset points", ha="center")  # fmt: skip
        chance = 100 * rows["chance"].mean()
        ax.axvline(chance, color=GRAY, linestyle=":", linewidth=1.5)
        ax.annotate("chance", (chance, -0.55), (3, 0), textcoords="offset points", fontsize=8,
                    color="#777777", va="center")  # fmt: skip
        ax.set_yticks(range(count), rows["method"])
        ax.set_ylim(count - 0.5, -0.8)
        ax.grid(axis="y", alpha=0)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("right (%)")
        ax.margins(x=0.1)
    return figure


def plot_study(study: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the study's few-label curves: lines for the means of methods, dots for seeds."""
    ax = style_axes(get_axes(ax, 6.6, 3.6))
    counts = ("25", "50", "100", "400", "all")
    for name, rows in study.groupby("method", observed=True, sort=False):
        if name not in _COLORS:
            continue
        x = (
            rows["metric"]
            .str.removeprefix("linear_main_")
            .map({count: i for i, count in enumerate(counts)})
        )
        mean = (100 * rows["value"]).groupby(x).mean()
        style = {"marker": _MARKS[name], "color": _COLORS[name], "markersize": 5}
        ax.plot(mean.index, mean, color=_COLORS[name], linewidth=1.4)
        ax.plot(x, 100 * rows["value"], linestyle="none", alpha=0.6, markeredgewidth=0, **style)
        ax.plot([], [], label=name, **style)
    ax.set_xticks(range(len(counts)), counts)
    ax.set_xlabel("labeled places (one picture each)")
    ax.set_ylabel("test pictures right (%)")
    _legend_above(ax, 6)
    return ax
