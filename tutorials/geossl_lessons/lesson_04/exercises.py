"""What `check` knows of lesson 04."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from geossl.clusters import GeoClusters
from geossl_lessons.checking import NotYet, as_choice, as_matching, as_number


def exercise_1(answer: object, given: Any) -> None:
    """The number of each letter's place; ``given`` is the place, from 0, of each number."""
    right = as_matching(answer, given)
    if right < len(given):
        raise NotYet(
            f"{right} of {len(given)} are right. White may be cloud, snow or haze; look at what "
            "the ground between is: sand, forest, ice, a coast."
        )


def exercise_2(answer: object, given: Any) -> None:
    """The nearest center; ``given`` is ``((lon, lat), centers (K, 2))`` in degrees."""
    value, ((lon, lat), centers) = as_number(answer), given
    km = [_angle(lon, lat, *center) for center in centers]
    nearest = km.index(min(km))
    if value == nearest:
        return
    if value not in range(len(km)):
        raise NotYet(f"The number of a center is asked for: one of 0 to {len(km) - 1}.")
    flat = [math.hypot(lon - a, lat - b) for a, b in centers]
    if value == flat.index(min(flat)):
        raise NotYet(
            "That center is the nearest in degrees, not on the ground: near the poles and across "
            "180° degrees mislead. Take great-circle distances."
        )
    raise NotYet(
        f"{sum(k < km[int(value)] for k in km)} centers are nearer than that one. Distances to "
        "all centers at once, then .argmin(); longitude comes first."
    )


def exercise_3(answer: object, given: Any) -> None:
    """A K at which the mean purity is 70 to 80 %; ``given`` is ``(scenes, seed)``."""
    value, (scenes, seed) = as_number(answer), given
    places = scenes.drop_duplicates("location")
    if value != int(value) or not 2 <= value <= min(200, len(places)):
        raise NotYet(f"K is a whole number from 2 to {min(200, len(places))}.")
    clusters = GeoClusters.fit(scenes, k=int(value), seed=seed)
    own = clusters.assign(places["lon"], places["lat"])
    counts = [Counter(places["label"][own == i]) for i in range(clusters.k)]
    purity = sum(max(c.values()) for c in counts if c) / len(places)
    if not 0.7 <= purity <= 0.8:
        side = "more" if purity < 0.7 else "fewer"
        raise NotYet(f"With K = {value:.0f} it is right for {purity:.0%}: take {side} clusters.")


def exercise_4(answer: object, given: Any) -> None:
    """Cross-entropy of guesses; ``given`` is ``(shares (N, K), true region (N,))``."""
    value, (shares, true) = as_number(answer), given
    own = [float(row[int(i)]) for row, i in zip(shares, true, strict=True)]
    losses = [-math.log(max(share, 1e-30)) for share in own]
    mean = sum(losses) / len(losses)
    if math.isclose(value, mean, rel_tol=2e-3):
        return
    if math.isclose(value, -mean, rel_tol=2e-3):
        raise NotYet("The size is right, the sign is not: minus the logarithm.")
    if math.isclose(value, sum(losses), rel_tol=2e-3):
        raise NotYet("That is the sum over the pictures; the mean is asked for.")
    if math.isclose(value, -math.log(sum(own) / len(own)), rel_tol=2e-3):
        raise NotYet("First the logarithm of each share, then the mean; not the other way round.")
    best = [-math.log(float(max(row))) for row in shares]
    if math.isclose(value, sum(best) / len(best), rel_tol=2e-3):
        raise NotYet("That takes the largest share of each row; take the share of its own region.")
    if math.isclose(value, mean / math.log(2), rel_tol=2e-3):
        raise NotYet("That is in bits; take the natural logarithm, and it is in nats.")
    raise NotYet(
        "For each picture: the share of its own region, shares[i, true[i]]. Then minus the mean "
        "of the logarithms."
    )


def exercise_5(answer: object, given: Any) -> None:
    """The run that looks at the camera; ``given`` is letter -> (own camera, common camera)."""
    chosen = as_choice(answer, sorted(given))
    lost = {name: own - common for name, (own, common) in given.items()}
    if chosen != max(lost, key=lambda name: lost[name]):
        raise NotYet(
            f"{chosen} finds {given[chosen][0]:.0%} of the regions with each region's own camera "
            f"and {given[chosen][1]:.0%} with one camera for all. Another one loses more."
        )


def _angle(lon: float, lat: float, other_lon: float, other_lat: float) -> float:
    """Angle between two positions by the haversine formula, in radians."""
    a, b, c, d = (math.radians(float(x)) for x in (lat, other_lat, lon, other_lon))
    half = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin((d - c) / 2) ** 2
    return 2 * math.asin(min(1.0, math.sqrt(half)))
