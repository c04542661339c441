"""The training loop that detection, segmentation and fine-tuning share."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Annotated, Any, TypeAlias, TypeVar

import pandas as pd
import torch
from annotated_types import Interval
from torch import Tensor, nn

from geossl import models
from geossl.models import state_dicts
from geossl.train.checkpoint import RunDirectory
from geossl.train.optim import check_finite_loss, load_optimizer_state, set_learning_rates
from geossl.train.setup import trains_in_bf16
from geossl.utils import dist
from geossl.utils.cpu import single_threaded
from geossl.utils.device import use_fused
from geossl.utils.io import digest, file_digest
from geossl.utils.progress import progress_bar, show_values
from geossl.utils.seeds import derive_seed

Batch = TypeVar("Batch")
Warmup: TypeAlias = Annotated[float, Interval(ge=0, lt=1)]  # share of the steps
Epochs: TypeAlias = Annotated[int, Interval(gt=0, le=1_000_000)]
_AHEAD = 3  # batches made before they are needed


def start_run(
    output_dir: str | os.PathLike[str] | None,
    encoder: models.Encoder,
    config: Any,
    *,
    seed: int,
    free: Sequence[str] = ("device",),
    **about: Any,
) -> RunDirectory:
    """Open the run of a training in a directory, to start or to resume it.

    Args:
        output_dir: the directory; None writes nothing.
        encoder: where the training starts.
        config: dataclass of its options.
        seed: of the training.
        free: options that may change when a run resumes.
        about: what else identifies it, as json can hold it.

    Raises:
        ValueError: several processes train together.
    """
    if dist.world_size() > 1:
        raise ValueError(
            "Fine-tuning, detection and segmentation train in one process. Start one for each "
            "device, without torchrun."
        )
    options = {name: value for name, value in asdict(config).items() if name not in free}
    start = [encoder.name, encoder.stem, encoder.bands, state_dicts.weights_digest(encoder)]
    settings = {"seed": seed, "encoder": start, **about, "config": options}
    return RunDirectory(output_dir, settings)


def files_digest(paths: Iterable[Any], *, content: bool = False) -> str:
    """Return 16 hexadecimal digits that identify files, wherever they lie.

    Args:
        paths: of the files; of those that are not on this machine nothing is known.
        content: read them, instead of comparing their sizes alone.
    """
    measure = file_digest if content else os.path.getsize
    return digest(str([measure(p) if os.path.isfile(p) else "" for p in map(str, paths)]).encode())


def table_digest(*tables: pd.DataFrame) -> str:
    """Return 16 hexadecimal digits that identify the content of tables."""
    texts = (table.to_csv(index=False, lineterminator="\n") for table in tables)
    return digest("\n\n".join(texts).encode())


def train_epochs(
    network: nn.Module,
    encoder: models.Encoder,
    groups: list[dict[str, Any]],
    *,
    config: Any,
    run: RunDirectory,
    steps: int,
    size_px: int,
    batches: Callable[[int], Any],
    loss: Callable[[Batch, int], tuple[Tensor, Tensor]],
    log: Callable[[list[float]], dict[str, float]],
    validate: Callable[[], float] | None = None,
    seed: int,
    progress: bool = False,
) -> list[dict[str, float]]:
    """Train a network in place, from the last checkpoint of its run.

    What a step draws depends on ``seed``, epoch and step alone, so a resumed training goes on as
    if it had never stopped.

    Args:
        network: what is trained; left in eval mode.
        encoder: the part of it that is an encoder.
        groups: parameter groups for AdamW, each with its ``peak`` learning rate.
        config: with ``epochs``, ``lr``, ``warmup`` and ``precision``.
        run: where checkpoints and logs are kept, in its ``with`` block.
        steps: batches per epoch.
        size_px: side of the encoder's input.
        batches: generator of the batches of an epoch.
        loss: of a batch and the seed of its step: the value to minimize, and a vector that is
            summed over the epoch for its log.
        log: entries of an epoch's log, among them "loss", from these sums.
        validate: a score measured after each epoch, logged as "val".
        seed: of everything that is drawn.
        progress: show a bar.

    Returns:
        One log per epoch.

    Raises:
        ValueError: the loss is no longer finite.
    """
    device = encoder.mean.device
    optimizer = torch.optim.AdamW(groups, config.lr, fused=use_fused(device))
    bf16 = trains_in_bf16(encoder, config.precision, device, size_px)
    logs = _resume(run, network, optimizer)
    total, before = config.epochs * steps, len(logs) * steps
    show = progress and before < total
    with progress_bar(total, unit="step", initial=before, show=show) as bar:
        for epoch in range(len(logs), config.epochs):
            network.train()
            sums: list[Tensor] = []  # of each step, on its device
            seeded = _seed_dropout(device, derive_seed(seed, "dropout", epoch))
            with seeded, single_threaded(encoder, bf16=bf16), closing(batches(epoch)) as loader:
                for step, batch in enumerate(loader):
                    done = epoch * steps + step
                    set_learning_rates(optimizer, done, config.epochs * steps, warmup=config.warmup)
                    step_seed = derive_seed(seed, "step", epoch, step)
                    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
                    with torch.enable_grad(), autocast:
                        value, parts = loss(batch, step_seed)
                    value.backward()
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    sums.append(parts)
                    bar.update()
            parts_of_epoch = torch.stack(sums).cpu().double()  # Apple's GPU has no float64
            record = {"epoch": epoch + 1, **log(parts_of_epoch.sum(0).tolist())}
            check_finite_loss(record["loss"], where=f"epoch {epoch + 1}", lr=config.lr)
            network.eval()
            if validate is not None:
                record["val"] = validate()
            logs.append(record)
            run.append_log(record)
            if run.is_due() or epoch + 1 == config.epochs:
                state = {"model": network.state_dict(), "optimizer": optimizer.state_dict()}
                run.save(epoch + 1, {**state, "logs": logs})
            show_values(bar, {name: record[name] for name in ("loss", "val") if name in record})
    network.eval()
    return logs


def _resume(
    run: RunDirectory, network: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Load the last checkpoint of a run, if there is one; the logs up to it."""
    logs: list[dict[str, float]] = []
    with run.load() as state:
        if state is not None:
            network.load_state_dict(state["model"])
            load_optimizer_state(optimizer, state["optimizer"])
            logs = [dict(log) for log in state["logs"]]
    run.write_log(logs)
    return logs


def prefetch(make: Callable[[int], Batch], count: int) -> Iterator[Batch]:
    """Make the batches 0, 1, ..., ``count - 1`` in a thread, some ahead of their use."""
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="geossl-crops") as pool:
        try:
            for step in range(count):
                waiting.append(pool.submit(make, step))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _seed_dropout(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the global random state, from which dropout draws, and restore it afterwards."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
