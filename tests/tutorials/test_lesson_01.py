"""What the cells of lesson 01 compute, what it draws, its slider, and what `check` knows of it."""

import ast
import dataclasses
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from geossl_lessons import checking
from geossl_lessons.drawing import ROLES
from geossl_lessons.lesson_01 import figures
from geossl_lessons.lesson_01.widgets import SplitSlider
from matplotlib.colors import to_hex
from test_pretrain import write_store

from geossl import geo

LESSON = next((Path(__file__).parents[2] / "tutorials").glob("01_*.ipynb"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("lesson") / "chips", places=40, dates=3)


def some_scenes(count=60, dates=2, seed=0):
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    return pd.DataFrame({
        "location": np.repeat(np.arange(count), dates),
        "lon": np.repeat(lon, dates), "lat": np.repeat(lat, dates),
        "climate": np.repeat(rng.choice(["Af", "Cfb", "ET"], count), dates),
    })  # fmt: skip


def functions(scenes, seed=0):
    """The functions that the cells of the lesson define, over a table."""
    cells = [cell for cell in nbformat.read(LESSON, as_version=4).cells if cell.cell_type == "code"]
    plain = [
        c for c in cells if not {"exercise", "solution", "colab"} & set(c.metadata.get("tags", []))
    ]
    defined = {"np": np, "pd": pd, "scenes": scenes, "SEED": seed}
    defined["climate"] = scenes["climate"].to_numpy()
    for cell in plain:
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef):
                exec(ast.unparse(node), defined)
    return defined


def hint(number, answer, given=None):
    return checking.judge(number, answer, given).hint


# --- the exercises --------------------------------------------------------------------------------


def test_the_kilometers_right_and_wrong():
    points = geo.unit_vectors

    def km(turn=np.arccos, add=lambda x: x.sum(-1), radius=6_371):
        def my_km(lon1, lat1, lon2, lat2):
            return radius * turn(add(points(lon1, lat1) * points(lon2, lat2)))

        return my_km

    assert hint("01.1", km()) == "" and hint("01.1", geo.great_circle_km) == ""

    def unfinished(lon1, lat1, lon2, lat2):
        return 6_371 * ...

    for wrong, words in (
        (km(radius=1), "angle in radians"),
        (km(turn=lambda x: x), "The cosine is no angle yet"),
        (km(turn=lambda x: np.degrees(np.arccos(x))), "gives radians already"),
        (km(add=lambda x: x.sum(0)), "shape (7,)"),
        (lambda a, b, c, d: np.hypot(a - c, b - d), "The cosine is the sum"),
        (lambda a, b, c, d: geo.great_circle_km(b, a, d, c), "The cosine is the sum"),
        (lambda a, b, c, d: None, "returns nothing"),
        (unfinished, "Are all the dots replaced?"),
        (3.0, "without parentheses"),
    ):
        assert words in hint("01.1", wrong), (words, hint("01.1", wrong))


def folds_by(column, index=lambda index, names: index):
    def my_folds(lon, lat, degrees, folds=5):
        block = np.floor(lat / degrees) * 1_000 + column(lon, lat, degrees)
        names, own = np.unique(block, return_inverse=True)
        deck = np.random.default_rng(0).permutation(len(names)) % folds
        return deck[index(own, names)]

    return my_folds


def test_the_blocks_right_and_wrong():
    def column(lon, lat, degrees):
        return np.floor(lon / degrees)

    right = folds_by(column)
    assert hint("01.2", right) == "" and hint("01.2", lambda *x: right(*x).tolist()) == ""

    def unfinished(lon, lat, degrees, folds=5):
        return np.arange(folds)[...]

    for wrong, words in (
        (folds_by(lambda lon, lat, degrees: np.floor(lat / degrees)), "belts around the Earth"),
        (folds_by(lambda lon, lat, degrees: np.floor(lon)), "in different folds"),
        (folds_by(lambda lon, lat, degrees: lon / degrees), "in different folds"),
        (folds_by(column, lambda own, names: np.arange(len(names))), "a fold for each block"),
        (folds_by(column, lambda own, names: ...), "a fold for each block"),
        (lambda lon, lat, degrees: np.unique(np.floor(lon / degrees), return_inverse=True)[1],
         "folds other than 0 to 4"),
        (lambda lon, lat, degrees: 2 * (right(lon, lat, degrees) > 1), "fold is empty"),
        (lambda lon, lat, degrees: np.zeros(len(lon)), "belts around the Earth"),
        (unfinished, "shape (900,)"),
        (lambda lon: lon, "stopped with TypeError"),
    ):  # fmt: skip
        assert words in hint("01.2", wrong), (words, hint("01.2", wrong))


