"""Pixels of image files, whole or a box of them: jpg, png, tif, npy; one file a chip or one a band.

The readers of data sets share this: they say in a few columns what to read, and decode nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from geossl.data.pixels import Pixels
from geossl.data.readers import FunctionReader, register_reader
from geossl.data.scenes import BOX
from geossl.datasets.raster.window import pixel_info, read_window

__all__ = ["BOX", "add_reading_columns", "pixel_info", "read_chips"]
_TIFFS = (".tif", ".tiff")
_RASTERS = (*_TIFFS, ".jp2")
_MOST_PX = 2**28  # pixels of a picture or a window; more is a mistake or a bomb
_ORIENTATION = 0x0112  # number of the EXIF tag
_TURNS = {  # its value -> Pillow's Transpose that sets the picture upright
    2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2
}  # fmt: skip

Row: TypeAlias = Mapping[Hashable, Any]


class _Refused(Exception):
    """A file that cannot become a chip, with the reason."""


def add_reading_columns(
    table: pd.DataFrame,
    *,
    reader: str,
    bands: Sequence[int | str] = (1, 2, 3),
    band_names: Sequence[str] = ("red", "green", "blue"),
    dtype: str = "uint8",
    scale: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """A scene table with the columns that tell `read_chips` what to read.

    Args:
        table: scene table. ``path`` is the file of a row; with one file a band it holds
            ``{band}``, which stands for a word of ``bands``. The optional columns `BOX` are the box
            to cut, in pixels of the file from its upper left; missing values mean the whole file.
        reader: the name of the reader's module.
        bands: numbers from 1 of the bands in a file, or the words that ``{band}`` stands for.
        band_names: their names, in the same order.
        dtype: "uint8" or "uint16"; with ``scale`` it is uint16.
        scale: (lowest, highest) value that becomes 1 and 65535; needed for other types of files.

    Raises:
        ValueError: another number of names than of bands, a name with a comma, or another type.
    """
    if len(bands) != len(band_names) or not bands:
        raise ValueError(f"expected a name for each of {list(bands)}, came {list(band_names)}")
    if any("," in str(name) for name in [*bands, *band_names]):
        raise ValueError(f"expected band names without commas, came {list(band_names)}")
    if dtype not in ("uint8", "uint16"):
        raise ValueError(
            f"expected files of uint8 or uint16, came {dtype}; give scale=(lowest, highest)"
        )
    if scale is not None and not scale[0] < scale[1]:
        raise ValueError(f"expected scale=(lowest, highest), came {scale}")
    low, high = scale or (np.nan, np.nan)
    return table.assign(
        bands=",".join(map(str, bands)),
        band_names=",".join(band_names),
        dtype="uint16" if scale is not None else dtype,
        scale_low=low,
        scale_high=high,
        reader=reader,
    )


def read_chips(rows: pd.DataFrame, *, size_px: int) -> Pixels:
    """Pixels of some rows: of each file the largest square about the middle, made ``size_px``.

    With a box the square is as wide as the box is long, about the box's middle, moved and if need
    be shrunk to lie within the file: nothing is stretched. Gray pictures fill all colors, alpha
    becomes "no data", pictures without a box are turned as their EXIF says.

    Args:
        rows: of a table that `add_reading_columns` completed.
        size_px: height and width of a chip.

    Returns:
        Chips of which a pixel without data is zero; a file that cannot be read is in ``bad``.
    """
    info = pixel_info(rows)
    chips = np.zeros((len(rows), len(info["bands"]), size_px, size_px), info["dtype"])
    valid = np.zeros((len(rows), size_px, size_px), bool)
    bad: dict[int, str] = {}
    for i, row in enumerate(rows.to_dict("records")):
        try:
            chips[i], valid[i] = _chip(row, size_px)
        except _Refused as error:
            bad[i] = f"{row['path']}: {error}"
    return Pixels(chips, valid, {"nodata_share": 1 - valid.mean((1, 2))}, bad)


def _chip(row: Row, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    path, bands = str(row["path"]), row["bands"].split(",")
    if "{band}" in path:
        parts = [_file(path.replace("{band}", band), [1], row, size_px) for band in bands]
        valid = np.logical_and.reduce([seen for _, seen in parts])
        return np.concatenate([pixels for pixels, _ in parts]) * valid, valid
    return _file(path, [int(band) for band in bands], row, size_px)


def _file(path: str, bands: list[int], row: Row, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    suffix = Path(path).suffix.lower()
    read = _raster if suffix in _RASTERS else _array if suffix == ".npy" else _picture
    return read(path, bands, row, size_px)


def _boxed(row: Row) -> bool:
    return BOX[0] in row and bool(pd.notna(row[BOX[0]]))


def _square(row: Row, width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side of the square to read, within the file."""
    if width * height > _MOST_PX:
        raise _Refused(f"{width} x {height} pixels are more than {_MOST_PX:,}; cut it first")
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    side = min(width, height)
    if _boxed(row):
        left, top, right, bottom = (float(row[name]) for name in BOX)
        if not (right > left and bottom > top and right > 0 and bottom > 0) or (
            left >= width or top >= height
        ):
            box = left, top, right, bottom
            raise _Refused(f"the box {box} does not lie in its {width} x {height} pixels")
        side = min(side, max(1, round(max(right - left, bottom - top))))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    return min(max(x, 0), width - side), min(max(y, 0), height - side), side


