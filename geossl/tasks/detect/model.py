"""The detector's network: torchvision's RetinaNet with an FPN on the maps of one of our encoders.

Shapes: N images, C bands, H x W pixels, K classes, A anchors of an image.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork, box_area, box_iou

from geossl import models
from geossl.models import features
from geossl.transforms import Views

_COVERED = 0.5  # share of an anchor in an ignored box from which it teaches nothing


@dataclass(frozen=True)
class DetectConfig:
    """Everything that shapes a detector and its training besides its data and its seed.

    Args:
        freeze: of the encoder: "none"; "norm" keeps the statistics of its BatchNorms as they are;
            "all" keeps all of it.
        epochs: the loss is logged, and the run can be taken up again, after each.
        crops: how many an epoch has.
        batch_size: crops per step.
        size_px: side of a crop in pixels of the scene.
        boxed: share of the crops that hold a box drawn at random; the others lie anywhere.
        min_visible: a box that a crop's edge cuts counts if so much of its area is left; what is
            left of one cut further is neither object nor background.
        upsample: how many times crops and windows are enlarged first (bilinear): for small objects.
        finest_stride: pixels (enlarged) to one of the finest map used.
        width: channels of the FPN and of the heads.
        anchor_sides: of the anchors' squares, in strides of their map.
        anchor_ratios: height to width of the anchors.
        lr: peak learning rate; it follows a cosine down to zero.
        encoder_rate: the encoder's learning rate as a share of ``lr``.
        warmup: share of the steps in which the learning rate rises to its peak.
        weight_decay: of AdamW; none on biases and norms.
        color: what is done to the colors of a crop; None: nothing. Its crops, flips and sizes are
            not used: crops are flipped and turned by quarters at random, their boxes with them.
        precision: "auto" takes bf16 where the hardware is faster in it, else fp32.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".

    Source:
        RetinaNet and its focal loss: arXiv 1708.02002; FPN: arXiv 1612.03144; AdamW: arXiv
        1711.05101. The paper fine-tunes all layers of a RetinaNet on xView with crops of 416 px
        (arXiv 2011.09980, section 5). Deviations, for short trainings from scratch: LayerNorm in
        the FPN and the heads, whose convolutions start as He et al. do (arXiv 1502.01852).
        Defaults: chosen on val ports of Sentinel-2 (ships of 5 to 25 px), an untrained encoder and
        one core. For large objects take upsample 1 and larger crops, for many classes more width.
    """

    freeze: Literal["none", "norm", "all"] = "none"
    epochs: int = 20
    crops: int = 800
    batch_size: int = 8
    size_px: int = 64
    boxed: float = 0.75
    min_visible: float = 0.4
    upsample: int = 2
    finest_stride: int = 4
    width: int = 32
    anchor_sides: tuple[float, ...] = (3.0, 4.2, 6.0)
    anchor_ratios: tuple[float, ...] = (0.4, 1.0, 2.5)
    lr: float = 1e-3
    encoder_rate: float = 1.0
    warmup: float = 0.1
    weight_decay: float = 0.05
    color: Views | None = field(default_factory=Views)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.freeze not in features.FREEZE:
            raise ValueError(
                f"expected freeze of {', '.join(features.FREEZE)}, came {self.freeze!r}"
            )
        for name in (
            "epochs",
            "crops",
            "batch_size",
            "size_px",
            "upsample",
            "finest_stride",
            "width",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"expected a whole number {name} >= 1, came {value!r}")
        if not 0 <= self.boxed <= 1 or not 0 < self.min_visible <= 1 or not 0 <= self.warmup < 1:
            raise ValueError(
                "expected boxed in [0, 1], min_visible in (0, 1] and warmup in [0, 1), came "
                f"{self.boxed}, {self.min_visible} and {self.warmup}"
            )
        if not self.lr > 0 or not self.encoder_rate >= 0:
            raise ValueError(
                f"expected lr > 0 and encoder_rate >= 0, came {self.lr} and {self.encoder_rate}"
            )
        for name in ("anchor_sides", "anchor_ratios"):
            values = getattr(self, name)
            if not values or not all(0 < value < 1000 for value in values):
                raise ValueError(f"expected numbers > 0 as {name}, came {values}")


class _Body(nn.Module):
    """An encoder's maps through a feature pyramid network."""

    def __init__(self, encoder: models.Encoder, config: DetectConfig):
        super().__init__()
        self.pyramid = features.Pyramid(encoder, freeze=config.freeze)
        strides = self.pyramid.strides
        self.first = sum(stride < config.finest_stride for stride in strides)
        if self.first == len(strides):
            raise ValueError(
                f"expected finest_stride <= {strides[-1]}, the coarsest of the encoder's strides "
                f"{strides}, came {config.finest_stride}"
            )
        self.strides = strides[self.first :]
        self.out_channels = config.width
        self.fpn = FeaturePyramidNetwork(
            list(self.pyramid.widths[self.first :]), config.width, norm_layer=LayerNorm2d
        )

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.pyramid(x)[self.first :]
        found = self.fpn(OrderedDict((str(s), m) for s, m in zip(self.strides, maps, strict=True)))
        # Anchors take the maps' dtype, and bf16 counts pixels up to 256 only.
        return OrderedDict((name, m.float()) for name, m in found.items())


