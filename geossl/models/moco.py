"""MoCo: a query encoder, its key encoder, a queue and class heads."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl.models.encoder import Encoder


class MoCo(nn.Module):
    """Query encoder, key (momentum) encoder, projection heads, queue, and class heads.

    Args:
        query_encoder: the encoder to train; the key encoder starts as its copy.
        dim: length D of a projection.
        queue: number K of negatives kept.
        momentum: of the key encoder's moving average, in [0, 1).
        classes: sizes of the class heads by name, e.g. ``{"geo": 100}``.
        heads_on: where a class head sits, by name: "projection" (ReLU and a linear layer on the
            un-normalized projection, as released) or "embedding" (a linear layer on it).
        seed: of the heads and of the queue's random start.

    Source:
        MoCo-v2, arXiv 2003.04297; geo head: arXiv 2011.09980 and its released code.
    """

    queue: Tensor
    queue_location: Tensor

    def __init__(
        self,
        query_encoder: Encoder,
        *,
        projection_dim: int = 128,
        queue_size: int = 65_536,
        momentum: float = 0.999,
        classes: dict[str, int] | None = None,
        heads_on: dict[str, str] | None = None,
        seed: int = 0,
    ):
        super().__init__()
        if queue_size < 1 or projection_dim < 1 or not 0 <= momentum < 1:
            raise ValueError(
                "expected queue >= 1, dim >= 1 and momentum in [0, 1), came "
                f"{queue_size}, {projection_dim} and {momentum}"
            )
        self.momentum, self.heads_on = momentum, dict(heads_on or {})
        width = query_encoder.width
        self.encoder = query_encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection_dim)
            )
            self.classifiers = nn.ModuleDict()
            for name, size in (classes or {}).items():
                on = self.heads_on.setdefault(name, "projection")
                if on not in ("projection", "embedding"):
                    raise ValueError(f"expected a head on projection or embedding, came {on!r}")
                linear = nn.Linear(projection_dim if on == "projection" else width, size)
                self.classifiers[name] = (
                    nn.Sequential(nn.ReLU(), linear) if on == "projection" else linear
                )
            start = F.normalize(torch.randn(queue_size, projection_dim), dim=1)
        self.key_encoder = copy.deepcopy(query_encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("queue", start)  # (K, D)
        self.register_buffer("queue_location", torch.full((queue_size,), -1))  # (K,)
        self.pointer = 0  # where the next key goes; a Python int, so that no step waits for a GPU

    def get_extra_state(self) -> dict[str, Any]:
        """The pointer travels in the state dict."""
        return {"pointer": self.pointer}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the pointer from a state dict."""
        self.pointer = int(state["pointer"])

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized views ``(N, C, H, W)`` -> embeddings ``(N, E)``, projections ``(N, D)``."""
        embedding = self.encoder(x)
        return embedding, self.head(embedding)

    @torch.no_grad()
    def key(self, x: Tensor, *, order: Tensor | None = None) -> Tensor:
        """Normalized views ``(N, C, H, W)`` -> unit-norm keys ``(N, D)``, without gradient.

        Args:
            x: the key views, row ``i`` for query ``i``.
            order: ``(N,)`` permutation in which they pass the network, so that parts of a split
                BatchNorm hold other images than the query's parts.
        """
        if order is not None:
            x = x[order]
        keys = F.normalize(self.key_head(self.key_encoder(x)).float(), dim=1)
        if order is None:
            return keys
        return torch.empty_like(keys).index_copy_(0, order, keys)

    def classify(self, name: str, embedding: Tensor, projection: Tensor) -> Tensor:
        """Logits ``(N, G)`` of a class head."""
        on = projection if self.heads_on[name] == "projection" else embedding
        return self.classifiers[name](on)

    @torch.no_grad()
    def update_key(self) -> None:
        """Move the key encoder: ``key = momentum * key + (1 - momentum) * query``."""
        for slow, fast in ((self.key_encoder, self.encoder), (self.key_head, self.head)):
            keys: list[Tensor] = list(slow.parameters())
            queries: list[Tensor] = list(fast.parameters())
            torch._foreach_lerp_(keys, queries, 1 - self.momentum)  # in one pass

    @torch.no_grad()
    def enqueue(self, keys: Tensor, location: Tensor) -> None:
        """Put keys ``(N, D)`` and their locations ``(N,)`` in place of the oldest; any N."""
        size = len(self.queue)
        keys, location = keys[-size:], location[-size:]
        first = min(len(keys), size - self.pointer)  # up to the end; the rest goes to the start
        self.queue[self.pointer : self.pointer + first] = keys[:first]
        self.queue_location[self.pointer : self.pointer + first] = location[:first]
        self.queue[: len(keys) - first] = keys[first:]
        self.queue_location[: len(keys) - first] = location[first:]
        self.pointer = (self.pointer + len(keys)) % size
