"""Data sets of a folder a place and a folder a date."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.datasets.raster.chips import add_reading_columns
from geossl.datasets.raster.header import read_headers
from geossl.datasets.shared import listing
from geossl.datasets.shared.table import common_bands, drop_bad_files
from geossl.utils.parallel import map_threads

BANDS = ["VV", "VH", *listing.SENTINEL_2]
RADAR_DB = (-50.0, 10.0)  # what Sentinel-1 measures lies within
_DIGITS = 7
_DATE = re.compile(r"(?<!\d)((?:19|20)\d{6}T\d{6})(?!\d)")


def dated_places(
    folder: str | os.PathLike[str],
    *,
    reader: str,
    digits: int,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of ``<place>/<name with the date>/<band>.tif``.

    Args:
        folder: holds the places.
        reader: name of the data set's reader.
        digits: of the name of a place.
        scale: see `geossl.datasets.raster.chips.add_reading_columns`.
        skip_bad: leave out dates that lack a band which others have, or whose name has no date,
            and places of which no tif says where they lie.

    Returns:
        A row a place and date. ``lon, lat`` are the middle of the first readable tif of the place;
        one header a place is read. ``attrs["skipped"]``: path -> why it was left out.

    Raises:
        FileNotFoundError: no such folder, or no such files in it.
        ValueError: a bad folder.
    """
    places = [
        entry
        for entry in listing.subfolders(listing.list_folder(folder, f"places of {digits} digits"))
        if re.fullmatch(rf"[0-9]{{{digits}}}", entry.name)
    ]
    rows = [row for place in map_threads(_dates, places) for row in place]
    table = pd.DataFrame(rows, columns=["location", "path", "time", "words"])
    table["time"] = pd.to_datetime(table["time"], format="%Y%m%dT%H%M%S", errors="coerce", utc=True)
    bands, lacking = common_bands(table["words"], BANDS)
    table["problem"] = np.where(table["time"].isna(), "its name has no date", lacking)
    table["lon"] = table["lat"] = np.nan
    dtype, left = "", table[table["problem"].eq("")]
    while len(left):  # the first date of every place; the next of those where it cannot be read
        first = left.groupby("location", sort=False).head(1)
        found = read_headers([os.path.join(p, f"{bands[0]}.tif") for p in first["path"]])
        found = found.set_index(first.index)
        table.loc[first.index, ["lon", "lat", "problem"]] = found[["lon", "lat", "problem"]]
        good = found["problem"].eq("")
        dtype = next(iter(found.loc[good, "dtype"]), dtype)
        placed = first.loc[good, "location"]
        left = left.drop(first.index)
        left = left[~left["location"].isin(placed)]
    bad = table["problem"].ne("")
    for name in ("lon", "lat"):
        table[name] = table.groupby("location", sort=False)[name].transform("first")
    skipped = dict(zip(table.loc[bad, "path"], table.loc[bad, "problem"], strict=True))
    table = table.loc[~bad, ["path", "location", "time", "lon", "lat"]]
    table["path"] = [os.path.join(path, "{band}.tif") for path in table["path"]]
    table = drop_bad_files(
        table, skipped, skip_bad=skip_bad, of=f"<{digits} digits>/<date>/<band>.tif in {folder}"
    )
    table = scenes.check(table, source=f"{reader} in {folder}")
    if scale is None and "VV" in bands and dtype.startswith("float"):
        scale = RADAR_DB
    dtype = "uint16" if scale is not None else dtype
    return add_reading_columns(
        table, reader=reader, bands=bands, band_names=bands, dtype=dtype, scale=scale
    )


def _dates(place: os.DirEntry[str]) -> list[tuple[str, str, str, frozenset[str]]]:
    """A row for each folder of a place that has a date in its name or a band in it."""
    rows = []
    for entry in listing.subfolders(listing.list_entries(place.path)):
        names = {file.name for file in listing.list_entries(entry.path)}
        words = frozenset(band for band in BANDS if f"{band}.tif" in names)
        hit = _DATE.search(entry.name)
        if words or hit:
            rows.append((place.name, entry.path, hit[1] if hit else "", words))
    return rows


def fits_places(path: Path, digits: int) -> str | None:
    """Why ``path`` looks like places of so many digits, with dates, or None."""
    for place in listing.first_entries(path):
        if not re.fullmatch(rf"[0-9]{{{digits}}}", place.name):
            continue
        for date in listing.first_entries(place.path, 8):
            names = {file.name for file in listing.first_entries(date.path)}
            if _DATE.search(date.name) and any(f"{band}.tif" in names for band in BANDS):
                return f"holds <{digits} digits>/<date>/<band>.tif"
    return None
