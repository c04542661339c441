"""Read windows of open rasters, and the grid cells of dated scenes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from geossl.data.files import DatasetError
from geossl.data.natural_color import named_colors, shown_bands
from geossl.data.pixels import Pixels
from geossl.datasets.raster.files import open_raster, palette
from geossl.datasets.raster.grid import ALIGNED_PX, pixel_to_crs


def pixel_info(scenes: pd.DataFrame) -> dict[str, Any]:
    """Return bands, dtype, units and source of the pixels of a table."""
    first = scenes.iloc[0]
    names = first["band_names"].split(",")
    units = "as in the files"
    if np.isfinite(first["scale_low"]):
        units = f"1..65535 for {first['scale_low']:g}..{first['scale_high']:g}, 0 where no data"
    return {
        "bands": names,
        "dtype": first["dtype"],
        "units": units,
        "source": "GeoTIFF scenes",
        "rgb": shown_bands(names),
    }


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
    clipped = np.full((len(rows), 2), np.nan)
    bad: dict[int, str] = {}
    for path, positions in rows.groupby("path", sort=False).indices.items():
        try:
            with open_raster(str(path), warp=True) as file:
                for i in positions:
                    try:
                        row = rows.iloc[i]
                        values, valid[i] = _read_cell(file, row, size_px)
                        chips[i] = store(values, valid[i], row)
                        clipped[i] = clipped_shares(values, valid[i], row)
                    except RasterioError as error:
                        bad[int(i)] = f"pixels cannot be read: {error.__cause__ or error}"
        except (FileNotFoundError, DatasetError) as error:
            bad |= {int(i): str(error) for i in positions}
    extra = {
        "nodata_share": 1 - valid.mean((1, 2)),
        "cloud_free_share": _cloud_free_share(
            chips, valid, info, np.isfinite(rows["scale_low"].iloc[0])
        ),
        **clipped_columns(clipped, rows),
    }
    return Pixels(chips, valid, extra, bad)


def _cloud_free_share(
    chips: np.ndarray, valid: np.ndarray, info: dict[str, Any], scaled: bool
) -> np.ndarray:
    rgb = named_colors(info["bands"])
    if not rgb:
        return np.full(len(chips), np.nan)
    bright = 0.35 * 65535 if scaled else 200 if info["dtype"] == "uint8" else 3500
    colors = chips[:, rgb].astype(np.float32)  # (M, 3, H, W)
    cloud = (colors.min(1) > bright) & (colors.max(1) - colors.min(1) < 0.2 * colors.max(1))
    count = valid.sum((1, 2))
    return np.where(count > 0, 1 - (cloud & valid).sum((1, 2)) / np.maximum(count, 1), np.nan)


def _read_cell(file: Any, row: pd.Series, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return values of one chip ``(C, S, S)`` and which of its pixels hold data ``(S, S)``."""
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
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
        return read_values(file, bands, window, size, method, row)
    width, height = row["right"] - row["left"], row["top"] - row["bottom"]
    grid = Affine(width / size_px, 0, row["left"], 0, -height / size_px, row["top"])
    method = Resampling.average if size_px < row["chip_px"] else Resampling.bilinear
    return read_warped(file, bands, crs, grid, size, method, row)


