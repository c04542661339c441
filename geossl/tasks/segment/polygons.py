"""Polygons of GeoJSON and GeoPackage files, brought to a scene's CRS with their classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geossl.data.files import read_json


def shapes(
    path: str, crs: str, *, classes: Sequence[str], label: str | None
) -> list[tuple[Any, int]]:
    """Polygons of a file in a CRS, each with its class.

    Args:
        path: of a GeoJSON or GeoPackage.
        crs: of the scene.
        classes: names; the place of a name is its number.
        label: property that names a polygon's class; without it all are class 1.

    Raises:
        ValueError: the file cannot be read, or a feature is no polygon, has no such class, or no
            place in the CRS; the message gives its number.
    """
    import geopandas
    import shapely

    found, labels, own_crs = _features(path, label)
    kinds, filled = shapely.get_type_id(found), ~shapely.is_empty(found)
    filled &= kinds >= 0
    _refuse(filled & ~np.isin(kinds, (3, 6)), path, "is no polygon; leave it out")
    _refuse(_infinite(found), path, "has a coordinate that is no number")
    codes = np.ones(len(found), int)
    if label is not None:
        names = {name: code for code, name in enumerate(classes)}
        codes = np.array([names.get(str(name), -1) for name in labels], int)
        what = f"has no class of {', '.join(classes)} in {label!r}"
        _refuse(filled & (codes < 0), path, what)
    elif len(classes) > 2 and filled.any():
        raise ValueError(
            f"expected label='...', the property that names the class of a polygon in {path}, "
            f"for there are {len(classes)} classes"
        )
    try:
        moved = geopandas.GeoSeries(found, crs=own_crs).to_crs(crs).to_numpy()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"the polygons of {path} cannot be brought to {crs}: {error}") from None
    _refuse(_infinite(moved), path, f"has no place in {crs}")
    return list(zip(moved[filled], codes[filled].tolist(), strict=True))


def _features(path: str, label: str | None) -> tuple[np.ndarray, list[Any], Any]:
    """Geometries, their property ``label``, and their CRS."""
    import shapely

    if path.lower().endswith(".gpkg"):
        return _of_geopackage(path, label)
    try:
        about = read_json(path)
        features, crs = about["features"], about.get("crs") or {}
        crs = crs["properties"]["name"] if crs else "EPSG:4326"
        labels = [(feature.get("properties") or {}).get(label) for feature in features]
    except (OSError, ValueError) as error:
        raise ValueError(f"the polygons {path}: {error}") from None
    except (LookupError, TypeError, AttributeError):
        raise ValueError(f"expected the features of a GeoJSON in {path}, came other json") from None
    shapes = np.full(len(features), None, object)
    for number, feature in enumerate(features):
        try:
            if feature["geometry"] is not None:
                shapes[number] = shapely.geometry.shape(feature["geometry"])
        except (LookupError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError):
            _refuse(np.arange(len(features)) == number, path, "has a geometry that is none")
    return shapes, labels, crs


def _of_geopackage(path: str, label: str | None) -> tuple[np.ndarray, list[Any], Any]:
    import geopandas
    import pyogrio

    with open(path, "rb") as file:
        if not file.read(16).startswith(b"SQLite format 3"):  # else GDAL tries all its formats
            raise ValueError(f"expected a GeoPackage at {path}, came another kind of file")
    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) == 1:
            frame = geopandas.read_file(path, layer=layers[0])
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"the polygons {path} cannot be read: {error}") from None
    if len(layers) != 1:
        raise ValueError(f"expected one layer of polygons in {path}, came {layers or 'none'}")
    if frame.crs is None:
        raise ValueError(f"expected polygons with a CRS in {path}, they have none; set it")
    labels = list(frame[label]) if label in frame else [None] * len(frame)
    return frame.geometry.to_numpy(dtype=object).copy(), labels, frame.crs


def _infinite(shapes: np.ndarray) -> np.ndarray:
    """Which of some geometries have a coordinate that is not finite."""
    import shapely

    at_, which = shapely.get_coordinates(shapes, return_index=True)
    found = np.zeros(len(shapes), bool)
    found[which[~np.isfinite(at_).all(1)]] = True
    return found


def _refuse(bad: np.ndarray, path: str, what: str) -> None:
    if bad.any():
        raise ValueError(
            f"expected polygons in {path}, feature {int(bad.argmax())} (from 0) {what}"
        )
