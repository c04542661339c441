"""SSL4EO-S12: locations worldwide at four dates, a tif per band of Sentinel-1 or Sentinel-2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pandas as pd

from geossl.datasets.registry import register
from geossl.datasets.shared.dated_folders import fits_dated_folders, read_dated_folders
from geossl.utils.validate import validated

__all__ = ["ssl4eo"]

_DIGITS = 7
_KINDS = ("s1", "s2a", "s2c")


@validated
def ssl4eo(
    folder: str | os.PathLike[str],
    *,
    kind: Literal["s1", "s2a", "s2c"] | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of one of the three kinds of SSL4EO-S12.

    Args:
        folder: contains ``<kind>/<7 digits>/<name with the date>/<band>.tif``, or is the folder of
            a kind; the numbers may have gaps.
        kind: "s1" (radar), "s2a" (surface) or "s2c" (top of atmosphere); needed only if the folder
            contains several.
        scale: (lowest, highest) value that becomes 1 and 65535; -50 to 10 dB for "s1" when None.
            The others are uint16 and need none.
        skip_bad: leave out dates that lack a band which others have or whose name has no date,
            and locations without a georeferenced tif.

    Returns:
        One row per location and date. ``lon, lat`` is the center of the location's first readable
        tif, the only one that is opened. ``attrs["skipped"]`` maps the folders left out to the
        reason.

    Raises:
        FileNotFoundError: the folder or such files do not exist.
        ValueError: several kinds are there and ``kind`` is None, or a folder is bad.

    Source:
        SSL4EO-S12, arXiv 2211.07044: 2.64 km at 10, 20 and 60 m.
    """
    available = [name for name in _KINDS if os.path.isdir(os.path.join(folder, name))]
    if kind is None and len(available) > 1:
        choices = ", ".join(f"`kind={name!r}`" for name in available)
        raise ValueError(f"{folder} contains several kinds. Choose one: {choices}.")
    if available and kind in (None, *available):
        folder = os.path.join(folder, kind or available[0])
    elif kind and Path(folder).name != kind:
        raise FileNotFoundError(f"`kind={kind!r}` needs a folder {kind} in {folder}.")
    return read_dated_folders(
        folder, reader="ssl4eo", digits=_DIGITS, scale=scale, skip_bad=skip_bad
    )


def fits(path: Path) -> str | None:
    """Say why ``path`` looks like SSL4EO-S12, or return None."""
    for kind in _KINDS:
        if fits_dated_folders(path / kind, _DIGITS):
            return f"contains {kind}/<7 digits>/<date>/<band>.tif"
    return fits_dated_folders(path, _DIGITS)


register("ssl4eo", open=ssl4eo, fits=fits)
