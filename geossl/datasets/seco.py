"""SeCo (Seasonal Contrast): places near cities at five dates, a tif a Sentinel-2 band."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from geossl.datasets.raster.chips import read_chips
from geossl.datasets.raster.window import pixel_info
from geossl.datasets.registry import register
from geossl.datasets.shared.dated_folders import dated_places, fits_places

__all__ = ["fits", "pixel_info", "read_chips", "seco"]

_DIGITS = 6


def seco(folder: str | os.PathLike[str], *, skip_bad: bool = False) -> pd.DataFrame:
    """Scene table of SeCo; its pixels are uint8, 255 is a reflectance of 1.

    Args:
        folder: holds ``<6 digits>/<name with the date and the tile>/<band>.tif``.
        skip_bad: see `geossl.datasets.shared.dated_folders.dated_places`.

    Returns:
        As `geossl.datasets.shared.dated_folders.dated_places`.

    Raises:
        FileNotFoundError: no such folder, or no such files in it.
        ValueError: a bad folder.

    Source:
        SeCo, arXiv 2103.16607.
    """
    return dated_places(folder, reader="seco", digits=_DIGITS, skip_bad=skip_bad)


def fits(path: Path) -> str | None:
    """Why ``path`` looks like SeCo, or None."""
    return fits_places(path, _DIGITS)


register("seco", open=seco, fits=fits, read=read_chips, pixel_info=pixel_info)
