"""What a worker of a harvest does for one place: search, choose dates, read and write chips."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from geossl import geo
from geossl.datasets.raster.grid import ALIGNED_PX, reproject
from geossl.datasets.raster.window import read_window
from geossl.datasets.stac import search as stac
from geossl.datasets.stac.http import GaveUpError, RemoteFile
from geossl.utils.io import atomic_write

_KM_PER_DEGREE = np.pi * geo.EARTH_RADIUS_KM / 180
_MOST_GIVEN_UP = 3  # items of a place that gave no answer; then the place has to wait
_MOST_PX = 2**28  # of a window or a block; more is a mistake or a bomb


@dataclass(frozen=True)
class Plan:
    """What a worker needs besides the place; small, for it is pickled with every task."""

    out: Path
    search: stac.Search
    dates: int
    chip_px: int
    resolution_m: float | None
    bands: tuple[str, ...]
    max_nodata: float


@dataclass(frozen=True)
class Place:
    """Number in the table of places, and position in degrees."""

    number: int
    lon: float
    lat: float


def harvest_place(plan: Plan, place: Place) -> dict[str, Any]:
    """Read the chips of one place; what became of each item that was tried."""
    tried: list[dict[str, Any]] = []
    given_up = 0
    try:
        items = stac.items_at(plan.search, place.lon, place.lat)
    except GaveUpError as error:
        return {"complete": False, "reason": f"search: {error}", "items": []}
    whole = [item for item in items if _covers(item, plan, place)]

    def keep(item: stac.Item) -> bool:
        nonlocal given_up
        if given_up >= _MOST_GIVEN_UP:
            return False
        about = {"item": item.id, "datetime": item.time.isoformat(), "license": item.license,
                 "cloud_cover": item.cloud, "about": item.about}  # fmt: skip
        try:
            tried.append({**about, "status": "ok", **_chip(item, plan, place)})
            return True
        except GaveUpError as error:
            given_up += error.again
            tried.append({**about, "status": "gave up" if error.again else "refused",
                          "reason": str(error)})  # fmt: skip
            return False

    kept = pick_dates(whole, keep, start=plan.search.start, end=plan.search.end, dates=plan.dates)
    few = len(kept) < plan.dates
    reason = (
        f"{len(kept)} of {plan.dates} dates: {len(items)} items under the cloud limit, "
        f"{len(whole)} cover the chip, {len(tried)} tried"
    )
    reason += f", the last: {tried[-1]['reason']}" if few and tried and not kept else ""
    return {"complete": not (few and given_up), "reason": reason if few else "", "items": tried}


def pick_dates(
    items: Sequence[stac.Item],
    keep: Callable[[stac.Item], bool],
    *,
    start: date,
    end: date,
    dates: int,
) -> list[stac.Item]:
    """Items on different days that are well spread over a range, of those that can be kept.

    The range has ``dates`` equally spaced times, from its start to its end (one: its middle). Each
    takes the nearest item within half a space that ``keep`` accepts; what is then missing is
    filled up with the item farthest from those kept. The same items, the same choice.

    Args:
        items: to choose from, in any order.
        keep: tries one, and says whether it is good.
        start: first day.
        end: last day.
        dates: wanted at most.
    """
    origin = datetime(start.year, start.month, start.day, tzinfo=UTC)
    span = (end - start).days + 1.0

    def day(item: stac.Item) -> float:
        return (item.time - origin).total_seconds() / 86_400

    def gap(item: stac.Item) -> float:
        return min((abs(day(item) - day(other)) for other in kept), default=np.inf)

    space = span / max(1, dates - 1)
    times = [span / 2] if dates == 1 else [k * space for k in range(dates)]
    kept: list[stac.Item] = []
    left = sorted(items, key=lambda item: (100 if item.cloud is None else item.cloud, item.id))
    for time in times:
        near = [item for item in left if abs(day(item) - time) <= space / 2]
        for item in sorted(near, key=lambda item: abs(day(item) - time)):
            if gap(item) < 1:
                continue
            left.remove(item)
            if keep(item):
                kept.append(item)
                break
    while len(kept) < dates and left:
        item = max(left, key=gap)
        if gap(item) < 1:
            break
        left.remove(item)
        if keep(item):
            kept.append(item)
    return kept


def _covers(item: stac.Item, plan: Plan, place: Place) -> bool:
    """Whether the item's footprint covers the chip; True where that cannot be told."""
    import shapely
    from shapely.geometry import box, shape

    half_km = plan.chip_px * (plan.resolution_m or 0) / 2000
    high = half_km / _KM_PER_DEGREE
    wide = high / max(0.01, np.cos(np.radians(place.lat)))
    if abs(place.lon) + wide > 180 or abs(place.lat) + high > 90:
        return True
    around = box(place.lon - wide, place.lat - high, place.lon + wide, place.lat + high)
    try:
        return bool(shape(item.footprint).covers(around))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError,
            shapely.errors.ShapelyError):  # fmt: skip
        return True


