"""Look at some pixels of a data set, to suggest a scale and to suspect values for "no data"."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from geossl.data.files import DatasetError, open_array
from geossl.data.notices import DataWarning
from geossl.data.pixels import outward
from geossl.datasets.raster.files import is_read_by_gdal, open_raster, palette

__all__ = ["inspect_pixels", "with_scale"]

Scale = tuple[float, float]
_FILES = 4  # rows to look at
_WINDOW_PX = 96  # nine windows of a file, its corners among them, where borders without data are
_CLIPPED = 0.01  # share of the pixels that a scale may cut off
_RARE = 0.002  # share of the pixels that a value for "no data" has at least
_BORDER = 0.1  # and 0, which may also be dark


@dataclass(frozen=True)
class _Sample:
    """Some pixels.

    Attributes:
        path: of the first file.
        dtype: of the first file.
        values: ``(C, n)`` float64 of pixels that hold data by the file's own mask.
        tags: (scale, offset) of each band by the file's tags; None without.
        masked: the files have a mask, alpha or a value for "no data".
    """

    path: str
    dtype: str
    values: np.ndarray
    tags: np.ndarray | None
    masked: bool


def with_scale(paths: Iterable[str], pixels: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of `add_pixel_columns` as `inspect_pixels` finds them right."""
    scale = inspect_pixels(
        paths, bands=pixels["bands"], scale=pixels["scale"], nodata=pixels.get("nodata")
    )
    return {**pixels, "scale": scale, "scale_tags": pixels["scale"] == "tags"}


def inspect_pixels(
    paths: Iterable[str],
    *,
    bands: Sequence[int | str],
    scale: Scale | Literal["tags"] | None,
    nodata: float | None,
) -> Scale | None:
    """Check by some pixels that a data set is read as it is meant; warn where it looks wrong.

    Args:
        paths: of the rows of a scene table; ``{band}`` stands for a word of ``bands``.
        bands: to read.
        scale: what the user passed; "tags" for the files' own scale and offset.
        nodata: likewise.

    Returns:
        The scale as numbers, or None.

    Raises:
        ValueError: complex pixels, a type that needs a scale, or "tags" without tags.
    """
    if isinstance(scale, tuple | list) and not scale[0] < scale[1]:
        raise ValueError(f"`scale` must be (lowest, highest), got {tuple(scale)}.")
    sample = _take_sample(paths, bands)
    if sample is None:
        if scale == "tags":
            raise ValueError("`scale` must be (lowest, highest): the files have no scale tags.")
        return scale
    path, tags, values = sample.path, sample.tags, sample.values
    if sample.dtype.startswith("complex"):
        raise ValueError(
            f"{path} has complex pixels, which chips cannot hold. Write their magnitude to other "
            "files first, e.g. with numpy.abs."
        )
    if nodata is not None:
        same = np.isclose(values, nodata, rtol=1e-6, atol=0)
        values = values[:, ~(same.all(0) if nodata == 0 else same.any(0))]
    elif values.size:
        _suspect_nodata(sample)
        values = values[:, ~np.isin(values, _extremes(values, sample.masked)).any(0)]
    if scale == "tags":
        if tags is None:
            raise ValueError(
                f"{path} has no scale tags. Pass `scale={_in_words(_range_of(values))}`."
            )
        return _range_of(values * tags[:, :1] + tags[:, 1:])
    advice = f"`scale={_in_words(_range_of(values))}`"
    if tags is not None:
        advice += (
            f', or `scale="tags"` for the files\' own scale ({tags[0, 0]:g}) and offset '
            f"({tags[0, 1]:g})"
        )
    if scale is None and sample.dtype not in ("uint8", "uint16"):
        raise ValueError(f"Files must be uint8 or uint16, got {sample.dtype}. Pass {advice}.")
    if scale is not None and values.size:
        low, high = ((values < scale[0]).mean(), (values > scale[1]).mean())
        if max(low, high) > _CLIPPED:
            warnings.warn(
                f"`scale` = ({scale[0]:g}, {scale[1]:g}) cuts off {low:.0%} of the pixels below "
                f"and {high:.0%} above, e.g. in {path}. They go from {values.min():g} to "
                f"{values.max():g}: pass {advice}.",
                DataWarning,
                stacklevel=5,
            )
    return scale


def _in_words(scale: Scale) -> str:
    low, high = (int(value) if value.is_integer() else value for value in scale)
    return f"({low}, {high})"


def _range_of(values: np.ndarray) -> Scale:
    """Return a scale that holds nearly all values."""
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [0.1, 99.9])
    return outward(float(low), float(high))


def _suspect_nodata(sample: _Sample) -> None:
    """Warn of values that many pixels have, and that lie far from all others, or 0 at borders."""
    for value in _extremes(sample.values, sample.masked):
        share = (sample.values == value).any(0).mean()
        is_short = value.is_integer() and abs(value) < 1e15
        number = str(int(value)) if is_short else repr(value).replace("e+", "e")
        warnings.warn(
            f"{share:.0%} of the pixels are {number}, e.g. in {sample.path}, which looks like a "
            f"value for no data that the file does not declare. Pass `nodata={number}` if it is.",
            DataWarning,
            stacklevel=6,
        )


