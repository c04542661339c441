"""What a reader returns to the chip store, and the columns that say what to read."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from geossl.utils.validate import check_fields, validated

__all__ = ["CONSTANT_COLUMNS", "PIXEL_COLUMNS", "Pixels", "hash_rows", "outward"]

PIXEL_COLUMNS = ("bands", "band_names", "dtype", "scale_low", "scale_high", "reader")
CONSTANT_COLUMNS = (*PIXEL_COLUMNS, "scale_tags", "nodata")  # the last two are optional


@dataclass(frozen=True)
class Pixels:
    """Chips of some rows of a scene table, in the order of the rows.

    Attributes:
        chips: ``(M, C, H, W)`` uint8 or uint16.
        valid: ``(M, H, W)`` bool, False where a pixel holds no data; None when all hold data.
        extra: further columns of the scene table known only after decoding, each ``(M,)``.
        bad: position in the rows -> one sentence why it could not be read; its chip is zero.
    """

    chips: np.ndarray
    valid: np.ndarray | None = None
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)


def repeat(value: Any, count: int) -> pd.Categorical:
    """Return a column of one value, which is stored once."""
    missing = pd.isna(value)
    categories = pd.Index([] if missing else [value], dtype=type(value))
    return pd.Categorical.from_codes(np.full(count, -int(missing), np.int8), categories)


@validated
def outward(low: float, high: float) -> tuple[float, float]:
    """Return a range as it is written down: rounded outward to two digits of its width.

    Example:
        >>> outward(13.2, 9871)
        (0.0, 9900.0)
    """
    if not math.isfinite(high - low):
        return low, high
    step = 10.0 ** (math.floor(math.log10(max(high - low, abs(low) * 1e-6, 1e-30))) - 1)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return float(f"{low:.12g}"), float(f"{high if high > low else low + step:.12g}")


def split_constants(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[Hashable, Any]]:
    """Take those `CONSTANT_COLUMNS` from a table that have the same value in all rows.

    Returns:
        The table without them, and name -> value (None where missing), which json can hold.
    """
    values: dict[Hashable, Any] = {}
    for name in (name for name in CONSTANT_COLUMNS if name in table):
        value = table[name].iloc[0]
        if isinstance(value, str | float) and table[name].nunique(dropna=False) == 1:
            values[name] = None if pd.isna(value) else value
    return table.drop(columns=list(values)), values


def join_constants(table: pd.DataFrame, values: dict[Hashable, Any]) -> pd.DataFrame:
    """Give a table the columns back that `split_constants` took from it."""
    filled = {name: np.nan if value is None else value for name, value in values.items()}
    return table.assign(**{str(name): repeat(value, len(table)) for name, value in filled.items()})


@validated
def hash_rows(table: pd.DataFrame) -> bytes:
    """Return a hash of each row of a table."""
    table = table.copy(deep=False)
    table.attrs = {}  # pandas copies them at every step
    for name in table.columns.intersection(CONSTANT_COLUMNS):  # format 1 repeated the values
        if isinstance(table[name].dtype, pd.CategoricalDtype):
            table = table.assign(**{name: table[name].astype(table[name].cat.categories.dtype)})
    text = {name: str for name in table.columns if table[name].dtype == object}
    return pd.util.hash_pandas_object(table.astype(text), index=False).to_numpy().tobytes()


def dequantize_alpha_earth(values: np.ndarray) -> np.ndarray:
    """Return what AlphaEarth's quantized values stand for; NaN for -128, which is missing."""
    values = values.astype(np.float32)
    return np.where(values == -128, np.nan, np.sign(values) * (values / 127.5) ** 2)
