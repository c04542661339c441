"""Draw a map as one HTML file that holds Leaflet, a base layer and all its data.

Positions are lon, lat everywhere but here: Leaflet takes latitude first.
"""

from __future__ import annotations

import base64
import io
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import folium
import numpy as np
import pandas as pd
from branca.element import Element, Figure

from geossl.data.earth import coastlines, world_image
from geossl.utils.colors import GRAY
from geossl.viz import pages
from geossl.viz.base_layer import CREDIT, pale
from geossl.viz.frame import MAX_LAT, MERCATOR, PLATE_CARREE, Frame, project_lat
from geossl.viz.pages import pack_array

Tiles = Literal["OpenStreetMap", "Esri imagery", "OpenTopoMap"]
TILES: dict[Tiles, tuple[str, str]] = {  # name -> (address, attribution)
    "OpenStreetMap": (
        "https://tile.openstreetmap.org/{z}/{x}/{y}.png", "© OpenStreetMap contributors",
    ),
    "Esri imagery": (
        "https://server.arcgisonline.com/ArcGIS/rest/services/World_Imagery/MapServer/tile/"
        "{z}/{y}/{x}", "Imagery: Esri, Maxar, Earthstar Geographics",
    ),
    "OpenTopoMap": (
        "https://tile.opentopomap.org/{z}/{x}/{y}.png",
        "© OpenTopoMap (CC-BY-SA), © OpenStreetMap contributors",
    ),
}  # fmt: skip
_DEEPEST: dict[Tiles, int] = {"OpenStreetMap": 19, "Esri imagery": 18, "OpenTopoMap": 17}
_DOT_PX = 2  # how far a lonely point of an overview spreads
_BASE_PX = 1024  # width of the base layer
_MOST_EXACT = 20_000  # positions
_DETAIL_DEG = (0.2, 60.0)  # extents that the base layer shows in all its detail


class _Text(Element):
    """Text of a page as it is: branca would compile the text of its own elements as a template."""

    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def render(self, **kwargs: Any) -> str:
        return self.text


class _Drawing(Element):
    """Everything on a map but Leaflet itself, as one block of data and one script."""

    def __init__(self, data: dict[str, Any]):
        super().__init__()
        self._name = "GeosslDrawing"
        self.data = pages.script_json(data)

    def render(self, **kwargs: Any) -> str:
        """Add the style to the head of the page, and the script with its data to the end."""
        page, folder = self.get_root(), files("geossl.viz.maps")
        assert isinstance(page, Figure) and self._parent is not None
        style = (folder / "map.css").read_text("utf-8")
        code = (folder / "map.js").read_text("utf-8").strip()
        script = f"{code}({self._parent.get_name()}, {self.data});"
        page.header.add_child(_Text(f"<style>{style}</style>"), name=self.get_name())
        page.script.add_child(_Text(script), name=self.get_name())
        return ""


def draw_map(
    layers: dict[str, Any],
    *,
    alt: str,
    frame: Frame,
    tiles: Tiles | None,
    has_coast: bool = True,
) -> folium.Map:
    """Make a map of the layers that ``map.js`` draws.

    Args:
        layers: points, cells, lines, overview, legend, caption, table.
        alt: what the map shows, for those who cannot see it.
        frame: where its data lie; the map opens on them.
        tiles: online base layer; only the built-in one when None, and around a pole.
        has_coast: whether to draw the coasts.
    """
    drawing = folium.Map(
        location=[20, 0], zoom_start=1, tiles=None, zoom_snap=0, min_zoom=0, max_zoom=22,
        control_scale=True, world_copy_jump=False,
    )  # fmt: skip
    javascript, style = _leaflet()
    drawing.default_js = [("leaflet", javascript)]
    drawing.default_css = [("leaflet_css", style)]
    polar = frame.is_polar
    data: dict[str, Any] = {
        "bounds": frame.corners(), "view": frame.view(), "alt": alt, "max_lat": MAX_LAT,
        "gray": GRAY, "decimals": frame.decimals, "attribution": CREDIT,
        "base": _world_layer(polar),
    }  # fmt: skip
    if polar:
        data["shrink"] = frame.shrink
    elif tiles is not None:
        url, attribution = TILES[tiles]
        data["tiles"] = {"url": url, "attribution": attribution, "deepest": _DEEPEST[tiles]}
    if frame.right > 180 or frame.left < -180:
        data["across"] = True
    if _DETAIL_DEG[0] < frame.extent < _DETAIL_DEG[1]:
        near = frame.padded(0.5)
        data["detail"] = {"image": _base_layer(near, polar=polar), "bounds": near.corners()}
    if has_coast:
        data["coast"] = _coast()
    _Drawing({**data, **layers}).add_to(drawing)
    return drawing


