"""What lesson 03 draws, and what `check` knows of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from geossl_lessons import checking
from geossl_lessons.drawing import ROLES
from geossl_lessons.lesson_03 import figures
from matplotlib.colors import to_hex

import geossl
from geossl import datasets, models, pairs


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The built-in world as the lesson makes it, in 16 pixels."""
    scenes = datasets.blue_marble(places=60, dates=3, seed=1)
    path = tmp_path_factory.mktemp("world") / "chips"
    return geossl.ChipStore.build(path, scenes, size_px=16, progress=False)


def hint(number, answer, given=None):
    return checking.judge(number, answer, given).hint


# --- the exercises --------------------------------------------------------------------------------


def unit(x, axis=1):
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def test_the_search_right_and_wrong():
    assert hint("03.1", lambda a, b: (unit(a) @ unit(b).T).argmax(1)) == ""
    assert hint("03.1", lambda a, b: (a @ unit(b).T).argmax(axis=-1).tolist()) == ""  # as good
    assert hint("03.1", lambda a, b: torch.tensor(unit(a) @ unit(b).T).argmax(1)) == ""

    def unfinished(first, last):
        first = first / np.linalg.norm(first, axis=1, keepdims=True)
        last = last / ...
        return (first @ ...).argmax(...)

    for wrong, words in (
        (lambda a, b: (unit(a) @ b.T).argmax(1), "`last` are not of length 1"),
        (lambda a, b: (unit(a) @ unit(b).T).argmax(0), "the wrong way round"),
        (lambda a, b: (unit(a) @ unit(b).T).argmin(1), "the farthest place"),
        (lambda a, b: (unit(a) @ unit(b, axis=0).T).argmax(1), "axis=1"),
        (lambda a, b: unit(a) @ unit(b).T, "the whole matrix"),
        (lambda a, b: (unit(a) @ unit(b).T).argmax(1) == np.arange(len(a)), "not whether"),
        (lambda a, b: (unit(a) @ unit(b).T).max(1), "Scale each vector"),
        (lambda a, b: (unit(a) @ unit(b).T).argmax(), "shape (9,)"),
        (lambda a, b: None, "returns nothing"),
        (lambda a: a, "stopped with TypeError"),
        (unfinished, "Are all the dots replaced?"),
        (np.arange(9), "without parentheses"),
    ):
        assert words in hint("03.1", wrong), (words, hint("03.1", wrong))


def keys_where(allowed):
    """Make a function of the exercise that lists the rows of a location where ``allowed`` is."""

    def list_keys(scenes, min_gap_days):
        day = ((scenes["time"] - scenes["time"].min()) / pd.Timedelta(days=1)).to_numpy()
        keys = [None] * len(scenes)
        for rows in scenes.groupby("location").indices.values():
            for row in rows:
                keys[row] = rows[allowed(rows, row, day[rows] - day[row], min_gap_days)]
        return keys

    return list_keys


def test_the_keys_right_and_wrong():
    right = keys_where(lambda rows, row, gap, least: (rows != row) & (abs(gap) >= least))
    assert hint("03.2", right) == ""
    assert hint("03.2", lambda *given: [list(keys) for keys in right(*given)]) == ""

    def masks(scenes, min_gap_days):
        return [np.isin(np.arange(len(scenes)), keys) for keys in right(scenes, min_gap_days)]

    assert hint("03.2", masks) == ""

    def by_the_library(scenes, min_gap_days):
        draw = pairs.temporal(min_gap_days=min_gap_days, single_date="drop").prepare(scenes)
        keys = [set() for _ in range(len(scenes))]
        for seed in range(60):
            query, key = draw(torch.Generator().manual_seed(seed))
            for q, k in zip(query.tolist(), key.tolist(), strict=True):
                keys[q].add(k)
        return [sorted(own) for own in keys]

    assert hint("03.2", by_the_library) == ""

    def everywhere(scenes, min_gap_days):
        return [np.flatnonzero(np.arange(len(scenes)) != row) for row in range(len(scenes))]

    def unfinished(scenes, min_gap_days):
        keys = [None] * len(scenes)
        for rows in scenes.groupby("location").indices.values():
            for row in rows:
                keys[row] = rows[... & (rows >= min_gap_days)]
        return keys

    for wrong, words in (
        (keys_where(lambda rows, row, gap, least: abs(gap) >= least), "0 days: a row is its own"),
        (keys_where(lambda rows, row, gap, least: rows != row), "nearer in time"),
        (keys_where(lambda rows, row, gap, least: (rows != row) & (gap >= least)), "Both earlier"),
        (keys_where(lambda rows, row, gap, least: (rows != row) & (abs(gap) > least)), "exactly"),
        (everywhere, "another location"),
        (lambda scenes, least: [None] * len(scenes), "no array of keys for row 0"),
        (lambda scenes, least: [], "for each of the 10 rows"),
        (lambda scenes, least: 3, "for each of the 10 rows"),
        (unfinished, "Are all the dots replaced?"),
        ([[1], [0]], "without parentheses"),
    ):
        assert words in hint("03.2", wrong), (words, hint("03.2", wrong))


