"""Scene tables on disk and as GeoDataFrames, as they are: `geossl.data.scenes` checks them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from geossl.data.files import DatasetError, read_csv
from geossl.utils.io import atomic_write

if TYPE_CHECKING:
    import geopandas


def write(scenes: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a scene table as .csv, .parquet or .geoparquet; atomic.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    suffix = _suffix(path)
    with atomic_write(path) as part:
        if suffix == ".csv":
            scenes.to_csv(part, index=False)
        elif suffix == ".parquet":
            plain = scenes.copy(deep=False)
            plain.attrs = {}
            plain.to_parquet(part, index=False)
        else:
            to_geo(scenes).to_parquet(part, index=False)


def load(path: str | os.PathLike[str], *, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a table as it is, unchecked, e.g. to describe one that `check` refuses.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a scene table at {path}, found no file")
    try:
        if suffix == ".csv":
            table = _read_csv(path, dict(columns or {}))
        elif suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            import geopandas

            table = from_geo(geopandas.read_parquet(path))
    except DatasetError:
        raise
    except (ValueError, OSError) as error:
        raise DatasetError(
            f"expected a scene table at {path}, could not read it: {error}"
        ) from None
    return table.rename(columns=dict(columns or {}))


def _read_csv(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Read a csv with its locations and labels as text, or as integers where that loses nothing."""
    ours = ("location", "label")
    texts = {name for name, our in columns.items() if our in ours} | (set(ours) - set(columns))
    table = read_csv(path, text=texts)
    for name in texts & set(table):
        numbers = pd.to_numeric(table[name], errors="coerce").astype("Float64")
        is_integer = numbers.notna().all() and (numbers.abs() < 2**53).all()
        if is_integer and (numbers % 1 == 0).all():
            integers = numbers.astype("int64")
            if (integers.astype(str) == table[name]).all():
                table[name] = integers
    return table


def _suffix(path: Path) -> str:
    if path.suffix not in (".csv", ".parquet", ".geoparquet"):
        raise ValueError(
            f"expected a table ending in .csv, .parquet or .geoparquet, came {path.name!r}"
        )
    return path.suffix


def to_geo(scenes: pd.DataFrame) -> geopandas.GeoDataFrame:
    """The table as a GeoDataFrame of points in EPSG:4326."""
    import geopandas

    points = geopandas.points_from_xy(scenes["lon"], scenes["lat"])
    plain = pd.DataFrame(scenes).copy(deep=False)
    plain.attrs = {}
    return geopandas.GeoDataFrame(plain, geometry=points, crs="EPSG:4326")


def from_geo(frame: geopandas.GeoDataFrame) -> pd.DataFrame:
    """A scene table from a GeoDataFrame in any CRS.

    ``lon, lat`` are those of its points, or of a point inside each other shape; ``location`` is
    the number of the row where the frame has none.

    Raises:
        ValueError: the frame has no CRS.
    """
    if frame.crs is None:
        raise ValueError("expected a GeoDataFrame with a CRS, came one without; use set_crs")
    shapes = frame.geometry
    points = shapes if (shapes.geom_type == "Point").all() else shapes.representative_point()
    points = points.to_crs(4326)
    table = pd.DataFrame(frame.drop(columns=frame.geometry.name))
    table["lon"], table["lat"] = points.x.to_numpy(), points.y.to_numpy()
    if "location" not in table:
        table["location"] = np.arange(len(table))
    return table
