"""A data set of torchgeo as a source: each sample of a NonGeoDataset becomes a row.

The table keeps the class and its arguments, so that any process can make the data set again.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.data.pixels import Pixels, outward, repeat
from geossl.data.readers import FunctionReader, register_reader
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.header import COLORS
from geossl.datasets.raster.window import pixel_info, to_stored_units
from geossl.utils.validate import validated

__all__ = ["torchgeo"]

_MAX_VALUE: dict[Literal["uint8", "uint16"], int] = {"uint8": 255, "uint16": 65535}
_SAMPLE_COLUMNS = ("label", "lon", "lat")  # what samples may hold beside the image
_ERRORS = (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, AssertionError)


@validated
def torchgeo(
    dataset: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    bands: Sequence[int] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: Literal["uint8", "uint16"] | None = None,
    scale: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Build the scene table of a torchgeo data set of images; only its first sample is read.

    Args:
        dataset: name of a NonGeoDataset of ``torchgeo.datasets``, e.g. "EuroSAT100".
        arguments: of its constructor, as json holds them, e.g. ``{"root": ..., "split": "train"}``.
            Its data must be there: nothing is downloaded.
        bands: numbers from 1 of the channels to keep; all if None.
        band_names: their names; ``red, green, blue`` of three, else ``band_1, ...`` if None.
        dtype: type of the chips, to which the values are rounded; by the first sample if None.
        scale: (lowest, highest) value that becomes 1 and 65535; needed for values that are not
            whole.

    Returns:
        One row per sample, each a location of its own. torchgeo gives the coordinates of a sample
        (``lon, lat``), and its ``label`` unless the set has ``targets``, only together with its
        pixels: they are missing here, and come into the chip store's table with the chips.

    Raises:
        ImportError: torchgeo is not installed.
        ValueError: no such data set, or arguments, samples or values that cannot be used.

    Source:
        torchgeo (arXiv 2111.08872): samples are dicts with ``image`` (C, H, W).
    """
    options = {key: os.fspath(value) if isinstance(value, os.PathLike) else value
               for key, value in (arguments or {}).items()}  # fmt: skip
    if isinstance(options.get("root"), str):
        options["root"] = os.path.abspath(options["root"])
    try:
        recipe = json.dumps({"dataset": dataset, "arguments": options}, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"`arguments` must be json, got {options}: {error}.") from None
    data = _make_dataset(recipe)
    if len(data) == 0:
        raise ValueError(f"torchgeo's {dataset} has no samples with `arguments` {options}.")
    try:
        sample = data[0]
        image = _get_image(sample)
    except _ERRORS as error:
        raise ValueError(f"The first sample of {dataset} cannot be read: {error}.") from None
    count = image.shape[0]
    numbers = list(range(1, count + 1) if bands is None else bands)
    if not numbers or min(numbers) < 1 or max(numbers) > count:
        raise ValueError(f"`bands` must be numbers from 1 to {count}, got {numbers}.")
    names = COLORS if count == 3 else [f"band_{i}" for i in range(1, count + 1)]
    smallest = "uint16" if dtype or scale else _smallest_dtype(image, dataset)
    number = np.arange(len(data))
    table = pd.DataFrame(
        {
            "path": [f"torchgeo/{dataset}/{i}" for i in number],
            "location": number,
            "label": _get_targets(data),
            "sample": number,
            "recipe": repeat(recipe, len(data)),
            "sample_columns": repeat(
                ",".join(key for key in _SAMPLE_COLUMNS if _scalar(sample.get(key)) is not None),
                len(data),
            ),
        }
    )
    return add_pixel_columns(
        scenes.check(table, positions=False, source=f"torchgeo's {dataset}"),
        reader="torchgeo", bands=numbers, scale=scale, dtype=dtype or smallest,
        band_names=band_names or [names[i - 1] for i in numbers],
    )  # fmt: skip


def read_chips(rows: pd.DataFrame, *, size_px: int) -> Pixels:
    """Read some rows: of each sample the center square, resized to ``size_px``.

    Args:
        rows: of `torchgeo`'s table.
        size_px: height and width of a chip.

    Returns:
        Chips; label, lon and lat of the samples are further columns.
    """
    info = pixel_info(rows)
    chips = np.zeros((len(rows), len(info["bands"]), size_px, size_px), info["dtype"])
    valid = np.zeros((len(rows), size_px, size_px), bool)
    keys = [key for key in str(rows["sample_columns"].iloc[0]).split(",") if key]
    extra: dict[str, list[Any]] = {key: [] for key in keys}
    bad: dict[int, str] = {}
    for i, row in enumerate(rows.to_dict("records")):
        sample: Mapping[str, Any] = {}
        classes = None
        try:
            data = _make_dataset(str(row["recipe"]))
            sample, classes = data[int(row["sample"])], getattr(data, "classes", None)
            chips[i], valid[i] = _cut_chip(_get_image(sample), row, size_px)
        except _ERRORS as error:
            bad[i] = f"{row['path']}: {error}"
        for key in keys:
            value = _scalar(sample.get(key))
            extra[key].append(_class_name(value, classes) if key == "label" else value)
    columns = {key: _to_column(key, values) for key, values in extra.items()}
    for key, limit in (("lon", 180), ("lat", 90)):
        for i in np.flatnonzero(np.abs(columns.get(key, np.zeros(0))) > limit).tolist():
            bad[i] = f"{rows['path'].iloc[i]}: its {key} {columns[key][i]} is out of range"
    return Pixels(chips, valid, {"nodata_share": 1 - valid.mean((1, 2)), **columns}, bad)


