"""Fine-tune a copy of an encoder on labels: all layers, the early ones slowly."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from geossl import models
from geossl.data.store import ChipStore
from geossl.embeddings import embed
from geossl.evaluate.results import ProbeResult, classification_result
from geossl.evaluate.splits import Split, labeled_rows
from geossl.models import weights
from geossl.models.bands import fit_bands
from geossl.tasks._training import Epochs, Warmup, start_run, table_digest, train_epochs
from geossl.train.checkpoint import store_fingerprint
from geossl.train.loader import ChipPrefetcher
from geossl.transforms import Views
from geossl.utils.device import check_memory, select_device
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import (
    NonNegative,
    Positive,
    PositiveFraction,
    Seed,
    check_fields,
    validated,
)

__all__ = ["FineTuneConfig", "FineTuned", "fine_tune"]


@dataclass(frozen=True)
class FineTuneConfig:
    """Options of a fine-tuning, besides its data and its seed.

    Args:
        epochs: passes over the training chips.
        batch_size: chips per step; an epoch leaves out what does not fill a batch.
        lr: peak learning rate of the head; it follows a cosine down to zero.
        layer_decay: ratio of a stage's learning rate to that of the next one.
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

    epochs: Epochs = 20
    batch_size: Annotated[int, Ge(2)] = 64
    lr: Positive = 1e-3
    layer_decay: PositiveFraction = 0.7
    warmup: Warmup = 0.1
    weight_decay: NonNegative = 0.05
    label_smoothing: Warmup = 0.0
    transform: Views = field(default_factory=Views)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, eq=False)
class FineTuned:
    """A fine-tuned encoder with its head.

    Attributes:
        result: top-1 on test.
        encoder: the trained copy, in eval mode on the device it was trained on.
        head: linear layer on its embeddings ``(N, E)`` -> ``(N, classes)``.
        classes: names of the classes, in the order of the head's outputs.
        logs: one row per epoch: epoch, loss (nats), accuracy (of the views), val (top-1; missing
            without a labeled val chip).
    """

    result: ProbeResult
    encoder: models.Encoder
    head: nn.Linear
    classes: list
    logs: pd.DataFrame

    def __repr__(self) -> str:
        return f"FineTuned({self.result})"


