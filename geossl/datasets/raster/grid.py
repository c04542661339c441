"""The grid that most scenes share, and which of its cells a scene covers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from affine import Affine
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

pass


ALIGNED_PX = 0.01  # a scene whose pixels lie this near to the grid's is read without resampling
_MOST_CELLS = 20_000_000


def pixel_to_crs(t: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    """Positions through an affine transform, also arrays of them."""
    return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f


def common_grid(found: list[Scene]) -> tuple[str, Affine]:
    """CRS and north-up transform of the pixels that most scenes share."""
    from affine import Affine

    def usual(scenes: list[Scene], key: Callable[[Scene], Any]) -> list[Scene]:
        most = Counter(map(key, scenes)).most_common(1)[0][0]
        return [s for s in scenes if key(s) == most]

    alike = usual(found, lambda s: s.crs)
    alike = usual(alike, lambda s: tuple(f"{v:.9g}" for v in (s.transform[0:2] + s.transform[3:5])))
    first = ~alike[0].transform
    steps = round(1 / ALIGNED_PX)
    alike = usual(
        alike,
        lambda s: tuple(
            round(v * steps) % steps for v in pixel_to_crs(first, s.transform.c, s.transform.f)
        ),
    )
    scene = alike[0]
    t = scene.transform
    if t.b == 0 == t.d and t.a > 0 > t.e:
        return scene.crs, t
    x, y = pixel_to_crs(t, *outline_points(0, 0, scene.width, scene.height, 1))
    return scene.crs, Affine(np.hypot(t.a, t.d), 0, x.min(), 0, -np.hypot(t.b, t.e), y.max())


def outline_points(x0: Any, y0: Any, x1: Any, y1: Any, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Points all around boxes, ``parts`` to a side: ``(4 * parts, ...)`` each."""
    u = np.linspace(0, 1, parts + 1)[:-1]
    x = np.concatenate([u, np.ones(parts), 1 - u, np.zeros(parts)])
    y = np.concatenate([np.zeros(parts), u, np.ones(parts), 1 - u])
    x, y = (v.reshape(-1, *(1,) * np.ndim(x0)) for v in (x, y))
    return x0 + x * (x1 - x0), y0 + y * (y1 - y0)


def reproject(
    source: str, target: str, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions in another CRS, not finite where it has no such place."""
    from rasterio._err import CPLE_BaseError  # there is no public name of it
    from rasterio.errors import CRSError
    from rasterio.warp import transform

    if source == target:
        return x, y
    try:
        with np.errstate(invalid="ignore"):
            found = transform(source, target, x.ravel(), y.ravel())
    except (CRSError, CPLE_BaseError) as error:  # also a local CRS, or one of the Moon
        raise ValueError(
            f"expected scenes whose CRS lead to each other and to lon, lat, came {source!r} and "
            f"{target!r}: {error}"
        ) from None
    return np.reshape(found[0], x.shape), np.reshape(found[1], x.shape)


def covered_cells(scene: Scene, crs: str, grid: Affine, chip: int, stride: int) -> np.ndarray:
    """Rows and columns ``(2, n)`` of the cells whose pixels' centers all lie in the scene."""
    inside = outline_points(0.0, 0.0, float(scene.width), float(scene.height), 20)
    columns, rows = pixel_to_crs(
        ~grid, *reproject(scene.crs, crs, *pixel_to_crs(scene.transform, *inside))
    )
    known = np.isfinite(columns) & np.isfinite(rows)
    if not known.any():
        return np.empty((2, 0), np.int64)
    spans = [
        np.arange(np.ceil((v.min() - chip) / stride), np.floor(v.max() / stride) + 1)
        for v in (rows[known], columns[known])
    ]
    if len(spans[0]) * len(spans[1]) > _MOST_CELLS:
        raise ValueError(
            f"expected at most {_MOST_CELLS:,} cells in a scene, came "
            f"{len(spans[0]) * len(spans[1]):,} in {scene.path}; give a larger chip_px or "
            "stride_px, or keep scenes of such different extent or pixel size apart"
        )
    cells = np.stack(np.meshgrid(*spans, indexing="ij")).reshape(2, -1).astype(np.int64) * stride
    rim = 0.5 - ALIGNED_PX
    ends = cells[1] + rim, cells[0] + rim, cells[1] + chip - rim, cells[0] + chip - rim
    around = pixel_to_crs(grid, *outline_points(*ends, 4 if scene.crs != crs else 1))
    x, y = pixel_to_crs(~scene.transform, *reproject(crs, scene.crs, *around))
    whole = (x >= 0) & (x <= scene.width) & (y >= 0) & (y <= scene.height)
    return cells[:, whole.all(0)]


@dataclass(frozen=True)
class Scene:
    """What a file says of itself before a pixel is read."""

    path: Path
    crs: str
    transform: Affine
    width: int
    height: int
    bands: tuple[str, ...]
    dtype: str
    time: pd.Timestamp
