"""Matplotlib figures. Nothing here shows a figure or changes matplotlib's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from geossl.data.earth import world_image
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, neighbors
from geossl.utils.colors import GRAY, PALETTE
from geossl.viz.plots.base import _axes, _day, _figure, _picture, _quiet
from geossl.viz.projection import to_rgb


def plot_chips(
    store: ChipStore, index: ArrayLike, *, titles: Sequence[str] | None = None, columns: int = 8
) -> Figure:
    """Chips of an index ``(n,)`` in a grid, with their dates or the given titles."""
    index = np.atleast_1d(np.asarray(index))
    chips = store.preview(index)
    names = [_day(t) for t in store.scenes["time"].iloc[index]] if titles is None else titles
    rows = -(-len(index) // columns)
    figure, axes = _figure(1.2 * columns, 1.4 * rows, nrows=rows, ncols=columns, squeeze=False)
    for place, ax in enumerate(axes.ravel()):
        if place < len(index):
            _picture(ax, chips[place], names[place])
        else:
            ax.set_axis_off()
    return figure


def plot_pairs(
    store: ChipStore, pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], *, count: int = 6
) -> Figure:
    """Positive pairs under each policy, one row a policy: query above its key, with their dates.

    Args:
        store: the chips.
        pairs: policy name -> (query ``(n,)``, key ``(n,)``).
        count: pairs shown of each.
    """
    figure, axes = _figure(
        1.35 * count + 1.2, 2.9 * len(pairs), nrows=2 * len(pairs), ncols=count, squeeze=False
    )
    for row, (name, (query, key)) in enumerate(pairs.items()):
        for line, index in enumerate((query, key)):
            index = np.asarray(index)[:count]
            chips = store.preview(index)
            times = store.scenes["time"].iloc[index]
            for ax, chip, time in zip(axes[2 * row + line], chips, times, strict=False):
                _picture(ax, chip, _day(time))
            for ax in axes[2 * row + line][len(index) :]:
                ax.set_axis_off()
            axes[2 * row + line][0].set_ylabel(
                f"{name}\n{('query', 'key')[line]}", fontsize=9, rotation=0, ha="right", va="center"
            )
    return figure


def plot_losses(logs: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """Contrastive loss of several runs over their steps.

    Args:
        logs: name -> the ``logs`` of a `geossl.pretrain` run.
        ax: where to draw; a new figure when None.
    """
    ax = _quiet(_axes(ax, 6.4, 3.4))
    for (name, table), color in zip(logs.items(), PALETTE, strict=False):
        ax.plot(table["step"], table["contrastive_loss"], label=name, color=color, linewidth=2)
    ax.set_xlabel("optimizer steps")
    ax.set_ylabel("InfoNCE loss (nats)")
    ax.legend(frameon=False)
    return ax


def plot_training(logs: pd.DataFrame) -> Figure:
    """How a run goes: losses, accuracies, and the two signs of collapse.

    Args:
        logs: the ``logs`` of a `geossl.pretrain` run; columns that are all missing are left out.
    """
    panels: tuple[tuple[str, dict[str, str]], ...] = (
        ("loss (nats)", {
            "contrastive_loss": "contrastive", "geo_loss": "geo", "label_loss": "label"}),
        ("accuracy", {
            "contrastive_accuracy": "contrastive", "geo_accuracy": "geo",
            "label_accuracy": "label", "knn": "kNN (val)"}),
        ("feature std (1 even, 0 collapse)", {"feature_std": "feature std"}),
        ("effective rank (1 is collapse)", {"effective_rank": "effective rank"}),
    )  # fmt: skip
    figure, axes = _figure(11, 2.6, ncols=len(panels))
    for ax, (unit, columns) in zip(axes, panels, strict=True):
        _quiet(ax)
        for (column, name), color in zip(columns.items(), PALETTE, strict=False):
            known = logs[["step", column]].dropna()
            if len(known):
                dots = "o" if len(known) < 30 else None
                ax.plot(known["step"], known[column], color=color, label=name, marker=dots,
                        markersize=3, linewidth=1.6)  # fmt: skip
        ax.set_xlabel("optimizer steps")
        ax.set_title(unit, fontsize=9)
        if len(columns) > 1 and ax.lines:
            ax.legend(frameon=False, fontsize=8)
    axes[1].set_ylim(0, 1)
    axes[2].set_ylim(0, max(1.05, axes[2].get_ylim()[1]))
    axes[3].set_ylim(0, 1.05 * axes[3].get_ylim()[1])
    return figure


def plot_growth(table: pd.DataFrame) -> Figure:
    """Mean purity and entropy of geo clusters by their number.

    Args:
        table: columns ``k, on`` ("sphere" or "degrees"), ``purity`` and ``entropy_bits``.
    """
    figure, axes = _figure(4.6, 2.1, ncols=2)
    panels = (("purity", "mean purity"), ("entropy_bits", "mean entropy, bits"))
    for ax, (column, words) in zip(axes, panels, strict=True):
        _quiet(ax)
        for (on, part), color in zip(table.groupby("on"), (PALETTE[5], PALETTE[0]), strict=False):
            part = part.sort_values("k")
            ax.plot(part["k"], part[column], "o-", color=color, label=str(on), linewidth=1.6)
        ax.set_xlabel("K")
        ax.set_title(words, fontsize=9)
        ax.set_ylim(0, 1.02 if column == "purity" else None)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def plot_results(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Values of `geossl.evaluate.compare` with their 95 % intervals, one line a method."""
    ax = _quiet(_axes(ax, 6.4, 0.45 * len(table) + 1.1))
    y = np.arange(len(table))[::-1]
    value = table["value"].to_numpy()
    reach = np.abs(np.stack([value - table["low"], table["high"] - value]))
    ax.errorbar(value, y, xerr=reach, fmt="o", color=PALETTE[0], capsize=3, linewidth=1.6)
    for x, height in zip(value, y, strict=True):
        ax.annotate(f"{x:.3f}", (x, height), (0, 7), textcoords="offset points", ha="center",
                    fontsize=8)  # fmt: skip
    chance = float(table["chance"].iloc[0])
    ax.axvline(chance, color=GRAY, linestyle="--", linewidth=1)
    ax.annotate("chance", (chance, y[0] + 0.45), (3, 0), textcoords="offset points", fontsize=8,
                color="#777777")  # fmt: skip
    ax.set_yticks(y, table["method"])
    ax.set_ylim(-0.6, len(table) - 0.3)
    ax.grid(axis="y", alpha=0)
    ax.set_xlabel(str(table["metric"].iloc[0]))
    return ax


