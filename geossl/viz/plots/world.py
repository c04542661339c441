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
    """Plot mean purity and entropy of geo clusters by their number K.

    Args:
        table: columns ``k, on`` ("sphere" or "degrees"), ``purity`` and ``entropy_bits``.
    """
    figure, axes = new_figure(4.6, 2.1, ncols=2)
    panels = (("purity", "mean purity"), ("entropy_bits", "mean entropy (bits)"))
    for ax, (column, title) in zip(axes, panels, strict=True):
        style_axes(ax)
        for (on, group), color in zip(table.groupby("on"), (PALETTE[5], PALETTE[0]), strict=False):
            group = group.sort_values("k")
            ax.plot(group["k"], group[column], "o-", color=color, label=str(on), linewidth=1.6)
        ax.set_xlabel("K")
        ax.set_title(title, fontsize=9)
        ax.set_ylim(0, 1.02 if column == "purity" else None)
    axes[0].legend(frameon=False, fontsize=8)
    return figure
