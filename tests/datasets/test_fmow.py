import importlib
import json
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from geossl.clusters import GeoClusters
from geossl.data.scenes import BOX
from geossl.data.store import ChipStore
from geossl.data.table_files import write
from geossl.datasets.fmow import fmow
from geossl.datasets.fmow_sentinel import fmow_sentinel
from geossl.datasets.gassl_csv import gassl_csv, write_gassl_csv
from geossl.datasets.raster.chips import read_chips
from geossl.datasets.raster.window import pixel_info
from geossl.datasets.satmae_csv import satmae_csv
from geossl.datasets.shared.table import footprint_centers
from geossl.datasets.wilds_fmow import wilds_fmow
from geossl.pairs import report, temporal

MODULES = fmow_module, wilds_module, sentinel_module, gassl_module, satmae_module = [
    importlib.import_module(f"geossl.datasets.{name}")
    for name in ("fmow", "wilds_fmow", "fmow_sentinel", "gassl_csv", "satmae_csv")
]


def square(lon, lat, half=0.01):
    """WKT of a square about a position, longitude first."""
    turns = [(-1, 1), (1, 1), (1, -1), (-1, -1), (-1, 1)]
    corners = ", ".join(f"{lon + a * half:.16f} {lat + b * half:.16f}" for a, b in turns)
    return f"POLYGON (({corners}))"


def about(lon=10.0, lat=50.0, time="2014-07-01T05:31:57Z", category="airport", **more):
    """What a json of fMoW says."""
    pseudo = {"ID": -1, "category": category, "visible": True, "box": [0, 0, 80, 60]}
    box = {"ID": 0, "category": category, "visible": True, "box": [20, 10, 40, 30]}
    return {
        "img_filename": "x.jpg", "gsd": 0.5, "utm": "32U", "cloud_cover": 7, "timestamp": time,
        "country_code": "NA", "img_width": 80, "img_height": 60, "epsg": "4326",
        "raw_location": square(lon, lat), "sun_azimuth_dbl": 1.5, "bounding_boxes": [pseudo, box],
    } | more  # fmt: skip


def scene(root, name, data=None, kind="rgb", picture=None):
    """A jpg with its json; ``name`` such as train/airport/airport_0/airport_0_3; its path."""
    path = root / f"{name}_{kind}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or Image.new("RGB", (80, 60), (90, 120, 30))).save(path, "jpeg", quality=95)
    if data is not None:
        text = data if isinstance(data, bytes) else json.dumps(data).encode()
        path.with_suffix(".json").write_bytes(text)
    return str(path)


def test_the_official_layout(tmp_path):
    root = tmp_path / "daten ä/fMoW-rgb"
    new = scene(root, "train/airport/airport_0/airport_0_7", about(time="2016-01-02T03:04:05.678Z"))
    old = scene(root, "train/airport/airport_0/airport_0_2", about(10.001, 50.001))
    scene(root, "train/airport/airport_0/airport_0_2", about(0, 0), kind="msrgb")
    other = scene(root, "val/airport/airport_0/airport_0_2", about(-70, -20))
    home = scene(
        root, "train/multi-unit_residential/multi-unit_residential_12/multi-unit_residential_12_0",
        about(179.995, -17, category="multi-unit_residential"),
    )  # fmt: skip
    unknown = scene(root, "test/0000123/0000123_0", about(5, 6))
    (root / "train/airport/airport_0/._airport_0_2_rgb.jpg").write_bytes(b"of a Mac")
    (root / "test_gt/airport/airport_3").mkdir(parents=True)
    (root / "test_gt/airport/airport_3/airport_3_0_rgb.json").write_text("{}")
    table = fmow(root)
    assert table["path"].tolist() == [unknown, old, new, home, other]
    assert table["location"].tolist() == [
        "test/0000123", "train/airport/airport_0", "train/airport/airport_0",
        "train/multi-unit_residential/multi-unit_residential_12", "val/airport/airport_0",
    ]  # fmt: skip
    kinds = ["airport", "airport", "multi-unit_residential", "airport"]
    assert table["label"].isna()[0] and table["label"].tolist()[1:] == kinds
    assert table["split"].tolist() == ["test", "train", "train", "train", "val"]
    np.testing.assert_allclose(table["lon"], [5, 10.001, 10, 179.995, -70], atol=1e-9)
    np.testing.assert_allclose(table["lat"], [6, 50.001, 50, -17, -20], atol=1e-9)
    assert table["time"][2] == pd.Timestamp("2016-01-02T03:04:05.678Z")
    assert (table["gsd"] == 0.5).all() and (table["cloud_cover"] == 7).all()
    assert (table["country_code"] == "NA").all() and table.attrs["skipped"] == {}
    assert fmow(root, kind="msrgb")["lon"].tolist() == [0.0]
    for part in ("train", "train/airport", "train/airport/airport_0"):
        part_of = fmow(root / part).set_index("path")
        whole = table.set_index("path").loc[part_of.index]
        pd.testing.assert_frame_equal(part_of, whole)