class _AsTheyAre(nn.Module):
    """Batches images as they are, where torchvision's own would resize and normalize them."""

    def __init__(self, upsample: int, multiple: int):
        super().__init__()
        self.upsample, self.multiple = upsample, multiple

    def forward(
        self, images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        x, by = images, self.upsample
        if by > 1:
            x = F.interpolate(x, scale_factor=by, mode="bilinear")
        sizes = [(int(x.shape[-2]), int(x.shape[-1]))] * len(x)
        if targets is not None:
            targets = [
                {k: v * by if v.is_floating_point() else v for k, v in t.items()} for t in targets
            ]
        return ImageList(features.pad_to_multiple(x, self.multiple), sizes), targets

    def postprocess(
        self, found: list[dict[str, Tensor]], sizes: Any, original: Any
    ) -> list[dict[str, Tensor]]:
        return [{**one, "boxes": one["boxes"] / self.upsample} for one in found]


class _Detector(RetinaNet):
    """RetinaNet whose losses are computed in fp32 and leave out anchors on ignored boxes."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
    ) -> dict[str, Tensor]:
        matched = []
        for target, of_image in zip(targets, anchors, strict=True):
            boxes, ignored = target["boxes"], target["ignored"]
            index = torch.full((len(of_image),), -1, device=of_image.device)
            if len(boxes):
                index = self.proposal_matcher(box_iou(boxes, of_image))
            if len(ignored):
                covered = _share_in(of_image, ignored).amax(1) >= _COVERED
                index[covered & (index < 0)] = self.proposal_matcher.BETWEEN_THRESHOLDS
            matched.append(index)
        with torch.autocast(anchors[0].device.type, enabled=False):
            outputs = {name: value.float() for name, value in head_outputs.items()}
            return self.head.compute_loss(targets, outputs, anchors, matched)

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: Any, image_shapes: Any
    ) -> list[dict[str, Tensor]]:
        outputs = {name: [x.float() for x in values] for name, values in head_outputs.items()}
        return super().postprocess_detections(outputs, anchors, image_shapes)


def _share_in(anchors: Tensor, boxes: Tensor) -> Tensor:
    """``(A, B)`` share of each anchor that lies in each box."""
    low = torch.maximum(anchors[:, None, :2], boxes[:, :2])
    high = torch.minimum(anchors[:, None, 2:], boxes[:, 2:])
    return (high - low).clamp(min=0).prod(-1) / box_area(anchors)[:, None]


def build(encoder: models.Encoder, classes: int, config: DetectConfig, *, seed: int) -> RetinaNet:
    """A detector on a copy of an encoder, with new heads; the global random state is untouched."""
    copied = models.trainable_copy(encoder, frozen=config.freeze == "all")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = _Body(copied, config)
        sides = tuple(tuple(s * side for side in config.anchor_sides) for s in body.strides)
        net = _Detector(
            body,
            max(1, classes),
            anchor_generator=AnchorGenerator(sides, (config.anchor_ratios,) * len(sides)),
            head=RetinaNetHead(
                config.width,
                len(config.anchor_sides) * len(config.anchor_ratios),
                max(1, classes),
                norm_layer=LayerNorm2d,
            ),
        )
        for head in (net.head.classification_head, net.head.regression_head):
            for module in head.conv.modules():  # torchvision's 0.01 takes thousands of steps
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    net.transform = _AsTheyAre(config.upsample, body.strides[-1])
    return net
