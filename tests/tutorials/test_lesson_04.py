"""Lesson 04: regions on the sphere, what they confound, and what its exercises know."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from geossl_lessons import checking
from geossl_lessons.lesson_04 import experiments, figures
from test_pretrain import TINY, write_store

from geossl import GeoClusters, geo, models, pretrain
from geossl.embeddings import embed


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = write_store(tmp_path_factory.mktemp("where") / "chips", places=40)
    split = made.scenes["split"].where(made.scenes["location"] % 4 > 0, "test")
    return replace(made, scenes=made.scenes.assign(split=split))


@pytest.fixture(scope="module")
def clusters(store):
    return GeoClusters.fit(store.scenes, k=4, seed=0)


@pytest.fixture(scope="module")
def run(store, clusters):
    return pretrain(store, geo=clusters, config=TINY, seed=0).finish(progress=False)


def said(number, answer, given=None):
    return checking.judge(number, answer, given).hint


def places(lon, lat, label=None):
    return pd.DataFrame({
        "location": range(len(lon)), "lon": np.asarray(lon, float), "lat": np.asarray(lat, float),
        "label": label or ["x"] * len(lon), "split": "train",
    })  # fmt: skip


# --- the exercises --------------------------------------------------------------------------------


def test_exercise_1_counts_what_is_right():
    order = np.array([2, 0, 1])  # number 1 marks C, 2 marks A, 3 marks B
    assert said("04.1", [2, 3, 1], order) == ""
    assert "1 of 3" in said("04.1", [2, 1, 3], order)
    assert "Use each number from 1 to 3 once" in said("04.1", [1, 1, 2], order)


def test_exercise_2_measures_on_the_ground():
    centers = np.array([[170.0, 60], [-175, 61], [100, 60]])
    given = ((179.0, 60.5), centers)
    assert said("04.2", 1, given) == "" and said("04.2", np.int64(1), given) == ""
    assert "in degrees, not on the ground" in said("04.2", 0, given)
    assert "2 centers are nearer" in said("04.2", 2, given)
    north = ((0.0, 80.0), np.array([[0.0, 75], [25, 80]]))  # 25 degrees are a short walk there
    assert said("04.2", 1, north) == "" and "in degrees" in said("04.2", 0, north)
    assert "0 to 2" in said("04.2", 3, given) and "0 to 2" in said("04.2", 0.5, given)


def test_exercise_3_takes_a_k_of_the_right_purity():
    lon = [0, 1, 40, 41, 80, 81, 120, 121]
    table = places(lon, [0] * 8, list("aabbaabb"))  # pure in four clusters
    assert "take fewer" in said("04.3", 4, (table, 0))
    assert "whole number" in said("04.3", 2.5, (table, 0))
    assert "from 2 to 8" in said("04.3", 9, (table, 0))
    half = places(lon, [0] * 8, list("aabcaabc"))  # 6 of 8 in four clusters
    assert said("04.3", 4, (half, 0)) == ""
    assert "take more" in said("04.3", 2, (half, 0))


def test_exercise_4_is_the_cross_entropy():
    rng = np.random.default_rng(0)
    logits, true = (
        torch.from_numpy(rng.normal(size=(9, 5))),
        torch.from_numpy(rng.integers(0, 5, 9)),
    )
    shares = logits.softmax(1).numpy()
    mean = float(torch.nn.functional.cross_entropy(logits, true))
    given = (shares, true.numpy())
    assert said("04.4", mean, given) == ""
    assert "sign" in said("04.4", -mean, given) and "sum over" in said("04.4", 9 * mean, given)
    own = shares[np.arange(9), true.numpy()]
    assert "First the logarithm" in said("04.4", -math.log(own.mean()), given)
    assert "largest share" in said("04.4", -np.log(shares.max(1)).mean(), given)
    assert "bits" in said("04.4", mean / math.log(2), given)
    assert "shares[i, true[i]]" in said("04.4", 99, given)


def test_exercise_5_is_the_run_that_loses_most():
    seen = {"A": (0.2, 0.18), "B": (0.7, 0.1), "C": (0.06, 0.07)}
    assert said("04.5", "b", seen) == ""
    assert "20% of the regions" in said("04.5", "A", seen)
    assert "'A', 'B', 'C'" in said("04.5", "D", seen)


# --- regions --------------------------------------------------------------------------------------


def test_degrees_tear_neighbors_apart_at_the_seam():
    table = places([179.5, -179.5, 178.5, -178.5, 0, 1, 2], [60] * 7)
    both = {on: GeoClusters.fit(table, k=2, seed=0, on=on) for on in ("sphere", "degrees")}
    found = experiments.compare_at_antimeridian(table, both).set_index(["k-means on", "pairs"])
    assert found.loc[("sphere", "across 180°"), "same cluster"] == 1
    assert found.loc[("sphere", "across 180°"), "count"] == 4
    assert found.loc[("degrees", "across 180°"), "same cluster"] < 1
    assert found.loc[("sphere", "elsewhere"), "count"] == 5
    none = experiments.compare_at_antimeridian(places([0, 90], [0, 0]), {"sphere": both["sphere"]})
    assert none["count"].sum() == 0 and none["same cluster"].isna().all()
    assert experiments.row_near_antimeridian(table) in (0, 1)
    assert experiments.row_near_antimeridian(places([179, 10], [0, 60])) == 1  # south of the rim


def test_the_tricky_place_is_one_that_degrees_mislead():
    table = places([0, 5, 179], [0, 5, 60])
    some = GeoClusters(np.array([[0.0, 0], [-175, 60], [150, 60]]), np.ones(3, int))
    assert experiments.misleading_row(table, some) == 2
    assert experiments.misleading_row(table.iloc[:2], some) in (0, 1)


def test_the_six_lie_far_apart_and_differ(store):
    rows = experiments.sample_locations(store, count=4, seed=3)
    assert len(set(rows)) == 4 and (store.scenes["label"].iloc[rows] == "odd").sum() == 2
    lon, lat = store.scenes["lon"].iloc[rows].array, store.scenes["lat"].iloc[rows].array
    assert min(geo.great_circle_km(lon[0], lat[0], lon[1:], lat[1:])) > 3_000
    assert not np.array_equal(rows, experiments.sample_locations(store, count=4, seed=4))
    with pytest.raises(ValueError, match="`count` must be at most .* got 200"):
        experiments.sample_locations(store, count=200)


def test_confounding_beside_labels_that_are_dealt_out():
    lon = np.repeat([0, 60, 120, 180], 25) + np.tile(np.arange(25) / 50, 4)
    table = places(lon, [0] * 100, ["a"] * 25 + ["b"] * 25 + ["c"] * 25 + ["d"] * 25)
    found = experiments.purity_by_k(table, (4, 1000), seed=0).set_index("on")
    assert list(found["k"]) == [4, 4]  # more clusters than places are left out
    assert found.loc["real climates", "purity"] == 1
    assert found.loc["real climates", "entropy_bits"] == 0
    assert found.loc["shuffled climates", "purity"] < 0.6
    assert found.loc["shuffled climates", "entropy_bits"] > 1.5


# --- the experiments ------------------------------------------------------------------------------


def test_positions_are_exchanged_within_a_split_and_places_stay_whole(store):
    state = torch.random.get_rng_state()
    moved = experiments.shuffle_positions(store, seed=1)
    for name, part in store.scenes.groupby("split"):
        there = moved.scenes.loc[part.index]
        assert sorted(part["lon"]) == sorted(there["lon"]), name
    assert (moved.scenes.groupby("location")["lon"].nunique() == 1).all()
    pairs = set(zip(store.scenes["lon"], store.scenes["lat"], strict=True))
    assert set(zip(moved.scenes["lon"], moved.scenes["lat"], strict=True)) == pairs
    assert (moved.scenes["lon"] != store.scenes["lon"]).mean() > 0.8
    assert moved.chips is store.chips and torch.equal(state, torch.random.get_rng_state())


def test_each_region_has_a_camera_of_its_own(store, clusters):
    tinted = experiments.add_cameras(store, clusters, spread=0.4, seed=1)
    own = clusters.assign(store.scenes["lon"], store.scenes["lat"])
    gain = tinted.chips.astype(float) / np.maximum(store.chips, 1)
    gains = []
    for number in range(clusters.k):
        part = np.where((tinted.chips < 255) & (store.chips > 50), gain, np.nan)[own == number]
        gains.append(np.nanmedian(part, (0, 2, 3)))
        assert np.nanmax(np.abs(part - gains[-1][:, None, None])) < 0.02  # rounding only
    assert np.ptp(gains, axis=0).min() > 0.01 and 0.6 <= np.min(gains) <= np.max(gains) <= 1.4
    assert np.allclose(tinted.mean, tinted.chips.mean((0, 2, 3)), rtol=1e-3)
    same = experiments.add_cameras(store, clusters, spread=0.0)
    assert np.array_equal(same.chips, store.chips)


def test_the_head_is_asked_as_it_was_trained(run, store, clusters):
    rows = np.arange(0, len(store), 3)
    shares = experiments.predict_regions(run, store, rows)
    assert shares.shape == (len(rows), 4) and np.allclose(shares.sum(1), 1, atol=1e-5)
    head = run._moco
    own = embed(store, run.encoder, index=rows).tensor()
    logits = head.classifiers["geo"](head.head(own))  # ReLU and a linear layer on the projection
    assert np.allclose(shares, logits.softmax(1).detach().numpy(), atol=1e-4)
    seen = experiments.evaluate_regions(run, store, clusters)
    test = np.flatnonzero(store.scenes["split"] == "test")
    true = clusters.assign(store.scenes["lon"], store.scenes["lat"])[test]
    best = experiments.predict_regions(run, store, test).argmax(1)
    assert seen.value == np.mean(best == true) and seen.low <= seen.value <= seen.high
    part = store.scenes.iloc[test]
    km = [
        geo.great_circle_km(*clusters.centers[b], lon, lat)
        for b, lon, lat in zip(best, part["lon"], part["lat"], strict=True)
    ]
    assert np.isclose(seen.km, np.median(km)) and "in the right region" in str(seen)


def test_what_was_learned_is_concluded_from_the_gain(store, clusters, run):
    untrained = models.build_encoder(mean=store.mean, std=store.std)
    found = experiments.probe_encoders(store, {"random": untrained, "same": untrained}, clusters)
    assert list(found["task"]) == ["region", "climate"] * 2
    assert found["gain"].isna().tolist() == [True, True, False, False]
    told = experiments.summarize(found)
    assert list(told["conclusion"]) == ["the baseline", "no difference shown"] * 2
    found.loc[2:, ["gain", "gain_low", "gain_high"]] = [[0.1, 0.05, 0.2], [-0.1, -0.2, -0.05]]
    told = experiments.summarize(found).set_index(["task", "encoder"])["conclusion"]
    assert told["region", "same"] == "better than without learning"
    assert told["climate", "same"] == "worse than without learning"


@pytest.mark.slow
def test_the_figures_of_lesson_04(store, clusters, run):
    whole = figures.plot_puzzle(store, [0, 2, 4], [2, 0, 1])
    assert [ax.get_title() for ax in whole.axes] == ["A", "B", "C", ""]
    numbers = {t.get_text(): t.xy for t in whole.axes[-1].texts}
    assert numbers["1"] == tuple(store.scenes.loc[4, ["lon", "lat"]])
    flat = GeoClusters.fit(store.scenes, k=4, on="degrees")
    axes = figures.plot_pole(store.scenes, {"a": clusters, "b": flat}, 0, lowest=-90).axes
    lit = [len(ax.collections[1].get_offsets()) for ax in axes]
    own = clusters.assign(store.scenes["lon"], store.scenes["lat"])[::2]  # two dates a place
    assert lit[0] == (own == own[0]).sum() and len(axes) == 2
    shares = experiments.predict_regions(run, store, [0, 5])
    drawn = figures.plot_predictions(store, [0, 5], shares, clusters).axes
    assert len(drawn) == 4 and f"{shares[0][own[0]]:.0%}" in drawn[0].get_title()
    tinted = experiments.add_cameras(store, clusters)
    assert len(figures.plot_cameras(store, tinted, [0, 1]).axes) == 4
