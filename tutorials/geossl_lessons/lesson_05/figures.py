"""Figures of lesson 05."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from geossl import geo
from geossl.data.store import ChipStore
from geossl.viz.pages import SHOWN_PX
from geossl.viz.plots.base import draw_chip, new_figure, style_axes
from geossl_lessons.drawing import ROLES, draw_world

COLORS = {"untrained": ROLES["untrained"], "trained": ROLES["+Geo+TP"]}
_MARKERS = {"untrained": "^--", "trained": "D-"}
_THIRDS = ("lowest", "middle", "highest")


def plot_worlds(lon: ArrayLike, lat: ArrayLike, colors: Mapping[str, np.ndarray]) -> Figure:
    """Draw a map of the world for each encoder: degrees ``(P,)``, colors ``(P, 3)`` from 0 to 1."""
    figure, axes = new_figure(6.9, 3.5 * len(colors), nrows=len(colors), squeeze=False)
    for (name, rgb), ax in zip(colors.items(), axes[:, 0], strict=True):
        draw_world(ax, strength=0.18)
        ax.scatter(lon, lat, c=rgb, s=9, linewidths=0)
        ax.set_title(name, fontsize=10)
    return figure


def plot_neighbors(
    store: ChipStore,
    query: int,
    near: Mapping[str, np.ndarray],
    similarity: Mapping[str, ArrayLike],
) -> Figure:
    """Draw a chip, and below each other the chips most similar to it by each encoder.

    Takes the row of the chip, and for each encoder rows ``(k,)`` and their similarities ``(k,)``.
    """
    count = len(next(iter(near.values())))
    figure, axes = new_figure(6.9, 1.75 * len(near), nrows=len(near), ncols=count + 1,
                              squeeze=False)  # fmt: skip
    one = store.scenes.iloc[query]
    for line, (name, rows) in zip(axes, near.items(), strict=True):
        draw_chip(
            line[0], store.preview([query], min_px=SHOWN_PX)[0], f"the query: {one['label'][0]}"
        )
        line[0].set_ylabel(name, fontsize=9)
        other = store.scenes.iloc[rows]
        km = geo.great_circle_km(one["lon"], one["lat"], other["lon"], other["lat"])
        titles = [
            f"{label[0]}, {distance:,.0f} km\n{cosine:.2f}"
            for label, distance, cosine in zip(other["label"], km, similarity[name], strict=True)
        ]
        same = other["label"].to_numpy() == one["label"]
        for ax, chip, title, right in zip(
            line[1:], store.preview(rows, min_px=SHOWN_PX), titles, same, strict=True
        ):
            draw_chip(ax, chip, title, ROLES["right" if right else "wrong"])
    return figure


def plot_mistakes(store: ChipStore, wrong: pd.DataFrame, *, columns: int = 4) -> Figure:
    """Draw the chips of some predictions with true class, predicted class and confidence."""
    lines = max(1, -(-len(wrong) // columns))
    figure, axes = new_figure(6.9, 2.25 * lines, nrows=lines, ncols=columns, squeeze=False)
    for ax in axes.ravel()[len(wrong) :]:
        ax.set_axis_off()
    chips = store.preview(wrong["row"].to_numpy(), min_px=SHOWN_PX)
    for ax, chip, one in zip(axes.ravel(), chips, wrong.itertuples(), strict=False):
        draw_chip(ax, chip, f"true: {one.truth}\nsaid: {one.predicted}, {one.confidence:.0%}")
    return figure


def plot_thirds(
    errors: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    medians: Mapping[str, Sequence[float]],
) -> Figure:
    """Draw errors by thirds of some suspects, a panel for each.

    Args:
        errors: suspect -> encoder -> (error, low, high) of the lowest, middle and highest third.
        medians: suspect -> its median in each third.
    """
    figure, axes = new_figure(6.9, 3.1, ncols=len(errors), sharey=True, squeeze=False)
    for ax, (suspect, by_encoder) in zip(axes[0], errors.items(), strict=True):
        style_axes(ax)
        for name, thirds in by_encoder.items():
            value, low, high = 100 * np.transpose(thirds)
            reach = np.abs([value - low, high - value])
            ax.errorbar(
                range(3), value, yerr=reach, fmt=_MARKERS[name], color=COLORS[name], capsize=3,
                label=name,
            )  # fmt: skip
        words = [f"{x:.2g}" if x < 10 else f"{x:,.0f}" for x in medians[suspect]]
        ticks = [f"{third}\n{word}" for third, word in zip(_THIRDS, words, strict=True)]
        ax.set_xticks(range(3), ticks, fontsize=8)
        ax.set_xlim(-0.3, 2.3)
        ax.set_title(suspect, fontsize=9)
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].set_ylabel("wrong (%)")
    axes[0][0].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def plot_broken(
    pictures: Mapping[str, np.ndarray],
    results: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    chance: float,
) -> Figure:
    """Draw a chip as it is and changed, above the accuracy of each encoder on such chips.

    Args:
        pictures: change -> one chip ``(H, W, 3)`` uint8.
        results: change -> encoder -> (share, low, high).
        chance: share of guessing, a dashed line.
    """
    figure, axes = new_figure(
        6.9, 4.6, nrows=2, ncols=len(pictures), squeeze=False, sharey="row",
        gridspec_kw={"height_ratios": [1, 1.4]},
    )  # fmt: skip
    for above, below, (change, chip) in zip(axes[0], axes[1], pictures.items(), strict=True):
        draw_chip(above, chip, change)
        style_axes(below)
        for x, (name, interval) in enumerate(results[change].items()):
            value, low, high = 100 * np.asarray(interval)
            below.bar(x, value, 0.7, color=COLORS[name])
            below.plot([x, x], [low, high], color="#333333", linewidth=1.6)
            below.annotate(f"{value:.0f}", (x, high), (0, 3), textcoords="offset points",
                           ha="center", fontsize=9)  # fmt: skip
        below.axhline(100 * chance, color="#777777", linestyle="--", linewidth=1)
        below.set_xticks(range(len(results[change])), list(results[change]), fontsize=8)
    axes[1][0].set_ylabel("right (%)")
    return figure
