"""Optimizers and the learning-rate schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from geossl.train.config import PretrainConfig
from geossl.utils.device import use_fused


def build_optimizer(
    parameters: list[nn.Parameter], config: PretrainConfig
) -> torch.optim.Optimizer:
    """Build the optimizer of a run."""
    options: Any = {"weight_decay": config.weight_decay, "fused": use_fused(parameters[0].device)}
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.lr, config.sgd_momentum, **options)
    return torch.optim.AdamW(parameters, config.lr, **options)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's state and keep the memory format of its parameters.

    A fused step reads both in memory order, and files hold another one.
    """
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate: a linear warm-up, then a cosine to zero.

    Args:
        step: from 0.
        steps: of the training.
        warmup: share of them in which the rate rises.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def set_learning_rates(
    optimizer: torch.optim.Optimizer, step: int, steps: int, *, warmup: float
) -> None:
    """Set the rate of each parameter group to its ``peak`` times `warmup_cosine`."""
    rate = warmup_cosine(step, steps, warmup)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rate


def check_finite_loss(loss: float, *, where: str, lr: float) -> None:
    """Raise a ValueError if a mean loss is not finite.

    Args:
        loss: the mean.
        where: over which part of the training, e.g. "epoch 3".
        lr: the peak learning rate, for the advice.
    """
    if not math.isfinite(loss):
        raise ValueError(
            f"The loss is {loss} in {where}: training diverged. Use a lower `lr` (now {lr:g}), or "
            "precision='fp32'."
        )
