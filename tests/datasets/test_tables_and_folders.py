import json
import sys
import textwrap
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from PIL import Image

from geossl.data.store import ChipStore
from geossl.datasets.coco import coco
from geossl.datasets.geoimagenet import geoimagenet
from geossl.datasets.image_folder import image_folder
from geossl.datasets.photos import photos
from geossl.datasets.raster import chips as images
from geossl.datasets.raster.chips import read_chips
from geossl.datasets.table import table
from geossl.datasets.torchgeo import _make_dataset, torchgeo
from geossl.datasets.torchgeo import read_chips as read_samples
from geossl.datasets.xview import xview

DATA = Path(__file__).parents[3] / "shared" / "data"
GRAY = {"a.jpg": 40, "b.jpg": 120, "ä ö.jpg": 200}


@pytest.fixture
def pictures(tmp_path):
    """A folder of three pictures of one gray each, in ``img/``."""
    (tmp_path / "img").mkdir()
    for name, gray in GRAY.items():
        Image.new("L", (20, 16), gray).save(tmp_path / "img" / name)
    return tmp_path


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


def grays(rows):
    found = read_chips(rows, size_px=4)
    assert not found.bad
    return found.chips[:, 0, 1, 1].tolist()


# ---- table


@pytest.mark.parametrize(
    ("head", "sep"),
    [
        ("file_name,latitude,longitude,eventDate,category", ","),
        ("PATH;decimalLatitude;decimalLongitude;Date;class", ";"),
        ("fn\tLAT\tLON\ttimestamp\tlabel", "\t"),
        ("image,y,x,time,cls", ","),
    ],
)
def test_columns_are_guessed_from_usual_names(pictures, head, sep):
    rows = [
        ("img/a.jpg", "10.5", "-70.25", "2020-06-30", "NA"),
        ("img/ä ö.jpg", "10.5", "-70.25", "", "007"),
        ("./img/../img/b.jpg", "-10", "170", "2021-01-01T10:00:00+02:00", ""),
    ]
    text = "\n".join([head, *(sep.join(row) for row in rows)])
    (pictures / "index.csv").write_text("\ufeff" + text, "utf-8")
    found = table(pictures / "index.csv")
    assert grays(found) == pytest.approx([40, 200, 120], abs=1)
    assert found["lat"].tolist() == [10.5, 10.5, -10] and found["lon"].tolist()[1:] == [-70.25, 170]
    assert found["location"].tolist() == [0, 0, 1]
    assert found["label"].tolist()[:2] == ["NA", "007"] and pd.isna(found["label"][2])
    assert found["time"].dt.strftime("%Y%m%d%H").tolist()[::2] == ["2020063000", "2021010108"]
    assert pd.isna(found["time"][1]) and found["reader"].unique() == ["table"]
    assert found["dtype"][0] == "uint8" and found["band_names"][0] == "red,green,blue"


def test_columns_can_be_told_and_untold(pictures):
    pd.DataFrame(
        {"path": ["x", "y"], "photo": ["a.jpg", "b.jpg"], "lat": [99, 99], "north": [1, 2],
         "lon": [3, 4], "date": ["soon", "later"], "location": ["Rome", "Rome"], "kind": ["k", "l"]}
    ).to_csv(pictures / "t.csv", index=False)  # fmt: skip
    how = {"photo": "path", "north": "lat", "date": None, "location": None, "kind": "label"}
    found = table(pictures / "t.csv", columns=how, root=pictures / "img")
    assert grays(found) == pytest.approx([40, 120], abs=1)
    assert found["lat"].tolist() == [1, 2] and found["lat_given"].tolist() == [99, 99]
    assert found["location"].tolist() == [0, 1] and found["location_given"].tolist() == ["Rome"] * 2
    assert found["path_given"].tolist() == ["x", "y"] and found["date"].tolist() == [
        "soon",
        "later",
    ]
    assert found["label"].tolist() == ["k", "l"] and found["time"].isna().all()
    with pytest.raises(ValueError, match="south"):
        table(pictures / "t.csv", columns={"south": "lat"})
    with pytest.raises(ValueError, match="`columns` must name one column for 'lat'.* got two"):
        table(pictures / "t.csv", columns={"north": "lat", "lat": "lat"})


def test_labels_and_places_keep_their_zeros(pictures):
    (pictures / "t.csv").write_text(
        "path,lat,lon,label,split,location\nimg/a.jpg,1,2,007,01,0003\nimg/b.jpg,1,2,010,02,3\n"
    )
    found = table(pictures / "t.csv")[["label", "split", "location"]]
    assert found.to_numpy().tolist() == [["007", "01", "0003"], ["010", "02", "3"]]


