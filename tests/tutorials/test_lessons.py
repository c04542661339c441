"""Checks, restarts, figures and widgets of the lessons; what lessons 00 and 02 know."""

import math
import re
from collections import deque

import numpy as np
import pandas as pd
import pytest
import torch
from geossl_lessons import (
    Missing,
    NotYet,
    check,
    checking,
    figure,
    folder,
    need,
    print_estimate,
    table,
)
from geossl_lessons.lesson_00 import machine
from geossl_lessons.lesson_02 import experiments, figures
from geossl_lessons.lesson_02.queue_widget import QueuePlayer
from geossl_lessons.lesson_02.temperature_widget import TemperatureSlider, push, shares
from geossl_lessons.lesson_03.widgets import DatesSlider
from test_pretrain import write_store

import geossl
from geossl import losses, models
from geossl.cli.doctor import Finding
from geossl.train import throughput
from geossl.train.throughput import REFERENCE_PAIRS_PER_S
from geossl.transforms import Views
from geossl.utils.progress import format_duration
from geossl.viz import maps
from geossl.viz.plots.base import new_figure

STILL = Views(crop=(1.0, 1.0), ratio=(1.0, 1.0), flip=0, dihedral=False, jitter=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("lesson") / "chips")


def said(number, answer, given=None):
    return checking.judge(number, answer, given).hint


# --- check ----------------------------------------------------------------------------------------


class Nasty:
    """Everything one can do to it fails, and so do the words of the failure."""

    def __getattr__(self, name):
        raise Wordless

    def __array__(self, *given, **more):
        raise Wordless

    def __repr__(self):
        raise Wordless

    __str__ = __float__ = __len__ = __iter__ = __eq__ = __bool__ = __repr__
    __hash__ = None


class Wordless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def nasty_answers():
    return [
        None, ..., "nonsense", b"bytes", True, float("nan"), math.inf, [], {}, object(), Nasty(),
        [[1, 2], [3]], np.zeros((0, 3)), np.zeros((3, 4, 5)), torch.ones(2, 2, requires_grad=True),
        pd.DataFrame({"a": ["x"]}), lambda: 1 / 0, 10**400, 1j, range(9), (i for i in "ab"),
        np.array(["a"], object), np.datetime64("2020-01-01"), type, Nasty,
    ]  # fmt: skip


def material():
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(5, 4))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    scenes = pd.DataFrame(
        {"location": [0, 0, 1, 1, 2], "lon": [7.0, 7, 20, 20, -60], "lat": [47.0, 47, 60, 60, -3]}
    )
    findings = [Finding(True, "training", "324 pairs/s in 5 s"), Finding(True, "map", "written")]
    spread = {"A": rng.normal(size=(9, 4)), "B": 1 + 1e-4 * rng.normal(size=(9, 4)),
              "C": 0.5 + rng.normal(size=(9, 4))}  # fmt: skip
    return {
        "00.1": findings, "00.2": scenes, "00.3": scenes, "02.1": np.array([2, 0, 1]),
        "02.2": (unit @ unit.T, 0.2), "02.3": 0.99, "02.4": unit @ unit.T, "02.5": spread,
    }  # fmt: skip


@pytest.mark.parametrize("number", [*material(), "00.4"])
def test_whatever_the_answer_is_nothing_is_raised(number, store, capsys):
    given = {**material(), "00.4": store}[number]
    for answer in nasty_answers():
        verdict = checking.judge(number, answer, given)
        assert not verdict.correct and len(verdict.hint) > 15
        check(number, answer, given)
        assert f"{number}: not yet" in capsys.readouterr().out
        check(number, answer, answer)  # material that is as bad


@pytest.mark.parametrize("number", [None, 3, "", "02", "99.1", "02.99", "../x.1", "02.1\n"])
def test_an_unknown_number_is_told(number):
    assert "no exercise with this number" in said(number, 1)
    assert "no exercise with this number" in said(Nasty(), 1)


def test_no_call_at_all_is_told(capsys):
    check()
    assert "not yet" in capsys.readouterr().out


def test_strict_raises_and_lenient_does_not(monkeypatch):
    monkeypatch.setenv("GEOSSL_STRICT", "1")
    with pytest.raises(NotYet, match="three dots"):
        check("02.3", ...)
    check("02.3", 69, 0.99)
    monkeypatch.setenv("GEOSSL_STRICT", "0")
    check("02.3", ...)


