"""The segmentation network: an encoder's maps and a head of torchvision, at full resolution."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.ops import FeaturePyramidNetwork

from geossl import models
from geossl.models import features
from geossl.utils.validate import PositiveInt, Seed, validated

Head: TypeAlias = Literal["fpn", "fcn", "deeplab"]
_REACH_PX = (96, 192, 288)  # DeepLabV3's rates 12, 24, 36 at a stride of 8


class Network(nn.Module):
    """A copy of an encoder with a head that scores each class at each pixel.

    Args:
        encoder: it is not changed.
        classes: their number.
        head: "fcn" and "deeplab" sit on the coarsest map; "fpn" is an FCN head on the finest map of
            a feature pyramid network, which brings the coarse ones down to it.
        width: channels of the feature pyramid network.
        freeze: of the encoder, while training: "none", "norm" (the statistics of its BatchNorms
            stay) or "all".
        seed: of the head; the global random state is not touched.

    Source:
        FCN, arXiv 1411.4038; DeepLabV3, arXiv 1706.05587, its dilation rates scaled to the stride;
        feature pyramids, arXiv 1612.03144. All from torchvision. Deviation: the encoder keeps its
        strides where torchvision's models dilate the last stages to a stride of 8.
    """

    @validated
    def __init__(
        self,
        encoder: models.Encoder,
        *,
        classes: PositiveInt,
        head: Head,
        width: PositiveInt = 64,
        freeze: features.Freeze = "none",
        seed: Seed = 0,
    ):
        super().__init__()
        own = models.trainable_copy(encoder, frozen=freeze == "all")
        self.about = {"head": head, "width": width}
        self.pyramid = features.Pyramid(own, freeze=freeze)
        self.stride = self.pyramid.strides[-1]
        coarse = self.pyramid.widths[-1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.fpn: nn.Module = nn.Identity()
            if head == "fpn":
                self.fpn = FeaturePyramidNetwork(list(self.pyramid.widths), width)
                self.head: nn.Module = FCNHead(width, classes)
            elif head == "fcn":
                self.head = FCNHead(coarse, classes)
            else:
                rates = [max(1, reach // self.stride) for reach in _REACH_PX]
                self.head = DeepLabHead(coarse, classes, rates)
        self.to(own.mean.device)

    @property
    def encoder(self) -> models.Encoder:
        """The trained copy of the encoder."""
        return self.pyramid.encoder

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits ``(N, classes, H, W)`` float32 of normalized images ``(N, C, H, W)``.

        H and W are multiples of ``stride``.
        """
        maps = self.pyramid(x)
        if self.about["head"] == "fpn":
            named = {str(level): part for level, part in enumerate(maps)}
            fine = self.fpn(named)["0"]
        else:
            fine = maps[-1]
        logits = self.head(fine).float()
        return F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)

    def from_chips(self, chips: Tensor, valid: Tensor) -> Tensor:
        """Compute logits of pixels ``(N, C, H, W)`` in stored units; 0 where not ``valid``."""
        return self(self.encoder.normalize(chips) * valid[:, None])
