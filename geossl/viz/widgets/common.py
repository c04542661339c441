"""What explorers share: pictures with alt text, a map in a frame, a line that says what goes on."""

from __future__ import annotations

import functools
import html
import sys
from collections.abc import Callable
from typing import Any

import folium
import ipywidgets as widgets
import numpy as np
import pandas as pd

from geossl.data.store import ChipStore
from geossl.viz.maps import leaflet


class Status:
    """A line under an explorer that screen readers announce; errors stand there too."""

    def __init__(self) -> None:
        self.widget = widgets.HTML()
        self.say("")

    def say(self, text: str) -> None:
        """Tell what was done."""
        self.widget.value = f'<div role="status" aria-live="polite">{html.escape(text)}</div>'

    def complain(self, error: BaseException) -> None:
        """Tell what went wrong."""
        self.widget.value = (
            '<div role="alert" style="color: #b3261e; white-space: pre-wrap">'
            f"{html.escape(f'{type(error).__name__}: {error}')}</div>"
        )

    def shown(self, action: Callable[..., None]) -> Callable[..., None]:
        """A callback whose errors are shown: ipywidgets would swallow them."""

        @functools.wraps(action)
        def guarded(*given: Any) -> None:
            try:
                action(*given)
            except Exception as error:  # whatever it is, the person must see it
                self.complain(error)

        return guarded


def map_html(drawn: folium.Map, *, alt: str, height_px: int = 420) -> str:
    """A map in a frame of its own."""
    page = html.escape(drawn.get_root().render())
    return (
        f'<iframe srcdoc="{page}" title="{html.escape(alt)}" '
        f'style="width: 100%; height: {height_px}px; border: 0"></iframe>'
    )


def gallery_html(store: ChipStore | None, rows: np.ndarray, *, most: int = 24) -> str:
    """Some chips as one picture, each with its place and date as a tooltip.

    A store whose pixels are gone gives a sentence; what is known of the chips is not lost by it.
    """
    if len(rows) == 0:
        return "<p>No chips are chosen.</p>"
    if store is None:
        return f"<p>{len(rows):,} rows; give store= to see their chips.</p>"
    try:
        chips = store.preview(rows[:most])
    except (OSError, ValueError) as error:
        return f"<p>The chips cannot be read: {html.escape(str(error))}</p>"
    more = f"<p>{most} of {len(rows):,} chips.</p>" if len(rows) > most else ""
    pictures = []
    for chip, (_, row) in zip(chips, store.scenes.iloc[rows[:most]].iterrows(), strict=True):
        told = [str(row["location"])]
        if pd.notna(row["time"]):
            told.append(f"{row['time']:%Y-%m-%d}")
        if pd.notna(row["label"]):
            told.append(str(row["label"]))
        words = html.escape(", ".join(told))
        pictures.append(
            f'<img src="{leaflet.jpeg(chip, quality=85)}" alt="chip of {words}" title="{words}" '
            'style="width: 64px; height: 64px; margin: 1px; image-rendering: auto">'
        )
    return f'<div style="display: flex; flex-wrap: wrap">{"".join(pictures)}</div>{more}'


def bars_html(counts: pd.Series, *, title: str, most: int = 12) -> str:
    """Counts by name as bars that are text: readable by everyone, at any size."""
    if len(counts) == 0:
        return f"<b>{html.escape(title)}</b><p>nothing to count</p>"
    lines, largest = [], max(int(counts.max()), 1)
    for name, count in counts.head(most).items():
        lines.append(
            f'<tr><td style="max-width: 12em; overflow: hidden; text-overflow: ellipsis; '
            f'white-space: nowrap">{html.escape(str(name))}</td><td style="width: 110px">'
            f'<div style="height: 9px; background: #0072b2; width: {100 * count / largest:.0f}%">'
            f'</div></td><td style="text-align: right">{int(count):,}</td></tr>'
        )
    rest = len(counts) - most
    if rest > 0:
        lines.append(
            f"<tr><td>{rest:,} more</td><td></td><td>{int(counts[most:].sum()):,}</td></tr>"
        )
    return f"<b>{html.escape(title)}</b><table>{''.join(lines)}</table>"


def by_year(times: pd.Series) -> pd.Series:
    """Counts by year, in order of time."""
    years = pd.to_datetime(times, utc=True).dt.year.dropna().astype(int)
    return years.value_counts().sort_index()


class Screen:
    """One place that is drawn over again: rich output under IPython, else a line on stderr."""

    def __init__(self) -> None:
        self._handle: Any = None
        from IPython.core.getipython import get_ipython

        self._rich = hasattr(get_ipython(), "kernel")  # a notebook, not a terminal
        self._before = ""

    def update(self, words: str, page: Callable[[], str]) -> None:
        """Show a page of HTML, or its words where only text is shown."""
        if not self._rich:
            if words != self._before:
                sys.stderr.write(words + "\n")
                sys.stderr.flush()
            self._before = words
            return
        from IPython.display import display

        bundle = {"text/html": page(), "text/plain": words}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
