"""Scenes with bright rectangles and their masks, for the tests of segmentation."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import rasterio.features
import rasterio.shutil
import rasterio.warp
import shapely
import torch
from affine import Affine
from rasterio.transform import from_origin

from geossl import models
from geossl.datasets.raster import area
from geossl.tasks import segment
from geossl.tasks.segment.masks import Masks

NAMES = ("background", "plant")


NORTH_UP = from_origin(500_000, 5_000_000, 10, 10)


PLANTS = Path(__file__).parents[3] / "shared" / "data" / "us_power_plants"


QUICK = segment.SegmentConfig(epochs=2, batch_size=4, size_px=32, width=16)


def tif(path, pixels, *, crs="EPSG:32633", transform=NORTH_UP, **more):
    pixels = np.asarray(pixels)
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    count, height, width = pixels.shape
    place = {} if transform is None else {"crs": crs, "transform": transform}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype,
        **place, **more,
    ) as file:  # fmt: skip
        file.write(pixels)
    return str(path)


def a_grid(height=30, width=40, *, crs="EPSG:32633", transform=NORTH_UP):
    return area.Grid(height, width, 1, crs, transform)


def read(path, masks=None, *, grid=None, window=None):
    grid = grid or a_grid()
    window = window or (0, 0, grid.width, grid.height)
    return (masks or Masks(NAMES)).read(str(path), grid=grid, window=window)


def geojson(path, shapes, *, crs="EPSG:32633", labels=None):
    features = [
        {
            "type": "Feature",
            "geometry": None if shape is None else shapely.geometry.mapping(shape),
            "properties": None if labels is None else {"class": labels[i]},
        }
        for i, shape in enumerate(shapes)
    ]
    about = {"type": "FeatureCollection", "features": features}
    if crs is not None:
        about["crs"] = {"type": "name", "properties": {"name": crs}}
    Path(path).write_text(json.dumps(about))
    return str(path)


def squares(folder, count=6, *, size=48, seed=0, start=0):
    """Scenes of dim noise with bright red rectangles, which are the plants."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(start, start + count):
        pixels = rng.integers(20, 80, (3, size, size + 5), dtype=np.uint8)
        mask = np.zeros((size, size + 5), np.uint8)
        for _ in range(2):
            y, x = rng.integers(0, size - 16, 2)
            h, w = rng.integers(10, 16, 2)
            mask[y : y + h, x : x + w] = 1
        pixels[0][mask == 1] += 120
        rows.append({
            "path": tif(folder / f"scene{i}.tif", pixels),
            "mask": tif(folder / f"mask{i}.tif", mask),
        })  # fmt: skip
    return pd.DataFrame(rows)


def small(bands=3, **more):
    return models.build_encoder(
        "small", bands=bands, mean=[60.0] * bands, std=[40.0] * bands, **more
    )


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def settle(net, *shape, times=1):
    """Give BatchNorms some statistics, as training does."""
    net.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for i in range(times):
            net(noise(*shape, seed=i))
    return net.eval()


def states(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


GRIDS = {
    "north-up": NORTH_UP,
    "south-up": Affine(10, 0, 500_000, 0, 10, 4_999_700),
    "rotated": Affine.translation(500_100, 4_999_900) @ Affine.rotation(30) @ Affine.scale(8, -8),
}


BANG = Path("/tmp/geossl-segment-bang")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (BANG,))
