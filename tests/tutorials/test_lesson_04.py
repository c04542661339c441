"""Lesson 04: k-means on the sphere as its cells write it, its figures, and what `check` knows."""

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
from geossl_lessons.lesson_04 import figures
from matplotlib.colors import to_rgb
from test_pretrain import write_store

from geossl import GeoClusters, geo

LESSON = Path(__file__).parents[2] / "tutorials" / "04_geo_location_as_a_pretext_task.ipynb"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = write_store(tmp_path_factory.mktemp("where") / "chips", places=40)
    split = made.scenes["split"].where(made.scenes["location"] % 4 > 0, "test")
    return replace(made, scenes=made.scenes.assign(split=split))


@pytest.fixture(scope="module")
def lesson():
    """The functions that the cells of the lesson define, solutions included."""
    names = {"np": np, "pd": pd, "torch": torch, "SEED": 0}
    for cell in nbformat.read(LESSON, as_version=4).cells:
        if cell.cell_type == "code" and "colab" not in cell.metadata.get("tags", []):
            parts = [
                part for part in ast.parse(cell.source).body if isinstance(part, ast.FunctionDef)
            ]
            exec(compile(ast.Module(parts, []), "cell", "exec"), names)
    return names


def hint(number, answer, given=None):
    return checking.judge(number, answer, given).hint


def sphere(count, seed=0):
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


# --- the exercises --------------------------------------------------------------------------------


def test_exercise_1_is_the_mean_on_the_surface(lesson):
    x = sphere(90)
    nearest = (x @ x[:7].T).argmax(1)
    given = (x, nearest)
    assert hint("04.1", lesson["move"], given) == ""

    def summed(x, nearest, k):
        total = np.eye(k)[nearest].T @ x
        return total / np.sqrt((total**2).sum(1, keepdims=True))

    assert hint("04.1", summed, given) == ""

    def deep(x, nearest, k):
        return np.stack([x[nearest == i].mean(0) for i in range(k)])

    assert "do not lie on the sphere" in hint("04.1", deep, given)

    def scaled(x, nearest, k):  # each column by its own length
        centers = deep(x, nearest, k)
        return centers / np.linalg.norm(centers, axis=0)

    assert "Center i is the mean" in hint("04.1", scaled, given)
    assert "not from the notebook" in hint("04.1", lambda a, b, k: summed(x, nearest, 7)[:k], given)
    assert "the shape (7, 3)" in hint("04.1", lambda x, nearest, k: x[:k].T, given)
    assert "returns nothing yet" in hint("04.1", lambda x, nearest, k: ..., given)
    assert "without parentheses" in hint("04.1", summed(x, nearest, 7), given)

    def spoil(x, nearest, k):
        result = summed(x, nearest, k)
        x *= 0
        return result

    assert hint("04.1", spoil, given) == "" and np.allclose(np.linalg.norm(x, axis=1), 1)


def test_exercise_2_finds_what_only_degrees_separate():
    centers = np.array([[170.0, 60], [-175, 61], [0, 0]])
    given = (centers, centers)
    assert hint("04.2", [(179.9, 60), (-179.9, 60)], given) == ""
    assert "In degrees both are in region 0" in hint("04.2", [(179.9, 60), (179.5, 60)], given)
    assert "11,120 km apart" in hint("04.2", [(0, 0), (100, 0)], given)
    assert "Longitude comes first" in hint("04.2", [(60, 179.9), (60, -179.9)], given)
    assert "the shape (2, 2)" in hint("04.2", [(179.9, 60)], given)
    border = (np.array([[179.0, 60], [-179, 60], [0, 0]]), centers)  # of the sphere, at 180° too
    assert "a border runs between them" in hint("04.2", [(179.9, 60), (-179.9, 60)], border)
    assert "both" in hint("04.2", [(180, 60), (-180, 60)], given)  # one and the same meridian


def test_exercise_3_is_the_cross_entropy(lesson):
    def own(logits, region):
        return logits.softmax(1)[torch.arange(len(region)), region]

    assert hint("04.3", lesson["geo_loss"]) == ""
    assert hint("04.3", torch.nn.functional.cross_entropy) == ""
    wrong = {
        "sign": lambda z, r: own(z, r).log().mean(),
        "sum over": lambda z, r: -own(z, r).log().sum(),
        "First the logarithm": lambda z, r: -own(z, r).mean().log(),
        "bits": lambda z, r: -own(z, r).log2().mean(),
        "largest share": lambda z, r: -z.softmax(1).amax(1).log().mean(),
        "not one minus": lambda z, r: 1 - own(z, r).mean(),
        "share[i, region[i]]": lambda z, r: -z.log_softmax(0).mean(),
        "Stay in torch": lambda z, r: -own(z, r).log().mean().item(),
        "returns nothing yet": lambda z, r: ...,
    }
    for words, answer in wrong.items():
        assert words in hint("04.3", answer), words
    assert "without parentheses" in hint("04.3", 1.6)


