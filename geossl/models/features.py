"""Dense features: an encoder's maps at several strides, and the windows that tile a large scene.

Detection and segmentation stand on this. Shapes: N images, C bands, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl import models
from geossl.transforms import Views

FREEZE = ("none", "norm", "all")
Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels


class Pyramid(nn.Module):
    """The feature maps of an encoder's stages, the finest first.

    Args:
        encoder: what to look into; it is not copied.
        freeze: in training: "none"; "norm" and "all" keep the statistics of its BatchNorms.

    Attributes:
        encoder: the same.
        strides: pixels of the image to one of each map: (4, 8, 16) of "small", (4, 8, 16, 32) of a
            ResNet with the standard stem, (1, 2, 4, 8) with the small one.
        widths: channels of each map.
    """

    def __init__(self, encoder: models.Encoder, *, freeze: str = "none"):
        super().__init__()
        self.encoder, self.freeze = encoder, freeze
        blocks = [child for child in encoder.backbone.children() if _is_stage(child)]
        self.widths = tuple(_channels(block) for block in blocks)
        first = 4
        if encoder.name == "small":
            first = 4 if encoder.stem == "small" else 8
        elif encoder.stem == "small":
            first = 1
        self.strides = tuple(first * 2**stage for stage in range(len(blocks)))

    def train(self, mode: bool = True) -> Pyramid:
        """As in torch, but a frozen one stays in eval mode; only its BatchNorms differ there."""
        return super().train(mode and self.freeze == "none")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalized images ``(N, C, H, W)`` -> maps ``(N, width, H / stride, W / stride)``.

        H and W are multiples of the last stride; see `pad_to_multiple`.
        """
        maps = []
        for child in self.encoder.backbone.children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                break
            x = child(x)
            if _is_stage(child):
                maps.append(x)
        return maps


def _is_stage(module: nn.Module) -> bool:
    """Whether it is one of a backbone's stages: a block or some, not a single layer."""
    return next(module.children(), None) is not None


def _channels(stage: nn.Module) -> int:
    return [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)][-1].num_features


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Normalized images ``(N, C, H, W)`` with zeros at the right and below.

    Height and width become multiples of ``multiple``. Zero is the bands' mean.
    """
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple))


def augment_colors(
    encoder: models.Encoder, chips: Tensor, valid: Tensor, *, color: Views | None, seed: int
) -> Tensor:
    """Normalized crops ``(N, C, H, W)`` in changed colors, 0 (the bands' mean) without data.

    Args:
        encoder: what normalizes.
        chips: ``(N, C, H, W)`` in stored units.
        valid: ``(N, H, W)`` bool, which pixels hold data.
        color: what is done to the colors; None: nothing. Where the pixels lie does not change:
            that is drawn with their boxes or masks.
        seed: of the draws.
    """
    seen = valid[:, None]
    if color is None:
        return encoder.normalize(chips) * seen
    chips = torch.where(seen, chips, encoder.mean[:, None, None])  # so that contrast is the data's
    generator = torch.Generator(chips.device).manual_seed(seed)
    color = replace(color, size_px=None, crop=(1, 1), ratio=(1, 1), flip=0, dihedral=False)
    return color(chips, mean=encoder.mean, std=encoder.std, generator=generator) * seen


def parameter_groups(
    network: nn.Module,
    encoder: models.Encoder,
    *,
    lr: float,
    encoder_rate: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Parameter groups of what learns, with their peak rates; biases and norms without decay.

    Args:
        network: what is trained.
        encoder: the part of it that was trained before.
        lr: peak learning rate.
        encoder_rate: that of the encoder, as a share of ``lr``.
        weight_decay: of matrices and kernels.
    """
    slow = set(encoder.parameters())
    learned = [p for p in network.parameters() if p.requires_grad]
    found = []
    for own in (True, False):
        for matrix in (True, False):
            found.append({
                "params": [p for p in learned if (p in slow) == own and (p.ndim > 1) == matrix],
                "peak": lr * (encoder_rate if own else 1.0),
                "weight_decay": weight_decay if matrix else 0.0,
            })  # fmt: skip
    return [group for group in found if group["params"]]


def sliding_windows(height: int, width: int, *, size_px: int, overlap_px: int) -> Iterator[Window]:
    """Square windows that cover a scene, row by row; the last of a row may reach over the edge.

    Args:
        height: of the scene.
        width: likewise.
        size_px: side of a window.
        overlap_px: what neighbors share at least, in pixels.

    Raises:
        ValueError: ``size_px`` is not larger than ``overlap_px``, or that is negative.
    """
    step = size_px - overlap_px
    if step < 1 or overlap_px < 0:
        raise ValueError(
            f"expected size_px > overlap_px >= 0, came {size_px} and {overlap_px}; "
            "half the size is a good overlap"
        )
    for top in range(0, max(height - overlap_px, 1), step):
        for left in range(0, max(width - overlap_px, 1), step):
            yield left, top, left + size_px, top + size_px
