"""What lesson 01 measures and draws, its slider, and what `check` knows of it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from geossl_lessons import checking
from geossl_lessons.lesson_01 import figures, splits
from geossl_lessons.lesson_01.widgets import SplitSlider
from test_pretrain import write_store

from geossl import evaluate, geo
from geossl.embeddings import Embeddings


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("lesson") / "chips", places=40, dates=3)


def some_scenes(count=60, dates=2, seed=0):
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    day = rng.integers(0, 3000, count * dates)
    return pd.DataFrame({
        "location": np.repeat(np.arange(count), dates),
        "time": pd.Timestamp("2001-01-01", tz="UTC") + pd.to_timedelta(day, "D"),
        "lon": np.repeat(lon, dates), "lat": np.repeat(lat, dates),
        "climate": np.repeat(rng.choice(["Af", "Cfb", "ET"], count), dates),
        "label": np.repeat(rng.choice(["A", "C temperate", "E"], count), dates),
        "footprint_km": 240.0,
    })  # fmt: skip


def hint(number, answer, given):
    return checking.judge(number, answer, given).hint


# --- the exercises --------------------------------------------------------------------------------


def test_the_distance_right_and_wrong():
    table = some_scenes()
    one, two = table.iloc[0], table.iloc[4]
    truth = float(geo.great_circle_km(one["lon"], one["lat"], two["lon"], two["lat"]))
    assert hint("01.1", truth, (one, two)) == ""
    flat = np.hypot(one["lon"] - two["lon"], one["lat"] - two["lat"])
    assert "shrink" in hint("01.1", 111.2 * flat, (one, two))
    assert "shrink" in hint("01.1", flat, (one, two))
    swapped = geo.great_circle_km(one["lat"], one["lon"], two["lat"], two["lon"])
    assert "Longitude comes first" in hint("01.1", swapped, (one, two))
    assert "thousands" in hint("01.1", truth / 1000, (one, two))
    assert "great_circle_km" in hint("01.1", 1.0, (one, two))


@pytest.mark.parametrize(
    ("month", "lat", "season", "north"),
    [(1, -35, "summer", "winter"), (7, -35, "winter", "summer"), (12, -1, "summer", "winter"),
     (3, -50, "autumn", "spring"), (11, -20, "spring", "autumn")],
)  # fmt: skip
def test_the_season_of_the_south(month, lat, season, north):
    seen = pd.Series({"time": pd.Timestamp(2010, month, 15, tz="UTC"), "lat": lat})
    assert hint("01.2", f" {season.upper()}", seen) == ""
    assert "in the north" in hint("01.2", north, seen)
    assert "must be one of these words" in hint("01.2", "monsoon", seen)
    assert hint("01.2", north, pd.Series({"time": seen["time"], "lat": -lat})) == ""


def test_overlap_and_the_lazy_classifier_right_and_wrong():
    table = some_scenes(count=400)
    split = splits.fold_as_split(splits.make_folds(table, blocks_deg=(), seed=1)[splits.LOCATIONS])
    near = evaluate.leakage(table, split=split).locations
    share = (near["km"] < 240).mean()
    of = table.drop_duplicates("location").set_index("location")["climate"]
    right = (of[near["location"]].to_numpy() == of[near["nearest"]].to_numpy()).mean()
    assert 0 < share < 1 and 0 < right < 1
    given = (table, split)
    for number, truth in (("01.3", share), ("01.4", right)):
        assert hint(number, truth, given) == ""
        assert "percent" in hint(number, 100 * truth, given)
        assert hint(number, truth + 0.1, given)
    assert "farther away" in hint("01.3", 1 - share, given)
    assert "number of locations" in hint("01.3", share * len(near), given)
    assert "wrong ones" in hint("01.4", 1 - right, given)


@pytest.mark.parametrize("number", ["01.1", "01.2", "01.3", "01.4"])
def test_whatever_the_answer_is_nothing_is_raised(number):
    table = some_scenes()
    split = splits.fold_as_split(splits.make_folds(table, blocks_deg=(), seed=0)[splits.LOCATIONS])
    given = {"01.1": (table.iloc[0], table.iloc[2]), "01.2": table.iloc[0]}.get(
        number, (table, split)
    )
    before = table.copy()
    for answer in (None, ..., "x", float("nan"), [], {}, object(), np.zeros((3, 4)), lambda: 1 / 0):
        verdict = checking.judge(number, answer, given)
        assert not verdict.correct and len(verdict.hint) > 15
        assert not checking.judge(number, answer, answer).correct
    pd.testing.assert_frame_equal(table, before)


# --- what is measured -----------------------------------------------------------------------------


def test_every_picture_is_asked_once_and_places_and_blocks_stay_together():
    table = some_scenes(count=200)
    dealt = splits.make_folds(table, blocks_deg=(10, 30), seed=3)
    assert list(dealt) == [splits.PICTURES, splits.LOCATIONS, "blocks of 10°", "blocks of 30°"]
    for fold in dealt.values():
        assert fold.shape == (400,) and set(fold) == {0, 1, 2, 3, 4}
        assert np.bincount(fold).min() >= 0.5 * 80
    for way in list(dealt)[1:]:
        assert pd.Series(dealt[way]).groupby(table["location"]).nunique().max() == 1
    assert pd.Series(dealt[splits.PICTURES]).groupby(table["location"]).nunique().max() == 2
    block = geo.block_ids(table["lon"], table["lat"], block_deg=30)
    assert pd.Series(dealt["blocks of 30°"]).groupby(block).nunique().max() == 1
    again, other = (splits.make_folds(table, blocks_deg=(10,), seed=s) for s in (3, 4))
    assert all((dealt[way] == again[way]).all() for way in again)
    assert all((dealt[way] != other[way]).any() for way in other)


def test_the_answers_are_those_of_a_loop_over_all_pictures():
    table = some_scenes(count=30)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    dealt = splits.make_folds(table, blocks_deg=(), folds=3, seed=0)
    asked = splits.classify_all({"it": Embeddings(x, table)}, dealt)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for way, fold in dealt.items():
        found = asked[asked["split"] == way].set_index("row")
        for row in range(60):
            train = np.flatnonzero(fold != fold[row])
            best = train[(unit[train] @ unit[row]).argmax()]
            assert found.loc[row, "it"] == (table["climate"][best] == table["climate"][row])
            km = geo.great_circle_km(
                table["lon"][row], table["lat"][row], table["lon"][train], table["lat"][train]
            ).min()
            assert found.loc[row, "km"] == pytest.approx(km, abs=1e-3)


def test_a_classifier_that_knows_the_place_is_flattered_and_one_that_guesses_is_not():
    table = some_scenes(count=300)
    rng = np.random.default_rng(1)
    place = rng.normal(size=(300, 16))[table["location"]].astype(np.float32)
    noise = rng.normal(size=(600, 16)).astype(np.float32)
    given = {"knows the place": Embeddings(place, table), "noise": Embeddings(noise, table)}
    asked = splits.classify_all(given, splits.make_folds(table, blocks_deg=(10,), seed=0))
    told = splits.compare_splits(asked).set_index("classifier")
    assert "no difference shown" in told.loc["noise"].iloc[-1]
    assert told.loc["knows the place"].iloc[-1].startswith("+")
    found = splits.score_splits(asked).set_index(["classifier", "split"])
    assert found.loc[("knows the place", splits.PICTURES), "value"] > 0.8
    assert found.loc[("knows the place", splits.LOCATIONS), "value"] < 0.5
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
    assert found.loc[("noise", splits.PICTURES), "km"] == 0


def test_what_the_classifiers_look_at(store):
    given = splits.untrained_embeddings(store, seed=0)
    at = given[splits.COORDINATES].vectors
    assert at == pytest.approx(geo.unit_vectors(store.scenes["lon"], store.scenes["lat"]), abs=1e-6)
    small = given[splits.PIXELS].vectors
    assert small.shape == (120, 3 * 64) and abs(small.mean(0)).max() < 1e-2 * abs(small).max()
    chip, side = np.asarray(store.chips[7], float), store.size_px // 8
    blocks = [chip[:, side * i : side * (i + 1), side * j : side * (j + 1)].mean((1, 2))
              for i in range(8) for j in range(8)]  # fmt: skip
    mean = np.asarray(store.chips, float).mean(0)
    means = [mean[:, side * i : side * (i + 1), side * j : side * (j + 1)].mean((1, 2))
             for i in range(8) for j in range(8)]  # fmt: skip
    wanted = np.transpose(np.subtract(blocks, means)).ravel()
    assert small[7] == pytest.approx(wanted, rel=1e-3, abs=0.1)


def test_through_the_year_takes_a_green_place_of_that_side():
    table = some_scenes(count=80, dates=3)
    for lat in (48, -36):
        (rows,) = splits.rows_through_the_year(table, lat)
        place = table.loc[rows]
        assert place["location"].nunique() == 1 and len(rows) == 3
        assert np.sign(place["lat"].iloc[0]) == np.sign(lat)
        assert place["label"].str[0].isin(["C", "D"]).all()
        assert place["time"].dt.day_of_year.is_monotonic_increasing
    north = table[table["lat"] > 0].reset_index(drop=True)
    assert len(splits.rows_through_the_year(north, -36)[0]) == 3  # none there: the nearest of all


# --- what is shown --------------------------------------------------------------------------------


def test_the_figures_of_lesson_01(store):
    table = store.scenes.assign(footprint_km=240.0)
    shown = splits.make_folds(table, blocks_deg=(10,), folds=2, seed=0)
    del shown[splits.PICTURES]
    near = {
        way: evaluate.leakage(table, split=splits.fold_as_split(fold))
        for way, fold in shown.items()
    }
    both = set.intersection(*(set(leak.locations["location"]) for leak in near.values()))
    figure = figures.plot_nearest(store, near, sorted(both)[:3])
    titles = [ax.get_title() for ax in figure.axes]
    first = near[splits.LOCATIONS].locations.set_index("location").loc[min(both), "km"]
    assert titles[3] == f"{first:,.0f} km away" and len(titles) == 9
    assert len(figures.plot_splits(table, shown).axes) == 2
    ax = figures.plot_distances(near, footprint_km=240)
    assert ax.get_legend_handles_labels()[1] == list(shown)
    curve = ax.lines[0].get_ydata()
    assert curve[-1] == pytest.approx(100) and (np.diff(curve) > 0).all()


def test_a_frame_is_as_wide_as_the_ground_and_may_cross_the_antimeridian(tmp_path):
    store = write_store(tmp_path / "chips", places=3, dates=1)
    table = store.scenes.assign(lon=[0.0, 179.9, 10.0], lat=[0.0, 60.0, 85.0], footprint_km=240.0)
    figure = figures.plot_cut(dataclasses.replace(store, scenes=table), [0, 1, 2])
    wide = [ax.patches[0].get_xy()[:, 0] for ax in figure.axes[:3]]
    reach = [points.max() - points.min() for points in wide]
    high = 240 / 111.195
    assert reach[0] == pytest.approx(high / np.cos(np.radians(high / 2)), rel=1e-3)
    assert reach[1] == pytest.approx(high / np.cos(np.radians(60 + high / 2)), rel=1e-3)


def test_the_fall_is_drawn_for_each_classifier():
    found = pd.DataFrame({
        "split": ["a", "b"] * 2, "km": [0.0, 100.0] * 2, "classifier": ["x", "x", "y", "y"],
        "value": [0.9, 0.5, 0.4, 0.3], "low": [0.8, 0.4, 0.3, 0.2], "high": [1, 0.6, 0.5, 0.4],
    })  # fmt: skip
    ax = figures.plot_accuracy_by_distance(found, chance=0.1)
    assert ax.get_legend_handles_labels()[1] == ["x", "y"]
    assert [text.get_text() for text in ax.texts] == ["a", "b", "always the most frequent class"]


def test_the_ways_slider_follows_its_control(store):
    table = store.scenes
    dealt = splits.make_folds(table, blocks_deg=(10,), folds=2, seed=0)
    vectors = {"it": Embeddings(torch.randn(len(table), 4).numpy(), table)}
    found = splits.score_splits(splits.classify_all(vectors, dealt, label="label"))
    slider = SplitSlider(table, dealt, found)
    said = slider.children[-1]
    assert slider.split == splits.PICTURES and "random pictures: the nearest" in said.value
    slider.split_slider.value = "blocks of 10°"
    value = found.set_index("split").loc["blocks of 10°", "value"]
    assert f"it {value:.0%}" in said.value and f"{value:.1%}" in slider.children[1].value
    assert slider.split_slider.description and slider.split_slider.tooltip
    with pytest.raises(ValueError, match="`scores` must have rows of every split, got none of"):
        SplitSlider(table, dealt, found[found["split"] != splits.LOCATIONS])
