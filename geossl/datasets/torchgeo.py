"""A data set of torchgeo as a source: each sample of a NonGeoDataset becomes a row.

The table keeps the class and its arguments, so that any process can make the data set again.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.data.pixels import Pixels
from geossl.data.readers import FunctionReader, register_reader
from geossl.datasets.raster import chips as images
from geossl.datasets.raster.header import COLORS
from geossl.datasets.raster.window import pixel_info

__all__ = ["pixel_info", "read_chips", "torchgeo"]

_MOST = {"uint8": 255, "uint16": 65535}
_FAILS = (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, AssertionError)


def torchgeo(
    dataset: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    bands: Sequence[int] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: str | None = None,
    scale: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Scene table of a torchgeo data set of images; its first sample alone is read.

    Args:
        dataset: name of a NonGeoDataset of ``torchgeo.datasets``, e.g. "EuroSAT100".
        arguments: of its constructor, as json holds them, e.g. ``{"root": ..., "split": "train"}``.
            Its data must be there: nothing is downloaded.
        bands: numbers from 1 of the channels to keep; all when None.
        band_names: their names; ``red, green, blue`` of three, else ``band_1, ...`` when None.
        dtype: "uint8" or "uint16" that the values are rounded to; by the first sample when None.
        scale: (lowest, highest) value that becomes 1 and 65535; needed for values that are not
            whole.

    Returns:
        A row a sample, each a location of its own. torchgeo tells coordinates of a sample
        (``lon, lat``), and its ``label`` unless the set has ``targets``, only together with its
        pixels: they are missing here, and come into the chip store's table with the chips.

    Raises:
        ImportError: torchgeo is not installed.
        ValueError: no such data set, or arguments, samples or values that cannot be used.

    Source:
        torchgeo (arXiv 2111.08872): samples are dicts with ``image`` (C, H, W).
    """
    given = {key: os.fspath(value) if isinstance(value, os.PathLike) else value
             for key, value in (arguments or {}).items()}  # fmt: skip
    if isinstance(given.get("root"), str):
        given["root"] = os.path.abspath(given["root"])
    try:
        recipe = json.dumps({"dataset": dataset, "arguments": given}, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected arguments that json can hold, came {given}: {error}") from None
    data = _made(recipe)
    if len(data) == 0:
        raise ValueError(f"expected samples in torchgeo's {dataset} with {given}, came none")
    try:
        sample = data[0]
        image = _image(sample)
    except _FAILS as error:
        raise ValueError(f"the first sample of {dataset} cannot be read: {error}") from None
    count = image.shape[0]
    numbers = list(bands or range(1, count + 1))
    if min(numbers) < 1 or max(numbers) > count:
        raise ValueError(f"expected bands from 1 to {count} of {dataset}, came {numbers}")
    names = list(COLORS) if count == 3 else [f"band_{i}" for i in range(1, count + 1)]
    if dtype is None and scale is None:
        dtype = _whole(image, dataset)
    told = [key for key in ("label", "lon", "lat") if _value(sample.get(key)) is not None]
    number = np.arange(len(data))
    table = pd.DataFrame(
        {
            "path": [f"torchgeo/{dataset}/{i}" for i in number],
            "location": number,
            "label": _targets(data),
            "sample": number,
            "recipe": recipe,
            "told": ",".join(told),
        }
    )
    return images.add_pixel_columns(
        scenes.check(table, positions=False, source=f"torchgeo's {dataset}"),
        reader="torchgeo", bands=numbers, scale=scale, dtype=dtype or "uint16",
        band_names=band_names or [names[i - 1] for i in numbers],
    )  # fmt: skip


def read_chips(rows: pd.DataFrame, *, size_px: int) -> Pixels:
    """Pixels of some rows: of each sample the middle square, made ``size_px``.

    Args:
        rows: of `torchgeo`'s table.
        size_px: height and width of a chip.

    Returns:
        Chips; what the samples tell of label, lon and lat are further columns.
    """
    info = pixel_info(rows)
    chips = np.zeros((len(rows), len(info["bands"]), size_px, size_px), info["dtype"])
    valid = np.zeros((len(rows), size_px, size_px), bool)
    told = [key for key in str(rows["told"].iloc[0]).split(",") if key]
    extra: dict[str, list[Any]] = {key: [] for key in told}
    bad: dict[int, str] = {}
    for i in range(len(rows)):
        row = rows.iloc[i]
        sample: Mapping[str, Any] = {}
        classes = None
        try:
            data = _made(str(row["recipe"]))
            sample, classes = data[int(row["sample"])], getattr(data, "classes", None)
            chips[i], valid[i] = _chip(_image(sample), row, size_px)
        except _FAILS as error:
            bad[i] = f"{row['path']}: {error}"
        for key in told:
            value = _value(sample.get(key))
            extra[key].append(_class(value, classes) if key == "label" else value)
    columns = {key: _column(key, values) for key, values in extra.items()}
    for key, most in (("lon", 180), ("lat", 90)):
        for i in np.flatnonzero(np.abs(columns.get(key, np.zeros(0))) > most).tolist():
            bad[i] = f"{rows['path'].iloc[i]}: its {key} {columns[key][i]} is out of range"
    return Pixels(chips, valid, {"nodata_share": 1 - valid.mean((1, 2)), **columns}, bad)


@lru_cache(maxsize=4)
def _made(recipe: str) -> Any:
    """The data set of a recipe; nothing but a NonGeoDataset of torchgeo, and no download."""
    try:
        from torchgeo import datasets
    except ImportError as error:
        raise ImportError(
            f"expected torchgeo for this data set ({error}); install it: pip install torchgeo"
        ) from None
    asked = json.loads(recipe)
    name, arguments = str(asked["dataset"]), asked["arguments"]
    kind = getattr(datasets, name, None)
    if not inspect.isclass(kind) or not issubclass(kind, datasets.NonGeoDataset):
        raise ValueError(f"expected a NonGeoDataset of torchgeo.datasets, came {name!r}")
    if arguments.get("download"):
        raise ValueError(
            f"expected the data of {name} to be there; download it with torchgeo first"
        )
    try:
        return kind(**arguments)
    except _FAILS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"torchgeo cannot make {name} with {arguments}: {reason}") from None


