"""Any table of image paths and coordinates: csv, parquet, or a file of points or footprints.

The meaning of its columns is guessed from usual names, and can be passed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.data.columns import find_ambiguous, map_columns
from geossl.data.dates import to_utc
from geossl.data.files import DatasetError, csv_head, read_csv
from geossl.data.scenes import BOX
from geossl.data.shapes import SHAPE_SUFFIXES, column_names, read_shapes
from geossl.data.table_files import from_geo
from geossl.datasets.raster.files import is_image
from geossl.datasets.raster.header import read_positions
from geossl.datasets.registry import register
from geossl.datasets.shared.listing import first_entries
from geossl.datasets.shared.paths import (
    find_moved,
    match_files,
    outside_reason,
    pattern_fields,
    resolve_inside,
)
from geossl.datasets.shared.table import finish_table
from geossl.utils.io import check_file
from geossl.utils.validate import validated

__all__ = ["table"]

_SUFFIXES = (".csv", ".tsv", ".parquet", ".geoparquet", *SHAPE_SUFFIXES)
_LARGEST = {"lon": 180, "lat": 90}  # degrees


@validated
def table(
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, str | None] | None = None,
    root: str | os.PathLike[str] | None = None,
    files: str | None = None,
    headers: bool = False,
    positions: bool = True,
    normalize_lon: bool = False,
    date_pattern: str | None = None,
    bands: Sequence[int | str] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: Literal["uint8", "uint16"] | None = None,
    scale: tuple[float, float] | Literal["tags"] | None = None,
    nodata: float | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of a table of images, or of points; one image's header is read.

    Args:
        path: .csv, .tsv, .parquet, .geoparquet, .geojson, .gpkg, .shp, .fgb, .kml or .gpx, or a
            folder that contains one. Coordinates come from the geometry where there is one (in any
            CRS; of polygons their center), else from two columns in degrees.
        columns: its column names -> ours, e.g. ``{"species": "label"}``, or None for one that is
            not what its name says; ours are the known ones and `geossl.data.scenes.BOX`. Others
            are guessed from usual names (latitude, lat, y, decimalLatitude, ...). Columns x, y, w,
            h are boxes in pixels.
        root: folder that paths start from, and must stay in; the table's own if None. A path that
            leads to no file is looked up by its end, or by its name, where only one file fits.
        files: pattern of the file of a row in ``root``, if no column holds it: ``{name}`` stands
            for the row's value of a column, ``*`` for anything within a name; one file must match.
        headers: take coordinates from the headers of georeferenced files, which opens each.
        positions: every row must have coordinates; False lets them be missing.
        normalize_lon: turn longitudes of 0..360 into -180..180.
        date_pattern: form of ``strptime`` of the times, such as "%d/%m/%Y"; without it,
            `geossl.data.dates.to_utc` reads all usual forms, and refuses what may be two dates.
        bands: numbers of bands, or words for ``{band}`` in the paths; all of the first file if
            None.
        band_names: their names; the first file's own if None.
        dtype: type of the chips; the first file's own if None.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip; "tags" applies the
            files' own scale and offset, and takes the range of some of their pixels.
        nodata: value of pixels without data that the files do not declare (0: in all bands).
        skip_bad: leave out rows whose path or coordinates cannot be used; ``attrs["skipped"]``
            maps them, counted from 0, to the reason.

    Returns:
        One row per row of the file, with all its columns. Where it has no ``location``, rows of the
        very same coordinates are one; each box, and each row without coordinates, is its own.
        Without paths it is a table of points that cannot become a chip store.

    Raises:
        FileNotFoundError: the table does not exist, or none of its first images.
        ValueError: it cannot be read, has no coordinates, or a path that leaves ``root``.
    """
    path = Path(path)
    if path.is_dir():
        if len(tables := _list_tables(path)) != 1:
            names = [file.name for file in tables][:20]
            raise FileNotFoundError(f"{path} must contain one table, got {names}. Pass its path.")
        path = tables[0]
    columns = dict(columns or {})
    frame = _read(path, columns, files).reset_index(drop=True)
    folder = path.parent if root is None else Path(root)
    problems: dict[int, str] = {}
    if files is not None:
        frame["path"] = match_files(frame, files, folder, problems)
    frame = _rename(frame, columns, str(path))
    if frame.empty:
        raise DatasetError(f"{path} names columns and has no rows. Pass a table that has some.")
    if "time" in frame:
        try:
            times = to_utc(frame["time"], pattern=date_pattern, option="date_pattern")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        frame["time"] = times if date_pattern else frame["time"]
    if "path" in frame:
        resolved = resolve_inside(folder, frame["path"])
        if files is None:
            resolved = find_moved(folder, resolved)
        for row in (row for row, file in enumerate(resolved) if file is None):
            problems.setdefault(row, outside_reason(folder, frame["path"].iloc[row]))
        frame["path"] = np.array(resolved, dtype=object)
    if "mask" in frame:  # of `geossl.tasks.segment`, next to the images
        masks = zip(resolve_inside(folder, frame["mask"]), frame["mask"], strict=True)
        frame["mask"] = [mask if inside is None else inside for inside, mask in masks]
    if headers and "path" not in frame:
        raise ValueError(
            f"`headers=True` needs paths of images in {path}, got the columns {list(frame)[:40]}."
        )
    if headers:
        good = np.setdiff1d(np.arange(len(frame)), list(problems))
        frame[["lon", "lat"]] = np.nan
        frame.loc[good, ["lon", "lat"]] = np.column_stack(_read_centers(frame.iloc[good], bands))
    elif positions and not {"lon", "lat"} <= set(frame):
        raise ValueError(
            f"{path} has no columns of coordinates among {list(frame)[:40]}. Name them with "
            "`columns`, take them from georeferenced files with `headers=True`, or do without them "
            "with `positions=False`."
        )
    if skip_bad and positions:
        for row in np.flatnonzero(_has_no_position(frame).to_numpy()).tolist():
            problems.setdefault(row, "it has no coordinates")
    if "location" not in frame:
        good = ~frame.index.isin(problems.keys())
        frame["location"] = -1
        frame.loc[good, "location"] = _number_locations(frame[good])
    frame["problem"] = pd.Series(problems, dtype=object).reindex(frame.index)
    return finish_table(
        frame, reader="table", folder=path, layout="rows", skip_bad=skip_bad, positions=positions,
        normalize_lon=normalize_lon, numbered=True, detect=True, bands=bands,
        band_names=band_names, dtype=dtype, scale=scale, nodata=nodata,
    )  # fmt: skip


