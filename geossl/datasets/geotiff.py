"""A folder of dated GeoTIFF scenes of one area, cut on a grid in the scenes' own CRS.

One grid cell at all dates is one location. Scenes may differ in extent, in CRS and by a row; every
chip is one windowed read, no scene is loaded whole.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Interval

from geossl import geo
from geossl.data.dates import AmbiguousDate
from geossl.data.files import DatasetError
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.files import TIFF_SUFFIXES, is_tiff
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
from geossl.datasets.shared.listing import find_files, first_entries, list_folder
from geossl.datasets.shared.scene_dates import date_scenes
from geossl.datasets.shared.table import drop_bad_files
from geossl.utils.validate import PositiveInt, validated

__all__ = ["geotiff"]

_ONE_BAND = re.compile(r"(.*_)?(B\d\d?A?|VV|VH)")  # names of files that hold one band


@validated
def geotiff(
    folder: str | os.PathLike[str],
    *,
    chip_px: PositiveInt = 64,
    stride_px: PositiveInt | None = None,
    bands: Sequence[int | str] | None = None,
    band_names: Sequence[str] | None = None,
    date_pattern: str | None = None,
    date_tag: str | None = None,
    dates_csv: str | os.PathLike[str] | None = None,
    scale: tuple[float, float] | None = None,
    test_side: Literal["north", "east", "south", "west"] | None = None,
    test_share: Annotated[float, Interval(gt=0, lt=1)] = 1 / 3,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of a folder of GeoTIFFs; only headers are read.

    Args:
        folder: contains ``.tif`` or ``.tiff`` files, in any sub-folder.
        chip_px: side of a grid cell in pixels of the grid, which is the most common one among
            the scenes: CRS, then pixel size, then where the edges of the pixels lie.
        stride_px: distance between two cells; ``chip_px`` if None.
        bands: bands to keep, counted from 1 or by the files' own names; all but an alpha band
            if None.
        band_names: their names; the files' own descriptions, colors or ``band_1, ...`` if None.
        date_pattern: form of ``strptime`` such as "%d-%m-%Y", or regular expression whose first
            group catches the date, in the name of a file or its path in the folder; "" if names
            hold no date. By default `geossl.data.dates.read_names` reads all usual forms.
        date_tag: name of a TIFF tag with the date, e.g. ``TIFFTAG_DATETIME``, used instead.
        dates_csv: a csv with the columns ``path`` (a file's name or path in the folder) and
            ``time`` of every file, used instead.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip, values beyond
            are clipped; needed for files of other types than uint8 and uint16.
        test_side: cells entirely on this side are the split "test", those entirely on the other
            "train"; those on the cut are left out.
        test_share: share of the area on that side.
        skip_bad: leave out files whose header cannot be read.

    Returns:
        One row per cell and scene that covers it (all centers of its pixels), ordered by cell and
        time. ``lon, lat`` are the center of the cell; ``left, bottom, right, top`` its bounds in
        ``crs``. ``attrs["skipped"]`` maps the files without a row to the reason.

    Raises:
        FileNotFoundError: the folder does not exist or contains no GeoTIFF.
        ValueError: a file cannot be read, has no CRS or date, or other bands; scenes do not overlap
            or are smaller than a chip.
    """
    folder = Path(folder)
    list_folder(folder, "GeoTIFFs")
    scenes: list[Scene] = []
    skipped: dict[str, str] = {}
    for path in find_files(folder, TIFF_SUFFIXES):
        try:
            scenes.append(read_header(Path(path), tag=date_tag))
        except DatasetError as error:
            skipped[path] = str(error)
    names = pd.DataFrame({"path": [str(scene.path) for scene in scenes]})
    drop_bad_files(names, skipped, skip_bad=skip_bad, what=f".tif or .tiff files in {folder}")
    _check_dtypes(scenes, scale)
    scenes = date_scenes(
        scenes, folder, date_pattern=date_pattern, date_tag=date_tag, dates_csv=dates_csv
    )
    undated = next((scene for scene in scenes if pd.isna(scene.time)), None)
    if undated is not None:
        raise ValueError(
            f"{undated.path} has no date in its name. Pass `date_pattern`, `date_tag` or "
            "`dates_csv`."
        )
    numbers = _select_bands(scenes, bands)
    table = _cut_cells(scenes, chip_px, stride_px or chip_px)
    for path in set(names["path"]) - set(table["path"]):
        skipped[path] = f"{path} covers no whole cell of the grid"
    if test_side is not None:
        table = _split_by_cut(table, test_side, test_share)
    table.attrs["skipped"] = skipped
    band_names = band_names or [scenes[0].bands[number - 1] for number in numbers]
    return add_pixel_columns(
        table, reader="geotiff", bands=numbers, band_names=band_names, dtype=scenes[0].dtype,
        scale=scale,
    )  # fmt: skip


