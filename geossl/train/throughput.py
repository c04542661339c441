"""How fast a machine trains."""

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
from geossl.utils import cpu
from geossl.utils.cpu import single_threaded


@dataclass(frozen=True)
class Throughput:
    """Pairs a second.

    Attributes:
        value: the likely one; of a measurement the median of its repeats.
        low, high: the range.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{format_rate(self.value)} ({format_rate(self.low)} to {format_rate(self.high)})"


def measure_throughput(
    encoder: models.Encoder,
    *,
    size_px: int,
    batch_size: int,
    device: str | torch.device = "cpu",
    bf16: bool = False,
    channels_last: bool = False,
    seconds: float = 1.0,
    repeats: int = 3,
    seed: int = 0,
) -> Throughput:
    """Pairs that a device trains on in a second: views, query, key, loss, backward, step.

    Args:
        encoder: copied, not changed.
        size_px: side of the chips and of their views.
        batch_size: pairs a step.
        device: the CPU or a GPU.
        bf16: autocast to it, else float32.
        channels_last: the order of the numbers in memory.
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
    learned = [p for p in moco.parameters() if p.requires_grad]
    optimizer = build_optimizer(learned, PretrainConfig())
    generator, views = torch.Generator(device).manual_seed(seed), Views(size_px=size_px)
    size = (batch_size, encoder.bands, size_px, size_px)
    chips = torch.randint(256, size, generator=generator, device=device).to(torch.uint8)
    mean, std = (torch.full((encoder.bands,), v, device=device) for v in (127.0, 74.0))

    def step() -> torch.Tensor:
        a, b = (views(chips, mean=mean, std=std, generator=generator) for _ in range(2))
        moco.update_key()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            _, query = moco.query(a.contiguous(memory_format=layout))
            key = moco.key(b.contiguous(memory_format=layout))
        loss = losses.info_nce(query.float(), key.float(), moco.queue)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    rates = []
    with single_threaded(encoder, bf16=bf16), cpu.kept():  # as `geossl.pretrain` does
        last = float(step())
        for _ in range(repeats):
            steps, began = 0, time.perf_counter()
            while not steps or time.perf_counter() - began < seconds:
                loss = step()
                steps += 1
            last = float(loss)  # a GPU has done its work when it is there
            rates.append(steps * batch_size / (time.perf_counter() - began))
    if not math.isfinite(last):
        raise RuntimeError(f"expected a finite loss, came {last}; reinstall torch")
    return Throughput(float(np.median(rates)), min(rates), max(rates))


def format_rate(value: float) -> str:
    """A number to two digits, as people say it: 1,200, 35, 0.42."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    digits = 1 - int(np.floor(np.log10(abs(value))))
    return f"{round(value, digits):,.{max(0, digits)}f}"
