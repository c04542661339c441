"""Positions on the sphere: great-circle distances, unit vectors, bounds, blocks."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import ArrayLike

from geossl.utils.validate import validated

__all__ = [
    "EARTH_RADIUS_KM", "block_ids", "bounds", "great_circle_km", "lon_lat", "unit_vectors",
    "wrap_lon",
]  # fmt: skip

EARTH_RADIUS_KM = 6371.0088  # mean radius of the WGS 84 ellipsoid


@validated
def unit_vectors(lon: ArrayLike, lat: ArrayLike) -> np.ndarray:
    """Convert degrees ``(N,)`` to float64 unit vectors ``(N, 3)``.

    x points to longitude and latitude 0, z to the north pole.

    Example:
        >>> unit_vectors(90, 0).round(3).tolist()
        [0.0, 1.0, 0.0]
    """
    lon, lat = np.radians(np.asarray(lon, float)), np.radians(np.asarray(lat, float))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)


@validated
def lon_lat(vectors: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Convert vectors ``(N, 3)`` of any length > 0 to longitudes and latitudes in degrees."""
    x, y, z = np.moveaxis(np.asarray(vectors, float), -1, 0)
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


@validated
def great_circle_km(
    lon1: ArrayLike, lat1: ArrayLike, lon2: ArrayLike, lat2: ArrayLike
) -> np.ndarray:
    """Compute the distance in km along the sphere between positions in degrees; broadcasts.

    Accurate for a meter and for antipodes alike: the angle comes from an arc tangent of the chord
    and its complement.
    """
    a, b = unit_vectors(lon1, lat1), unit_vectors(lon2, lat2)
    chord, complement = np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)
    return EARTH_RADIUS_KM * 2 * np.arctan2(chord, complement)


@validated
def wrap_lon(lon: ArrayLike) -> np.ndarray:
    """Wrap longitudes in degrees into [-180, 180); those in it keep every bit."""
    lon = np.asarray(lon, float)
    wrapped = (lon + 180) % 360 - 180
    wrapped = np.where(wrapped >= 180, -180.0, wrapped)  # -180 - tiny rounds to a full turn
    return np.where((lon >= -180) & (lon < 180), lon, wrapped)


@validated
def bounds(lon: ArrayLike, lat: ArrayLike) -> tuple[float, float, float, float]:
    """Compute the smallest box ``(left, bottom, right, top)`` around positions in degrees.

    ``left > right`` when it crosses the antimeridian, which it does only to be smaller.

    Raises:
        ValueError: no positions.
    """
    lon, lat = np.sort(wrap_lon(lon).ravel()), np.asarray(lat, float)
    if lon.size == 0:
        raise ValueError("`lon` and `lat` must hold at least one position, got none.")
    gaps = np.diff(lon, append=lon[0] + 360)[::-1]  # first the one over the antimeridian
    widest = len(lon) - 1 - int(gaps.argmax())  # the box is everything but the widest gap
    left, right = lon[(widest + 1) % len(lon)], lon[widest]
    right = 180.0 if right == -180 < left else right
    return float(left), float(lat.min()), float(right), float(lat.max())


@validated
def block_ids(
    lon: ArrayLike, lat: ArrayLike, *, block_deg: Annotated[float, Interval(gt=0, le=180)]
) -> np.ndarray:
    """Number the block of space that each position ``(N,)`` lies in.

    Blocks are bands of latitude ``block_deg`` high, cut in longitude so that every block is about
    as wide on the ground as it is high: they cover about the same ground everywhere.
    """
    lat = np.asarray(lat, float)
    bands = int(np.ceil(180 / block_deg))
    band = np.clip(np.floor((lat + 90) / block_deg), 0, bands - 1).astype(np.int64)
    middle = np.clip((np.arange(bands) + 0.5) * block_deg - 90, -89, 89)
    columns = np.maximum(1, np.round(360 * np.cos(np.radians(middle)) / block_deg)).astype(np.int64)
    column = np.floor((wrap_lon(lon) + 180) / 360 * columns[band]).astype(np.int64)
    return band * (int(columns.max()) + 1) + np.minimum(column, columns[band] - 1)
