"""Where the chips of a scene table lie on the ground, corner by corner."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data.files import DatasetError
from geossl.datasets.raster.chips import square
from geossl.datasets.raster.files import open_raster
from geossl.datasets.raster.grid import pixel_to_crs
from geossl.datasets.raster.header import to_lon_lat, unplaced_reason
from geossl.utils.parallel import map_threads
from geossl.utils.validate import validated

_GRID = ("left", "top", "right", "bottom")  # of a cell, in the CRS of its row
_METERS_PER_DEGREE = geo.EARTH_RADIUS_KM * 1000 * np.pi / 180
_CORNERS = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])  # right and down, from the upper left


@validated
def footprints(scenes: pd.DataFrame) -> np.ndarray:
    """Return the corners on the ground of the chips of a table, such as ``store.scenes``.

    The best that is known of each row counts: the bounds of its grid cell in their CRS; else the
    georeference of its file, of which a chip is the middle square or that of a box; else the
    position with the size of a pixel or chip (``gsd`` in meters, ``footprint_km``), north up. Only
    headers of files are read. Edges are straight in the file, not on the globe: for chips of some
    kilometers that is the same to a fraction of a pixel.

    Args:
        scenes: a scene table, of which row i is chip i.

    Returns:
        ``(M, 4, 2)`` float64 longitudes and latitudes, degrees EPSG:4326: the upper left, upper
        right, lower right and lower left corner of the chip as it is stored. Longitudes of a chip
        lie within 180 of its first corner, so they go on past 180 at the antimeridian. NaN where
        nothing says how large a chip is, or where it lies.

    Example:
        >>> world = geossl.datasets.blue_marble(places=2, dates=1)
        >>> footprints(world).shape
        (2, 4, 2)
    """
    crs = pd.Series([""] * len(scenes), dtype=object)
    x, y = np.full((2, len(scenes), 4), np.nan)
    side_m = np.full(len(scenes), np.nan)
    if {"crs", *_GRID} <= set(scenes):
        left, top, right, bottom = scenes[list(_GRID)].to_numpy(float).T[..., None]
        x, y = left + _CORNERS[:, 0] * (right - left), top + _CORNERS[:, 1] * (bottom - top)
        crs = scenes["crs"].fillna("").astype(object).reset_index(drop=True)
    if "footprint_km" in scenes:
        side_m = scenes["footprint_km"].to_numpy(float) * 1000
    rows = np.flatnonzero(np.isnan(x[:, 0]) & np.isnan(side_m))
    if len(rows) and "path" in scenes:
        _place_by_files(scenes.iloc[rows], rows, crs, x, y, side_m)
    lon, lat = to_lon_lat(crs.repeat(4).reset_index(drop=True), x.ravel(), y.ravel())
    corners = np.stack([lon, lat], 1).reshape(-1, 4, 2)
    if {"lon", "lat"} <= set(scenes):
        rows = np.flatnonzero(np.isnan(corners).any((1, 2)) & np.isfinite(side_m))
        center = scenes[["lon", "lat"]].to_numpy(float)[rows, None]
        corners[rows] = _squares_around(center, side_m[rows, None])
    corners[np.isnan(corners).any((1, 2))] = np.nan
    first = corners[:, :1, 0]
    corners[..., 0] = first + geo.wrap_lon(corners[..., 0] - first)
    return corners


def _squares_around(center: np.ndarray, side_m: np.ndarray) -> np.ndarray:
    """Return corners ``(n, 4, 2)`` of squares around positions ``(n, 1, 2)``, north up."""
    half = side_m / 2 / _METERS_PER_DEGREE
    right, down = (2 * _CORNERS - 1).T
    lat = np.clip(center[..., 1] - down * half, -90, 90)
    shrink = np.maximum(np.cos(np.radians(np.clip(lat, -89.9, 89.9))), 1e-3)
    return np.stack([center[..., 0] + right * half / shrink, lat], 2)


def _place_by_files(
    table: pd.DataFrame,
    rows: np.ndarray,
    crs: pd.Series,
    x: np.ndarray,
    y: np.ndarray,
    side_m: np.ndarray,
) -> None:
    """Fill in CRS and corners of some rows from the headers of their files, or a side in meters."""
    names, index = np.unique([_first_file(row) for row in table.to_dict("records")],
                             return_inverse=True)  # fmt: skip
    headers = map_threads(_read_grid, names.tolist())
    for row, which, values in zip(rows, index, table.to_dict("records"), strict=True):
        header = headers[which]
        if header is None:
            continue
        name, transform, width, height = header
        try:
            left, top, side = square(str(values["path"]), values, width, height)
        except DatasetError:
            continue  # a box that lies outside of its file
        if name:
            at = left + side * _CORNERS[:, 0], top + side * _CORNERS[:, 1]
            crs[row] = name
            x[row], y[row] = pixel_to_crs(transform, *at)
        else:
            gsd = pd.to_numeric(values.get("gsd"), errors="coerce")
            side_m[row] = side * gsd if gsd is not None and gsd > 0 else np.nan


def _first_file(row: dict[Any, Any]) -> str:
    path = str(row["path"])
    return path.replace("{band}", str(row.get("bands", "")).split(",")[0])


def _read_grid(path: str) -> tuple[str, Any, int, int] | None:
    """Return CRS ("" without a place), transform and size of a file; None if it cannot be read."""
    if path.lower().endswith(".npy") or not os.path.isfile(path):
        return None
    try:
        with open_raster(path) as file:
            placed = not unplaced_reason(file)
            return (
                file.crs.to_wkt() if placed else "", file.transform, file.width, file.height
            )  # fmt: skip
    except (OSError, ValueError):
        return None
