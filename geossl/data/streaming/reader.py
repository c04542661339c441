"""Read the pixels of a stream as an array, location by location, with litdata."""

from __future__ import annotations

import json
import math
import shutil
import struct
import tempfile
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from geossl.data.files import DatasetError
from geossl.data.streaming.storage import Bucket, Folder, import_litdata, translate_errors
from geossl.data.streaming.writer import INDEX
from geossl.utils.validate import PositiveInt, validated

__all__ = ["StreamPixels", "damaged_stream_error"]


class StreamPixels:
    """Chips ``(M, C, H, W)`` to index like an array; results are copies.

    A location is read with all its dates, and kept in memory while there is room.

    Args:
        storage: folder or bucket of the stream.
        index: litdata's, checked.
        shape: ``(M, C, H, W)``.
        dtype: of the chips.
        first: ``(L,)`` first chip of each location.
        chunk: ``(L,)`` chunk of each location.
        memory_bytes: bytes of locations that are kept.
        num_threads: locations read at the same time.
    """

    @validated
    def __init__(
        self,
        storage: Folder | Bucket,
        index: dict[str, Any],
        *,
        shape: tuple[int, ...],
        dtype: np.dtype,
        first: np.ndarray,
        chunk: np.ndarray,
        memory_bytes: PositiveInt,
        num_threads: PositiveInt,
    ):
        self.shape, self.dtype = shape, dtype
        self.memory_bytes, self.num_threads = memory_bytes, num_threads
        self.nbytes = math.prod(shape) * dtype.itemsize
        self._storage, self._index = storage, index
        self._first, self._chunk = first, chunk
        self._dates = np.diff(first, append=shape[0])
        self._samples: Any = None
        self._cache: dict[int, np.ndarray] = {}  # in the order of reading
        self._cache_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return copies of some chips, or of parts of them.

        Raises:
            IndexError: a chip that does not exist.
            DatasetError: the stream is damaged.
            OSError: it cannot be read (any more).
            ImportError: the packages of the extra ``stream`` are missing.
        """
        selected, *rest = index if isinstance(index, tuple) else (index,)
        is_slice = isinstance(selected, slice)
        rows = np.arange(len(self))[selected] if is_slice else np.asarray(selected)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if ((rows < -len(self)) | (rows >= len(self))).any():
            raise IndexError(f"`index` must be from 0 to {len(self) - 1}, got {rows}.")
        chips = self._gather(rows.reshape(-1).astype(np.int64) % len(self))
        return chips.reshape(*rows.shape, *self.shape[1:])[(*(slice(None),) * rows.ndim, *rest)]

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        chips = np.empty((len(rows), *self.shape[1:]), self.dtype)
        location = np.searchsorted(self._first, rows, side="right") - 1
        order = np.argsort(location, kind="stable")
        numbers, starts = np.unique(location[order], return_index=True)
        parts = np.split(order, starts[1:]) if len(rows) else []
        for (number, dates), part in zip(self._read(numbers), parts, strict=True):
            chips[part] = dates[rows[part] - self._first[number]]
        return chips

    def _read(self, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(T, C, H, W)`` of locations, in parallel, from memory if possible."""
        with ThreadPoolExecutor(self.num_threads, thread_name_prefix="geossl-stream") as pool:
            for start in range(0, len(numbers), 2 * self.num_threads):
                some = numbers[start : start + 2 * self.num_threads].tolist()
                cached = {number: self._cache.get(number) for number in some}
                futures = {n: pool.submit(self._fetch, n) for n in some if cached[n] is None}
                for number in some:
                    chips = cached[number]
                    yield number, futures[number].result() if chips is None else chips

    def _fetch(self, number: int) -> np.ndarray:
        """Read one location from the storage into memory."""
        chunk, first = int(self._chunk[number]), int(self._first[number])
        with self._errors(chunk):
            sample = self._sample(number, chunk)
            chips, rows = sample["chips"], np.arange(first, first + self._dates[number])
            if chips.shape[1:] != self.shape[1:] or not np.array_equal(sample["row"], rows):
                raise ValueError(f"location {number} has other chips than the table says")
        with self._lock:
            if number not in self._cache:
                self._cache[number] = chips
                self._cache_bytes += chips.nbytes
            while self._cache_bytes > self.memory_bytes and len(self._cache) > 1:
                self._cache_bytes -= self._cache.pop(next(iter(self._cache))).nbytes
        return chips

    def _sample(self, number: int, chunk: int) -> dict[str, np.ndarray]:
        with self._lock:
            if self._samples is None:  # truth of the data set would be a walk over the index
                self._samples = self._open_samples()
        from litdata.streaming.sampler import ChunkedIndex

        if not self._storage.remote:  # litdata would wait for a file that is too short
            entry = self._index["chunks"][chunk]
            size = (Path(self._storage.path) / entry["filename"]).stat().st_size
            if size != entry["chunk_bytes"]:
                raise ValueError(
                    f"{entry['filename']} has {size} bytes, not {entry['chunk_bytes']}"
                )
        return self._samples[ChunkedIndex(index=number, chunk_index=chunk)]

    def _open_samples(self) -> Any:
        """Return the locations as litdata's data set."""
        with import_litdata():
            from litdata import StreamingDataset, TemporalArrayLoader
        options: dict[str, Any] = {}
        if self._storage.remote:
            cache = tempfile.mkdtemp(prefix="geossl-stream-")  # of the index, no pixels
            weakref.finalize(self, shutil.rmtree, cache, ignore_errors=True)
            (Path(cache) / INDEX).write_text(json.dumps(self._index), "utf-8")
            options = {
                "cache_dir": cache,
                "index_path": f"{cache}/{INDEX}",
                "storage_options": self._storage.options,
            }
        loader = TemporalArrayLoader()
        samples = StreamingDataset(self._storage.path, item_loader=loader, **options)
        if samples.frame_counts != self._dates.tolist():
            raise ValueError(f"{INDEX} has other dates than the table")
        return samples

    @contextmanager
    def _errors(self, chunk: int) -> Iterator[None]:
        """Name the file in errors of reading a chunk."""
        name = f"{self._storage.path}/{self._index['chunks'][chunk]['filename']}"
        try:
            with translate_errors(name) if self._storage.remote else nullcontext():
                yield
        except FileNotFoundError:
            raise FileNotFoundError(
                f"The file {name} of a stream is missing. Write the stream again."
            ) from None
        except OSError as error:
            if name in str(error):
                raise
            raise OSError(f"The file {name} of a stream cannot be read ({error}).") from error
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise damaged_stream_error(self._storage.path, error) from error


def damaged_stream_error(path: str, error: Exception) -> DatasetError:
    """Return the error for a stream whose files do not fit together."""
    return DatasetError(
        f"The stream {path} is damaged ({type(error).__name__}: {error}). Remove it and write it "
        "again."
    )
