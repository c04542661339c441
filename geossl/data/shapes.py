"""Read files of points and polygons: GeoJSON, GeoPackage, Shapefile, FlatGeobuf, KML, GPX."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from geossl.data.files import DatasetError
from geossl.utils.validate import validated

if TYPE_CHECKING:
    import geopandas

__all__ = ["SHAPE_SUFFIXES", "column_names", "read_shapes"]

_STARTS = {  # GDAL on its own opens a file by its content, and some contents name other files
    ".geojson": rb"{",
    ".gpkg": rb"SQLite format 3\0",
    ".shp": rb"\0\0\x27\x0a",
    ".fgb": rb"fgb",
    ".kml": rb"(<\?[^>]*>\s*|<!--.*?-->\s*)*<(\w+:)?kml\b",
    ".gpx": rb"(<\?[^>]*>\s*|<!--.*?-->\s*)*<(\w+:)?gpx\b",
}
SHAPE_SUFFIXES = tuple(_STARTS)
_KEPT_TOGETHER = (".kml", ".gpx")  # formats whose folders are layers


@validated
def read_shapes(path: str | os.PathLike[str]) -> geopandas.GeoDataFrame:
    """Read a file of shapes with their columns, in its own CRS.

    Raises:
        DatasetError: it is another kind of file, is damaged, or has no CRS or several layers.
    """
    import geopandas

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns whose values are of several types
            frames = [geopandas.read_file(path, layer=name) for name in _layers(path)]
    except (ValueError, OSError, RuntimeError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read: {_reason(error)}.") from None
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    if _suffix(path) in _KEPT_TOGETHER:  # they have many columns that nobody filled
        frame = frame.dropna(axis="columns", how="all")
    if frame.crs is None:
        raise DatasetError(
            f"{path} has no CRS. Write it into a copy, e.g. with ogr2ogr -a_srs EPSG:4326 "
            f"copy.gpkg {Path(path).name}."
        )
    return frame


@validated
def column_names(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the columns, apart from the shapes; none if it cannot be read."""
    import pyogrio

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            infos = [pyogrio.read_info(path, layer=name) for name in _layers(path)]
    except (ValueError, OSError, RuntimeError):
        return []
    return list(dict.fromkeys(str(name) for info in infos for name in info["fields"]))


def _layers(path: str | os.PathLike[str]) -> list[str]:
    """Return the layers to read of a file that is what its suffix says."""
    import pyogrio

    with open(path, "rb") as file:
        start = file.read(2**14).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not re.match(_STARTS[_suffix(path)], start, re.DOTALL):
        raise ValueError(f"it does not start as a {_suffix(path)} does")
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if not layers or (len(layers) > 1 and _suffix(path) not in _KEPT_TOGETHER):
        raise ValueError(
            f"it needs one layer of polygons or points, got {layers or 'none'}; write one of them "
            "to a file of its own, e.g. with ogr2ogr"
        )
    return layers


def _suffix(path: str | os.PathLike[str]) -> str:
    return Path(path).suffix.lower()


def _reason(error: Exception) -> str:
    text = str(error).partition("\n")[0].partition("; It might help")[0]  # advice to other code
    return (text or type(error).__name__).rstrip(".")
