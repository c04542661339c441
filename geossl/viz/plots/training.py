"""Plots of training: losses of several runs, and all metrics of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geossl.train import objectives
from geossl.train.logs import Log
from geossl.utils.colors import PALETTE
from geossl.utils.validate import validated
from geossl.viz.plots.base import get_axes, new_figure, style_axes

_LINE_STYLES = ("-", "--", ":", "-.")
_RECORD = {field.name for field in fields(Log)}  # the other columns of a log are metrics
_CROSS_ENTROPIES = (
    objectives.Contrastive, objectives.GeoClassification, objectives.LabelClassification,
    objectives.LocationContrastive, objectives.SeCo,
)  # fmt: skip
_IN_NATS = {f"{objective.name}_loss" for objective in _CROSS_ENTROPIES}


def metric_columns(logs: pd.DataFrame, suffix: str = "") -> list[str]:
    """Return the metrics of the objectives that a log has values of, such as "geo_accuracy"."""
    names = logs.columns[logs.notna().any()]
    return [name for name in names if name not in _RECORD and name.endswith(suffix)]


def metric_name(column: str) -> str:
    """Return the name of a metric for people: "geo_accuracy" is "geo accuracy"."""
    return "kNN" if column == "knn" else column.replace("_", " ")


def _units(losses: list[str]) -> tuple[str, list[str]]:
    """Return what follows the name of the axis, and that of each loss: " (nats)" where it is."""
    if losses and _IN_NATS.issuperset(losses):
        return " (nats)", [""] * len(losses)
    return "", [" (nats)" if name in _IN_NATS else "" for name in losses]


@validated
def plot_losses(logs: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """Plot the losses of several runs over their steps, in a line style for each objective.

    Cross-entropies are in nats. Other losses, and those of your own, have no unit.

    Args:
        logs: name -> the ``logs`` of a `geossl.pretrain` run.
        ax: where to draw; a new figure when None.
    """
    ax = style_axes(get_axes(ax, 6.4, 3.4))
    losses = list(
        dict.fromkeys(c for table in logs.values() for c in metric_columns(table, "_loss"))
    )
    unit, units = _units(losses)
    for i, (run, table) in enumerate(logs.items()):
        for j, column in enumerate(losses):
            if column in table and table[column].notna().any():
                known = table[["step", column]].dropna()
                label = run if len(losses) == 1 else f"{run}: {metric_name(column)}{units[j]}"
                ax.plot(known["step"], known[column], label=label, color=PALETTE[i % len(PALETTE)],
                        linestyle=_LINE_STYLES[j % len(_LINE_STYLES)], linewidth=2)  # fmt: skip
    ax.set_xlabel("optimizer steps")
    ax.set_ylabel(f"{metric_name(losses[0]) if len(losses) == 1 else 'loss'}{unit}")
    if ax.lines:
        ax.legend(frameon=False)
    return ax


@validated
def plot_training(logs: pd.DataFrame) -> Figure:
    """Plot how a run goes: losses, accuracies, other metrics, and the two signs of collapse.

    Args:
        logs: the ``logs`` of a `geossl.pretrain` run. Metrics of its objectives are drawn as they
            are: those that end in ``_loss`` or ``_accuracy`` in a panel each, the rest in another.
    """
    losses, accuracies = metric_columns(logs, "_loss"), metric_columns(logs, "_accuracy")
    others = [name for name in metric_columns(logs) if name not in {*losses, *accuracies}]
    unit, units = _units(losses)
    panels = {f"loss{unit}": losses or ["loss"], "accuracy": [*accuracies, "knn"]}
    if others:
        panels[metric_name(others[0]) if len(others) == 1 else "other metrics"] = others
    panels |= {
        "feature std (1 even, 0 collapse)": ["feature_std"],
        "effective rank (1 is collapse)": ["effective_rank"],
    }
    figure, axes = new_figure(2.75 * len(panels), 2.6, ncols=len(panels))
    for ax, (title, columns) in zip(axes, panels.items(), strict=True):
        style_axes(ax)
        for i, column in enumerate(columns):
            known = logs[["step", column]].dropna()
            if len(known):
                name = metric_name(column).removesuffix(" loss").removesuffix(" accuracy")
                name += units[i] if columns is losses else ""
                ax.plot(known["step"], known[column], color=PALETTE[i % len(PALETTE)], label=name,
                        marker="o" if len(known) < 30 else None, markersize=3,
                        linewidth=1.6)  # fmt: skip
        ax.set_xlabel("optimizer steps")
        ax.set_title(title, fontsize=9)
        if len(columns) > 1 and ax.lines:
            ax.legend(frameon=False, fontsize=8)
    axes[1].set_ylim(0, 1)
    axes[-2].set_ylim(0, max(1.05, axes[-2].get_ylim()[1]))
    axes[-1].set_ylim(0, 1.05 * axes[-1].get_ylim()[1])
    return figure
