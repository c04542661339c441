"""Scenes with their masks, and the random crops of them that a network is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from geossl.datasets.raster import area
from geossl.models import features
from geossl.models.features import Window
from geossl.tasks._training import prefetch
from geossl.tasks.segment.masks import IGNORE, Masks
from geossl.utils.seeds import derive_seed

_PART_PX = 4096  # side of the parts in which a scene's classes are counted
Batch: TypeAlias = tuple[Tensor, Tensor, Tensor]


class Scenes:
    """Scenes with their masks, read by windows; what fits stays in memory, the masks first.

    Args:
        rows: of `geossl.datasets.raster.area.scene_rows`, with the column of the masks.
        masks: how these are read.
        keep_bytes: memory for decoded masks and pixels.
    """

    def __init__(self, rows: list[area.Row], masks: Masks, *, keep_bytes: float = 0):
        self.rows, self.masks = rows, masks
        self.grids = [area.read_grid(row) for row in rows]
        self._codes: dict[int, np.ndarray | None] = {}
        self._pixels: dict[int, tuple[np.ndarray, np.ndarray] | None] = {}
        sizes = np.array([grid.height * grid.width for grid in self.grids])
        depth = [1 + len(r["bands"].split(",")) * _itemsize(r["dtype"]) for r in rows]
        caches: tuple[dict, dict] = (self._codes, self._pixels)
        for cache, bytes_of in zip(caches, (sizes, sizes * depth), strict=True):
            for i, size in enumerate(bytes_of):
                if size <= keep_bytes:
                    cache[i] = None  # filled when it is first read
                    keep_bytes -= size

    def __len__(self) -> int:
        return len(self.rows)

    def full_window(self, i: int) -> Window:
        """Return the window of an entire scene."""
        return 0, 0, self.grids[i].width, self.grids[i].height

    def pixels(self, i: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read ``(C, H, W)``, and which pixels hold data ``(H, W)``; may reach over the edges."""
        if i not in self._pixels:
            return area.read_area(self.rows[i], window)
        cached = self._pixels[i]
        if cached is None:
            cached = self._pixels[i] = area.read_area(self.rows[i])
        pixels, valid = cached
        return _cut(pixels, window, 0), _cut(valid, window, False)

    def codes(self, i: int, window: Window) -> np.ndarray:
        """Read the classes ``(H, W)`` uint8 of the mask, 255 beyond the edges."""
        path, grid = str(self.rows[i][self.masks.column]), self.grids[i]
        if i in self._codes:
            cached = self._codes[i]
            if cached is None:
                cached = self.masks.read(path, grid=grid, window=self.full_window(i))
                self._codes[i] = cached
            return _cut(cached, window, IGNORE)
        left, top, right, bottom = window
        inner = max(left, 0), max(top, 0), min(right, grid.width), min(bottom, grid.height)
        part = self.masks.read(path, grid=grid, window=inner)
        moved = left - inner[0], top - inner[1], right - inner[0], bottom - inner[1]
        return _cut(part, moved, IGNORE)

    def count(self) -> np.ndarray:
        """Count the pixels ``(classes,)`` of each class; reads, and so checks, everything once."""
        counts = np.zeros(IGNORE + 1, np.int64)
        for i, grid in enumerate(self.grids):
            for left, top, right, bottom in features.sliding_windows(
                grid.height, grid.width, size_px=_PART_PX, overlap_px=0
            ):
                part = left, top, min(right, grid.width), min(bottom, grid.height)
                codes, valid = self.codes(i, part), self.pixels(i, part)[1]
                counts += np.bincount(codes[valid], minlength=IGNORE + 1)
        return counts[: len(self.masks.classes)]

    def draw(self, *, size_px: int, batch_size: int, epoch: int, seed: int) -> np.ndarray:
        """Draw the scenes ``(steps, batch)`` of an epoch's crops.

        A scene gives as many crops as cover its area, at least one; what does not fill a batch is
        left out, and fewer than that are repeated.
        """
        count = [max(1, round(g.height * g.width / size_px**2)) for g in self.grids]
        order = np.repeat(np.arange(len(self)), count)
        np.random.default_rng(derive_seed(seed, "crops", epoch)).shuffle(order)
        return np.resize(order, (max(1, len(order) // batch_size), batch_size))

    def batches(self, *, size_px: int, batch_size: int, epoch: int, seed: int) -> Iterator[Batch]:
        """Make the crops of an epoch.

        Each is cut anywhere (a scene that is smaller lies anywhere within it), flipped and turned
        by quarters: image and mask alike.

        Yields:
            Pixels ``(N, C, S, S)`` float32 in the units of the files, which of them hold data
            ``(N, S, S)`` bool, classes ``(N, S, S)`` int64, 255 where there is none.
        """
        drawn = self.draw(size_px=size_px, batch_size=batch_size, epoch=epoch, seed=seed)

        def make(step: int) -> Batch:
            rng = np.random.default_rng(derive_seed(seed, "crops", epoch, step))
            crops = [self._crop(int(i), size_px, rng) for i in drawn[step]]
            pixels, valid, codes = (np.stack(part) for part in zip(*crops, strict=True))
            return torch.from_numpy(pixels), torch.from_numpy(valid), torch.from_numpy(codes)

        return prefetch(make, len(drawn))

    def _crop(
        self, i: int, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        free = self.grids[i].width - size, self.grids[i].height - size
        left, top = (int(rng.integers(min(f, 0), max(f, 0), endpoint=True)) for f in free)
        window = left, top, left + size, top + size
        pixels, valid = self.pixels(i, window)
        codes = np.where(valid, self.codes(i, window), IGNORE)
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))

        def rotate(part: np.ndarray, dtype: type) -> np.ndarray:
            part = np.rot90(part, turns, (-2, -1))
            return np.ascontiguousarray(part[..., ::-1] if flip else part, dtype)

        return rotate(pixels, np.float32), rotate(valid, np.bool_), rotate(codes, np.int64)


def _itemsize(dtype: str | None) -> int:
    return np.dtype(dtype or "float32").itemsize


def _cut(part: np.ndarray, window: Window, fill: int) -> np.ndarray:
    """A window ``(..., bottom - top, right - left)`` of ``(..., H, W)``, filled outside of it."""
    left, top, right, bottom = window
    height, width = part.shape[-2:]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if (x0, y0, x1, y1) == window:
        return part[..., top:bottom, left:right]
    result = np.full((*part.shape[:-2], bottom - top, right - left), fill, part.dtype)
    if x0 < x1 and y0 < y1:
        result[..., y0 - top : y1 - top, x0 - left : x1 - left] = part[..., y0:y1, x0:x1]
    return result
