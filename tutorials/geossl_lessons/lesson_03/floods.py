"""Simulated floods, which come and go between the dates of lesson 03."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from geossl.data.store import ChipStore

COLUMN = "flooded"
_WATER = (0.10, 0.16, 0.24)  # share of full brightness in red, green, blue
_COVER = (0.15, 0.35)  # share of a chip that a flood covers, (smallest, largest)
_LIGHT = (0.7, 1.3)  # how bright the water is, (smallest, largest)
_CELLS = 4  # a side, of the rough field whose lowest part is under water


def paint(store: ChipStore) -> ChipStore:
    """Paint a flood on the chips whose row says so in the column ``flooded``; in memory."""
    return dataclasses.replace(store, chips=paint_chips(np.asarray(store.chips), store.scenes))


def paint_chips(chips: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
    """Paint floods on chips ``(N, 3, S, S)`` uint8, of any size S, and return a copy.

    The shape of a flood depends on location and time alone: a row gets the same one at every size.

    Raises:
        ValueError: other chips than uint8 in three bands.
    """
    if chips.dtype != np.uint8 or chips.shape[1] != 3:
        raise ValueError(
            f"`chips` must be uint8 in three bands, got {chips.dtype} in {chips.shape[1]}."
        )
    wet, chips = np.flatnonzero(rows[COLUMN]), chips.copy()
    if not len(wet):
        return chips
    names = [f"{place} {time}" for place, time in zip(rows["location"], rows["time"], strict=True)]
    generators = [np.random.default_rng(zlib.crc32(names[i].encode())) for i in wet]
    uniform = np.array([rng.random(2) for rng in generators])  # of cover and light
    rough = np.stack([rng.standard_normal((1, _CELLS, _CELLS), np.float32) for rng in generators])
    size = chips.shape[2:]
    height = F.interpolate(torch.from_numpy(rough), size, mode="bicubic", align_corners=True)
    rank = height.flatten(1).argsort(1).argsort(1).float() / height[0].numel()
    cover, light = (
        torch.from_numpy(low + (high - low) * u).float()
        for (low, high), u in zip((_COVER, _LIGHT), uniform.T, strict=True)
    )
    alpha = ((cover[:, None] - rank) / 0.05).clamp(0, 1).unflatten(1, size)[:, None]  # (F, 1, S, S)
    water = 255 * light[:, None, None, None] * torch.tensor(_WATER)[:, None, None]  # (F, 3, 1, 1)
    dry = torch.from_numpy(chips[wet]).float()
    chips[wet] = (dry + alpha * (water - dry) + 0.5).clamp(0, 255).byte().numpy()
    return chips