def read_warped(
    file: Any, bands: list[int], crs: Any, grid: Any, size: tuple[int, int], method: Any, row: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Read an open raster as pixels of another grid, in the units of the file; see `read_window`.

    Args:
        file: open.
        bands: numbers from 1.
        crs: of the grid.
        grid: its transform.
        size: height and width of the result.
        method: `rasterio.enums.Resampling`; the nearest for a palette.
        row: ``nodata`` and ``scale_tags`` as in the scene table, where it has them.
    """
    from rasterio.dtypes import in_dtype_range
    from rasterio.enums import ColorInterp, Resampling
    from rasterio.vrt import WarpedVRT
    from rasterio.windows import Window

    masked = file.nodata is not None or ColorInterp.alpha in file.colorinterp
    if palette(file) is not None:
        method = Resampling.nearest
    options: dict[str, Any] = {"UNIFIED_SRC_NODATA": "YES"} if file.nodata == 0 else {}
    declared = row.get("nodata", np.nan)
    if np.isfinite(declared) and all(in_dtype_range(declared, kind) for kind in file.dtypes):
        options, masked = {"src_nodata": declared, "nodata": declared}, True
        if declared == 0:
            options["UNIFIED_SRC_NODATA"] = "YES"
    height, width = size
    with WarpedVRT(
        file, crs=crs, transform=grid, width=width, height=height, resampling=method,
        add_alpha=not masked, **options,
    ) as warped:  # fmt: skip
        return read_values(warped, bands, Window(0, 0, width, height), size, method, row)


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
        row: ``dtype``, ``scale_low`` and ``scale_high`` as in the scene table; ``palette`` is False
            where the numbers of a palette are meant.

    Returns:
        ``(C, H, W)``, 0 without data, and ``(H, W)`` bool, which pixels hold data.
    """
    pixels, valid = read_values(file, bands, window, size, method, row)
    return store(pixels, valid, row), valid


def read_values(
    file: Any, bands: list[int], window: Any, size: tuple[int, int], method: Any, row: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Read as `read_window` does, in the units of the file."""
    from rasterio.enums import Resampling

    shape, nodata = (len(bands), *size), row.get("nodata", np.nan)
    colors = palette(file) if row.get("palette", True) else None
    if colors is not None:
        pixels, valid = _read_colors(file, colors, bands, window, size)
    elif np.isfinite(nodata):
        pixels, valid = _read_declared(file, bands, window, size, nodata)
    else:
        pixels = file.read(bands, window=window, out_shape=shape, resampling=method)
        mask = file.read_masks(bands, window=window, out_shape=shape, resampling=Resampling.nearest)
        valid = (mask > 0).any(0) if file.nodata == 0 else (mask > 0).all(0)
    if np.issubdtype(pixels.dtype, np.floating):
        valid &= np.isfinite(pixels).all(0)
    if not pixels.any():  # nothing was there
        valid = np.zeros_like(valid)
    if row.get("scale_tags") == 1:
        scales, offsets = (
            np.array([values[band - 1] for band in bands])[:, None, None]
            for values in (file.scales, file.offsets)
        )
        pixels = pixels * scales + offsets
    return pixels, valid


def store(pixels: np.ndarray, valid: np.ndarray, row: Any) -> np.ndarray:
    """Return values as they are stored: ``(C, H, W)``, 0 without data."""
    if np.isfinite(row["scale_low"]):
        pixels = to_stored_units(pixels, row)
    if pixels.dtype.kind == "f" and np.dtype(row["dtype"]).kind != "f":
        pixels = np.round(pixels)
    return np.where(valid, pixels, 0).astype(row["dtype"], copy=False)


def clipped_columns(shares: np.ndarray, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return columns of `clipped_shares` ``(M, 2)``, where the rows have a scale."""
    if not np.isfinite(rows["scale_low"].to_numpy(float)).any():
        return {}
    return {"below_scale": shares[:, 0], "above_scale": shares[:, 1]}


def clipped_shares(pixels: np.ndarray, valid: np.ndarray, row: Any) -> tuple[float, float]:
    """Return the shares of the valid values below and above the scale; NaN without one."""
    values = pixels[:, valid]
    if not (values.size and np.isfinite(row["scale_low"])):
        return np.nan, np.nan
    return (values < row["scale_low"]).mean(), (values > row["scale_high"]).mean()


def _read_colors(
    file: Any, colors: np.ndarray, bands: list[int], window: Any, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Read pixels of a palette as red, green and blue: colors can be averaged, numbers cannot."""
    number = file.read(1, window=window)
    rgba = colors[np.minimum(number, len(colors) - 1)]  # (H, W, 4)
    valid = (file.read_masks(1, window=window) > 0) & (number < len(colors)) & (rgba[..., 3] > 0)
    return resize_valid(np.stack([rgba[..., band - 1] for band in bands]), valid, size)


def _read_declared(
    file: Any, bands: list[int], window: Any, size: tuple[int, int], nodata: float
) -> tuple[np.ndarray, np.ndarray]:
    """Read pixels of which some have a value for "no data" that only the user knows."""
    pixels = file.read(bands, window=window)
    return resize_valid(
        pixels, (file.read_masks(bands, window=window) > 0).all(0) & has_data(pixels, nodata), size
    )


def has_data(pixels: np.ndarray, nodata: float) -> np.ndarray:
    """Return where no band of ``(C, H, W)`` is ``nodata``, or not all of them if it is 0."""
    same = pixels == nodata
    return ~(same.all(0) if nodata == 0 else same.any(0))


def resize_valid(
    pixels: np.ndarray, valid: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Resize ``(C, H, W)`` and where it is valid; a mean is that of the valid pixels."""
    if pixels.dtype.kind == "f":
        valid = valid & np.isfinite(pixels).all(0)
    if valid.shape == size:
        return pixels, valid
    weight = resize(valid, size)
    parts = [resize(np.where(valid, band, 0), size) / np.maximum(weight, 1e-6) for band in pixels]
    resized = np.stack(parts)
    return (resized if pixels.dtype.kind == "f" else np.round(resized)), weight > 0.5


def resize(band: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``(H, W)`` to float32 of a size ``(H, W)``, averaged where it shrinks."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(band, np.float32))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))


def to_stored_units(pixels: np.ndarray, row: Any) -> np.ndarray:
    """Map values from ``scale_low`` to ``scale_high`` linearly to 1..65535, clipped, as float64."""
    low, high = row["scale_low"], row["scale_high"]
    share = (np.nan_to_num(pixels.astype(np.float64)) - low) / (high - low)
    return 1 + np.clip(share, 0, 1) * 65534