def test_paths_work_from_where_the_caller_is(tmp_path, monkeypatch):
    scene(tmp_path, "train/zoo/zoo_1/zoo_1_0", about())
    monkeypatch.chdir(tmp_path / "train")
    for folder in (".", "../train"):
        table = fmow(folder)
        assert table["location"].tolist() == ["train/zoo/zoo_1"]
        assert table["split"].tolist() == ["train"] and os.path.isfile(table["path"][0])


def test_links_are_followed_once(tmp_path):
    scene(tmp_path / "disk", "zoo/zoo_1/zoo_1_0", about())
    (tmp_path / "root").mkdir()
    (tmp_path / "root/train").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/zoo/zoo_1/up").symlink_to(tmp_path / "root")
    assert fmow(tmp_path / "root")["location"].tolist() == ["train/zoo/zoo_1"]


def test_dates_of_a_place_pair_and_gray_or_transparent_pictures_become_chips(tmp_path):
    ramp = np.linspace(0, 255, 80 * 60).reshape(60, 80).astype(np.uint8)
    alpha = np.where(np.arange(80) < 40, 0, 255).astype(np.uint8) * np.ones((60, 1), np.uint8)
    scene(tmp_path, "train/zoo/zoo_1/zoo_1_0", about(), picture=Image.fromarray(ramp))
    clear = scene(tmp_path, "train/zoo/zoo_1/zoo_1_9", about(time="2015-01-01T00:00:00Z"))
    Image.fromarray(np.dstack([ramp, ramp, ramp, alpha])).save(clear, "png")
    table = fmow(tmp_path)
    store = ChipStore.build(tmp_path / "store", table, size_px=8, progress=False)
    chips = np.asarray(store.chips)
    assert (np.ptp(chips[0], axis=0) <= 2).all() and np.ptp(chips[0]) > 150
    assert not chips[1, :, :, :3].any() and chips[1, :, 4:, 5:].all()
    assert store.scenes["nodata_share"][1] == pytest.approx(0.5, abs=0.13)
    assert report(temporal(), store.scenes)["degenerate_share"] == 0


BOXES = {
    # box, context -> left, top, right, bottom; the picture has 80 x 60 pixels
    "half of the width, a third of the height": ([20, 20, 40, 20], None, (17, 17, 63, 43)),
    "a small one": ([40, 30, 4, 6], None, (36, 27, 48, 39)),
    "no context": ([20, 10, 40, 30], 0, (20, 10, 60, 40)),
    "twice as large": ([30, 20, 20, 10], 1.0, (20, 15, 60, 35)),
    "kept within": ([0, 0, 80, 60], 0.5, (0, 0, 80, 60)),
    "partly outside": ([-10, 50, 20, 30], 0.0, (0, 50, 10, 60)),
}


@pytest.mark.parametrize("case", BOXES)
@pytest.mark.parametrize("wrap", ["list", "dict", "numbered"])
def test_boxes_are_cut_with_their_context(tmp_path, case, wrap):
    box, context, wanted = BOXES[case]
    boxes = {"ID": 4, "category": "airport", "visible": "False", "box": box}
    boxes = {"list": [boxes], "dict": boxes, "numbered": {"4": boxes}}[wrap]
    scene(tmp_path, "train/airport/airport_0/airport_0_3", about(bounding_boxes=boxes))
    table = fmow(tmp_path, boxes=True, context=context)
    assert table["location"].tolist() == ["train/airport/airport_0"]
    left, top, right, bottom = table[list(BOX)].to_numpy()[0]
    if case.startswith("half"):  # 0.15 of 40 px; 0.3 of 20 px
        assert (left, top, right, bottom) == pytest.approx((17, 17, 63, 43))
    assert (left, top, right, bottom) == pytest.approx(wanted)
    assert table["visible"].tolist() == [False] and "box_id" not in table


@pytest.mark.parametrize(
    ("length", "share"),  # of a side of 1,000 px, as the baseline has it
    [(50, 2), (99, 2), (100, 1), (199, 1), (200, 0.5), (299, 0.5), (300, 0.3), (400, 0.2),
     (499, 0.2), (500, 0.15), (700, 0.15)],
)  # fmt: skip
def test_small_boxes_get_more_context(tmp_path, length, share):
    start = (1000 - length) // 2
    box = {"ID": 1, "category": "zoo", "visible": True, "box": [start, 200, length, 1600]}
    data = about(img_width=1000, img_height=2000, bounding_boxes=[box])
    scene(tmp_path, "train/zoo/zoo_0/zoo_0_0", data)
    row = fmow(tmp_path, boxes=True).iloc[0]
    assert row["box_right"] - row["box_left"] == pytest.approx(length * (1 + share))
    assert row["box_bottom"] - row["box_top"] == pytest.approx(1600 * 1.15)


