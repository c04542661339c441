"""Dense features for detection and segmentation: an encoder's maps, windows, parameter groups.

Shapes: N images, C bands, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl.models.encoder import COMPACT, ENCODERS, Encoder
from geossl.transforms import Views
from geossl.utils.validate import (
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Seed,
    validated,
)

Freeze = Literal["none", "norm", "all"]
Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels


class Pyramid(nn.Module):
    """The feature maps of an encoder's stages, the finest first.

    Args:
        encoder: it is not copied.
        freeze: in training: "none"; "norm" and "all" keep the statistics of its BatchNorms.

    Attributes:
        encoder: the same.
        strides: pixels of the image to one of each map: (4, 8, 16) of "tiny" and "small",
            (4, 8, 16, 32) of a ResNet with the standard stem, (1, 2, 4, 8) with the small one.
        widths: channels of each map.

    Raises:
        ValueError: the encoder has no stages of several resolutions: use a ResNet, or one of timm's
            ConvNeXt, Swin and others.
    """

    @validated
    def __init__(self, encoder: Encoder, *, freeze: Freeze = "none"):
        super().__init__()
        self.encoder, self.freeze = encoder, freeze
        self._indices: list[int] | None = None
        if encoder.name.startswith("timm/"):
            self._indices, self.strides, self.widths = _stages_of_timm(encoder)
            return
        if encoder.name not in ENCODERS:
            raise _no_stages(encoder)
        stages = [child for child in encoder.backbone.children() if _is_stage(child)]
        self.widths = tuple(_channels(stage) for stage in stages)
        by_stem = (
            {"small": 4, "standard": 8} if encoder.name in COMPACT else {"small": 1, "standard": 4}
        )
        self.strides = tuple(by_stem[encoder.stem] * 2**i for i in range(len(stages)))

    def train(self, mode: bool = True) -> Pyramid:
        """Set the mode as in torch; a frozen one stays in eval mode, which BatchNorms obey."""
        return super().train(mode and self.freeze == "none")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalized images ``(N, C, H, W)`` to ``(N, width, H / stride, W / stride)`` each.

        H and W are multiples of the last stride; see `pad_to_multiple`.
        """
        if self._indices is not None:
            backbone: Any = self.encoder.backbone
            return backbone.forward_intermediates(x, indices=self._indices, intermediates_only=True)
        maps = []
        for child in self.encoder.backbone.children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                break
            x = child(x)
            if _is_stage(child):
                maps.append(x)
        return maps


def _stages_of_timm(encoder: Encoder) -> tuple[list[int], tuple[int, ...], tuple[int, ...]]:
    """Return the last map of each resolution of a network of timm, its strides and its widths."""
    backbone: Any = encoder.backbone
    about = getattr(backbone, "feature_info", None) or []
    if not hasattr(backbone, "forward_intermediates"):
        raise _no_stages(encoder)
    size = 224 if encoder.stem == "standard" else 56
    with torch.no_grad():
        x = torch.zeros(1, encoder.bands, size, size, device=encoder.mean.device)
        training = backbone.training
        maps = backbone.eval().forward_intermediates(
            x, indices=list(range(len(about))), intermediates_only=True
        )
        backbone.train(training)
    last = {size // m.shape[-1]: i for i, m in enumerate(maps)}  # by stride
    if len(last) < 2:
        raise _no_stages(encoder)
    chosen = [last[stride] for stride in sorted(last)][-4:]
    return chosen, tuple(sorted(last)[-4:]), tuple(maps[i].shape[1] for i in chosen)


def _no_stages(encoder: Encoder) -> ValueError:
    return ValueError(
        f"`encoder` must have stages of several resolutions, which {encoder.name!r} lacks. Use a "
        "ResNet such as 'resnet50', or one of timm such as 'timm/convnext_tiny'."
    )


def _is_stage(module: nn.Module) -> bool:
    """Whether it is a block or several, not a single layer."""
    return next(module.children(), None) is not None


def _channels(stage: nn.Module) -> int:
    return [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)][-1].num_features


@validated
def pad_to_multiple(x: Tensor, multiple: PositiveInt) -> Tensor:
    """Pad images ``(N, C, H, W)`` at the right and below with zeros, the mean of the bands.

    Height and width become multiples of ``multiple``.
    """
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple))


@validated
def augment_colors(
    encoder: Encoder, chips: Tensor, valid: Tensor, *, color: Views | None, seed: Seed
) -> Tensor:
    """Change the colors of crops and normalize them; ``(N, C, H, W)``, 0 where there is no data.

    Args:
        encoder: its mean and std normalize.
        chips: ``(N, C, H, W)`` in stored units.
        valid: ``(N, H, W)`` bool, the pixels with data.
        color: its color operations are applied, its crops, flips and turns are not (those must
            move boxes or masks too); None applies nothing.
        seed: of the random numbers.
    """
    mask = valid[:, None]
    if color is None:
        return encoder.normalize(chips) * mask
    chips = torch.where(mask, chips, encoder.mean[:, None, None])  # so that contrast is the data's
    generator = torch.Generator(chips.device).manual_seed(seed)
    color = replace(color, size_px=None, crop=(1, 1), ratio=(1, 1), flip=0, dihedral=False)
    return color(chips, mean=encoder.mean, std=encoder.std, generator=generator) * mask


@validated
def parameter_groups(
    network: nn.Module,
    encoder: Encoder,
    *,
    lr: Positive,
    encoder_rate: NonNegative,
    weight_decay: NonNegative,
) -> list[dict[str, Any]]:
    """Group the trainable parameters by peak learning rate and weight decay.

    Args:
        network: what is trained.
        encoder: its pretrained part.
        lr: peak learning rate.
        encoder_rate: the encoder's, as a share of ``lr``.
        weight_decay: of matrices and kernels; biases and norms have none.
    """
    pretrained = set(encoder.parameters())
    trainable = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {
            "params": [
                p for p in trainable if (p in pretrained) == own and (p.ndim > 1) == is_matrix
            ],
            "peak": lr * (encoder_rate if own else 1.0),
            "weight_decay": weight_decay if is_matrix else 0.0,
        }
        for own in (True, False)
        for is_matrix in (True, False)
    ]
    return [group for group in groups if group["params"]]


@validated
def sliding_windows(
    height: PositiveInt, width: PositiveInt, *, size_px: PositiveInt, overlap_px: NonNegativeInt
) -> Iterator[Window]:
    """Cover a scene with square windows, row by row; the last of a row may reach over the edge.

    Args:
        height: of the scene.
        width: likewise.
        size_px: side of a window.
        overlap_px: shared by neighbors at least, less than ``size_px``.

    Example:
        >>> list(sliding_windows(8, 12, size_px=8, overlap_px=4))
        [(0, 0, 8, 8), (4, 0, 12, 8)]
    """
    step = size_px - overlap_px
    if step < 1:
        raise ValueError(
            f"`overlap_px` must be less than `size_px` ({size_px}), got {overlap_px}. Half the "
            "size is a good overlap."
        )
    for top in range(0, max(height - overlap_px, 1), step):
        for left in range(0, max(width - overlap_px, 1), step):
            yield left, top, left + size_px, top + size_px
