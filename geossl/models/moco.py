"""MoCo: a query encoder, its key (momentum) encoder, a queue of negatives, and class heads.

Shapes: N images, C bands, E embedding, D projection, K queue, G classes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from geossl.models.encoder import Encoder
from geossl.utils.validate import PositiveInt, Seed, check_choice, validated


class MoCo(nn.Module):
    """Query encoder, key encoder, projection heads, queue, and class heads.

    Args:
        query_encoder: the encoder to train; the key encoder starts as its copy.
        projection_dim: length D of a projection.
        queue_size: number K of negatives in the queue.
        momentum: of the key encoder's moving average.
        classes: sizes of the class heads by name, e.g. ``{"geo": 100}``.
        heads_on: where a class head sits, by name: "projection" (ReLU and a linear layer on the
            un-normalized projection, as released; the default) or "embedding" (a linear layer on
            it).
        seed: of the heads and of the queue's random start.

    Attributes:
        bf16: whether the encoders and heads compute in bf16 (autocast).
        objectives: further modules that are trained with the model.

    Source:
        MoCo-v2, arXiv 2003.04297; geo head: arXiv 2011.09980 and its released code.
    """

    queue: Tensor
    queue_location: Tensor

    @validated
    def __init__(
        self,
        query_encoder: Encoder,
        *,
        projection_dim: PositiveInt = 128,
        queue_size: PositiveInt = 65_536,
        momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.999,
        classes: Mapping[str, PositiveInt] | None = None,
        heads_on: Mapping[str, str] | None = None,
        seed: Seed = 0,
    ):
        super().__init__()
        self.momentum, self.heads_on = momentum, dict(heads_on or {})
        self.bf16 = False
        width = query_encoder.embedding_dim
        self.encoder = query_encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection_dim)
            )
            self.classifiers = nn.ModuleDict()
            for name, size in (classes or {}).items():
                on = self.heads_on.setdefault(name, "projection")
                check_choice(f"heads_on[{name!r}]", on, ("projection", "embedding"))
                linear = nn.Linear(projection_dim if on == "projection" else width, size)
                self.classifiers[name] = (
                    nn.Sequential(nn.ReLU(), linear) if on == "projection" else linear
                )
            start = F.normalize(torch.randn(queue_size, projection_dim), dim=1)
        self.objectives = nn.ModuleDict()
        self.key_encoder = copy.deepcopy(query_encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("queue", start)  # (K, D)
        self.register_buffer("queue_location", torch.full((queue_size,), -1))  # (K,)
        self.pointer = 0  # where the next key goes; a Python int, so that no step waits for a GPU

    def get_extra_state(self) -> dict[str, Any]:
        """Return the pointer, which travels in the state dict."""
        return {"pointer": self.pointer}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Set the pointer from a state dict."""
        self.pointer = int(state["pointer"])

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings ``(N, E)`` and projections ``(N, D)`` of views ``(N, C, H, W)``."""
        with self._autocast(x):
            embedding = self.encoder(x)
            return embedding, self.head(embedding)

    @torch.no_grad()
    def key(self, x: Tensor, *, order: Tensor | None = None) -> Tensor:
        """Return unit-norm keys ``(N, D)`` of views ``(N, C, H, W)``, without gradient.

        Args:
            x: the key views, row ``i`` for query ``i``.
            order: ``(N,)`` permutation in which they pass the network, so that parts of a split
                BatchNorm hold other images than the query's parts.
        """
        if order is not None:
            x = x[order]
        with self._autocast(x):
            projection = self.key_head(self.key_encoder(x))
        keys = F.normalize(projection.float(), dim=1)
        if order is None:
            return keys
        return torch.empty_like(keys).index_copy_(0, order, keys)

    @torch.no_grad()
    def embed_key(self, x: Tensor) -> Tensor:
        """Return the key encoder's embeddings ``(N, E)`` of views, without gradient."""
        with self._autocast(x):
            return self.key_encoder(x).to(self.queue.dtype)

    def classify(self, name: str, embedding: Tensor, projection: Tensor) -> Tensor:
        """Return the logits ``(N, G)`` of a class head."""
        features = projection if self.heads_on[name] == "projection" else embedding
        with self._autocast(features):
            return self.classifiers[name](features)

    @torch.no_grad()
    def update_key(self) -> None:
        """Move the key encoder: ``key = momentum * key + (1 - momentum) * query``."""
        for slow, fast in ((self.key_encoder, self.encoder), (self.key_head, self.head)):
            keys: list[Tensor] = list(slow.parameters())
            queries: list[Tensor] = list(fast.parameters())
            torch._foreach_lerp_(keys, queries, 1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor, location: Tensor) -> None:
        """Replace the oldest keys by ``(N, D)`` new ones and their locations ``(N,)``; any N."""
        size = len(self.queue)
        keys, location = keys[-size:], location[-size:]
        first = min(len(keys), size - self.pointer)  # up to the end; the rest goes to the start
        self.queue[self.pointer : self.pointer + first] = keys[:first]
        self.queue_location[self.pointer : self.pointer + first] = location[:first]
        self.queue[: len(keys) - first] = keys[first:]
        self.queue_location[: len(keys) - first] = location[first:]
        self.pointer = (self.pointer + len(keys)) % size

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16)
