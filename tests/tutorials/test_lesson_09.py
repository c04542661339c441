"""Lesson 09: counting, averaging, speed, and trainings in processes."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from geossl_lessons import checking
from geossl_lessons.lesson_09 import figures, launch
from test_pretrain import write_store
from torch import nn

import geossl
from geossl import models
from geossl.train.throughput import Throughput, measure_throughput


def hint(number, answer, data=None):
    return checking.judge(number, answer, data).hint


# --- the exercises --------------------------------------------------------------------------------


def test_operations_right_and_wrong():
    def by_hand(conv, height, width):
        channels, inside, high, wide = conv.weight.shape
        return sum(2 * inside * high * wide for _ in range(channels * height * width))

    assert hint("09.1", by_hand) == ""
    assert hint("09.1", lambda *given: torch.tensor(by_hand(*given))) == ""
    for wrong, words in (
        (lambda conv, h, w: by_hand(conv, h, w) / 2, "and* an addition"),
        (lambda conv, h, w: by_hand(conv, h, w) / conv.out_channels, "more than one channel."),
        (lambda conv, h, w: conv.weight[0].numel() * h * w, "a product costs two"),
        (lambda conv, h, w: 2 * conv.weight[0].numel() * h * w * conv.in_channels, "of the input"),
        (lambda conv, h, w: 2 * conv.weight.numel(), "`height` x `width`"),
        (lambda conv, h, w: 2 * math_prod(conv) * h * w, "conv.out_channels * height"),
        (lambda conv, h, w: None, "returns nothing yet"),
        (lambda conv: 1, "stopped with TypeError"),
        (lambda conv, h, w: "x", "must hold numbers"),
        (77, "without parentheses"),
    ):
        assert words in hint("09.1", wrong), (words, hint("09.1", wrong))


def math_prod(conv):  # as if there were no groups
    return conv.out_channels * conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]


def test_operations_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    conv = nn.Conv2d(6, 8, 3, groups=2, device="meta")
    with FlopCounterMode(display=False) as counter:
        out = conv(torch.empty(1, 6, 9, 7, device="meta"))
    total = counter.get_total_flops()
    assert total == 2 * conv.weight[0].numel() * out.numel()


def test_unequal_parts_right_and_wrong():
    assert hint("09.2", lambda a, b, n, m: (n * a + m * b) / (n + m)) == ""
    assert hint("09.2", lambda a, b, n, m: a.numpy() + (b - a).numpy() * m / (n + m)) == ""
    for wrong, words in (
        (lambda a, b, n, m: (a + b) / 2, "must count for more"),
        (lambda a, b, n, m: a + b, "not a sum"),
        (lambda a, b, n, m: n * a + m * b, "Divide it by their number"),
        (lambda a, b, n, m: (m * a + n * b) / (n + m), "exchanged"),
        (lambda a, b, n, m: a - b, "Add the two sums"),
        (lambda a, b, n, m: a.sum(), "shape (6,)"),
        (lambda a, b, n, m: ..., "returns nothing yet"),
        ([1, 2], "without parentheses"),
    ):
        assert words in hint("09.2", wrong), (words, hint("09.2", wrong))


def plain_network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def normalized_network():
    first, *others = plain_network()
    return nn.Sequential(first, nn.BatchNorm2d(4), *others)


def step_apart(make, x, y):
    """How far a step on the mean of the halves' gradients is from that of the batch."""
    half, weights = len(x) // 2, []
    for parts in ([slice(None)], [slice(half), slice(half, None)]):
        network = make()
        losses = [nn.functional.cross_entropy(network(x[rows]), y[rows]) for rows in parts]
        torch.stack(losses).mean().backward()
        torch.optim.SGD(network.parameters(), lr=0.1).step()
        weights.append(list(network.parameters()))
    return max((a - b).abs().max().item() for a, b in zip(*weights, strict=True))


def test_batch_norm_right_and_wrong():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(16, 3, 8, 8, generator=generator), torch.arange(16) % 5
    x[8:] *= 0.3  # halves that differ
    truth, rounding = (step_apart(make, x, y) for make in (normalized_network, plain_network))
    assert rounding < 1e-6 < truth / 20
    for make in (plain_network, normalized_network):  # the learner may have changed the first one
        assert hint("09.3", truth, (make, x, y)) == ""
        assert hint("09.3", torch.tensor(truth), (make, x, y)) == ""
        assert "before the ReLU" in hint("09.3", 2 * truth, (make, x, y))
    assert "without BatchNorm" in hint("09.3", rounding, (plain_network, x, y))
    assert "before the ReLU" in hint("09.3", -truth, (plain_network, x, y))


def test_passes_right_and_wrong():
    data = (100.0, 2.0, Throughput(500, 400, 600), 300_000)
    passes = 50 * 3600 * 500 / 300_000
    assert hint("09.4", passes, data) == ""
    assert "pairs per second" in hint("09.4", passes / 3600, data)
    assert "number of pairs" in hint("09.4", passes * 300_000, data)
    assert "what one pass costs" in hint("09.4", 100 / passes, data)
    assert "times 3600" in hint("09.4", 5, data)


def test_the_first_question_is_true_of_bf16():
    assert torch.tensor(256.0, dtype=torch.bfloat16) + 1 == 256


@pytest.mark.parametrize("number", ["09.1", "09.2", "09.3", "09.4", "09.5"])
def test_whatever_the_answer_is_nothing_is_raised(number):
    rate = Throughput(1, 1, 1)
    given = {
        "09.3": (plain_network, torch.rand(4, 3, 8, 8), torch.arange(4)),
        "09.4": (100.0, 2.0, rate, 100),
    }
    for answer in (None, ..., "x", float("nan"), [[]], {}, object(), np.ones((3, 4)) / 3, len):
        verdict = checking.judge(number, answer, given.get(number))
        assert not verdict.correct and len(verdict.hint) > 15
        assert not checking.judge(number, answer, answer).correct


# --- speed and figures ----------------------------------------------------------------------------


@pytest.mark.parametrize("bf16", [False, True])
def test_speed_is_measured_and_changes_nothing(bf16):
    encoder = models.build_encoder("small")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = torch.random.get_rng_state()
    how = {"size_px": 16, "batch_size": 8, "seconds": 0.0, "repeats": 3}
    rate = measure_throughput(encoder, bf16=bf16, channels_last=bf16, **how)
    assert 0 < rate.low <= rate.value <= rate.high
    assert torch.equal(state, torch.random.get_rng_state())
    for name, value in encoder.state_dict().items():
        assert torch.equal(before[name], value), name


def test_the_figures_of_lesson_09():
    ax = figures.plot_gaps()
    for line, dtype in zip(
        ax.lines[:3], (torch.float32, torch.float16, torch.bfloat16), strict=True
    ):
        x, y = (values[np.argmin(np.abs(line.get_xdata() - 300))] for values in line.get_data())
        assert y == pytest.approx(256 * torch.finfo(dtype).eps), x
    rates = {"a": Throughput(10, 9, 12), "b": Throughput(20, 20, 20)}
    assert [t.get_text() for t in figures.plot_rates(rates).texts] == ["10", "20"]
    ax = figures.plot_times({"a (measured)": rates["a"], "b": rates["b"]}, pairs=360e3)
    assert [t.get_text() for t in ax.texts] == ["10 hours", "5.0 hours"]
    assert ax.lines[0].get_color() != ax.lines[2].get_color()  # measured, estimated
    steps = np.arange(1, 7)
    two = {name: pd.DataFrame({"step": steps, "loss": steps + i}) for i, name in enumerate("ab")}
    lines = figures.plot_two_runs(two).lines
    assert [line.get_ydata().tolist() for line in lines] == [[*range(1, 7)], [*range(2, 8)]]
    assert lines[0].get_linestyle() != lines[1].get_linestyle()
    complete = pd.DataFrame({"step": steps, "loss": 1.0 / steps, "seconds": steps * 1.0})
    before, after = complete.head(4), complete.assign(seconds=[1, 2, 9, 10, 11, 12])
    axes = figures.plot_resumed(complete, before, after).axes
    assert axes[1].lines[1].get_xdata().tolist() == [2, 3, 4, 5, 6]  # from the checkpoint on
    assert axes[1].lines[2].get_xdata()[0] == 4


# --- trainings in processes -----------------------------------------------------------------------


