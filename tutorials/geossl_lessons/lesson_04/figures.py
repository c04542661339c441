"""Figures of lesson 04."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from geossl.clusters import GeoClusters
from geossl.data import earth
from geossl.data.store import ChipStore
from geossl.utils.colors import GRAY, PALETTE
from geossl.viz.plots.base import NotebookFigure, draw_chip, new_figure
from geossl_lessons.drawing import draw_world, plot_chip_rows

_ORANGE, _BLUE = PALETTE[5], PALETTE[0]


def plot_puzzle(store: ChipStore, rows: ArrayLike, order: ArrayLike) -> Figure:
    """Draw chips with letters above a map of the world with as many numbers.

    ``order (N,)`` is the location, from 0, at each number.
    """
    rows, order = np.atleast_1d(np.asarray(rows)), np.asarray(order)
    figure = NotebookFigure(figsize=(6.9, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, len(rows), height_ratios=[1, 2.6])
    for i, chip in enumerate(store.preview(rows)):
        ax = figure.add_subplot(grid[0, i])
        draw_chip(ax, chip)
        ax.set_title(chr(ord("A") + i), fontsize=12)
    ax = draw_world(figure.add_subplot(grid[1, :]), strength=0.4)
    at = store.scenes.iloc[rows[order]]
    ax.scatter(at["lon"], at["lat"], s=230, color="white", edgecolors=_ORANGE, linewidths=2)
    for number, row in enumerate(at.itertuples(), 1):
        ax.annotate(str(number), (row.lon, row.lat), ha="center", va="center", fontsize=10)
    return figure


def plot_pole(
    table: pd.DataFrame, clusters: Mapping[str, GeoClusters], row: int, *, lowest: float = 45.0
) -> Figure:
    """Draw the locations around the north pole, the cluster of ``row`` highlighted."""
    locations = table.drop_duplicates("location")
    lon, lat = locations["lon"].to_numpy(float), locations["lat"].to_numpy(float)
    figure, axes = new_figure(6.9, 3.9, ncols=len(clusters), squeeze=False)
    for ax, (name, some) in zip(axes[0], clusters.items(), strict=True):
        for line in earth.coastlines():
            x, y = _from_above(line[:, 0], np.where(line[:, 1] < lowest, np.nan, line[:, 1]))
            ax.plot(x, y, color="#999999", linewidth=0.5)
        number = some.assign(lon, lat)
        lit = number == some.assign(table["lon"].iloc[row], table["lat"].iloc[row])[0]
        for part, color, size, marker in ((~lit, GRAY, 7, "o"), (lit, _BLUE, 16, "^")):
            north = part & (lat >= lowest)
            x, y = _from_above(lon[north], lat[north])
            ax.scatter(x, y, s=size, color=color, marker=marker, linewidths=0)
        x, y = _from_above(np.array([180.0, 180.0]), np.array([90.0, lowest]))
        ax.plot(x, y, "--", color=_ORANGE, linewidth=1.6)
        ax.annotate("180°", (x[1], y[1]), (4, -12), textcoords="offset points", color=_ORANGE)
        ax.set_title(f"k-means on {name}", fontsize=10)
        ax.set_aspect("equal")
        ax.set_axis_off()
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
        axes, store.preview(rows), table.itertuples(), shares, true, strict=True
    ):
        rank = 1 + int((share > share[region]).sum())
        draw_chip(left, chip, f"its own region: {share[region]:.0%}\n(guess number {rank})")
        draw_world(right, strength=0.4)
        right.scatter(*clusters.centers.T, s=900 * share, color=_BLUE, alpha=0.75, linewidths=0)
        right.plot(row.lon, row.lat, "x", color=_ORANGE, markersize=10, markeredgewidth=3)
    return figure


def plot_cameras(store: ChipStore, tinted: ChipStore, rows: ArrayLike) -> Figure:
    """Draw chips as they are, and below them as their region's own camera shows them."""
    stores = {"one camera\nfor all": store, "a camera for\neach region": tinted}
    rows = np.atleast_1d(np.asarray(rows))
    return plot_chip_rows({name: some.preview(rows) for name, some in stores.items()}, side_in=1.1)


def _from_above(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project degrees to a plane seen from above the north pole, the 180th meridian upwards."""
    angle = np.radians(lon)
    return (90 - lat) * -np.sin(angle), (90 - lat) * -np.cos(angle)
