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
from geossl_lessons.lesson_05.experiments import FACTORS, error_by

_MARKS = ((PALETTE[0], "o-"), (PALETTE[5], "s--"))


def plot_worlds(encoders: Mapping[str, Embeddings]) -> Figure:
    """The places on maps of the world, colored by what each encoder sees in them."""
    figure, axes = new_figure(7.0, 3.3 * len(encoders), nrows=len(encoders), squeeze=False)
    for (name, some), ax in zip(encoders.items(), axes[:, 0], strict=True):
        plot_world(some, ax=ax)
        ax.set_title(name, fontsize=10)
    return figure


def plot_alike(
    store: ChipStore, encoders: Mapping[str, Embeddings], row: int, *, k: int = 5
) -> Figure:
    """A chip, and the chips of other places most like it to each encoder.

    Above each: the letter of its climate, how far away it is, and the cosine similarity.
    """
    figure, axes = new_figure(6.9, 1.75 * len(encoders), nrows=len(encoders), ncols=k + 1,
                           squeeze=False)  # fmt: skip
    table = store.scenes
    own = table.iloc[row]
    for line, (name, some) in zip(axes, encoders.items(), strict=True):
        found, similar = neighbors(some, [row], k=k)
        draw_chip(line[0], store.preview([row])[0], f"the query: {own['label'][0]}")
        line[0].set_ylabel(name, fontsize=9)
        chips = store.preview(found[0])
        for ax, chip, other, cosine in zip(line[1:], chips, found[0], similar[0], strict=True):
            about = table.iloc[other]
            km = float(geo.great_circle_km(own["lon"], own["lat"], about["lon"], about["lat"]))
            draw_chip(ax, chip, f"{about['label'][0]}, {km:,.0f} km\n{cosine:.2f}")
    return figure


def plot_mistakes(store: ChipStore, wrong: pd.DataFrame, *, columns: int = 4) -> Figure:
    """Chips with the true class, the predicted one, and how sure the probe was of it.

    Args:
        store: the chips.
        wrong: of `geossl_lessons.lesson_05.experiments.mistakes`.
        columns: chips in a line.
    """
    lines = max(1, -(-len(wrong) // columns))
    figure, axes = new_figure(6.9, 2.25 * lines, nrows=lines, ncols=columns, squeeze=False)
    for ax in axes.ravel()[len(wrong) :]:
        ax.set_axis_off()
    chips = store.preview(wrong["row"].to_numpy())
    for ax, chip, one in zip(axes.ravel(), chips, wrong.itertuples(), strict=False):
        draw_chip(ax, chip, f"true: {one.truth}\nsaid: {one.predicted}, {one.confidence:.0%}")
    return figure


def plot_errors(tables: Mapping[str, pd.DataFrame], *, seed: int = 0) -> Figure:
    """The share of wrong chips in thirds of each suspect, with 95 % intervals over places.

    Args:
        tables: name of an encoder -> its `geossl_lessons.lesson_05.experiments.suspects`.
        seed: of the bootstrap.
    """
    figure, axes = new_figure(6.9, 3.0, ncols=len(FACTORS), sharey=True)
    for ax, (factor, words) in zip(axes, FACTORS.items(), strict=True):
        style_axes(ax)
        for (name, table), (color, style) in zip(tables.items(), _MARKS, strict=False):
            found = error_by(table, factor, seed=seed)
            reach = np.abs([found["error"] - found["low"], found["high"] - found["error"]])
            ax.errorbar([0, 1, 2], found["error"], yerr=reach, fmt=style, color=color,
                        capsize=3, label=name)  # fmt: skip
        ticks = [f"{third}\n{value:.2g}" if value < 10 else f"{third}\n{value:,.0f}"
                 for third, value in zip(found["third"], found["middle"], strict=True)]  # fmt: skip
        ax.set_xticks([0, 1, 2], ticks, fontsize=8)
        ax.set_xlim(-0.3, 2.3)
        ax.set_title(words, fontsize=8)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("share of wrong chips")
    axes[0].legend(frameon=False, fontsize=8)
    return figure
