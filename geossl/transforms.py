"""Augmentation: batched views on the device, one independent draw per image.

The whole batch is cropped, flipped and turned by one ``grid_sample``, colored and normalized by
one matrix per image, and blurred by two matrices per image. No loop over samples, no host sync.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.utils.dist import to_device

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_DRAWS = 16  # uniform numbers an image gets, besides two per band
_SAMPLING: dict[str, Any] = {"mode": "bilinear", "padding_mode": "border", "align_corners": False}
_PART = 2**18  # numbers of chips that a CPU turns to floats at a time, to crop them from its cache


@dataclass(frozen=True)
class Views:
    """How an augmented view of a chip is drawn.

    Args:
        size_px: height and width of a view; None keeps the chip's.
        crop: share of the chip's area that a crop covers, (smallest, largest).
        ratio: width over height of a crop, (smallest, largest).
        flip: probability of a left-right flip.
        dihedral: turn by a random multiple of 90 degrees and flip: overhead images have no up.
        jitter: probability of the color jitter.
        brightness: gains are drawn from ``1 -+ brightness``.
        contrast: likewise, about the view's own mean.
        saturation: likewise; three bands (RGB) only.
        hue: largest turn of the hue, in turns (0.5 = half the circle); three bands only.
        band_gain: each band's own gain from ``1 -+ band_gain``; 0 in the source.
        band_offset: each band's own offset in ``-+ band_offset`` times its spread; 0 in the source.
        grayscale: probability of a view without color; three bands only.
        blur: probability of a Gaussian blur.
        blur_sigma_px: its spread, (smallest, largest).

    Source:
        The defaults are moderate ones for small overhead chips, chosen on the val split of
        `benchmarks/blue_marble.md`. MoCo-v2's own, arXiv 2003.04297,
        is `moco_v2`. Deviations: color operations have a fixed order and no clamping in between
        (so that they are one matrix), and exactly the share ``blur`` of a batch is blurred.
    """

    size_px: int | None = None
    crop: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    dihedral: bool = True
    jitter: float = 0.8
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.03
    band_gain: float = 0.0
    band_offset: float = 0.0
    grayscale: float = 0.0
    blur: float = 0.0
    blur_sigma_px: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(
                f"expected a crop range within (0, 1], smallest first; came {self.crop}"
            )
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"expected a ratio range > 0, smallest first; came {self.ratio}")
        if self.size_px is not None and self.size_px < 1:
            raise ValueError(f"expected size_px >= 1, came {self.size_px}")

    def __call__(
        self, chips: Tensor, *, mean: Tensor, std: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw one view of each chip.

        Args:
            chips: ``(N, C, H, W)`` of any real dtype, in the store's units.
            mean: ``(C,)`` of the bands, in the same units.
            std: ``(C,)`` likewise, > 0.
            generator: of the chips' device.

        Returns:
            ``(N, C, size_px, size_px)`` float32, normalized to about zero mean and unit spread.

        Raises:
            ValueError: the chips are not ``(N, C, H, W)``, or ``mean``/``std`` not ``(C,)``.
        """
        if chips.ndim != 4 or mean.shape != chips.shape[1:2] or std.shape != mean.shape:
            raise ValueError(
                "expected chips (N, C, H, W), mean (C,) and std (C,), came "
                f"{tuple(chips.shape)}, {tuple(mean.shape)} and {tuple(std.shape)}"
            )
        n, bands = chips.shape[:2]
        draws = torch.rand(n, _DRAWS + 2 * bands, generator=generator, device=chips.device)
        x = self._crop(chips, draws[:, :8])  # (N, C, S, S)
        x = self._blurred(x, draws[:, 8], generator) if self.blur > 0 else x
        return self._colored(x, draws[:, 9:], mean, std)

    def draw(self, count: int, bands: int, *, generator: torch.Generator) -> Tensor:
        """The random numbers of ``count`` views, a row each, which `see` turns into views.

        A row holds numbers of [0, 1); its last is 1 where the view is blurred, else 0. They lie on
        the generator's device: on the CPU, `see` need not wait for a GPU.
        """
        where = generator.device
        numbers = torch.rand(count, _DRAWS + 2 * bands, generator=generator, device=where)
        blurred = torch.zeros(count, 1, device=where)
        if self.blur > 0:
            blurred[self._chosen(count, generator)] = 1
        return torch.cat([numbers, blurred], 1)

    def see(self, chips: Tensor, draws: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
        """Views of chips by the rows of `draw`; arguments and result as those of a call."""
        there = to_device(draws, chips.device)
        x = self._crop(chips, there[:, :8])
        chosen = to_device(draws[:, -1].nonzero()[:, 0], chips.device)
        x = self._blur(x, there[:, 8], chosen) if len(chosen) else x
        return self._colored(x, there[:, 9:-1], mean, std)

    def _crop(self, chips: Tensor, u: Tensor) -> Tensor:
        """Crop, flip, turn and resize by one affine map per image; ``u`` is ``(N, 8)`` uniform."""
        size = self.size_px or chips.shape[2]
        area = self.crop[0] + u[:, 0] * (self.crop[1] - self.crop[0])
        low, high = (math.log(r) for r in self.ratio)
        shape = torch.exp(low + u[:, 1] * (high - low)).sqrt()
        wide = (area.sqrt() * shape).clamp(max=1)  # share of the chip's width
        tall = (area.sqrt() / shape).clamp(max=1)
        flip = torch.where(u[:, 4] < self.flip, -1.0, 1.0)
        if self.dihedral:
            quarter = (u[:, 5] * 4).floor() * (math.pi / 2)
            cos, sin = quarter.cos().round(), quarter.sin().round()
        else:
            cos, sin = torch.ones_like(flip), torch.zeros_like(flip)
        middle = (2 * u[:, 2:4] - 1) * (1 - torch.stack([wide, tall], 1))  # (N, 2)
        right = torch.stack(
            [wide * cos * flip, tall * sin * flip], 1
        )  # (N, 2) half a view to the right
        down = torch.stack([-wide * sin, tall * cos], 1)  # likewise down
        place = (2 * torch.arange(size, device=chips.device) + 1) / size - 1  # middles of pixels
        along = right[..., None] * place  # (N, 2, S)
        below = down[..., None] * place + middle[..., None]
        grid = (along[:, :, None] + below[..., None]).permute(0, 2, 3, 1)  # (N, S, S, 2)
        few = max(1, _PART // chips[0].numel()) if chips.device.type == "cpu" else len(chips)
        parts = zip(chips.split(few), grid.split(few), strict=True)
        views = [F.grid_sample(c.float(), g, **_SAMPLING) for c, g in parts]
        return torch.cat(views) if len(views) > 1 else views[0]

    def _colored(self, x: Tensor, u: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        matrix, offset = self._color(x, u, mean, std)  # (N, C, C), (N, C, 1)
        return torch.baddbmm(offset, matrix, x.flatten(2)).unflatten(2, x.shape[2:])

    def _color(self, x: Tensor, u: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Color jitter, gray and normalization as one matrix and one offset per image."""
        n, bands = x.shape[:2]
        on = (u[:, 0] < self.jitter).float()

        def gain(column: int, strength: float) -> Tensor:
            return 1 + on * strength * (2 * u[:, column] - 1)

        brightness, contrast = gain(1, self.brightness), gain(2, self.contrast)
        own = 1 + on[:, None] * self.band_gain * (2 * u[:, 7 : 7 + bands] - 1)  # (N, C)
        shift = on[:, None] * self.band_offset * (2 * u[:, 7 + bands : 7 + 2 * bands] - 1) * std
        matrix = torch.diag_embed(own * brightness[:, None])  # (N, C, C)
        level = (matrix @ x.mean((2, 3))[:, :, None])[:, :, 0]  # (N, C) mean of the brightened view
        if bands == 3:
            luma = _constants(x.device)[0]
            middle = (level @ luma)[:, None].expand(-1, 3)  # contrast is about the mean gray
            gray = (u[:, 5] < self.grayscale).float()
            saturation = gain(3, self.saturation) * (1 - gray)
            color = saturation[:, None, None] * torch.eye(3, device=x.device)
            color = color + (1 - saturation)[:, None, None] * luma.expand(3, 3)
            color = color @ _hue_rotation(on * self.hue * (2 * u[:, 4] - 1))
        else:
            middle = level
            color = torch.eye(bands, device=x.device).expand(n, bands, bands)
        matrix = color @ (matrix * contrast[:, None, None])
        offset = (color @ ((1 - contrast)[:, None] * middle + shift)[:, :, None])[:, :, 0]
        return matrix / std[:, None], ((offset - mean) / std)[:, :, None]

    def _chosen(self, count: int, generator: torch.Generator) -> Tensor:
        """Which views are blurred: exactly the share ``blur`` of them."""
        order = torch.randperm(count, generator=generator, device=generator.device)
        return order[: round(self.blur * count)]

    def _blurred(self, x: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        chosen = self._chosen(len(x), generator)
        return self._blur(x, u, chosen) if len(chosen) else x

    def _blur(self, x: Tensor, u: Tensor, chosen: Tensor) -> Tensor:
        """Blur some of the views, each with its own sigma; in place."""
        height, width = x.shape[2:]
        low, high = self.blur_sigma_px
        sigma = low + u[chosen] * (high - low)  # (M,)
        radius = min(math.ceil(2 * high), (min(height, width) - 1))
        taps = torch.arange(-radius, radius + 1, device=x.device)
        kernel = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)  # (M, T)
        kernel = kernel / kernel.sum(1, keepdim=True)
        down, along = (
            (kernel @ _taps(size, radius, x.device)).unflatten(1, (size, size))
            for size in (height, width)
        )  # (M, H, H) and (M, W, W)
        rows = torch.bmm(x[chosen].flatten(1, 2), along.mT).unflatten(1, (-1, height))
        return x.index_copy_(0, chosen, torch.stack([down @ b for b in rows.unbind(1)], 1))


@cache
def _taps(size: int, radius: int, device: torch.device) -> Tensor:
    """``(T, size * size)``: 1 where a tap of row i's kernel falls on row j; edges mirror."""
    with torch.inference_mode(False):
        row = torch.arange(size)
        found = torch.zeros(2 * radius + 1, size, size)
        for tap, shift in zip(found, range(-radius, radius + 1), strict=True):
            there = (row + shift).abs()
            tap[row, torch.where(there < size, there, 2 * (size - 1) - there)] = 1
        return found.flatten(1).to(device)


def _hue_rotation(turns: Tensor) -> Tensor:
    """``(N, 3, 3)`` matrices that turn the hue by ``(N,)`` turns at constant luma (in YIQ)."""
    _, to_yiq, to_rgb = _constants(turns.device)
    angle = turns * (2 * math.pi)
    turn = torch.zeros(len(turns), 3, 3, device=turns.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 2, 1] = angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    return to_rgb @ turn @ to_yiq


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Luma ``(3,)``, RGB to YIQ and back ``(3, 3)``; kept, as making them waits for a GPU."""
    with torch.inference_mode(False):  # whoever comes first
        to_yiq = torch.tensor(_RGB_TO_YIQ)
        to_rgb = torch.linalg.inv(to_yiq)
        return torch.tensor(_LUMA).to(device), to_yiq.to(device), to_rgb.to(device)


def moco_v2(size_px: int | None = None, *, crop: tuple[float, float] = (0.2, 1.0)) -> Views:
    """MoCo-v2's augmentation.

    Args:
        size_px: of the views; None keeps the chips'. The blur's sigma, 0.1 to 2 px for views of
            224 px in the source, is left in pixels.
        crop: (0.2, 1) as in MoCo-v2; the paper's temporal runs use (0.08, 1).

    Source:
        MoCo-v2, arXiv 2003.04297; arXiv 2011.09980 for the second crop range.
    """
    return Views(
        size_px=size_px, crop=crop, dihedral=False, brightness=0.4, contrast=0.4, saturation=0.4,
        hue=0.1, grayscale=0.2, blur=0.5,
    )  # fmt: skip
