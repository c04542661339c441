"""Plots of chips: a grid, positive pairs, and what a query retrieves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, neighbors
from geossl.utils.colors import PALETTE
from geossl.utils.validate import PositiveInt, validated
from geossl.viz.pages import SHOWN_PX, date_text
from geossl.viz.plots.base import draw_chip, new_figure


@validated
def plot_chips(
    store: ChipStore, index: ArrayLike, *, titles: Sequence[str] | None = None,
    columns: PositiveInt = 8,
) -> Figure:  # fmt: skip
    """Plot chips in a grid.

    Args:
        store: the chips.
        index: ``(n,)`` rows of the store.
        titles: ``(n,)`` texts above the chips; their dates when None.
        columns: of the grid.
    """
    index = np.atleast_1d(np.asarray(index))
    if titles is None:
        titles = [date_text(time) for time in store.scenes["time"].iloc[index]]
    elif len(titles) != len(index):
        raise ValueError(
            f"`titles` must have one text for each of the {len(index)} chips, got {len(titles)}."
        )
    rows = max(1, -(-len(index) // columns))
    figure, axes = new_figure(1.2 * columns, 1.4 * rows, nrows=rows, ncols=columns, squeeze=False)
    for ax, chip, title in zip(
        axes.ravel(), store.preview(index, min_px=SHOWN_PX), titles, strict=False
    ):
        draw_chip(ax, chip, str(title))
    for ax in axes.ravel()[len(index) :]:
        ax.set_axis_off()
    return figure


@validated
def plot_pairs(
    store: ChipStore, pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], *, count: PositiveInt = 6
) -> Figure:
    """Plot positive pairs under each policy: queries above their keys, with dates.

    Args:
        store: the chips.
        pairs: policy name -> (query ``(n,)``, key ``(n,)``), rows of the store.
        count: pairs of each policy.
    """
    if not pairs:
        raise ValueError("`pairs` needs at least one policy, got none.")
    lines = [
        (f"{policy}\n{name}", np.asarray(index)[:count])
        for policy, query_and_key in pairs.items()
        for name, index in zip(("query", "key"), query_and_key, strict=True)
    ]
    figure, axes = new_figure(
        1.35 * count + 1.2, 1.45 * len(lines), nrows=len(lines), ncols=count, squeeze=False
    )
    for row, (name, index) in zip(axes, lines, strict=True):
        times = store.scenes["time"].iloc[index]
        for ax, chip, time in zip(row, store.preview(index, min_px=SHOWN_PX), times, strict=False):
            draw_chip(ax, chip, date_text(time))
        for ax in row[len(index) :]:
            ax.set_axis_off()
        row[0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
    return figure


@validated
def plot_retrievals(
    store: ChipStore,
    embeddings: Embeddings,
    queries: ArrayLike,
    *,
    among: ArrayLike | None = None,
    k: PositiveInt = 5,
) -> Figure:
    """Plot the chips most similar to some queries, those of the same location framed in green.

    Args:
        store: the chips, row i = embedding i.
        embeddings: of all chips; only the last date of each location is searched.
        queries: ``(n,)`` rows, e.g. first dates of locations.
        among: boolean mask ``(M,)`` of the chips to search; all when None.
        k: results of each query.
    """
    queries = np.atleast_1d(np.asarray(queries))
    table = embeddings.scenes
    gallery = table[["location", "time"]].assign(row=np.arange(len(table)))
    if among is not None:
        gallery = gallery[np.asarray(among)]
    last = gallery.sort_values("time", kind="stable").groupby("location", sort=False)["row"].last()
    rows = np.concatenate([queries, np.setdiff1d(last.to_numpy(), queries)])
    nearest, similarity = neighbors(
        embeddings.subset(rows), np.arange(len(queries)), k=k + len(queries), exclude_location=False
    )
    location = table["location"].to_numpy()
    figure, axes = new_figure(
        1.35 * (k + 1) + 0.4, 1.55 * len(queries), nrows=len(queries), ncols=k + 1, squeeze=False
    )
    for i, query in enumerate(queries):
        in_gallery = nearest[i] >= len(queries)  # other queries are no part of the gallery
        results, scores = rows[nearest[i][in_gallery]][:k], similarity[i][in_gallery][:k]
        title = f"query {date_text(table['time'][query])}"
        draw_chip(axes[i][0], store.preview([query], min_px=SHOWN_PX)[0], title)
        for ax, row, score in zip(axes[i][1:], results, scores, strict=False):
            title = f"{date_text(table['time'][row])}  {score:.2f}"
            frame = PALETTE[2] if location[row] == location[query] else None
            draw_chip(ax, store.preview([row], min_px=SHOWN_PX)[0], title, frame)
    return figure
