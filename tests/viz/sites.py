"""Places at all scales: sites of meters, regions, poles, both sides of 180, the world."""

import numpy as np
import pandas as pd

from geossl import geo

SITES = {  # longitude, latitude and size in km
    "100 m": (7.44, 46.95, 0.1), "300 m": (151.2, -33.8, 0.3), "5 km": (0.0, 51.48, 5.0),
    "500 km": (2.0, 47.0, 500.0), "300 m over 180": (180.0, -17.0, 0.3),
    "400 km over 180": (179.5, -17.5, 400.0), "near the pole": (30.0, 89.9, 3.0),
    "around the pole": (0.0, -90.0, 300.0), "world": None,
}  # fmt: skip


def scenes_of(name, places=50, seed=0):
    """A scene table of random places."""
    rng = np.random.default_rng(seed)
    if SITES[name] is None:
        lon = rng.uniform(-180, 180, places)
        lat = np.degrees(np.arcsin(rng.uniform(-0.85, 0.97, places)))
    else:
        lon, lat = around(*SITES[name], rng.uniform(-0.5, 0.5, (places, 2)))
    return pd.DataFrame({
        "path": "x", "location": np.arange(places), "lon": lon, "lat": lat,
        "time": pd.Timestamp("2020-05-01", tz="UTC"),
        "label": np.where(np.arange(places) % 2, "wet", "dry"),
    })  # fmt: skip


def around(lon, lat, size_km, offsets):
    """Move a position by shares ``(N, 2)`` of a size to the east and the north."""
    center = geo.unit_vectors(lon, lat)
    east = geo.unit_vectors(lon + 90, 0)
    steps = size_km / geo.EARTH_RADIUS_KM * offsets
    ways = center + steps[:, :1] * east + steps[:, 1:] * np.cross(center, east)
    return geo.lon_lat(ways)
