"""One page that stands alone: words, figures, tables and maps in a single HTML file."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from geossl.utils.io import atomic_write

if TYPE_CHECKING:
    import folium

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2429; --soft: #5b6870; --paper: #fbfbf9;
  --card: #ffffff; --line: #dfe3e5; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecee; --soft: #9fabb2; --paper: #14191c;
  --card: #1c2327; --line: #333d43; --accent: #6cb8e6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .4rem; }
p { max-width: 44rem; margin: .4rem 0 .9rem; }
.lead { font-size: 1.1rem; color: var(--soft); }
figure { margin: .8rem 0; padding: .8rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; overflow-x: auto; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: #fff;
  border-radius: 4px; }
figure iframe { display: block; width: 100%; aspect-ratio: 16 / 10; min-height: 260px; border: 0;
  border-radius: 4px; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .6rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: var(--soft); font-size: .9rem; }
tr.best td { font-weight: 650; color: var(--accent); }
.long { max-height: 22rem; overflow-y: auto; }
footer { color: var(--soft); font-size: .85rem; margin-top: 3rem; border-top: 1px solid var(--line);
  padding-top: .8rem; }
@media (max-width: 480px) { main { padding: 1.2rem .8rem 3rem; } h1 { font-size: 1.5rem; }
  th, td { padding: .3rem .4rem; font-size: .85rem; } }
@media print { figure { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        words: plain text before the figures.
        blocks: finished HTML from `figure_block`, `table_block` or `map_block`.
    """

    title: str
    words: str
    blocks: Sequence[str] = field(default_factory=tuple)


def figure_block(png: bytes, *, alt: str, caption: str = "") -> str:
    """A PNG as an HTML figure; ``alt`` says in words what it shows."""
    source = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{source}" alt="{html.escape(alt)}">'
        f"{_caption(caption)}</figure>"
    )


def map_block(drawn: folium.Map, *, alt: str, caption: str = "") -> str:
    """A map of `geossl.viz.maps` in a frame of the page, loaded when it is scrolled to."""
    page = drawn.get_root().render()
    return (
        f'<figure><iframe loading="lazy" title="{html.escape(alt)}" '
        f'srcdoc="{html.escape(page)}"></iframe>{_caption(caption)}</figure>'
    )


def table_block(
    frame: pd.DataFrame, *, caption: str = "", best: int | None = None, long: bool = False
) -> str:
    """A table; ``best`` marks a row, ``long`` gives it a scroll bar of its own."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in frame.columns)
    rows = []
    for i, row in enumerate(frame.itertuples(index=False)):
        cells = "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row)
        rows.append(f"<tr{' class=best' if i == best else ''}>{cells}</tr>")
    box = "long" if long else "short"
    return (
        f'<figure><div class="{box}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{_caption(caption)}</figure>"
    )


def write_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    foot: str = "",
) -> None:
    """Write a page; atomic. It needs no network and no file beside it."""
    parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="lead">{html.escape(lead)}</p>']
    for section in sections:
        parts += [f"<h2>{html.escape(section.title)}</h2>", f"<p>{html.escape(section.words)}</p>"]
        parts += section.blocks
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><main>{''.join(parts)}"
        f"<footer>{html.escape(foot)}</footer></main></body></html>\n"
    )
    with atomic_write(path) as part:
        part.write_text(page, "utf-8")


def _caption(text: str) -> str:
    return f"<figcaption>{html.escape(text)}</figcaption>" if text else ""


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
