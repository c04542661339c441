"""Figures of lesson 09."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geossl.train.throughput import Throughput
from geossl.utils.colors import GRAY, PALETTE
from geossl.utils.progress import format_duration
from geossl.viz.plots.base import get_axes, new_figure, style_axes

_BITS = {"fp32": 23, "fp16": 10, "bf16": 7}  # of the fraction
_TICKS = {"hour": 1, "day": 24, "week": 168, "month": 730, "year": 8766, "10 years": 87_660,
          "100 years": 876_600}  # fmt: skip


def plot_gaps(*, ax: Axes | None = None) -> Axes:
    """Draw the distance from a number to the next one, in three formats."""
    ax = style_axes(get_axes(ax, 6.0, 3.4))
    values = np.geomspace(0.01, 2000, 4000)
    styles = ((PALETTE[0], "-"), (PALETTE[3], "--"), (PALETTE[1], ":"))
    for (name, bits), (color, line) in zip(_BITS.items(), styles, strict=True):
        gap = 2.0 ** (np.floor(np.log2(values)) - bits)
        ax.loglog(values, gap, line, color=color, linewidth=2, label=f"{name}: {bits} bits")
    ax.axvline(256, color="k", linewidth=0.9, linestyle=":")
    ax.annotate("256", (256, ax.get_ylim()[0]), (3, 4), fontsize=9, textcoords="offset points")
    ax.set_xticks([0.01, 0.1, 1, 10, 100, 1000], ["0.01", "0.1", "1", "10", "100", "1,000"])
    exponents = {-8: "\u207b\u2078", -6: "\u207b\u2076", -4: "\u207b\u2074", -2: "\u207b\u00b2"}
    ax.set_yticks(
        [10.0**e for e in exponents] + [1], [f"10{e}" for e in exponents.values()] + ["1"]
    )
    ax.minorticks_off()
    ax.set_xlabel("a number")
    ax.set_ylabel("distance to the next one")
    ax.legend(frameon=False, fontsize=9, title="bits of the fraction", title_fontsize=8)
    return ax


def plot_rates(rates: Mapping[str, Throughput], *, ax: Axes | None = None) -> Axes:
    """Draw pairs per second with their ranges, one on each line."""
    ax = style_axes(get_axes(ax, 6.4, 0.9 + 0.4 * len(rates)))
    for y, rate in enumerate(rates.values()):
        ax.plot([rate.low, rate.high], [y, y], color=PALETTE[0], linewidth=2)
        ax.plot(rate.value, y, "o", color=PALETTE[0])
        ax.annotate(f"{rate.value:,.0f}", (rate.high, y), (7, 0), va="center",
                    textcoords="offset points", fontsize=9)  # fmt: skip
    ax.set_yticks(range(len(rates)), list(rates), fontsize=9)
    ax.set_ylim(len(rates) - 0.5, -0.5)
    ax.set_xlim(0, 1.15 * max(rate.high for rate in rates.values()))
    ax.set_xlabel("pairs per second (line: smallest to largest of the repeats)")
    return ax


def plot_two_runs(logs: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """Draw the losses of two runs that should agree: a wide line, and a dashed one on it."""
    ax = style_axes(get_axes(ax, 6.4, 3.2))
    styles = ((PALETTE[1], "-", 5, 0.5), (PALETTE[0], "--", 1.6, 1))
    for (name, log), (color, line, width, alpha) in zip(logs.items(), styles, strict=True):
        ax.plot(log["step"], log["loss"], line, color=color, linewidth=width, alpha=alpha,
                label=name)  # fmt: skip
    ax.set_xlabel("optimizer steps")
    ax.set_ylabel("loss (nats)")
    ax.legend(frameon=False, fontsize=9)
    return ax


def plot_resumed(complete: pd.DataFrame, before: pd.DataFrame, after: pd.DataFrame) -> Figure:
    """Draw the loss of a run without a stop, and of one that was killed and resumed.

    ``before`` is the log of the second when it was killed, ``after`` the one at its end.
    """
    figure, axes = new_figure(7.0, 4.2, nrows=2, sharex=True, sharey=True)
    killed = before["step"].iloc[-1]
    for ax, title in zip(axes, ("without a stop", "killed and resumed"), strict=True):
        style_axes(ax)
        ax.set_title(title, fontsize=10, loc="left")
        ax.set_ylabel("loss (nats)")
    axes[0].plot(complete["step"], complete["loss"], color=PALETTE[0], linewidth=2)
    axes[1].plot(before["step"], before["loss"], color=PALETTE[1], linewidth=4, alpha=0.5,
                 label="before it was killed")  # fmt: skip
    later = after[after["step"] >= _resumed_from(before, after)]
    axes[1].plot(later["step"], later["loss"], "--", color=PALETTE[0], linewidth=1.6,
                 label="after it was resumed")  # fmt: skip
    axes[1].axvline(killed, color="k", linewidth=0.9, linestyle=":")
    axes[1].annotate("kill", (killed, axes[1].get_ylim()[0]), (4, 5), fontsize=9,
                     textcoords="offset points")  # fmt: skip
    axes[1].legend(frameon=False, fontsize=8)
    axes[1].set_xlabel("optimizer steps")
    return figure


def _resumed_from(before: pd.DataFrame, after: pd.DataFrame) -> int:
    """Find the last step that was not repeated: both logs have its record with the same time."""
    both = before.merge(after, on="step", suffixes=("", "_after"))
    same = both["step"][both["seconds"] == both["seconds_after"]]
    return int(same.max()) if len(same) else 0


def plot_times(rates: Mapping[str, Throughput], *, pairs: float, ax: Axes | None = None) -> Axes:
    """Draw how long a training of so many pairs takes on machines, on a logarithmic scale.

    ``rates`` holds the rate of each machine; those with "measured" in their name are measured.
    """
    ax = style_axes(get_axes(ax, 8.0, 1.1 + 0.42 * len(rates)))
    for y, (name, rate) in enumerate(rates.items()):
        likely, least, most = (pairs / v / 3600 for v in (rate.value, rate.high, rate.low))
        color, mark = (PALETTE[0], "o") if "measured" in name else (GRAY, "s")
        ax.plot([least, most], [y, y], color=color, linewidth=3)
        ax.plot(likely, y, mark, color=color, markersize=7)
        ax.annotate(format_duration(3600 * likely), (likely, y), (0, 8), ha="center",
                    textcoords="offset points", fontsize=9)  # fmt: skip
    ax.plot([], [], "o-", color=PALETTE[0], label="measured here")
    ax.plot([], [], "s-", color=GRAY, label="estimated from the data sheet")
    ax.set_xscale("log")
    ax.margins(x=0.1)
    ax.set_yticks(range(len(rates)), list(rates), fontsize=9)
    ax.set_ylim(len(rates) - 0.4, -0.7)
    ax.set_xticks(list(_TICKS.values()), [f"1 {n}" if n.isalpha() else n for n in _TICKS])
    ax.minorticks_off()
    ax.tick_params(axis="x", labelsize=8)
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=2)
    return ax
