"""Harvest one location: search, choose dates, read and write chips."""

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
from geossl.utils.http import UnavailableError
from geossl.utils.io import atomic_write
from geossl.utils.remote_file import RemoteFile
from geossl.utils.validate import PositiveInt, validated

__all__ = ["Location", "Plan", "harvest_location", "pick_dates"]

_KM_PER_DEGREE = np.pi * geo.EARTH_RADIUS_KM / 180
_MAX_UNAVAILABLE = 3  # items of a location without an answer; then the location has to wait
_MAX_PX = 2**28  # of a window or a block; more is a mistake or a bomb


@dataclass(frozen=True)
class Plan:
    """Options of a harvest; small, for they are pickled with every task."""

    output_dir: Path
    search: stac.Search
    dates: int
    chip_px: int
    resolution_m: float | None
    bands: tuple[str, ...]
    max_nodata: float


@dataclass(frozen=True)
class Location:
    """Number in the table of locations, and position in degrees."""

    number: int
    lon: float
    lat: float


@validated
def harvest_location(plan: Plan, location: Location) -> dict[str, Any]:
    """Write the chips of one location, and return the outcome of each item that was tried."""
    tried: list[dict[str, Any]] = []
    unavailable = 0
    try:
        items = stac.items_at(plan.search, location.lon, location.lat)
    except UnavailableError as error:
        return {"complete": False, "reason": f"search: {error}", "items": []}
    covering = [item for item in items if _covers(item, plan, location)]

    def accept(item: stac.Item) -> bool:
        nonlocal unavailable
        if unavailable >= _MAX_UNAVAILABLE:
            return False
        about = {"item": item.id, "datetime": item.time.isoformat(), "license": item.license,
                 "cloud_cover": item.cloud, "about": item.about}  # fmt: skip
        try:
            tried.append({**about, "status": "ok", **_write_chip(item, plan, location)})
            return True
        except UnavailableError as error:
            unavailable += error.temporary
            tried.append({**about, "status": "gave up" if error.temporary else "refused",
                          "reason": str(error)})  # fmt: skip
            return False

    chosen = pick_dates(
        covering, accept, start=plan.search.start, end=plan.search.end, dates=plan.dates
    )
    few = len(chosen) < plan.dates
    reason = (
        f"{len(chosen)} of {plan.dates} dates: {len(items)} items under the cloud limit, "
        f"{len(covering)} cover the chip, {len(tried)} tried"
    )
    reason += f", the last: {tried[-1]['reason']}" if few and tried and not chosen else ""
    return {"complete": not (few and unavailable), "reason": reason if few else "", "items": tried}


@validated
def pick_dates(
    items: Sequence[stac.Item],
    accept: Callable[[stac.Item], bool],
    *,
    start: date,
    end: date,
    dates: PositiveInt,
) -> list[stac.Item]:
    """Choose items on different days that are well spread over a range.

    The range has ``dates`` equally spaced times, from its start to its end (one: its middle). Each
    takes the nearest item within half a space that ``accept`` accepts; missing dates are then
    filled with the items farthest from those chosen. The same items give the same choice.

    Args:
        items: to choose from, in any order.
        accept: tries an item, and returns whether it is good.
        start: first day.
        end: last day.
        dates: at most so many.
    """
    origin = datetime(start.year, start.month, start.day, tzinfo=UTC)
    span = (end - start).days + 1.0

    def day(item: stac.Item) -> float:
        return (item.time - origin).total_seconds() / 86_400

    def gap(item: stac.Item) -> float:
        return min((abs(day(item) - day(other)) for other in chosen), default=np.inf)

    space = span / max(1, dates - 1)
    times = [span / 2] if dates == 1 else [k * space for k in range(dates)]
    chosen: list[stac.Item] = []
    remaining = sorted(items, key=lambda item: (100 if item.cloud is None else item.cloud, item.id))
    for time in times:
        near = [item for item in remaining if abs(day(item) - time) <= space / 2]
        for item in sorted(near, key=lambda item: abs(day(item) - time)):
            if gap(item) < 1:
                continue
            remaining.remove(item)
            if accept(item):
                chosen.append(item)
                break
    while len(chosen) < dates and remaining:
        item = max(remaining, key=gap)
        if gap(item) < 1:
            break
        remaining.remove(item)
        if accept(item):
            chosen.append(item)
    return chosen


def _covers(item: stac.Item, plan: Plan, location: Location) -> bool:
    """Return whether the item's footprint covers the chip; True where that is unknown."""
    import shapely
    from shapely.geometry import box, shape

    half_km = plan.chip_px * (plan.resolution_m or 0) / 2000
    high = half_km / _KM_PER_DEGREE
    wide = high / max(0.01, np.cos(np.radians(location.lat)))
    lon, lat = location.lon, location.lat
    if abs(lat) + high > 90:
        return True
    try:
        (footprint,), _, (is_polar,) = geo.unwrap_shapes(np.array([shape(item.footprint)], object))
        around = [
            box(x - wide, lat - high, x + wide, lat + high) for x in (lon - 360, lon, lon + 360)
        ]
        return bool(is_polar or shapely.covers(footprint, around).any())
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError,
            shapely.errors.ShapelyError):  # fmt: skip
        return True


