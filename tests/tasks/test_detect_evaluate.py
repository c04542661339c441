import numpy as np
import pandas as pd
import pytest
from detect_scenes import scattered, slow_iou, table_of

from geossl.data.scenes import BOX
from geossl.tasks import detect
from geossl.viz.plots import detection


def slow_ap(found, boxes, paths, label, least):
    """Average precision of a class, written from COCO's description; nan without a box."""
    verdicts, total = [], 0
    for order, path in enumerate(paths):
        real = [b for b in boxes if b["path"] == path and b["label"] == label]
        total += sum(not b["crowd"] for b in real)
        given = [f for f in found if f["path"] == path and f["label"] == label]
        given.sort(key=lambda f: -f["score"])  # stable
        taken = set()
        for place, f in enumerate(given):
            best, where = least, None
            for i, b in enumerate(real):
                value = slow_iou(f["box"], b["box"])
                if not b["crowd"] and i not in taken and value >= best:
                    best, where = value, i
            if where is not None:
                taken.add(where)
                verdicts.append((-f["score"], order, place, True))
            elif not any(b["crowd"] and slow_iou(f["box"], b["box"], True) >= least for b in real):
                verdicts.append((-f["score"], order, place, False))
    if total == 0:
        return np.nan
    verdicts.sort()
    points, right = [], 0
    for seen, (_, _, _, hit) in enumerate(verdicts, 1):
        right += hit
        points.append((right / total, right / seen))
    levels = [i / 100 for i in range(101)]
    return np.mean([max([p for r, p in points if r >= level - 1e-12], default=0.0)
                    for level in levels])  # fmt: skip


def random_case(seed, paths):
    """Truth and detections near it, with ties of score, crowds, and classes of one side only."""
    rng = np.random.default_rng(seed)
    boxes, found = [], []
    for path in paths:
        for _ in range(rng.integers(0, 6)):
            corner, size = rng.uniform(0, 40, 2), rng.uniform(4, 20, 2)
            label = rng.choice(["a", "b", "only true"])
            boxes.append((path, *corner, *(corner + size), label, rng.random() < 0.15))
            for _ in range(rng.integers(0, 3)):
                moved = corner + rng.normal(0, 2, 2)
                end = moved + size * rng.uniform(0.8, 1.25, 2)
                name = rng.choice(["a", "b", "only found"])
                found.append((path, *moved, *end, name, round(rng.random(), 1)))
    return (
        pd.DataFrame(boxes, columns=["path", *BOX, "label", "crowd"]),
        pd.DataFrame(found, columns=["path", *BOX, "label", "score"]),
    )


def entries(table):
    return [row | {"box": [row[name] for name in BOX]} for row in table.to_dict("records")]


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_that_of_a_slow_one(seven, seed):
    boxes, found = random_case(seed, seven[:5])
    result = detect.measure(found, boxes, pd.DataFrame({"path": seven}), score=0.5)
    truth, guess = entries(boxes), entries(found)
    table = result.per_class.set_index("label")
    assert set(table.index) == {b["label"] for b in truth} | {f["label"] for f in guess}
    expected = {
        label: [slow_ap(guess, truth, seven, label, least) for least in np.arange(50, 96, 5) / 100]
        for label in table.index
    }
    for label, values in expected.items():
        np.testing.assert_allclose(table.loc[label, "ap50"], values[0], atol=1e-12)
        np.testing.assert_allclose(table.loc[label, "ap"], np.mean(values), atol=1e-12)
    known = [values for values in expected.values() if not np.isnan(values[0])]
    assert result.ap50 == pytest.approx(np.mean([values[0] for values in known]))
    assert result.ap == pytest.approx(np.mean(known))
    if "only true" in table.index and table.loc["only true", "boxes"]:
        assert table.loc["only true", "ap50"] == 0 == table.loc["only true", "recall"]
    # precision and recall at the score, counted anew
    hits = result.detections[
        (result.detections.outcome == "hit") & (result.detections.score >= 0.5)
    ]
    wrong = result.detections[
        (result.detections.outcome == "false alarm") & (result.detections.score >= 0.5)
    ]
    real = result.boxes[~result.boxes.crowd]
    assert (real.outcome == "hit").sum() == len(hits)
    assert result.precision == pytest.approx(len(hits) / (len(hits) + len(wrong)))
    assert result.recall == pytest.approx(len(hits) / len(real))
    assert set(result.boxes.outcome[result.boxes.crowd]) <= {"ignored"}


