"""Headers of GeoTIFFs: CRS, grid, bands and the date, from a name, a tag or a list."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from affine import Affine

COLOURS = ("red", "green", "blue")
_DATES = (
    r"(?<!\d)((?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01]))(?!\d)",
    r"(?<!\d)((?:19|20)\d\d)(?!\d)",
)


@dataclass(frozen=True)
class Scene:
    """What a file says of itself before a pixel is read."""

    path: Path
    crs: str
    transform: Affine
    width: int
    height: int
    bands: tuple[str, ...]
    dtype: str
    time: pd.Timestamp


class UnreadableError(Exception):
    """A file that is damaged: the one kind that ``skip_bad`` leaves out."""


def header(
    path: Path,
    folder: Path,
    date_pattern: str | None,
    date_tag: str | None,
    listed: dict[str, str] | None,
) -> Scene:
    """Read one file's header.

    Args:
        path: of the file.
        folder: that it was found in, for the paths of ``listed``.
        date_pattern: regular expression for the date in the name; two usual forms when None.
        date_tag: TIFF tag that holds the date; used when given.
        listed: file name or path in the folder -> date; used before all others.

    Raises:
        UnreadableError: it is damaged or no GeoTIFF.
        ValueError: no CRS, no date, or bands of several types.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as file:
                tags, crs = file.tags(), file.crs
                colours = [colour.name for colour in file.colorinterp]
                names = names_of_bands(file.descriptions, colours)
                shape = file.transform, file.width, file.height
                kinds = set(file.dtypes)
    except RasterioIOError as error:
        why = str(error).rstrip(".")
        raise UnreadableError(f"{path} cannot be read as a GeoTIFF: {why}") from None
    if not crs:
        raise ValueError(
            f"{path} has no CRS; georeference it (e.g. gdal_edit.py -a_srs EPSG:...) or remove it"
        )
    if len(kinds) > 1:
        raise ValueError(f"expected bands of one type in {path}, came {sorted(kinds)}")
    text: str | None
    if listed is not None:
        text = listed.get(path.relative_to(folder).as_posix(), listed.get(path.name))
    elif date_tag is not None:
        text = tags.get(date_tag)
    else:
        patterns = (date_pattern,) if date_pattern is not None else _DATES
        hits = (re.search(pattern, path.stem) for pattern in patterns)
        text = next((hit.group(hit.re.groups and 1) for hit in hits if hit), None)
    return Scene(path, _short(crs), *shape, names, kinds.pop(), _date(path, text))


def names_of_bands(descriptions: Sequence[str | None], colours: Sequence[str]) -> tuple[str, ...]:
    """Names of a file's bands, all different and without a comma."""
    numbered = [f"band_{i}" for i in range(1, len(colours) + 1)]
    told = [colour if colour in (*COLOURS, "alpha") else "" for colour in colours]
    names = [
        (text or "").replace(",", ";").strip() or colour or number
        for text, colour, number in zip(descriptions, told, numbered, strict=True)
    ]
    return tuple(names if len(set(names)) == len(names) else numbered)


def _short(crs: Any) -> str:
    """A CRS as its EPSG code where that says it all, else in full."""
    from rasterio.crs import CRS

    code = crs.to_epsg()
    return f"EPSG:{code}" if code and CRS.from_epsg(code) == crs else crs.to_wkt()


def _date(path: Path, text: str | None) -> pd.Timestamp:
    ways = "give date_pattern, date_tag or dates_csv"
    if not text or not text.strip():
        raise ValueError(f"{path}: found no date; {ways}")
    plain = re.sub(r"^(\d{8})(\d{6})$", r"\1T\2", text.strip())
    plain = re.sub(r"^(\d{4})[-_.:/]?(\d\d)[-_.:/]?(\d\d)(?=$|[ T])", r"\1-\2-\3", plain)
    plain = re.sub(r"^(\d{4})[-_.:/]?(\d\d)$", r"\1-\2", plain)
    try:
        time = pd.to_datetime(plain, format="ISO8601")
        if pd.isna(time) or not 1800 <= time.year < 2200:
            raise ValueError(text)
    except ValueError:
        raise ValueError(f"{path}: {text!r} does not parse as a date; {ways}") from None
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
