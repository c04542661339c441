"""Read chips from image files, the middle or a box: jpg, png, tif, npy; all bands or one a file.

The readers of data sets share this: they say in a few columns what to read, and decode nothing.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from geossl.data.files import DatasetError, open_array
from geossl.data.pixels import Pixels, repeat
from geossl.data.readers import FunctionReader, register_reader
from geossl.data.scenes import BOX
from geossl.datasets.raster.files import is_read_by_gdal, open_raster, palette
from geossl.datasets.raster.window import (
    clipped_columns,
    clipped_shares,
    has_data,
    pixel_info,
    read_values,
    resize,
    store,
)

_MAX_PX = 2**28  # pixels of an image or a window; more is a mistake or a decompression bomb
_ORIENTATION = 0x0112  # number of the EXIF tag
_TURNS = {  # its value -> Pillow's Transpose that sets the picture upright
    2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2
}  # fmt: skip

Row: TypeAlias = Mapping[Hashable, Any]
Chip: TypeAlias = tuple[np.ndarray, np.ndarray]  # values (C, S, S), and where they are valid (S, S)


def add_pixel_columns(
    table: pd.DataFrame,
    *,
    reader: str,
    bands: Sequence[int | str] = (1, 2, 3),
    band_names: Sequence[str] = ("red", "green", "blue"),
    dtype: str = "uint8",
    scale: tuple[float, float] | None = None,
    scale_tags: bool = False,
    nodata: float | None = None,
) -> pd.DataFrame:
    """Add the columns to a scene table that tell `read_chips` what to read.

    They are categorical: the value is stored once, however many rows there are.

    Args:
        table: scene table. ``path`` is the file of a row; with one file per band it contains
            ``{band}``, which stands for a word of ``bands``. The optional columns `BOX` are the box
            to cut, in pixels of the file from its upper left; missing values mean the whole file.
        reader: the name of the data set.
        bands: numbers from 1 of the bands in a file, or the words that ``{band}`` stands for.
        band_names: their names, in the same order.
        dtype: "uint8" or "uint16"; with ``scale`` it is uint16.
        scale: (lowest, highest) value that becomes 1 and 65535; needed for other types of files.
        scale_tags: apply the files' own scale and offset before.
        nodata: value of pixels without data that the files do not declare; 0 in all bands.

    Raises:
        ValueError: another number of names than of bands, a name with a comma, or another type.
    """
    if len(bands) != len(band_names) or not bands:
        raise ValueError(
            f"`band_names` must have a name for each of {list(bands)}, got {list(band_names)}."
        )
    if any("," in str(name) for name in [*bands, *band_names]):
        raise ValueError(f"`band_names` must not contain commas, got {list(band_names)}.")
    if scale is None and dtype not in ("uint8", "uint16"):
        raise ValueError(
            f"Files must be uint8 or uint16, got {dtype}. Pass `scale=(lowest, highest)`."
        )
    if scale is not None and not scale[0] < scale[1]:
        raise ValueError(f"`scale` must be (lowest, highest), got {scale}.")
    low, high = scale or (np.nan, np.nan)
    values = {
        "bands": ",".join(map(str, bands)),
        "band_names": ",".join(band_names),
        "dtype": "uint16" if scale is not None else dtype,
        "scale_low": float(low),
        "scale_high": float(high),
        "reader": reader,
    }
    if scale_tags:
        values["scale_tags"] = 1.0
    if nodata is not None:
        values["nodata"] = float(nodata)
    return table.assign(**{name: repeat(value, len(table)) for name, value in values.items()})


def read_chips(rows: pd.DataFrame, *, size_px: int) -> Pixels:
    """Read some rows: of each file the largest square about the center, resized to ``size_px``.

    With a box the square is as wide as the box is long, about the center of the box, moved and if
    needed shrunk to lie within the file: nothing is stretched. Gray images fill all colors, alpha
    becomes "no data", images without a box are turned as their EXIF says.

    Args:
        rows: of a table that `add_pixel_columns` completed.
        size_px: height and width of a chip.

    Returns:
        Chips of which a pixel without data is zero; a file that cannot be read is in ``bad``.
    """
    info = pixel_info(rows)
    chips = np.zeros((len(rows), len(info["bands"]), size_px, size_px), info["dtype"])
    valid = np.zeros((len(rows), size_px, size_px), bool)
    bad: dict[int, str] = {}
    clipped = np.full((len(rows), 2), np.nan)
    for i, row in enumerate(rows.to_dict("records")):
        try:
            values, valid[i] = _read_row(row, size_px)
            chips[i] = store(values, valid[i], row)
            clipped[i] = clipped_shares(values, valid[i], row)
        except (FileNotFoundError, DatasetError) as error:
            bad[i] = str(error)
    extra = {"nodata_share": 1 - valid.mean((1, 2)), **clipped_columns(clipped, rows)}
    return Pixels(chips, valid, extra, bad)


def _read_row(row: Row, size_px: int) -> Chip:
    path, bands = str(row["path"]), row["bands"].split(",")
    if "{band}" not in path:
        return _read_file(path, [int(band) for band in bands], row, size_px)
    parts = [_read_file(path.replace("{band}", band), [1], row, size_px) for band in bands]
    valid = np.logical_and.reduce([part_valid for _, part_valid in parts])
    return np.concatenate([pixels for pixels, _ in parts]), valid


def _read_file(path: str, bands: list[int], row: Row, size_px: int) -> Chip:
    if path.lower().endswith(".npy"):
        return _read_array(path, bands, row, size_px)
    read = _read_raster if is_read_by_gdal(path) else _read_image
    return read(path, bands, row, size_px)


def _has_box(row: Row) -> bool:
    return BOX[0] in row and bool(pd.notna(row[BOX[0]]))


def square(path: str, row: Row, width: int, height: int) -> tuple[int, int, int]:
    """Return left, top and side of the square to read, within the file."""
    if width * height > _MAX_PX:
        raise DatasetError(
            f"{path} has {width} x {height} pixels, which are more than {_MAX_PX:,}. Cut it first."
        )
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    side = min(width, height)
    if _has_box(row):
        left, top, right, bottom = (float(row[name]) for name in BOX)
        overlaps = left < min(right, width) and top < min(bottom, height)
        if not (overlaps and right > 0 and bottom > 0):
            box = left, top, right, bottom
            raise DatasetError(
                f"{path}: the box {box} does not lie in its {width} x {height} pixels."
            )
        side = min(side, max(1, round(max(right - left, bottom - top))))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    return min(max(x, 0), width - side), min(max(y, 0), height - side), side


def _check_file(path: str, bands: list[int], row: Row, *, count: int, dtype: str) -> None:
    if max(bands) > count:
        raise DatasetError(
            f"{path} has {count} bands, so there is no band {max(bands)}. Pass `bands` that every "
            "file has."
        )
    if dtype.startswith("complex"):
        raise DatasetError(f"{path} has complex pixels. Write their magnitude to another file.")
    if not np.isfinite(row["scale_low"]) and dtype != row["dtype"]:
        raise DatasetError(
            f"{path} must be {row['dtype']} as other files, got {dtype}. Make the scene table with "
            "`scale=(lowest, highest)`, which maps all to uint16."
        )


def _read_raster(path: str, bands: list[int], row: Row, size_px: int) -> Chip:
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    with open_raster(path) as file:
        left, top, side = square(path, row, file.width, file.height)
        count, dtype = (file.count, file.dtypes[0]) if palette(file) is None else (3, "uint8")
        _check_file(path, bands, row, count=count, dtype=dtype)
        method = Resampling.average if size_px < side else Resampling.bilinear
        window = Window(left, top, side, side)
        return read_values(file, bands, window, (size_px, size_px), method, row)


def _read_array(path: str, bands: list[int], row: Row, size_px: int) -> Chip:
    """Read a ``.npy`` of ``(H, W, C)``, ``(H, W)``, or ``(C, H, W)`` if C < W."""
    pixels = open_array(path)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3:
        raise DatasetError(f"{path} must be an array (H, W, C), got {pixels.shape}.")
    if pixels.shape[0] < pixels.shape[2]:
        pixels = pixels.transpose(1, 2, 0)
    height, width, count = pixels.shape
    left, top, side = square(path, row, width, height)
    _check_file(path, bands, row, count=count, dtype=str(pixels.dtype))
    part = np.stack([pixels[top : top + side, left : left + side, b - 1] for b in bands])
    valid = np.isfinite(part).all(0) if part.dtype.kind == "f" else np.ones(part.shape[1:], bool)
    valid &= has_data(part, row.get("nodata", np.nan)) & part.any()
    part = np.where(valid, part, 0)
    resized = np.stack([resize(band, (size_px, size_px)) for band in part])
    valid = resize(valid, (size_px, size_px)) >= 0.999
    return resized, valid


def _read_image(path: str, bands: list[int], row: Row, size_px: int) -> Chip:
    """Read a jpg, png, webp, ...; a jpg is decoded at the smallest scale that is large enough."""
    from PIL import Image

    if not os.path.isfile(path):  # a pipe would be waited for
        raise FileNotFoundError(f"The file {path} does not exist.")
    try:
        with Image.open(path) as file:  # the header alone; Pillow refuses bombs here
            width, height = file.size
            left, top, side = square(path, row, width, height)
            dtype = "uint16" if file.mode.startswith("I") else "uint8"
            _check_file(path, bands, row, count=3, dtype=dtype)
            orientation = None if _has_box(row) else file.getexif().get(_ORIENTATION)
            file.draft("RGB", (width * size_px // side, height * size_px // side))
            scale = 1 / round(width / file.size[0])  # 1, 1/2, 1/4 or 1/8 of a jpg
            colors = _convert(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetError(f"{path} is too large to decode: {str(error).rstrip('.')}.") from None
    except DatasetError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(f"{path} cannot be read: {str(error).rstrip('.')}.") from None
    right, bottom = (
        min((start + side) * scale, end) for start, end in zip((left, top), file.size, strict=True)
    )
    box = (left * scale, top * scale, right, bottom)

    def cut(part: Any) -> np.ndarray:
        if part.size != (size_px, size_px) or box != (0, 0, size_px, size_px):
            part = part.resize((size_px, size_px), Image.Resampling.BILINEAR, box)
        return np.asarray(part.transpose(_TURNS[orientation]) if orientation in _TURNS else part)

    pixels = cut(colors)  # (S, S), or (S, S, 3 or 4)
    valid = np.ones((size_px, size_px), bool)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        valid &= pixels[..., 3] > 127
    if np.isfinite(nodata := row.get("nodata", np.nan)):
        every = np.atleast_3d(np.asarray(colors))[..., :3].transpose(2, 0, 1)
        valid &= cut(Image.fromarray(has_data(every, nodata).astype(np.uint8) * 255)) > 253
    pixels = np.stack([pixels if pixels.ndim == 2 else pixels[..., b - 1] for b in bands])
    return pixels, valid


def _convert(image: Any) -> Any:
    """Return an image in gray (of 8 or 32 bits), RGB, or RGBA if it has alpha."""
    if image.mode.startswith("I"):
        return image.convert("I")
    if "A" in image.mode.upper() or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("L", "1") else "RGB")


register_reader("images", FunctionReader(read_chips, pixel_info))