@lru_cache(maxsize=4)
def _make_dataset(recipe: str) -> Any:
    """Make the data set of a recipe; nothing but a NonGeoDataset of torchgeo, and no download."""
    try:
        from torchgeo import datasets
    except ImportError as error:
        raise ImportError(
            f"This data set needs the package torchgeo ({error}). Run: pip install torchgeo."
        ) from None
    options = json.loads(recipe)
    name, arguments = str(options["dataset"]), options["arguments"]
    cls = getattr(datasets, name, None)
    if not inspect.isclass(cls) or not issubclass(cls, datasets.NonGeoDataset):
        raise ValueError(
            f"`dataset` must be the name of a NonGeoDataset of torchgeo.datasets, got {name!r}."
        )
    if arguments.get("download"):
        raise ValueError(
            f"`arguments` must not have download=True. Download {name} with torchgeo first."
        )
    try:
        return cls(**arguments)
    except _ERRORS as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(f"torchgeo cannot make {name} with {arguments}: {reason}.") from None


def _get_image(sample: Any) -> np.ndarray:
    """Return the image ``(C, H, W)`` of a sample."""
    image = np.asarray(sample["image"]) if "image" in sample else np.zeros(0)
    if image.ndim != 3 or not image.size or image.dtype.kind not in "uif":
        raise ValueError(
            f"samples must have an image (C, H, W) of numbers, got {image.shape} among "
            f"{sorted(map(str, sample))}"
        )
    return image


def _smallest_dtype(image: np.ndarray, dataset: str) -> Literal["uint8", "uint16"]:
    """Return the smallest type of chips that holds the values, which must be whole."""
    values = image[np.isfinite(image)]
    low, high = (values.min(), values.max()) if values.size else (np.nan, np.nan)
    for name, limit in _MAX_VALUE.items():
        if values.size and (values == np.round(values)).all() and 0 <= low <= high <= limit:
            return name
    raise ValueError(
        f"The values of {dataset} must be whole numbers from 0 to 65535, got {low:g} to {high:g}. "
        f"Pass `scale={outward(float(low), float(high))}`, or the range of all samples."
    )


def _cut_chip(
    image: np.ndarray, row: Mapping[Any, Any], size_px: int
) -> tuple[np.ndarray, np.ndarray]:
    import torch
    from torch.nn.functional import interpolate

    numbers = [int(band) - 1 for band in row["bands"].split(",")]
    if max(numbers) >= image.shape[0]:
        raise ValueError(f"it has {image.shape[0]} bands, so there is no band {max(numbers) + 1}")
    side = min(image.shape[1:])
    top, left = ((length - side) // 2 for length in image.shape[1:])
    part = image[numbers, top : top + side, left : left + side].astype(np.float64)
    finite = np.asarray(np.isfinite(part).all(0))
    part = np.where(finite, part, 0)
    if np.isfinite(row["scale_low"]):
        part = to_stored_units(part, row)
    elif part.min() < 0 or part.max() > _MAX_VALUE[row["dtype"]]:
        raise ValueError(
            f"its values {part.min():g} to {part.max():g} do not fit into {row['dtype']}; pass "
            "`dtype` or `scale=(lowest, highest)`"
        )
    both = torch.from_numpy(np.concatenate([part, finite[None]]))[None]  # (1, C + 1, S, S)
    resized = interpolate(both, (size_px, size_px), mode="bilinear", antialias=True)[0].numpy()
    valid = resized[-1] >= 0.999
    return np.where(valid, np.round(resized[:-1]), 0).astype(row["dtype"]), valid


def _get_targets(data: Any) -> list[str | None] | None:
    """Return labels of all samples, where the set holds them as torchvision's ImageFolder does."""
    targets = getattr(data, "targets", None)
    if not isinstance(targets, list) or len(targets) != len(data):
        return None
    return [_class_name(_scalar(target), getattr(data, "classes", None)) for target in targets]


def _class_name(label: Any, classes: Any) -> str | None:
    """Return the name of a label, if the set has names and the label is the number of one."""
    if isinstance(label, int) and isinstance(classes, list | tuple) and 0 <= label < len(classes):
        return str(classes[label])
    return None if label is None else str(label)


def _scalar(value: Any) -> int | float | str | None:
    """Return a label or a coordinate as a plain value; None where there is none, or several."""
    if value is None or isinstance(value, str):
        return value
    array = np.asarray(value)
    return array.reshape(()).item() if array.size == 1 and array.dtype.kind in "biuf" else None


def _to_column(key: str, values: list[Any]) -> np.ndarray:
    if key == "label":
        return np.array(["" if value is None else value for value in values])
    return np.array([np.nan if value is None else float(value) for value in values])


register_reader("torchgeo", FunctionReader(read_chips, pixel_info))
