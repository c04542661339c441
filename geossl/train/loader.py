"""Where batches come from: pairs of an epoch, a process's share of a batch, its chips in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.clusters import GeoClusters
from geossl.data import scenes
from geossl.data.scenes import rows_of_split
from geossl.data.store import ChipStore
from geossl.train.config import PretrainConfig
from geossl.utils import dist
from geossl.utils.seeds import derive_seed


@dataclass(frozen=True)
class Batch:
    """One process's n of the N pairs of a batch; n = N in a process alone.

    Attributes:
        mine: which of the N queries are its own.
        order: ``(N,)`` in which the keys pass the network, when BatchNorm normalizes parts: those
            of the first process, of the second, ...; None: as the queries do.
        chips: ``(n, C, H, W)`` of queries and, with a contrastive loss, of keys (in that order).
        draws: ``(n, ...)`` random numbers of their views.
        location: ``(N,)`` int64 codes of all queries; None without a contrastive loss.
        targets: ``(n,)`` int64 classes by head.
        weights: what a head's mean loss counts among those of all processes.
    """

    mine: slice
    order: Tensor | None
    chips: tuple[Tensor, ...]
    draws: tuple[Tensor, ...]
    location: Tensor | None
    targets: dict[str, Tensor]
    weights: dict[str, float]


class PairLoader:
    """Batches of a store's training chips; each is a function of the seed and the step alone.

    Every process draws the whole batch, which is cheap, and reads its own rows: neither the pairs
    nor the views depend on how many processes there are.

    Attributes:
        rows: ``(M,)`` training chips of the store.
        classes: size of each class head by name.
        per_epoch: steps in an epoch.
    """

    def __init__(
        self,
        store: ChipStore,
        pairs: Any,
        *,
        geo: GeoClusters | None,
        label: str | None,
        config: PretrainConfig,
        device: torch.device,
        seed: int,
    ):
        self._store, self._config, self._device, self._seed = store, config, device, seed
        self.rows = rows_of_split(store.scenes, config.split)
        table = store.scenes.iloc[self.rows.numpy()].reset_index(drop=True)
        self._draw = None if pairs is None else pairs.prepare(table)
        self._targets, self.classes = class_targets(table, geo, label)
        self.location = torch.from_numpy(scenes.location_codes(table))  # (M,)
        self._feed: ChipPrefetcher | None = None
        self._drawn: tuple[int, tuple[Tensor, ...]] = (-1, ())
        queries = len(self.pairs_of(0)[0])
        self.per_epoch = queries // (config.batch_size * config.accumulation_steps)
        if self.per_epoch < 1:
            raise ValueError(
                f"expected at least {config.batch_size} x {config.accumulation_steps} (batch x accumulate) "
                f"queries an epoch, came {queries} from {len(table)} training chips; lower batch, "
                "add chips, or loosen the pair policy"
            )

    def pairs_of(self, epoch: int) -> tuple[Tensor, ...]:
        """(query, key), or (query,) without a contrastive loss: rows of the training table."""
        if self._drawn[0] != epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, "pairs", epoch))
            if self._draw is None:
                drawn: tuple[Tensor, ...] = (torch.randperm(len(self.rows), generator=generator),)
            else:
                drawn = self._draw(generator)
            batch = self._config.batch_size
            drawn = self._store.arrange(drawn, self.rows, batch_size=batch, generator=generator)
            self._drawn = (epoch, drawn)
        return self._drawn[1]

    def between(self, step: int, end: int) -> Iterator[Batch]:
        """The batches of steps ``step`` to ``end - 1``, ``accumulate`` each, gathered ahead."""
        self._feed = self._feed or ChipPrefetcher(self._store, self._device, self.rows)
        plans: deque[Batch] = deque()

        def wanted() -> Iterator[tuple[Tensor, ...]]:
            for now in range(step, end):
                for rows, plan in self._plans(now):
                    plans.append(plan)
                    yield rows

        for _, chips in self._feed.batches(wanted()):
            yield replace(plans.popleft(), chips=chips)

    def _plans(self, step: int) -> Iterator[tuple[tuple[Tensor, ...], Batch]]:
        """Rows to be read, and all but the chips, of the batches of a step."""
        config = self._config
        epoch, place = divmod(step, self.per_epoch)
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "views", step))
        mine = dist.local_slice(config.batch_size)
        for part in range(
            place * config.accumulation_steps, (place + 1) * config.accumulation_steps
        ):
            rows = [
                r[part * config.batch_size :][: config.batch_size] for r in self.pairs_of(epoch)
            ]
            query = rows[0]
            draws = [
                config.transform.draw(
                    config.batch_size, len(self._store.bands), generator=generator
                )
                for _ in rows
            ]
            order = location = None
            if len(rows) > 1:
                location = dist.to_device(self.location[query], self._device)
                if config.bn_splits > 1:
                    order = torch.randperm(config.batch_size, generator=generator)
                    rows[1], draws[1] = rows[1][order], draws[1][order]
                    order = dist.to_device(order, self._device)
            targets, weights = {}, {}
            for name, target in self._targets.items():
                known = target[query] >= 0
                targets[name] = dist.to_device(target[query[mine]], self._device)
                whole = max(1, int(known.sum()))
                weights[name] = dist.world_size() * int(known[mine].sum()) / whole
            yield (
                tuple(r[mine] for r in rows),
                Batch(mine, order, (), tuple(d[mine] for d in draws), location, targets, weights),
            )


_AHEAD = 3  # batches gathered before they are needed
_PART = 512  # chips read together on their way to a GPU


def class_targets(
    table: pd.DataFrame, geo: GeoClusters | None, label: str | None
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Class of every training row for each class head, and the number of classes."""
    targets, classes = {}, {}
    if geo is not None:
        cluster = geo.assign(table["lon"].to_numpy(), table["lat"].to_numpy())
        targets["geo"], classes["geo"] = torch.from_numpy(np.asarray(cluster, np.int64)), geo.k
    if label is not None:
        if label not in table:
            raise ValueError(
                f"expected a column {label!r} of labels, came {list(table.columns)}; name one"
            )
        codes, names = scenes.label_codes(table[label])
        if len(names) < 2:
            raise ValueError(f"expected two classes or more in {label!r}, came {len(names)}")
        targets["label"], classes["label"] = torch.from_numpy(codes), len(names)
    return targets, classes


