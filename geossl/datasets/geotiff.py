"""A folder of dated GeoTIFF scenes of one area, cut on a grid in the scenes' own CRS.

One grid cell at all dates is one location. Scenes may differ in extent, in CRS and by a row; every
chip is one windowed read, no scene is loaded whole.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data.files import DatasetError, read_csv
from geossl.datasets.raster.grid import (
    Scene,
    common_grid,
    covered_cells,
    outline_points,
    pixel_to_crs,
    reproject,
)
from geossl.datasets.raster.header import read_header
from geossl.datasets.raster.window import pixel_info, read_cells
from geossl.datasets.registry import register

__all__ = ["geotiff", "pixel_info", "read_cells"]

_SIDES = ("north", "east", "south", "west")


def geotiff(
    folder: str | os.PathLike[str],
    *,
    chip_px: int = 64,
    stride_px: int | None = None,
    bands: Sequence[int | str] | None = None,
    band_names: Sequence[str] | None = None,
    date_pattern: str | None = None,
    date_tag: str | None = None,
    dates_csv: str | os.PathLike[str] | None = None,
    scale: tuple[float, float] | None = None,
    test_side: str | None = None,
    test_share: float = 1 / 3,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of a folder of GeoTIFFs; only headers are read.

    Args:
        folder: holds ``.tif`` or ``.tiff`` files, in any sub-folder.
        chip_px: side of a grid cell in pixels of the grid, which is the most common one among
            the scenes: CRS, then pixel size, then where the pixels' edges lie.
        stride_px: distance between two cells; ``chip_px`` when None.
        bands: bands to keep, counted from 1 or by the files' own names; all but an alpha band
            when None.
        band_names: their names; the files' own descriptions, colors or ``band_1, ...`` when None.
        date_pattern: regular expression whose first group catches the date in a file's name; by
            default a full date such as 20200630 or 2020-06-30, else a year alone.
        date_tag: name of a TIFF tag with the date, e.g. ``TIFFTAG_DATETIME``.
        dates_csv: a csv with the columns ``path`` (file name or path in the folder) and ``time``.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip, values beyond
            are clipped; needed for files of other types than uint8 and uint16.
        test_side: "north", "east", "south" or "west": cells wholly on this side are the split
            "test", those wholly on the other "train"; those on the cut are left out.
        test_share: share of the area on that side.
        skip_bad: leave files with unreadable headers out.

    Returns:
        One row per cell and scene that covers it wholly (all centers of its pixels), ordered by
        cell and time. ``lon, lat`` are the cell's center; ``left, bottom, right, top`` its bounds
        in ``crs``. ``attrs["skipped"]`` maps the files that gave no row to the reason.

    Raises:
        FileNotFoundError: no such folder, or no GeoTIFF in it.
        ValueError: a file that is unreadable, without CRS or date, or of other bands; scenes
            that do not overlap or are smaller than a chip; wrong arguments.
    """
    folder = Path(folder)
    stride = chip_px if stride_px is None else stride_px
    if chip_px < 1 or stride < 1:
        raise ValueError(f"expected chip_px and stride_px >= 1, came {chip_px} and {stride_px}")
    if test_side is not None and test_side not in _SIDES:
        raise ValueError(f"expected test_side of {', '.join(_SIDES)}, came {test_side!r}")
    if not 0 < test_share < 1:
        raise ValueError(f"expected test_share in (0, 1), came {test_share}")
    if date_pattern is not None:
        try:
            re.compile(date_pattern)
        except re.error as error:
            raise ValueError(
                f"expected a regular expression as date_pattern, came {date_pattern!r}: {error}"
            ) from None
    files = _files(folder)
    listed = None if dates_csv is None else _listed_dates(Path(dates_csv))
    found: list[Scene] = []
    skipped: dict[str, str] = {}
    for path in files:
        try:
            found.append(
                read_header(
                    path, folder, date_pattern=date_pattern, date_tag=date_tag, dates=listed
                )
            )
        except DatasetError as error:
            if not skip_bad:
                raise ValueError(
                    f"{error}; mend or remove it, or leave such files out with skip_bad=True"
                ) from None
            skipped[str(path)] = str(error)
    if not found:
        raise ValueError(f"expected a readable GeoTIFF in {folder}, came {len(skipped)} unreadable")
    kept = _kept_bands(found, bands, band_names)
    _check_types(found, scale)
    table = _cells(found, chip_px, stride)
    for unused in {str(s.path) for s in found} - set(table["path"]):
        skipped[unused] = f"{unused} covers no cell of the grid wholly"
    table["bands"] = ",".join(str(b) for b in kept)
    table["band_names"] = ",".join(kept.values())
    table["dtype"] = "uint16" if scale is not None else found[0].dtype
    table["scale_low"], table["scale_high"] = scale or (np.nan, np.nan)
    table["reader"] = "geotiff"
    if test_side is not None:
        table = _cut(table, test_side, test_share)
    table.attrs["skipped"] = skipped
    return table


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder of GeoTIFFs at {folder}, found no such folder")
    files = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in (".tif", ".tiff") and p.is_file() and not p.name.startswith(".")
    )
    if not files:
        raise FileNotFoundError(
            f"expected .tif or .tiff files in {folder}, found none; give the folder that holds them"
        )
    return files


