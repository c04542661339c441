"""Whole scenes and windows of them at their own resolution: what detection and segmentation read.

A chip is a square of one size; here nothing is resampled, cropped or turned.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from geossl.datasets.raster.chips import add_reading_columns
from geossl.datasets.raster.window import read_window

if TYPE_CHECKING:
    from affine import Affine

Row: TypeAlias = Mapping[Hashable, Any]
TIFFS = (".tif", ".tiff")
READING_COLUMNS = ("bands", "band_names", "dtype", "scale_low", "scale_high")
_DRIVERS = {".jp2": "JP2OpenJPEG", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a scene lie.

    Attributes:
        height, width: pixels.
        bands: how many.
        crs: coordinate reference system as text, or None where the file has none.
        transform: from (column, row) to coordinates; the identity without a CRS.
    """

    height: int
    width: int
    bands: int
    crs: str | None
    transform: Affine


def scene_rows(
    scenes: pd.DataFrame | str | os.PathLike[str], *, bands: int | None = None
) -> list[Row]:
    """What to read of each scene: the rows of a table, or of one file.

    Args:
        scenes: a scene table of whole files (`readers.coco`, `readers.xview`, ...), any table
            with a column ``path``, or the path of one file.
        bands: number of bands of files of which the table says nothing: the first ones; all of
            the first file when None.

    Raises:
        FileNotFoundError: the first file is needed, and absent.
        ValueError: no row, no ``path``, or rows that are not whole files.
    """
    if not isinstance(scenes, pd.DataFrame):
        scenes = pd.DataFrame({"path": [os.fspath(scenes)]})
    if "path" not in scenes or scenes.empty:
        raise ValueError(
            f"expected a table of scenes with a column 'path' and a row or more, came "
            f"{len(scenes)} rows of {list(scenes.columns)}"
        )
    if scenes["path"].isna().any():
        raise ValueError(
            f"expected a path in each row, row {scenes['path'].isna().argmax()} is empty"
        )
    twice = scenes["path"].duplicated()
    if twice.any():
        raise ValueError(
            f"expected a row for each scene, came several for {scenes['path'][twice].iloc[0]}; "
            "give a table of whole scenes, not one of boxes or chips"
        )
    if "{band}" in "".join(map(str, scenes["path"].head(1))):
        raise ValueError(
            "expected all bands of a scene in one file, came a file a band; stack them first, "
            "e.g. by gdal_merge.py -separate"
        )
    if "dtype" not in scenes or "bands" not in scenes:
        count = bands or read_grid({"path": scenes["path"].iloc[0]}).bands
        numbers = range(1, count + 1)
        names = [f"band{n}" for n in numbers]
        scenes = add_reading_columns(scenes, reader="areas", bands=numbers, band_names=names)
        scenes["dtype"] = None  # as it is in the file
    return scenes.to_dict("records")


def rows_with_bands(
    scenes: pd.DataFrame | str | os.PathLike[str],
    *,
    bands: int,
    reading: dict[str, Any] | None = None,
) -> list[Row]:
    """What to read of each scene, all alike.

    Args:
        scenes: as in `scene_rows`.
        bands: of the encoder.
        reading: how the training scenes were read; None: these are they, and the first tells.

    Raises:
        FileNotFoundError: the first scene is absent.
        ValueError: no scene, or one of other bands, another dtype or scale.
    """
    rows = scene_rows(scenes, bands=bands)
    if reading is None:
        reading = reading_options(rows[0])
        if reading["dtype"] is None:
            reading["dtype"] = str(read_area(rows[0], (0, 0, 1, 1))[0].dtype)
    rows = [
        row if row["dtype"] is not None else {**row, **reading_options(reading)} for row in rows
    ]
    stated = {"dtype": "of dtype", "scale_low": "all with scale_low =",
              "scale_high": "all with scale_high ="}  # fmt: skip
    for row in rows:
        if len(str(row["bands"]).split(",")) != bands:
            raise ValueError(
                f"expected scenes of the encoder's {bands} bands, came {row['band_names']} of "
                f"{row['path']}; fit the encoder by weights.with_bands"
            )
        for name, words in stated.items():
            if row[name] != reading[name] and not (pd.isna(row[name]) and pd.isna(reading[name])):
                raise ValueError(
                    f"expected scenes {words} {reading[name]}, as in training, came {row[name]} "
                    f"of {row['path']}"
                )
    return rows


