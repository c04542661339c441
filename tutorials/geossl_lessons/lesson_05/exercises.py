"""What `check` knows of lesson 05."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from geossl import geo
from geossl_lessons.checking import NotYet, as_array, as_choice, as_number

_LEAST, _SHARE, _FAR_KM = 20, 0.75, 5_000


def exercise_1(answer: object, given: Any) -> None:
    """Rows alike but far apart; ``given`` are the scenes."""
    rows = as_array(answer)
    if rows.ndim != 1 or not (rows == np.round(rows)).all():
        raise NotYet("A list of row numbers is asked for, such as explorer.selection gives.")
    chosen = np.unique(rows).astype(int)
    if len(chosen) < _LEAST:
        raise NotYet(
            f"{len(chosen)} chips are selected; take {_LEAST} or more: drag a box or a lasso in "
            "one of the projections."
        )
    if chosen.min() < 0 or chosen.max() >= len(given):
        raise NotYet(f"Rows go from 0 to {len(given) - 1}.")
    part = given.iloc[chosen]
    name, most = Counter(part["label"]).most_common(1)[0]
    if most < _SHARE * len(part):
        raise NotYet(
            f"The most frequent climate, {name}, has {most / len(part):.0%} of your selection; "
            f"{_SHARE:.0%} are asked for. Make it smaller, or go to the rim of the cloud."
        )
    lon, lat = part["lon"].to_numpy(float), part["lat"].to_numpy(float)
    far = max(
        float(geo.great_circle_km(a, b, lon, lat).max()) for a, b in zip(lon, lat, strict=True)
    )
    if far < _FAR_KM:
        raise NotYet(
            f"Your places lie within {far:,.0f} km of each other. Select in a projection, not on "
            "the map: places that look alike and lie far apart."
        )


def exercise_2(answer: object, given: Any) -> None:
    """Share of the spread that two axes keep; ``given`` are the vectors ``(M, E)``."""
    value, vectors = as_number(answer), np.asarray(given, np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    spread = np.linalg.eigvalsh(np.cov(unit.T))[::-1]
    truth, first = spread[:2].sum() / spread.sum(), spread[0] / spread.sum()
    if abs(value - truth) <= 0.01:
        return
    if abs(value - 100 * truth) <= 1:
        raise NotYet("A share lies between 0 and 1; yours is in per cent.")
    if abs(value - first) <= 0.01:
        raise NotYet("That is what the first axis keeps; the picture has two.")
    length = np.sqrt(spread.clip(0))
    if abs(value - length[:2].sum() / length.sum()) <= 0.01:
        raise NotYet("Square the singular values first: the spread along an axis is their square.")
    raw = (unit**2).sum(0).sum()
    values = np.linalg.svd(unit, compute_uv=False) ** 2
    if abs(value - values[:2].sum() / raw) <= 0.01:
        raise NotYet("Take the mean vector off first: PCA describes the spread around the mean.")
    raise NotYet(
        "Singular values s of the centered vectors: the sum of the first two squares, divided by "
        "the sum of all squares."
    )


def exercise_3(answer: object, given: Any) -> None:
    """The most similar row of another place; ``given`` is ``(vectors, locations, query)``."""
    value, (vectors, location, query) = as_number(answer), given
    location = np.asarray(location)
    if value not in range(len(location)):
        raise NotYet(f"A row is asked for: a whole number from 0 to {len(location) - 1}.")
    if value == query:
        raise NotYet("That is the chip itself; it is always the most similar to itself.")
    if location[int(value)] == location[query]:
        raise NotYet("That is the same place at another date; one of another place is asked for.")
    own = np.asarray(vectors[query], np.float64)
    cosine = [
        math.nan if place == location[query] else float(row @ own) / float(np.linalg.norm(row))
        for row, place in zip(np.asarray(vectors, np.float64), location, strict=True)
    ]
    size = float(np.linalg.norm(own)) or 1.0
    best = float(np.nanmax(cosine))
    if cosine[int(value)] / size < best / size - 1e-5:
        raise NotYet(
            f"Its cosine similarity is {cosine[int(value)] / size:.4f}, the best one has "
            f"{best / size:.4f}. Divide by the lengths of both vectors before you compare."
        )


def exercise_4(answer: object, given: Any) -> None:
    """Row of the surest mistake; ``given`` are the predictions of a probe."""
    value, surest, row = as_number(answer), -1.0, -1
    for one in given.itertuples():
        if one.truth != one.predicted and one.confidence > surest:
            surest, row = float(one.confidence), int(one.row)
    found = given[given["row"] == value]
    if len(found) == 0:
        raise NotYet("That is no row of a test chip: take it from the column 'row'.")
    one = found.iloc[0]
    if one["truth"] == one["predicted"]:
        raise NotYet("The probe is right there. Keep the wrong predictions only: ~['hit'].")
    if value != row and one["confidence"] < surest:
        raise NotYet(
            f"Wrong, and {one['confidence']:.1%} sure; another wrong one is surer. The largest "
            "'confidence' is asked for."
        )


def exercise_5(answer: object, given: Any) -> None:
    """The suspect with the largest effect; ``given`` is a row a test chip, with ``hit``."""
    names = [name for name in ("mixed", "contrast", "distance") if name in given]
    chosen, effect = as_choice(answer, names), {}
    for name in names:
        order = sorted(range(len(given)), key=lambda i: given[name].iloc[i])
        wrong = [not given["hit"].iloc[i] for i in order]
        third = round(len(wrong) / 3)
        low, high = wrong[:third], wrong[round(2 * len(wrong) / 3) :]
        effect[name] = abs(sum(high) / len(high) - sum(low) / len(low))
    if effect[chosen] < max(effect.values()):
        raise NotYet(
            f"Between the lowest and the highest third of {chosen} the error differs by "
            f"{effect[chosen]:.1%}. For another suspect it differs by more."
        )
