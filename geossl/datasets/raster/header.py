"""Headers of GeoTIFFs: CRS, grid, bands and the date, from a name, a tag or a list."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    pass
import os
from collections.abc import Iterable
from itertools import islice

import numpy as np

from geossl import geo
from geossl.datasets.raster.grid import Scene, pixel_to_crs, reproject
from geossl.utils.parallel import map_threads

COLORS = ("red", "green", "blue")
_DATES = (
    r"(?<!\d)((?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01]))(?!\d)",
    r"(?<!\d)((?:19|20)\d\d)(?!\d)",
)


class UnreadableError(Exception):
    """A file that is damaged: the one kind that ``skip_bad`` leaves out."""


def read_header(
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
                colors = [color.name for color in file.colorinterp]
                names = names_of_bands(file.descriptions, colors)
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


def names_of_bands(descriptions: Sequence[str | None], colors: Sequence[str]) -> tuple[str, ...]:
    """Names of a file's bands, all different and without a comma."""
    numbered = [f"band_{i}" for i in range(1, len(colors) + 1)]
    told = [color if color in (*COLORS, "alpha") else "" for color in colors]
    names = [
        (text or "").replace(",", ";").strip() or color or number
        for text, color, number in zip(descriptions, told, numbered, strict=True)
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


pass
pass


IMAGES = frozenset(".jpg .jpeg .png .tif .tiff .jp2 .webp .bmp .ppm .npy".split())
_TIFS = (".tif", ".tiff")
_OPENED = 100  # files until one can be read
_TRIED = 100_000  # names looked up until a file is there: an index may name more than there is


def detect_pixel_format(
    paths: Iterable[str],
    *,
    bands: Sequence[int | str] | None,
    band_names: Sequence[str] | None,
    dtype: str | None,
    scale: tuple[float, float] | None,
) -> dict[str, Any]:
    """What `images.described` wants to know, from the header of the first file that is there.

    Args:
        paths: of the files of a table; ``{band}`` in them stands for a word of ``bands``.
        bands: bands to keep; all but an alpha band when None.
        band_names: their names; the file's own, colors, or ``band_1, ...`` when None.
        dtype: "uint8" or "uint16"; the file's own when None.
        scale: see `images.described`.

    Raises:
        FileNotFoundError: none of the first files is there.
        ValueError: none that is there can be read, or it has no such bands.
    """
    tried = pd.unique(pd.Series(list(paths), dtype=object))[:_TRIED]
    tried = [path.replace("{band}", str(bands[0])) if bands else path for path in tried]
    reason = ""
    for path in islice(filter(os.path.isfile, tried), _OPENED):
        try:
            numbers, names, found = _kind(path)
        except (OSError, ValueError, SyntaxError) as error:
            reason = reason or f"{path} cannot be read: {error}"
            continue
        if bands is not None:
            own = dict(zip(numbers, names, strict=True))
            names = [own.get(band, str(band)) for band in bands]
        kept = dtype or ("uint16" if scale else found)
        return {
            "bands": bands or numbers,
            "band_names": band_names or names,
            "dtype": kept,
            "scale": scale,
        }
    if reason:
        raise ValueError(f"expected images that can be read, but {reason}")
    raise FileNotFoundError(
        f"expected the images that are named, found e.g. no {tried[0]}; give root=, the folder "
        "that their paths start from"
    )


def _kind(path: str) -> tuple[list[Any], list[str], str]:
    """Numbers of the bands, their names and the dtype of one file."""
    from PIL import Image

    suffix = Path(path).suffix.lower()
    if suffix in _TIFS or suffix == ".jp2":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _opened(path) as file:
                colors = [color.name for color in file.colorinterp]
                names = names_of_bands(file.descriptions, colors)
                kept = {i: n for i, n in enumerate(names, 1) if colors[i - 1] != "alpha"}
                return list(kept), list(kept.values()), file.dtypes[0]
    if suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        count = 1 if array.ndim == 2 else min(array.shape[0], array.shape[-1])
        numbers = list(range(1, count + 1))
        return numbers, [f"band_{i}" for i in numbers], str(array.dtype)
    try:
        with Image.open(path) as file:
            if file.mode.startswith("I"):
                return [1], ["value"], "uint16"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(str(error)) from None
    return [1, 2, 3], list(COLORS), "uint8"


def _opened(path: str) -> Any:
    """A raster opened as what its name says, so that it cannot name others to be read."""
    import rasterio
    from rasterio.errors import RasterioError

    driver = "GTiff" if Path(path).suffix.lower() in _TIFS else "JP2OpenJPEG"
    try:
        return rasterio.open(path, driver=driver)
    except RasterioError as error:
        raise ValueError(str(error)) from None


def read_positions(
    paths: Sequence[str], x: Sequence[float] | None = None, y: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Where pixels lie by the headers of georeferenced tifs; a file is opened once.

    Args:
        paths: a file a row.
        x: pixels from the file's left, one a row; its middle when None.
        y: pixels from its top.

    Returns:
        Longitudes and latitudes ``(M,)`` in degrees EPSG:4326, NaN where a file is no tif, cannot
        be read or is not georeferenced.
    """
    east, north = np.full((2, len(paths)), np.nan)
    crs = pd.Series([""] * len(paths), dtype=object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, rows in pd.Series(list(paths), dtype=object).groupby(list(paths)).indices.items():
            if Path(str(path)).suffix.lower() not in _TIFS:
                continue
            try:
                with _opened(str(path)) as file:
                    if not file.crs or file.transform.is_identity:
                        continue
                    crs[rows] = file.crs.to_wkt()
                    column = file.width / 2 if x is None else np.asarray(x, float)[rows]
                    line = file.height / 2 if y is None else np.asarray(y, float)[rows]
                    east[rows], north[rows] = pixel_to_crs(file.transform, column, line)
            except ValueError:
                continue
    known = np.flatnonzero((crs != "").to_numpy())
    lon, lat = np.full((2, len(paths)), np.nan)
    if len(known):
        lon[known], lat[known] = lon_lat(crs.iloc[known].reset_index(drop=True),
                                         east[known], north[known])  # fmt: skip
    return lon, lat


def read_headers(paths: Sequence[str]) -> pd.DataFrame:
    """Where GeoTIFFs lie, from their headers alone, which threads read.

    A file is opened as a GeoTIFF whatever it holds, so that none can name another to be read.

    Returns:
        A row a path, in order: ``lon, lat`` of the middle (degrees EPSG:4326), ``bands`` (how
        many), ``dtype``, and ``problem``, the reason why there is no position, or "".
    """
    with warnings.catch_warnings():  # here, for it is not safe within threads
        warnings.simplefilter("ignore")
        rows = map_threads(_header, paths)
    table = pd.DataFrame(rows, columns=["crs", "x", "y", "bands", "dtype", "problem"])
    table["lon"], table["lat"] = lon_lat(table["crs"], table["x"], table["y"])
    lost = table["lon"].isna() & table["problem"].eq("")
    table.loc[lost, "problem"] = "its CRS and transform lead to no longitude and latitude"
    return table[["lon", "lat", "bands", "dtype", "problem"]]


def _header(path: str) -> tuple[str, float, float, int, str, str]:
    import rasterio
    from rasterio.errors import RasterioError

    lost = "", np.nan, np.nan
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),  # else it lists all the tiles
            rasterio.open(path, driver="GTiff") as file,
        ):
            about = file.count, file.dtypes[0]
            if not file.crs or file.transform.is_identity:
                return *lost, *about, "it is not georeferenced (no CRS or no transform)"
            x, y = pixel_to_crs(file.transform, file.width / 2, file.height / 2)
            return file.crs.to_wkt(), x, y, *about, ""
    except (RasterioError, UnicodeError) as error:
        return *lost, 0, "", f"cannot be read as a GeoTIFF: {str(error).rstrip('.')}"


def lon_lat(crs: pd.Series, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Degrees EPSG:4326 of positions in each row's own CRS; NaN where it has no such place."""
    lon, lat = np.full((2, len(crs)), np.nan)
    x, y = np.asarray(x, float), np.asarray(y, float)
    for name, rows in crs.groupby(crs).indices.items():
        try:
            lon[rows], lat[rows] = reproject(str(name), "EPSG:4326", x[rows], y[rows])
        except ValueError:
            continue
    outside = ~((np.abs(lon) <= 540) & (np.abs(lat) <= 90))
    lon[outside], lat[outside] = np.nan, np.nan
    return geo.wrap_lon(lon), lat
