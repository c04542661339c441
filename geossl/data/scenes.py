"""The scene table: one row per image file of a location at one time, in plain pandas.

Columns: ``path, location, time, lon, lat, label, split`` and any more that a reader knows.
``location`` says which rows show the same location; ``lon, lat`` are degrees EPSG:4326; ``time`` is
UTC or missing; ``label`` and ``split`` may be missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from annotated_types import Interval

from geossl import geo
from geossl.data.dates import to_utc, why_no_time
from geossl.data.splits import is_in_split, name_splits, split_name, split_texts
from geossl.data.table_files import read_table
from geossl.utils.validate import Positive, Seed, check_choice, validated

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BOX", "COLUMNS", "MAX_SPREAD_DEG", "check", "first_rows", "label_codes", "location_codes",
    "merge_locations", "read", "require_columns", "require_positions", "rows_of_split",
    "scattered_rows",
    "split_by_blocks",
]  # fmt: skip

COLUMNS = ("path", "location", "time", "lon", "lat", "label", "split")
BOX = ("box_left", "box_top", "box_right", "box_bottom")
MAX_SPREAD_DEG = 1.0  # rows of one location lie within this, or its coordinates are mixed up
_NEEDED = ("location", "lon", "lat")
_ABSENT = {"time": pd.NaT, "lon": np.nan, "lat": np.nan}


@validated
def check(
    scenes: pd.DataFrame,
    *,
    normalize_lon: bool = False,
    positions: bool = True,
    source: str = "`scenes`",
) -> pd.DataFrame:
    """Check a scene table and convert its known columns.

    Args:
        scenes: needs ``location, lon, lat``; other known columns are added as missing values.
        normalize_lon: turn longitudes of 0..360 into -180..180 instead of refusing them.
        positions: every row must have coordinates; False allows missing ones, for data sets that
            have none. Geo clusters and blocks of space refuse such tables.
        source: name of the table in error messages.

    Returns:
        A copy with a plain index, ``lon, lat`` as float64, ``time`` as UTC datetimes, and the
        splits "train", "val" and "test" for all words that mean them ("Training", "VALID", ...).

    Raises:
        ValueError: names the first bad row and says how many there are.
    """
    missing = [name for name in _NEEDED[: 3 if positions else 1] if name not in scenes]
    if missing:
        raise ValueError(
            f"{source} needs the columns {', '.join(_NEEDED)}; {', '.join(missing)} is missing "
            f"among {list(scenes.columns)}. Rename or add it."
        )
    if len(scenes) == 0:
        raise ValueError(f"{source} needs at least one row, got none.")
    for name in ("location", "label", "split"):
        values = scenes[name] if name in scenes and scenes[name].dtype == object else ()
        if any(isinstance(value, list | dict | set | np.ndarray) for value in values):
            raise ValueError(f"{source} has lists in the column {name!r}. Write one value a row.")
    table = scenes.reset_index(drop=True).copy()
    attrs, table.attrs = dict(scenes.attrs), {}  # pandas copies them at every step
    for name in COLUMNS:
        if name not in table:
            table[name] = _ABSENT.get(name)

    def refuse(bad: pd.Series, name: str, problem: str, advice: str = "") -> None:
        if bad.any():
            row = int(np.flatnonzero(bad.to_numpy())[0])
            values = table.loc[row, [c for c in ("lon", "lat") if c in table]].to_dict()
            raise ValueError(
                f"{source}: {int(bad.sum())} of {len(table)} rows have {problem} in {name!r}. The "
                f"first is row {row} with {table[name].tolist()[row]!r} ({values}).{advice}"
            )

    refuse(table["location"].isna(), "location", "a missing location")
    for name in ("lon", "lat"):
        try:
            table[name] = pd.to_numeric(table[name]).astype("float64")
        except (ValueError, TypeError):
            bad = pd.to_numeric(table[name], errors="coerce").isna()
            refuse(bad, name, "no number", " Write decimal degrees, such as -48.8566.")
    lon, lat = table["lon"], table["lat"]
    for name, other in (("lon", lat), ("lat", lon)):
        bad = table[name].isna() & (positions | other.notna())
        refuse(bad, name, "a missing coordinate", " Fill it, or leave these rows out.")
    for name in ("lon", "lat"):
        refuse(np.isinf(table[name]), name, "an infinite number")
        sentinel = table[name].le(-900)
        refuse(sentinel, name, "a sentinel for 'missing' such as -1000 (leave these rows out)")
    if normalize_lon:
        lon = table["lon"] = lon.where(~lon.between(180, 360, inclusive="right"), lon - 360)
    swapped = (lat.abs() > 90) & (lon.abs() <= 90)
    refuse(swapped, "lat", "a value out of range (lon and lat may be swapped)")
    refuse((lon > 180) & (lon <= 360), "lon", "a longitude of 0..360 (use `normalize_lon=True`)")
    for name, limit in (("lat", 90), ("lon", 180)):
        problem = f"a value out of range (-{limit}..{limit} degrees; convert those in meters)"
        refuse(table[name].abs() > limit, name, problem)
    table["time"] = _times(table["time"], source)
    table["split"] = name_splits(table["split"])
    _refuse_scattered(table, source)
    table.attrs = attrs
    return table[[*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]]


def _times(times: pd.Series, source: str) -> pd.Series:
    try:
        parsed = to_utc(times)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    bad = np.flatnonzero(parsed.isna() & times.notna() & times.astype(str).str.strip().ne(""))
    if len(bad):
        value = str(times.iloc[bad[0]])
        raise ValueError(
            f"{source}: {len(bad)} of {len(times)} times do not parse. The first is row {bad[0]} "
            f"with {value!r}{why_no_time(value)}. Write them as 2020-06-30 or 2020-06-30T10:15:00Z."
        )
    return parsed


def _refuse_scattered(table: pd.DataFrame, source: str) -> None:
    """Refuse rows more than a degree on the ground from the first row of their location."""
    far = scattered_rows(location_codes(table), table["lon"].to_numpy(), table["lat"].to_numpy())
    if len(far):
        row = int(far[0])
        raise ValueError(
            f"{source}: {len(far)} rows lie more than {MAX_SPREAD_DEG} degree from the first row "
            f"of their location. The first is row {row} of location {table['location'][row]!r}. "
            "Give each location its own name."
        )


@validated
def scattered_rows(codes: np.ndarray, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Return the rows that lie further than `MAX_SPREAD_DEG` from the first of their location.

    Args:
        codes: ``(M,)`` of `location_codes`.
        lon: ``(M,)`` degrees; rows without a position are not far.
        lat: ``(M,)`` degrees.
    """
    first = first_rows(codes)[codes]
    moved = np.flatnonzero((lon != lon[first]) | (lat != lat[first]))  # also those without position
    apart = geo.great_circle_km(lon[moved], lat[moved], lon[first[moved]], lat[first[moved]])
    return moved[apart > MAX_SPREAD_DEG * np.pi * geo.EARTH_RADIUS_KM / 180]


