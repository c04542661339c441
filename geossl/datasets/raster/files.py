"""Open raster files safely: by the driver of their suffix, so that none can name other files."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from geossl.data.files import DatasetError

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .tif .tiff .jp2 .webp .bmp .ppm .npy".split())
_DRIVERS = {
    ".tif": "GTiff",
    ".tiff": "GTiff",
    ".jp2": "JP2OpenJPEG",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
}


def is_tiff(path: str | os.PathLike[str]) -> bool:
    """Return whether a path ends in .tif or .tiff."""
    return os.fspath(path).lower().endswith(TIFF_SUFFIXES)


@contextmanager
def open_raster(path: str | os.PathLike[str], *, sidecars: bool = True) -> Iterator[Any]:
    """Open a raster file with rasterio as what its name says, e.g. a .tif as a GeoTIFF.

    GDAL on its own opens a file by its content: a VRT that is named .tif would make it read any
    other file.

    Args:
        path: a .tif, .tiff, .jp2, .png, .jpg or .jpeg.
        sidecars: look for files with more about it, such as .aux.xml; False for headers of files
            in large folders, which GDAL would list.

    Yields:
        The open `rasterio.DatasetReader`.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it has another suffix, or cannot be read, now or in the ``with`` block.
    """
    import rasterio
    from rasterio.errors import RasterioError

    driver = _DRIVERS.get(Path(path).suffix.lower())
    if driver is None:
        raise DatasetError(f"{path} must end in {', '.join(_DRIVERS)}. Convert it first.")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"The file {path} does not exist.")
    environment = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR")
    try:
        with nullcontext() if sidecars else environment:
            with _IgnoreMissingPosition():
                file = rasterio.open(path, driver=driver)
            with file:
                yield file
    except (RasterioError, IndexError, UnicodeError) as error:
        kind = "a GeoTIFF" if driver == "GTiff" else Path(path).suffix.lower()
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        raise DatasetError(f"{path} cannot be read as {kind}: {reason}.") from None


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
