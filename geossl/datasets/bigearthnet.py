"""BigEarthNet-S2 v1: a folder a patch, a tif a band at 10, 20 or 60 m, land cover in a json."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.data.files import DatasetError, read_json
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.header import read_headers, to_lon_lat
from geossl.datasets.registry import register
from geossl.datasets.shared import listing
from geossl.datasets.shared.table import common_bands, drop_bad_files
from geossl.utils.parallel import map_threads

__all__ = ["bigearthnet", "fits"]

BANDS = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12".split()
_JSON = "_labels_metadata.json"
_CORNERS = ("ulx", "uly", "lrx", "lry")
_EPSG = re.compile(r'AUTHORITY\["EPSG",\s*"(\d{4,6})"\]\]\s*')  # of the whole, at the end


class _Patch(NamedTuple):
    """What is known of a patch before its bands are compared with those of the others."""

    path: str
    words: frozenset[str]
    problem: str = ""
    labels: tuple[str, ...] = ()
    time: Any = None
    crs: str = ""
    x: float = np.nan
    y: float = np.nan


def bigearthnet(folder: str | os.PathLike[str], *, skip_bad: bool = False) -> pd.DataFrame:
    """Scene table of BigEarthNet-S2 v1.

    Patches with the same middle (to a meter) are one location: some tiles were taken twice.

    Args:
        folder: holds ``<patch>/<patch>_B??.tif`` and ``<patch>/<patch>_labels_metadata.json``.
        skip_bad: leave out patches whose json is missing or bad, that lack a band which others
            have, or of which neither the json nor a tif says where they lie.

    Returns:
        A row a patch: ``labels`` are its land covers joined by "|", ``label`` the one if there is
        only one; ``patch`` its name. ``attrs["skipped"]``: path -> why it was left out.

    Raises:
        FileNotFoundError: no such folder, or no patch in it.
        ValueError: a bad patch.

    Source:
        BigEarthNet, arXiv 1902.06148; 120, 60 and 20 pixels a side are the same 1.2 km.
    """
    folders = listing.subfolders(listing.list_folder(folder, "BigEarthNet"))
    found = [patch for patch in map_threads(_patch, folders) if patch is not None]
    table = pd.DataFrame(found, columns=_Patch._fields)
    bands, lacking = common_bands(table["words"], BANDS)
    table["problem"] = table["problem"].where(table["problem"].ne(""), lacking)
    table["lon"], table["lat"] = to_lon_lat(table["crs"], table["x"], table["y"])
    lost = table.index[table["problem"].eq("") & table["lon"].isna()]
    if len(lost):
        paths = [path.replace("{band}", bands[0]) for path in table.loc[lost, "path"]]
        heads = read_headers(paths).set_index(lost)
        table.loc[lost, ["lon", "lat", "problem"]] = heads[["lon", "lat", "problem"]]
    bad = table["problem"].ne("")
    skipped = {
        str(Path(path).parent): problem
        for path, problem in table.loc[bad, ["path", "problem"]].itertuples(index=False)
    }
    table = table[~bad].assign(
        location=[f"{x:.5f}_{y:.5f}" for x, y in table.loc[~bad, ["lon", "lat"]].to_numpy()],
        label=[labels[0] if len(labels) == 1 else None for labels in table.loc[~bad, "labels"]],
        labels=table.loc[~bad, "labels"].map("|".join),
        patch=[Path(path).parent.name for path in table.loc[~bad, "path"]],
    )
    known = ["path", "location", "time", "lon", "lat", "label", "labels", "patch"]
    table = drop_bad_files(
        table[known], skipped, skip_bad=skip_bad, what=f"<patch>/<patch>_B??.tif in {folder}"
    )
    table = scenes.check(table, source=f"BigEarthNet in {folder}")
    return add_pixel_columns(
        table, reader="bigearthnet", bands=bands, band_names=bands, dtype="uint16"
    )


def _patch(entry: os.DirEntry[str]) -> _Patch | None:
    """One folder; None if it is no patch."""
    names = {file.name for file in listing.list_entries(entry.path)}
    words = frozenset(band for band in BANDS if f"{entry.name}_{band}.tif" in names)
    if not words and f"{entry.name}{_JSON}" not in names:
        return None
    known = partial(_Patch, os.path.join(entry.path, f"{entry.name}_{{band}}.tif"), words)
    try:
        about = read_json(os.path.join(entry.path, f"{entry.name}{_JSON}"))
        if not isinstance(about, dict) or not isinstance(about.get("labels"), list):
            raise ValueError("holds no list of labels")
        labels = about["labels"]
        if not all(isinstance(x, str) and x.isprintable() and "|" not in x for x in labels):
            raise ValueError(f"holds labels that are no names: {ascii(labels):.80}")
        time = datetime.fromisoformat(str(about.get("acquisition_date", "")))
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
    except (OSError, DatasetError) as error:
        return known(str(error))
    except ValueError as error:
        return known(f"{entry.name}{_JSON} {error}")
    crs = _EPSG.findall(str(about.get("projection"))[-80:])
    corners = about.get("coordinates")
    x = y = np.nan
    if isinstance(corners, dict):
        left, top, right, bottom = (_number(corners.get(name)) for name in _CORNERS)
        x, y = (left + right) / 2, (top + bottom) / 2
    return known(labels=tuple(labels), time=time, crs=f"EPSG:{crs[-1]}" if crs else "", x=x, y=y)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e9 else np.nan


def fits(path: Path) -> str | None:
    """Why ``path`` looks like BigEarthNet-S2 v1, or None."""
    for entry in listing.first_entries(path):
        if os.path.isfile(path / entry.name / f"{entry.name}{_JSON}"):
            return f"holds <patch>/<patch>{_JSON} with a tif a band beside"
    return None


register("bigearthnet", open=bigearthnet, fits=fits)
