"""What lesson 03 adds to the simulated dates: floods, which come and go between two of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F

from geossl.data.store import ChipStore
from geossl.utils.seeds import derive_seed

COLUMN, YES, NO = "flood", "flooded", "dry"
_WATER = (0.10, 0.16, 0.24)  # share of full brightness in red, green, blue
_COVER = (0.15, 0.35)  # share of a chip that a flood covers, (smallest, largest)


def flooded(store: ChipStore, *, share: float = 0.5, seed: int = 0) -> ChipStore:
    """The same chips with simulated floods on some of them, drawn apart for every date.

    Args:
        store: three bands, uint8; left as it is.
        share: of the chips that get a flood, in (0, 1).
        seed: of which, and of their outlines.

    Returns:
        A store in memory whose table has a column ``flood``: "flooded" or "dry".

    Raises:
        ValueError: other chips than uint8 in three bands, or a share outside (0, 1).
    """
    if store.dtype != "uint8" or len(store.bands) != 3 or not 0 < share < 1:
        raise ValueError(
            "expected a store of uint8 in three bands and a share in (0, 1), came "
            f"{store.dtype}, {store.bands} and {share}"
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
    named = np.full(len(store), NO, object)
    named[wet] = YES
    return dataclasses.replace(store, chips=chips, scenes=store.scenes.assign(**{COLUMN: named}))