def test_small_blocks_are_as_bad_as_none():
    scenes = some_scenes(count=900, seed=2)
    given = (scenes, 240, 0)
    cells = functions(scenes)
    globe = cells["on_globe"](scenes["lon"], scenes["lat"])

    def share(group):
        fold = cells["deal"](group)
        km = cells["km_between"](globe, globe[cells["copied_from"](globe, fold)])
        return (km[fold == 0] < 240).mean()

    truth, random, large = map(
        share, (cells["blocks"](0.5), scenes["location"], cells["blocks"](10))
    )
    assert large < 0.8 * random and 0 < truth < 1 and abs(truth - large) > 0.02
    assert hint("01.3", truth, given) == ""
    assert "percent" in hint("01.3", 100 * truth, given)
    assert "farther away" in hint("01.3", 1 - truth, given)
    assert "blocks of 10°" in hint("01.3", large, given)
    assert "deal(blocks(0.5))" in hint("01.3", 0.999, given)
    if abs(random - truth) > 0.01:
        assert "random locations" in hint("01.3", random, given)


@pytest.mark.parametrize("number", ["01.1", "01.2", "01.3", "01.4"])
def test_whatever_the_answer_is_nothing_is_raised(number):
    table = some_scenes()
    given = (table, 240, 0) if number == "01.3" else None
    before = table.copy()
    for answer in (None, ..., "x", float("nan"), [], {}, object(), np.zeros((3, 4)), lambda: 1 / 0):
        verdict = checking.judge(number, answer, given)
        assert not verdict.correct and len(verdict.hint) > 15
        assert not checking.judge(number, answer, answer).correct
    pd.testing.assert_frame_equal(table, before)


# --- what the cells compute -----------------------------------------------------------------------


def test_every_picture_is_tested_once_and_locations_and_blocks_stay_together():
    table = some_scenes(count=200)
    cells, other = functions(table, seed=3), functions(table, seed=4)
    location = table["location"]
    groups = {"pictures": np.arange(400), "locations": location, "blocks": cells["blocks"](30)}
    for name, group in groups.items():
        fold = cells["deal"](group)
        assert fold.shape == (400,) and set(fold) == {0, 1, 2, 3, 4}
        assert (fold == cells["deal"](group)).all() and (fold != other["deal"](group)).any()
        together = pd.Series(fold).groupby(location).nunique().max()
        assert together == (2 if name == "pictures" else 1)
    assert np.bincount(cells["deal"](location)).min() >= 0.9 * 80
    fold = pd.Series(cells["deal"](cells["blocks"](30)))
    for lat in range(-90, 90, 30):
        for lon in range(-180, 180, 30):
            inside = table["lat"].between(lat, lat + 30, "left")
            inside &= table["lon"].between(lon, lon + 30, "left")
            assert cells["blocks"](30)[inside].nunique() <= 1 and fold[inside].nunique() <= 1
            assert not set(cells["blocks"](30)[inside]) & set(cells["blocks"](30)[~inside])


def test_the_copied_rows_are_those_of_a_loop_over_all_pictures():
    table, rng = some_scenes(count=30), np.random.default_rng(0)
    cells = functions(table)
    unit = cells["unit"](rng.normal(size=(60, 5)))
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    globe = cells["on_globe"](table["lon"], table["lat"])
    assert np.allclose(globe, geo.unit_vectors(table["lon"], table["lat"]))
    for group in (np.arange(60), table["location"]):
        fold = cells["deal"](group, folds=3)
        rows = cells["copied_from"](unit, fold)
        near = cells["copied_from"](globe, fold)
        right = cells["is_right"](unit, fold)
        for row in range(60):
            train = np.flatnonzero(fold != fold[row])
            best = train[(unit[train] @ unit[row]).argmax()]
            assert rows[row] == best
            assert right[row] == (table["climate"][best] == table["climate"][row])
            km = geo.great_circle_km(
                table["lon"][row], table["lat"][row], table["lon"][train], table["lat"][train]
            ).min()
            own = cells["km_between"](globe[row], globe[near[row]])
            assert own == pytest.approx(km, rel=1e-3, abs=1e-3)


def test_a_classifier_that_knows_the_place_is_flattered_and_one_that_guesses_is_not():
    table, rng = some_scenes(count=300), np.random.default_rng(1)
    cells = functions(table)
    place = cells["unit"](rng.normal(size=(300, 16))[table["location"]])
    noise = cells["unit"](rng.normal(size=(600, 16)))
    easy, hard = cells["deal"](np.arange(600)), cells["deal"](cells["blocks"](10))
    lost = {}
    for name, x in (("knows the place", place), ("noise", noise)):
        before, after = (cells["is_right"](x, fold).astype(int) for fold in (easy, hard))
        lost[name] = cells["interval"](before - after)
    assert lost["knows the place"][1] > 0.3 and lost["noise"][1] < 0 < lost["noise"][2]
    value, low, high = cells["interval"](cells["is_right"](place, easy))
    assert low < value < high and value > 0.8
    wide = cells["interval"](np.repeat([0.0, 1.0], 300))  # 300 locations, two pictures each
    assert wide[0] == 0.5 and np.ptp(wide[1:]) == pytest.approx(2 * 1.96 * 0.5 / 300**0.5, rel=0.1)


