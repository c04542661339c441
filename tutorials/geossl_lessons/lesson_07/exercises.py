"""What `check` knows of lesson 07."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from geossl_lessons.checking import NotYet, as_choice, as_number

_RADIUS_KM = 6371.0
_NONE = "none"


def exercise_1(answer: object, given: Any) -> None:
    """Kilometers of ground that a chip shows; ``given`` is the scene table."""
    value = as_number(answer)
    side_px = int(given["chip_px"].iloc[0])
    starts = sorted(set(given["top"]))  # of rows of cells, in meters or degrees
    step = min(b - a for a, b in zip(starts, starts[1:], strict=False))
    truth = step / 1000
    if abs(given["top"]).max() <= 90:  # degrees
        truth = math.radians(step) * _RADIUS_KM
    if math.isclose(value, truth, rel_tol=0.03):
        return
    if math.isclose(value, 1000 * truth, rel_tol=0.03):
        raise NotYet("That is in meters; kilometers are asked for.")
    if math.isclose(value, side_px, rel_tol=1e-6):
        raise NotYet("That is in pixels. How large is the ground that one pixel shows?")
    if math.isclose(value, truth / side_px, rel_tol=0.03):
        raise NotYet("That is the ground of one pixel; a chip has several in a row.")
    raise NotYet(
        "right less left of a row of the table is the width of its cell, in the units of its CRS: "
        "here meters."
    )


def exercise_2(answer: object, given: Any) -> None:
    """The file whose header can be read, and pixels cannot; ``given`` is the folder."""
    import rasterio
    from rasterio.errors import RasterioError

    opened, broken = [], []
    for path in sorted(Path(given).rglob("*.[tT][iI][fF]*")):
        try:
            with rasterio.open(path) as file:
                opened.append(path.name)
                file.read()
        except RasterioError:
            broken.append(path.name)
    answer = Path(answer).name if isinstance(answer, str | Path) else answer
    names = {path.name for path in Path(given).rglob("*.[tT][iI][fF]*")}
    chosen = as_choice(answer, sorted(names | {_NONE}))
    right = [name for name in broken if name in opened] or [_NONE]
    if chosen in right:
        return
    if chosen in broken:
        raise NotYet("That one has no readable header: it was left out before any pixel was read.")
    raise NotYet("Look into first.info['bad']: paths of files, and why they were left out.")


def exercise_3(answer: object, given: Any) -> None:
    """Mean NDVI of a chip; ``given`` is ``(chip (C, H, W), nir, red)``."""
    value, (chip, nir, red) = as_number(answer), given
    found, wrapped = [], []
    top = int(np.iinfo(chip.dtype).max) + 1
    for a, b in zip(chip[nir].ravel().tolist(), chip[red].ravel().tolist(), strict=True):
        if a + b > 0:
            found.append((a - b) / (a + b))
            wrapped.append((a - b) % top / max((a + b) % top, 1))
    truth, wrong = (sum(values) / len(values) for values in (found, wrapped))
    if math.isclose(value, truth, abs_tol=2e-3):
        return
    if math.isclose(value, wrong, rel_tol=1e-2):
        raise NotYet(
            f"The chips are {chip.dtype}, which knows no negative numbers: red above infrared "
            "wraps round to a huge one. Turn the bands into float first."
        )
    if math.isclose(value, -truth, abs_tol=2e-3):
        raise NotYet("The size is right, the sign is not: infrared less red.")
    means = [float(np.mean(chip[band], dtype=np.float64)) for band in (nir, red)]
    if math.isclose(value, (means[0] - means[1]) / sum(means), abs_tol=2e-3):
        raise NotYet("That is the NDVI of the means; take it pixel by pixel, then the mean.")
    if abs(value) > 1:
        raise NotYet("An NDVI lies between -1 and 1; yours does not.")
    raise NotYet("For each pixel (nir - red) / (nir + red), and the mean over all pixels.")


def exercise_4(answer: object, given: Any) -> None:
    """Shortest way from a test to a training place in km; ``given`` is the scene table."""
    value = as_number(answer)
    places = given.drop_duplicates("location")
    lon, lat = (np.radians(places[name].to_numpy(float)) for name in ("lon", "lat"))
    test, train = ((places["split"] == name).to_numpy() for name in ("test", "train"))
    half = (
        np.sin((lat[test][:, None] - lat[train]) / 2) ** 2
        + np.cos(lat[test])[:, None]
        * np.cos(lat[train])
        * np.sin((lon[test][:, None] - lon[train]) / 2) ** 2
    )
    nearest = 2 * _RADIUS_KM * np.arcsin(np.sqrt(half)).min(1)
    if math.isclose(value, nearest.min(), rel_tol=0.01):
        return
    if math.isclose(value, float(np.median(nearest)), rel_tol=0.01):
        raise NotYet("That is the median; the shortest of all is asked for.")
    if math.isclose(value, 1000 * nearest.min(), rel_tol=0.01):
        raise NotYet("That is in meters; kilometers are asked for.")
    if value == 0:
        raise NotYet("A place lies 0 km from itself: compare test places with training places.")
    raise NotYet(
        "geossl.evaluate.leakage(store.scenes).locations has a row a test place, and km in it."
    )