def _select_bands(scenes: list[Scene], bands: Sequence[int | str] | None) -> list[int]:
    """Return the numbers from 1 of the bands to keep."""
    first = scenes[0]
    count, _ = Counter(len(scene.bands) for scene in scenes).most_common(1)[0]
    odd = next((scene for scene in scenes if len(scene.bands) != count), None)
    if odd is not None:
        raise ValueError(
            f"The scenes must have the same number of bands, got {count} in most and "
            f"{len(odd.bands)} in {odd.path}. Move it to another folder."
        )
    if bands is None:
        return [number for number, name in enumerate(first.bands, 1) if name != "alpha"]
    other = next((scene for scene in scenes if scene.bands != first.bands), None)
    if other is not None and any(isinstance(band, str) for band in bands):
        raise ValueError(
            f"`bands` must be numbers, because the scenes have other names of bands: "
            f"{list(first.bands)} in {first.path} and {list(other.bands)} in {other.path}."
        )
    positions = {name: number for number, name in enumerate(first.bands, 1)}
    numbers = [positions.get(b, 0) if isinstance(b, str) else int(b) for b in bands]
    if not numbers or not set(numbers) <= {*range(1, count + 1)} or len({*numbers}) < len(numbers):
        raise ValueError(
            f"`bands` must be different numbers from 1 to {count} or names of "
            f"{list(first.bands)}, got {list(bands)}."
        )
    return numbers


def _check_dtypes(scenes: list[Scene], scale: tuple[float, float] | None) -> None:
    examples = {scene.dtype: scene.path for scene in scenes}
    if scale is None and len(examples) > 1:
        raise ValueError(
            f"The scenes must be all of one type, got {sorted(examples)} (e.g. "
            f"{examples[max(examples)]}). Pass `scale=(lowest, highest)` to map them to uint16."
        )


def _cut_cells(scenes: list[Scene], chip_px: int, stride_px: int) -> pd.DataFrame:
    """Return a row for every cell of the grid and every scene that covers it."""
    crs, grid = common_grid(scenes)
    parts = []
    for scene in scenes:
        row, column = covered_cells(scene, crs, grid, chip_px=chip_px, stride_px=stride_px)
        cells = pd.DataFrame({"row": row, "column": column})
        parts.append(cells.assign(path=str(scene.path), time=scene.time, date_rule=scene.date_rule))
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    if table.empty:
        largest = max((scene.width, scene.height) for scene in scenes)
        raise ValueError(
            f"`chip_px` must fit into a scene, got {chip_px} for scenes of at most "
            f"{largest[0]} x {largest[1]} pixels."
        )
    if len(scenes) > 1 and not table.duplicated(["row", "column"]).any():
        raise ValueError(
            f"The scenes must show the same area, but no two of the {len(scenes)} share a cell of "
            f"{chip_px} pixels. Use overlapping scenes or a smaller `chip_px`."
        )
    table = table.sort_values(["row", "column", "time", "path"], ignore_index=True)
    row, column = table["row"].to_numpy(), table["column"].to_numpy()
    center = pixel_to_crs(grid, column + chip_px / 2, row + chip_px / 2)
    lon, lat = reproject(crs, "EPSG:4326", *center)
    left, top = pixel_to_crs(grid, column, row)
    right, bottom = pixel_to_crs(grid, column + chip_px, row + chip_px)
    return table.assign(
        location=[f"r{r}c{c}" for r, c in zip(row, column, strict=True)],
        lon=geo.wrap_lon(lon), lat=lat, left=left, top=top, right=right, bottom=bottom,
        crs=crs, chip_px=chip_px, label=None, split=None,
    )  # fmt: skip


def _split_by_cut(table: pd.DataFrame, side: str, share: float) -> pd.DataFrame:
    """Split by a straight cut; cells that lie across it are left out, so that none overlap."""
    low, high = ("left", "right") if side in ("east", "west") else ("bottom", "top")
    start, end = table[low].min(), table[high].max()
    is_upper = side in ("east", "north")
    cut = end - share * (end - start) if is_upper else start + share * (end - start)
    above, below = table[low] >= cut, table[high] <= cut
    test, train = (above, below) if is_upper else (below, above)
    if not test.any() or not train.any():
        raise ValueError(
            f"`test_share` must leave cells on both sides, got {share} with {int(train.sum())} to "
            f"train and {int(test.sum())} to test. Change it or use a smaller `chip_px`."
        )
    table = table.assign(split=np.where(test, "test", "train"))
    return table[test | train].reset_index(drop=True)


def fits(path: Path) -> str | None:
    """Return why dated scenes of one area are at ``path``, or None; some headers are read."""
    names = [
        entry.name
        for entry in first_entries(path, 2000)
        if is_tiff(entry.name) and os.path.isfile(entry.path) and not entry.name.startswith(".")
    ]
    names = sorted(names)[:16]
    if any(_ONE_BAND.fullmatch(Path(name).stem) for name in names):
        return None
    try:
        scenes = [read_header(path / name) for name in names]
        with suppress(AmbiguousDate):  # to be said when it is opened
            scenes = date_scenes(scenes, path)
            if any(pd.isna(scene.time) for scene in scenes):
                return None
        bounds = []
        for scene in scenes:
            outline = outline_points(0.0, 0.0, scene.width, scene.height, parts=4)
            x, y = reproject(scene.crs, "EPSG:4326", *pixel_to_crs(scene.transform, *outline))
            bounds.append((x.min(), y.min(), x.max(), y.max()))
    except ValueError:
        return None
    overlap = any(
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] and one.time != two.time
        for (one, a), (two, b) in combinations(zip(scenes, bounds, strict=True), 2)
    )
    if overlap or len(scenes) == 1:
        return f"contains dated georeferenced tifs of one area, e.g. {names[0]}"
    return None


register("geotiff", open=geotiff, fits=fits, read=read_cells, pixel_info=pixel_info)
