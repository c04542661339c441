"""Checks, restarts, figures and widgets of the lessons; what lesson 00 knows."""

import math
import re

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
from geossl_lessons.lesson_02.temperature_widget import TemperatureSlider
from geossl_lessons.lesson_03.widgets import DatesSlider
from test_pretrain import write_store

import geossl
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
    scenes = pd.DataFrame(
        {"location": [0, 0, 1, 1, 2], "lon": [7.0, 7, 20, 20, -60], "lat": [47.0, 47, 60, 60, -3]}
    )
    findings = [Finding(True, "training", "324 pairs/s in 5 s"), Finding(True, "map", "written")]
    return {
        "00.1": findings, "00.2": scenes, "00.3": scenes, "02.1": np.array([2, 0, 1]),
        "02.2": None, "02.3": None, "02.4": 0.1 + 0.8 * np.eye(3), "02.5": None,
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
        check("02.1", ...)
    check("02.1", [2, 3, 1], [2, 0, 1])
    monkeypatch.setenv("GEOSSL_STRICT", "0")
    check("02.1", ...)


def test_a_verdict_is_words_and_a_sign_not_a_color_alone():
    right, wrong = (checking.judge("02.1", answer, [2, 0, 1]) for answer in ([2, 3, 1], "<b>"))
    assert "02.1: correct" in right._repr_html_() and "\u2714" in right._repr_html_()
    assert "02.1: not yet" in wrong._repr_html_() and "\u25cb" in wrong._repr_html_()
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


QUIZZES = {
    "00.5": "bcb", "01.4": "bca", "02.5": "bca", "03.4": "cab", "04.4": "acb", "05.5": "bac",
    "06.4": "cab", "07.4": "bca", "08.5": "cab", "09.5": "cac",
}  # fmt: skip


@pytest.mark.parametrize("number", QUIZZES)
def test_a_quiz_says_which_are_right_without_giving_letters_away(number):
    right = QUIZZES[number]

    def hint(answer):
        return checking.judge(number, answer).hint

    assert hint(right) == hint(f" {right.upper()} ") == ""
    for place in range(3):
        others = " and ".join(str(n) for n in (1, 2, 3) if n != place + 1)
        for letter in set("abc") - {right[place]}:
            words = hint(right[:place] + letter + right[place + 1 :])
            assert words.startswith(f"Right: question {others}. Question {place + 1}: ")
            assert words.count("Question") == 1
    words = hint("".join({"a": "b", "b": "c", "c": "a"}[letter] for letter in right))
    assert "Right" not in words and all(f"Question {n}:" in words for n in (1, 2, 3))
    for odd in (right[:2], f"{right}x", f"{right}a", f"{right[:2]}d", 3, list(right), ""):
        assert "three letters of a, b and c" in hint(odd)
