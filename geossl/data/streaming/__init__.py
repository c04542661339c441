"""Stores past one disk: written, sharded and read by litdata, from folders and object stores.

One sample is one location with all its dates, so that pairs of dates are found in one piece; the
scene table lies beside the pixels. See ``docs/stores.md``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geossl.data.scenes import rows_of_split
from geossl.data.store import ChipStore
from geossl.data.streaming.storage import open_storage
from geossl.data.streaming.store import StreamStore
from geossl.data.streaming.writer import INFO, write_stream
from geossl.utils.seeds import derive_seed

__all__ = ["Batch", "StreamStore", "batches", "open", "open_store", "write"]


class Batch(NamedTuple):
    """Pairs of a batch.

    Attributes:
        query, key: ``(N, C, H, W)`` chips as they are stored.
        location: ``(N,)`` which place it is; equal numbers are the same one.
        rows: ``(N, 2)`` rows of query and key in the stream's scene table.
    """

    query: Tensor
    key: Tensor
    location: Tensor
    rows: Tensor


def write(
    store: ChipStore,
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    chunk_mb: float = 32.0,
    num_workers: int | None = None,
    dask: str | None = None,
    storage_options: dict[str, Any] | None = None,
    progress: bool = True,
) -> StreamStore:
    """Write a chip store as a stream, in parallel; a killed one goes on.

    A reader sees nothing before all is there. A finished stream of the same store is opened at
    once.

    Args:
        store: what to write.
        path: a folder, or ``s3://bucket/prefix`` of an object store with that interface.
        seed: of the order of the locations.
        chunk_mb: about the size of a file, in megabytes.
        num_workers: chunks written at a time; by all cores, or all of the cluster, when None. Each
            takes some four times ``chunk_mb`` of memory.
        dask: None for threads; a Dask cluster, "tcp://host:8786" or "local:3", see
            `geossl.utils.parallel.run_tasks`. Its machines see the chip store's folder, and ``path``
            unless it is in an object store.
        storage_options: arguments of ``boto3.client``, e.g. ``endpoint_url``.
        progress: show a progress bar.

    Raises:
        ValueError: something else lies there, or a chunk would exceed 2 GB.
        OSError: no space, no permission, or no object store (ConnectionError).
        ImportError: the packages of the extra ``stream`` are absent.
    """
    write_stream(
        store, open_storage(path, storage_options), storage_options, seed=seed, chunk_mb=chunk_mb,
        num_workers=num_workers, dask=dask, progress=progress,
    )  # fmt: skip
    return StreamStore.open(path, storage_options=storage_options)


open = StreamStore.open


def open_store(path: str | os.PathLike[str]) -> ChipStore:
    """The chip store or the stream that lies at a path; see their ``open``."""
    if "://" in os.fspath(path) or (Path(path) / INFO).exists():
        return StreamStore.open(path)
    return ChipStore.open(path)


def batches(
    store: StreamStore,
    pairs: Any,
    *,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    start: int = 0,
    share: tuple[int, int] = (0, 1),
    split: str | None = "train",
) -> Iterator[Batch]:
    """Batches of one epoch, for a loop of one's own; those that `geossl.pretrain` takes.

    Args:
        store: the stream.
        pairs: a policy of `geossl.pairs` whose pairs lie in one location.
        batch_size: pairs of all ranks in a batch.
        seed: of the run.
        epoch: another one has another order.
        start: batches of the epoch that were taken already.
        share: this rank and the number of ranks; each gets a part of every batch.
        split: the rows to train on, by the table's column; None, or no such column: all.

    Raises:
        ValueError: pairs of two locations, an absent split, or a batch that the ranks cannot share.
    """
    rank, ranks = share
    if batch_size < 1 or batch_size % ranks or not 0 <= rank < ranks:
        raise ValueError(
            f"expected a batch that {ranks} ranks share evenly, came {batch_size}, {share}"
        )
    rows = rows_of_split(store.scenes, split)
    table = store.scenes.iloc[rows.numpy()].reset_index(drop=True)
    generator = torch.Generator().manual_seed(derive_seed(seed, "pairs", epoch))
    drawn = store.arrange(
        pairs.prepare(table)(generator), rows, batch_size=batch_size, generator=generator
    )
    for now in range(start, len(drawn[0]) // batch_size):
        mine = slice(
            now * batch_size + rank * batch_size // ranks,
            now * batch_size + (rank + 1) * batch_size // ranks,
        )
        query, key = (rows[part[mine]] for part in drawn)
        chips = store.gather(torch.cat([query, key]))
        location = store.location[query]
        yield Batch(
            chips[: len(query)], chips[len(query) :], location, torch.stack([query, key], 1)
        )
