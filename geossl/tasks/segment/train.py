"""Training a segmentation network on random crops of scenes: one visible loop that resumes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from geossl import models
from geossl.data.scenes import rows_of_split
from geossl.datasets.raster.area import READING_COLUMNS, reading_options, rows_with_bands
from geossl.models import state_dicts
from geossl.models.features import FREEZE
from geossl.tasks.segment.crops import Areas
from geossl.tasks.segment.evaluate import rows_with_masks
from geossl.tasks.segment.loop import fit
from geossl.tasks.segment.masks import Masks
from geossl.tasks.segment.model import HEADS, Network
from geossl.tasks.segment.segmenter import Segmenter
from geossl.train.checkpoint import prepare_directory
from geossl.transforms import Views
from geossl.utils.device import select_device
from geossl.utils.seeds import derive_seed

FORMAT = 1
_FREE = ("device", "keep_gb")  # settings that may change when a training goes on


@dataclass(frozen=True)
class SegmentConfig:
    """Everything that shapes a training besides its scenes, its encoder and its seed.

    Args:
        head: "fpn", "fcn" or "deeplab", see `network.Network`.
        width: channels of "fpn".
        freeze: of the encoder: "none", "norm" (the statistics of its BatchNorms stay), "all".
        epochs: passes over the area of the training scenes.
        batch_size: crops per step.
        size_px: side of a crop, brought to a multiple of the network's stride; no larger than the
            longest side of a scene.
        lr: peak learning rate; it follows a cosine down to zero.
        encoder_rate: the encoder's learning rate as a share of ``lr``.
        warmup: share of the steps in which the learning rate rises to its peak.
        weight_decay: of AdamW; none on biases and norms.
        balance: weight of a class in the loss: one over its share of the training pixels to this
            power, scaled to a mean of 1 over these pixels. 0 for none, 1 makes all classes count
            the same.
        color: what is done to the colors of a crop; None: nothing. Its crops, flips and sizes are
            not used: crops are flipped and turned by quarters at random, their masks with them.
        precision: "auto" takes bf16 where the hardware is faster in it, else fp32.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        keep_gb: memory for decoded training scenes, and as much for those of val; what does not fit
            is read from disk again.

    Source:
        AdamW: arXiv 1711.05101. Defaults: chosen on val blocks of US power plants, with the small
        encoder from scratch (two seeds, 28 scenes: most differences were within the noise).
    """

    head: Literal["fpn", "fcn", "deeplab"] = "fpn"
    width: int = 64
    freeze: Literal["none", "norm", "all"] = "none"
    epochs: int = 30
    batch_size: int = 8
    size_px: int = 256
    lr: float = 2e-3
    encoder_rate: float = 1.0
    warmup: float = 0.1
    weight_decay: float = 0.05
    balance: float = 0.0
    color: Views | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    keep_gb: float = 2.0

    def __post_init__(self) -> None:
        if self.head not in HEADS or self.freeze not in FREEZE:
            raise ValueError(
                f"expected a head of {', '.join(HEADS)} and freeze of {', '.join(FREEZE)}, came "
                f"{self.head!r} and {self.freeze!r}"
            )
        for name in ("epochs", "size_px", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, came {getattr(self, name)}")
        if self.batch_size < 2 or self.width < 4:
            raise ValueError(
                f"expected batch_size >= 2 and width >= 4, came {self.batch_size} and {self.width}"
            )
        if not 0 <= self.warmup < 1 or not self.encoder_rate >= 0 or not self.balance >= 0:
            raise ValueError(
                "expected warmup in [0, 1), encoder_rate >= 0 and balance >= 0, came "
                f"{self.warmup}, {self.encoder_rate} and {self.balance}"
            )


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
    seed: int = 0,
    progress: bool = False,
) -> Segmenter:
    """Train a copy of an encoder and a head to tell the classes of pixels.

    Args:
        scenes: a table with ``path`` and a column of masks; rows without one are left out. Rows of
            split "train" train, those of "val" are watched (the last epoch counts), all train where
            there is no split. Positions are not needed. Where the table does not say which bands
            to read, as those of our readers do, it is the first ones.
        encoder: where to start; it is left bit for bit as it was.
        classes: names, see `masks.Masks`, as for the next four.
        mask: the column of the masks' paths.
        values: what stands for each class in the masks, e.g. (0, 255).
        label: property of polygons that names their class.
        resample: take masks of another size or CRS than their scenes'.
        config: everything else.
        output_dir: folder of the training. If it holds an unfinished one of the same arguments, that goes
            on after its last epoch kept, with the same result; None keeps nothing on disk.
        seed: of the head, the crops and the views. The global random state is not touched.
        progress: show a bar.

    Raises:
        FileNotFoundError: there is no such scene or mask.
        ValueError: no scenes, scenes or masks that cannot be read or do not fit, an encoder for
            other bands, fewer than two classes with a training pixel, a loss that is no longer
            finite, or a folder that holds another training.
    """
    config = config or SegmentConfig()
    masks = Masks(
        classes if isinstance(classes, str) else tuple(classes),  # type: ignore[arg-type]
        mask, None if values is None else tuple(values), label, resample,
    )  # fmt: skip
    table = rows_with_masks(scenes, mask)
    rows = rows_with_bands(table, bands=encoder.bands)
    keep = config.keep_gb * 2**30
    train_on = Areas(
        [rows[i] for i in rows_of_split(table, "train").tolist()], masks, keep_bytes=keep
    )
    val = table["split"].eq("val").fillna(False) if "split" in table else [False] * len(rows)
    watch = Areas(
        [row for row, seen in zip(rows, val, strict=True) if seen], masks, keep_bytes=keep
    )
    counts = train_on.count()
    if (counts > 0).sum() < 2:
        raise ValueError(
            "expected training pixels of two classes or more, came "
            f"{dict(zip(masks.classes, counts.tolist(), strict=True))}; pixels of 255 and nodata "
            "are left out: give values=(0, 255) if they are a class"
        )
    device = select_device(config.device)
    network = Network(
        encoder, classes=len(masks.classes), head=config.head, width=config.width,
        freeze=config.freeze, seed=derive_seed(seed, "segment head"),
    ).to(device)  # fmt: skip
    pixels = pd.Series(counts, index=pd.Index(masks.classes))
    tuned = Segmenter(network, masks, reading_options(rows[0]), pixels)
    kept = None if output_dir is None else Path(output_dir)
    if kept is not None:
        prepare_directory(kept, _identity(table, encoder, masks, config=config, seed=seed))
    logs = fit(tuned, train_on, watch, config=config, output_dir=kept, seed=seed, progress=progress)
    network.eval()
    tuned = replace(tuned, logs=pd.DataFrame(logs))
    if output_dir is not None:
        tuned.save(output_dir)
    return tuned


def _identity(
    table: pd.DataFrame, encoder: models.Encoder, masks: Masks, *, config: SegmentConfig, seed: int
) -> dict[str, Any]:
    """What makes a training that training, as json holds it."""
    told = [name for name in ("split", *READING_COLUMNS) if name in table]
    files = table[["path", masks.column]].map(os.path.basename)  # a folder may be moved
    rows = hashlib.blake2b(files.join(table[told]).to_csv().encode(), digest_size=8)
    settings = {k: v for k, v in asdict(config).items() if k not in _FREE}
    about = {
        "format": FORMAT,
        "seed": seed,
        "encoder": [encoder.name, encoder.stem, encoder.bands, state_dicts.weights_digest(encoder)],
        "scenes": [len(table), rows.hexdigest()],
        **{f"masks.{k}": v for k, v in asdict(masks).items()},
        **{f"config.{k}": v for k, v in settings.items()},
    }
    return json.loads(json.dumps(about))
