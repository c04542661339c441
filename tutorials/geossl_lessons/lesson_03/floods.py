"""Simulated floods, which come and go between the dates of lesson 03."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Interval

from geossl.data.store import ChipStore
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import Seed, validated

COLUMN, FLOODED, DRY = "flood", "flooded", "dry"
_WATER = (0.10, 0.16, 0.24)  # share of full brightness in red, green, blue
_COVER = (0.15, 0.35)  # share of a chip that a flood covers, (smallest, largest)


@validated
def add_floods(
    store: ChipStore, *, share: Annotated[float, Interval(gt=0, lt=1)] = 0.5, seed: Seed = 0
) -> ChipStore:
    """Paint simulated floods on a share of the chips, independently for every date.

    Returns:
        A store in memory whose table has a column ``flood``: "flooded" or "dry".

    Raises:
        ValueError: other chips than uint8 in three bands.
    """
    if store.dtype != "uint8" or len(store.bands) != 3:
        raise ValueError(
            f"`store` must have chips of uint8 in three bands, got {store.dtype}, {store.bands}."
        )
    rng = np.random.default_rng(derive_seed(seed, "floods"))
    wet = np.flatnonzero(rng.permutation(len(store)) < round(share * len(store)))
    fields = torch.from_numpy(rng.standard_normal((len(wet), 1, 4, 4), np.float32))
    size = (store.size_px, store.size_px)
    smooth = F.interpolate(fields, size, mode="bicubic", align_corners=True)[:, 0].flatten(1)
    rank = smooth.argsort(1).argsort(1).float() / smooth.shape[1]
    cover = torch.from_numpy(rng.uniform(*_COVER, (len(wet), 1)).astype(np.float32))
    alpha = ((rank - 1 + cover) / 0.05).clamp(0, 1).unflatten(1, size)[:, None]  # (F, 1, H, W)
    light = torch.from_numpy(rng.uniform(0.7, 1.3, (len(wet), 1, 1, 1)).astype(np.float32))
    water = 255 * light * torch.tensor(_WATER)[:, None, None]  # (F, 3, 1, 1)
    chips = np.array(store.chips)
    dry = torch.from_numpy(chips[wet]).float()
    chips[wet] = (dry * (1 - alpha) + water * alpha + 0.5).clamp(0, 255).byte().numpy()
    flood = np.full(len(store), DRY, object)
    flood[wet] = FLOODED
    return dataclasses.replace(store, chips=chips, scenes=store.scenes.assign(**{COLUMN: flood}))
