"""Right answers and hints of lesson 04."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from geossl.clusters import GeoClusters
from geossl_lessons.checking import NotYet, as_choice, as_number, count_matches, grade_number
from geossl_lessons.lesson_01.exercises import haversine_km


def exercise_1(answer: object, data: Any) -> None:
    """Check the number of each letter's location; ``data`` is the letter of each number."""
    right = count_matches(answer, data)
    if right < len(data):
        raise NotYet(
            f"{right} of {len(data)} are right. White may be cloud, snow or haze; look at the "
            "ground in between: sand, forest, ice, a coast."
        )


def exercise_2(answer: object, data: Any) -> None:
    """Check the nearest center; ``data`` is ``((lon, lat), centers (K, 2))`` in degrees."""
    value, ((lon, lat), centers) = as_number(answer), data
    centers = np.asarray(centers, float)
    km = [float(haversine_km(lon, lat, *center)) for center in centers]
    if value == km.index(min(km)):
        return
    if value not in range(len(km)):
        raise NotYet(f"The answer must be the number of a center, from 0 to {len(km) - 1}.")
    if value == np.hypot(*(centers - [lon, lat]).T).argmin():
        raise NotYet(
            "That center is the nearest in degrees, not on the ground: near the poles and across "
            "180° degrees mislead. Use great-circle distances."
        )
    raise NotYet(
        f"{sum(k < km[int(value)] for k in km)} centers are nearer than that one. Compute the "
        "distances to all centers at once, then .argmin(); longitude comes first."
    )


def exercise_3(answer: object, data: Any) -> None:
    """Check a K with a mean purity of 70 to 80 %; ``data`` is ``(scenes, seed)``."""
    value, (scenes, seed) = as_number(answer), data
    table = scenes.drop_duplicates("location")
    if value != int(value) or not 2 <= value <= min(200, len(table)):
        raise NotYet(f"K is a whole number from 2 to {min(200, len(table))}.")
    clusters = GeoClusters.fit(scenes, k=int(value), seed=seed)
    number = clusters.assign(table["lon"], table["lat"])
    counts = [Counter(table["label"][number == i]) for i in range(clusters.k)]
    purity = sum(max(c.values()) for c in counts if c) / len(table)
    if not 0.7 <= purity <= 0.8:
        change = "more" if purity < 0.7 else "fewer"
        raise NotYet(f"With K = {value:.0f} it is right for {purity:.0%}: take {change} clusters.")


def exercise_4(answer: object, data: Any) -> None:
    """Check the cross-entropy; ``data`` is ``(shares (N, K), true region (N,))``."""
    shares, true = data
    own = [float(row[int(i)]) for row, i in zip(shares, true, strict=True)]
    losses = [-math.log(max(share, 1e-30)) for share in own]
    truth = sum(losses) / len(losses)
    largest = sum(-math.log(float(max(row))) for row in shares) / len(losses)
    mistakes = {
        -truth: "Only the sign is wrong: take minus the logarithm.",
        sum(losses): "That is the sum over the pictures. Give the mean.",
        -math.log(sum(own) / len(own)): "First the logarithm of each share, then the mean.",
        largest: "That takes the largest share of each row. Take that of its own region.",
        truth / math.log(2): "That is in bits. The natural logarithm gives nats.",
    }
    hint = "For each picture: shares[i, true[i]], its own region. Then minus the mean logarithm."
    grade_number(answer, truth, mistakes, hint=hint)


def exercise_5(answer: object, data: Any) -> None:
    """Check which run looks at the camera; ``data`` is letter -> (own camera, common camera)."""
    choice = as_choice(answer, sorted(data))
    loss = {name: own - common for name, (own, common) in data.items()}
    if choice != max(loss, key=lambda name: loss[name]):
        raise NotYet(
            f"{choice} finds {data[choice][0]:.0%} of the regions with each region's own camera "
            f"and {data[choice][1]:.0%} with one camera for all. Another one loses more."
        )
