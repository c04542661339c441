"""What a loop stands on: device, precision, seeds, rows, model, interrupts, chips in time."""

from __future__ import annotations

import hashlib
import math
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geossl import distributed, models, scenes
from geossl.chips import ChipStore
from geossl.clusters import GeoClusters
from geossl.config import PretrainConfig

_AHEAD = 3  # batches gathered before they are needed


def pick_device(name: str) -> torch.device:
    """The device of a name; "auto" takes a GPU, else the CPU.

    Under torchrun each process takes the GPU of its number on its machine.

    Raises:
        ValueError: the name is no device, or the machine lacks it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"expected a device such as auto, cpu or cuda; came {name!r}") from None
    found = {"cpu": 1, "cuda": torch.cuda.device_count()}
    found["mps"] = int(torch.backends.mps.is_available())
    if (device.index or 0) >= found.get(device.type, 0):
        raise ValueError(
            f"expected the device {name!r}, but torch finds {found.get(device.type, 0)} of that "
            "kind here; use device='auto' or 'cpu'"
        )
    if device.type == "cuda" and device.index is None and distributed.ranks() > 1:
        if distributed.local_ranks() > found["cuda"]:
            raise ValueError(
                f"expected a GPU for each of the {distributed.local_ranks()} processes of this "
                f"machine, but torch finds {found['cuda']}; start as many, or use device='cpu'"
            )
        device = torch.device("cuda", distributed.local_rank())
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """The precision of a name; "auto" is bf16 where the hardware is faster in it, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capabilities: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if device.type == "cpu" and capabilities.get("amx_bf16") else "fp32"


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose: every draw of a run is a function of its seed and its step."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def training_rows(table: pd.DataFrame, split: str | None) -> Tensor:
    """Rows ``(M,)`` of a split; all when it is None or the table has none."""
    if split is None or "split" not in table or table["split"].isna().all():
        return torch.arange(len(table))
    rows = np.flatnonzero((table["split"] == split).to_numpy(bool))
    if len(rows) == 0:
        raise ValueError(
            f"expected training rows with split {split!r}, came none; the table has "
            f"{sorted(table['split'].dropna().unique())}"
        )
    return torch.from_numpy(rows)


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


def new_moco(
    store: ChipStore, config: PretrainConfig, classes: dict[str, int], *, queue: bool, seed: int
) -> models.MoCo:
    """The untrained model of a run, on the CPU; without a queue it holds one key."""
    encoder = models.encoder(
        config.encoder,
        bands=len(store.bands),
        stem=config.stem,
        mean=store.mean.tolist(),
        std=store.std.tolist(),
        seed=derived_seed(seed, "encoder"),
    )
    ranks = distributed.ranks()
    if config.bn_splits > 1 or ranks > 1:
        here, sharing = max(1, config.bn_splits // ranks), max(1, ranks // config.bn_splits)
        models.split_batchnorm(encoder, here, sharing=sharing)
    return models.MoCo(
        encoder,
        dim=config.dim,
        queue=config.queue if queue else 1,
        momentum=config.momentum,
        classes=classes,
        heads_on={"geo": config.geo_on, "label": "embedding"},
        seed=derived_seed(seed, "heads"),
    )


def new_optimizer(learned: list[nn.Parameter], config: PretrainConfig) -> torch.optim.Optimizer:
    """What changes the parameters."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            learned, config.lr, config.sgd_momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(learned, config.lr, weight_decay=config.weight_decay)


def warm_cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: a straight rise, then a cosine down to zero.

    Args:
        step: from 0.
        steps: of the whole training.
        warmup: share of them in which it rises.
    """
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Let a Ctrl-C (or a notebook's interrupt) that comes inside take effect at the end."""
    plain = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not plain or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


class Feed:
    """Chips on the device, gathered ahead by a thread.

    They lie on the GPU when the whole store takes less than half of its free memory, where each
    process reads its share of them once and has the rest from the others; else they are read from
    the memory map through pinned memory.

    Args:
        store: where the chips are.
        device: where they are wanted.
        rows: ``(M,)`` the chips that can be asked for; an index counts in them.
    """

    def __init__(self, store: ChipStore, device: torch.device, rows: Tensor):
        self._store, self._device, self._rows = store, device, rows
        self._resident: Tensor | None = None
        if device.type == "cuda":
            distributed.join(device)
            wanted = store.chips[:1].nbytes * len(rows)
            if all(distributed.of_all(wanted < torch.cuda.mem_get_info(device)[0] / 2)):
                mine = rows[distributed.share(len(rows))]
                parts = [_indexable(store.gather(part)).to(device) for part in mine.split(4096)]
                self._resident = distributed.gather(torch.cat(parts), len(rows))

    def _get(self, index: Tensor) -> Tensor:
        if self._resident is not None:
            return self._resident[index.to(self._device, non_blocking=True)]
        chips = self._store.gather(self._rows[index])
        if self._device.type == "cuda":
            chips = chips.pin_memory()
        return chips.to(self._device, non_blocking=True)

    def batches(
        self, indices: Iterable[tuple[Tensor, ...]]
    ) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """For each tuple of ``(N,)`` index tensors: that tuple, and a tuple of ``(N, C, H, W)``."""
        waiting: list[tuple[tuple[Tensor, ...], Future[tuple[Tensor, ...]]]] = []
        with ThreadPoolExecutor(1, thread_name_prefix="geossl-feed") as pool:
            try:
                for index in indices:
                    job = pool.submit(lambda i: tuple(self._get(part) for part in i), index)
                    waiting.append((index, job))
                    if len(waiting) > _AHEAD:
                        index, job = waiting.pop(0)
                        yield index, job.result()
                for index, job in waiting:
                    yield index, job.result()
            finally:
                pool.shutdown(cancel_futures=True)


def _indexable(chips: Tensor) -> Tensor:
    """GPUs do not index uint16; int32 holds the same values."""
    return chips.to(torch.int32) if chips.dtype == torch.uint16 else chips
