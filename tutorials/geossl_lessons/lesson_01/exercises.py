"""Right answers and hints of lesson 01."""

from __future__ import annotations

from typing import Any

import numpy as np

from geossl.geo import EARTH_RADIUS_KM
from geossl_lessons.checking import NotYet, as_choice, grade_number, grade_share

SEASONS = ("winter", "spring", "summer", "autumn")


def haversine_km(lon1: Any, lat1: Any, lon2: Any, lat2: Any) -> Any:
    """Compute the distance of positions in degrees, numbers or arrays, without `geossl.geo`."""
    lon1, lat1, lon2, lat2 = (np.radians(x) for x in (lon1, lat1, lon2, lat2))
    shrink = np.cos(lat1) * np.cos(lat2)
    part = np.sin((lat2 - lat1) / 2) ** 2 + shrink * np.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(part, 0, 1)))


def exercise_1(answer: object, data: Any) -> None:
    """Check the kilometers between two locations; ``data`` holds their rows of the table."""
    one, two = data
    truth = haversine_km(one["lon"], one["lat"], two["lon"], two["lat"])
    flat = np.hypot(one["lon"] - two["lon"], one["lat"] - two["lat"])
    degrees = "Degrees are not kilometers: those of longitude shrink towards the poles."
    swapped = haversine_km(one["lat"], one["lon"], two["lat"], two["lon"])
    mistakes = {
        truth / 1000: "That is in thousands of km. Give kilometers.",
        flat: degrees,
        111.2 * flat: degrees,
        swapped: "Longitude comes first: great_circle_km(lon1, lat1, lon2, lat2).",
    }
    hint = "Use great_circle_km(lon1, lat1, lon2, lat2) with lon and lat of the two rows."
    grade_number(answer, truth, mistakes, hint=hint)


def exercise_2(answer: object, data: Any) -> None:
    """Check the season of a picture; ``data`` is its row of the scene table."""
    choice = as_choice(answer, SEASONS)
    quarter = data["time"].month % 12 // 3  # 0: December to February
    south = data["lat"] < 0
    if choice == SEASONS[(quarter + 2 * south) % 4]:
        return
    if south and choice == SEASONS[quarter]:
        raise NotYet("That is the season in the north. What sign does this latitude have?")
    raise NotYet(
        "December to February is winter in the north and summer in the south; the other seasons "
        "have three months each as well."
    )


def exercise_3(answer: object, data: Any) -> None:
    """Check the share of test locations whose chip may overlap; ``data`` is ``(scenes, split)``."""
    km, _ = _nearest(*data)
    truth = float(np.mean(km < float(data[0]["footprint_km"].iloc[0])))
    mistakes = {
        1 - truth: "That is the share of the locations that are farther away.",
        truth * len(km): "That is a number of locations; divide it by all test locations.",
    }
    hint = "Each row of near.locations is a test location, with the km to the nearest training one."
    grade_share(answer, truth, mistakes, hint=hint)


def exercise_4(answer: object, data: Any) -> None:
    """Check how often the nearest location has the climate; ``data`` is ``(scenes, split)``."""
    truth = float(np.mean(_nearest(*data)[1]))
    hint = (
        "For each row of near.locations: climate_of[location] is the truth, climate_of[nearest] "
        "the guess. In which share of the rows are they equal?"
    )
    grade_share(answer, truth, {1 - truth: "That is the share of the wrong ones."}, hint=hint)


def _nearest(table: Any, split: Any) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest training location of each test location: km, and whether climates agree."""
    train, test = (
        table[np.asarray(split) == name].drop_duplicates("location") for name in ("train", "test")
    )
    lon, lat, kinds = (train[name].to_numpy() for name in ("lon", "lat", "climate"))
    km = haversine_km(lon, lat, test[["lon"]].to_numpy(), test[["lat"]].to_numpy())
    return km.min(1), kinds[km.argmin(1)] == test["climate"].to_numpy()
