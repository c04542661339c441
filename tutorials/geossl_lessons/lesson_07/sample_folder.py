"""A folder of dated GeoTIFFs with five bands, as untidy as a real one.

Blue, green and red are NASA's Blue Marble (real imagery, about 7.4 km per pixel) in a map
projection of Europe. What differs between dates is simulated. Two infrared bands are invented from
the other three, and so are strips without data; two files are broken on purpose.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from geossl.data import earth
from geossl.datasets import simulate
from geossl.utils.io import atomic_write
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import PositiveInt, Seed, validated

BANDS = ("blue", "green", "red", "nir", "swir")
CRS = "EPSG:3035"  # Lambert's equal-area projection of Europe
PIXEL_M = 5_000.0
QUARTERS = ("NW", "NE", "SW", "SE")
NO_HEADER, NO_PIXELS = "NE_2021-08-14.tif", "SW_2021-06-15.tif"  # the broken ones
_CENTER = (4_800_000.0, 3_300_000.0)  # meters in `CRS`, in Bohemia
_WHITE = 6_500.0  # counts of a white cloud; 10,000 is a reflectance of 1
_FIRST, _DAYS = np.datetime64("2018-01-01"), 3 * 365


@validated
def write_folder(
    folder: str | os.PathLike[str], *, side_px: PositiveInt = 480, dates: PositiveInt = 4,
    seed: Seed = 0,
) -> Path:  # fmt: skip
    """Write the files that are missing, and return the folder.

    Four quarters around one point have ``dates`` scenes each, ``<quarter>_<date>.tif``, ``side_px``
    high and wide, uint16, 0 where there is no data.

    Raises:
        ImportError: the packages of the Blue Marble are missing.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for quarter, name in enumerate(QUARTERS):
        left = _CENTER[0] - (name[1] == "W") * side_px * PIXEL_M
        top = _CENTER[1] + (name[0] == "N") * side_px * PIXEL_M
        rng = np.random.default_rng(derive_seed(seed, "scenes", quarter))
        days = np.sort(rng.choice(_DAYS, dates, replace=False))
        paths = [folder / f"{name}_{_FIRST + day}.tif" for day in days]
        if all(path.exists() for path in paths):
            continue
        ground, height = _ground(left, top, side_px)
        lat = 52.0 + 9.0 * (1 if name[0] == "N" else -1)
        for path, day, noise in zip(paths, days, rng.integers(0, 2**62, dates), strict=True):
            time = pd.Timestamp(_FIRST + day)
            pixels = _scene(ground, height, lat=lat, time=time, noise=int(noise))
            _write(path, pixels, left, top)
    if not (folder / NO_PIXELS).exists():
        content = min(folder.glob("SW_*.tif")).read_bytes()
        with atomic_write(folder / NO_PIXELS) as part:  # a header, and not one whole tile
            part.write_bytes(content[: len(content) // 20])
    (folder / NO_HEADER).touch()
    return folder


def _scene(
    ground: np.ndarray, height: np.ndarray, *, lat: float, time: pd.Timestamp, noise: int
) -> np.ndarray:
    """Simulate the bands ``(5, S, S)`` uint16 of a date; 0 where there is no data."""
    side = len(height)
    scene = {"lat": lat, "footprint_km": side * PIXEL_M / 1000, "noise": noise, "sensor": "A"}
    rows = pd.DataFrame([scene | {"time": time, "effects": " ".join(simulate.EFFECTS)}] * 2)
    days = simulate.draw(rows, side)  # the same day twice: visible light, and infrared
    for name in ("year", "line", "light", "smoke"):  # fair days
        setattr(days, name, 0.5 + 0.4 * (getattr(days, name) - 0.5))
    days.cover *= 0.6  # as if chosen among many scenes: few clouds, little haze
    days.haze *= [0.6, 0.15]  # infrared sees through haze
    pixels = simulate.acquire(np.stack([ground] * 2) / 255, np.stack([height] * 2), days)
    (red, green, blue), (r, g, b) = (np.moveaxis(image / 255.0, 2, 0) for image in pixels)
    mean = (r + g + b) / 3
    leaf = np.clip((g - b) * 10, 0, 1) * np.clip(1.5 - 2.5 * mean, 0, 1)
    snow = np.clip(mean * 3 - 1.6, 0, 1) * np.clip((b - r) * 15 + 0.7, 0, 1)
    dry_land = np.clip((r - 0.5 * b) * 8, 0, 1)  # water absorbs infrared
    nir = dry_land * (0.7 * mean + 0.35 * leaf) + 0.02
    swir = dry_land * (0.9 * mean - 0.15 * leaf) * (1 - 0.8 * snow) + 0.01
    bands = np.stack([blue, green, red, nir, swir])
    pixels = np.clip(np.rint(bands * _WHITE), 1, 65535).astype(np.uint16)
    if days.spare[0] < 0.15:  # the edge of the swath, slanted
        row, column = np.indices((side, side))
        pixels[:, column + 0.2 * row < 0.3 * side * days.line[0]] = 0
    return pixels


def _ground(left: float, top: float, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Resample colors ``(S, S, 3)`` uint8 and heights ``(S, S)`` in meters to a scene's grid."""
    from rasterio.crs import CRS as Crs
    from rasterio.enums import Resampling
    from rasterio.transform import from_origin
    from rasterio.warp import reproject

    layers = []
    for image in earth.images():
        rows, columns, bands = image.shape
        out = np.zeros((bands, side_px, side_px), image.dtype)
        reproject(
            np.ascontiguousarray(image[: rows // 2].transpose(2, 0, 1)),
            out,
            src_transform=from_origin(-180, 90, 360 / columns, 180 / rows),
            src_crs=Crs.from_epsg(4326),
            dst_transform=from_origin(left, top, PIXEL_M, PIXEL_M),
            dst_crs=Crs.from_user_input(CRS),
            resampling=Resampling.bilinear,
        )
        layers.append(out)
    return layers[0].transpose(1, 2, 0), layers[1][0]


def _write(path: Path, pixels: np.ndarray, left: float, top: float) -> None:
    import rasterio
    from rasterio.transform import from_origin

    count, height, width = pixels.shape
    with atomic_write(path) as part, rasterio.open(
        part, "w", driver="GTiff", count=count, height=height, width=width, dtype="uint16",
        crs=CRS, transform=from_origin(left, top, PIXEL_M, PIXEL_M), nodata=0,
        compress="deflate", zlevel=1, predictor=2, tiled=True, blockxsize=256, blockysize=256,
        photometric="MINISBLACK",
    ) as file:  # fmt: skip
        file.descriptions = BANDS
        file.write(pixels)
