"""Any table of image paths and coordinates: csv, parquet, GeoParquet, GeoJSON, GeoPackage.

The meaning of its columns is guessed from usual names, and can be told.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.data.files import csv_separator, read_csv
from geossl.data.scenes import BOX
from geossl.data.table_files import from_geo
from geossl.datasets.raster import chips
from geossl.datasets.raster.header import detect_pixel_format, read_positions
from geossl.datasets.registry import register
from geossl.datasets.shared import paths as named
from geossl.datasets.shared.listing import first_entries
from geossl.datasets.shared.table import drop_bad_files

__all__ = ["table"]

_USUAL = {  # our column -> names it often has, in lower case, the likeliest first
    "path": "path file_path filepath image_path img_path file_name filename file image fn",
    "location": "location",
    "time": "time timestamp datetime date acquired eventdate",
    "lon": "lon longitude lng long decimallongitude x",
    "lat": "lat latitude decimallatitude y",
    "label": "label class category cls",
    "split": "split subset",
}
_XYWH = ("x", "y", "w", "h")
_MAGIC = {".geojson": b"{", ".gpkg": b"SQLite format 3\0"}  # GDAL would open anything by content
_SUFFIXES = (".csv", ".tsv", ".parquet", ".geoparquet", *_MAGIC)


def table(
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, str | None] | None = None,
    root: str | os.PathLike[str] | None = None,
    files: str | None = None,
    headers: bool = False,
    positions: bool = True,
    normalize_lon: bool = False,
    bands: Sequence[int | str] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: str | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of a table of images, or of points alone; one image's header is read.

    Args:
        path: .csv, .tsv, .parquet, .geoparquet, .geojson or .gpkg, or a folder that holds one.
            Coordinates come from the geometry where there is one (its CRS may be any), else from
            two columns in degrees.
        columns: its column names -> ours, e.g. ``{"species": "label"}``, or None for one that is
            not what its name says; ours are the known ones and `images.BOX`. What is not told is
            guessed from usual names (latitude, lat, y, decimalLatitude, ...). Columns x, y, w, h
            are boxes in pixels.
        root: folder that paths start from, and must stay in; the table's own when None.
        files: pattern of the file of a row in ``root``, if no column holds it: ``{name}`` stands
            for the row's value of a column, ``*`` for anything within a name; one file must fit.
        headers: take coordinates from the headers of georeferenced tifs, which opens each file.
        positions: every row must have coordinates; False lets them be missing.
        normalize_lon: turn longitudes of 0..360 into -180..180.
        bands: numbers of bands, or words for ``{band}`` in the paths; all of the first file.
        band_names: their names; the first file's own when None.
        dtype: "uint8" or "uint16"; the first file's own when None.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip.
        skip_bad: leave out rows whose path or coordinates cannot be used; ``attrs["skipped"]``
            maps them, counted from 0, to the reason.

    Returns:
        A row a row of the file, with all its columns. Where it has no ``location``, rows of the
        very same coordinates are one; each box, and each row without coordinates, is its own.
        Without paths it is a table of points that cannot become a chip store.

    Raises:
        FileNotFoundError: there is no such table, or none of its first images.
        ValueError: it cannot be read, has no coordinates, or a path that leaves ``root``.
    """
    path = Path(path)
    if path.is_dir():
        if len(inner := _tables(path)) != 1:
            names = [file.name for file in inner][:20]
            raise FileNotFoundError(f"expected one table in {path}, found {names}; give its path")
        path = inner[0]
    columns = dict(columns or {})
    frame = _read(path, columns, files)
    folder = path.parent if root is None else Path(root)
    bad: dict[int, str] = {}
    if files is not None:
        frame["path"] = named.match_files(frame, files, folder, bad)
    frame = _renamed(frame, columns, str(path))
    if "path" in frame:
        whole = named.resolve_inside(folder, frame["path"])
        for i in (i for i, file in enumerate(whole) if file is None and i not in bad):
            bad[i] = named.outside_reason(folder, frame["path"].iloc[i])
        frame["path"] = np.array(whole, dtype=object)
    if headers and "path" not in frame:
        raise ValueError(
            f"expected paths of tifs in {path} for headers=True, came {list(frame)[:40]}"
        )
    if headers:
        good = np.setdiff1d(np.arange(len(frame)), list(bad))
        frame[["lon", "lat"]] = np.nan
        frame.loc[good, ["lon", "lat"]] = np.column_stack(_placed(frame.iloc[good], bands))
    elif positions and not {"lon", "lat"} <= set(frame):
        raise ValueError(
            f"expected coordinates in {path}, found no such columns among {list(frame)[:40]}; name "
            "them by columns=, take them from georeferenced tifs with headers=True, or do without "
            "by positions=False"
        )
    if skip_bad and positions:
        for row in np.flatnonzero(_unplaced(frame).to_numpy()).tolist():
            bad.setdefault(row, "no coordinates")
    frame = _without(frame, bad, skip_bad, str(path))
    if "location" not in frame:
        frame["location"] = _locations(frame)
    frame = scenes.check(frame, normalize_lon=normalize_lon, positions=positions, source=str(path))
    if frame["path"].isna().all():
        return frame
    about = detect_pixel_format(
        frame["path"], bands=bands, band_names=band_names, dtype=dtype, scale=scale
    )
    return chips.add_pixel_columns(frame, reader="table", **about)