def geo_frame(crs="EPSG:32633"):
    import geopandas

    plain = pd.DataFrame({"file": ["img/a.jpg", "img/b.jpg", "img/a.jpg"], "n": [1, 2, 3]})
    places = geopandas.points_from_xy([15.0, 15.1, 15.0], [45.0, -45.2, 45.0])
    return geopandas.GeoDataFrame(plain, geometry=places, crs="EPSG:4326").to_crs(crs)


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "geoparquet", "parquet"])
def test_geometry_of_any_crs_gives_the_coordinates(pictures, suffix):
    path = pictures / f"t.{suffix}"
    if "parquet" in suffix:
        geo_frame().to_parquet(path)
    else:
        geo_frame("EPSG:4326" if suffix == "geojson" else "EPSG:32633").to_file(path)
    found = table(path)
    np.testing.assert_allclose(found["lon"], [15, 15.1, 15], atol=1e-6)
    np.testing.assert_allclose(found["lat"], [45, -45.2, 45], atol=1e-6)
    assert grays(found) == pytest.approx([40, 120, 40], abs=1)
    assert found["location"].tolist() == [0, 1, 0] and found["n"].tolist() == [1, 2, 3]


def test_a_parquet_with_an_index_of_its_own_keeps_its_rows_apart(pictures):
    frame = pd.DataFrame(
        {"path": ["img/a.jpg", "../out.jpg", "img/b.jpg"], "lon": 1.0, "lat": [1.0, 2.0, 3.0]},
        index=[7, 7, 7],
    )
    frame.attrs["skipped"] = {"from": "the file"}
    frame.to_parquet(pictures / "t.parquet")
    found = table(pictures / "t.parquet", skip_bad=True)
    assert found["lat"].tolist() == [1, 3] and len(found.attrs["skipped"]) == 1


@pytest.mark.parametrize("name", ["../out.jpg", "img/../../out.jpg", "/etc/hostname", "", " "])
def test_paths_that_leave_the_root_are_refused(pictures, name):
    (pictures / "in").mkdir()
    Image.new("L", (8, 8), 1).save(pictures / "out.jpg")
    Image.new("L", (8, 8), 2).save(pictures / "in" / "in.jpg")
    lines = f'path,lat,lon\nin.jpg,1,2\n"{name}",3,4\n'
    (pictures / "in" / "t.csv").write_text(lines)
    with pytest.raises(ValueError, match="row 1: .* is no file in .*pass `root`"):
        table(pictures / "in" / "t.csv")
    found = table(pictures / "in" / "t.csv", skip_bad=True)
    assert found["lat"].tolist() == [1] and "row 1" in next(iter(found.attrs["skipped"]))


def test_a_root_lets_absolute_paths_within_it_pass(pictures):
    path = pictures / "elsewhere" / "t.csv"
    path.parent.mkdir()
    path.write_text(f"path,lat,lon\n{pictures / 'img' / 'a.jpg'},1,2\nimg/b.jpg,1,2\n")
    assert grays(table(path, root=pictures)) == pytest.approx([40, 120], abs=1)
    with pytest.raises(ValueError, match="row 0"):
        table(path)
    found = table(path, root="/", skip_bad=True)
    assert found["path"].tolist()[0] == str(pictures / "img" / "a.jpg")


def test_rows_without_coordinates_are_refused_left_out_or_kept(pictures):
    rows = [("a", "1", "2"), ("b", "", "2"), ("a", "-1000", "-1000"), ("b", "x", "2")]
    text = "\n".join(["path,lat,lon", *(f"img/{p}.jpg,{lat},{lon}" for p, lat, lon in rows)])
    (pictures / "t.csv").write_text(text)
    with pytest.raises(ValueError, match="2 of 4 rows have in 'lat' no number"):
        table(pictures / "t.csv")
    found = table(pictures / "t.csv", skip_bad=True)
    assert len(found) == 1
    assert [key[-5:] for key in found.attrs["skipped"]] == ["row 1", "row 2", "row 3"]
    (pictures / "t.csv").write_text("path,lat,lon\nimg/a.jpg,,\nimg/b.jpg,,\nimg/a.jpg,1,2\n")
    kept = table(pictures / "t.csv", positions=False)
    assert kept["lon"].isna().sum() == 2 and kept["location"].nunique() == 3
    (pictures / "t.csv").write_text("path,cls\nimg/a.jpg,x\nimg/b.jpg,x\n")
    with pytest.raises(ValueError, match="`positions=False`"):
        table(pictures / "t.csv")
    assert table(pictures / "t.csv", positions=False)["location"].tolist() == [0, 1]


