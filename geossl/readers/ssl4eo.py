"""SSL4EO-S12: places of the world at four dates, a tif a band, of Sentinel-1 and Sentinel-2."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from geossl import scenes
from geossl.readers import tiles
from geossl.readers.images import described, pixel_info, read_chips

__all__ = ["dated_places", "fits", "fits_places", "pixel_info", "read_chips", "ssl4eo"]

BANDS = ["VV", "VH", *tiles.SENTINEL_2]
KINDS = ("s1", "s2a", "s2c")
RADAR_DB = (-50.0, 10.0)  # what Sentinel-1 measures lies within
_DIGITS = 7
_DATE = re.compile(r"(?<!\d)((?:19|20)\d{6}T\d{6})(?!\d)")


def ssl4eo(
    folder: str | os.PathLike[str],
    *,
    kind: str | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of one of the three kinds of SSL4EO-S12.

    Args:
        folder: holds ``<kind>/<7 digits>/<name with the date>/<band>.tif``, or is the folder of a
            kind; the numbers may have gaps.
        kind: "s1" (radar), "s2a" (surface) or "s2c" (top of atmosphere); needed only where the
            folder has several.
        scale: (lowest, highest) value that becomes 1 and 65535; -50 to 10 dB for "s1" when None,
            none for the others, which are uint16.
        skip_bad: see `dated_places`.

    Returns:
        As `dated_places`.

    Raises:
        FileNotFoundError: no such folder, or no such files in it.
        ValueError: several kinds, or a bad folder.

    Source:
        SSL4EO-S12, arXiv 2211.07044: 2.64 km at 10, 20 and 60 m.
    """
    there = [name for name in KINDS if os.path.isdir(os.path.join(folder, name))]
    if kind not in (None, *KINDS):
        raise ValueError(f"expected kind of {', '.join(KINDS)}, came {kind!r}")
    if kind is None and len(there) > 1:
        raise ValueError(f"{folder} holds {', '.join(there)}; give one of them as kind")
    if there and kind in (None, *there):
        folder = os.path.join(folder, kind or there[0])
    elif kind and Path(folder).name != kind:
        raise FileNotFoundError(f"expected a folder {kind} in {folder}, found {there or 'none'}")
    return dated_places(folder, reader="ssl4eo", digits=_DIGITS, scale=scale, skip_bad=skip_bad)


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
        scale: see `geossl.readers.images.described`.
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
        for entry in tiles.folders(tiles.listed(folder, f"places of {digits} digits"))
        if re.fullmatch(rf"[0-9]{{{digits}}}", entry.name)
    ]
    rows = [row for place in tiles.each(_dates, places) for row in place]
    table = pd.DataFrame(rows, columns=["location", "path", "time", "words"])
    table["time"] = pd.to_datetime(table["time"], format="%Y%m%dT%H%M%S", errors="coerce", utc=True)
    bands, lacking = tiles.bands_of(table["words"], BANDS)
    table["problem"] = np.where(table["time"].isna(), "its name has no date", lacking)
    table["lon"] = table["lat"] = np.nan
    dtype, left = "", table[table["problem"].eq("")]
    while len(left):  # the first date of every place; the next of those where it cannot be read
        first = left.groupby("location", sort=False).head(1)
        found = tiles.headers([os.path.join(p, f"{bands[0]}.tif") for p in first["path"]])
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
    table = tiles.sifted(
        table, skipped, skip_bad=skip_bad, of=f"<{digits} digits>/<date>/<band>.tif in {folder}"
    )
    table = scenes.check(table, source=f"{reader} in {folder}")
    if scale is None and "VV" in bands and dtype.startswith("float"):
        scale = RADAR_DB
    dtype = "uint16" if scale is not None else dtype
    return described(table, reader=reader, bands=bands, band_names=bands, dtype=dtype, scale=scale)


def _dates(place: os.DirEntry[str]) -> list[tuple[str, str, str, frozenset[str]]]:
    """A row for each folder of a place that has a date in its name or a band in it."""
    rows = []
    for entry in tiles.folders(tiles.entries(place.path)):
        names = {file.name for file in tiles.entries(entry.path)}
        words = frozenset(band for band in BANDS if f"{band}.tif" in names)
        hit = _DATE.search(entry.name)
        if words or hit:
            rows.append((place.name, entry.path, hit[1] if hit else "", words))
    return rows


def fits(path: Path) -> str | None:
    """Why ``path`` looks like SSL4EO-S12, or None."""
    for kind in KINDS:
        if fits_places(path / kind, _DIGITS):
            return f"holds {kind}/<7 digits>/<date>/<band>.tif"
    return fits_places(path, _DIGITS)


def fits_places(path: Path, digits: int) -> str | None:
    """Why ``path`` looks like places of so many digits, with dates, or None."""
    for place in tiles.some(path):
        if not re.fullmatch(rf"[0-9]{{{digits}}}", place.name):
            continue
        for date in tiles.some(place.path, 8):
            names = {file.name for file in tiles.some(date.path)}
            if _DATE.search(date.name) and any(f"{band}.tif" in names for band in BANDS):
                return f"holds <{digits} digits>/<date>/<band>.tif"
    return None
