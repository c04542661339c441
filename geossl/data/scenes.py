"""The scene table: one row per image file of a place at one time, in plain pandas.

Columns: ``path, location, time, lon, lat, label, split`` and any more that a reader knows.
``location`` says which rows are the same place; ``lon, lat`` are degrees EPSG:4326; ``time`` is UTC
or missing; ``label`` and ``split`` may be missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl import geo
from geossl.data.table_files import (
    load,
    write,  # noqa: F401
)

COLUMNS = ("path", "location", "time", "lon", "lat", "label", "split")
_NEEDED = ("location", "lon", "lat")
_ABSENT = {"time": pd.NaT, "lon": np.nan, "lat": np.nan}
_TIME = "datetime64[us, UTC]"
SAME_PLACE_DEG = 1.0  # rows of one location lie within this, or its coordinates are mixed up


def check(
    scenes: pd.DataFrame,
    *,
    normalize_lon: bool = False,
    positions: bool = True,
    source: str = "the scene table",
) -> pd.DataFrame:
    """Check a scene table and bring its known columns into their form.

    Args:
        scenes: needs ``location, lon, lat``; absent known columns are added as missing values.
        normalize_lon: turn longitudes of 0..360 into -180..180 in place of refusing them.
        positions: every row must have coordinates; False lets them be missing, for data sets that
            have none. What needs places (geo clusters, blocks of space) refuses such tables.
        source: how error messages call the table.

    Returns:
        A copy with a plain index, ``lon, lat`` as float64 and ``time`` as UTC datetimes.

    Raises:
        ValueError: one sentence that names the first bad row and how many there are.
    """
    absent = [name for name in _NEEDED[: 3 if positions else 1] if name not in scenes]
    if absent:
        raise ValueError(
            f"expected the columns {', '.join(_NEEDED)} in {source}, {', '.join(absent)} is "
            f"missing among {list(scenes.columns)}; rename or add it"
        )
    if len(scenes) == 0:
        raise ValueError(f"expected at least one row in {source}, came none")
    table = scenes.reset_index(drop=True).copy()
    table.attrs = dict(scenes.attrs)
    for name in COLUMNS:
        if name not in table:
            table[name] = _ABSENT.get(name)
    _refuse(table["location"].isna(), table, "location", source, "a missing place")
    for name in ("lon", "lat"):
        try:
            table[name] = pd.to_numeric(table[name]).astype("float64")
        except (ValueError, TypeError):
            bad = pd.to_numeric(table[name], errors="coerce").isna()
            _refuse(bad, table, name, source, "no number")
    lon, lat = table["lon"], table["lat"]
    bad = lon.isna() | lat.isna() if positions else lon.isna() != lat.isna()
    _refuse(bad, table, "lon", source, "a missing coordinate")
    _refuse(lon.le(-900) | lat.le(-900), table, "lon", source,
            "a sentinel for 'missing' (such as -1000); leave these rows out")  # fmt: skip
    if normalize_lon:
        lon = table["lon"] = lon.where(~lon.between(180, 360, inclusive="right"), lon - 360)
    swapped = (lat.abs() > 90) & (lon.abs() <= 90)
    _refuse(swapped, table, "lat", source, "a value out of range (are lon and lat swapped?)")
    _refuse((lon > 180) & (lon <= 360), table, "lon", source,
            "a longitude of 0..360; give normalize_lon=True")  # fmt: skip
    _refuse((lon.abs() > 180) | (lat.abs() > 90), table, "lon", source,
            "a value out of range (-180..180, -90..90 degrees)")  # fmt: skip
    table["time"] = _times(table["time"], source)
    _refuse_scattered(table, source)
    return table[[*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]]


def _refuse(bad: pd.Series, table: pd.DataFrame, name: str, source: str, what: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        values = table.loc[row, [c for c in ("lon", "lat") if c in table]].to_dict()
        raise ValueError(
            f"{source}: {int(bad.sum())} of {len(table)} rows have in {name!r} {what}; the first "
            f"is row {row} with {name} = {table[name].iloc[[row]].tolist()[0]!r} ({values})"
        )


def _times(times: pd.Series, source: str) -> pd.Series:
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        return times.dt.tz_convert("UTC").astype(_TIME)
    if pd.api.types.is_numeric_dtype(times.dtype) and times.notna().any():
        number = pd.to_numeric(times, errors="coerce")
        years = (number.between(1800, 2200) & number.mod(1).eq(0)) | times.isna()
        days = (number.between(18000101, 22001231) & number.mod(1).eq(0)) | times.isna()
        if not (years.all() or days.all()):  # seconds, milliseconds or days since when?
            raise ValueError(
                f"{source}: expected times as text, datetimes, whole years (2020) or days "
                f"(20200630), came numbers such as {times.dropna().iloc[0]!r}; convert them first"
            )
        times = number.astype("Int64").astype("string")
    empty = times.isna() | times.astype("string").str.strip().eq("").fillna(True)
    try:
        if pd.api.types.is_datetime64_any_dtype(times.dtype):
            parsed = times.dt.tz_localize("UTC")
        else:
            parsed = pd.to_datetime(times.where(~empty), utc=True, format="ISO8601")
        return parsed.astype(_TIME)
    except (ValueError, TypeError, pd.errors.OutOfBoundsDatetime):
        parsed = pd.to_datetime(times.where(~empty), utc=True, errors="coerce", format="ISO8601")
        bad = np.flatnonzero((parsed.isna() & ~empty).to_numpy())
        raise ValueError(
            f"{source}: {len(bad)} of {len(times)} times do not parse; the first is row {bad[0]} "
            f"with {times.iloc[bad[0]]!r}, expected e.g. 2020-06-30 or 2020-06-30T10:15:00Z"
        ) from None


def _refuse_scattered(table: pd.DataFrame, source: str) -> None:
    """Rows of one location must lie together: within a degree of its first row on the ground."""
    codes = location_codes(table)
    first = first_rows(codes)[codes]
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    moved = np.flatnonzero((lon != lon[first]) | (lat != lat[first]))  # also those without a place
    apart = geo.great_circle_km(lon[moved], lat[moved], lon[first[moved]], lat[first[moved]])
    far = moved[apart > SAME_PLACE_DEG * np.pi * geo.EARTH_RADIUS_KM / 180]
    if len(far):
        row = int(far[0])
        raise ValueError(
            f"{source}: {len(far)} rows lie more than {SAME_PLACE_DEG} degree from the first row "
            f"of their location; the first is row {row} of location {table['location'][row]!r}; "
            "one location is one place"
        )


def require_positions(scenes: pd.DataFrame, purpose: str) -> None:
    """Refuse a table of which some rows have no coordinates.

    Raises:
        ValueError: how many have none, and what they were needed for.
    """
    without = int((~np.isfinite(scenes[["lon", "lat"]].to_numpy(float)).all(1)).sum())
    if without:
        raise ValueError(
            f"expected coordinates of every row for {purpose}, {without} of {len(scenes)} rows "
            "have none; leave these rows out, or do without"
        )


def location_codes(scenes: pd.DataFrame) -> np.ndarray:
    """Codes ``(M,)`` int64 of the locations, 0, 1, 2, ... in order of first appearance."""
    return pd.factorize(scenes["location"])[0].astype(np.int64)


def first_rows(codes: np.ndarray) -> np.ndarray:
    """Row ``(L,)`` where each location appears first, of codes ``(M,)`` by `location_codes`."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))


