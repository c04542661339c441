"""What `check` knows of lesson 00."""

from __future__ import annotations

import re
from typing import Any

from geossl_lessons.checking import NotYet, as_array, as_number


def exercise_1(answer: object, given: Any) -> None:
    """Pairs per second; ``given`` are the findings of `geossl.cli.doctor.run`."""
    value = as_number(answer)
    said = {finding.what: finding.said for finding in given}["training"]
    rates = [float(text) for text in re.findall(r"([\d.]+) pairs/s", said)]
    if not rates:
        raise NotYet("The finding 'training' has no number here; it says what to do about it.")
    if abs(value - rates[0]) > 0.02 * rates[0] + 0.5:
        raise NotYet("Look at the row 'training': the number stands before the words pairs/s.")


def exercise_2(answer: object, given: Any) -> None:
    """Number of places; ``given`` is the scene table."""
    value, seen = as_number(answer), set(given["location"].tolist())
    if value == len(given) != len(seen):
        raise NotYet("That is the number of rows, one an image. A place has several of them.")
    if value != len(seen):
        raise NotYet("Count the different values in the column location: .nunique() does it.")


def exercise_3(answer: object, given: Any) -> None:
    """Longitude and latitude of the northernmost place; ``given`` is the scene table."""
    lon, lat = as_array(answer, (2,))
    north = max(zip(given["lat"], given["lon"], strict=True))
    if abs(lat - north[0]) < 0.05 and abs(lon - north[1]) < 0.05:
        return
    if abs(lon - north[0]) < 0.05 and abs(lat - north[1]) < 0.05:
        raise NotYet("The right place, the wrong way round: it is lon, lat everywhere in geossl.")
    if abs(lat - north[0]) < 0.05:
        raise NotYet("The latitude is right; the longitude is that of another place.")
    raise NotYet("North is where the latitude is largest: look at scenes['lat'].idxmax().")


def exercise_4(answer: object, given: Any) -> None:
    """Row of the brightest date of the first place; ``given`` is the store."""
    row, table = as_number(answer), given.scenes
    first = table["location"].iloc[0]
    rows = [i for i, place in enumerate(table["location"]) if place == first]
    if row not in rows:
        raise NotYet("That is no row of the first place: leave the slider 'place' at 0.")
    bright = {i: float(given.preview([i]).astype(float).sum()) for i in rows}
    if bright[int(row)] < max(bright.values()):
        raise NotYet("Another date of this place is brighter; the line below the picture tells.")
