"""Losses: pure functions of tensors.

Shapes: N pairs, K queue entries, D projection, G geo clusters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.utils.validate import Positive, validated

__all__ = [
    "contrastive_logits",
    "geo_cross_entropy",
    "info_nce",
    "info_nce_from_logits",
    "same_location",
]


@validated
def contrastive_logits(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    *,
    temperature: Positive = 0.2,
    mask: Tensor | None = None,
) -> Tensor:
    """Return cosine similarities to the positive (column 0) and to the queue, over temperature.

    Args:
        query: ``(N, D)`` projections of the query views, any norm.
        key: ``(N, D)`` positives, row ``i`` for query ``i``; no gradient flows.
        queue: ``(K, D)`` unit-norm negatives; no gradient flows.
        temperature: dimensionless, > 0.
        mask: ``(N, K)`` bool, True where a queue entry is no negative for that query.

    Returns:
        ``(N, K + 1)`` float32 logits, ``-inf`` where masked.

    Raises:
        ValueError: shapes disagree, or ``temperature <= 0``.

    Source:
        MoCo, arXiv 1911.05722, Algorithm 1. The mask is ours: with several dates of a location the
        queue holds other images of it, which are positives in truth.
    """
    if query.shape != key.shape or query.ndim != 2 or queue.shape[1:] != query.shape[1:]:
        raise ValueError(
            "`query`, `key` and `queue` must have the shapes (N, D), (N, D) and (K, D), got "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(queue.shape)}."
        )
    query = F.normalize(query.float(), dim=1) / temperature  # fewer numbers than the logits
    key = F.normalize(key.detach().float(), dim=1)
    positive = (query * key).sum(1, keepdim=True)  # (N, 1)
    negative = query @ queue.detach().float().T  # (N, K)
    if mask is not None:
        if mask.shape != negative.shape:
            raise ValueError(
                f"`mask` must have the shape {tuple(negative.shape)} (N, K), got "
                f"{tuple(mask.shape)}."
            )
        negative.masked_fill_(mask, -torch.inf)
    return torch.cat([positive, negative], 1)  # (N, 1 + K)


@validated
def info_nce(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    *,
    temperature: Positive = 0.2,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the InfoNCE loss of each query against its positive key and a queue of negatives.

    Args:
        query: ``(N, D)`` projections of the query views, any norm.
        key: ``(N, D)`` positives, row ``i`` for query ``i``; no gradient flows.
        queue: ``(K, D)`` unit-norm negatives; no gradient flows.
        temperature: dimensionless, > 0.
        mask: ``(N, K)`` bool, True where a queue entry is no negative for that query.

    Returns:
        Scalar mean in nats; ``log(K + 1)`` when all similarities are equal and none is masked.

    Raises:
        ValueError: shapes disagree, or ``temperature <= 0``.

    Source:
        MoCo, arXiv 1911.05722, Algorithm 1; the default is v2's, arXiv 2003.04297. The paper's
        own temperature is 0.02 (arXiv 2011.09980).
    """
    return info_nce_from_logits(
        contrastive_logits(query, key, queue, temperature=temperature, mask=mask)
    )


@validated
def info_nce_from_logits(logits: Tensor) -> Tensor:
    """Return the mean of ``-log softmax(logits)[:, 0]`` of ``(N, K + 1)`` logits, in nats."""
    return (logits.logsumexp(1) - logits[:, 0]).mean()


@validated
def same_location(query_location: Tensor, queue_location: Tensor) -> Tensor:
    """Return which queue entries show the query's own location.

    Args:
        query_location: ``(N,)`` int64 location codes, >= 0.
        queue_location: ``(K,)`` int64 location codes; -1 where the queue is not filled yet.

    Returns:
        ``(N, K)`` bool.
    """
    return query_location[:, None] == queue_location[None, :]


@validated
def geo_cross_entropy(logits: Tensor, cluster: Tensor) -> Tensor:
    """Return the cross-entropy of predicting the geo cluster (or any class) of each query.

    Args:
        logits: ``(N, G)``.
        cluster: ``(N,)`` int64 in ``0..G-1``; -1 means unknown and is left out.

    Returns:
        Scalar mean in nats over the known ones; 0 when none is known.

    Raises:
        ValueError: shapes disagree.

    Source:
        Ayush et al., arXiv 2011.09980, Eq. 3.
    """
    if logits.ndim != 2 or cluster.shape != logits.shape[:1]:
        raise ValueError(
            "`logits` and `cluster` must have the shapes (N, G) and (N,), got "
            f"{tuple(logits.shape)} and {tuple(cluster.shape)}."
        )
    total = F.cross_entropy(logits.float(), cluster, ignore_index=-1, reduction="sum")
    return total / (cluster >= 0).sum().clamp(min=1)
