"""Batch normalization over parts of a batch, or over several processes.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geossl.utils import dist


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
