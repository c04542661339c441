"""GeoImageNet: photos in class folders, with their coordinates by photo id in a headerless csv."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from geossl.data.files import DatasetError
from geossl.datasets.registry import register
from geossl.datasets.shared import listing
from geossl.datasets.shared.table import draw_split, finish_table
from geossl.utils.validate import Fraction, validated

__all__ = ["geoimagenet"]


@validated
def geoimagenet(
    folder: str | os.PathLike[str],
    *,
    csv: str | os.PathLike[str] | None = None,
    missing: Literal["drop", "keep"] = "drop",
    test_share: Fraction = 0.184,
) -> pd.DataFrame:
    """Build the scene table of GeoImageNet; no photo is opened.

    Args:
        folder: contains ``<class>/<photo_id>.jpg``.
        csv: photo id, latitude, longitude, no header; the only csv in ``folder`` when None.
        missing: "drop" photos without a position (a coordinate of -1000, or not in the csv), or
            "keep" them without ``lon, lat``.
        test_share: about this share of the photos is ``split`` "test", the others are "train"; 0
            for no ``split``. The paper tests on 100,000 of 543,435 photos; its list was not
            published, so photos are drawn by their ids, and a photo keeps its split.

    Returns:
        One row per photo, without times; ``label`` is the class and ``location`` the photo id, so
        that a photo in two classes is one location. ``attrs["without_position"]`` counts the photos
        without a position, ``attrs["skipped"]`` maps those left out to the reason.

    Raises:
        FileNotFoundError: there are no photos, or not exactly one csv.
        ValueError: the csv is damaged, or no photo has a position.

    Source:
        Geography-Aware Self-Supervised Learning (arXiv 2011.09980), appendix: ImageNet photos
        with the coordinates that their Flickr pages give.
    """
    folder = Path(folder)
    rows = [
        (photo.path, photo.name.rpartition(".")[0], kind.name)
        for kind in listing.subfolders(listing.list_folder(folder, "GeoImageNet"))
        for photo in listing.list_entries(kind.path)
        if _is_photo(photo.name)
    ]
    if not rows:
        raise FileNotFoundError(f"{folder} contains no photos <class>/<photo_id>.jpg.")
    table = pd.DataFrame(rows, columns=["path", "location", "label"], dtype=object)
    if csv is None:
        names = [e.name for e in listing.list_entries(folder) if e.name.lower().endswith(".csv")]
        csvs = [folder / name for name in names]
        csv = listing.only_file(csvs, "csv of photo id, lat, lon", folder)
    csv = Path(csv)
    positions = _read_positions(csv)
    for name in ("lon", "lat"):
        table[name] = table["location"].map(positions[name])
    table["split"] = draw_split(table["location"], test_share=test_share)
    unknown = table["lon"].isna() | table["lat"].isna()
    table.loc[unknown, ["lon", "lat"]] = np.nan
    drop = missing == "drop"
    table["problem"] = np.where(unknown & drop, f"{csv.name} has no position for it", "")
    table = finish_table(
        table, reader="geoimagenet", folder=folder, layout="photos with a position",
        skip_bad=True, positions=drop,
    )  # fmt: skip
    table.attrs["without_position"] = int(unknown.sum())
    return table


def fits(path: Path) -> str | None:
    """Say why GeoImageNet is at ``path``, or return None."""
    if not path.is_dir():
        return None
    entries = listing.first_entries(path)
    csvs = [e.name for e in entries if e.name.lower().endswith(".csv") and _is_headerless(e.path)]
    photos = [
        photo.name
        for kind in listing.subfolders(entries)
        for photo in listing.first_entries(kind.path, 4)
        if _is_photo(photo.name)
    ]
    if len(csvs) == 1 and photos and all(name.rpartition(".")[0].isdigit() for name in photos):
        return f"contains <class>/<photo_id>.jpg and {csvs[0]} of id, lat, lon without a header"
    return None


def _is_photo(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg"))


def _is_headerless(path: str) -> bool:
    """Return whether a csv's first line starts with a photo id and two coordinates."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            photo, lat, lon = file.readline(4096).strip().split(",")[:3]
        return photo.strip(' "').isdigit() and all(-1000 <= float(v) <= 360 for v in (lat, lon))
    except (OSError, ValueError):
        return False


def _read_positions(path: Path) -> pd.DataFrame:
    """Return ``lon, lat`` by photo id, NaN where missing."""
    try:
        positions = pd.read_csv(
            path, header=None, usecols=[0, 1, 2], names=["id", "lat", "lon"], dtype=str,
            encoding="utf-8-sig", low_memory=False,
        )  # fmt: skip
    except ValueError as error:
        raise DatasetError(f"{path} is not a csv of photo id, lat, lon: {error}.") from None
    positions["id"] = positions["id"].str.strip()
    for name in ("lat", "lon"):
        numbers = pd.to_numeric(positions[name], errors="coerce")
        positions[name] = numbers.where(numbers > -900)
    return positions.dropna(subset="id").drop_duplicates("id").set_index("id")


register("geoimagenet", open=geoimagenet, fits=fits)
