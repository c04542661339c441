"""Right answers and hints of lesson 02."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geossl_lessons.checking import (
    NotYet,
    as_array,
    call_answer,
    count_matches,
    grade_number,
    grade_quiz,
)

_QUIZ = (  # letter of the right answer; a sentence for those who chose another
    ("b", "What does the loss reward when nothing pushes the pictures apart?"),
    ("c", "The queue mixes keys of many steps. When can they be compared with each other?"),
    ("a", "Whatever the views change, the network learns to ignore. What must it not ignore?"),
)


def exercise_1(answer: object, data: Any) -> None:
    """Check the number of each letter's partner; ``data`` is the order of the partners."""
    right = count_matches(answer, data)
    if right < len(data):
        raise NotYet(f"{right} of {len(data)} are right. Colors may mislead; look at shapes.")


def exercise_2(answer: object, data: Any = None) -> None:
    """Check a function ``(query, key, queue, temperature)`` -> InfoNCE, by loops over numbers."""
    for pairs, negatives, temperature in ((3, 5, 0.2), (1, 1, 0.5), (4, 2, 1.3)):
        generator = torch.Generator().manual_seed(pairs)
        query, key, queue = (
            nn.functional.normalize(torch.randn(n, 6, generator=generator), dim=1)
            for n in (pairs, pairs, negatives)
        )
        query.requires_grad_()
        value = call_answer(answer, query, key, queue, temperature, returns=False)
        if value is None:
            raise NotYet("Your function returns nothing. Its last line should `return` the loss.")
        if isinstance(value, Tensor) and value.numel() != 1:
            raise NotYet(
                f"Your function returns the shape {tuple(value.shape)}. Return one number: the "
                "mean over the queries."
            )
        truth, mistakes = _loss_and_mistakes(query, key, queue, temperature)
        hint = (
            "For each query: minus the logarithm of its positive's share in the softmax over "
            "column 0 (the positive) and the queue. Then the mean."
        )
        grade_number(value, truth, mistakes, hint=hint)
        if not (isinstance(value, Tensor) and value.requires_grad):
            raise NotYet(
                "The number is right, but no gradient can flow back: stay with tensors, without "
                "detach(), item() or NumPy."
            )


def exercise_3(answer: object, data: Any = None) -> None:
    """Check a function ``(query, key, momentum)`` that moves the key network in place."""
    for momentum in (0.9, 0.25):
        query, key = _small_networks()
        before = [[p.detach().clone() for p in net.parameters()] for net in (query, key)]
        for times in (1, 2):
            call_answer(answer, query, key, momentum, returns=False)
            if not all(map(torch.equal, query.parameters(), before[0])):
                raise NotYet("The query network has changed. It learns by gradients; only read it.")
            now = [p.detach() for p in key.parameters()]
            if all(map(torch.equal, now, before[1])):
                raise NotYet(
                    "The key network has not moved. Change its parameters in place, with "
                    "slow.copy_(...): `slow = ...` only gives another tensor that name."
                )
            _compare_networks(now, *before, momentum=momentum, times=times)
        if any(p.requires_grad for p in key.parameters()):
            raise NotYet("A gradient would now flow into the key network. Use torch.no_grad().")


def exercise_4(answer: object, data: Any) -> None:
    """Check that a matrix of cosines is of a collapsed network; ``data`` is that of a good one."""
    good = np.asarray(data, np.float64)
    cosines = as_array(answer, good.shape)
    if np.abs(cosines).max() > 1 + 1e-4:
        raise NotYet("A cosine is never larger than 1. Make the projections unit-norm first.")
    others = ~np.eye(len(good), dtype=bool)
    mean, mean_of_good = cosines[others].mean(), good[others].mean()
    if 1 - mean > (1 - mean_of_good) / 2:
        raise NotYet(
            f"Different pictures still have a mean cosine of {mean:.2f} (with negatives "
            f"{mean_of_good:.2f}). Does your loss really leave the queue out?"
        )


def exercise_5(answer: object, data: Any = None) -> None:
    """Check the letters of the three questions."""
    grade_quiz(answer, _QUIZ)


def _loss_and_mistakes(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float
) -> tuple[float, dict[float, str]]:
    """Return InfoNCE by loops, and what the likely mistakes give."""

    def dot(a: Sequence[float], b: Sequence[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    q, k, bank = (x.detach().double().tolist() for x in (query, key, queue))
    positive = [dot(a, b) for a, b in zip(q, k, strict=True)]
    negative = [[dot(a, b) for b in bank] for a in q]

    def mean_loss(t: float, *, counts_positive: bool = True) -> float:
        total = 0.0
        for own, others in zip(positive, negative, strict=True):
            exponentials = [math.exp(x / t) for x in others]
            exponentials += [math.exp(own / t)] * counts_positive
            total += math.log(sum(exponentials)) - own / t
        return total / len(positive)

    truth = mean_loss(temperature)
    mistakes = {
        -truth: "Only the sign is wrong: a loss is small when the share is large.",
        truth / math.log(2): "That is in bits. The natural logarithm gives nats.",
        mean_loss(1.0): "Divide the similarities by the temperature first.",
        mean_loss(1 / temperature): "Divide by the temperature; do not multiply.",
        mean_loss(temperature, counts_positive=False): (
            "The positive is missing below the fraction: it is one of the keys too."
        ),
    }
    if len(positive) > 1:
        mistakes[truth * len(positive)] = "That is the sum over the queries. Give the mean."
    return truth, mistakes


def _small_networks() -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        query = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        key = copy.deepcopy(query).requires_grad_(False)
        with torch.no_grad():
            for p in key.parameters():
                p.copy_(torch.randn(p.shape))
    return query, key


def _compare_networks(
    now: Sequence[Tensor], query: Sequence[Tensor], key: Sequence[Tensor], *,
    momentum: float, times: int,
) -> None:  # fmt: skip
    """Compare parameters with the share of the way that they should have gone, number by number."""

    def is_gone(share: Callable[[float], float], *, rel_tol: float = 1e-3) -> bool:
        left = share(momentum)
        return all(
            math.isclose(c, a + left * (b - a), rel_tol=rel_tol, abs_tol=1e-5)
            for new, fast, slow in zip(now, query, key, strict=True)
            for c, a, b in zip(*(x.flatten().tolist() for x in (new, fast, slow)), strict=True)
        )

    if is_gone(lambda m: m**times):
        return
    if is_gone(lambda m: (1 - m) ** times):
        raise NotYet("The shares are the wrong way round: the key network keeps the momentum.")
    raise NotYet(
        f"With momentum {momentum:g} each parameter should be {momentum:g} x its own value + "
        f"{1 - momentum:g} x the query network's, for all parameters."
    )
