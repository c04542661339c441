"""Two small widgets: linked views of a map and scatters, and a gallery to choose from."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import anywidget
import numpy as np
import traitlets

from geossl.data.earth import coastlines, world_image
from geossl.viz.pages import jpeg_url

_FOLDER = files("geossl.viz.widgets")
_STYLE = (_FOLDER / "linked.css").read_text("utf-8")


class LinkedViews(anywidget.AnyWidget):
    """Show a map and one or two scatters of the same rows; a selection in one shows in all."""

    _esm = (_FOLDER / "linked.js").read_text("utf-8")
    _css = _STYLE
    place = traitlets.Bytes(b"").tag(sync=True)  # float32 lon, lat
    place_rest = traitlets.Bytes(b"").tag(sync=True)  # float32, what they lack to float64
    first = traitlets.Bytes(b"").tag(sync=True)  # float32 x, y of a scatter
    second = traitlets.Bytes(b"").tag(sync=True)  # of another one; empty when there is none
    codes = traitlets.Bytes(b"").tag(sync=True)  # uint8 into the palette
    palette = traitlets.List(traitlets.Unicode()).tag(sync=True)
    titles = traitlets.List(traitlets.Unicode()).tag(sync=True)
    region = traitlets.List(traitlets.Float()).tag(sync=True)  # left, bottom, right, top
    selection = traitlets.Bytes(b"").tag(sync=True, from_json=lambda v, _: bytes(v))  # uint32 rows
    world = traitlets.Unicode().tag(sync=True)
    coast = traitlets.Bytes(b"").tag(sync=True)
    coast_lengths = traitlets.Bytes(b"").tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        picture, coast, lengths = _background()
        super().__init__(world=picture, coast=coast, coast_lengths=lengths, **traits)

    def rows(self) -> np.ndarray:
        """Return the selected rows ``(n,)`` int64, in order."""
        return np.frombuffer(self.selection, "<u4").astype(np.int64)

    def select(self, rows: np.ndarray) -> None:
        """Select rows from Python."""
        self.selection = np.asarray(rows, "<u4").tobytes()


class Gallery(anywidget.AnyWidget):
    """Show chips in a row, each a button; ``chosen`` is the row of the last one pressed."""

    _esm = (_FOLDER / "gallery.js").read_text("utf-8")
    _css = _STYLE
    chips = traitlets.List(traitlets.Dict()).tag(sync=True)  # row, image, words, caption
    note = traitlets.Unicode().tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    times = traitlets.Int(0).tag(sync=True)  # presses so far: the same chip may be chosen again


@cache
def _background() -> tuple[str, bytes, bytes]:
    """Return the pale world in plate carree, and its coasts."""
    world = world_image()[::4, ::4].astype(np.float32)
    picture = jpeg_url((255 - (255 - world) * 0.5).astype(np.uint8), quality=70)
    lines = [line for line in coastlines(min_area_km2=2500) if len(line) > 3]
    points = np.concatenate(lines).astype("<f4")
    return picture, points.tobytes(), np.array([len(x) for x in lines], "<u2").tobytes()
