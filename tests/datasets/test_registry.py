import importlib
import json
import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from PIL import Image

from geossl.data.readers import get_reader
from geossl.datasets.registry import matching_data_sets, names, open_scenes

DATA = Path(__file__).parents[3] / "shared" / "data"


def put(path, content=b""):
    """A file: bytes, text, or json of anything else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def jpg(path, exif=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (9, 90, 9)).save(path, exif=exif)


def tif(path, left=500_000.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {}
    if left is not None:
        about = {"crs": "EPSG:32633", "transform": Affine(10, 0, left, 0, -10, 5_200_000)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", dtype="uint8", count=3, width=64, height=64,
            **about,
        ) as file:  # fmt: skip
            file.write(np.full((3, 64, 64), 7, np.uint8))


def make_fmow(at):
    for n, k in ((0, 0), (0, 3), (2, 1)):
        stem = (
            at / "train" / "car-park_or_lot" / f"car-park_or_lot_{n}" / f"car-park_or_lot_{n}_{k}"
        )
        jpg(Path(f"{stem}_rgb.jpg"))
        put(Path(f"{stem}_rgb.json"), {"timestamp": "2015-01-01T00:00:00Z", "raw_location": ""})


def make_wilds(at):
    head = ",split,img_filename,timestamp,country_code,category,lat,lon"
    put(at / "rgb_metadata.csv", head + "\n0,train,a_0_0_rgb.jpg,2015-01-01,USA,a,1.0,2.0\n")
    jpg(at / "images" / "rgb_img_0.png")


def make_fmow_sentinel(at):
    head = "category,location_id,image_id,timestamp,polygon\n"
    row = 'a,3,1,2016-01-01T00:00:00Z,"POLYGON ((1 2, 1 3, 2 3, 1 2))"\n'
    put(at / "train.csv", head + row)
    tif(at / "fmow-sentinel" / "train" / "a" / "a_3" / "a_3_1.tif")


def make_gassl(at):
    put(at / "train.csv", "label,path\n3,train/a/a_0/a_0_1_rgb.jpg\n")
    return at / "train.csv"


def make_satmae(at):
    put(at / "train.csv", "category,path,timestamp\n3,train/a/a_0/a_0_1.jpg,2015-01-01T00:00:00Z\n")
    return at / "train.csv"


def make_eurosat(at):
    for kind in ("Forest", "River"):
        jpg(at / kind / f"{kind}_1985.jpg")


def make_bigearthnet(at):
    patch = "S2A_MSIL2A_20170617T113321_36_85"
    for band in ("B01", "B02", "B8A"):
        tif(at / patch / f"{patch}_{band}.tif")
    put(at / patch / f"{patch}_labels_metadata.json", {"labels": []})


def make_ssl4eo(at):
    for date in ("20200601T100031_20200601T100028_T33UUP", "20200901T100031_x_T33UUP"):
        tif(at / "s2c" / "0000012" / date / "B2.tif")


def make_seco(at):
    tif(at / "000012" / "20200601T100031_20200601T100028_T33UUP" / "B2.tif")


def make_spacenet(at):
    tif(at / "3band" / "3band_AOI_1_RIO_img1990.tif")
    put(at / "geojson" / "Geo_AOI_1_RIO_img1990.geojson")


def make_xview(at):
    about = {"bounds_imcoords": "1,2,9,8", "image_id": "5.tif", "type_id": 73}
    features = [{"type": "Feature", "properties": about, "geometry": None}]
    put(at / "xView_train.geojson", {"type": "FeatureCollection", "features": features})
    tif(at / "train_images" / "5.tif")


def make_coco(at):
    jpg(at / "images" / "a.jpg")
    put(at / "annotations" / "x.json", {
        "images": [{"id": 1, "file_name": "a.jpg"}], "categories": [], "annotations": []
    })  # fmt: skip


def make_tile2vec(at):
    for i in (0, 1, 5):
        at.mkdir(exist_ok=True)
        np.save(at / f"{i}tile.npy", np.zeros((9, 9, 4), np.uint8))
    np.save(at / "y.npy", np.zeros(6))


def make_geoimagenet(at):
    jpg(at / "n01440764" / "4711.jpg")
    jpg(at / "n01443537" / "4712.jpg")
    put(at / "meta.csv", "4711,48.5,2.5,2009\n4712,-1000,-1000,2009\n")


def make_photos(at):
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (48, 30, 0), 3: "E", 4: (2, 15, 0)}
    jpg(at / "walk" / "a.jpg", exif)
    jpg(at / "b.jpg")


def make_table(at):
    jpg(at / "img" / "ä.jpg")
    put(at / "index.csv", "fn,lat,lon\nimg/ä.jpg,48.5,2.5\n")


def make_image_folder(at):
    for kind in ("cat", "ä dog"):
        jpg(at / kind / f"{kind}_1.jpg")
    put(at / "README.txt", "mine")


def make_image_folder_of_eurosats_names(at):
    for kind in ("Forest", "River"):
        jpg(at / "train" / kind / "one.jpg")


def make_geotiff(at):
    tif(at / "scene_20200601.tif")
    tif(at / "scene_20210601.tif")


LAYOUTS = {name.removeprefix("make_"): make for name, make in list(globals().items())
           if name.startswith("make_")}  # fmt: skip
READER = {"wilds": "wilds_fmow", "gassl": "gassl_csv", "satmae": "satmae_csv",
          "image_folder_of_eurosats_names": "image_folder"}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_recognized_by_its_reader_alone(tmp_path, layout):
    path = LAYOUTS[layout](tmp_path / "set") or tmp_path / "set"
    found = matching_data_sets(path)
    assert list(found) == [READER.get(layout, layout)], found
    why = next(iter(found.values()))
    assert 10 < len(why) < 120 and "\n" not in why


def test_every_reader_has_a_layout_here():
    assert {READER.get(layout, layout) for layout in LAYOUTS} == set(names())


@pytest.mark.parametrize("name", names())
def test_a_reader_has_a_function_of_its_name_and_says_whether_it_fits(name, tmp_path):
    module = importlib.import_module(f"geossl.datasets.{name}")
    assert callable(getattr(module, name)) and callable(get_reader(name).read_chips)
    assert module.fits(tmp_path) is None and module.fits(tmp_path / "absent") is None


@pytest.mark.parametrize("layout", ["coco", "xview", "geoimagenet", "photos", "table",
                                    "image_folder", "geotiff", "eurosat", "tile2vec"])  # fmt: skip
def test_open_scenes_says_which_it_took_and_why(tmp_path, layout):
    LAYOUTS[layout](tmp_path / "set")
    table = open_scenes(tmp_path / "set")
    name, why = table.attrs["opened"]
    assert name == layout and why == matching_data_sets(tmp_path / "set")[layout]
    assert (table["reader"] == layout).all() and len(table)
    again = open_scenes(str(tmp_path / "set"), reader=layout)
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert again.attrs["opened"] == (layout, "named by `reader`")


def test_options_go_to_the_reader(tmp_path):
    make_geotiff(tmp_path)
    assert open_scenes(tmp_path, chip_px=16)["chip_px"].unique() == [16]
    with pytest.raises(
        ValueError,
        match="`chip_pixels` is not an option of the data set geotiff, which has chip_px, ",
    ):
        open_scenes(tmp_path, chip_pixels=16)


def test_two_that_fit_are_told_and_one_can_be_asked_for(tmp_path):
    make_geotiff(tmp_path)
    make_tile2vec(tmp_path)
    with pytest.raises(
        ValueError, match="2 data sets fit .*: geotiff .*; tile2vec .*Pass `reader`"
    ):
        open_scenes(tmp_path)
    assert open_scenes(tmp_path, reader="geotiff").attrs["opened"][0] == "geotiff"
    with pytest.raises(ValueError, match="`reader` must be one of .*fmow.*got 'os'"):
        open_scenes(tmp_path, reader="os")


def test_what_was_seen_is_told_when_none_fits(tmp_path):
    with pytest.raises(ValueError, match="no known layout: it is an empty folder"):
        open_scenes(tmp_path)
    for name in "abcde":
        put(tmp_path / f"{name}.doc", b"x")
    (tmp_path / "inner").mkdir()
    words = r"5 files .doc \(a.doc, b.doc, c.doc, ...\), 1 folders \(inner\)"
    with pytest.raises(ValueError, match=words):
        open_scenes(tmp_path)
    put(tmp_path / "list.json", {"images": ["a.jpg"]})  # one list alone is no COCO set
    assert matching_data_sets(tmp_path / "list.json") == {}
    with pytest.raises(ValueError, match="a file of 1 bytes ending in .doc"):
        open_scenes(tmp_path / "a.doc")
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        open_scenes(tmp_path / "absent")


def test_own_georeferenced_files_open_as_geotiff_in_any_layout(tmp_path):
    for at, lefts in (("apart", (500_000.0, 600_000.0)), ("plain", (None, None))):
        for year, left in zip((2020, 2021), lefts, strict=True):
            tif(tmp_path / at / f"s_{year}0601.tif", left)
    for name, left in (("left", 500_000.0), ("right", 500_640.0)):  # two tiles of one day
        tif(tmp_path / "once" / f"{name}_20200601.tif", left)
    tif(tmp_path / "undated" / "a.tif")
    for name in ("apart", "once", "undated"):
        assert list(matching_data_sets(tmp_path / name)) == ["geotiff"], name
    assert matching_data_sets(tmp_path / "plain") == {}
    assert len(open_scenes(tmp_path / "once", chip_px=32)) == 8
    assert open_scenes(tmp_path / "undated")["time"].isna().all()
    one = open_scenes(tmp_path / "undated" / "a.tif")
    assert one.attrs["opened"][0] == "geotiff" and len(one) == 1
    for year in (2019, 2020):
        tif(tmp_path / "dates" / f"{year}-06" / "s.tif")
    assert list(matching_data_sets(tmp_path / "dates")) == ["geotiff"]
    for kind in ("farm", "wood"):
        tif(tmp_path / "classes" / kind / "a.tif")
    found = open_scenes(tmp_path / "classes")
    assert found.attrs["opened"][0] == "image_folder" and found["label"].tolist() == [
        "farm",
        "wood",
    ]
    np.testing.assert_allclose(found["lon"], 15.0042, atol=1e-4)


def test_a_table_of_images_comes_before_the_images(tmp_path):
    tif(tmp_path / "a.tif")
    put(tmp_path / "notes.csv", "name,price\nx,1\n")
    assert list(matching_data_sets(tmp_path)) == ["geotiff"]
    put(tmp_path / "notes.csv", "path,price\na.tif,1\n")
    with pytest.raises(
        ValueError, match="`table` needs columns of coordinates in notes.csv.*headers"
    ):
        open_scenes(tmp_path)
    found = open_scenes(tmp_path, reader="table", headers=True)  # as the message says
    assert found["lon"][0] == pytest.approx(15.0042, abs=1e-4)
    assert len(open_scenes(tmp_path, reader="geotiff")) == 1


@pytest.mark.parametrize("at", ["", "data", "data/EuroSAT", "data/EuroSAT/2750/Forest"])
def test_a_level_too_high_or_too_low_is_said(tmp_path, at):
    make_eurosat(tmp_path / "data" / "EuroSAT" / "2750")
    with pytest.raises(ValueError, match="the reader `eurosat` opens that path") as caught:
        open_scenes(tmp_path / at)
    place = re.search(r"It (?:contains|lies in) (.*?), which ", str(caught.value))[1]
    assert open_scenes(place).attrs["opened"][0] == "eurosat"  # the advice leads there


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("a.png", jpg, "reader='image_folder'"),
        (
            "a.tif",
            lambda path: tif(path, None),
            "`geotiff` cannot place a file: .*no CRS and no tr",
        ),
        ("a.csv", lambda path: put(path, "p,LAT_DD\n1,2\n"), "pass reader='table' with `columns`"),
    ],
)
def test_what_the_nearest_reader_lacks_is_said(tmp_path, name, make, words):
    make(tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        if path.is_dir() or name != "a.png":
            with pytest.raises(ValueError, match=words):
                open_scenes(path)
    if name == "a.png":
        assert len(open_scenes(tmp_path, reader="image_folder")) == 1


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "1.jpg.aux.xml", "1.json", "._1.jpg",
                                  ".ipynb_checkpoints/1.jpg", "@eaDir/1.jpg"])  # fmt: skip
def test_what_lies_beside_the_images_changes_nothing(tmp_path, name):
    make_image_folder(tmp_path)
    before = open_scenes(tmp_path)
    for folder in (tmp_path, tmp_path / "cat"):
        put(folder / name, b"x")
    pd.testing.assert_frame_equal(open_scenes(tmp_path), before)


def test_one_option_groups_jittered_locations_of_any_reader(tmp_path):
    step = 1 / 111_195  # a meter
    rows = "".join(f"a.jpg,0,{180 - k * 4 * step}\n" for k in range(4)) + f"a.jpg,0,{-180 + step}\n"
    jpg(tmp_path / "a.jpg")
    put(tmp_path / "t.csv", "path,lat,lon\n" + rows + "a.jpg,50,7\n")
    assert open_scenes(tmp_path)["location"].tolist() == [0, 1, 2, 3, 4, 5]
    # 0, 4, 8, 12 m and 1 m beyond 180 degrees: centers at 0 and 12 m; 8 m is nearer to 12 m
    assert open_scenes(tmp_path, same_location_m=10)["location"].tolist() == [0, 0, 3, 3, 0, 5]
    assert open_scenes(tmp_path, same_location_m=0.5)["location"].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="`same_location_m` must be > 0"):
        open_scenes(tmp_path, same_location_m=0)


def test_a_folder_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match="cannot be listed: Permission denied. Change its perm"):
        open_scenes(tmp_path)


def test_a_table_that_geossl_wrote_is_not_taken_for_one_of_files(tmp_path):
    make_table(tmp_path)
    open_scenes(tmp_path).to_csv(tmp_path / "index.csv", index=False)
    assert matching_data_sets(tmp_path / "index.csv") == {}


HOSTILE = {
    "zero": b"", "zero.csv": b"", "zero.json": b"", "zero.geojson": b"", "zero.gpkg": b"",
    "zero.parquet": b"", "zero.tif": b"", "zero.jpg": b"", "0tile.npy": b"",
    "20200101.tif": b"II*\0 no more", "cut.jpg": b"\xff\xd8\xff\xe1\0\x20Exif\0\0MM\0*",
    "line.csv": b"x," * 5_000_000, "deep.json": b'{"images":[' + b"[" * 100_000,
    "bytes.csv": bytes(range(256)) * 9, "magic.parquet": b"PAR1....PAR1",
    "magic.gpkg": b"SQLite format 3\0" + b"x" * 99, "latin.csv": b"lat,lon,\xe4\n1,2,3\n",
    "a_labels_metadata.json": b"[", "quote.csv": b'lat,"lon\n' + b"x" * 10_000,
}  # fmt: skip


@pytest.mark.parametrize("name", [*HOSTILE, "all in a folder", "all in class folders"])
def test_hostile_content_ends_in_a_sentence(tmp_path, name):
    at = tmp_path / "set"
    for file, content in HOSTILE.items():
        if name == file or name == "all in a folder":
            put(at / file, content)
        elif name == "all in class folders":
            put(at / "a" / file, content)
            put(at / "b" / file, content)
    loop = at / "loop"
    loop.symlink_to(loop)
    (at / "gone").symlink_to(at / "nothing")
    for path in (at, *at.iterdir()):
        if path.exists():
            with pytest.raises((ValueError, FileNotFoundError)) as caught:
                open_scenes(path)
            assert "\n" not in str(caught.value) and str(at) in str(caught.value)


@pytest.mark.slow
def test_a_large_folder_is_only_looked_at(tmp_path, monkeypatch):
    for i in range(20_000):
        (tmp_path / f"{i}.jpg").touch()
    opened = []
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(a) or (_ for _ in ()).throw(
        OSError("no")))  # fmt: skip
    start = time.process_time()
    assert matching_data_sets(tmp_path) == {}
    assert time.process_time() - start < 2 and len(opened) < 50


def test_readers_load_the_libraries_of_their_formats_only_when_they_read():
    code = "import sys, geossl.datasets; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "geossl.datasets.fmow'" in done.stdout
    for heavy in ("rasterio", "geopandas", "PIL", "sklearn", "torch", "torchvision", "torchgeo"):
        assert f"'{heavy}'" not in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real images in ../shared/data")
@pytest.mark.parametrize(
    ("name", "reader", "rows"),
    [
        ("bigearthnet_11", "bigearthnet", 11),
        ("eurosat_100", "eurosat", 100),
        ("sentinel2_world", "table", 20),
        ("us_power_plants/uspp_metadata.geojson", "table", 147),
        ("points/worldstrat_3449.csv", "table", 3449),
        ("landsat_pucallpa", "geotiff", None),
        ("naip_north_dakota", "geotiff", None),
        ("ports_sentinel2", None, None),
        ("us_power_plants", None, None),
    ],
)
def test_real_folders(name, reader, rows):
    if reader is None:
        with pytest.raises(ValueError, match="known layout"):
            open_scenes(DATA / name)
        return
    table = open_scenes(DATA / name)
    assert table.attrs["opened"][0] == reader and len(table) == (rows or len(table)) > 0
