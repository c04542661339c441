"""What the readers of tile data sets share: listings, where a tif lies, files that are left out."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from geossl import geo
from geossl.readers.grids import at, reproject

Item = TypeVar("Item")
Result = TypeVar("Result")

SENTINEL_2 = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12".split()
_MOST_JSON = 2**26  # bytes; the largest of these data sets have some hundred thousand


def listed(folder: str | os.PathLike[str], what: str) -> list[os.DirEntry[str]]:
    """Entries of the folder that a user gave, by name.

    Raises:
        FileNotFoundError: there is no such folder; ``what`` says what it should hold.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"expected a folder of {what} at {folder}, found no such folder")
    return entries(folder)


def entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Entries of a folder by name; none where it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def folders(found: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """Those entries that are folders."""
    kept = []
    for entry in found:
        with suppress(OSError):  # a link that leads to itself
            if entry.is_dir():
                kept.append(entry)
    return kept


def some(folder: str | os.PathLike[str], most: int = 64) -> list[os.DirEntry[str]]:
    """A few entries of a folder, however large it is; none where there is no such folder."""
    try:
        with os.scandir(folder) as found:
            return list(islice(found, most))
    except (OSError, ValueError):
        return []


def each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``function`` of each item, in order, by threads that wait for the disk together."""
    parts = [items[i : i + 64] for i in range(0, len(items), 64)]
    with ThreadPoolExecutor(thread_name_prefix="geossl-tiles") as pool:
        done = pool.map(lambda part: [function(item) for item in part], parts)
        return list(chain.from_iterable(done))


def bands_of(words: pd.Series, order: Sequence[str]) -> tuple[list[str], list[str]]:
    """The bands that any row has, and why a row is bad that lacks one of them, or ""."""
    bands = [band for band in order if any(band in row for row in words)]
    every = frozenset(bands)
    lacking = [", ".join(b for b in bands if b not in row) or "band" for row in words]
    return bands, [
        "" if row and row == every else f"it has no {names}"
        for row, names in zip(words, lacking, strict=True)
    ]


def json_of(path: str | os.PathLike[str]) -> Any:
    """Content of a small json file.

    Raises:
        ValueError: it is no file, too large, or no json; the message is a reason without the name.
    """
    try:
        if not os.path.isfile(path):
            raise ValueError("there is no such file")
        if os.path.getsize(path) > _MOST_JSON:
            raise ValueError(f"it has {os.path.getsize(path):,} bytes")
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot be read as json: {error}") from None


def headers(paths: Sequence[str]) -> pd.DataFrame:
    """Where GeoTIFFs lie, from their headers alone, which threads read.

    A file is opened as a GeoTIFF whatever it holds, so that none can name another to be read.

    Returns:
        A row a path, in order: ``lon, lat`` of the middle (degrees EPSG:4326), ``bands`` (how
        many), ``dtype``, and ``problem``, the reason why there is no position, or "".
    """
    with warnings.catch_warnings():  # here, for it is not safe within threads
        warnings.simplefilter("ignore")
        rows = each(_header, paths)
    table = pd.DataFrame(rows, columns=["crs", "x", "y", "bands", "dtype", "problem"])
    table["lon"], table["lat"] = lon_lat(table["crs"], table["x"], table["y"])
    lost = table["lon"].isna() & table["problem"].eq("")
    table.loc[lost, "problem"] = "its CRS and transform lead to no longitude and latitude"
    return table[["lon", "lat", "bands", "dtype", "problem"]]


def _header(path: str) -> tuple[str, float, float, int, str, str]:
    import rasterio
    from rasterio.errors import RasterioError

    lost = "", np.nan, np.nan
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),  # else it lists all the tiles
            rasterio.open(path, driver="GTiff") as file,
        ):
            about = file.count, file.dtypes[0]
            if not file.crs or file.transform.is_identity:
                return *lost, *about, "it is not georeferenced (no CRS or no transform)"
            x, y = at(file.transform, file.width / 2, file.height / 2)
            return file.crs.to_wkt(), x, y, *about, ""
    except (RasterioError, UnicodeError) as error:
        return *lost, 0, "", f"cannot be read as a GeoTIFF: {str(error).rstrip('.')}"


def lon_lat(crs: pd.Series, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Degrees EPSG:4326 of positions in each row's own CRS; NaN where it has no such place."""
    lon, lat = np.full((2, len(crs)), np.nan)
    x, y = np.asarray(x, float), np.asarray(y, float)
    for name, rows in crs.groupby(crs).indices.items():
        try:
            lon[rows], lat[rows] = reproject(str(name), "EPSG:4326", x[rows], y[rows])
        except ValueError:
            continue
    outside = ~((np.abs(lon) <= 540) & (np.abs(lat) <= 90))
    lon[outside], lat[outside] = np.nan, np.nan
    return geo.wrap_lon(lon), lat


def sifted(
    table: pd.DataFrame, problems: Mapping[str, str], *, skip_bad: bool, of: str
) -> pd.DataFrame:
    """The rows that are left, with ``attrs["skipped"]``: path -> reason.

    Raises:
        ValueError: there are problems and not ``skip_bad``, or no row is left.
        FileNotFoundError: neither rows nor problems: ``of`` says what was looked for, and where.
    """
    if problems and not skip_bad:
        path, reason = next(iter(problems.items()))
        more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
        raise ValueError(
            f"{path}: {reason}{more}; mend or remove it, or leave such files out with skip_bad=True"
        )
    if table.empty and problems:
        path, reason = next(iter(problems.items()))
        raise ValueError(f"none of {len(problems):,} files is left of {of}; {path}: {reason}")
    if table.empty:
        raise FileNotFoundError(f"expected {of}, found none; give the folder that holds them")
    table = table.reset_index(drop=True)
    table.attrs["skipped"] = dict(problems)
    return table
