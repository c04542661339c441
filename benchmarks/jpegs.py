"""The usual way to load images: JPEGs, PIL, torchvision's transforms and a Dataset of pairs."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms


class Pairs(Dataset):
    """One view each of two files of a location."""

    def __init__(self, paths: list[str], view: Callable[[Any], Tensor], count: int):
        self.paths, self.view, self.count = paths, view, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        first = 2 * index % len(self.paths)
        images = []
        for path in self.paths[first : first + 2]:
            with Image.open(path) as file:
                images.append(self.view(file.convert("RGB")))
        return images[0], images[1]


def make_transform(side: int) -> Callable[[Any], Tensor]:
    """Return the paper's augmentation of a PIL image, to views of ``side`` px."""
    return transforms.Compose([
        transforms.RandomResizedCrop(side, scale=(0.08, 1.0)),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.RandomApply([_blur], p=0.5),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip


def _blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2)))


def write_jpegs(folder: Path, count: int, *, size_px: int) -> list[str]:
    """Write smooth JPEGs with some grain, quality 90, and return their paths."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))
        smooth = np.asarray(coarse.resize((size_px, size_px), Image.Resampling.BICUBIC))
        grain = rng.integers(-12, 12, (size_px, size_px, 1))
        pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        paths.append(str(folder / f"{i}.jpg"))
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths
