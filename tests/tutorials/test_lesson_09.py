"""Lesson 09: speed, arithmetic, time and money, and trainings in processes."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from geossl_lessons import checking
from geossl_lessons.lesson_09 import costs, figures, launch
from test_pretrain import write_store

from geossl import models
from geossl.train.throughput import Throughput, measure_throughput
from geossl.utils.progress import format_duration


def hint(number, answer, data=None):
    return checking.judge(number, answer, data).hint


# --- the exercises --------------------------------------------------------------------------------


def test_days_right_and_wrong():
    data = (1_000, 20, Throughput(0.5, 0.4, 0.6))
    days = 1_000 * 20 / 0.5 / 86_400
    assert hint("09.1", days, data) == ""
    assert "in seconds" in hint("09.1", 40_000, data)
    assert "in hours" in hint("09.1", days * 24, data)
    assert "in years" in hint("09.1", days / 365.25, data)
    assert "one pass" in hint("09.1", days / 20, data)
    assert "not two" in hint("09.1", 2 * days, data)
    assert "make days" in hint("09.1", 12345, data)


@pytest.mark.parametrize("pair", [(256, 1), (256, 3), (256, 2), (257, 2), (1, 2), (512, 6), (3, 0)])
def test_sums_in_bf16(pair):
    truth = torch.tensor(float(sum(pair))).bfloat16()
    assert hint("09.2", truth, pair) == hint("09.2", float(truth), pair) == ""
    if float(truth) != sum(pair):
        assert "between two" in hint("09.2", sum(pair), pair)
    assert "Try torch" in hint("09.2", 7777, pair)
    assert hint("09.2", "x", pair)


def test_what_travels_right_and_wrong():
    data = (torch.nn.Linear(999, 1000), 4)  # a million numbers
    truth = 2 * 3 / 4 * 4e6 / 1e6
    assert hint("09.3", truth, data) == ""
    assert "one round" in hint("09.3", truth / 2, data)
    assert "size of the gradients" in hint("09.3", 4, data)
    assert "4 bytes" in hint("09.3", truth / 4, data)
    assert "unit" in hint("09.3", truth * 1e6, data)
    assert "(P - 1)" in hint("09.3", 77, data)


def test_lost_work_and_passes_right_and_wrong():
    assert hint("09.4", 8 * 5 / 60, (8, 10)) == ""
    assert "worst case" in hint("09.4", 8 * 10 / 60, (8, 10))
    assert "one GPU" in hint("09.4", 5 / 60, (8, 10))
    assert "GPU-minutes" in hint("09.4", 40, (8, 10))
    assert "average age" in hint("09.4", 3, (8, 10))
    data = (100.0, 2.0, Throughput(500, 400, 600), 300_000)
    passes = 50 * 3600 * 500 / 300_000
    assert hint("09.5", passes, data) == ""
    assert "pairs per second" in hint("09.5", passes / 3600, data)
    assert "number of pairs" in hint("09.5", passes * 300_000, data)
    assert "what one pass costs" in hint("09.5", 100 / passes, data)
    assert "times 3600" in hint("09.5", 5, data)


# --- speed, arithmetic, money ---------------------------------------------------------------------


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


def test_operations_are_those_of_the_layers():
    encoder = models.build_encoder("small")
    flops = []
    for module in encoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda m, x, y: flops.append(2 * y.numel() * m.weight[0].numel())
            )
    encoder.eval()(torch.zeros(1, 3, 32, 32))
    forward, first = sum(flops), flops[0]
    counted = costs.count_gflop_per_pair(encoder, size_px=32) * 1e9
    head = 2 * (256 * 256 + 256 * 128)
    # forward twice, backward to the weights, backward to the inputs but for the first layer
    assert counted == pytest.approx(4 * (forward + head) - first, rel=1e-6)
    assert next(encoder.parameters()).device.type == "cpu"


def test_time_and_money():
    rate = costs.estimate_throughput(100.0, 10.0, share=(0.5, 0.1, 1.0))
    assert (rate.value, rate.low, rate.high) == (5_000, 1_000, 10_000)
    table = costs.plan_training({"a": (rate, 2.0), "b": (rate, math.nan)}, pairs=5_000 * 3600 * 10)
    assert list(table.columns) == ["machine", "pairs/s", "time", "dollars"]
    assert table["time"][0] == "10 hours (5.0 hours to 2.1 days)"
    assert table["dollars"].tolist() == ["20 (10 to 100)", "–"]
    assert table["pairs/s"][0] == "5,000 (1,000 to 10,000)"
    words = {0.5: "30 minutes", 1: "60 minutes", 1.5: "1.5 hours", 30: "30 hours", 36: "1.5 days",
            24 * 365.25 * 15: "15 years", 0.001: "3.6 seconds"}  # fmt: skip
    assert {hours: format_duration(3600 * hours) for hours in words} == words


def test_the_figures_of_lesson_09():
    ax = figures.plot_gaps()
    for line, dtype in zip(ax.lines, (torch.float32, torch.float16, torch.bfloat16), strict=True):
        x, y = (values[np.argmin(np.abs(line.get_xdata() - 300))] for values in line.get_data())
        assert y == pytest.approx(256 * torch.finfo(dtype).eps), x
    rates = {"a": Throughput(10, 9, 12), "b": Throughput(20, 20, 20)}
    assert [t.get_text() for t in figures.plot_rates(rates).texts] == ["10", "20"]
    ax = figures.plot_times({"a": (rates["a"], True), "b": (rates["b"], False)}, pairs=360e3)
    assert [t.get_text() for t in ax.texts] == ["10 hours", "5.0 hours"]
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


def test_a_line_is_what_one_types(tmp_path):
    line = launch.Command(tmp_path / "a b", tmp_path / "out", 2.5, processes=2)
    assert str(line).startswith("torchrun --standalone --nproc-per-node 2 -m geossl pretrain '")
    assert str(launch.Command(tmp_path, tmp_path, 1)).startswith("geossl pretrain /")
    assert "--epochs 2.5 --batch-size 64" in str(line)
    assert line.read_log().empty
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*last\.pt\. Run it first"):
        line.checkpoint_step()


def test_a_half_written_log_is_read_as_far_as_it_goes(tmp_path):
    line = launch.Command(tmp_path, tmp_path, 1)
    complete = "".join(json.dumps({"step": n, "loss": 0.5}) + "\n" for n in (1, 2))
    (tmp_path / "log.jsonl").write_text(complete + '{"step": 3, "lo')
    assert line.read_log()["step"].tolist() == [1, 2]


@pytest.mark.slow
def test_a_failure_says_why(tmp_path):
    line = launch.Command(tmp_path / "absent", tmp_path / "out", 1)
    with pytest.raises(RuntimeError, match=r"ended with 2: .*absent"):
        line.run()
    with pytest.raises(RuntimeError, match=r"ended with 2: .*absent"):
        line.kill_at(3)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    write_store(tmp_path / "chips", places=40)
    complete, killed = (
        launch.Command(tmp_path / "chips", tmp_path / name, 6, batch_size=16) for name in ("a", "b")
    )
    killed.output_dir.mkdir()
    (killed.output_dir / "rubbish").write_text("of a former run")
    step = killed.kill_at(2)
    assert not (killed.output_dir / "rubbish").exists()
    assert 2 <= step and killed.checkpoint_step() <= step
    complete.run()
    steps = int(complete.read_log()["step"].iloc[-1])
    stopped_early = killed.checkpoint_step() < steps
    killed.run()
    assert killed.read_log()["step"].tolist() == list(range(1, steps + 1)) and stopped_early
    assert launch.max_weight_difference(complete, killed) == 0
    other = launch.Command(tmp_path / "chips", tmp_path / "c", 6, batch_size=16, seed=1)
    other.run()
    assert launch.max_weight_difference(complete, other) > 0


def test_processes_are_started_by_torchrun(tmp_path, monkeypatch):
    call = {}

    def start(command, **options):
        call.update(options, command=command)
        return SimpleNamespace(communicate=lambda timeout: ("", ""), returncode=0)

    monkeypatch.setattr(subprocess, "Popen", start)
    launch.Command(tmp_path, tmp_path, 1, processes=3).run()
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    assert call["command"][:8] == [*start, "--nproc-per-node", "3", "-m", "geossl"]
    assert call["env"]["OMP_NUM_THREADS"] == "1"
