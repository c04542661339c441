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
        bands: names of its bands.
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
    bands: tuple[str, ...]
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
            moved = transform(source, target, x.ravel(), y.ravel())
    except (CRSError, CPLE_BaseError) as error:  # also a local CRS, or one of the Moon
        raise ValueError(
            f"Positions cannot be reprojected from {source!r} to {target!r}: {error}."
        ) from None
    return np.reshape(moved[0], x.shape), np.reshape(moved[1], x.shape)


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
