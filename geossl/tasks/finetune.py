"""Fine-tuning: a copy of the encoder learns the labels, all layers, the early ones slowly."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from geossl import models
from geossl.data.store import ChipStore
from geossl.embeddings import embed
from geossl.evaluate.results import ProbeResult, classification_result
from geossl.evaluate.splits import Split, labeled_rows
from geossl.train.loader import ChipPrefetcher
from geossl.train.optim import check_finite_loss, set_learning_rates
from geossl.transforms import Views
from geossl.utils.cpu import single_threaded
from geossl.utils.device import select_device, select_precision, use_fused
from geossl.utils.seeds import derive_seed


@dataclass(frozen=True)
class FineTuneConfig:
    """Everything that shapes a fine-tuning besides its data and its seed.

    Args:
        epochs: passes over the training chips.
        batch_size: chips per step; an epoch leaves out what does not fill one.
        lr: peak learning rate of the head; it follows a cosine down to zero.
        layer_decay: each stage before the head learns so many times as fast as the next, in (0, 1].
        warmup: share of the steps in which the learning rate rises to its peak.
        weight_decay: of AdamW; none on biases and norms.
        label_smoothing: share of the target that is spread over all classes.
        transform: the augmentation.
        precision: "auto" takes bf16 where the hardware is faster in it, else fp32.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".

    Source:
        All layers at a small rate: arXiv 2011.09980, section 5, which gives no numbers for it.
        Layer-wise decay: ELECTRA, arXiv 2003.10555, appendix; AdamW: arXiv 1711.05101.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 1e-3
    layer_decay: float = 0.7
    warmup: float = 0.1
    weight_decay: float = 0.05
    label_smoothing: float = 0.0
    transform: Views = field(default_factory=Views)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or not self.lr > 0:
            raise ValueError(
                "expected epochs >= 1, batch >= 2 and lr > 0, came "
                f"{self.epochs}, {self.batch_size} and {self.lr}"
            )
        if not 0 < self.layer_decay <= 1 or not 0 <= self.warmup < 1:
            raise ValueError(
                "expected layer_decay in (0, 1] and warmup in [0, 1), came "
                f"{self.layer_decay} and {self.warmup}"
            )


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What `fine_tune` made.

    Attributes:
        result: top-1 on test.
        encoder: the tuned copy, in eval mode on the device it was trained on.
        head: linear layer on its embeddings ``(N, E)`` -> ``(N, classes)``.
        classes: names of the classes, in the order of the head's outputs.
        logs: one row an epoch: epoch, loss (nats), accuracy (of the views), val (top-1; missing
            without a labeled val chip).
    """

    result: ProbeResult
    encoder: models.Encoder
    head: nn.Linear
    classes: list
    logs: pd.DataFrame

    def __repr__(self) -> str:
        return f"FineTuned({self.result})"


def fine_tune(
    store: ChipStore,
    encoder: models.Encoder,
    *,
    label: str = "label",
    split: Split = "column",
    block_deg: float = 10.0,
    config: FineTuneConfig | None = None,
    seed: int = 0,
    progress: bool = False,
) -> FineTuned:
    """Train a copy of an encoder and a linear head on labels; measured on held-out places.

    The test chips are seen once, without augmentation; val is only watched, the last epoch counts.

    Args:
        store: the chips.
        encoder: where to start; it is left bit for bit as it was.
        label: column of labels; rows without one are left out.
        split: as in `linear`.
        block_deg: side of the blocks in degrees.
        config: everything else.
        seed: of the blocks, the order and the views. The global random state is not touched.
        progress: show a bar.

    Raises:
        ValueError: an encoder for other bands, no such column, fewer than two classes, an empty
            split, or a loss that is no longer finite.
    """
    config = config or FineTuneConfig()
    if encoder.bands != len(store.bands):
        raise ValueError(
            f"`encoder` must have the {len(store.bands)} bands of the store {store.bands}, got one "
            f"for {encoder.bands}. Adapt it with weights.with_bands()."
        )
    data = labeled_rows(store.scenes, label, split=split, block_deg=block_deg, seed=seed)
    train, val, test = data.train, data.val, data.test
    known, target = data.trained, data.targets
    device = select_device(config.device)
    tuned, head = _copy_of(encoder, len(known), device)
    logs = []
    epochs = _train(store, tuned, head, rows=train, target=target, config=config, seed=seed)
    with closing(epochs), tqdm(total=config.epochs, unit="epoch", disable=not progress) as bar:
        for epoch, (loss, accuracy) in enumerate(epochs, 1):
            check_finite_loss(loss, where=f"epoch {epoch}", lr=config.lr)
            guess = _probabilities(store, tuned, head, val).argmax(1)
            score = float((guess == target[val]).float().mean()) if len(val) else math.nan
            logs.append({"epoch": epoch, "loss": loss, "accuracy": accuracy, "val": score})
            bar.set_postfix(loss=f"{loss:.2f}", val=f"{score:.2f}", refresh=False)
            bar.update()
    tuned.eval()
    probabilities = data.probabilities(_probabilities(store, tuned, head, test).numpy())
    more = {"val": score} if len(val) else {}
    result = classification_result("fine-tuned top-1", data, probabilities, more, seed=seed)
    return FineTuned(result, tuned, head, [data.names[c] for c in known], pd.DataFrame(logs))


def _copy_of(
    encoder: models.Encoder, classes: int, device: torch.device
) -> tuple[models.Encoder, nn.Linear]:
    """An encoder to train, and a head that starts at zero."""
    tuned = models.trainable_copy(encoder).to(device)
    head = nn.utils.skip_init(nn.Linear, encoder.embedding_dim, classes, device=device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return tuned, head


def _train(
    store: ChipStore,
    tuned: models.Encoder,
    head: nn.Linear,
    *,
    rows: np.ndarray,
    target: Tensor,
    config: FineTuneConfig,
    seed: int,
) -> Generator[tuple[float, float], None, None]:
    """Train in place; yields the mean loss and accuracy of each epoch."""
    device = tuned.mean.device
    batch = min(config.batch_size, len(rows))
    per_epoch = len(rows) // batch
    steps = per_epoch * config.epochs
    solver = torch.optim.AdamW(_groups(tuned, head, config), config.lr, fused=use_fused(device))
    views = torch.Generator(device).manual_seed(derive_seed(seed, "fine-tuning views"))
    order = torch.Generator().manual_seed(derive_seed(seed, "fine-tuning order"))
    fast = select_precision(config.precision, device) == "bf16"

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for _ in range(config.epochs):
            shuffled = torch.randperm(len(rows), generator=order)[: per_epoch * batch]
            yield from ((part,) for part in shuffled.split(batch))

    wanted = target[rows].to(device)
    feed = ChipPrefetcher(store, device, torch.from_numpy(rows))
    sums = torch.zeros(2, device=device)
    ahead: Any = feed.batches(batches())
    with closing(ahead):
        for step, ((index,), (chips,)) in enumerate(ahead):
            tuned.train()
            set_learning_rates(solver, step, steps, warmup=config.warmup)
            x = config.transform(chips, mean=tuned.mean, std=tuned.std, generator=views)
            with single_threaded(tuned, bf16=fast), torch.enable_grad():
                with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                    logits = head(tuned(x)).float()  # (N, classes)
                y = wanted[index.to(device, non_blocking=True)]
                loss = F.cross_entropy(logits, y, label_smoothing=config.label_smoothing)
                loss.backward()
            solver.step()
            solver.zero_grad(set_to_none=True)
            sums += torch.stack([loss.detach(), (logits.argmax(1) == y).float().mean()])
            if (step + 1) % per_epoch == 0:
                yield tuple((sums / per_epoch).tolist())
                sums.zero_()


def _groups(tuned: models.Encoder, head: nn.Linear, config: FineTuneConfig) -> list[dict]:
    """Parameter groups by stage, each with its peak rate; biases and norms without decay."""
    depth = {p: 0 for p in head.parameters()}
    last_first = list(reversed(stages(tuned.backbone)))
    for at, stage in enumerate(last_first, 1):
        depth |= {p: at for module in stage for p in module.parameters()}
    depth |= {p: max(1, len(last_first)) for p in tuned.parameters() if p not in depth}
    return [
        {
            "params": [p],
            "peak": config.lr * config.layer_decay**at,
            "weight_decay": config.weight_decay if p.ndim > 1 else 0.0,
        }
        for p, at in depth.items()
    ]


def stages(backbone: nn.Module) -> list[list[nn.Module]]:
    """The children of a backbone that learn, in order; single layers in a row are one stage.

    Of a ResNet: the stem (convolution and norm) and its four stages of blocks.
    """
    found: list[list[nn.Module]] = []
    single = False
    for child in backbone.children():
        if next(child.parameters(), None) is None:
            continue
        was, single = single, next(child.children(), None) is None
        if was and single:
            found[-1].append(child)
        else:
            found.append([child])
    return found


@torch.no_grad()
def _probabilities(
    store: ChipStore, tuned: models.Encoder, head: nn.Linear, rows: np.ndarray
) -> Tensor:
    """Softmax ``(len(rows), classes)`` of chips as they are, on the CPU."""
    x = embed(store, tuned, index=rows).tensor().to(head.weight.device)
    return head(x).softmax(1).cpu()