def label_codes(values: pd.Series) -> tuple[np.ndarray, list[Any]]:
    """Codes ``(M,)`` int64 of labels, -1 where missing, and the sorted names."""
    codes, names = pd.factorize(values, sort=True)
    return codes.astype(np.int64), list(names)


def split_by_blocks(
    scenes: pd.DataFrame,
    *,
    block_deg: float = 10.0,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
) -> pd.Series:
    """A split that keeps whole blocks of space together, so that neighbors do not leak.

    Args:
        scenes: a scene table.
        block_deg: side of a block, see `geossl.geo.block_ids`.
        shares: share of the locations per split; train .6, val .15, test .25 when None.
        seed: which blocks go where.

    Returns:
        ``(M,)`` names, all dates of a location in the same split, every split non-empty.

    Raises:
        ValueError: fewer blocks than splits, or a share that is not > 0.
    """
    wanted = dict(shares or {"train": 0.6, "val": 0.15, "test": 0.25})
    if not wanted or min(wanted.values()) <= 0:
        raise ValueError(f"expected shares > 0, came {wanted}")
    require_positions(scenes, "a split by blocks of space")
    codes = location_codes(scenes)
    first = first_rows(codes)
    block = geo.block_ids(
        scenes["lon"].to_numpy()[first], scenes["lat"].to_numpy()[first], block_deg=block_deg
    )
    blocks, which, sizes = np.unique(block, return_inverse=True, return_counts=True)
    if len(blocks) < len(wanted):
        raise ValueError(
            f"expected at least {len(wanted)} blocks of {block_deg} degrees for the splits "
            f"{list(wanted)}, came {len(blocks)}; give a smaller block_deg"
        )
    names = list(wanted)
    target = np.array([wanted[n] for n in names]) / sum(wanted.values()) * len(first)
    filled = np.zeros(len(names))
    goes = np.empty(len(blocks), int)
    order = np.random.default_rng(seed).permutation(len(blocks))
    for place, b in enumerate(order):
        empty = np.flatnonzero(filled == 0)
        left = len(blocks) - place
        choices = empty if len(empty) >= left else np.arange(len(names))
        goes[b] = choices[np.argmax(((target - filled) / target)[choices])]
        filled[goes[b]] += sizes[b]
    return pd.Series(np.array(names, dtype=object)[goes[which.reshape(-1)]][codes], name="split")


def read(
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    normalize_lon: bool = False,
    positions: bool = True,
) -> pd.DataFrame:
    """Read and check a scene table from .csv, .parquet or .geoparquet.

    Args:
        path: the file.
        columns: its column names -> ours, e.g. ``{"longitude": "lon"}``.
        normalize_lon: turn longitudes of 0..360 into -180..180.
        positions: see `check`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or `check` refuses it.
    """
    table = load(path, columns=columns)
    return check(table, normalize_lon=normalize_lon, positions=positions, source=str(path))


BOX = ("box_left", "box_top", "box_right", "box_bottom")


def rows_of_split(table: pd.DataFrame, split: str | None) -> Tensor:
    """Rows ``(M,)`` of a split; all when it is None or the table has none."""
    if split is None or "split" not in table or table["split"].isna().all():
        return torch.arange(len(table))
    rows = np.flatnonzero((table["split"] == split).to_numpy(bool))
    if len(rows) == 0:
        raise ValueError(
            f"expected training rows with split {split!r}, came none; the table has "
            f"{sorted(table['split'].dropna().unique())}"
        )
    return torch.from_numpy(rows)
