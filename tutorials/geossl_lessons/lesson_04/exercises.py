"""Right answers and hints of lesson 04."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geossl_lessons.checking import NotYet, as_array, call_answer, grade_number, grade_quiz
from geossl_lessons.lesson_01.exercises import haversine_km

_NEAR_KM = 500


def exercise_1(answer: object, data: Any) -> None:
    """Check a function that moves centers; ``data`` is ``(x (N, 3), nearest (N,))``."""
    x, nearest = (np.asarray(part) for part in data)
    few = slice(0, min(60, len(x)))  # and once more with other numbers than the lesson's
    for points, number in ((x, nearest), (x[few], np.arange(len(x[few])) % 3)):
        k = int(number.max()) + 1
        result = as_array(call_answer(answer, points.copy(), number.copy(), k), (k, 3))
        sums = np.zeros((k, 3))
        for point, i in zip(points, number, strict=True):
            sums[i] += point
        lengths = np.sqrt([sum(value**2 for value in row) for row in sums])[:, None]
        if np.allclose(result, sums / lengths, atol=1e-6):
            continue
        if np.allclose(np.cross(result, sums), 0, atol=1e-6):
            raise NotYet(
                "The directions are right, but your centers do not lie on the sphere. Divide each "
                "by its own length: np.linalg.norm with axis=1 and keepdims=True."
            )
        raise NotYet(
            "Center i is the mean of its own places, x[nearest == i].mean(axis=0), divided by its "
            "length. Take k and nearest from the arguments, not from the notebook."
        )


def exercise_2(answer: object, data: Any) -> None:
    """Check two positions that only degrees separate.

    ``data`` is the centers ``(K, 2)`` of k-means on the sphere and of k-means in degrees.
    """
    sphere, degrees = (np.asarray(centers, float) for centers in data)
    positions = as_array(answer, (2, 2))
    if (np.abs(positions) > (180, 90)).any():
        raise NotYet("Longitude comes first, from -180 to 180; then latitude, from -90 to 90.")
    km = float(haversine_km(*positions[0], *positions[1]))
    if km >= _NEAR_KM:
        raise NotYet(f"These two are {km:,.0f} km apart. Take two less than {_NEAR_KM} km apart.")
    on_ground, in_degrees = [], []
    for lon, lat in positions:
        on_ground.append(int(np.argmin([haversine_km(lon, lat, *c) for c in sphere])))
        wrapped = (lon + 180) % 360 - 180
        in_degrees.append(int(np.argmin([math.hypot(*(c - [wrapped, lat])) for c in degrees])))
    if in_degrees[0] == in_degrees[1]:
        raise NotYet(
            f"In degrees both are in region {in_degrees[0]}. Where does the longitude jump, "
            "although the ground does not?"
        )
    if on_ground[0] != on_ground[1]:
        raise NotYet(
            "On the sphere they are in different regions as well: a border runs between them. "
            "Move both a little to the north or to the south."
        )


def exercise_3(answer: object, data: Any = None) -> None:
    """Check a function that computes the cross-entropy of logits ``(N, K)``."""
    import torch

    rng = np.random.default_rng(4)
    logits, region = 2 * rng.normal(size=(7, 5)), rng.integers(0, 5, 7)
    given = torch.tensor(logits, requires_grad=True)
    value = call_answer(answer, given, torch.from_numpy(region))
    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        raise NotYet(
            "The loss must be a tensor with a gradient, or nothing can learn from it. Stay in "
            "torch: no .item(), no numpy."
        )
    shares = [[math.exp(z) / sum(map(math.exp, row)) for z in row] for row in logits]
    own = [row[i] for row, i in zip(shares, region, strict=True)]
    losses = [-math.log(share) for share in own]
    truth = sum(losses) / len(losses)
    mistakes = {
        -truth: "Only the sign is wrong: take minus the logarithm.",
        sum(losses): "That is the sum over the pictures. Give the mean.",
        -math.log(sum(own) / len(own)): "First the logarithm of each share, then the mean.",
        sum(-math.log(max(row)) for row in shares) / len(shares): (
            "That takes the largest share of each row. Take that of its own region."
        ),
        truth / math.log(2): "That is in bits. The natural logarithm gives nats.",
        1 - sum(own) / len(own): "Take the logarithm of the shares, not one minus the share.",
    }
    hint = (
        "For picture i the share of its own region is share[i, region[i]]; for all of them at once "
        "share[torch.arange(len(region)), region]. Then minus the mean logarithm."
    )
    grade_number(value, truth, mistakes, hint=hint)


_QUIZ = (
    ("a", "Which of two centers has the larger dot product with a place, if one lies deeper?"),
    ("c", "Ask what the two runs have in common, and what only one of them has."),
    ("b", "A low loss says that regions can be told apart. By what, it does not say."),
)


def exercise_4(answer: object, data: Any = None) -> None:
    """Check the quiz: a string of three letters."""
    grade_quiz(answer, _QUIZ)