def test_boxes_are_cut_and_lie_where_the_tif_says(tmp_path):
    scene = tif(tmp_path / "one_2020.tif", noise(), left=10.0, top=50.0)
    tif(tmp_path / "two_2020.tif", noise(seed=1))  # not georeferenced
    (tmp_path / "b.csv").write_text("scene,x,y,w,h,cls\none,10,4,8,8,ship\none,30,20,4,6,boat\n")
    found = table(tmp_path / "b.csv", files="{scene}_*.tif", headers=True)
    np.testing.assert_allclose(found["lon"], [10 + 0.014, 10 + 0.032])
    np.testing.assert_allclose(found["lat"], [50 - 0.008, 50 - 0.023])
    assert found["location"].tolist() == [0, 1] and found["label"].tolist() == ["ship", "boat"]
    assert (read_chips(found, size_px=8).chips[0] == scene[:, 4:12, 10:18]).all()
    (tmp_path / "b.csv").write_text("scene,x,y,w,h\none,10,4,8,8\ntwo,1,1,4,4\n")
    with pytest.raises(ValueError, match="missing coordinate"):
        table(tmp_path / "b.csv", files="{scene}_*.tif", headers=True)
    mixed = table(tmp_path / "b.csv", files="{scene}_*.tif", headers=True, positions=False)
    assert mixed["lon"].isna().tolist() == [False, True]


def test_files_are_found_by_a_pattern_of_columns(pictures):
    for name in ("0a_1.jpg", "0a1_1.jpg", "0b_1.jpg", "0b_2.jpg", "[c]_9.jpg"):
        Image.new("L", (8, 8), 77).save(pictures / "img" / name)
    (pictures / "t.csv").write_text("id,lat,lon\n0a,1,2\n0b,1,2\n[c],1,2\nnone,1,2\n../img/0a,1,2")
    with pytest.raises(ValueError, match="row 1: not exactly one file .*'0b'"):
        table(pictures / "t.csv", files="img/{id}_*.jpg")
    found = table(pictures / "t.csv", files="img/{id}_*.jpg", skip_bad=True)
    assert [Path(p).name for p in found["path"]] == ["0a_1.jpg", "[c]_9.jpg"]
    assert len(found.attrs["skipped"]) == 3
    exact = table(pictures / "t.csv", files="img/{id}_1.jpg", columns={"id": "label"})
    assert exact["path"].iloc[-1] == str(pictures / "img" / "0a_1.jpg")  # normal, within the root
    with pytest.raises(ValueError, match="'number' is not among"):
        table(pictures / "t.csv", files="img/{number}.jpg")


def test_pixels_are_described_by_the_first_file_that_is_there(tmp_path):
    deep = tif(tmp_path / "b.tif", noise(12, dtype="uint16"))
    tif(tmp_path / "f.tif", noise(1, dtype="float32"))
    (tmp_path / "t.csv").write_text("path,lat,lon\nabsent.tif,0,0\nb.tif,0,0\n")
    found = table(tmp_path / "t.csv", bands=(4, 1))
    assert found["band_names"][0] == "band_4,band_1" and found["dtype"][0] == "uint16"
    pixels = read_chips(found, size_px=40)
    assert list(pixels.bad) == [0] and (pixels.chips[1, 0] == deep[3, :, 10:50]).all()
    assert len(table(tmp_path / "t.csv")["bands"][0].split(",")) == 12
    (tmp_path / "t.csv").write_text("path,lat,lon\nf.tif,0,0\n")
    with pytest.raises(ValueError, match="scale="):
        table(tmp_path / "t.csv")
    assert table(tmp_path / "t.csv", scale=(0, 255))["dtype"][0] == "uint16"
    np.save(tmp_path / "n.npy", np.zeros((6, 7, 5), np.uint16))
    Image.fromarray(noise(1, dtype="uint16")[0]).save(tmp_path / "g.png")
    for name, bands in (("n.npy", 5), ("g.png", 1)):
        (tmp_path / "t.csv").write_text(f"path,lat,lon\n{name},0,0\n")
        rows = table(tmp_path / "t.csv")
        assert len(rows["bands"][0].split(",")) == bands and not read_chips(rows, size_px=4).bad
    (tmp_path / "t.csv").write_text("path,lat,lon\nabsent.tif,0,0\n")
    with pytest.raises(FileNotFoundError, match="absent.tif"):
        table(tmp_path / "t.csv")


def test_a_file_that_names_another_is_not_followed(tmp_path):
    inner = tmp_path / "in"
    tif(tmp_path / "secret.tif", noise(), left=1.0)
    (tmp_path / "secret.csv").write_text("path,x,y\na.tif,1,2\n")
    tif(inner / "a.tif", noise(), left=1.0)
    band = "<SimpleSource><SourceFilename>../secret.tif</SourceFilename></SimpleSource>"
    (inner / "vrt.tif").write_text(
        '<VRTDataset rasterXSize="60" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1">'
        f"{band}</VRTRasterBand></VRTDataset>"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        assert rasterio.open(inner / "vrt.tif").count == 1  # GDAL itself would follow
    (inner / "t.csv").write_text("path,lat,lon\nvrt.tif,0,0\n")
    with pytest.raises(ValueError, match="vrt.tif cannot be read"):
        table(inner / "t.csv")
    with pytest.raises(ValueError, match="missing coordinate"):
        table(inner / "t.csv", headers=True)
    point = '<GeometryField encoding="PointFromColumns" x="x" y="y"/>'
    (inner / "t.geojson").write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource relativeToVRT="1">../secret'
        f".csv</SrcDataSource>{point}<LayerSRS>EPSG:4326</LayerSRS></OGRVRTLayer>"
        "</OGRVRTDataSource>"
    )
    with pytest.raises(ValueError, match="does not start as a .geojson does"):
        table(inner / "t.geojson")


