"""Figures of lesson 05."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from geossl import geo
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, neighbors
from geossl.utils.colors import PALETTE
from geossl.viz.plots import plot_world
from geossl.viz.plots.base import draw_chip, new_figure, style_axes
from geossl_lessons.lesson_05.experiments import SUSPECTS, error_by_thirds

_STYLES = ((PALETTE[0], "o-"), (PALETTE[5], "s--"))


def plot_worlds(encoders: Mapping[str, Embeddings]) -> Figure:
    """Draw a map of the world for each encoder, with locations colored by their embeddings."""
    figure, axes = new_figure(7.0, 3.3 * len(encoders), nrows=len(encoders), squeeze=False)
    for (name, some), ax in zip(encoders.items(), axes[:, 0], strict=True):
        plot_world(some, ax=ax).set_title(name, fontsize=10)
    return figure


def plot_neighbors(
    store: ChipStore, encoders: Mapping[str, Embeddings], row: int, *, k: int = 5
) -> Figure:
    """Draw a chip, and the ``k`` chips of other locations most similar to it for each encoder."""
    figure, axes = new_figure(6.9, 1.75 * len(encoders), nrows=len(encoders), ncols=k + 1,
                              squeeze=False)  # fmt: skip
    query = store.scenes.iloc[row]
    for line, (name, some) in zip(axes, encoders.items(), strict=True):
        matches, similarity = (part[0] for part in neighbors(some, [row], k=k))
        draw_chip(line[0], store.preview([row])[0], f"the query: {query['label'][0]}")
        line[0].set_ylabel(name, fontsize=9)
        near = store.scenes.iloc[matches]
        km = geo.great_circle_km(query["lon"], query["lat"], near["lon"], near["lat"])
        titles = [
            f"{label[0]}, {distance:,.0f} km\n{cosine:.2f}"
            for label, distance, cosine in zip(near["label"], km, similarity, strict=True)
        ]
        for ax, chip, title in zip(line[1:], store.preview(matches), titles, strict=True):
            draw_chip(ax, chip, title)
    return figure


def plot_mistakes(store: ChipStore, wrong: pd.DataFrame, *, columns: int = 4) -> Figure:
    """Draw the chips of `surest_mistakes` with true class, predicted class and confidence."""
    lines = max(1, -(-len(wrong) // columns))
    figure, axes = new_figure(6.9, 2.25 * lines, nrows=lines, ncols=columns, squeeze=False)
    for ax in axes.ravel()[len(wrong) :]:
        ax.set_axis_off()
    chips = store.preview(wrong["row"].to_numpy())
    for ax, chip, one in zip(axes.ravel(), chips, wrong.itertuples(), strict=False):
        draw_chip(ax, chip, f"true: {one.truth}\nsaid: {one.predicted}, {one.confidence:.0%}")
    return figure


def plot_errors(tables: Mapping[str, pd.DataFrame], *, seed: int = 0) -> Figure:
    """Draw the error of each encoder by thirds of each suspect; ``tables`` of `list_suspects`."""
    figure, axes = new_figure(6.9, 3.0, ncols=len(SUSPECTS), sharey=True)
    for ax, (suspect, title) in zip(axes, SUSPECTS.items(), strict=True):
        style_axes(ax)
        for (name, table), (color, style) in zip(tables.items(), _STYLES, strict=False):
            thirds = error_by_thirds(table, suspect, seed=seed)
            error = thirds["error"]
            reach = np.abs([error - thirds["low"], thirds["high"] - error])
            ax.errorbar(range(3), error, yerr=reach, fmt=style, color=color, capsize=3, label=name)
        medians = [f"{x:.2g}" if x < 10 else f"{x:,.0f}" for x in thirds["median"]]
        ax.set_xticks(range(3), thirds["third"] + "\n" + medians, fontsize=8)
        ax.set_xlim(-0.3, 2.3)
        ax.set_title(title, fontsize=8)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("share of wrong chips")
    axes[0].legend(frameon=False, fontsize=8)
    return figure
