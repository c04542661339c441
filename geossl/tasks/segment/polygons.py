"""Polygons of GeoJSON and other files of shapes, brought to a scene's CRS with their classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geossl import geo
from geossl.data.files import DatasetError, read_json
from geossl.data.shapes import read_shapes

_POLYGON_TYPES = (3, 6)  # of shapely: Polygon and MultiPolygon
_FAR_LON = 170  # a scene of less than 10 degrees reaches over 180 only near such polygons


def read_polygons(
    path: str, crs: str, *, classes: Sequence[str], label: str | None
) -> list[tuple[Any, int]]:
    """Read polygons in a CRS, each with its class.

    Args:
        path: of a GeoJSON, GeoPackage, Shapefile, FlatGeobuf or KML.
        crs: of the scene.
        classes: names, in the order of their numbers.
        label: property that names a polygon's class; without it all are class 1.

    Raises:
        ValueError: the file cannot be read, or a feature is no polygon, has no such class, or
            cannot be projected; the message has its number.
    """
    import geopandas
    import shapely
    from pyproj import CRS
    from shapely.affinity import translate

    is_json = path.lower().endswith("json")
    shapes, labels, own_crs = (_read_geojson if is_json else _read_other)(path, label)
    kinds = shapely.get_type_id(shapes)
    filled = ~shapely.is_empty(shapes) & (kinds >= 0)
    _refuse(filled & ~np.isin(kinds, _POLYGON_TYPES), path, "is no polygon. Remove it.")
    _refuse(_not_finite(shapes), path, "has a coordinate that is not finite.")
    codes = np.ones(len(shapes), int)
    if label is not None:
        numbers = {name: code for code, name in enumerate(classes)}
        codes = np.array([numbers.get(str(name), -1) for name in labels], int)
        problem = f"has no class of {', '.join(classes)} in {label!r} (`label`)."
        _refuse(filled & (codes < 0), path, problem)
    elif len(classes) > 2 and filled.any():
        raise ValueError(
            f"`label` must name the property with the class of a polygon in {path}, because there "
            f"are {len(classes)} classes, got None."
        )
    try:
        series = geopandas.GeoSeries(shapes, crs=own_crs)
        if series.crs.is_geographic:
            series = geopandas.GeoSeries(geo.unwrap_shapes(shapes)[0], crs=own_crs)
        projected = series.to_crs(crs).to_numpy()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"The polygons {path} cannot be projected to {crs}: {error}.") from None
    _refuse(_not_finite(projected), path, f"cannot be projected to {crs}.")
    projected, codes = projected[filled], codes[filled]
    lon = shapely.bounds(projected)[:, ::2]
    if CRS.from_user_input(crs).is_geographic and (np.abs(lon) > _FAR_LON).any():
        turns = (-360, 0, 360)  # the scene may reach over 180 degrees on the other side
        codes = codes.repeat(len(turns))
        projected = [translate(shape, turn) for shape in projected for turn in turns]
    return list(zip(projected, codes.tolist(), strict=True))


def _read_geojson(path: str, label: str | None) -> tuple[np.ndarray, list[Any], Any]:
    """Geometries, their property ``label``, and their CRS."""
    import shapely

    try:
        content = read_json(path)
        features, crs = content["features"], content.get("crs") or {}
        crs = crs["properties"]["name"] if crs else "EPSG:4326"
        labels = [(feature.get("properties") or {}).get(label) for feature in features]
    except (OSError, ValueError) as error:
        raise ValueError(f"The polygons {path} cannot be read: {error}") from None
    except (LookupError, TypeError, AttributeError):
        raise ValueError(f"{path} must be a GeoJSON with features.") from None
    shapes = np.full(len(features), None, object)
    for number, feature in enumerate(features):
        try:
            if feature["geometry"] is not None:
                shapes[number] = shapely.geometry.shape(feature["geometry"])
        except (LookupError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError):
            _refuse(np.arange(len(features)) == number, path, "has no valid geometry.")
    return shapes, labels, crs


def _read_other(path: str, label: str | None) -> tuple[np.ndarray, list[Any], Any]:
    """Likewise."""
    try:
        frame = read_shapes(path)
    except DatasetError as error:
        raise ValueError(f"The polygons {error}") from None
    labels = list(frame[label]) if label in frame else [None] * len(frame)
    return frame.geometry.to_numpy(dtype=object).copy(), labels, frame.crs


def _not_finite(shapes: np.ndarray) -> np.ndarray:
    """Which of some geometries have a coordinate that is not finite."""
    import shapely

    coordinates, index = shapely.get_coordinates(shapes, return_index=True)
    result = np.zeros(len(shapes), bool)
    result[index[~np.isfinite(coordinates).all(1)]] = True
    return result


def _refuse(bad: np.ndarray, path: str, problem: str) -> None:
    if bad.any():
        raise ValueError(f"{path}: feature {int(bad.argmax())} (from 0) {problem}")
