"""Measures of vectors: pure functions of tensors.

Shapes: M vectors, Q queries, E embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CELLS = 2**24  # similarities held at a time
_EQUAL = 1e-6  # cosine similarities of float32 vectors this close are the same


def accuracy(logits: Tensor, target: Tensor) -> Tensor:
    """Share of ``(N, G)`` logits whose largest is ``(N,)`` target; targets of -1 are left out."""
    known = target >= 0
    return ((logits.argmax(1) == target) & known).sum() / known.sum().clamp(min=1)


def knn_predict(
    train: Tensor, train_codes: Tensor, test: Tensor, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Classes by a weighted vote of the k nearest neighbours in cosine similarity.

    Args:
        train: ``(M, E)``.
        train_codes: ``(M,)`` int64 classes, >= 0.
        test: ``(Q, E)``.
        k: neighbours; all of them when fewer.
        temperature: a neighbour's vote weighs ``exp(similarity / temperature)``.

    Returns:
        ``(Q,)`` int64 classes; the lower class when votes are equal.

    Raises:
        ValueError: there is no training vector, or ``k < 1``.

    Source:
        Wu et al., arXiv 1805.01978, section 3.4.
    """
    if len(train) == 0:
        raise ValueError("expected training vectors for the kNN, came none")
    if k < 1:
        raise ValueError(f"expected k >= 1 neighbours, came {k}")
    train, test = F.normalize(train.float(), dim=1), F.normalize(test.float(), dim=1)
    classes = int(train_codes.max()) + 1
    guesses = []
    for part in test.split(_rows(train)):
        similarity, near = (part @ train.T).topk(min(k, len(train)), dim=1)
        votes = torch.zeros(len(part), classes, device=test.device)
        votes.scatter_add_(1, train_codes[near], torch.exp((similarity - 1) / temperature))
        guesses.append(votes.argmax(1))
    return torch.cat(guesses)


def ranks(
    query: Tensor, gallery: Tensor, query_codes: Tensor, gallery_codes: Tensor
) -> tuple[Tensor, Tensor]:
    """Where in the gallery, sorted by cosine similarity, each query finds the first of its own.

    Args:
        query: ``(Q, E)``.
        gallery: ``(M, E)``.
        query_codes: ``(Q,)`` int64, e.g. the location.
        gallery_codes: ``(M,)`` int64; entries with a query's code are the ones it should find.

    Returns:
        Ranks ``(Q,)`` int64, 0 when the most similar entry is one of its own, M when it has none;
        and the most similar entries ``(Q,)`` int64. Half of the others that are just as similar
        as the best of its own, rounded up, count as standing before it, so that collapsed
        (constant) vectors find nothing; nor do vectors with NaN.
    """
    query, gallery = F.normalize(query.float(), dim=1), F.normalize(gallery.float(), dim=1)
    found, nearest = [], []
    rows = _rows(gallery)
    for part, codes in zip(query.split(rows), query_codes.split(rows), strict=True):
        similarity = part @ gallery.T  # (q, M)
        own = codes[:, None] == gallery_codes[None]
        best = similarity.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        above = ~(own | (similarity <= best + _EQUAL))  # NaN is never in a query's favour
        equal = ~(own | above | (similarity < best - _EQUAL))
        rank = above.sum(1) + torch.div(equal.sum(1) + 1, 2, rounding_mode="floor")
        rank[~own.any(1) | best[:, 0].isnan()] = len(gallery)
        found.append(rank)
        nearest.append(similarity.argmax(1))
    return torch.cat(found), torch.cat(nearest)


def recall(rank: Tensor, *, k: int) -> Tensor:
    """Share of ``(Q,)`` ranks, as `ranks` gives them, that are among the first ``k``."""
    return (rank < k).float().mean()


def _rows(gallery: Tensor) -> int:
    return max(1, _CELLS // max(1, len(gallery)))


def feature_std(x: Tensor) -> Tensor:
    """Spread of vectors ``(M, E)`` made unit-norm: mean std of a coordinate, times sqrt(E).

    About 1 when they fill the sphere evenly, 0 when all are the same (collapse).
    """
    unit = F.normalize(x.float(), dim=1)
    return unit.std(0, correction=0).mean() * x.shape[1] ** 0.5


def effective_rank(x: Tensor) -> Tensor:
    """Number of directions that vectors ``(M, E)`` really use; 1 is collapse to a line.

    Source:
        Roy and Vetterli, "The effective rank", EUSIPCO 2007: exp of the entropy of the singular
        values, here of the centred vectors.
    """
    x = x.float()
    values = torch.linalg.svdvals(x - x.mean(0))
    share = values / values.sum().clamp(min=1e-12)
    return torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum())
