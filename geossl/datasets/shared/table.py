"""Complete the scene table of a data set: rows with problems, positions, bands, pixels."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data import scenes
from geossl.data.dates import to_utc, why_no_time
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.header import detect_pixel_format
from geossl.datasets.raster.sample import with_scale

_SHAPE = re.compile(r"\s*(MULTI)?(POLYGON|POINT)\b", re.IGNORECASE)  # shapes that do not nest


def finish_table(
    table: pd.DataFrame,
    *,
    reader: str,
    folder: str | os.PathLike[str],
    layout: str,
    skip_bad: bool,
    positions: bool = True,
    normalize_lon: bool = False,
    numbered: bool = False,
    detect: bool = False,
    **pixels: Any,
) -> pd.DataFrame:
    """Drop the rows with a problem, check the others and add what `read_chips` needs.

    Args:
        table: columns of a scene table, and possibly ``problem``: the reason why a row cannot be
            used, or "" or missing.
        reader: the name of the data set.
        folder: where it is, or its csv.
        layout: the files that it should contain, for messages.
        skip_bad: drop rows with a problem instead of raising.
        positions: see `geossl.data.scenes.check`.
        normalize_lon: likewise.
        numbered: call rows by their number in ``folder``, a csv, instead of by their file.
        detect: take what is None of ``pixels`` from the first file that can be read.
        pixels: see `geossl.datasets.raster.chips.add_pixel_columns`.

    Returns:
        The scene table. ``attrs["skipped"]`` maps dropped files (folders where each band has a
        file of its own) to the reason.

    Raises:
        FileNotFoundError: the table has no rows.
        ValueError: a row has a problem and ``skip_bad`` is False, or no row is left.
    """
    problem = table["problem"].fillna("") if "problem" in table else pd.Series("", table.index)
    bad = np.flatnonzero(problem.ne("").to_numpy())
    if numbered:
        names = [f"{folder} row {row}" for row in table.index[bad]]
    else:
        paths = table["path"].iloc[bad].map(str)
        names = [str(Path(path).parent) if "{band}" in path else path for path in paths]
    table = drop_bad_files(
        table.drop(columns="problem", errors="ignore").drop(index=table.index[bad]),
        dict(zip(names, problem.iloc[bad], strict=True)),
        skip_bad=skip_bad,
        what=f"{layout} in {folder}",
    )
    table = scenes.check(
        table, positions=positions, normalize_lon=normalize_lon, source=str(folder)
    )
    if table["path"].isna().all():  # points without images
        return table
    if detect:
        try:
            pixels = detect_pixel_format(table["path"], **pixels)
            pixels = with_scale(table["path"], pixels)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{folder}: {error}") from None
    return add_pixel_columns(table, reader=reader, **pixels)


def draw_split(locations: pd.Series, *, test_share: float) -> pd.Series | None:
    """Draw "test" or "train" for each location; None where no location is to be tested on.

    A location's split depends on its name alone: it is the same in a part of the data set and on
    every machine.

    Args:
        locations: names.
        test_share: about this share of the locations becomes "test".

    Example:
        >>> draw_split(pd.Series(["a", "b", "a"]), test_share=0.5).tolist()
        ['train', 'test', 'train']
    """
    if test_share == 0:
        return None

    def share(name: str) -> float:
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64

    return locations.map(lambda name: "test" if share(str(name)) < test_share else "train")


def drop_bad_files(
    table: pd.DataFrame, problems: Mapping[str, str], *, skip_bad: bool, what: str
) -> pd.DataFrame:
    """Return the rows that can be used, with ``attrs["skipped"]``: file -> reason.

    Args:
        table: the rows without a problem.
        problems: file, or another name of a row that cannot be used -> reason.
        skip_bad: do not raise because of them.
        what: the files that were looked for, and where.

    Raises:
        ValueError: there are problems and ``skip_bad`` is False, or no row is left.
        FileNotFoundError: there are neither rows nor problems.
    """
    if problems and (table.empty or not skip_bad):
        path, reason = next(iter(problems.items()))
        sentence = (reason if path in reason else f"{path}: {reason}").rstrip(".")
        if skip_bad:
            raise ValueError(f"None of the {len(problems):,} {what} can be used: {sentence}.")
        more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
        fix = "" if table.empty else " or remove it, or pass `skip_bad=True` to skip bad ones"
        raise ValueError(f"{sentence}{more}. Repair{fix or ' it'}.")
    if table.empty:
        raise FileNotFoundError(f"There are no {what}. Pass the folder that contains them.")
    table = table.reset_index(drop=True)
    table.attrs["skipped"] = dict(problems)
    return table


def footprint_centers(shapes: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return centers ``(M,)`` of WKT shapes by `geossl.geo.shape_centers`; NaN for other texts."""
    import shapely

    texts = [text if isinstance(text, str) and _SHAPE.match(text) else None for text in shapes]
    with np.errstate(all="ignore"):
        return geo.shape_centers(shapely.from_wkt(np.array(texts, object), on_invalid="ignore"))


def find_faults(table: pd.DataFrame) -> pd.Series:
    """Return why rows have no position on the globe, or a time that cannot be read.

    Returns:
        Reasons by the index of ``table``, only of rows with a fault.
    """
    faults = pd.Series(index=table.index, dtype=object)
    if "time" in table:
        time = table["time"]
        try:
            parsed, why = to_utc(time), "which is not an ISO time"
        except ValueError as error:
            parsed = pd.to_datetime(time, errors="coerce", utc=True, format="ISO8601")
            why = str(error)
        odd = parsed.isna() & time.notna()
        faults[odd] = [
            f"it has the time {text[:40]!r}{why_no_time(text)}, {why}"
            for text in time[odd].astype(str)
        ]
    if {"lon", "lat"} <= set(table.columns):
        lon, lat = (pd.to_numeric(table[name], errors="coerce") for name in ("lon", "lat"))
        outside = ~(lat.between(-90, 90) & lon.between(-180, 360))
        faults[outside] = [
            f"it has no position on the globe (longitude {x:g}, latitude {y:g})"
            for x, y in zip(lon[outside], lat[outside], strict=True)
        ]
    return faults.dropna()


def common_bands(available: pd.Series, order: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the bands that any row has, and for each row which of them it has not.

    Args:
        available: sets of band names.
        order: all names, in the order of the result.

    Returns:
        Names, and for each row a reason, or "" where it has all of them.
    """
    bands = [band for band in order if any(band in row for row in available)]
    missing = (", ".join(band for band in bands if band not in row) for row in available)
    return bands, [
        f"it has no {names or 'band'}" if names or not row else ""
        for row, names in zip(available, missing, strict=True)
    ]
