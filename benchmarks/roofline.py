"""Roofline of a GPU: operations and bytes of one training step, and the limits of the card."""

from __future__ import annotations

import re
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from geossl import PretrainConfig, losses, models

# words of the card's name -> dense bf16 TFLOP/s and memory TB/s of NVIDIA's data sheets; the first
# match counts
CARDS = {
    "H100 PCIe": (756, 2.0),
    "H100 NVL": (835, 3.9),
    "H100": (989, 3.35),
    "H200": (989, 4.8),
    "B200": (2250, 8.0),
    "A100 40GB": (312, 1.555),
    "A100 PCIe": (312, 1.935),
    "A100": (312, 2.039),
    "L40S": (362, 0.864),
    "L4": (121, 0.3),
}
_BYTES = 2  # of a bf16 number


class _Counter(TorchDispatchMode):
    """Count the operations and the fewest bytes of every convolution and matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[tuple[float, float]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
            moved = _BYTES * sum(t.numel() for t in tensors)
            self.counts.append((formula(*args, **kwargs, out_val=out), moved))
        return out


def count_step(
    config: PretrainConfig, *, batch_size: int, size_px: int
) -> list[tuple[float, float]]:
    """Return (operations, bytes) of each convolution and product of a step, by counting.

    A step is query, key, loss and backward. Bytes: every input read once, every output written once,
    in bf16. What lies between two of them (batch norm, ReLU, additions) could be fused with them and
    counts as nothing, as does the optimizer. Nothing is computed.
    """
    encoder = models.build_encoder(config.encoder, stem=config.stem)
    moco = models.MoCo(encoder, queue_size=config.queue_size).to("meta").train()
    x = torch.empty(batch_size, 3, size_px, size_px, device="meta")
    with _Counter() as counter:  # not moco.query: autocast does not know the device "meta"
        query = moco.head(encoder(x))
        with torch.no_grad():
            key = F.normalize(moco.key_head(moco.key_encoder(x)), dim=1)
        losses.info_nce(query, key, moco.queue).backward()
    return counter.counts


def floor_s(counts: list[tuple[float, float]], tflops: float, tb_per_s: float) -> float:
    """Return the seconds a card needs at least: arithmetic or memory limits each operation."""
    return sum(max(flops / tflops, moved / tb_per_s) for flops, moved in counts) / 1e12


def card(name: str) -> str | None:
    """Return the entry of `CARDS` for the name that CUDA gives a GPU; None if it is not listed."""
    words = set(re.findall(r"\w+", name.lower()))
    return next((key for key in CARDS if set(key.lower().split()) <= words), None)


def ceilings(device: torch.device, *, small: bool) -> tuple[float, float]:
    """Measure TFLOP/s of a large bf16 matrix product and TB/s of a large copy (read and write)."""
    side, length = (256, 2**20) if small else (8192, 2**31)
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    here, there = (
        torch.randint(256, (length,), dtype=torch.uint8, device=device) for _ in range(2)
    )

    def seconds(work: Any, repeats: int = 20) -> float:
        work()
        synchronize(device)
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize(device)
        return (time.perf_counter() - began) / repeats

    product, copy = seconds(lambda: a @ b), seconds(lambda: here.copy_(there))
    return 2 * side**3 / product / 1e12, 2 * length / copy / 1e12


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
