"""Models: encoders, heads, and MoCo with its key encoder and queue.

Shapes: N images, C bands, E embedding, D projection, K queue, G geo clusters.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl import models
from geossl.models import layers

STEMS = ("small", "standard")
ENCODERS = ("small", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


class Encoder(nn.Module):
    """A backbone with the normalization its input needs.

    Attributes:
        name: one of `ENCODERS`.
        stem: "standard" (7x7 stride 2 and max-pooling) or "small" (3x3 stride 1, chips < 100 px).
        bands: number of input bands C.
        width: length E of an embedding.
        mean, std: ``(C,)`` float32 buffers in the units of the chips.
        note: what else is known of it, such as the names of its bands; it travels with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, backbone: nn.Module, *, bands: int, stem: str, width: int):
        super().__init__()
        self.name, self.bands, self.stem, self.width = name, bands, stem, width
        self.backbone = backbone
        self.note: dict[str, Any] = {}
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("std", torch.ones(bands))

    @property
    def about(self) -> dict[str, Any]:
        """What `build_encoder` makes one like it from, as json holds it."""
        return {"name": self.name, "bands": self.bands, "stem": self.stem}

    def normalize(self, chips: Tensor) -> Tensor:
        """Chips ``(N, C, H, W)`` in stored units -> float32 of about zero mean and unit spread."""
        return (chips.float() - self.mean[:, None, None]) / self.std[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images ``(N, C, H, W)`` -> embeddings ``(N, E)``."""
        return self.backbone(x)


def build_encoder(
    name: str = "small",
    *,
    bands: int = 3,
    stem: str = "small",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
) -> Encoder:
    """An untrained encoder.

    Args:
        name: "small" (made for two cores: 3 residual blocks, E = 256) or a torchvision ResNet.
        bands: number of input bands.
        stem: "small" for chips below about 100 px, "standard" as in the ResNet paper.
        mean: ``(C,)`` of the bands in the chips' units; zeros when None.
        std: ``(C,)`` likewise, > 0; ones when None.
        seed: of the initial weights; the global random state is not touched.

    Raises:
        ValueError: an unknown name or stem, or normalization of another number of bands.

    Source:
        ResNet, arXiv 1512.03385; the small-image stem as in SimCLR's CIFAR experiments,
        arXiv 2002.05709, appendix B.9.
    """
    if name not in ENCODERS:
        raise ValueError(f"expected an encoder of {', '.join(ENCODERS)}; came {name!r}")
    if stem not in STEMS:
        raise ValueError(f"expected a stem of {', '.join(STEMS)}; came {stem!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone, width = _small(bands, stem) if name == "small" else _resnet(name, bands, stem)
    result = Encoder(name, backbone, bands=bands, stem=stem, width=width)
    for buffer, values in ((result.mean, mean), (result.std, std)):
        if values is not None:
            given = torch.as_tensor(values, dtype=torch.float32)
            if given.shape != (bands,):
                raise ValueError(f"expected mean and std of {bands} bands, came {len(values)}")
            buffer.copy_(given)
    if not bool((result.std > 0).all()):
        raise ValueError("expected a standard deviation > 0 in every band; is one band constant?")
    return result


def _resnet(name: str, bands: int, stem: str) -> tuple[nn.Module, int]:
    import torchvision  # loads torch._dynamo, which takes longer than torch itself

    net = getattr(torchvision.models, name)(weights=None)
    width = net.fc.in_features
    net.fc = nn.Identity()
    if stem == "small":
        net.conv1 = nn.Conv2d(bands, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    if stem == "standard" and bands != 3:
        net.conv1 = nn.Conv2d(bands, 64, 7, stride=2, padding=3, bias=False)
    if net.conv1.weight.shape[1] != 3 or stem == "small":
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    return net, width


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ResNet's basic block with an average-pooled skip."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.norm3(self.skip(self.pool(x))))


def _small(bands: int, stem: str) -> tuple[nn.Module, int]:
    """The encoder for two cores; the stem's stride is 2 (small) or 4 (standard)."""
    widths = (32, 64, 128, 256)
    first = nn.Conv2d(bands, widths[0], 4, 2, 1, bias=False)
    if stem == "standard":
        first = nn.Conv2d(bands, widths[0], 8, 4, 2, bias=False)
    net = nn.Sequential(
        first,
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
        _Block(widths[0], widths[1], 2),
        _Block(widths[1], widths[2], 2),
        _Block(widths[2], widths[3], 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net, widths[-1]


def trainable_copy(encoder: Encoder, *, frozen: bool = False) -> Encoder:
    """A copy to tune on a task: all of it learns, and BatchNorms see whole batches of one process.

    Args:
        encoder: left as it is.
        frozen: nothing of it learns.
    """
    copied = copy.deepcopy(encoder).requires_grad_(not frozen)
    copied.zero_grad(set_to_none=True)
    for module in copied.modules():
        if isinstance(module, layers.SplitBatchNorm2d):
            module.splits = module.sharing = 1  # there is no key to be recognized
    return copied


def has_correct_bf16_gradients(encoder: models.Encoder, size_px: int, *, asked: bool) -> bool:
    """Whether torch's gradients are right in bf16 on a CPU, for views ``size_px`` high and wide.

    Where a convolution with a stride sees a single pixel, oneDNN (that of torch 2.14) leaves the
    gradient unwritten of those taps that lie on padding only: it is what the memory held before.

    Args:
        encoder: as it is before training.
        size_px: height and width of a view.
        asked: bf16 is wanted by name.

    Raises:
        ValueError: it is asked for, and they are not.
    """
    bare, seen = copy.deepcopy(encoder).to("meta").eval(), [size_px]
    for layer in bare.modules():
        if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1 and max(layer.kernel_size) > 1:
            layer.register_forward_pre_hook(lambda _, given: seen.append(min(given[0].shape[2:])))
    bare(torch.empty(1, encoder.bands, size_px, size_px, device="meta"))
    if min(seen) <= 1 and asked:
        raise ValueError(
            f"expected larger views for bf16 on a CPU, came {size_px} px: torch's gradients are "
            "wrong where a convolution with a stride sees one pixel; use precision='fp32'"
        )
    return min(seen) > 1
