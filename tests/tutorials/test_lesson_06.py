"""Lesson 06: its exercises, and how it judges."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from geossl_lessons import checking
from geossl_lessons.lesson_06 import experiments
from matplotlib.axes import Axes

from geossl import Embeddings, evaluate

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = {"random": "random", "MoCo-v2": "moco", "+TP": "moco+tp", "+Geo": "moco+geo",
         "+Geo+TP": "moco+geo+tp"}  # fmt: skip


def hint(number, answer, data):
    return checking.judge(number, answer, data).hint


def table_of(places=120, dates=3, seed=0):
    rng = np.random.default_rng(seed)
    location = np.repeat(np.arange(places), dates)
    split = np.array(["train", "train", "val", "test"])[np.arange(places) % 4]
    return pd.DataFrame({
        "path": "x", "location": location, "lon": rng.uniform(-180, 180, places)[location],
        "lat": rng.uniform(-60, 60, places)[location],
        "time": pd.Timestamp("2020-01-01", tz="UTC")
        + pd.to_timedelta(np.tile(np.arange(dates) * 40, places), "D"),
        "label": np.array(list("aab"))[np.arange(places) % 3][location],
        "split": split[location],
    })  # fmt: skip


def result_of(table, share, seed, alike=0.8):
    """A probe that is right for a share of the test chips, mostly alike for those of a place."""
    rng = np.random.default_rng(seed)
    test = np.flatnonzero(table["split"] == "test")
    place = table["location"].to_numpy()[test]
    of_place = rng.random(place.max() + 1)[place]
    draw = np.where(rng.random(len(test)) < alike, of_place, rng.random(len(test)))
    predictions = pd.DataFrame({"row": test, "location": place, "hit": draw < share})
    value, low, high = evaluate.bootstrap.share_interval(predictions["hit"].to_numpy(), place, seed)
    return evaluate.ProbeResult("top-1", value, low, high, 0.3, 9, len(test), predictions)


TABLE = table_of(places=400)


def test_chance():
    test = TABLE[TABLE["split"] == "test"]
    truth = (test["label"] == "a").mean()
    assert hint("06.1", truth, TABLE) == ""
    assert "percent" in hint("06.1", 100 * truth, TABLE)
    other = TABLE.assign(label=np.where(TABLE["split"] == "test", "b", TABLE["label"]))
    train = (other[other["split"] == "train"]["label"] == "a").mean()
    assert "training pictures; guess" in hint("06.1", train, other)
    assert hint("06.1", 0.0, other) == ""
    assert "right one" in hint("06.1", 0.9, TABLE)


def test_nearest_neighbor():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.where(x[:, 0] > 0, "a", "b")
    y[:20] = "a"  # the two directions differ
    data = (x[:60], y[:60], x[60:], y[60:])
    cosine = x[60:] @ x[:60].T
    truth, far = ((y[:60][pick] == y[60:]).mean() for pick in (cosine.argmax(1), cosine.argmin(1)))
    assert hint("06.2", truth, data) == ""
    assert "percent" in hint("06.2", 100 * truth, data)
    assert "least similar" in hint("06.2", far, data)
    turned = (y[60:][cosine.argmax(0)] == y[:60]).mean()
    assert "Swap them" in hint("06.2", turned, data)
    assert "largest cosine" in hint("06.2", 0.01, data)


def test_interval_over_places():
    result = result_of(TABLE, 0.5, 3)
    by_place, by_chip = (
        np.percentile(experiments.resample(result, by=by, seed=2), [2.5, 97.5])
        for by in ("location", "chip")
    )
    assert hint("06.3", by_place, result) == "" and hint("06.3", tuple(by_place), result) == ""
    assert hint("06.3", (result.low, result.high), result) == ""
    assert "single pictures" in hint("06.3", by_chip, result)
    assert "first" in hint("06.3", by_place[::-1], result)
    assert "percent" in hint("06.3", 100 * by_place, result)
    assert "narrow" in hint("06.3", [result.value - 0.001, result.value + 0.001], result)
    assert "replacement" in hint("06.3", [0.1, 0.9], result)
    assert "shape" in hint("06.3", 0.5, result)


def test_verdict():
    base = result_of(TABLE, 0.4, 3)
    for share, word in ((0.6, "better"), (0.2, "worse"), (0.4, "cannot tell")):
        result = result_of(TABLE, share, 3 if share != 0.4 else 4)
        assert experiments.difference(result, base).verdict == word
        assert hint("06.4", word.upper(), (result, base)) == ""
        for wrong in {"better", "worse", "cannot tell"} - {word}:
            words = hint("06.4", wrong, (result, base))
            assert ("holds zero" in words) == (word == "cannot tell") and "zero" in words
    assert "must be one of these words" in hint("06.4", "equal", (base, base))


def test_few_labels():
    rows = {"share": [0.1, 0.1, 1.0, 1.0], "value": [0.3, 0.4, 0.5, 0.5]}
    base, ours = pd.DataFrame(rows), pd.DataFrame(rows | {"value": [0.4, 0.44, 0.9, 0.9]})
    data = (ours, base)
    assert hint("06.5", 7.0, data) == ""
    assert "subtract the untrained" in hint("06.5", -7.0, data)
    assert "hundred times" in hint("06.5", 0.07, data)
    assert "only the smallest" in hint("06.5", 23.5, data)
    assert "mean of value" in hint("06.5", 1.0, data)


# --- how it judges --------------------------------------------------------------------------------


def test_a_paired_difference_is_sharper_than_two_intervals():
    ours, theirs = (result_of(TABLE, share, 3) for share in (0.56, 0.5))
    gap = experiments.difference(ours, theirs)
    assert np.isclose(gap.value, ours.value - theirs.value)
    means = [
        (ours.predictions["hit"].astype(int) - theirs.predictions["hit"].astype(int))
        .groupby(ours.predictions["location"]).mean()
    ][0]  # fmt: skip
    half = 1.96 * means.std() / len(means) ** 0.5
    assert np.allclose([gap.low, gap.high], [gap.value - half, gap.value + half], atol=0.012)
    assert ours.low < theirs.high and gap.verdict == "better" and "better" in str(gap)
    none = experiments.difference(ours, ours)
    assert (none.value, none.low, none.high) == (0, 0, 0) and none.verdict == "cannot tell"
    back = experiments.difference(theirs, ours)
    assert np.isclose(back.value, -gap.value) and back.verdict == "worse"
    with pytest.raises(ValueError, match="`baseline` must have the same test chips"):
        experiments.difference(ours, result_of(table_of(), 0.5, 0))


def test_drawn_again_spreads_as_it_should():
    result = result_of(TABLE, 0.5, 1)
    chips, places = (experiments.resample(result, by=by, seed=1) for by in ("chip", "location"))
    assert np.array_equal(places, experiments.resample(result, seed=1))
    n = result.n_test
    assert np.isclose(chips.std(), (result.value * (1 - result.value) / n) ** 0.5, rtol=0.1)
    hits = result.predictions.groupby("location")["hit"].mean()
    assert np.isclose(places.std(), hits.std(ddof=0) / len(hits) ** 0.5, rtol=0.1)
    assert places.std() > 1.2 * chips.std()
    assert len(experiments.resample(result_of(table_of(places=4, dates=1), 0.5, 0), count=3)) == 3


def test_three_splits_ask_the_same_pictures():
    splits = experiments.three_splits(TABLE, seed=0)
    asked = [np.flatnonzero(where == "test") for where in splits.values()]
    train = [TABLE["location"][where == "train"] for where in splits.values()]
    assert all(np.array_equal(asked[0], other) for other in asked) and len(asked[0]) == 50
    assert len({len(part) for part in train}) == 1
    own = set(TABLE["location"][asked[0]])
    assert TABLE["time"][asked[0]].nunique() == 1  # the first date of each
    held = set(TABLE["location"][TABLE["split"] == "test"])
    others, near, far = (set(part) for part in train)
    assert own <= others and not others & (held - own)
    assert held - own <= near and not near & own
    assert not far & held
    again = experiments.three_splits(TABLE, seed=1)["only other blocks"]
    assert not again.equals(splits["only other blocks"])


def test_tables_and_pictures_say_what_was_found():
    table = table_of()
    results = {name: result_of(table, 0.3 + 0.1 * i, 3) for i, name in enumerate(NAMES)}
    board = experiments.scoreboard(results, against=("random", "MoCo-v2"))
    assert list(board["method"]) == list(NAMES) and board.shape == (5, 4)
    assert board["points more than random"][0] == "–" and "better" in board.iloc[4, 2]
    shown = experiments.compare_with_study(results)
    assert shown["the paper, fMoW"].tolist()[0] == "–" and "66.3%" in shown.iloc[4, 3]
    gaps = {"a": experiments.Difference(0.1, 0.05, 0.2), "b": experiments.Difference(0, -0.1, 0.1)}
    ax = experiments.plot_differences(gaps)
    assert isinstance(ax, Axes) and [t.get_text() for t in ax.texts] == [
        "+10.0, better", "+0.0, cannot tell",
    ]  # fmt: skip
    ax = experiments.plot_resamples(
        {"x": experiments.resample(results["random"], count=50), "y": [0.5]}
    )
    assert len(ax.get_legend_handles_labels()[1]) == 2


def test_the_study_is_that_of_the_benchmarks():
    rows = pd.DataFrame(json.loads((BENCHMARKS / "blue_marble.json").read_text("utf-8")))
    by_method = rows[rows["metric"] == "linear_main"].groupby("method")["value"]
    for name, (mean, std) in experiments.STUDY.items():
        values = by_method.get_group(NAMES[name])
        assert round(values.mean(), 3) == mean and round(values.std(), 3) == std, name


def test_the_splits_serve_a_probe():
    table = table_of()
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(table), 4)) + (table["label"] == "a").to_numpy()[:, None]
    for where in experiments.three_splits(table).values():
        result = evaluate.knn(Embeddings(vectors, table), split=where, k=1)
        assert result.n_test == 15 and 0 <= result.value <= 1
