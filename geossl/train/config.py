"""Settings of a pre-training run: one frozen dataclass, which is also its command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Interval

from geossl.models.encoder import Stem, check_encoder_name
from geossl.transforms import Views, moco_v2
from geossl.utils.validate import (
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    check_fields,
    validated,
)


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that shapes a run besides its data, its pairs and its seed.

    Args:
        encoder: "tiny" (made for two cores), "small", a ResNet such as "resnet50", or one of a
            library: "timm/vit_small_patch16_224", "torchvision/convnext_tiny".
        stem: "small" for chips below about 100 px, "standard" as published.
        epochs: passes over the training chips.
        batch_size: pairs N per step.
        accumulation_steps: batches whose gradients are summed into one optimizer step.
        optimizer: "adamw", or "sgd" as in MoCo; each needs a learning rate of its own (0.03 to 0.06
            at batch 128 for SGD).
        lr: peak learning rate; it follows a cosine down to zero.
        warmup: share of the run in which the learning rate rises to its peak.
        weight_decay: of all weights.
        sgd_momentum: of the optimizer; not the key encoder's.
        projection_dim: length D of a projection.
        queue_size: number K of negatives in the queue.
        momentum: of the key encoder.
        temperature: of the InfoNCE that ``pairs`` adds; a `Contrastive` among ``objectives`` has
            a temperature, mask and weight of its own.
        mask_same_location: queue entries of the query's own location are no negatives; False is
            the paper's form.
        bn_splits: parts of the batch that BatchNorm normalizes apart, with the keys shuffled among
            them; 1 normalizes the batch as one. Several processes: see docs/many_devices.md.
        contrastive_weight: alpha of the paper.
        geo_weight: beta of the paper.
        geo_on: where the geo head sits, "projection" (as released) or "embedding".
        transform: the augmentation.
        split: train on these rows of the table's ``split`` column; None, or no such column: all.
        precision: "auto" is bf16 where the hardware is faster in it, else fp32.
        compile: compile the query and key encoders with torch.compile.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        log_every: steps between two log records; None: twenty a run, at least one an epoch.
        knn_every: log records between two kNN measurements on the val split; 0: never.
        knn_label: column of labels that the kNN predicts.
        checkpoint_every_s: seconds between two checkpoints, at log records; longer when writing one
            takes over a twentieth of that.

    Raises:
        TypeError: a field has a wrong type.
        ValueError: a field is out of its range or an unknown word.

    Source:
        Defaults: `benchmarks/few_labels.md` (small chips, two cores). The paper's own for
        ResNet-50 at 224 px are `paper_config`.
    """

    encoder: str = "tiny"
    stem: Stem = "small"
    epochs: Annotated[float, Interval(gt=0, le=1_000_000)] = 8
    batch_size: PositiveInt = 128
    accumulation_steps: PositiveInt = 1
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: Positive = 2e-3
    warmup: Fraction = 0.05
    weight_decay: NonNegative = 1e-4
    sgd_momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    projection_dim: PositiveInt = 128
    queue_size: PositiveInt = 1024
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    temperature: Positive = 0.2
    mask_same_location: bool = True
    bn_splits: PositiveInt = 1
    contrastive_weight: NonNegative = 1.0
    geo_weight: NonNegative = 1.0
    geo_on: Literal["projection", "embedding"] = "projection"
    transform: Views = field(default_factory=Views)
    split: str | None = "train"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    device: str = "auto"
    log_every: PositiveInt | None = None
    knn_every: NonNegativeInt = 5
    knn_label: str = "label"
    checkpoint_every_s: NonNegative = 20.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_encoder_name(self.encoder, "encoder")


@validated
def paper_config(*, temporal: bool = True, **changes: Any) -> PretrainConfig:
    """Return the paper's settings, for ResNet-50 at 224 px on GPUs.

    Args:
        temporal: for temporal pairs, with crops of 0.08 to 1 of the area; False: 0.2 to 1.
        changes: fields of `PretrainConfig` that differ.

    Source:
        Ayush et al., arXiv 2011.09980, section 5 and the released code.
    """
    settings: dict[str, Any] = {
        "encoder": "resnet50",
        "stem": "standard",
        "epochs": 200,
        "batch_size": 256,
        "optimizer": "sgd",
        "lr": 0.03,
        "warmup": 0.0,
        "bn_splits": 4,
        "queue_size": 65_536,
        "momentum": 0.999,
        "temperature": 0.02,
        "mask_same_location": False,
        "transform": moco_v2(224, crop=(0.08 if temporal else 0.2, 1.0), antialias=True),
    }
    return PretrainConfig(**settings | changes)
