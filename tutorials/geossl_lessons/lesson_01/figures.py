"""Figures of lesson 01."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike

from geossl import geo
from geossl.data.earth import world_image
from geossl.data.store import ChipStore
from geossl.utils.colors import PALETTE
from geossl.viz.pages import SHOWN_PX
from geossl.viz.plots.base import draw_chip, get_axes, new_figure, style_axes
from geossl_lessons.drawing import ROLES, draw_world, plot_chip_rows

COPIERS = {  # the classifiers of the lesson: color, marker
    "coordinates": (PALETTE[2], "o"),
    "pixels": (PALETTE[7], "s"),
    "untrained encoder": (ROLES["untrained"], "^"),
    "trained encoder": (ROLES["+Geo+TP"], "D"),
}
_PER_DEG = 15  # pixels of the Blue Marble
_AROUND_DEG = 8  # shown on each side of a chip
_KM_PER_DEG = np.pi * geo.EARTH_RADIUS_KM / 180
_DASHES = ("-", "--", "-.", ":")


def plot_cut(store: ChipStore, rows: ArrayLike) -> Figure:
    """Show where chips of `blue_marble` are cut out of the world, above the chips."""
    rows = np.atleast_1d(np.asarray(rows))
    figure, axes = new_figure(2.3 * len(rows), 5.0, nrows=2, ncols=len(rows), squeeze=False)
    for (above, below), row, chip in zip(
        axes.T, rows, store.preview(rows, min_px=SHOWN_PX), strict=True
    ):
        about = store.scenes.iloc[row]
        lon, lat, half = about["lon"], about["lat"], about["footprint_km"] / 2
        above.imshow(_around(lon, lat), extent=(-_AROUND_DEG, _AROUND_DEG) * 2)
        high = half / _KM_PER_DEG
        corners = [(x * high / np.cos(np.radians(min(89, abs(lat + y * high)))), y * high)
                   for x, y in ((-1, 1), (1, 1), (1, -1), (-1, -1))]  # fmt: skip
        above.add_patch(Polygon(corners, fill=False, edgecolor="white", linewidth=3))
        above.add_patch(Polygon(corners, fill=False, edgecolor=ROLES["test"], linewidth=1.5))
        above.set_xlim(-_AROUND_DEG, _AROUND_DEG)
        above.set_xticks([])
        above.set_yticks([])
        above.set_title(f"lon {lon:.1f}°, lat {lat:.1f}°", fontsize=10)
        draw_chip(below, chip)
    axes[0][0].set_ylabel(f"{2 * _AROUND_DEG}° x {2 * _AROUND_DEG}°", fontsize=9)
    axes[1][0].set_ylabel(f"{2 * half:.0f} km x {2 * half:.0f} km", fontsize=9)
    return figure


def _around(lon: float, lat: float) -> np.ndarray:
    """Cut out the Blue Marble around a position; gray beyond the poles."""
    image = world_image()
    steps = np.arange(-_AROUND_DEG * _PER_DEG, _AROUND_DEG * _PER_DEG)
    y = np.floor((90 - lat) * _PER_DEG).astype(int) + steps
    x = (np.floor((lon + 180) * _PER_DEG).astype(int) + steps) % image.shape[1]
    inside = (y >= 0) & (y < image.shape[0])
    part = np.full((len(steps), len(steps), 3), 200, np.uint8)
    part[inside] = image[y[inside]][:, x]
    return part


def plot_splits(scenes: pd.DataFrame, splits: Mapping[str, np.ndarray]) -> Figure:
    """Map the training and test locations of fold 0 of each split, ``(M,)`` folds by name."""
    first = ~scenes.duplicated("location").to_numpy()
    lon, lat = (scenes[name].to_numpy()[first] for name in ("lon", "lat"))
    figure, axes = new_figure(6.9, 3.6 * len(splits), nrows=len(splits), squeeze=False)
    for ax, (name, fold) in zip(axes[:, 0], splits.items(), strict=True):
        draw_split(ax, lon, lat, np.asarray(fold)[first] == 0)
        ax.set_title(name, fontsize=11)
    axes[0][0].legend(framealpha=0.85, fontsize=9, loc=(0.01, 0.2), markerscale=2)  # in the Pacific
    return figure


def draw_split(ax: Axes, lon: np.ndarray, lat: np.ndarray, test: np.ndarray) -> None:
    """Draw locations on the pale world: training as dots, test as squares."""
    draw_world(ax, aspect="auto")
    for name, part, size, marker in (("train", ~test, 4, "o"), ("test", test, 9, "s")):
        ax.scatter(
            lon[part], lat[part], s=size, color=ROLES[name], marker=marker, linewidths=0, label=name
        )


def plot_nearest(store: ChipStore, rows: ArrayLike, nearest: Mapping[str, np.ndarray]) -> Figure:
    """Draw some test chips, and below each the nearest training chip of each split.

    Takes the ``rows`` of the test chips, and for each split a training row for every row, ``(M,)``.
    """
    rows, table = np.asarray(rows), store.scenes
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    chips, titles = {"test": store.preview(rows, min_px=SHOWN_PX)}, {}
    for split, row_of in nearest.items():
        other, name = np.asarray(row_of)[rows], f"nearest,\n{split}"
        chips[name] = store.preview(other, min_px=SHOWN_PX)
        km = geo.great_circle_km(lon[rows], lat[rows], lon[other], lat[other])
        titles[name] = [f"{each:,.0f} km away" for each in km]
    frames = {"test": ROLES["test"]} | dict.fromkeys(titles, ROLES["train"])
    return plot_chip_rows(chips, titles=titles, frames=frames, side_in=1.3)


def plot_distances(
    distances: Mapping[str, np.ndarray], *, footprint_km: float, ax: Axes | None = None
) -> Axes:
    """Plot the share of the test within each distance of a training location.

    Takes distances in km, ``(N,)`` for each split; ``footprint_km``, the side of a chip, is drawn
    as a line.
    """
    ax = style_axes(get_axes(ax, 6.4, 3.4))
    for (name, km), color, dash in zip(
        distances.items(), (PALETTE[0], PALETTE[7]), _DASHES, strict=False
    ):
        km = np.sort(np.asarray(km, float))
        share = np.arange(1, len(km) + 1) / len(km)
        ax.step(np.maximum(km, 1), 100 * share, dash, where="post", color=color, label=name, lw=2)
    ax.axvline(footprint_km, color="#777777", linewidth=1, linestyle="--")
    ax.annotate("side of a chip", (footprint_km, 3), (4, 0), textcoords="offset points", fontsize=8)
    ax.set_xscale("log")
    ticks = [3, 10, 30, 100, 300, 1_000, 3_000]
    ax.set_xticks(ticks, [f"{km:,}" for km in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlim(3, 3_000)
    ax.set_ylim(0, 102)
    ax.set_xlabel("distance to the nearest training location (km)")
    ax.set_ylabel("% of the test nearer than that")
    ax.legend(frameon=False, fontsize=9)
    return ax


def plot_scores(scores: pd.DataFrame, *, chance: float, ax: Axes | None = None) -> Axes:
    """Plot the accuracy of each classifier by the distance to its training.

    Takes a row for each split and classifier: split, km (median), classifier, value, low, high.
    ``chance`` is the accuracy of guessing, drawn as a line.
    """
    ax = style_axes(get_axes(ax, 6.9, 4.4))
    for name, part in scores.groupby("classifier", sort=False):
        color, marker = COPIERS[str(name)]
        part = part.sort_values("km", kind="stable")
        reach = np.abs(np.stack([part["value"] - part["low"], part["high"] - part["value"]]))
        ax.errorbar(part["km"], 100 * part["value"], yerr=100 * reach, color=color, marker=marker,
                    capsize=3, linewidth=1.8, label=name)  # fmt: skip
    notes: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": "#444444"}
    for split, part in scores.groupby("split", sort=False):
        top = (part["km"].iloc[0], 100 * part["high"].max())
        ax.annotate(str(split), top, (3, 7), rotation=25, **notes)
    ax.axhline(100 * chance, color="#777777", linestyle="--", linewidth=1)
    corner = (scores["km"].max(), 100 * chance)
    ax.annotate("always the most frequent climate", corner, (0, -11), ha="right", **notes)
    ax.set_ylim(0, 118)
    ax.set_yticks(range(0, 101, 20))
    ax.margins(x=0.1)
    ax.set_xlabel("median distance to the nearest training location (km)")
    ax.set_ylabel("pictures with the right climate (%)")
    ax.legend(frameon=False, fontsize=9, loc="upper right")
    return ax