def fit_view(lon: np.ndarray, lat: np.ndarray) -> list[list[float]] | None:
    """Return the box to open a Mercator map on for positions ``(N,)``; None is the whole world.

    ``east`` is beyond 180 where the positions lie on both sides of the antimeridian.
    """
    view = Frame.around(lon, lat).view()
    return view and [[float(np.clip(lat, -MAX_LAT, MAX_LAT)), lon] for lat, lon in view]


def pack_positions(lon: np.ndarray, lat: np.ndarray) -> dict[str, str]:
    """Pack positions ``(N,)`` as float32, and the rest to float64 where a meter can be seen."""
    position = np.stack([lon, lat], 1)
    short = position.astype("<f4")
    packed = {"lon_lat": pack_array(short)}
    if len(lon) <= _MOST_EXACT or (len(lon) and np.ptp(position, axis=0).max() < 1):
        packed["rest"] = pack_array((position - short).astype("<f4"))
    return packed


def pack_column(name: str, values: pd.Series, unit: str = "") -> dict[str, Any] | None:
    """Pack a column for popups: words as codes, numbers as they are; None for too many words."""
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if number and not pd.api.types.is_integer_dtype(values):
        floats = values.to_numpy("<f4", na_value=np.nan)
        return {"name": name, "type": "f4", "values": pack_array(floats), "unit": unit}
    if number and not values.isna().any():
        integers = _pack_integers(values.to_numpy())
        if integers is not None:
            return {"name": name, "unit": unit} | integers
    codes, words = pd.factorize(values.astype("string").fillna("no value"))
    packed = _pack_integers(codes) if len(words) <= 65_536 else None
    return None if packed is None else {"name": name, "words": list(words)} | packed


