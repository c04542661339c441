"""Right answers and hints of lesson 02."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geossl_lessons.checking import NotYet, as_choice, as_number, count_matches, grade_number


def exercise_1(answer: object, data: Any) -> None:
    """Check the number of each letter's partner; ``data`` is the order of the partners."""
    right = count_matches(answer, data)
    if right < len(data):
        raise NotYet(f"{right} of {len(data)} are right. Colors may mislead; look at shapes.")


def exercise_2(answer: object, data: Any) -> None:
    """Check the mean InfoNCE; ``data`` is ``(similarity (N, N), temperature)``."""
    similarity, temperature = data
    truth = _mean_loss(similarity, float(temperature))
    mistakes = {
        -truth: "Only the sign is wrong: a loss is small when the share is large.",
        truth * len(similarity): "That is the sum over the queries. Give the mean.",
        truth / math.log(2): "That is in bits. The natural logarithm gives nats.",
        _mean_loss(similarity, 1.0): "Divide the similarities by the temperature first.",
    }
    hint = (
        "For each query: minus the logarithm of the share of its own key, which is on the "
        "diagonal, in the softmax over its row. Then the mean."
    )
    grade_number(answer, truth, mistakes, hint=hint)


def exercise_3(answer: object, data: Any) -> None:
    """Check the steps until the key encoder has gone half the way; ``data`` is the momentum."""
    value, left, steps = as_number(answer), 1.0, 0
    while left > 0.5:  # what is left of the way after each step
        left *= data
        steps += 1
    if abs(value - steps) <= 1:
        return
    if abs(value - round(1 / (1 - data))) <= 1:
        raise NotYet("After that many steps about a third of the way is left, not a half.")
    raise NotYet(
        "Each step leaves the share momentum of the way still to go: after two steps momentum**2, "
        "and so on. When is it a half?"
    )


def exercise_4(answer: object, data: Any) -> None:
    """Check the temperature; ``data`` is the similarity matrix ``(N, N)``."""
    value = as_number(answer)
    if value <= 0:
        raise NotYet("A temperature is larger than 0.")
    negatives = sorted((float(s) for s in np.delete(np.asarray(data)[0], 0)), reverse=True)
    pushes = [math.exp((s - negatives[0]) / value) for s in negatives]
    share = pushes[0] / sum(pushes)
    if not 0.45 <= share <= 0.55:
        side = "lower" if share < 0.5 else "raise"
        raise NotYet(f"There the hardest negative takes {share:.0%} of the push: {side} it.")


def exercise_5(answer: object, data: Any) -> None:
    """Check the collapsed encoder; ``data`` is letter -> projections ``(N, D)``."""
    choice, spread = as_choice(answer, sorted(data)), {}
    for name, projections in data.items():
        unit = [row / np.linalg.norm(row) for row in np.asarray(projections, np.float64)]
        spread[name] = np.mean([np.linalg.norm(row - unit[0]) for row in unit[1:]])
    if choice != min(spread, key=lambda name: spread[name]):
        raise NotYet(
            f"The vectors of {choice} still point in different directions. Compute feature_std of "
            "all three; the smallest is the collapsed one."
        )


def _mean_loss(similarity: Any, temperature: float) -> float:
    rows = [[float(cell) / temperature for cell in row] for row in similarity]
    return sum(math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(rows)) / len(rows)
