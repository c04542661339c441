"""Measure how fast a machine trains."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from geossl import losses, models
from geossl.train.config import PretrainConfig
from geossl.train.optim import build_optimizer
from geossl.transforms import Views
from geossl.utils.cpu import single_threaded
from geossl.utils.validate import NonNegative, PositiveInt, Seed, validated


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
    channels_last: bool = False,
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
        channels_last: the memory format.
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


def format_rate(value: float) -> str:
    """Return a number with two digits: 1,200, 35, 0.42."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    digits = 1 - int(np.floor(np.log10(abs(value))))
    return f"{round(value, digits):,.{max(0, digits)}f}"