class ChipPrefetcher:
    """Chips on the device, gathered ahead by a thread.

    They lie on the GPU when the whole store takes less than half of its free memory, where each
    process reads its share of them once and has the rest from the others; else they are read from
    the memory map through pinned memory. A stream of its own brings them, beside the training step.

    Args:
        store: where the chips are.
        device: where they are wanted.
        rows: ``(M,)`` the chips that can be asked for; an index counts in them.
    """

    def __init__(self, store: ChipStore, device: torch.device, rows: Tensor):
        self._store, self._device, self._rows = store, device, rows
        self._resident: Tensor | None = None
        self._side: torch.cuda.Stream | None = None
        if device.type == "cuda":
            dist.init_process_group(device)
            self._side = torch.cuda.Stream(device)
            wanted = store.chips.nbytes // len(store) * len(rows)
            if all(dist.gather_objects(wanted < torch.cuda.mem_get_info(device)[0] / 2)):
                self._resident = load_to_gpu(store, rows, device)
                self._resident.record_stream(self._side)
                self._side.wait_stream(torch.cuda.current_stream(device))

    def _get(self, index: Tensor) -> Tensor:
        if self._resident is not None:
            return unsigned(self._resident[dist.to_device(index, self._device)])
        chips = self._store.gather(self._rows[index])
        if self._device.type == "cpu":
            return chips
        return unsigned(dist.to_device(signed(chips), self._device))

    def _gathered(self, index: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Any]:
        """The chips, and what tells when they are there."""
        with torch.cuda.stream(self._side):  # as good as nothing where there is none
            chips = tuple(self._get(part) for part in index)
            return chips, self._side.record_event() if self._side is not None else None

    def _ready(self, job: Future[tuple[tuple[Tensor, ...], Any]]) -> tuple[Tensor, ...]:
        """The chips, for the stream that works on them: it waits for them, the host does not."""
        chips, there = job.result()
        if there is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(there)
            for part in chips:
                part.record_stream(stream)  # its memory is not used anew before that work is done
        return chips

    def batches(
        self, indices: Iterable[tuple[Tensor, ...]]
    ) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """For each tuple of ``(N,)`` index tensors: that tuple, and a tuple of ``(N, C, H, W)``."""
        waiting: deque[tuple[tuple[Tensor, ...], Future[Any]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="geossl-feed") as pool:
            try:
                for index in indices:
                    waiting.append((index, pool.submit(self._gathered, index)))
                    if len(waiting) > _AHEAD:
                        index, job = waiting.popleft()
                        yield index, self._ready(job)
                while waiting:
                    index, job = waiting.popleft()
                    yield index, self._ready(job)
            finally:
                pool.shutdown(cancel_futures=True)


def load_to_gpu(store: ChipStore, rows: Tensor, device: torch.device) -> Tensor:
    """Chips ``(M, C, H, W)`` of some rows on a device, uint16 `signed`.

    One tensor is filled in place, from the store with this process's share and from the others with
    theirs, so that nothing takes twice the memory.
    """
    dtype = torch.int16 if store.dtype == "uint16" else torch.uint8
    whole = torch.empty(len(rows), *store.chips.shape[1:], dtype=dtype, device=device)
    mine = dist.local_slice(len(rows))
    for here, part in zip(whole[mine].split(_PART), rows[mine].split(_PART), strict=True):
        here.copy_(signed(store.gather(part)))
    dist.broadcast_shards(whole)
    return whole


def signed(chips: Tensor) -> Tensor:
    """uint16 as int16 of the same bits, for GPUs index no uint16; others as they are."""
    return chips.view(torch.int16) if chips.dtype == torch.uint16 else chips


def unsigned(chips: Tensor) -> Tensor:
    """The counts of `signed` chips, as int32; others as they are."""
    return chips.to(torch.int32) & 0xFFFF if chips.dtype == torch.int16 else chips
