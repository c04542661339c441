"""Read vectors and the table that describes them from the files of other tools."""

from __future__ import annotations

import collections
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.data.columns import map_columns
from geossl.data.files import DatasetError, open_array, read_csv
from geossl.data.pixels import dequantize_alpha_earth
from geossl.data.table_files import from_geo
from geossl.utils.validate import check_choice, validated

__all__ = ["has_vectors", "read_vectors"]

_PARQUET = (".parquet", ".geoparquet", ".gpq", ".pq")
_TABLES = (*_PARQUET, ".csv", ".tsv")
_SUFFIXES = (*_TABLES, ".npy", ".npz")
_VECTOR_NAMES = ("embedding", "embeddings", "vector", "vectors", "vec", "emb", "features",
                 "feature", "feat")  # fmt: skip
_PREFIXES = (*_VECTOR_NAMES, "e", "f", "v", "x", "z", "dim")
_NUMBERED = re.compile(r"(.*?)(\d+)")
_LEAST, _SURE = 8, 32  # values under an unknown name, below which they may be a box, or bands
_GEOMETRIES = ("geometry", ".geo", "geom", "wkt", "footprint")
_SAME_DEG = 6  # decimals: positions that are equal to 0.1 m are one location
_ALPHA_EARTH = [f"A{i:02d}" for i in range(64)]


@validated
def read_vectors(
    path: str | os.PathLike[str],
    *,
    vectors: str | os.PathLike[str] | None = None,
    column: str | None = None,
    columns: Mapping[str, str] | None = None,
    skip_bad: bool = False,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Read vectors and a scene table from a file that another tool wrote.

    Vectors are a column of lists, or numbered columns such as ``emb_0, emb_1, ...``; positions are
    columns of degrees or a geometry (WKB, WKT or GeoJSON; its center); all but the vectors may be
    missing. Rows without a ``location`` are grouped by equal positions. Quantized AlphaEarth
    columns (``A00`` to ``A63`` as integers) become the values that they stand for.

    Args:
        path: .parquet (also a directory of parts), .csv, .npz of named arrays, or .npy ``(M, E)``
            with a table of the same name beside it, if there is one.
        vectors: .npy file ``(M, E)`` with the vectors of the table ``path``.
        column: column of lists, or the prefix of numbered columns, where a table has several.
        columns: its column names -> ours, e.g. ``{"longitude": "lon"}``.
        skip_bad: leave out rows whose vector is missing, of another length or not finite.

    Returns:
        ``(M, E)`` float32 and the checked scene table, row i = vector i.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it has no vectors, or a bad one: names row and column.
        ValueError: another suffix, or a table that `scenes.check` refuses.

    Source:
        Layouts of Major TOM (``embedding``, ``centre_lon``, ``timestamp``), Clay (``embeddings``,
        ``date``, ``geometry``) and Earth Engine's AlphaEarth tables (``A00`` ... ``A63``,
        ``.geo``); AlphaEarth's values are ``sign(v) * (v / 127.5) ** 2``, -128 is missing.
    """
    path = Path(path)
    if not path.is_dir():
        check_choice("suffix of path", path.suffix.lower(), _SUFFIXES)
        if not path.is_file():
            raise FileNotFoundError(f"There are no embeddings at {path}.")
    elif not any(path.glob("*.parquet")):
        raise FileNotFoundError(
            f"{path} has no .parquet files. Pass the path of a file of vectors."
        )
    if path.suffix.lower() == ".npy":
        table_path, vectors = _table_beside(path), path
        table = pd.DataFrame() if table_path is None else _read_table(table_path)
    else:
        table = _load_arrays(path) if path.suffix.lower() == ".npz" else _read_table(path)
    if vectors is not None:
        where, values = Path(vectors).name, _load_array(Path(vectors))
    else:
        where = _vector_column(table, column, path)
        values = _pop_vectors(table, where)  # type: ignore[assignment]
    if table.empty:
        table = pd.DataFrame(index=range(len(values)))
    if len(values) != len(table):
        raise DatasetError(
            f"{where} has {len(values)} vectors, but their table has {len(table)} rows. Row i must "
            "belong to vector i."
        )
    array, problems = _to_array(values)
    if len(array) and array.shape[1] == 0:
        raise DatasetError(f"{path}: the vectors in {where!r} have no values.")
    if problems and (not skip_bad or len(problems) == len(table)):
        row = min(problems)
        raise DatasetError(
            f"{path}: {len(problems)} of {len(table)} vectors in {where!r} cannot be used. The "
            f"first is in row {row}: {problems[row]}. Repair these rows"
            + (" or pass `skip_bad=True` to leave them out." if len(problems) < len(table) else ".")
        )
    table = table.drop(index=list(problems)).reset_index(drop=True)
    return array, _to_scenes(table, dict(columns or {}), path)


@validated
def has_vectors(path: str | os.PathLike[str]) -> bool:
    """Return whether a file holds vectors, judged by its suffix or its columns."""
    path = Path(path)
    if path.suffix.lower() in (".npy", ".npz"):
        return path.is_file()
    if not path.is_dir() and (path.suffix.lower() not in _TABLES or not path.is_file()):
        return False
    try:
        return any(_candidates(_read_table(path, rows=8), least=_SURE))
    except DatasetError:
        return False


def _read_table(path: Path, *, rows: int | None = None) -> pd.DataFrame:
    """Read a table as it is, or a few rows of it, with the CRS of its geometry in ``attrs``."""
    if path.suffix.lower() in (".csv", ".tsv"):
        return read_csv(path, text=("location", "label"))
    from pyarrow import ArrowException, dataset

    try:
        options = dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
        files = sorted(path.glob("*.parquet")) if path.is_dir() else path
        parts = dataset.dataset(
            files, format=dataset.ParquetFileFormat(default_fragment_scan_options=options)
        )
        table = (parts.to_table() if rows is None else parts.head(rows)).to_pandas()
        geo = json.loads((parts.schema.metadata or {}).get(b"geo", b"{}"))
        crs = geo["columns"][geo["primary_column"]].get("crs") if geo else None
    except (ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DatasetError(f"{path} cannot be read as parquet: {reason}.") from None
    table = table.reset_index(drop=table.index.name is None)
    table.attrs["crs"] = crs
    return table


def _load_array(path: Path) -> np.ndarray:
    """Load an .npy of vectors ``(M, E)``; never a pickle."""
    try:
        array = open_array(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"There are no vectors at {path}.") from None
    except DatasetError:
        raise DatasetError(f"{path} cannot be read as an .npy file of numbers.") from None
    if array.ndim == 3:
        raise DatasetError(
            f"{path} holds vectors of pixels without positions, shape {array.shape}. Export a "
            "GeoTIFF instead (geotessera download --format tiff), or reshape it to (M, E)."
        )
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        got = f"{array.dtype} of shape {array.shape}"
        raise DatasetError(f"{path} must hold numbers of shape (M, E), got {got}.")
    return array


def _load_arrays(path: Path) -> pd.DataFrame:
    """Load an .npz whose arrays ``(M,)`` or ``(M, E)`` are the columns of a table."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return pd.DataFrame({name: list(a) if a.ndim > 1 else a for name, a in arrays.items()})
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        raise DatasetError(f"{path} cannot be read as an .npz of a row for each vector.") from None


