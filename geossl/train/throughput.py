"""Measure how fast a machine trains, remember it, and estimate how long work takes on it."""

from __future__ import annotations

import copy
import json
import math
import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch

from geossl import losses, models
from geossl.train.config import PretrainConfig
from geossl.train.objectives import plan_views
from geossl.train.optim import build_optimizer
from geossl.train.pretrain import Run
from geossl.train.setup import trains_in_bf16
from geossl.transforms import Views
from geossl.utils.cpu import single_threaded
from geossl.utils.device import select_device
from geossl.utils.io import atomic_write, load_json
from geossl.utils.progress import format_rate
from geossl.utils.validate import NonNegative, PositiveInt, Seed, validated

REFERENCE_PAIRS_PER_S = 1_300.0
"""Pairs per second of `measure_speed` on an ordinary laptop: two idle cores with AVX2 and no more.

The minutes that lessons and workbenches state are minutes at this speed, which two cores of an
Intel Xeon that were kept to AVX2 reached (``python -m tools.tutorials reference``; at the best of
times 1,700). Change it when the default encoder or the loop changes.
"""
_SIZE_PX, _BATCH_SIZE = 32, 128  # of the measured training
_CAPS = ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")  # what torch cannot say itself
_MAX_BYTES = 2**16  # a larger file of speeds is begun anew


