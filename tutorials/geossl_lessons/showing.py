"""Figures and tables with alt text, a cell's time, and what a lesson started halfway needs."""

from __future__ import annotations

import html
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import folium
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from geossl.train import Run

_CELL = "text-align: left; padding: 2px 14px 2px 0"
_WIDE_IN = 7.0  # wider figures scroll on a phone instead of shrinking


class Missing(NameError):
    """A section was started without names from earlier cells; a notebook shows the message only."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Html:
    """HTML that a notebook shows, and text for a terminal."""

    page: str
    text: str

    def _repr_html_(self) -> str:
        return self.page

    def __repr__(self) -> str:
        return self.text


def need(*names: str) -> None:
    """Raise `Missing` when the caller lacks some names: for the start of a section."""
    defined = sys._getframe(1).f_globals
    missing = [name for name in names if name not in defined]
    if missing:
        words = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
        raise Missing(
            f"This section needs {words} from the cells above. Choose Run > Run All Above "
            "Selected Cell, then run this cell again."
        )


def folder(output_dir: str, name: str, *knobs: object) -> Path:
    """Name a directory after the knobs that shape its contents: other values get another."""
    return Path(output_dir) / "-".join(str(part) for part in (name, *knobs))


def print_estimate(*work: Run | float) -> None:
    """Print how long a cell takes on this machine, unless its runs are finished already.

    ``work`` is what `geossl.train.throughput.estimate_seconds` takes: runs, or seconds on an
    ordinary laptop.
    """
    from geossl.train.throughput import estimate_seconds
    from geossl.utils.progress import format_duration

    seconds = estimate_seconds(*work)
    if seconds > 0:
        sys.stdout.write(f"About {format_duration(seconds)} on this machine.\n")


def figure(picture: Figure | Axes | folium.Map, *, alt: str, caption: str = "") -> Html:
    """Show the result of a ``plot_x`` or ``map_x`` with alt text and a caption."""
    image, kind = _render(picture, alt)
    below = f'<figcaption style="max-width: 44em">{html.escape(caption)}</figcaption>'
    page = (
        f'<figure class="geossl-{kind}" style="margin: 0">'
        f'<div style="overflow-x: auto">{image}</div>{below if caption else ""}</figure>'
    )
    return Html(page, f"figure: {alt}")


def _render(picture: Any, alt: str) -> tuple[str, str]:
    """Return the HTML of a figure or a map, and its CSS class."""
    if hasattr(picture, "get_root"):
        from geossl.viz.widgets.common import map_html

        return map_html(picture, alt=alt), "map"
    from geossl.viz.plots.base import figure_html, root_figure

    kind = "wide" if root_figure(picture).get_figwidth() > _WIDE_IN else "figure"
    return figure_html(picture, alt=alt), kind


def table(frame: pd.DataFrame, *, caption: str = "") -> Html:
    """Show a table without its index, no cell cut short, with a caption above it."""
    import pandas as pd

    text = frame.copy()
    for name in text.select_dtypes(["datetime", "datetimetz"]):
        text[name] = text[name].dt.strftime("%Y-%m-%d")
    with pd.option_context("display.max_colwidth", None):
        page = text.to_html(index=False, border=0, justify="left", na_rep="–")
    for cell in ("th", "td"):
        page = page.replace(f"<{cell}>", f'<{cell} style="{_CELL}">')
    if caption:
        above = f"<caption style='text-align: left'>{html.escape(caption)}</caption>"
        page = page.replace("<thead>", f"{above}<thead>", 1)
    return Html(page, f"{caption}\n{text.to_string(index=False)}".strip())


def interval_text(value: float, low: float, high: float) -> str:
    """Write a share and its 95 % interval in percent: "20.0% (10.0% to 30.0%)"."""
    return f"{value:.1%} ({low:.1%} to {high:.1%})"