def test_a_verdict_is_words_and_a_sign_not_a_color_alone():
    right, wrong = (checking.judge("02.3", answer, 0.99) for answer in (69, "<b>"))
    assert "02.3: correct" in right._repr_html_() and "\u2714" in right._repr_html_()
    assert "02.3: not yet" in wrong._repr_html_() and "\u25cb" in wrong._repr_html_()
    assert 'role="status"' in wrong._repr_html_()
    told = checking.Verdict("x", False, "<img onerror=1>")._repr_html_()
    assert "<img" not in told


def test_readers_take_all_kinds_of_numbers():
    for value in (2, 2.0, np.float32(2), np.array([2]), torch.tensor(2.0), torch.tensor([2])):
        assert checking.as_number(value) == 2.0
    wanted = [[1.0, 2.0]]
    for value in ([[1, 2]], ((1, 2),), torch.tensor([[1.0, 2.0]], requires_grad=True)):
        assert checking.as_array(value, (1, 2)).tolist() == wanted
    with pytest.raises(NotYet, match=r"must have the shape \(2,\); yours has \(1, 2\)"):
        checking.as_array(wanted, (2,))
    assert checking.as_choice(" b ", ["A", "B"]) == "B"


def test_the_material_is_not_changed():
    for number, given in material().items():
        before = repr(given)
        for answer in (1.0, [1.0, 2.0], [1, 2, 3], "A"):
            checking.judge(number, answer, given)
        assert repr(given) == before


# --- the exercises --------------------------------------------------------------------------------


def test_lesson_00_right_and_wrong(store):
    given = material()
    assert said("00.1", 324, given["00.1"]) == "" and "row" in said("00.1", 5, given["00.1"])
    no_number = [Finding(False, "training", "reinstall torch")]
    assert "has no number here" in said("00.1", 5, no_number)
    assert said("00.2", 3, given["00.2"]) == ""
    assert "number of rows" in said("00.2", 5, given["00.2"])
    assert said("00.3", (20, 60), given["00.3"]) == ""
    assert "wrong way round" in said("00.3", (60, 20), given["00.3"])
    assert "longitude is that of another location" in said("00.3", (7, 60), given["00.3"])
    assert "idxmax" in said("00.3", (0, 0), given["00.3"])
    rows = np.flatnonzero(store.scenes["location"] == store.scenes["location"][0])
    bright = rows[store.preview(rows).mean((1, 2, 3)).argmax()]
    assert said("00.4", bright, store) == ""
    other = next(row for row in rows if row != bright)
    assert "brighter" in said("00.4", other, store)
    assert "no row of the first location" in said("00.4", len(store) - 1, store)


def test_lesson_02_right_and_wrong():
    given = material()
    # place 1 shows C, 2 shows A, 3 shows B: A is 2, B is 3, C is 1
    assert said("02.1", [2, 3, 1], given["02.1"]) == ""
    assert "0 of 3" in said("02.1", [3, 1, 2], given["02.1"])
    assert "1 of 3" in said("02.1", [2, 1, 3], given["02.1"])
    assert "once" in said("02.1", [1, 1, 2], given["02.1"])
    similarity = torch.tensor(given["02.2"][0])
    truth = float(torch.nn.functional.cross_entropy(similarity / 0.2, torch.arange(5)))
    assert said("02.2", truth, given["02.2"]) == ""
    assert "sign" in said("02.2", -truth, given["02.2"])
    assert "sum" in said("02.2", 5 * truth, given["02.2"])
    assert "bits" in said("02.2", truth / math.log(2), given["02.2"])
    warm = float(torch.nn.functional.cross_entropy(similarity, torch.arange(5)))
    assert "temperature first" in said("02.2", warm, given["02.2"])
    assert "diagonal" in said("02.2", 0.123, given["02.2"])
    for answer in (math.log(0.5) / math.log(0.99), 69, 68.4):
        assert said("02.3", answer, 0.99) == ""
    assert "a third" in said("02.3", 100, 0.99) and "momentum**2" in said("02.3", 10, 0.99)
    tried = np.geomspace(1e-3, 2, 2000)
    half = min(tried, key=lambda t: abs(push(given["02.4"], t)[0].max() - 0.5))
    assert said("02.4", half, given["02.4"]) == ""
    assert "raise it" in said("02.4", half / 5, given["02.4"])
    assert "lower it" in said("02.4", half * 9, given["02.4"])
    assert "larger than 0" in said("02.4", -1, given["02.4"])
    assert said("02.5", "b", given["02.5"]) == ""
    assert "vectors of C" in said("02.5", "C", given["02.5"])


