"""Find the grid that most scenes share, and which of its cells a scene covers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from affine import Affine


ALIGNED_PX = 0.01  # a scene whose pixels lie this close to the grid's is read without resampling
_MAX_CELLS = 20_000_000


@dataclass(frozen=True)
class Scene:
    """A georeferenced file as its header describes it.

    Attributes:
        path: the file.
        crs: coordinate reference system as text.
        transform: from (column, row) to coordinates.
        width: pixels.
        height: pixels.
        bands: number of each band from 1 -> its name; an alpha band is none.
        dtype: of its pixels.
        tag: the text of a tag that was to be read.
        time: when it was taken, UTC; missing where nothing says so.
        date_rule: in words, how the time was read.
    """

    path: Path
    crs: str
    transform: Affine
    width: int
    height: int
    bands: dict[int, str]
    dtype: str
    tag: str | None = None
    time: pd.Timestamp = pd.NaT
    date_rule: str | None = None


def pixel_to_crs(t: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    """Return positions through an affine transform, also of arrays."""
    return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f


def common_grid(scenes: list[Scene]) -> tuple[str, Affine]:
    """Return CRS and north-up transform of the pixels that most scenes share."""
    from affine import Affine

    def most_common(scenes: list[Scene], key: Callable[[Scene], Any]) -> list[Scene]:
        value = Counter(map(key, scenes)).most_common(1)[0][0]
        return [scene for scene in scenes if key(scene) == value]

    def pixel_size(scene: Scene) -> tuple[str, ...]:
        return tuple(f"{v:.9g}" for v in (*scene.transform[0:2], *scene.transform[3:5]))

    def offset(scene: Scene) -> tuple[int, ...]:
        corner = pixel_to_crs(origin, scene.transform.c, scene.transform.f)
        return tuple(round(v * steps) % steps for v in corner)

    scenes = most_common(most_common(scenes, lambda scene: scene.crs), pixel_size)
    origin, steps = ~scenes[0].transform, round(1 / ALIGNED_PX)
    scene = most_common(scenes, offset)[0]
    t = scene.transform
    if t.b == 0 == t.d and t.a > 0 > t.e:
        return scene.crs, t
    x, y = pixel_to_crs(t, *outline_points(0, 0, scene.width, scene.height, parts=1))
    return scene.crs, Affine(np.hypot(t.a, t.d), 0, x.min(), 0, -np.hypot(t.b, t.e), y.max())


def outline_points(
    x0: Any, y0: Any, x1: Any, y1: Any, *, parts: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return points all around boxes, ``parts`` to a side: ``(4 * parts, ...)`` each."""
    u = np.linspace(0, 1, parts + 1)[:-1]
    x = np.concatenate([u, np.ones(parts), 1 - u, np.zeros(parts)])
    y = np.concatenate([np.zeros(parts), u, np.ones(parts), 1 - u])
    x, y = (v.reshape(-1, *(1,) * np.ndim(x0)) for v in (x, y))
    return x0 + x * (x1 - x0), y0 + y * (y1 - y0)


def reproject(
    source: str, target: str, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions in another CRS, not finite where it has no such place.

    Raises:
        ValueError: there is no way from one CRS to the other.
    """
    from rasterio._err import CPLE_BaseError  # it has no public name
    from rasterio.errors import CRSError
    from rasterio.warp import transform

    if source == target:
        return x, y
    try:
        with np.errstate(invalid="ignore"):
            moved = np.array(transform(source, target, x.ravel(), y.ravel()))
    except (CRSError, CPLE_BaseError):  # GDAL refuses all positions because of one, but not always
        moved = np.full((2, x.size), np.nan)
    if not np.isfinite(moved).all():
        moved = _reproject_each(source, target, x.ravel(), y.ravel())
    return moved[0].reshape(x.shape), moved[1].reshape(x.shape)


def _reproject_each(source: str, target: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return positions ``(2, n)`` in another CRS, those that it has, or raise for local CRSs."""
    import pyproj

    try:
        transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
        return np.array(transformer.transform(x, y, errcheck=False))
    except pyproj.exceptions.ProjError as error:  # also a local CRS, or one of the Moon
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"Positions cannot be reprojected from {source!r} to {target!r}: {reason}."
        ) from None


