"""Right answers and hints of lesson 03."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd

from geossl import datasets
from geossl.data.readers import get_reader
from geossl.data.store import ChipStore
from geossl.datasets.simulate import EFFECTS
from geossl.embeddings import embed
from geossl.models import Encoder
from geossl_lessons.checking import NotYet, as_array, call_answer, grade_quiz

_BROKEN = ("clouds", "sensor")
_QUIZ = (  # letter of the right answer; a sentence for those who chose another
    ("c", "What differs between query and key is ignored. What must never differ here?"),
    ("a", "The two losses are those of two different games. What can be compared instead?"),
    ("b", "Look at the table of the policies once more: which of its columns is about this?"),
)


def exercise_1(answer: object, data: Any = None) -> None:
    """Check a function ``(first (P, E), last (P, E))`` -> index of the nearest last, ``(P,)``."""
    for seed, places in enumerate((9, 14, 1)):
        rng = np.random.default_rng(seed)
        first, last = (  # of very different lengths
            rng.normal(size=(places, 5)) * np.exp(2 * rng.normal(size=(places, 1)))
            for _ in range(2)
        )
        value = call_answer(answer, first.copy(), last.copy())
        if np.shape(value) == (places, places) != (1, 1):
            raise NotYet("That is the whole matrix. Of each row, give the column of its maximum.")
        if np.asarray(value).dtype == bool:
            raise NotYet("Return the number of the nearest place, not whether it is the right one.")
        index = as_array(value, (places,)).tolist()
        if index == [_nearest(vector, last.tolist()) for vector in first.tolist()]:
            continue
        for wrong, words in _mistakes_of_search(first, last):
            if index == wrong.tolist():
                raise NotYet(words)
        raise NotYet(
            "Scale each vector to length 1, take the dot products of all first with all last "
            "dates, and find where the largest of each row is."
        )


def exercise_2(answer: object, data: Any = None) -> None:
    """Check a function ``(scenes, min_gap_days)`` -> for each row, the rows that may be its key."""
    for seed, gap_days in ((0, 180), (1, 30.5), (2, 0)):
        scenes = _dated_scenes(seed)
        keys = call_answer(answer, scenes.copy(), gap_days)
        if not hasattr(keys, "__len__") or len(keys) != len(scenes):
            raise NotYet(f"Return one array of rows for each of the {len(scenes)} rows.")
        for row, own in enumerate(keys):
            if own is None or own is ...:
                raise NotYet(f"There is no array of keys for row {row}.")
            values = np.asarray(own)
            values = as_array(np.flatnonzero(values) if values.dtype == bool else values)
            _compare_keys(scenes, row, {int(value) for value in values.ravel()}, gap_days)


def exercise_3(answer: object, data: Any) -> None:
    """Check two recalls in a world without `_BROKEN`.

    ``data`` is ``(store, places, dates, seed, runs)``, with the runs by name.
    """
    store, places, dates, seed, runs = data
    values = as_array(answer, (2,))
    if not ((values >= 0) & (values <= 1)).all():
        raise NotYet("Both are shares from 0 to 1.")
    world = {"places": places, "dates": dates, "seed": seed}
    encoders = [runs["MoCo-v2"].encoder, runs["+TP"].encoder]
    broken = tuple(effect for effect in EFFECTS if effect not in _BROKEN)
    truth, full = (_recalls(store, encoders, effects, **world) for effects in (broken, EFFECTS))
    if np.allclose(values, truth, atol=2e-3):
        return
    if np.allclose(values[::-1], truth, atol=2e-3):
        raise NotYet("The order is the other way round: MoCo-v2 first, then +TP.")
    if np.allclose(values, full, atol=2e-3):
        raise NotYet("These are the shares with all effects. Leave clouds and sensor out.")
    raise NotYet(
        "Build the world with PLACES, DATES, SEED and the four other effects, keep the places of "
        "its test split, and embed them with both encoders."
    )


def exercise_4(answer: object, data: Any = None) -> None:
    """Check the letters of the three questions."""
    grade_quiz(answer, _QUIZ)


def _nearest(vector: list[float], others: list[list[float]]) -> int:
    """Find the largest cosine by a loop over numbers."""
    cosines = [
        sum(a * b for a, b in zip(vector, other, strict=True)) / math.hypot(*other)
        for other in others
    ]
    return max(range(len(others)), key=cosines.__getitem__)


def _mistakes_of_search(first: np.ndarray, last: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """Return what the likely mistakes find, and a hint for each."""
    unit, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, last))
    by_column = last / np.linalg.norm(last, axis=0)
    return [
        ((unit @ other.T).argmin(1), "That is the farthest place. A large cosine means alike."),
        (
            (unit @ other.T).argmax(0),
            "You search the wrong way round: a row, a first date, looks for a column (axis 1).",
        ),
        ((unit @ last.T).argmax(1), "The vectors of `last` are not of length 1 yet."),
        ((unit @ by_column.T).argmax(1), "A vector is a row: take the length along axis=1."),
    ]


def _dated_scenes(seed: int) -> pd.DataFrame:
    """Draw a small table of locations and days, in no order; one location has a single date."""
    rng = np.random.default_rng(seed)
    location = rng.permutation([7, 7, 7, 7, 3, 3, 3, 5, 9, 9])
    days = rng.choice(900, len(location), replace=False)
    days[np.flatnonzero(location == 7)[:2]] = 1_000, 1_180  # exactly 180 days apart
    time = pd.Timestamp("2010-01-10", tz="UTC") + pd.to_timedelta(days, "D")
    return pd.DataFrame({"location": location, "time": time})


def _compare_keys(scenes: pd.DataFrame, row: int, keys: set[int], gap_days: float) -> None:
    """Compare the keys of a row with those that a loop over all rows allows."""
    location, time = scenes["location"].tolist(), scenes["time"].tolist()
    gaps = [abs((t - time[row]).total_seconds()) / 86_400 for t in time]
    same = {i for i, name in enumerate(location) if name == location[row]}
    truth = {i for i in same if i != row and gaps[i] >= gap_days}
    if keys == truth:
        return
    start = f"With a gap of {gap_days:g} days: "
    if row in keys:
        raise NotYet(start + "a row is its own key. Leave it out, even if the gap may be 0.")
    if keys - same:
        raise NotYet(start + "some keys are rows of another location.")
    if any(gaps[i] < gap_days for i in keys):
        raise NotYet(start + "some keys are nearer in time than that.")
    if all(gaps[i] == gap_days for i in truth - keys):
        raise NotYet(start + "some keys are missing: those exactly that many days away.")
    raise NotYet(start + "some keys are missing. Both earlier and later dates may be keys.")


def _recalls(
    store: ChipStore, encoders: list[Encoder], effects: tuple[str, ...], **world: int
) -> list[float]:
    """Return how often each encoder finds the first date of a test place among the last ones."""
    scenes = datasets.blue_marble(**world, effects=effects)
    test = scenes[scenes["split"] == "test"].reset_index(drop=True)
    by_time = test.sort_values("time", kind="stable").groupby("location")
    rows = pd.concat([by_time.head(1), by_time.tail(1)]).sort_values(["location", "time"])
    rows = rows.reset_index(drop=True)  # first and last date of one place after another
    pixels = get_reader("blue_marble").read_chips(rows, size_px=store.size_px)
    dated = dataclasses.replace(store, chips=pixels.chips, scenes=rows)
    recalls = []
    for encoder in encoders:
        vectors = embed(dated, encoder).vectors.astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        first, last = vectors[::2], vectors[1::2]
        recalls.append(float(np.mean([np.argmax(last @ x) == i for i, x in enumerate(first)])))
    return recalls
