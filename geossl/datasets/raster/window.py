"""Read windows of open rasters, and the grid cells of dated scenes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from geossl.data.files import DatasetError
from geossl.data.pixels import Pixels
from geossl.datasets.raster.files import open_raster
from geossl.datasets.raster.grid import ALIGNED_PX, pixel_to_crs
from geossl.datasets.raster.header import COLORS


def pixel_info(scenes: pd.DataFrame) -> dict[str, Any]:
    """Return bands, dtype, units and source of the pixels of a table."""
    first = scenes.iloc[0]
    names = first["band_names"].split(",")
    rgb = _rgb_bands(names) or ([0, 1, 2] if len(names) >= 3 else [0])
    units = "as in the files"
    if np.isfinite(first["scale_low"]):
        units = f"1..65535 for {first['scale_low']:g}..{first['scale_high']:g}, 0 where no data"
    return {
        "bands": names,
        "dtype": first["dtype"],
        "units": units,
        "source": "GeoTIFF scenes",
        "rgb": rgb,
    }


def _rgb_bands(names: Sequence[str]) -> list[int]:
    """Return where red, green and blue are among the names of bands; empty unless all are.

    B4, B3, B2 (or B04, ...) are red, green and blue of Sentinel-2, and of Landsat 8 and 9.
    """
    plain = [re.sub("^b0+", "b", name.strip().lower()) for name in names]
    for colors in (COLORS, ("b4", "b3", "b2")):
        if set(colors) <= set(plain):
            return [plain.index(color) for color in colors]
    return []


def read_cells(rows: pd.DataFrame, *, size_px: int) -> Pixels:
    """Read the grid cells of some rows, one windowed read each; a file is opened once.

    Pixels that lie on the grid are read as they are, others are resampled (bilinear, or the
    average where ``size_px`` is smaller than the cell).

    Args:
        rows: of the table of `geossl.datasets.geotiff`.
        size_px: height and width of a chip.

    Returns:
        Chips of which a pixel without data is zero. It has none where the file masks any band of
        it, or all bands if the file's value for "no data" is 0 (dark pixels are 0 in one band),
        and where any band is NaN. Two more columns, as shares of the chip from 0 to 1:
        ``nodata_share``, and ``cloud_free_share`` of the pixels with data, a rough guess: bright
        and gray is cloud (red, green and blue all above 200 of 255, 3,500 of a uint16 file or 35 %
        of ``scale``, and within 20 % of each other), so are snow and bright roofs; NaN where the
        bands have no such names or there is no data.
    """
    from rasterio.errors import RasterioError

    info = pixel_info(rows)
    chips = np.zeros((len(rows), len(info["bands"]), size_px, size_px), info["dtype"])
    valid = np.zeros((len(rows), size_px, size_px), bool)
    bad: dict[int, str] = {}
    for path, positions in rows.groupby("path", sort=False).indices.items():
        try:
            with open_raster(str(path), warp=True) as file:
                for i in positions:
                    try:
                        chips[i], valid[i] = _read_cell(file, rows.iloc[i], size_px)
                    except RasterioError as error:
                        bad[int(i)] = f"pixels cannot be read: {error.__cause__ or error}"
        except (FileNotFoundError, DatasetError) as error:
            bad |= {int(i): str(error) for i in positions}
    extra = {
        "nodata_share": 1 - valid.mean((1, 2)),
        "cloud_free_share": _cloud_free_share(
            chips, valid, info, np.isfinite(rows["scale_low"].iloc[0])
        ),
    }
    return Pixels(chips, valid, extra, bad)


def _cloud_free_share(
    chips: np.ndarray, valid: np.ndarray, info: dict[str, Any], scaled: bool
) -> np.ndarray:
    rgb = _rgb_bands(info["bands"])
    if not rgb:
        return np.full(len(chips), np.nan)
    bright = 0.35 * 65535 if scaled else 200 if info["dtype"] == "uint8" else 3500
    colors = chips[:, rgb].astype(np.float32)  # (M, 3, H, W)
    cloud = (colors.min(1) > bright) & (colors.max(1) - colors.min(1) < 0.2 * colors.max(1))
    count = valid.sum((1, 2))
    return np.where(count > 0, 1 - (cloud & valid).sum((1, 2)) / np.maximum(count, 1), np.nan)


def _read_cell(file: Any, row: pd.Series, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one chip ``(C, S, S)`` and which of its pixels hold data ``(S, S)``."""
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.enums import ColorInterp, Resampling
    from rasterio.vrt import WarpedVRT
    from rasterio.windows import Window

    bands = [int(band) for band in row["bands"].split(",")]
    size = size_px, size_px
    crs, t = CRS.from_user_input(row["crs"]), file.transform
    corners = np.array(
        [pixel_to_crs(~t, row["left"], row["top"]), pixel_to_crs(~t, row["right"], row["bottom"])]
    )
    (x0, y0), (x1, y1) = on_grid = np.round(corners).astype(int)
    is_aligned = np.abs(corners - on_grid).max() <= ALIGNED_PX
    if file.crs == crs and t.b == 0 == t.d and x0 < x1 and y0 < y1 and is_aligned:
        window = Window(int(x0), int(y0), int(x1 - x0), int(y1 - y0))
        method = Resampling.average if size_px < x1 - x0 else Resampling.bilinear
        return read_window(file, bands, window, size, method, row)
    width, height = row["right"] - row["left"], row["top"] - row["bottom"]
    grid = Affine(width / size_px, 0, row["left"], 0, -height / size_px, row["top"])
    masked = file.nodata is not None or ColorInterp.alpha in file.colorinterp
    method = Resampling.average if size_px < row["chip_px"] else Resampling.bilinear
    options = {"UNIFIED_SRC_NODATA": "YES"} if file.nodata == 0 else {}
    with WarpedVRT(
        file, crs=crs, transform=grid, width=size_px, height=size_px, resampling=method,
        add_alpha=not masked, **options,
    ) as warped:  # fmt: skip
        return read_window(warped, bands, Window(0, 0, *size), size, method, row)


def read_window(
    file: Any, bands: list[int], window: Any, size: tuple[int, int], method: Any, row: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Read pixels of a window of an open raster.

    Args:
        file: open.
        bands: numbers from 1.
        window: `rasterio.windows.Window`.
        size: height and width of the result.
        method: `rasterio.enums.Resampling`.
        row: ``dtype``, ``scale_low`` and ``scale_high`` as in the scene table.

    Returns:
        ``(C, H, W)``, 0 without data, and ``(H, W)`` bool, which pixels hold data.
    """
    from rasterio.enums import Resampling

    shape = (len(bands), *size)
    pixels = file.read(bands, window=window, out_shape=shape, resampling=method)
    mask = file.read_masks(bands, window=window, out_shape=shape, resampling=Resampling.nearest) > 0
    valid = mask.any(0) if file.nodata == 0 else mask.all(0)
    if np.issubdtype(pixels.dtype, np.floating):
        valid &= np.isfinite(pixels).all(0)
    if np.isfinite(row["scale_low"]):
        pixels = np.round(to_stored_units(pixels, row))
    return np.where(valid, pixels, 0).astype(row["dtype"]), valid


def to_stored_units(pixels: np.ndarray, row: Any) -> np.ndarray:
    """Map values from ``scale_low`` to ``scale_high`` linearly to 1..65535, clipped, as float64."""
    low, high = row["scale_low"], row["scale_high"]
    share = (np.nan_to_num(pixels.astype(np.float64)) - low) / (high - low)
    return 1 + np.clip(share, 0, 1) * 65534
