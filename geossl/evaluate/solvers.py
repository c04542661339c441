"""Linear classifiers of vectors: to the optimum by L-BFGS, or by the paper's SGD."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent on a linear classifier.

    Args:
        lr: learning rate, for vectors of mean squared length 1.
        momentum: of the optimizer.
        weight_decay: of all weights.
        batch_size: chips a step.
        epochs: passes over the training chips.
        drops: epochs after which the learning rate falls to a tenth.

    Source:
        arXiv 2011.09980, section 5 and released code. Deviations: one vector a chip (no random crop
        or flip), standardized by the training chips and divided by the square root of their length,
        so that a rate of 1 is stable whatever the encoder; weights start at zero.
    """

    lr: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 256
    epochs: int = 100
    drops: tuple[int, ...] = (60, 80)

    def __post_init__(self) -> None:
        for name in ("lr", "batch_size", "epochs"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, came {getattr(self, name)}")


def standardize(x: Tensor, train: Tensor) -> Tensor:
    """All vectors by mean and spread of the training ones.

    A coordinate that is constant among the training vectors says nothing and becomes 0.
    """
    spread, mean = torch.std_mean(train, 0, correction=0)
    return (x - mean) * torch.where(spread <= 1e-6 * mean.abs(), 0.0, 1 / spread)


def rotate_to_principal_axes(x: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """All vectors standardized by the training ones and turned to their principal axes.

    A rotation leaves the penalty as it is, so that the optimum is the same; it is found sooner.

    Returns:
        ``(M, E)`` float32, and the variances ``(E,)`` of the training vectors, float64.
    """
    standard = standardize(train, train)
    variance, axes = torch.linalg.eigh((standard.T @ standard).double() / len(standard))
    return standardize(x, train) @ axes.float(), variance.clamp(min=0)


def scores(x: Tensor, weight: Tensor) -> Tensor:
    """``(N, E)`` and ``(E + 1, C)``, the last row the intercepts -> ``(N, C)``."""
    return x @ weight[:-1] + weight[-1]


def lbfgs(x: Tensor, y: Tensor, start: Tensor, *, variance: Tensor, penalty: float) -> Tensor:
    """Weights ``(E + 1, C)`` of the optimum; L-BFGS on weights scaled to like curvature.

    Args:
        x: ``(N, E)`` on principal axes.
        y: ``(N,)`` int64 classes, or ``(N, C)`` float32 of 0 and 1: a logistic regression each.
        start: ``(E + 1, C)``.
        variance: ``(E,)`` float64 of x.
        penalty: times the sum of squared weights, intercepts left out.
    """
    curvature = variance / start.shape[1] + 2 * penalty
    scale = torch.cat([curvature, curvature.new_full((1,), 1 / start.shape[1])])
    scale = scale.rsqrt().float()[:, None]
    free = (start / scale).requires_grad_(True)
    solver = torch.optim.LBFGS(
        [free], max_iter=200, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-4, tolerance_change=1e-9,
    )  # fmt: skip

    def loss() -> Tensor:
        solver.zero_grad()
        weight = free * scale
        value = _loss(scores(x, weight), y) + penalty * weight[:-1].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return (free * scale).detach()


def _loss(logits: Tensor, y: Tensor) -> Tensor:
    if y.ndim == 1:
        return F.cross_entropy(logits, y)
    return F.binary_cross_entropy_with_logits(logits, y, reduction="sum") / len(y)


def sgd(x: Tensor, y: Tensor, start: Tensor, *, config: SGD, seed: int) -> Tensor:
    """Weights ``(E + 1, C)`` after ``config.epochs``; arguments as those of `lbfgs`.

    An epoch goes through all chips in a new order; its last batch may be smaller.
    """
    weight = start.clone().requires_grad_(True)
    solver = torch.optim.SGD([weight], config.lr, config.momentum, weight_decay=config.weight_decay)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for epoch in range(config.epochs):
            rate = config.lr * 0.1 ** sum(epoch >= drop for drop in config.drops)
            solver.param_groups[0]["lr"] = rate
            for rows in torch.randperm(len(x), generator=generator).split(config.batch_size):
                solver.zero_grad()
                _loss(scores(x[rows], weight), y[rows]).backward()
                solver.step()
    return weight.detach()
