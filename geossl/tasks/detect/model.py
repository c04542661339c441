"""The detector's network: torchvision's RetinaNet with an FPN on the maps of an encoder.

Shapes: N images, C bands, H x W pixels, K classes, A anchors of an image.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork, box_area, box_iou

from geossl import models
from geossl.models import features
from geossl.tasks._training import Epochs, Warmup
from geossl.transforms import Views
from geossl.utils.validate import (
    Fraction,
    NonNegative,
    Positive,
    PositiveFraction,
    PositiveInt,
    check_fields,
)

_COVERED = 0.5  # share of an anchor in an ignored box from which on it has no loss
AnchorSize: TypeAlias = Annotated[float, Interval(gt=0, lt=1000)]


@dataclass(frozen=True)
class DetectConfig:
    """Options of a detector and its training, besides its data and its seed.

    Args:
        freeze: of the encoder: "none"; "norm" freezes the statistics of its BatchNorms, "all" all
            of it.
        epochs: the loss is logged after each.
        crops: number of an epoch.
        batch_size: crops per step.
        size_px: side of a crop in pixels of the scene.
        boxed: share of the crops that hold a box drawn at random; the others lie anywhere.
        min_visible: a box that a crop's edge cuts counts if this share of its area is left; one
            with less is neither object nor background.
        upsample: factor by which crops and windows are enlarged first, for small objects.
        finest_stride: stride of the finest map used, in enlarged pixels.
        width: channels of the FPN and of the heads.
        anchor_sides: of the anchors' squares, in strides of their map.
        anchor_ratios: height to width of the anchors.
        lr: peak learning rate; it follows a cosine down to zero.
        encoder_rate: the encoder's learning rate as a share of ``lr``.
        warmup: share of the steps in which the learning rate rises to its peak.
        weight_decay: of AdamW; none on biases and norms.
        color: how the colors of a crop are changed; None: not at all. Its crops, flips and sizes
            are not used: crops are flipped and turned by quarters at random, with their boxes.
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

    freeze: features.Freeze = "none"
    epochs: Epochs = 20
    crops: PositiveInt = 800
    batch_size: PositiveInt = 8
    size_px: PositiveInt = 64
    boxed: Fraction = 0.75
    min_visible: PositiveFraction = 0.4
    upsample: PositiveInt = 2
    finest_stride: PositiveInt = 4
    width: PositiveInt = 32
    anchor_sides: tuple[AnchorSize, ...] = (3.0, 4.2, 6.0)
    anchor_ratios: tuple[AnchorSize, ...] = (0.4, 1.0, 2.5)
    lr: Positive = 1e-3
    encoder_rate: NonNegative = 1.0
    warmup: Warmup = 0.1
    weight_decay: NonNegative = 0.05
    color: Views | None = field(default_factory=Views)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("anchor_sides", "anchor_ratios"):
            if not getattr(self, name):
                raise ValueError(f"`{name}` must have at least one value, got ().")


class _Body(nn.Module):
    """An encoder's maps through a feature pyramid network."""

    def __init__(self, encoder: models.Encoder, config: DetectConfig):
        super().__init__()
        self.pyramid = features.Pyramid(encoder, freeze=config.freeze)
        strides = self.pyramid.strides
        self.first = sum(stride < config.finest_stride for stride in strides)
        if self.first == len(strides):
            raise ValueError(
                f"`finest_stride` must be <= {strides[-1]}, the coarsest of the encoder's strides "
                f"{strides}, got {config.finest_stride}."
            )
        self.strides = strides[self.first :]
        self.out_channels = config.width
        self.fpn = FeaturePyramidNetwork(
            list(self.pyramid.widths[self.first :]), config.width, norm_layer=LayerNorm2d
        )

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.pyramid(x)[self.first :]
        named = OrderedDict((str(s), m) for s, m in zip(self.strides, maps, strict=True))
        # Anchors take the maps' dtype, and bf16 counts pixels up to 256 only.
        return OrderedDict((name, m.float()) for name, m in self.fpn(named).items())


class _Upsample(nn.Module):
    """Enlarge a batch; torchvision's own transform would also resize and normalize it."""

    def __init__(self, upsample: int, multiple: int):
        super().__init__()
        self.upsample, self.multiple = upsample, multiple

    def forward(
        self, images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        x, factor = images, self.upsample
        if factor > 1:
            x = F.interpolate(x, scale_factor=factor, mode="bilinear")
        sizes = [(int(x.shape[-2]), int(x.shape[-1]))] * len(x)
        if targets is not None:
            targets = [
                {k: v * factor if v.is_floating_point() else v for k, v in t.items()}
                for t in targets
            ]
        return ImageList(features.pad_to_multiple(x, self.multiple), sizes), targets

    def postprocess(
        self, detections: list[dict[str, Tensor]], sizes: Any, original: Any
    ) -> list[dict[str, Tensor]]:
        return [{**one, "boxes": one["boxes"] / self.upsample} for one in detections]


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
    """Build a detector on a copy of an encoder; the global random state is not touched."""
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
    net.transform = _Upsample(config.upsample, body.strides[-1])
    return net
