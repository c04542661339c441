"""Scene tables that the readers share: rows left out, footprints, faults."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from geossl import geo

_SHAPE = re.compile(r"\s*(MULTI)?(POLYGON|POINT)\b", re.IGNORECASE)  # shapes that do not nest


def footprint_centers(shapes: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Middles ``(M,)`` of WKT shapes, also across the antimeridian; NaN where a text is none."""
    import shapely

    texts = [text if isinstance(text, str) and _SHAPE.match(text) else None for text in shapes]
    with np.errstate(all="ignore"):
        found = shapely.from_wkt(np.array(texts, object), on_invalid="ignore")
    at, of = shapely.get_coordinates(found, return_index=True)
    odd = ~(np.abs(at) < 1e4).all(1)  # also NaN; GEOS stops at such numbers
    at[odd] = 0
    first = at[np.searchsorted(of, of), 0]
    near = first + (at[:, 0] - first + 180) % 360 - 180
    across = np.isin(np.arange(len(found)), of[np.abs(near - at[:, 0]) > 180])
    at[:, 0] = np.where(across[of], near, at[:, 0])
    center = shapely.centroid(shapely.set_coordinates(found, at))
    middle, one = shapely.get_coordinates(center, return_index=True)  # none of an empty shape
    lon, lat = np.full((2, len(found)), np.nan)
    lon[one], lat[one] = middle.T
    lon[of[odd]] = np.nan
    return np.where(across, geo.wrap_lon(lon), lon), lat


def find_faults(table: pd.DataFrame) -> pd.Series:
    """Reasons of rows without a position on the globe, or of which the date cannot be read."""
    found = pd.Series(index=table.index, dtype=object)
    if "time" in table:
        time = table["time"]
        parsed = pd.to_datetime(time, errors="coerce", utc=True, format="ISO8601")
        odd = parsed.isna() & time.notna()
        found[odd] = [f"it has the time {text[:40]!r}, which does not parse" for text in time[odd]]
    if {"lon", "lat"} <= set(table.columns):
        lon, lat = (pd.to_numeric(table[name], errors="coerce") for name in ("lon", "lat"))
        lost = ~(lat.between(-90, 90) & lon.between(-180, 360))
        found[lost] = [
            f"it has no position on the globe (longitude {x:g}, latitude {y:g})"
            for x, y in zip(lon[lost], lat[lost], strict=True)
        ]
    return found.dropna()


def common_bands(words: pd.Series, order: Sequence[str]) -> tuple[list[str], list[str]]:
    """The bands that any row has, and why a row is bad that lacks one of them, or ""."""
    bands = [band for band in order if any(band in row for row in words)]
    every = frozenset(bands)
    lacking = [", ".join(b for b in bands if b not in row) or "band" for row in words]
    return bands, [
        "" if row and row == every else f"it has no {names}"
        for row, names in zip(words, lacking, strict=True)
    ]


def drop_bad_files(
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