# --- what is shown --------------------------------------------------------------------------------


def test_need_names_what_is_missing_in_the_cell_that_asks():
    cell = "from geossl_lessons import need\nneed('store', 'run', 'OUT')\nreached = True"
    there = {"store": 1, "run": None, "OUT": 0}
    exec(cell, there)
    assert there["reached"]
    for gone, words in (
        (["run"], "needs run from the cells above"),
        (["run", "OUT"], "needs run and OUT from the cells above"),
    ):
        with pytest.raises(Missing, match=words) as caught:
            exec(cell, {k: v for k, v in there.items() if k not in gone})
        assert caught.value._render_traceback_() == [str(caught.value)]
    need("need", "np")


def test_a_figure_carries_its_words():
    drawn, ax = new_figure(3, 2)
    shown = figure(ax, alt='a "line" & more', caption="look <here>")
    page = shown._repr_html_()
    assert 'alt="a &#34;line&#34; &amp; more"' in page and "look &lt;here&gt;" in page
    assert repr(shown) == 'figure: a "line" & more' and "geossl-wide" not in page
    assert "geossl-wide" in figure(new_figure(9, 2)[0], alt="wide")._repr_html_()
    world = maps.map_scenes(pd.DataFrame({"location": [0], "lon": [1.0], "lat": [2.0]}))
    page = figure(world, alt="one <place>", caption="here")._repr_html_()
    assert 'title="one &lt;place&gt;"' in page and "geossl-map" in page and "here<" in page
    assert "figcaption" not in figure(drawn, alt="none")._repr_html_()


def test_a_table_cuts_nothing_short_and_escapes():
    long = "x" * 300
    given = pd.DataFrame({
        "what": [long, "<b>"], "day": pd.to_datetime(["2020-05-01", None], utc=True),
        "value": [0.25, np.nan],
    })  # fmt: skip
    page = table(given, caption="a <caption>")._repr_html_()
    assert long in page and "&lt;b&gt;" in page and "2020-05-01<" in page and "–" in page
    assert "a &lt;caption&gt;" in page and given["day"].dtype.kind == "M"


def test_a_folder_is_named_by_its_knobs():
    assert folder("runs/a", "chips", 5, 0.2).as_posix() == "runs/a/chips-5-0.2"
    assert folder("o", "x") != folder("o", "x", 1)


def test_a_cell_says_how_long_it_takes(store, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "relative_speed", lambda: 0.5)
    print_estimate(40 * 3 / 4, 14)
    assert capsys.readouterr().out == "About 88 seconds on this machine.\n"
    config = geossl.PretrainConfig(epochs=2, batch_size=8, knn_every=0, precision="fp32")
    run = geossl.pretrain(store, pairs=geossl.pairs.same_image(), config=config)
    print_estimate(run)
    seconds = throughput.estimate_seconds(run)
    words = format_duration(seconds)
    assert seconds > 0 and capsys.readouterr().out == f"About {words} on this machine.\n"
    print_estimate(run.finish(progress=False))  # what is finished takes no time
    assert capsys.readouterr().out == ""


def test_the_verdict_on_a_machine():
    speed = f"{REFERENCE_PAIRS_PER_S / 2:g}"
    fine = [Finding(True, "training", f"{speed} pairs/s: the lessons take about 2.0 x the rest")]
    words = repr(machine.verdict(fine))
    assert "1 of 1" in words and "ready" in words and "takes about 4.0 minutes here" in words
    broken = [*fine, Finding(False, "map", "install <folium>")]
    assert "Not ready yet: map" in repr(machine.verdict(broken))
    assert "minutes" not in repr(machine.verdict([Finding(False, "training", "no torch")]))
    assert list(machine.findings_table(broken)[""]) == ["ok", "look here"]


# --- widgets --------------------------------------------------------------------------------------


def send(widget, **state):
    """A change as the browser sends it."""
    data = {"method": "update", "state": state, "buffer_paths": []}
    widget._handle_msg({"content": {"data": data}, "buffers": []})


def status(widget):
    return re.sub(r"<[^>]*>", "", widget._status.widget.value)


