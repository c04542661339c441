"""Read rasters whose bands are the values of a vector, one for each pixel."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.data.files import DatasetError
from geossl.data.pixels import dequantize_alpha_earth
from geossl.datasets.raster.files import open_raster
from geossl.utils.validate import PositiveInt, validated


@validated
def read_pixel_vectors(
    path: str | os.PathLike[str], *, max_pixels: PositiveInt = 20_000
) -> tuple[np.ndarray, pd.DataFrame]:
    """Read a GeoTIFF of embeddings: each pixel, on a regular grid of at most ``max_pixels``.

    Args:
        path: a georeferenced .tif with two bands or more, such as an export of TESSERA (float,
            128 bands) or a file of AlphaEarth (int8, 64 bands).
        max_pixels: pixels in between are skipped, or averaged if the file has overviews.

    Returns:
        ``(M, E)`` float32 of the pixels that have data, and their scene table.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it cannot be read, has no position, one band, or no pixel with data.

    Source:
        AlphaEarth's int8 values v stand for ``sign(v) * (v / 127.5) ** 2``, -128 is missing.
    """
    from rasterio.warp import transform

    with open_raster(path) as file:
        if file.crs is None or file.transform.is_identity:
            raise DatasetError(f"{path} has no position: it needs a CRS and a transform.")
        if file.count < 2:
            raise DatasetError(f"{path} has one band; the values of a vector are bands.")
        shrink = max(1.0, (file.width * file.height / max_pixels) ** 0.5)
        height, width = max(1, int(file.height / shrink)), max(1, int(file.width / shrink))
        pixels = file.read(out_shape=(file.count, height, width))  # (E, h, w)
        row, column = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
        x, y = file.transform @ (
            column.ravel() * file.width / width, row.ravel() * file.height / height
        )  # fmt: skip
        lon, lat = transform(file.crs, "EPSG:4326", x, y)
        nodata, is_quantized = file.nodata, file.dtypes[0] == "int8"
    vectors = pixels.reshape(len(pixels), -1).T.astype(np.float32)  # (M, E)
    if is_quantized:
        vectors = dequantize_alpha_earth(vectors)
    usable = np.isfinite(vectors).all(1)
    if not is_quantized and nodata is not None:
        usable &= (vectors != nodata).any(1)
    if not usable.any():
        raise DatasetError(f"{path} has no pixel with data among the {len(usable)} that were read.")
    table = pd.DataFrame({"location": np.arange(len(usable)), "lon": lon, "lat": lat})[usable]
    return vectors[usable], scenes.check(table, positions=False, source=str(path))
