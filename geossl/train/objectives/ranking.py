"""Order the similarities of images as the distances on the ground."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.models.moco import MoCo
from geossl.train.objectives.base import Batch, Objective, great_circle_km, training_positions
from geossl.utils.validate import NonNegative, Positive, validated


class GeoRank(Objective):
    """Compare the ranks of similarities within the batch with those of great-circle distances.

    Added to a contrastive loss: ``objectives=[Contrastive(), GeoRank()]``. Nearer images shall be
    more similar, in order, not in degree. Equal distances have equal ranks. Under ``torchrun`` each
    process ranks its own share of the batch.

    Args:
        max_km: pairs of images farther apart do not count.
        margin: of a rank, in ranks of the batch: smaller differences cost nothing.
        softness: of the ranks, in units of the cosine similarity; small ones are nearly hard.
        weight: factor of the loss; the source weighs both losses by a half.

    Source:
        GeoRank, arXiv 2601.02289, and its code: mean squared difference of ranks that are divided
        by their norm, times that norm. Ours: a soft rank is a sum of sigmoids, not a projection.
    """

    name = "georank"

    @validated
    def __init__(
        self,
        *,
        max_km: Positive = 3_000.0,
        margin: NonNegative = 0.0,
        softness: Positive = 0.01,
        weight: NonNegative = 1.0,
    ):
        self.max_km, self.margin, self.softness, self.weight = max_km, margin, softness, weight
        self.settings = {"max_km": max_km, "margin": margin, "softness": softness}

    def prepare(self, table: pd.DataFrame) -> Tensor:
        """Return the positions ``(M, 3)`` of the chips."""
        return training_positions(table, self.name)

    def loss(self, model: MoCo, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss among this process's queries, and the rank correlation."""
        position = batch.targets[self.name][batch.mine]  # (n, 3)
        query = F.normalize(batch.projection, dim=1)
        count = len(query)
        others = ~torch.eye(count, dtype=torch.bool, device=query.device)
        similarity = (query @ query.T)[others].view(count, -1)  # (n, n - 1)
        km = great_circle_km(position, position)[others].view(count, -1)
        norm = torch.arange(1, count, device=query.device).float().norm()
        wanted = ranks(km)  # 1 is the nearest
        got = soft_ranks(-similarity, self.softness)
        error = (
            got / got.norm(dim=1, keepdim=True) - wanted / wanted.norm(dim=1, keepdim=True)
        ).square()
        counts = (km <= self.max_km) & (error > (self.margin / norm) ** 2)
        near = (km <= self.max_km).sum().clamp(min=1)
        correlation = F.cosine_similarity(
            got.detach() - got.detach().mean(1, keepdim=True),
            wanted - wanted.mean(1, keepdim=True),
        )
        return (error * counts).sum() / near * norm, {"correlation": correlation.mean()}


def ranks(values: Tensor) -> Tensor:
    """Return the rank of each value in its row ``(N, M)``, 1 for the least; ties share."""
    ordered = values.sort(1).values
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    return (below + not_above + 1).to(values.dtype) / 2


def soft_ranks(values: Tensor, softness: float) -> Tensor:
    """Return differentiable ranks ``(N, M)``: 1 and a sigmoid for each other value of the row."""
    gaps = (values[:, :, None] - values[:, None, :]) / softness  # (N, M, M)
    return 0.5 + torch.sigmoid(gaps).sum(2)  # a value adds a half against itself
