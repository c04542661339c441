"""A map in a widget: what is clicked reaches Python, and a new map keeps zoom and pan."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import anywidget
import folium
import traitlets

_FOLDER = files("geossl.viz.widgets")


class MapView(anywidget.AnyWidget):
    """Show a map of `geossl.viz.maps` in a frame, linked with Python.

    The page of the map can run its own script only: it reaches neither the notebook nor its
    cookies, and the two exchange messages of numbers.

    Attributes:
        page: HTML of the map; "" shows nothing.
        alt: what it shows, for those who cannot see it.
        highlight: number of the highlighted cell, -1 for none; from either side.
        view: latitude, longitude and zoom; empty where the map chooses them.
        height_px: of the frame.
    """

    _esm = (_FOLDER / "map_view.js").read_text("utf-8")
    _css = (_FOLDER / "clusters.css").read_text("utf-8")
    page = traitlets.Unicode("").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    highlight = traitlets.Int(-1).tag(sync=True)
    view = traitlets.List(traitlets.Float()).tag(sync=True)
    height_px = traitlets.Int(430).tag(sync=True)

    def draw(self, drawing: folium.Map | None, *, alt: str = "", highlight: int = -1) -> None:
        """Show another map, at the zoom and pan of the one before; None shows nothing."""
        traits: dict[str, Any] = {"highlight": highlight, "alt": alt}
        traits["page"] = "" if drawing is None else drawing.get_root().render()
        self.layout.display = "" if traits["page"] else "none"
        with self.hold_sync():
            for name, value in traits.items():
                setattr(self, name, value)
