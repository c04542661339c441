"""What a loop stands on: device, precision, seeds, rows, model, interrupts, chips in time."""

from __future__ import annotations

import copy
import hashlib
import math
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geossl import distributed, layers, models, scenes
from geossl.chips import ChipStore
from geossl.clusters import GeoClusters
from geossl.config import PretrainConfig

_AHEAD = 3  # batches gathered before they are needed
_PART = 512  # chips read together on their way to a GPU


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


def set_rates(solver: torch.optim.Optimizer, step: int, steps: int, *, warmup: float) -> None:
    """Give each group of parameters its ``peak`` rate times `warm_cosine` at a step."""
    rate = warm_cosine(step, steps, warmup)
    for group in solver.param_groups:
        group["lr"] = group["peak"] * rate


def refuse_not_finite(loss: float, *, epoch: int, lr: float) -> None:
    """Raise when the mean loss of an epoch, counted from 1, is not finite."""
    if not math.isfinite(loss):
        raise ValueError(f"expected a finite loss, came {loss} in epoch {epoch}; lower lr = {lr}")


@contextmanager
def few_threads(encoder: models.Encoder, *, bf16: bool) -> Iterator[None]:
    """Inside, training the small encoder in bf16 on a CPU has one thread.

    oneDNN's threads wait for each other by spinning. In layers this small two of them gain nothing
    on idle cores (1,100 pairs a second, one has 1,190), and fall to 320 beside one other program
    and to 30 beside three, where one keeps 1,160. ResNets gain (33 for 18) and keep all threads.
    """
    before = torch.get_num_threads()
    alone = bf16 and encoder.name == "small" and encoder.mean.device.type == "cpu"
    if alone and before > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if alone and before > 1:
            torch.set_num_threads(before)


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
        layers.split_batchnorm(encoder, here, sharing=sharing)
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
    """What changes the parameters, in one pass over them."""
    settings: Any = {"weight_decay": config.weight_decay, "fused": fused(learned[0].device)}
    if config.optimizer == "sgd":
        return torch.optim.SGD(learned, config.lr, config.sgd_momentum, **settings)
    return torch.optim.AdamW(learned, config.lr, **settings)


def fused(device: torch.device) -> bool | None:
    """Whether an optimiser should go over its parameters in one pass there; None: as it likes."""
    return True if device.type in ("cpu", "cuda") else None


def take_up(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimiser, and lay it out in memory as its parameters are.

    A step in one pass goes along both and does not look at their layout, and files keep another.
    """
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


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
            distributed.join(device)
            self._side = torch.cuda.Stream(device)
            wanted = store.chips.nbytes // len(store) * len(rows)
            if all(distributed.of_all(wanted < torch.cuda.mem_get_info(device)[0] / 2)):
                self._resident = resident(store, rows, device)
                self._resident.record_stream(self._side)
                self._side.wait_stream(torch.cuda.current_stream(device))

    def _get(self, index: Tensor) -> Tensor:
        if self._resident is not None:
            return unsigned(self._resident[distributed.sent(index, self._device)])
        chips = self._store.gather(self._rows[index])
        if self._device.type == "cpu":
            return chips
        return unsigned(distributed.sent(signed(chips), self._device))

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


def resident(store: ChipStore, rows: Tensor, device: torch.device) -> Tensor:
    """Chips ``(M, C, H, W)`` of some rows on a device, uint16 `signed`.

    One tensor is filled in place, from the store with this process's share and from the others with
    theirs, so that nothing takes twice the memory.
    """
    dtype = torch.int16 if store.dtype == "uint16" else torch.uint8
    whole = torch.empty(len(rows), *store.chips.shape[1:], dtype=dtype, device=device)
    mine = distributed.share(len(rows))
    for here, part in zip(whole[mine].split(_PART), rows[mine].split(_PART), strict=True):
        here.copy_(signed(store.gather(part)))
    distributed.spread(whole)
    return whole


def signed(chips: Tensor) -> Tensor:
    """uint16 as int16 of the same bits, for GPUs index no uint16; others as they are."""
    return chips.view(torch.int16) if chips.dtype == torch.uint16 else chips


def unsigned(chips: Tensor) -> Tensor:
    """The counts of `signed` chips, as int32; others as they are."""
    return chips.to(torch.int32) & 0xFFFF if chips.dtype == torch.int16 else chips


def right_in_bf16(encoder: models.Encoder, size_px: int, *, asked: bool) -> bool:
    """Whether torch's gradients are right in bf16 on a CPU, for views ``size_px`` high and wide.

    Where a convolution with a stride sees a single pixel, oneDNN (that of torch 2.14) leaves the
    gradient unwritten of those taps that lie on padding only: it is what the memory held before.

    Args:
        encoder: as it is before training.
        size_px: height and width of a view.
        asked: bf16 is wanted by name.

    Raises:
        ValueError: it is asked for, and they are not.
    """
    bare, seen = copy.deepcopy(encoder).to("meta").eval(), [size_px]
    for layer in bare.modules():
        if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1 and max(layer.kernel_size) > 1:
            layer.register_forward_pre_hook(lambda _, given: seen.append(min(given[0].shape[2:])))
    bare(torch.empty(1, encoder.bands, size_px, size_px, device="meta"))
    if min(seen) <= 1 and asked:
        raise ValueError(
            f"expected larger views for bf16 on a CPU, came {size_px} px: torch's gradients are "
            "wrong where a convolution with a stride sees one pixel; use precision='fp32'"
        )
    return min(seen) > 1