def test_several_boxes_of_a_scene_are_several_places(tmp_path):
    def box(number, category, at, **more):
        return {"ID": number, "category": category, "visible": True, "box": at} | more

    whole = box(-1, "zoo", [0, 0, 80, 60])
    first = [whole, box(3, "zoo", [5, 5, 20, 20]), box(8, "false_detection", [50, 30, 20, 20])]
    second = [whole, box(3, "zoo", [7, 5, 20, 20], raw_location=square(10.2, 50.3))]
    odd = [whole, box(1, "zoo", [10, 10, 2, 20]), box(2, "zoo", [90, 10, 20, 20])]
    one = scene(tmp_path, "val/zoo/zoo_1/zoo_1_0", about(bounding_boxes=first))
    late = "2015-01-01T00:00:00Z"
    two = scene(tmp_path, "val/zoo/zoo_1/zoo_1_4", about(time=late, bounding_boxes=second))
    none = scene(tmp_path, "val/zoo/zoo_2/zoo_2_0", about(bounding_boxes=odd))
    table = fmow(tmp_path, boxes=True)
    assert table["location"].tolist() == [f"val/zoo/zoo_1/{n}" for n in (3, 3, 8)]
    assert table["path"].tolist() == [one, two, one]
    assert table["label"].tolist() == ["zoo", "zoo", "false_detection"]
    np.testing.assert_allclose(table["lon"], [10, 10.2, 10])
    assert list(table.attrs["skipped"]) == [none]
    kept = fmow(tmp_path, boxes=True, false_detection=False)
    assert kept["location"].tolist() == ["val/zoo/zoo_1/3"] * 2
    with pytest.raises(ValueError, match="zoo_2_0_rgb.jpg.*no box of 3 pixels"):
        fmow(tmp_path / "val/zoo/zoo_2", boxes=True)


def test_false_detections_can_be_left_out(tmp_path):
    name = "train/false_detection/false_detection_5/false_detection_5_0"
    scene(tmp_path, name, about(category="false_detection"))
    scene(tmp_path, "train/zoo/zoo_5/zoo_5_0", about())
    assert fmow(tmp_path)["label"].tolist() == ["false_detection", "zoo"]
    assert fmow(tmp_path, false_detection=False)["label"].tolist() == ["zoo"]


