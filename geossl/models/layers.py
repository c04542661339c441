"""Normalize the parts of a batch apart, on one device or over several processes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl.utils.validate import PositiveInt, validated


class SplitBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over parts of a batch, as if each part lay on a device of its own.

    On one device the statistics of the batch let the query encoder recognize the batch that its key
    came from. Normalizing parts apart, with the keys shuffled among them, prevents that.

    Attributes:
        splits: number of parts.

    Source:
        The shuffling BN of MoCo, arXiv 1911.05722, section 3.3, without the devices.
    """

    splits: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``(N, C, H, W)``; the last part may be smaller."""
        if not self.training or self.splits == 1:
            return super().forward(x)
        return torch.cat([super(SplitBatchNorm2d, self).forward(p) for p in x.chunk(self.splits)])


@validated
def split_batchnorm(module: nn.Module, splits: PositiveInt) -> nn.Module:
    """Replace every BatchNorm2d of a module by one that normalizes parts of the batch.

    Args:
        module: changed in place; parameters and buffers stay the same tensors.
        splits: number of parts.

    Returns:
        The module, or its replacement if it is a BatchNorm2d itself.

    Raises:
        ValueError: one is of another kind, such as timm's with an activation.
    """
    if isinstance(module, nn.BatchNorm2d) and splits > 1:
        if type(module) not in (nn.BatchNorm2d, SplitBatchNorm2d):
            raise ValueError(
                f"`bn_splits` must be 1 for an encoder with {type(module).__name__}, got {splits}."
            )
        norm = SplitBatchNorm2d(module.num_features, module.eps, module.momentum, module.affine)
        norm.splits = splits
        norm.weight, norm.bias = module.weight, module.bias
        for name, buffer in module.named_buffers():
            norm.register_buffer(name, buffer)
        return norm.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, split_batchnorm(child, splits))
    return module


def check_cells(size_px: int, grid: int, stem: str) -> int:
    """Return the size of chips that can be cut into cells an encoder's stem can take.

    Raises:
        ValueError: they cannot.
    """
    smallest = 2 if stem == "small" else 4
    if size_px % grid:
        raise ValueError(f"`grid` must divide the {size_px} px of the chips, got {grid}.")
    if size_px // grid < smallest:
        raise ValueError(
            f"`size_px` / `grid` must be >= {smallest} px for this encoder, got {size_px} / {grid}."
        )
    return size_px


def cut_cells(chips: Tensor, grid: int) -> Tensor:
    """Cut chips ``(N, C, S, S)`` into cells ``(N * grid * grid, C, S / grid, S / grid)``."""
    side = chips.shape[-1] // grid
    cells = chips.unfold(2, side, side).unfold(3, side, side)  # (N, C, grid, grid, side, side)
    return cells.permute(0, 2, 3, 1, 4, 5).reshape(-1, chips.shape[1], side, side)


def resize(chips: Tensor, size_px: int) -> Tensor:
    """Resize chips ``(N, C, S, S)`` to ``(N, C, size_px, size_px)``, bilinear and antialiased."""
    if size_px == chips.shape[-1]:
        return chips
    return F.interpolate(chips.float(), size_px, mode="bilinear", antialias=True)
