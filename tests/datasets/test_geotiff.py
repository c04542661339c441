import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from rasterio.shutil import copy
from rasterio.transform import Affine

from geossl.data.store import ChipStore
from geossl.datasets import geotiff, open_scenes
from geossl.datasets.raster.grid import reproject
from geossl.datasets.raster.header import read_headers
from geossl.datasets.raster.window import pixel_info, read_cells

DATA = Path(__file__).parents[3] / "shared" / "data"
LEFT, TOP, PX = 500_000.0, 5_200_000.0, 10.0


def write(path, pixels, *, left=LEFT, top=TOP, px=PX, crs="EPSG:32633", transform=None, **profile):
    """A GeoTIFF of pixels ``(C, H, W)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    masked = profile.pop("mask", None)
    with rasterio.open(
        path, "w", driver="GTiff", dtype=pixels.dtype, count=len(pixels), height=pixels.shape[1],
        width=pixels.shape[2], crs=crs, transform=transform or Affine(px, 0, left, 0, -px, top),
        **profile,
    ) as file:  # fmt: skip
        file.write(pixels)
        if masked is not None:
            file.write_mask(masked)
    return pixels


def noise(bands=3, height=64, width=96, seed=0, dtype="uint8", low=1):
    rng = np.random.default_rng(seed)
    return rng.integers(low, 255, (bands, height, width)).astype(dtype)


def test_a_cell_at_all_dates_is_one_location_with_the_files_own_pixels(tmp_path):
    first = write(tmp_path / "a_20150601.tif", noise(seed=1))
    # a row taller, starting two cells further west
    second = write(
        tmp_path / "b_20180713.tif", noise(height=65, width=128, seed=2), left=LEFT - 320
    )
    table = geotiff(tmp_path, chip_px=32)
    assert table["time"].dt.strftime("%Y%m%d").unique().tolist() == ["20180713", "20150601"]
    dates = table.groupby("location")["time"].nunique()
    assert len(table) == 6 + 8 and (dates == 2).sum() == 6 and (dates == 1).sum() == 2
    pixels = read_cells(table, size_px=32)
    assert not pixels.bad and pixels.valid.all()
    for i, row in table.iterrows():
        scene, left = (
            (first, LEFT) if row["path"].endswith("a_20150601.tif") else (second, LEFT - 320)
        )
        x, y = round((row["left"] - left) / PX), round((TOP - row["top"]) / PX)
        assert np.array_equal(pixels.chips[i], scene[:, y : y + 32, x : x + 32])


def test_positions_are_the_centers_of_the_cells(tmp_path):
    write(tmp_path / "2015.tif", noise())
    table = geotiff(tmp_path, chip_px=32)
    from rasterio.warp import transform

    x, y = transform("EPSG:4326", "EPSG:32633", table["lon"], table["lat"])
    np.testing.assert_allclose(x, table["left"] + 160, atol=1e-3)
    np.testing.assert_allclose(y, table["top"] - 160, atol=1e-3)


def test_strides_overlap(tmp_path):
    scene = write(tmp_path / "2015.tif", noise())
    table = geotiff(tmp_path, chip_px=32, stride_px=16)
    assert len(table) == 3 * 5
    chip = read_cells(table.iloc[[6]], size_px=32).chips[0]
    assert np.array_equal(chip, scene[:, 16:48, 16:48])


def smooth(height, width, px, left=0.0, top=0.0):
    """A picture that is a smooth function of the position on the ground, in meters."""
    x = left + (np.arange(width) + 0.5) * px
    y = top - (np.arange(height) + 0.5) * px
    waves = 128 + 60 * np.sin(x / 150)[None] + 60 * np.cos(y / 210)[:, None]
    return np.stack([waves, 255 - waves]).round().astype("uint8")


@pytest.mark.parametrize("kind", ["finer", "coarser", "shifted", "south-up", "other CRS"])
def test_scenes_on_other_grids_show_the_same_ground(tmp_path, kind):
    for year in (2014, 2015):  # the usual grid
        write(tmp_path / f"{year}.tif", smooth(64, 64, PX))
    other = tmp_path / "2016.tif"
    if kind == "finer":
        write(other, smooth(128, 128, PX / 2), px=PX / 2)
    elif kind == "coarser":
        write(other, smooth(32, 32, PX * 2), px=PX * 2)
    elif kind == "shifted":
        write(other, smooth(66, 66, PX, -13, 13), left=LEFT - 13, top=TOP + 13)
    elif kind == "south-up":
        upside = Affine(PX, 0, LEFT, 0, PX, TOP - 640)
        write(other, np.ascontiguousarray(smooth(64, 64, PX)[:, ::-1]), transform=upside)
    else:
        from rasterio.warp import calculate_default_transform, reproject

        source = write(tmp_path / "big" / "0000.tif", smooth(128, 128, PX, -320, 320),
                       left=LEFT - 320, top=TOP + 320)  # fmt: skip
        at = Affine(PX, 0, LEFT - 320, 0, -PX, TOP + 320)
        box = (LEFT - 320, TOP - 960, LEFT + 960, TOP + 320)
        to, w, h = calculate_default_transform("EPSG:32633", "EPSG:32632", 128, 128, *box)
        warped = np.zeros((2, h, w), "uint8")
        reproject(source, warped, src_transform=at, src_crs="EPSG:32633", dst_transform=to,
                  dst_crs="EPSG:32632", resampling=rasterio.enums.Resampling.bilinear)  # fmt: skip
        (tmp_path / "big" / "0000.tif").unlink()
        write(other, warped, transform=to, crs="EPSG:32632")
    table = geotiff(tmp_path, chip_px=32)
    assert (table.groupby("location")["time"].nunique() == 3).sum() >= 4
    pixels = read_cells(table, size_px=32)
    for _, rows in table.groupby("location"):
        chips = pixels.chips[rows.index].astype(float)
        if len(rows) == 3:
            inner = chips[:, :, 2:-2, 2:-2]
            assert np.abs(inner[2] - inner[0]).max() <= 6, kind  # shifted by a pixel: 30


def test_only_cells_that_a_turned_scene_covers(tmp_path):
    """A scene in another CRS lies askew; its corners of no data make no chips."""
    write(tmp_path / "2014.tif", noise(height=320, width=320))
    write(tmp_path / "2015.tif", noise(height=320, width=320, seed=1))
    turn = Affine.translation(LEFT, TOP - 1600) @ Affine.rotation(30) @ Affine.scale(PX, -PX)
    write(tmp_path / "2016.tif", noise(height=200, width=200, seed=2), transform=turn)
    table = geotiff(tmp_path, chip_px=32)
    askew = table[table["path"].str.endswith("2016.tif")].reset_index(drop=True)
    assert 5 < len(askew) < 60
    assert read_cells(askew, size_px=32).valid.mean() > 0.999


def test_an_alpha_band_is_a_mask_and_no_band(tmp_path):
    pixels = noise(4)
    pixels[3] = 255
    pixels[3, :32, :16] = 0
    write(tmp_path / "2015.tif", pixels, photometric="RGB", alpha="YES")
    table = geotiff(tmp_path, chip_px=32)
    assert pixel_info(table)["bands"] == ["red", "green", "blue"]
    found = read_cells(table, size_px=32)
    assert found.extra["nodata_share"][0] == pytest.approx(0.5) and not found.valid[0, 0, 0]


def test_no_data(tmp_path):
    pixels = noise()
    pixels[0, :32, :32] = 0  # dark in one band only: that is data
    pixels[:, 32:, :8] = 0  # in all: none
    write(tmp_path / "zero_2015.tif", pixels, nodata=0)
    table = geotiff(tmp_path, chip_px=32)
    found = read_cells(table, size_px=32)
    assert found.extra["nodata_share"].round(3).tolist() == [0, 0, 0, 0.25, 0, 0]
    assert np.array_equal(found.chips[0], pixels[:, :32, :32])


def test_floats_are_scaled_and_nan_is_no_data(tmp_path):
    pixels = noise(1, dtype="float32") / 255
    pixels[0, 0, 0] = np.nan
    write(tmp_path / "2015.tif", pixels)
    with pytest.raises(ValueError, match="scale"):
        geotiff(tmp_path, chip_px=32)
    table = geotiff(tmp_path, chip_px=32, scale=(0, 1))
    found = read_cells(table, size_px=32)
    assert found.chips.dtype == np.uint16 and found.chips[0, 0, 0, 0] == 0
    assert not found.valid[0, 0, 0] and found.valid.sum() == found.valid.size - 1
    back = (found.chips[0, 0].astype(float) - 1) / 65534
    np.testing.assert_allclose(back[1:], pixels[0, 1:32, :32], atol=1e-5)


def test_clouds_are_guessed_by_brightness(tmp_path):
    pixels = noise(low=20) // 4
    pixels[:, :32, :16] = 240
    write(tmp_path / "2015.tif", pixels, photometric="RGB")
    share = read_cells(geotiff(tmp_path, chip_px=32), size_px=32).extra["cloud_free_share"]
    assert share[0] == 0.5 and (share[1:] == 1).all()


DATED = {
    "S2_20200630T101500.tif": "2020-06-30", "a-2019-02-03.tif": "2019-02-03",
    "x1999y_2011.tif": "2011-01-01", "tile12345_2014.08.09.tif": "2014-08-09",
}  # fmt: skip


@pytest.mark.parametrize("name", DATED)
def test_dates_in_names(tmp_path, name):
    write(tmp_path / name, noise())
    assert geotiff(tmp_path)["time"].iloc[0].strftime("%Y-%m-%d") == DATED[name]


def test_dates_by_pattern_tag_and_csv(tmp_path):
    write(tmp_path / "in" / "d_0630_y2020.tif", noise())
    pattern = r"y(\d{4})"
    assert geotiff(tmp_path, date_pattern=pattern)["time"].iloc[0].year == 2020
    with rasterio.open(tmp_path / "in" / "d_0630_y2020.tif", "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2017:05:04 10:11:12")
    time = geotiff(tmp_path, date_tag="TIFFTAG_DATETIME")["time"].iloc[0]
    assert time == pd.Timestamp("2017-05-04T10:11:12Z")
    dates = tmp_path / "dates.csv"
    dates.write_text("path,time\nin/d_0630_y2020.tif,2001-02-03\n")
    assert geotiff(tmp_path, dates_csv=dates)["time"].iloc[0].strftime("%Y%m%d") == "20010203"


@pytest.mark.parametrize("text", ["may", "101112", "20201340", "", "99"])
def test_dates_that_are_none(tmp_path, text):
    write(tmp_path / "a.tif", noise())
    dates = tmp_path / "dates.csv"
    dates.write_text(f'path,time\na.tif,"{text}"\n')
    with pytest.raises(ValueError, match="a.tif.*`date_pattern`, `date_tag` or `dates_csv`"):
        geotiff(tmp_path, dates_csv=dates)


def test_bands_by_number_and_name(tmp_path):
    scene = write(tmp_path / "2015.tif", noise(4))
    with rasterio.open(tmp_path / "2015.tif", "r+") as file:
        file.descriptions = ("nir", "red", "green", "blue")
    table = geotiff(tmp_path, chip_px=32, bands=["blue", 1])
    assert pixel_info(table)["bands"] == ["blue", "nir"]
    assert np.array_equal(read_cells(table, size_px=32).chips[0], scene[[3, 0], :32, :32])
    assert pixel_info(geotiff(tmp_path))["rgb"] == [1, 2, 3]
    for wrong in ([5], [0], ["swir"], [1, 1], []):
        with pytest.raises(ValueError, match="`bands` must be different numbers"):
            geotiff(tmp_path, bands=wrong)


def test_a_cut_leaves_no_pixel_on_both_sides(tmp_path):
    for year in (2015, 2016):
        write(tmp_path / f"{year}.tif", noise(width=320))
    table = geotiff(tmp_path, chip_px=32, stride_px=16, test_side="east")
    train, test = (table[table["split"] == name] for name in ("train", "test"))
    assert train["right"].max() <= test["left"].min()
    assert len(test) / len(table) == pytest.approx(1 / 3, abs=0.07)


def test_what_is_wrong_is_said_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="The folder .* does not exist"):
        geotiff(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="There are no .tif or .tiff files"):
        geotiff(tmp_path)
    write(tmp_path / "a" / "2015.tif", noise())
    write(tmp_path / "a" / "2016.tif", noise(), left=LEFT + 100_000)
    assert geotiff(tmp_path / "a", chip_px=32)["location"].is_unique  # two areas
    with pytest.raises(
        ValueError, match="`chip_px` must fit into a scene, got 200 for scenes of at most 96 x 64"
    ):
        geotiff(tmp_path / "a", chip_px=200)
    write(tmp_path / "b" / "2015.tif", noise(), crs=None)
    with pytest.raises(ValueError, match="has no CRS"):
        geotiff(tmp_path / "b")
    write(tmp_path / "c" / "2015.tif", noise(3))
    write(tmp_path / "c" / "2016.tif", noise(5))
    with pytest.raises(
        ValueError, match=r"must have the same number of bands.*`bands=\[1, 2, 3\]`"
    ):
        geotiff(tmp_path / "c")
    assert len(geotiff(tmp_path / "c", bands=[1, 2, 3])) == 2  # as the message says
    for band in ("B02", "B03"):
        write(tmp_path / "d" / f"T33_2019_{band}_10m.tif", noise(1))
    with pytest.raises(
        ValueError, match="hold one band each .B02, B03.*gdal_merge.*{band}_10m.tif"
    ):
        geotiff(tmp_path / "d")
    (tmp_path / "d" / "t.csv").write_text("path\nT33_2019_{band}_10m.tif\n")
    found = open_scenes(tmp_path / "d", reader="table", headers=True, bands=("B02", "B03"))
    assert found["band_names"][0] == "B02,B03" and found["lon"].notna().all()


def test_products_of_one_file_per_band_say_how_to_be_read_and_so_they_are(tmp_path):
    for day in ("20190605", "20200610"):
        for band in ("B02", "B03"):
            path = (
                tmp_path / f"S2A_{day}.SAFE" / "GRANULE" / "L2A" / "R10m" / f"T31_{day}_{band}.tif"
            )
            write(path, noise(1))
    messages = []
    for open_them in (geotiff, open_scenes):
        with pytest.raises(ValueError, match="hold one band each") as raised:
            open_them(tmp_path)
        messages.append(str(raised.value))
    path = "S2A_20190605.SAFE/GRANULE/L2A/R10m/T31_20190605_{band}.tif"
    assert all(f"a csv in {tmp_path} " in text and repr(path) in text for text in messages)
    rows = [f"{path.replace('20190605', day)},{day}" for day in ("20190605", "20200610")]
    (tmp_path / "t.csv").write_text("\n".join(["path,time", *rows]))
    found = open_scenes(tmp_path / "t.csv", reader="table", headers=True, bands=("B02", "B03"))
    assert found["lon"].notna().all() and found["time"].dt.year.tolist() == [2019, 2020]


def test_folders_of_years_beside_others_are_no_classes(tmp_path):
    for year in (2019, 2020):
        write(tmp_path / str(year) / f"scene_{year}0605.tif", noise())
    (tmp_path / "docs").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    table = open_scenes(tmp_path)
    assert table.attrs["opened"][0] == "geotiff"
    assert table["location"].nunique() * 2 == len(table)
    assert sorted(set(table["time"].dt.year)) == [2019, 2020]


def test_pictures_with_a_world_file_are_near_to_geotiff(tmp_path):
    for year in (2019, 2020):
        Image.fromarray(noise().transpose(1, 2, 0)).save(tmp_path / f"{year}.png")
        (tmp_path / f"{year}.pgw").write_text("10\n0\n0\n-10\n440005\n5409995\n")
    with pytest.raises(ValueError, match="`geotiff` cannot place .*2019.png has no CRS"):
        open_scenes(tmp_path)
    for year in (2019, 2020):
        (tmp_path / f"{year}.png.aux.xml").write_text(
            "<PAMDataset><SRS>EPSG:32631</SRS></PAMDataset>"
        )
    with pytest.raises(ValueError, match="`geotiff` opens .* reader='geotiff'"):
        open_scenes(tmp_path)
    table = open_scenes(tmp_path, reader="geotiff", chip_px=32)
    assert table["lon"].between(2, 3).all() and table["time"].dt.year.nunique() == 2


def test_a_damaged_file_is_named_or_left_out(tmp_path):
    for year in (2015, 2016):
        write(tmp_path / f"{year}.tif", noise())
    bad = tmp_path / "2017.tif"
    bad.write_bytes(b"II*\0 no more")
    with pytest.raises(ValueError, match=r"2017.tif cannot be read.*skip_bad"):
        geotiff(tmp_path, chip_px=32)
    table = geotiff(tmp_path, chip_px=32, skip_bad=True)
    assert list(table.attrs["skipped"]) == [str(bad)] and table["time"].nunique() == 2


def test_tiles_and_undated_patches_have_grids_of_their_own(tmp_path):
    """Tiles 100 pixels wide: on one grid of 32 the second would lose a column."""
    tiles = {}
    for i, left in enumerate((LEFT, LEFT + 1000, LEFT + 9000)):
        for year in (2019, 2020):
            pixels = noise(width=100, seed=10 * i + year)
            tiles[f"t{i}_{year}.tif"] = write(tmp_path / f"t{i}_{year}.tif", pixels, left=left)
    table = geotiff(tmp_path, chip_px=32)
    assert len(table) == 3 * 2 * 3 * 2 and table["location"].nunique() == 18
    assert (table.groupby("location")["time"].nunique() == 2).all()
    chips = read_cells(table, size_px=32).chips
    for path, rows in table.groupby("path"):
        whole = tiles[Path(path).name]
        for i in rows.index:
            y, x = table.loc[i, ["row", "column"]]
            assert np.array_equal(chips[i], whole[:, y : y + 32, x : x + 32])
    patches = tmp_path / "patches"
    for i in range(3):
        write(patches / f"patch_{i}.tif", noise(seed=i), left=LEFT + 9000 * i)
    write(patches / "patch_1999.tif", noise(), left=LEFT - 9000)  # no date: the others have none
    table = geotiff(patches)
    assert len(table) == table["location"].nunique() == 4 and table["time"].isna().all()
    for i in range(7):
        write(patches / f"x_2020060{i + 1}.tif", noise())
    with pytest.raises(ValueError, match="patch_0.tif has no date in its name.*`date_pattern`"):
        geotiff(patches)


def test_small_patches_are_one_chip_each(tmp_path):
    for i in range(4):
        write(tmp_path / f"patch_{i}.tif", noise(height=24, width=30, seed=i), left=LEFT + 9000 * i)
    write(tmp_path / "patch_4.tif", noise(height=10, width=10), left=LEFT - 9000)
    table = geotiff(tmp_path)
    assert len(table) == 4 and set(table["chip_px"]) == {24}
    assert "covers no whole cell" in table.attrs["skipped"][str(tmp_path / "patch_4.tif")]


def test_patches_of_several_zones_and_over_180_degrees(tmp_path):
    from rasterio.warp import transform

    for crs, left in (("EPSG:32633", LEFT), ("EPSG:32632", LEFT)):  # far apart
        write(tmp_path / f"{crs[-2:]}.tif", noise(2), crs=crs, left=left)
    for crs in ("EPSG:32601", "EPSG:32660"):  # one place on 180 degrees, seen from both sides
        (x,), (y,) = transform("EPSG:4326", crs, [180.0], [10.0])
        pixels = smooth(96, 96, PX)
        write(tmp_path / f"{crs[-2:]}.tif", pixels, crs=crs, left=x - 480, top=y + 480)
    table = geotiff(tmp_path, chip_px=32)
    area = table["location"].str.extract(r"(a\d+)")[0]
    assert area.nunique() == 3 and table["crs"].nunique() == 3
    over = table[table["path"].str.contains("01.tif|60.tif")]
    dates = over.groupby("location")["path"].nunique()
    assert (dates == 2).any() and (over["lon"].abs() > 179.99).all()
    assert np.abs(over["lat"] - 10).max() < 0.005
    with pytest.raises(ValueError, match="`test_side` needs files of one CRS, got 3"):
        geotiff(tmp_path, chip_px=32, test_side="east")


def test_an_alpha_band_beside_files_without_one(tmp_path):
    scene = write(tmp_path / "a_2015.tif", noise(3), photometric="RGB")
    masked = noise(4, seed=1)
    masked[3] = 255
    masked[3, :, :16] = 0
    write(tmp_path / "b_2016.tif", masked, photometric="RGB", alpha="YES")
    table = geotiff(tmp_path, chip_px=32)
    found = read_cells(table, size_px=32)
    assert found.chips.shape[1] == 3 and np.array_equal(found.chips[0], scene[:, :32, :32])
    assert found.extra["nodata_share"][:2].tolist() == [0, 0.5]


def test_every_raster_that_gdal_opens_and_one_file_alone(tmp_path):
    pixels = noise(dtype="uint8")
    for year in (2019, 2020):
        with rasterio.open(
            tmp_path / f"j_{year}0101.jp2", "w", driver="JP2OpenJPEG", width=96, height=64, count=3,
            dtype="uint8", crs="EPSG:32633", transform=Affine(PX, 0, LEFT, 0, -PX, TOP),
            QUALITY="100", REVERSIBLE="YES",
        ) as file:  # fmt: skip
            file.write(pixels)
    (tmp_path / "preview.jpg").write_bytes(b"")
    table = geotiff(tmp_path, chip_px=32)
    assert len(table) == 12 and table["time"].nunique() == 2
    assert list(table.attrs["skipped"]) == [str(tmp_path / "preview.jpg")]
    assert np.array_equal(read_cells(table, size_px=32).chips[0], pixels[:, :32, :32])
    alone = geotiff(tmp_path / "j_20190101.jp2", chip_px=32)
    assert len(alone) == 6 and alone["path"].nunique() == 1
    for driver, suffix in (("HFA", "img"), ("ENVI", "dat")):
        (tmp_path / driver).mkdir()
        path = tmp_path / driver / f"s_2019.{suffix}"
        copy(tmp_path / "j_20190101.jp2", path, driver=driver)
        chips = read_cells(geotiff(path, chip_px=32), size_px=32).chips
        assert np.array_equal(chips[0], pixels[:, :32, :32]), driver
    grid = tmp_path / "grid.asc"
    head = "ncols 40\nnrows 40\nxllcorner 5\nyllcorner 45\ncellsize 0.1\n"
    grid.write_text(head + ("7 " * 40 + "\n") * 40)
    with pytest.raises(ValueError, match="grid.asc has no CRS"):
        geotiff(grid)
    grid.with_suffix(".prj").write_text(rasterio.crs.CRS.from_epsg(4326).to_wkt())
    table = geotiff(grid, chip_px=32, scale=(0, 7))
    assert (
        table["lon"][0] == pytest.approx(6.6)
        and (read_cells(table, size_px=4).chips == 65535).all()
    )


@pytest.mark.filterwarnings("ignore:The given matrix")
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", None])
def test_a_file_without_a_transform_is_refused_and_the_advice_helps(tmp_path, crs):
    for year in (2019, 2020):
        write(tmp_path / "as" / f"s_{year}.tif", noise(), crs=crs, transform=Affine.identity())
        write(tmp_path / "up" / f"s_{year}.tif", noise(), crs=crs,
              transform=Affine(1, 0, 0, 0, -1, 64))  # fmt: skip
    for folder in (tmp_path / "as", tmp_path / "up"):
        with pytest.raises(ValueError, match="no transform.*gdal_translate.*-a_ullr") as caught:
            geotiff(folder, chip_px=32)
        assert ("-a_srs" in str(caught.value)) == (crs is None)


def test_a_place_beyond_the_globe_is_refused_alike_each_time(tmp_path):
    write(tmp_path / "a" / "s_2019.tif", noise(), crs="EPSG:4326", left=10.0, top=224.0, px=0.1)
    write(tmp_path / "b" / "s_2019.tif", noise(), left=1e12)
    write(tmp_path / "c" / "s_2019.tif", noise(), crs='LOCAL_CS["site",UNIT["metre",1]]')
    for folder in "abcabc":
        with pytest.raises(ValueError, match="lies nowhere on the globe"):
            geotiff(tmp_path / folder, chip_px=32)


def test_reprojection_gives_each_position_its_own_result_in_any_order():
    x, y = np.array([15.0, 15.0, 15.0, 16.0]), np.array([45.0, 100.0, 91.0, 46.0])
    want = reproject("EPSG:4326", "EPSG:32633", x[[0, 3]], y[[0, 3]])
    for order in ([0, 1, 2, 3], [1, 0, 3, 2], [0, 1, 2, 3]):
        for _ in range(25):  # GDAL says the first errors only
            moved = np.stack(reproject("EPSG:4326", "EPSG:32633", x[order], y[order]))
            back = moved[:, np.argsort(order)]
            assert not np.isfinite(back[:, 1:3]).any()
            np.testing.assert_allclose(back[:, [0, 3]], want, atol=1e-6)
    with pytest.raises(ValueError, match="cannot be reprojected"):
        reproject('LOCAL_CS["site",UNIT["metre",1]]', "EPSG:4326", x, y)


def test_control_points_and_rpcs_are_warped_where_that_is_asked_for(tmp_path):
    from rasterio.control import GroundControlPoint
    from rasterio.rpc import RPC

    pixels = np.full((3, 64, 96), 1, "uint8")
    pixels[:, 10:20, 30:50] = 201
    corners = [(0, 0), (0, 96), (64, 0), (64, 96)]
    points = [GroundControlPoint(r, c, 15 + c * 1e-4, 45 - r * 1e-4) for r, c in corners]
    lines = [[0, 0, -1] + [0] * 17, [1] + [0] * 19, [0, 1] + [0] * 18, [1] + [0] * 19]
    rpcs = RPC(0, 100, 45 - 32e-4, 32e-4, lines[1], lines[0], 32, 32, 15 + 48e-4, 48e-4, lines[3],
               lines[2], 48, 48)  # fmt: skip
    for name, about in (("points", {"gcps": points, "crs": "EPSG:4326"}), ("rpcs", {"rpcs": rpcs})):
        path = tmp_path / name / "s_2019.tif"
        path.parent.mkdir()
        with rasterio.open(path, "w", driver="GTiff", width=96, height=64, count=3, dtype="uint8",
                           **about) as file:  # fmt: skip
            file.write(pixels)
        with pytest.raises(ValueError, match="in place of a transform. Pass `warp=True`"):
            geotiff(path.parent, chip_px=8)
        with pytest.raises(ValueError, match="Pass `warp=True`"):
            open_scenes(path.parent)
        table = open_scenes(path.parent, chip_px=8, warp=True)
        means = read_cells(table, size_px=8).chips.mean((1, 2, 3))
        brightest = table.iloc[means.argmax()]
        assert means.max() > 150, name
        assert abs(brightest["lon"] - 15.004) < 1e-3 and abs(brightest["lat"] - 44.9985) < 5e-4
        (at,) = read_headers([str(path)])[["lon", "lat"]].to_numpy()
        np.testing.assert_allclose(at, [15.0048, 44.9968], atol=1e-9)


def test_a_folder_is_walked_once_without_what_is_hidden_and_names_what_is_closed(
    tmp_path, monkeypatch
):
    real = tmp_path / "real folder ä"
    write(real / "s_2019.tif", noise())
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", ".git"):
        write(real / name / "copy_2019.tif", noise())
    write(real / "._s_2019.tif", noise())
    (real / "loop").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "again_2019.tif").symlink_to(real / "s_2019.tif")
    table = geotiff(tmp_path, chip_px=32)
    assert table["path"].unique().tolist() == [str(real / "s_2019.tif")]
    assert geotiff(tmp_path / "link", chip_px=32)["path"].nunique() == 1
    (tmp_path / "gone_2019.tif").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match="gone_2019.tif: it is a link to a file that does not exist"
    ):
        geotiff(tmp_path, chip_px=32)
    (tmp_path / "gone_2019.tif").unlink()
    os.mkfifo(tmp_path / "pipe_2019.tif")  # would be waited for
    assert geotiff(tmp_path, chip_px=32)["path"].nunique() == 1
    for reader in (None, "table", "coco", "geotiff"):
        with pytest.raises(
            ValueError, match="`path` must be a folder or a file.*a pipe or a device"
        ):
            open_scenes(tmp_path / "pipe_2019.tif", reader=reader)
    (tmp_path / "pipe_2019.tif").unlink()
    only = tmp_path / "only" / "in"
    only.parent.mkdir()
    only.symlink_to(real)
    assert geotiff(tmp_path / "only", chip_px=32)["path"].nunique() == 1
    closed = tmp_path / "closed"
    closed.mkdir()
    scan = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        ValueError, match="closed: it cannot be listed: Permission denied.*skip_bad"
    ):
        geotiff(tmp_path, chip_px=32)
    assert list(geotiff(tmp_path, chip_px=32, skip_bad=True).attrs["skipped"]) == [str(closed)]
    with pytest.raises(ValueError, match="closed cannot be listed: Permission denied. Change its"):
        geotiff(closed)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real imagery in ../shared/data")
@pytest.mark.parametrize("folder, dates", [("naip_north_dakota", 10), ("landsat_pucallpa", 8)])
def test_real_imagery_reads_as_it_is_in_the_files(tmp_path, folder, dates):
    table = geotiff(DATA / folder, chip_px=64)
    assert table["time"].nunique() == dates
    often = table.groupby("location")["time"].nunique()
    assert (often == dates).mean() > 0.5
    some = table.sample(30, random_state=0).reset_index(drop=True)
    store = ChipStore.build(tmp_path / "chips", some, size_px=64, progress=False)
    aligned = 0
    for i, row in some.iterrows():
        box = row["left"], row["bottom"], row["right"], row["top"]
        with rasterio.open(row["path"]) as file:
            window = rasterio.windows.from_bounds(*box, file.transform)
            corner = np.array([window.col_off, window.row_off])
            want = file.read(window=window.round_offsets().round_lengths())
        if np.abs(corner - corner.round()).max() < 0.01:  # else it is resampled
            aligned += 1
            assert np.array_equal(store.chips[i], want)
    assert aligned >= 10


@pytest.fixture
def undated(tmp_path):
    """Two files whose names hold no date."""
    for name in ("a.tif", "sub/b.tif"):
        write(tmp_path / "g" / name, noise())
    return tmp_path / "g"


@pytest.mark.parametrize(
    "text",
    [
        "path,time\na.tif,2019-06-05\nsub/b.tif,2020-06-05\n",
        "Path,Date\na.tif,2019-06-05\nsub\\b.tif,2020-06-05\n",
        "filename;acquired\na;2019-06-05\nb;2020-06-05\n",
        "path,time\nC:\\x\\g\\a.tif,5 June 2019\nb.tif,2020-06-05T00:00:00Z\n",
        "time,path\n05/06/2019,a.tif\n05/06/2020,b.tif\n25/06/2020,elsewhere.tif\n",
    ],
)
def test_dates_of_a_csv(undated, text):
    (undated / "d.csv").write_text(text)
    table = geotiff(undated, chip_px=32, dates_csv=undated / "d.csv")
    days = table.groupby("path")["time"].first().dt.strftime("%Y-%m-%d").tolist()
    assert days == ["2019-06-05", "2020-06-05"]
    assert table["date_rule"].unique() == ["column time of d.csv"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,time\na.tif,2019-06-05\n", "no row for 1 of 2 in .*: sub/b.tif. Add the rows"),
        ("path,time\nc.tif,2019-06-05\n", "2 of 2 .*1 of its rows name no file, e.g. 'c.tif'"),
        ("path,time\na,2019\na,2020\nb,2019\n", "two dates for a.tif: '2019' and '2020'"),
        ("name,when\na,2019\n", r"needs the columns path and time, got \['name', 'when'\]"),
        ("file,image,time\na,b,2019\n", "'file', 'image'. may all be path"),
        ("path,time\na,43621\nb,43622\n", "a.tif has '43621', .* spreadsheets count them"),
    ],
)
def test_a_csv_of_dates_that_does_not_do(undated, text, words):
    (undated / "d.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        geotiff(undated, chip_px=32, dates_csv=undated / "d.csv")


def test_tags_that_are_absent_or_may_be_two_dates(undated):
    with pytest.raises(ValueError, match="`date_tag` must name a tag of .*a.tif, got 'WHEN', not"):
        geotiff(undated, chip_px=32, date_tag="WHEN")
    for name in ("a.tif", "sub/b.tif"):
        with rasterio.open(undated / name, "r+") as file:
            file.update_tags(ns="IMAGERY", WHEN="05/06/2019")
    with pytest.raises(ValueError, match='`05/06/2019` may be .*Pass `date_pattern="%d/%m/%Y"`'):
        geotiff(undated, chip_px=32, date_tag="WHEN")
    table = geotiff(undated, chip_px=32, date_tag="WHEN", date_pattern="%d/%m/%Y")
    assert table["time"].unique() == [pd.Timestamp("2019-06-05", tz="UTC")]


def test_how_dates_were_read_is_described_after_a_round_trip(tmp_path):
    from geossl import describe
    from geossl.data.table_files import read_table
    from geossl.data.table_files import write as write_table

    for name in ("s_20190605T1030.tif", "s_20190606.tif", "s_20190607.tif", "2019-06/q.tif"):
        write(tmp_path / "g" / name, noise())
    table = geotiff(tmp_path / "g", chip_px=32)
    for suffix in ("parquet", "csv", "geoparquet"):
        write_table(table, tmp_path / f"t.{suffix}")
        text = str(describe(read_table(tmp_path / f"t.{suffix}")))
        assert (
            "year-month-day in the name, e.g. s_20190605T1030.tif -> 2019-06-05 10:30:00, "
            "s_20190606.tif -> 2019-06-06, s_20190607.tif -> 2019-06-07" in text
        )
        assert "year-month in the name of the folder, e.g. 2019-06/q.tif -> 2019-06-01" in text
    assert describe(table.drop(columns="date_rule")).date_rules == {}
