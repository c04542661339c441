"""Where batches come from: pairs of an epoch, a process's share of a batch, its chips in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geossl import distributed, scenes
from geossl.chips import ChipStore
from geossl.clusters import GeoClusters
from geossl.config import PretrainConfig
from geossl.running import Feed, class_targets, derived_seed, training_rows


@dataclass(frozen=True)
class Batch:
    """One process's n of the N pairs of a batch; n = N in a process alone.

    Attributes:
        mine: which of the N queries are its own.
        order: ``(N,)`` in which the keys pass the network, when BatchNorm normalises parts: those
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


class Batches:
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
        self.rows = training_rows(store.scenes, config.split)
        table = store.scenes.iloc[self.rows.numpy()].reset_index(drop=True)
        self._draw = None if pairs is None else pairs.prepare(table)
        self._targets, self.classes = class_targets(table, geo, label)
        self.location = torch.from_numpy(scenes.location_codes(table))  # (M,)
        self._feed: Feed | None = None
        self._drawn: tuple[int, tuple[Tensor, ...]] = (-1, ())
        queries = len(self.pairs_of(0)[0])
        self.per_epoch = queries // (config.batch * config.accumulate)
        if self.per_epoch < 1:
            raise ValueError(
                f"expected at least {config.batch} x {config.accumulate} (batch x accumulate) "
                f"queries an epoch, came {queries} from {len(table)} training chips; lower batch, "
                "add chips, or loosen the pair policy"
            )

    def pairs_of(self, epoch: int) -> tuple[Tensor, ...]:
        """(query, key), or (query,) without a contrastive loss: rows of the training table."""
        if self._drawn[0] != epoch:
            generator = torch.Generator().manual_seed(derived_seed(self._seed, "pairs", epoch))
            if self._draw is None:
                drawn: tuple[Tensor, ...] = (torch.randperm(len(self.rows), generator=generator),)
            else:
                drawn = self._draw(generator)
            batch = self._config.batch
            drawn = self._store.arrange(drawn, self.rows, batch=batch, generator=generator)
            self._drawn = (epoch, drawn)
        return self._drawn[1]

    def between(self, step: int, end: int) -> Iterator[Batch]:
        """The batches of steps ``step`` to ``end - 1``, ``accumulate`` each, gathered ahead."""
        self._feed = self._feed or Feed(self._store, self._device, self.rows)
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
        generator = torch.Generator().manual_seed(derived_seed(self._seed, "views", step))
        mine = distributed.share(config.batch)
        for part in range(place * config.accumulate, (place + 1) * config.accumulate):
            rows = [r[part * config.batch :][: config.batch] for r in self.pairs_of(epoch)]
            query = rows[0]
            draws = [
                config.views.draw(config.batch, len(self._store.bands), generator=generator)
                for _ in rows
            ]
            order = location = None
            if len(rows) > 1:
                location = distributed.sent(self.location[query], self._device)
                if config.bn_splits > 1:
                    order = torch.randperm(config.batch, generator=generator)
                    rows[1], draws[1] = rows[1][order], draws[1][order]
                    order = distributed.sent(order, self._device)
            targets, weights = {}, {}
            for name, target in self._targets.items():
                known = target[query] >= 0
                targets[name] = distributed.sent(target[query[mine]], self._device)
                whole = max(1, int(known.sum()))
                weights[name] = distributed.ranks() * int(known[mine].sum()) / whole
            yield (
                tuple(r[mine] for r in rows),
                Batch(mine, order, (), tuple(d[mine] for d in draws), location, targets, weights),
            )
