"""What `check` knows of lesson 09."""

from __future__ import annotations

import math
from typing import Any

from geossl_lessons.checking import NotYet, as_number

_DAY_S = 86_400
_BF16_DIGITS = 8  # binary digits of a bf16 number, the leading one included


def exercise_1(answer: object, given: Any) -> None:
    """Days of a training; ``given`` is ``(images, passes, rate)``."""
    value, (images, passes, rate) = as_number(answer), given
    truth = passes * (images / (rate.value * _DAY_S))
    if math.isclose(value, truth, rel_tol=0.02):
        return
    units = {"seconds": _DAY_S, "minutes": 1440, "hours": 24, "weeks": 1 / 7, "years": 1 / 365}
    for name, size in units.items():
        if math.isclose(value, truth * size, rel_tol=0.02):
            raise NotYet(f"Right, but in {name}; days are asked for.")
    if math.isclose(value * passes, truth, rel_tol=0.02):
        raise NotYet("That is one pass; the training has many.")
    if math.isclose(value, 2 * truth, rel_tol=0.02):
        raise NotYet(
            "A pair is one query with its key: a picture gives one pair in a pass, not two."
        )
    raise NotYet("Pairs of all passes, over pairs a second, are seconds. Then make days of them.")


def exercise_2(answer: object, given: Any) -> None:
    """A sum in bf16; ``given`` is its two whole numbers."""
    wide = getattr(answer, "float", lambda: answer)()  # NumPy knows no bf16
    value, total = as_number(wide), sum(given)
    digits = total.bit_length()
    step = 2 ** max(0, digits - _BF16_DIGITS)
    below = total // step * step
    rest = total - below
    up = rest * 2 > step or (rest * 2 == step and below // step % 2 == 1)  # a tie goes to even
    truth = below + step * up
    if value == truth:
        return
    if value == total:
        raise NotYet(
            f"In bf16 the next number after {given[0]} is {below + step}: {total} lies between two "
            "numbers and is rounded to one of them."
        )
    if value in (below, below + step):
        raise NotYet(
            "Right between two numbers, the one with an even last digit (in bits) is taken."
        )
    raise NotYet("torch.tensor(256.0, dtype=torch.bfloat16) + 1 says it.")


def exercise_3(answer: object, given: Any) -> None:
    """Megabytes that a process sends in a step; ``given`` is ``(encoder, processes)``."""
    value, (encoder, processes) = as_number(answer), given
    size = sum(math.prod(weight.shape) for weight in encoder.parameters()) * 4 / 1e6
    part, truth = size / processes, 0.0
    for _ in range(2):  # a ring: once to sum, once to tell, each part handed on P - 1 times
        for _ in range(processes - 1):
            truth += part
    if math.isclose(value, truth, rel_tol=0.02):
        return
    if math.isclose(value, truth / 2, rel_tol=0.02):
        raise NotYet("That is one way round: sums are made, and then told to all.")
    if math.isclose(value, size, rel_tol=0.02):
        raise NotYet("That is the size of the gradients. How often does each part travel?")
    if math.isclose(value, truth / 4, rel_tol=0.02):
        raise NotYet("Each number has 4 bytes.")
    for factor in (1e3, 1e6, 1e-3, 1.048576, 1 / 1.048576):
        if math.isclose(value, truth * factor, rel_tol=0.01):
            raise NotYet("Right but for the unit: a megabyte is 10^6 bytes.")
    raise NotYet("2 * (P - 1) / P times the size of the gradients, in 10^6 bytes.")


def exercise_4(answer: object, given: Any) -> None:
    """GPU-hours lost by a kill; ``given`` is ``(GPUs, minutes between checkpoints)``."""
    value, (gpus, minutes) = as_number(answer), given
    moments = [minutes * (i + 0.5) / 1000 for i in range(1000)]  # ages of the checkpoint
    truth = gpus * sum(moments) / len(moments) / 60
    if math.isclose(value, truth, rel_tol=0.03):
        return
    if math.isclose(value, 2 * truth, rel_tol=0.03):
        raise NotYet("That is the worst case; on average the checkpoint is half as old.")
    if math.isclose(value, truth / gpus, rel_tol=0.03):
        raise NotYet("That is what one GPU loses; all of them do.")
    if math.isclose(value, truth * 60, rel_tol=0.03):
        raise NotYet("Right, but in GPU-minutes; hours are asked for.")
    raise NotYet("The average age of the last checkpoint, in hours, times the number of GPUs.")


def exercise_5(answer: object, given: Any) -> None:
    """Passes that a budget buys; ``given`` is ``(dollars, dollars an hour, rate, images)``."""
    value, (budget, price, rate, images) = as_number(answer), given
    one_pass = images / rate.value / 3600 * price  # dollars
    truth = budget / one_pass
    if math.isclose(value, truth, rel_tol=0.02) or value == math.floor(truth) > 0:
        return
    if math.isclose(value, truth / 3600, rel_tol=0.02):
        raise NotYet("The rate is pairs a second, the price dollars an hour: bring them together.")
    if math.isclose(value, truth * images, rel_tol=0.02):
        raise NotYet("That is the number of pairs; how many passes over all pictures are these?")
    if math.isclose(value, one_pass, rel_tol=0.02):
        raise NotYet("That is what one pass costs, in dollars. How many of them can you pay?")
    raise NotYet(
        "BUDGET over the price are hours; times 3600 and the pairs a second are pairs; a pass has "
        "IMAGES of them."
    )
