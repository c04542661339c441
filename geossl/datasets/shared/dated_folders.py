"""Read data sets of a folder per location, in it a folder per date with a tif per band."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from geossl.datasets.raster.header import read_headers
from geossl.datasets.shared import listing
from geossl.datasets.shared.table import common_bands, finish_table
from geossl.utils.parallel import map_threads

_BANDS = ["VV", "VH", *listing.SENTINEL_2]
_RADAR_DB = (-50.0, 10.0)  # all that Sentinel-1 measures
_DATE = re.compile(r"(?<!\d)((?:19|20)\d{6}T\d{6})(?!\d)")


def read_dated_folders(
    folder: str | os.PathLike[str],
    *,
    reader: str,
    digits: int,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of ``<location>/<name with the date>/<band>.tif``.

    Args:
        folder: contains the locations.
        reader: the name of the data set.
        digits: of the name of a location.
        scale: see `geossl.datasets.ssl4eo`, also for the result and the errors.
        skip_bad: likewise.
    """
    places = [
        entry
        for entry in listing.subfolders(listing.list_folder(folder, f"folders of {digits} digits"))
        if re.fullmatch(rf"[0-9]{{{digits}}}", entry.name)
    ]
    rows = [row for place in map_threads(_list_dates, places) for row in place]
    table = pd.DataFrame(rows, columns=["location", "path", "time", "available"])
    table["time"] = pd.to_datetime(table["time"], format="%Y%m%dT%H%M%S", errors="coerce", utc=True)
    bands, missing = common_bands(table.pop("available"), _BANDS)
    table["problem"] = np.where(table["time"].isna(), "its name has no date", missing)
    table["lon"] = table["lat"] = np.nan
    dtype, unread = "", table[table["problem"].eq("")]
    while len(unread):  # the first date of every location; the next one where it cannot be read
        first = unread.groupby("location", sort=False).head(1)
        paths = [path.replace("{band}", bands[0]) for path in first["path"]]
        headers = read_headers(paths).set_index(first.index)
        table.loc[first.index, ["lon", "lat", "problem"]] = headers[["lon", "lat", "problem"]]
        good = headers["problem"].eq("")
        dtype = next(iter(headers.loc[good, "dtype"]), dtype)
        unread = unread.drop(first.index)
        unread = unread[~unread["location"].isin(first.loc[good, "location"])]
    for name in ("lon", "lat"):
        table[name] = table.groupby("location", sort=False)[name].transform("first")
    if scale is None and "VV" in bands and dtype.startswith("float"):
        scale = _RADAR_DB
    return finish_table(
        table, reader=reader, folder=folder, layout=f"<{digits} digits>/<date>/<band>.tif",
        skip_bad=skip_bad, bands=bands, band_names=bands, scale=scale,
        dtype="uint16" if scale is not None else dtype,
    )  # fmt: skip


def _list_dates(place: os.DirEntry[str]) -> list[tuple[str, str, str, frozenset[str]]]:
    """Return a row for each folder of a location with a date in its name or a band in it."""
    rows = []
    for entry in listing.subfolders(listing.list_entries(place.path)):
        names = {file.name for file in listing.list_entries(entry.path)}
        available = frozenset(band for band in _BANDS if f"{band}.tif" in names)
        date = _DATE.search(entry.name)
        if available or date:
            path = os.path.join(entry.path, "{band}.tif")
            rows.append((place.name, path, date[1] if date else "", available))
    return rows


def fits_dated_folders(path: Path, digits: int) -> str | None:
    """Return why ``path`` looks like locations of so many digits, with dates; None if not."""
    for place in listing.first_entries(path):
        if not re.fullmatch(rf"[0-9]{{{digits}}}", place.name):
            continue
        for date in listing.first_entries(place.path, 8):
            names = {file.name for file in listing.first_entries(date.path)}
            if _DATE.search(date.name) and any(f"{band}.tif" in names for band in _BANDS):
                return f"contains <{digits} digits>/<date>/<band>.tif"
    return None
