"""The speed of this machine: measured, remembered, and what follows from it."""

import dataclasses
import json
import math

import pytest
import torch
from test_pretrain import TINY, write_store

from geossl import pairs, pretrain
from geossl.clusters import GeoClusters
from geossl.train import PretrainConfig, throughput
from geossl.train.throughput import (
    REFERENCE_PAIRS_PER_S,
    Throughput,
    estimate_seconds,
    relative_speed,
)

DEFAULT = PretrainConfig.encoder


@pytest.fixture(autouse=True)
def file(monkeypatch, tmp_path):
    path = tmp_path / "cache" / "speed.json"
    monkeypatch.setattr(throughput, "_speed_file", lambda: path)
    return path


@pytest.fixture
def measured(monkeypatch):
    """A machine half as fast as the reference; the options of each measurement."""
    calls = []

    def measure(encoder, **options):
        calls.append({"name": encoder.name, **options})
        value = REFERENCE_PAIRS_PER_S / 2
        return Throughput(value, value, value)

    monkeypatch.setattr(throughput, "measure_throughput", measure)
    return calls


def test_the_speed_is_measured_once_and_remembered(measured, file):
    assert relative_speed() == relative_speed() == 0.5
    assert len(measured) == 1 and len(json.loads(file.read_text("utf-8"))) == 1
    assert measured[0] | {"name": DEFAULT, "size_px": 32, "batch_size": 128} == measured[0]
    throughput.measure_speed(seconds=0.1)
    assert len(measured) == 2 and measured[1]["seconds"] == 0.1


def test_what_a_speed_depends_on_is_measured_anew(measured, file, monkeypatch):
    changes = (
        (throughput.torch, "__version__", "9.9"),
        (throughput.torch, "get_num_threads", lambda: 99),
        (throughput.torch.backends.cpu, "get_cpu_capability", lambda: "AVX9"),
        (throughput, "processor_name", lambda: "another processor"),
        (throughput.platform, "node", lambda: "another machine"),
        (throughput, "REFERENCE_PAIRS_PER_S", 1.0),
    )
    relative_speed()
    for number, (owner, name, value) in enumerate(changes, 2):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            assert len(measured) == number - 1
            relative_speed(), relative_speed()
            assert len(measured) == number, name
    with monkeypatch.context() as patch:
        patch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
        relative_speed()
    count = len(measured)
    relative_speed()  # the first one is still there
    assert len(measured) == count == 8


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1, 2]", b"\xff\xfe", b'{"a": NaN}', b"7", b'{"here": -1.0}', b'{"here": "x"}',
     b'{"here": true}', b'{"here": null}', b'{"here": 0.0}'],
)  # fmt: skip
def test_a_damaged_file_is_written_anew(measured, file, monkeypatch, content):
    monkeypatch.setattr(throughput, "_machine", lambda: "here")
    file.parent.mkdir()
    file.write_bytes(content)
    assert relative_speed() == 0.5 and len(measured) == 1
    assert json.loads(file.read_text("utf-8"))["here"] == REFERENCE_PAIRS_PER_S / 2
    assert relative_speed() == 0.5 and len(measured) == 1


def test_a_file_that_cannot_be_written_or_is_none_stops_nothing(measured, file):
    file.parent.write_text("a file where the folder should be")
    assert relative_speed() == 0.5
    file.parent.unlink()
    file.mkdir(parents=True)  # and a folder where the file should be
    assert relative_speed() == 0.5 and len(measured) == 2


def test_a_file_that_has_grown_too_large_is_begun_anew(measured, file):
    file.parent.mkdir()
    file.write_text(json.dumps({f"machine {i}": 1.0 for i in range(9_000)}))
    assert relative_speed() == 0.5
    assert len(json.loads(file.read_text("utf-8"))) == 1


def test_it_is_this_machine_that_is_measured(file):
    state = torch.random.get_rng_state()
    speed = throughput.measure_speed(seconds=0.0, repeats=2)
    assert torch.equal(state, torch.random.get_rng_state())
    assert 0 < speed.low <= speed.value <= speed.high
    assert list(json.loads(file.read_text("utf-8")).values()) == [speed.value]
    assert torch.__version__ in throughput._machine()
    with pytest.raises(ValueError, match="`seconds` must be >= 0, got -1"):
        throughput.measure_speed(seconds=-1)


def test_seconds_of_the_ordinary_laptop_become_seconds_here(measured):
    assert estimate_seconds() == estimate_seconds(0.0) == 0 and not measured
    assert estimate_seconds(30, 60.0) == 180
    with pytest.raises(TypeError, match="`work`"):
        estimate_seconds("a minute")


def test_a_run_takes_what_is_left_of_it(measured, tmp_path):
    store = write_store(tmp_path / "chips")
    run = pretrain(store, pairs=pairs.temporal(), config=TINY, seed=0)
    whole = run.steps * 8 * (16 / 32) ** 2 / REFERENCE_PAIRS_PER_S / 0.5
    assert estimate_seconds(run) == pytest.approx(whole)
    assert estimate_seconds(run, run, 5.0) == pytest.approx(2 * whole + 10)
    next(iter(run))
    assert estimate_seconds(run) == pytest.approx(whole * (1 - run.step / run.steps))
    half = dataclasses.replace(TINY, batch_size=4, accumulation_steps=2)
    same = pretrain(store, pairs=pairs.temporal(), config=half, seed=0)
    assert estimate_seconds(same) == pytest.approx(whole, rel=0.2)
    geo = GeoClusters.fit(store.scenes, k=3, seed=0)
    alone = pretrain(store, geo=geo, config=TINY, seed=0)  # one view, and no key
    assert estimate_seconds(alone) == pytest.approx(
        whole * 3 / 4 * (alone.steps / run.steps), rel=1e-6
    )
    run.finish(progress=False)
    assert estimate_seconds(run) == 0
    other = pretrain(
        store, geo=geo, config=dataclasses.replace(TINY, encoder="resnet18"), seed=0
    )  # fmt: skip
    assert math.isnan(estimate_seconds(other)) and math.isnan(estimate_seconds(other, 3.0))
