"""Match images with their positions, by an encoder of locations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl.models.location_encoder import LocationEncoder
from geossl.models.moco import MoCo
from geossl.train.objectives.base import Batch, Objective, training_positions
from geossl.utils.validate import NonNegative, Positive, PositiveInt, Seed, validated


class LocationContrastive(nn.Module, Objective):
    """Find the position of each image among those of the batch, and its image by each position.

    Under ``torchrun`` each process looks among its own share of the batch.
    The encoder of locations can be mapped and probed by itself:
    ``objective.encoder.embed(scenes)``.

    Args:
        features: of positions, see `geossl.models.LocationEncoder`, like the next one.
        degree: likewise.
        temperature: of both softmaxes.
        weight: factor of the loss.
        seed: of the location encoder's weights.

    Source:
        SatCLIP, arXiv 2311.17179 (spherical harmonics); GeoCLIP, arXiv 2309.16020 (random Fourier
        features). Ours: a fixed temperature, a small network, and images of one location in a batch
        are no negatives of each other.
    """

    name = "satclip"

    @validated
    def __init__(
        self,
        *,
        features: Literal["harmonics", "fourier"] = "harmonics",
        degree: PositiveInt = 10,
        temperature: Positive = 0.1,
        weight: NonNegative = 1.0,
        seed: Seed = 0,
    ):
        super().__init__()
        self.temperature, self.weight = temperature, weight
        self._options: dict[str, Any] = {"features": features, "degree": degree, "seed": seed}
        self.settings = {"temperature": temperature, **self._options}

    def prepare(self, table: pd.DataFrame) -> Tensor:
        """Return the positions ``(M, 3)`` of the chips."""
        return training_positions(table, self.name)

    def setup(self, model: MoCo) -> None:
        """Build the encoder of locations, as wide as a projection."""
        self.encoder = LocationEncoder(model.queue.shape[1], **self._options)

    def loss(self, model: MoCo, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean of both cross-entropies, and how often the position is found."""
        location = F.normalize(self.encoder(batch.targets[self.name][batch.mine]), dim=1)
        logits = F.normalize(batch.projection, dim=1) @ location.T / self.temperature  # (n, n)
        code = batch.location[batch.mine]
        same = (code[:, None] == code[None]).fill_diagonal_(False)
        logits = logits.masked_fill(same, -torch.inf)
        target = torch.arange(len(logits), device=logits.device)
        value = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        return value, {"accuracy": (logits.argmax(1) == target).float().mean()}
