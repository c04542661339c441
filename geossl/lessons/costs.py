"""What lesson 09 counts and measures: pairs a second here, arithmetic, time and money elsewhere."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from geossl import losses, memory, models
from geossl.augment import Views
from geossl.running import few_threads, fused

# Dense bf16 TFLOP/s of NVIDIA's data sheets (no sparsity), as in benchmarks/roofline.py.
CARDS = {"L4": 121.0, "A100": 312.0, "H100": 989.0}
_UNITS = (("years", 24 * 365.25), ("days", 24.0), ("hours", 1.0), ("minutes", 1 / 60))


@dataclass(frozen=True)
class Rate:
    """Pairs a second.

    Attributes:
        value: the likely one; of a measurement the median of its repeats.
        low, high: the range.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_rounded(self.value)} ({_rounded(self.low)} to {_rounded(self.high)})"


def pairs_per_s(
    encoder: models.Encoder,
    *,
    size_px: int,
    batch: int,
    bf16: bool = False,
    channels_last: bool = False,
    seconds: float = 1.0,
    repeats: int = 3,
    seed: int = 0,
) -> Rate:
    """Pairs that this machine's CPU trains on in a second: views, query, key, loss, backward, step.

    Args:
        encoder: copied, not changed.
        size_px: side of the chips and of their views.
        batch: pairs a step.
        bf16: autocast to it, else float32.
        channels_last: the order of the numbers in memory.
        seconds: of one repeat, at least; one step at least.
        repeats: how many times it is measured, after a step that warms up.
        seed: of chips and views.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    moco = (
        models.MoCo(copy.deepcopy(encoder), queue=1024, seed=seed).to(memory_format=layout).train()
    )
    learned = [p for p in moco.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, 1e-3, fused=fused(learned[0].device))
    generator, views = torch.Generator().manual_seed(seed), Views(size_px=size_px)
    size = (batch, encoder.bands, size_px, size_px)
    chips = torch.randint(256, size, generator=generator).to(torch.uint8)
    mean, std = (torch.full((encoder.bands,), value) for value in (127.0, 74.0))

    def step() -> None:
        a, b = (views(chips, mean=mean, std=std, generator=generator) for _ in range(2))
        moco.update_key()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            _, query = moco.query(a.contiguous(memory_format=layout))
            key = moco.key(b.contiguous(memory_format=layout))
        losses.info_nce(query.float(), key.float(), moco.queue).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    rates = []
    with few_threads(encoder, bf16=bf16), memory.kept():  # as `geossl.pretrain` does
        step()
        for _ in range(repeats):
            steps, began = 0, time.perf_counter()
            while not steps or time.perf_counter() - began < seconds:
                step()
                steps += 1
            rates.append(steps * batch / (time.perf_counter() - began))
    return Rate(float(np.median(rates)), min(rates), max(rates))


def gflop_per_pair(encoder: models.Encoder, *, size_px: int) -> float:
    """10^9 multiplications and additions that one pair costs, counted on tensors without numbers.

    Query forward and backward, key forward; convolutions and matrix products only.
    """
    from torch.utils.flop_counter import FlopCounterMode

    moco = models.MoCo(copy.deepcopy(encoder), queue=1).to("meta").train()
    x = torch.empty(2, encoder.bands, size_px, size_px, device="meta")
    with FlopCounterMode(display=False) as counter:
        _, query = moco.query(x)
        moco.key(x)
        query.sum().backward()
    return counter.get_total_flops() / len(x) / 1e9


def on_card(tflops: float, gflop: float, *, share: tuple[float, float, float]) -> Rate:
    """Pairs a second of a GPU, by its data sheet and an assumed share of it; nothing is measured.

    Args:
        tflops: 10^12 operations a second of the data sheet.
        gflop: 10^9 operations of a pair.
        share: likely, lowest and highest share of the sheet that a training reaches.
    """
    return Rate(*(part * tflops * 1000 / gflop for part in share))


def plan(rates: Mapping[str, tuple[Rate, float]], *, pairs: float) -> pd.DataFrame:
    """Time and money of a training on some machines.

    Args:
        rates: machine -> its rate, and what an hour of it costs in dollars (nan: not counted).
        pairs: of the whole training.

    Returns:
        Columns ``machine, pairs/s, time, dollars``; in words, with the range in brackets.
    """
    lines = []
    for name, (rate, price) in rates.items():
        hours = [pairs / value / 3600 for value in (rate.value, rate.high, rate.low)]
        cost = "–"
        if np.isfinite(price):
            likely, least, most = (f"{_rounded(price * hour)}" for hour in hours)
            cost = f"{likely} ({least} to {most})"
        likely, least, most = map(duration, hours)
        lines.append([name, str(rate), f"{likely} ({least} to {most})", cost])
    return pd.DataFrame(lines, columns=["machine", "pairs/s", "time", "dollars"])


def duration(hours: float) -> str:
    """Hours in words, in a unit that fits, to two digits."""
    name, size = next((u for u in _UNITS if hours >= 1.5 * u[1]), _UNITS[-1])
    return f"{_rounded(hours / size)} {name}"


def bf16_gap(value: float) -> float:
    """The distance from a number > 0 to the next larger one in bf16."""
    here = torch.tensor(value, dtype=torch.bfloat16)
    return float(torch.nextafter(here, torch.tensor(torch.inf, dtype=torch.bfloat16)) - here)


def _rounded(value: float) -> str:
    """To two digits, as people say it: 1,200, 35, 0.42."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    digits = 1 - int(np.floor(np.log10(abs(value))))
    return f"{round(value, digits):,.{max(0, digits)}f}"
