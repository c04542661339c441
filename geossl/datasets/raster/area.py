"""Read scenes and windows of them at their own resolution, for detection and segmentation.

A chip is a square of one size; here nothing is resampled, cropped or turned.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from geossl.data.files import DatasetError
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.files import is_picture, open_raster
from geossl.datasets.raster.header import color_bands, pixel_type, unplaced_reason
from geossl.datasets.raster.window import read_window

if TYPE_CHECKING:
    from affine import Affine


Row: TypeAlias = Mapping[Hashable, Any]
READING_COLUMNS = ("bands", "band_names", "dtype", "scale_low", "scale_high")
_WINDOW_PX = 2048  # side of what `band_statistics` reads at a time


@dataclass(frozen=True)
class Grid:
    """Size and position of a scene.

    Attributes:
        height: pixels.
        width: pixels.
        bands: how many.
        crs: coordinate reference system as text, or None where the file has none, or no transform.
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
    """Return what to read of each scene: the rows of a table, or of one file.

    Args:
        scenes: a scene table with one row per file (`geossl.datasets.coco`, ...), any table with a
            column ``path``, or the path of one file.
        bands: how many bands to read of files of which the table says nothing, from the first on;
            all bands of the first file if None.

    Raises:
        FileNotFoundError: the first file is needed, and does not exist.
        ValueError: no row, no ``path``, or several rows of one file.
    """
    if not isinstance(scenes, pd.DataFrame):
        scenes = pd.DataFrame({"path": [os.fspath(scenes)]})
    if "path" not in scenes or scenes.empty:
        raise ValueError(
            f"`scenes` must have a column 'path' and at least one row, got {len(scenes)} rows of "
            f"{list(scenes.columns)}."
        )
    if scenes["path"].isna().any():
        raise ValueError(
            f"`scenes` must have a path in each row; row {scenes['path'].isna().argmax()} has none."
        )
    repeated = scenes["path"].duplicated()
    if repeated.any():
        raise ValueError(
            f"`scenes` must have one row per file, got several of "
            f"{scenes['path'][repeated].iloc[0]}. Pass a table of scenes, not of boxes or chips."
        )
    if "{band}" in "".join(map(str, scenes["path"].head(1))):
        raise ValueError(
            "`scenes` must have all bands of a scene in one file, got one file per band. Stack "
            "them first, e.g. with gdal_merge.py -separate."
        )
    if "dtype" not in scenes or "bands" not in scenes:
        numbers = range(1, 1 + (bands or read_grid({"path": scenes["path"].iloc[0]}).bands))
        names = [f"band{n}" for n in numbers]
        scenes = add_pixel_columns(scenes, reader="areas", bands=numbers, band_names=names)
        scenes["dtype"] = None  # as it is in the file
    return scenes.to_dict("records")


def rows_with_bands(
    scenes: pd.DataFrame | str | os.PathLike[str],
    *,
    bands: int,
    reading: Mapping[Any, Any] | None = None,
) -> list[Row]:
    """Return what to read of each scene, and check that all have the same kind of pixels.

    Args:
        scenes: as in `scene_rows`.
        bands: of the encoder.
        reading: `reading_options` of the training scenes; those of the first row if None.

    Raises:
        FileNotFoundError: the first scene does not exist.
        ValueError: no scene, or one of other bands, another dtype or scale.
    """
    rows = scene_rows(scenes, bands=bands)
    if reading is None:
        reading = reading_options(rows[0])
        if reading["dtype"] is None:
            reading["dtype"] = str(read_area(rows[0], (0, 0, 1, 1))[0].dtype)
    options = reading_options(reading)
    rows = [row if row["dtype"] is not None else {**row, **options} for row in rows]
    for row in rows:
        if len(str(row["bands"]).split(",")) != bands:
            raise ValueError(
                f"`scenes` must have the encoder's {bands} bands, got {row['band_names']} of "
                f"{row['path']}. Adapt the encoder with `geossl.models.weights.with_bands`."
            )
        for name in ("dtype", "scale_low", "scale_high"):
            if row[name] != reading[name] and not (pd.isna(row[name]) and pd.isna(reading[name])):
                raise ValueError(
                    f"`scenes` must have {name} {reading[name]}, as in training, got {row[name]} "
                    f"of {row['path']}."
                )
    return rows


def reading_options(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return how the scene of a row is read: its `READING_COLUMNS`."""
    return {name: row[name] for name in READING_COLUMNS}


def read_grid(row: Row) -> Grid:
    """Read size and position of the scene of a row from its header.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: the file cannot be read.
    """
    with open_raster(row["path"]) as file:
        crs = None if unplaced_reason(file) else file.crs.to_string()
        return Grid(file.height, file.width, len(color_bands(file)), crs, file.transform)


def read_area(
    row: Row, window: tuple[int, int, int, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read a window of the scene of a row, at its own resolution.

    Args:
        row: one of `scene_rows`.
        window: (left, top, right, bottom) in pixels; may reach over the edges, where there is no
            data. The whole scene if None.

    Returns:
        ``(C, H, W)`` in the row's dtype (the file's own where the row has none), 0 without data,
        and ``(H, W)`` bool, which pixels hold data.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it cannot be read, has fewer bands, or another dtype without a scale.
    """
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    path, bands = row["path"], [int(band) for band in row["bands"].split(",")]
    with open_raster(path) as file:
        left, top, right, bottom = window or (0, 0, file.width, file.height)
        count = max(file.count, len(color_bands(file)))
        if count < 3 and max(bands) == 3 and is_picture(path):
            bands = [1] * len(bands)  # a gray image fills all colors
        if max(bands) > count:
            raise DatasetError(
                f"{path} has {count} bands, so there is no band {max(bands)}. Pass a table "
                "that says which bands to read."
            )
        own_dtype = pixel_type(file, bands[0])
        dtype = row["dtype"] or own_dtype
        if not np.isfinite(row["scale_low"]) and own_dtype != dtype:
            raise DatasetError(
                f"{path} must be {dtype}, got {own_dtype}. Make the scene table with "
                "`scale=(lowest, highest)`, which maps all to uint16."
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


def band_statistics(rows: Sequence[Row], *, max_scenes: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation ``(C,)`` of each band over the pixels with data.

    Args:
        rows: of `scene_rows`; each is read once, a window at a time.
        max_scenes: scenes to read, spread evenly over the rows.

    Raises:
        ValueError: no pixel holds data, or what `read_area` raises.
    """
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for row in rows[:: -(-len(rows) // max_scenes)]:
        grid = read_grid(row)
        for top in range(0, grid.height, _WINDOW_PX):
            for left in range(0, grid.width, _WINDOW_PX):
                right, bottom = (
                    min(start + _WINDOW_PX, end)
                    for start, end in ((left, grid.width), (top, grid.height))
                )
                pixels, valid = read_area(row, (left, top, right, bottom))
                values = pixels[:, valid].astype(np.float64)  # (C, n)
                count += values.shape[1]
                total = total + values.sum(1)
                squares = squares + (values**2).sum(1)
    if count == 0:
        raise ValueError(f"None of the {len(rows)} scenes has a pixel with data.")
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))
