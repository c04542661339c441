"""What `check` knows of lesson 01."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geossl.geo import EARTH_RADIUS_KM
from geossl_lessons.checking import NotYet, as_choice, as_number

_FOOTPRINT_KM = "footprint_km"
SEASONS = ("winter", "spring", "summer", "autumn")


def exercise_1(answer: object, given: Any) -> None:
    """Kilometers between two places; ``given`` is their two rows of the scene table."""
    value, (one, two) = as_number(answer), given
    truth = _haversine_km(one["lon"], one["lat"], two["lon"], two["lat"])
    if math.isclose(value, truth, rel_tol=2e-3):
        return
    if math.isclose(value, truth / 1000, rel_tol=2e-3):
        raise NotYet("That is in thousands of km; kilometers are asked for.")
    flat = math.hypot(one["lon"] - two["lon"], one["lat"] - two["lat"])
    if math.isclose(value, flat, rel_tol=2e-3) or math.isclose(value, 111.2 * flat, rel_tol=1e-2):
        raise NotYet("Degrees are no kilometers: those of longitude shrink towards the poles.")
    swapped = _haversine_km(one["lat"], one["lon"], two["lat"], two["lon"])
    if math.isclose(value, swapped, rel_tol=2e-3):
        raise NotYet("Longitude comes first: great_circle_km(lon1, lat1, lon2, lat2).")
    raise NotYet("Use great_circle_km(lon1, lat1, lon2, lat2) with the two rows' lon and lat.")


def exercise_2(answer: object, given: Any) -> None:
    """The season of a picture; ``given`` is its row of the scene table."""
    chosen = as_choice(answer, SEASONS)
    turn = given["time"].month % 12 // 3  # 0: December to February
    here = SEASONS[(turn + (2 if given["lat"] < 0 else 0)) % 4]
    if chosen == here:
        return
    if given["lat"] < 0 and chosen == SEASONS[turn]:
        raise NotYet("That is the season in the north. Which sign has the latitude of this place?")
    raise NotYet(
        "December to February are winter in the north and summer in the south; three months each "
        "for the others."
    )


def exercise_3(answer: object, given: Any) -> None:
    """Share of test places whose chip may overlap; ``given`` is ``(scenes, split)``."""
    value, (table, split) = as_number(answer), given
    km, _ = _nearest(table, split)
    truth = float(np.mean([d < float(table[_FOOTPRINT_KM].iloc[0]) for d in km]))
    if math.isclose(value, truth, abs_tol=2e-3):
        return
    if math.isclose(value, 100 * truth, abs_tol=0.2):
        raise NotYet("That is in percent; a share from 0 to 1 is asked for.")
    if math.isclose(value, 1 - truth, abs_tol=2e-3):
        raise NotYet("That is the share of those that lie farther away.")
    if math.isclose(value, truth * len(km), abs_tol=0.5) and value > 1:
        raise NotYet("That is a number of places; divide it by all test places.")
    raise NotYet(
        "near.locations has a row for each test place, and km to the nearest training place."
    )


def exercise_4(answer: object, given: Any) -> None:
    """Accuracy of the nearest place's climate; ``given`` is ``(scenes, split)``."""
    value, (table, split) = as_number(answer), given
    _, hits = _nearest(table, split)
    truth = float(np.mean(hits))
    if math.isclose(value, truth, abs_tol=2e-3):
        return
    if math.isclose(value, 100 * truth, abs_tol=0.2):
        raise NotYet("That is in percent; a share from 0 to 1 is asked for.")
    if math.isclose(value, 1 - truth, abs_tol=2e-3):
        raise NotYet("That is the share of wrong ones.")
    raise NotYet(
        "For each row of near.locations: climate_of[location] is the truth, climate_of[nearest] the "
        "guess. In which share of the rows are they equal?"
    )


def _haversine_km(lon1: float, lat1: float, lon2: float, lat2: float) -> float:
    east, north = math.radians(lon2 - lon1), math.radians(lat2 - lat1)
    shrink = math.cos(math.radians(lat1)) * math.cos(math.radians(lat2))
    part = math.sin(north / 2) ** 2 + shrink * math.sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(max(0.0, part))))


def _nearest(table: Any, split: Any) -> tuple[list[float], list[bool]]:
    """Of each test place: km to the nearest training place, and whether the climates are alike."""
    of = {name: table[np.asarray(split) == name].drop_duplicates("location")
          for name in ("train", "test")}  # fmt: skip
    lon, lat = (np.radians(of["train"][name].to_numpy(float)) for name in ("lon", "lat"))
    kinds, km, hits = of["train"]["climate"].to_numpy(), [], []
    for place in of["test"].itertuples():
        east, north = lon - math.radians(place.lon), lat - math.radians(place.lat)
        part = np.sin(north / 2) ** 2
        part += np.cos(lat) * math.cos(math.radians(place.lat)) * np.sin(east / 2) ** 2
        best = int(part.argmin())
        km.append(2 * EARTH_RADIUS_KM * math.asin(math.sqrt(part[best])))
        hits.append(bool(kinds[best] == place.climate))
    return km, hits