def _extremes(values: np.ndarray, masked: bool) -> list[float]:
    """Return values that look like "no data" among ``(C, n)``."""
    suspects = []
    flat = np.sort(values, axis=None)
    for value, rest in (
        (flat[0], flat[np.searchsorted(flat, flat[0], "right") :]),
        (flat[-1], flat[: np.searchsorted(flat, flat[-1], "left")]),
    ):
        if not rest.size or len(flat) - len(rest) < _RARE * len(flat):
            continue
        low, high = np.percentile(rest, [1, 99])
        nearest = rest[0] if value == flat[0] else rest[-1]
        far = abs(value - nearest) > max(high - low, 1e-6 * abs(value)) / 2
        if far and high > low and (value < 0 <= rest[0] or _is_usual(value)):
            suspects.append(float(value))
    zero = (values == 0).all(0)
    if not masked and 0 not in suspects and _BORDER < zero.mean() < 1:
        others = values[:, ~zero]
        low, high = np.percentile(others, [1, 99])
        near = (np.abs(others) <= 0.02 * max(abs(low), abs(high))).all(0).mean() * (1 - zero.mean())
        if near < 0.2 * zero.mean() and len(np.unique(others)) >= 16:
            suspects.append(0.0)
    return suspects


def _is_usual(value: float) -> bool:
    """Return whether a number is one that stands for "no data": a limit of a type, nines, huge."""
    limits = {-128, 127, 255, -32768, -32767, 32767, 65535}
    nines = str(abs(int(value))) if abs(value) < 1e15 else ""
    return value in limits or abs(value) >= 1e9 or (len(nines) > 2 and set(nines) == {"9"})


def _take_sample(paths: Iterable[str], bands: Sequence[int | str]) -> _Sample | None:
    """Return pixels of some rows; None if none of them is a raster or an array."""
    names = pd.unique(pd.Series(list(paths), dtype=object).dropna())
    places = np.unique(np.linspace(0, len(names) - 1, _FILES).astype(int)) if len(names) else ()
    parts = []
    for place in places:
        path = str(names[place])
        try:
            if "{band}" in path:
                files = [_read_file(path.replace("{band}", str(band)), [1]) for band in bands]
                parts.append(_stack([part for part in files if part is not None], path))
            else:
                parts.append(_read_file(path, [int(band) for band in bands]))
        except (DatasetError, FileNotFoundError, IndexError):
            continue
    samples = [part for part in parts if part is not None]
    if not samples:
        return None
    values = np.concatenate([sample.values for sample in samples], axis=1)
    return replace(samples[0], values=values, masked=any(sample.masked for sample in samples))


def _stack(parts: list[_Sample], path: str) -> _Sample | None:
    """Return the bands of files of one band each as one sample."""
    if not parts:
        return None
    count = min(part.values.shape[1] for part in parts)  # they may differ in resolution
    tags = [part.tags[0] for part in parts if part.tags is not None]
    values = np.concatenate([part.values[:, :count] for part in parts])
    masked = any(part.masked for part in parts)
    known = np.array(tags) if len(tags) == len(parts) else None
    return _Sample(path, parts[0].dtype, values, known, masked)


def _read_file(path: str, bands: list[int]) -> _Sample | None:
    """Return pixels of a raster or an array; None of a picture, or one with a palette."""
    if path.lower().endswith(".npy"):
        return _read_array(path, bands)
    if not is_read_by_gdal(path):
        return None
    from rasterio.enums import MaskFlags

    with open_raster(path) as file:
        if palette(file) is not None:
            return None
        dtype = file.dtypes[0]
        if dtype.startswith("complex"):
            return _Sample(path, dtype, np.zeros((len(bands), 0)), None, False)
        tags = np.array([(file.scales[band - 1], file.offsets[band - 1]) for band in bands])
        parts = [
            (file.read(bands, window=window), file.read_masks(bands, window=window).all(0))
            for window in _windows(file.width, file.height)
        ]
        masked = file.nodata is not None or any(
            MaskFlags.all_valid not in flags for flags in file.mask_flag_enums
        )
    values = np.concatenate([pixels[:, valid] for pixels, valid in parts], axis=1)
    return _Sample(path, dtype, _finite(values), tags if (tags != (1, 0)).any() else None, masked)


def _read_array(path: str, bands: list[int]) -> _Sample:
    pixels = open_array(path)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3:
        raise DatasetError(f"{path} must be an array (H, W, C), got {pixels.shape}.")
    if pixels.shape[0] < pixels.shape[2]:
        pixels = pixels.transpose(1, 2, 0)
    step = -(-max(pixels.shape[:2]) // 256)
    values = np.array(pixels[::step, ::step, [band - 1 for band in bands]])
    if values.dtype.kind not in "buif":
        kind = "complex" if values.dtype.kind == "c" else str(values.dtype)
        return _Sample(path, kind, np.zeros((len(bands), 0)), None, False)
    values = values.reshape(-1, len(bands)).T
    return _Sample(path, str(pixels.dtype), _finite(values), None, False)


def _finite(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return values[:, np.isfinite(values).all(0)]


def _windows(width: int, height: int) -> list[Any]:
    """Return windows all over a file: all of a small one, else nine with the corners."""
    from rasterio.windows import Window

    if width * height <= (4 * _WINDOW_PX) ** 2:
        return [Window(0, 0, width, height)]
    w, h = min(width, _WINDOW_PX), min(height, _WINDOW_PX)
    return [
        Window((width - w) * i // 2, (height - h) * j // 2, w, h)
        for j in range(3)
        for i in range(3)
    ]
