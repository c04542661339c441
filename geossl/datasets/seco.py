"""SeCo (Seasonal Contrast): locations near cities at five dates, a tif per Sentinel-2 band."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from geossl.datasets.registry import register
from geossl.datasets.shared.dated_folders import fits_dated_folders, read_dated_folders
from geossl.utils.validate import validated

__all__ = ["seco"]

_DIGITS = 6


@validated
def seco(folder: str | os.PathLike[str], *, skip_bad: bool = False) -> pd.DataFrame:
    """Build the scene table of SeCo; its pixels are uint8, 255 is a reflectance of 1.

    Args:
        folder: contains ``<6 digits>/<name with the date and the tile>/<band>.tif``.
        skip_bad: see `geossl.datasets.ssl4eo`, also for the table and the errors.

    Source:
        SeCo, arXiv 2103.16607.
    """
    return read_dated_folders(folder, reader="seco", digits=_DIGITS, skip_bad=skip_bad)


def fits(path: Path) -> str | None:
    """Say why ``path`` looks like SeCo, or return None."""
    return fits_dated_folders(path, _DIGITS)


register("seco", open=seco, fits=fits)
