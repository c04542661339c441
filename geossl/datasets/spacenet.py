"""SpaceNet v1: WorldView-2 images of Rio de Janeiro, and polygons of their buildings."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from geossl.data import scenes
from geossl.data.files import read_json
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.header import read_headers
from geossl.datasets.registry import register
from geossl.datasets.shared import listing
from geossl.datasets.shared.table import drop_bad_files
from geossl.utils.parallel import map_threads

__all__ = ["fits", "spacenet"]

BANDS = {
    "3band": ("red", "green", "blue"),
    "8band": ("coastal", "blue", "green", "yellow", "red", "red_edge", "nir", "nir2"),
}
_DTYPES = {"3band": "uint8", "8band": "uint16"}
_IMAGE = re.compile(r"([38]band)_(AOI_\d+_\w+?_img(\d+))\.tiff?", re.IGNORECASE)
_POLYGONS = ("geojson", "vectordata/geojson", "vectordata/geojson/geojson")


def spacenet(
    folder: str | os.PathLike[str], *, kind: str = "3band", skip_bad: bool = False
) -> pd.DataFrame:
    """Scene table of SpaceNet v1; every image is a location of its own, at an unknown time.

    A chip is the middle square of an image of about 439 x 407 pixels; the polygons are those of
    the whole image.

    Args:
        folder: holds ``3band/3band_AOI_1_RIO_img<i>.tif`` and ``Geo_AOI_1_RIO_img<i>.geojson`` in
            ``geojson/`` or ``vectordata/geojson/``.
        kind: "3band" (pan-sharpened, uint8) or "8band" (uint16).
        skip_bad: leave out images with a bad header or a bad geojson.

    Returns:
        A row an image: ``polygons`` is the path of its geojson and ``buildings`` how many it has;
        both are missing where there is none. ``attrs["skipped"]``: path -> why it was left out.

    Raises:
        FileNotFoundError: no such folder, or no such files in it.
        ValueError: another kind, or a bad file.

    Source:
        SpaceNet, arXiv 1807.01232. A geojson of no bytes, as some are, has no building.
    """
    if kind not in BANDS:
        raise ValueError(f"expected kind of {', '.join(BANDS)}, came {kind!r}")
    listing.list_folder(folder, "SpaceNet v1")
    hits = [
        (int(hit[3]), hit[2], file.path)
        for file in listing.list_entries(os.path.join(folder, kind))
        if (hit := _IMAGE.fullmatch(file.name)) and hit[1].lower() == kind
    ]
    polygons = {
        file.name.lower(): file.path
        for part in _POLYGONS
        for file in listing.list_entries(os.path.join(folder, part))
    }
    table = pd.DataFrame(sorted(hits), columns=["number", "location", "path"])
    shapes = [polygons.get(f"geo_{name}.geojson".lower()) for name in table["location"]]
    table["polygons"] = shapes
    found = read_headers(list(table["path"]))
    table[["lon", "lat", "problem"]] = found[["lon", "lat", "problem"]]
    expected = found["bands"].eq(len(BANDS[kind])) & found["dtype"].eq(_DTYPES[kind])
    table.loc[found["problem"].eq("") & ~expected, "problem"] = (
        f"expected {len(BANDS[kind])} bands of {_DTYPES[kind]}"
    )
    counts = pd.DataFrame(map_threads(_buildings, shapes), columns=["buildings", "problem"])
    table["buildings"] = counts["buildings"].astype("Int64")
    table["problem"] = table["problem"].where(table["problem"].ne(""), counts["problem"])
    bad = table["problem"].ne("")
    table = drop_bad_files(
        table.loc[~bad, ["path", "location", "lon", "lat", "buildings", "polygons"]],
        dict(zip(table.loc[bad, "path"], table.loc[bad, "problem"], strict=True)),
        skip_bad=skip_bad,
        what=f"{kind}/{kind}_AOI_1_RIO_img<i>.tif in {folder}",
    )
    table = scenes.check(table, source=f"SpaceNet in {folder}")
    names = BANDS[kind]
    return add_pixel_columns(
        table, reader="spacenet", bands=range(1, len(names) + 1), band_names=names,
        dtype=_DTYPES[kind],
    )  # fmt: skip


def _buildings(path: str | None) -> tuple[int | None, str]:
    """How many polygons a geojson has, None without one; and a reason why it is bad, or ""."""
    if path is None:
        return None, ""
    try:
        if os.path.getsize(path) == 0:
            return 0, ""
        about = read_json(path)
        features = about["features"]
        shapes = [feature["geometry"] for feature in features]
        return sum(bool(s) and s["type"] in ("Polygon", "MultiPolygon") for s in shapes), ""
    except (OSError, ValueError) as error:
        return None, str(error)
    except (KeyError, TypeError):
        return None, f"{path} holds no list of features with a geometry"


def fits(path: Path) -> str | None:
    """Why ``path`` looks like SpaceNet v1, or None."""
    for kind in BANDS:
        if any(_IMAGE.fullmatch(file.name) for file in listing.first_entries(path / kind)):
            return f"holds {kind}/{kind}_AOI_1_RIO_img<i>.tif"
    return None


register("spacenet", open=spacenet, fits=fits)
