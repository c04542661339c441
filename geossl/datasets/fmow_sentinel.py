"""fMoW-Sentinel: csv files of locations and times, and Sentinel-2 composites of 13 bands.

``train.csv``, ``val.csv``, ``test_gt.csv`` with the columns category, location_id, image_id,
timestamp, polygon; ``<split>/<category>/<category>_<location>/<category>_<location>_<image>.tif``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from geossl.data.files import read_csv
from geossl.datasets.registry import register
from geossl.datasets.shared.csv import find_row_problems, first_lines
from geossl.datasets.shared.listing import SENTINEL_2
from geossl.datasets.shared.table import finish_table, footprint_centers
from geossl.utils.validate import validated

__all__ = ["fmow_sentinel"]

_NEEDED = ("category", "location_id", "image_id", "timestamp", "polygon")
_SPLITS = ("train", "val", "test_gt")


@validated
def fmow_sentinel(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    scale: tuple[float, float] | None = None,
    normalize_lon: bool = False,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of fMoW-Sentinel.

    Args:
        path: the folder of the csv files, or one of them.
        root: the folder of ``train/, val/, test_gt/``; when None, ``fmow-sentinel`` next to the csv
            or else the folder of the csv.
        scale: (lowest, highest) value that becomes 1 and 65535; needed unless files are uint16.
        normalize_lon: convert longitudes of 0..360 to -180..180 instead of refusing them.
        skip_bad: leave out rows without a file, position or date.

    Returns:
        The rows of the csv files, in the order train, val, test_gt. ``location`` is
        ``split/category/category_location``, ``split`` the name of the csv, ``lon, lat`` the center
        of ``polygon`` (WKT, longitude first), ``time`` the middle of the 90 days of a composite.
        ``image_id`` below 100 is that of the fMoW image of the same day. B8A comes after B8.
        ``attrs["skipped"]`` maps the rows left out to the reason.

    Raises:
        FileNotFoundError: the csv does not exist.
        ValueError: a csv is damaged or lacks columns, a row is bad, or the files need ``scale``.

    Source:
        Cong et al., arXiv 2207.08051; README of purl.stanford.edu/vg497cb6002.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = [path / f"{split}.csv" for split in _SPLITS if (path / f"{split}.csv").is_file()]
        if not files:
            names = ", ".join(f"{split}.csv" for split in _SPLITS)
            raise FileNotFoundError(f"`path` must be a csv or contain one of {names}, got {path}.")
    parts, dtype = [], None
    skipped: dict[str, str] = {}
    for file in files:
        part = finish_table(
            _read_rows(file, root), reader="fmow_sentinel", folder=file, layout="rows",
            skip_bad=skip_bad, normalize_lon=normalize_lon, numbered=True, detect=True,
            bands=range(1, 14), band_names=SENTINEL_2, dtype=dtype, scale=scale,
        )  # fmt: skip
        dtype = part["dtype"].iloc[0]
        skipped |= part.attrs["skipped"]
        parts.append(part.astype({"image_id": "int64"}))
    table = pd.concat(parts, ignore_index=True)
    table.attrs["skipped"] = skipped
    return table


def _read_rows(path: Path, root: str | os.PathLike[str] | None) -> pd.DataFrame:
    """Return the rows of one csv with the column ``problem``."""
    rows = read_csv(path, needed=_NEEDED)
    split = next((name for name in _SPLITS if path.stem.startswith(name)), path.stem)
    nested = path.parent / "fmow-sentinel"
    base = Path(root or (nested if nested.is_dir() else path.parent)) / split
    location = rows["category"] + "_" + rows["location_id"]
    lon, lat = footprint_centers(rows["polygon"])
    table = pd.DataFrame({
        "path": f"{base}/" + rows["category"] + "/" + location + "/" + location + "_"
                + rows["image_id"] + ".tif",
        "location": f"{split}/" + rows["category"] + "/" + location,
        "time": rows["timestamp"],
        "lon": lon,
        "lat": lat,
        "label": rows["category"],
        "split": split,
        "image_id": rows["image_id"],
    })  # fmt: skip
    valid = rows["category"].str.fullmatch(r"[^./\\][^/\\]*", na=False)
    for name in ("location_id", "image_id"):
        valid &= rows[name].str.fullmatch(r"\d+", na=False)
    reason = "its category must be a name without slashes, its ids must be digits"
    invalid = dict.fromkeys(table.index[~valid], reason)
    return table.assign(problem=find_row_problems(table, invalid, fix="; pass `root`"))


def fits(path: Path) -> str | None:
    """Say why ``path`` looks like fMoW-Sentinel, from the header of its csv, or return None."""
    for file in (path, *(path / f"{split}.csv" for split in _SPLITS)):
        if set(_NEEDED) <= set(first_lines(file)[0]):
            return f"has a csv with {', '.join(_NEEDED)}"
    return None


register("fmow_sentinel", open=fmow_sentinel, fits=fits)
