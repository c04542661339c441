"""Load the batches of a run: an epoch's pairs, a process's share of them, chips ahead of time."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geossl.data import scenes
from geossl.data.notices import DataWarning
from geossl.data.scenes import rows_of_split
from geossl.data.store import ChipStore
from geossl.pairs import PairSampler
from geossl.train.config import PretrainConfig
from geossl.train.objectives import Objective, needs_pairs, plan_views
from geossl.utils import dist
from geossl.utils.seeds import derive_seed

_AHEAD = 3  # batches gathered before they are needed
_CHIPS = ("query", "key", "other key")
_PART = 512  # chips read together on their way to a GPU


@dataclass(frozen=True)
class LoadedBatch:
    """Chips and random numbers of one process's n of the N pairs of a batch.

    Attributes:
        part, mine, key_order, location, targets: as in `geossl.train.objectives.Batch`.
        chips: ``(n, C, H, W)`` of queries, of keys and of other keys, as far as they are needed.
        draws: ``(n, ...)`` random numbers of each view.
    """

    part: int
    mine: slice
    key_order: Tensor | None
    location: Tensor
    targets: dict[str, Tensor]
    chips: tuple[Tensor, ...]
    draws: tuple[Tensor, ...]


class PairLoader:
    """Batches of a store's training chips; each is a function of the seed and the step alone.

    Every process draws the whole batch, which is cheap, and reads its own rows: neither the pairs
    nor the views depend on how many processes there are.

    Attributes:
        rows: ``(M,)`` training chips of the store.
        views: of each pair.
        per_epoch: steps in an epoch.
    """

    def __init__(
        self,
        store: ChipStore,
        pairs: PairSampler | None,
        objectives: Sequence[Objective],
        *,
        config: PretrainConfig,
        device: torch.device,
        seed: int,
    ):
        self._store, self._config, self._device, self._seed = store, config, device, seed
        self.rows = rows_of_split(store.scenes, config.split)
        if "max_nodata_share" not in store.info and (summary := store.nodata_summary()):
            warnings.warn(f"{store.path}: {summary}.", DataWarning, stacklevel=2)
        table = store.scenes.iloc[self.rows.numpy()].reset_index(drop=True)
        self._draw = None if pairs is None else pairs.prepare(table)
        targets = {o.name: o.prepare(table) for o in objectives}
        self._targets = {name: target for name, target in targets.items() if target is not None}
        self.views = plan_views(objectives)
        plain = config.transform.crops_only()
        self._transforms = [config.transform if v.augmented else plain for v in self.views]
        paired = [o for o in objectives if needs_pairs(o)]
        ordered = [o.name for o in paired if not o.allows_shuffled_keys]
        if config.bn_splits > 1 and ordered:
            raise ValueError(
                f"`bn_splits` must be 1 for the objective {ordered[0]!r}, got {config.bn_splits}. "
                "More splits shuffle the keys: see `Objective.allows_shuffled_keys`."
            )
        self._shuffles = config.bn_splits > 1
        self.location = torch.from_numpy(scenes.location_codes(table))  # (M,)
        self._prefetcher: ChipPrefetcher | None = None
        self._epoch_pairs: tuple[int, tuple[Tensor, ...]] = (-1, ())
        queries = len(self.pairs_of(0)[0])
        self.per_epoch = queries // (config.batch_size * config.accumulation_steps)
        if self.per_epoch < 1:
            raise ValueError(
                f"`batch_size` x `accumulation_steps` must be <= the {queries} queries of an epoch "
                f"(from {len(table)} training chips), got {config.batch_size} x "
                f"{config.accumulation_steps}. Use a smaller batch, more chips, or a sampler that "
                "allows more pairs."
            )

    def pairs_of(self, epoch: int) -> tuple[Tensor, ...]:
        """Return (query, key), (query,) or (query, key, other key): rows of the training table."""
        if self._epoch_pairs[0] != epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, "pairs", epoch))
            rows: tuple[Tensor, ...]
            if self._draw is None:
                rows = (torch.randperm(len(self.rows), generator=generator),)
            else:
                rows = _check_pairs(self._draw(generator), len(self.rows))
            size = self._config.batch_size
            rows = self._store.arrange(rows, self.rows, batch_size=size, generator=generator)
            if self._draw is not None and any(view.chip == "other key" for view in self.views):
                generator.manual_seed(derive_seed(self._seed, "other pairs", epoch))
                query, key = _check_pairs(self._draw(generator), len(self.rows))
                other = torch.full((len(self.rows),), -1).index_copy_(0, query, key)[rows[0]]
                rows = (*rows, torch.where(other < 0, rows[1], other))
            self._epoch_pairs = (epoch, rows)
        return self._epoch_pairs[1]

    def between(self, step: int, end: int) -> Iterator[LoadedBatch]:
        """Yield the batches of steps ``step`` to ``end - 1``, read ahead by a thread."""
        self._prefetcher = self._prefetcher or ChipPrefetcher(self._store, self._device, self.rows)
        waiting: deque[LoadedBatch] = deque()

        def indices() -> Iterator[tuple[Tensor, ...]]:
            for now in range(step, end):
                for rows, batch in self._plan(now):
                    waiting.append(batch)
                    yield rows

        for _, chips in self._prefetcher.batches(indices()):
            yield replace(waiting.popleft(), chips=chips)

    def make_views(self, batch: LoadedBatch, *, mean: Tensor, std: Tensor) -> list[Tensor]:
        """Make the normalized views ``(n, C, H, W)`` of a batch."""
        chips = dict(zip(_CHIPS, batch.chips, strict=False))
        return [
            transform.apply(chips[view.chip], draws, mean=mean, std=std)
            for view, transform, draws in zip(
                self.views, self._transforms, batch.draws, strict=True
            )
        ]

    def _plan(self, step: int) -> Iterator[tuple[tuple[Tensor, ...], LoadedBatch]]:
        """Yield the rows to read and all but the chips of the batches of a step."""
        config, size = self._config, self._config.batch_size
        epoch, position = divmod(step, self.per_epoch)
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "views", step))
        mine = dist.local_slice(size)
        for part in range(config.accumulation_steps):
            first = (position * config.accumulation_steps + part) * size
            rows = [r[first : first + size] for r in self.pairs_of(epoch)]
            query, bands = rows[0], len(self._store.bands)
            draws = [
                transform.sample_params(size, bands, generator=generator)
                for transform in self._transforms
            ]
            order = None
            if len(rows) > 1 and self._shuffles:
                order = torch.randperm(size, generator=generator)
                rows[1], draws[1] = rows[1][order], draws[1][order]
                order = dist.to_device(order, self._device)
            targets = {
                name: dist.to_device(target[query], self._device)
                for name, target in self._targets.items()
            }
            location = dist.to_device(self.location[query], self._device)
            yield (
                tuple(r[mine] for r in rows),
                LoadedBatch(
                    part, mine, order, location, targets, (), tuple(d[mine] for d in draws)
                ),
            )


def _check_pairs(pairs: Any, count: int) -> tuple[Tensor, Tensor]:
    """Check that a sampler drew rows of queries and keys among ``count`` training chips."""
    ok = isinstance(pairs, tuple) and len(pairs) == 2
    ok = ok and all(isinstance(rows, Tensor) and rows.dtype == torch.int64 for rows in pairs)
    if not ok or pairs[0].ndim != 1 or pairs[0].shape != pairs[1].shape:
        raise TypeError("`pairs` must draw two int64 tensors (N,): rows of queries and of keys.")
    if (
        len(pairs[0])
        and not 0 <= int(torch.cat(pairs).min()) <= int(torch.cat(pairs).max()) < count
    ):
        raise ValueError(f"`pairs` must draw rows from 0 to {count - 1} of the training table.")
    return pairs


class ChipPrefetcher:
    """Read chips onto the device ahead of time, in a thread.

    They stay on the GPU if the training chips take less than half of its free memory: each process
    reads its share of them once and gets the rest from the others. Otherwise they go from the
    memory map through pinned memory to the GPU, on a stream of its own.

    Args:
        store: where the chips are.
        device: where they are needed.
        rows: ``(M,)`` the chips that can be asked for; an index counts in them.
    """

    def __init__(self, store: ChipStore, device: torch.device, rows: Tensor):
        self._store, self._device, self._rows = store, device, rows
        self._resident: Tensor | None = None
        self._side: torch.cuda.Stream | None = None
        if device.type == "cuda":
            dist.init_process_group(device)
            self._side = torch.cuda.Stream(device)
            needed = store.chips.nbytes // len(store) * len(rows)
            if all(dist.gather_objects(needed < torch.cuda.mem_get_info(device)[0] / 2)):
                self._resident = load_to_gpu(store, rows, device)
                self._resident.record_stream(self._side)
                self._side.wait_stream(torch.cuda.current_stream(device))

    def batches(
        self, indices: Iterable[tuple[Tensor, ...]]
    ) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """Yield each tuple of ``(N,)`` indices with its tuple of ``(N, C, H, W)`` chips."""
        waiting: deque[tuple[tuple[Tensor, ...], Future[Any]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="geossl-prefetch") as pool:
            try:
                for index in indices:
                    waiting.append((index, pool.submit(self._read, index)))
                    if len(waiting) > _AHEAD:
                        index, job = waiting.popleft()
                        yield index, self._wait(job)
                while waiting:
                    index, job = waiting.popleft()
                    yield index, self._wait(job)
            finally:
                pool.shutdown(cancel_futures=True)

    def _read(self, index: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Any]:
        """Return the chips, and the event of the side stream that says when they have arrived."""
        with torch.cuda.stream(self._side):  # does nothing where there is no stream
            chips = tuple(self._get(part) for part in index)
            return chips, self._side.record_event() if self._side is not None else None

    def _get(self, index: Tensor) -> Tensor:
        if self._resident is not None:
            return _unsigned(self._resident[dist.to_device(index, self._device)])
        chips = self._store.gather(self._rows[index])
        if self._device.type == "cpu":
            return chips
        return _unsigned(dist.to_device(_signed(chips), self._device))

    def _wait(self, job: Future[tuple[tuple[Tensor, ...], Any]]) -> tuple[Tensor, ...]:
        """Return the chips; the stream that uses them waits for them, the host does not."""
        chips, arrived = job.result()
        if arrived is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(arrived)
            for part in chips:
                part.record_stream(stream)  # its memory is not used again before that work is done
        return chips


def load_to_gpu(store: ChipStore, rows: Tensor, device: torch.device) -> Tensor:
    """Load chips ``(M, C, H, W)`` onto a device, uint16 as int16 of the same bits.

    One tensor is filled in place, from the store with this process's share and from the others with
    theirs, so that nothing takes twice the memory.
    """
    dtype = torch.int16 if store.dtype == "uint16" else torch.uint8
    chips = torch.empty(len(rows), *store.chips.shape[1:], dtype=dtype, device=device)
    mine = dist.local_slice(len(rows))
    for target, part in zip(chips[mine].split(_PART), rows[mine].split(_PART), strict=True):
        target.copy_(_signed(store.gather(part)))
    dist.broadcast_shards(chips)
    return chips


def _signed(chips: Tensor) -> Tensor:
    """View uint16 as int16, for GPUs cannot index uint16."""
    return chips.view(torch.int16) if chips.dtype == torch.uint16 else chips


def _unsigned(chips: Tensor) -> Tensor:
    """Return the counts of `_signed` chips, as int32."""
    return chips.to(torch.int32) & 0xFFFF if chips.dtype == torch.int16 else chips
