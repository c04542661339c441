"""Colors of values, with their legends: categories that all eyes tell apart, ramps that read."""

from __future__ import annotations

import base64
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

# Okabe and Ito's eight colors, told apart with every kind of color vision; black made a dark gray
PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#444444",
)  # fmt: skip
GRAY = "#b0b0b0"
# Viridis at eight steps: lightness grows with the value, for every kind of color vision
RAMP = (
    "#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725",
)  # fmt: skip

Paint: TypeAlias = dict[str, Any]  # color: packed codes or rgb; palette: colors of the codes


def pack_colors(values: np.ndarray) -> str:
    """The bytes of an array as base64 text."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def color_by_column(values: pd.Series) -> tuple[Paint, dict[str, Any]]:
    """Colors of values ``(N,)`` and a legend: words by category, dates and numbers by a ramp.

    The ramp goes from the 2nd to the 98th percentile, so that a few odd values leave the others
    apart; missing values are gray.
    """
    name = str(values.name)
    dates = pd.api.types.is_datetime64_any_dtype(values)
    many = pd.api.types.is_integer_dtype(values) and values.nunique() > len(PALETTE)
    if not (dates or many or pd.api.types.is_float_dtype(values)):
        return by_category(values)
    if dates:
        number = values.astype("int64").to_numpy(float)
        number[values.isna().to_numpy()] = np.nan
    else:
        number = values.to_numpy(float, na_value=np.nan)
    known = np.isfinite(number)
    if not known.any():
        return by_category(pd.Series([None] * len(values), name=name, dtype=object))
    low, high = np.percentile(number[known], [2, 98])
    span = high - low if high > low else 1.0
    share = np.clip((number - low) / span, 0, 1)
    code = np.where(known, np.round(np.nan_to_num(share) * 63), 64).astype(np.uint8)
    if dates:
        ends = [f"{t:%Y-%m-%d}" for t in (values.min(), values.max())]
    else:
        ends = [f"{v:.3g}" for v in (low, high)]
    legend: dict[str, Any] = {"title": name, "ramp": list(RAMP), "low": ends[0], "high": ends[1]}
    if not known.all():
        legend["entries"] = [[GRAY, f"no value ({int((~known).sum()):,})"]]
    return {"color": pack_colors(code), "palette": [*_ramp(64), GRAY]}, legend


def _ramp(steps: int) -> list[str]:
    anchors = np.array([_rgb(c) for c in RAMP], float)
    at = np.linspace(0, len(anchors) - 1, steps)
    low = np.minimum(at.astype(int), len(anchors) - 2)
    mixed = anchors[low] + (at - low)[:, None] * (anchors[low + 1] - anchors[low])
    return ["#{:02x}{:02x}{:02x}".format(*(int(v + 0.5) for v in c)) for c in mixed]


def by_category(values: pd.Series) -> tuple[Paint, dict[str, Any]]:
    """Colors of words ``(N,)``: the seven or eight most frequent, others and missing in gray."""
    words = values.astype("string")
    counts = words.value_counts()
    shown = sorted(counts.index[: len(PALETTE) - (len(counts) > len(PALETTE))])
    code = words.map({word: i for i, word in enumerate(shown)}).fillna(len(shown)).to_numpy(int)
    entries = [[c, f"{word} ({counts[word]:,})"] for c, word in zip(PALETTE, shown, strict=False)]
    if len(counts) > len(shown):
        rest = int(counts.sum() - counts[shown].sum())
        entries.append([GRAY, f"{len(counts) - len(shown):,} others ({rest:,})"])
    if words.isna().any():
        entries.append([GRAY, f"no value ({int(words.isna().sum()):,})"])
    palette = [*PALETTE[: len(shown)], GRAY]
    paint = {"color": pack_colors(code.astype(np.uint8)), "palette": palette}
    return paint, {"title": str(values.name), "entries": entries}


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def to_rgb_array(paint: Paint) -> np.ndarray:
    """Colors ``(N, 3)`` uint8 of what was packed."""
    codes = np.frombuffer(base64.b64decode(paint["color"]), np.uint8)
    if "palette" not in paint:
        return codes.reshape(-1, 3)
    return np.array([_rgb(c) for c in paint["palette"]], np.uint8)[codes]


def subset_colors(paint: Paint, rows: np.ndarray, count: int) -> Paint:
    """Of the colors of ``count`` values those of some rows."""
    codes = np.frombuffer(base64.b64decode(paint["color"]), np.uint8).reshape(count, -1)
    return {**paint, "color": pack_colors(codes[rows])}
