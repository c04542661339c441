"""EuroSAT: ten classes of land use, a folder each, as RGB jpg or as 13-band Sentinel-2 tif."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.header import read_headers
from geossl.datasets.registry import register
from geossl.datasets.shared import listing
from geossl.datasets.shared.table import drop_bad_files

__all__ = ["eurosat", "fits"]

BANDS = "B01 B02 B03 B04 B05 B06 B07 B08 B09 B10 B11 B12 B8A".split()  # B8A is the last
CLASSES = (
    "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential "
    "River SeaLake"
).split()
_FILE = re.compile(r"(?P<name>.+)_(?P<number>\d+)\.(?P<kind>jpe?g|tiff?)", re.IGNORECASE)
_KINDS = {"jpg": "rgb", "jpeg": "rgb", "tif": "ms", "tiff": "ms"}


def eurosat(
    folder: str | os.PathLike[str], *, kind: str | None = None, skip_bad: bool = False
) -> pd.DataFrame:
    """Scene table of EuroSAT; every tile is a location of its own, at an unknown time.

    The jpgs say nothing of where they lie: ``lon, lat`` are missing in the table of "rgb". Those of
    "ms" are the middle of the georeferenced tif.

    Args:
        folder: holds ``<Class>/<Class>_<i>.jpg`` or ``.tif``.
        kind: "rgb" or "ms"; needed only where the folder has both.
        skip_bad: leave out files that are empty or, of "ms", whose header is not as it should be.

    Returns:
        A row a file, ``label`` is its class. ``attrs["skipped"]``: path -> why it was left out.

    Raises:
        FileNotFoundError: no such folder, or no such files in it.
        ValueError: both kinds, another kind, or a bad file.

    Source:
        EuroSAT, arXiv 1709.00029. The order of the bands is that of the published tifs.
    """
    if kind not in (None, *_KINDS.values()):
        raise ValueError(f'expected kind "rgb" or "ms", came {kind!r}')
    rows = [
        (_KINDS[hit["kind"].lower()], part.name, int(hit["number"]), file.path, _size(file))
        for part in listing.list_folder(folder, "EuroSAT")
        for file in listing.list_entries(part.path)
        if (hit := _FILE.fullmatch(file.name)) and hit["name"] == part.name
    ]
    table = pd.DataFrame(rows, columns=["kind", "label", "number", "path", "bytes"])
    kinds = list(table["kind"].unique())
    if kind is None and len(kinds) > 1:
        raise ValueError(f'{folder} holds both jpg and tif; give kind="rgb" or kind="ms"')
    kind = kind or (kinds or ["rgb"])[0]
    table = table[table["kind"] == kind].sort_values(["label", "number"], ignore_index=True)
    table["location"] = [Path(path).stem for path in table["path"]]
    table["lon"] = table["lat"] = np.nan
    table["problem"] = np.where(table["bytes"] == 0, "the file is empty", "")
    if kind == "ms":
        found = read_headers(list(table["path"]))
        table[["lon", "lat", "problem"]] = found[["lon", "lat", "problem"]]
        odd = found["problem"].eq("") & (found["bands"].ne(13) | found["dtype"].ne("uint16"))
        table.loc[odd, "problem"] = [
            f"expected 13 bands of uint16, came {n} of {dtype}"
            for n, dtype in found.loc[odd, ["bands", "dtype"]].itertuples(index=False)
        ]
    bad = table["problem"].ne("")
    table = drop_bad_files(
        table.loc[~bad, ["path", "location", "lon", "lat", "label"]],
        dict(zip(table.loc[bad, "path"], table.loc[bad, "problem"], strict=True)),
        skip_bad=skip_bad,
        what=f"<Class>/<Class>_<i>.jpg or .tif in {folder}",
    )
    table = scenes.check(table, positions=kind == "ms", source=f"EuroSAT in {folder}")
    if kind == "rgb":
        return add_pixel_columns(table, reader="eurosat")
    return add_pixel_columns(
        table, reader="eurosat", bands=range(1, 14), band_names=BANDS, dtype="uint16"
    )


def _size(file: os.DirEntry[str]) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def fits(path: Path) -> str | None:
    """Why ``path`` looks like EuroSAT, or None."""
    for part in CLASSES:
        for file in listing.first_entries(path / part, 8):
            hit = _FILE.fullmatch(file.name)
            if hit and hit["name"] == part:
                return f"holds <Class>/<Class>_<i>.{hit['kind']} with the classes of EuroSAT"
    return None


register("eurosat", open=eurosat, fits=fits)
