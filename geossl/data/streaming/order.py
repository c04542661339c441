"""Order the pairs of a stream at random, and yet so that each location is read once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geossl.utils.validate import NonNegative, PositiveInt, validated

__all__ = ["arrange"]

_MAX_LANES = 64  # parts of a stream that a batch is taken from


@validated
def arrange(
    location: Tensor,
    chunk: Tensor,
    size: Tensor,
    *,
    batch_size: PositiveInt,
    mix_bytes: NonNegative,
    generator: torch.Generator,
) -> Tensor:
    """Return an order in which the pairs of a location are close together, and mixed.

    Chunks are put in random order, as are the locations of each, and the row of all locations is
    cut into lanes with the same number of pairs. In each lane a pair moves back at random, by at
    most ``mix_bytes`` over the number of lanes; a batch takes equally many pairs from each lane. So
    equal parts of all batches, the shares of ranks, come from locations of their own (except where
    lanes meet), and the order does not depend on the number of ranks.

    Args:
        location: ``(N,)`` of each pair; N is a multiple of ``batch_size``.
        chunk: ``(L,)`` of each location, ascending.
        size: ``(L,)`` bytes of each location.
        batch_size: pairs taken together.
        mix_bytes: bytes of locations that are mixed, over all lanes.
        generator: of the order.

    Returns:
        ``(N,)`` numbers of pairs.

    Source:
        Ours. Fixed lanes, for an order that any number of ranks can share, follow the canonical
        nodes of mosaicml-streaming.
    """
    chunk_rank = torch.randperm(int(chunk[-1]) + 1, generator=generator)[chunk]
    within = torch.rand(len(chunk), generator=generator, dtype=torch.float64)
    order = (chunk_rank + within).argsort()
    used = torch.bincount(location, minlength=len(size)) > 0
    size = torch.where(used, size, 0)[order]
    offset = torch.empty(len(size), dtype=torch.float64)
    offset[order] = (size.cumsum(0) - size).double()  # bytes that are read before a location
    lanes = math.gcd(batch_size, _MAX_LANES)
    position = offset[location]  # (N,)
    lane = position.argsort(stable=True).reshape(lanes, -1)
    back = torch.rand(lane.shape, generator=generator, dtype=torch.float64) * (mix_bytes / lanes)
    lane = lane.gather(1, (position[lane] + back).argsort(dim=1))
    return lane.reshape(lanes, -1, batch_size // lanes).transpose(0, 1).flatten()
