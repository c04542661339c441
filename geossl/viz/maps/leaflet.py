"""What every map of ours is made of: one HTML file that holds Leaflet, a base layer and its data.

Positions are lon, lat everywhere but here: Leaflet takes latitude first.
"""

from __future__ import annotations

import base64
import io
import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import folium
import numpy as np
import pandas as pd
from branca.element import MacroElement
from jinja2 import Template

from geossl import geo
from geossl.data.earth import coastlines, world_image
from geossl.utils.colors import GRAY, pack_colors

TOP_LAT = 85.05112878  # of the Web Mercator square
_DOT_PX = 2  # how far a lonely place of a raster spreads
_BASE_PX = 1024  # width and height of the base layer, the whole Mercator square
_ATTRIBUTION = "Base layer: NASA Blue Marble; coasts: GSHHG"
TILES = {
    "OpenStreetMap": (
        "https://tile.openstreetmap.org/{z}/{x}/{y}.png",
        "© OpenStreetMap contributors",
    ),
    "Esri imagery": (
        "https://server.arcgisonline.com/ArcGIS/rest/services/World_Imagery/MapServer/tile/"
        "{z}/{y}/{x}",
        "Imagery: Esri, Maxar, Earthstar Geographics",
    ),
    "OpenTopoMap": (
        "https://tile.opentopomap.org/{z}/{x}/{y}.png",
        "© OpenTopoMap (CC-BY-SA), © OpenStreetMap contributors",
    ),
}

_SCRIPT = Template(
    "{% macro script(this, kwargs) %}"
    "{{ this.code }}({{ this._parent.get_name() }}, {{ this.data }});"
    "{% endmacro %}{% macro header(this, kwargs) %}<style>{{ this.style }}</style>{% endmacro %}"
)


class _Drawing(MacroElement):
    """Everything we draw, as one block of data and one script."""

    _template = _SCRIPT

    def __init__(self, data: dict[str, Any]):
        super().__init__()
        self._name = "GeosslDrawing"
        assets = files("geossl.viz.maps")
        self.code = (assets / "map.js").read_text("utf-8").strip()
        self.style = (assets / "map.css").read_text("utf-8")
        text = json.dumps(data, separators=(",", ":"))
        # safe inside <script>: no way to end it, no line separator of JavaScript
        self.data = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace(
            "\u2029", "\\u2029"
        )  # fmt: skip


def draw(
    parts: dict[str, Any], *, alt: str, box: list[list[float]] | None, tiles: str | None
) -> folium.Map:
    """A map of the parts that ``assets/map.js`` knows.

    Args:
        parts: points, cells, lines, raster, legend, caption, table.
        alt: what the map shows, for those who do not see it.
        box: ``[[south, west], [north, east]]`` to look at; the whole world when None.
        tiles: name of an online base layer, one of `TILES`; only the built-in one when None.

    Raises:
        ValueError: no tiles of that name.
    """
    if tiles is not None and tiles not in TILES:
        raise ValueError(f"expected tiles of {', '.join(TILES)} or None, came {tiles!r}")
    drawn = folium.Map(
        location=[20, 0], zoom_start=1, tiles=None, zoom_snap=0, min_zoom=0, max_zoom=19,
        control_scale=True, world_copy_jump=False,
    )  # fmt: skip
    javascript, style = _leaflet()
    drawn.default_js = [("leaflet", javascript)]
    drawn.default_css = [("leaflet_css", style)]
    online = None if tiles is None else dict(zip(("url", "attribution"), TILES[tiles], strict=True))
    data = {
        "base": _base_layer(), "coast": _coast(), "attribution": _ATTRIBUTION, "bounds": box,
        "tiles": online, "alt": alt, "top": TOP_LAT, "gray": GRAY,
    }  # fmt: skip
    _Drawing({**data, **parts}).add_to(drawn)
    return drawn


def fit_view(lon: np.ndarray, lat: np.ndarray) -> list[list[float]] | None:
    """Box to look at for places ``(N,)``; None is the whole world.

    ``east`` is beyond 180 where the places lie on both sides of the antimeridian.
    """
    if len(lon) == 0:
        return None
    left, bottom, right, top = geo.bounds(lon, lat)
    right = right + 360 if right < left else right
    if right - left > 180:
        return None
    wide = max(right - left, top - bottom)
    margin = 0.05 * wide if wide > 1e-4 else 2.0
    high = margin * np.cos(np.radians(min(84.0, max(abs(bottom), abs(top)))))
    south, north = np.clip([bottom - high, top + high], -TOP_LAT, TOP_LAT).tolist()
    return [[south, left - margin], [north, right + margin]]