def test_a_half_written_log_is_read_as_far_as_it_goes(tmp_path):
    assert launch.read_log(tmp_path).empty and not launch.is_finished(tmp_path, 1)
    complete = "".join(json.dumps({"step": n, "loss": 0.5}) + "\n" for n in (1, 2))
    (tmp_path / "log.jsonl").write_text(complete + '{"step": 3, "lo')
    assert launch.read_log(tmp_path)["step"].tolist() == [1, 2]
    assert launch.is_finished(tmp_path, 2) and not launch.is_finished(tmp_path, 3)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Let "geossl" be a program that logs steps and saves as a run does, but imports no torch."""
    script = tmp_path / "program.py"
    script.write_text(
        """
import pathlib, sys, time
if sys.argv[1] == "fail":
    sys.exit("no store at " + sys.argv[2])
path = pathlib.Path(sys.argv[2])
path.mkdir()
for step in range(1, int(sys.argv[1]) + 1):
    with open(path / "log.jsonl", "a") as log:
        log.write('{"step": %d}' % step + chr(10))
    (path / "last.pt").touch()
    time.sleep(0.02)
"""
    )
    monkeypatch.setitem(launch._PROGRAMS, "geossl", [str(script)])


def test_a_failure_says_why(stand_in, tmp_path):
    words = r"geossl fail absent ended with 1: no store at absent"
    with pytest.raises(RuntimeError, match=words):
        launch.run("geossl fail absent")
    with pytest.raises(RuntimeError, match=words):
        launch.kill_at("geossl fail absent", tmp_path / "a", step=3)


def test_a_process_is_killed_once(stand_in, tmp_path):
    path = tmp_path / "a"
    path.mkdir()
    (path / "rubbish").write_text("of a run without a checkpoint")
    launch.kill_at(f"geossl 500 {path}", path, step=5)
    assert not (path / "rubbish").exists()
    steps = len(launch.read_log(path))
    assert 5 <= steps < 500
    launch.kill_at(f"geossl 500 {path}", path, step=100)  # what is left stays as it is
    assert len(launch.read_log(path)) == steps
    launch.kill_at(f"geossl 2 {tmp_path / 'b'}", tmp_path / "b", step=9)  # ended before it was due
    assert len(launch.read_log(tmp_path / "b")) == 2
    launch.run(f"geossl 3 {tmp_path / 'c'}")
    assert launch.is_finished(tmp_path / "c", 3)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    store = write_store(tmp_path / "chips", places=40)
    settings = {"batch_size": 16, "epochs": 6, "log_every": 1, "knn_every": 0, "precision": "fp32",
                "checkpoint_every_s": 0, "device": "cpu", "queue_size": 64}  # fmt: skip
    words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    killed, resumed = tmp_path / "killed", tmp_path / "resumed"
    launch.kill_at(
        f"geossl pretrain {tmp_path / 'chips'} {words} --output-dir {killed}", killed, step=3
    )
    shutil.copytree(killed, resumed)

    def weights(path, seed=0):
        run = geossl.pretrain(
            store, pairs=geossl.pairs.temporal(), config=geossl.PretrainConfig(**settings),
            output_dir=path, seed=seed,
        )  # fmt: skip
        start = run.step
        return start, run.steps, run.finish(progress=False).encoder.state_dict()

    (start, steps, after), (_, _, complete), (_, _, other) = (
        weights(resumed), weights(None), weights(None, seed=1)
    )  # fmt: skip
    assert 1 <= start <= len(launch.read_log(killed)) and start < steps
    assert launch.read_log(resumed)["step"].tolist() == list(range(1, steps + 1))
    assert all(torch.equal(after[name], complete[name]) for name in complete)
    assert not all(torch.equal(other[name], complete[name]) for name in complete)


def test_commands_are_run_by_this_python(monkeypatch):
    call = {}

    def start(command, **options):
        call.update(options, command=command)
        return SimpleNamespace(communicate=lambda timeout: ("", ""), returncode=0)

    monkeypatch.setattr(subprocess, "Popen", start)
    launch.run("torchrun --standalone --nproc-per-node 3 -m geossl pretrain chips")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    assert call["command"][:8] == [*start, "--nproc-per-node", "3", "-m", "geossl"]
    assert call["env"]["OMP_NUM_THREADS"] == "1"
    launch.run("geossl pretrain chips")
    assert call["command"] == [sys.executable, "-m", "geossl", "pretrain", "chips"]
