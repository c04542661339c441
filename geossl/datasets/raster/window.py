"""Pixels of chips from GeoTIFFs: one windowed read each, resampled where the grids differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from geossl.data.pixels import Pixels
from geossl.datasets.raster.grid import ALIGNED_PX, pixel_to_crs
from geossl.datasets.raster.header import COLORS


def pixel_info(scenes: pd.DataFrame) -> dict[str, Any]:
    """Bands, dtype, units and source of the pixels."""
    first = scenes.iloc[0]
    names = first["band_names"].split(",")
    rgb = _visible(names) or ([0, 1, 2] if len(names) >= 3 else [0])
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


def _visible(names: Sequence[str]) -> list[int]:
    """Where red, green and blue are among the names of bands; empty unless all are.

    Their numbers say it too, as B4 or B04: those of Sentinel-2, and of Landsat 8 and 9.
    """
    plain = [re.sub("^b0+", "b", name.strip().lower()) for name in names]
    for colors in (COLORS, ("b4", "b3", "b2")):
        if set(colors) <= set(plain):
            return [plain.index(c) for c in colors]
    return []


def read_chips(rows: pd.DataFrame, *, size_px: int) -> Pixels:
    """Pixels of some rows, one windowed read each; a file is opened once.

    Pixels that lie on the grid are read as they are, others are resampled (bilinear, or the
    average where ``size_px`` is smaller than the cell).

    Returns:
        Chips of which a pixel without data is zero. It has none where the file masks any band of
        it, or all bands if the file's value for "no data" is 0 (dark pixels are 0 in one band),
        and where any band is NaN. Two more columns, as shares of the chip from 0 to 1:
        ``nodata_share``, and ``cloud_free_share`` of the pixels with data, a rough guess: bright
        and gray is cloud (red, green and blue all above 200 of 255, 3,500 of a uint16 file or 35 %
        of ``scale``, and within 20 % of each other), so are snow and bright roofs; NaN where the
        bands have no such names or there is no data.
    """
    import rasterio
    from rasterio.errors import RasterioError

    info = pixel_info(rows)
    chips = np.zeros((len(rows), len(info["bands"]), size_px, size_px), info["dtype"])
    valid = np.zeros((len(rows), size_px, size_px), bool)
    bad: dict[int, str] = {}
    for path, of_file in rows.groupby("path", sort=False).indices.items():
        try:
            with rasterio.open(path, driver="GTiff") as file:
                for i in of_file:
                    try:
                        chips[i], valid[i] = _read(file, rows.iloc[i], size_px)
                    except RasterioError as error:
                        bad[int(i)] = f"pixels cannot be read: {error.__cause__ or error}"
        except RasterioError as error:
            bad |= {int(i): f"the file cannot be read: {error}" for i in of_file}
    extra = {"nodata_share": 1 - valid.mean((1, 2)), "cloud_free_share": np.full(len(rows), np.nan)}
    visible, filled = _visible(info["bands"]), valid.any((1, 2))
    if visible:
        bright = 200.0 if info["dtype"] == "uint8" else 3500.0
        bright = 0.35 * 65535 if np.isfinite(rows["scale_low"].iloc[0]) else bright
        seen = chips[:, visible].astype(np.float32)
        cloud = (seen.min(1) > bright) & (seen.max(1) - seen.min(1) < 0.2 * seen.max(1))
        count = np.maximum(valid.sum((1, 2)), 1)
        clear = 1 - (cloud & valid).sum((1, 2)) / count
        extra["cloud_free_share"] = np.where(filled, clear, np.nan)
    return Pixels(chips, valid, extra, bad)


def _read(file: Any, row: pd.Series, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """One chip ``(C, S, S)`` and which of its pixels hold data ``(S, S)``."""
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.enums import ColorInterp, Resampling
    from rasterio.vrt import WarpedVRT
    from rasterio.windows import Window

    bands = [int(b) for b in row["bands"].split(",")]
    crs, t = CRS.from_user_input(row["crs"]), file.transform
    ends = np.array(
        [pixel_to_crs(~t, row["left"], row["top"]), pixel_to_crs(~t, row["right"], row["bottom"])]
    )
    (x0, y0), (x1, y1) = whole = np.round(ends).astype(int)
    if (
        file.crs == crs
        and t.b == 0 == t.d
        and x0 < x1
        and y0 < y1
        and np.abs(ends - whole).max() <= ALIGNED_PX
    ):
        window = Window(int(x0), int(y0), int(x1 - x0), int(y1 - y0))
        how = Resampling.average if size_px < x1 - x0 else Resampling.bilinear
        return read_window(file, bands, window, (size_px, size_px), how, row)
    wide, high = row["right"] - row["left"], row["bottom"] - row["top"]
    grid = Affine(wide / size_px, 0, row["left"], 0, high / size_px, row["top"])
    masked = file.nodata is not None or ColorInterp.alpha in file.colorinterp
    how = Resampling.average if size_px < row["chip_px"] else Resampling.bilinear
    more = {"UNIFIED_SRC_NODATA": "YES"} if file.nodata == 0 else {}
    with WarpedVRT(
        file, crs=crs, transform=grid, width=size_px, height=size_px, resampling=how,
        add_alpha=not masked, **more,
    ) as warped:  # fmt: skip
        return read_window(
            warped, bands, Window(0, 0, size_px, size_px), (size_px, size_px), how, row
        )


def read_window(
    file: Any, bands: list[int], window: Any, size: tuple[int, int], how: Any, row: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels ``(C, H, W)`` of a window of an open file, and which of them hold data ``(H, W)``."""
    from rasterio.enums import Resampling

    shape = (len(bands), *size)
    pixels = file.read(bands, window=window, out_shape=shape, resampling=how)
    mask = file.read_masks(bands, window=window, out_shape=shape, resampling=Resampling.nearest) > 0
    valid = mask.any(0) if file.nodata == 0 else mask.all(0)
    if np.issubdtype(pixels.dtype, np.floating):
        valid &= np.isfinite(pixels).all(0)
    if np.isfinite(row["scale_low"]):
        low, high = row["scale_low"], row["scale_high"]
        share = np.clip((np.nan_to_num(pixels.astype(np.float64)) - low) / (high - low), 0, 1)
        pixels = np.round(1 + share * 65534)
    return np.where(valid, pixels, 0).astype(row["dtype"]), valid
