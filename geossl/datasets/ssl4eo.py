"""SSL4EO-S12: places of the world at four dates, a tif a band, of Sentinel-1 and Sentinel-2."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from geossl.datasets.registry import register
from geossl.datasets.shared.dated_folders import fits_dated_folders, read_dated_folders

__all__ = ["fits", "ssl4eo"]
_DIGITS = 7
KINDS = ("s1", "s2a", "s2c")


def ssl4eo(
    folder: str | os.PathLike[str],
    *,
    kind: str | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of one of the three kinds of SSL4EO-S12.

    Args:
        folder: holds ``<kind>/<7 digits>/<name with the date>/<band>.tif``, or is the folder of a
            kind; the numbers may have gaps.
        kind: "s1" (radar), "s2a" (surface) or "s2c" (top of atmosphere); needed only where the
            folder has several.
        scale: (lowest, highest) value that becomes 1 and 65535; -50 to 10 dB for "s1" when None,
            none for the others, which are uint16.
        skip_bad: see `read_dated_folders`.

    Returns:
        As `read_dated_folders`.

    Raises:
        FileNotFoundError: no such folder, or no such files in it.
        ValueError: several kinds, or a bad folder.

    Source:
        SSL4EO-S12, arXiv 2211.07044: 2.64 km at 10, 20 and 60 m.
    """
    there = [name for name in KINDS if os.path.isdir(os.path.join(folder, name))]
    if kind not in (None, *KINDS):
        raise ValueError(f"expected kind of {', '.join(KINDS)}, came {kind!r}")
    if kind is None and len(there) > 1:
        raise ValueError(f"{folder} holds {', '.join(there)}; give one of them as kind")
    if there and kind in (None, *there):
        folder = os.path.join(folder, kind or there[0])
    elif kind and Path(folder).name != kind:
        raise FileNotFoundError(f"expected a folder {kind} in {folder}, found {there or 'none'}")
    return read_dated_folders(
        folder, reader="ssl4eo", digits=_DIGITS, scale=scale, skip_bad=skip_bad
    )


def fits(path: Path) -> str | None:
    """Why ``path`` looks like SSL4EO-S12, or None."""
    for kind in KINDS:
        if fits_dated_folders(path / kind, _DIGITS):
            return f"holds {kind}/<7 digits>/<date>/<band>.tif"
    return fits_dated_folders(path, _DIGITS)


register("ssl4eo", open=ssl4eo, fits=fits)
