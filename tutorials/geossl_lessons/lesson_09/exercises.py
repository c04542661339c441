"""Right answers and hints of lesson 09."""

from __future__ import annotations

import math
from typing import Any

from geossl_lessons.checking import NotYet, as_number, grade_number

_DAY_S = 86_400
_BF16_BITS = 8  # binary digits of a bf16 number, with the leading one


def exercise_1(answer: object, data: Any) -> None:
    """Check the days of a training; ``data`` is ``(images, passes, rate)``."""
    images, passes, rate = data
    days = passes * images / rate.value / _DAY_S
    units = {"seconds": _DAY_S, "minutes": 1440, "hours": 24, "weeks": 1 / 7, "years": 1 / 365}
    mistakes = {days * size: f"Right, but in {name}. Give days." for name, size in units.items()}
    mistakes |= {
        days / passes: "That is one pass; the training has many.",
        2 * days: "A pair is one query with its key: a picture gives one pair in a pass, not two.",
    }
    hint = (
        "The pairs of all passes divided by pairs per second are seconds. Then make days of them."
    )
    grade_number(answer, days, mistakes, hint=hint, rel_tol=0.02)


def exercise_2(answer: object, data: Any) -> None:
    """Check a sum in bf16; ``data`` are its two whole numbers."""
    value = as_number(getattr(answer, "float", lambda: answer)())  # NumPy has no bf16
    total = sum(data)
    step = 2 ** max(0, total.bit_length() - _BF16_BITS)  # from a number to the next
    below = total // step * step
    if value == step * round(total / step):  # a tie goes to the even one, in Python as well
        return
    if value == total:
        raise NotYet(
            f"In bf16 the next number after {data[0]} is {below + step}: {total} is between two "
            "numbers and is rounded to one of them."
        )
    if value in (below, below + step):
        raise NotYet("Right between two numbers, the one with an even last digit (in bits) wins.")
    raise NotYet("Try torch.tensor(256.0, dtype=torch.bfloat16) + 1.")


def exercise_3(answer: object, data: Any) -> None:
    """Check the megabytes that a process sends in a step; ``data`` is ``(encoder, processes)``."""
    encoder, processes = data
    size = sum(math.prod(weight.shape) for weight in encoder.parameters()) * 4 / 1e6
    truth = 2 * (processes - 1) / processes * size
    mistakes = {
        truth * factor: "Right except for the unit: a megabyte is 10^6 bytes."
        for factor in (1e3, 1e6, 1e-3, 1.048576, 1 / 1.048576)
    }
    mistakes |= {
        truth / 4: "Each number has 4 bytes.",
        size: "That is the size of the gradients. How often is each part sent?",
        truth / 2: "That is one round only: first the sums are made, then they are sent to all.",
    }
    hint = "2 * (P - 1) / P times the size of the gradients, in 10^6 bytes."
    grade_number(answer, truth, mistakes, hint=hint, rel_tol=0.02)


def exercise_4(answer: object, data: Any) -> None:
    """Check the GPU-hours lost by a kill; ``data`` is ``(GPUs, minutes between checkpoints)``."""
    gpus, minutes = data
    truth = gpus * minutes / 2 / 60
    mistakes = {
        2 * truth: "That is the worst case; on average the checkpoint is half as old.",
        truth / gpus: "That is what one GPU loses; all of them do.",
        truth * 60: "Right, but in GPU-minutes. Give hours.",
    }
    hint = "The average age of the last checkpoint, in hours, times the number of GPUs."
    grade_number(answer, truth, mistakes, hint=hint, rel_tol=0.03)


def exercise_5(answer: object, data: Any) -> None:
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
