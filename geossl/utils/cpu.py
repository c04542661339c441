"""Choose how many threads train on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def single_threaded(encoder: nn.Module, *, bf16: bool) -> Iterator[None]:
    """Train "tiny" and "small" in bf16 on a CPU with one thread.

    oneDNN's threads wait for each other by spinning. In layers this small a second thread gains
    nothing on idle cores (1,100 pairs/s, one has 1,190). On cores with other work two fall to 320
    and 30 pairs/s (one and three other programs), where one keeps 1,160. ResNets gain from threads.

    Args:
        encoder: a `geossl.models.Encoder`.
        bf16: whether it trains in bf16.
    """
    threads = torch.get_num_threads()
    on_cpu = next(encoder.parameters()).device.type == "cpu"
    alone = bf16 and getattr(encoder, "name", "") in ("tiny", "small") and on_cpu and threads > 1
    if alone:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if alone:
            torch.set_num_threads(threads)
