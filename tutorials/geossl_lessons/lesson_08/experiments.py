"""What lesson 08 needs: test scenes kept from the encoder, a toy to count, a large scene."""

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

_SCENE_DEG = 30  # side of a scene of `geossl.datasets.blue_marble_tasks`
_CHIP_KM = 240  # side of a chip of the Blue Marble, see `geossl.datasets.blue_marble`
_KM_PER_DEG = 111.2
_PER_DEG = 15  # pixels of the Blue Marble
_CELL = 33.0  # of the toy's three by three cells


def held_out(places: pd.DataFrame, scenes: pd.DataFrame) -> pd.DataFrame:
    """Give each place the split of the scene it lies in, so that no test pixel is trained on.

    A place so near to a test scene that its chip reaches into it is of the test as well.

    Args:
        places: a scene table of places.
        scenes: of `geossl.datasets.blue_marble_tasks.scenes`, with ``lon, lat`` of their middles and ``split``.

    Returns:
        The places with another column ``split``; those in no scene are "train".
    """
    split = np.full(len(places), "train", object)
    lon, lat = places["lon"].to_numpy(float), places["lat"].to_numpy(float)
    reach_deg = _CHIP_KM / np.sqrt(2) / _KM_PER_DEG
    wide_deg = reach_deg / np.cos(np.radians(np.minimum(np.abs(lat), 85)))
    for name in ("val", "test"):
        far = name == "test"
        for scene in scenes[scenes["split"] == name].itertuples():
            east = np.abs((lon - scene.lon + 180) % 360 - 180)
            north = np.abs(lat - scene.lat)
            half = _SCENE_DEG / 2
            split[(east <= half + far * wide_deg) & (north <= half + far * reach_deg)] = name
    return places.assign(split=split)


def fewer(scenes: pd.DataFrame, counts: Mapping[str, int], *, seed: int = 0) -> pd.DataFrame:
    """Some scenes of each split, drawn at random; all of a split that is not named.

    Args:
        scenes: with a column ``split``.
        counts: split -> how many at most.
        seed: of the draw.
    """
    rng = np.random.default_rng(derive_seed(seed, "fewer"))
    mixed = scenes.iloc[rng.permutation(len(scenes))]
    most = mixed["split"].map(dict(counts)).fillna(len(scenes))
    return mixed[mixed.groupby("split").cumcount() < most].sort_index().reset_index(drop=True)


def toy(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Five boxes and seven detections in 100 x 100 pixels, to count hits by hand.

    Four detections overlap a box of their own by more than half, one overlaps its box by a third,
    one is the second on its box, one lies on nothing.

    Args:
        seed: where they lie, and which scores they have.

    Returns:
        The boxes, and the detections with ``score``, the highest first; both with `images.BOX`.
    """
    rng = np.random.default_rng(derive_seed(seed, "toy"))
    cells = rng.permutation(9)[:6]
    corner = np.stack([cells % 3, cells // 3], 1) * _CELL + rng.uniform(6, 9, (6, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(13, 18, (6, 2))], 1)
    truth, nothing = boxes[:5], boxes[5]
    moved = [_moved(truth[i], share) for i, share in enumerate((0.08, 0.12, 0.16, 0.2, 0.5))]
    rest = [moved[1], moved[2], moved[3], moved[4]]
    order = rng.permutation(4)
    found = [moved[0], nothing, *(rest[i] for i in order[:2]), _moved(truth[0], -0.1)]
    found += [rest[i] for i in order[2:]]
    score = np.round(0.95 - np.cumsum(rng.uniform(0.05, 0.12, 7)), 2)
    table = pd.DataFrame(np.round(found, 1), columns=list(BOX)).assign(score=score)
    return pd.DataFrame(np.round(truth, 1), columns=list(BOX)), table


def _moved(box: np.ndarray, share: float) -> np.ndarray:
    return box + share * (box[2] - box[0]) * np.array([1, 0, 1, 0])


def large_scene(
    path: str | os.PathLike[str], *, west: int = -20, north: int = 70, width_deg: int = 80,
    height_deg: int = 50,
) -> Path:  # fmt: skip
    """A large piece of the embedded world as a GeoTIFF, written where it is absent.

    Args:
        path: of the file.
        west: longitude of its left edge.
        north: latitude of its upper edge.
        width_deg: degrees it is wide; 15 pixels each.
        height_deg: degrees it is high.
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


def side_by_side(tasks: Mapping[str, Sequence[compare.Row]]) -> pd.DataFrame:
    """The figures of some comparisons, as `contrastive.conclusion` takes them.

    Args:
        tasks: name -> rows of `transfer.compare`.

    Returns:
        A row a task and an encoder: ``encoder, task, value, low, high``.
    """
    lines = [
        [row.method, task, row.value, row.low, row.high] for task, rows in tasks.items()
        for row in rows
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=["encoder", "task", "value", "low", "high"])
