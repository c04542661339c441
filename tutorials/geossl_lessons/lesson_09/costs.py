"""What lesson 09 counts: arithmetic, time and money."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from geossl import models
from geossl.train.throughput import Throughput, format_rate

# Dense bf16 TFLOP/s of NVIDIA's data sheets (no sparsity), as in benchmarks/roofline.py.
CARDS = {"L4": 121.0, "A100": 312.0, "H100": 989.0}
_UNITS = (("years", 24 * 365.25), ("days", 24.0), ("hours", 1.0), ("minutes", 1 / 60))


def gflop_per_pair(encoder: models.Encoder, *, size_px: int) -> float:
    """10^9 multiplications and additions that one pair costs, counted on tensors without numbers.

    Query forward and backward, key forward; convolutions and matrix products only.
    """
    from torch.utils.flop_counter import FlopCounterMode

    moco = models.MoCo(copy.deepcopy(encoder), queue_size=1).to("meta").train()
    x = torch.empty(2, encoder.bands, size_px, size_px, device="meta")
    with FlopCounterMode(display=False) as counter:
        _, query = moco.query(x)
        moco.key(x)
        query.sum().backward()
    return counter.get_total_flops() / len(x) / 1e9


def on_card(tflops: float, gflop: float, *, share: tuple[float, float, float]) -> Throughput:
    """Pairs a second of a GPU, by its data sheet and an assumed share of it; nothing is measured.

    Args:
        tflops: 10^12 operations a second of the data sheet.
        gflop: 10^9 operations of a pair.
        share: likely, lowest and highest share of the sheet that a training reaches.
    """
    return Throughput(*(part * tflops * 1000 / gflop for part in share))


def plan(rates: Mapping[str, tuple[Throughput, float]], *, pairs: float) -> pd.DataFrame:
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
            likely, least, most = (f"{format_rate(price * hour)}" for hour in hours)
            cost = f"{likely} ({least} to {most})"
        likely, least, most = map(duration, hours)
        lines.append([name, str(rate), f"{likely} ({least} to {most})", cost])
    return pd.DataFrame(lines, columns=["machine", "pairs/s", "time", "dollars"])


def duration(hours: float) -> str:
    """Hours in words, in a unit that fits, to two digits."""
    name, size = next((u for u in _UNITS if hours >= 1.5 * u[1]), _UNITS[-1])
    return f"{format_rate(hours / size)} {name}"


def bf16_gap(value: float) -> float:
    """The distance from a number > 0 to the next larger one in bf16."""
    here = torch.tensor(value, dtype=torch.bfloat16)
    return float(torch.nextafter(here, torch.tensor(torch.inf, dtype=torch.bfloat16)) - here)
