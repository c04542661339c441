"""What `check` knows of lesson 06."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from geossl_lessons.checking import NotYet, as_array, as_choice, as_number

_VERDICTS = ("better", "worse", "cannot tell")


def exercise_1(answer: object, given: Any) -> None:
    """Accuracy of always guessing the usual class; ``given`` is the scene table."""
    value = as_number(answer)
    rows = [row for row in zip(given["split"], given["label"], strict=True) if row[1] is not None]
    usual = Counter(label for split, label in rows if split == "train").most_common(1)[0][0]
    share = {}
    for part in ("train", "test"):
        labels = [label for split, label in rows if split == part]
        share[part] = labels.count(usual) / len(labels)
    if math.isclose(value, share["test"], abs_tol=5e-4):
        return
    if math.isclose(value, 100 * share["test"], abs_tol=0.1):
        raise NotYet("That is in percent; a share from 0 to 1 is asked for.")
    if math.isclose(value, share["train"], abs_tol=5e-4):
        raise NotYet("That is its share of the training pictures; guess on the test pictures.")
    raise NotYet(
        "Find the class that most training pictures have, then count in which share of the test "
        "pictures it is the right one."
    )


def exercise_2(answer: object, given: Any) -> None:
    """Accuracy by the nearest neighbor; ``given`` is ``train_x, train_y, test_x, test_y``."""
    value, (train_x, train_y, test_x, test_y) = as_number(answer), given
    right = _by_nearest(train_x, train_y, test_x, test_y)
    if math.isclose(value, right, abs_tol=2.1 / len(test_x)):
        return
    if math.isclose(value, 100 * right, abs_tol=1.0):
        raise NotYet("That is in percent; a share from 0 to 1 is asked for.")
    if math.isclose(value, _by_nearest(train_x, train_y, -test_x, test_y), abs_tol=1e-6):
        raise NotYet("That is the neighbor that is least alike: the cosine is large when near.")
    if math.isclose(value, _by_nearest(test_x, test_y, train_x, train_y), abs_tol=1e-6):
        raise NotYet(
            "You asked the training pictures with the test pictures as neighbors: turn it round."
        )
    raise NotYet(
        "For each row of test_x: the row of train_x with the largest cosine lends its label. In "
        "which share of the test pictures is it the right one?"
    )


def _by_nearest(known_x: Any, known_y: Any, asked_x: Any, asked_y: Any) -> float:
    hits = [
        known_y[int(np.argmax(known_x @ row))] == y for row, y in zip(asked_x, asked_y, strict=True)
    ]
    return sum(map(bool, hits)) / len(hits)


def exercise_3(answer: object, given: Any) -> None:
    """95 % interval over places; ``given`` is the result of a probe."""
    low, high = as_array(answer, (2,))
    if low > high:
        raise NotYet("The lower end comes first.")
    if high > 1.5:
        raise NotYet("Shares from 0 to 1 are asked for; yours look like percent.")
    seen = given.predictions
    places, chips = _ends(seen, by_place=True), _ends(seen, by_place=False)
    wide = places[1] - places[0]
    off = max(abs(low - places[0]), abs(high - places[1])) / wide
    if off <= 0.12:
        return
    if max(abs(low - chips[0]), abs(high - chips[1])) < 0.12 * wide:
        raise NotYet(
            "That is the interval of drawing single pictures. The dates of a place are alike: draw "
            "places, and take all pictures of each."
        )
    if high - low < 0.2 * wide:
        raise NotYet("That is far too narrow: the two ends hold 95 % of what the draws gave.")
    raise NotYet(
        "Draw as many places as there are, with replacement; the accuracy is the mean over their "
        "pictures. Repeat a thousand times; the ends are the percentiles 2.5 and 97.5."
    )


def _ends(seen: Any, *, by_place: bool, draws: int = 2000) -> tuple[float, float]:
    hits = defaultdict(list)
    for at, (place, hit) in enumerate(zip(seen["location"], seen["hit"], strict=True)):
        hits[place if by_place else at].append(bool(hit))
    right, size = (np.array([f(h) for h in hits.values()], float) for f in (sum, len))
    rng, found = np.random.default_rng(1), []
    for _ in range(draws):
        drawn = rng.integers(0, len(size), len(size))
        found.append(right[drawn].sum() / size[drawn].sum())
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def exercise_4(answer: object, given: Any) -> None:
    """A verdict; ``given`` is ``(result, baseline)`` of the same test pictures."""
    word = as_choice(answer, _VERDICTS)
    gains = defaultdict(list)
    ours, theirs = (result.predictions for result in given)
    for place, a, b in zip(ours["location"], ours["hit"], theirs["hit"], strict=True):
        gains[place].append(int(a) - int(b))
    means = [sum(values) / len(values) for values in gains.values()]
    mean = sum(means) / len(means)
    error = math.sqrt(sum((m - mean) ** 2 for m in means) / len(means) / max(1, len(means) - 1))
    z = mean / error if error else 0.0
    truth = "better" if z > 1.96 else "worse" if z < -1.96 else "cannot tell"
    near = {truth, "cannot tell", "better" if z > 0 else "worse"}
    if word in (near if 1.7 < abs(z) < 2.25 else {truth}):  # another draw decides otherwise there
        return
    if truth == "cannot tell":
        raise NotYet("The interval of the difference holds zero: what does that allow to say?")
    raise NotYet("The interval of the difference does not hold zero. On which side of it is it?")


def exercise_5(answer: object, given: Any) -> None:
    """Points gained with the fewest labels; ``given`` is ``(table, baseline's table)``."""
    value, means = as_number(answer), []
    for rows in given:
        few = min(rows["share"])
        found = [v for share, v in zip(rows["share"], rows["value"], strict=True) if share == few]
        means.append(sum(found) / len(found))
    truth = 100 * (means[0] - means[1])
    if math.isclose(value, truth, abs_tol=0.06):
        return
    if math.isclose(value, -truth, abs_tol=0.06):
        raise NotYet("The size is right; take the untrained one away from the trained one.")
    if math.isclose(value, truth / 100, abs_tol=6e-4):
        raise NotYet("That is a difference of shares; in points it is a hundred times that.")
    every = [100 * float(np.mean(rows["value"])) for rows in given]
    if math.isclose(value, every[0] - every[1], abs_tol=0.06):
        raise NotYet("That is over all numbers of labels; only the smallest share is asked for.")
    raise NotYet(
        "Keep the rows of the smallest share in both tables, take the mean of value over the "
        "seeds, and the difference of the two means, times a hundred."
    )
