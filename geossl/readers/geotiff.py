"""A folder of dated GeoTIFF scenes of one area, cut on a grid in the scenes' own CRS.

One grid cell at all dates is one location. Scenes may differ in extent, in CRS and by a row; every
chip is one windowed read, no scene is loaded whole.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from geossl.readers.pixels import Pixels

if TYPE_CHECKING:
    from rasterio.transform import Affine

_DATES = (
    r"(?<!\d)((?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01]))(?!\d)",
    r"(?<!\d)((?:19|20)\d\d)(?!\d)",
)
_ALIGNED_PX = 0.01  # a scene whose pixels lie this near to the grid's is read without resampling
_SIDES = ("north", "east", "south", "west")


@dataclass(frozen=True)
class _Scene:
    path: Path
    crs: str
    transform: Affine
    width: int
    height: int
    bands: tuple[str, ...]
    dtype: str
    time: pd.Timestamp


def geotiff(
    folder: str | os.PathLike[str],
    *,
    chip_px: int = 64,
    stride_px: int | None = None,
    bands: Sequence[int] | None = None,
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
        chip_px: side of a grid cell in pixels of the most common CRS and pixel size.
        stride_px: distance between two cells; ``chip_px`` when None.
        bands: bands to keep, counted from 1; all when None.
        band_names: their names; the files' own descriptions or ``band_1, ...`` when None.
        date_pattern: regular expression whose first group catches the date in a file's name; by
            default a full date such as 20200630 or 2020-06-30, else a year alone.
        date_tag: name of a TIFF tag with the date, e.g. ``TIFFTAG_DATETIME``.
        dates_csv: a csv with the columns ``path`` (file name or path in the folder) and ``time``.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip; needed for files
            of other types than uint8 and uint16.
        test_side: "north", "east", "south" or "west": cells wholly on this side are the split
            "test", those wholly on the other "train"; those on the cut are left out.
        test_share: share of the area on that side.
        skip_bad: leave files with unreadable headers out, listed in ``attrs["skipped"]``.

    Returns:
        One row per cell and scene that covers it wholly, ordered by cell and time. ``lon, lat``
        are the cell's centre; ``left, bottom, right, top`` its bounds in ``crs``.

    Raises:
        FileNotFoundError: no such folder, or no GeoTIFF in it.
        ValueError: a file that is unreadable, without CRS or date, or of other bands; scenes
            that do not overlap or are smaller than a chip; wrong arguments.
    """
    folder = Path(folder)
    stride = stride_px or chip_px
    if chip_px < 1 or stride < 1:
        raise ValueError(f"expected chip_px and stride_px >= 1, came {chip_px} and {stride_px}")
    if test_side is not None and test_side not in _SIDES:
        raise ValueError(f"expected test_side of {', '.join(_SIDES)}, came {test_side!r}")
    if not 0 < test_share < 1:
        raise ValueError(f"expected test_share in (0, 1), came {test_share}")
    files = _files(folder)
    listed = None if dates_csv is None else _listed_dates(Path(dates_csv))
    found, skipped = [], {}
    for path in files:
        try:
            found.append(_header(path, folder, date_pattern, date_tag, listed))
        except _UnreadableError as error:
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
    table["bands"] = ",".join(str(b) for b in kept)
    table["band_names"] = ",".join(kept.values())
    table["dtype"] = "uint16" if scale is not None else found[0].dtype
    table["scale_low"], table["scale_high"] = scale or (np.nan, np.nan)
    table["reader"] = "geotiff"
    if test_side is not None:
        table = _cut(table, test_side, test_share)
    table.attrs["skipped"] = skipped
    return table


class _UnreadableError(Exception):
    """A file that is damaged: the one kind that ``skip_bad`` leaves out."""


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder of GeoTIFFs at {folder}, found no such folder")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".tif", ".tiff"))
    if not files:
        raise FileNotFoundError(
            f"expected .tif or .tiff files in {folder}, found none; give the folder that holds them"
        )
    return files


