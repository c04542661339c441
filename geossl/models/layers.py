"""Layers that compute what torch's do, otherwise: in parts, across processes, sooner on a CPU.

Shapes: N images, C channels in and O out, H x W pixels in and L out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from geossl.utils import dist

_FEW = 9  # pixels


def quick_on_a_cpu(net: nn.Module) -> nn.Module:
    """Give the convolutions and max-poolings of a network their quick forms; in place."""
    for child in net.modules():
        if type(child) is nn.MaxPool2d and not child.return_indices:
            child.__class__ = QuickMaxPool2d
        elif type(child) is nn.Conv2d and _is_plain(child):
            child.__class__ = QuickConv2d
    return net


def _is_plain(layer: nn.Conv2d) -> bool:
    numbers = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return numbers and layer.bias is None and layer.groups == 1 and layer.dilation == (1, 1)


def _is_recorded() -> bool:
    """Whether a compiler or an exporter looks on, which knows better or wants the plain form."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


class QuickMaxPool2d(nn.MaxPool2d):
    """The same numbers and gradients, found three times as fast on a CPU.

    There torch pools one channel after another, or many at once where the channels lie last.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> its pooled form."""
        if x.device.type != "cpu" or not x.is_contiguous() or _is_recorded():
            return super().forward(x)
        with torch.no_grad():
            found, index = F.max_pool2d(
                x.contiguous(memory_format=torch.channels_last),
                self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
                return_indices=True,
            )  # fmt: skip
        if not (x.requires_grad and torch.is_grad_enabled()):
            return found.contiguous()
        return x.flatten(2).gather(2, index.flatten(2)).view_as(found)


class QuickConv2d(nn.Conv2d):
    """The same numbers; on a CPU their gradients come sooner where few pixels come out.

    The last layers of a ResNet have many channels and, of small chips, a few pixels. For the
    gradient of 3 x 3 x 512 x 512 weights by 64 images of 2 x 2 pixels oneDNN takes 27 ms, a product
    of matrices 12. Gradients differ by rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, O, ...)``."""
        learns = torch.is_grad_enabled() and self.weight.requires_grad and x.is_contiguous()
        here = x.device.type == "cpu" and x.dtype == torch.float32
        plain = not (learns and here) or torch.is_autocast_enabled("cpu") or _is_recorded()
        if plain or self._pixels(x) > _FEW:
            return super().forward(x)
        return _ByProducts.apply(x, self.weight, self.stride, self.padding)

    def _pixels(self, x: Tensor) -> int:
        """How many pixels of an image come out."""
        padding: Any = self.padding  # numbers, see `quick_on_a_cpu`
        sizes = zip(x.shape[2:], padding, self.kernel_size, self.stride, strict=True)
        return math.prod((size + 2 * edge - k) // step + 1 for size, edge, k, step in sizes)


class _ByProducts(torch.autograd.Function):
    """A convolution whose gradients are products of matrices."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, stride: Any, padding: Any) -> Tensor:
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, weight, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        flat = slope.transpose(0, 1).flatten(1)  # (O, N * L)
        of_x = of_weight = None
        if ctx.needs_input_grad[0] and max(ctx.stride) > 1:
            parts = (weight.flatten(1).T @ flat).unflatten(1, (len(x), -1)).transpose(0, 1)
            of_x = F.fold(
                parts, x.shape[2:], weight.shape[2:], padding=ctx.padding, stride=ctx.stride
            )
        elif ctx.needs_input_grad[0]:
            of_x = conv2d_input(x.shape, weight, slope, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            of_weight = (flat @ _windows(x, weight, ctx.stride, ctx.padding)).view_as(weight)
        return of_x, of_weight, None, None


def _windows(x: Tensor, weight: Tensor, stride: Any, padding: Any) -> Tensor:
    """What of ``(N, C, H, W)`` each output pixel sees: ``(N * L, C * kernel pixels)``."""
    (high, wide), (down, along) = weight.shape[2:], padding
    x = F.pad(x, (along, along, down, down))
    seen = x.unfold(2, high, stride[0]).unfold(3, wide, stride[1])  # (N, C, h, w, high, wide)
    return seen.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)


class SplitBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over parts of the batch, as if each part lay on a device of its own.

    On one device the statistics of a whole batch let the query encoder recognize the batch its key
    came from. Normalizing parts, with the keys shuffled, is the remedy on one device.

    Attributes:
        splits: parts of this process's batch.
        sharing: processes beside each other whose batches are one part.

    Source:
        The shuffling BN of MoCo, arXiv 1911.05722, section 3.3, with or without the devices.
    """

    splits: int = 1
    sharing: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> the same; the last part may be smaller."""
        if self.training and self.sharing > 1:
            return self._shared(x)
        if not self.training or self.splits == 1:
            return super().forward(x)
        return torch.cat([super(SplitBatchNorm2d, self).forward(p) for p in x.chunk(self.splits)])

    def _shared(self, x: Tensor) -> Tensor:
        """Normalize by the statistics of several processes, each with as many images."""
        assert self.running_mean is not None and self.running_var is not None
        own = x.to(self.running_mean.dtype)
        own_var, own_mean = torch.var_mean(own, (0, 2, 3), correction=0)
        stats = dist.neighbors(torch.stack([own_mean, own_var]), self.sharing)  # (R, 2, C)
        mean = stats[:, 0].mean(0)
        var = stats[:, 1].mean(0) + (stats[:, 0] - mean).square().mean(0)
        with torch.no_grad():
            count = x.numel() // len(mean) * self.sharing
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(var * (count / (count - 1)), self.momentum or 0.0)
        scale = self.weight * (var + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


def split_batchnorm(module: nn.Module, splits: int, *, sharing: int = 1) -> nn.Module:
    """Make every BatchNorm2d of ``module`` normalize parts of the batch; in place.

    Args:
        module: holds them.
        splits: parts of this process's batch.
        sharing: processes beside each other whose batches are one part; then ``splits`` is 1.
    """
    if sharing > 1:
        dist.group_up(sharing)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.__class__ = SplitBatchNorm2d
            setattr(child, "splits", splits)  # noqa: B010 (the class has just changed)
            setattr(child, "sharing", sharing)  # noqa: B010
    return module
