"""What `check` knows of lesson 02."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geossl_lessons.checking import NotYet, as_choice, as_matching, as_number


def exercise_1(answer: object, given: Any) -> None:
    """The number of each letter's partner; ``given`` is the order in which partners stand."""
    right = as_matching(answer, given)
    if right < len(given):
        raise NotYet(f"{right} of {len(given)} are right. Colors may lie; look at shapes.")


def exercise_2(answer: object, given: Any) -> None:
    """Mean InfoNCE; ``given`` is ``(similarity (N, N), temperature)``."""
    value, (similarity, temperature) = as_number(answer), given
    rows = [[float(cell) / temperature for cell in row] for row in similarity]
    losses = [math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(rows)]
    truth = sum(losses) / len(losses)
    if math.isclose(value, truth, rel_tol=2e-3):
        return
    if math.isclose(value, -truth, rel_tol=2e-3):
        raise NotYet("The size is right, the sign is not: a loss is small when the share is large.")
    if math.isclose(value, truth * len(losses), rel_tol=2e-3):
        raise NotYet("That is the sum over the queries; the mean is asked for.")
    if math.isclose(value, truth / math.log(2), rel_tol=2e-3):
        raise NotYet("That is in bits; take the natural logarithm, and it is in nats.")
    plain = [[float(cell) for cell in row] for row in similarity]
    cold = sum(math.log(sum(map(math.exp, r))) - r[i] for i, r in enumerate(plain)) / len(plain)
    if math.isclose(value, cold, rel_tol=2e-3):
        raise NotYet("Divide the similarities by the temperature first.")
    raise NotYet(
        "For each query: minus the logarithm of the share of its own key, which lies on the "
        "diagonal, in the softmax over its row. Then the mean."
    )


def exercise_3(answer: object, given: Any) -> None:
    """Steps until the key encoder has gone half the way; ``given`` is the momentum."""
    value, left, steps = as_number(answer), 1.0, 0
    while left > 0.5:  # what is left of the way after each step
        left *= given
        steps += 1
    if abs(value - steps) <= 1:
        return
    if abs(value - round(1 / (1 - given))) <= 1:
        raise NotYet("After that many steps about a third of the way is left, not a half.")
    raise NotYet(
        "Each step leaves the share momentum of the way still to go: after two steps momentum**2, "
        "and so on. When is it a half?"
    )


def exercise_4(answer: object, given: Any) -> None:
    """A temperature; ``given`` is the similarity matrix ``(N, N)``."""
    value = as_number(answer)
    if value <= 0:
        raise NotYet("A temperature is larger than 0.")
    negatives = sorted((float(s) for s in np.delete(np.asarray(given)[0], 0)), reverse=True)
    pushes = [math.exp((s - negatives[0]) / value) for s in negatives]
    share = pushes[0] / sum(pushes)
    if not 0.45 <= share <= 0.55:
        side = "lower" if share < 0.5 else "raise"
        raise NotYet(f"The hardest negative takes {share:.0%} of the push there: {side} it.")


def exercise_5(answer: object, given: Any) -> None:
    """The collapsed one; ``given`` is letter -> projections ``(N, D)``."""
    chosen, apart = as_choice(answer, sorted(given)), {}
    for name, projections in given.items():
        unit = [row / np.linalg.norm(row) for row in np.asarray(projections, np.float64)]
        apart[name] = np.mean([np.linalg.norm(row - unit[0]) for row in unit[1:]])
    if chosen != min(apart, key=lambda name: apart[name]):
        raise NotYet(
            f"The vectors of {chosen} still point in different directions. Compute feature_std of "
            "all three; the smallest is the collapsed one."
        )