@pytest.mark.parametrize("number", ["04.1", "04.2", "04.3", "04.4"])
def test_whatever_the_answer_is_nothing_is_raised(number):
    given = {"04.1": (sphere(9), np.arange(9) % 3), "04.2": (np.eye(2), np.eye(2))}.get(number)
    for odd in ("?", None, ..., [], {}, np.nan, [[1]], lambda *a: 1 / 0, lambda: 1, int, object()):
        assert hint(number, odd, given), odd


# --- what the cells compute -----------------------------------------------------------------------


def slow_kmeans(x, centers, steps):
    for _ in range(steps):
        near = [max(range(len(centers)), key=lambda k, p=p: sum(p * centers[k])) for p in x]
        for k in range(len(centers)):
            total = sum((p for p, n in zip(x, near, strict=True) if n == k), np.zeros(3))
            if total.any():
                centers[k] = total / math.sqrt(sum(total**2))
    return centers, near


def test_k_means_by_hand_is_a_loop_over_points(lesson):
    x = sphere(60)
    centers, nearest = lesson["kmeans_on_sphere"](x, x[:6], 5)
    expected, near = slow_kmeans(x.copy(), x[:6].copy(), 5)
    assert np.allclose(centers, expected) and list(nearest) == near
    north = x[x[:, 2] > 0]
    poles = np.array([[0, 0, 1.0], [0, 0, -1]])
    centers, nearest = lesson["kmeans_on_sphere"](north, poles, 3)
    assert set(nearest) == {0} and np.allclose(centers[1], poles[1])  # without places it stays


@pytest.mark.parametrize("seed", range(5))
def test_k_means_by_hand_stays_where_the_library_stopped(lesson, seed):
    rng = np.random.default_rng(seed)
    lon, lat = np.repeat([[179, 60], [0, 85], [-60, -10], [100, -75]], 30, axis=0).T + rng.normal(
        0, 2, (2, 120)
    )
    lon = geo.wrap_lon(lon)
    table = pd.DataFrame({"location": range(120), "lon": lon, "lat": np.clip(lat, -90, 90)})
    theirs = GeoClusters.fit(table, k=4, seed=seed)
    x = lesson["unit_vectors"](table["lon"], table["lat"])
    assert np.allclose(x, geo.unit_vectors(table["lon"], table["lat"]))
    moved, nearest = lesson["kmeans_on_sphere"](x, lesson["unit_vectors"](*theirs.centers.T))
    assert (nearest == theirs.assign(table["lon"], table["lat"])).all()
    assert geo.great_circle_km(*geo.lon_lat(moved), *theirs.centers.T).max() < 1
    torn = GeoClusters.fit(table, k=4, seed=seed, on="degrees")
    assert len(set(torn.assign(lon[:30], table["lat"][:30]))) == 2  # the group on the 180° line
    assert len(set(nearest[:30])) == 1


def test_purity_counts_the_most_frequent_label(lesson):
    region, label = np.array([0, 0, 0, 2, 2, 5]), np.array(["a", "a", "b", "b", "c", "c"])
    assert lesson["purity"](region, label) == pytest.approx((2 + 1 + 1) / 6)
    assert lesson["purity"](np.arange(6), label) == 1


def test_the_interval_holds_the_mean_as_often_as_it_says(lesson):
    rng = np.random.default_rng(1)
    hit = 0
    for _ in range(100):
        low, high = lesson["interval"](rng.normal(0.3, 1, 120))
        hit += low < 0.3 < high
    assert 0.9 <= hit / 100 <= 0.99
    assert np.allclose(lesson["interval"](np.full(50, 0.2)), 0.2)


# --- the figures ----------------------------------------------------------------------------------


def color_at(ax, x, y):
    """The color with which the regions of a map are painted at a point."""
    picture = next(image for image in ax.images if np.shape(image.get_array())[-1] == 4)
    left, right, bottom, top = picture.get_extent()
    rows, columns = picture.get_array().shape[:2]
    row = int((y - bottom) / (top - bottom) * rows)
    return picture.get_array()[row, int((x - left) / (right - left) * columns)]


def is_lit(ax, x, y, role):
    color = color_at(ax, x, y)
    return bool(color[3] > 0 and np.allclose(color[:3], to_rgb(ROLES[role]), atol=1e-3))


@pytest.mark.slow
def test_one_region_of_a_map_is_lit():
    centers = geo.unit_vectors([0, 120, -120], [0, 0, 0])
    table = pd.DataFrame({"lon": [0.0, 90], "lat": [0.0, 80], "location": [0, 1]})
    maps = figures.plot_regions(table, {"a": centers, "b": centers[::-1]}, at=(100, 10)).axes
    assert [ax.get_title() for ax in maps] == ["a", "b"]
    for ax in maps:
        assert is_lit(ax, 130, 30, "sphere") and not is_lit(ax, 5, 5, "sphere")
        assert color_at(ax, 5, 5)[3] == 0  # gray means no color
        assert not is_lit(ax, -130, 30, "sphere")


