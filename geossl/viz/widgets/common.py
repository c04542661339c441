"""Parts that the widgets share: a status line, work in the background, pictures, bars."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import folium
import ipywidgets as widgets
import numpy as np
import pandas as pd

from geossl.data.store import ChipStore
from geossl.utils.progress import in_notebook
from geossl.viz.pages import SHOWN_PX, date_text, jpeg_url, render
from geossl.viz.widgets.background import Background


class Status:
    """A line under a widget that screen readers announce; it shows errors too."""

    def __init__(self) -> None:
        self.widget = widgets.HTML()
        self.show("")

    def show(self, text: str) -> None:
        """Show what was done."""
        self.widget.value = render("status.html", text=text, error=False)

    def show_error(self, error: BaseException) -> None:
        """Show what went wrong."""
        text = f"{type(error).__name__}: {error}"
        self.widget.value = render("status.html", text=text, error=True)

    def guard(self, action: Callable[..., None]) -> Callable[..., None]:
        """Wrap a callback so that its errors are shown: ipywidgets would swallow them."""

        @functools.wraps(action)
        def guarded(*args: Any) -> None:
            try:
                action(*args)
            except Exception as error:  # any error must reach the person at the screen
                self.show_error(error)

        return guarded


def map_html(drawing: folium.Map, *, alt: str, height_px: int = 420) -> str:
    """Render a map in a frame of its own."""
    page = drawing.get_root().render()
    return render("map_frame.html", page=page, alt=alt, height_px=height_px)


def gallery_html(store: ChipStore | None, rows: np.ndarray, *, most: int = 24) -> str:
    """Render some chips, each with its location and date as a tooltip.

    A store whose pixels cannot be read gives a sentence, so that the rest of a widget still works.
    """
    if len(rows) == 0:
        return render("paragraph.html", text="No chips are selected.")
    if store is None:
        text = f"{len(rows):,} rows. Pass `store` to see their chips."
        return render("paragraph.html", text=text)
    try:
        pictures = store.preview(rows[:most], min_px=SHOWN_PX)
    except (OSError, ValueError) as error:
        return render("paragraph.html", text=f"The chips cannot be read: {error}")
    chips = []
    for picture, (_, row) in zip(pictures, store.scenes.iloc[rows[:most]].iterrows(), strict=True):
        words = [str(row["location"])]
        if pd.notna(row["time"]):
            words.append(date_text(row["time"]))
        if pd.notna(row["label"]):
            words.append(str(row["label"]))
        chips.append({"url": jpeg_url(picture, quality=85), "title": ", ".join(words)})
    return render("gallery.html", chips=chips, hidden=max(0, len(rows) - most))


def bars_html(counts: pd.Series, *, title: str, most: int = 12) -> str:
    """Render counts by name as bars with text, readable by everyone and at any size."""
    largest = max(int(counts.max()), 1) if len(counts) else 1
    bars = [
        (str(name), int(count), round(100 * count / largest))
        for name, count in counts.head(most).items()
    ]
    more, rest = max(0, len(counts) - most), int(counts[most:].sum())
    return render("bars.html", title=title, bars=bars, more=more, rest=rest)


def count_by_year(times: pd.Series) -> pd.Series:
    """Count dates by year, in order of time."""
    years = pd.to_datetime(times, utc=True).dt.year.dropna().astype(int)
    return years.value_counts().sort_index()


class Progress(Background):
    """Work in the background with a bar and a button, both hidden while nothing runs.

    Args:
        on_cancel: called after the button stopped the work.
    """

    def __init__(self, on_cancel: Callable[[], None]) -> None:
        hidden = {"display": "none"}
        self.progress = widgets.FloatProgress(
            0.0, max=1.0, tooltip="how much is done", layout={"width": "160px", **hidden}
        )
        self.button = widgets.Button(
            description="Cancel", icon="times", tooltip="stop, and keep the picture that is shown",
            layout={"width": "90px", **hidden},
        )  # fmt: skip
        super().__init__(self._show_share, on_cancel)
        self.button.on_click(lambda _: self.cancel())

    def _show_share(self, share: float) -> None:
        self.progress.value = max(0.0, share)
        self.progress.layout.display = self.button.layout.display = "none" if share < 0 else ""


class LiveOutput:
    """Output that is replaced on each update: HTML in a notebook, a line on stderr elsewhere."""

    def __init__(self) -> None:
        self._in_notebook = in_notebook()
        self._handle: Any = None
        self._last_text = ""

    def update(self, text: str, page: Callable[[], str]) -> None:
        """Show a page of HTML, or its text where only text can be shown."""
        if not self._in_notebook:
            if text != self._last_text:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
            self._last_text = text
            return
        from IPython.display import display

        bundle = {"text/html": page(), "text/plain": text}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
