"""Rasters of embeddings, in the layouts of AlphaEarth and TESSERA."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geossl import Embeddings
from geossl.data.files import DatasetError


def write(path, array, *, nodata=None, crs="EPSG:32631", resolution=10.0):
    bands, height, width = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=array.dtype,
        crs=crs, transform=from_origin(500_000, 5_400_000, resolution, resolution), nodata=nodata,
    ) as file:  # fmt: skip
        file.write(array)
    return path


def test_pixels_of_tessera(tmp_path):
    array = np.random.default_rng(0).normal(size=(128, 6, 8)).astype(np.float32)
    array[:, 2, 3] = np.nan
    embeddings = Embeddings.load(write(tmp_path / "grid_3.05_48.75_2024.tif", array))
    rows = np.delete(np.arange(48), 2 * 8 + 3)
    np.testing.assert_array_equal(embeddings.vectors, array.reshape(128, -1).T[rows])
    lon, lat = embeddings.scenes["lon"].to_numpy(), embeddings.scenes["lat"].to_numpy()
    # the central meridian of zone 31 is 3 degrees east, at the left edge of the raster
    assert lon[0] == pytest.approx(3 + 5 / (111_320 * np.cos(np.radians(48.75))), abs=2e-6)
    assert np.all(np.diff(lon[:8]) > 0) and lat[0] > lat[-1]
    assert lat[0] - lat[-1] == pytest.approx(50 / 111_200, rel=1e-2)
    assert Embeddings.is_file(tmp_path / "grid_3.05_48.75_2024.tif")


def test_quantized_pixels_of_alpha_earth(tmp_path):
    array = np.random.default_rng(0).integers(-127, 128, (64, 5, 4)).astype(np.int8)
    array[:, 0, 0] = -128
    path = write(tmp_path / "aef.tiff", array, nodata=-128)
    values = array.reshape(64, -1).T[1:].astype(float)
    true = np.sign(values) * (values / 127.5) ** 2
    np.testing.assert_allclose(Embeddings.load(path).vectors, true, atol=1e-6)


def test_a_large_raster_is_read_on_a_regular_grid(tmp_path):
    row, column = np.mgrid[:100, :200].astype(np.float32)
    path = write(tmp_path / "large.tif", np.stack([row, column]), resolution=30.0)
    embeddings = Embeddings.load(path, max_pixels=450)
    assert len(embeddings) == 15 * 30  # 100 x 200 pixels, shrunk alike in both directions
    step = np.diff(np.unique(embeddings.vectors[:, 1]))
    assert step.min() >= 6 and step.max() <= 7
    east = (embeddings.scenes["lon"] - 3) * 111_320 * np.cos(np.radians(48.75)) / 30
    assert np.abs(east - embeddings.vectors[:, 1] - 0.5).max() < 4  # within half a step


def test_rasters_that_hold_no_vectors(tmp_path):
    empty = np.full((3, 2, 2), np.nan, np.float32)
    for array, crs, problem in (
        (np.zeros((1, 2, 2), np.float32), "EPSG:32631", "has one band"),
        (np.zeros((3, 2, 2), np.float32), None, "has no position"),
        (empty, "EPSG:32631", "no pixel with data among the 4"),
    ):
        with pytest.raises(DatasetError, match=problem):
            Embeddings.load(write(tmp_path / "a.tif", array, crs=crs))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Embeddings.load(tmp_path / "none.tif")
