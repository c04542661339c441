from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin

from geossl.datasets.raster import area
from geossl.datasets.raster.chips import add_pixel_columns


def tif(path, pixels, **more):
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype,
        crs="EPSG:32633", transform=from_origin(500_000, 5_000_000, 10, 10), **more,
    ) as file:  # fmt: skip
        file.write(pixels)
    return str(path)


def test_an_area_is_the_pixels_of_the_file_and_nothing_beyond_its_edge(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 9000, (4, 20, 31), dtype=np.uint16)
    path = tif(tmp_path / "a.tif", pixels)
    (row,) = area.scene_rows(path, bands=3)
    whole, valid = area.read_area(row)
    assert np.array_equal(whole, pixels[:3]) and valid.all() and whole.dtype == np.uint16
    part, valid = area.read_area(row, (-3, 15, 10, 25))
    assert part.shape == (3, 10, 13) and valid.sum() == 5 * 10
    assert np.array_equal(part[:, :5, 3:], pixels[:3, 15:, :10])
    assert not part[:, 5:].any() and not part[:, :, :3].any()
    assert not area.read_area(row, (100, 100, 104, 104))[1].any()
    found = area.read_grid(row)
    assert (found.height, found.width, found.crs) == (20, 31, "EPSG:32633")
    assert found.transform @ (1, 1) == (500_010, 4_999_990)


def test_nodata_and_scale_as_the_chips_have_them(tmp_path):
    pixels = np.linspace(0, 1, 3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    pixels[:, 0, 0] = -9
    path = tif(tmp_path / "a.tif", pixels, nodata=-9)
    table = add_pixel_columns(
        pd.DataFrame({"path": [path]}), reader="x", dtype="uint8", scale=(0, 1)
    )
    (row,) = area.scene_rows(table, bands=3)
    found, valid = area.read_area(row)
    assert not valid[0, 0] and valid.sum() == 19 and not found[:, 0, 0].any()
    expected = np.round(1 + pixels[:, 1:].astype(np.float64) * 65534)
    assert np.array_equal(found[:, 1:], expected)


def test_pictures_are_read_too_and_gray_fills_all_colors(tmp_path):
    gray = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    Image.fromarray(gray).save(tmp_path / "g.png")
    (row,) = area.scene_rows(tmp_path / "g.png", bands=3)
    found, valid = area.read_area(row)
    assert np.array_equal(found, np.stack([gray] * 3)) and valid.all()
    assert area.read_grid(row).crs is None


def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0nonsense")
    (tmp_path / "vrt.tif").write_text("<VRTDataset rasterXSize='1' rasterYSize='1'/>")
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    two = tif(tmp_path / "two.tif", np.ones((2, 4, 4), np.uint8))
    for name in ("broken.tif", "vrt.tif"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            area.read_area(area.scene_rows(tmp_path / name, bands=1)[0])
    with pytest.raises(ValueError, match="a.gif cannot be read as .gif"):
        area.read_grid(area.scene_rows(tmp_path / "a.gif", bands=1)[0])
    with pytest.raises(FileNotFoundError, match="none.tif"):
        area.read_grid(area.scene_rows(tmp_path / "none.tif", bands=1)[0])
    with pytest.raises(ValueError, match="two.tif has 2 bands, so there is no band 3"):
        area.read_area(area.scene_rows(two, bands=3)[0])
    table = add_pixel_columns(pd.DataFrame({"path": [two]}), reader="x", bands=[1],
                                     band_names=["a"], dtype="uint16")  # fmt: skip
    with pytest.raises(ValueError, match="two.tif must be uint16, got uint8"):
        area.read_area(area.scene_rows(table, bands=1)[0])
    for bad in (pd.DataFrame(), pd.DataFrame({"path": []}), pd.DataFrame({"path": [None]})):
        with pytest.raises(ValueError, match="path"):
            area.scene_rows(bad, bands=1)
    with pytest.raises(ValueError, match="got several of x.tif. Pass a table of scenes"):
        area.scene_rows(pd.DataFrame({"path": ["x.tif", "y.tif", "x.tif"]}), bands=1)
    with pytest.raises(ValueError, match="one file"):
        area.scene_rows(pd.DataFrame({"path": ["x/{band}.tif"]}), bands=1)


def test_a_port_of_the_shared_data_is_read_whole():
    folder = Path(__file__).parents[3] / "shared" / "data" / "ports_sentinel2"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/ports_sentinel2")
    (row,) = area.scene_rows(folder / "honolulu_2023-01-08.tif", bands=3)
    pixels, valid = area.read_area(row)
    assert pixels.shape == (3, 316, 424) and valid.all() and pixels.std() > 10
    assert area.read_grid(row).crs == "EPSG:3857"


def test_statistics_are_those_of_all_pixels_with_data(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(1, 200, (2, 9, 11), dtype=np.uint8), np.full((2, 3, 3), 50, np.uint8)]
    arrays[0][:, :4] = 0
    paths = [tif(tmp_path / f"{i}.tif", a, nodata=0) for i, a in enumerate(arrays)]
    table = add_pixel_columns(
        pd.DataFrame({"path": paths}), reader="x", bands=[1, 2], band_names=["a", "b"]
    )
    mean, std = area.band_statistics(area.scene_rows(table, bands=2))
    pixels = np.concatenate([arrays[0][:, 4:].reshape(2, -1), arrays[1].reshape(2, -1)], 1)
    assert np.allclose(mean, pixels.mean(1)) and np.allclose(std, pixels.std(1))
    empty = tif(tmp_path / "empty.tif", np.zeros((2, 3, 3), np.uint8), nodata=0)
    with pytest.raises(ValueError, match="None of the 1 scenes has a pixel with data"):
        area.band_statistics(area.scene_rows(empty, bands=2))


@pytest.mark.filterwarnings("ignore:The given matrix")
def test_a_crs_without_a_transform_places_nothing(tmp_path):
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", width=8, height=8, count=1,
                       dtype="uint8", crs="EPSG:32633", transform=Affine.identity()):  # fmt: skip
        pass
    assert area.read_grid(area.scene_rows(tmp_path / "a.tif")[0]).crs is None


def test_colors_of_a_palette_and_alpha_are_read_as_such(tmp_path):
    number = np.random.default_rng(0).integers(0, 3, (1, 20, 30)).astype("uint8")
    path = tmp_path / "p.tif"
    tif(path, number)
    colors = {0: (9, 8, 7, 255), 1: (200, 100, 50, 255), 2: (0, 255, 0, 255)}
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, colors)
    (row,) = area.scene_rows(path)
    pixels, valid = area.read_area(row, (2, 3, 12, 13))
    lookup = np.array([colors[i][:3] for i in range(3)], "uint8")
    assert valid.all() and area.read_grid(row).bands == 3
    np.testing.assert_array_equal(pixels, lookup[number[0, 3:13, 2:12]].transpose(2, 0, 1))
    rgba = np.random.default_rng(0).integers(1, 255, (4, 20, 30)).astype("uint8")
    tif(tmp_path / "a.tif", rgba)
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.colorinterp = [ColorInterp[n] for n in ("red", "green", "blue", "alpha")]
    assert area.read_grid({"path": tmp_path / "a.tif"}).bands == 3