DEEP = b"[" * 100_000
BAD = {
    "no json": (None, "does not exist"),
    "empty json": (b"", "cannot be read as json"),
    "half a json": (b'{"gsd": 0.5, "timest', "cannot be read as json"),
    "no text": (bytes(range(128, 256)), "cannot be read as json"),
    "deep json": (DEEP, "cannot be read as json"),
    "a list": (b"[1, 2]", "its json is a list"),
    "no position": (about(raw_location=None), "no position on the globe"),
    "no WKT": (about(raw_location="POLYGON ((10 50, somewhere))"), "no position on the globe"),
    "nested WKT": (about(raw_location="GEOMETRYCOLLECTION (" * 50_000), "no position"),
    "another type": (about(raw_location={"lon": 1}), "no position on the globe"),
    "sentinel": (about(-1000, 50), "no position on the globe .longitude -1000"),
    "swapped": (about(50, 100), "no position on the globe .longitude 50, latitude 100"),
    "infinite": (json.dumps(about(raw_location="POINT (1e999 4)")).encode(), "no position"),
    "a word as date": (about(time="yesterday"), "has the time 'yesterday'"),
    "a list as date": (about(time=[2014, 7]), "is no ISO time"),
    "a date out of time": (about(time="2014-13-01T00:00:00Z"), "is no ISO time"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_scenes_are_named_or_left_out(tmp_path, case):
    data, words = BAD[case]
    good = scene(tmp_path, "train/zoo/zoo_5/zoo_5_0", about())
    bad = scene(tmp_path, "train/airport/airport_5/airport_5_1", data)
    with pytest.raises(ValueError, match=words) as caught:
        fmow(tmp_path)
    assert bad in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 and "skip_bad=True" in str(caught.value)
    table = fmow(tmp_path, skip_bad=True)
    assert table["path"].tolist() == [good] and list(table.attrs["skipped"]) == [bad]


BAD_BOXES = {
    "three numbers": ([{"ID": 0, "box": [1, 2, 30]}], "its box .* is not .x, y, width, height"),
    "words": ([{"ID": 0, "box": ["a", 2, 30, 30]}], "its box .* is not .x, y, width, height"),
    "no box": ([{"ID": 0}], "its box .* is not .x, y, width, height"),
    "text": ("none", "has no list of bounding_boxes"),
    "absent": (None, "has no list of bounding_boxes"),
    "numbers": ([1, 2, 3], "has no list of bounding_boxes"),
    "infinite": (
        [{"ID": 0, "box": [1, 2, float("inf"), 30]}],
        "its box .* is not .x, y, width, height",
    ),
}


@pytest.mark.parametrize("case", BAD_BOXES)
def test_bad_boxes_are_named_or_left_out(tmp_path, case):
    boxes, words = BAD_BOXES[case]
    good = scene(tmp_path, "train/zoo/zoo_5/zoo_5_0", about())
    bad = scene(tmp_path, "train/zoo/zoo_4/zoo_4_1", about(bounding_boxes=boxes))
    assert len(fmow(tmp_path)) == 2  # whole scenes need no boxes
    with pytest.raises(ValueError, match=words) as caught:
        fmow(tmp_path, boxes=True)
    assert bad in str(caught.value)
    assert fmow(tmp_path, boxes=True, skip_bad=True)["path"].tolist() == [good]


def test_odd_values_of_the_metadata_do_no_harm(tmp_path):
    odd = about(gsd={"a": 1}, cloud_cover="12.5", country_code=["x"], timestamp=None)
    scene(tmp_path, "train/zoo/zoo_5/zoo_5_0", odd)
    half = about(country_code="\ud800", gsd=10**400)
    half["bounding_boxes"][1]["category"] = "z\udfff"
    scene(tmp_path, "train/zoo/zoo_6/zoo_6_0", half)
    table = fmow(tmp_path, boxes=True)
    assert table["gsd"].isna().all() and table["cloud_cover"].tolist() == [12.5, 7]
    assert table["country_code"].isna()[0] and table["country_code"][1] == "?"
    assert table["label"].tolist() == ["airport", "z?"]
    assert table["time"].isna().tolist() == [True, False]
    write(table, tmp_path / "t.parquet")


def test_empty_pictures_and_folders_that_cannot_be_listed(tmp_path):
    scene(tmp_path, "train/zoo/zoo_5/zoo_5_0", about())
    empty = scene(tmp_path, "train/zoo/zoo_6/zoo_6_0", about())
    open(empty, "wb").close()
    with pytest.raises(ValueError, match="zoo_6_0_rgb.jpg: it is empty"):
        fmow(tmp_path)
    assert list(fmow(tmp_path, skip_bad=True).attrs["skipped"]) == [empty]


def test_longitudes_of_0_to_360_on_request(tmp_path):
    scene(tmp_path, "train/zoo/zoo_5/zoo_5_0", about(290, -20))
    with pytest.raises(ValueError, match="normalize_lon=True"):
        fmow(tmp_path)
    assert fmow(tmp_path, normalize_lon=True)["lon"][0] == pytest.approx(-70)


@pytest.mark.parametrize(
    ("shape", "lon", "lat"),
    [
        (square(180 - 0.005, 3).replace("180.005", "-179.995"), 179.995, 3),
        (square(-179.999, 3).replace("-180.009", "179.991"), -179.999, 3),
        (square(0, 3).replace("-0.01", "359.99"), 0, 3),
        (square(200, 3), 200, 3),
        ("point(3 4)", 3, 4),
        ("MULTIPOLYGON (((1 1, 3 1, 3 3, 1 3, 1 1)))", 2, 2),
        ("POLYGON ((5 5, 5 5, 5 5, 5 5))", 5, 5),
        ("POLYGON ((0 0, 3 0, 0 3, 0 0))", 1, 1),
        ("POINT EMPTY", np.nan, np.nan),
        ("LINESTRING (1 1, 2 2)", np.nan, np.nan),
        ("", np.nan, np.nan),
        (None, np.nan, np.nan),
    ],
)
def test_middles_of_shapes(shape, lon, lat):
    found = footprint_centers(pd.Series([square(7, 8), shape, square(-7, 8)]))
    np.testing.assert_allclose(found[0], [7, lon, -7], atol=1e-6)
    np.testing.assert_allclose(found[1], [8, lat, 8], atol=1e-6)


def test_wrong_arguments_and_folders(tmp_path):
    scene(tmp_path, "train/zoo/zoo_5/zoo_5_0", about())
    for more, words in [
        ({"kind": "ms"}, r"`kind` must be one of \['rgb', 'msrgb'\], got 'ms'"),
        ({"context": 0.1}, "`context` needs `boxes=True`, got 0.1"),
        ({"boxes": True, "context": -1.0}, "`context` must be >= 0, got -1.0"),
        ({"boxes": True, "context": float("nan")}, "`context` must be finite, got nan"),
    ]:
        with pytest.raises(ValueError, match=words):
            fmow(tmp_path, **more)
    with pytest.raises(FileNotFoundError, match="There are no .*msrgb.jpg in"):
        fmow(tmp_path, kind="msrgb")
    with pytest.raises(FileNotFoundError, match="There is no folder of fMoW"):
        fmow(tmp_path / "absent")


def wilds(root, rows, pictures=None):
    """WILDS' folder of (split, img_filename, timestamp, lat, lon) with pictures of gray i."""
    (root / "images").mkdir(parents=True)
    for i in range(len(rows)) if pictures is None else pictures:
        Image.new("RGB", (224, 224), (i, i, i)).save(root / f"images/rgb_img_{i}.png")
    table = pd.DataFrame(rows, columns=["split", "img_filename", "timestamp", "lat", "lon"])
    table["category"] = table["img_filename"].str.replace(r"_\d+_\d+_rgb.jpg", "", regex=True)
    table["country_code"], table["region"], table["cloud_cover"] = "NAM", "Africa", 3
    table.to_csv(root / "rgb_metadata.csv", index=False)
    return root


WILDS = [
    ("train", "multi-unit_residential_3_1_rgb.jpg", "2014-07-01T05:31:57Z", -20.0, 17.0),
    ("train", "multi-unit_residential_3_0_rgb.jpg", "2002-02-07T08:43:59.123Z", -20.001, 17.001),
    ("val", "zoo_7_0_rgb.jpg", "2013-01-01T00:00:00Z", 40.0, -70.0),
    ("seq", "zoo_7_0_rgb.jpg", "2013-01-01T00:00:00Z", 10.0, 20.0),
]


def test_wilds(tmp_path):
    table = wilds_fmow(wilds(tmp_path / "fmow_v1.1", WILDS))
    assert table["location"].tolist() == [
        *["train/multi-unit_residential/multi-unit_residential_3"] * 2, "val/zoo/zoo_7",
        "seq/zoo/zoo_7",
    ]  # fmt: skip
    assert table["label"].tolist() == [*["multi-unit_residential"] * 2, "zoo", "zoo"]
    assert table["split"].tolist() == ["train", "train", "val", "seq"]
    assert table["lon"].tolist() == [17.0, 17.001, -70.0, 20.0]
    assert table["time"].dt.year.tolist() == [2014, 2002, 2013, 2013]
    assert table["country_code"][0] == "NAM" and table["cloud_cover"][0] == 3
    store = ChipStore.build(tmp_path / "store", table, size_px=4, progress=False)
    assert store.chips[:, 0, 0, 0].tolist() == [0, 1, 2, 3]  # picture i belongs to row i


def test_wilds_with_bad_rows(tmp_path):
    rows = [
        *WILDS, ("val", "zoo 7.jpg", "2013-01-01T00:00:00Z", 10.0, 20.0),
        ("val", "zoo_9_0_rgb.jpg", "2013-01-01T00:00:00Z", -1000, -1000),
        ("val", "zoo_9_1_rgb.jpg", "some day", 10, 20),
        ("val", "../../zoo_9_1_rgb.jpg", "2013-01-01T00:00:00Z", 10, 20),
    ]  # fmt: skip
    root = wilds(tmp_path, rows, pictures=[0, 1, 3, 4, 5, 6, 7])
    with pytest.raises(
        ValueError, match="rgb_metadata.csv row 2: there is no file .*rgb_img_2.png"
    ):
        wilds_fmow(root)
    table = wilds_fmow(root, skip_bad=True)
    assert len(table) == 3 and len(table.attrs["skipped"]) == 5
    assert all(table["path"].map(os.path.isfile))
    reasons = list(table.attrs["skipped"].values())
    for reason, words in zip(reasons[1:4], ["img_filename", "globe", "some day"], strict=True):
        assert words in reason
    metadata = pd.read_csv(root / "rgb_metadata.csv")
    metadata.drop(columns="img_filename").to_csv(root / "rgb_metadata.csv", index=False)
    with pytest.raises(ValueError, match="img_filename is missing"):
        wilds_fmow(root)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        wilds_fmow(tmp_path / "images")


def tif(path, value, dtype="uint16"):
    import rasterio
    from rasterio.transform import Affine

    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=9, height=7, count=13, dtype=dtype, crs="EPSG:4326",
        transform=Affine(1e-4, 0, 10, 0, -1e-4, 50),
    ) as file:  # fmt: skip
        file.write((np.arange(13)[:, None, None] * 100 + np.full((13, 7, 9), value)).astype(dtype))


TWO = ((0, 6, "airport"), (0, 100, "airport"))


def sentinel(root, split="train", rows=TWO, inside=None, **how):
    """fMoW-Sentinel's csv with an index, as it is published, and its files."""
    root.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=["location_id", "image_id", "category"])
    table["timestamp"] = [f"2016-0{1 + i}-01T00:00:00Z" for i in range(len(table))]
    table["polygon"] = [square(10 + n, 50) for n in table["location_id"]]
    table.to_csv(root / f"{split}.csv")
    for place, image, category in rows:
        folder = root / (inside or "") / split / category / f"{category}_{place}"
        tif(folder / f"{category}_{place}_{image}.tif", image, **how)
    return root