def fits(path: Path) -> str | None:
    """Return why a table with coordinates is at ``path``, or in it next to its images; or None."""
    files = _list_tables(path) if path.is_dir() else [path]
    names = _column_names(files[0]) if len(files) == 1 else []
    ours = set(map_columns(names, {}).values())
    if not {"lon", "lat"} <= ours or {*scenes.COLUMNS, "reader"} <= set(names):  # one of our own
        return None
    if "path" not in ours:
        return None if path.is_dir() else f"{path.name} has coordinates, and no column of images"
    return f"{files[0].name} has paths and coordinates"


def lacks(path: Path) -> str | None:
    """Return what a table at a path lacks to open by itself, or None."""
    files = _list_tables(path) if path.is_dir() else [path]
    if len(files) != 1 or files[0].suffix.lower() not in _SUFFIXES:
        return None
    columns: dict[str, str | None] = {}
    try:
        frame = _read(files[0], columns, None)
        _rename(frame, columns, str(files[0]))
    except (OSError, ValueError) as error:
        return f"cannot read {files[0].name}: {str(error).rstrip('.')}"
    names = _column_names(files[0])
    if {*scenes.COLUMNS, "reader"} <= set(names):
        return (
            f"takes {files[0].name} for a scene table of geossl's own, because it has their "
            "columns: open it with `geossl.data.scenes.read`, or rename its column 'reader'"
        )
    if len(names) == 1 and files[0].suffix.lower() in (".csv", ".tsv"):
        return f"needs commas, semicolons, tabs or | in {files[0].name}, which has {names}"
    if any(is_image(name) or name.replace(".", "", 1).lstrip("-").isdigit() for name in names):
        return f"needs a first line such as path,lat,lon in {files[0].name}, which has {names[:20]}"
    ours = map_columns(names)
    missing = [name for name in ("lon", "lat") if name not in ours.values()]
    others = frame[[name for name in frame if name not in ours][:40]]
    largest = others.apply(pd.to_numeric, errors="coerce").abs().max()
    fitting = [  # those that may be degrees
        chosen for chosen in permutations(others, len(missing))
        if all(largest[old] <= _LARGEST[new] for old, new in zip(chosen, missing, strict=True))
    ]  # fmt: skip
    named = ""
    if fitting and "path" in ours.values():
        named = f", e.g. `columns={dict(zip(fitting[0], missing, strict=True))}`"
        if len(missing) > 1 and fitting[0][::-1] in fitting:
            named += " or the other way round"
    return (
        f"needs columns of coordinates in {files[0].name}, which has {names[:20]}: pass "
        f"reader='table' with `columns` that name them{named}, with `headers=True` to take them "
        "from georeferenced files, or with `positions=False` to do without"
    )


def describes_images(folder: Path) -> bool:
    """Return whether a table in a folder names images or boxes in them."""
    columns = [set(map_columns(_column_names(file), {}).values()) for file in _list_tables(folder)]
    return any("path" in ours or "box_width" in ours for ours in columns[:8])


def _list_tables(folder: Path) -> list[Path]:
    files = sorted(Path(e.path) for e in first_entries(folder, 2000) if os.path.isfile(e.path))
    return [file for file in files if file.suffix.lower() in _SUFFIXES]


