"""Open raster files safely: with GDAL's own drivers, so that none can name other files."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from geossl.data.files import DatasetError

TIFF_SUFFIXES = (".tif", ".tiff")
_PICTURES = frozenset("JPEG PNG WEBP BMP PNM GIF BIGGIF".split())  # Pillow turns them upright
_REFUSED = frozenset(  # what they open names other files or addresses, is a table, or is no image
    """VRT GTI DERIVED WCS WMS WMTS HTTP PLMOSAIC EEDA EEDAI DAAS ESRIC STACTA STACIT MRF OGCAPI
    GDALG KMLSUPEROVERLAY PDF SAFE SENTINEL2 DIMAP TIL RPFTOC ECRGTOC ERS PDS PDS4 ISIS2 ISIS3
    VICAR PCIDSK RS2 TSX MFF MFF2 ILWIS PAux DOQ1 DOQ2 FAST ADRG SRP HDF4 HDF4Image HDF5 HDF5Image
    BAG S102 S104 S111 SNODAS OZI NSIDCbin GSC Zarr Rasterlite MBTiles GPKG SQLite GNMFile
    GNMDatabase OSM MVT GeoJSON GeoJSONSeq ESRIJSON TopoJSON AVCBin AVCE00 Memory MEM XYZ ZMap R
    BYN CTG""".split()
    + ["ESRI Shapefile"]
)


@cache
def _all_suffixes() -> dict[str, str]:
    from rasterio.drivers import raster_driver_extensions

    return {f".{suffix}": driver for suffix, driver in raster_driver_extensions().items()}


@cache
def raster_suffixes() -> dict[str, str]:
    """Return the suffixes of rasters that this GDAL can open -> its driver."""
    return {suffix: name for suffix, name in _all_suffixes().items() if name not in _REFUSED}


@cache
def _drivers() -> list[str]:
    from rasterio import Env

    with Env() as env:
        return sorted(set(env.drivers()) - _REFUSED)


def is_tiff(path: str | os.PathLike[str]) -> bool:
    """Return whether a path ends in .tif or .tiff."""
    return os.fspath(path).lower().endswith(TIFF_SUFFIXES)


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Return whether a path ends as a jpg, a png or the like does."""
    return raster_suffixes().get(Path(path).suffix.lower()) in _PICTURES


def is_image(name: str) -> bool:
    """Return whether chips can be read of a file of this name: a raster, a picture or an array."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix == ".npy" or suffix in raster_suffixes()


def is_read_by_gdal(path: str | os.PathLike[str]) -> bool:
    """Return whether GDAL reads an image: no picture, or a png of colors of 16 bits."""
    if not is_picture(path):
        return True
    if not os.fspath(path).lower().endswith(".png"):
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(26)
    except OSError:
        return False
    return head[:4] == b"\x89PNG" and head[24:25] == b"\x10" and head[25:26] != b"\x00"


def palette(file: Any) -> np.ndarray | None:
    """Return the colors ``(K, 4)`` uint8 that the values of an open raster stand for, or None."""
    from rasterio.enums import ColorInterp

    if file.count > 2 or file.colorinterp[0] != ColorInterp.palette:
        return None
    try:
        colors = file.colormap(1)
    except ValueError:
        return None
    table = np.zeros((max(colors) + 1, 4), np.uint8)
    table[list(colors)] = list(colors.values())
    return table


@contextmanager
def open_raster(
    path: str | os.PathLike[str], *, sidecars: bool = True, warp: bool = False
) -> Iterator[Any]:
    """Open a raster file with rasterio: a .tif as a GeoTIFF, others as what GDAL finds them to be.

    Formats whose files name others are refused: a VRT would make GDAL read any other file.

    Args:
        path: the file.
        sidecars: look for files with more about it, such as .aux.xml.
        warp: warp a file that has ground control points or RPCs in place of a transform.

    Yields:
        The open `rasterio.DatasetReader`, or a `rasterio.vrt.WarpedVRT` on it.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it cannot be read, now or in the ``with`` block.
    """
    import rasterio
    from rasterio.errors import RasterioError

    if not os.path.isfile(path):
        raise FileNotFoundError(f"The file {path} does not exist.")
    # neither lists the folder for each of its files; TRUE looks for sidecars one by one
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE" if sidecars else "EMPTY_DIR"}
    drivers = ["GTiff"] if is_tiff(path) else _drivers()
    try:
        with rasterio.Env(**options):
            with _IgnoreMissingPosition():
                file = rasterio.DatasetReader(Path(path), driver=drivers)
            with file:
                if not file.count:
                    raise DatasetError(
                        f"{path} has no bands but data sets of their own. Write one of them to a "
                        "GeoTIFF with gdal_translate."
                    )
                if warp and not file.crs and (file.gcps[0] or file.rpcs):
                    with _warp(file) as warped:
                        yield warped
                else:
                    yield file
    except (RasterioError, IndexError, UnicodeError) as error:
        suffix = Path(path).suffix.lower()
        kind = (
            "a GeoTIFF" if is_tiff(path) else suffix if suffix in raster_suffixes() else "a raster"
        )
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        driver = _all_suffixes().get(suffix)
        fix = ""
        if driver in _REFUSED:
            fix = f" geossl opens no {driver} files: write a GeoTIFF with gdal_translate."
        raise DatasetError(f"{path} cannot be read as {kind}: {reason}.{fix}") from None


def _warp(file: Any) -> Any:
    """Return a file with control points or RPCs as if it had a north-up transform, in meters."""
    from rasterio.crs import CRS
    from rasterio.enums import ColorInterp, Resampling
    from rasterio.vrt import WarpedVRT
    from rasterio.warp import transform

    points, crs = file.gcps
    if points and not crs:
        raise DatasetError(
            f"{file.name} has ground control points without a CRS. Write it into a copy: "
            "gdal_translate -a_srs EPSG:CODE"
        )
    if not points or not crs.is_projected:
        if points:
            x, y = np.mean([(point.x, point.y) for point in points], axis=0)
            (lon,), (lat,) = transform(crs, "EPSG:4326", [x], [y])
        else:
            lon, lat = file.rpcs.long_off, file.rpcs.lat_off
        zone = 61 if abs(lat) > 84 else int((lon + 180) % 360 // 6) + 1  # 61: around a pole
        crs = CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)
    masked = file.nodata is not None or ColorInterp.alpha in file.colorinterp
    return WarpedVRT(file, crs=crs, resampling=Resampling.bilinear, add_alpha=not masked)


class _IgnoreMissingPosition:
    """Ignore rasterio's warning about files without a position, in any number of threads.

    Threads that use `warnings.catch_warnings` alone restore each other's filters.
    """

    _lock = threading.Lock()
    _active = 0
    _filters: Any = None

    def __enter__(self) -> None:
        from rasterio.errors import NotGeoreferencedWarning

        cls = type(self)
        with cls._lock:
            if cls._active == 0:
                cls._filters = warnings.catch_warnings()
                cls._filters.__enter__()
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
            cls._active += 1

    def __exit__(self, *error: object) -> None:
        cls = type(self)
        with cls._lock:
            cls._active -= 1
            if cls._active == 0:
                cls._filters.__exit__()
