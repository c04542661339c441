from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from detect_scenes import table_of

from geossl.data.scenes import BOX
from geossl.tasks import detect
from geossl.tasks.detect.boxes import crop_boxes, rotate_boxes, rotate_pixels

BAD = {
    "nan": (1, np.nan, 9, 9), "infinite": (np.inf, 1, np.inf, 9), "a word": (1, "x", 9, 9),
    "inverted": (9, 1, 1, 9), "no area": (4, 4, 4, 9), "outside": (64, 1, 80, 9),
    "above": (1, -9, 9, 0), "a sliver": (1, 63.99, 9, 80),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_boxes_that_cannot_be_used_are_refused_or_left_out_and_counted(seven, kind):
    good = (seven[0], 5, 5, 15, 15, "ship")
    boxes = table_of([good, (seven[1], *BAD[kind], "ship"), good])
    scenes = pd.DataFrame({"path": seven[:3]})
    with pytest.raises(ValueError, match=r"row 1 of the boxes, .*1\.png: .*skip_bad=True"):
        detect.check_boxes(boxes, scenes)
    left = detect.check_boxes(boxes, scenes, skip_bad=True)
    assert list(left.index) == [0, 2] and list(left.attrs["skipped"]) == [
        f"row 1 of the boxes, {seven[1]}"
    ]
    with pytest.raises(ValueError, match="row 1 of the boxes"):
        detect.measure(table_of([good]).assign(score=1.0), boxes, scenes)
    result = detect.measure(table_of([good]).assign(score=1.0), boxes, scenes, skip_bad=True)
    assert result.skipped == 1 and "boxes left out: 1" in str(result)


def test_boxes_are_cut_at_their_scene_and_those_of_other_scenes_left_out(seven):
    boxes = table_of([(seven[0], -5, 60, 5, 70, 3), (seven[1], 1, 1, 2, 2, 7)])
    found = detect.check_boxes(boxes, seven[0])
    assert found[list(BOX)].to_numpy().tolist() == [[0, 60, 5, 64]] and not found["crowd"].any()
    assert detect.check_boxes(boxes, pd.DataFrame({"path": [seven[5]]})).empty
    with pytest.raises(ValueError, match="a box must have a path and a label"):
        detect.check_boxes(boxes.assign(label=[None, 7]), seven[0])
    with pytest.raises(ValueError, match="label is missing"):
        detect.check_boxes(boxes.drop(columns="label"), seven[0])
    alone = boxes.assign(path=[Path(p).name for p in boxes["path"]])
    with pytest.raises(ValueError, match="Write both paths the same way"):
        detect.check_boxes(alone, seven[0])


@pytest.mark.parametrize("turn", range(8))
def test_boxes_turn_with_their_pixels(turn):
    rng = np.random.default_rng(turn)
    for _ in range(5):
        (left, right), (top, bottom) = (np.sort(rng.choice(13, 2, False)) for _ in "xy")
        mask = np.zeros((1, 12, 12), bool)
        mask[:, top:bottom, left:right] = True
        ((x0, y0, x1, y1),) = rotate_boxes(np.array([[left, top, right, bottom]]), turn, 12)
        expected = np.zeros((1, 12, 12), bool)
        expected[:, y0:y1, x0:x1] = True
        assert np.array_equal(rotate_pixels(mask, turn), expected)


def test_a_cut_box_counts_while_enough_of_it_is_left():
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [-7, 0, 3, 10], [50, 50, 60, 60.0]])
    found, whole, part = crop_boxes(boxes, (0, 0, 10, 10), min_visible=0.5)
    assert whole.tolist() == [True, True, False, False] and part.tolist() == [False] * 2 + [
        True, False
    ]  # fmt: skip
    assert found[:3].tolist() == [[0, 0, 10, 10], [4, 0, 10, 10], [0, 0, 3, 10]]
