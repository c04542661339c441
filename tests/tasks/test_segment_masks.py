import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.shutil
import rasterio.warp
import shapely
from PIL import Image
from rasterio.transform import from_origin
from segment_scenes import NAMES, a_grid, geojson, read, tif

from geossl.tasks.segment.masks import IGNORE, Masks


def test_a_mask_is_read_as_it_is_by_windows(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, (30, 40), dtype=np.uint8)
    codes[3, 4] = IGNORE
    path = tif(tmp_path / "m.tif", codes)
    assert np.array_equal(read(path), codes)
    assert np.array_equal(read(path, window=(5, 7, 20, 29)), codes[7:29, 5:20])
    Image.fromarray(codes).save(tmp_path / "m.png")  # no CRS: the scene's pixels
    assert np.array_equal(read(tmp_path / "m.png"), codes)
    wide = tif(tmp_path / "wide.tif", codes.astype(np.float32))
    assert np.array_equal(read(wide), codes)


def test_values_and_nodata_of_masks(tmp_path):
    codes = np.random.default_rng(0).integers(0, 2, (30, 40), dtype=np.uint8)
    path = tif(tmp_path / "a.tif", codes * 255)
    assert np.array_equal(read(path, Masks(NAMES, values=(0, 255))), codes)
    assert set(np.unique(read(path))) == {0, IGNORE}  # 255 is left out
    path = tif(tmp_path / "b.tif", codes, nodata=0)  # many write background so
    assert np.array_equal(read(path), codes)
    path = tif(tmp_path / "c.tif", np.where(codes, 1, 9), nodata=9)
    assert np.array_equal(read(path), np.where(codes, 1, IGNORE))
    nan = np.where(codes, 1, np.nan).astype(np.float32)
    assert np.array_equal(read(tif(tmp_path / "d.tif", nan)), np.where(codes, 1, IGNORE))
    path = tif(tmp_path / "e.tif", np.where(codes, 7, 0).astype(np.uint16))
    with pytest.raises(ValueError, match=rf"values 0, 1, or 255 .*{codes.sum()} pixels have 7"):
        read(path)
    with pytest.raises(ValueError, match="must have one band of class numbers, but has 3"):
        read(tif(tmp_path / "f.tif", np.stack([codes] * 3)))


def test_masks_of_another_size_are_refused_or_resampled_by_majority(tmp_path):
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 3, (90, 120), dtype=np.uint8)
    Image.fromarray(fine).save(tmp_path / "fine.png")
    three = ("a", "b", "c")
    with pytest.raises(ValueError, match="120 x 90 pixels, not 40 x 30. Pass resample=True"):
        read(tmp_path / "fine.png", Masks(three))
    masks = Masks(three, resample=True)
    found = read(tmp_path / "fine.png", masks)
    votes = np.stack([(fine == c).reshape(30, 3, 40, 3).sum((1, 3)) for c in range(3)])
    best = np.sort(votes, axis=0)
    clear = best[2] > best[1]
    assert clear.mean() > 0.6 and np.array_equal(found[clear], votes.argmax(0)[clear])
    part = read(tmp_path / "fine.png", masks, window=(3, 5, 17, 9))
    assert np.array_equal(part, found[5:9, 3:17])
    coarse = rng.integers(0, 3, (10, 10), dtype=np.uint8)
    Image.fromarray(coarse).save(tmp_path / "coarse.png")
    grid = a_grid(30, 30)
    expected = np.kron(coarse, np.ones((3, 3), np.uint8))
    assert np.array_equal(read(tmp_path / "coarse.png", masks, grid=grid), expected)
    with pytest.raises(ValueError, match="aspect ratio of its scene, but has 10 x 10"):
        read(tmp_path / "coarse.png", masks)
    # footprints whose sides were rounded, as the power plants' are
    Image.fromarray(np.tile(np.uint8([[0], [1]]), (557, 1115))).save(tmp_path / "p.png")
    assert read(tmp_path / "p.png", masks, grid=a_grid(75, 76)).shape == (75, 76)


def test_masks_of_another_crs_are_refused_or_brought_to_the_scene(tmp_path):
    shape = shapely.box(500_050, 4_999_780, 500_210, 4_999_900)
    grid = a_grid()
    left, bottom, right, top = rasterio.warp.transform_bounds(
        "EPSG:32633", "EPSG:4326", 500_000, 4_999_700, 500_400, 5_000_000
    )
    fine = from_origin(left - 0.001, top + 0.001, 1e-5, 1e-5)
    size = int((top - bottom + 0.002) / 1e-5), int((right - left + 0.002) / 1e-5)
    moved = rasterio.warp.transform_geom("EPSG:32633", "EPSG:4326", shapely.geometry.mapping(shape))
    burnt = rasterio.features.rasterize([(moved, 1)], size, transform=fine, dtype="uint8")
    path = tif(tmp_path / "m.tif", burnt, crs="EPSG:4326", transform=fine)
    with pytest.raises(ValueError, match="CRS EPSG:4326, not EPSG:32633. Pass resample=True"):
        read(path)
    masks = Masks(NAMES, resample=True)
    expected = read(geojson(tmp_path / "m.geojson", [shape]))
    assert expected.sum() == 16 * 12
    found = read(path, masks)
    assert (found != expected).sum() <= 6  # pixels that the edge halves
    half = tif(tmp_path / "half.tif", burnt[: size[0] // 2], crs="EPSG:4326", transform=fine)
    found = read(half, masks)
    assert (found[:10] != IGNORE).all() and (found[-5:] == IGNORE).all()
    shifted = tif(tmp_path / "s.tif", expected, transform=from_origin(500_005, 5_000_000, 10, 10))
    with pytest.raises(ValueError, match="but has pixels of another size or position"):
        read(shifted)
    other = tif(tmp_path / "o.tif", expected, transform=from_origin(600_000, 5_000_000, 10, 10))
    with pytest.raises(ValueError, match="must overlap its scene, but lies elsewhere"):
        read(other, masks, grid=grid)


@pytest.mark.parametrize(
    ("classes", "more"),
    [((), {}), (("plant",), {}), ("plant", {}), (("a", "a"), {}), (("a", ""), {}),
     (tuple(map(str, range(256))), {}), (NAMES, {"values": (1,)}), (NAMES, {"values": (1, 1)})],
)  # fmt: skip
def test_classes_that_cannot_be_told_apart_are_refused(classes, more):
    error, words = ValueError, "`classes` must be 2 to 255 different names"
    if more:
        words = "`values` must be 2 different numbers, one per class"
    if isinstance(classes, str):
        error, words = TypeError, "`classes` must be a list of str, got 'plant'"
    with pytest.raises(error, match=words):
        Masks(classes, **more)
