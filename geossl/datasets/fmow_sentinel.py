"""fMoW-Sentinel: csv files of places and times, and Sentinel-2 composites of 13 bands.

``train.csv``, ``val.csv``, ``test_gt.csv`` with the columns category, location_id, image_id,
timestamp, polygon; ``<split>/<category>/<category>_<location>/<category>_<location>_<image>.tif``.
"""

from __future__ import annotations

import os
from collections import ChainMap
from pathlib import Path

import pandas as pd

from geossl.data.files import read_csv
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.files import open_raster
from geossl.datasets.registry import register
from geossl.datasets.shared.csv import first_lines
from geossl.datasets.shared.listing import SENTINEL_2
from geossl.datasets.shared.table import find_faults, finish_table, footprint_centers

__all__ = ["fits", "fmow_sentinel"]

_NEEDED = ("category", "location_id", "image_id", "timestamp", "polygon")
_SPLITS = ("train", "val", "test_gt")


def fmow_sentinel(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    scale: tuple[float, float] | None = None,
    normalize_lon: bool = False,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of fMoW-Sentinel.

    Args:
        path: the folder of the csv files, or one of them.
        root: the folder of ``train/, val/, test_gt/``; beside the csv, or ``fmow-sentinel`` there,
            when None.
        scale: (lowest, highest) value that becomes 1 and 65535; needed if the files hold other
            numbers than uint16, which the header of the first of them tells.
        normalize_lon: turn longitudes of 0..360 into -180..180 in place of refusing them.
        skip_bad: leave out rows without a file, position or date.

    Returns:
        Rows as in the csv files, in the order train, val, test_gt. ``location`` is
        ``split/category/category_location``, ``split`` the name of the csv, ``lon, lat`` the middle
        of ``polygon`` (WKT, longitude first), ``time`` the middle of the 90 days that a composite
        is made of. ``image_id`` below 100 is that of the fMoW image of the same day. The thirteen
        bands are in order of wavelength, B8A after B8.
        ``attrs["skipped"]`` maps the rows left out to the reason.

    Raises:
        FileNotFoundError: no such csv.
        ValueError: a csv that cannot be read or lacks columns; a bad row, which is named; files of
            another type without ``scale``.

    Source:
        Cong et al., arXiv 2207.08051; README of purl.stanford.edu/vg497cb6002.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = [path / f"{split}.csv" for split in _SPLITS if (path / f"{split}.csv").is_file()]
        if not files:
            wanted = ", ".join(f"{split}.csv" for split in _SPLITS)
            raise FileNotFoundError(f"expected {wanted}, or one of them, in {path}, found none")
    base = None if root is None else Path(root)
    parts = [_rows(file, base, skip_bad, normalize_lon) for file in files]
    table = pd.concat(parts, ignore_index=True)
    table.attrs["skipped"] = dict(ChainMap(*(part.attrs["skipped"] for part in parts)))
    dtype = "uint16" if scale is not None else _dtype(table["path"].iloc[0])
    return add_pixel_columns(
        table, reader="fmow_sentinel", bands=range(1, 14), band_names=SENTINEL_2,
        dtype=dtype, scale=scale,
    )  # fmt: skip


def _rows(path: Path, root: Path | None, skip_bad: bool, normalize_lon: bool) -> pd.DataFrame:
    """The checked rows of one csv."""
    given = read_csv(path, needed=_NEEDED)
    split = next((name for name in _SPLITS if path.stem.startswith(name)), path.stem)
    nested = path.parent / "fmow-sentinel"
    base = (root or (nested if nested.is_dir() else path.parent)) / split
    plain = given["category"].str.fullmatch(r"[^./\\][^/\\]*", na=False)
    for name in ("location_id", "image_id"):
        plain &= given[name].str.fullmatch(r"\d+", na=False)
    place = given["category"] + "_" + given["location_id"]
    folder = f"{base}{os.sep}" + given["category"] + os.sep + place
    name = place + "_" + given["image_id"] + ".tif"
    lon, lat = footprint_centers(given["polygon"])
    table = pd.DataFrame({
        "path": folder + os.sep + name,
        "location": f"{split}/" + given["category"] + "/" + place,
        "time": given["timestamp"],
        "lon": lon,
        "lat": lat,
        "label": given["category"],
        "split": split,
        "image_id": given["image_id"],
    })  # fmt: skip
    there = {at: _names(at) for at in folder[plain].unique()}
    bad = find_faults(table).to_dict()
    for row, (fine, at, file) in enumerate(zip(plain, folder, name, strict=True)):
        if not fine:
            bad[row] = "expected a category without slashes, and ids of digits"
        elif file not in there[at]:
            bad[row] = f"there is no file {at}{os.sep}{file}; give root="
    table["problem"] = pd.Series(bad, dtype=object).reindex(table.index)
    table = finish_table(
        table, reader="fmow_sentinel", folder=path, layout="rows", skip_bad=skip_bad,
        normalize_lon=normalize_lon, numbered=True,
    )  # fmt: skip
    return table.astype({"image_id": "int64"})


def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _dtype(path: str) -> str:
    """Type of a file's pixels; of one that cannot be read, what the others should have."""
    try:
        with open_raster(path) as file:
            return str(file.dtypes[0])
    except (OSError, ValueError):
        return "uint16"


def fits(path: Path) -> str | None:
    """Why fMoW-Sentinel lies at ``path``, by the first lines of its csv; None if it does not."""
    for file in (path, *(path / f"{split}.csv" for split in _SPLITS)):
        if set(_NEEDED) <= set(first_lines(file)[0]):
            return f"has a csv with {', '.join(_NEEDED)}"
    return None


register("fmow_sentinel", open=fmow_sentinel, fits=fits)
