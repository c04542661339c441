import json
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from rasters import noise, tif

from geossl.datasets.coco import coco
from geossl.datasets.raster import chips as images


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


def test_coco_a_category_that_is_none_and_a_date_that_may_be_two(detection):
    path, _ = detection
    content = coco_json()
    content["annotations"][0]["category_id"] = float("inf")
    content["images"][0]["date_captured"] = "25 May 2020"
    content["images"][1]["date_captured"] = "2020/05/06 07:08"
    path.write_text(json.dumps(content))
    found = coco(path)
    assert found["classes"].tolist() == ["boat", "ship", ""]
    assert found["time"].dt.strftime("%m%d").tolist()[:2] == ["0525", "0506"]
    content["images"][0]["date_captured"] = "05/06/2020"  # images need no time
    path.write_text(json.dumps(content))
    assert coco(path)["time"].notna().tolist() == [False, True, False]


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
