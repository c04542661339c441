"""Read headers of images: where they lie, their bands, their type and their date."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data.files import DatasetError, open_array
from geossl.datasets.raster.files import is_picture, is_read_by_gdal, open_raster, palette
from geossl.datasets.raster.grid import Scene, pixel_to_crs, reproject
from geossl.utils.parallel import map_threads

COLORS = ("red", "green", "blue")
_MAX_OPENED = 100  # files to open until one can be read
_MAX_NAMES = 100_000  # names to look up until a file exists: a table may list absent ones


def read_header(path: Path, *, tag: str | None = None, warp: bool = False) -> Scene:
    """Read the header of a georeferenced file; its time is still missing.

    Args:
        path: the file.
        tag: TIFF tag to read.
        warp: see `open_raster`.

    Raises:
        DatasetError: the file is damaged, no raster, or not georeferenced.
        ValueError: it has not this tag, or bands of several types.
    """
    with open_raster(path, warp=warp) as file:
        tags, crs, bands = file.tags(), file.crs, color_bands(file)
        dtypes = {pixel_type(file, number) for number in bands}
        if tag is not None:
            for namespace in file.tag_namespaces():
                tags |= {
                    name: text for name, text in file.tags(ns=namespace).items() if name == tag
                }
        grid = file.transform, file.width, file.height
        if problem := unplaced_reason(file):
            raise DatasetError(f"{path} {problem}")
    if len(dtypes) > 1:
        raise ValueError(f"The bands of {path} must have one type, got {sorted(dtypes)}.")
    if tag is not None and tag not in tags:
        raise ValueError(f"`date_tag` must name a tag of {path}, got {tag!r}, not {sorted(tags)}.")
    return Scene(path, _shorten(crs), *grid, bands, dtypes.pop(), tags.get(tag or ""))


def unplaced_reason(file: Any) -> str:
    """Return what an open raster lacks to lie anywhere on the globe, and what gives it; or ""."""
    t = file.transform
    is_pixels = t.b == t.d == t.c == 0 and abs(t.a) == abs(t.e) == 1 and t.f in (0, file.height)
    is_pixels = is_pixels or not np.isfinite(t[:6]).all() or t.is_degenerate
    if is_pixels and (file.gcps[0] or file.rpcs):
        what = "ground control points" if file.gcps[0] else "RPCs"
        return (
            f"has {what} in place of a transform. Pass `warp=True` to warp it when it is read, or "
            "warp it with gdalwarp."
        )
    if is_pixels:
        has, srs = ("a CRS but no", "") if file.crs else ("no CRS and no", "-a_srs EPSG:CODE ")
        photos = "; geotagged photos open with the reader `photos`" * is_picture(file.name)
        return (
            f"has {has} transform, so nothing says where its pixels lie. Write its bounds into a "
            f"copy: gdal_translate {srs}-a_ullr LEFT TOP RIGHT BOTTOM{photos}."
        )
    if not file.crs:
        return "has no CRS. Write it into a copy: gdal_translate -a_srs EPSG:CODE."
    return ""


def pixel_type(file: Any, number: int) -> str:
    """Return the type of a band of an open raster; a palette stands for colors."""
    return "uint8" if palette(file) is not None else file.dtypes[number - 1]


def color_bands(file: Any) -> dict[int, str]:
    """Return number from 1 -> name of an open raster's bands, all but those that are its mask."""
    if palette(file) is not None:
        return dict(enumerate(COLORS, 1))
    colors = [color.name for color in file.colorinterp]
    names = name_bands(file.descriptions, colors)
    is_mask = re.compile("a|alpha|mask|opacity", re.IGNORECASE).fullmatch
    alone = len(colors) == 1  # then it is all there is
    return {
        number: name
        for number, (name, color) in enumerate(zip(names, colors, strict=True), 1)
        if color != "alpha" or alone or not (is_mask(name) or name == f"band_{number}")
    }


def name_bands(descriptions: Sequence[str | None], colors: Sequence[str]) -> tuple[str, ...]:
    """Return names of a file's bands, all different and without a comma.

    Args:
        descriptions: of the bands, where they have one.
        colors: names of their `rasterio.enums.ColorInterp`.
    """
    numbers = tuple(f"band_{i}" for i in range(1, len(colors) + 1))
    names = tuple(
        (text or "").replace(",", ";").strip() or (color if color in (*COLORS, "alpha") else number)
        for text, color, number in zip(descriptions, colors, numbers, strict=True)
    )
    return names if len(set(names)) == len(names) else numbers


def _shorten(crs: Any) -> str:
    """Return a CRS as its EPSG code where that says it all, else in full."""
    from rasterio.crs import CRS

    code = crs.to_epsg()
    return f"EPSG:{code}" if code and CRS.from_epsg(code) == crs else crs.to_wkt()