@validated
def fine_tune(
    store: ChipStore,
    encoder: models.Encoder,
    *,
    label: str = "label",
    split: Split = "column",
    test_split: str = "test",
    block_deg: Positive = 10.0,
    config: FineTuneConfig | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    seed: Seed = 0,
    progress: bool = False,
) -> FineTuned:
    """Train a copy of an encoder and a linear head on labels, and measure it on test.

    The test chips are seen once, without augmentation; val is only watched, the last epoch counts.

    Args:
        store: the chips.
        encoder: where to start; it is not changed, and finds its bands as in `geossl.embed`.
        label: column of labels; rows without one are left out.
        split: as in `geossl.evaluate.linear`, as is the next one.
        test_split: the split to test on.
        block_deg: side of the blocks in degrees.
        config: all other options.
        output_dir: folder of the run, with the trained encoder for `geossl.models.weights.load`.
            The same call resumes an unfinished one with the same result; None writes nothing.
        seed: of the blocks, the order and the views. The global random state is not touched.
        progress: show a bar.

    Raises:
        ValueError: bands that do not fit, no such column, fewer than two classes, an empty
            split, a loss that is no longer finite, or a folder that contains another run.
    """
    config = config or FineTuneConfig()
    encoder = fit_bands(encoder, store.bands, mean=store.mean, std=store.std)
    rows = labeled_rows(
        store.scenes, label, split=split, test_split=test_split, block_deg=block_deg, seed=seed
    )
    device = select_device(config.device)
    tuned, head = _copy_with_head(encoder, len(rows.trained), device)
    labeled = pd.concat([pd.Series(rows.codes[part], part) for part in (rows.train, rows.val)])
    run = start_run(
        output_dir, encoder, config, seed=seed, label=label, store=store_fingerprint(store),
        labels=[len(rows.train), table_digest(labeled.reset_index())],
    )  # fmt: skip
    batch_size = min(config.batch_size, len(rows.train))
    steps = len(rows.train) // batch_size
    size_px = config.transform.size_px or store.size_px
    chips_bytes = batch_size * encoder.bands * size_px**2 * 4
    check_memory({"`batch_size` or the size of `transform`": chips_bytes}, device)
    target = rows.targets[rows.train].to(device)
    prefetcher = ChipPrefetcher(store, device, torch.from_numpy(rows.train))

    def batches(epoch: int) -> Iterator[Any]:
        order = torch.Generator().manual_seed(derive_seed(seed, "fine-tuning order", epoch))
        shuffled = torch.randperm(len(rows.train), generator=order)[: steps * batch_size]
        return prefetcher.batches((part,) for part in shuffled.split(batch_size))

    def loss(batch: Any, seed: int) -> tuple[Tensor, Tensor]:
        (index,), (chips,) = batch
        generator = torch.Generator(device).manual_seed(seed)
        x = config.transform(chips, mean=tuned.mean, std=tuned.std, generator=generator)
        logits = head(tuned(x)).float()  # (N, classes)
        y = target[index.to(device, non_blocking=True)]
        value = F.cross_entropy(logits, y, label_smoothing=config.label_smoothing)
        return value, torch.stack([value.detach(), (logits.argmax(1) == y).float().mean()])

    def validate() -> float:
        if len(rows.val) == 0:
            return math.nan
        guess = _probabilities(store, tuned, head, rows.val).argmax(1)
        return float((guess == rows.targets[rows.val]).float().mean())

    with run:
        logs = train_epochs(
            nn.Sequential(tuned, head), tuned, parameter_groups(tuned, head, config), config=config,
            run=run, steps=steps, size_px=size_px, batches=batches, loss=loss,
            log=lambda sums: {"loss": sums[0] / steps, "accuracy": sums[1] / steps},
            validate=validate, seed=seed, progress=progress,
        )  # fmt: skip
        if output_dir is not None:
            weights.save_encoder(tuned, Path(output_dir) / "encoder.safetensors")
    probabilities = rows.probabilities(_probabilities(store, tuned, head, rows.test).numpy())
    more = {"val": logs[-1]["val"]} if len(rows.val) else {}
    result = classification_result("fine-tuned top-1", rows, probabilities, more, seed=seed)
    classes = [rows.names[code] for code in rows.trained]
    return FineTuned(result, tuned, head, classes, pd.DataFrame(logs))


def _copy_with_head(
    encoder: models.Encoder, classes: int, device: torch.device
) -> tuple[models.Encoder, nn.Linear]:
    """An encoder to train, and a head that starts at zero."""
    tuned = models.trainable_copy(encoder).to(device)
    head = nn.utils.skip_init(nn.Linear, encoder.embedding_dim, classes, device=device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return tuned, head


@validated
def parameter_groups(
    encoder: models.Encoder, head: nn.Linear, config: FineTuneConfig
) -> list[dict[str, Any]]:
    """Return parameter groups by stage, each with its peak rate; biases and norms without decay."""
    depth = {p: 0 for p in head.parameters()}
    last_first = list(reversed(stages(encoder.backbone)))
    for at, stage in enumerate(last_first, 1):
        depth |= {p: at for module in stage for p in module.parameters()}
    depth |= {p: max(1, len(last_first)) for p in encoder.parameters() if p not in depth}
    return [
        {
            "params": [p],
            "peak": config.lr * config.layer_decay**at,
            "weight_decay": config.weight_decay if p.ndim > 1 else 0.0,
        }
        for p, at in depth.items()
    ]


@validated
def stages(backbone: nn.Module) -> list[list[nn.Module]]:
    """Return the trainable children of a backbone, in order; single layers in a row are one stage.

    Of a ResNet: the stem (convolution and norm) and its four stages of blocks.
    """
    result: list[list[nn.Module]] = []
    after_single = False
    for child in backbone.children():
        if next(child.parameters(), None) is None:
            continue
        is_single = next(child.children(), None) is None
        if is_single and after_single:
            result[-1].append(child)
        else:
            result.append([child])
        after_single = is_single
    return result


@torch.no_grad()
def _probabilities(store: ChipStore, encoder: models.Encoder, head: nn.Linear, rows: Any) -> Tensor:
    """Softmax ``(len(rows), classes)`` of chips without augmentation, on the CPU."""
    x = embed(store, encoder, index=rows).tensor().to(head.weight.device)
    return head(x).softmax(1).cpu()
