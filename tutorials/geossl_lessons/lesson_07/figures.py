"""Figures of lesson 07."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from geossl.data.store import ChipStore
from geossl.utils.colors import PALETTE
from geossl.viz.plots.base import draw_chip, get_axes, new_figure, style_axes
from geossl_lessons.drawing import ROLES, plot_dated_rows

_SIDE_PX = 600  # a scene is drawn with at most as many pixels a side
_GAMMA = 0.6  # below 1: brighter
_BOUNDS = ["left", "bottom", "right", "top"]


def plot_cells(
    path: str | os.PathLike[str], cells: pd.DataFrame, *, ax: Axes | None = None
) -> Axes:
    """Draw a scene and its cells, a table with their bounds in the units of the scene's CRS."""
    import rasterio

    with rasterio.open(path) as file:
        names = [str(name).lower() for name in file.descriptions]
        bands = [names.index(color) + 1 for color in ("red", "green", "blue") if color in names]
        if len(bands) < 3:
            bands = [1, 2, 3] if file.count >= 3 else [1, 1, 1]
        scale = min(1.0, _SIDE_PX / max(file.shape))
        shape = (3, *(max(1, round(side * scale)) for side in file.shape))
        pixels = file.read(bands, out_shape=shape).astype(np.float64)
        bounds, crs = file.bounds, file.crs
    unit, words, aspect = _units(str(crs))
    shown = pixels[:, pixels.any(0)] if pixels.any() else pixels.reshape(3, -1)
    low, high = np.nanpercentile(shown, [1, 99])
    picture = np.clip((pixels - low) / max(high - low, 1e-9), 0, 1).transpose(1, 2, 0)
    ax = get_axes(ax, 5.2, 5.2)
    left, bottom, right, top = (value / unit for value in bounds)
    ax.imshow(np.nan_to_num(picture), extent=(left, right, bottom, top))
    x, y = (np.unique(cells[list(ends)] / unit) for ends in (("left", "right"), ("bottom", "top")))
    if len(x):
        ax.vlines(x, y.min(), y.max(), colors=PALETTE[1], linewidth=0.6)
        ax.hlines(y, x.min(), x.max(), colors=PALETTE[1], linewidth=0.6)
    ax.set_aspect(aspect((bounds.bottom + bounds.top) / 2))
    ax.set_xlabel(f"x ({words})")
    ax.set_ylabel(f"y ({words.split(',')[0]})")
    ax.set_title(Path(path).name, fontsize=10)
    return ax


def _units(crs: str) -> tuple[float, str, Callable[[float], float]]:
    """Return by what the axes of a CRS are divided, their words, and y's stretch at a y."""
    from rasterio.crs import CRS

    known = CRS.from_user_input(crs)
    name = crs if len(crs) <= 20 else "of the scene's CRS"
    if known.is_geographic:
        return 1.0, f"degrees, {name}", lambda y: 1 / max(float(np.cos(np.radians(y))), 0.05)
    unit, _ = known.linear_units_factor
    words = "km" if unit.lower().startswith("met") else f"thousand units of {unit}"
    return 1_000.0, f"{words}, {name}", lambda y: 1.0


def plot_rows(rows: Mapping[str, ChipStore | np.ndarray], index: ArrayLike) -> Figure:
    """Draw chips in rows: as a store shows them, or the values ``(N, H, W)`` of an index, -1 to 1.

    Args:
        rows: name of a row -> a store, of which ``index`` is shown, or one map of values for each.
        index: ``(N,)`` rows of the stores.
    """
    index = np.atleast_1d(np.asarray(index))
    figure, axes = new_figure(
        1.25 * len(index) + 1.3, 1.35 * len(rows), nrows=len(rows), ncols=len(index), squeeze=False
    )
    for line, (name, row) in zip(axes, rows.items(), strict=True):
        if isinstance(row, ChipStore):
            for ax, chip in zip(line, _brighten(row.preview(index)), strict=True):
                draw_chip(ax, chip)
        else:
            for ax, values in zip(line, row, strict=True):
                draw_chip(ax, np.zeros((1, 1, 3), np.uint8))
                image = ax.imshow(values, cmap="BrBG", vmin=-1, vmax=1, interpolation="nearest")
            figure.colorbar(image, ax=list(line), shrink=0.9, pad=0.01, ticks=[-1, 0, 1])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    stores = [row for row in rows.values() if isinstance(row, ChipStore)]
    for ax, time in zip(axes[0], stores[0].scenes["time"].iloc[index], strict=True):
        ax.set_title("" if pd.isna(time) else f"{time:%Y-%m-%d}", fontsize=8, pad=3)
    return figure


def _brighten(pictures: np.ndarray) -> np.ndarray:
    """Lift the dark colors of pictures uint8: land is much darker than clouds."""
    return (255 * (pictures / 255) ** _GAMMA).round().astype(np.uint8)


def plot_split(scenes: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the cell of every location in the color of its split.

    On the axes of its CRS, or in degrees where the scenes have several.
    """
    cells = scenes.drop_duplicates("location")
    left, bottom, right, top = (cells[name].to_numpy(float) for name in _BOUNDS)
    unit, words, aspect = _units(cells["crs"].iloc[0])
    if cells["crs"].nunique() > 1:
        unit, words, aspect = _units("EPSG:4326")
        half = 0.4 * np.sqrt(np.ptp(cells["lon"]) * np.ptp(cells["lat"]) / len(cells))
        left, right = cells["lon"].to_numpy() - half, cells["lon"].to_numpy() + half
        bottom, top = cells["lat"].to_numpy() - half, cells["lat"].to_numpy() + half
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    squares = np.stack([np.stack(corner, 1) for corner in corners], 1) / unit  # (N, 4, 2)
    ax = style_axes(get_axes(ax, 5.6, 5.4))
    for split in ("train", "val", "test"):
        rows = (cells["split"] == split).to_numpy()
        label = f"{split}: {rows.sum():,} locations"
        ax.add_collection(
            PolyCollection(squares[rows], fc=ROLES[split], ec="white", lw=0.6, label=label)
        )
    ax.autoscale_view()
    ax.set_aspect(aspect(top.mean()))
    ax.set_xlabel(f"x ({words})")
    ax.set_ylabel(f"y ({words.split(',')[0]})")
    ax.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return ax


def plot_found(
    store: ChipStore,
    rows: Mapping[str, ArrayLike],
    *,
    right: Mapping[str, Sequence[bool]] | None = None,
) -> Figure:
    """Draw lines of chips with their dates.

    Args:
        store: the chips.
        rows: name of a line -> rows of the store, as many in each line.
        right: name of a line -> whether each of its chips is the right one: a frame and a word.
    """
    return plot_dated_rows(store, rows, lambda index: _brighten(store.preview(index)), right=right)
