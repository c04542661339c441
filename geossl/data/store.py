"""The chip store: scenes decoded once into one array on disk, with its table and statistics."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from geossl.data import store_files
from geossl.data.build import MAX_NODATA_SHARE, ChipBuilder
from geossl.data.natural_color import Stretch, shown_bands
from geossl.data.notices import DataWarning
from geossl.data.readers import get_reader, reader_name
from geossl.data.sources import changed_rows
from geossl.utils.io import file_digest
from geossl.utils.validate import Fraction, PositiveInt, advise, validated

__all__ = ["ChipStore"]

_MAX_CLIPPED = 0.01  # share of the values beyond the scale
_PICTURE_BANDS = 4  # of uint8 are a picture already, as aerial images are


@dataclass(frozen=True, eq=False, repr=False)
class ChipStore:
    """Chips of one size in one memory-mapped array; use `build` or `open`.

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
        info: all of ``store.json``: also units, source, ``bad`` (path -> reason) of the scenes that
            were left out, and ``empty_rows``, how many chips were left out for they have no data.

    Example:
        >>> import geossl, tempfile
        >>> scenes = geossl.datasets.blue_marble(places=4, dates=2)
        >>> folder = tempfile.mkdtemp()
        >>> store = geossl.ChipStore.build(folder, scenes, size_px=8, progress=False)
        >>> store.gather([0, 7]).shape
        torch.Size([2, 3, 8, 8])
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
    @validated
    def build(
        cls,
        path: str | os.PathLike[str],
        scenes: pd.DataFrame,
        *,
        size_px: PositiveInt,
        num_workers: PositiveInt | None = None,
        skip_bad: bool = False,
        max_nodata_share: Fraction = MAX_NODATA_SHARE,
        verify: bool = False,
        progress: bool = True,
        chunk_size: PositiveInt = 256,
        dask: str | None = None,
    ) -> ChipStore:
        """Decode the scenes of a table into a store, in parallel; resumes a build that was killed.

        A finished store of the same table and size is opened at once; if files have changed since
        (by size or time), their chunks are decoded again. A second process that builds the same
        store waits for the first. Memory: about ``num_workers`` chunks.

        Args:
            path: folder of the store.
            scenes: a scene table with a column ``reader``, such as `geossl.datasets` returns.
            size_px: height and width of a chip.
            num_workers: chunks decoded at a time; None for all cores, or the whole cluster.
            skip_bad: leave unreadable scenes out, and list them in ``info["bad"]``.
            max_nodata_share: leave chips out of which a larger share of the pixels has no data (is
                masked, NaN, or 0 in a file that is 0 in all of the chip). 1 keeps all of them.
            verify: read all chips of a finished store, and decode those again that are damaged.
            progress: show a progress bar.
            chunk_size: chips decoded and recorded together; fewer if they are large.
            dask: None for threads; a Dask cluster, "tcp://host:8786" or "local:3", see
                `geossl.utils.parallel.run_tasks`. ``path`` and the scenes' files must be on a file
                system that all its machines share; the store is the same, byte for byte, if their
                software is.

        Raises:
            ValueError: an unreadable scene (named), a table without reader, no valid pixel, or a
                folder with a store of other scenes or something else.
            OSError: the disk is full, or the cluster is lost (ConnectionError). The same call
                resumes when there is space, or a cluster.
            ImportError: ``dask`` without the package distributed.
        """
        if size_px < 2:
            raise ValueError(f"`size_px` must be at least 2 for an image, got {size_px}.")
        path = Path(path)
        builder = ChipBuilder(
            path, scenes, size_px=size_px, chunk_size=chunk_size, max_nodata_share=max_nodata_share
        )
        builder.build(
            num_workers=num_workers, skip_bad=skip_bad, progress=progress, dask=dask, verify=verify
        )
        store = cls.open(path)
        for text in filter(None, (store.nodata_summary(), store.clipped_summary())):
            warnings.warn(f"{path}: {text}.", DataWarning, stacklevel=3)
        if store.info["bad"] and not skip_bad:
            name, reason = next(iter(store.info["bad"].items()))
            raise ValueError(
                f"The chip store {path} was built without {store.info['bad_rows']} unreadable "
                f"scenes ({name}: {reason}). Use skip_bad=True to open it, or build another."
            )
        return store

    @classmethod
    @validated
    def open(cls, path: str | os.PathLike[str]) -> ChipStore:
        """Open a finished store; reads its table, and only the header of the chips.

        Raises:
            FileNotFoundError: there is no store, or its build is unfinished.
            DatasetError: a newer version wrote it, or its files are damaged or do not fit together.
        """
        path = Path(path)
        info = store_files.read_store_json(path)
        table = store_files.read_scenes(path, info)
        chips = store_files.open_chips(path, info)
        store = cls(path=path, scenes=table, chips=chips, info=info, **fields_of(info))
        table.attrs["nodata"] = store.nodata_summary()
        return store

    def __len__(self) -> int:
        return len(self.chips)

    def __repr__(self) -> str:
        shape = f"{len(self):,} chips of {len(self.bands)} x {self.size_px} x {self.size_px}"
        return f"{type(self).__name__}({shape} {self.dtype}, {str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ChipStore.open, (self.path,)

    def nodata_summary(self) -> str:
        """Return how many chips have no data, in words; "" if none."""
        share, left_out = self.info.get("max_nodata_share"), self.info.get("empty_rows", 0)
        if left_out:
            total = len(self) + left_out
            return (
                f"{left_out:,} of {total:,} chips have no data in more than {share:.0%} of their "
                "pixels; left out"
            )
        shares = self.scenes.get("nodata_share", pd.Series(0.0, self.scenes.index))
        if share is None and (empty := int((shares > MAX_NODATA_SHARE).sum())):
            return (
                f"{empty:,} of {len(self):,} chips have no data in more than "
                f"{MAX_NODATA_SHARE:.0%} of their pixels; build the store again in another folder "
                "to leave them out"
            )
        return ""

    def clipped_summary(self) -> str:
        """Return how many pixels lie beyond the scale of the scene table, in words; "" if few."""
        if not {"below_scale", "above_scale"} <= set(self.scenes):
            return ""
        low, high = self.scenes["below_scale"].mean(), self.scenes["above_scale"].mean()
        if not max(low, high) > _MAX_CLIPPED:
            return ""
        return (
            f"the scale cuts off {low:.1%} of the values at its lower and {high:.1%} at its upper "
            "end; make the scene table again with a wider `scale`, or with `nodata` if these "
            "are pixels without data"
        )

    @validated
    def check(self) -> dict[str, str]:
        """Read all chips, and look for damage and for source files that changed.

        Returns:
            What is wrong -> a sentence with the remedy: "store.json" or "scenes.parquet" (edited),
            "chips" (damaged), "checksums" (none), "changed" and "gone" (files); or nothing.
        """
        if not self.info.get("checks"):
            return {"checksums": "none: version 0.1 built the store, so damage cannot be seen"}
        problems = {}
        if store_files.info_crc(self.info) != self.info["checks"]["info"]:
            problems["store.json"] = (
                "is not as it was written; unless you edited it, build the store again"
            )
        if file_digest(self.path / "scenes.parquet") != self.info["checks"]["table"]:
            problems["scenes.parquet"] = (
                "was edited since it was written; if not by you, build the store again"
            )
        damaged = [rows for _, rows in store_files.damaged_chunks(self.chips, self.info)]
        if damaged:
            ranges = ", ".join(f"{rows.start} to {rows.stop - 1}" for rows in damaged[:5])
            more = f" and {len(damaged) - 5:,} more parts" if len(damaged) > 5 else ""
            problems["chips"] = f"{ranges}{more} are damaged; {self._again} and --verify mends them"
        return problems | self.check_sources()

    def check_sources(self) -> dict[str, str]:
        """Say which source files have changed, or are gone, since their chips were decoded.

        Returns:
            "changed" and "gone" -> a sentence with the remedy; empty if there are none.
        """
        problems = {}
        for name, rows in zip(("changed", "gone"), changed_rows(self.scenes), strict=True):
            if len(rows):
                example = self.scenes["path"].iloc[rows[0]]
                problems[name] = f"files of {len(rows):,} of {len(self):,} chips, e.g. {example}"
        if "changed" in problems:
            problems["changed"] += f"; {self._again} reads them again"
        return problems

    @property
    def _again(self) -> str:
        return f"`geossl chips` with the table, --size-px {self.size_px} and -o {self.path}"

    @property
    def ordering(self) -> list[Any]:
        """What decides the order of an epoch, besides the seed, as json can hold it."""
        return []

    @validated
    def arrange(
        self,
        pairs: tuple[Tensor, ...],
        rows: Tensor,
        *,
        batch_size: PositiveInt,
        generator: torch.Generator,
    ) -> tuple[Tensor, ...]:
        """Return an epoch's pairs in the order in which the store is best read; here in any."""
        return pairs

    @validated
    def gather(self, index: ArrayLike | Tensor) -> Tensor:
        """Return copies of some chips: ``(len(index), C, H, W)``, stored dtype, on the CPU."""
        return torch.from_numpy(self._take(index))

    @validated
    def preview(self, index: ArrayLike | Tensor, *, min_px: PositiveInt = 1) -> np.ndarray:
        """Return some chips as pictures: ``(len(index), H, W, 3)`` uint8.

        Up to four bands of uint8 are shown as they are. Others are stretched from the 2nd to the
        98th percentile of each band over the whole store, so that colors of different chips
        compare, and brightened if most pixels are dark (see `geossl.data.natural_color`).

        Args:
            index: rows of the store.
            min_px: height and width for the eye: smaller chips are computed anew in so many pixels
                where they can be (the embedded world). Chips from files are shown as stored.
        """
        pixels = self._take(index)
        if self.size_px < min_px and len(pixels):
            pixels = self._compute(index, pixels, min_px)
        return self.to_rgb(pixels)

    def _compute(self, index: ArrayLike | Tensor, stored: np.ndarray, size_px: int) -> np.ndarray:
        """Compute chips in another size if the same computation gives those that are stored."""
        rows = self.scenes.iloc[_as_rows(index)].reset_index(drop=True)
        try:
            reader = get_reader(reader_name(rows))
            if not getattr(reader, "computed", False):
                return stored
            same = np.array_equal(reader.read_chips(rows, size_px=self.size_px).chips, stored)
            return reader.read_chips(rows, size_px=size_px).chips if same else stored
        except (KeyError, ValueError):  # no such reader, or a table of another version
            return stored

    @validated
    def to_rgb(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels ``(N, C, H, W)`` in the store's units, e.g. augmented, as pictures."""
        pixels = pixels[:, (self.rgb * 3)[:3]]
        if self.dtype != "uint8" or len(self.bands) > _PICTURE_BANDS:
            pixels = self._stretch.apply(pixels)
        elif pixels.dtype != np.uint8:
            pixels = np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))

    def _take(self, index: ArrayLike | Tensor) -> np.ndarray:
        return np.ascontiguousarray(self.chips[_as_rows(index)])

    @cached_property
    def _stretch(self) -> Stretch:
        """The tone curve of red, green and blue, from some million pixels all over the store."""
        step, step_px = -(-len(self) // 256), -(-self.size_px // 64)
        sample = np.array(self.chips[::step, :, ::step_px, ::step_px])
        pixels = sample.transpose(1, 0, 2, 3).reshape(len(self.bands), -1)
        valid = pixels[:, pixels.any(0)]  # all bands zero: mostly no data
        return Stretch.fit((valid if valid.size else pixels)[(self.rgb * 3)[:3]])


def _as_rows(index: ArrayLike | Tensor) -> np.ndarray:
    rows = np.asarray(index.cpu() if isinstance(index, Tensor) else index)
    return rows.astype(np.int64) if rows.size == 0 else rows


def fields_of(info: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a store that are in its json file."""
    same = {name: info[name] for name in ("bands", "dtype", "size_px", "rgb")}
    if len(info["bands"]) > _PICTURE_BANDS and info["rgb"] == [0, 1, 2]:  # what version 0.1 wrote
        same["rgb"] = shown_bands(info["bands"])
    return {**same, **{name: np.array(info[name], np.float32) for name in ("mean", "std")}}


advise(ChipStore, "Open one with ChipStore.open(path).")
