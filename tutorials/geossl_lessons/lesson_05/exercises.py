"""Right answers and hints of lesson 05."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from geossl import geo
from geossl_lessons.checking import NotYet, as_array, as_choice, as_number, grade_share

_LEAST_CHIPS, _LEAST_SHARE, _FAR_KM = 20, 0.75, 5_000


def exercise_1(answer: object, data: Any) -> None:
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


def exercise_2(answer: object, data: Any) -> None:
    """Check the share of the variance on two axes; ``data`` are the vectors ``(M, E)``."""
    unit = data / np.linalg.norm(data, axis=1, keepdims=True)
    variance = np.linalg.eigvalsh(np.cov(unit.T))[::-1].clip(0)
    length, raw = np.sqrt(variance), np.linalg.svd(unit, compute_uv=False) ** 2
    mistakes = {
        variance[0] / variance.sum(): "That is what the first axis keeps; the picture has two.",
        length[:2].sum() / length.sum(): (
            "Square the singular values first: the variance along an axis is their square."
        ),
        raw[:2].sum() / raw.sum(): (
            "Subtract the mean vector first: PCA describes the variance around the mean."
        ),
    }
    hint = (
        "Singular values s of the centered vectors: the sum of the first two squares, divided by "
        "the sum of all squares."
    )
    grade_share(answer, variance[:2].sum() / variance.sum(), mistakes, hint=hint, abs_tol=0.01)


def exercise_3(answer: object, data: Any) -> None:
    """Check the most similar row elsewhere; ``data`` is ``(vectors, locations, query)``."""
    value, (vectors, location, query) = as_number(answer), data
    if value not in range(len(location)):
        raise NotYet(f"The answer must be a row: a whole number from 0 to {len(location) - 1}.")
    if value == query:
        raise NotYet("That is the chip itself; it is always the most similar to itself.")
    elsewhere = np.asarray(location) != location[query]
    if not elsewhere[int(value)]:
        raise NotYet("That is the same location at another date. Take one of another location.")
    vectors = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    cosine = vectors @ vectors[query] / lengths / lengths[query]
    own, best = cosine[int(value)], cosine[elsewhere].max()
    if own < best - 1e-5:
        raise NotYet(
            f"Its cosine similarity is {own:.4f}, the best one has {best:.4f}. Divide by the "
            "lengths of both vectors before you compare."
        )


def exercise_4(answer: object, data: Any) -> None:
    """Check the row of the surest mistake; ``data`` are the predictions of a probe."""
    row = data[data["row"] == as_number(answer)]
    if row.empty:
        raise NotYet("That is no row of a test chip: take it from the column 'row'.")
    wrong = data["truth"] != data["predicted"]
    if not wrong[row.index[0]]:
        raise NotYet("The probe is right there. Keep the wrong predictions only: ~['hit'].")
    confidence = row["confidence"].iloc[0]
    if confidence < data["confidence"][wrong].max():
        raise NotYet(
            f"Wrong, and {confidence:.1%} sure; another wrong one is surer. Take the one with the "
            "largest 'confidence'."
        )


def exercise_5(answer: object, data: Any) -> None:
    """Check the suspect with the largest effect; ``data`` is a table of `list_suspects`."""
    names, effect = ("mixed", "contrast", "distance"), {}
    choice, third = as_choice(answer, names), round(len(data) / 3)
    for name in names:
        hit = data.sort_values(name, kind="stable")["hit"].to_numpy(bool)
        effect[name] = abs(hit[:third].mean() - hit[round(2 * len(hit) / 3) :].mean())
    if effect[choice] < max(effect.values()):
        raise NotYet(
            f"Between the lowest and the highest third of {choice} the error differs by "
            f"{effect[choice]:.1%}. For another suspect it differs by more."
        )