def _column_names(path: Path) -> list[str]:
    """Return the columns of a table by its first bytes; none if it is no table, or xView's."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            return csv_head(path)[0]
        if suffix in (".parquet", ".geoparquet"):
            schema = _read_schema(path)
            return [*schema.names, *(("lon", "lat") if b"geo" in (schema.metadata or {}) else ())]
        with open(path, "rb") as file:
            start = file.read(2**16)
        if suffix == ".geojson" and b'"bounds_imcoords"' not in start and b'"features"' in start:
            text = start.decode("utf-8", "replace")
            return ["lon", "lat", *re.findall(r'"([^"]{1,60})"\s*:', text)]
        if suffix in SHAPE_SUFFIXES and (names := column_names(path)):
            return ["lon", "lat", *names]
    except (OSError, ValueError, RuntimeError):
        pass
    return []


def _read(path: Path, columns: dict[str, str | None], files: str | None) -> pd.DataFrame:
    """Read the table as it is; coordinates of its geometry become ``lon, lat``."""
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"`path` must end in {', '.join(_SUFFIXES)}, got {path.name!r}.")
    if not path.exists():
        raise FileNotFoundError(f"The table {path} does not exist.")
    check_file(path, "table", error=DatasetError)
    if suffix in (".csv", ".tsv"):
        ours = map_columns(_column_names(path), columns)
        text = {old for old, new in ours.items() if new in ("path", "location", "label", "split")}
        return read_csv(path, text=text | set(pattern_fields(files or "")))
    try:
        frame = _read_frame(path)
    except DatasetError:
        raise
    except (ValueError, OSError, RuntimeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path} cannot be read: {reason.rstrip('.')}.") from None
    frame = pd.DataFrame(frame).rename(columns=str)
    frame.attrs = {}
    return frame.reset_index() if any(frame.index.names) else frame


def _read_frame(path: Path) -> pd.DataFrame:
    is_parquet = path.suffix.lower() not in SHAPE_SUFFIXES
    if is_parquet and b"geo" not in (_read_schema(path).metadata or {}):
        return pd.read_parquet(path)
    import geopandas

    frame = geopandas.read_parquet(path) if is_parquet else read_shapes(path)
    if not isinstance(frame, geopandas.GeoDataFrame):
        return frame
    table = from_geo(frame)
    return table if "location" in frame else table.drop(columns="location")


def _read_schema(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_schema(path)


def _rename(frame: pd.DataFrame, columns: dict[str, str | None], source: str) -> pd.DataFrame:
    """Give a table our names; a column whose name is taken by another is ``NAME_given``."""
    missing = sorted(set(columns) - set(frame))
    if missing:
        raise ValueError(
            f"`columns` must name columns of {source}, got {missing}, which are not among "
            f"{list(frame)[:40]}."
        )
    for new, names in find_ambiguous(list(frame), columns).items():
        raise ValueError(
            f"`columns` must say which column of {source} is {new!r}, because {names} may be. Pass "
            f"`columns={{{names[0]!r}: {new!r}}}`."
        )
    ours = map_columns(list(frame), columns)
    excluded = {name for name, new in columns.items() if new is None and name in scenes.COLUMNS}
    taken = (set(ours.values()) | excluded | {"reader"}) - set(ours)
    ours |= {name: f"{name}_given" for name in taken & set(frame)}
    frame = frame.rename(columns=ours)
    if frame.columns.has_duplicates:
        repeated = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"`columns` must name one column for {repeated!r} of {source}, got two.")
    for low, high, size in zip(BOX[:2], BOX[2:], ("box_width", "box_height"), strict=True):
        if size in frame and low in frame:
            frame[high] = frame[low] + frame.pop(size)
    edges = [name for name in BOX if name in frame]
    if edges and len(edges) < 4:
        raise ValueError(f"{source} must have the columns {BOX} of a box, got only {edges}.")
    for name in edges:
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
    return frame


def _read_centers(frame: pd.DataFrame, bands: Sequence[int | str] | None) -> Any:
    """Return where the images, or the boxes in them, lie by the headers of the files."""
    paths = frame["path"].str.replace("{band}", str((bands or [""])[0])).tolist()
    if BOX[0] not in frame:
        return read_positions(paths)
    left, top, right, bottom = (frame[name].to_numpy() for name in BOX)
    return read_positions(paths, (left + right) / 2, (top + bottom) / 2)


def _has_no_position(frame: pd.DataFrame) -> pd.Series:
    numbers = frame[["lon", "lat"]].apply(pd.to_numeric, errors="coerce")
    return numbers.isna().any(axis=1) | numbers.le(-900).any(axis=1)


def _number_locations(frame: pd.DataFrame) -> np.ndarray:
    """Number rows of equal coordinates alike; each box, and each row without, on its own."""
    number = np.arange(len(frame))
    if BOX[0] in frame or not {"lon", "lat"} <= set(frame):
        return number
    alone = np.where(_has_no_position(frame), number, -1)
    keys = frame[["lon", "lat"]].assign(alone=alone)
    return keys.groupby(list(keys), sort=False, dropna=False).ngroup().to_numpy()


register("table", open=table, fits=fits, lacks=lacks)