def _pack_integers(values: np.ndarray) -> dict[str, str] | None:
    """Pack integers in the shortest type that holds them; None where 32 bits do not."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for kind in ("u1", "u2", "i4"):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return {"type": kind, "values": pack_array(values.astype(f"<{kind}"))}
    return None


def overview_url(
    lon: np.ndarray,
    lat: np.ndarray,
    rgb: np.ndarray,
    *,
    frame: Frame = MERCATOR,
    size_px: int = 2048,
) -> str:
    """Draw the mean color of points ``(N,)`` in a frame on the map, as a PNG ``data:`` URL.

    A point is a diamond of five pixels across where its surroundings are empty.
    """
    from PIL import Image

    polar = frame.is_polar
    width, height, top, tall = _raster(frame, size_px, polar=polar)
    across = (lon - frame.left) / (frame.right - frame.left) * width
    down = (top - project_lat(lat, polar=polar)) / tall * height
    x = np.clip(across, 0, width - 1).astype(np.int64)
    y = np.clip(down, 0, height - 1).astype(np.int64)
    pixel, size = y * width + x, width * height
    counts = np.bincount(pixel, minlength=size)
    filled = np.flatnonzero(counts)
    sums = [np.bincount(pixel, weights=band, minlength=size)[filled] for band in rgb.T]
    colors = np.zeros((len(filled) + 1, 4), np.uint8)  # the first is clear
    colors[1:, :3] = (np.stack(sums, 1) / counts[filled, None] + 0.5).astype(np.uint8)
    colors[1:, 3] = 255
    codes = np.zeros((height, width), np.int32)
    codes.flat[filled] = np.arange(1, len(filled) + 1)
    for _ in range(_DOT_PX):  # a lonely point is visible from afar, a filled pixel keeps its color
        before = codes.copy()
        for ahead, behind in ((np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:])):
            for to, source in (((ahead,), (behind,)), ((np.s_[:], ahead), (np.s_[:], behind))):
                np.copyto(codes[to], before[source], where=codes[to] == 0)
    file = io.BytesIO()
    Image.fromarray(colors[codes]).save(file, "PNG", compress_level=4)
    return pages.image_url(file.getvalue())


@cache
def _leaflet() -> tuple[str, str]:
    """Return Leaflet's script and style as ``data:`` URLs, the style's pictures within."""
    from xstatic.pkg import leaflet

    folder = Path(leaflet.BASE_DIR)

    def inline(match: re.Match[str]) -> str:
        picture = folder / match.group(1)
        return f"url({pages.image_url(picture.read_bytes())})" if picture.is_file() else "none"

    style = (folder / "leaflet.css").read_text("utf-8")
    style = re.sub(r"url\(['\"]?([^)'\"#]+\.png)['\"]?\)", inline, style)
    script = (folder / "leaflet.js").read_text("utf-8")
    script = re.sub(r"//# sourceMappingURL=.*", "", script)
    return (
        "data:text/javascript;base64," + base64.b64encode(script.encode()).decode(),
        "data:text/css;base64," + base64.b64encode(style.encode()).decode(),
    )


def _raster(frame: Frame, size_px: int, *, polar: bool) -> tuple[int, int, float, float]:
    """Return width and height in pixels, the top of the map and its height in radians."""
    bottom, top = project_lat(np.array([frame.bottom, frame.top]), polar=polar)
    wide, tall = np.radians(frame.right - frame.left), max(top - bottom, 1e-12)
    wide *= frame.shrink if polar else 1
    px = size_px / max(wide, tall)
    return max(1, round(wide * px)), max(1, round(tall * px)), float(top), float(tall)


@cache
def _world_layer(polar: bool) -> str:
    return _base_layer(PLATE_CARREE if polar else MERCATOR, polar=polar)


def _base_layer(frame: Frame, *, polar: bool) -> str:
    """Return the Blue Marble in a frame, paled, as a ``data:`` URL."""
    from PIL import Image

    world = world_image()
    rows, columns = world.shape[:2]
    own_px = max(frame.right - frame.left, frame.top - frame.bottom) / 360 * columns
    width, height, top, tall = _raster(frame, min(_BASE_PX, int(own_px) + 2), polar=polar)
    y = top - tall * (np.arange(2 * height) + 0.5) / (2 * height)
    lat = np.degrees(y if polar else np.arctan(np.sinh(y)))
    lon = frame.left + (frame.right - frame.left) * (np.arange(2 * width) + 0.5) / (2 * width)
    row = np.clip(((90 - lat) / 180 * rows).astype(int), 0, rows - 1)
    column = ((lon + 180) / 360 % 1 * columns).astype(int)
    image = Image.fromarray(world[row[:, None], column])
    small = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    return pages.jpeg_url(pale(small), quality=72)


@cache
def _coast() -> dict[str, str]:
    """Return the world's coasts in hundredths of a degree."""
    lines = [np.round(100 * line).astype(np.int64) for line in coastlines(min_area_km2=400)]
    lines = [line[np.r_[True, np.any(np.diff(line, axis=0) != 0, axis=1)]] for line in lines]
    lines = [line for line in lines if len(line) > 3]
    return {
        "points": pack_array(np.concatenate(lines).astype("<i2")),
        "lengths": pack_array(np.array([len(line) for line in lines], "<u2")),
    }
