"""Right answers and hints of lesson 05."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from geossl import evaluate, geo
from geossl.embeddings import Embeddings, embed
from geossl_lessons.checking import NotYet, as_array, call_answer, grade_quiz, grade_share

_LEAST_CHIPS, _LEAST_SHARE, _FAR_KM = 20, 0.75, 5_000
_QUIZ = (  # letter of the right answer; a sentence for those who chose another
    ("b", "How many axes are left out of the picture, and may two points differ along those?"),
    ("a", "What could an encoder do that has never seen a single picture?"),
    ("c", "What goes with an error need not be its cause. What did you do to test a cause?"),
)


def exercise_1(answer: object, data: Any = None) -> None:
    """Check a function ``(x (M, E), k)`` -> coordinates ``(M, k)`` and the share they keep."""
    rng = np.random.default_rng(0)
    for rows, k in ((60, 2), (40, 3), (50, 1)):
        x = rng.normal(size=(rows, 6)) * [4, 3, 2, 1, 1, 1] @ rng.normal(size=(6, 6)) + 9
        value = call_answer(answer, x.copy(), k)
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise NotYet("Return two things: the coordinates (M, k), and the share, a number.")
        variance, axes = np.linalg.eigh(np.cov(x.T))
        variance, axes = variance[::-1].clip(0), axes[:, ::-1]
        length, raw = np.sqrt(variance), np.linalg.svd(x, compute_uv=False) ** 2
        mistakes = {
            length[:k].sum() / length.sum(): "The variance along an axis is the *square* of s.",
            variance[:k].sum() / length.sum(): "The variance along an axis is the *square* of s.",
            raw[:k].sum() / raw.sum(): "Subtract the mean of every column: axis=0.",
        }
        hint = "The share is the sum of the first k squares of s by the sum of all squares."
        grade_share(value[1], variance[:k].sum() / variance.sum(), mistakes, hint=hint)
        coordinates = as_array(value[0], (rows, k))
        truth = (x - x.mean(0)) @ axes[:, :k]
        if not np.allclose(np.abs(coordinates), np.abs(truth), atol=1e-6 * np.abs(truth).max()):
            raise NotYet(
                "The share is right, the coordinates are not. An axis is a *row* of `axes`: take "
                "the first k rows, and transpose them."
            )


def exercise_2(answer: object, data: Any) -> None:
    """Check rows that are similar but far apart; ``data`` is the scene table."""
    rows = as_array(answer)
    if rows.ndim != 1 or not (rows == np.round(rows)).all():
        raise NotYet("The answer must be a list of row numbers, such as explorer.selection.")
    rows = np.unique(rows).astype(int)
    if len(rows) < _LEAST_CHIPS:
        raise NotYet(
            f"{len(rows)} chips are selected; take {_LEAST_CHIPS} or more: drag a box or a lasso "
            "in one of the projections."
        )
    if rows[0] < 0 or rows[-1] >= len(data):
        raise NotYet(f"Rows go from 0 to {len(data) - 1}.")
    selection = data.iloc[rows]
    climate, count = Counter(selection["label"]).most_common(1)[0]
    if count < _LEAST_SHARE * len(rows):
        raise NotYet(
            f"The most frequent climate, {climate}, has {count / len(rows):.0%} of your selection; "
            f"it needs {_LEAST_SHARE:.0%}. Select fewer chips, or go to the rim of the cloud."
        )
    lon, lat = selection["lon"].to_numpy(float), selection["lat"].to_numpy(float)
    km = max(geo.great_circle_km(x, y, lon, lat).max() for x, y in zip(lon, lat, strict=True))
    if km < _FAR_KM:
        raise NotYet(
            f"Your locations are within {km:,.0f} km of each other. Select in a projection, not on "
            "the map: locations that look alike and are far apart."
        )


def exercise_3(answer: object, data: Any = None) -> None:
    """Check a function ``(vectors (M, E), place (M,), query, k)`` -> rows ``(k,)``."""
    rng = np.random.default_rng(3)
    for query, k in ((4, 3), (0, 5), (17, 1)):
        vectors = rng.normal(size=(18, 4)) * np.exp(rng.normal(size=(18, 1)))  # of many lengths
        place = np.repeat(np.arange(6), 3)
        vectors[place == place[query]] = vectors[query] + 0.01 * rng.normal(size=(3, 4))
        rows = as_array(call_answer(answer, vectors.copy(), place.copy(), query, k), (k,))
        if not set(rows.tolist()) <= set(range(18)):
            raise NotYet("Return rows: whole numbers from 0 to M - 1.")
        if query in rows:
            raise NotYet("The query itself is among them; it is always the most similar to itself.")
        if place[query] in place[rows.astype(int)]:
            raise NotYet("A chip of the query's own place is among them, on another date.")
        cosine = [float(v @ vectors[query]) / float(np.linalg.norm(v)) for v in vectors]
        order = sorted((i for i in range(18) if place[i] != place[query]), key=lambda i: -cosine[i])
        if rows.tolist() == order[:k]:
            continue
        if rows.tolist() == order[::-1][:k]:
            raise NotYet("These are the least similar ones: np.argsort begins with the smallest.")
        if rows.tolist() == order[:k][::-1]:
            raise NotYet("The right ones, in the wrong order: the most similar first.")
        raise NotYet(
            "These are not the most similar ones. Multiply the *unit* vectors, all with that of "
            "the query, and sort from the largest to the smallest."
        )


def exercise_4(answer: object, data: Any) -> None:
    """Check how often the probe is right about the test turned upside down.

    ``data`` is ``(store, encoder, rows, l2)``: the test rows and the penalty of the probe.
    """
    store, encoder, rows, l2 = data
    scenes = store.scenes
    plain = embed(store, encoder).vectors

    def share_right(turn: Any) -> float:
        chips = np.array(store.chips)
        chips[rows] = turn(chips[rows])
        x = plain.copy()
        x[rows] = embed(dataclasses.replace(store, chips=chips), encoder, index=rows).vectors
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return evaluate.linear(Embeddings(x, scenes), l2=l2).value

    truth = share_right(lambda x: x[:, :, ::-1, ::-1])
    mistakes = {
        share_right(lambda x: x): "That is the share for the pictures as they are.",
        share_right(lambda x: x[:, :, ::-1]): "That is mirrored, not turned: reverse both axes.",
        share_right(lambda x: x[..., ::-1]): "That is mirrored, not turned: reverse both axes.",
        share_right(lambda x: x[:, ::-1]): "That reverses the colors. Rows and columns are last.",
    }
    mistakes.pop(truth, None)
    hint = 'Turn pictures[:, :, ...] along both axes, then: test_right("trained", turned).value.'
    grade_share(answer, truth, mistakes, hint=hint)


def exercise_5(answer: object, data: Any = None) -> None:
    """Check the letters of the three questions."""
    grade_quiz(answer, _QUIZ)