def test_fmow_sentinel(tmp_path):
    root = sentinel(tmp_path, inside="fmow-sentinel")
    rows = ((0, 3, "airport"), (7, 2, "multi-unit_residential"))
    sentinel(tmp_path, "test_gt", rows, inside="fmow-sentinel")
    table = fmow_sentinel(root)
    assert table["location"].tolist() == [
        "train/airport/airport_0", "train/airport/airport_0", "test_gt/airport/airport_0",
        "test_gt/multi-unit_residential/multi-unit_residential_7",
    ]  # fmt: skip
    assert table["image_id"].tolist() == [6, 100, 3, 2]
    assert table["split"].tolist() == ["train", "train", "test_gt", "test_gt"]
    np.testing.assert_allclose(table["lon"], [10, 10, 10, 17])
    store = ChipStore.build(tmp_path / "store", table, size_px=4, progress=False)
    assert store.chips.shape == (4, 13, 4, 4) and store.chips.dtype == np.uint16
    assert store.chips[1, :, 0, 0].tolist() == [100 + 100 * i for i in range(13)]
    info = pixel_info(table)
    assert [info["bands"][i] for i in info["rgb"]] == ["B4", "B3", "B2"]
    assert info["bands"].index("B8A") == 8
    one = fmow_sentinel(root / "train.csv", root=root / "fmow-sentinel")
    assert one["path"].tolist() == table["path"].tolist()[:2]
    (root / "train.csv").rename(root / "train_filtered.csv")
    assert len(fmow_sentinel(root / "train_filtered.csv")) == 2