def _listed_dates(path: Path) -> dict[str, str]:
    table = read_csv(path, needed=["path", "time"]).fillna({"time": ""})
    return dict(zip(table["path"], table["time"], strict=True))


def _kept_bands(
    found: list[Scene], bands: Sequence[int | str] | None, names: Sequence[str] | None
) -> dict[int, str]:
    """Band numbers from 1 -> names."""
    counts = Counter(len(s.bands) for s in found)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        odd = next(s for s in found if len(s.bands) != usual)
        raise ValueError(
            f"expected the same number of bands in every scene, came {usual} in most and "
            f"{len(odd.bands)} in {odd.path}; remove it or put it in a folder of its own"
        )
    have = found[0].bands
    asked = bands if bands is not None else [i for i, n in enumerate(have, 1) if n != "alpha"]
    other = next((s for s in found if s.bands != have), None)
    if other is not None and any(isinstance(b, str) for b in asked):
        raise ValueError(
            f"expected the same band names in every scene, came {list(have)} in {found[0].path} "
            f"and {list(other.bands)} in {other.path}; give bands by number"
        )
    kept = [have.index(b) + 1 if b in have else 0 if isinstance(b, str) else int(b) for b in asked]
    if not kept or min(kept) < 1 or max(kept) > len(have) or len(set(kept)) < len(kept):
        raise ValueError(
            f"expected different bands from 1 to {len(have)} or of {list(have)}, came {list(asked)}"
        )
    if names is not None and (len(set(names)) != len(kept) or any("," in n for n in names)):
        raise ValueError(
            f"expected {len(kept)} different band names without commas, came {list(names)}"
        )
    return dict(zip(kept, names or [have[b - 1] for b in kept], strict=True))


def _check_types(found: list[Scene], scale: tuple[float, float] | None) -> None:
    kinds = {s.dtype: s.path for s in found}
    if scale is None and (len(kinds) > 1 or not set(kinds) <= {"uint8", "uint16"}):
        raise ValueError(
            f"expected scenes all of uint8 or all of uint16, came {sorted(kinds)} (e.g. "
            f"{kinds[max(kinds)]}); give scale=(lowest, highest) to map them to uint16"
        )
    if scale is not None and not scale[0] < scale[1]:
        raise ValueError(f"expected scale=(lowest, highest), came {scale}")


