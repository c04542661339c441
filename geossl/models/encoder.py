"""Build encoders: a backbone and the normalization of its input.

Shapes: N images, C bands, H x W pixels, E embedding.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from geossl.models import backbones
from geossl.utils.validate import PositiveInt, Seed, advise, validated

Stem = Literal["small", "standard"]
COMPACT = ("tiny", "small")  # made for two cores
ENCODERS = (*COMPACT, "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
STEMS: tuple[str, ...] = get_args(Stem)
_WIDTHS = (32, 64, 128, 256)  # of the stem and the three blocks of "tiny" and "small"


class Encoder(nn.Module):
    """A backbone with the normalization its input needs; see `build_encoder`.

    Attributes:
        name: one of `ENCODERS`, or one of a library, such as "timm/convnext_tiny".
        backbone: the network, from normalized images to embeddings.
        bands: number of input bands C.
        stem: "standard" (7x7 stride 2 and max-pooling) or "small" (3x3 stride 1, chips < 100 px).
        embedding_dim: length E of an embedding.
        mean, std: ``(C,)`` float32 buffers in the units of the chips.
        metadata: what else is known, such as the names of the bands; saved with the weights.
    """

    mean: Tensor
    std: Tensor

    @validated
    def __init__(
        self, name: str, backbone: nn.Module, *, bands: PositiveInt, stem: Stem,
        embedding_dim: PositiveInt,
    ):  # fmt: skip
        super().__init__()
        self.name, self.bands, self.stem, self.embedding_dim = name, bands, stem, embedding_dim
        self.backbone = backbone
        self.metadata: dict[str, Any] = {}
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("std", torch.ones(bands))

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of `build_encoder` for an encoder of this architecture."""
        return {"name": self.name, "bands": self.bands, "stem": self.stem}

    @validated
    def normalize(self, chips: Tensor) -> Tensor:
        """Convert chips ``(N, C, H, W)`` in stored units to float32 of mean 0 and std 1."""
        return (chips.float() - self.mean[:, None, None]) / self.std[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """Embed normalized images ``(N, C, H, W)`` as ``(N, E)``."""
        return self.backbone(x)


@validated
def build_encoder(
    name: str = "tiny",
    *,
    bands: PositiveInt = 3,
    stem: Stem = "small",
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    seed: Seed = 0,
) -> Encoder:
    """Build an untrained encoder.

    Args:
        name: "tiny" or "small", made for the two cores of a laptop (three residual blocks, E = 256;
            "tiny" has a 3x3 and a 1x1 convolution a block, "small" two of 3x3), a torchvision
            ResNet such as "resnet50", or any image classifier of torchvision or timm by the name of
            the library and its own: "torchvision/convnext_tiny", "timm/vit_small_patch16_224".
            Embeddings are what their classifier would read.
        bands: number of input bands.
        stem: "small" for chips below about 100 px, "standard" as published. ResNets, timm's vision
            transformers of any size, Swin and ConvNeXt have a small one, of a quarter of the
            stride.
        mean: ``(C,)`` of the bands in the chips' units; zeros when None.
        std: ``(C,)`` likewise, > 0; ones when None.
        seed: of the initial weights; the global random state is not touched.

    Raises:
        ValueError: an unknown name, a stem that the network does not have, or a ``mean`` or ``std``
            that does not fit the bands.
        ImportError: timm is not installed.

    Source:
        ResNet, arXiv 1512.03385; the small-image stem as in SimCLR's CIFAR experiments,
        arXiv 2002.05709, appendix B.9.

    Example:
        >>> encoder = build_encoder("tiny", bands=4)
        >>> encoder(torch.zeros(2, 4, 32, 32)).shape
        torch.Size([2, 256])
    """
    check_encoder_name(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in COMPACT:
            backbone, width = _compact(_TinyBlock if name == "tiny" else _Block, bands, stem)
        elif name in ENCODERS:
            backbone, width = backbones.build_backbone(f"torchvision/{name}", bands, stem)
        else:
            backbone, width = backbones.build_backbone(name, bands, stem)
    encoder = Encoder(name, backbone, bands=bands, stem=stem, embedding_dim=width)
    set_normalization(
        encoder, encoder.mean if mean is None else mean, encoder.std if std is None else std
    )
    return encoder


def check_encoder_name(name: str, argument: str = "name") -> None:
    """Check that `build_encoder` knows a name, as far as it can without timm.

    Args:
        name: of an encoder.
        argument: what a caller calls it.

    Raises:
        ValueError: it does not.
    """
    if name not in ENCODERS and not backbones.is_library_name(name):
        raise ValueError(
            f"`{argument}` must be one of {list(ENCODERS)}, or one of a library such as "
            f"'timm/convnext_tiny' or 'torchvision/swin_t', got {name!r}."
        )


def set_normalization(encoder: Encoder, mean: ArrayLike, std: ArrayLike) -> None:
    """Set the mean and std ``(C,)`` of an encoder in place.

    Raises:
        ValueError: another number of bands, a value that is not finite, or a std that is not > 0.
    """
    tensors = {}
    for name, values in (("mean", mean), ("std", std)):
        tensor = tensors[name] = torch.as_tensor(values, dtype=torch.float32)
        if tensor.shape != (encoder.bands,):
            raise ValueError(
                f"`{name}` must have one value for each of the encoder's {encoder.bands} bands, "
                f"got {tensor.tolist()}."
            )
        if not tensor.isfinite().all():
            raise ValueError(f"`{name}` must be finite, got {tensor.tolist()}.")
        if name == "std" and not (tensor > 0).all():
            raise ValueError(
                f"`std` must be > 0 in every band, got {tensor.tolist()}. Leave out constant bands."
            )
    encoder.mean.copy_(tensors["mean"])
    encoder.std.copy_(tensors["std"])


class _Block(nn.Module):
    """Two convolutions and a shortcut: ResNet's basic block with an average-pooled skip."""

    kernel, inner = 3, 1.0  # of the second convolution; width between the two / outputs

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        width = round(self.inner * outputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, outputs, self.kernel, 1, self.kernel // 2, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)  # BatchNorm's gradient needs its input
        y = self.norm2(self.conv2(y)).add_(self.norm3(self.skip(self.pool(x))))
        return F.relu(y, inplace=True)


class _TinyBlock(_Block):
    """The same, narrower inside, with a second convolution of 1x1."""

    kernel, inner = 1, 0.75


def _compact(block: type[_Block], bands: int, stem: str) -> tuple[nn.Module, int]:
    """Return an encoder for two cores; its stem has stride 2 (small) or 4 (standard)."""
    widths = _WIDTHS
    kernel, stride, padding = (4, 2, 1) if stem == "small" else (8, 4, 2)
    net = nn.Sequential(
        nn.Conv2d(bands, widths[0], kernel, stride, padding, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(inplace=True),
        *(block(inputs, outputs, 2) for inputs, outputs in pairwise(widths)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net, widths[-1]


@validated
def trainable_copy(encoder: Encoder, *, frozen: bool = False) -> Encoder:
    """Copy an encoder to tune it on a task, with BatchNorms over the batch of one process.

    Args:
        encoder: left as it is.
        frozen: switch the gradients of all parameters off instead of on.
    """
    copied = build_encoder(
        **encoder.config
    )  # the encoder's BatchNorms may be split or synchronized
    copied.load_state_dict(encoder.state_dict())
    copied.metadata = copy.deepcopy(encoder.metadata)
    copied.requires_grad_(not frozen).train(encoder.training)
    return copied.to(encoder.mean.device)


@validated
def has_correct_bf16_gradients(
    encoder: Encoder, size_px: PositiveInt, *, required: bool = False
) -> bool:
    """Return whether torch's bf16 gradients on a CPU are right for views of ``size_px``.

    Where a convolution with a stride gets a single pixel, oneDNN (in torch 2.14) leaves gradients
    of the taps that lie on padding unwritten: they are whatever the memory held before.

    Args:
        encoder: as it is before training.
        size_px: height and width of a view.
        required: raise an error when they are wrong.

    Raises:
        ValueError: they are required, and wrong.
    """
    bare, sizes = copy.deepcopy(encoder).to("meta").eval(), [size_px]
    for layer in bare.modules():
        if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1 and max(layer.kernel_size) > 1:
            layer.register_forward_pre_hook(lambda _, args: sizes.append(min(args[0].shape[2:])))
    bare(torch.empty(1, encoder.bands, size_px, size_px, device="meta"))
    correct = min(sizes) > 1
    if required and not correct:
        raise ValueError(
            f"Views of {size_px} px are too small for `precision='bf16'` on a CPU: torch's "
            "gradients are wrong where a convolution with a stride gets one pixel. Use "
            "precision='fp32' or larger views."
        )
    return correct


advise(Encoder, "Load one with geossl.models.load(path).")
