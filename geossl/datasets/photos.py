"""Geotagged photos: where and when they were taken, from their EXIF."""

from __future__ import annotations

import logging
import math
import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from annotated_types import Interval

from geossl import geo
from geossl.data import scenes
from geossl.data.dates import AmbiguousDate, Date, parse, read_names
from geossl.data.files import DatasetError
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.files import is_picture, is_tiff
from geossl.datasets.registry import register
from geossl.datasets.shared.listing import find_files, first_entries, list_folder, subfolders
from geossl.datasets.shared.table import drop_bad_files
from geossl.utils.validate import validated

__all__ = ["photos"]

_EXIF, _GPS = 0x8769, 0x8825  # numbers of the directories, then of the tags in them
_TIMES = {  # tag -> the one of its offset, and its name
    0x9003: (0x9011, "DateTimeOriginal"), 0x9004: (0x9012, "DateTimeDigitized"),
}  # fmt: skip
_GPS_DATE, _GPS_TIME = 29, 7  # in UTC
_METERS = 1000 * math.pi * geo.EARTH_RADIUS_KM / 180  # of a degree
_LAT_REF, _LAT, _LON_REF, _LON = 1, 2, 3, 4


@validated
def photos(
    folder: str | os.PathLike[str],
    *,
    decimals: Annotated[int, Interval(ge=1, le=12)] = 4,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of the geotagged photos in a folder; only headers are read.

    Args:
        folder: contains jpg, tif, png or webp files, in any sub-folder.
        decimals: of a degree: photos within one unit of the last are of one location, see
            `geossl.data.scenes.merge_locations`; 4 is 11 meters.
        skip_bad: leave out files that cannot be opened.

    Returns:
        One row per photo with a GPS position, by path. ``time`` is DateTimeOriginal (else
        DateTimeDigitized): in UTC where the photo has its offset, else the camera's local time as
        it is; else that of the GPS, else the day in the name. ``date_rule`` says which. Photos
        without a position are left out, and listed in ``attrs["skipped"]`` with the reason.

    Raises:
        FileNotFoundError: the folder does not exist, or contains no photo.
        ValueError: a file cannot be opened, or no photo has a position.

    Source:
        Exif 2.32, tags of the GPS directory and DateTimeOriginal.
    """
    list_folder(folder, "photos")
    rows, without_position = [], {}
    paths, damaged = find_files(folder, _is_photo)
    for path in paths:
        try:
            rows.append((path, *_read_tags(path)))
        except DatasetError as error:
            damaged[path] = str(error)
        except ValueError as error:
            without_position[path] = str(error)
    table = pd.DataFrame(rows, columns=["path", "lon", "lat", "time", "date_rule"])
    if len(table):
        table = _date_by_names(_name_locations(table, decimals), folder)
    problems = damaged if damaged and not skip_bad else damaged | without_position
    table = drop_bad_files(
        table, problems, skip_bad=skip_bad or not damaged,
        what=f"photos with a GPS position in {folder}",
    )  # fmt: skip
    return add_pixel_columns(scenes.check(table, source=str(folder)), reader="photos")


def _date_by_names(table: pd.DataFrame, folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Date the photos whose tags have no time by the days in their names."""
    undated = table.index[table["time"].isna()]
    names = [Path(os.path.relpath(path, folder)).as_posix() for path in table["path"][undated]]
    dates: list[Date | None] = []
    with suppress(AmbiguousDate):  # photos need no time
        dates = read_names(names)
    times, rules = table["time"].to_dict(), table["date_rule"].to_dict()
    for row, date in zip(undated, dates, strict=False):
        if date is not None and date.unit == "D":
            times[row], rules[row] = date.time, date.rule
    return table.assign(
        time=pd.to_datetime(pd.Series(times, dtype=object), utc=True), date_rule=pd.Series(rules)
    )


def _name_locations(table: pd.DataFrame, decimals: int) -> pd.DataFrame:
    """Group photos by distance, and name each location by the position of its center."""
    own = scenes.merge_locations(
        table.assign(location=table.index), within_m=_METERS / 10**decimals
    )
    center = table.loc[own["location"], ["lat", "lon"]].to_numpy()

    def names(decimals: int) -> list[str]:
        rounded = (np.round(center, decimals) + 0.0).tolist()
        return [f"{lat:.{decimals}f},{lon:.{decimals}f}" for lat, lon in rounded]

    short = pd.Series(names(decimals))
    shared = own["location"].groupby(short).transform("nunique") > 1
    return table.assign(location=np.where(shared, names(12), short))


def fits(path: Path) -> str | None:
    """Return why geotagged photos are at ``path``, or None."""
    top = first_entries(path, 16)
    inner = (first_entries(entry.path, 4) for entry in subfolders(top))
    for entry in chain(top, chain.from_iterable(inner)):
        if _is_photo(entry.name) and os.path.isfile(entry.path):
            try:
                _read_tags(entry.path)
            except ValueError:
                continue
            return f"contains photos with a GPS position in their EXIF, e.g. {entry.name}"
    return None


def _is_photo(name: str) -> bool:
    return is_picture(name) or is_tiff(name)


def _read_tags(path: str) -> tuple[float, float, pd.Timestamp | None, str | None]:
    """Return longitude, latitude and time of a photo, and which tag the time is from.

    Raises:
        DatasetError: the file is damaged or no photo.
        ValueError: it has no position.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings(), _no_notices():
            warnings.simplefilter("ignore")  # of damaged tags
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                exif = file.getexif()
                gps, taken = dict(exif.get_ifd(_GPS)), dict(exif.get_ifd(_EXIF))
    except (
        OSError, ValueError, TypeError, KeyError, IndexError, SyntaxError, struct.error,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    ) as error:  # fmt: skip
        reason = str(error) or type(error).__name__
        raise DatasetError(f"{path} cannot be opened: {reason}") from None
    lat = _degrees(gps, _LAT, _LAT_REF, "NS")
    lon = _degrees(gps, _LON, _LON_REF, "EW")
    if abs(lat) > 90 or abs(lon) > 180 or lat == lon == 0:
        raise ValueError(f"has the GPS position {lat}, {lon}, which is not on the globe")
    return lon, lat, *_read_time(taken, gps)


@contextmanager
def _no_notices() -> Iterator[None]:
    """Keep Pillow from logging that a tif has many bands, for each of them; it is no photo."""
    logger = logging.getLogger("PIL.TiffImagePlugin")

    def is_new(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("More samples per pixel")

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


def _degrees(gps: dict[int, Any], number: int, ref: int, sides: str) -> float:
    """Return degrees of (degrees, minutes, seconds), the last of them with decimals.

    Raises:
        ValueError: there are none, or nothing says on which side they lie.
    """
    parts, side = gps.get(number), gps.get(ref)
    if parts is None:
        raise ValueError("has no GPS position in its EXIF")
    try:
        values = [float(part) for part in (parts if isinstance(parts, tuple | list) else [parts])]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        values = []
    if not values or not all(map(math.isfinite, values)) or any(v > 60 for v in values[1:3]):
        raise ValueError(f"has no GPS position in its EXIF but {str(parts)[:60]}")
    text = side.decode("ascii", "replace") if isinstance(side, bytes) else str(side or "")
    hemisphere = text.strip("\0 ").upper()[:1]
    if not hemisphere or hemisphere not in sides:
        raise ValueError(
            f"has a GPS position in its EXIF without {' or '.join(sides)}, so that its side of the "
            "globe is not known"
        )
    degrees = values[0] + sum(v / 60**power for power, v in enumerate(values[1:3], 1))
    if min(values) < 0:
        if not (values[0] == min(values) and hemisphere == sides[1]):
            raise ValueError(f"has the GPS position {values} {hemisphere} in its EXIF")
        degrees -= 2 * values[0]  # a sign that says the same as the side
    return -degrees if hemisphere == sides[1] else degrees


def _read_time(exif: dict[int, Any], gps: dict[int, Any]) -> tuple[pd.Timestamp | None, str | None]:
    """Return the time of a photo, and which tag it is from."""
    texts = [(exif.get(tag), exif.get(offset), name) for tag, (offset, name) in _TIMES.items()]
    with suppress(KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        clock = ":".join(f"{int(part):02}" for part in gps[_GPS_TIME])
        texts.append((f"{gps[_GPS_DATE]} {clock}", "Z", "GPSDateStamp"))
    for text, offset, name in texts:
        zone = offset.strip("\0 ") if isinstance(offset, str) else ""
        zone = zone if re.fullmatch(r"Z|[+-]\d\d:?\d\d", zone) else ""
        with suppress(ValueError):  # no date
            [time] = parse([f"{text}".strip("\0 ") + zone]).values()
            return time, f"EXIF {name}{'' if zone else ', local time'}"
    return None, None


register("photos", open=photos, fits=fits)
