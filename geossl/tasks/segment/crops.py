"""Scenes with their masks, and the random crops of them that a network learns from."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from geossl.datasets.raster import area
from geossl.models import features
from geossl.models.features import Window
from geossl.tasks.segment.masks import IGNORE, Masks
from geossl.utils.seeds import derive_seed

_PART_PX = 4096  # side of the parts in which a scene's classes are counted
_AHEAD = 3  # batches made before they are needed
Batch = tuple[Tensor, Tensor, Tensor]


class Areas:
    """Scenes with their masks, read by windows; what fits stays in memory, the masks first.

    Args:
        rows: of `readers.areas.scene_rows`, with the column of the masks.
        masks: how these are read.
        keep_bytes: memory for what has been read.
    """

    def __init__(self, rows: list[area.Row], masks: Masks, *, keep_bytes: float = 0):
        self.rows, self.masks = rows, masks
        self.grids = [area.read_grid(row) for row in rows]
        self._codes: dict[int, np.ndarray | None] = {}
        self._pixels: dict[int, tuple[np.ndarray, np.ndarray] | None] = {}
        sizes = [grid.height * grid.width for grid in self.grids]
        width = [1 + len(row["bands"].split(",")) * _bytes(row["dtype"]) for row in rows]
        for kept, each in ((self._codes, [1] * len(rows)), (self._pixels, width)):
            for i, size in enumerate(sizes):
                if size * each[i] <= keep_bytes:
                    kept[i] = None  # there is room for it
                    keep_bytes -= size * each[i]

    def __len__(self) -> int:
        return len(self.rows)

    def whole(self, i: int) -> Window:
        """The window of all of a scene."""
        return 0, 0, self.grids[i].width, self.grids[i].height

    def pixels(self, i: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """``(C, H, W)`` and which hold data ``(H, W)``; the window may reach over the edges."""
        if i not in self._pixels:
            return area.read_area(self.rows[i], window)
        kept = self._pixels[i]
        if kept is None:
            kept = self._pixels[i] = area.read_area(self.rows[i])
        pixels, valid = kept
        return _cut(pixels, window, 0), _cut(valid, window, False)

    def codes(self, i: int, window: Window) -> np.ndarray:
        """Classes ``(H, W)`` uint8 of the mask, 255 outside; likewise."""
        path, grid = str(self.rows[i][self.masks.column]), self.grids[i]
        if i in self._codes:
            kept = self._codes[i]
            if kept is None:
                kept = self._codes[i] = self.masks.read(path, grid=grid, window=self.whole(i))
            return _cut(kept, window, IGNORE)
        left, top, right, bottom = window
        inner = max(left, 0), max(top, 0), min(right, grid.width), min(bottom, grid.height)
        found = self.masks.read(path, grid=grid, window=inner)
        moved = left - inner[0], top - inner[1], right - inner[0], bottom - inner[1]
        return _cut(found, moved, IGNORE)

    def count(self) -> np.ndarray:
        """Pixels ``(classes,)`` of each class; reads everything once, and so finds what is bad."""
        found = np.zeros(IGNORE + 1, np.int64)
        for i, grid in enumerate(self.grids):
            for left, top, right, bottom in features.sliding_windows(
                grid.height, grid.width, size_px=_PART_PX, overlap_px=0
            ):
                part = left, top, min(right, grid.width), min(bottom, grid.height)
                codes, valid = self.codes(i, part), self.pixels(i, part)[1]
                found += np.bincount(codes[valid], minlength=IGNORE + 1)
        return found[: len(self.masks.classes)]

    def drawn(self, *, size_px: int, batch_size: int, epoch: int, seed: int) -> np.ndarray:
        """The scenes ``(steps, batch)`` of an epoch's crops.

        A scene gives as many crops as cover its area, one at least; what does not fill a batch is
        left out, and fewer than that come several times.
        """
        each = [max(1, round(g.height * g.width / size_px**2)) for g in self.grids]
        order = np.repeat(np.arange(len(self)), each)
        np.random.default_rng(derive_seed(seed, "crops", epoch)).shuffle(order)
        return np.resize(order, (max(1, len(order) // batch_size), batch_size))

    def batches(self, *, size_px: int, batch_size: int, epoch: int, seed: int) -> Iterator[Batch]:
        """The crops of an epoch, made ahead by a thread.

        Each is cut anywhere (a scene that is smaller lies anywhere within it), flipped and turned
        by quarters: image and mask alike.

        Yields:
            Pixels ``(N, C, S, S)`` float32 in the units of the files, which of them hold data
            ``(N, S, S)`` bool, classes ``(N, S, S)`` int64, 255 where there is none.
        """
        scenes = self.drawn(size_px=size_px, batch_size=batch_size, epoch=epoch, seed=seed)

        def made(step: int) -> Batch:
            rng = np.random.default_rng(derive_seed(seed, "crops", epoch, step))
            found = [self._crop(int(i), size_px, rng) for i in scenes[step]]
            pixels, valid, codes = (np.stack(part) for part in zip(*found, strict=True))
            return torch.from_numpy(pixels), torch.from_numpy(valid), torch.from_numpy(codes)

        waiting: list[Future[Batch]] = []
        with ThreadPoolExecutor(1, thread_name_prefix="geossl-crops") as pool:
            try:
                for step in range(len(scenes)):
                    waiting.append(pool.submit(made, step))
                    if len(waiting) > _AHEAD:
                        yield waiting.pop(0).result()
                for job in waiting:
                    yield job.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _crop(
        self, i: int, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        free = self.grids[i].width - size, self.grids[i].height - size
        left, top = (int(rng.integers(min(f, 0), max(f, 0), endpoint=True)) for f in free)
        window = left, top, left + size, top + size
        pixels, valid = self.pixels(i, window)
        codes = np.where(valid, self.codes(i, window), IGNORE)
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))

        def turned(part: np.ndarray, dtype: type) -> np.ndarray:
            part = np.rot90(part, turns, (-2, -1))
            return np.ascontiguousarray(part[..., ::-1] if flip else part, dtype)

        return turned(pixels, np.float32), turned(valid, np.bool_), turned(codes, np.int64)


def _bytes(dtype: str | None) -> int:
    return np.dtype(dtype or "float32").itemsize


def _cut(part: np.ndarray, window: Window, fill: int) -> np.ndarray:
    """A window ``(..., bottom - top, right - left)`` of ``(..., H, W)``, filled outside of it."""
    left, top, right, bottom = window
    height, width = part.shape[-2:]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return part[..., top:bottom, left:right]
    found = np.full((*part.shape[:-2], bottom - top, right - left), fill, part.dtype)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if x0 < x1 and y0 < y1:
        found[..., y0 - top : y1 - top, x0 - left : x1 - left] = part[..., y0:y1, x0:x1]
    return found
