"""Geotagged photos: where and when they were taken, from their EXIF."""

from __future__ import annotations

import math
import os
import struct
import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from geossl.data import scenes
from geossl.datasets.raster import chips
from geossl.datasets.registry import register
from geossl.datasets.shared.listing import first_entries
from geossl.datasets.shared.table import drop_bad_files

__all__ = ["photos"]

_PHOTOS = (".jpg", ".jpeg", ".tif", ".tiff", ".png", ".webp")
_EXIF, _GPS = 0x8769, 0x8825  # numbers of the directories, then of the tags in them
_TAKEN, _OFFSET = 0x9003, 0x9011
_LAT_REF, _LAT, _LON_REF, _LON = 1, 2, 3, 4


class _Unreadable(Exception):
    """A file that is damaged or no photo."""


def photos(
    folder: str | os.PathLike[str], *, decimals: int = 4, skip_bad: bool = False
) -> pd.DataFrame:
    """Scene table of the geotagged photos in a folder and its sub-folders; headers are read.

    Args:
        folder: holds jpg, tif, png or webp files.
        decimals: of a degree: photos whose rounded positions agree are of one location; 4 is
            about 11 meters.
        skip_bad: leave out files that cannot be opened.

    Returns:
        A row a photo with a GPS position, by path. ``time`` is DateTimeOriginal: in UTC where
        the photo tells its offset, else the camera's local time as it is. Photos without a
        position are left out, and listed in ``attrs["skipped"]`` with the reason.

    Raises:
        FileNotFoundError: there is no such folder, or no photo in it.
        ValueError: a file cannot be opened, no photo has a position, or wrong ``decimals``.

    Source:
        Exif 2.32, tags of the GPS directory and DateTimeOriginal.
    """
    if not 1 <= decimals <= 12:
        raise ValueError(f"expected decimals from 1 to 12, came {decimals}")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"expected a folder of photos at {folder}, found no such folder")
    paths = sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name[0] != "." and name.lower().endswith(_PHOTOS)
    )
    rows, damaged, unplaced = [], {}, {}
    for path in paths:
        try:
            lon, lat, time = _tags(path)
        except _Unreadable as error:
            damaged[path] = f"cannot be opened: {error}"
        except ValueError as error:
            unplaced[path] = str(error)
        else:
            rows.append((path, lon, lat, time))
    table = pd.DataFrame(rows, columns=["path", "lon", "lat", "time"])
    table["location"] = [
        f"{round(lat, decimals) + 0.0:.{decimals}f},{round(lon, decimals) + 0.0:.{decimals}f}"
        for lon, lat in zip(table["lon"], table["lat"], strict=True)
    ]
    what = f"photos with a GPS position in {folder}"
    if damaged and not skip_bad:
        drop_bad_files(table, damaged, skip_bad=False, what=what)
    table = drop_bad_files(table, damaged | unplaced, skip_bad=True, what=what)
    table["time"] = pd.to_datetime(table["time"], errors="coerce", utc=True, format="ISO8601")
    return chips.add_pixel_columns(scenes.check(table, source=str(folder)), reader="photos")


def fits(path: Path) -> str | None:
    """Why geotagged photos are at ``path``, or None."""
    if not path.is_dir():
        return None
    inner = (first_entries(e.path, 4) for e in first_entries(path, 16) if os.path.isdir(e.path))
    for entry in chain(first_entries(path, 16), chain.from_iterable(inner)):
        if entry.name.lower().endswith(_PHOTOS) and os.path.isfile(entry.path):
            try:
                _tags(entry.path)
            except (_Unreadable, ValueError):
                continue
            return f"holds photos with a GPS position in their EXIF, e.g. {entry.name}"
    return None


def _tags(path: str) -> tuple[float, float, str | None]:
    """Longitude, latitude and ISO time of a photo; ValueError says why it has no position."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                exif = file.getexif()
                gps, taken = dict(exif.get_ifd(_GPS)), dict(exif.get_ifd(_EXIF))
    except (
        OSError, ValueError, TypeError, KeyError, IndexError, SyntaxError, struct.error,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    ) as error:  # fmt: skip
        raise _Unreadable(str(error) or type(error).__name__) from None
    lat = _degrees(gps.get(_LAT), gps.get(_LAT_REF), "NS")
    lon = _degrees(gps.get(_LON), gps.get(_LON_REF), "EW")
    if lat is None or lon is None:
        raise ValueError("has no GPS position in its EXIF")
    if abs(lat) > 90 or abs(lon) > 180 or lat == lon == 0:
        raise ValueError(f"has the GPS position {lat}, {lon}, which is no place")
    return lon, lat, _time(taken.get(_TAKEN), taken.get(_OFFSET))


def _degrees(parts: Any, side: Any, sides: str) -> float | None:
    """Degrees of (degrees, minutes, seconds) and a hemisphere; None where there is no value."""
    text = side.decode("ascii", "replace") if isinstance(side, bytes) else str(side)
    half = text.strip("\0 ").upper()[:1]
    try:
        whole, minutes, seconds = (float(part) for part in parts)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    degrees = whole + minutes / 60 + seconds / 3600
    if not half or half not in sides or not math.isfinite(degrees):
        return None
    return -degrees if half == sides[1] else degrees


def _time(taken: Any, offset: Any) -> str | None:
    """ISO text of "2020:06:30 10:15:00" and an offset such as "+02:00"."""
    if not isinstance(taken, str) or len(taken.strip("\0 ")) != 19:
        return None
    text = taken.strip("\0 ")
    zone = offset.strip("\0 ") if isinstance(offset, str) else ""
    zone = zone if len(zone) == 6 and zone[0] in "+-" else "Z"
    return f"{text[:10].replace(':', '-')}T{text[11:]}{zone}"


register("photos", open=photos, fits=fits)