def test_fmow_sentinel_of_floats_wants_a_scale(tmp_path):
    root = sentinel(tmp_path, dtype="float32")
    with pytest.raises(ValueError, match="Pass `scale="):
        fmow_sentinel(root)
    table = fmow_sentinel(root, scale=(0.0, 10_000.0))
    chips = read_chips(table, size_px=4).chips
    assert chips[1, 3, 0, 0] == round(1 + 400 / 10_000 * 65534)


def test_fmow_sentinel_stays_in_its_folder(tmp_path):
    root = sentinel(tmp_path / "data")
    tif(tmp_path / "data/secret/a_1/a_1_2.tif", 1)
    table = pd.read_csv(root / "train.csv", index_col=0)
    odd = pd.concat([table] * 4, ignore_index=True)
    odd["category"] = odd["category"].astype(object)
    odd.loc[2, "category"] = "../secret"
    odd.loc[3, "category"] = np.nan
    odd["image_id"] = odd["image_id"].astype(object)
    odd.loc[4, "image_id"] = "../6"
    odd.loc[5, "image_id"] = 77
    odd.loc[6, "polygon"] = "[[10, 50], [11, 51]]"
    odd.loc[7, "timestamp"] = "2016-02-31T00:00:00Z"
    odd.to_csv(root / "train.csv")
    with pytest.raises(
        ValueError, match="train.csv row 2: its category must be a name without slashes"
    ):
        fmow_sentinel(root)
    found = fmow_sentinel(root, skip_bad=True)
    assert len(found) == 2 and len(found.attrs["skipped"]) == 6
    assert "no file" in found.attrs["skipped"][f"{root / 'train.csv'} row 5"]
    with pytest.raises(
        FileNotFoundError, match="must be a csv or contain one of train.csv, val.csv, test_gt.csv"
    ):
        fmow_sentinel(root / "train")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        fmow_sentinel(root / "absent.csv")


def listing(root, name="train.csv", header=("label", "path"), third=None):
    """A csv of the paper's with four pictures of three fMoW sequences."""
    names = [
        "train/zoo/zoo_1/zoo_1_0_rgb.jpg", "train/zoo/zoo_1/zoo_1_12_rgb.jpg",
        "train/zoo/zoo_2/zoo_2_0_msrgb.jpg", "val/zoo ä/zoo_1/zoo_1_0_rgb.jpg",
    ]  # fmt: skip
    for one in names:
        (root / one).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (9, 9, 9)).save(root / one)
    columns = [[0, 0, 10, 2], names] + ([third] if third else [])
    pd.DataFrame(dict(zip(header, columns, strict=True))).to_csv(root / name, index=False)
    return root / name


PLACES = ["train/zoo/zoo_1", "train/zoo/zoo_1", "train/zoo/zoo_2", "val/zoo ä/zoo_1"]