def test_shares_and_push_are_those_of_the_loss():
    generator = torch.Generator().manual_seed(0)
    query, key = (
        torch.nn.functional.normalize(torch.randn(6, 8, generator=generator), dim=1)
        for _ in range(2)
    )
    cosine = (query @ key.T).double().requires_grad_()
    (losses.info_nce_from_logits(torch.cat([cosine[:1, :1], cosine[:1, 1:]], 1) / 0.1)).backward()
    slope = cosine.grad[0, 1:]
    assert np.allclose(push(cosine.detach(), 0.1)[0, 1:], (slope / slope.sum()).numpy())
    truth = torch.nn.functional.cross_entropy(cosine / 0.1, torch.arange(6))
    assert np.isclose(-np.log(shares(cosine.detach(), 0.1).diagonal()).mean(), truth.item())
    assert np.allclose(shares(cosine.detach(), 1e-3).max(1), 1, atol=0.2)
    for bad in (np.ones(3), np.ones((1, 1)), np.ones((2, 3))):
        with pytest.raises(ValueError, match="at least two pairs"):
            push(bad, 0.1)
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        shares(np.ones((2, 2)), 0)


def test_the_temperature_slider_follows_its_controls():
    similarity = np.array([[0.9, 0.8, 0.1], [0.2, 0.5, 0.6], [0.0, 0.3, 0.7]])
    seen = TemperatureSlider(similarity, pictures=np.zeros((3, 8, 8, 3), np.uint8))
    send(seen.temperature_slider, value=0.05)
    assert seen.temperature == 0.05
    hardest = math.exp(0.8 / 0.05) / (math.exp(0.8 / 0.05) + math.exp(0.1 / 0.05))
    assert f"query 0 takes {hardest:.0%} of the push" in status(seen)
    send(seen.query_slider, value=1)
    hardest = 1 / (1 + math.exp((0.2 - 0.6) / 0.05))
    assert f"query 1 takes {hardest:.0%} of the push" in status(seen)
    page = seen._page.value
    assert page.count("<rect") == 10 and 'role="img"' in page and 'alt="key 2"' in page
    found = [page.index(f">{name}<") for name in ("negative 2", "positive", "negative 0")]
    assert found == sorted(found)
    for control in (seen.temperature_slider, seen.query_slider):
        assert control.tooltip and control.description
    with pytest.raises(ValueError, match="`pictures` must be 3 pictures, got 2"):
        TemperatureSlider(similarity, pictures=np.zeros((2, 8, 8, 3), np.uint8))


def test_an_error_in_a_widget_is_shown(store, monkeypatch):
    seen = TemperatureSlider(np.eye(3))
    monkeypatch.setattr(seen, "_similarity", None)
    send(seen.query_slider, value=2)
    assert 'role="alert"' in seen._status.widget.value


def test_the_dates_slider_walks_through_a_place(store):
    seen = DatesSlider(store)
    table_ = store.scenes
    times = []
    for date in range(seen.date_slider.max + 1):
        send(seen.date_slider, value=date)
        assert table_["location"][seen.row] == table_["location"][0]
        times.append(table_["time"][seen.row])
        assert f"{times[-1]:%Y-%m-%d}" in status(seen) and f"date {date + 1} of" in status(seen)
    assert times == sorted(times) and len(times) == (table_["location"] == 0).sum()
    send(seen.location_slider, value=3)
    assert table_["location"][seen.row] == np.unique(table_["location"])[3]
    assert f'alt="location {table_["location"][seen.row]} on ' in seen._picture.value