def _cells(found: list[Scene], chip: int, stride: int) -> pd.DataFrame:
    """Rows for every cell of the grid and every scene that covers it wholly."""
    crs, grid = common_grid(found)
    parts = []
    for scene in found:
        row, column = covered_cells(scene, crs, grid, chip_px=chip, stride_px=stride)
        parts.append(pd.DataFrame({"row": row, "column": column}))
        parts[-1]["path"], parts[-1]["time"] = str(scene.path), scene.time
    table = pd.concat([p for p in parts if len(p)] or parts, ignore_index=True)
    if table.empty:
        widest = max((s.width, s.height) for s in found)
        raise ValueError(
            f"expected scenes of at least {chip} x {chip} pixels, came {widest[0]} x {widest[1]} "
            "at most; give a smaller chip_px"
        )
    if len(found) > 1 and not table.duplicated(["row", "column"]).any():
        raise ValueError(
            f"expected scenes of the same area, but no two of the {len(found)} share a cell of "
            f"{chip} pixels; give overlapping scenes or a smaller chip_px"
        )
    table = table.sort_values(["row", "column", "time", "path"], ignore_index=True)
    row, column = table["row"].to_numpy(), table["column"].to_numpy()
    table["location"] = [f"r{r}c{c}" for r, c in zip(row, column, strict=True)]
    lon, lat = reproject(crs, "EPSG:4326", *pixel_to_crs(grid, column + chip / 2, row + chip / 2))
    table["lon"], table["lat"] = geo.wrap_lon(lon), lat
    table["left"], table["top"] = pixel_to_crs(grid, column, row)
    table["right"], table["bottom"] = pixel_to_crs(grid, column + chip, row + chip)
    table["crs"], table["chip_px"] = crs, chip
    table["label"] = table["split"] = None
    return table


def _cut(table: pd.DataFrame, side: str, share: float) -> pd.DataFrame:
    """Split by a straight cut; cells that lie across it are left out, so that none overlap."""
    low, high = ("left", "right") if side in ("east", "west") else ("bottom", "top")
    start, end = table[low].min(), table[high].max()
    upper = side in ("east", "north")
    cut = end - share * (end - start) if upper else start + share * (end - start)
    above, below = table[low] >= cut, table[high] <= cut
    test, train = (above, below) if upper else (below, above)
    table["split"] = np.where(test, "test", np.where(train, "train", ""))
    if not test.any() or not train.any():
        raise ValueError(
            f"expected cells on both sides of the cut, came {int(train.sum())} to train and "
            f"{int(test.sum())} to test; change test_share or give a smaller chip_px"
        )
    return table[test | train].reset_index(drop=True)


def fits(path: Path) -> str | None:
    """Why dated scenes of one area are at ``path``, or None; some headers are read."""
    from geossl.datasets.shared.listing import first_entries

    names = [
        e.name
        for e in first_entries(path, 2000)
        if os.path.isfile(e.path) and not e.name.startswith(".")
    ]
    tifs = sorted(n for n in names if n.lower().endswith((".tif", ".tiff")))[:16]
    if any(re.fullmatch(r"(.*_)?(B\d\d?A?|VV|VH)", Path(name).stem) for name in tifs):
        return None  # a file a band
    try:
        found = [read_header(path / name, path) for name in tifs]
        sides = []
        for scene in found:
            edge = pixel_to_crs(
                scene.transform, *outline_points(0.0, 0.0, scene.width, scene.height, parts=4)
            )
            x, y = reproject(scene.crs, "EPSG:4326", *edge)
            sides.append((x.min(), y.min(), x.max(), y.max()))
    except (ValueError, DatasetError):
        return None
    shared = any(
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] and one.time != two.time
        for (one, a), (two, b) in combinations(zip(found, sides, strict=True), 2)
    )
    if shared or len(found) == 1:
        return f"holds dated georeferenced tifs of one area, e.g. {tifs[0]}"
    return None


register("geotiff", open=geotiff, fits=fits, read=read_cells, pixel_info=pixel_info)