def test_the_interval_is_that_of_scenes_drawn_again(seven, monkeypatch):
    boxes, found = random_case(3, seven)
    monkeypatch.setattr("geossl.tasks.detect.evaluate.RESAMPLES", 25)
    result = detect.measure(found, boxes, pd.DataFrame({"path": seven}), seed=4)
    times = np.random.default_rng(4).multinomial(7, np.full(7, 1 / 7), 25)
    values = []
    for draw in times:
        names = [f"{path}#{i}" for path, n in zip(seven, draw, strict=True) for i in range(n)]
        truth, guess = (
            [row | {"path": f"{row['path']}#{i}"} for path, n in zip(seven, draw, strict=True)
             for i in range(n) for row in entries(table) if row["path"] == path]
            for table in (boxes, found)
        )  # fmt: skip
        each = [slow_ap(guess, truth, names, label, 0.5) for label in ("a", "b", "only true")]
        values.append(np.nanmean(each))
    assert (result.low, result.high) == pytest.approx(np.percentile(values, [2.5, 97.5]))
    assert result.low < result.ap50 < result.high


def test_all_found_and_nothing_else_is_perfect_and_a_hundred_are_not_the_most(seven):
    at = [(x, y) for x in range(0, 60, 4) for y in range(0, 60, 4)]  # 225 boxes in a scene
    boxes = table_of([(seven[0], x, y, x + 3, y + 3, "ship") for x, y in at])
    scenes = pd.DataFrame({"path": seven[:1]})
    result = detect.measure(boxes.assign(score=1.0), boxes, scenes)
    assert (result.ap50, result.ap, result.precision, result.recall) == (1, 1, 1, 1)
    assert np.isnan(result.low)  # of one scene
    assert "AP50 1.000" in str(result) and "225 boxes" in result._repr_html_()


def test_scenes_and_boxes_without_anything(seven):
    scenes, none = pd.DataFrame({"path": seven[:2]}), table_of([])
    box = table_of([(seven[0], 1, 1, 9, 9, "ship")])
    empty = detect.measure(none.assign(score=0.0), none, scenes)
    assert np.isnan([empty.ap50, empty.precision, empty.recall, empty.low]).all()
    alarm = detect.measure(box.assign(score=0.9), none, scenes)
    assert alarm.precision == 0 and np.isnan(alarm.ap50) and np.isnan(alarm.recall)
    missed = detect.measure(none.assign(score=0.0), box, scenes)
    assert missed.ap50 == 0 == missed.recall and np.isnan(missed.precision)
    other = detect.measure(box.assign(score=0.9), box, seven[1])  # all lies in another scene
    assert len(other.detections) == 0 == len(other.boxes)
    str(empty), str(alarm), missed._repr_html_()


@pytest.mark.parametrize("column, value", [("score", np.nan), ("box_left", np.inf),
                                           ("box_right", 0), ("label", None)])  # fmt: skip
def test_detections_that_are_none_are_refused(seven, column, value):
    box = table_of([(seven[0], 1, 1, 9, 9, "ship")])
    found = box.assign(score=0.9)
    found[column] = value
    with pytest.raises(ValueError, match=r"`detections` must have finite .*0\.png"):
        detect.measure(found, box, seven[0])
    with pytest.raises(ValueError, match="score is missing"):
        detect.measure(box, box, seven[0])


def test_pictures_show_hits_misses_and_false_alarms(tmp_path):
    scenes, boxes = scattered(tmp_path, count=2)
    found = boxes.iloc[:4].assign(score=[0.9, 0.8, 0.7, 0.1])
    found.loc[2, list(BOX)] = [1, 1, 4, 4]
    result = detect.measure(found, boxes, scenes, score=0.5)
    ax = detection.plot_detections(result, scenes, path=scenes["path"][0])
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["hits (2)", "missed (1)", "false alarms (1)"]
    lines = [(patch.get_linestyle(), patch.get_edgecolor()) for patch in ax.patches]
    assert len(lines) == 4 and len(set(lines)) == 3 == len({line for line, _ in lines})
    assert "hits (2)" in ax._repr_html_() and "alt=" in ax._repr_html_()
    part = detection.plot_detections(result, scenes, path=scenes["path"][0], window=(0, 0, 5, 5))
    assert len(part.patches) == 1
    figure = detection.plot_outcomes(result, scenes, count=2, size_px=40)
    assert len(figure.axes) == 6 and "missed" in figure._repr_html_()
    with pytest.raises(ValueError, match="`path` must be one of the 2 scenes"):
        detection.plot_detections(result, scenes, path="x")
    with pytest.raises(ValueError, match="smaller window"):
        detection.plot_detections(result, scenes, window=(0, 0, 10**5, 10**5))
