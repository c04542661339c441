"""Small raster files."""

import warnings

import numpy as np
import rasterio
from affine import Affine


def tif(path, pixels, left=None, top=0.0, px=0.001):
    """A tif of ``(C, H, W)``; georeferenced in degrees where ``left`` is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {} if left is None else {
        "crs": "EPSG:4326", "transform": Affine(px, 0, left, 0, -px, top)
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", dtype=pixels.dtype, count=len(pixels),
            height=pixels.shape[1], width=pixels.shape[2], **about,
        ) as file:  # fmt: skip
            file.write(pixels)
    return pixels


def noise(bands=3, height=40, width=60, seed=0, dtype="uint8"):
    return np.random.default_rng(seed).integers(1, 255, (bands, height, width)).astype(dtype)
