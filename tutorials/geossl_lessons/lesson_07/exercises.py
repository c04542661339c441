"""Right answers and hints of lesson 07."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from geossl_lessons.checking import (
    NotYet,
    as_array,
    as_number,
    call_answer,
    grade_number,
    grade_quiz,
)

_QUIZ = (  # letter of the right answer; a sentence for those who chose another
    ("b", "How many meters of ground does one side of the chip show?"),
    ("c", "Two empty chips are two different places to the loss. What do their pictures show?"),
    ("a", "Where is zero? Then think about what would make this interval narrower."),
)


def exercise_1(answer: object, data: Any = None) -> None:
    """Check a function ``(transform, x, y, chip_px)`` -> row and column of a cell."""
    from rasterio.transform import from_origin

    for seed, (left, top, wide, high) in enumerate(
        ((4_800_000.0, 4_260_000.0, 5_000.0, 5_000.0), (-3.5, 47.25, 0.02, 0.01))
    ):
        transform, rng = from_origin(left, top, wide, high), np.random.default_rng(seed)
        for chip_px, row, column in zip((24, 10, 64), (3, 0, 7), (5, 4, 2), strict=True):
            inside = rng.uniform(0.05, 0.95, 2) * chip_px
            x = left + wide * (column * chip_px + inside[0])
            y = top - high * (row * chip_px + inside[1])
            value = call_answer(answer, transform, x, y, chip_px)
            _judge_cell(as_array(value, (2,)).tolist(), row, column, chip_px)


def _judge_cell(value: list[float], row: int, column: int, chip_px: int) -> None:
    """Compare a cell with the one where the place was put."""
    if value == [row, column]:
        return
    if value == [column, row]:
        raise NotYet("The order is the other way round: the row first, then the column.")
    if value[0] < 0 or value[0] == -row:
        raise NotYet(
            "A row is negative. y grows to the north and rows are counted downwards: subtract "
            "transform.f, then divide by transform.e, which is negative, too."
        )
    wrong = [(v, index) for v, index in zip(value, (row, column), strict=True) if v != index]
    if all(v // chip_px == index for v, index in wrong):
        raise NotYet("That is in pixels. A cell is chip_px pixels wide: which cell is it?")
    if value[0] == row:
        raise NotYet("The row of the cell is right, its column is not.")
    if value[1] == column:
        raise NotYet("The column of the cell is right, its row is not.")
    raise NotYet(
        "First turn y into pixels, as the line above does with x: subtract where the picture "
        "begins, and divide by what one step is worth. Then count in steps of chip_px."
    )


def exercise_2(answer: object, data: Any = None) -> None:
    """Check a function ``(chip, nir, red)`` -> the NDVI ``(H, W)``."""
    rng = np.random.default_rng(0)
    chip = rng.integers(1, 4_000, (5, 6, 7)).astype(np.uint16)
    chip[:, 0, :3] = 0  # no data
    for nir, red in ((3, 2), (0, 4)):
        values = as_array(call_answer(answer, chip.copy(), nir, red), chip.shape[1:])
        truth = np.zeros(chip.shape[1:])
        for row, column in np.argwhere(chip.any(0)).tolist():
            a, b = int(chip[nir, row, column]), int(chip[red, row, column])
            truth[row, column] = (a - b) / (a + b)
        if np.allclose(values, truth, atol=2e-3):
            continue
        if np.allclose(values, -truth, atol=2e-3):
            raise NotYet("The size is right, the sign is not: infrared minus red.")
        if np.abs(values).max() > 1.001:
            raise NotYet(
                "It is above 1 where red is brighter than infrared, so the numbers still wrap "
                "around. Turn both bands into float before you subtract."
            )
        if np.allclose(values, np.trunc(truth)):
            raise NotYet("All decimals are lost. Which type has decimals?")
        raise NotYet("For each pixel (infrared - red) / (infrared + red), and 0 without data.")


def exercise_3(answer: object, data: Any) -> None:
    """Check the share found after each location's mean is gone.

    ``data`` is ``(vectors (M, E) by network, scenes of these rows)``.
    """
    vectors, scenes = data
    trained = np.asarray(vectors["trained"], np.float64)
    truth = _share_found(_without_mean(trained, scenes["location"]), scenes)
    if truth is None:
        if as_number(answer) != 0:
            raise NotYet("No location has a second date here: nothing is found, a share of 0.")
        return
    others = {
        _share_found(trained, scenes): "That is with nothing subtracted.",
        _share_found(_without_mean(trained, scenes["time"]), scenes): (
            "That is with the mean of each date. Subtract that of each location: by=..."
        ),
        _share_found(
            _without_mean(np.asarray(vectors["untrained"], np.float64), scenes["location"]), scenes
        ): "That is the untrained encoder.",
    }
    mistakes = {share: words for share, words in others.items() if share not in (None, truth)}
    hint = "Call recognized(center(...)) with the right argument, and take the mean."
    if as_number(answer) > 1:
        hint = "Give a share from 0 to 1, not a count nor percent."
    one = 1.01 / scenes["location"].nunique()  # a tie may fall either way
    grade_number(answer, truth, mistakes, hint=hint, rel_tol=0, abs_tol=max(one, 2e-3))


def _without_mean(vectors: np.ndarray, groups: pd.Series) -> np.ndarray:
    """Subtract the mean of each group, one group after another."""
    rest = vectors.copy()
    for value in groups.unique():
        rows = (groups == value).to_numpy()
        rest[rows] -= vectors[rows].mean(0)
    return rest


def _share_found(vectors: np.ndarray, scenes: pd.DataFrame) -> float | None:
    """Return how often the last date nearest to a first is its own; None without two dates."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    first, last = [], []
    dated = scenes.assign(row=np.arange(len(scenes))).dropna(subset="time")
    for _, rows in dated.groupby("location"):
        rows = rows.sort_values("time", kind="stable")
        if rows["time"].nunique() > 1:
            first.append(rows["row"].iloc[0])
            last.append(rows.loc[rows["time"] == rows["time"].iloc[-1], "row"].iloc[0])
    if len(first) < 2:
        return None
    hits = [int(np.argmax(unit[last] @ unit[row]) == i) for i, row in enumerate(first)]
    return float(np.mean(hits))


def exercise_4(answer: object, data: Any = None) -> None:
    """Check the letters of the three questions."""
    grade_quiz(answer, _QUIZ)
