"""Measures of vectors: pure functions of tensors.

Shapes: M vectors, Q queries, E embedding; N chips, C classes, R resamples. Where a measure takes
``weights`` (R, N), how often each chip counts in each resample, it gives one figure a resample.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CELLS = 2**24  # similarities held at a time
_TINY = 1e-300  # keeps 0 / 0 from being nan
_EQUAL = 1e-6  # cosine similarities of float32 vectors this close are the same


def accuracy(logits: Tensor, target: Tensor) -> Tensor:
    """Share of ``(N, G)`` logits whose largest is ``(N,)`` target; targets of -1 are left out."""
    known = target >= 0
    return ((logits.argmax(1) == target) & known).sum() / known.sum().clamp(min=1)


def knn_votes(
    train: Tensor, train_codes: Tensor, test: Tensor, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Votes of the k nearest neighbors in cosine similarity, by class.

    Args:
        train: ``(M, E)``.
        train_codes: ``(M,)`` int64 classes, >= 0.
        test: ``(Q, E)``.
        k: neighbors; all of them when fewer.
        temperature: a neighbor's vote weighs ``exp((similarity - 1) / temperature)``.

    Returns:
        ``(Q, largest class + 1)`` float32, >= 0.

    Raises:
        ValueError: there is no training vector, or ``k < 1``.

    Source:
        Wu et al., arXiv 1805.01978, section 3.4.
    """
    if len(train) == 0:
        raise ValueError("expected training vectors for the kNN, came none")
    if k < 1:
        raise ValueError(f"expected k >= 1 neighbors, came {k}")
    train, test = F.normalize(train.float(), dim=1), F.normalize(test.float(), dim=1)
    classes = int(train_codes.max()) + 1
    found = []
    for part in test.split(_rows(train)):
        similarity, near = (part @ train.T).topk(min(k, len(train)), dim=1)
        vote = torch.exp((similarity - 1) / temperature)
        votes = torch.zeros(len(part), classes, device=test.device)
        found.append(votes.scatter_add_(1, train_codes[near], vote))
    return torch.cat(found)


def knn_predict(
    train: Tensor, train_codes: Tensor, test: Tensor, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Classes ``(Q,)`` int64 by `knn_votes`; the lower class when votes are equal."""
    return knn_votes(train, train_codes, test, k=k, temperature=temperature).argmax(1)


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
        above = ~(own | (similarity <= best + _EQUAL))  # NaN is never in a query's favor
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
        values, here of the centered vectors.
    """
    x = x.float()
    values = torch.linalg.svdvals(x - x.mean(0))
    share = values / values.sum().clamp(min=1e-12)
    return torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum())


def top_k_hits(scores: Tensor, target: Tensor, *, k: int) -> Tensor:
    """Whether the class ``(N,)`` is among the k of largest score ``(N, C)``, all >= 0: ``(N,)``.

    Of equal scores the lower class stands first, as in ``argmax``; one of 0 is never found.
    """
    own = scores.gather(1, target[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device) < target[:, None]
    rank = ((scores > own) | ((scores == own) & lower)).sum(1)
    return (rank < k) & (own[:, 0] > 0)


def macro_f1(truth: Tensor, guess: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Mean F1 over the classes that occur in the truth.

    Args:
        truth: ``(N,)`` int64 classes >= 0, or ``(N, C)`` bool where a chip can have several.
        guess: likewise.
        weights: ``(R, N)``, see above.

    Returns:
        Scalar, or ``(R,)``; nan without a chip.
    """
    if truth.ndim == 1:
        hits, classes = truth == guess, int(torch.cat([truth, guess]).max()) + 1
        each = _each(weights, truth)
        real, given = _sums(each, truth, classes), _sums(each, guess, classes)
        both = _sums(each[:, hits], truth[hits], classes)
    else:
        each = _each(weights, truth)
        real, given, both = (each @ t.double() for t in (truth, guess, truth & guess))  # (R, C)
    f1 = 2 * both / (real + given).clamp(min=_TINY)
    mean = f1.sum(1) / (real > 0).sum(1)  # a class without truth has an F1 of 0
    return mean[0] if weights is None else mean


def average_precision(scores: Tensor, truth: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Area under precision over recall of each class, without interpolation.

    Args:
        scores: ``(N, C)``; chips of equal score come in together.
        truth: ``(N, C)`` bool.
        weights: ``(R, N)``, see above.

    Returns:
        ``(C,)`` or ``(R, C)`` float64; nan for a class that no chip has.
    """
    n, classes = scores.shape
    order = scores.T.argsort(1, descending=True).contiguous()  # (C, N)
    ranked, true = scores.T.gather(1, order), truth.T.gather(1, order)
    end = torch.arange(n, device=scores.device).repeat(classes, 1)  # the last of equal scores
    end[:, :-1][ranked[:, :-1] == ranked[:, 1:]] = n
    end = end.flip(1).cummin(1).values.flip(1)
    kind, place = true.nonzero(as_tuple=True)  # true pairs of class and chip, by class, then rank
    chip, end = order[kind, place], end[kind, place]
    first = torch.searchsorted(kind, kind)  # of the true pairs: first of the class,
    last = torch.searchsorted(kind * n + end, kind * n + end, right=True) - 1  # last as high
    found = []
    for weight in _each(weights, truth):
        above = weight.index_select(0, order.view(-1)).view(classes, n).cumsum(1)[kind, end]
        own = weight[chip]
        sums = own.cumsum(0)
        precision = (sums[last] - sums[first] + own[first]) / above.clamp(min=_TINY)
        area, total = _sums(torch.stack([own * precision, own]), kind, classes)
        found.append(area / total)
    return found[0] if weights is None else torch.stack(found)


def reliability(
    confidence: Tensor, hit: Tensor, *, bins: int = 15, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """How sure and how right, in bins of equal width of the confidence.

    Args:
        confidence: ``(N,)`` in [0, 1]; a bin holds its upper end.
        hit: ``(N,)`` bool.
        bins: how many.
        weights: ``(R, N)``, see above.

    Returns:
        Chips, mean confidence and share of hits (0 in an empty bin): each ``(bins,)``, or
        ``(R, bins)``; float64.

    Raises:
        ValueError: ``bins < 1``.
    """
    if bins < 1:
        raise ValueError(f"expected bins >= 1, came {bins}")
    which = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    each = _each(weights, hit)
    chips = _sums(each, which, bins)
    sure, right = (
        _sums(each * x.double(), which, bins) / chips.clamp(min=_TINY) for x in (confidence, hit)
    )
    return (chips[0], sure[0], right[0]) if weights is None else (chips, sure, right)


def calibration_error(
    confidence: Tensor, hit: Tensor, *, bins: int = 15, weights: Tensor | None = None
) -> Tensor:
    """Expected calibration error: mean distance of confidence and share of hits over `reliability`.

    Source:
        Guo et al., arXiv 1706.04599, equation 3.
    """
    chips, sure, right = reliability(confidence, hit, bins=bins, weights=weights)
    return (chips * (sure - right).abs()).sum(-1) / chips.sum(-1)


def _each(weights: Tensor | None, like: Tensor) -> Tensor:
    if weights is None:
        return torch.ones(1, len(like), dtype=torch.float64, device=like.device)
    return weights.double()


def _sums(weights: Tensor, codes: Tensor, size: int) -> Tensor:
    """Weights ``(R, N)`` summed by codes ``(N,)``: ``(R, size)``."""
    return weights.new_zeros(len(weights), size).index_add_(1, codes, weights)