@dataclass(frozen=True)
class Throughput:
    """Pairs per second.

    Attributes:
        value: the likely value; of a measurement the median of its repeats.
        low, high: the range.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{format_rate(self.value)} ({format_rate(self.low)} to {format_rate(self.high)})"


@validated
def measure_throughput(
    encoder: models.Encoder,
    *,
    size_px: PositiveInt,
    batch_size: PositiveInt,
    device: str | torch.device = "cpu",
    bf16: bool = False,
    channels_last: bool = True,
    seconds: NonNegative = 1.0,
    repeats: PositiveInt = 3,
    seed: Seed = 0,
) -> Throughput:
    """Measure the pairs per second of a training step: views, query, key, loss, backward, update.

    Args:
        encoder: copied, not changed.
        size_px: height and width of the chips and of their views.
        batch_size: pairs a step.
        device: the CPU or a GPU.
        bf16: autocast to bf16, else float32.
        channels_last: the memory format; `geossl.pretrain` trains in it.
        seconds: of one repeat, at least; one step at least.
        repeats: how many times it is measured, after a step that warms up.
        seed: of chips and views.

    Raises:
        RuntimeError: the loss is not finite: something is wrong with torch or the device.
    """
    device = torch.device(device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    moco = models.MoCo(copy.deepcopy(encoder), queue_size=1024, seed=seed)
    moco = moco.to(device).to(memory_format=layout).train()
    moco.bf16 = bf16
    optimizer = build_optimizer([p for p in moco.parameters() if p.requires_grad], PretrainConfig())
    generator, views = torch.Generator(device).manual_seed(seed), Views(size_px=size_px)
    shape = (batch_size, encoder.bands, size_px, size_px)
    chips = torch.randint(256, shape, generator=generator, device=device).to(torch.uint8)
    mean, std = (torch.full((encoder.bands,), v, device=device) for v in (127.0, 74.0))

    def step() -> torch.Tensor:
        first, second = (
            views(chips, mean=mean, std=std, generator=generator).contiguous(memory_format=layout)
            for _ in range(2)
        )
        moco.update_key()
        _, query = moco.query(first)
        loss = losses.info_nce(query, moco.key(second), moco.queue)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    rates = []
    with single_threaded(encoder, bf16=bf16):
        last = float(step())
        for _ in range(repeats):
            steps, began = 0, time.perf_counter()
            while not steps or time.perf_counter() - began < seconds:
                loss = step()
                steps += 1
            last = float(loss)  # waits for a GPU
            rates.append(steps * batch_size / (time.perf_counter() - began))
    if not math.isfinite(last):
        raise RuntimeError(f"The loss of a training step is {last}. Reinstall torch.")
    return Throughput(float(np.median(rates)), min(rates), max(rates))


@validated
def measure_speed(*, seconds: NonNegative = 2.0, repeats: PositiveInt = 1) -> Throughput:
    """Measure the training that `geossl.pretrain` does by default here, and remember its speed.

    Args:
        seconds: of one repeat.
        repeats: how many times it is measured, after a step that warms up.

    Returns:
        Pairs per second of the default encoder at 32 px, on the device and in the precision that
        "auto" chooses.

    Raises:
        RuntimeError: the loss is not finite: something is wrong with torch or the device.
    """
    encoder, device = models.build_encoder(PretrainConfig.encoder), select_device("auto")
    speed = measure_throughput(
        encoder, size_px=_SIZE_PX, batch_size=_BATCH_SIZE, device=device,
        bf16=trains_in_bf16(encoder, "auto", device, _SIZE_PX),
        seconds=seconds, repeats=repeats,
    )  # fmt: skip
    with suppress(OSError), atomic_write(_speed_file()) as part:
        part.write_text(json.dumps(_load_speeds() | {_machine(): speed.value}, indent=1), "utf-8")
    return speed


def relative_speed() -> float:
    """Return how fast this machine trains; 1 is the ordinary laptop of `REFERENCE_PAIRS_PER_S`.

    Measured once in some two seconds, and remembered in a file of the user's cache folder until
    the processor, torch, its threads or the instructions that it may use change; `geossl doctor`
    measures it anew.
    """
    speed = _load_speeds().get(_machine())
    return (measure_speed().value if speed is None else speed) / REFERENCE_PAIRS_PER_S


@validated
def estimate_seconds(*work: Run | NonNegative) -> float:
    """Estimate how long work takes on this machine.

    Args:
        work: runs of the default encoder, of which the steps that are left count; or seconds that
            something takes on the ordinary laptop of `REFERENCE_PAIRS_PER_S`.

    Returns:
        Seconds; 0 if nothing is left to do, nan for a run of another encoder.
    """
    reference_s = sum(_reference_seconds(w) if isinstance(w, Run) else w for w in work)
    return reference_s / relative_speed() if reference_s > 0 else reference_s


def _reference_seconds(run: Run) -> float:
    """Estimate what is left of a run in seconds of the ordinary laptop."""
    config = run.config
    if config.encoder != PretrainConfig.encoder:
        return math.nan if run.step < run.steps else 0.0
    pairs = (run.steps - run.step) * config.batch_size * config.accumulation_steps
    pixels = ((config.transform.size_px or run.store.size_px) / _SIZE_PX) ** 2
    # Forward and backward of the query, which costs twice as much, and forward of each key.
    forwards = 3 + len(plan_views(run.objectives)) - 1
    return pairs * pixels * forwards / 4 / REFERENCE_PAIRS_PER_S


def _speed_file() -> Path:
    return platformdirs.user_cache_path("geossl", appauthor=False) / "speed.json"


def _load_speeds() -> dict[str, float]:
    """Load the pairs per second by machine; a file that cannot be read holds none."""
    try:
        speeds = load_json(_speed_file(), max_bytes=_MAX_BYTES)
    except (OSError, ValueError):
        return {}
    items = speeds.items() if isinstance(speeds, dict) else ()
    return {name: speed for name, speed in items if isinstance(speed, float) and speed > 0}


def _machine() -> str:
    """Name everything that changes how fast this process trains; the reference, the encoder too."""
    device = select_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    caps = [torch.backends.cpu.get_cpu_capability(), *(os.environ.get(cap, "-") for cap in _CAPS)]
    caps += [f"{torch.get_num_threads()} threads", f"torch {torch.__version__}"]
    return ", ".join([platform.node(), name, *caps, f"{REFERENCE_PAIRS_PER_S:g} pairs/s"])


def processor_name() -> str:
    """Return the name of the processor."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line for line in lines if line.startswith("model name")).split(":")[1].strip()
    return platform.processor() or platform.machine()
