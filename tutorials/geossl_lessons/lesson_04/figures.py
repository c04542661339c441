"""Figures of lesson 04."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from geossl import geo
from geossl.clusters import GeoClusters
from geossl.data import earth
from geossl.data.store import ChipStore
from geossl.utils.colors import GRAY
from geossl.viz.pages import SHOWN_PX
from geossl.viz.plots.base import NotebookFigure, draw_chip, new_figure, style_axes
from geossl_lessons.drawing import ROLES, draw_world

_INK = "#333333"
_GRID = 480  # pixels from south to north of a map of regions


def plot_puzzle(store: ChipStore, rows: ArrayLike, order: ArrayLike) -> Figure:
    """Draw chips with letters above a map of the world with as many numbers.

    ``order (N,)`` is the location, from 0, at each number.
    """
    rows, order = np.atleast_1d(np.asarray(rows)), np.asarray(order)
    figure = NotebookFigure(figsize=(6.9, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, len(rows), height_ratios=[1, 2.4])
    for i, chip in enumerate(store.preview(rows, min_px=SHOWN_PX)):
        ax = figure.add_subplot(grid[0, i])
        draw_chip(ax, chip)
        ax.set_title(chr(ord("A") + i), fontsize=12)
    ax = draw_world(figure.add_subplot(grid[1, :]), strength=0.4)
    at = store.scenes.iloc[rows[order]]
    ax.scatter(at["lon"], at["lat"], s=230, color="white", edgecolors=_INK, linewidths=1.8)
    for number, row in enumerate(at.itertuples(), 1):
        ax.annotate(str(number), (row.lon, row.lat), ha="center", va="center_baseline", fontsize=10)
    return figure


def plot_regions(
    places: pd.DataFrame, steps: Mapping[str, np.ndarray], *, at: tuple[float, float]
) -> Figure:
    """Draw the regions of centers ``(K, 3)`` on maps; the region of a position is highlighted."""
    figure, axes = new_figure(6.9, 3.6 * len(steps), nrows=len(steps), squeeze=False)
    lon, lat = np.meshgrid(
        (np.arange(2 * _GRID) + 0.5) / _GRID * 180 - 180,
        (np.arange(_GRID) + 0.5) / _GRID * 180 - 90,
    )
    points, own = geo.unit_vectors(lon, lat), geo.unit_vectors(*at)
    for ax, (name, centers) in zip(axes[:, 0], steps.items(), strict=True):
        draw_world(ax, strength=0.22)
        number = (points @ centers.T).argmax(-1)
        _paint_regions(ax, number, (own @ centers.T).argmax(), ROLES["sphere"],
                       (-180, 180, -90, 90))  # fmt: skip
        ax.scatter(places["lon"], places["lat"], s=2, color=_INK, alpha=0.5, linewidths=0)
        ax.scatter(*geo.lon_lat(centers), marker="x", s=46, color=_INK, linewidths=1.8)
        ax.set_title(name, fontsize=10)
    return figure


def plot_pole(
    places: pd.DataFrame,
    clusters: Mapping[str, GeoClusters],
    *,
    at: tuple[float, float],
    lowest: float = 45.0,
) -> Figure:
    """Draw the regions around the north pole; the region of a position is highlighted."""
    figure, axes = new_figure(6.9, 3.9, ncols=len(clusters), squeeze=False)
    reach = 90 - lowest
    side = (np.arange(_GRID) + 0.5) / _GRID * 2 * reach - reach
    x, y = np.meshgrid(side, side)
    lat, lon = 90 - np.hypot(x, y), np.degrees(np.arctan2(x, -y))  # the inverse of _from_above
    inside = lat >= lowest
    for ax, (name, some) in zip(axes[0], clusters.items(), strict=True):
        number = some.assign(lon.ravel(), lat.ravel()).reshape(lon.shape)
        lit = some.assign(*at)[0]
        _paint_regions(ax, np.where(inside, number, -1), lit, ROLES[some.on],
                       (-reach, reach, -reach, reach))  # fmt: skip
        for line in earth.coastlines():
            north = np.where(line[:, 1] < lowest, np.nan, line[:, 1])
            ax.plot(*_from_above(line[:, 0], north), color="#888888", linewidth=0.5)
        north = places[places["lat"] >= lowest]
        ax.scatter(*_from_above(north["lon"].to_numpy(float), north["lat"].to_numpy(float)), s=5,
                   color=_INK, linewidths=0)  # fmt: skip
        x_line, y_line = _from_above(np.array([180.0, 180.0]), np.array([90.0, lowest]))
        ax.plot(x_line, y_line, "--", color=_INK, linewidth=1.4)
        ax.annotate("180°", (x_line[1], y_line[1]), (5, -11), textcoords="offset points",
                    color=_INK, fontsize=9)  # fmt: skip
        ax.set_title(f"k-means {name}", fontsize=10)
        ax.set_xlim(-1.01 * reach, 1.01 * reach)
        ax.set_ylim(-1.01 * reach, 1.01 * reach)
        ax.set_aspect("equal")
        ax.set_axis_off()
    return figure


def plot_choice_of_k(curves: pd.DataFrame) -> Figure:
    """Draw what K decides: columns ``K, purity, shuffled, km``."""
    figure, (left, right) = new_figure(6.9, 2.9, ncols=2)
    for ax in (style_axes(left), style_axes(right)):
        ax.set_xscale("log")
        ax.set_xticks(curves["K"], [str(k) for k in curves["K"]])
        ax.set_xticks([], minor=True)
        ax.set_xlabel("number of regions K")
    for column, name, color, style in (
        ("purity", "the climates as they are", ROLES["right"], "o-"),
        ("shuffled", "climates shuffled", GRAY, "o--"),
    ):
        left.plot(curves["K"], curves[column], style, color=color, label=name, linewidth=1.8)
    left.set_ylim(0, 1)
    left.set_ylabel("mean purity")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    right.plot(curves["K"], curves["km"], "o-", color=ROLES["right"], linewidth=1.8)
    right.set_ylim(0, None)
    right.set_ylabel("km from a place to its center")
    right.yaxis.set_major_formatter("{x:,.0f}")
    return figure


def plot_predictions(
    store: ChipStore, rows: ArrayLike, shares: ArrayLike, clusters: GeoClusters
) -> Figure:
    """Draw chips, and maps with the ``shares (N, K)`` of their regions as areas of circles."""
    rows, shares = np.atleast_1d(np.asarray(rows)), np.asarray(shares)
    figure, axes = new_figure(6.9, 2.25 * len(rows), nrows=len(rows), ncols=2, squeeze=False,
                           width_ratios=[1, 2.9])  # fmt: skip
    table = store.scenes.iloc[rows]
    true = clusters.assign(table["lon"], table["lat"])
    for (left, right), chip, row, share, region in zip(
        axes, store.preview(rows, min_px=SHOWN_PX), table.itertuples(), shares, true, strict=True
    ):
        rank = 1 + int((share > share[region]).sum())
        draw_chip(left, chip, f"its own region: {share[region]:.0%}\n(guess number {rank})")
        draw_world(right, strength=0.4)
        colors = np.full(len(share), ROLES["wrong"])
        colors[region] = ROLES["right"]
        right.scatter(*clusters.centers.T, s=1_800 * share, c=colors, alpha=0.75, linewidths=0)
        right.plot(row.lon, row.lat, "x", color=_INK, markersize=10, markeredgewidth=3)
    return figure


def plot_losses(logs: Mapping[str, pd.DataFrame], k: int) -> Figure:
    """Draw the two losses of runs over their steps, and the geo loss of a guess among k."""
    figure, axes = new_figure(6.9, 3.0, ncols=2)
    for ax, column in zip(axes, ("contrastive_loss", "geo_loss"), strict=True):
        style_axes(ax)
        for name, log in logs.items():
            style = _role(name) if name in ROLES or name == "exchanged" else {"color": _INK}
            ax.plot(log["step"], log[column], label=name, linewidth=1.8, **style | {"marker": ""})
        ax.set_xlabel("optimizer steps")
        ax.set_title(f"{column.replace('_', ' ')} (nats)", fontsize=10)
    ax.axhline(np.log(k), color=GRAY, linestyle=":", linewidth=1)
    ax.annotate("knowing nothing", (1, np.log(k)), (-2, 3), ax.get_yaxis_transform(),
                textcoords="offset points", ha="right", fontsize=8, color="#777777")  # fmt: skip
    ax.margins(y=0.12)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def plot_answer(curves: Mapping[str, pd.DataFrame], gains: pd.DataFrame) -> Figure:
    """Draw accuracy by number of labels, and by how much +Geo+TP is better than the others.

    Args:
        curves: method -> result of `geossl.evaluate.label_efficiency`.
        gains: columns ``labels, than, gain, low, high``, shares from 0 to 1.
    """
    figure, (left, right) = new_figure(6.9, 3.7, ncols=2, width_ratios=[1.15, 1])
    style_axes(left)
    for name, table in curves.items():
        means = table.groupby(table.columns[0])[["locations", "value"]].mean()
        left.plot(means["locations"], 100 * means["value"], label=name, linewidth=1.8,
                  markersize=5, **_role(name))  # fmt: skip
    chance = 100 * table["chance"].mean()
    left.axhline(chance, color=GRAY, linestyle=":", linewidth=1)
    left.annotate("chance", (1, chance), (-2, 3), left.get_yaxis_transform(),
                  textcoords="offset points", ha="right", fontsize=8, color="#777777")  # fmt: skip
    left.margins(y=0.08)
    left.set_xscale("log")
    ticks = sorted({round(n) for n in means["locations"]})
    left.set_xticks(ticks, [f"{n:,}" for n in ticks])
    left.set_xticks([], minor=True)
    left.set_xlabel("labeled places")
    left.set_ylabel("test pictures right (%)")
    left.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    style_axes(right).axvline(0, color=_INK, linewidth=1)
    y = -np.arange(len(gains)) - pd.factorize(gains["labels"])[0]
    for height, row in zip(y, gains.itertuples(), strict=True):
        style = _role(row.than) | {"linestyle": "none"}
        reach = [[100 * (row.gain - row.low)], [100 * (row.high - row.gain)]]
        right.errorbar(100 * row.gain, height, xerr=reach, capsize=3, linewidth=1.8, **style)
    for first, labels in gains.drop_duplicates("labels")["labels"].items():
        right.annotate(f"{labels:,} labeled places", (1, y[first] + 0.45), ha="right", fontsize=8,
                       xycoords=right.get_yaxis_transform())  # fmt: skip
    right.set_yticks(y, [f"than {name}" for name in gains["than"]])
    right.tick_params(axis="y", labelsize=8, length=0)
    right.grid(axis="y", alpha=0)
    right.locator_params(axis="x", nbins=5)
    right.margins(x=0.08)
    right.set_ylim(y[-1] - 0.5, 1)
    right.set_xlabel("+Geo+TP is better by (points)")
    return figure


def _role(name: str) -> dict[str, str]:
    """Return the look of a method: the control is +Geo+TP's color, hollow and dashed."""
    if name == "exchanged":
        return {"color": ROLES["+Geo+TP"], "marker": "o", "mfc": "white", "linestyle": "--"}
    return {"color": ROLES[name], "marker": "o", "linestyle": "-"}


def _paint_regions(
    ax: Axes, number: np.ndarray, lit: int, color: str, extent: tuple[float, float, float, float]
) -> None:
    """Paint one region of a picture of numbers ``(H, W)``, south first, and the borders of all."""
    picture = np.zeros((*number.shape, 4))
    picture[number == lit] = (*to_rgb(color), 0.4)
    border = np.zeros(number.shape, bool)
    for one, other in ((number, border), (number.T, border.T)):
        differs = one[1:] != one[:-1]
        other[1:] |= differs
        other[:-1] |= differs
    picture[border] = (*to_rgb("#777777"), 0.8)
    ax.imshow(picture, extent=extent, origin="lower", zorder=1)


def _from_above(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project degrees to a plane seen from above the north pole, the 180th meridian upwards."""
    angle = np.radians(lon)
    return (90 - lat) * np.sin(angle), (90 - lat) * -np.cos(angle)
