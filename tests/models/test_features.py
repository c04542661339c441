from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin

from geossl import models
from geossl.datasets.raster import area
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.models import features


@pytest.mark.parametrize(
    ("name", "stem"),
    [("small", "small"), ("small", "standard"), ("resnet18", "small"), ("resnet50", "standard")],
)
def test_maps_have_the_strides_and_widths_they_say(name, stem):
    encoder = models.build_encoder(name, stem=stem, bands=2).eval()
    pyramid = features.Pyramid(encoder)
    x = torch.randn(2, 2, 64, 96)
    with torch.no_grad():
        maps = pyramid(x)
        assert [m.shape for m in maps] == [
            (2, width, 64 // stride, 96 // stride)
            for width, stride in zip(pyramid.widths, pyramid.strides, strict=True)
        ]
        torch.testing.assert_close(maps[-1].mean((2, 3)), encoder(x))  # the embedding is its mean


def test_padding_keeps_the_image_and_adds_zeros_after_it():
    x = torch.randn(1, 3, 33, 64)
    y = features.pad_to_multiple(x, 32)
    assert y.shape == (1, 3, 64, 64)
    assert torch.equal(y[..., :33, :], x) and not y[..., 33:, :].any()


@pytest.mark.parametrize(
    ("height", "width", "size", "overlap"),
    [(100, 70, 32, 8), (5, 5, 32, 0), (64, 64, 32, 0), (65, 1, 32, 31)],
)
def test_windows_cover_every_pixel_and_share_the_overlap(height, width, size, overlap):
    count = np.zeros((height + 2 * size, width + 2 * size), int)
    found = list(features.sliding_windows(height, width, size_px=size, overlap_px=overlap))
    for left, top, right, bottom in found:
        assert right - left == bottom - top == size and left < width and top < height
        count[top:bottom, left:right] += 1
    assert (count[:height, :width] >= 1).all()
    lefts = sorted({w[0] for w in found})
    assert all(b - a == size - overlap for a, b in zip(lefts, lefts[1:], strict=False))
    # no window lies whole within what its neighbor shows of the scene
    assert all(left == 0 or left + overlap < width for left in lefts)


@pytest.mark.parametrize(("size", "overlap"), [(8, 8), (8, -1)])
def test_windows_that_do_not_move_on_are_refused(size, overlap):
    with pytest.raises(ValueError, match="`overlap_px` must be (less than `size_px`|>= 0)"):
        list(features.sliding_windows(9, 9, size_px=size, overlap_px=overlap))


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
    with pytest.raises(ValueError, match="must end in .tif"):
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
