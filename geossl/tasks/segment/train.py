"""Train a segmentation network on random crops of scenes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

import pandas as pd
import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from geossl import models
from geossl.data.scenes import rows_of_split
from geossl.data.splits import is_in_split
from geossl.datasets.raster.area import READING_COLUMNS, reading_options, rows_with_bands
from geossl.evaluate.splits import get_column
from geossl.models import features
from geossl.tasks._training import (
    Epochs,
    Warmup,
    files_digest,
    start_run,
    table_digest,
    train_epochs,
)
from geossl.tasks.segment.crops import Batch, Scenes
from geossl.tasks.segment.evaluate import confusion_matrices, iou, rows_with_masks
from geossl.tasks.segment.masks import IGNORE, Masks
from geossl.tasks.segment.model import Head, Network
from geossl.tasks.segment.segmenter import Segmenter, round_up
from geossl.transforms import Views
from geossl.utils.device import check_memory, select_device
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import (
    NonNegative,
    Positive,
    PositiveInt,
    Seed,
    check_fields,
    validated,
)


@dataclass(frozen=True)
class SegmentConfig:
    """Options of a training, besides its scenes, its encoder and its seed.

    Args:
        head: "fpn", "fcn" or "deeplab", see `geossl.tasks.segment.model.Network`.
        width: channels of "fpn".
        freeze: of the encoder: "none", "norm" (the statistics of its BatchNorms stay), "all".
        epochs: passes over the area of the training scenes.
        batch_size: crops per step.
        size_px: side of a crop, rounded up to a multiple of the network's stride; at most the
            longest side of a scene.
        lr: peak learning rate; it follows a cosine down to zero.
        encoder_rate: the encoder's learning rate as a share of ``lr``.
        warmup: share of the steps in which the learning rate rises to its peak.
        weight_decay: of AdamW; none on biases and norms.
        balance: weight of a class in the loss: one over its share of the training pixels to this
            power, scaled to a mean of 1 over these pixels. 0 for none; at 1 all classes count the
            same.
        color: how the colors of a crop are changed; None: not at all. Its crops, flips and sizes
            are not used: crops are flipped and turned by quarters at random, with their masks.
        precision: "auto" takes bf16 where the hardware is faster in it, else fp32.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        keep_gb: memory for decoded training scenes, and as much for those of val; what does not fit
            is read from disk again.

    Source:
        AdamW: arXiv 1711.05101. Defaults: chosen on val blocks of US power plants, with the small
        encoder from scratch (two seeds, 28 scenes: most differences were within the noise).
    """

    head: Head = "fpn"
    width: Annotated[int, Ge(4)] = 64
    freeze: features.Freeze = "none"
    epochs: Epochs = 30
    batch_size: Annotated[int, Ge(2)] = 8
    size_px: PositiveInt = 256
    lr: Positive = 2e-3
    encoder_rate: NonNegative = 1.0
    warmup: Warmup = 0.1
    weight_decay: NonNegative = 0.05
    balance: NonNegative = 0.0
    color: Views | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    keep_gb: NonNegative = 2.0

    def __post_init__(self) -> None:
        check_fields(self)


@validated
def train(
    scenes: pd.DataFrame,
    encoder: models.Encoder,
    *,
    classes: Sequence[str],
    mask: str = "mask",
    values: Sequence[int] | None = None,
    label: str | None = None,
    resample: bool = False,
    config: SegmentConfig | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    seed: Seed = 0,
    progress: bool = False,
) -> Segmenter:
    """Train a copy of an encoder and a head to classify pixels.

    Args:
        scenes: a table with ``path`` and a column of masks; rows without one are left out. Rows of
            split "train" train, those of "val" are watched (the last epoch counts); all train where
            there is no split. Positions are not needed. Where the table does not say which bands
            to read, as those of `geossl.datasets` do, it is the first ones.
        encoder: where to start; it is not changed.
        classes: names, see `Masks`, as for the next four.
        mask: the column of the masks' paths.
        values: what stands for each class in the masks, e.g. (0, 255).
        label: property of polygons that names their class.
        resample: accept masks of another size or CRS than their scenes'.
        config: all other options.
        output_dir: folder of the training. The same call resumes an unfinished one with the same
            result; None writes nothing.
        seed: of the head, the crops and the views. The global random state is not touched.
        progress: show a bar.

    Raises:
        FileNotFoundError: there is no such scene or mask.
        ValueError: no scenes, scenes or masks that cannot be read or do not fit, an encoder for
            other bands, fewer than two classes with a training pixel, a loss that is no longer
            finite, or a folder that contains another training.
    """
    config = config or SegmentConfig()
    masks = Masks(classes, mask, values, label, resample)  # type: ignore[arg-type]
    table = rows_with_masks(scenes, mask)
    rows = rows_with_bands(table, bands=encoder.bands)
    val = is_in_split(get_column(table, "split"), "val")
    train_rows = [rows[i] for i in rows_of_split(table, "train").tolist()]
    val_rows = [row for row, held_out in zip(rows, val, strict=True) if held_out]
    train_scenes, val_scenes = (
        Scenes(part, masks, keep_bytes=config.keep_gb * 2**30) for part in (train_rows, val_rows)
    )
    counts = train_scenes.count()
    if (counts > 0).sum() < 2:
        pixels_of = dict(zip(masks.classes, counts.tolist(), strict=True))
        raise ValueError(
            f"Training needs pixels of two `classes` or more, got {pixels_of}. Pixels of 255 and "
            "nodata are left out: pass values=(0, 255) if they are a class."
        )
    device = select_device(config.device)
    network = Network(
        encoder, classes=len(masks.classes), head=config.head, width=config.width,
        freeze=config.freeze, seed=derive_seed(seed, "segment head"),
    ).to(device)  # fmt: skip
    pixels = pd.Series(counts, index=pd.Index(masks.classes))
    segmenter = Segmenter(network, masks, reading_options(rows[0]), pixels)
    columns = [name for name in ("split", *READING_COLUMNS) if name in table]
    files = table[["path", mask]].map(os.path.basename)  # the folder may be moved
    run = start_run(
        output_dir, encoder, config, seed=seed, free=("device", "keep_gb"),
        scenes=[len(table), table_digest(files.join(table[columns]))],
        masks=asdict(masks),
        pixels=[
            counts.tolist(), files_digest(table["path"]), files_digest(table[mask], content=True),
        ],
    )  # fmt: skip
    weight = class_weights(pixels, balance=config.balance).to(device)

    def loss(batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
        chips, valid, target = (part.to(device, non_blocking=True) for part in batch)
        x = features.augment_colors(network.encoder, chips, valid, color=config.color, seed=seed)
        logits = network(x)  # (N, classes, S, S)
        total, weights = pixel_loss(logits, target, weight)
        hits, known = (logits.argmax(1) == target).sum(), (target != IGNORE).sum()
        parts = torch.stack([total.detach(), weights, hits, known])
        return total / weights.clamp(min=1e-6), parts

    def log(sums: list[float]) -> dict[str, float]:
        total, weights, hits, known = sums
        return {"loss": total / max(weights, 1e-6), "accuracy": hits / max(known, 1)}

    longest = max(max(grid.height, grid.width) for grid in train_scenes.grids)
    size = round_up(min(config.size_px, longest), network.stride)
    crops: dict[str, int] = {"size_px": size, "batch_size": config.batch_size, "seed": seed}
    crops_bytes = config.batch_size * encoder.bands * size**2 * 4
    check_memory({"`batch_size` or `size_px`": crops_bytes}, device)
    with run:
        logs = train_epochs(
            network, network.encoder,
            features.parameter_groups(
                network, network.encoder, lr=config.lr, encoder_rate=config.encoder_rate,
                weight_decay=config.weight_decay,
            ),
            config=config, run=run, steps=len(train_scenes.draw(**crops, epoch=0)), size_px=size,
            batches=lambda epoch: train_scenes.batches(**crops, epoch=epoch), loss=loss, log=log,
            validate=lambda: _mean_iou(segmenter, val_scenes), seed=seed, progress=progress,
        )  # fmt: skip
        segmenter = replace(segmenter, logs=pd.DataFrame(logs))
        if output_dir is not None:
            segmenter.save(output_dir)
    return segmenter


def pixel_loss(logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy of all pixels and the sum of their weights.

    Args:
        logits: ``(N, classes, H, W)``.
        target: ``(N, H, W)`` int64; 255 is left out.
        weight: ``(classes,)``.
    """
    each = F.cross_entropy(logits, target, weight, ignore_index=IGNORE, reduction="none")
    known = target != IGNORE
    return each.sum(), (weight[torch.where(known, target, 0)] * known).sum()


def class_weights(pixels: pd.Series, *, balance: float) -> Tensor:
    """Return weights ``(classes,)`` for the loss: share of the pixels to the power ``-balance``.

    Their mean over the pixels is 1; a class without a pixel gets 1.
    """
    count = torch.tensor(pixels.to_numpy(float))
    share = count / count.sum()
    weight = torch.where(count > 0, share.clamp(min=1e-12) ** -balance, 0)
    return torch.where(count > 0, weight / (weight * share).sum(), 1).float()


def _mean_iou(segmenter: Segmenter, scenes: Scenes) -> float:
    """The mIoU of the val scenes; nan without any."""
    if len(scenes) == 0:
        return math.nan
    return float(iou(confusion_matrices(segmenter, scenes).sum(0)).nanmean())