def plot_retrievals(
    store: ChipStore,
    embeddings: Embeddings,
    queries: ArrayLike,
    *,
    among: ArrayLike | None = None,
    k: int = 5,
) -> Figure:
    """The chips most like some queries, those of the same place framed in green.

    Args:
        store: the chips, row i = embedding i.
        embeddings: of all chips; only the last date of each location is searched.
        queries: ``(n,)`` rows, e.g. first dates of places.
        among: boolean mask ``(M,)`` of the chips to search; all when None.
        k: results shown.
    """
    queries = np.atleast_1d(np.asarray(queries))
    table = embeddings.scenes
    last = table.assign(place_in_store=np.arange(len(table)))
    last = (last if among is None else last[np.asarray(among)]).sort_values("time", kind="stable")
    gallery = last.groupby("location", sort=False)["place_in_store"].last().to_numpy()
    rows = np.concatenate([queries, np.setdiff1d(gallery, queries)])
    found, similarity = neighbors(
        embeddings.subset(rows), np.arange(len(queries)), k=k + len(queries), exclude_location=False
    )
    location = table["location"].to_numpy()
    figure, axes = _figure(
        1.35 * (k + 1) + 0.4, 1.55 * len(queries), nrows=len(queries), ncols=k + 1, squeeze=False
    )
    for line, query in enumerate(queries):
        keep = found[line] >= len(queries)  # other queries are no part of the gallery
        near, score = rows[found[line][keep]][:k], similarity[line][keep][:k]
        _picture(axes[line][0], store.preview([query])[0], f"query {_day(table['time'][query])}")
        for ax, row, value in zip(axes[line][1:], near, score, strict=False):
            hit = location[row] == location[query]
            title = f"{_day(table['time'][row])}  {value:.2f}"
            _picture(ax, store.preview([row])[0], title, PALETTE[2] if hit else None)
    return figure


def plot_world(embeddings: Embeddings, *, ax: Axes | None = None) -> Axes:
    """The places of embeddings on the Blue Marble, colored by PCA to red, green and blue.

    Args:
        embeddings: vectors; the dates of a location are averaged.
        ax: where to draw; a new figure when None.
    """
    ax = _axes(ax, 10, 4.1)
    places = embeddings.mean_of_locations()
    pale = 255 - (255 - world_image()[::4, ::4].astype(np.float32)) * 0.35
    ax.imshow(pale.astype(np.uint8), extent=(-180, 180, -90, 90))
    at = places.scenes
    ax.scatter(at["lon"], at["lat"], c=to_rgb(places) / 255, s=9, linewidths=0)
    ax.set_xlim(-180, 180)
    ax.set_ylim(-60, 82)
    ax.set_xticks(range(-180, 181, 60), [f"{x}°" for x in range(-180, 181, 60)])
    ax.set_yticks(range(-60, 81, 30), [f"{y}°" for y in range(-60, 81, 30)])
    ax.tick_params(labelsize=8, length=0, colors="#777777")
    ax.spines[:].set_visible(False)
    ax.annotate("Imagery: NASA Blue Marble; dates simulated", (1, 0), (-4, 4), "axes fraction",
                textcoords="offset points", ha="right", fontsize=7, color="#555555")  # fmt: skip
    return ax
