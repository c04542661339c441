"""The csv of SatMAE's temporal fMoW: a header, then (label, path, timestamp) of every image."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from geossl.datasets.registry import register
from geossl.datasets.shared.csv import FMOW_FOLDER, IMAGE_NAME, Location, first_lines, read_path_csv
from geossl.utils.validate import validated

__all__ = ["satmae_csv"]

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@validated
def satmae_csv(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    strip: str = "",
    location: Location = FMOW_FOLDER,
    normalize_lon: bool = False,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of SatMAE's csv: that of `geossl.datasets.gassl_csv` with times.

    Args:
        path: the csv. Its columns are the label, the path of an image and the time, whatever their
            names; more columns are kept.
        root: see `geossl.datasets.gassl_csv`, also for the other options and the errors.
        strip: likewise.
        location: likewise.
        normalize_lon: likewise.
        skip_bad: likewise.

    Source:
        CustomDatasetFromImagesTemporal of github.com/sustainlab-group/SatMAE.
    """
    return read_path_csv(
        path, reader="satmae_csv", has_time=True, root=root, strip=strip, location=location,
        normalize_lon=normalize_lon, skip_bad=skip_bad,
    )  # fmt: skip


def fits(path: Path) -> str | None:
    """Say why ``path`` looks like SatMAE's csv, from its first two lines, or return None."""
    _, row = first_lines(path)
    if len(row) == 3 and IMAGE_NAME.fullmatch(row[1]) and _DATE.match(row[2]):
        return "is a csv of three columns: label, path of an image, time"
    return None


register("satmae_csv", open=satmae_csv, fits=fits)
