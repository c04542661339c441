"""Colors of values and their legends: categories that all eyes tell apart, ramps that read."""

from __future__ import annotations

import base64
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from geossl.utils.validate import PositiveInt, validated

# Okabe and Ito's eight colors, told apart with every kind of color vision; black made a dark gray
PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#444444",
)  # fmt: skip
GRAY = "#b0b0b0"
# Viridis at eight steps: lightness grows with the value, for every kind of color vision
RAMP = (
    "#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725",
)  # fmt: skip
_STEPS = 64  # of the ramp

# color: bytes in base64 of codes (N,) into the palette, or of rgb (N, 3); palette: hex colors
PackedColors: TypeAlias = dict[str, Any]
# title; entries: [hex color, text]; ramp: hex colors from the text low to the text high
Legend: TypeAlias = dict[str, Any]


@validated
def pack_array(values: np.ndarray) -> str:
    """Encode the bytes of an array as base64 text."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


@validated
def color_by_column(values: pd.Series) -> tuple[PackedColors, Legend]:
    """Color values ``(N,)``: words by category, dates and numbers by a ramp.

    The ramp goes from the 2nd to the 98th percentile, so that outliers do not squeeze the other
    values together; missing values are gray.

    Returns:
        The colors and their legend.
    """
    is_date = pd.api.types.is_datetime64_any_dtype(values)
    many = pd.api.types.is_integer_dtype(values) and values.nunique() > len(PALETTE)
    if not (is_date or many or pd.api.types.is_float_dtype(values)):
        return color_by_category(values)
    if is_date:
        number = values.astype("int64").to_numpy(float)
        number[values.isna().to_numpy()] = np.nan
    else:
        number = values.to_numpy(float, na_value=np.nan)
    known = np.isfinite(number)
    if not known.any():
        return color_by_category(pd.Series([None] * len(values), name=values.name, dtype=object))
    low, high = np.percentile(number[known], [2, 98])
    share = np.clip((number - low) / (high - low if high > low else 1.0), 0, 1)
    codes = np.where(known, np.round(np.nan_to_num(share) * (_STEPS - 1)), _STEPS)
    if is_date:
        ends = [f"{time:%Y-%m-%d}" for time in (values.min(), values.max())]
    else:
        ends = [f"{value:.3g}" for value in (low, high)]
    legend = {"title": str(values.name), "ramp": list(RAMP), "low": ends[0], "high": ends[1]}
    if not known.all():
        legend["entries"] = [[GRAY, f"no value ({int((~known).sum()):,})"]]
    color = pack_array(codes.astype(np.uint8))
    return {"color": color, "palette": [*_ramp_colors(), GRAY]}, legend


@validated
def color_by_category(values: pd.Series) -> tuple[PackedColors, Legend]:
    """Color words ``(N,)``: the seven or eight most frequent; others and missing ones in gray.

    Returns:
        The colors and their legend.
    """
    words = values.astype("string")
    counts = words.value_counts()
    common = sorted(counts.index[: len(PALETTE) - (len(counts) > len(PALETTE))])
    code_of = {word: code for code, word in enumerate(common)}
    codes = words.map(code_of).fillna(len(common)).to_numpy(int)
    entries = [[c, f"{word} ({counts[word]:,})"] for c, word in zip(PALETTE, common, strict=False)]
    if len(counts) > len(common):
        rest = int(counts.sum() - counts[common].sum())
        entries.append([GRAY, f"{len(counts) - len(common):,} others ({rest:,})"])
    if words.isna().any():
        entries.append([GRAY, f"no value ({int(words.isna().sum()):,})"])
    palette = [*PALETTE[: len(common)], GRAY]
    colors = {"color": pack_array(codes.astype(np.uint8)), "palette": palette}
    return colors, {"title": str(values.name), "entries": entries}


@validated
def to_rgb_array(colors: PackedColors) -> np.ndarray:
    """Unpack colors to ``(N, 3)`` uint8."""
    codes = np.frombuffer(base64.b64decode(colors["color"]), np.uint8)
    if "palette" not in colors:
        return codes.reshape(-1, 3)
    return np.array([_rgb(color) for color in colors["palette"]], np.uint8)[codes]


@validated
def subset_colors(colors: PackedColors, rows: np.ndarray, count: PositiveInt) -> PackedColors:
    """Select the colors of some rows, of the ``count`` values that were packed."""
    codes = np.frombuffer(base64.b64decode(colors["color"]), np.uint8).reshape(count, -1)
    return {**colors, "color": pack_array(codes[rows])}


def _ramp_colors() -> list[str]:
    anchors = np.array([_rgb(color) for color in RAMP], float)
    at, known = np.linspace(0, len(RAMP) - 1, _STEPS), np.arange(len(RAMP))
    bands = [np.interp(at, known, band) + 0.5 for band in anchors.T]
    return ["#{:02x}{:02x}{:02x}".format(*map(int, color)) for color in zip(*bands, strict=True)]


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))
