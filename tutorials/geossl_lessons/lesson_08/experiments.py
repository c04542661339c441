"""Data of lesson 08: scenes with climates of pixels, a toy to count by hand, a large scene."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geossl import datasets, geo
from geossl.data import earth
from geossl.data.scenes import BOX
from geossl.data.store import ChipStore
from geossl.utils.io import atomic_write
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import NonNegativeInt, PositiveInt, Seed, validated

_WORLD = 6_000  # locations that tell the splits of the blocks
_BLOCK_DEG = 10.0  # side of a block, see `geossl.datasets.blue_marble`
_SCENE_KM = 720.0
_MIN_LAND = 0.05
_KM_PER_DEG = np.pi * geo.EARTH_RADIUS_KM / 180
_PER_DEG = 15  # pixels of the Blue Marble
_CELL = 33.0  # of the toy's three by three cells


@validated
def place_scenes(*, count: PositiveInt, dates: PositiveInt, seed: Seed = 0) -> pd.DataFrame:
    """Place scenes in the middle of the built-in world's blocks that have land.

    Their sides are 720 km, and those of the blocks 1,110 km: a chip of 240 km around a location of
    another block does not reach into them, so that an encoder trained on the blocks "train" has
    seen nothing of the scenes in others.

    Args:
        count: of scenes at most, one in a block.
        dates: simulated acquisitions of each.
        seed: which blocks, if there are more, and the simulation.

    Returns:
        A scene table as of `geossl.datasets.blue_marble`, with the splits of the blocks.
    """
    world = datasets.blue_marble(places=_WORLD, dates=1, seed=0)
    ids = geo.block_ids(world["lon"], world["lat"], block_deg=_BLOCK_DEG)
    splits = dict(zip(ids, world["split"], strict=True))
    middles = []
    for lat in np.arange(-85.0, 90, _BLOCK_DEG):
        columns = round(360 * np.cos(np.radians(lat)) / _BLOCK_DEG)
        lon = (np.arange(columns) + 0.5) * 360 / columns - 180
        blocks = geo.block_ids(lon, np.full(columns, lat), block_deg=_BLOCK_DEG)
        middles += [
            (x, lat, splits[block]) for x, block in zip(lon, blocks, strict=True) if block in splits
        ]
    blocks = pd.DataFrame(middles, columns=["lon", "lat", "split"])
    masks = _climates(blocks["lon"].to_numpy(), blocks["lat"].to_numpy(), 24)
    blocks = blocks[(masks > 0).mean((1, 2)) > _MIN_LAND]
    rng = np.random.default_rng(derive_seed(seed, "fewer"))
    order = np.sort(rng.permutation(len(blocks))[:count])
    blocks = blocks.iloc[order].reset_index(drop=True)
    scenes = datasets.blue_marble(
        places=len(blocks), dates=dates, seed=seed, footprint_km=_SCENE_KM
    ).drop(columns=["label", "climate"])  # of the locations that were drawn, not of these
    return scenes.assign(**blocks.loc[blocks.index.repeat(dates)].reset_index(drop=True))


@validated
def climate_masks(scenes: pd.DataFrame, *, size_px: PositiveInt) -> np.ndarray:
    """Return the climate ``(M, S, S)`` uint8 of each pixel of scenes of `place_scenes`.

    Numbers in `geossl.datasets.blue_marble_tasks.CLIMATES`.
    """
    places, index = np.unique(scenes[["lon", "lat"]].to_numpy(float), axis=0, return_inverse=True)
    return _climates(*places.T, size_px)[index.reshape(-1)]


def _climates(lon: np.ndarray, lat: np.ndarray, size_px: int) -> np.ndarray:
    """Return climates ``(P, S, S)`` around positions ``(P,)``, on the pixels of the reader."""
    step = (np.arange(size_px) + 0.5) / size_px - 0.5
    lats = lat[:, None] - step * (_SCENE_KM / _KM_PER_DEG)  # (P, S)
    stretch = _SCENE_KM / _KM_PER_DEG / np.cos(np.radians(lats))
    lons = lon[:, None, None] + stretch[:, :, None] * step
    lats = np.broadcast_to(lats[:, :, None], lons.shape)
    zones = earth.zones_at(((lons + 180) % 360 - 180).ravel(), lats.ravel())
    code = np.zeros(256, np.uint8)
    for number, name in earth.zone_names().items():
        code[number] = "ABCDE".find(name[:1]) + 1
    code[earth.OCEAN] = 0
    return code[zones].reshape(lons.shape)


@validated
def write_scenes(
    folder: str | os.PathLike[str], store: ChipStore, masks: np.ndarray, rows: ArrayLike
) -> pd.DataFrame:
    """Write some chips of a store and their masks as GeoTIFFs, unless the files exist.

    Each file gets the scale of its middle line.

    Returns:
        A table for `geossl.tasks.segment`: path, mask, location, lon, lat, split.
    """
    folder, rows = Path(folder), np.asarray(rows)
    folder.mkdir(parents=True, exist_ok=True)
    table = store.scenes.loc[rows, ["location", "lon", "lat", "split"]].reset_index(drop=True)
    for name, values in (("path", store.chips), ("mask", masks[:, None])):
        table[name] = [str(folder / f"{name}-{row}.tif") for row in rows]
        for path, row, lon, lat in zip(table[name], rows, table["lon"], table["lat"], strict=True):
            if not os.path.exists(path):
                high = _SCENE_KM / _KM_PER_DEG
                _write(Path(path), values[row], (lon, lat), (high / np.cos(np.radians(lat)), high))
    return table


def _write(
    path: Path, pixels: np.ndarray, middle: tuple[float, float], size_deg: tuple[float, float]
) -> None:
    import rasterio
    from rasterio.transform import from_bounds

    (lon, lat), (wide, high) = middle, size_deg
    count, height, width = pixels.shape
    bounds = lon - wide / 2, lat - high / 2, lon + wide / 2, lat + high / 2
    with atomic_write(path) as part, rasterio.open(
        part, "w", driver="GTiff", count=count, height=height, width=width, dtype="uint8",
        crs="EPSG:4326", transform=from_bounds(*bounds, width, height),
    ) as file:  # fmt: skip
        file.write(pixels)


@validated
def sample_scenes(
    scenes: pd.DataFrame, counts: Mapping[str, NonNegativeInt], *, seed: Seed = 0
) -> pd.DataFrame:
    """Sample at most ``counts`` scenes of each split; all of a split that is not named."""
    rng = np.random.default_rng(derive_seed(seed, "fewer"))
    mixed = scenes.iloc[rng.permutation(len(scenes))]
    limit = mixed["split"].map(dict(counts)).fillna(len(scenes))
    return mixed[mixed.groupby("split").cumcount() < limit].sort_index().reset_index(drop=True)


@validated
def make_toy(seed: Seed = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make five boxes and seven detections in 100 x 100 pixels, to count hits by hand.

    Four detections have an IoU of more than a half with a box of their own, one of a third, one is
    the second on its box, one is on nothing. They have a ``score`` and are sorted by it.
    """
    rng = np.random.default_rng(derive_seed(seed, "toy"))
    cells = rng.permutation(9)[:6]
    corner = np.stack([cells % 3, cells // 3], 1) * _CELL + rng.uniform(6, 9, (6, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(13, 18, (6, 2))], 1)
    truth, nothing = boxes[:5], boxes[5]
    first, *others = (
        _shift(box, share) for box, share in zip(truth, (0.08, 0.12, 0.16, 0.2, 0.5), strict=True)
    )
    order = [others[i] for i in rng.permutation(4)]
    detections = [first, nothing, *order[:2], _shift(truth[0], -0.1), *order[2:]]
    score = np.round(0.95 - np.cumsum(rng.uniform(0.05, 0.12, 7)), 2)
    tables = (pd.DataFrame(np.round(box, 1), columns=list(BOX)) for box in (truth, detections))
    return next(tables), next(tables).assign(score=score)


def _shift(box: np.ndarray, share: float) -> np.ndarray:
    return box + share * (box[2] - box[0]) * np.array([1, 0, 1, 0])


@validated
def write_large_scene(
    path: str | os.PathLike[str], *, west: int = 0, north: int = 22,
    width_deg: PositiveInt = 32, height_deg: PositiveInt = 32,
) -> Path:  # fmt: skip
    """Write a large piece of the built-in world as a GeoTIFF, unless the file exists.

    Its sides are multiples of 16 pixels, as windows are.
    """
    import rasterio
    from rasterio.transform import from_origin

    path = Path(path)
    if not path.exists():
        top, left = (90 - north) * _PER_DEG, (west + 180) * _PER_DEG
        height, width = height_deg * _PER_DEG, width_deg * _PER_DEG
        pixels = earth.world_image()[top : top + height, left : left + width].transpose(2, 0, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part, rasterio.open(
            part, "w", driver="GTiff", count=3, height=height, width=width, dtype="uint8",
            crs="EPSG:4326", transform=from_origin(west, north, 1 / _PER_DEG, 1 / _PER_DEG),
            compress="deflate", photometric="RGB",
        ) as file:  # fmt: skip
            file.write(pixels)
    return path