def reading_options(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """How the scene of a row is read: `READING_COLUMNS`, to be kept beside what learned from it."""
    return {name: row[name] for name in READING_COLUMNS}


def read_grid(row: Row) -> Grid:
    """Size and place of the scene of a row; reads its header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read.
    """
    with open_raster(row) as file:
        crs = None if file.crs is None else file.crs.to_string()
        return Grid(file.height, file.width, file.count, crs, file.transform)


def read_area(
    row: Row, window: tuple[int, int, int, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a window of the scene of a row, at its own resolution.

    Args:
        row: one of `scene_rows`.
        window: (left, top, right, bottom) in pixels; may reach over the edges, where there is no
            data. The whole scene when None.

    Returns:
        ``(C, H, W)`` in the row's dtype (the file's own where the row has none), 0 without data,
        and ``(H, W)`` bool, which pixels hold data.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, has fewer bands, or another dtype without a scale.
    """
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    bands = [int(band) for band in row["bands"].split(",")]
    with open_raster(row) as file:
        left, top, right, bottom = window or (0, 0, file.width, file.height)
        if file.count < 3 and max(bands) == 3 and _suffix(row) not in TIFFS:
            bands = [1] * len(bands)  # a gray picture fills all colors
        if max(bands) > file.count:
            raise ValueError(
                f"expected band {max(bands)} in {row['path']}, it has {file.count}; give a table "
                "that says which bands to read"
            )
        dtype = row["dtype"] or file.dtypes[bands[0] - 1]
        if not np.isfinite(row["scale_low"]) and file.dtypes[bands[0] - 1] != dtype:
            raise ValueError(
                f"expected {dtype} in {row['path']}, came {file.dtypes[bands[0] - 1]}; "
                "give the reader scale=(lowest, highest)"
            )
        pixels = np.zeros((len(bands), bottom - top, right - left), dtype)
        valid = np.zeros(pixels.shape[1:], bool)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, file.width), min(bottom, file.height)
        if x0 < x1 and y0 < y1:
            size, inner = (y1 - y0, x1 - x0), Window(x0, y0, x1 - x0, y1 - y0)
            inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
            pixels[:, *inside], valid[inside] = read_window(
                file, bands, inner, size, Resampling.nearest, {**row, "dtype": dtype}
            )
    return pixels, valid


def _suffix(row: Row) -> str:
    return Path(str(row["path"])).suffix.lower()


@contextmanager
def open_raster(row: Row) -> Iterator[Any]:
    """The file of a row, opened by rasterio as what its name says and nothing else.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or is of no known kind.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    path, suffix = str(row["path"]), _suffix(row)
    driver = "GTiff" if suffix in TIFFS else _DRIVERS.get(suffix)
    if driver is None:
        raise ValueError(
            f"expected a scene of {', '.join((*TIFFS, *_DRIVERS))}, came {path}; convert it first"
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(f"expected a scene at {path}, found no file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=driver) as file:
                yield file
    except (RasterioError, IndexError) as error:
        raise ValueError(f"{path} cannot be read: {error.__cause__ or error}") from None


def band_statistics(rows: Sequence[Row], *, most: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``(C,)`` of each band over the pixels with data.

    Args:
        rows: of `scene_rows`; each is read once, a window of 2048 pixels at a time.
        most: scenes to look at, spread evenly over the rows.

    Raises:
        ValueError: no pixel holds data, or what `read_area` refuses.
    """
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for row in rows[:: -(-len(rows) // most)]:
        size = read_grid(row)
        for top in range(0, size.height, 2048):
            for left in range(0, size.width, 2048):
                window = left, top, min(left + 2048, size.width), min(top + 2048, size.height)
                pixels, valid = read_area(row, window)
                seen = pixels[:, valid].astype(np.float64)  # (C, n)
                count += seen.shape[1]
                total = total + seen.sum(1)
                squares = squares + (seen**2).sum(1)
    if count == 0:
        raise ValueError(f"expected pixels with data in {len(rows)} scenes, found none")
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))
