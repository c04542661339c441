"""InfoNCE with a queue of negatives, which may count by their distance on the ground."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from geossl import losses
from geossl.data import scenes
from geossl.models.moco import MoCo
from geossl.train.objectives.base import (
    Batch,
    Objective,
    check_extent,
    great_circle_km,
    training_positions,
)
from geossl.utils import dist
from geossl.utils.validate import NonNegative, Positive, validated


class Contrastive(Objective):
    """InfoNCE of each query against its key and a queue of negatives.

    Args:
        temperature: of the softmax.
        mask_same_location: queue entries of the query's own location are no negatives.
        min_negative_km: nor are those nearer than this on the ground.
        negative_scale_km: in the softmax, a negative at a distance of d km counts as
            ``1 - exp(-d / negative_scale_km)`` of one; None: all count alike.
        weight: alpha of the paper.

    Source:
        MoCo-v2, arXiv 2003.04297; what depends on locations is ours: near places look alike.

    Example:
        >>> Contrastive(min_negative_km=50).settings["min_negative_km"]
        50
    """

    name, views, allows_shuffled_keys = "contrastive", 2, True

    @validated
    def __init__(
        self,
        *,
        temperature: Positive = 0.2,
        mask_same_location: bool = True,
        min_negative_km: NonNegative = 0.0,
        negative_scale_km: Positive | None = None,
        weight: NonNegative = 1.0,
    ):
        self.temperature, self.mask_same_location = temperature, mask_same_location
        self.min_negative_km, self.negative_scale_km = min_negative_km, negative_scale_km
        self.weight = weight
        self.settings = {"temperature": temperature, "mask_same_location": mask_same_location}
        if min_negative_km or negative_scale_km:
            self.settings |= {
                "min_negative_km": min_negative_km,
                "negative_scale_km": negative_scale_km,
            }

    def prepare(self, table: pd.DataFrame) -> Tensor | None:
        """Return the positions ``(M, 3)`` of the chips, if distances count."""
        if not self.min_negative_km and self.negative_scale_km is None:
            return None
        positions = training_positions(table, self.name)
        check_extent(positions, "min_negative_km", self.min_negative_km)
        self._of_location = positions[scenes.first_rows(scenes.location_codes(table))]  # (L, 3)
        return positions

    def loss(self, model: MoCo, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return InfoNCE, and the share of queries whose key is nearer than every negative."""
        if batch.part == 0:
            model.update_key()
        keys = dist.all_gather(model.key(batch.views[1]), batch.size)  # (N, D)
        if batch.key_order is not None:
            keys = torch.empty_like(keys).index_copy_(0, batch.key_order, keys)
        self._keys = keys
        mask = None
        if self.mask_same_location:
            own = batch.location[batch.mine]
            mask = losses.same_location(own, model.queue_location)  # (n, K)
        logits = losses.contrastive_logits(
            batch.projection,
            keys[batch.mine],
            model.queue,
            temperature=self.temperature,
            mask=mask,
        )  # (n, 1 + K)
        if self.name in batch.targets:
            logits[:, 1:] += self._log_counts(batch.targets[self.name][batch.mine], model)
        hit = logits[:, 0] > logits[:, 1:].amax(1)
        return losses.info_nce_from_logits(logits), {"accuracy": hit.float().mean()}

    def _log_counts(self, position: Tensor, model: MoCo) -> Tensor:
        """Return the log of how much each negative counts ``(n, K)``, for positions ``(n, 3)``."""
        self._of_location = self._of_location.to(position)
        in_queue = self._of_location[model.queue_location.clamp(min=0)]  # (K, 3)
        km = great_circle_km(position, in_queue)
        counts = torch.ones_like(km)
        if self.negative_scale_km is not None:
            counts = -torch.expm1(-km / self.negative_scale_km)
        counts = counts.masked_fill(km < self.min_negative_km, 0)
        return counts.masked_fill(model.queue_location < 0, 1).log()  # random ones, at the start

    def after_backward(self, model: MoCo, batch: Batch) -> None:
        """Put the keys in place of the oldest ones of the queue."""
        model.enqueue(self._keys, batch.location)
