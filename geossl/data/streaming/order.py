"""The order in which pairs are taken from a stream: random, and yet each place is read once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LANES = 64  # parts of a stream at most that a batch is taken from


def arrange(
    location: Tensor,
    chunk: Tensor,
    size: Tensor,
    *,
    batch_size: int,
    mix: float,
    generator: torch.Generator,
) -> Tensor:
    """An order of pairs in which the pairs of a location come near each other, and mixed.

    The chunks are put in a random order, the locations within them too, and the row of all
    locations is cut into lanes of equally many pairs. In each lane a pair moves back at random, by
    ``mix`` bytes of locations over the number of lanes at most; a batch takes as many pairs from
    each lane. So consecutive parts of all batches, the shares of ranks, come from locations of
    their own (but for those where lanes meet), and the order does not depend on how many ranks
    there are.

    Args:
        location: ``(N,)`` of each pair; N is a multiple of ``batch_size``.
        chunk: ``(L,)`` of each location; they ascend.
        size: ``(L,)`` bytes of each location.
        batch_size: pairs taken together.
        mix: bytes of locations that are mixed, over all lanes.
        generator: of the order.

    Returns:
        ``(N,)`` numbers of pairs.

    Source:
        Ours. Fixed lanes, for an order that any number of ranks can share, after the canonical
        nodes of mosaicml-streaming.
    """
    turn = torch.randperm(int(chunk[-1]) + 1, generator=generator)[chunk]
    within = torch.rand(len(chunk), generator=generator, dtype=torch.float64)
    order = (turn + within).argsort()
    asked = torch.bincount(location, minlength=len(size)) > 0
    size = torch.where(asked, size, 0)[order]
    before = torch.empty(len(size), dtype=torch.float64)
    before[order] = (size.cumsum(0) - size).double()  # bytes that are read before a location
    lanes = math.gcd(batch_size, LANES)
    position = before[location]  # (N,)
    lane = position.argsort(stable=True).reshape(lanes, -1)
    back = torch.rand(lane.shape, generator=generator, dtype=torch.float64) * (mix / lanes)
    lane = lane.gather(1, (position[lane] + back).argsort(dim=1))
    return lane.reshape(lanes, -1, batch_size // lanes).transpose(0, 1).flatten()