@pytest.mark.slow
def test_the_queue_is_first_in_first_out(store):
    before = torch.random.get_rng_state()
    film = experiments.record_queue(store, queue_size=10, batch_size=4, steps=6, seed=3)
    again = experiments.record_queue(store, queue_size=10, batch_size=4, steps=6, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(film.rows, again.rows)
    other = experiments.record_queue(store, queue_size=10, batch_size=4, steps=6, seed=4)
    assert not np.array_equal(film.rows, other.rows)
    line = deque(maxlen=10)  # steps at which the keys came in, oldest first
    for now in range(6):
        line.extend([now] * 4)
        ages = sorted(now - came for came in line)
        assert sorted(film.age[now][film.rows[now] >= 0].tolist()) == ages
        assert np.isnan(film.drift[now][film.rows[now] < 0]).all()
    assert np.abs(film.drift[film.age == 0]).max() < 1e-6


@pytest.mark.slow
def test_a_key_encoder_without_momentum_drifts_more(store):
    slow, fast = (
        experiments.record_queue(store, queue_size=8, batch_size=4, steps=4, momentum=m)
        for m in (0.99, 0.0)
    )
    assert slow.drift[slow.age == 1].mean() < 0.3 * fast.drift[fast.age == 1].mean()
    seen = QueuePlayer(store, {"slow": slow, "fast": fast})
    for step in range(4):
        send(seen.play, value=step)
        assert seen.step == step and status(seen).startswith(f"step {step + 1}, momentum 0.99")
    assert seen._page.value.count(">new<") == 4 and "dashed" in seen._page.value
    send(seen.run_choice, index=1)
    assert "momentum 0:" in status(seen)
    send(seen.step_slider, value=1)
    assert seen.play.value == 1 and "8 of 8 slots" in status(seen)
    with pytest.raises(ValueError, match="at least one run"):
        QueuePlayer(store, {})


# --- lesson 02 ------------------------------------------------------------------------------------


def test_views_come_in_pairs_of_the_same_chips(store):
    first, second = experiments.two_views(store, [3, 5], transform=STILL)
    assert torch.allclose(first, second, atol=1e-4)
    assert (
        np.abs(experiments.to_pictures(store, first) - store.preview([3, 5]).astype(int)).max() <= 2
    )
    first, second = experiments.two_views(store, [3, 5])
    assert not torch.allclose(first, second)


def test_the_same_picture_is_found_again_and_a_blind_encoder_finds_none(store):
    rows = np.arange(24)
    encoder = models.build_encoder(mean=store.mean, std=store.std)
    assert experiments.retrieve_views(store, encoder, rows, transform=STILL).value == 1
    seen = experiments.retrieve_views(store, encoder, rows)
    assert seen.low <= seen.value <= seen.high and seen.candidates == 24
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.zero_()
        encoder.backbone[1].bias += 1
    assert experiments.retrieve_views(store, encoder, rows).value <= 1 / 24 + 1e-9


def test_what_it_knows_is_concluded_from_the_intervals(tmp_path):
    values = {"a": (0.2, 0.5, 0.5), "b": (0.5, 0.55, 0.2)}
    lines = [
        [name, task, value, value - 0.1, value + 0.1]
        for name, row in values.items()
        for task, value in zip("xyz", row, strict=True)
    ]
    told = experiments.summarize(
        pd.DataFrame(lines, columns=["encoder", "task", "value", "low", "high"])
    )
    assert told["a"][0] == "20.0% (10.0% to 30.0%)" and list(told["task"]) == ["x", "y", "z"]
    assert [words.split()[0] for words in told["learned?"]] == ["yes,", "no", "no,"]
    store = write_store(tmp_path / "chips")
    store.scenes["split"] = store.scenes["split"].where(store.scenes["location"] % 4 > 0, "test")
    encoder = models.build_encoder(mean=store.mean, std=store.std)
    found = experiments.evaluate_encoders(store, {"one": encoder, "same": encoder})
    assert set(experiments.summarize(found)["learned?"]) == {
        "no difference shown: the intervals overlap"
    }
    again = experiments.retrieve_views(
        store, encoder, np.flatnonzero(store.scenes["split"] == "test")
    )
    assert found["value"][0] == again.value


@pytest.mark.slow
def test_without_negatives_it_collapses(store):
    good, arrows = experiments.train_briefly(store, steps=12, batch_size=16)
    bad, _ = experiments.train_briefly(store, negatives=False, steps=12, batch_size=16)
    assert list(good["step"]) == list(range(1, 13)) and arrows.shape == (16, 128)
    assert bad["loss"].iloc[-1] < 0.2 < good["loss"].iloc[-1]
    assert bad["feature_std"].iloc[-1] < 0.5 * good["feature_std"].iloc[-1]
    panels = figures.plot_collapse({"with": good, "without": bad}).axes
    assert [len(ax.lines) for ax in panels] == [2, 2, 2]


def test_the_figures_of_lesson_02(store):
    first, second = experiments.two_views(store, [0, 4, 9])
    puzzle = figures.plot_puzzle(store, first, second, [2, 0, 1]).axes
    shown = {ax.get_title(): ax.images[0].get_array() for ax in puzzle}
    assert list(shown) == ["A", "B", "C", "1", "2", "3"]
    wanted = experiments.to_pictures(store, second)
    assert np.array_equal(shown["1"], wanted[2]) and np.array_equal(shown["2"], wanted[0])
    assert len(figures.plot_views(store, [0, 4, 9], first, second).axes) == 9
    ax = figures.plot_similarity(np.eye(4))
    assert len(ax.patches) == 4 and ax.get_xlabel() == "key"
    assert len(figures.plot_similarities({"a": np.eye(3), "b": np.eye(3)}).axes) == 4
