"""GeoImageNet: photos in class folders, their places in a csv without a header, by photo id."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.datasets.raster import chips
from geossl.datasets.registry import register
from geossl.datasets.shared.listing import first_entries, list_folder
from geossl.datasets.shared.table import drop_bad_files

__all__ = ["geoimagenet"]

_PHOTOS = (".jpg", ".jpeg")


def geoimagenet(
    folder: str | os.PathLike[str],
    *,
    csv: str | os.PathLike[str] | None = None,
    missing: str = "drop",
) -> pd.DataFrame:
    """Scene table of GeoImageNet; no photo is opened.

    Args:
        folder: holds ``<class>/<photo_id>.jpg``.
        csv: without a header: photo id, latitude, longitude, and more that is not used; the only
            csv in ``folder`` when None.
        missing: what becomes of photos without a place (a coordinate of -1000, or none in the
            csv): "drop" leaves them out, "keep" keeps them without ``lon, lat``.

    Returns:
        A row a photo; ``label`` is the class, ``location`` the photo id, so that a photo in two
        classes is one place. There is no time. ``attrs["without_position"]`` counts the photos
        without a place, ``attrs["skipped"]`` maps those left out to the reason.

    Raises:
        FileNotFoundError: there are no photos, or not one csv.
        ValueError: the csv cannot be read, or no photo has a place.

    Source:
        Geography-Aware Self-Supervised Learning (arXiv 2011.09980), appendix: ImageNet photos
        with the coordinates that their Flickr pages give.
    """
    if missing not in ("drop", "keep"):
        raise ValueError(f"expected missing='drop' or 'keep', came {missing!r}")
    folder = Path(folder)
    classes = [
        e for e in list_folder(folder, "GeoImageNet") if os.path.isdir(e.path) and e.name[0] != "."
    ]
    rows = [
        (photo.path, photo.name.rpartition(".")[0], kind.name)
        for kind in classes
        for photo in list_folder(kind.path, "photos")
        if photo.name.lower().endswith(_PHOTOS) and photo.name[0] != "."
    ]
    if not rows:
        raise FileNotFoundError(f"expected photos <class>/<photo_id>.jpg in {folder}, found none")
    table = pd.DataFrame(rows, columns=["path", "location", "label"], dtype=object)
    csv = _csv(folder) if csv is None else Path(csv)
    known = _places(csv)
    table["lon"] = table["location"].map(known["lon"])
    table["lat"] = table["location"].map(known["lat"])
    lost = (table["lon"].isna() | table["lat"].isna()).to_numpy()
    table.loc[lost, ["lon", "lat"]] = np.nan
    bad = {}
    if missing == "drop":
        bad = dict.fromkeys(table["path"][lost], f"{csv.name} has no place of it")
        table = table[~lost]
    table = drop_bad_files(table, bad, skip_bad=True, what=f"photos with a place in {folder}")
    table.attrs["without_position"] = int(lost.sum())
    table = scenes.check(table, positions=missing == "drop", source=str(folder))
    return chips.add_pixel_columns(table, reader="geoimagenet")


def fits(path: Path) -> str | None:
    """Why GeoImageNet is at ``path``, or None."""
    if not path.is_dir():
        return None
    entries = first_entries(path)
    csvs = [e for e in entries if e.name.lower().endswith(".csv") and _headerless(e.path)]
    photos = [
        photo.name
        for e in entries
        if os.path.isdir(e.path) and e.name[0] != "."
        for photo in first_entries(e.path, 4)
        if photo.name.lower().endswith(_PHOTOS)
    ]
    if len(csvs) == 1 and photos and all(name.rpartition(".")[0].isdigit() for name in photos):
        return f"holds <class>/<photo_id>.jpg and {csvs[0].name} of id, lat, lon without a header"
    return None


def _headerless(path: str) -> bool:
    """Whether a csv's first line starts with a photo id and two coordinates."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            photo, lat, lon = file.readline(4096).strip().split(",")[:3]
        return photo.strip(' "').isdigit() and all(-1000 <= float(v) <= 360 for v in (lat, lon))
    except (OSError, ValueError):
        return False


def _csv(folder: Path) -> Path:
    found = [e for e in list_folder(folder, "GeoImageNet") if e.name.lower().endswith(".csv")]
    if len(found) != 1:
        raise FileNotFoundError(
            f"expected one csv of photo id, lat, lon in {folder}, found {len(found)}; give csv="
        )
    return Path(found[0].path)


def _places(path: Path) -> pd.DataFrame:
    """``lon, lat`` by photo id, NaN where missing."""
    if not path.is_file():
        raise FileNotFoundError(f"expected a csv of photo id, lat, lon at {path}, found no file")
    try:
        known = pd.read_csv(
            path, header=None, usecols=[0, 1, 2], names=["id", "lat", "lon"], dtype=str,
            encoding="utf-8-sig", low_memory=False,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        raise ValueError(f"expected a csv of photo id, lat, lon at {path}: {error}") from None
    known["id"] = known["id"].str.strip()
    for name in ("lat", "lon"):
        numbers = pd.to_numeric(known[name], errors="coerce")
        known[name] = numbers.where(numbers > -900)
    return known.dropna(subset="id").drop_duplicates("id").set_index("id")


register("geoimagenet", open=geoimagenet, fits=fits)
