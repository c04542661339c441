"""Right answers and hints of lesson 09."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from geossl_lessons.checking import (
    NotYet,
    as_array,
    as_number,
    call_answer,
    grade_number,
    grade_quiz,
)

_STEP = 0.1  # learning rate of the lesson's `compare_steps`
_QUIZ = (  # letter of the right answer; a sentence for those who chose another
    ("c", "Each sum is rounded before the next 1 is added. What was 256 + 1?"),
    ("a", "`--batch-size` counts the pairs of all processes together."),
    ("c", "Look at the two lines that your checkpoint by hand printed."),
)


def exercise_1(answer: object, data: Any = None) -> None:
    """Check a function ``(conv, height, width)`` -> FLOPs of a convolution for one picture."""
    for conv, height, width in (
        (nn.Conv2d(3, 8, 3, device="meta"), 5, 7),
        (nn.Conv2d(16, 24, (1, 5), stride=2, device="meta"), 6, 4),
        (nn.Conv2d(12, 18, 3, groups=6, bias=False, device="meta"), 3, 9),
    ):
        out, inside, *kernel = conv.weight.shape
        products = out * height * width * inside * math.prod(kernel)
        mistakes = {
            products: "Each product is a multiplication *and* an addition: two FLOPs.",
            2 * products / out: "The output has more than one channel.",
            products / out: "The output has more than one channel, and a product costs two FLOPs.",
            2 * products / out * conv.in_channels: (
                "Count the channels of the output, not those of the input."
            ),
            2 * products / (height * width): "The output has `height` x `width` pixels.",
        }
        hint = (
            "The output has conv.out_channels * height * width numbers, each of them a sum of "
            "`products` products; each product costs a multiplication and an addition."
        )
        value = as_number(call_answer(answer, conv, height, width))
        grade_number(value, 2 * products, mistakes, hint=hint, rel_tol=1e-6)


def exercise_2(answer: object, data: Any = None) -> None:
    """Check a function ``(first, second, n_first, n_second)`` -> gradient of the whole batch."""
    rng = np.random.default_rng(0)
    for sizes in ((3, 5), (1, 9), (4, 4)):
        x, y, weight = rng.normal(size=(sum(sizes), 6)), rng.normal(size=sum(sizes)), rng.random(6)
        parts = slice(0, sizes[0]), slice(sizes[0], None)
        first, second, truth = (
            2 * ((x[rows] @ weight - y[rows])[:, None] * x[rows]).mean(0)  # of a square loss
            for rows in (*parts, slice(None))
        )
        given = (torch.from_numpy(gradient.copy()) for gradient in (first, second))
        value = as_array(call_answer(answer, *given, *sizes), (6,))
        if np.allclose(value, truth):
            continue
        mistakes = (
            ((first + second) / 2, "The larger part must count for more than the smaller one."),
            (first + second, "A mean, not a sum: how many pictures are there in all?"),
            (sizes[0] * first + sizes[1] * second,
             "That is the sum over all pictures. Divide it by their number."),
            ((sizes[1] * first + sizes[0] * second) / sum(sizes), "The two weights are exchanged."),
        )  # fmt: skip
        for wrong, words in mistakes:
            if np.allclose(value, wrong):
                raise NotYet(words)
        raise NotYet(
            "A mean times its number of pictures is a sum. Add the two sums, then divide by the "
            "number of all pictures."
        )


def exercise_3(answer: object, data: Any) -> None:
    """Check how far BatchNorm drives the halves and the batch apart.

    ``data`` is ``(make_network, x, y)``, with the learner's function that makes a network.
    """
    make, x, y = data
    layers = list(make())
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in layers):
        plain = _distance(layers, x, y)
        layers.insert(1, nn.BatchNorm2d(layers[0].out_channels))
    else:
        plain = 0.0
    value = as_number(answer)
    if plain > 0 and 0 <= value < 20 * plain:
        raise NotYet("That is without BatchNorm: rounding only. Is the layer in the network?")
    hint = (
        "Put nn.BatchNorm2d(16) right behind the first convolution, before the ReLU, and give the "
        "number that compare_steps(with_batch_norm) returns."
    )
    grade_number(value, _distance(layers, x, y), {}, hint=hint, rel_tol=0.05)


def exercise_4(answer: object, data: Any) -> None:
    """Check the passes for a budget; ``data`` is ``(dollars, dollars an hour, rate, images)``."""
    budget, price, rate, images = data
    pass_dollars = images / rate.value / 3600 * price
    truth = budget / pass_dollars
    if as_number(answer) == math.floor(truth) > 0:
        return
    mistakes = {
        truth / 3600: "The rate is pairs per second, the price dollars per hour: convert one.",
        truth * images: "That is the number of pairs; how many passes over all pictures are these?",
        pass_dollars: "That is what one pass costs, in dollars. How many of them can you pay?",
    }
    hint = (
        "BUDGET divided by the price are hours; times 3600 and the pairs per second are pairs; a "
        "pass has IMAGES of them."
    )
    grade_number(answer, truth, mistakes, hint=hint, rel_tol=0.02)


def exercise_5(answer: object, data: Any = None) -> None:
    """Check the letters of the three questions."""
    grade_quiz(answer, _QUIZ)


def _distance(layers: list[nn.Module], x: torch.Tensor, y: torch.Tensor) -> float:
    """Return how far a step on the mean gradient of two halves is from that of the batch."""
    network, half = nn.Sequential(*layers).train(), len(x) // 2
    weights = list(network.parameters())

    def gradient(rows: slice) -> list[torch.Tensor]:
        loss = nn.functional.cross_entropy(network(x[rows]), y[rows])
        return list(torch.autograd.grad(loss, weights))

    every = (gradient(rows) for rows in (slice(None), slice(half), slice(half, None)))
    differences = (
        (whole - (a + b) / 2).abs().max().item() for whole, a, b in zip(*every, strict=True)
    )
    return _STEP * max(differences)
