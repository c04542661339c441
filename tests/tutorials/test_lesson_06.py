"""Lesson 06: its exercises, its figures and its study."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from geossl_lessons import checking
from geossl_lessons.drawing import ROLES
from geossl_lessons.lesson_06 import figures
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from geossl import evaluate

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "few_labels.json"


def hint(number, answer, data=None):
    return checking.judge(number, answer, data).hint


def results(places=400, dates=3, share=0.5, seed=0, alike=0.8):
    """Hits on test pictures, mostly alike for those of a place, and their places."""
    rng = np.random.default_rng(seed)
    place = np.repeat(rng.permutation(places), dates)
    of_place = np.repeat(rng.random(places), dates)
    draw = np.where(rng.random(len(place)) < alike, of_place, rng.random(len(place)))
    return draw < share, place


# --- the exercises --------------------------------------------------------------------------------


def bootstrap(draw, measure=lambda right, size: right.sum() / size.sum(), draws=1_000):
    """A bootstrap over places, with a way to draw and a way to measure."""

    def answer(hits, place):
        index = np.unique(place, return_inverse=True)[1]
        right, size = np.bincount(index, hits), np.bincount(index)
        rng = np.random.default_rng(5)
        drawn = [draw(rng, len(size)) for _ in range(draws)]
        return np.array([measure(right[some], size[some]) for some in drawn])

    return answer


def with_replacement(rng, count):
    return rng.integers(count, size=count)


def test_the_bootstrap_draws_places():
    assert hint("06.1", bootstrap(with_replacement)) == ""
    assert hint("06.1", bootstrap(lambda rng, n: rng.choice(n, n))) == ""
    shuffled = bootstrap(lambda rng, n: rng.permutation(n))
    assert "with replacement" in hint("06.1", shuffled)
    of_shares = bootstrap(with_replacement, lambda right, size: (right / size).mean())
    assert "mean of the places' shares" in hint("06.1", of_shares)
    counts = bootstrap(with_replacement, lambda right, size: right.sum())
    assert "share from 0 to 1" in hint("06.1", counts)
    few = bootstrap(lambda rng, n: rng.integers(n, size=n // 4))
    assert "as many places as there are" in hint("06.1", few)

    def pictures(hits, place):
        rng = np.random.default_rng(0)
        return [hits[rng.integers(len(hits), size=len(hits))].mean() for _ in range(1_000)]

    assert "single pictures" in hint("06.1", pictures)
    assert "three dots" in hint("06.1", lambda hits, place: np.array([...] * 1_000))
    assert "three dots" in hint("06.1", lambda hits, place: ...)
    assert "shape" in hint("06.1", lambda hits, place: hits.mean())
    assert "no brackets" in hint("06.1", np.ones(1_000))
    assert "could not be read" in hint("06.1", lambda hits: hits)


def test_an_interval_over_pictures_is_too_narrow():
    data = results()
    widths = []
    for group in (np.arange(len(data[0])), data[1]):
        means = bootstrap(with_replacement, draws=2_000)(data[0], group)
        widths.append(np.ptp(np.percentile(means, [2.5, 97.5])))
    ratio = widths[0] / widths[1]
    assert 0.55 < ratio < 0.8
    assert hint("06.2", ratio, data) == ""
    assert "other way round" in hint("06.2", 1 / ratio, data)
    assert "percent" in hint("06.2", 100 * ratio, data)
    assert "how much is left" in hint("06.2", 1 - ratio, data)
    assert "Call interval twice" in hint("06.2", 1.0, data)
    alone = results(dates=1)
    assert hint("06.2", 1.0, alone) == "", "one picture a place"


def data_of(counts, curve, value):
    """What lesson 06 passes; untrained features reach the value with the last count but one."""
    base = [0.0] * (len(counts) - 2) + [value, 1.0]
    curves = {"untrained": base, "+Geo+TP": curve}
    return counts, {name: pd.DataFrame({"value": values}) for name, values in curves.items()}


def test_labels_are_read_off_the_logarithmic_axis():
    counts, curve = [25, 50, 100, 400, 1800], [0.30, 0.34, 0.40, 0.48, 0.50]
    data = data_of(counts, curve, 0.44)  # half way between 100 and 400
    assert hint("06.3", 200.0, data) == ""
    assert "logarithmic" in hint("06.3", 250, data)
    assert "np.exp" in hint("06.3", np.log(200), data)
    assert "accuracy to reach" in hint("06.3", 0.44, data)
    assert "to the left" in hint("06.3", 90, data)
    assert hint("06.3", 25, data_of(counts, curve, 0.1)) == "", "the fewest are enough"
    never = data_of(counts, curve, 0.6)
    assert hint("06.3", np.inf, never) == ""
    assert "np.inf" in hint("06.3", 1800, never)
    assert "right way round" in hint("06.3", np.inf, data)


def test_a_dip_of_the_curve_is_no_loss():
    counts, curve = [25, 50, 100, 400], [0.40, 0.30, 0.35, 0.50]
    right = np.exp(np.interp(0.45, np.maximum.accumulate(curve), np.log(counts)))
    assert hint("06.3", float(right), data_of(counts, curve, 0.45)) == ""
    assert hint("06.3", 25.0, data_of(counts, curve, 0.33)) == ""


def test_the_hand_made_reading_is_that_of_the_library():
    counts, values = [25, 50, 100, 400], [0.30, 0.34, 0.40, 0.48]
    table = pd.DataFrame({"share": counts, "locations": counts, "value": values})
    for value in (0.2, 0.31, 0.4, 0.47):
        needed = evaluate.labels_needed(table, value)
        assert hint("06.3", needed, data_of(counts, values, value)) == ""


def test_the_first_question_is_about_zero():
    assert "zero" in hint("06.4", "bab")


# --- the figures ----------------------------------------------------------------------------------


def curves():
    values = np.array([0.30, 0.40, 0.45])
    frame = pd.DataFrame({"labels": [25, 100, 900]})
    return {
        name: frame.assign(value=values + gain, low=values + gain - 0.02, high=values + gain + 0.02)
        for name, gain in (("untrained", 0), ("+Geo+TP", 0.06), ("loaded", 0.1))
    }


def test_curves_have_the_colors_of_their_roles():
    ax = figures.plot_curves(curves(), {name: np.full((3, 2), 0.4) for name in curves()})
    handles, labels = ax.get_legend_handles_labels()
    assert labels == ["untrained", "+Geo+TP", "loaded"]
    assert [to_hex(line.get_color()) for line in handles[:2]] == [
        ROLES["untrained"], ROLES["+Geo+TP"],
    ]  # fmt: skip
    assert [text.get_text() for text in ax.get_xticklabels()] == ["25", "100", "900"]


def test_a_reading_goes_down_from_each_curve_that_it_meets():
    ax = figures.plot_curves(curves(), read=(25, 0.36))
    # untrained: 0.36 is 60 % of the way from 25 to 100, on a logarithmic axis
    needed = np.exp(np.log(25) + 0.6 * np.log(4))
    assert [text.get_text() for text in ax.texts] == [f"{needed:,.0f}"]
    across = ax.lines[-1]
    assert np.allclose(across.get_xdata(), [25, needed]) and set(across.get_ydata()) == {36.0}
    assert not figures.plot_curves(curves(), read=(25, 0.9)).texts


def test_gains_and_tests_are_in_points():
    rows = [["+TP", "MoCo-v2", 25, 0.04, 0.02, 0.06], ["+TP", "MoCo-v2", 50, 0.03, -0.01, 0.07]]
    gains = pd.DataFrame(rows, columns=["method", "than", "labels", "gain", "low", "high"])
    ax = figures.plot_gains(gains)
    assert isinstance(ax, Axes)
    points = ax.containers[0].lines[0]
    assert np.allclose(points.get_ydata(), [4, 3]) and to_hex(points.get_color()) == ROLES["+TP"]
    table = pd.DataFrame({"method": ["untrained", "loaded"], "value": [0.5, 0.6],
                          "low": 0.4, "high": 0.7, "chance": 0.2})  # fmt: skip
    figure = figures.plot_tests({"all labels": table, "same place": table})
    assert [ax.get_title() for ax in figure.axes] == ["all labels", "same place"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["50.0", "60.0", "chance"]


def test_the_histogram_says_its_interval():
    means = np.random.default_rng(0).normal(0.5, 0.02, 1_000)
    ax = figures.plot_resamples(means)
    low, high = 100 * np.percentile(means, [2.5, 97.5])
    assert f"{low:.1f} to {high:.1f} %" in ax.get_legend_handles_labels()[1][0]
    assert sum(patch.get_height() for patch in ax.patches) == 1_000


# --- the study ------------------------------------------------------------------------------------


def test_the_study_is_that_of_the_benchmarks():
    copy = Path(figures.__file__).with_name("few_labels.json")
    assert json.loads(copy.read_text("utf-8")) == json.loads(BENCHMARK.read_text("utf-8"))


def test_the_study_is_sorted_by_method_and_drawn(tmp_path, monkeypatch):
    file = tmp_path / "few_labels.json"
    monkeypatch.setattr(figures, "_STUDY", file)
    records = [
        {
            "method": method,
            "metric": f"linear_main_{count}",
            "seed": seed,
            "value": 0.3 + seed / 100,
        }
        for method in ("supervised", "geoloc", "moco+tp", "random")
        for count in ("all", "25")
        for seed in (0, 1, 2)
    ]
    file.write_text(json.dumps(records), "utf-8")
    study = figures.load_study()
    assert study["method"].unique().tolist() == ["untrained", "+TP", "Geo alone", "supervised"]
    ax = figures.plot_study(study)
    names = ax.get_legend_handles_labels()[1]
    assert names == ["untrained", "+TP", "supervised"], "those that have a color"
    mean = ax.lines[0]
    assert list(mean.get_xdata()) == [0, 4] and np.allclose(mean.get_ydata(), 31)
