"""Read and write scene tables without checks, and convert them to and from GeoDataFrames."""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data.files import DatasetError, read_csv
from geossl.utils.io import atomic_write, check_file
from geossl.utils.validate import check_choice, validated

if TYPE_CHECKING:
    import geopandas

__all__ = ["from_geo", "read_parquet", "read_table", "to_geo", "write"]

_NO_DEGREES = 720  # shapes over the antimeridian may reach beyond 360
_SUFFIXES = (".csv", ".parquet", ".geoparquet")


@validated
def read_table(
    path: str | os.PathLike[str], *, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a scene table without checks, e.g. to describe one that `check` refuses.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it cannot be read.
    """
    path, columns = Path(path), dict(columns or {})
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(
            f"`suffix of path` must be one of {list(_SUFFIXES)} of a scene table, got {suffix!r}. "
            f"Make one of {path} with `geossl scenes open` or `geossl.datasets.open_scenes`."
        )
    check_file(path, "scene table", error=DatasetError)
    try:
        if suffix == ".csv":
            table = _read_csv(path, columns)
        elif suffix == ".parquet":
            table = read_parquet(path)
        else:
            import geopandas

            table = from_geo(geopandas.read_parquet(path))
    except DatasetError:
        raise
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DatasetError(f"The scene table {path} cannot be read: {reason}.") from None
    return table.rename(columns=columns)


def _read_csv(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Read a csv with its locations and labels as text, or as integers where that loses nothing."""
    ours = ("location", "label")
    texts = {name for name, our in columns.items() if our in ours} | (set(ours) - set(columns))
    table = read_csv(path, text=texts)
    for name in texts & set(table):
        integers = pd.to_numeric(table[name], errors="coerce", downcast="integer")
        if pd.api.types.is_integer_dtype(integers) and (integers.astype(str) == table[name]).all():
            table[name] = integers.astype("int64")
    return table


@validated
def read_parquet(source: str | os.PathLike[str] | BytesIO) -> pd.DataFrame:
    """Read a parquet file; the checksums of its pages, which `write` adds, are checked.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it is damaged, or is no parquet.
    """
    name = "The table" if isinstance(source, BytesIO) else source
    if not isinstance(source, BytesIO):
        check_file(source, "table", error=DatasetError)
    try:
        return pd.read_parquet(source, page_checksum_verification=True)
    except (
        ValueError, OSError, TypeError, LookupError, NotImplementedError, OverflowError,
        RecursionError,
    ) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DatasetError(f"{name} cannot be read as parquet ({reason}).") from None


@validated
def write(scenes: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a scene table as .csv, .parquet or .geoparquet; atomic.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    check_choice("suffix of path", path.suffix, _SUFFIXES)
    with atomic_write(path) as part:
        if path.suffix == ".csv":
            scenes.to_csv(part, index=False)
        elif path.suffix == ".parquet":
            _without_attrs(scenes).to_parquet(part, index=False, write_page_checksum=True)
        else:
            to_geo(scenes).to_parquet(part, index=False, write_page_checksum=True)


@validated
def to_geo(scenes: pd.DataFrame) -> geopandas.GeoDataFrame:
    """Return the table as a GeoDataFrame of points in EPSG:4326."""
    import geopandas

    points = geopandas.points_from_xy(scenes["lon"], scenes["lat"])
    return geopandas.GeoDataFrame(_without_attrs(scenes), geometry=points, crs="EPSG:4326")


def from_geo(frame: geopandas.GeoDataFrame) -> pd.DataFrame:
    """Return a scene table from a GeoDataFrame in any CRS.

    ``lon, lat`` are those of its points, or of the center of each other shape; ``location`` is
    the number of the row where the frame has none.

    Raises:
        ValueError: the frame has no CRS.
        DatasetError: it has another one than it says: no shape is in degrees.
    """
    if getattr(frame, "crs", None) is None:
        raise ValueError(
            "`frame` must be a GeoDataFrame with a CRS. Use its `set_crs`, or ogr2ogr -a_srs."
        )
    shapes = frame.geometry.to_crs(4326)
    reach = shapes.bounds.abs().max(axis=1).min()
    if _NO_DEGREES < reach < np.inf:
        raise DatasetError(
            f"The shapes have coordinates of {reach:,.0f} and more, which are no degrees. Write "
            "their true CRS into a copy, e.g. with ogr2ogr -a_srs EPSG:32631 copy.gpkg FILE."
        )
    lon, lat = geo.shape_centers(shapes.to_numpy())
    table = pd.DataFrame(frame.drop(columns=frame.geometry.name)).assign(lon=lon, lat=lat)
    if "location" not in table:
        table["location"] = np.arange(len(table))
    return table


def _without_attrs(scenes: pd.DataFrame) -> pd.DataFrame:
    plain = pd.DataFrame(scenes).copy(deep=False)
    plain.attrs = {}
    return plain