def group_overlapping(scenes: list[Scene], chip_px: int) -> list[list[Scene]]:
    """Return groups of scenes that show one area: each overlaps another by the size of a chip."""
    import shapely
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    shapes, chips = [], []
    for scene in scenes:
        lon, lat = outline_degrees(scene, parts=4)
        shape = shapely.Polygon()
        if np.isfinite(lon + lat).all():
            shape = shapely.make_valid(shapely.Polygon(np.stack([lon, lat], 1)))
        shapes.append(shape)
        chips.append(shape.area * min(1, chip_px**2 / (scene.width * scene.height)))
    near = np.array(shapes, object)
    far = shapely.transform(near, lambda xy: xy - [360, 0])  # of those that reach over 180
    tree = shapely.STRtree(np.concatenate([near, far]))
    one, two = tree.query(near, predicate="intersects")
    shared = shapely.area(shapely.intersection(near[one], tree.geometries[two]))
    two, chip = two % len(scenes), np.array(chips)
    overlap = shared > np.minimum(chip[one], chip[two]) / 2
    links = coo_matrix((overlap[overlap], (one[overlap], two[overlap])), (len(scenes),) * 2)
    _, group = connected_components(links, directed=False)
    groups: dict[int, list[Scene]] = {}
    for scene, number in zip(scenes, group.tolist(), strict=True):
        groups.setdefault(number, []).append(scene)
    return list(groups.values())


def outline_degrees(scene: Scene, *, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lon, lat all around a scene, longitudes within 180 of the first, not below -180."""
    width, height = float(scene.width), float(scene.height)
    column, row = outline_points(0.0, 0.0, width, height, parts=parts)
    try:
        lon, lat = reproject(scene.crs, "EPSG:4326", *pixel_to_crs(scene.transform, column, row))
    except ValueError:  # a local CRS
        return np.full(len(column), np.nan), np.full(len(column), np.nan)
    if not np.isfinite(lon + lat).all():
        return lon, lat
    lon = np.unwrap(lon, period=360)
    return lon - 360 * np.floor((lon.min() + 180) / 360), lat


def covered_cells(
    scene: Scene, crs: str, grid: Affine, *, chip_px: int, stride_px: int
) -> np.ndarray:
    """Return rows and columns ``(2, n)`` of the cells whose pixel centers all lie in the scene."""
    outline = outline_points(0.0, 0.0, float(scene.width), float(scene.height), parts=20)
    columns, rows = pixel_to_crs(
        ~grid, *reproject(scene.crs, crs, *pixel_to_crs(scene.transform, *outline))
    )
    finite = np.isfinite(columns) & np.isfinite(rows)
    if not finite.any():
        return np.empty((2, 0), np.int64)
    spans = [
        np.arange(np.ceil((v.min() - chip_px) / stride_px), np.floor(v.max() / stride_px) + 1)
        for v in (rows[finite], columns[finite])
    ]
    count = len(spans[0]) * len(spans[1])
    if count > _MAX_CELLS:
        raise ValueError(
            f"{scene.path} has {count:,} cells, more than {_MAX_CELLS:,}. Use a larger `chip_px` "
            "or `stride_px`, or put scenes of very different extent or pixel size in other folders."
        )
    cells = np.stack(np.meshgrid(*spans, indexing="ij")).reshape(2, -1).astype(np.int64) * stride_px
    rim = 0.5 - ALIGNED_PX
    corners = cells[1] + rim, cells[0] + rim, cells[1] + chip_px - rim, cells[0] + chip_px - rim
    around = pixel_to_crs(grid, *outline_points(*corners, parts=4 if scene.crs != crs else 1))
    x, y = pixel_to_crs(~scene.transform, *reproject(crs, scene.crs, *around))
    inside = (x >= 0) & (x <= scene.width) & (y >= 0) & (y <= scene.height)
    return cells[:, inside.all(0)]
