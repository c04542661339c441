"""Right answers and hints of lesson 06."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geossl_lessons.checking import NotYet, as_array, grade_number, grade_quiz


def exercise_1(answer: object, data: Any = None) -> None:
    """Check a bootstrap over places, a function of ``hits (N,)`` and ``place (N,)``."""
    if not callable(answer):
        raise NotYet("The answer must be the function itself: write bootstrap_places, no brackets.")
    rng = np.random.default_rng(3)
    size = rng.integers(1, 8, 60)  # places with few pictures and with many, and these easier
    place = np.repeat(rng.permutation(60) + 7, size)
    share = np.repeat(np.clip(rng.random(60) * 0.6 + size / 16, 0, 1).round(), size)
    hits = np.where(rng.random(len(place)) < 0.9, share, 1 - share).astype(bool)
    order = rng.permutation(len(place))
    means = answer(hits[order].copy(), place[order].copy())
    if means is ... or any(value is ... for value in np.ravel(np.asarray(means, object))):
        raise NotYet("There are still three dots in your function. Replace both.")
    means = as_array(means)
    if means.ndim != 1 or len(means) < 100:
        raise NotYet(
            "Return all the accuracies of the draws, one number each; yours have the shape "
            f"{means.shape}."
        )
    if not 0 <= means.min() <= means.max() <= 1:
        raise NotYet(
            "An accuracy is a share from 0 to 1: the right pictures of the places drawn, divided "
            "by all the pictures of the places drawn."
        )
    right, size = np.bincount(place, hits)[7:], np.bincount(place)[7:]
    truth, of_shares = _spread(right, size), _spread(right / size, np.ones(60))
    of_pictures = _spread(hits, np.ones(len(hits)))
    mean, std = means.mean(), means.std()
    tolerance = 4 * truth[1] / math.sqrt(len(means))
    if abs(mean - truth[0]) < tolerance + 0.003 and abs(std / truth[1] - 1) < 0.12:
        return
    if std < 1e-9:
        raise NotYet(
            "All your draws are the same. Draw with replacement, anew each time: some places come "
            "twice, and some not at all."
        )
    if abs(std / of_pictures[1] - 1) < 0.12:
        raise NotYet("That spreads as if you drew single pictures. Draw numbers of places.")
    if abs(mean - of_shares[0]) < tolerance + 0.003:
        raise NotYet(
            "That is the mean of the places' shares. Places with many pictures count for more: "
            "first add up the right pictures and all pictures, then divide."
        )
    raise NotYet(
        "Draw as many places as there are, len(size), with rng.integers. Then right[drawn] are the "
        "right pictures of the places drawn, and size[drawn] all their pictures."
    )


def _spread(total: np.ndarray, size: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of resampled means, by how often each group is drawn."""
    means = _resample(total, size)
    return float(means.mean()), float(means.std())


def _resample(total: np.ndarray, size: np.ndarray) -> np.ndarray:
    count = len(size)
    times = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), 4_000)
    return np.asarray(times @ total / (times @ size))


def exercise_2(answer: object, data: Any) -> None:
    """Check how wide an interval over pictures is, as a share of the one over places.

    ``data`` is ``(hits, place)``, both ``(N,)``.
    """
    hits, place = (np.asarray(part) for part in data)
    pictures, places = (_width(hits, group) for group in (np.arange(len(hits)), place))
    truth = pictures / places
    mistakes = {
        places / pictures: "That is the other way round: divide by the width over places.",
        100 * truth: "That is in percent. Give a number such as 0.5 for half as wide.",
        1 - truth: "That is how much of the width is missing. Give how much is left.",
    }
    hint = (
        "Call interval twice: with place[test], and with np.arange(len(hit)), where each picture "
        "is a group of its own. A width is the upper end minus the lower end."
    )
    grade_number(answer, truth, mistakes, hint=hint, rel_tol=0.15)


def _width(hits: np.ndarray, group: np.ndarray) -> float:
    """Width of the 95 % interval over groups."""
    index = np.unique(group, return_inverse=True)[1]
    low, high = np.percentile(_resample(np.bincount(index, hits), np.bincount(index)), [2.5, 97.5])
    return float(high - low)


def exercise_3(answer: object, data: Any) -> None:
    """Check how many labels a method needs; ``data`` is ``(counts, curves by method)``."""
    counts, curves = data
    curve = np.asarray(curves["+Geo+TP"]["value"], float)
    value = float(np.asarray(curves["untrained"]["value"], float)[-2])
    truth = _bisect(counts, curve, value)
    if isinstance(answer, float | np.floating) and math.isinf(answer) and answer > 0:
        if math.isinf(truth):
            return
        raise NotYet("It does reach that accuracy. Are the two curves the right way round?")
    if math.isinf(truth):
        raise NotYet("This curve never reaches that accuracy; the answer is np.inf.")
    linear = float(np.interp(value, np.maximum.accumulate(curve), counts))
    mistakes = {
        math.log(truth): "That is the logarithm of the number. Take np.exp of it.",
        linear: "That is read off along a straight axis. The axis of the figure is logarithmic.",
        float(value): "That is the accuracy to reach. How many labels does it take?",
    }
    hint = (
        "Go from the last dot but one of the untrained curve to the left until you meet the curve "
        "of +Geo+TP. labels_needed does that, if you give it the curve of +Geo+TP and the value."
    )
    grade_number(answer, truth, mistakes, hint=hint, rel_tol=0.02)


def _bisect(counts: Any, curve: Any, value: float) -> float:
    """First number of labels at which the curve is at a value, by halving an interval."""
    points = list(zip(map(math.log, counts), map(float, curve), strict=True))
    if points[0][1] >= value:
        return float(counts[0])
    for i, (last, y) in enumerate(points[1:], 1):
        if y < value:
            continue
        first, base = points[i - 1][0], max(before for _, before in points[:i])
        left, right = first, last
        for _ in range(60):
            middle = (left + right) / 2
            height = base + (y - base) * (middle - first) / (last - first)
            left, right = (middle, right) if height < value else (left, middle)
        return math.exp(right)
    return math.inf


_QUIZ = (
    ("c", "Where is zero? An interval that contains it allows a loss as well as a gain."),
    ("a", "Think of a cloudy year at one place: what does it do to all of its pictures?"),
    ("b", "Among ten tries the luckiest is the best one. What did the test decide here?"),
)


def exercise_4(answer: object, data: Any = None) -> None:
    """Check the quiz: a string of three letters."""
    grade_quiz(answer, _QUIZ)
