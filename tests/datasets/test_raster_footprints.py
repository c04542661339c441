"""The corners of chips on the ground, against rasterio's transforms."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform
from rasters import noise, tif

from geossl import geo
from geossl.datasets import blue_marble, footprints, open_scenes
from geossl.datasets.raster.chips import add_pixel_columns

DATA = Path(__file__).parents[3] / "shared" / "data"


def corners_by_rasterio(path, left, top, side):
    """Corners of a square of a file's pixels, one by one."""
    with rasterio.open(path) as file:
        at = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
        xy = [file.transform * corner for corner in at]
        lon, lat = transform(file.crs, "EPSG:4326", *zip(*xy, strict=True))
    return np.stack([lon, lat], 1)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real imagery in ../shared/data")
def test_cells_of_naip_lie_where_rasterio_says():
    table = open_scenes(DATA / "naip_north_dakota")
    rows = np.linspace(0, len(table) - 1, 40).astype(int)
    found = footprints(table.iloc[rows])
    assert found.shape == (40, 4, 2) and found.dtype == np.float64
    for row, corners in zip(rows, found, strict=True):
        cell = table.iloc[row]
        with rasterio.open(cell["path"]) as file:
            left, top = ~file.transform * (cell["left"], cell["top"])
        expected = corners_by_rasterio(cell["path"], left, top, 64)
        np.testing.assert_allclose(corners, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.mean(1), table.iloc[rows][["lon", "lat"]], atol=1e-6)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real imagery in ../shared/data")
@pytest.mark.parametrize(("folder", "side"), [("sentinel2_world", 256), ("eurosat_100", 64)])
def test_whole_files_of_sentinel_2_lie_where_rasterio_says(folder, side):
    table = open_scenes(DATA / folder)
    found = footprints(table)
    for path, corners in zip(table["path"], found, strict=True):
        np.testing.assert_allclose(corners, corners_by_rasterio(path, 0, 0, side), atol=1e-9)
    meters = 1000 * geo.great_circle_km(*found[:, 0].T, *found[:, 1].T)
    np.testing.assert_allclose(meters, 10 * side, rtol=0.01)


def of_file(path, **columns):
    table = pd.DataFrame({"path": [str(path)], "location": 0, "lon": 0.0, "lat": 0.0} | columns)
    return footprints(add_pixel_columns(table, reader="images"))[0]


def test_a_chip_of_a_file_is_its_middle_square_or_that_of_a_box(tmp_path):
    path = tmp_path / "a.tif"
    tif(path, noise(), left=10.0, top=5.0)  # 60 x 40 of 0.001 degree
    np.testing.assert_allclose(
        of_file(path), [[10.01, 5], [10.05, 5], [10.05, 4.96], [10.01, 4.96]], atol=1e-9
    )
    box = {"box_left": 2.0, "box_top": 4.0, "box_right": 12.0, "box_bottom": 10.0}
    np.testing.assert_allclose(
        of_file(path, **box),
        [[10.002, 4.998], [10.012, 4.998], [10.012, 4.988], [10.002, 4.988]], atol=1e-9,
    )  # fmt: skip
    outside = {"box_left": 99.0, "box_top": 4.0, "box_right": 112.0, "box_bottom": 10.0}
    assert np.isnan(of_file(path, **outside)).all()


def test_a_turned_file_has_a_turned_footprint(tmp_path):
    path = tmp_path / "turned.tif"
    turned = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=3, height=50, width=50, crs="EPSG:32633",
        transform=turned,
    ) as file:  # fmt: skip
        file.write(noise(3, 50, 50))
    np.testing.assert_allclose(of_file(path), corners_by_rasterio(path, 0, 0, 50), atol=1e-9)


def test_longitudes_go_on_past_180(tmp_path):
    cell = {"path": "-", "location": 0, "lon": 180.0, "lat": -17.0, "crs": "EPSG:32701"}
    x, y = transform("EPSG:4326", "EPSG:32701", [180.0], [-17.0])
    bounds = {"left": x[0] - 600, "right": x[0] + 600, "top": y[0] + 600, "bottom": y[0] - 600}
    (corners,) = footprints(pd.DataFrame([cell | bounds]))
    assert (corners[:, 0] > 179.9).all() and (corners[:, 0] < 180.1).all()
    assert corners[0, 0] < 180 < corners[1, 0]
    degrees = pd.DataFrame([cell | {"crs": "EPSG:4326", "left": 179.9, "right": 180.1,
                                    "top": -16.9, "bottom": -17.1}])  # fmt: skip
    np.testing.assert_allclose(footprints(degrees)[0, :, 0], [179.9, 180.1, 180.1, 179.9])


def test_a_position_and_a_size_are_enough(tmp_path):
    world = blue_marble(places=30, dates=1)
    found = footprints(world)
    center, side = world[["lon", "lat"]].to_numpy(), world["footprint_km"].to_numpy()
    high = (found[:, 0] + found[:, 1]) / 2
    north = geo.great_circle_km(*center.T, *high.T)
    np.testing.assert_allclose(north, side / 2, rtol=1e-3)
    path = tmp_path / "plain.tif"
    tif(path, noise(3, 40, 40))  # not georeferenced
    corners = of_file(path, lon=-179.999, lat=60.0, gsd=5.0)
    assert np.ptp(corners[:, 0]) < 0.01
    south = geo.great_circle_km(*corners[2], *corners[3])
    west = geo.great_circle_km(*corners[0], *corners[3])
    np.testing.assert_allclose([south, west], 0.2, rtol=1e-3)
    assert np.isnan(of_file(path)).all() and np.isnan(of_file(tmp_path / "gone.tif")).all()


def test_a_table_of_points_has_no_footprints():
    points = pd.DataFrame({"location": [1, 2], "lon": [0.0, 1.0], "lat": 0.0})
    assert np.isnan(footprints(points)).all()
