"""Data of lesson 08: test scenes kept from the encoder, a toy to count by hand, a large scene."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from geossl.data import earth
from geossl.data.scenes import BOX
from geossl.tasks import compare
from geossl.utils.io import atomic_write
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import NonNegativeInt, PositiveInt, Seed, validated

_SCENE_DEG = 30  # side of a scene of `geossl.datasets.blue_marble_tasks`
_CHIP_KM = 240  # side of a chip of the Blue Marble, see `geossl.datasets.blue_marble`
_KM_PER_DEG = 111.2
_PER_DEG = 15  # pixels of the Blue Marble
_CELL = 33.0  # of the toy's three by three cells


def split_by_scene(table: pd.DataFrame, scenes: pd.DataFrame) -> pd.DataFrame:
    """Give each location of a table the split of the scene around it, or "train".

    A location whose chip may reach into a test scene is of the test as well. ``scenes`` are of
    `geossl.datasets.blue_marble_tasks.scenes`.
    """
    split = np.full(len(table), "train", object)
    lon, lat = table["lon"].to_numpy(float), table["lat"].to_numpy(float)
    reach_lat = _CHIP_KM / np.sqrt(2) / _KM_PER_DEG
    reach_lon = reach_lat / np.cos(np.radians(np.minimum(np.abs(lat), 85)))
    for name, reaches in (("val", False), ("test", True)):
        for scene in scenes[scenes["split"] == name].itertuples():
            east = np.abs((lon - scene.lon + 180) % 360 - 180) - reaches * reach_lon
            north = np.abs(lat - scene.lat) - reaches * reach_lat
            split[np.maximum(east, north) <= _SCENE_DEG / 2] = name
    return table.assign(split=split)


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
    path: str | os.PathLike[str], *, west: int = -20, north: int = 70,
    width_deg: PositiveInt = 80, height_deg: PositiveInt = 50,
) -> Path:  # fmt: skip
    """Write a large piece of the built-in world as a GeoTIFF, unless the file exists."""
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


def results_table(tasks: Mapping[str, Sequence[compare.Row]]) -> pd.DataFrame:
    """List results of `geossl.tasks.compare`: ``encoder, task, value, low, high``."""
    rows = [
        [row.method, task, row.value, row.low, row.high]
        for task, results in tasks.items() for row in results
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["encoder", "task", "value", "low", "high"])
