"""A folder of georeferenced files, cut on grids in their own CRS.

Files that overlap show one area: they share a grid, and one of its cells at all dates is one
location. They may differ in extent, in CRS and by a row. Files that lie apart, such as patches or
the tiles of a mosaic, each have a grid of their own. Every chip is one windowed read, no file is
loaded whole.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from annotated_types import Interval

from geossl.data.dates import AmbiguousDate
from geossl.data.files import DatasetError
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.raster.files import raster_suffixes
from geossl.datasets.raster.folders import (
    bands_in_files,
    first_files,
    first_headers,
    is_scene,
    placed_pictures,
)
from geossl.datasets.raster.grid import (
    Scene,
    common_grid,
    covered_cells,
    group_overlapping,
    pixel_to_crs,
)
from geossl.datasets.raster.header import read_header, to_lon_lat
from geossl.datasets.raster.sample import with_scale
from geossl.datasets.raster.window import pixel_info, read_cells
from geossl.datasets.registry import register
from geossl.datasets.shared.listing import (
    find_files,
    list_folder,
)
from geossl.datasets.shared.scene_dates import date_scenes
from geossl.datasets.shared.table import drop_bad_files
from geossl.datasets.table import describes_images
from geossl.utils.validate import PositiveInt, validated

__all__ = ["geotiff"]

_CHIP_PX = 64


@validated
def geotiff(
    folder: str | os.PathLike[str],
    *,
    chip_px: PositiveInt | None = None,
    stride_px: PositiveInt | None = None,
    bands: Sequence[int | str] | None = None,
    band_names: Sequence[str] | None = None,
    date_pattern: str | None = None,
    date_tag: str | None = None,
    dates_csv: str | os.PathLike[str] | None = None,
    scale: tuple[float, float] | Literal["tags"] | None = None,
    nodata: float | None = None,
    warp: bool = False,
    test_side: Literal["north", "east", "south", "west"] | None = None,
    test_share: Annotated[float, Interval(gt=0, lt=1)] = 1 / 3,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of a folder of georeferenced files; only headers are read.

    Args:
        folder: contains GeoTIFFs or other rasters that GDAL opens, in any sub-folder; or one file.
        chip_px: side of a grid cell in pixels of the grid, which is the most common one among
            the files that overlap: CRS, then pixel size, then where the edges of the pixels lie.
            64 if None, or the shorter side of most files if that is less.
        stride_px: distance between two cells; ``chip_px`` if None.
        bands: bands to keep, counted from 1 or by the files' own names; all if None. An alpha band
            is none: it says which pixels hold data.
        band_names: their names; the files' own descriptions, colors or ``band_1, ...`` if None.
        date_pattern: form of ``strptime`` such as "%d-%m-%Y", or regular expression whose first
            group catches the date, in the name of a file or its path in the folder; "" if names
            hold no date. By default `geossl.data.dates.read_names` reads all usual forms.
        date_tag: name of a TIFF tag with the date, e.g. ``TIFFTAG_DATETIME``, used instead.
        dates_csv: a csv with the columns ``path`` (a file's name or path in the folder) and
            ``time`` of every file, used instead.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip; needed for other
            types than uint8 and uint16. "tags": of pixels by the files' own scale and offset.
        nodata: value of pixels without data that the files do not declare (0: in all bands).
        warp: warp files that have ground control points or RPCs in place of a transform.
        test_side: cells entirely on this side are the split "test", those entirely on the other
            "train"; those on the cut are left out.
        test_share: share of the area on that side.
        skip_bad: leave out files whose header cannot be read.

    Returns:
        One row per cell and file that covers it (all centers of its pixels), ordered by cell and
        time. ``lon, lat`` are the center of the cell; ``left, bottom, right, top`` its bounds in
        ``crs``. ``time`` is missing where neither a name nor an option says it: geo clusters, maps
        and `geossl.pairs.same_image` need none. ``attrs["skipped"]`` maps the files without a row
        to the reason.

    Raises:
        FileNotFoundError: the folder does not exist or contains no raster.
        ValueError: a file cannot be read, is not georeferenced, or has other bands; or all are
            smaller than a chip.
    """
    folder = Path(folder)
    files: list[str] = [str(folder)]
    problems: dict[str, str] = {}
    if not folder.is_file():
        list_folder(folder, "GeoTIFFs")
        files, problems = find_files(folder, raster_suffixes())
    scenes: list[Scene] = []
    top = folder.parent if folder.is_file() else folder
    for file in files:
        try:
            scenes.append(read_header(Path(file), tag=date_tag, warp=warp))
        except DatasetError as error:
            problems[file] = str(error)
    skipped = _beside(problems, scenes)
    bad = {path: reason for path, reason in problems.items() if path not in skipped}
    if several := bands_in_files(scenes, top):
        raise ValueError(f"The files in {folder} {several}.")
    names = pd.DataFrame({"path": [str(scene.path) for scene in scenes]})
    drop_bad_files(
        names, bad, skip_bad=skip_bad, what=f".tif or .tiff files in {folder}, or other rasters"
    )
    skipped |= bad
    _check_dtypes(scenes, scale)
    scenes = date_scenes(
        scenes, top, date_pattern=date_pattern, date_tag=date_tag, dates_csv=dates_csv
    )
    scenes = _agree_on_dates(scenes)
    numbers = _select_bands(scenes, bands)
    if chip_px is None:
        sides = sorted(min(scene.width, scene.height) for scene in scenes)
        chip_px = min(_CHIP_PX, sides[len(sides) // 2])
    table = _cut_areas(scenes, chip_px, stride_px or chip_px)
    for path in set(names["path"]) - set(table["path"]):
        skipped[path] = f"{path} covers no whole cell of the grid"
    if test_side is not None:
        table = _split_by_cut(table, test_side, test_share)
    table.attrs["skipped"] = skipped
    band_names = band_names or [scenes[0].bands[number] for number in numbers]
    pixels: dict[str, Any] = {"bands": numbers, "band_names": band_names, "nodata": nodata}
    pixels = with_scale(table["path"], {**pixels, "scale": scale, "dtype": scenes[0].dtype})
    return add_pixel_columns(table, reader="geotiff", **pixels)


def _beside(problems: dict[str, str], scenes: list[Scene]) -> dict[str, str]:
    """Return the problems of files of another kind than those that can be used: previews, ..."""
    good = {scene.path.suffix.lower() for scene in scenes}
    return {
        path: reason
        for path, reason in problems.items()
        if scenes and os.path.isfile(path) and Path(path).suffix.lower() not in good
    }


def _select_bands(scenes: list[Scene], bands: Sequence[int | str] | None) -> list[int]:
    """Return the numbers from 1 of the bands to keep."""
    first = scenes[0]
    numbers, _ = Counter(tuple(scene.bands) for scene in scenes).most_common(1)[0]
    odd = next((scene for scene in scenes if tuple(scene.bands) != numbers), None)
    if odd is not None and bands is not None and not any(isinstance(b, str) for b in bands):
        numbers = tuple(sorted(set(numbers).intersection(*(scene.bands for scene in scenes))))
    elif odd is not None:
        common = sorted(set(numbers) & set(odd.bands))
        raise ValueError(
            f"The scenes must have the same number of bands, got {len(numbers)} in most and "
            f"{len(odd.bands)} in {odd.path}. Pass `bands` that all have, such as "
            f"`bands={common}`, or move it to another folder."
        )
    if bands is None:
        return list(numbers)
    other = next((scene for scene in scenes if scene.bands != first.bands), None)
    if other is not None and any(isinstance(band, str) for band in bands):
        raise ValueError(
            f"`bands` must be numbers, because the scenes have other names of bands: "
            f"{list(first.bands.values())} in {first.path} and {list(other.bands.values())} in "
            f"{other.path}."
        )
    positions = {name: number for number, name in first.bands.items()}
    chosen = [positions.get(b, 0) if isinstance(b, str) else int(b) for b in bands]
    if not chosen or not set(chosen) <= set(numbers) or len({*chosen}) < len(chosen):
        raise ValueError(
            f"`bands` must be different numbers from 1 to {max(numbers, default=0)} or names of "
            f"{list(first.bands.values())}, got {list(bands)}."
        )
    return chosen


def _check_dtypes(scenes: list[Scene], scale: object) -> None:
    examples = {scene.dtype: scene.path for scene in scenes}
    if scale is None and len(examples) > 1:
        raise ValueError(
            f"The scenes must be all of one type, got {sorted(examples)} (e.g. "
            f"{examples[max(examples)]}). Pass `scale=(lowest, highest)`, e.g. (0, 10000)."
        )


def _agree_on_dates(scenes: list[Scene]) -> list[Scene]:
    """Refuse the odd file without a date; forget dates that only a few names seem to have."""
    undated = [scene for scene in scenes if pd.isna(scene.time)]
    has_days = any(s.date_rule and not s.date_rule.startswith("year in") for s in scenes)
    if undated and (has_days or 2 * len(undated) < len(scenes)):
        raise ValueError(
            f"{undated[0].path} has no date in its name, as other files of the folder have. Pass "
            "`date_pattern`, `date_tag` or `dates_csv`, or `date_pattern=''` if none is a date."
        )
    if undated:
        scenes = [replace(scene, time=pd.NaT, date_rule=None) for scene in scenes]
    return scenes


def _cut_areas(scenes: list[Scene], chip_px: int, stride_px: int) -> pd.DataFrame:
    """Return a row for every cell of every area and each scene that covers it."""
    areas = group_overlapping(scenes, chip_px)
    grids: list[tuple[Any, ...]] = []
    parts: list[tuple[Any, ...]] = []
    for group in areas:
        crs, grid = common_grid(group)
        for scene in group:
            cells = covered_cells(scene, crs, grid, chip_px=chip_px, stride_px=stride_px)
            parts.append((len(grids), str(scene.path), scene.time, scene.date_rule, cells))
        grids.append((crs, *grid[:6]))
    area, path, time, rule, found = zip(*parts, strict=True)
    counts = [part.shape[1] for part in found]
    row, column = np.concatenate(found, axis=1)
    table = pd.DataFrame({"row": row, "column": column})
    table["path"] = np.repeat(np.array(path, object), counts)
    times = pd.Series(pd.to_datetime(list(time), utc=True))
    table["time"] = times.repeat(counts).reset_index(drop=True)
    table["date_rule"] = np.repeat(np.array(rule, object), counts)
    table["area"] = np.repeat(area, counts)
    if table.empty:
        largest = max((scene.width, scene.height) for scene in scenes)
        raise ValueError(
            f"`chip_px` must fit into a scene, got {chip_px} for scenes of at most "
            f"{largest[0]} x {largest[1]} pixels. Pass a smaller one, e.g. {min(largest)}."
        )
    table = table.sort_values(["area", "row", "column", "time", "path"], ignore_index=True)
    number, row, column = (table[name].to_numpy() for name in ("area", "row", "column"))
    names = [f"r{r}c{c}" for r, c in zip(row, column, strict=True)]
    if len(areas) > 1:
        names = [f"a{n}{name}" for n, name in zip(number, names, strict=True)]
    each, *transform = (np.array(values)[number] for values in zip(*grids, strict=True))
    at: Any = SimpleNamespace(**dict(zip("abcdef", transform, strict=True)))
    left, top = pixel_to_crs(at, column, row)
    right, bottom = pixel_to_crs(at, column + chip_px, row + chip_px)
    x, y = pixel_to_crs(at, column + chip_px / 2, row + chip_px / 2)
    lon, lat = to_lon_lat(pd.Series(each, dtype=object), x, y)
    if np.isnan(lon).any():
        bad = int(np.isnan(lon).argmax())
        raise ValueError(
            f"{table['path'][bad]} lies nowhere on the globe: ({x[bad]:g}, {y[bad]:g}) in its CRS "
            f"{each[bad][:60]!r} has no longitude and latitude. Write the right CRS and bounds "
            "into a copy: gdal_translate -a_srs EPSG:CODE -a_ullr LEFT TOP RIGHT BOTTOM."
        )
    return table.drop(columns="area").assign(
        location=names, lon=lon, lat=lat, left=left, top=top, right=right, bottom=bottom,
        crs=each.astype(object), chip_px=chip_px, label=None, split=None,
    )  # fmt: skip


def _split_by_cut(table: pd.DataFrame, side: str, share: float) -> pd.DataFrame:
    """Split by a straight cut; cells that lie across it are left out, so that none overlap."""
    if table["crs"].nunique() > 1:
        raise ValueError(
            f"`test_side` needs files of one CRS, got {table['crs'].nunique()}. Leave it out and "
            "split the table with `geossl.data.scenes.split_by_blocks`."
        )
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
    scenes = first_headers(path)
    with suppress(AmbiguousDate):  # to be said when it is opened
        scenes = date_scenes(scenes, path.parent if path.is_file() else path)
    one_area = any(
        len({scene.time for scene in group} - {pd.NaT}) > 1
        for group in group_overlapping(scenes, chip_px=1)
    ) if scenes else False  # fmt: skip
    if one_area or (len(scenes) == 1 and pd.notna(scenes[0].time)):
        return f"contains dated georeferenced files of one area, e.g. {scenes[0].path.name}"
    return None


def fits_any(path: Path) -> str | None:
    """Return why other georeferenced files are at ``path``, or None; some headers are read."""
    scenes = [] if describes_images(path) else first_headers(path)
    return f"contains georeferenced files, e.g. {scenes[0].path.name}" if scenes else None


def lacks(path: Path) -> str | None:
    """Return why the rasters at a path do not open by themselves, or None."""
    files = [path] if path.is_file() and is_scene(path.name) else first_files(path)
    files = (
        files
        or placed_pictures(path)
        or [Path(f) for f in find_files(path, is_scene, limit=16)[0][:16]]
    )
    scenes = []
    for file in files:
        try:
            scenes.append(read_header(file))
        except (OSError, ValueError) as error:
            return f"cannot place a file: {str(error).rstrip('.')}"
    if several := bands_in_files(scenes, path):
        return f"finds files that {several}"
    if files:
        table = " next to the table that names them" if describes_images(path) else ""
        return f"opens the georeferenced files there{table}, if you pass reader='geotiff'"
    return None


register(
    "geotiff", open=geotiff, fits=fits, fallback=fits_any, lacks=lacks, read=read_cells,
    pixel_info=pixel_info,
)  # fmt: skip
