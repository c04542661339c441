"""Augment chips: batched views on their device, with independent random numbers for each image.

The batch is cropped, flipped and turned by one ``grid_sample``, colored and normalized by one
matrix per image, and blurred by two matrices per image. No loop over images, no host sync.

Shapes: N images, C bands, H x W pixels, S ``size_px``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor

from geossl.utils.dist import to_device
from geossl.utils.resample import resample
from geossl.utils.validate import (
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveFraction,
    PositiveInt,
    check_fields,
    validated,
)

__all__ = ["Views", "moco_v2"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_PARAMS = 16  # random numbers of an image, besides two per band
_TRIES = 10  # to draw a crop that fits, as in torchvision
_SAMPLING: dict[str, Any] = {"mode": "bilinear", "padding_mode": "border", "align_corners": False}
_PART = 2**18  # numbers of chips that a CPU converts to float at a time, to crop from its cache


@dataclass(frozen=True)
class Views:
    """Random views of chips: crop, flip, turn, color jitter, blur and normalization.

    Args:
        size_px: height and width of a view; None keeps the chip's.
        crop: area of the crop as a share of the chip's, (smallest, largest).
        ratio: width over height of a crop, (smallest, largest).
        redraw: draw the area and ratio of a crop that does not fit into the chip anew, up to ten
            times, as torchvision does; False cuts it to the chip, which makes crops larger.
        antialias: average over the pixels of a crop that shrinks, as torchvision does; False takes
            the nearest four.
        flip: probability of a left-right flip.
        dihedral: turn by a random multiple of 90 degrees too: overhead images have no up.
        jitter: probability of the color jitter.
        brightness: the factor is uniform in ``1 - brightness`` to ``1 + brightness``.
        contrast: likewise, about the view's own mean.
        saturation: likewise; three bands (RGB) only.
        hue: largest turn of the hue, in turns (0.5 is half the circle); three bands only.
        band_gain: a factor for each band, within ``1 -+ band_gain``; 0 in the source.
        band_offset: an offset for each band, within ``-+ band_offset`` times its standard
            deviation; 0 in the source.
        grayscale: probability of a gray view; three bands only.
        blur: probability of a Gaussian blur.
        blur_sigma_px: its standard deviation, (smallest, largest).

    Source:
        The defaults are moderate ones for small overhead chips, chosen on the val split of
        `benchmarks/few_labels.md`. MoCo-v2's own, arXiv 2003.04297, is `moco_v2`. Deviations:
        color operations have a fixed order and no clamping in between (so that they are one
        matrix), and exactly the share ``blur`` of a batch is blurred.

    Example:
        >>> chips, generator = torch.zeros(8, 3, 32, 32), torch.Generator().manual_seed(0)
        >>> views = Views(size_px=24)
        >>> views(chips, mean=torch.zeros(3), std=torch.ones(3), generator=generator).shape
        torch.Size([8, 3, 24, 24])
    """

    size_px: PositiveInt | None = None
    crop: tuple[PositiveFraction, PositiveFraction] = (0.5, 1.0)
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    redraw: bool = False
    antialias: bool = False
    flip: Fraction = 0.5
    dihedral: bool = True
    jitter: Fraction = 0.8
    brightness: Fraction = 0.2
    contrast: Fraction = 0.2
    saturation: Fraction = 0.2
    hue: Annotated[float, Interval(ge=0, le=0.5)] = 0.03
    band_gain: Fraction = 0.0
    band_offset: NonNegative = 0.0
    grayscale: Fraction = 0.0
    blur: Fraction = 0.0
    blur_sigma_px: tuple[Positive, Positive] = (0.1, 2.0)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("crop", "ratio", "blur_sigma_px"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"`{name}` must be (smallest, largest), got {(low, high)}.")

    @validated
    def __call__(
        self, chips: Tensor, *, mean: Tensor, std: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Make one random view of each chip.

        Args:
            chips: ``(N, C, H, W)`` of any real dtype, in the store's units.
            mean: ``(C,)`` of the bands, in the same units.
            std: ``(C,)`` likewise, > 0.
            generator: of the chips' device.

        Returns:
            ``(N, C, S, S)`` float32, normalized to about mean 0 and standard deviation 1.

        Raises:
            ValueError: the chips are not ``(N, C, H, W)``, or ``mean``/``std`` not ``(C,)``.
        """
        _check_shapes(chips, mean, std)
        n, bands = chips.shape[:2]
        uniform = torch.rand(n, self._params(bands), generator=generator, device=chips.device)
        return self._view(chips, uniform, self._choose_blurred(n, generator), mean, std)

    @validated
    def sample_params(
        self, count: NonNegativeInt, bands: PositiveInt, *, generator: torch.Generator
    ) -> Tensor:
        """Sample the random numbers of ``count`` views, a row each, for `apply`.

        A row holds numbers in [0, 1); its last is 1 if the view is blurred, else 0. They lie on
        the generator's device: if that is the CPU, `apply` need not wait for a GPU.
        """
        device = generator.device
        uniform = torch.rand(count, self._params(bands), generator=generator, device=device)
        blurred = torch.zeros(count, 1, device=device)
        blurred[self._choose_blurred(count, generator)] = 1
        return torch.cat([uniform, blurred], 1)

    @validated
    def apply(self, chips: Tensor, params: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
        """Make the views of chips that rows of `sample_params` describe; otherwise like a call."""
        _check_shapes(chips, mean, std)
        blurred = to_device(params[:, -1].nonzero()[:, 0], chips.device)
        return self._view(chips, to_device(params[:, :-1], chips.device), blurred, mean, std)

    def crops_only(self) -> Views:
        """Return the same without colors, blur, flips and turns."""
        return replace(self, flip=0, dihedral=False, jitter=0, grayscale=0, blur=0)

    def _params(self, bands: int) -> int:
        """Return how many random numbers a view needs; the last are those of further crops."""
        return _PARAMS + 2 * bands + 2 * (_TRIES - 1) * self.redraw

    def _view(
        self, chips: Tensor, uniform: Tensor, blurred: Tensor, mean: Tensor, std: Tensor
    ) -> Tensor:
        x = self._crop(chips, uniform)  # (N, C, S, S)
        if len(blurred):
            x = self._blur(x, uniform[:, 8], blurred)
        matrix, offset = self._color(x, uniform[:, 9:], mean, std)  # (N, C, C), (N, C, 1)
        return torch.baddbmm(offset, matrix, x.flatten(2)).unflatten(2, x.shape[2:])

    def _crop(self, chips: Tensor, uniform: Tensor) -> Tensor:
        """Crop, flip, turn and resize by one affine map per image."""
        size = self.size_px or chips.shape[2]
        width, height = self._draw_crop(uniform)  # shares of the chip's
        flip = torch.where(uniform[:, 4] < self.flip, -1.0, 1.0)
        angle = (uniform[:, 5] * 4).floor() * (math.pi / 2 * self.dihedral)
        cos, sin = angle.cos().round(), angle.sin().round()
        center = (2 * uniform[:, 2:4] - 1) * (1 - torch.stack([width, height], 1))  # (N, 2)
        if self.antialias:
            extent = torch.stack([width, height], 1)  # a flip of the view is one of the turned crop
            extent = torch.where(torch.stack([cos, sin], 1) != 0, extent * flip[:, None], extent)
            return _turn(resample(chips, center, extent, size), cos, sin)
        right = torch.stack([width * cos * flip, height * sin * flip], 1)  # (N, 2) to the edge
        down = torch.stack([-width * sin, height * cos], 1)  # (N, 2) likewise
        pixels = (2 * torch.arange(size, device=chips.device) + 1) / size - 1  # their centers
        x = right[..., None] * pixels  # (N, 2, S)
        y = down[..., None] * pixels + center[..., None]
        grid = (x[:, :, None] + y[..., None]).permute(0, 2, 3, 1)  # (N, S, S, 2)
        per_part = max(1, _PART // chips[0].numel()) if chips.device.type == "cpu" else len(chips)
        parts = zip(chips.split(per_part), grid.split(per_part), strict=True)
        views = [F.grid_sample(c.float(), g, **_SAMPLING) for c, g in parts]
        return torch.cat(views) if len(views) > 1 else views[0]

    def _draw_crop(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Return widths and heights ``(N,)``, as shares of the chip's."""
        low, high = (math.log(r) for r in self.ratio)
        further = uniform[:, -2 * (_TRIES - 1) :] if self.redraw else uniform[:, :0]
        drawn = torch.cat([uniform[:, :2], further], 1)  # (N, 2 * tries)
        area = self.crop[0] + drawn[:, ::2] * (self.crop[1] - self.crop[0])
        stretch = torch.exp(low + drawn[:, 1::2] * (high - low)).sqrt()
        sides = torch.stack([area.sqrt() * stretch, area.sqrt() / stretch])  # (2, N, tries)
        fits = (sides <= 1).all(0)
        first = fits.float().argmax(1)  # the first that fits, or 0
        width, height = sides[:, torch.arange(len(first), device=first.device), first].clamp(max=1)
        if self.redraw:  # where none fits, the largest crop that does
            none = ~fits.any(1)
            width = width.masked_fill(none, min(1.0, self.ratio[1]))
            height = height.masked_fill(none, min(1.0, 1 / self.ratio[0]))
        return width, height

    def _color(
        self, x: Tensor, uniform: Tensor, mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Combine color jitter, gray and normalization as a matrix and an offset per image."""
        n, bands = x.shape[:2]
        jittered = (uniform[:, 0] < self.jitter).float()
        signed = 2 * uniform - 1  # in [-1, 1)

        def factor(column: int, strength: float) -> Tensor:
            return 1 + jittered * strength * signed[:, column]

        brightness, contrast = factor(1, self.brightness), factor(2, self.contrast)
        gain = 1 + jittered[:, None] * self.band_gain * signed[:, 7 : 7 + bands]  # (N, C)
        shift = jittered[:, None] * self.band_offset * signed[:, 7 + bands : 7 + 2 * bands] * std
        matrix = torch.diag_embed(gain * brightness[:, None])  # (N, C, C)
        level = (matrix @ x.mean((2, 3))[:, :, None])[:, :, 0]  # (N, C) mean of the brightened view
        if bands == 3:
            luma = _constants(x.device)[0]
            middle = (level @ luma)[:, None].expand(-1, 3)  # contrast is about the mean gray
            gray = (uniform[:, 5] < self.grayscale).float()
            saturation = factor(3, self.saturation) * (1 - gray)
            color = saturation[:, None, None] * torch.eye(3, device=x.device)
            color = color + (1 - saturation)[:, None, None] * luma.expand(3, 3)
            color = color @ _hue_rotation(jittered * self.hue * signed[:, 4])
        else:
            middle = level
            color = torch.eye(bands, device=x.device).expand(n, bands, bands)
        matrix = color @ (matrix * contrast[:, None, None])
        offset = (color @ ((1 - contrast)[:, None] * middle + shift)[:, :, None])[:, :, 0]
        return matrix / std[:, None], ((offset - mean) / std)[:, :, None]

    def _choose_blurred(self, count: int, generator: torch.Generator) -> Tensor:
        """Choose exactly the share ``blur`` of some views."""
        if self.blur == 0:
            return torch.zeros(0, dtype=torch.long, device=generator.device)
        order = torch.randperm(count, generator=generator, device=generator.device)
        return order[: round(self.blur * count)]

    def _blur(self, x: Tensor, uniform: Tensor, rows: Tensor) -> Tensor:
        """Blur some of the views, each with its own sigma; in place."""
        height, width = x.shape[2:]
        low, high = self.blur_sigma_px
        sigma = low + uniform[rows] * (high - low)  # (M,)
        radius = min(math.ceil(2 * high), (min(height, width) - 1))
        taps = torch.arange(-radius, radius + 1, device=x.device)
        kernel = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)  # (M, T)
        kernel = kernel / kernel.sum(1, keepdim=True)
        down, along = (
            (kernel @ _taps(size, radius, x.device)).unflatten(1, (size, size))
            for size in (height, width)
        )  # (M, H, H) and (M, W, W)
        blurred = torch.bmm(x[rows].flatten(1, 2), along.mT).unflatten(1, (-1, height))
        return x.index_copy_(0, rows, torch.stack([down @ b for b in blurred.unbind(1)], 1))


@validated
def moco_v2(
    size_px: PositiveInt | None = None,
    *,
    crop: tuple[PositiveFraction, PositiveFraction] = (0.2, 1.0),
    antialias: bool = False,
) -> Views:
    """Return the augmentation of MoCo-v2.

    Args:
        size_px: of the views; None keeps the chips'. The blur's sigma, 0.1 to 2 px for views of
            224 px in the source, is left in pixels.
        crop: (0.2, 1) as in MoCo-v2; the paper's temporal runs use (0.08, 1).
        antialias: as in `Views` and in the source; on a CPU a view from 512 to 224 px takes five
            times as long with it.

    Source:
        MoCo-v2, arXiv 2003.04297; arXiv 2011.09980 for the second crop range.
    """
    return Views(
        size_px=size_px, crop=crop, redraw=True, antialias=antialias, dihedral=False,
        brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grayscale=0.2, blur=0.5,
    )  # fmt: skip


def _check_shapes(chips: Tensor, mean: Tensor, std: Tensor) -> None:
    if chips.ndim != 4:
        raise ValueError(f"`chips` must be (N, C, H, W), got shape {tuple(chips.shape)}.")
    for name, values in (("mean", mean), ("std", std)):
        if values.shape != chips.shape[1:2]:
            raise ValueError(
                f"`{name}` must have one value for each of the chips' {chips.shape[1]} bands, got "
                f"shape {tuple(values.shape)}."
            )


def _turn(views: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each of the square views ``(N, C, S, S)`` by the quarter turn of its cosine and sine."""
    turned = views
    for k, chosen in ((1, sin == 1), (2, cos == -1), (3, sin == -1)):
        turned = torch.where(chosen[:, None, None, None], views.rot90(k, (2, 3)), turned)
    return turned


@cache
def _taps(size: int, radius: int, device: torch.device) -> Tensor:
    """Return ``(T, size * size)``, 1 where a tap of row i's kernel is row j; edges mirror."""
    with torch.inference_mode(False):
        row = torch.arange(size)
        taps = torch.zeros(2 * radius + 1, size, size)
        for tap, shift in zip(taps, range(-radius, radius + 1), strict=True):
            source = (row + shift).abs()
            tap[row, torch.where(source < size, source, 2 * (size - 1) - source)] = 1
        return taps.flatten(1).to(device)


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return luma ``(3,)`` and ``(3, 3, 3)`` for `_hue_rotation`, once: copies wait for a GPU."""
    with torch.inference_mode(False):  # also when the first call is in inference mode
        luma, to_yiq = torch.tensor(_LUMA), torch.tensor(_RGB_TO_YIQ)
        to_rgb = torch.linalg.inv(to_yiq)
        turn = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # of I and Q, by a quarter
        parts = [to_rgb @ part @ to_yiq for part in (turn @ turn, turn)]
        hue = torch.stack([torch.eye(3) + parts[0], -parts[0], parts[1]])
        return luma.to(device), hue.to(device)


def _hue_rotation(turns: Tensor) -> Tensor:
    """Return ``(N, 3, 3)`` matrices that turn the hue by ``(N,)`` turns at constant luma (YIQ)."""
    angle = (turns * (2 * math.pi))[:, None, None]
    constant, cos, sin = _constants(turns.device)[1]
    # elementwise, so that a view does not depend on the size of its batch by rounding
    return constant + angle.cos() * cos + angle.sin() * sin
