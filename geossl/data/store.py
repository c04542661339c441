"""The chip store: scenes decoded once into one array on disk, with its table and statistics."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from geossl.data.build import build_store, damaged_store_error, read_store_json
from geossl.data.pixels import join_constants


@dataclass(frozen=True, eq=False, repr=False)
class ChipStore:
    """Chips of one size in one memory-mapped array; made by `build` or `open`.

    Attributes:
        path: its folder: ``chips.npy``, ``scenes.parquet``, ``store.json``.
        scenes: the scene table; row i belongs to chip i.
        chips: ``(M, C, H, W)`` uint8 or uint16, read-only memory map.
        bands: names of the C bands.
        mean: ``(C,)`` float32 over all valid pixels, in stored units.
        std: ``(C,)`` float32 likewise; 1 for a band that is constant.
        dtype: "uint8" or "uint16".
        size_px: height and width of a chip.
        rgb: indices of the bands to show as red, green and blue, or of one to show as gray.
        info: all of ``store.json``: also units, source, and ``bad`` (path -> why it was left out).
    """

    path: Path
    scenes: pd.DataFrame
    chips: np.ndarray
    bands: list[str]
    mean: np.ndarray
    std: np.ndarray
    dtype: str
    size_px: int
    rgb: list[int]
    info: dict[str, Any]

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        scenes: pd.DataFrame,
        *,
        size_px: int,
        num_workers: int | None = None,
        skip_bad: bool = False,
        progress: bool = True,
        chunk_size: int = 256,
        dask: str | None = None,
    ) -> ChipStore:
        """Decode the scenes of a table into a store, in parallel; a killed build goes on.

        A finished store of the same table and size is opened at once. A second process that
        builds the same store waits for the first. Memory: about ``num_workers`` chunks.

        Args:
            path: folder of the store.
            scenes: a scene table with a column ``reader``, as the readers make it.
            size_px: height and width of a chip.
            num_workers: chunks decoded at a time; by all cores, or all of the cluster, when None.
            skip_bad: leave unreadable scenes out, listed in ``info["bad"]``, in place of stopping.
            progress: show a progress bar.
            chunk_size: chips decoded and recorded together; fewer when they are large.
            dask: None for threads; a Dask cluster, "tcp://host:8786" or "local:3", see
                `geossl.utils.parallel.run_tasks`. ``path`` and the scenes' files lie on a file system that
                all its machines share; the store is the same, byte for byte, if their software is.

        Raises:
            ValueError: an unreadable scene (named); a table without reader; no valid pixel; the
                folder holds the store of other scenes or something else.
            OSError: the disk is full, or the cluster is lost (ConnectionError); the same call goes
                on when there is space, or a cluster, again.
            ImportError: ``dask`` without the package distributed.
        """
        path = Path(path)
        build_store(path, scenes, size_px, num_workers, skip_bad, progress, chunk_size, dask)
        store = cls.open(path)
        if store.info["bad"] and not skip_bad:
            name, reason = next(iter(store.info["bad"].items()))
            raise ValueError(
                f"the chip store {path} was built without {store.info['bad_rows']} unreadable "
                f"scenes ({name}: {reason}); give skip_bad=True to use it, or build another"
            )
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ChipStore:
        """Open a finished store; reads its table, and of the chips only the header.

        Raises:
            FileNotFoundError: there is no store, or its build is unfinished.
            ValueError: a newer version wrote it, or its files do not fit together.
        """
        path = Path(path)
        info = read_store_json(path)
        try:
            chips = np.load(path / "chips.npy", mmap_mode="r")
            table = pd.read_parquet(path / "scenes.parquet")
            table = join_constants(table, info.get("pixels", {}))
            shape = (info["n"], len(info["bands"]), info["size_px"], info["size_px"])
            if chips.shape != shape or len(table) != len(chips) or chips.dtype != info["dtype"]:
                raise ValueError(
                    f"chips {chips.shape} {chips.dtype}, {len(table)} scenes, "
                    f"store.json says {shape} {info['dtype']}"
                )
            return cls(
                path=path,
                scenes=table,
                chips=chips,
                bands=info["bands"],
                mean=np.array(info["mean"], np.float32),
                std=np.array(info["std"], np.float32),
                dtype=info["dtype"],
                size_px=info["size_px"],
                rgb=info["rgb"],
                info=info,
            )
        except (ValueError, TypeError, AttributeError, LookupError, OSError) as error:
            raise damaged_store_error(path, error) from error

    def __len__(self) -> int:
        return len(self.chips)

    def __repr__(self) -> str:
        shape = f"{len(self):,} chips of {len(self.bands)} x {self.size_px} x {self.size_px}"
        return f"ChipStore({shape} {self.dtype}, {str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ChipStore.open, (self.path,)

    @property
    def ordering(self) -> list[Any]:
        """What of the store decides the order of an epoch; json can hold it."""
        return []

    def arrange(
        self,
        drawn: tuple[Tensor, ...],
        rows: Tensor,
        *,
        batch_size: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, ...]:
        """Bring an epoch's pairs into the order in which the store is best read; here any is."""
        return drawn

    def gather(self, index: ArrayLike | Tensor) -> Tensor:
        """Copies of some chips: ``(len(index), C, H, W)`` of the stored dtype, on the CPU."""
        return torch.from_numpy(self._take(index))

    def preview(self, index: ArrayLike | Tensor) -> np.ndarray:
        """Some chips as people see them: ``(len(index), H, W, 3)`` uint8.

        uint8 is shown as it is; uint16 is stretched from the 2nd to the 98th percentile of each
        band over the whole store, so that colors of different chips compare.
        """
        return self.picture_of(self._take(index))

    def picture_of(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels ``(N, C, H, W)`` in the store's units, e.g. augmented, as `preview` shows them."""
        bands = (list(self.rgb) * 3)[:3] if len(self.rgb) == 1 else list(self.rgb)
        pixels = pixels[:, bands]
        if self.dtype != "uint8":
            low, high = (part[bands, None, None] for part in self._stretch)
            pixels = (pixels - low) / (high - low) * 255
        if pixels.dtype != np.uint8:
            pixels = np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))

    def _take(self, index: ArrayLike | Tensor) -> np.ndarray:
        where = np.asarray(index.cpu() if isinstance(index, Tensor) else index)
        if where.size == 0:
            where = where.astype(np.int64)
        return np.ascontiguousarray(self.chips[where])

    @cached_property
    def _stretch(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high ``(C,)`` of each band, from some million pixels all over the store."""
        each = -(-len(self) // 256)
        step = -(-self.size_px // 64)
        some = np.array(self.chips[::each, :, ::step, ::step])
        pixels = some.transpose(1, 0, 2, 3).reshape(len(self.bands), -1)
        seen = pixels[:, pixels.any(0)]  # all bands zero: mostly no data
        low, high = np.percentile(seen if seen.size else pixels, [2, 98], axis=1)
        return low, np.maximum(high, low + 1)
