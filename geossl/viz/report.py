"""One page that stands alone: words, figures, tables and maps in a single HTML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import folium
import pandas as pd

from geossl.utils.io import atomic_write
from geossl.utils.validate import NonNegativeInt, check_fields, validated
from geossl.viz import pages

__all__ = ["Section", "figure_block", "link_block", "map_block", "table_block", "write_page"]


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        words: plain text before the figures.
        blocks: from `figure_block`, `table_block`, `map_block` or `link_block`; any other string
            is shown as plain text.
    """

    title: str
    words: str
    blocks: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@validated
def figure_block(png: bytes, *, alt: str, caption: str = "") -> str:
    """Render a PNG as an HTML figure; ``alt`` says in words what it shows."""
    url = pages.image_url(png)
    return pages.render("report_figure.html", url=url, alt=alt, caption=caption)


@validated
def map_block(drawing: folium.Map, *, alt: str, caption: str = "") -> str:
    """Render a map of `geossl.viz.maps` in a frame of the page, loaded when scrolled to."""
    page = drawing.get_root().render()
    return pages.render("report_figure.html", page=page, alt=alt, caption=caption)


@validated
def table_block(
    frame: pd.DataFrame, *, caption: str = "", best: NonNegativeInt | None = None,
    long: bool = False,
) -> str:  # fmt: skip
    """Render a table; ``best`` marks a row, ``long`` gives it a scroll bar of its own."""
    if best is not None and best >= len(frame):
        raise ValueError(f"`best` must be a row from 0 to {len(frame) - 1}, got {best}.")
    rows = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in frame.itertuples(index=False)
    ]
    columns = [str(name) for name in frame.columns]
    return pages.render("report_figure.html", columns=columns, rows=rows, best=best, long=long,
                        caption=caption)  # fmt: skip


@validated
def link_block(href: str, text: str, *, caption: str = "") -> str:
    """Render a link to a page that lies beside this one, such as a saved explorer."""
    return pages.render("report_figure.html", href=href, text=text, caption=caption)


@validated
def write_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    foot: str = "",
) -> None:
    """Write a page that needs no network, and no other file but those it links to; atomic."""
    page = pages.render("report.html", title=title, lead=lead, sections=sections, foot=foot)
    with atomic_write(path) as part:
        part.write_text(page, "utf-8")
