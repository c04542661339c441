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
from geossl.viz.plots.base import get_axes, new_figure, style_axes
from geossl.viz.projection import to_rgb


@validated
def plot_world(embeddings: Embeddings, *, ax: Axes | None = None) -> Axes:
    """Plot the locations of embeddings on the Blue Marble, colored by PCA.

    Args:
        embeddings: vectors; the dates of a location are averaged. The first three principal
            components are red, green and blue.
        ax: where to draw; a new figure when None.
    """
    ax = get_axes(ax, 10, 4.1)
    mean = embeddings.mean_of_locations()
    pale = 255 - (255 - world_image()[::4, ::4].astype(np.float32)) * 0.35
    ax.imshow(pale.astype(np.uint8), extent=(-180, 180, -90, 90))
    ax.scatter(mean.scenes["lon"], mean.scenes["lat"], c=to_rgb(mean) / 255, s=9, linewidths=0)
    ax.set_xlim(-180, 180)
    ax.set_ylim(-60, 82)
    ax.set_xticks(range(-180, 181, 60), [f"{x}°" for x in range(-180, 181, 60)])
    ax.set_yticks(range(-60, 81, 30), [f"{y}°" for y in range(-60, 81, 30)])
    ax.tick_params(labelsize=8, length=0, colors="#777777")
    ax.spines[:].set_visible(False)
    ax.annotate("Imagery: NASA Blue Marble; dates simulated", (1, 0), (-4, 4), "axes fraction",
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