def _raster(path: str, bands: list[int], row: Row, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.windows import Window

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            kind = (
                {"driver": "GTiff"} if path.lower().endswith(_TIFFS) else {}
            )  # no VRT in disguise
            with rasterio.open(path, **kind) as file:
                left, top, side = _square(row, file.width, file.height)
                if max(bands) > file.count:
                    raise _Refused(f"expected band {max(bands)}, it has {file.count}")
                _same_type(file.dtypes[0], row)
                how = Resampling.average if size_px < side else Resampling.bilinear
                window = Window(left, top, side, side)
                return read_window(file, bands, window, (size_px, size_px), how, row)
    except (RasterioError, IndexError) as error:
        raise _Refused(f"cannot be read: {error.__cause__ or error}") from None


def _array(path: str, bands: list[int], row: Row, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """A ``.npy`` of ``(H, W, C)``, ``(C, H, W)`` with fewer bands than pixels, or ``(H, W)``."""
    from tokenize import TokenError

    try:
        with np.errstate(over="ignore"):
            pixels: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except (
        OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError, TokenError,
    ) as error:  # fmt: skip
        raise _Refused(f"cannot be read: {error}") from None
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3:
        raise _Refused(f"expected an array (H, W, C), came {pixels.shape}")
    if pixels.shape[0] < pixels.shape[2]:
        pixels = pixels.transpose(1, 2, 0)
    height, width, count = pixels.shape
    left, top, side = _square(row, width, height)
    if max(bands) > count:
        raise _Refused(f"expected band {max(bands)}, it has {count}")
    _same_type(str(pixels.dtype), row)
    part = np.stack([pixels[top : top + side, left : left + side, b - 1] for b in bands])
    valid = np.isfinite(part).all(0) if part.dtype.kind == "f" else np.ones(part.shape[1:], bool)
    if np.isfinite(row["scale_low"]):
        low, high = row["scale_low"], row["scale_high"]
        part = 1 + np.clip((np.nan_to_num(part) - low) / (high - low), 0, 1) * 65534
    resized = np.stack([_resized(band, size_px) for band in part])
    seen = _resized(valid, size_px) >= 0.999
    return np.where(seen, np.round(resized), 0).astype(row["dtype"]), seen


def _resized(band: np.ndarray, size_px: int) -> np.ndarray:
    """``(S, S)`` float32 made ``(size_px, size_px)``, averaged where it shrinks."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(band, np.float32))
    return np.asarray(picture.resize((size_px, size_px), Image.Resampling.BILINEAR))


def _picture(path: str, bands: list[int], row: Row, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """A jpg, png, webp, ...; a jpg is decoded at the smallest scale that is large enough."""
    from PIL import Image

    try:
        with Image.open(path) as file:  # the header alone; Pillow refuses bombs here
            width, height = file.size
            left, top, side = _square(row, width, height)
            if max(bands) > 3:
                raise _Refused(f"expected band {max(bands)}, a picture has three")
            _same_type("uint16" if file.mode.startswith("I") else "uint8", row)
            way = None if _boxed(row) else file.getexif().get(_ORIENTATION)
            file.draft("RGB", (width * size_px // side, height * size_px // side))
            scale = 1 / round(width / file.size[0])  # a jpg comes at 1, 1/2, 1/4 or 1/8
            colors, alpha = _colors(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _Refused(f"is too large to decode: {error}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise _Refused(f"cannot be read: {error}") from None
    right, bottom = (
        min((at + side) * scale, end) for at, end in zip((left, top), file.size, strict=True)
    )
    box = (left * scale, top * scale, right, bottom)

    def squared(part: Any) -> np.ndarray:
        if part.size != (size_px, size_px) or box != (0, 0, size_px, size_px):
            part = part.resize((size_px, size_px), Image.Resampling.BILINEAR, box)
        return np.asarray(part.transpose(_TURNS[way]) if way in _TURNS else part)

    pixels = squared(colors)  # (S, S) or (S, S, 3)
    pixels = np.stack([pixels if pixels.ndim == 2 else pixels[..., b - 1] for b in bands])
    seen = np.ones((size_px, size_px), bool)
    if alpha is not None:
        seen = squared(alpha) > 127
        pixels = np.where(seen, pixels, 0)
    return pixels.astype(row["dtype"], copy=False), seen


def _colors(picture: Any) -> tuple[Any, Any]:
    """The colors of a picture, as one in gray or RGB, and its alpha, another one or None."""
    if picture.mode.startswith("I") or picture.mode in ("L", "1"):
        return picture.convert("L" if picture.mode in ("L", "1") else "I"), None
    if "A" in picture.mode or "transparency" in picture.info:
        whole = picture.convert("RGBA")
        return whole.convert("RGB"), whole.getchannel("A")
    return picture.convert("RGB"), None


def _same_type(found: str, row: Row) -> None:
    if not np.isfinite(row["scale_low"]) and found != row["dtype"]:
        raise _Refused(f"expected {row['dtype']}, came {found}; give scale=(lowest, highest)")


register_reader("images", FunctionReader(read_chips, pixel_info))
