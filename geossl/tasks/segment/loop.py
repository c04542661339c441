"""The loop of a segmentation training, and what it keeps on disk to go on from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from geossl.models import features, state_dicts
from geossl.tasks.segment.crops import Areas
from geossl.tasks.segment.evaluate import confusion_matrices, iou
from geossl.tasks.segment.masks import IGNORE
from geossl.tasks.segment.model import Network
from geossl.tasks.segment.segmenter import OVERLAP_PX, SIZE_PX, Segmenter
from geossl.train.optim import check_finite_loss, load_optimizer_state, set_learning_rates
from geossl.utils.cpu import single_threaded
from geossl.utils.device import select_precision, use_fused
from geossl.utils.io import atomic_write
from geossl.utils.seeds import derive_seed

if TYPE_CHECKING:
    from geossl.tasks.segment.train import SegmentConfig

_PAUSE = 20  # a checkpoint waits so many times as long as the last one took


def fit(
    tuned: Segmenter,
    train_on: Areas,
    watch: Areas,
    *,
    config: SegmentConfig,
    output_dir: Path | None,
    seed: int,
    progress: bool,
) -> list[dict[str, float]]:
    """Train a network in place, from the last epoch kept in ``output_dir``; a record an epoch."""
    network, device = tuned.network, tuned.encoder.mean.device
    groups = features.parameter_groups(
        network, network.encoder, lr=config.lr, encoder_rate=config.encoder_rate,
        weight_decay=config.weight_decay,
    )  # fmt: skip
    solver = torch.optim.AdamW(groups, config.lr, fused=use_fused(device))
    weight = class_weights(tuned.pixels, balance=config.balance).to(device)
    logs = [] if output_dir is None else _resumed(output_dir, network, solver)
    due = time.monotonic()
    with tqdm(total=config.epochs, initial=len(logs), unit="epoch", disable=not progress) as bar:
        for epoch in range(len(logs), config.epochs):
            log = _epoch(
                epoch, network, solver, scenes=train_on, weight=weight, config=config, seed=seed
            )
            check_finite_loss(log["loss"], where=f"epoch {epoch + 1}", lr=config.lr)
            log["val"] = _watched(tuned, watch)
            logs.append(log)
            began = time.monotonic()
            if output_dir is not None and (began > due or epoch + 1 == config.epochs):
                _keep(output_dir, network, solver, logs=logs)
                due = time.monotonic() + _PAUSE * (time.monotonic() - began)
            bar.set_postfix(loss=f"{log['loss']:.2f}", val=f"{log['val']:.2f}", refresh=False)
            bar.update()
    return logs


def _epoch(
    epoch: int,
    network: Network,
    solver: torch.optim.Optimizer,
    *,
    scenes: Areas,
    weight: Tensor,
    config: SegmentConfig,
    seed: int,
) -> dict[str, float]:
    """One pass over the area of the scenes; what it draws depends on nothing but seed and step."""
    device = weight.device
    longest = max(max(grid.height, grid.width) for grid in scenes.grids)
    size = -(-min(config.size_px, longest) // network.stride) * network.stride
    drawn: dict[str, int] = {
        "size_px": size,
        "batch_size": config.batch_size,
        "epoch": epoch,
        "seed": seed,
    }
    steps = len(scenes.drawn(**drawn))
    fast = select_precision(config.precision, device) == "bf16"
    network.train()
    sums = torch.zeros(4, device=device, dtype=torch.float64)
    ahead: Any = scenes.batches(**drawn)
    dropout = _dropout(device, derive_seed(seed, "segment dropout", epoch))
    few = single_threaded(network.encoder, bf16=fast)
    with few, closing(ahead), dropout, torch.enable_grad():
        for step, batch in enumerate(ahead):
            chips, valid, target = (part.to(device, non_blocking=True) for part in batch)
            done, whole = epoch * steps + step, config.epochs * steps
            set_learning_rates(solver, done, whole, warmup=config.warmup)
            own = derive_seed(seed, "segment views", epoch, step)
            x = features.augment_colors(
                network.encoder, chips, valid, color=config.color, seed=own
            )  # (N, C, S, S)
            with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                logits = network(x)  # (N, classes, S, S)
            total, heft = pixel_loss(logits, target, weight)
            (total / heft.clamp(min=1e-6)).backward()
            solver.step()
            solver.zero_grad(set_to_none=True)
            hit, known = (logits.argmax(1) == target).sum(), (target != IGNORE).sum()
            sums += torch.stack([total.detach(), heft, hit, known])
    losses, hefts, hits, pixels = sums.tolist()
    return {
        "epoch": epoch + 1,
        "loss": losses / max(hefts, 1e-6),
        "accuracy": hits / max(pixels, 1),
    }


def pixel_loss(logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of all pixels together, and what their weights sum to; both 0 without any.

    Args:
        logits: ``(N, classes, H, W)``.
        target: ``(N, H, W)`` int64; 255 is left out.
        weight: ``(classes,)``.
    """
    each = F.cross_entropy(logits, target, weight, ignore_index=IGNORE, reduction="none")
    known = target != IGNORE
    return each.sum(), (weight[torch.where(known, target, 0)] * known).sum()


def class_weights(pixels: pd.Series, *, balance: float) -> Tensor:
    """Weights ``(classes,)`` in the loss: share of the pixels to the power of ``-balance``.

    Their mean over the pixels is 1; a class without a pixel has none to weigh and gets 1.
    """
    count = torch.tensor(pixels.to_numpy(float))
    share = count / count.sum()
    weight = torch.where(count > 0, share.clamp(min=1e-12) ** -balance, 0)
    return torch.where(count > 0, weight / (weight * share).sum(), 1).float()


def _watched(tuned: Segmenter, watch: Areas) -> float:
    """The mIoU of scenes; nan without any."""
    if len(watch) == 0:
        return math.nan
    found = confusion_matrices(tuned, watch, size_px=SIZE_PX, overlap_px=OVERLAP_PX)
    return float(iou(found.sum(0)).nanmean())


@contextmanager
def _dropout(device: torch.device, seed: int) -> Iterator[None]:
    """The heads' dropout draws from the global random state: seed it, and put it back."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


# --- on disk ----------------------------------------------------------------------------------


def _keep(
    out: Path, network: Network, solver: torch.optim.Optimizer, *, logs: list[dict[str, float]]
) -> None:
    state = {"network": network.state_dict(), "solver": solver.state_dict(), "logs": logs}
    with atomic_write(out / "last.pt") as part:
        torch.save(state, part)
    with atomic_write(out / "log.jsonl") as part:
        part.write_text("".join(json.dumps(log) + "\n" for log in logs), "utf-8")


def _resumed(out: Path, network: Network, solver: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Fill network and solver from the last epoch kept; its records."""
    path = out / "last.pt"
    if not path.exists():
        return []
    with state_dicts.open_checkpoint(path) as state:
        network.load_state_dict(state["network"])
        load_optimizer_state(solver, state["solver"])
        return list(state["logs"])