def detect_pixel_format(
    paths: Iterable[str],
    *,
    bands: Sequence[int | str] | None,
    band_names: Sequence[str] | None,
    dtype: str | None,
    scale: tuple[float, float] | Literal["tags"] | None,
    nodata: float | None = None,
) -> dict[str, Any]:
    """Return arguments of `add_pixel_columns`, from the first file that can be read.

    Args:
        paths: the files of a table; ``{band}`` in them stands for a word of ``bands``.
        bands: bands to keep; all but an alpha band if None.
        band_names: their names; the file's own, colors, or ``band_1, ...`` if None.
        dtype: "uint8" or "uint16"; the file's own if None.
        scale: see `geossl.datasets.raster.chips.add_pixel_columns`.
        nodata: likewise.

    Raises:
        FileNotFoundError: none of the first files exists.
        DatasetError: none that exists can be read, or it has no such bands.
    """
    names = pd.unique(pd.Series(list(paths), dtype=object))[:_MAX_NAMES]
    if bands:
        names = [name.replace("{band}", str(bands[0])) for name in names]
    refusal: Exception | None = None
    for path in islice(filter(os.path.isfile, names), _MAX_OPENED):
        try:
            own_bands, own_dtype = _read_bands(path)
        except DatasetError as error:
            refusal = refusal or error
            continue
        numbers = list(own_bands) if bands is None else bands
        return {
            "bands": numbers,
            "band_names": band_names or [own_bands.get(band, str(band)) for band in numbers],
            "dtype": dtype or ("uint16" if scale else own_dtype),
            "scale": scale,
            "nodata": nodata,
        }
    if refusal is not None:
        raise DatasetError(f"None of the images can be read: {refusal}")
    raise FileNotFoundError(
        f"The images of the table do not exist, e.g. {names[0]}. Pass `root`, the folder that "
        "their paths start from."
    )


def _read_bands(path: str) -> tuple[dict[Any, str], str]:
    """Return number -> name of the bands, and the dtype of one file."""
    from PIL import Image

    is_array = path.lower().endswith(".npy")
    if not is_array and is_read_by_gdal(path):
        with open_raster(path) as file:
            return color_bands(file), pixel_type(file, 1)
    try:
        if is_array:
            array = open_array(path)
            count = 1 if array.ndim == 2 else min(array.shape[0], array.shape[-1])
            return {i: f"band_{i}" for i in range(1, count + 1)}, str(array.dtype)
        with Image.open(path) as image:
            if image.mode.startswith("I"):
                return {1: "value"}, "uint16"
    except (
        OSError, ValueError, SyntaxError,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    ) as error:  # fmt: skip
        raise DatasetError(f"{path} cannot be read: {str(error).rstrip('.')}.") from None
    return dict(enumerate(COLORS, 1)), "uint8"


def read_positions(
    paths: Sequence[str], x: Sequence[float] | None = None, y: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return where pixels lie by the headers of georeferenced files; each is opened once.

    Args:
        paths: one file per row.
        x: pixels from the left of the file, one per row; its center if None.
        y: pixels from the top, likewise.

    Returns:
        Longitudes and latitudes ``(M,)`` in degrees EPSG:4326, NaN where a file cannot be read or
        is not georeferenced.
    """
    east, north = np.full((2, len(paths)), np.nan)
    crs = pd.Series([""] * len(paths), dtype=object)
    for path, rows in pd.Series(list(paths), dtype=object).groupby(list(paths)).indices.items():
        try:
            if str(path).lower().endswith(".npy"):
                continue
            with open_raster(str(path)) as file:
                column = None if x is None else np.asarray(x, float)[rows]
                line = None if y is None else np.asarray(y, float)[rows]
                crs[rows], east[rows], north[rows] = _position(file, column, line)
        except (OSError, ValueError):
            continue
    return to_lon_lat(crs, east, north)


def read_headers(
    paths: Sequence[str], *, bands: int | None = None, dtype: str | None = None
) -> pd.DataFrame:
    """Return where GeoTIFFs lie, from their headers alone, which threads read.

    Args:
        paths: the files.
        bands: how many they should have, together with ``dtype``; any if None.
        dtype: the type that they should have.

    Returns:
        One row per path, in order: ``lon, lat`` of the center (degrees EPSG:4326), ``dtype``, and
        ``problem``, the reason why a file has no position or another format, or "".
    """
    rows = map_threads(_read_one_header, paths)
    table = pd.DataFrame(rows, columns=["crs", "x", "y", "bands", "dtype", "problem"])
    table["lon"], table["lat"] = to_lon_lat(table["crs"], table["x"], table["y"])
    lost = table["lon"].isna() & table["problem"].eq("")
    table.loc[lost, "problem"] = "its CRS and transform lead to no longitude and latitude"
    if bands is not None:
        other = table["problem"].eq("") & (table["bands"].ne(bands) | table["dtype"].ne(dtype))
        table.loc[other, "problem"] = [
            f"it has {count} bands of {kind}, not {bands} of {dtype}"
            for count, kind in table.loc[other, ["bands", "dtype"]].itertuples(index=False)
        ]
    return table[["lon", "lat", "dtype", "problem"]]


def _read_one_header(path: str) -> tuple[str, float, float, int, str, str]:
    try:
        with open_raster(path, sidecars=False) as file:
            kind = file.count, file.dtypes[0]
            crs, x, y = _position(file)
            problem = "" if crs else "it is not georeferenced (no CRS or no transform)"
            return crs, x, y, *kind, problem
    except (OSError, ValueError) as error:
        return "", np.nan, np.nan, 0, "", str(error)


def _position(file: Any, column: Any = None, line: Any = None) -> tuple[str, Any, Any]:
    """Return CRS and position of pixels of an open raster, of its center if None; "" and NaN."""
    from rasterio.transform import from_gcps

    crs, transform = file.crs, file.transform
    points, points_crs = file.gcps
    if points and points_crs and not crs:
        crs, transform = points_crs, from_gcps(points)
    elif file.rpcs and not crs and column is None:
        return "EPSG:4326", file.rpcs.long_off, file.rpcs.lat_off
    elif unplaced_reason(file):
        return "", np.nan, np.nan
    column = file.width / 2 if column is None else column
    line = file.height / 2 if line is None else line
    return crs.to_wkt(), *pixel_to_crs(transform, column, line)


def to_lon_lat(crs: pd.Series, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return degrees EPSG:4326 of positions, each in its row's CRS; NaN where there are none."""
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