def test_the_broken_world_right_and_wrong(world, tmp_path):
    encoders = [models.build_encoder(mean=world.mean, std=world.std, seed=seed) for seed in (5, 6)]
    runs = {name: SimpleNamespace(encoder=encoders[i]) for i, name in enumerate(("MoCo-v2", "+TP"))}
    given = (world, 60, 3, 1, runs)

    def measured(name, **named):
        scenes = datasets.blue_marble(places=60, dates=3, seed=1, **named)
        test = scenes[scenes["split"] == "test"]
        store = geossl.ChipStore.build(tmp_path / name, test, size_px=16, progress=False)
        embeddings = (geossl.embed(store, encoder) for encoder in encoders)
        return [geossl.evaluate.same_location(each).value for each in embeddings]

    truth = measured("clear", effects=("season", "snow", "sun", "haze"))
    full = measured("full")
    assert truth[0] != truth[1] and not np.allclose(truth, full)
    assert hint("03.3", truth, given) == "" and hint("03.3", np.array(truth), given) == ""
    assert "MoCo-v2 first" in hint("03.3", truth[::-1], given)
    assert "all effects" in hint("03.3", full, given)
    assert "four other effects" in hint("03.3", [0.5, 0.6], given)
    assert "shares from 0 to 1" in hint("03.3", [100 * share for share in truth], given)
    assert "shape (2,)" in hint("03.3", truth[0], given)


@pytest.mark.parametrize("number", ["03.1", "03.2", "03.3", "03.4"])
def test_whatever_the_answer_is_nothing_is_raised(number, world):
    run = SimpleNamespace(encoder=models.build_encoder(mean=world.mean, std=world.std))
    given = (world, 60, 3, 1, {"MoCo-v2": run, "+TP": run}) if number == "03.3" else None
    for answer in (None, ..., "x", float("nan"), [[]], {}, object(), np.ones((3, 4)) / 3, len):
        verdict = checking.judge(number, answer, given)
        assert not verdict.correct and len(verdict.hint) > 15
        assert not checking.judge(number, answer, answer).correct


# --- the figures ----------------------------------------------------------------------------------


def test_pictures_are_read_again_in_more_pixels(world):
    rows = [7, 0, 100]
    assert (figures.read_pictures(world, rows, size_px=16) == world.preview(rows)).all()
    large = figures.read_pictures(world, rows)
    assert large.shape == (3, 64, 64, 3)
    assert np.abs(large.mean((1, 2)) - world.preview(rows).mean((1, 2))).max() < 8


def test_lines_of_pictures_have_dates_and_sensors_or_verdicts(world):
    figure = figures.plot_scenes(world, {"a": [4, 90], "b": [90]})
    titles = [ax.get_title() for ax in figure.axes]
    scene = world.scenes.iloc[4]
    assert titles[0] == f"{scene['time']:%Y-%m-%d}\nsensor {scene['sensor']}"
    assert titles[1] == titles[2] != titles[0] and titles[3] == ""
    assert [ax.get_ylabel() for ax in figure.axes] == ["a", "", "b", ""]
    assert not figure.axes[3].axison
    lines = {"a": [4, 90]}
    figure = figures.plot_scenes(world, lines, right={"a": [False, True]})
    words = [ax.get_title().split("\n")[1] for ax in figure.axes[:2]]
    frames = [to_hex(ax.spines["left"].get_edgecolor()) for ax in figure.axes[:2]]
    assert words == ["wrong", "right"] and frames == [ROLES["wrong"], ROLES["right"]]


def test_losses_and_shares_are_drawn_in_the_colors_of_their_roles():
    log = pd.DataFrame({"step": [2, 4, 6], "loss": [1.0, 6.0, 3.0]})
    ax = figures.plot_losses({"MoCo-v2": log, "+TP": log + 1}, chance=5.0)
    assert ax.lines[0].get_xdata().tolist() == [2, 4, 6]
    assert ax.lines[0].get_ydata().tolist() == [1, 6, 3] and ax.get_ylim()[0] == 0
    assert [line.get_color() for line in ax.lines[:2]] == [ROLES["MoCo-v2"], ROLES["+TP"]]
    results = {
        "x": {"untrained": (0.5, 0.4, 0.6), "+TP, geossl": (0.051, 0.01, 0.1)},
        "y": {"+TP, geossl": (1, 1, 1), "untrained": (0, 0, 0)},
    }
    left, right = figures.plot_shares(results, chance={"x": 0.3, "y": 0.5}).axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["untrained", "+TP, geossl"]
    assert [t.get_text() for t in left.texts] == ["50 %", "5.1 %"]
    assert [t.get_text() for t in right.texts] == ["0.0 %", "100 %"]
    bars = [line for line in left.lines if line.get_linewidth() == 5]
    assert np.allclose([bar.get_xdata() for bar in bars], [[40, 60], [1, 10]])
    assert [bar.get_color() for bar in bars] == [ROLES["untrained"], ROLES["+TP"]]
    assert left.lines[-1].get_xdata()[0] == 30 and right.get_xlim()[1] > 100
    assert left.get_title(loc="left") == "x"
