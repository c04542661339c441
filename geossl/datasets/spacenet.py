"""SpaceNet v1: WorldView-2 images of Rio de Janeiro, and polygons of their buildings."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import pandas as pd

from geossl.data.files import read_json
from geossl.datasets.raster.header import read_headers
from geossl.datasets.registry import register
from geossl.datasets.shared import listing
from geossl.datasets.shared.table import draw_split, finish_table
from geossl.utils.parallel import map_threads
from geossl.utils.validate import Fraction, validated

__all__ = ["spacenet"]

_BANDS = {
    "3band": ("red", "green", "blue"),
    "8band": ("coastal", "blue", "green", "yellow", "red", "red_edge", "nir", "nir2"),
}
_DTYPES = {"3band": "uint8", "8band": "uint16"}
_IMAGE = re.compile(r"([38]band)_(AOI_\d+_\w+?_img(\d+))\.tiff?", re.IGNORECASE)
_POLYGONS = ("geojson", "vectordata/geojson", "vectordata/geojson/geojson")


@validated
def spacenet(
    folder: str | os.PathLike[str],
    *,
    kind: Literal["3band", "8band"] = "3band",
    test_share: Fraction = 0.28,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of SpaceNet v1; each image is a location of its own and has no date.

    A chip is the center square of an image of about 439 x 407 pixels; the polygons are those of
    the full image.

    Args:
        folder: contains ``3band/3band_AOI_1_RIO_img<i>.tif`` and ``Geo_AOI_1_RIO_img<i>.geojson``
            in ``geojson/`` or ``vectordata/geojson/``.
        kind: "3band" (pan-sharpened, uint8) or "8band" (uint16).
        test_share: about this share of the images is ``split`` "test", the others are "train"; 0
            for no ``split``. The paper trains on 5,000 of the 6,940 images; its list was not
            published, so images are drawn by their names, and an image keeps its split.
        skip_bad: leave out images with a bad header or a bad geojson.

    Returns:
        One row per image: ``polygons`` is the path of its geojson and ``buildings`` their number;
        both are missing for images without one. ``attrs["skipped"]`` maps the images left out to
        the reason.

    Raises:
        FileNotFoundError: the folder or its images do not exist.
        ValueError: a file is bad.

    Source:
        SpaceNet, arXiv 1807.01232. An empty geojson, of which there are some, has no building.
    """
    listing.list_folder(folder, "SpaceNet v1")
    bands, dtype = _BANDS[kind], _DTYPES[kind]
    rows = [
        (int(match[3]), match[2], file.path)
        for file in listing.list_entries(os.path.join(folder, kind))
        if (match := _IMAGE.fullmatch(file.name)) and match[1].lower() == kind
    ]
    polygons = {
        file.name.lower(): file.path
        for name in _POLYGONS
        for file in listing.list_entries(os.path.join(folder, name))
    }
    table = pd.DataFrame(sorted(rows), columns=["number", "location", "path"])
    headers = read_headers(list(table["path"]), bands=len(bands), dtype=dtype)
    table = table.join(headers.drop(columns="dtype"))
    geojsons = [polygons.get(f"geo_{name}.geojson".lower()) for name in table["location"]]
    counts = pd.DataFrame(map_threads(_count, geojsons), columns=["buildings", "problem"])
    table["buildings"] = counts["buildings"].astype("Int64")
    table["polygons"] = geojsons
    table["split"] = draw_split(table["location"], test_share=test_share)
    table["problem"] = table["problem"].where(table["problem"].ne(""), counts["problem"])
    return finish_table(
        table.drop(columns="number"), reader="spacenet", folder=folder,
        layout=f"{kind}/{kind}_AOI_1_RIO_img<i>.tif", skip_bad=skip_bad,
        bands=range(1, len(bands) + 1), band_names=bands, dtype=dtype,
    )  # fmt: skip


def _count(path: str | None) -> tuple[int | None, str]:
    """Return how many polygons a geojson has (None without a file) and a problem, or ""."""
    if path is None:
        return None, ""
    try:
        if os.path.getsize(path) == 0:
            return 0, ""
        shapes = [feature["geometry"] for feature in read_json(path)["features"]]
        return sum(bool(s) and s["type"] in ("Polygon", "MultiPolygon") for s in shapes), ""
    except (OSError, ValueError) as error:
        return None, str(error).rstrip(".")
    except (KeyError, TypeError):
        return None, f"{path} has no list of features with a geometry"


def fits(path: Path) -> str | None:
    """Say why ``path`` looks like SpaceNet v1, or return None."""
    for kind in _BANDS:
        if any(_IMAGE.fullmatch(file.name) for file in listing.first_entries(path / kind)):
            return f"contains {kind}/{kind}_AOI_1_RIO_img<i>.tif"
    return None


register("spacenet", open=spacenet, fits=fits)
