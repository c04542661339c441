"""Columns of a table as one byte a row, for a browser that filters a million rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from geossl.utils.colors import CATEGORIES, GRAY, color_by_column

# of each column: name, kind ("category", "number" or "date"), and entries [{text, color, rest}] of
# the codes from 0, or edges (texts, one more than bins) and a palette; 255 is a missing number
Column = dict[str, Any]
_MOST_BINS, _MISSING = 64, 255
_MONTHS = "January February March April May June July August September October November December"


def encode(values: pd.Series, name: str) -> tuple[Column, np.ndarray]:
    """Encode a column ``(N,)`` as ``(N,)`` uint8 codes, and what they mean.

    Up to twenty categories have a code and a color each, else the nineteen most frequent; others
    share one. Dates and numbers are counted in up to 64 bins of equal width.
    """
    if isinstance(values.dtype, pd.CategoricalDtype) or not _is_measure(values):
        return _encode_category(values, name)
    is_date = pd.api.types.is_datetime64_any_dtype(values)
    numbers = values.to_numpy(float, na_value=np.nan) if not is_date else _days(values)
    known = np.isfinite(numbers)
    low, high = float(numbers[known].min()), float(numbers[known].max())
    if is_date:  # bins of whole days
        width = max(1.0, np.ceil((high - low + 1) / _MOST_BINS))
        bins = max(1, int(np.ceil((high - low + 1) / width)))
        edges = low + width * np.arange(bins + 1)
        texts = [str(np.datetime64(int(day), "D")) for day in edges]
    else:
        bins = _MOST_BINS if high > low else 1
        high = high if high > low else np.nextafter(low + 1, np.inf)
        at = np.linspace(0, 1, bins + 1)
        edges = low * (1 - at) + high * at  # high - low may be no float
        texts = [f"{edge:.4g}" for edge in edges]
    share = (numbers / 2 - edges[0] / 2) / (edges[-1] / 2 - edges[0] / 2)
    codes = np.clip(np.nan_to_num(share) * bins, 0, bins - 1).astype(np.uint8)
    codes[~known] = _MISSING
    ramp = [*color_by_column(pd.Series(np.linspace(0, 1, _MOST_BINS)))[0].palette][:_MOST_BINS]
    shades = [ramp[i] for i in np.linspace(0, _MOST_BINS - 1, bins).round().astype(int)]
    kind = "date" if is_date else "number"
    palette = [*shades, *[GRAY] * (256 - bins)]
    return {"name": name, "kind": kind, "edges": texts, "palette": palette}, codes


def months(times: pd.Series) -> pd.Series:
    """Return the months of dates ``(N,)`` as categories in the order of the year."""
    names = _MONTHS.split()
    return pd.Series(pd.Categorical(times.dt.month_name(), names, ordered=True), times.index)


def day_numbers(times: pd.Series) -> np.ndarray:
    """Return dates ``(N,)`` as int32 days since 1970; the smallest int32 where there is none."""
    days = _days(times)
    return np.where(np.isfinite(days), days, np.iinfo(np.int32).min).astype(np.int32)


def _days(times: pd.Series) -> np.ndarray:
    times = pd.to_datetime(times, utc=True).dt.tz_localize(None)
    days = times.to_numpy("datetime64[D]").astype(float)
    days[times.isna().to_numpy()] = np.nan
    return np.asarray(days)


def is_real(values: pd.Series) -> bool:
    """Return whether a column has real numbers."""
    is_number = pd.api.types.is_numeric_dtype(values)
    return bool(is_number and not pd.api.types.is_complex_dtype(values))


def _is_measure(values: pd.Series) -> bool:
    if not values.notna().any():
        return False
    if pd.api.types.is_datetime64_any_dtype(values):
        return True
    if pd.api.types.is_bool_dtype(values) or not is_real(values):
        return False
    if pd.api.types.is_integer_dtype(values):
        return values.nunique() > len(CATEGORIES)
    return bool(np.isfinite(values.to_numpy(float, na_value=np.nan)).any())


def _encode_category(values: pd.Series, name: str) -> tuple[Column, np.ndarray]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        order = [_word(word) for word in values.cat.categories]
    else:
        order = [_word(word) for word in _sorted(values.dropna().unique())]
    words = values.map(_word, na_action="ignore").astype("string")
    counts = words.value_counts()
    common = set(counts.index[: len(CATEGORIES) - (len(counts) > len(CATEGORIES))])
    shown = [word for word in dict.fromkeys(order) if word in common]
    entries = [
        {"text": word, "color": color, "rest": False}
        for word, color in zip(shown, CATEGORIES, strict=False)
    ]
    codes = words.map({word: code for code, word in enumerate(shown)})
    others = codes.isna() & words.notna()
    codes = codes.where(~others, len(entries))
    if others.any():
        text = f"{len(counts) - len(shown):,} others"
        entries.append({"text": text, "color": GRAY, "rest": True})
    if words.isna().any():
        codes = codes.fillna(len(entries))
        entries.append({"text": "no value", "color": GRAY, "rest": True})
    column = {"name": name, "kind": "category", "entries": entries, "distinct": len(counts)}
    return column, codes.to_numpy(np.uint8)


def _word(value: Any) -> str:
    return str(value) if str(value).strip() else "(empty)"


def _sorted(words: Any) -> list[Any]:
    try:
        return sorted(words)
    except TypeError:  # numbers among words
        return sorted(words, key=str)
