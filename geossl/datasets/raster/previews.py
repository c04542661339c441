"""Small pictures of whole scenes as a web map needs them: in Web Mercator, natural color."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.data.natural_color import Stretch, shown_bands
from geossl.data.scenes import require_columns
from geossl.datasets.raster.files import open_raster
from geossl.datasets.raster.grid import Scene, group_overlapping, outline_degrees
from geossl.datasets.raster.header import read_header
from geossl.datasets.raster.window import read_warped
from geossl.utils.parallel import map_threads
from geossl.utils.validate import PositiveInt, validated

_MOST_FILES = 2000  # headers to read
_MOST_PIXELS = 24_000_000  # of all pictures together, some megabytes
_LOOK_PX = 128  # side of the first look at a scene, which says how to stretch it
_RADIUS_M, _MAX_LAT = 6378137.0, 85.05112878  # of Web Mercator
_ACROSS = (  # 180: Web Mercator with the antimeridian in its middle
    "+proj=merc +a=6378137 +b=6378137 +lat_ts=0 +lon_0=180 +x_0=0 +y_0=0 +k=1 +units=m "
    "+nadgrids=@null +no_defs"
)
_QUALITY = 80


@validated
def scene_previews(
    scenes: pd.DataFrame, *, max_px: PositiveInt = 1024, max_scenes: PositiveInt = 200
) -> pd.DataFrame:
    """Draw the files of a scene table as small pictures in Web Mercator, clear without data.

    Bands that are named or known show natural color, others the first three. Overviews are used
    where files have them. Pictures of one place are stretched alike, so that its dates compare.

    Args:
        scenes: a scene table; each file counts once, of more than 2,000 a regular sample.
        max_px: longest side of a picture; less if all together have more than 24 million pixels.
        max_scenes: most pictures: the newest of each place first, then those before them.

    Returns:
        One row a picture: ``path``, ``time``, ``place`` (scenes that overlap by half have the same
        number), ``left, bottom, right, top`` in degrees EPSG:4326, where ``right`` goes on past 180
        at the antimeridian, ``width, height`` in pixels and ``image``, the bytes of a WebP file.
        ``attrs["skipped"]`` maps files that cannot be shown to the reason, ``attrs["omitted"]``
        counts those beyond the limits.

    Raises:
        ValueError: the table has no ``path``.

    Example:
        >>> world = geossl.datasets.blue_marble(places=2, dates=1)  # it has no files
        >>> len(scene_previews(world))
        0
    """
    require_columns(scenes, ["path"])
    rows = scenes.drop_duplicates("path")
    step = -(-len(rows) // _MOST_FILES)
    omitted, rows = len(rows) - len(rows.iloc[::step]), rows.iloc[::step]
    headers = map_threads(_read_header, rows.to_dict("records"))
    skipped = {
        str(path): header
        for path, header in zip(rows["path"], headers, strict=True)
        if isinstance(header, str)
    }
    plans = [header for header in headers if isinstance(header, _Plan)]
    for place, group in enumerate(group_overlapping([p.scene for p in plans], chip_px=10**6)):
        for scene in group:
            next(plan for plan in plans if plan.scene is scene).place = place
    order = pd.DataFrame({"place": [p.place for p in plans], "time": [p.time for p in plans]})
    order = order.sort_values("time", ascending=False, kind="stable", na_position="last")
    rank = order.groupby("place").cumcount().sort_values(kind="stable").index
    omitted += max(0, len(plans) - max_scenes)
    plans = [plans[i] for i in rank[:max_scenes]]
    side = min(max_px, int((_MOST_PIXELS / max(1, len(plans))) ** 0.5))
    stretches = _fit_stretches([plan for plan in plans if not plan.is_picture])
    pictures = map_threads(lambda plan: _draw(plan, side, stretches.get(plan.place)), plans)
    for plan, picture in zip(plans, pictures, strict=True):
        if isinstance(picture, str):
            skipped[str(plan.row["path"])] = picture
    table = pd.DataFrame(
        [picture for picture in pictures if not isinstance(picture, str)],
        columns=["path", "time", "place", "left", "bottom", "right", "top", "width", "height",
                 "image"],
    )  # fmt: skip
    table.attrs |= {"skipped": skipped, "omitted": omitted}
    return table


@dataclass(eq=False)
class _Plan:
    """What to draw: a row of the table, its header, and bounds in degrees."""

    row: dict[Any, Any]
    scene: Scene
    bounds: tuple[float, float, float, float]
    place: int = -1

    @property
    def time(self) -> Any:
        return self.row.get("time", pd.NaT)

    @property
    def is_picture(self) -> bool:
        return self.scene.dtype == "uint8" and len(self.scene.bands) <= 4


def _read_header(row: dict[Any, Any]) -> _Plan | str:
    """Return what to draw of a row, or why it cannot be drawn."""
    path = str(row["path"])
    try:
        scene = read_header(Path(_files(row)[0]), warp=True)
    except (OSError, ValueError) as error:
        return str(error)
    if any(kind in scene.dtype for kind in ("complex", "cint")):
        return f"{path} has complex pixels"
    lon, lat = outline_degrees(scene, parts=20)
    if not np.isfinite(lon + lat).all():
        return f"{path} has a CRS or transform that leads to no longitude and latitude"
    bottom, top = np.clip([lat.min(), lat.max()], -_MAX_LAT, _MAX_LAT).tolist()
    if bottom == top:
        return f"{path} lies beyond 85° of latitude, where Web Mercator ends"
    return _Plan(row, scene, (float(lon.min()), bottom, float(lon.max()), top))


def _files(row: dict[Any, Any]) -> list[str]:
    """Return the one file of a row, or those of red, green and blue (or of gray)."""
    path, words = str(row["path"]), _split(row, "bands")
    if "{band}" not in path or not words:
        return [path]
    return [path.replace("{band}", words[i]) for i in shown_bands(_split(row, "band_names"))]


def _split(row: dict[Any, Any], name: str) -> list[str]:
    value = row.get(name)
    return value.split(",") if isinstance(value, str) else []


def _read(plan: _Plan, side: int) -> tuple[np.ndarray, np.ndarray] | str:
    """Return red, green and blue ``(3, H, W)`` of a scene and where they hold data, or why not."""
    from affine import Affine
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError

    left, bottom, right, top = plan.bounds
    crs, zero = (_ACROSS, 180) if right > 180 else ("EPSG:3857", 0)
    start, wide = np.radians(left - zero) * _RADIUS_M, np.radians(right - left) * _RADIUS_M
    low, high = np.arcsinh(np.tan(np.radians([bottom, top]))) * _RADIUS_M
    px = max(wide, high - low) / min(side, max(plan.scene.width, plan.scene.height))
    size = max(1, round((high - low) / px)), max(1, round(wide / px))
    grid = Affine(wide / size[1], 0, start, 0, -(high - low) / size[0], high)
    row = {"nodata": plan.row.get("nodata", np.nan)}
    files, bands = _files(plan.row), [1]
    if len(files) == 1:
        words, names = _split(plan.row, "bands"), _split(plan.row, "band_names")
        numbers = [int(w) for w in words] if words else list(plan.scene.bands)
        bands = [numbers[i] for i in shown_bands(names or list(plan.scene.bands.values()))]
    parts = []
    try:
        for path in files:
            with open_raster(path, warp=True) as file:
                parts.append(read_warped(file, bands, crs, grid, size, Resampling.bilinear, row))
    except (RasterioError, OSError, ValueError) as error:
        return f"{path} cannot be read: {getattr(error, '__cause__', None) or error}"
    pixels = np.concatenate([part for part, _ in parts])
    pixels = np.concatenate([pixels] * 3)[:3]
    return pixels, np.logical_and.reduce([valid for _, valid in parts])


def _fit_stretches(plans: list[_Plan]) -> dict[int, Stretch]:
    """Return how to stretch the scenes of each place, from a look at all of them."""
    samples: dict[int, list[np.ndarray]] = {}
    looks = map_threads(lambda plan: _read(plan, _LOOK_PX), plans)
    for plan, look in zip(plans, looks, strict=True):
        if not isinstance(look, str) and look[1].any():
            samples.setdefault(plan.place, []).append(look[0][:, look[1]])
    return {place: Stretch.fit(np.concatenate(some, axis=1)) for place, some in samples.items()}


def _draw(plan: _Plan, side: int, stretch: Stretch | None) -> tuple[Any, ...] | str:
    """Return a row of the table of pictures, or why there is none."""
    from PIL import Image

    pixels = _read(plan, side)
    if isinstance(pixels, str):
        return pixels
    values, valid = pixels
    if not valid.any():
        return f"{plan.row['path']} has no data"
    colors = (
        stretch.apply(values) if stretch is not None else np.clip(values, 0, 255).astype(np.uint8)
    )
    rgba = np.concatenate([colors * valid, 255 * valid[None].astype(np.uint8)]).transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgba)).save(file, "WEBP", quality=_QUALITY, method=2)
    height, width = valid.shape
    return (
        plan.row["path"], plan.time, plan.place, *plan.bounds, width, height, file.getvalue()
    )  # fmt: skip
