"""Pictures of any bands for the eye: which are red, green and blue, and how to stretch them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geossl.utils.validate import check_fields, validated

__all__ = ["Stretch", "named_colors", "shown_bands"]

_COLORS = ("red", "green", "blue")
_NUMBERED = ("b4", "b3", "b2")  # of Sentinel-2, and of Landsat 8 and 9
_OTHER = {"edge", "coastal", "yellow", "re", "nir", "swir"}  # "red edge" is not red
_SENTINEL_2 = {13: [3, 2, 1], 12: [3, 2, 1], 10: [2, 1, 0]}  # all, without B10, without 60 m
_MIDDLE, _BRIGHTEST = 0.4, 0.45  # of the median in the picture; the smallest gamma


@validated
def named_colors(names: Sequence[str]) -> list[int]:
    """Return where red, green and blue are among the names of bands; empty unless all are.

    Names are words such as "Red (665 nm)", else the numbers B4, B3 and B2 (or B04, SR_B4, ...) of
    Sentinel-2 and of Landsat 8 and 9.

    Example:
        >>> named_colors(["B01", "B02", "B03", "B04", "B8A"])
        [3, 2, 1]
    """
    words = [[re.sub("^b0+", "b", word) for word in _words(name)] for name in names]
    for wanted in (_COLORS, _NUMBERED):
        where = [[i for i, own in enumerate(words) if _is(color, own)] for color in wanted]
        if all(where):
            return [rows[0] for rows in where]
    return []


@validated
def shown_bands(names: Sequence[str]) -> list[int]:
    """Return the bands to show as red, green and blue: natural color where the names tell.

    Ten, twelve or thirteen bands that are only numbered are taken for Sentinel-2's in their usual
    order. Else the first three bands, two bands as red and blue against green, or one in gray.

    Args:
        names: of the bands.

    Returns:
        Three indices, or one for gray.

    Example:
        >>> shown_bands([f"band_{i}" for i in range(1, 13)])
        [3, 2, 1]
        >>> shown_bands(["vv", "vh"])
        [0, 1, 0]
    """
    if named := named_colors(names):
        return named
    numbered = list(names) == [f"band_{i}" for i in range(1, len(names) + 1)]
    if numbered and len(names) in _SENTINEL_2:
        return list(_SENTINEL_2[len(names)])
    return {1: [0], 2: [0, 1, 0]}.get(len(names), [0, 1, 2])


def _words(name: str) -> list[str]:
    return [word for word in re.split("[^a-z0-9]+", name.lower()) if word]


def _is(color: str, words: list[str]) -> bool:
    return color in words and not (color in _COLORS and _OTHER & set(words))


@dataclass(frozen=True, eq=False)
class Stretch:
    """A tone curve that makes pictures of values of any range.

    Attributes:
        low: ``(C,)`` value that becomes 0.
        high: ``(C,)`` value that becomes 255.
        gamma: exponent between them, the same for all bands, so that hues stay.
    """

    low: np.ndarray
    high: np.ndarray
    gamma: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @validated
    def fit(cls, pixels: np.ndarray) -> Stretch:
        """Fit the curve to pixels ``(C, n)``: from the 2nd to the 98th percentile of each band.

        Where snow or clouds leave most pixels dark, a gamma brightens them.
        """
        low, high = np.percentile(pixels, [2, 98], axis=1)
        high = np.maximum(high, low + 1e-6 * np.maximum(1, np.abs(low)))
        share = np.clip((pixels - low[:, None]) / (high - low)[:, None], 0, 1).mean(0)
        middle = float(np.clip(np.median(share), 0.01, 1))
        if middle >= _MIDDLE:
            return cls(low, high)
        return cls(low, high, max(_BRIGHTEST, np.log(_MIDDLE) / np.log(middle)))

    @validated
    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels ``(..., C, H, W)`` as uint8."""
        low, high = self.low[:, None, None], self.high[:, None, None]
        share = np.clip((pixels - low) / (high - low), 0, 1)
        if self.gamma != 1:
            share = share**self.gamma
        return (share * 255 + 0.5).astype(np.uint8)
