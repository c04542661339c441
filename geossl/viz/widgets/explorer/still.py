"""A still picture of an explorer, for a notebook that is read without a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from geossl.utils.colors import GRAY
from geossl.viz.pages import render
from geossl.viz.widgets.explorer.linked import LinkedExplorer

_MOST_POINTS = 10_000


def display_with_picture(explorer: LinkedExplorer, bundle: Any) -> None:
    """Display a picture and the widget; the widget's script hides the picture while it is alive."""
    from IPython.display import display

    html = render("still.html", picture=picture_of(explorer), key=explorer.model_id)
    display(bundle[0] if isinstance(bundle, tuple) else bundle, raw=True)
    display({"text/html": html, "text/plain": "a still picture of the explorer"}, raw=True)


def picture_of(explorer: LinkedExplorer) -> Any:
    """Return a figure of the map and the projection as HTML."""
    from matplotlib.figure import Figure

    from geossl.viz import plots

    count = len(explorer.embeddings)
    rows = np.random.default_rng(0).permutation(count)[:_MOST_POINTS]
    place = np.frombuffer(explorer.place, "<f4").reshape(-1, 2)[rows]
    points = np.frombuffer(explorer.first, "<f4").reshape(-1, 2)[rows]
    colors, entries = _colors(explorer, rows)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    size = 12 if count < 3000 else 3
    for ax, xy, title in zip(axes, (place, points), explorer.titles, strict=False):
        ax.scatter(*xy.T, c=colors, s=size, linewidths=0)
        ax.set_title(title, fontsize=10)
        ax.set_xticks([]), ax.set_yticks([])
    left, bottom, right, top = explorer.region
    axes[0].set(xlim=(left, right), ylim=(bottom, top))
    if entries:
        handles = [
            axes[1].scatter([], [], c=entry["color"], s=16, label=entry["text"].replace("$", r"\$"))
            for entry in entries
        ]
        figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    alt = f"{count:,} images on a map and in a projection, colored by {explorer.color or 'nothing'}"
    return plots.figure_html(figure, alt=alt)


def _colors(explorer: LinkedExplorer, rows: np.ndarray) -> tuple[Any, list[dict[str, Any]]]:
    names = [column["name"] for column in explorer.columns]
    if explorer.color not in names:
        return "#0072b2", []
    at = names.index(explorer.color)
    codes = np.frombuffer(explorer.codes, np.uint8).reshape(len(names), -1)[at][rows]
    column = explorer.columns[at]
    if column["kind"] != "category":
        return np.array(column["palette"])[codes], []
    palette = [entry["color"] for entry in column["entries"]]
    return np.array([*palette, *[GRAY] * (256 - len(palette))])[codes], column["entries"][:20]
