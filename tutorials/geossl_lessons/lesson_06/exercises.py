"""Right answers and hints of lesson 06."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from geossl_lessons.checking import NotYet, as_array, as_choice, grade_number, grade_share

_VERDICTS = ("better", "worse", "cannot tell")


def exercise_1(answer: object, data: Any) -> None:
    """Check the accuracy of always guessing the usual class; ``data`` is the scene table."""
    labels = {part: rows["label"].dropna() for part, rows in data.groupby("split")}
    usual = labels["train"].value_counts().index[0]
    mistakes = {
        (labels["train"] == usual).mean(): (
            "That is its share of the training pictures; guess on the test pictures."
        )
    }
    hint = (
        "Find the class that most training pictures have, then count in which share of the test "
        "pictures it is the right one."
    )
    grade_share(answer, (labels["test"] == usual).mean(), mistakes, hint=hint, abs_tol=5e-4)


def exercise_2(answer: object, data: Any) -> None:
    """Check the nearest neighbor's accuracy; ``data`` is ``(train_x, train_y, test_x, test_y)``."""
    train_x, train_y, test_x, test_y = data
    mistakes = {
        _accuracy(train_x, train_y, -test_x, test_y): (
            "That is the least similar neighbor: the cosine is large for similar pictures."
        ),
        _accuracy(test_x, test_y, train_x, train_y): (
            "You classified the training pictures, with the test pictures as neighbors. Swap them."
        ),
    }
    hint = (
        "For each row of test_x: the row of train_x with the largest cosine lends its label. In "
        "which share of the test pictures is it the right one?"
    )
    truth = _accuracy(train_x, train_y, test_x, test_y)
    grade_share(answer, truth, mistakes, hint=hint, abs_tol=2.1 / len(test_x))


def _accuracy(known_x: Any, known_y: Any, x: Any, y: Any) -> float:
    return sum(
        known_y[np.argmax(known_x @ row)] == own for row, own in zip(x, y, strict=True)
    ) / len(y)


def exercise_3(answer: object, data: Any) -> None:
    """Check a 95 % interval over locations; ``data`` is the result of a probe."""
    low, high = ends = as_array(answer, (2,))
    if low > high:
        raise NotYet("The lower end comes first.")
    if high > 1.5:
        raise NotYet("Give shares from 0 to 1; yours look like percent.")
    hit, location = data.predictions["hit"].astype(float), data.predictions["location"]
    truth, by_chip = _bootstrap(hit.groupby(location)), _bootstrap(hit.groupby(np.arange(len(hit))))
    width = truth[1] - truth[0]
    if np.abs(ends - truth).max() <= 0.12 * width:
        return
    if np.abs(ends - by_chip).max() < 0.12 * width:
        raise NotYet(
            "That is the interval of drawing single pictures. The dates of a location are similar: "
            "draw locations, and take all pictures of each."
        )
    if high - low < 0.2 * width:
        raise NotYet("That is far too narrow: 95 % of the draws are between the two ends.")
    raise NotYet(
        "Draw as many locations as there are, with replacement; the accuracy is the mean over all "
        "pictures. Repeat a thousand times; the ends are the percentiles 2.5 and 97.5."
    )


def _bootstrap(groups: Any, draws: int = 2000) -> np.ndarray:
    right, size = groups.sum().to_numpy(), groups.size().to_numpy()
    rng, values = np.random.default_rng(1), []
    for _ in range(draws):
        sample = rng.integers(0, len(size), len(size))
        values.append(right[sample].sum() / size[sample].sum())
    return np.percentile(values, [2.5, 97.5])


def exercise_4(answer: object, data: Any) -> None:
    """Check a verdict; ``data`` is ``(result, baseline)`` on the same test pictures."""
    choice = as_choice(answer, _VERDICTS)
    ours, theirs = (result.predictions for result in data)
    gains = pd.Series(ours["hit"].to_numpy(int) - theirs["hit"].to_numpy(int))
    means = gains.groupby(ours["location"].to_numpy()).mean()
    error = means.std() / math.sqrt(len(means))
    z = means.mean() / error if error else 0.0
    truth = "better" if z > 1.96 else "worse" if z < -1.96 else "cannot tell"
    if choice == truth:
        return
    if 1.7 < abs(z) < 2.25 and choice in ("cannot tell", "better" if z > 0 else "worse"):
        return  # another draw decides otherwise there
    if truth == "cannot tell":
        raise NotYet("The interval of the difference holds zero: what can you conclude from that?")
    raise NotYet("The interval of the difference does not hold zero. On which side of it is it?")


def exercise_5(answer: object, data: Any) -> None:
    """Check points gained with the fewest labels; ``data`` is ``(table, baseline's table)``."""
    few = [rows["value"][rows["share"] == rows["share"].min()].mean() for rows in data]
    truth = 100 * (few[0] - few[1])
    mistakes = {
        -truth: "The size is right; subtract the untrained one from the trained one.",
        truth / 100: "That is a difference of shares; in points it is a hundred times that.",
        100 * (data[0]["value"].mean() - data[1]["value"].mean()): (
            "That is over all numbers of labels. Take only the smallest share."
        ),
    }
    hint = (
        "Keep the rows of the smallest share in both tables, take the mean of value over the "
        "seeds, and the difference of the two means, times a hundred."
    )
    grade_number(answer, truth, mistakes, hint=hint, rel_tol=0, abs_tol=0.06)