@pytest.mark.parametrize("header", [("label", "path"), ("category", "image"), ("Geo_Cluster", "p")])
def test_gassl_csv(tmp_path, header):
    table = gassl_csv(listing(tmp_path, header=header))
    known = "cluster" if "Cluster" in header[0] else "label"
    assert table[known].tolist() == [0, 0, 10, 2] and table[known].dtype == "int64"
    assert table["location"].tolist() == PLACES
    assert table[["lon", "lat", "time"]].isna().all(axis=None)
    assert len(ChipStore.build(tmp_path / "store", table, size_px=4, progress=False)) == 4
    with pytest.raises(ValueError, match="4 of 4 rows have none"):
        GeoClusters.fit(table, k=2)


def test_satmae_csv(tmp_path):
    times = ["2015-07-25T08:45:17Z", "2016-01-01T00:00:00.5Z", "2017-01-01T00:00:00Z", "2015-02-03"]
    path = listing(tmp_path, header=("category", "image_path", "timestamp"), third=times)
    table = satmae_csv(path)
    assert table["time"].dt.year.tolist() == [2015, 2016, 2017, 2015]
    assert table["location"].tolist() == PLACES and table["reader"].unique() == ["satmae_csv"]
    with pytest.raises(
        ValueError, match="needs a header and the columns .label or cluster, path, time., got"
    ):
        satmae_csv(listing(tmp_path))
    path = listing(tmp_path, header=("label", "path", "t"), third=[*times[:3], "noon"])
    with pytest.raises(ValueError, match="row 3: it has the time 'noon'"):
        satmae_csv(path)
    assert len(satmae_csv(path, skip_bad=True)) == 3


def test_the_location_of_a_csv_can_be_told(tmp_path):
    path = listing(tmp_path)
    found = gassl_csv(path, location=r"zoo_\d+")
    assert found["location"].tolist() == ["zoo_1", "zoo_1", "zoo_2", "zoo_1"]
    found = gassl_csv(path, location=r"(train|val)/.*_(\d+)")
    assert found["location"].tolist() == ["train", "train", "train", "val"]
    found = gassl_csv(path, location=lambda name: len(name))
    assert found["location"].nunique() == 3
    assert gassl_csv(path, location=str)["location"].nunique() == 4
    with pytest.raises(
        ValueError, match="row 3: the path 'val.*' contains no location; pass `location`"
    ):
        gassl_csv(path, location=r"train/zoo/\w+")
    assert len(gassl_csv(path, location=r"train/zoo/\w+", skip_bad=True)) == 3
    with pytest.raises(ValueError, match="`location` must be a regular expression, got"):
        gassl_csv(path, location="(")
    (tmp_path / "AnnualCrop").mkdir()
    for i in range(2):  # a class folder is no place
        Image.new("RGB", (8, 8)).save(tmp_path / f"AnnualCrop/AnnualCrop_{i}.jpg")
    flat = tmp_path / "flat.csv"
    flat.write_text("label,path\n0,AnnualCrop/AnnualCrop_0.jpg\n0,AnnualCrop/AnnualCrop_1.jpg\n")
    with pytest.raises(ValueError, match="contains no location; pass `location`"):
        gassl_csv(flat)


def test_paths_of_a_csv_stay_in_its_folder(tmp_path):
    inner = tmp_path / "inner"
    path = listing(inner)
    outside = tmp_path / "train/zoo/zoo_1"
    outside.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(outside / "zoo_1_0_rgb.jpg")
    for name in (
        "../train/zoo/zoo_1/zoo_1_0_rgb.jpg", str(outside / "zoo_1_0_rgb.jpg"), "",
        "../inner_2/zoo_1/zoo_1_0_rgb.jpg", "a\0b",
    ):  # fmt: skip
        path.write_text(f"label,path\n0,train/zoo/zoo_1/zoo_1_0_rgb.jpg\n0,{name}\n")
        with pytest.raises(ValueError, match="row 1: .*pass `root`"):
            gassl_csv(path)
        assert len(gassl_csv(path, skip_bad=True)) == 1
    path.write_text("label,path\n0,train/zoo/zoo_1/zoo_1_99_rgb.jpg\n")
    with pytest.raises(ValueError, match="row 0: there is no file .*zoo_1_99_rgb.jpg; pass `root`"):
        gassl_csv(path)
    path.write_text("0,train/zoo/zoo_1/zoo_1_0_rgb.jpg\n0,train/zoo/zoo_1/zoo_1_12_rgb.jpg\n")
    with pytest.raises(
        ValueError, match="needs a header and the columns .label or cluster, path., got"
    ):
        gassl_csv(path)
    path.write_text(f"label,path\n0,{outside}/zoo_1_0_rgb.jpg\n")
    assert len(gassl_csv(path, root=tmp_path)) == 1
    path.write_text("label,path\n0,/atlas/u/fmow/train/zoo/zoo_1/zoo_1_0_rgb.jpg\n")
    found = gassl_csv(path, root=tmp_path, strip="/atlas/u/fmow/")
    assert found["path"].tolist() == [str(outside / "zoo_1_0_rgb.jpg")]