def fits(path: Path) -> str | None:
    """Why a table with coordinates is at ``path``, or in it beside its images; or None."""
    files = _tables(path) if path.is_dir() else [path]
    names = _names(files[0]) if len(files) == 1 else []
    ours = set(_meant(names, {}).values())
    if not {"lon", "lat"} <= ours or "reader" in names:
        return None
    if "path" not in ours:
        return None if path.is_dir() else f"{path.name} has coordinates, and names no images"
    return f"{files[0].name} has paths and coordinates"


def _tables(folder: Path) -> list[Path]:
    files = sorted(Path(e.path) for e in first_entries(folder, 2000) if os.path.isfile(e.path))
    return [file for file in files if file.suffix.lower() in _SUFFIXES]


def _names(path: Path) -> list[str]:
    """Columns of a table by its first bytes; none where it is no table, or xView's."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            return list(pd.read_csv(path, nrows=0, sep=csv_separator(path)))
        if suffix in (".parquet", ".geoparquet"):
            schema = _schema(path)
            return [*schema.names, *(("lon", "lat") if b"geo" in (schema.metadata or {}) else ())]
        with open(path, "rb") as file:
            start = file.read(2**16)
        if suffix == ".geojson" and b'"bounds_imcoords"' not in start and b'"features"' in start:
            text = start.decode("utf-8", "replace")
            return ["lon", "lat", *re.findall(r'"([^"]{1,60})"\s*:', text)]
        if suffix == ".gpkg" and start.startswith(_MAGIC[suffix]):
            import pyogrio

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ["lon", "lat", *pyogrio.read_info(path)["fields"]]
    except (OSError, ValueError, RuntimeError):
        pass
    return []


def _read(path: Path, columns: dict[str, str | None], files: str | None) -> pd.DataFrame:
    """The table as it is; coordinates of its geometry are ``lon, lat``."""
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"expected a table ending in {', '.join(_SUFFIXES)}, came {path.name!r}")
    if not path.is_file():
        raise FileNotFoundError(f"expected a table at {path}, found no file")
    try:
        if suffix in (".csv", ".tsv"):
            return _read_csv(path, columns, files)
        if suffix in _MAGIC:
            with open(path, "rb") as file:
                if not file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_MAGIC[suffix]):
                    raise ValueError(f"it does not start as a {suffix} does")
        if suffix not in _MAGIC and b"geo" not in (_schema(path).metadata or {}):
            frame = pd.read_parquet(path)
        else:
            import geopandas

            read = geopandas.read_file if suffix in _MAGIC else geopandas.read_parquet
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of columns whose values are of several types
                frame = read(path)
            if isinstance(frame, geopandas.GeoDataFrame):
                own = "location" in frame
                lost = (frame.geometry.isna() | frame.geometry.is_empty).to_numpy()
                frame = from_geo(frame)
                frame.loc[lost, ["lon", "lat"]] = np.nan
                frame = frame if own else frame.drop(columns="location")
        frame = pd.DataFrame(frame).rename(columns=str)
        frame = frame.reset_index(drop=not any(frame.index.names))
    except (ValueError, OSError, RuntimeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"expected a table at {path}, could not read it: {reason}") from None
    frame.attrs = {}
    return frame


def _schema(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_schema(path)


def _read_csv(path: Path, columns: dict[str, str | None], files: str | None) -> pd.DataFrame:
    names = _names(path)
    ours = _meant(names, columns)
    text = {old for old, new in ours.items() if new in ("path", "location", "label", "split")}
    return read_csv(path, text=text | set(named.pattern_fields(files or "")))


def _meant(names: Sequence[str], columns: Mapping[str, str | None]) -> dict[str, str]:
    """Column names of a table -> ours, of those that are told or can be guessed."""
    known = {name: new for name, new in columns.items() if name in names}
    free = {name.lower(): name for name in reversed(names) if name not in known}
    if set(_XYWH) <= set(free):
        ours = ("box_left", "box_top", "box_width", "box_height")
        known |= {free.pop(old): new for old, new in zip(_XYWH, ours, strict=True)}
    for new, usual in _USUAL.items():
        if new not in known.values() and (old := next(filter(free.get, usual.split()), None)):
            known[free[old]] = new
    return {old: new for old, new in known.items() if new}


def _renamed(frame: pd.DataFrame, columns: dict[str, str | None], source: str) -> pd.DataFrame:
    """The table with our names; a column whose name is taken by another is ``NAME_given``."""
    absent = set(columns) - set(frame)
    if absent:
        raise ValueError(
            f"expected the columns {sorted(absent)} of columns= in {source}, came "
            f"{list(frame)[:40]}"
        )
    ours = _meant(list(frame), columns)
    unmeant = {name for name, new in columns.items() if new is None and name in scenes.COLUMNS}
    taken = (set(ours.values()) | unmeant) - set(ours)
    ours |= {name: f"{name}_given" for name in taken & set(frame)}
    frame = frame.rename(columns=ours)
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"expected one column for {twice!r} in {source}, came two; use columns=")
    if {"box_width", "box_height"} <= set(frame):
        for low, high, size in zip(BOX[:2], BOX[2:], ("box_width", "box_height"),
                                   strict=True):  # fmt: skip
            frame[high] = frame[low] + frame.pop(size)
    some_box = [name for name in BOX if name in frame]
    if some_box and len(some_box) < 4:
        raise ValueError(f"expected the columns {BOX} of a box in {source}, came {some_box}")
    for name in some_box:
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
    return frame


def _placed(frame: pd.DataFrame, bands: Sequence[int | str] | None) -> Any:
    paths = frame["path"].str.replace("{band}", str((bands or [""])[0])).tolist()
    if BOX[0] not in frame:
        return read_positions(paths)
    left, top, right, bottom = (frame[name].to_numpy() for name in BOX)
    return read_positions(paths, (left + right) / 2, (top + bottom) / 2)


def _unplaced(frame: pd.DataFrame) -> pd.Series:
    numbers = frame[["lon", "lat"]].apply(pd.to_numeric, errors="coerce")
    return numbers.isna().any(axis=1) | numbers.le(-900).any(axis=1)


def _without(frame: pd.DataFrame, bad: dict[int, str], skip_bad: bool, source: str) -> pd.DataFrame:
    if not bad:
        frame.attrs["skipped"] = {}
        return frame
    rows = {f"{source}, row {i}": bad[i] for i in sorted(bad)}
    left = frame.drop(index=frame.index[list(bad)])
    return drop_bad_files(left, rows, skip_bad=skip_bad, what=f"rows in {source}")


def _locations(frame: pd.DataFrame) -> np.ndarray:
    """Numbers of the places: of equal coordinates; each box and each row without is its own."""
    number = np.arange(len(frame))
    if BOX[0] in frame or not {"lon", "lat"} <= set(frame):
        return number
    alone = np.where(_unplaced(frame), number, -1)
    where = frame[["lon", "lat"]].assign(alone=alone)
    return where.groupby(list(where), sort=False, dropna=False).ngroup().to_numpy()


register("table", open=table, fits=fits)