def _image(sample: Any) -> np.ndarray:
    """The image ``(C, H, W)`` of a sample."""
    image = np.asarray(sample["image"]) if "image" in sample else np.zeros(0)
    if image.ndim != 3 or not image.size or image.dtype.kind not in "uif":
        raise ValueError(
            f"expected samples with an image (C, H, W) of numbers, came {image.shape} among "
            f"{sorted(map(str, sample))}"
        )
    return image


def _whole(image: np.ndarray, dataset: str) -> str:
    """The smallest type of chips that holds the values, which must be whole."""
    seen = image[np.isfinite(image)]
    for name, most in _MOST.items():
        if seen.size and (seen == np.round(seen)).all() and 0 <= seen.min() <= seen.max() <= most:
            return name
    low, high = (seen.min(), seen.max()) if seen.size else (np.nan, np.nan)
    raise ValueError(
        f"expected whole values of 0 to 65535 from {dataset}, came {low:g} to {high:g}; give "
        "scale=(lowest, highest)"
    )


def _chip(image: np.ndarray, row: pd.Series, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    import torch
    from torch.nn.functional import interpolate

    numbers = [int(band) - 1 for band in row["bands"].split(",")]
    if max(numbers) >= image.shape[0]:
        raise ValueError(f"expected {max(numbers) + 1} bands, came {image.shape[0]}")
    side = min(image.shape[1:])
    top, left = ((length - side) // 2 for length in image.shape[1:])
    part = image[numbers, top : top + side, left : left + side].astype(np.float64)
    seen = np.asarray(np.isfinite(part).all(0))
    part = np.where(seen, part, 0)
    if np.isfinite(row["scale_low"]):
        low, high = row["scale_low"], row["scale_high"]
        part = 1 + np.clip((part - low) / (high - low), 0, 1) * 65534
    elif part.min() < 0 or part.max() > _MOST[row["dtype"]]:
        raise ValueError(
            f"its values {part.min():g} to {part.max():g} are no {row['dtype']}; give dtype= or "
            "scale=(lowest, highest)"
        )
    both = torch.from_numpy(np.concatenate([part, seen[None]]))[None]  # (1, C + 1, S, S)
    small = interpolate(both, (size_px, size_px), mode="bilinear", antialias=True)[0].numpy()
    valid = small[-1] >= 0.999
    return np.where(valid, np.round(small[:-1]), 0).astype(row["dtype"]), valid


def _targets(data: Any) -> list[str | None] | None:
    """Labels of all samples, where the set holds them as torchvision's folders of classes do."""
    targets = getattr(data, "targets", None)
    if not isinstance(targets, list) or len(targets) != len(data):
        return None
    return [_class(_value(target), getattr(data, "classes", None)) for target in targets]


def _class(label: Any, classes: Any) -> str | None:
    """The name of a label, if the set has names and the label is a number of one."""
    if isinstance(label, int) and isinstance(classes, list | tuple) and 0 <= label < len(classes):
        return str(classes[label])
    return None if label is None else str(label)


def _value(value: Any) -> int | float | str | None:
    """A label or a coordinate as a plain value; None where there is none, or several."""
    if value is None or isinstance(value, str):
        return value
    array = np.asarray(value)
    return array.reshape(()).item() if array.size == 1 and array.dtype.kind in "biuf" else None


def _column(key: str, values: list[Any]) -> np.ndarray:
    if key == "label":
        return np.array(["" if value is None else value for value in values])
    return np.array([np.nan if value is None else float(value) for value in values])


register_reader("torchgeo", FunctionReader(read_chips, pixel_info))