def _table_beside(path: Path) -> Path | None:
    """Return the table with the name of an .npy file, if there is one."""
    beside = (path.with_suffix(suffix) for suffix in _TABLES)
    return next((table for table in beside if table.is_file()), None)


def _vector_column(table: pd.DataFrame, column: str | None, path: Path) -> str:
    """Return the name of the column of lists, or the prefix of numbered columns."""
    if column is not None:
        if column in table or _numbered(table).get(column):
            return column
        names = [name for tier in _candidates(table, least=2) for name in tier]
        raise ValueError(f"`column` must be one of {names} in {path}, got {column!r}.")
    for names in _candidates(table, least=_LEAST):
        if len(names) > 1:
            raise DatasetError(f"{path} has vectors in each of {names}. Pass one as `column`.")
        if names:
            return names[0]
    if no_vectors := [name for name in table if str(name).lower() in _VECTOR_NAMES]:
        return str(no_vectors[0])  # to say which row has none
    columns = [str(name)[:40] for name in table.columns[:20]]
    raise DatasetError(
        f"{path} has no vectors among its columns {columns}. They must be lists in one column "
        "(embedding) or numbered columns without gaps (emb_0, emb_1, ...); `column` names it or "
        "their prefix."
    )


def _candidates(table: pd.DataFrame, *, least: int) -> Iterator[list[str]]:
    """Yield columns that may hold vectors, the likeliest names first; others need ``least``."""
    lists = {str(name): _list_length(table[name]) for name in table if _is_object(table[name])}
    numbered = {
        prefix: len(names)
        for prefix, names in _numbered(table).items()
        if sum(map(pd.api.types.is_numeric_dtype, table[names].dtypes)) > len(names) / 2
    }
    yield [name for name, n in lists.items() if n and name.lower() in _VECTOR_NAMES]
    yield [name for name in numbered if name.lower().strip("_-. ") in _PREFIXES]
    yield [name for name, n in lists.items() if n >= least]
    yield [name for name, n in numbered.items() if n >= least]


def _is_object(values: pd.Series) -> bool:
    return values.dtype == object or isinstance(values.dtype, pd.StringDtype)


def _list_length(values: pd.Series) -> int:
    """Return how many numbers the first value of a column lists, 0 if it lists none."""
    first = next(iter(values.dropna()), None)
    row = None if first is None else _numbers(first)
    return len(row) if isinstance(row, np.ndarray) else 0


