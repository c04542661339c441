"""Stores larger than a disk: written and read by litdata, in folders and object stores.

One sample is one location with all its dates, so that both dates of a pair are in one sample; the
scene table is stored next to the pixels. See ``docs/stores.md``.
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
from geossl.utils.validate import NonNegativeInt, Positive, PositiveInt, Seed, validated

__all__ = ["Batch", "StreamStore", "batches", "open", "open_store", "write"]

open = StreamStore.open


class Batch(NamedTuple):
    """Pairs of a batch.

    Attributes:
        query, key: ``(N, C, H, W)`` chips as they are stored.
        location: ``(N,)`` number of the location.
        rows: ``(N, 2)`` rows of query and key in the stream's scene table.
    """

    query: Tensor
    key: Tensor
    location: Tensor
    rows: Tensor


@validated
def write(
    store: ChipStore,
    path: str | os.PathLike[str],
    *,
    seed: Seed = 0,
    chunk_mb: Positive = 32.0,
    num_workers: PositiveInt | None = None,
    dask: str | None = None,
    storage_options: dict[str, Any] | None = None,
    progress: bool = True,
) -> StreamStore:
    """Write a chip store as a stream, in parallel; resumes a writer that was killed.

    A reader sees nothing before the stream is complete. A finished stream of the same store is
    opened at once.

    Args:
        store: what to write.
        path: a folder, or ``s3://bucket/prefix`` of an object store with that interface.
        seed: of the order of the locations.
        chunk_mb: approximate size of a file, in megabytes.
        num_workers: chunks written at a time; None for all cores, or the whole cluster. Each needs
            about four times ``chunk_mb`` of memory.
        dask: None for threads; a Dask cluster, "tcp://host:8786" or "local:3", see
            `geossl.utils.parallel.run_tasks`. Its machines must see the chip store's folder, and
            ``path`` unless it is in an object store.
        storage_options: arguments of ``boto3.client``, e.g. ``endpoint_url``.
        progress: show a progress bar.

    Raises:
        ValueError: ``path`` has something else, or a chunk would exceed 2 GB.
        OSError: no space, no permission, or no object store (ConnectionError).
        ImportError: the packages of the extra ``stream`` are missing.
    """
    write_stream(
        store, open_storage(path, storage_options), storage_options, seed=seed, chunk_mb=chunk_mb,
        num_workers=num_workers, dask=dask, progress=progress,
    )  # fmt: skip
    return StreamStore.open(path, storage_options=storage_options)


@validated
def open_store(path: str | os.PathLike[str]) -> ChipStore:
    """Open the chip store or the stream at a path; see their ``open``."""
    if "://" in os.fspath(path) or (Path(path) / INFO).exists():
        return StreamStore.open(path)
    return ChipStore.open(path)


@validated
def batches(
    store: StreamStore,
    pairs: Any,
    *,
    batch_size: PositiveInt,
    seed: Seed = 0,
    epoch: NonNegativeInt = 0,
    start: NonNegativeInt = 0,
    share: tuple[NonNegativeInt, PositiveInt] = (0, 1),
    split: str | None = "train",
) -> Iterator[Batch]:
    """Yield the batches of one epoch, for a loop of one's own; those that `geossl.pretrain` uses.

    Args:
        store: the stream.
        pairs: a sampler of `geossl.pairs` with pairs of one location.
        batch_size: pairs of all ranks in a batch.
        seed: of the run.
        epoch: each has another order.
        start: first batch, to resume an epoch.
        share: this rank and the number of ranks; each gets a part of every batch.
        split: the rows to train on, by the table's column; None, or no such column: all.

    Raises:
        ValueError: pairs of two locations, an absent split, or a batch that ranks cannot share.
    """
    rank, ranks = share
    if batch_size % ranks or rank >= ranks:
        raise ValueError(
            f"`batch_size` must be a multiple of the ranks in `share`, and the rank below them, "
            f"got {batch_size} and {share}."
        )
    if not callable(getattr(pairs, "prepare", None)):
        raise TypeError(f"`pairs` must be a sampler of geossl.pairs, got {pairs!r}.")
    rows = rows_of_split(store.scenes, split)
    table = store.scenes.iloc[rows.numpy()].reset_index(drop=True)
    generator = torch.Generator().manual_seed(derive_seed(seed, "pairs", epoch))
    drawn = pairs.prepare(table)(generator)
    ordered = store.arrange(drawn, rows, batch_size=batch_size, generator=generator)
    local = batch_size // ranks
    for batch in range(start, len(ordered[0]) // batch_size):
        first = batch * batch_size + rank * local
        query, key = (rows[part[first : first + local]] for part in ordered)
        chips = store.gather(torch.cat([query, key]))
        yield Batch(
            query=chips[:local],
            key=chips[local:],
            location=store.location[query],
            rows=torch.stack([query, key], 1),
        )
