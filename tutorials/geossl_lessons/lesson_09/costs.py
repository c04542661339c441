"""Operations, time and money of a training."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from geossl import models
from geossl.train.throughput import Throughput
from geossl.utils.progress import format_duration, format_rate
from geossl.utils.validate import Positive, PositiveInt, validated

# Dense bf16 TFLOP/s of NVIDIA's data sheets (no sparsity), as in benchmarks/roofline.py.
CARDS = {"L4": 121.0, "A100": 312.0, "H100": 989.0}


@validated
def count_gflop_per_pair(encoder: models.Encoder, *, size_px: PositiveInt) -> float:
    """Count the 10^9 multiplications and additions of one pair, without computing anything.

    Query forward and backward, key forward; convolutions and matrix products only.
    """
    from torch.utils.flop_counter import FlopCounterMode

    moco = models.MoCo(copy.deepcopy(encoder), queue_size=1).to("meta").train()
    x = torch.empty(2, encoder.bands, size_px, size_px, device="meta")
    with FlopCounterMode(display=False) as counter:  # autocast in moco.query does not know "meta"
        moco.head(moco.encoder(x)).sum().backward()
        with torch.no_grad():
            moco.key_head(moco.key_encoder(x))
    return counter.get_total_flops() / len(x) / 1e9


@validated
def estimate_throughput(
    tflops: Positive, gflop: Positive, *, share: tuple[Positive, Positive, Positive]
) -> Throughput:
    """Estimate the pairs per second of a GPU from its data sheet.

    Args:
        tflops: 10^12 operations per second of the data sheet.
        gflop: 10^9 operations of a pair.
        share: of the data sheet that a training reaches: likely, lowest, highest.
    """
    return Throughput(*(part * tflops * 1000 / gflop for part in share))


def plan_training(rates: Mapping[str, tuple[Throughput, float]], *, pairs: float) -> pd.DataFrame:
    """Write the time and money of a training of so many pairs in words, with ranges in brackets.

    ``rates`` holds for each machine its rate, and the dollars per hour (nan: not counted). Returns
    ``machine, pairs/s, time, dollars``.
    """
    lines = []
    for name, (rate, price) in rates.items():
        seconds = [pairs / value for value in (rate.value, rate.high, rate.low)]
        cost = "–"
        if np.isfinite(price):
            cost = "{} ({} to {})".format(*(format_rate(price * s / 3600) for s in seconds))
        duration = "{} ({} to {})".format(*map(format_duration, seconds))
        lines.append([name, str(rate), duration, cost])
    return pd.DataFrame(lines, columns=["machine", "pairs/s", "time", "dollars"])
