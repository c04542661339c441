"""Right answers and hints of lesson 00."""

from __future__ import annotations

import re
from typing import Any

from geossl_lessons.checking import NotYet, as_array, as_number, grade_quiz

_QUIZ = (  # letter of the right answer; a sentence for those who chose another
    ("b", "What does the first line of a section do, and what does it say?"),
    ("c", "Which of the three would you find if you went to the place?"),
    ("b", "The network saw pictures, and no labels. What do the colors stand for?"),
)


def exercise_1(answer: object, data: Any) -> None:
    """Check the pairs per second; ``data`` holds the findings of `geossl doctor`."""
    value = as_number(answer)
    text = {finding.subject: finding.message for finding in data}["training"]
    rates = [float(number) for number in re.findall(r"([\d.]+) pairs/s", text)]
    if not rates:
        raise NotYet("The finding 'training' has no number here; it says what to do about it.")
    if abs(value - rates[0]) > 0.02 * rates[0] + 0.5:
        raise NotYet("Look at the row 'training': the number is before the words pairs/s.")


def exercise_2(answer: object, data: Any) -> None:
    """Check the number of locations; ``data`` is the scene table."""
    value, locations = as_number(answer), set(data["location"].tolist())
    if value == len(data) != len(locations):
        raise NotYet("That is the number of rows, one for each image. A location has several.")
    if value != len(locations):
        raise NotYet("Count the different values in the column location: .nunique() does it.")


def exercise_3(answer: object, data: Any) -> None:
    """Check the coordinates of the northernmost location; ``data`` is the scene table."""
    lon, lat = as_array(answer, (2,))
    north = max(zip(data["lat"], data["lon"], strict=True))
    if abs(lat - north[0]) < 0.05 and abs(lon - north[1]) < 0.05:
        return
    if abs(lon - north[0]) < 0.05 and abs(lat - north[1]) < 0.05:
        raise NotYet("The right location, the wrong way round: geossl always uses lon, lat.")
    if abs(lat - north[0]) < 0.05:
        raise NotYet("The latitude is right; the longitude is that of another location.")
    raise NotYet("North is where the latitude is largest: look at scenes['lat'].idxmax().")


def exercise_4(answer: object, data: Any) -> None:
    """Check the row of the brightest date of the first location; ``data`` is the store."""
    row, table = as_number(answer), data.scenes
    first = table["location"].iloc[0]
    rows = [i for i, location in enumerate(table["location"]) if location == first]
    if row not in rows:
        raise NotYet("That is no row of the first location: leave the slider 'location' at 0.")
    brightness = {i: float(data.preview([i]).astype(float).sum()) for i in rows}
    if brightness[int(row)] < max(brightness.values()):
        raise NotYet("Another date of this location is brighter; read the line below the picture.")


def exercise_5(answer: object, data: Any = None) -> None:
    """Check the letters of the three questions."""
    grade_quiz(answer, _QUIZ)