def jpeg(picture: np.ndarray, *, quality: int = 78) -> str:
    """``(H, W, 3)`` uint8 as a ``data:`` URL."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def column(name: str, values: pd.Series, unit: str = "") -> dict[str, Any] | None:
    """A column for popups: words as codes, numbers as they are; None for too many words."""
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if number and not pd.api.types.is_integer_dtype(values):
        bare = values.to_numpy("<f4", na_value=np.nan)
        return {"name": name, "type": "f4", "values": pack_colors(bare), "unit": unit}
    if number and not values.isna().any():
        try:
            return {"name": name, "unit": unit} | _whole(values.to_numpy())
        except OverflowError:
            pass  # long identifiers are words
    codes, words = pd.factorize(values.astype("string").fillna("no value"))
    if len(words) > 65_535:
        return None
    return {"name": name, "words": list(words)} | _whole(codes)


def _whole(values: np.ndarray) -> dict[str, str]:
    """Integers in the shortest type that holds them."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for kind in ("u1", "u2", "i4"):
        span = np.iinfo(kind)
        if span.min <= low and high <= span.max:
            return {"type": kind, "values": pack_colors(values.astype(f"<{kind}"))}
    raise OverflowError(f"integers from {low} to {high} do not fit 32 bits")


def raster(lon: np.ndarray, lat: np.ndarray, rgb: np.ndarray, *, size_px: int = 2048) -> str:
    """Mean color of places ``(N,)`` on the Mercator square, as a PNG ``data:`` URL.

    A place is a diamond of five pixels across where its surroundings are empty.
    """
    from PIL import Image

    x = ((lon + 180) / 360 % 1 * size_px).astype(np.int64)
    mercator = np.arcsinh(np.tan(np.radians(np.clip(lat, -TOP_LAT, TOP_LAT))))
    y = np.clip((0.5 - mercator / (2 * np.pi)) * size_px, 0, size_px - 1).astype(np.int64)
    cell, count = y * size_px + x, size_px * size_px
    many = np.bincount(cell, minlength=count)
    held = np.flatnonzero(many)
    mean = [np.bincount(cell, weights=rgb[:, band], minlength=count)[held] for band in range(3)]
    colors = np.vstack([np.zeros((1, 4)), np.full((len(held), 4), 255.0)]).astype(np.uint8)
    colors[1:, :3] = (np.stack(mean, 1) / many[held, None] + 0.5).astype(np.uint8)
    which = np.zeros((size_px, size_px), np.int32)
    which.flat[held] = np.arange(1, len(held) + 1)
    for _ in range(_DOT_PX):  # a lonely place is seen from afar, a full pixel keeps its own
        before = which.copy()
        for ahead, behind in ((np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:])):
            for to, of in (((ahead,), (behind,)), ((np.s_[:], ahead), (np.s_[:], behind))):
                np.copyto(which[to], before[of], where=which[to] == 0)
    picture = colors[which]
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=4)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@cache
def _leaflet() -> tuple[str, str]:
    """Leaflet's script and style as ``data:`` URLs, the style's pictures within."""
    from xstatic.pkg import leaflet

    folder = Path(leaflet.BASE_DIR)
    style = (folder / "leaflet.css").read_text("utf-8")

    def inlined(match: re.Match[str]) -> str:
        picture = folder / match.group(1)
        if not picture.is_file():
            return "none"
        return f"url(data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()})"

    style = re.sub(r"url\(['\"]?([^)'\"#]+\.png)['\"]?\)", inlined, style)
    script = (folder / "leaflet.js").read_text("utf-8")
    script = re.sub(r"//# sourceMappingURL=.*", "", script)
    return (
        "data:text/javascript;base64," + base64.b64encode(script.encode()).decode(),
        "data:text/css;base64," + base64.b64encode(style.encode()).decode(),
    )


@cache
def _base_layer() -> str:
    """The Blue Marble in Web Mercator, paled, as a ``data:`` URL."""
    from PIL import Image

    world = world_image()
    height = world.shape[0]
    y = np.pi * (1 - 2 * (np.arange(2 * _BASE_PX) + 0.5) / (2 * _BASE_PX))
    lat = np.degrees(np.arctan(np.sinh(y)))
    rows = np.clip(((90 - lat) / 180 * height).astype(int), 0, height - 1)
    square = Image.fromarray(world[rows]).resize((_BASE_PX, _BASE_PX), Image.Resampling.BOX)
    pale = 255 - (255 - np.asarray(square, np.float32)) * 0.55
    return jpeg(pale.astype(np.uint8), quality=72)


@cache
def _coast() -> dict[str, str]:
    """The world's coasts as hundredths of a degree."""
    lines = [np.round(100 * line).astype(np.int64) for line in coastlines(min_area_km2=400)]
    lines = [line[np.r_[True, np.any(np.diff(line, axis=0) != 0, axis=1)]] for line in lines]
    lines = [line for line in lines if len(line) > 3]
    return {
        "points": pack_colors(np.concatenate(lines).astype("<i2")),
        "lengths": pack_colors(np.array([len(line) for line in lines], "<u2")),
    }
