"""Scene tables on disk and as GeoDataFrames, as they are: `geossl.data.scenes` checks them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from geossl.utils.io import atomic_write

if TYPE_CHECKING:
    import geopandas

LONGEST_LINE = 2**20  # bytes of the header of a csv; pandas takes minutes over a million columns


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
    except (ValueError, OSError) as error:
        raise ValueError(f"expected a scene table at {path}, could not read it: {error}") from None
    return table.rename(columns=dict(columns or {}))


def _read_csv(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """A csv without the guesses that lose names: "NA" is a country, "0001" is not "1"."""
    with open(path, "rb") as file:
        if len(file.readline(LONGEST_LINE)) == LONGEST_LINE:
            raise ValueError(f"its first line is longer than {LONGEST_LINE:,} bytes")
    names = pd.read_csv(path, nrows=0).columns
    texts = {name: str for name in names if columns.get(name, name) in ("location", "label")}
    table = pd.read_csv(
        path, dtype=texts, keep_default_na=False, na_values=["", "nan", "NaN", "NaT", "<NA>"]
    )
    for name in texts:
        numbers = pd.to_numeric(table[name], errors="coerce").astype("Float64")
        whole = numbers.notna().all() and (numbers.abs() < 2**53).all()
        if whole and (numbers % 1 == 0).all():
            back = numbers.astype("int64")
            if (back.astype(str) == table[name]).all():
                table[name] = back
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