def _listed_dates(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise FileNotFoundError(f"expected a csv of dates at {path}, found no file")
    table = pd.read_csv(path, dtype=str)
    if not {"path", "time"} <= set(table):
        raise ValueError(f"expected the columns path and time in {path}, came {list(table)}")
    return dict(zip(table["path"], table["time"], strict=True))


def _header(
    path: Path,
    folder: Path,
    date_pattern: str | None,
    date_tag: str | None,
    listed: dict[str, str] | None,
) -> _Scene:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                tags, crs = file.tags(), file.crs
                names = tuple(d or f"band_{i}" for i, d in enumerate(file.descriptions, 1))
                shape = file.transform, file.width, file.height
                kinds = set(file.dtypes)
    except RasterioIOError as error:
        raise _UnreadableError(f"{path} cannot be read as a GeoTIFF: {error}") from None
    if crs is None:
        raise ValueError(
            f"{path} has no CRS; georeference it (e.g. gdal_edit.py -a_srs EPSG:...) or remove it"
        )
    if len(kinds) > 1:
        raise ValueError(f"expected bands of one type in {path}, came {sorted(kinds)}")
    text: str | None
    if listed is not None:
        text = listed.get(str(path.relative_to(folder)), listed.get(path.name))
    elif date_tag is not None:
        text = tags.get(date_tag)
    else:
        patterns = (date_pattern,) if date_pattern is not None else _DATES
        hits = (re.search(pattern, path.stem) for pattern in patterns)
        text = next((hit.group(hit.re.groups and 1) for hit in hits if hit), None)
    return _Scene(path, crs.to_wkt(), *shape, names, kinds.pop(), _date(path, text))


def _date(path: Path, text: str | None) -> pd.Timestamp:
    ways = "give date_pattern, date_tag or dates_csv"
    if text is None:
        raise ValueError(f"{path}: found no date; {ways}")
    digits = re.sub(r"[-_.:]", "", text.strip()) if re.match(r"[\d._:-]+$", text.strip()) else ""
    form = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}.get(len(digits))
    if re.match(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d$", text.strip()):  # the TIFF standard's form
        digits, form = text.strip(), "%Y:%m:%d %H:%M:%S"
    try:
        time = pd.to_datetime(digits, format=form) if form else pd.Timestamp(text)
        if pd.isna(time):
            raise ValueError(text)
    except ValueError:
        raise ValueError(f"{path}: {text!r} does not parse as a date; {ways}") from None
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")


def _kept_bands(
    found: list[_Scene], bands: Sequence[int] | None, names: Sequence[str] | None
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
    kept = list(bands) if bands is not None else list(range(1, len(have) + 1))
    if not kept or min(kept) < 1 or max(kept) > len(have):
        raise ValueError(f"expected bands from 1 to {len(have)}, came {kept}")
    if names is not None and len(names) != len(kept):
        raise ValueError(f"expected {len(kept)} band names, came {len(names)}: {list(names)}")
    return dict(zip(kept, names or [have[b - 1] for b in kept], strict=True))


def _check_types(found: list[_Scene], scale: tuple[float, float] | None) -> None:
    kinds = {s.dtype: s.path for s in found}
    if scale is None and (len(kinds) > 1 or not set(kinds) <= {"uint8", "uint16"}):
        raise ValueError(
            f"expected scenes all of uint8 or all of uint16, came {sorted(kinds)} (e.g. "
            f"{kinds[max(kinds)]}); give scale=(lowest, highest) to map them to uint16"
        )
    if scale is not None and not scale[0] < scale[1]:
        raise ValueError(f"expected scale=(lowest, highest), came {scale}")


def _cells(found: list[_Scene], chip: int, stride: int) -> pd.DataFrame:
    """Rows for every cell of the grid and every scene that covers it wholly."""
    from rasterio.warp import transform, transform_bounds

    crs = Counter(s.crs for s in found).most_common(1)[0][0]
    grid = next(s for s in found if s.crs == crs).transform
    rows = []
    for scene in found:
        box = (0, 0, scene.width, scene.height)
        if scene.crs == crs:
            to_grid = ~grid @ scene.transform
            corners = [to_grid @ (x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]
        else:
            ends = [scene.transform @ (x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]
            xs, ys = zip(*ends, strict=True)
            left, bottom, right, top = transform_bounds(
                scene.crs, crs, min(xs), min(ys), max(xs), max(ys)
            )
            corners = [~grid @ (x, y) for x in (left, right) for y in (bottom, top)]
        columns, lines = zip(*corners, strict=True)
        slack = _ALIGNED_PX if scene.crs == crs else 0.0
        first = [int(np.ceil((min(v) - slack) / stride)) for v in (lines, columns)]
        last = [int(np.floor((max(v) + slack - chip) / stride)) for v in (lines, columns)]
        r, c = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first, last, strict=True)),
                           indexing="ij")  # fmt: skip
        part = pd.DataFrame({"row": r.ravel() * stride, "column": c.ravel() * stride})
        part["path"], part["time"] = str(scene.path), scene.time
        rows.append(part)
    table = pd.concat(rows, ignore_index=True)
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
    table["location"] = [f"r{r}c{c}" for r, c in zip(table["row"], table["column"], strict=True)]
    corner, middle, end = (
        [(grid @ xy) for xy in zip(table["column"] + d, table["row"] + d, strict=True)]
        for d in (0, chip / 2, chip)
    )
    x, y = (np.array(v) for v in zip(*middle, strict=True))
    table["lon"], table["lat"] = (np.array(v) for v in transform(crs, "EPSG:4326", x, y))
    ends = np.array([(*a, *b) for a, b in zip(corner, end, strict=True)])
    table["left"], table["right"] = ends[:, [0, 2]].min(1), ends[:, [0, 2]].max(1)
    table["bottom"], table["top"] = ends[:, [1, 3]].min(1), ends[:, [1, 3]].max(1)
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


def pixel_info(scenes: pd.DataFrame) -> dict[str, Any]:
    """Bands, dtype, units and source of the pixels."""
    first = scenes.iloc[0]
    names = first["band_names"].split(",")
    lower = [name.lower() for name in names]
    colours = [lower.index(c) if c in lower else None for c in ("red", "green", "blue")]
    rgb = [c for c in colours if c is not None]
    if len(rgb) < 3:
        rgb = [0, 1, 2] if len(names) >= 3 else [0]
    units = "as in the files"
    if np.isfinite(first["scale_low"]):
        units = f"1..65535 for {first['scale_low']:g}..{first['scale_high']:g}, 0 where no data"
    return {
        "bands": names,
        "dtype": first["dtype"],
        "units": units,
        "source": "GeoTIFF scenes",
        "rgb": rgb,
    }


def read_chips(rows: pd.DataFrame, *, size_px: int) -> Pixels:
    """Pixels of some rows, one windowed read each; a file is opened once.

    ``nodata_share`` is the share of pixels that the file masks (or that are NaN) in any band.
    ``cloud_free_share`` is a rough guess by brightness: pixels bright and grey in the bands a
    person sees count as cloud; snow and bright roofs count too.
    """
    import rasterio
    from rasterio.errors import RasterioIOError

    info = pixel_info(rows)
    chips = np.zeros((len(rows), len(info["bands"]), size_px, size_px), info["dtype"])
    valid = np.zeros((len(rows), size_px, size_px), bool)
    bad: dict[int, str] = {}
    for path, at in rows.groupby("path", sort=False).indices.items():
        try:
            with rasterio.open(path) as file:
                for i in at:
                    try:
                        chips[i], valid[i] = _read(file, rows.iloc[i], size_px)
                    except RasterioIOError as error:
                        bad[int(i)] = f"pixels cannot be read: {error.__cause__ or error}"
        except RasterioIOError as error:
            bad |= {int(i): f"the file cannot be read: {error}" for i in at}
    seen = chips[:, info["rgb"]].astype(np.float32)
    bright = 200 if info["dtype"] == "uint8" else 3500  # of 255; of reflectance times 10,000
    cloud = (seen.min(1) > bright) & (seen.max(1) - seen.min(1) < 0.2 * seen.max(1))
    count = np.maximum(valid.sum((1, 2)), 1)
    extra = {
        "nodata_share": 1 - valid.mean((1, 2)),
        "cloud_free_share": 1 - (cloud & valid).sum((1, 2)) / count,
    }
    return Pixels(chips, valid, extra, bad)


def _read(file: Any, row: pd.Series, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """One chip ``(C, S, S)`` and which of its pixels hold data ``(S, S)``."""
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.transform import from_bounds
    from rasterio.vrt import WarpedVRT
    from rasterio.windows import Window

    bands = [int(b) for b in row["bands"].split(",")]
    chip = int(row["chip_px"])
    box = (row["left"], row["bottom"], row["right"], row["top"])
    how = Resampling.average if size_px < chip else Resampling.bilinear
    crs = CRS.from_wkt(row["crs"])
    (x0, y0), (x1, y1) = (~file.transform @ xy for xy in ((box[0], box[3]), (box[2], box[1])))
    edges = np.array([x0, y0, x1 - chip, y1 - chip])
    near = bool(np.abs(edges - np.round(edges)).max() <= _ALIGNED_PX)
    if file.crs == crs and near:
        window = Window(round(x0), round(y0), chip, chip)
        return _window(file, bands, window, size_px, how, row)
    grid = from_bounds(*box, size_px, size_px)
    with WarpedVRT(
        file, crs=crs, transform=grid, width=size_px, height=size_px, resampling=how,
        add_alpha=file.nodata is None,
    ) as warped:  # fmt: skip
        return _window(warped, bands, Window(0, 0, size_px, size_px), size_px, how, row)


def _window(
    file: Any, bands: list[int], window: Any, size_px: int, how: Any, row: pd.Series
) -> tuple[np.ndarray, np.ndarray]:
    from rasterio.enums import Resampling

    shape = (len(bands), size_px, size_px)
    pixels = file.read(bands, window=window, out_shape=shape, resampling=how)
    mask = file.read_masks(bands, window=window, out_shape=shape, resampling=Resampling.nearest)
    valid = (mask > 0).all(0)
    if np.issubdtype(pixels.dtype, np.floating):
        valid &= np.isfinite(pixels).all(0)
    if np.isfinite(row["scale_low"]):
        low, high = row["scale_low"], row["scale_high"]
        share = np.clip((np.nan_to_num(pixels.astype(np.float64)) - low) / (high - low), 0, 1)
        pixels = np.round(1 + share * 65534)
    return np.where(valid, pixels, 0).astype(row["dtype"]), valid