def test_one_file_a_band(tmp_path):
    for band in ("B02", "B11"):
        tif(tmp_path / f"p_{band}.tif", noise(1, dtype="uint16", seed=len(band)), left=3.0, top=1.0)
    (tmp_path / "t.csv").write_text("path\np_{band}.tif\n")
    found = table(tmp_path / "t.csv", bands=("B02", "B11"), headers=True)
    assert found["band_names"][0] == "B02,B11" and found["lon"][0] == pytest.approx(3.03)
    assert read_chips(found, size_px=8).chips.shape == (1, 2, 8, 8)


HOSTILE = {
    "zero.csv": b"", "header.csv": b"path,lat,lon\n", "longer.csv": b"path,lat,lon\na,1,2,3\n",
    "latin.csv": "path,lat,lon\nä,1,2\n".encode("latin-1"), "line.csv": b"x," * 5_000_000,
    "quote.csv": b'path,lat,lon\n"' + b"x" * 2**20, "bytes.csv": bytes(range(256)) * 9,
    "swapped.csv": b"path,lat,lon\na,100,2\n", "nul.csv": b"path,lat,lon\na\0b,1,2\n",
    "when.csv": b"path,lat,lon,date\na,1,2,yesterday\n", "zero.parquet": b"",
    "magic.parquet": b"PAR1....PAR1", "zero.gpkg": b"",
    "magic.gpkg": b"SQLite format 3\0" + b"x" * 99,
    "deep.geojson": b'{"type":"FeatureCollection","features":' + b"[" * 100_000,
    "cut.geojson": b'{"type":"FeatureCollection","features":[{"type":"Fea',
    "none.geojson": b'{"type":"FeatureCollection","features":[]}', "other.geojson": b'{"a": 1}',
    "vrt.geojson": b"<OGRVRTDataSource><OGRVRTLayer name='x'/></OGRVRTDataSource>",
    "table.txt": b"path,lat,lon\na,1,2\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tables_are_refused_in_a_sentence_that_names_them(tmp_path, name):
    (tmp_path / name).write_bytes(HOSTILE[name])
    for skip in (False, True):
        with pytest.raises((ValueError, FileNotFoundError), match=name) as caught:
            table(tmp_path / name, skip_bad=skip)
        assert "\n" not in str(caught.value)


def test_a_folder_holds_one_table(pictures):
    (pictures / "t.csv").write_text("path,lat,lon\nimg/a.jpg,1,2\n")
    assert len(table(pictures)) == 1
    (pictures / "u.csv").write_text("path,lat,lon\nimg/a.jpg,1,2\n")
    with pytest.raises(FileNotFoundError, match=r"\['t.csv', 'u.csv'\]"):
        table(pictures)
    with pytest.raises(FileNotFoundError, match="v.csv does not exist"):
        table(pictures / "v.csv")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real images in ../shared/data")
def test_real_tables():
    world = table(DATA / "sentinel2_world")
    assert len(world) == 20 and world["dtype"].unique() == ["uint16"]
    headers = table(DATA / "sentinel2_world", headers=True)
    apart = np.abs(world[["lon", "lat"]].to_numpy() - headers[["lon", "lat"]].to_numpy())
    assert apart.max() < 0.05  # the csv and the headers of the tifs agree
    plants = table(
        DATA / "us_power_plants" / "uspp_metadata.geojson",
        files="images/ls8_{egrid_ID}_*.tif", columns={"primary_fuel": "label"},
    )  # fmt: skip
    named = plants["path"].str.extract(r"_(\d+)_([A-Z]+)_([A-Z]*)\.tif")
    assert len(plants) == 147 and (named[0] == plants["egrid_ID"]).all()
    assert (named[1] == plants["state_name"]).all()
    ships = table(DATA / "ports_sentinel2" / "boxes.csv", files="{scene}_*.tif", headers=True)
    assert len(ships) == 382 and ships["path"].nunique() == ships["scene"].nunique()
    honolulu = ships[ships["scene"] == "honolulu"]
    assert honolulu["lon"].between(-158.2, -157.7).all() and honolulu["lat"].between(21, 21.6).all()
    points = table(DATA / "points" / "worldstrat_3449.csv", columns={"IPCC": "label"})
    assert len(points) == 3449 and "reader" not in points and points["label"].nunique() > 3


# ---- COCO and xView


def coco_json(**changes):
    content = {
        "info": {"year": 2020},
        "images": [
            {"id": 1, "file_name": "one.tif", "width": 60, "height": 40,
             "date_captured": "2020-05-06 07:08:09"},
            {"id": 2, "file_name": "sub/ä.png", "date_captured": "0000-00-00"},
            {"id": "3", "file_name": "sub/empty.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "bbox": [10, 4, 8, 8]},
            {"id": 2, "image_id": 1, "category_id": 7, "bbox": [30, 20, 4, 6], "iscrowd": 1},
            {"id": 3, "image_id": 2, "category_id": 5, "bbox": [0, 0, 5.5, 3]},
        ],
        "categories": [{"id": 5, "name": "ship"}, {"id": 7, "name": "boat"}],
    }  # fmt: skip
    return content | changes


@pytest.fixture
def detection(tmp_path):
    """A COCO set with a georeferenced tif and two pngs in ``images/``."""
    scene = tif(tmp_path / "images" / "one.tif", noise(), left=10.0, top=50.0)
    (tmp_path / "images" / "sub").mkdir()
    for name, mode in (("ä", "RGBA"), ("empty", "L")):
        Image.new(mode, (12, 12)).save(tmp_path / "images" / "sub" / f"{name}.png")
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "instances.json"
    path.write_text(json.dumps(coco_json()), "utf-8")
    return path, scene


def test_coco_a_row_an_image(detection):
    path, _ = detection
    found = coco(path)
    assert found["location"].tolist() == ["one.tif", "sub/ä.png", "sub/empty.png"]
    assert found["n_boxes"].tolist() == [2, 1, 0]
    assert found["classes"].tolist() == ["boat; ship", "ship", ""]
    assert found["time"][0] == datetime(2020, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert found["time"][1:].isna().all() and found["lon"][1:].isna().all()
    np.testing.assert_allclose(found.loc[0, ["lon", "lat"]].astype(float), [10.03, 49.98])
    assert not images.read_chips(found, size_px=8).bad
    again = coco(path.parent.parent)  # by the folder
    assert again["path"].tolist() == found["path"].tolist()


def test_coco_a_row_a_box(detection):
    path, scene = detection
    found = coco(path, boxes=True)
    assert found["label"].tolist() == ["ship", "boat", "ship"]
    assert found["location"].tolist() == ["one.tif#0", "one.tif#1", "sub/ä.png#0"]
    assert found["crowd"].tolist() == [False, True, False]
    np.testing.assert_allclose(found["lon"][:2], [10.014, 10.032])
    np.testing.assert_allclose(found["lat"][:2], [49.992, 49.977])
    chips = images.read_chips(found, size_px=8).chips
    assert (chips[0] == scene[:, 4:12, 10:18]).all()


BROKEN = {
    "two ids": {"images": [{"id": 1, "file_name": "one.tif"}] * 2, "annotations": []},
    "no id": {"images": [{"file_name": "one.tif"}, {"id": 1, "file_name": "one.tif"}]},
    "list id": {"images": [{"id": [1]}, {"id": 1, "file_name": "one.tif"}]},
    "escape": {"images": [{"id": 1, "file_name": "one.tif"}, {"id": 2, "file_name": "../x.tif"}]},
    "no name": {"images": [{"id": 1, "file_name": "one.tif"}, {"id": 2}]},
    "text": {"images": ["one.tif", {"id": 1, "file_name": "one.tif"}]},
    "unknown image": {"annotations": [{"image_id": 9, "bbox": [1, 1, 2, 2]}]},
    "no box": {"annotations": [{"image_id": 1, "category_id": 5}]},
    "short box": {"annotations": [{"image_id": 1, "bbox": [1, 2, 3]}]},
    "flat box": {"annotations": [{"image_id": 1, "bbox": [1, 2, 0, 3]}]},
    "endless box": {"annotations": [{"image_id": 1, "bbox": [1, 2, float("inf"), 3]}]},
    "huge box": {"annotations": [{"image_id": 1, "bbox": [1, 2, 10**400, 3]}]},
    "words": {"annotations": [{"image_id": 1, "bbox": ["a", 2, 3, 4]}]},
}


@pytest.mark.parametrize("case", BROKEN)
def test_coco_entries_that_cannot_be_used_are_named_or_left_out(detection, case):
    path, _ = detection
    path.write_text(json.dumps(coco_json(**BROKEN[case])))
    with pytest.raises(ValueError, match="instances.json, (image|annotation) "):
        coco(path)
    found = coco(path, skip_bad=True)
    assert "one.tif" in found["location"].tolist() and found.attrs["skipped"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read as json"),
        ("[" * 100_000, "cannot be read as json"),
        ("[]", "list of 'images'"),
        ('{"images": 3}', "list of 'images'"),
        ('{"images": []}', "x.json contains no images"),
        ('{"images": [{"id": 1, "file_name": "gone.jpg"}]}', "gone.jpg"),
    ],
)
def test_coco_files_that_are_none(tmp_path, text, words):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        coco(tmp_path / "x.json")


@pytest.fixture
def xview_set(tmp_path):
    def feature(bounds, image="5.tif", kind=73):
        about = {"bounds_imcoords": bounds, "image_id": image, "type_id": kind, "cat_id": kind}
        place = {"type": "Polygon", "coordinates": [[[1, 2], [1, 3], [2, 3], [1, 2]]]}
        return {"type": "Feature", "properties": about, "geometry": place}

    scene = tif(tmp_path / "train_images" / "5.tif", noise(), left=-70.0, top=20.0)
    tif(tmp_path / "train_images" / "7.tif", noise(seed=3))
    features = [feature("10,4,18,12"), feature("[]"), feature("", "7.tif"),
                feature("-2,30,3,39", "7.tif", 18)]  # fmt: skip
    path = tmp_path / "xView_train.geojson"

    def write(*more):
        content = {"type": "FeatureCollection", "features": [*features, *more]}
        path.write_text(json.dumps(content))
        return path

    write()
    return path, scene, write, feature


def test_xview_boxes_and_images(xview_set):
    path, scene, _, _ = xview_set
    boxes = xview(path, boxes=True, names={73: "Building"})
    assert boxes["label"].tolist() == ["Building", 18] and boxes.attrs["empty_boxes"] == 2
    assert boxes["location"].tolist() == ["5.tif#0", "7.tif#0"]
    assert boxes["lon"][0] == pytest.approx(-69.986) and boxes["lat"][0] == pytest.approx(19.992)
    assert boxes["lon"].isna().tolist() == [False, True]
    chips = images.read_chips(boxes, size_px=8)
    assert not chips.bad and (chips.chips[0] == scene[:, 4:12, 10:18]).all()
    whole = xview(path.parent)
    assert whole["n_boxes"].tolist() == [1, 1] and whole["lon"][0] == pytest.approx(-69.97)


def test_xview_features_that_cannot_be_used(xview_set):
    path, _, write, feature = xview_set
    for bad in (feature("1,2,3"), feature("9,9,3,12"), feature(None), feature("a,b,c,d"),
                feature("1,2,3,4", kind="x"), feature("1,2,3,4", image=5), "text",
                feature("1,2,3,4", image="../../out.tif")):  # fmt: skip
        write(bad)
        with pytest.raises(ValueError, match="xView_train.geojson, (feature 4|image)"):
            xview(path, boxes=True)
        found = xview(path, boxes=True, skip_bad=True)
        assert len(found) == 2 and len(found.attrs["skipped"]) == 1
    path.write_text('{"features": {}}')
    with pytest.raises(ValueError, match="list of 'features'"):
        xview(path)


# ---- folders


def test_geoimagenet_joins_photos_and_places_by_id(tmp_path):
    for name in ("n01/11.jpg", "n01/12.jpg", "n02/11.jpg", "n02/13.JPG", "n02/14.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name, "JPEG")
    (tmp_path / "n02" / "readme.txt").write_text("x")
    (tmp_path / "meta.csv").write_text(
        '11,48.5,2.25,2009,"a, b"\n12,-1000,-1000\n13,10,\n99,1,1\n11,0,0\nx,y,z\n'
    )
    found = geoimagenet(tmp_path)
    assert found["location"].tolist() == ["11", "11"] and found["label"].tolist() == ["n01", "n02"]
    assert found["lat"].tolist() == [48.5] * 2 and found["lon"].tolist() == [2.25] * 2
    assert found.attrs["without_position"] == 3
    assert {Path(p).name for p in found.attrs["skipped"]} == {"12.jpg", "13.JPG", "14.jpg"}
    kept = geoimagenet(tmp_path, missing="keep")
    assert len(kept) == 5 and kept["lon"].isna().sum() == 3 and not kept.attrs["skipped"]
    assert kept["lat"].isna().sum() == 3 and kept.attrs["without_position"] == 3
    assert not images.read_chips(kept, size_px=4).bad
    (tmp_path / "meta.csv").write_text("99,1,1\n")
    with pytest.raises(ValueError, match="None of the 5 photos with a position"):
        geoimagenet(tmp_path)
    (tmp_path / "meta.csv").write_bytes(b"")
    with pytest.raises(ValueError, match="meta.csv"):
        geoimagenet(tmp_path)
    (tmp_path / "other.csv").write_text("1,2,3\n")
    with pytest.raises(FileNotFoundError, match="must contain one csv of .*, got meta.csv, other"):
        geoimagenet(tmp_path)


def test_image_folder_keeps_equal_names_of_two_splits_apart(tmp_path):
    for name in ("train/ä/p1_2019.png", "train/ä/p1_2020.png", "val/ä/p1_2019.png",
                 "val/b/deep/p2_2020.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "train" / "ä" / ".p.png").write_text("hidden")
    (tmp_path / "train" / "ä" / "notes.txt").write_text("no image")
    found = image_folder(tmp_path)
    assert found["location"].nunique() == 4 and found["lon"].isna().all()
    assert found["label"].tolist() == ["ä", "ä", "b", "ä"]
    assert found["split"].tolist() == ["train", "train", "val", "val"]
    assert not images.read_chips(found, size_px=4).bad
    places = image_folder(tmp_path, location=r"/(p\d)_[^/]*$")["location"]
    assert places.tolist() == ["p1", "p1", "p2", "p1"]
    flat = image_folder(tmp_path / "train")
    assert flat["split"].isna().all() and flat["label"].tolist() == ["ä", "ä"]
    with pytest.raises(ValueError, match="`location` does not match 'val/b/deep/p2_2020.png'"):
        image_folder(tmp_path, location=r"(p1)_")
    assert len(image_folder(tmp_path, location=r"(p1)_", skip_bad=True)) == 3
    with pytest.raises(ValueError, match="regular expression"):
        image_folder(tmp_path, location="(")
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="There are no images <class>/<file>"):
        image_folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        image_folder(tmp_path / "absent")


def photo(path, position=None, taken=None, offset=None, refs=("N", "E")):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if position is not None:
        exif[0x8825] = {1: refs[0], 2: position[0], 3: refs[1], 4: position[1]}
    exif[0x8769] = {k: v for k, v in ((0x9003, taken), (0x9011, offset)) if v}
    Image.new("RGB", (16, 12)).save(path, exif=exif)


def test_photos_lie_where_their_exif_says(tmp_path):
    photo(tmp_path / "a.jpg", ((48, 30, 0), (2, 15, 36)), "2020:06:30 23:15:00", "+02:00")
    photo(tmp_path / "in" / "ö.jpg", ((33, 0, 0), (70, 40, 30)), "2020:06:30 10:00:00", None, "SW")
    photo(tmp_path / "c.png", ((48, 30, 0.01), (2, 15, 36)), "0000:00:00 00:00:00")
    photo(tmp_path / "no.jpg")
    photo(tmp_path / "zero.jpg", ((0, 0, 0), (0, 0, 0)))
    photo(tmp_path / "far.jpg", ((95, 0, 0), (2, 0, 0)))
    photo(tmp_path / "half.jpg", ((5, 0, 0), (2, 0, 0)), refs=("N", ""))
    found = photos(tmp_path)
    assert [Path(p).name for p in found["path"]] == ["a.jpg", "c.png", "ö.jpg"]
    np.testing.assert_allclose(found["lon"], [2.26, 2.26, -70.675])
    np.testing.assert_allclose(found["lat"], [48.5, 48.5, -33], atol=1e-5)
    assert found["time"].dt.strftime("%d %H:%M").tolist()[::2] == ["30 21:15", "30 10:00"]
    assert pd.isna(found["time"][1])
    assert found["location"].tolist() == ["48.5000,2.2600"] * 2 + ["-33.0000,-70.6750"]
    assert photos(tmp_path, decimals=7)["location"].nunique() == 3
    reasons = {Path(p).name: why for p, why in found.attrs["skipped"].items()}
    assert set(reasons) == {"no.jpg", "zero.jpg", "far.jpg", "half.jpg"}
    assert "no GPS" in reasons["no.jpg"] and "no place" in reasons["zero.jpg"]
    assert not images.read_chips(found, size_px=4).bad


def test_photos_that_are_damaged(tmp_path):
    photo(tmp_path / "a.jpg", ((48, 30, 0), (2, 15, 36)))
    whole = (tmp_path / "a.jpg").read_bytes()
    start = whole.index(b"Exif")
    hostile = {"zero.jpg": b"", "text.jpg": b"not a photo", "cut.jpg": whole[: start + 20]}
    for name, data in hostile.items():
        (tmp_path / name).write_bytes(data)
    rng = np.random.default_rng(0)
    for i in range(60):  # damaged tags must not crash it either
        data = bytearray(whole)
        for at in rng.integers(start, start + 160, 6):
            data[at] = rng.integers(256)
        (tmp_path / f"fuzz{i}.jpg").write_bytes(data)
    with pytest.raises(ValueError, match="cannot be opened"):
        photos(tmp_path)
    found = photos(tmp_path, skip_bad=True)
    assert str(tmp_path / "a.jpg") in found["path"].tolist()
    assert {"zero.jpg", "text.jpg"} <= {Path(p).name for p in found.attrs["skipped"]}
    for name in tmp_path.glob("[af]*.jpg"):
        name.unlink()
    with pytest.raises(ValueError, match="None of the 3 photos with a GPS position"):
        photos(tmp_path, skip_bad=True)
    with pytest.raises(FileNotFoundError, match="There are no photos"):
        (tmp_path / "empty").mkdir()
        photos(tmp_path / "empty")
    with pytest.raises(ValueError, match="decimals"):
        photos(tmp_path, decimals=0)


# ---- torchgeo, as far as its public ways go, by a stand-in

STAND_IN = """
    import os
    import numpy as np, torch

    class NonGeoDataset: ...

    class GeoDataset: ...

    class Toy(NonGeoDataset):
        def __init__(self, root, n=5, scale=1.0, places=False, download=False):
            if not os.path.isdir(root):
                raise FileNotFoundError("Dataset not found in root")
            self.n, self.scale, self.places = n, scale, places

        def __len__(self):
            return self.n

        def __getitem__(self, i):
            rng = np.random.default_rng(i)
            image = torch.from_numpy(rng.integers(0, 200, (4, 10, 14))).float() * self.scale
            sample = {"image": image, "label": torch.tensor(i % 3), "mask": torch.zeros(10, 14)}
            if self.places:
                sample |= {"lon": torch.tensor(10.0 * i), "lat": 5.0}
            if i == 3:
                sample["image"][:, 0, 5] = float("nan")
            return sample

    class Named(Toy):
        classes = ["crop", "forest", "sea"]

        def __init__(self, root):
            super().__init__(root)
            self.targets = [0, 1, 2, 0, 1]

    class Area(GeoDataset): ...
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "torchgeo").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torchgeo" / "__init__.py").write_text("")
    (tmp_path / "torchgeo" / "datasets.py").write_text(textwrap.dedent(STAND_IN))
    _make_dataset.cache_clear()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n.split(".")[0] == "torchgeo"]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    _make_dataset.cache_clear()
    for name in [n for n in sys.modules if n.split(".")[0] == "torchgeo"]:
        del sys.modules[name]


def test_torchgeo_samples_become_chips_with_what_they_tell(stand_in, monkeypatch):
    rows = torchgeo("Toy", arguments={"root": "data", "places": True}, bands=(1, 3))
    assert len(rows) == 5 and rows["dtype"][0] == "uint8" and rows["lon"].isna().all()
    monkeypatch.chdir("/")  # any process, anywhere
    _make_dataset.cache_clear()
    store = ChipStore.build(stand_in / "chips", rows, size_px=10, progress=False)
    wanted = np.random.default_rng(4).integers(0, 200, (4, 10, 14))[[0, 2], :, 2:12]
    assert (np.asarray(store.chips[4]) == wanted).all()
    assert store.scenes["label"].tolist() == ["0", "1", "2", "0", "1"]
    assert store.scenes["lon"].tolist() == [0, 10, 20, 30, 40]
    assert store.scenes["nodata_share"][3] == pytest.approx(1 / 100)
    assert (np.asarray(store.chips[3])[:, 0, 3] == 0).all()


def test_torchgeo_labels_have_names_where_the_set_has(stand_in):
    rows = torchgeo("Named", arguments={"root": "data"})
    names = ["crop", "forest", "sea", "crop", "forest"]
    assert rows["label"].tolist() == names
    assert read_samples(rows, size_px=4).extra["label"].tolist() == names
    assert torchgeo("Toy", arguments={"root": "data"})["label"].isna().all()


def test_torchgeo_values_need_a_type_that_holds_them(stand_in):
    about = {"root": "data", "scale": 0.125}
    with pytest.raises(ValueError, match="must be whole numbers from 0 to 65535"):
        torchgeo("Toy", arguments=about)
    scaled = torchgeo("Toy", arguments=about, scale=(0.0, 25.0))
    assert scaled["dtype"][0] == "uint16"
    chips = read_samples(scaled, size_px=10).chips
    wanted = 1 + np.random.default_rng(0).integers(0, 200, (4, 10, 14))[:, :, 2:12] / 200 * 65534
    assert np.abs(chips[0] - wanted).max() <= 1
    assert torchgeo("Toy", arguments={"root": "data", "scale": 40})["dtype"][0] == "uint16"
    small = torchgeo("Toy", arguments={"root": "data", "scale": 40}, dtype="uint8")
    found = read_samples(small, size_px=10)
    assert len(found.bad) == 5 and "pass `dtype` or `scale=" in found.bad[0]


@pytest.mark.parametrize(
    ("name", "about", "words"),
    [
        ("Toy", {"root": "elsewhere"}, "Dataset not found"),
        ("Toy", {"root": "data", "download": True}, "`arguments` must not have download=True"),
        ("Toy", {"root": "data", "what": 1}, "what"),
        ("Toy", {"root": "data", "n": 0}, "has no samples"),
        ("Toy", {"root": "data", "n": {1, 2}}, "`arguments` must be json"),
        ("Area", {}, "NonGeoDataset"),
        ("np", {}, "NonGeoDataset"),
        ("Nothing", {}, "NonGeoDataset"),
    ],
)
def test_torchgeo_data_sets_that_cannot_be_made(stand_in, name, about, words):
    with pytest.raises(ValueError, match=words):
        torchgeo(name, arguments=about)


def test_without_torchgeo_it_says_what_to_install(monkeypatch):
    _make_dataset.cache_clear()
    monkeypatch.setitem(sys.modules, "torchgeo", None)
    with pytest.raises(ImportError, match="pip install torchgeo"):
        torchgeo("EuroSAT")
