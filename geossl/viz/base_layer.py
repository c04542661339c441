"""The world under maps: the Blue Marble, paled, with a sea on which points stand out."""

from __future__ import annotations

import numpy as np

_SEA = (214, 228, 236)
CREDIT = "Base layer: NASA Blue Marble; coasts: GSHHG"


def pale(world: np.ndarray) -> np.ndarray:
    """Return a part of the Blue Marble ``(H, W, 3)``, 0 to 255, as uint8 to draw on."""
    world = world.astype(np.float32)
    bright = world.mean(2, keepdims=True)
    blue = world[..., 2:] - world[..., :1]
    water = np.clip(blue / 20, 0, 1) * np.clip((120 - bright) / 50, 0, 1)
    land = 255 - (255 - world) * 0.7
    return (land * (1 - water) + np.array(_SEA) * water).astype(np.uint8)
