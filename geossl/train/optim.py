"""What a loop stands on: device, precision, seeds, rows, model, interrupts, chips in time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from geossl.train.config import PretrainConfig
from geossl.utils.device import use_fused


def set_learning_rates(
    solver: torch.optim.Optimizer, step: int, steps: int, *, warmup: float
) -> None:
    """Give each group of parameters its ``peak`` rate times `warmup_cosine` at a step."""
    rate = warmup_cosine(step, steps, warmup)
    for group in solver.param_groups:
        group["lr"] = group["peak"] * rate


def check_finite_loss(loss: float, *, epoch: int, lr: float) -> None:
    """Raise when the mean loss of an epoch, counted from 1, is not finite."""
    if not math.isfinite(loss):
        raise ValueError(f"expected a finite loss, came {loss} in epoch {epoch}; lower lr = {lr}")


def build_optimizer(learned: list[nn.Parameter], config: PretrainConfig) -> torch.optim.Optimizer:
    """What changes the parameters, in one pass over them."""
    settings: Any = {"weight_decay": config.weight_decay, "fused": use_fused(learned[0].device)}
    if config.optimizer == "sgd":
        return torch.optim.SGD(learned, config.lr, config.sgd_momentum, **settings)
    return torch.optim.AdamW(learned, config.lr, **settings)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimizer, and lay it out in memory as its parameters are.

    A step in one pass goes along both and does not look at their layout, and files keep another.
    """
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: a straight rise, then a cosine down to zero.

    Args:
        step: from 0.
        steps: of the whole training.
        warmup: share of them in which it rises.
    """
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
