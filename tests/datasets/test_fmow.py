import json
import os

import numpy as np
import pandas as pd
import pytest
from fmow_folders import about, scene, square
from PIL import Image

from geossl.data.scenes import BOX
from geossl.data.store import ChipStore
from geossl.data.table_files import write
from geossl.datasets.fmow import fmow
from geossl.pairs import report, temporal


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
    "a list as date": (about(time=[2014, 7]), "is not an ISO time"),
    "a date out of time": (about(time="2014-13-01T00:00:00Z"), "is not an ISO time"),
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
    with pytest.raises(
        FileNotFoundError, match="The folder .*absent does not exist. It should contain fMoW"
    ):
        fmow(tmp_path / "absent")
