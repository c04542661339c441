"""A figure with its words, and a clear message where a lesson is run from the middle."""

from __future__ import annotations

import html
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import folium
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_CELL = "text-align: left; padding: 2px 14px 2px 0"
_WIDE_IN = 7.0  # figures wider than that scroll on a phone instead of shrinking


class Missing(NameError):
    """A section was started without what earlier ones make; a notebook shows only the sentence."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def need(*names: str) -> None:
    """Stop with a clear sentence when the caller lacks some names: for the start of a section.

    Raises:
        Missing: some are not there.
    """
    there = sys._getframe(1).f_globals
    absent = [name for name in names if name not in there]
    if absent:
        told = " and ".join(filter(None, [", ".join(absent[:-1]), absent[-1]]))
        raise Missing(
            f"This section needs {told}, made by the cells above. Choose Run > Run All Above "
            "Selected Cell, then run this cell again."
        )


def folder(out: str, name: str, *knobs: object) -> Path:
    """A folder named by the knobs its contents depend on: turning a knob finds another one.

    Args:
        out: the lesson's folder, its knob ``OUT``.
        name: what it holds, such as "chips".
        knobs: the values that shape it.
    """
    return Path(out) / "-".join(str(part) for part in (name, *knobs))


class Shown:
    """A piece of HTML that a notebook shows, with its words for a terminal."""

    def __init__(self, page: str, words: str):
        self._page, self._words = page, words

    def _repr_html_(self) -> str:
        return self._page

    def __repr__(self) -> str:
        return self._words


def figure(drawn: Figure | Axes | folium.Map, *, alt: str, caption: str = "") -> Shown:
    """A figure or a map for a notebook, with words for those who do not see it.

    Args:
        drawn: what a ``plot_x`` or a ``map_x`` returned.
        alt: what it shows.
        caption: what to look at, for everyone; below the figure.
    """
    below = f'<figcaption style="max-width: 44em">{html.escape(caption)}</figcaption>'
    picture, kind = _picture(drawn, alt)
    page = (
        f'<figure class="geossl-{kind}" style="margin: 0">'
        f'<div style="overflow-x: auto">{picture}</div>{below if caption else ""}</figure>'
    )
    return Shown(page, f"figure: {alt}")


def _picture(drawn: Any, alt: str) -> tuple[str, str]:
    """HTML of a figure or a map, and what it is."""
    if hasattr(drawn, "get_root"):
        from geossl.viz.widgets.common import map_html

        return map_html(drawn, alt=alt), "map"
    from matplotlib.axes import Axes

    from geossl.viz import plots

    whole = drawn.get_figure(root=True) if isinstance(drawn, Axes) else drawn
    kind = "wide" if whole is not None and whole.get_figwidth() > _WIDE_IN else "figure"
    return plots.figure_html(drawn, alt=alt), kind


def table(frame: pd.DataFrame, *, caption: str = "") -> Shown:
    """A table without its index, no cell cut short.

    Args:
        frame: the rows.
        caption: what it says; above the table.
    """
    import pandas as pd

    told = frame.copy()
    for name in told.select_dtypes(["datetime", "datetimetz"]):
        told[name] = told[name].dt.strftime("%Y-%m-%d")
    with pd.option_context("display.max_colwidth", None):
        page = told.to_html(index=False, border=0, justify="left", na_rep="–")
    for cell in ("th", "td"):
        page = page.replace(f"<{cell}>", f'<{cell} style="{_CELL}">')
    words = f"<caption style='text-align: left'>{html.escape(caption)}</caption>"
    if caption:
        page = page.replace("<thead>", f"{words}<thead>", 1)
    return Shown(page, f"{caption}\n{told.to_string(index=False)}".strip())
