"""The csv of SatMAE's temporal fMoW: a header, then (label, path, timestamp) of every picture.

It knows no coordinates: ``lon, lat`` are missing unless columns of these names follow.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from geossl.datasets.registry import register
from geossl.datasets.shared.csv import FMOW_FOLDER, IMAGE_NAME, Location, first_lines, read_path_csv

__all__ = ["fits", "satmae_csv"]

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def satmae_csv(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    strip: str = "",
    location: Location = FMOW_FOLDER,
    normalize_lon: bool = False,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of SatMAE's csv: that of `geossl.datasets.gassl_csv` and a column of times.

    Args:
        path: the csv. Its columns are the label, the path of a picture and the time, whatever their
            names; more columns are kept.
        root: see `gassl_csv`, as the others.
        strip: start of the paths that is taken away.
        location: what says which pictures show one place.
        normalize_lon: turn longitudes of 0..360 into -180..180, if there are any.
        skip_bad: leave out rows without a file, or with a wrong position or time.

    Raises:
        FileNotFoundError: no such csv.
        ValueError: as `gassl_csv`, or a time that cannot be read.

    Source:
        CustomDatasetFromImagesTemporal of github.com/sustainlab-group/SatMAE.
    """
    return read_path_csv(
        path, reader="satmae_csv", has_time=True, root=root, strip=strip, location=location,
        normalize_lon=normalize_lon, skip_bad=skip_bad,
    )  # fmt: skip


def fits(path: Path) -> str | None:
    """Why SatMAE's csv is at ``path``, from its first two lines; None if it is not."""
    _, row = first_lines(path)
    if len(row) == 3 and IMAGE_NAME.fullmatch(row[1]) and _DATE.match(row[2]):
        return "is a csv of three columns: label, path of a picture, time"
    return None


register("satmae_csv", open=satmae_csv, fits=fits)
