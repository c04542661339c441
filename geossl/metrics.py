"""Measures of vectors: pure functions of tensors.

Shapes: M vectors, Q queries, E embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 1024  # queries compared at a time


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
        ``(Q,)`` int64 classes.

    Raises:
        ValueError: there is no training vector.

    Source:
        Wu et al., arXiv 1805.01978, section 3.4.
    """
    if len(train) == 0:
        raise ValueError("expected training vectors for the kNN, came none")
    train, test = F.normalize(train.float(), dim=1), F.normalize(test.float(), dim=1)
    classes = int(train_codes.max()) + 1
    guesses = []
    for part in test.split(_ROWS):
        similarity, near = (part @ train.T).topk(min(k, len(train)), dim=1)
        votes = torch.zeros(len(part), classes, device=test.device)
        votes.scatter_add_(1, train_codes[near], torch.exp((similarity - 1) / temperature))
        guesses.append(votes.argmax(1))
    return torch.cat(guesses) if guesses else torch.zeros(0, dtype=torch.long)


def ranks(query: Tensor, gallery: Tensor, target: Tensor) -> Tensor:
    """Rank of each query's target among the gallery in cosine similarity; 0 is the nearest.

    Args:
        query: ``(Q, E)``.
        gallery: ``(M, E)``.
        target: ``(Q,)`` int64 row of the gallery that is wanted.

    Returns:
        ``(Q,)`` int64; equal similarities count half in favour, so that constant vectors give
        chance and no more.
    """
    query, gallery = F.normalize(query.float(), dim=1), F.normalize(gallery.float(), dim=1)
    found = []
    for part, wanted in zip(query.split(_ROWS), target.split(_ROWS), strict=True):
        similarity = part @ gallery.T
        own = similarity.gather(1, wanted[:, None])
        above, equal = (similarity > own).sum(1), (similarity == own).sum(1) - 1
        found.append(above + torch.div(equal + 1, 2, rounding_mode="floor"))
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.long)


def feature_std(x: Tensor) -> Tensor:
    """Spread of unit-norm vectors ``(M, E)``: mean standard deviation of a coordinate, times sqrt(E).

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
    values = torch.linalg.svdvals((x - x.mean(0)).float())
    share = values / values.sum().clamp(min=1e-12)
    return torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum())