def _chip(item: stac.Item, plan: Plan, place: Place) -> dict[str, Any]:
    """Read a chip and write its file, unless it is there; what the manifest says of it."""
    import rasterio
    from rasterio.errors import RasterioError

    where = {band: stac.find_band(item, band) for band in plan.bands}
    name = hashlib.blake2b(item.id.encode("utf-8", "replace"), digest_size=6).hexdigest()
    relative = f"chips/{place.number:06d}/{item.time:%Y%m%d}_{name}.tif"
    path = plan.out / relative
    about = {"path": relative, "assets": {band: href for band, (href, _) in where.items()}}
    if path.exists():
        try:
            with rasterio.open(path) as file:
                return {**about, "dtype": file.dtypes[0]}
        except RasterioError:
            path.unlink()  # not ours, or the disk's fault
    pixels, valid, profile = _read(where, plan, place)
    if 1 - valid.mean() > plan.max_nodata:
        raise GaveUpError(f"{1 - valid.mean():.0%} of the chip have no data")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), atomic_write(path) as part:
        with rasterio.open(
            part, "w", driver="GTiff", width=plan.chip_px, height=plan.chip_px, count=len(pixels),
            dtype=pixels.dtype, compress="deflate", **profile,
        ) as file:  # fmt: skip
            file.write(pixels)
            file.descriptions = plan.bands
            file.update_tags(
                TIFFTAG_DATETIME=f"{item.time:%Y:%m:%d %H:%M:%S}", ITEM=item.id,
                COLLECTION=plan.search.collection, LICENCE=item.license,
            )  # fmt: skip
            if profile["nodata"] is None and not valid.all():
                file.write_mask(valid)
    return {**about, "dtype": str(pixels.dtype)}


