"""Predict where an image was taken, as a point on the sphere."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl.models.moco import MoCo
from geossl.train.objectives.base import Batch, Objective, training_positions
from geossl.utils.validate import NonNegative, validated


class GeoRegression(nn.Module, Objective):
    """Predict the position of each query: 1 - cosine to its unit vector.

    It needs no clusters and has no edges, as geo clusters have; but where two places far apart look
    alike, it is drawn to a point between them.

    Args:
        weight: factor of the loss.

    Source:
        Ours, in place of the cross-entropy of arXiv 2011.09980, Eq. 3.
    """

    name = "position"

    @validated
    def __init__(self, *, weight: NonNegative = 1.0):
        super().__init__()
        self.weight = weight

    def prepare(self, table: pd.DataFrame) -> Tensor:
        """Return the positions ``(M, 3)`` of the chips."""
        return training_positions(table, self.name)

    def setup(self, model: MoCo) -> None:
        """Build the head: a linear layer on the embedding."""
        self.head = nn.Linear(model.encoder.embedding_dim, 3)

    def loss(self, model: MoCo, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean of 1 - cosine, and the mean error in degrees of arc."""
        position = batch.targets[self.name][batch.mine]  # (n, 3)
        cosine = (F.normalize(self.head(batch.embedding), dim=1) * position).sum(1)
        degrees = torch.rad2deg(torch.acos(cosine.detach().clamp(-1, 1)))
        return (1 - cosine).mean(), {"error_deg": degrees.mean()}
