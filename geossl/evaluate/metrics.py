"""Metrics of vectors and predictions: pure functions of tensors.

Shapes: M vectors, Q queries, E embedding; N chips, C classes, R resamples. Where a metric takes
``weights`` (R, N), how often each chip counts in each resample, it returns one value per resample.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.utils.validate import Positive, PositiveInt, validated

_CELLS = 2**24  # similarities held at a time
_TINY = 1e-300  # keeps 0 / 0 from being nan
_EQUAL = 1e-6  # cosine similarities of float32 vectors this close are the same


@validated
def accuracy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the share of ``(N, G)`` logits whose largest is ``(N,)`` target; -1 is left out."""
    known = target >= 0
    return ((logits.argmax(1) == target) & known).sum() / known.sum().clamp(min=1)


@validated
def knn_votes(
    train: Tensor,
    train_codes: Tensor,
    test: Tensor,
    *,
    k: PositiveInt = 20,
    temperature: Positive = 0.07,
) -> Tensor:
    """Return the votes of the k nearest neighbors in cosine similarity, by class.

    Args:
        train: ``(M, E)``.
        train_codes: ``(M,)`` int64 classes, >= 0.
        test: ``(Q, E)``.
        k: neighbors; all of them when fewer.
        temperature: a neighbor's vote weighs ``exp((similarity - 1) / temperature)``.

    Returns:
        ``(Q, largest class + 1)`` float32, >= 0.

    Source:
        Wu et al., arXiv 1805.01978, section 3.4.
    """
    if len(train) == 0:
        raise ValueError("`train` must have at least one vector, got none.")
    train, test = F.normalize(train.float(), dim=1), F.normalize(test.float(), dim=1)
    classes = int(train_codes.max()) + 1
    votes = []
    for part in test.split(_rows_at_once(train)):
        similarity, nearest = (part @ train.T).topk(min(k, len(train)), dim=1)
        vote = torch.exp((similarity - 1) / temperature)
        empty = torch.zeros(len(part), classes, device=test.device)
        votes.append(empty.scatter_add_(1, train_codes[nearest], vote))
    return torch.cat(votes)


@validated
def knn_predict(
    train: Tensor,
    train_codes: Tensor,
    test: Tensor,
    *,
    k: PositiveInt = 20,
    temperature: Positive = 0.07,
) -> Tensor:
    """Return the classes ``(Q,)`` int64 by `knn_votes`; the lower class when votes are equal."""
    return knn_votes(train, train_codes, test, k=k, temperature=temperature).argmax(1)


@validated
def ranks(
    query: Tensor, gallery: Tensor, query_codes: Tensor, gallery_codes: Tensor
) -> tuple[Tensor, Tensor]:
    """Rank the first right entry of a gallery sorted by cosine similarity, for each query.

    Args:
        query: ``(Q, E)``.
        gallery: ``(M, E)``.
        query_codes: ``(Q,)`` int64, e.g. the location.
        gallery_codes: ``(M,)`` int64; entries with a query's code are right.

    Returns:
        Ranks ``(Q,)`` int64, 0 when the most similar entry is right, M when none is; and the most
        similar entries ``(Q,)`` int64. Half of the wrong entries just as similar as the best right
        one, rounded up, rank before it, so that collapsed (constant) vectors score nothing; nor do
        vectors with NaN.
    """
    query, gallery = F.normalize(query.float(), dim=1), F.normalize(gallery.float(), dim=1)
    all_ranks, nearest = [], []
    rows = _rows_at_once(gallery)
    for part, codes in zip(query.split(rows), query_codes.split(rows), strict=True):
        similarity = part @ gallery.T  # (q, M)
        right = codes[:, None] == gallery_codes[None]
        best = similarity.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        above = ~(right | (similarity <= best + _EQUAL))  # NaN is never in a query's favor
        equal = ~(right | above | (similarity < best - _EQUAL))
        rank = above.sum(1) + torch.div(equal.sum(1) + 1, 2, rounding_mode="floor")
        rank[~right.any(1) | best[:, 0].isnan()] = len(gallery)
        all_ranks.append(rank)
        nearest.append(similarity.argmax(1))
    return torch.cat(all_ranks), torch.cat(nearest)


@validated
def recall(rank: Tensor, *, k: PositiveInt) -> Tensor:
    """Return the share of ``(Q,)`` `ranks` that are among the first ``k``."""
    return (rank < k).float().mean()


