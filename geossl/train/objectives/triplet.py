"""Triplets of an anchor, a neighbor and a distant image."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.models.moco import MoCo
from geossl.train.objectives.base import (
    Batch,
    Objective,
    check_extent,
    great_circle_km,
    training_positions,
)
from geossl.utils.validate import NonNegative, validated


class Triplet(Objective):
    """Tile2Vec: the embedding of a neighbor shall be nearer than that of a distant image.

    The pairs say what a neighbor is: ``pairs=geossl.pairs.spatial(radius_km=10)``. The distant
    image is another query of the batch, of a process's share under ``torchrun``.

    Args:
        margin: by how much nearer, in units of the embedding.
        min_km: how far a distant image is at least; an anchor without one in its batch is left out.
        l2: penalty on the length of the embeddings.
        weight: factor of the loss.

    Source:
        Tile2Vec, arXiv 1805.02855, Eq. 1 and 2, and its released code for the margin and the
        penalty. There the distant tile is drawn from the whole set.
    """

    name, views = "triplet", 2

    @validated
    def __init__(
        self,
        *,
        margin: NonNegative = 10.0,
        min_km: NonNegative = 100.0,
        l2: NonNegative = 0.01,
        weight: NonNegative = 1.0,
    ):
        self.margin, self.min_km, self.l2, self.weight = margin, min_km, l2, weight
        self.settings = {"margin": margin, "min_km": min_km, "l2": l2}

    def prepare(self, table: pd.DataFrame) -> Tensor:
        """Return the positions ``(M, 3)`` of the chips."""
        positions = training_positions(table, self.name)
        check_extent(positions, "min_km", self.min_km)
        return positions

    def loss(self, model: MoCo, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss of this process's queries, and the share whose neighbor is nearer."""
        anchor = batch.embedding
        neighbor, _ = model.query(batch.views[1])  # (n, E)
        position = batch.targets[self.name][batch.mine]  # (n, 3)
        allowed = great_circle_km(position, position) >= self.min_km
        choice = next_allowed(allowed)  # (n,)
        distant, has_one = anchor[choice], allowed.any(1)
        gap = (anchor - neighbor.float()).norm(dim=1) - (anchor - distant).norm(dim=1)
        length = sum(x.norm(dim=1) for x in (anchor, neighbor.float(), distant))
        value = F.relu(gap + self.margin) + self.l2 * length
        count = has_one.sum().clamp(min=1)
        return (value * has_one).sum() / count, {"accuracy": ((gap < 0) & has_one).sum() / count}


def next_allowed(allowed: Tensor) -> Tensor:
    """Return for each row of ``(n, n)`` the next allowed column after the diagonal, round about.

    Example:
        >>> next_allowed(torch.tensor([[0, 0, 1], [1, 0, 1], [0, 0, 0]]).bool()).tolist()
        [2, 2, 2]
    """
    row = torch.arange(len(allowed), device=allowed.device)
    steps = (row[None, :] - row[:, None]) % len(allowed)  # from the diagonal to the right
    return (
        steps.masked_fill(~allowed | (steps == 0), len(allowed))
        .argmin(1)
        .where(allowed.any(1), row)
    )
