"""Detection and segmentation on the embedded world: islands and lakes, climates of pixels.

Real imagery (Blue Marble), real outlines (GSHHG) and real climate zones (Koeppen-Geiger), cut into
georeferenced scenes of 30 degrees; no network needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from geossl.data import earth
from geossl.data import scenes as scene_tables
from geossl.data.scenes import BOX
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.utils.io import atomic_write
from geossl.utils.validate import Positive, Seed, validated

__all__ = ["CLIMATES", "climates", "islands", "scenes"]

CLIMATES = ("ocean", "tropical", "arid", "temperate", "continental", "polar")  # Koeppen's A to E
_SIDE_DEG = 30
_PER_DEG = 15  # pixels of the Blue Marble
_SIDE = _SIDE_DEG * _PER_DEG
_MIN_LAND = 0.02
_CROWD_KM2 = (150, 2_500_000)  # visible, but too small or large for the task
_MIN_VISIBLE = 0.6  # of an object that the edge of a scene cuts, so much must be inside to count


@validated
def islands(
    folder: str | os.PathLike[str],
    *,
    min_area_km2: Positive = 800,
    max_area_km2: Positive = 60_000,
    seed: Seed = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build scenes of the world, and boxes of the islands and lakes in them.

    Args:
        folder: of the GeoTIFFs, which are written where they are missing.
        min_area_km2: area of the smallest island or lake; a pixel is 55 km2 at the equator.
        max_area_km2: area of the largest.
        seed: decides which scenes are train, val and test.

    Returns:
        The scene table, and one row per box: path, `geossl.data.scenes.BOX` in pixels, label
        ("island", "lake"), crowd (larger or smaller than that, or cut by the edge of the scene:
        neither object nor background).

    Raises:
        ImportError: the packages of the Blue Marble are missing.
    """
    table = scenes(folder, seed=seed)
    west, north = table["lon"].to_numpy() - _SIDE_DEG / 2, table["lat"].to_numpy() + _SIDE_DEG / 2
    rows = []
    kinds: dict[str, Literal["land", "lake"]] = {"island": "land", "lake": "lake"}
    for label, kind in kinds.items():
        objects = earth.outlines(kind, min_area_km2=min_area_km2, max_area_km2=max_area_km2)
        others = earth.outlines(kind, min_area_km2=_CROWD_KM2[0], max_area_km2=min_area_km2)
        others += earth.outlines(kind, min_area_km2=max_area_km2, max_area_km2=_CROWD_KM2[1])
        for line, crowd in [*((o, False) for o in objects), *((o, True) for o in others)]:
            (x0, y0), (x1, y1) = line.min(0), line.max(0)
            left = (x0 - west) % 360  # longitudes are cyclic
            left = np.where(left + x1 - x0 >= 360, left - 360, left)
            box = np.stack([left, north - y1, left + x1 - x0, north - y0])  # (4, scenes)
            inside = box.clip(0, _SIDE_DEG)
            area, visible = ((b[2:] - b[:2]).prod(0) for b in (box, inside))
            is_crowd = crowd | (visible < _MIN_VISIBLE * area)
            for i in np.flatnonzero((inside[2:] - inside[:2]).min(0) * _PER_DEG >= 1):
                rows.append((table["path"][i], *inside[:, i] * _PER_DEG, label, is_crowd[i]))
    return table, pd.DataFrame(rows, columns=["path", *BOX, "label", "crowd"])


@validated
def climates(folder: str | os.PathLike[str], *, seed: Seed = 0) -> pd.DataFrame:
    """Build scenes of the world with a mask each: the ocean, and Koeppen's main climates on land.

    Args:
        folder: of the GeoTIFFs and their masks, which are written where they are missing.
        seed: decides which scenes are train, val and test.

    Returns:
        The scene table with a column ``mask``: a GeoTIFF of numbers in `CLIMATES`.

    Raises:
        ImportError: the packages of the Blue Marble are missing.
    """
    table = scenes(folder, seed=seed)
    code = np.zeros(256, np.uint8)
    for number, name in earth.zone_names().items():
        code[number] = "ABCDE".find(name[:1]) + 1
    code[earth.OCEAN] = 0
    table["mask"] = [str(Path(path).with_suffix(".mask.tif")) for path in table["path"]]
    for scene in table.itertuples():
        if not os.path.exists(scene.mask):
            west, north = scene.lon - _SIDE_DEG / 2, scene.lat + _SIDE_DEG / 2
            step = (np.arange(_SIDE) + 0.5) / _PER_DEG
            lon, lat = np.meshgrid(west + step, north - step)
            zones = earth.zones_at(lon.ravel(), lat.ravel()).reshape(lon.shape)
            _write(Path(scene.mask), code[zones][None], west, north)
    return table


@validated
def scenes(folder: str | os.PathLike[str], *, seed: Seed = 0) -> pd.DataFrame:
    """Build scenes of 450 x 450 pixels (30 degrees) from 90 N to 60 S that have some land.

    Args:
        folder: of the GeoTIFFs, which are written where they are missing.
        seed: decides which scenes are train, val and test.

    Returns:
        A scene table; a scene is a location.
    """
    rows, zones = [], earth.zones()
    per_deg = zones.shape[0] // 180
    for north in range(90, -60, -_SIDE_DEG):
        for west in range(-180, 180, _SIDE_DEG):
            top, left = (90 - north) * per_deg, (west + 180) * per_deg
            side = _SIDE_DEG * per_deg
            if (zones[top : top + side, left : left + side] != earth.OCEAN).mean() < _MIN_LAND:
                continue
            name = f"{abs(north)}{'NS'[north < 0]}_{abs(west)}{'EW'[west < 0]}"
            path = Path(folder) / f"{name}.tif"
            if not path.exists():
                top, left = (90 - north) * _PER_DEG, (west + 180) * _PER_DEG
                pixels = earth.world_image()[top : top + _SIDE, left : left + _SIDE]
                _write(path, pixels.transpose(2, 0, 1), west, north)
            rows.append((str(path), name, west + _SIDE_DEG / 2, north - _SIDE_DEG / 2))
    table = pd.DataFrame(rows, columns=["path", "location", "lon", "lat"])
    table = scene_tables.check(table)
    table["split"] = scene_tables.split_by_blocks(table, block_deg=_SIDE_DEG, seed=seed)
    return add_pixel_columns(table, reader="image_folder")


def _write(path: Path, pixels: np.ndarray, west: float, north: float) -> None:
    import rasterio
    from rasterio.transform import from_origin

    count, height, width = pixels.shape
    with atomic_write(path) as part, rasterio.open(
        part, "w", driver="GTiff", count=count, height=height, width=width, dtype="uint8",
        crs="EPSG:4326", transform=from_origin(west, north, 1 / _PER_DEG, 1 / _PER_DEG),
        compress="deflate", photometric="RGB" if count == 3 else "MINISBLACK",
    ) as file:  # fmt: skip
        file.write(pixels)
