"""Colors of values and their legends: categories that all eyes tell apart, ramps that read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from geossl.utils.validate import validated

# Okabe and Ito's eight colors, told apart with every kind of color vision; black made a dark gray
PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#444444",
)  # fmt: skip
# Twelve more, far apart in CIE Lab from each other, from the eight, from white, a dark page and the
# gray of the others, also as those see them who lack red or green cones
CATEGORIES = (
    *PALETTE, "#0000ff", "#690069", "#691e00", "#4bff78", "#ffc3b4", "#00f0f0", "#003ca5",
    "#d22d3c", "#a5b469", "#c30fff", "#0f0fb4", "#a587ff",
)  # fmt: skip
GRAY = "#b0b0b0"
# Viridis at eight steps: lightness grows with the value, for every kind of color vision
RAMP = (
    "#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725",
)  # fmt: skip
_STEPS = 64  # of the ramp

# title; entries: [hex color, text]; ramp: hex colors from the text low to the text high
Legend: TypeAlias = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Colors:
    """Colors of N values.

    Attributes:
        values: ``(N,)`` uint8 codes into the palette, or ``(N, 3)`` uint8 red, green, blue.
        palette: hex colors of the codes.
    """

    values: np.ndarray
    palette: Sequence[str] = ()

    def rgb(self) -> np.ndarray:
        """Return the colors as ``(N, 3)`` uint8."""
        return _rgb(self.palette)[self.values] if self.palette else self.values

    def subset(self, rows: np.ndarray) -> Colors:
        """Return the colors of some rows."""
        return Colors(self.values[rows], self.palette)


@validated
def color_by_column(values: pd.Series) -> tuple[Colors, Legend]:
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
    legend: Legend = {
        "title": str(values.name),
        "ramp": list(RAMP),
        "low": ends[0],
        "high": ends[1],
    }
    if not known.all():
        legend["entries"] = [[GRAY, f"no value ({int((~known).sum()):,})"]]
    return Colors(codes.astype(np.uint8), [*_ramp_colors(), GRAY]), legend


@validated
def color_by_category(values: pd.Series) -> tuple[Colors, Legend]:
    """Color words ``(N,)``: up to twenty, else the nineteen most frequent, others in gray.

    The first eight of them, by name, have the colors that every eye tells apart best.

    Returns:
        The colors and their legend.
    """
    words = values.astype("string")
    counts = words.value_counts()
    common = sorted(counts.index[: len(CATEGORIES) - (len(counts) > len(CATEGORIES))])
    code_of = {word: code for code, word in enumerate(common)}
    codes = words.map(code_of).fillna(len(common)).to_numpy(int)
    entries = [
        [color, f"{word} ({counts[word]:,})"]
        for color, word in zip(CATEGORIES, common, strict=False)
    ]
    if len(counts) > len(common):
        rest = int(counts.sum() - counts[common].sum())
        entries.append([GRAY, f"{len(counts) - len(common):,} others ({rest:,})"])
    if words.isna().any():
        entries.append([GRAY, f"no value ({int(words.isna().sum()):,})"])
    colors = Colors(codes.astype(np.uint8), [*CATEGORIES[: len(common)], GRAY])
    return colors, {"title": str(values.name), "entries": entries}


def _ramp_colors() -> list[str]:
    at, anchors = np.linspace(0, len(RAMP) - 1, _STEPS), np.arange(len(RAMP))
    bands = [np.interp(at, anchors, band) + 0.5 for band in _rgb(RAMP).T]
    return ["#{:02x}{:02x}{:02x}".format(*map(int, color)) for color in zip(*bands, strict=True)]


def _rgb(colors: Sequence[str]) -> np.ndarray:
    """Return hex colors as ``(N, 3)`` uint8."""
    return np.array([list(bytes.fromhex(color[1:])) for color in colors], np.uint8)
