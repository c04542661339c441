"""Cut boxes out of images and resize them without aliasing, a box of its own for each image."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["resample"]


def resample(images: Tensor, center: Tensor, extent: Tensor, size: int) -> Tensor:
    """Resize a box of each image to a square by a triangle filter as wide as a pixel of the result.

    The same as to crop and then to resize by torchvision or Pillow with antialiasing, for boxes
    that may begin and end between pixels; pixels outside a box do not count.

    Args:
        images: ``(N, C, H, W)``.
        center: ``(N, 2)`` of the boxes, x and y, from -1 at one edge of the image to 1 at the
            other.
        extent: ``(N, 2)`` half of their width and height likewise; a negative one mirrors.
        size: S, height and width of the result.

    Returns:
        ``(N, C, S, S)`` float32.
    """
    down = _weights(center[:, 1], extent[:, 1], images.shape[2], size)  # (N, S, H)
    along = _weights(center[:, 0], extent[:, 0], images.shape[3], size)  # (N, S, W)
    return down[:, None] @ images.float() @ along.mT[:, None]


def _weights(center: Tensor, extent: Tensor, pixels: int, size: int) -> Tensor:
    """Return ``(N, size, pixels)``, the share of each pixel in each of the result."""
    places = (2 * torch.arange(size, device=center.device) + 1) / size - 1
    middle = (center[:, None] + extent[:, None] * places + 1) * (pixels / 2)  # (N, size) in pixels
    length = extent.abs() * pixels  # (N,)
    reach = (length / size).clamp(min=1)[:, None, None]
    pixel = torch.arange(pixels, device=center.device) + 0.5
    weights = (1 - (pixel - middle[..., None]).abs() / reach).clamp(min=0)  # (N, size, pixels)
    from_center = (pixel - (center[:, None] + 1) * (pixels / 2)).abs()  # (N, pixels)
    inside = from_center < length[:, None] / 2 + 0.5 - 1e-4  # and those that the edge cuts
    weights = weights * inside[:, None]
    return weights / weights.sum(2, keepdim=True).clamp(min=1e-6)
