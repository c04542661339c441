"""What shapes a pre-training run: one frozen dataclass, which is also its command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from geossl.transforms import Views, moco_v2


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that shapes a run besides its data, its pairs and its seed.

    Args:
        encoder: "small" (made for two cores) or a torchvision ResNet, e.g. "resnet50".
        stem: "small" for chips below about 100 px, "standard" as in the ResNet paper.
        epochs: passes over the training chips.
        batch_size: pairs N per step.
        accumulation_steps: batches whose gradients are summed into one optimizer step.
        optimizer: "adamw", or "sgd" as in MoCo; each wants a learning rate of its own (0.03 to 0.06
            at batch 128 for SGD).
        lr: peak learning rate; it follows a cosine down to zero.
        warmup: share of the run in which the learning rate rises to its peak.
        weight_decay: of all weights.
        sgd_momentum: of the optimizer; not the key encoder's.
        projection_dim: length D of a projection.
        queue_size: number K of negatives kept.
        momentum: of the key encoder.
        temperature: of InfoNCE.
        mask_same_location: queue entries of the query's own location are no negatives; False is
            the paper's form.
        bn_splits: parts of the batch that BatchNorm normalizes apart, keys shuffled among them; 1
            leaves it whole.
        contrastive_weight: alpha of the paper.
        geo_weight: beta of the paper.
        geo_on: where the geo head sits, "projection" (as released) or "embedding".
        transform: the augmentation.
        split: the training rows, by the table's ``split`` column; None, or no such column: all.
        precision: "auto" takes bf16 where the hardware is faster in it, else fp32.
        compile: torch.compile the query and key encoders.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        log_every: steps between two log records; None: twenty a run, at least one an epoch.
        knn_every: log records between two kNN measurements on the val split; 0: never.
        knn_label: column of labels that the kNN predicts.
        checkpoint_every_s: seconds between two checkpoints, at log records; longer when writing one
            takes over a twentieth of that.

    Source:
        Defaults: `benchmarks/blue_marble.md` (small chips, two cores). The paper's own for
        ResNet-50 at 224 px are `paper_config`.
    """

    encoder: str = "small"
    stem: Literal["small", "standard"] = "small"
    epochs: float = 8
    batch_size: int = 128
    accumulation_steps: int = 1
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 1e-4
    sgd_momentum: float = 0.9
    projection_dim: int = 128
    queue_size: int = 1024
    momentum: float = 0.99
    temperature: float = 0.2
    mask_same_location: bool = True
    bn_splits: int = 1
    contrastive_weight: float = 1.0
    geo_weight: float = 1.0
    geo_on: Literal["projection", "embedding"] = "projection"
    transform: Views = field(default_factory=Views)
    split: str | None = "train"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    device: str = "auto"
    log_every: int | None = None
    knn_every: int = 5
    knn_label: str = "label"
    checkpoint_every_s: float = 20.0

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "batch_size",
            "accumulation_steps",
            "lr",
            "queue_size",
            "temperature",
            "bn_splits",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, came {getattr(self, name)}")
        if self.log_every is not None and self.log_every < 1:
            raise ValueError(f"expected log_every >= 1, came {self.log_every}")


def paper_config(**changes: Any) -> PretrainConfig:
    """The paper's own settings, for ResNet-50 at 224 px on GPUs.

    Source:
        Ayush et al., arXiv 2011.09980, section 5 and released code: see `PretrainConfig`'s words.
    """
    return PretrainConfig(
        **{
            "encoder": "resnet50", "stem": "standard", "epochs": 200, "batch_size": 256,
            "optimizer": "sgd", "lr": 0.03, "bn_splits": 4,
            "warmup": 0.0, "queue_size": 65_536, "momentum": 0.999, "temperature": 0.02,
            "mask_same_location": False,
            "transform": moco_v2(224, crop=(0.08, 1.0)),
            **changes,
        }  # type: ignore[arg-type]
    )  # fmt: skip
