"""Figures of lesson 01."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike

from geossl import geo
from geossl.data import scenes
from geossl.data.earth import world_image
from geossl.data.store import ChipStore
from geossl.evaluate import Leakage
from geossl.utils.colors import PALETTE
from geossl.viz.plots.base import draw_chip, get_axes, new_figure, style_axes
from geossl_lessons.drawing import draw_world, plot_chip_rows

_PER_DEG = 15  # pixels of the Blue Marble
_AROUND_DEG = 8  # shown on each side of a chip
_KM_PER_DEG = np.pi * geo.EARTH_RADIUS_KM / 180
_MARKERS = "os^Dv"
_TEST, _TRAIN = PALETTE[5], PALETTE[0]


def plot_cut(store: ChipStore, rows: ArrayLike) -> Figure:
    """Show where chips of `blue_marble` are cut out of the world, above the chips."""
    rows = np.atleast_1d(np.asarray(rows))
    figure, axes = new_figure(2.3 * len(rows), 5.0, nrows=2, ncols=len(rows), squeeze=False)
    for (above, below), row, chip in zip(axes.T, rows, store.preview(rows), strict=True):
        about = store.scenes.iloc[row]
        lon, lat, half = about["lon"], about["lat"], about["footprint_km"] / 2
        above.imshow(_around(lon, lat), extent=(-_AROUND_DEG, _AROUND_DEG) * 2)
        high = half / _KM_PER_DEG
        corners = [(x * high / np.cos(np.radians(min(89, abs(lat + y * high)))), y * high)
                   for x, y in ((-1, 1), (1, 1), (1, -1), (-1, -1))]  # fmt: skip
        above.add_patch(Polygon(corners, fill=False, edgecolor="white", linewidth=3))
        above.add_patch(Polygon(corners, fill=False, edgecolor=_TEST, linewidth=1.5))
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


def plot_splits(table: pd.DataFrame, fold_of: Mapping[str, np.ndarray]) -> Figure:
    """Map the training and test locations of the first fold of each split of `make_folds`."""
    first = scenes.first_rows(scenes.location_codes(table))
    lon, lat = (table[name].to_numpy()[first] for name in ("lon", "lat"))
    figure, axes = new_figure(5.4 * len(fold_of), 2.9, ncols=len(fold_of), squeeze=False)
    for ax, (name, fold) in zip(axes[0], fold_of.items(), strict=True):
        draw_split(ax, lon, lat, np.asarray(fold)[first] == 0)
        ax.set_title(name, fontsize=11)
    axes[0][0].legend(framealpha=0.85, fontsize=9, loc="lower left", markerscale=2)
    return figure


def draw_split(ax: Axes, lon: np.ndarray, lat: np.ndarray, test: np.ndarray) -> None:
    """Draw locations on the pale world: training as blue dots, test as orange squares."""
    draw_world(ax, aspect="auto")
    ax.scatter(lon[~test], lat[~test], s=3, color=_TRAIN, linewidths=0, label="training")
    ax.scatter(lon[test], lat[test], s=7, color=_TEST, marker="s", linewidths=0, label="test")


def plot_nearest(
    store: ChipStore, leaks: Mapping[str, Leakage], locations: Sequence[Hashable]
) -> Figure:
    """Draw test locations, and below each the nearest training location of each split's leakage.

    The first chip of a location is shown; all splits must have the locations in their test.
    """
    table = store.scenes.drop_duplicates("location")
    row_of = pd.Series(table.index, index=table["location"])
    rows = {"test": store.preview(row_of[list(locations)].to_numpy())}
    titles = {}
    for split, leak in leaks.items():
        near, name = leak.locations.set_index("location").loc[list(locations)], f"nearest,\n{split}"
        rows[name] = store.preview(row_of[near["nearest"].to_list()].to_numpy())
        titles[name] = [f"{km:,.0f} km away" for km in near["km"]]
    frames = {"test": _TEST} | dict.fromkeys(titles, _TRAIN)
    return plot_chip_rows(rows, titles=titles, frames=frames, side_in=1.45)


def plot_distances(
    leaks: Mapping[str, Leakage], *, footprint_km: float, ax: Axes | None = None
) -> Axes:
    """Plot the share of test locations within each distance of a training location.

    Takes the leakage of each split; ``footprint_km``, the side of a chip, is drawn as a line.
    """
    ax = style_axes(get_axes(ax, 6.4, 3.4))
    styles = zip(leaks.items(), PALETTE, ("-", "--", "-.", ":"), strict=False)
    for (name, leak), color, dash in styles:
        km = np.sort(leak.locations["km"].to_numpy())
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
    ax.set_ylabel("% of the test locations nearer than that")
    ax.legend(frameon=False, fontsize=9)
    return ax


def plot_accuracy_by_distance(
    scores: pd.DataFrame, *, chance: float, ax: Axes | None = None
) -> Axes:
    """Plot the accuracy of each classifier in `score_splits` by the distance of its training.

    ``chance`` is the accuracy of guessing, drawn as a line.
    """
    ax = style_axes(get_axes(ax, 7.2, 4.2))
    styles = zip(scores.groupby("classifier", sort=False), PALETTE, _MARKERS, strict=False)
    for (name, part), color, marker in styles:
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
    ax.annotate("always the most frequent class", corner, (0, -11), ha="right", **notes)
    ax.set_ylim(0, 112)
    ax.set_yticks(range(0, 101, 20))
    ax.margins(x=0.1)
    ax.set_xlabel("median distance to the nearest training location (km)")
    ax.set_ylabel("pictures classified correctly (%)")
    ax.legend(frameon=False, fontsize=9, loc="upper right")
    return ax
