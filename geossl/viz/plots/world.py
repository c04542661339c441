"""Plots of the world: embeddings as colors, and geo clusters by their number."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geossl.data.earth import world_image
from geossl.embeddings import Embeddings
from geossl.utils.colors import PALETTE
from geossl.utils.validate import validated
from geossl.viz.frame import Frame
from geossl.viz.plots.base import get_axes, new_figure, style_axes
from geossl.viz.projection import to_rgb


@validated
def plot_world(embeddings: Embeddings, *, ax: Axes | None = None) -> Axes:
    """Plot the locations of embeddings on the part of the Blue Marble they lie on, colored by PCA.

    Args:
        embeddings: vectors; the dates of a location are averaged. The first three principal
            components are red, green and blue.
        ax: where to draw; a new figure when None.
    """
    ax = get_axes(ax, 10, 4.1)
    mean = embeddings.mean_of_locations()
    placed = np.isfinite(mean.scenes[["lon", "lat"]].to_numpy(float)).all(1)
    lon, lat = mean.scenes[["lon", "lat"]].to_numpy(float)[placed].T
    frame = Frame.around(lon, lat)
    if frame.is_world:
        box, step = Frame(-180, min(-60, frame.bottom - 3), 180, max(82, frame.top + 3)), 4
        ax.set_xticks(range(-180, 181, 60))
        ax.set_yticks(range(-60, 81, 30))
    else:
        box, step = frame.padded(0.08), 1
        ax.set_aspect(1 / box.shrink)
        ax.locator_params("x", nbins=5)
    world = world_image()[::step, ::step]
    px = world.shape[1] / 360  # per degree
    left, right = int(np.floor((box.left + 180) * px)), int(np.ceil((box.right + 180) * px))
    top, bottom = int(np.floor((90 - box.top) * px)), int(np.ceil((90 - box.bottom) * px))
    part = world[top:bottom].take(np.arange(left, right), axis=1, mode="wrap")
    pale = 255 - (255 - part.astype(np.float32)) * 0.35
    sides = (left / px - 180, right / px - 180, 90 - bottom / px, 90 - top / px)
    ax.imshow(pale.astype(np.uint8), extent=sides, aspect=ax.get_aspect(), interpolation="bilinear")
    ax.scatter(frame.unwrap(lon), lat, c=to_rgb(mean)[placed] / 255, s=9, linewidths=0)
    ax.set_xlim(box.left, box.right)
    ax.set_ylim(box.bottom, box.top)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x - 360 * (x > 180) + 360 * (x < -180):.8g}°")
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:.8g}°")
    ax.tick_params(labelsize=8, length=0, colors="#777777")
    ax.spines[:].set_visible(False)
    paths = mean.scenes.get("path", pd.Series(dtype=str)).astype(str)
    simulated = len(paths) > 0 and paths.str.startswith("blue_marble/").all()
    words = "Imagery: NASA Blue Marble" + ("; dates simulated" if simulated else "")
    ax.annotate(words, (1, 0), (-4, 4), "axes fraction",
                textcoords="offset points", ha="right", fontsize=7, color="#555555")  # fmt: skip
    return ax


@validated
def plot_purity_by_k(table: pd.DataFrame) -> Figure:
    """Plot what geo clusters are worth by their number K, beside chance.

    Args:
        table: of `geossl.clusters.measure_k`: columns ``k, on`` and at least one of ``purity,
            entropy_bits, balance, mean_km``. Columns that are all missing are left out; dashed
            lines are ``purity_chance`` and ``entropy_bits_chance``: labels permuted between
            locations.

    Raises:
        ValueError: no such column has a value.
    """
    known = {
        name: title for name, title in _BY_K.items() if name in table and table[name].notna().any()
    }
    if not known:
        raise ValueError(f"`table` must have one of the columns {list(_BY_K)}, got {list(table)}.")
    rows = (len(known) + 1) // 2
    figure, axes = new_figure(4.6, 2.0 * rows, nrows=rows, ncols=2, squeeze=False)
    for ax in axes.flat[len(known) :]:
        ax.set_axis_off()
    for ax, (column, title) in zip(axes.flat, known.items(), strict=False):
        style_axes(ax)
        for on, group in table.groupby("on", sort=False):
            group = group.sort_values("k")
            color = _COLORS_BY_K.get(str(on), PALETTE[2])
            ax.plot(
                group["k"], group[column], "o-", color=color, label=str(on), linewidth=1.6, ms=4
            )
            chance = group.get(f"{column}_chance")
            if chance is not None and chance.notna().any():
                ax.plot(
                    group["k"], chance, "--", color=color, label=f"{on}, by chance", linewidth=1.2
                )
        ax.set_xlabel("K", fontsize=8)
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=8)
        ax.set_ylim(0, 1.02 if column in ("purity", "balance") else None)
    axes[0, 0].legend(frameon=False, fontsize=7)
    return figure


_BY_K = {
    "purity": "purity", "entropy_bits": "entropy (bits)", "balance": "balance of sizes",
    "mean_km": "distance to the middle (km)",
}  # fmt: skip
_COLORS_BY_K = {"sphere": PALETTE[0], "degrees": PALETTE[5]}
