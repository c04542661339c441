"""Dense features: an encoder's maps at several strides, and the windows that tile a large scene.

Detection and segmentation stand on this. Shapes: N images, C bands, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from geossl import models

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels


class Pyramid(nn.Module):
    """The feature maps of an encoder's stages, the finest first.

    Args:
        encoder: what to look into; it is not copied.

    Attributes:
        encoder: the same.
        strides: pixels of the image to one of each map: (4, 8, 16) of "small", (4, 8, 16, 32) of a
            ResNet with the standard stem, (1, 2, 4, 8) with the small one.
        widths: channels of each map.
    """

    def __init__(self, encoder: models.Encoder):
        super().__init__()
        self.encoder = encoder
        blocks = [child for child in encoder.backbone.children() if _is_stage(child)]
        self.widths = tuple(_channels(block) for block in blocks)
        first = 4
        if encoder.name == "small":
            first = 4 if encoder.stem == "small" else 8
        elif encoder.stem == "small":
            first = 1
        self.strides = tuple(first * 2**stage for stage in range(len(blocks)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images ``(N, C, H, W)`` -> maps ``(N, width, H / stride, W / stride)``.

        H and W are multiples of the last stride; see `padded`.
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


def padded(x: Tensor, multiple: int) -> Tensor:
    """Normalised images ``(N, C, H, W)`` with zeros at the right and below.

    Height and width become multiples of ``multiple``. Zero is the bands' mean.
    """
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple))


def windows(height: int, width: int, *, size_px: int, overlap_px: int) -> Iterator[Window]:
    """Square windows that cover a scene, row by row; the last of a row may reach over the edge.

    Args:
        height: of the scene.
        width: likewise.
        size_px: side of a window.
        overlap_px: what neighbours share at least, in pixels.

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