def test_more_columns_of_a_csv(tmp_path):
    path = listing(tmp_path)
    table = pd.read_csv(path).assign(lon=["10", "10", "-5", "7"], lat=1, split="train", note="NA")
    table.to_csv(path)  # with an index, as happens
    found = gassl_csv(path)
    assert found["lon"].tolist() == [10, 10, -5, 7] and (found["split"] == "train").all()
    assert (found["note"] == "NA").all() and "Unnamed: 0" not in found
    table.assign(lon=["10", "east", "-5", "7"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match="row 1: it has no position"):
        gassl_csv(path)
    assert len(gassl_csv(path, skip_bad=True)) == 3


NO_CSV = {
    "empty": b"",
    "a line": b"\n",
    "a column": b"label\n0\n",
    "no rows": b"label,path\n",
    "no header": b"0,train/zoo/zoo_1/zoo_1_0_rgb.jpg\n0,b.jpg\n",
    "long rows": b"label,path\n0,a.jpg,7,8\n",
    "no text": b"\xff\xfe\x00\x01",
    "open quote": b'label,path\n"0,a.jpg\n',
    "a zip": b"PK\x03\x04" * 99,
    "one long line": b"x" * 10_000_000,
    "many columns": b"x," * 1_000_000,
    "many columns after a long name": b"x" * 70_000 + b",x" * 1_000_000,
}


@pytest.mark.parametrize("text", NO_CSV.values(), ids=NO_CSV)
@pytest.mark.parametrize("module", [gassl_module, satmae_module, sentinel_module])
def test_csvs_that_are_none_are_refused_in_a_sentence(tmp_path, text, module):
    path = tmp_path / "odd.csv"
    path.write_bytes(text)
    assert module.fits(path) is None
    read = getattr(module, module.__name__.rpartition(".")[2])
    with pytest.raises((ValueError, FileNotFoundError), match="odd.csv") as caught:
        read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_writing_the_papers_csv(tmp_path):
    scene(tmp_path, "train/zoo/zoo_1/zoo_1_0", about())
    scene(tmp_path, "train/airport/airport_4/airport_4_9", about())
    table = fmow(tmp_path)
    names = write_gassl_csv(table, tmp_path / "labels.csv")
    assert names == ["airport", "zoo"]
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines[0] == "label,path" and lines[2] == f"1,{table['path'][1]}"
    back = gassl_csv(tmp_path / "labels.csv")
    assert back["label"].tolist() == [0, 1] and back["path"].tolist() == table["path"].tolist()
    clusters = GeoClusters(np.array([[10.0, 50.0]]), np.array([2]))
    clusters.to_csv(tmp_path / "clusters.csv", table)
    assert gassl_csv(tmp_path / "clusters.csv")["cluster"].tolist() == [0, 0]
    with pytest.raises(ValueError, match="needs a label, but 1 of 2 have none"):
        write_gassl_csv(table.assign(label=["zoo", None]), tmp_path / "x.csv")
    with pytest.raises(ValueError, match="`label` must be a column of the table, .* got 'kind'"):
        write_gassl_csv(table, tmp_path / "x.csv", label="kind")
    assert not (tmp_path / "x.csv").exists()


def test_each_layout_fits_its_own_reader_alone(tmp_path):
    scene(tmp_path / "fmow", "train/zoo/zoo_1/zoo_1_0", about())
    (tmp_path / "bare/train/zoo/zoo_1").mkdir(parents=True)
    (tmp_path / "bare/train/zoo/zoo_1/zoo_1_0_rgb.jpg").write_bytes(b"x")  # without json
    times = ["2015-07-25T08:45:17Z"] * 4
    places = {
        tmp_path / "fmow": fmow_module,
        tmp_path / "fmow/train": fmow_module,
        tmp_path / "fmow/train/zoo/zoo_1": fmow_module,
        wilds(tmp_path / "wilds", WILDS): wilds_module,
        sentinel(tmp_path / "sentinel"): sentinel_module,
        tmp_path / "sentinel/train.csv": sentinel_module,
        listing(tmp_path / "gassl"): gassl_module,
        listing(tmp_path / "satmae", header=("a", "b", "c"), third=times): satmae_module,
        listing(tmp_path / "split", header=("a", "b", "c"), third=["train"] * 4): None,
        tmp_path / "wilds/rgb_metadata.csv": None,
        tmp_path / "bare": None,
        tmp_path / "absent": None,
        tmp_path: None,
    }
    for path, wanted in places.items():
        found = [module for module in MODULES if module.fits(path)]
        if path == tmp_path:  # holds a folder that holds fMoW
            found = [module for module in found if module is not fmow_module]
        assert found == ([wanted] if wanted else []), path