def _rows_at_once(gallery: Tensor) -> int:
    return max(1, _CELLS // max(1, len(gallery)))


@validated
def feature_std(x: Tensor) -> Tensor:
    """Return the spread of vectors ``(M, E)`` made unit-norm: mean std of a coordinate, * sqrt(E).

    About 1 when they fill the sphere evenly, 0 when all are the same (collapse).
    """
    unit = F.normalize(x.float(), dim=1)
    return unit.std(0, correction=0).mean() * x.shape[1] ** 0.5


@validated
def effective_rank(x: Tensor) -> Tensor:
    """Return the number of directions that vectors ``(M, E)`` use; 1 is collapse to a line.

    Source:
        Roy and Vetterli, "The effective rank", EUSIPCO 2007: exp of the entropy of the singular
        values, here of the centered vectors.
    """
    x = x.float()
    values = torch.linalg.svdvals(x - x.mean(0))
    return torch.exp(torch.special.entr(values / values.sum().clamp(min=1e-12)).sum())


@validated
def top_k_hits(scores: Tensor, target: Tensor, *, k: PositiveInt) -> Tensor:
    """Return whether the class ``(N,)`` is among the k of largest score ``(N, C)``: ``(N,)``.

    Scores are >= 0; of equal ones the lower class is first, as in ``argmax``; 0 is never a hit.
    """
    own = scores.gather(1, target[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device) < target[:, None]
    rank = ((scores > own) | ((scores == own) & lower)).sum(1)
    return (rank < k) & (own[:, 0] > 0)


@validated
def macro_f1(truth: Tensor, guess: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Return the mean F1 over the classes that occur in the truth; nan without a chip.

    Args:
        truth: ``(N,)`` int64 classes >= 0, or ``(N, C)`` bool where a chip can have several.
        guess: likewise.
        weights: ``(R, N)``, see above.
    """
    each = _weights(weights, truth)
    if truth.ndim == 1:
        hits, classes = truth == guess, int(torch.cat([truth, guess]).max()) + 1
        real, predicted = _sums(each, truth, classes), _sums(each, guess, classes)
        both = _sums(each[:, hits], truth[hits], classes)
    else:
        real, predicted, both = (each @ t.double() for t in (truth, guess, truth & guess))  # (R, C)
    f1 = 2 * both / (real + predicted).clamp(min=_TINY)
    mean = f1.sum(1) / (real > 0).sum(1)  # a class without truth has an F1 of 0
    return mean[0] if weights is None else mean


@validated
def average_precision(scores: Tensor, truth: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Return the area under precision over recall of each class, without interpolation.

    Args:
        scores: ``(N, C)``; chips of equal score count together.
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
    areas = []
    for weight in _weights(weights, truth):
        above = weight.index_select(0, order.view(-1)).view(classes, n).cumsum(1)[kind, end]
        own = weight[chip]
        sums = own.cumsum(0)
        precision = (sums[last] - sums[first] + own[first]) / above.clamp(min=_TINY)
        area, total = _sums(torch.stack([own * precision, own]), kind, classes)
        areas.append(area / total)
    return areas[0] if weights is None else torch.stack(areas)


@validated
def reliability(
    confidence: Tensor, hit: Tensor, *, bins: PositiveInt = 15, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compare confidence and accuracy in bins of equal width of the confidence.

    Args:
        confidence: ``(N,)`` in [0, 1]; a bin includes its upper end.
        hit: ``(N,)`` bool.
        bins: number of bins.
        weights: ``(R, N)``, see above.

    Returns:
        Chips, mean confidence and share of hits (0 in an empty bin): each ``(bins,)``, or
        ``(R, bins)``; float64.
    """
    index = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    each = _weights(weights, hit)
    chips = _sums(each, index, bins)
    mean, share = (
        _sums(each * x.double(), index, bins) / chips.clamp(min=_TINY) for x in (confidence, hit)
    )
    return (chips[0], mean[0], share[0]) if weights is None else (chips, mean, share)


@validated
def calibration_error(
    confidence: Tensor, hit: Tensor, *, bins: PositiveInt = 15, weights: Tensor | None = None
) -> Tensor:
    """Return the expected calibration error: mean distance of the two means of `reliability`.

    Source:
        Guo et al., arXiv 1706.04599, equation 3.
    """
    chips, mean, share = reliability(confidence, hit, bins=bins, weights=weights)
    return (chips * (mean - share).abs()).sum(-1) / chips.sum(-1)


def _weights(weights: Tensor | None, like: Tensor) -> Tensor:
    if weights is None:
        return torch.ones(1, len(like), dtype=torch.float64, device=like.device)
    return weights.double()


def _sums(weights: Tensor, codes: Tensor, size: int) -> Tensor:
    """Weights ``(R, N)`` summed by codes ``(N,)``: ``(R, size)``."""
    return weights.new_zeros(len(weights), size).index_add_(1, codes, weights)
