"""The pixels of a stream: an array whose locations are read by litdata when they are asked for."""

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

from geossl.data.streaming.storage import Bucket, Storage, import_boto3, translate_errors
from geossl.data.streaming.writer import INDEX


class StreamPixels:
    """Chips ``(M, C, H, W)`` that are indexed as an array, and copied.

    A location is read with all its dates, and kept while others come.

    Args:
        at: where the stream lies.
        index: litdata's, checked.
        shape: ``(M, C, H, W)``.
        dtype: of the chips.
        first: ``(L,)`` first chip of each location.
        chunk: ``(L,)`` chunk of each location.
        memory_bytes: bytes of locations that are kept.
        num_threads: locations read at the same time.
    """

    def __init__(
        self,
        at: Storage,
        index: dict[str, Any],
        *,
        shape: tuple[int, ...],
        dtype: np.dtype,
        first: np.ndarray,
        chunk: np.ndarray,
        memory_bytes: int,
        num_threads: int,
    ):
        self.shape, self.dtype, self.memory, self.threads = shape, dtype, memory_bytes, num_threads
        self.nbytes = math.prod(shape) * dtype.itemsize
        self._at, self._index = at, index
        self._first, self._chunk = first, chunk
        self._dates = np.diff(first, append=shape[0])
        self._files: Any = None
        self._kept: dict[int, np.ndarray] = {}  # in the order of their reading
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Copies of some chips, or of parts of them.

        Raises:
            IndexError: a chip that is not there.
            ValueError: the stream is damaged.
            OSError: it cannot be read (any more).
            ImportError: the packages of the extra ``stream`` are absent.
        """
        where, *rest = index if isinstance(index, tuple) else (index,)
        rows = np.arange(len(self))[where] if isinstance(where, slice) else np.asarray(where)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if ((rows < -len(self)) | (rows >= len(self))).any():
            raise IndexError(f"expected chips of 0 to {len(self) - 1}, came {rows}")
        chips = self._gathered(rows.reshape(-1).astype(np.int64) % len(self))
        return chips.reshape(*rows.shape, *self.shape[1:])[(*(slice(None),) * rows.ndim, *rest)]

    def _gathered(self, rows: np.ndarray) -> np.ndarray:
        chips = np.empty((len(rows), *self.shape[1:]), self.dtype)
        location = np.searchsorted(self._first, rows, side="right") - 1
        order = np.argsort(location, kind="stable")
        wanted, begin = np.unique(location[order], return_index=True)
        parts = np.split(order, begin[1:]) if len(rows) else []
        for (number, found), part in zip(self._read(wanted), parts, strict=True):
            chips[part] = found[rows[part] - self._first[number]]
        return chips

    def _read(self, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """``(T, C, H, W)`` of locations, in parallel, from memory where they are."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="geossl-stream") as pool:
            for start in range(0, len(wanted), 2 * self.threads):
                numbers = wanted[start : start + 2 * self.threads].tolist()
                found = {number: self._kept.get(number) for number in numbers}
                jobs = {n: pool.submit(self._fetch, n) for n in numbers if found[n] is None}
                for number in numbers:
                    chips = found[number]
                    yield number, jobs[number].result() if chips is None else chips

    def _fetch(self, number: int) -> np.ndarray:
        """One location from where the stream lies."""
        chunk, first = int(self._chunk[number]), int(self._first[number])
        with self._errors(chunk):
            item = self._item(number, chunk)
            chips, rows = item["chips"], np.arange(first, first + self._dates[number])
            if chips.shape[1:] != self.shape[1:] or not np.array_equal(item["row"], rows):
                raise ValueError(f"location {number} holds other chips than the table says")
        with self._lock:
            if number not in self._kept:
                self._kept[number] = chips
                self._bytes += chips.nbytes
            while self._bytes > self.memory and len(self._kept) > 1:
                self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return chips

    def _item(self, number: int, chunk: int) -> dict[str, np.ndarray]:
        """One sample, by litdata."""
        with self._lock:
            if self._files is None:  # its truth would be a walk over the index
                self._files = self._opened()
        from litdata.streaming.sampler import ChunkedIndex

        if not self._at.remote:  # litdata would wait for a file that is too short
            entry = self._index["chunks"][chunk]
            size = (Path(self._at.path) / entry["filename"]).stat().st_size
            if size != entry["chunk_bytes"]:
                raise ValueError(
                    f"{entry['filename']} has {size} bytes, not {entry['chunk_bytes']}"
                )
        return self._files[ChunkedIndex(index=number, chunk_index=chunk)]

    def _opened(self) -> Any:
        """All samples, as litdata sees them."""
        with import_boto3():
            from litdata import StreamingDataset, TemporalArrayLoader
        more: dict[str, Any] = {}
        if isinstance(self._at, Bucket):
            cache = tempfile.mkdtemp(prefix="geossl-stream-")  # of the index, no pixels
            weakref.finalize(self, shutil.rmtree, cache, ignore_errors=True)
            (Path(cache) / INDEX).write_text(json.dumps(self._index), "utf-8")
            more = {
                "cache_dir": cache,
                "index_path": f"{cache}/{INDEX}",
                "storage_options": self._at.options,
            }
        files = StreamingDataset(self._at.path, item_loader=TemporalArrayLoader(), **more)
        if files.frame_counts != self._dates.tolist():
            raise ValueError(f"{INDEX} has other dates than the table")
        return files

    @contextmanager
    def _errors(self, chunk: int) -> Iterator[None]:
        path = self._at.path
        name = f"{path}/{self._index['chunks'][chunk]['filename']}"
        try:
            with translate_errors(name) if self._at.remote else nullcontext():
                yield
        except FileNotFoundError:
            raise FileNotFoundError(f"expected {name} of a stream, found none") from None
        except OSError as error:
            if name in str(error):
                raise
            raise OSError(f"{name} of a stream cannot be read ({error})") from error
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise damaged_stream_error(path, error) from error


def damaged_stream_error(path: str, error: Exception) -> ValueError:
    """The error for a stream whose files do not fit together."""
    return ValueError(
        f"the stream {path} is damaged ({type(error).__name__}: {error}); "
        "remove it and write it again"
    )