def _numbered(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the columns of each prefix, in the order of their numbers from 0 or 1."""
    groups: dict[str, dict[int, str]] = {}
    for name in table.columns:
        match = _NUMBERED.fullmatch(str(name))
        if match:
            groups.setdefault(match[1], {})[int(match[2])] = name
    return {
        prefix: [names[i] for i in sorted(names)]
        for prefix, names in groups.items()
        if len(names) > 1 and min(names) < 2 and max(names) - min(names) == len(names) - 1
    }


def _pop_vectors(table: pd.DataFrame, where: str) -> list[Any] | np.ndarray | pd.DataFrame:
    """Remove the vectors from a table: a list for each row, or their numbered columns."""
    if where in table:
        return table.pop(where).tolist()
    columns = pd.DataFrame({name: table.pop(name) for name in _numbered(table)[where]})
    if (
        list(columns) == _ALPHA_EARTH
        and (columns.dtypes.map(lambda dtype: dtype.kind) == "i").all()
    ):
        columns = pd.DataFrame(dequantize_alpha_earth(columns.to_numpy()), columns=columns.columns)
    return columns


def _to_array(
    rows: list[Any] | np.ndarray | pd.DataFrame,
) -> tuple[np.ndarray, dict[int, str]]:
    """Convert rows to ``(M, E)`` float32 without the bad ones, and say what is wrong with those."""
    problems: dict[int, str] = {}
    if isinstance(rows, list):
        converted = [_numbers(row) for row in rows]
        problems = {i: row for i, row in enumerate(converted) if isinstance(row, str)}
        lengths = collections.Counter(len(r) for r in converted if isinstance(r, np.ndarray))
        width = lengths.most_common(1)[0][0] if lengths else 0
        for i, row in enumerate(converted):
            if isinstance(row, np.ndarray) and len(row) != width:
                problems[i] = f"{len(row)} values, where most rows have {width}"
        array = np.full((len(converted), width), np.nan)
        for i, row in enumerate(converted):
            if i not in problems:
                array[i] = row
    elif isinstance(rows, pd.DataFrame):
        array = rows.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    else:
        array = rows
    with np.errstate(over="ignore"):  # beyond float32: infinite, and said below
        array = array.astype(np.float32)
    finite = np.isfinite(array)
    for i in np.flatnonzero(~finite.all(1)).tolist():
        j = int(np.argmin(finite[i]))
        if isinstance(rows, pd.DataFrame):
            problems[i] = f"{rows.columns[j]!r} is {rows.iloc[i, j]}"
        else:
            problems.setdefault(i, f"value {j} is {array[i, j]}")
    return np.delete(array, list(problems), 0), problems


def _numbers(value: Any) -> np.ndarray | str:
    """Return a list of numbers as float64 ``(E,)``, or what is wrong with it."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "no vector"
    if isinstance(value, bytes):
        return f"{len(value)} bytes, not numbers"
    if isinstance(value, str) and "..." in value:
        return "a text that was shortened by '...'"
    text = isinstance(value, str)
    try:
        array = np.asarray(
            re.split(r"[,;\s]+", value.strip("[](){} \n")) if text else value, np.float64
        )
    except (ValueError, TypeError):
        return f"{str(value)[:40]!r}, not numbers"
    return array if array.ndim == 1 and array.size else f"numbers of shape {array.shape}"


def _to_scenes(table: pd.DataFrame, columns: dict[str, str], path: Path) -> pd.DataFrame:
    """Convert the other columns of a table to a scene table."""
    crs = table.attrs.get("crs")
    table.attrs = {}
    names = [str(name) for name in table.columns]
    table.columns = pd.Index(names)
    table = table.rename(columns=map_columns(names, columns))
    if "time" not in table and "year" in table:
        table = table.rename(columns={"year": "time"})
    geometry = next((name for name in _GEOMETRIES if name in table), None)
    if geometry is not None and not {"lon", "lat"} <= set(table):
        table = table.drop(columns=["lon", "lat"], errors="ignore")
        table[["lon", "lat"]] = _centers(table[geometry], crs, path)
    if geometry is not None:
        table = table.drop(columns=geometry)
    if "location" not in table:
        positions = table.reindex(columns=["lon", "lat"]).round(_SAME_DEG)
        same = positions.groupby(["lon", "lat"], sort=False, dropna=False).ngroup()
        alone = len(table) + np.arange(len(table))
        table["location"] = same.where(positions.notna().all(axis=1), alone)
    return scenes.check(table, normalize_lon=True, positions=False, source=str(path))


def _centers(shapes: pd.Series, crs: Any, path: Path) -> np.ndarray:
    """Return the ``(M, 2)`` degrees of points inside shapes of WKB, WKT or GeoJSON."""
    import geopandas
    import shapely

    first = next(iter(shapes.dropna()), "")
    parse = shapely.from_wkb
    if isinstance(first, str):
        parse = shapely.from_geojson if first.lstrip().startswith("{") else shapely.from_wkt
    try:
        parsed = parse(shapes.where(shapes.notna(), None).to_numpy(object))
    except (shapely.errors.ShapelyError, TypeError) as error:
        raise DatasetError(f"{path}: {shapes.name!r} has no geometry: {error}.") from None
    frame = geopandas.GeoDataFrame(geometry=parsed, crs=crs or 4326)
    return from_geo(frame)[["lon", "lat"]].to_numpy()
