"""EuroSAT: ten land-use classes, a folder each, as RGB jpg or as 13-band Sentinel-2 tif."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from geossl.datasets.raster.header import read_headers
from geossl.datasets.registry import register
from geossl.datasets.shared import listing
from geossl.datasets.shared.table import finish_table
from geossl.utils.validate import validated

__all__ = ["eurosat"]

_BANDS = "B01 B02 B03 B04 B05 B06 B07 B08 B09 B10 B11 B12 B8A".split()  # B8A comes last
_CLASSES = (
    "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential "
    "River SeaLake"
).split()
_FILE = re.compile(r"(?P<label>.+)_(?P<number>\d+)\.(?P<suffix>jpe?g|tiff?)", re.IGNORECASE)


@validated
def eurosat(
    folder: str | os.PathLike[str],
    *,
    kind: Literal["rgb", "ms"] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of EuroSAT; each tile is a location of its own and has no date.

    Args:
        folder: contains ``<Class>/<Class>_<i>.jpg`` or ``.tif``.
        kind: "rgb" (jpg) or "ms" (multispectral tif); needed only if the folder contains both.
        skip_bad: leave out empty jpgs, and tifs without 13 bands of uint16 and a position.

    Returns:
        One row per file; ``label`` is the class. ``lon, lat`` is the center of the tif; the jpgs
        have no coordinates. ``attrs["skipped"]`` maps the files left out to the reason.

    Raises:
        FileNotFoundError: the folder or its images do not exist.
        ValueError: both kinds are there and ``kind`` is None, or a file is bad.

    Source:
        EuroSAT, arXiv 1709.00029; the band order is that of the published tifs.
    """
    rows = [
        ("ms" if match["suffix"].lower().startswith("t") else "rgb",
         match["label"], int(match["number"]), file.path)
        for subfolder in listing.list_folder(folder, "EuroSAT")
        for file in listing.list_entries(subfolder.path)
        if (match := _FILE.fullmatch(file.name)) and match["label"] == subfolder.name
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["kind", "label", "number", "path"])
    kinds = list(table["kind"].unique())
    if kind is None and len(kinds) > 1:
        raise ValueError(f"{folder} contains jpg and tif. Choose with `kind='rgb'` or `kind='ms'`.")
    kind = kind or (kinds or ["rgb"])[0]
    table = table[table["kind"] == kind].sort_values(["label", "number"], ignore_index=True)
    table["location"] = [Path(path).stem for path in table["path"]]
    pixels: dict[str, Any] = {}
    if kind == "ms":
        headers = read_headers(list(table["path"]), bands=13, dtype="uint16")
        table = table.join(headers.drop(columns="dtype"))
        pixels = {"bands": range(1, 14), "band_names": _BANDS, "dtype": "uint16"}
    else:
        table["problem"] = [
            "" if os.path.isfile(path) and os.path.getsize(path) else "the file is empty"
            for path in table["path"]
        ]
    return finish_table(
        table.drop(columns=["kind", "number"]), reader="eurosat", folder=folder,
        layout="<Class>/<Class>_<i>.jpg or .tif", skip_bad=skip_bad, positions=kind == "ms",
        **pixels,
    )  # fmt: skip


def fits(path: Path) -> str | None:
    """Say why ``path`` looks like EuroSAT, or return None."""
    for name in _CLASSES:
        for file in listing.first_entries(path / name, 8):
            match = _FILE.fullmatch(file.name)
            if match and match["label"] == name:
                return f"contains <Class>/<Class>_<i>.{match['suffix']} with the classes of EuroSAT"
    return None


register("eurosat", open=eurosat, fits=fits)
