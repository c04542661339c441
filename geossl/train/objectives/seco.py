"""Seasonal contrast: three projections that ignore seasons, augmentation, or both."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl import losses
from geossl.models.moco import MoCo
from geossl.train.objectives.base import Batch, Objective, View
from geossl.utils import dist
from geossl.utils.validate import NonNegative, Positive, PositiveInt, Seed, validated


class SeCo(nn.Module, Objective):
    """InfoNCE in three spaces of projections, each with a head and a queue of its own.

    The query is a crop of a chip as it is. Its keys are another date, augmented (first space: what
    neither season nor augmentation changes), one more date, cropped only (second space: what the
    season does not change), and the query's own chip, augmented (third space: what the
    augmentation does not change). In the second and third space the other two kinds of keys in the
    batch, those of a process's share under ``torchrun``, are negatives too. The other dates are
    those of ``pairs=geossl.pairs.temporal()``.

    Args:
        temperature: of the softmax; the source's is 0.07.
        queue_size: number K of negatives in each queue; the source's is 16,384.
        mask_same_location: images of the query's own location are no negatives, except its own
            keys.
        weight: factor of the loss, the sum over the spaces.
        seed: of the queues' random start.

    Source:
        SeCo, arXiv 2103.16607, and its released code. There the dates of a pair are drawn with
        replacement, so that they may be one; here they are not, and the mask is ours.
    """

    queue: Tensor  # (3, K, D)
    queue_location: Tensor  # (K,)
    name = "seco"
    views = (
        View("query", augmented=False),
        View("key"),
        View("other key", augmented=False),
        View("query"),
    )

    @validated
    def __init__(
        self,
        *,
        temperature: Positive = 0.2,
        queue_size: PositiveInt = 1024,
        mask_same_location: bool = True,
        weight: NonNegative = 1.0,
        seed: Seed = 0,
    ):
        super().__init__()
        self.temperature, self.mask_same_location = temperature, mask_same_location
        self.weight, self._size, self._seed = weight, queue_size, seed
        self.settings = {
            "temperature": temperature,
            "queue_size": queue_size,
            "mask_same_location": mask_same_location,
            "seed": seed,
        }

    def setup(self, model: MoCo) -> None:
        """Build the heads of the second and third space, and all queues."""
        width, dim = model.encoder.embedding_dim, model.queue.shape[1]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim))
            for _ in range(2)
        )
        self.key_heads = copy.deepcopy(self.heads).requires_grad_(False)
        generator = torch.Generator().manual_seed(self._seed)
        start = torch.randn(3, self._size, dim, generator=generator)
        self.register_buffer("queue", F.normalize(start, dim=2))
        self.register_buffer("queue_location", torch.full((self._size,), -1))

    def loss(self, model: MoCo, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the sum of the three losses; how often the key is nearer than every negative."""
        if batch.part == 0:
            model.update_key()
            with torch.no_grad():
                torch._foreach_lerp_(
                    list(self.key_heads.parameters()),
                    list(self.heads.parameters()),
                    1 - model.momentum,
                )
        queries = [batch.projection, *(head(batch.embedding) for head in self.heads)]  # (n, D) each
        with torch.no_grad():
            embedded = [model.embed_key(view) for view in batch.views[1:]]  # (n, E) each
            keys = [
                [F.normalize(head(embedding), dim=1) for embedding in embedded]
                for head in (model.key_head, *self.key_heads)
            ]  # of each space and kind, (n, D)
        self._keys = torch.stack([dist.all_gather(keys[i][i], batch.size) for i in range(3)])
        own = batch.location[batch.mine]
        in_queue = losses.same_location(own, self.queue_location)  # (n, K)
        in_batch = losses.same_location(own, own).fill_diagonal_(False)  # (n, n)
        value, scores = batch.projection.new_zeros(()), {}
        for i, (space, query) in enumerate(zip(("both", "season", "color"), queries, strict=True)):
            others = [keys[i][j] for j in range(3) if j != i] if i > 0 else []
            logits = losses.contrastive_logits(
                query,
                keys[i][i],
                torch.cat([self.queue[i], *others]),
                temperature=self.temperature,
                mask=torch.cat([in_queue, *[in_batch] * len(others)], 1)
                if self.mask_same_location
                else None,
            )  # (n, 1 + K), and 2n more in the second and third space
            value = value + losses.info_nce_from_logits(logits)
            scores[f"{space}_accuracy"] = (logits[:, 0] > logits[:, 1:].amax(1)).float().mean()
        return value, scores

    def after_backward(self, model: MoCo, batch: Batch) -> None:
        """Put the keys in front of each queue, whose last ones drop out."""
        size = self._size
        self.queue = torch.cat([self._keys, self.queue], 1)[:, :size]
        self.queue_location = torch.cat([batch.location, self.queue_location])[:size]