def _read(
    where: dict[str, tuple[str, int]], plan: Plan, place: Place
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Pixels ``(C, S, S)``, which of them hold data ``(S, S)``, and their CRS and transform."""
    bands: dict[str, list[int]] = {}  # address -> numbers of bands
    for href, number in where.values():
        bands.setdefault(href, []).append(number)
    parts: dict[tuple[str, int], np.ndarray] = {}
    seen, dark = [], True
    grid: dict[str, Any] = {}
    for href, numbers in bands.items():
        remote = RemoteFile(stac.sign_url(href, plan.search), patience=plan.search.patience)
        pixels, valid, zero = _read_file(remote, numbers, plan, place, grid)
        parts |= {(href, n): band for n, band in zip(numbers, pixels, strict=True)}
        seen.append(valid)
        dark &= zero
    kinds = {str(band.dtype) for band in parts.values()}
    if len(kinds) > 1:
        raise GaveUpError(f"bands of different types: {sorted(kinds)}")
    # where 0 says "no data", it may be dark ground in one band
    valid = (np.logical_or if dark else np.logical_and).reduce(seen)
    pixels = np.stack([parts[key] for key in where.values()])
    return pixels, valid, {**grid, "nodata": 0 if dark else None}


def _read_file(
    remote: RemoteFile, numbers: list[int], plan: Plan, place: Place, grid: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Bands of the chip, which pixels hold data, and whether 0 is what says that they do not.

    The first file of an item sets ``grid`` (CRS and transform of the chip), the others keep to it.
    """
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import CRSError, RasterioError

    name = f"{uuid4().hex}.tif"  # of its own: two threads may read the same file
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),  # no look at its neighbors
            rasterio.open(name, driver="GTiff", opener=remote.open) as file,
        ):
            if max(numbers) > file.count:
                raise GaveUpError(f"no band {max(numbers)}, the file has {file.count}")
            kind = np.dtype(file.dtypes[numbers[0] - 1])
            if kind.kind not in "uif" or max(h * w for h, w in file.block_shapes) > _MOST_PX:
                raise GaveUpError(f"blocks {file.block_shapes[0]} of {kind} are not read")
            window = _window(file, plan, place, grid)
            how = Resampling.average if window.width > plan.chip_px else Resampling.bilinear
            row: Any = {"scale_low": np.nan, "dtype": kind}  # values stay as they are
            pixels, valid = read_window(
                file, numbers, window, (plan.chip_px, plan.chip_px), how, row
            )
            zero = file.nodata == 0
    except (RasterioError, CRSError, ValueError) as error:
        reason = str(error.__cause__ or error).replace(name, "it")
        raise remote.error or GaveUpError(f"no readable GeoTIFF: {reason}") from None
    if remote.error is not None:
        raise remote.error
    return pixels, valid, zero


def _window(file: Any, plan: Plan, place: Place, grid: dict[str, Any]) -> Any:
    """The chip's window in an open file, on whole pixels where the resolution is the file's."""
    from affine import Affine
    from rasterio.windows import Window

    t, size = file.transform, plan.chip_px
    if not file.crs or t.b or t.d or t.a <= 0 or t.e >= 0:
        raise GaveUpError("the file has no CRS, or is not north-up")
    if not grid:
        meters = (
            1000 * _KM_PER_DEGREE if file.crs.is_geographic else file.crs.linear_units_factor[1]
        )
        steps = np.array([t.a, -t.e])
        if plan.resolution_m is not None:
            narrow = np.cos(np.radians(place.lat)) if file.crs.is_geographic else 1.0
            asked = plan.resolution_m / meters / np.array([narrow, 1.0])
            steps = np.where(np.abs(asked / steps - 1) < 1e-6, steps, asked)
        x, y = reproject(
            "EPSG:4326", file.crs.to_wkt(), np.array([place.lon]), np.array([place.lat])
        )
        if not (np.isfinite(x[0]) and np.isfinite(y[0])):
            raise GaveUpError("the place is not in the file's CRS")
        left = t.c + round((x[0] - t.c) / steps[0] - size / 2) * steps[0]
        top = t.f - round((t.f - y[0]) / steps[1] - size / 2) * steps[1]
        grid |= {"crs": file.crs, "transform": Affine(steps[0], 0, left, 0, -steps[1], top)}
    if file.crs != grid["crs"]:
        raise GaveUpError("bands in different CRS")
    ends = np.array([~t @ grid["transform"] @ (0, 0), ~t @ grid["transform"] @ (size, size)])
    whole = np.round(ends)
    (x0, y0), (x1, y1) = whole if np.abs(ends - whole).max() <= ALIGNED_PX else ends
    if x0 < 0 or y0 < 0 or x1 > file.width or y1 > file.height:
        raise GaveUpError("the chip is not wholly in the scene")
    if (x1 - x0) * (y1 - y0) > _MOST_PX:
        raise GaveUpError(f"the chip is {x1 - x0:.0f} x {y1 - y0:.0f} pixels there, too many")
    return Window(x0, y0, x1 - x0, y1 - y0)
