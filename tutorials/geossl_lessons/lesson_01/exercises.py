"""Right answers and hints of lesson 01."""

from __future__ import annotations

from typing import Any

import numpy as np

from geossl.geo import EARTH_RADIUS_KM
from geossl_lessons.checking import NotYet, as_array, call_answer, grade_quiz, grade_share

_FOLDS = 5
_SMALL_DEG = 0.5  # the side of the blocks in exercise 3
_QUIZ = (  # letter of the right answer; a sentence for those who chose another
    ("b", "In which half of the world is that, and which season has January there?"),
    ("c", "Two dates of one location share their ground and their label. Where must they be?"),
    (
        "a",
        "A test must be as far from the training as the use will be. How far is the use here?",
    ),
)


def haversine_km(lon1: Any, lat1: Any, lon2: Any, lat2: Any) -> Any:
    """Compute the distance of positions in degrees, numbers or arrays, without `geossl.geo`."""
    lon1, lat1, lon2, lat2 = (np.radians(x) for x in (lon1, lat1, lon2, lat2))
    shrink = np.cos(lat1) * np.cos(lat2)
    part = np.sin((lat2 - lat1) / 2) ** 2 + shrink * np.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(part, 0, 1)))


def exercise_1(answer: object, data: Any = None) -> None:
    """Check a function ``(lon1, lat1, lon2, lat2)``, degrees ``(N,)`` -> kilometers ``(N,)``."""
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-180, 180, (2, 7)), np.degrees(np.arcsin(rng.uniform(-1, 1, (2, 7))))
    given = lon[0], lat[0], lon[1], lat[1]
    value = as_array(call_answer(answer, *(x.copy() for x in given)), (7,))
    truth = haversine_km(*given)
    angle = truth / EARTH_RADIUS_KM
    for wrong, words in (
        (angle, "That is the angle in radians. Times the radius of the Earth it is kilometers."),
        (
            EARTH_RADIUS_KM * np.cos(angle),
            "The cosine is no angle yet: np.arccos turns it into one.",
        ),
        (EARTH_RADIUS_KM * np.degrees(angle), "np.arccos gives radians already; leave them so."),
        (6_371 * np.pi / 2, "The sum of the products belongs to `cosine`, one for each position."),
    ):
        if np.allclose(value, wrong, rtol=1e-3):
            raise NotYet(words)
    if not np.allclose(value, truth, rtol=1e-3):
        raise NotYet(
            "The cosine is the sum of the products of the three coordinates, along the last axis. "
            "np.arccos of it is the angle; the radius times the angle is the distance."
        )


def exercise_2(answer: object, data: Any = None) -> None:
    """Check a function ``(lon, lat, degrees)`` -> a fold ``(M,)`` for each position, by blocks."""
    for seed, degrees in enumerate((10, 7.5, 30)):
        rng = np.random.default_rng(seed)
        lon, lat = rng.uniform(-180, 180, 900), rng.uniform(-85, 85, 900)
        value = call_answer(answer, lon.copy(), lat.copy(), degrees)
        row, column = np.floor(lat / degrees).astype(int), np.floor(lon / degrees).astype(int)
        blocks = len({*zip(row.tolist(), column.tolist(), strict=True)})
        if np.shape(value) == (blocks,):
            raise NotYet(
                "That is a fold for each block. Each position needs one: that of its own block."
            )
        fold = as_array(value, (900,))
        if set(np.unique(fold)) - set(range(_FOLDS)):
            raise NotYet(
                f"There are folds other than 0 to {_FOLDS - 1}. `deck` has the fold of each block, "
                "`index` the block of each position."
            )
        of_block: dict[tuple[int, int], set[float]] = {}
        for y, x, own in zip(row.tolist(), column.tolist(), fold.tolist(), strict=True):
            of_block.setdefault((y, x), set()).add(own)
        if any(len(folds) > 1 for folds in of_block.values()):
            raise NotYet(
                f"With {degrees} degrees: two positions in one block are in different folds. A "
                "column is `degrees` wide, as a row is high."
            )
        bands = [
            {own for (y, _), folds in of_block.items() if y == band for own in folds}
            for band in np.unique(row)
        ]
        if all(len(folds) == 1 for folds in bands):
            raise NotYet(
                "All blocks of the same latitude are in the same fold: these are belts around the "
                "Earth. Does your column use the longitude?"
            )
        if min(np.bincount(fold.astype(int), minlength=_FOLDS)) == 0:
            raise NotYet("Some fold is empty. Keep the line with the shuffled deck as it was.")


def exercise_3(answer: object, data: Any) -> None:
    """Check a share of the test near the training; ``data`` is ``(scenes, footprint_km, seed)``."""
    scenes, footprint_km, seed = data
    places = scenes.drop_duplicates("location")
    lon, lat, location = (places[name].to_numpy() for name in ("lon", "lat", "location"))

    def share_near(*group: np.ndarray) -> float:
        keys = sorted(set(zip(*(x.tolist() for x in group), strict=True)))
        deck = np.random.default_rng(seed).permutation(len(keys)) % _FOLDS
        fold_of = dict(zip(keys, deck.tolist(), strict=True))
        own = zip(*(x.tolist() for x in group), strict=True)
        test = np.array([fold_of[key] == 0 for key in own])
        if test.all() or not test.any():
            return float("nan")
        km = haversine_km(lon[~test], lat[~test], lon[test][:, None], lat[test][:, None])
        return float((km.min(1) < footprint_km).mean())

    truth = share_near(np.floor(lat / _SMALL_DEG), np.floor(lon / _SMALL_DEG))
    mistakes = {
        1 - truth: "That is the share of the locations that are farther away.",
        share_near(np.floor(lat / 10), np.floor(lon / 10)): "That is the share for blocks of 10°.",
        share_near(location): "That is the share for random locations.",
    }
    hint = (
        "deal(blocks(0.5)) gives the folds, copied_from(globe, ...) the nearest training row of "
        "each picture. Keep fold 0: for which share is that row nearer than the side of a chip?"
    )
    grade_share(answer, truth, mistakes, hint=hint, abs_tol=5e-3)


def exercise_4(answer: object, data: Any = None) -> None:
    """Check the letters of the three questions."""
    grade_quiz(answer, _QUIZ)
