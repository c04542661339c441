"""BigEarthNet-S2 v1: a folder per patch, a tif per band (10, 20 or 60 m), labels in a json."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.data.files import read_json
from geossl.datasets.raster.header import read_headers, to_lon_lat
from geossl.datasets.registry import register
from geossl.datasets.shared import listing
from geossl.datasets.shared.detections import parse_box
from geossl.datasets.shared.table import common_bands, finish_table
from geossl.utils.parallel import map_threads
from geossl.utils.validate import validated

__all__ = ["bigearthnet"]

_BANDS = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12".split()
_JSON = "_labels_metadata.json"
_CORNERS = ("ulx", "uly", "lrx", "lry")
_EPSG = re.compile(r'AUTHORITY\["EPSG",\s*"(\d{4,6})"\]\]\s*')  # of the CRS itself: at the end
_COLUMNS = ["path", "available", "problem", "labels", "time", "crs", "x", "y"]


@validated
def bigearthnet(folder: str | os.PathLike[str], *, skip_bad: bool = False) -> pd.DataFrame:
    """Build the scene table of BigEarthNet-S2 v1.

    Patches with the same center (to a meter) are one location: some tiles were acquired twice.

    Args:
        folder: contains ``<patch>/<patch>_B??.tif`` and ``<patch>/<patch>_labels_metadata.json``.
        skip_bad: leave out patches with a missing or damaged json, without a band that others
            have, or with a position neither in the json nor in a tif.

    Returns:
        One row per patch: ``labels`` are its land covers joined by "|", ``label`` is the land cover
        if there is only one, ``patch`` is the name. ``attrs["skipped"]`` maps the folders left out
        to the reason.

    Raises:
        FileNotFoundError: the folder does not exist or contains no patch.
        ValueError: a patch is bad.

    Source:
        BigEarthNet, arXiv 1902.06148; 120, 60 and 20 pixels a side are the same 1.2 km.
    """
    folders = listing.subfolders(listing.list_folder(folder, "BigEarthNet"))
    patches = [row for row in map_threads(_read_patch, folders) if row is not None]
    table = pd.DataFrame(patches, columns=_COLUMNS)
    bands, missing = common_bands(table["available"], _BANDS)
    table["problem"] = table["problem"].where(table["problem"].ne(""), missing)
    table["lon"], table["lat"] = to_lon_lat(table["crs"], table["x"], table["y"])
    rows = table.index[table["problem"].eq("") & table["lon"].isna()]
    if len(rows):
        paths = [path.replace("{band}", bands[0]) for path in table.loc[rows, "path"]]
        headers = read_headers(paths).set_index(rows)
        table.loc[rows, ["lon", "lat", "problem"]] = headers[["lon", "lat", "problem"]]
    table["location"] = [f"{lon:.5f}_{lat:.5f}" for lon, lat in table[["lon", "lat"]].to_numpy()]
    table["label"] = [labels[0] if len(labels) == 1 else None for labels in table["labels"]]
    table["labels"] = table["labels"].map("|".join)
    table["patch"] = [Path(path).parent.name for path in table["path"]]
    return finish_table(
        table.drop(columns=["available", "crs", "x", "y"]), reader="bigearthnet", folder=folder,
        layout="<patch>/<patch>_B??.tif", skip_bad=skip_bad, bands=bands, band_names=bands,
        dtype="uint16",
    )  # fmt: skip


def _read_patch(folder: os.DirEntry[str]) -> dict[str, Any] | None:
    """Return a row of `_COLUMNS`; None if the folder is not a patch."""
    names = {file.name for file in listing.list_entries(folder.path)}
    available = frozenset(band for band in _BANDS if f"{folder.name}_{band}.tif" in names)
    if not available and f"{folder.name}{_JSON}" not in names:
        return None
    row = {
        "path": os.path.join(folder.path, f"{folder.name}_{{band}}.tif"), "available": available,
        "problem": "", "labels": (), "time": None, "crs": "", "x": np.nan, "y": np.nan,
    }  # fmt: skip
    try:
        return row | _read_metadata(os.path.join(folder.path, f"{folder.name}{_JSON}"))
    except (OSError, ValueError) as error:
        return row | {"problem": str(error).rstrip(".")}


def _read_metadata(path: str) -> dict[str, Any]:
    """Return labels, time and the center in its CRS; ValueError with the reason why not."""
    metadata = read_json(path)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("labels"), list):
        raise ValueError("its json has no list of labels")
    labels = metadata["labels"]
    if not all(isinstance(name, str) and name.isprintable() and "|" not in name for name in labels):
        raise ValueError(f"its json has labels that are not names: {ascii(labels):.80}")
    text = str(metadata.get("acquisition_date"))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"its acquisition_date {text[:40]!r} is not an ISO date") from None
    corners = metadata.get("coordinates")
    corners = [corners.get(name) for name in _CORNERS] if isinstance(corners, dict) else []
    left, top, right, bottom = parse_box(corners) or [np.nan] * 4
    epsg = _EPSG.findall(str(metadata.get("projection"))[-80:])
    return {
        "labels": tuple(labels),
        "time": time if time.tzinfo else time.replace(tzinfo=UTC),
        "crs": f"EPSG:{epsg[-1]}" if epsg else "",
        "x": (left + right) / 2,
        "y": (top + bottom) / 2,
    }


def fits(path: Path) -> str | None:
    """Say why ``path`` looks like BigEarthNet-S2 v1, or return None."""
    for entry in listing.first_entries(path):
        if os.path.isfile(path / entry.name / f"{entry.name}{_JSON}"):
            return f"contains <patch>/<patch>{_JSON} and a tif per band"
    return None


register("bigearthnet", open=bigearthnet, fits=fits)