def test_through_the_year_takes_a_green_place_near_the_latitude():
    table, rng = some_scenes(count=80, dates=3), np.random.default_rng(0)
    day = pd.to_timedelta(rng.integers(0, 3000, len(table)), "D")
    label = np.repeat(rng.choice(["A tropical", "C temperate", "D continental"], 80), 3)
    table = table.assign(time=pd.Timestamp("2001-01-01", tz="UTC") + day, label=label)
    for lat in (48, -36):
        place = table.loc[functions(table)["through_the_year"](lat)]
        assert place["location"].nunique() == 1 and len(place) == 3
        green = table[table["label"].str[0].isin(["C", "D"])]
        assert abs(place["lat"].iloc[0] - lat) == (green["lat"] - lat).abs().min()
        assert place["time"].dt.day_of_year.is_monotonic_increasing


# --- what is shown --------------------------------------------------------------------------------


def test_the_figures_of_lesson_01(store):
    table = store.scenes
    cells = functions(table.assign(climate=table["label"]))
    folds = {
        "random": cells["deal"](table["location"]),
        "blocks": cells["deal"](cells["blocks"](10)),
    }
    globe = cells["on_globe"](table["lon"], table["lat"])
    nearest = {name: cells["copied_from"](globe, fold) for name, fold in folds.items()}
    figure = figures.plot_nearest(store, [4, 0, 7], nearest)
    titles = [ax.get_title() for ax in figure.axes]
    one, two = table.iloc[4], table.iloc[nearest["random"][4]]
    km = geo.great_circle_km(one["lon"], one["lat"], two["lon"], two["lat"])
    assert titles[3] == f"{km:,.0f} km away" and len(titles) == 9
    edges = [to_hex(figure.axes[i].spines["left"].get_edgecolor()) for i in (0, 3)]
    assert edges == [ROLES["test"], ROLES["train"]]
    maps = figures.plot_splits(table, folds).axes
    assert [ax.get_title() for ax in maps] == list(folds)
    assert [len(c.get_offsets()) for c in maps[0].collections] == [32, 8]
    colors = [to_hex(c.get_facecolor()[0]) for c in maps[0].collections]
    assert colors == [ROLES["train"], ROLES["test"]]
    km = {name: cells["km_between"](globe, globe[rows]) for name, rows in nearest.items()}
    ax = figures.plot_distances(km, footprint_km=240)
    assert ax.get_legend_handles_labels()[1] == list(folds)
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


def make_scores():
    return pd.DataFrame({
        "split": ["a", "b"] * 2, "km": [0.0, 100.0] * 2,
        "classifier": ["coordinates", "coordinates", "pixels", "pixels"],
        "value": [0.9, 0.5, 0.4, 0.3], "low": [0.8, 0.4, 0.3, 0.2], "high": [1, 0.6, 0.5, 0.4],
    })  # fmt: skip


def test_the_fall_is_drawn_for_each_classifier():
    ax = figures.plot_scores(make_scores(), chance=0.1)
    assert ax.get_legend_handles_labels()[1] == ["coordinates", "pixels"]
    assert [text.get_text() for text in ax.texts] == ["a", "b", "always the most frequent climate"]
    assert ax.lines[0].get_color() == figures.COPIERS["coordinates"][0]
    assert len({color for color, _ in figures.COPIERS.values()}) == 4
    assert not {color for color, _ in figures.COPIERS.values()} & {ROLES["wrong"], ROLES["test"]}


def test_the_slider_follows_its_control(store):
    table, scores = store.scenes, make_scores()
    splits = {"a": np.arange(len(table)) % 2, "b": np.arange(len(table)) // 60}
    slider = SplitSlider(table, splits, scores)
    message = slider.children[-1]
    assert slider.split == "a" and "a: the nearest" in message.value
    slider.split_slider.value = "b"
    assert "coordinates 50%" in message.value and "50.0%" in slider.children[1].value
    assert "100 km away" in message.value
    assert slider.split_slider.description and slider.split_slider.tooltip
    with pytest.raises(ValueError, match="`scores` must have rows of every split, got none of"):
        SplitSlider(table, splits, scores[scores["split"] != "b"])
    with pytest.raises(ValueError, match="at least one split"):
        SplitSlider(table, {}, scores)
