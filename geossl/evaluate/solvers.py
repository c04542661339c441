"""Linear classifiers of vectors: to the optimum by L-BFGS, or by the paper's SGD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.utils.validate import (
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    check_fields,
)

L2 = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent on a linear classifier.

    Args:
        lr: learning rate, for vectors of mean squared length 1.
        momentum: of the optimizer.
        weight_decay: of all weights.
        batch_size: chips per step.
        epochs: passes over the training chips.
        drops: epochs after which the learning rate falls to a tenth.

    Source:
        arXiv 2011.09980, section 5 and released code. Deviations: one vector per chip (no random
        crop or flip), standardized by the training chips and divided by the square root of their
        length, so that a rate of 1 is stable for any encoder; weights start at zero.
    """

    lr: Positive = 1.0
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 0.0
    batch_size: PositiveInt = 256
    epochs: PositiveInt = 100
    drops: tuple[NonNegativeInt, ...] = (60, 80)

    def __post_init__(self) -> None:
        check_fields(self)


def standardize(x: Tensor, train: Tensor) -> Tensor:
    """Standardize all vectors by mean and spread of the training ones.

    A coordinate that is constant among the training vectors carries no information and becomes 0.
    """
    spread, mean = torch.std_mean(train, 0, correction=0)
    return (x - mean) * torch.where(spread <= 1e-6 * mean.abs(), 0.0, 1 / spread)


def rotate_to_principal_axes(x: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Standardize all vectors by the training ones and rotate them to their principal axes.

    A rotation leaves the penalty as it is, so the optimum is the same; L-BFGS finds it sooner.

    Returns:
        ``(M, E)`` float32, and the variances ``(E,)`` of the training vectors, float64 on the CPU:
        Apple's GPU has none, and they are few.
    """
    standard = standardize(train, train)
    variance, axes = torch.linalg.eigh((standard.T @ standard).cpu().double() / len(standard))
    return standardize(x, train) @ axes.float().to(x.device), variance.clamp(min=0)


def scores(x: Tensor, weight: Tensor) -> Tensor:
    """Return scores ``(N, C)`` of ``(N, E)``; the last row of ``(E + 1, C)`` is the intercepts."""
    return x @ weight[:-1] + weight[-1]


def sorted_penalties(l2: float | Sequence[float]) -> list[float]:
    """Return the penalties, the largest first."""
    penalties = sorted(np.atleast_1d(np.asarray(l2, float)).tolist(), reverse=True)
    if not penalties or not 0 < penalties[-1] <= penalties[0] < np.inf:
        raise ValueError(f"`l2` must be one or more penalties > 0, got {l2!r}.")
    return penalties


def fit_best_penalty(
    x: Tensor,
    y: Tensor,
    *,
    train: np.ndarray,
    val: np.ndarray,
    penalties: list[float],
    classes: int,
    score: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, dict[str, float]]:
    """Fit by L-BFGS on train with each penalty, and keep the one of the best score on val.

    Args:
        x: ``(M, E)`` vectors.
        y: ``(M,)`` or ``(M, C)``, see `lbfgs`.
        train: training rows.
        val: validation rows; may be empty.
        penalties: the largest first; it is kept when scores are equal.
        classes: number C of outputs.
        score: of the scores ``(n, C)`` and the targets of val.

    Returns:
        Scores ``(M, C)`` of all vectors; the penalty "l2" and, where there is one, the score "val".
    """
    x, variance = rotate_to_principal_axes(x, x[train])
    weight = torch.zeros(x.shape[1] + 1, classes, device=x.device)
    x_train, y_train = x[train], y[train]
    best_score, best = -1.0, (weight, penalties[0])
    for penalty in penalties:
        weight = lbfgs(x_train, y_train, weight, variance=variance, penalty=penalty)
        value = float(score(scores(x[val], weight), y[val])) if len(val) else 0.0
        if value > best_score:
            best_score, best = value, (weight, penalty)
    return scores(x, best[0]), {"l2": best[1]} | ({"val": best_score} if len(val) else {})


def lbfgs(x: Tensor, y: Tensor, start: Tensor, *, variance: Tensor, penalty: float) -> Tensor:
    """Return the optimal weights ``(E + 1, C)``; L-BFGS on weights scaled to similar curvature.

    Args:
        x: ``(N, E)`` on principal axes.
        y: ``(N,)`` int64 classes, or ``(N, C)`` float32 of 0 and 1: a logistic regression each.
        start: ``(E + 1, C)``.
        variance: ``(E,)`` float64 of x, on the CPU.
        penalty: times the sum of squared weights, intercepts left out.
    """
    curvature = variance / start.shape[1] + 2 * penalty
    scale = torch.cat([curvature, curvature.new_full((1,), 1 / start.shape[1])])
    scale = scale.rsqrt().float()[:, None].to(x.device)
    free = (start / scale).requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [free], max_iter=200, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-4, tolerance_change=1e-9,
    )  # fmt: skip

    def loss() -> Tensor:
        optimizer.zero_grad()
        weight = free * scale
        value = _loss(scores(x, weight), y) + penalty * weight[:-1].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return (free * scale).detach()


def _loss(logits: Tensor, y: Tensor) -> Tensor:
    if y.ndim == 1:
        return F.cross_entropy(logits, y)
    return F.binary_cross_entropy_with_logits(logits, y, reduction="sum") / len(y)


def sgd(x: Tensor, y: Tensor, start: Tensor, *, config: SGD, seed: int) -> Tensor:
    """Return the weights ``(E + 1, C)`` after ``config.epochs``; arguments as those of `lbfgs`.

    An epoch goes through all chips in a new order; its last batch may be smaller.
    """
    weight = start.clone().requires_grad_(True)
    optimizer = torch.optim.SGD(
        [weight], config.lr, config.momentum, weight_decay=config.weight_decay
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for epoch in range(config.epochs):
            rate = config.lr * 0.1 ** sum(epoch >= drop for drop in config.drops)
            optimizer.param_groups[0]["lr"] = rate
            for rows in torch.randperm(len(x), generator=generator).split(config.batch_size):
                optimizer.zero_grad()
                _loss(scores(x[rows], weight), y[rows]).backward()
                optimizer.step()
    return weight.detach()
