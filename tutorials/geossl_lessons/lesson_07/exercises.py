"""Right answers and hints of lesson 07."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from geossl import geo
from geossl_lessons.checking import NotYet, as_choice, as_number, grade_number
from geossl_lessons.lesson_01.exercises import haversine_km


def exercise_1(answer: object, data: Any) -> None:
    """Check the kilometers that a chip shows; ``data`` is the scene table."""
    side_px, tops = int(data["chip_px"].iloc[0]), np.unique(data["top"])
    step = np.diff(tops).min()  # from a row of cells to the next, in meters or degrees
    in_degrees = np.abs(tops).max() <= 90
    km = math.radians(step) * geo.EARTH_RADIUS_KM if in_degrees else step / 1000
    mistakes = {
        1000 * km: "That is in meters. Give kilometers.",
        side_px: "That is in pixels. How large is the ground that one pixel shows?",
        km / side_px: "That is the ground of one pixel; a chip has several in a row.",
    }
    hint = (
        "right minus left of a row of the table is the width of its cell, in the units of its CRS: "
        "here meters."
    )
    grade_number(answer, km, mistakes, hint=hint, rel_tol=0.03)


def exercise_2(answer: object, data: Any) -> None:
    """Check the file with a good header and broken pixels; ``data`` is the directory."""
    import rasterio
    from rasterio.errors import RasterioError

    names, with_header, broken = [], set(), set()
    for path in sorted(Path(data).rglob("*.[tT][iI][fF]*")):
        names.append(path.name)
        try:
            with rasterio.open(path) as file:
                with_header.add(path.name)
                file.read()
        except RasterioError:
            broken.add(path.name)
    name = Path(answer).name if isinstance(answer, str | Path) else answer
    choice = as_choice(name, [*names, "none"])
    if choice in (with_header & broken or {"none"}):
        return
    if choice in broken:
        raise NotYet("That one has no readable header: it was left out before any pixel was read.")
    raise NotYet("Look at first.info['bad']: paths of files, and why they were left out.")


def exercise_3(answer: object, data: Any) -> None:
    """Check the mean NDVI of a chip; ``data`` is ``(chip (C, H, W), nir, red)``."""
    chip, *bands = data
    nir, red = chip[bands].astype(np.float64)
    pixels = nir + red > 0
    truth = ((nir - red) / np.maximum(nir + red, 1))[pixels].mean()
    wrapped = np.subtract(*chip[bands])[pixels] / np.maximum(np.add(*chip[bands])[pixels], 1)
    mistakes = {
        wrapped.mean(): (
            f"The chips are {chip.dtype}, which has no negative numbers: red above infrared wraps "
            "around to a huge one. Turn the bands into float first."
        ),
        -truth: "The size is right, the sign is not: infrared minus red.",
        (nir.mean() - red.mean()) / (nir.mean() + red.mean()): (
            "That is the NDVI of the means; compute it pixel by pixel, then take the mean."
        ),
    }
    hint = "For each pixel (nir - red) / (nir + red), and the mean over all pixels."
    if abs(as_number(answer)) > 1:
        hint = "An NDVI is between -1 and 1; yours is not."
    grade_number(answer, truth, mistakes, hint=hint, abs_tol=2e-3)


def exercise_4(answer: object, data: Any) -> None:
    """Check the shortest way from test to training in km; ``data`` is the scene table."""
    locations = data.drop_duplicates("location").set_index("split")[["lon", "lat"]]
    test, train = locations.loc[["test"]].to_numpy(float), locations.loc[["train"]].to_numpy(float)
    km = haversine_km(*test.T[:, :, None], *train.T).min(1)
    mistakes = {
        np.median(km): "That is the median. Give the shortest of all.",
        1000 * km.min(): "That is in meters. Give kilometers.",
        0.0: "A location is 0 km from itself: compare test locations with training locations.",
    }
    hint = (
        "geossl.evaluate.leakage(store.scenes).locations has a row for each test location, with km."
    )
    grade_number(answer, km.min(), mistakes, hint=hint, rel_tol=0.01)