@validated
def require_columns(scenes: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table that lacks a column.

    Raises:
        ValueError: which.
    """
    if missing := [name for name in names if name not in scenes]:
        raise ValueError(
            f"`scenes` needs the columns {', '.join(names)}; {', '.join(missing)} is missing among "
            f"{[str(name)[:40] for name in scenes.columns[:20]]}. Rename or add it."
        )


@validated
def require_positions(scenes: pd.DataFrame, purpose: str) -> None:
    """Refuse a table with rows that have no coordinates.

    Raises:
        ValueError: how many there are, and what needs the coordinates.
    """
    require_columns(scenes, ["lon", "lat"])
    without = int((~np.isfinite(scenes[["lon", "lat"]].to_numpy(float)).all(1)).sum())
    if without:
        raise ValueError(
            f"`scenes` must have coordinates in every row for {purpose}, but {without} of "
            f"{len(scenes)} rows have none. "
            + ("Fill lon and lat." if without == len(scenes) else "Leave these rows out.")
        )


@validated
def merge_locations(
    scenes: pd.DataFrame, *, within_m: Annotated[float, Interval(gt=0, le=50_000)]
) -> pd.DataFrame:
    """Give locations that lie within some meters of each other one name, e.g. where GPS jitters.

    In the order of the table, a location that no center is near becomes a center; then each
    takes the name of the nearest center. So none is farther than ``within_m`` from its center, and
    chains of neighbors do not grow together. A location lies where its first row lies.

    Args:
        scenes: a scene table; locations without coordinates keep their names.
        within_m: distance on the ground in meters.

    Example:
        >>> merge_locations(scenes, within_m=15)["location"].nunique() <= len(scenes)
        True
    """
    from scipy.spatial import cKDTree

    codes = location_codes(scenes)
    first = scenes.iloc[first_rows(codes)]
    points = geo.unit_vectors(first["lon"], first["lat"])  # (L, 3)
    placed = np.flatnonzero(np.isfinite(points).all(1))
    chord = 2 * np.sin(within_m / 2000 / geo.EARTH_RADIUS_KM)
    center_of = np.arange(len(first))
    if len(placed):
        tree = cKDTree(points[placed])
        is_free, centers = np.ones(len(placed), bool), []
        for i in range(len(placed)):
            if is_free[i]:
                centers.append(i)
                is_free[tree.query_ball_point(points[placed[i]], chord)] = False
        nearest = cKDTree(points[placed[centers]]).query(points[placed])[1]
        center_of[placed] = placed[np.array(centers)[nearest]]
    return scenes.assign(location=first["location"].to_numpy()[center_of[codes]])


@validated
def location_codes(scenes: pd.DataFrame) -> np.ndarray:
    """Return codes ``(M,)`` int64 of the locations, 0, 1, 2, ... in order of first appearance."""
    require_columns(scenes, ["location"])
    return pd.factorize(scenes["location"])[0].astype(np.int64)


@validated
def first_rows(codes: np.ndarray) -> np.ndarray:
    """Return the first row ``(L,)`` of each location, from codes ``(M,)`` of `location_codes`."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))


@validated
def label_codes(values: pd.Series) -> tuple[np.ndarray, list[Any]]:
    """Return codes ``(M,)`` int64 of labels, -1 where missing, and the sorted names."""
    codes, names = pd.factorize(values, sort=True)
    return codes.astype(np.int64), list(names)


@validated
def split_by_blocks(
    scenes: pd.DataFrame,
    *,
    block_deg: Positive = 10.0,
    shares: Mapping[str, Positive] | None = None,
    seed: Seed = 0,
) -> pd.Series:
    """Split a table by blocks of space, so that neighbors do not leak between the splits.

    Args:
        scenes: a scene table.
        block_deg: side of a block, see `geossl.geo.block_ids`.
        shares: share of the locations per split; train .6, val .15, test .25 when None.
        seed: of the assignment of blocks.

    Returns:
        ``(M,)`` names, all dates of a location in the same split, every split non-empty.

    Raises:
        ValueError: fewer blocks than splits, or a share that is not > 0.
    """
    if shares is not None and not shares:
        raise ValueError("`shares` must name at least one split, got none.")
    shares = dict(shares or {"train": 0.6, "val": 0.15, "test": 0.25})
    require_positions(scenes, "a split by blocks of space")
    codes = location_codes(scenes)
    first = scenes.iloc[first_rows(codes)]
    lon, lat = first["lon"].to_numpy(), first["lat"].to_numpy()
    block = geo.block_ids(lon, lat, block_deg=block_deg)
    blocks, block_of, sizes = np.unique(block, return_inverse=True, return_counts=True)
    if len(blocks) < len(shares):
        raise ValueError(
            f"`block_deg` = {block_deg} gives {len(blocks)} blocks, but the splits {list(shares)} "
            f"need one each. {_suggest_blocks(lon, lat, len(shares))}"
        )
    target = np.array(list(shares.values())) / sum(shares.values()) * len(first)
    filled = np.zeros(len(shares))
    split_of = np.empty(len(blocks), int)
    for i, b in enumerate(np.random.default_rng(seed).permutation(len(blocks))):
        empty = np.flatnonzero(filled == 0)
        choices = empty if len(empty) >= len(blocks) - i else np.arange(len(shares))
        split_of[b] = choices[np.argmax(((target - filled) / target)[choices])]
        filled[split_of[b]] += sizes[b]
    names = np.array(list(shares), dtype=object)
    return pd.Series(names[split_of[block_of.reshape(-1)]][codes], name="split")


def _suggest_blocks(lon: np.ndarray, lat: np.ndarray, splits: int) -> str:
    """Say which ``block_deg`` gives at least five blocks for each split, or the most there are."""
    places = len(np.unique(np.stack([lon, lat]), axis=1).T)
    sizes = [digit * 10.0**power for power in range(1, -6, -1) for digit in (5, 2, 1)]
    for size in sizes:
        if len(np.unique(geo.block_ids(lon, lat, block_deg=size))) >= min(5 * splits, places):
            return f"Use block_deg={size:g}." if places >= splits else "Use more locations."
    return "Use more locations."


@validated
def rows_of_split(table: pd.DataFrame, split: str | None) -> Tensor:
    """Return the rows ``(M,)`` of a split; all if it is None or the table has none."""
    import torch  # readers of data sets need tables, not tensors

    if split is None or "split" not in table or table["split"].isna().all():
        return torch.arange(len(table))
    names = sorted(split_texts(table["split"]).dropna().unique())
    check_choice("split", split_name(split) or split, names)
    return torch.from_numpy(np.flatnonzero(is_in_split(table["split"], split)))


@validated
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
    table = read_table(path, columns=columns)
    if "location" not in table:
        raise ValueError(
            f"{path} needs the columns {', '.join(_NEEDED)}; location is missing among "
            f"{[str(name)[:40] for name in table.columns[:20]]}. Make a scene table of it with "
            "`geossl scenes open` or `geossl.datasets.open_scenes`, or rename its column."
        )
    return check(table, normalize_lon=normalize_lon, positions=positions, source=str(path))