@pytest.mark.slow
def test_the_pole_is_seen_from_above_and_degrees_end_at_the_line():
    table = pd.DataFrame({"lon": [90.0, 0], "lat": [60.0, 50], "location": [0, 1]})
    centers = np.array([[175.0, 70], [-100, 70], [20, 60]])
    some = {on: GeoClusters(centers, np.ones(3, int), on) for on in ("sphere", "degrees")}
    axes = figures.plot_pole(table, some, at=(178, 70)).axes
    for ax, on in zip(axes, some, strict=True):
        assert ax.get_title() == f"k-means {on}"
        assert is_lit(ax, 1, 20, on)  # 177 degrees east lies above, a little to the right
        dots = ax.collections[0].get_offsets().data
        assert np.allclose(dots, [[30, 0], [0, -40]])  # 90 east lies to the right
    assert is_lit(axes[0], -1, 20, "sphere") and not is_lit(axes[1], -1, 20, "degrees")


@pytest.mark.slow
def test_the_figures_of_lesson_04(store):
    drawn = figures.plot_puzzle(store, [0, 2, 4], [2, 0, 1])
    assert [ax.get_title() for ax in drawn.axes] == ["A", "B", "C", ""]
    numbers = {t.get_text(): t.xy for t in drawn.axes[-1].texts}
    assert numbers["1"] == tuple(store.scenes.loc[4, ["lon", "lat"]])
    clusters = GeoClusters.fit(store.scenes, k=4, seed=0)
    shares = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    axes = figures.plot_predictions(store, [0, 5], shares, clusters).axes
    own = clusters.assign(store.scenes["lon"], store.scenes["lat"])[[0, 5]]
    assert len(axes) == 4 and f"{shares[0][own[0]]:.0%}" in axes[0].get_title()
    for ax, region in zip(axes[1::2], own, strict=True):
        colors = ax.collections[0].get_facecolors()[:, :3]
        right = [np.allclose(color, to_rgb(ROLES["right"])) for color in colors]
        assert [i for i, yes in enumerate(right) if yes] == [region]
    curves = pd.DataFrame({"K": [5, 50], "purity": [0.4, 0.7], "shuffled": [0.3, 0.35],
                           "km": [2000.0, 700]})  # fmt: skip
    left, right = figures.plot_choice_of_k(curves).axes
    assert list(left.lines[0].get_ydata()) == [0.4, 0.7]
    assert list(right.lines[0].get_ydata()) == [2000, 700]


@pytest.mark.slow
def test_losses_by_hand_lie_over_those_of_the_library():
    log = pd.DataFrame({"step": [1, 2], "contrastive_loss": [6.0, 5], "geo_loss": [3.0, 2]})
    axes = figures.plot_losses(dict.fromkeys(["+Geo+TP", "exchanged", "by hand"], log), 20).axes
    for ax, column in zip(axes, ("contrastive_loss", "geo_loss"), strict=True):
        lines = {line.get_label(): line for line in ax.lines}
        assert list(lines["by hand"].get_ydata()) == list(log[column])
        assert lines["+Geo+TP"].get_color() == ROLES["+Geo+TP"] == lines["exchanged"].get_color()
        assert lines["by hand"].get_color() not in ROLES.values()
    assert axes[1].lines[-1].get_ydata()[0] == pytest.approx(math.log(20))


@pytest.mark.slow
def test_the_answer_is_drawn_in_the_colors_of_the_roles():
    curve = pd.DataFrame({"share": [0.1, 0.1, 1.0, 1.0], "seed": [0, 1, 0, 1],
                          "locations": [50, 50, 400, 400], "value": [0.4, 0.5, 0.6, 0.6],
                          "chance": 0.2})  # fmt: skip
    names = ["untrained", "+TP", "+Geo+TP", "exchanged"]
    rows = [[n, name, 0.02, 0.01, 0.04] for n in (50, 400) for name in ("untrained", "exchanged")]
    gains = pd.DataFrame(rows, columns=["labels", "than", "gain", "low", "high"])
    left, right = figures.plot_answer(dict.fromkeys(names, curve), gains).axes
    looks = {line.get_label(): line for line in left.lines}
    for name in names:
        role = "+Geo+TP" if name == "exchanged" else name
        assert looks[name].get_color() == ROLES[role]
        assert np.allclose(looks[name].get_ydata(), [45, 60])
    assert looks["exchanged"].get_linestyle() == "--" != looks["+Geo+TP"].get_linestyle()
    assert [t.get_text() for t in right.texts] == ["50 labeled places", "400 labeled places"]
    assert [t.get_text() for t in right.get_yticklabels()][0] == "than untrained"
    assert sorted(set(right.get_yticks()), reverse=True) == list(right.get_yticks())
    low, high = right.collections[0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((1, 4))