def _write_chip(item: stac.Item, plan: Plan, location: Location) -> dict[str, Any]:
    """Write the file of a chip, unless it exists, and return its entry in the manifest."""
    import rasterio
    from rasterio.errors import RasterioError

    assets = {band: stac.find_band(item, band) for band in plan.bands}
    name = hashlib.blake2b(item.id.encode("utf-8", "replace"), digest_size=6).hexdigest()
    relative = f"chips/{location.number:06d}/{item.time:%Y%m%d}_{name}.tif"
    path = plan.output_dir / relative
    about = {"path": relative, "assets": {band: href for band, (href, _) in assets.items()}}
    if path.exists():
        try:
            with rasterio.open(path) as file:
                return {**about, "dtype": file.dtypes[0]}
        except RasterioError:
            path.unlink()  # damaged
    pixels, valid, profile = _read(assets, plan, location)
    if 1 - valid.mean() > plan.max_nodata:
        raise UnavailableError(f"{1 - valid.mean():.0%} of the chip have no data")
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
    assets: dict[str, tuple[str, int]], plan: Plan, location: Location
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return pixels ``(C, S, S)``, where they have data ``(S, S)``, and their CRS and transform."""
    bands: dict[str, list[int]] = {}  # address -> numbers of bands
    for href, number in assets.values():
        bands.setdefault(href, []).append(number)
    parts: dict[tuple[str, int], np.ndarray] = {}
    masks, zero_nodata = [], True
    grid: dict[str, Any] = {}
    for href, numbers in bands.items():
        remote = RemoteFile(stac.sign_url(href, plan.search), policy=plan.search.policy)
        pixels, valid, zero = _read_file(remote, numbers, plan, location, grid)
        parts |= {(href, n): band for n, band in zip(numbers, pixels, strict=True)}
        masks.append(valid)
        zero_nodata &= zero
    dtypes = {str(band.dtype) for band in parts.values()}
    if len(dtypes) > 1:
        raise UnavailableError(f"bands of different types: {sorted(dtypes)}")
    # where 0 means "no data", it may be dark ground in one band
    valid = (np.logical_or if zero_nodata else np.logical_and).reduce(masks)
    pixels = np.stack([parts[key] for key in assets.values()])
    return pixels, valid, {**grid, "nodata": 0 if zero_nodata else None}


def _read_file(
    remote: RemoteFile, numbers: list[int], plan: Plan, location: Location, grid: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return bands of the chip, where they have data, and whether 0 marks the others.

    The first file of an item sets ``grid`` (CRS and transform of the chip), the others follow it.
    """
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import CRSError, RasterioError

    name = f"{uuid4().hex}.tif"  # two threads may read the same file
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),  # no requests for its neighbors
            rasterio.open(name, driver="GTiff", opener=remote.open) as file,
        ):
            if max(numbers) > file.count:
                raise UnavailableError(f"no band {max(numbers)}, the file has {file.count}")
            dtype = np.dtype(file.dtypes[numbers[0] - 1])
            if dtype.kind not in "uif" or max(h * w for h, w in file.block_shapes) > _MAX_PX:
                raise UnavailableError(f"blocks {file.block_shapes[0]} of {dtype} are not read")
            window = _window(file, plan, location, grid)
            resampling = Resampling.average if window.width > plan.chip_px else Resampling.bilinear
            row: Any = {"scale_low": np.nan, "dtype": dtype, "palette": False}  # stay as they are
            pixels, valid = read_window(
                file, numbers, window, (plan.chip_px, plan.chip_px), resampling, row
            )
            zero = file.nodata == 0
    except (RasterioError, CRSError, ValueError) as error:
        reason = str(error.__cause__ or error).replace(name, "it")
        raise remote.error or UnavailableError(f"no readable GeoTIFF: {reason}") from None
    if remote.error is not None:
        raise remote.error
    return pixels, valid, zero


def _window(file: Any, plan: Plan, location: Location, grid: dict[str, Any]) -> Any:
    """Return the chip's window in a file, aligned to its pixels where the resolutions agree."""
    from affine import Affine
    from rasterio.windows import Window

    t, size = file.transform, plan.chip_px
    if not file.crs or t.b or t.d or t.a <= 0 or t.e >= 0:
        raise UnavailableError("the file has no CRS, or is not north-up")
    if not grid:
        meters = (
            1000 * _KM_PER_DEGREE if file.crs.is_geographic else file.crs.linear_units_factor[1]
        )
        steps = np.array([t.a, -t.e])
        if plan.resolution_m is not None:
            narrow = np.cos(np.radians(location.lat)) if file.crs.is_geographic else 1.0
            other = plan.resolution_m / meters / np.array([narrow, 1.0])
            steps = np.where(np.abs(other / steps - 1) < 1e-6, steps, other)
        lon, lat = np.array([location.lon]), np.array([location.lat])
        x, y = reproject("EPSG:4326", file.crs.to_wkt(), lon, lat)
        if not (np.isfinite(x[0]) and np.isfinite(y[0])):
            raise UnavailableError("the location is not in the file's CRS")
        left = t.c + round((x[0] - t.c) / steps[0] - size / 2) * steps[0]
        top = t.f - round((t.f - y[0]) / steps[1] - size / 2) * steps[1]
        grid |= {"crs": file.crs, "transform": Affine(steps[0], 0, left, 0, -steps[1], top)}
    if file.crs != grid["crs"]:
        raise UnavailableError("bands in different CRS")
    ends = np.array([~t @ grid["transform"] @ (0, 0), ~t @ grid["transform"] @ (size, size)])
    aligned = np.round(ends)
    (x0, y0), (x1, y1) = aligned if np.abs(ends - aligned).max() <= ALIGNED_PX else ends
    if x0 < 0 or y0 < 0 or x1 > file.width or y1 > file.height:
        raise UnavailableError("the chip is not fully in the scene")
    if (x1 - x0) * (y1 - y0) > _MAX_PX:
        raise UnavailableError(f"the chip is {x1 - x0:.0f} x {y1 - y0:.0f} pixels there, too many")
    return Window(x0, y0, x1 - x0, y1 - y0)
