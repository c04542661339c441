"""What a reader hands to the chip store."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Pixels:
    """Chips of some rows of a scene table, in the order of the rows.

    Attributes:
        chips: ``(M, C, H, W)`` uint8 or uint16.
        valid: ``(M, H, W)`` bool, False where a pixel holds no data; None when all hold data.
        extra: further columns of the scene table known only after decoding, each ``(M,)``.
        bad: position in the rows -> one sentence why it could not be read; its chip is zero.
    """

    chips: np.ndarray
    valid: np.ndarray | None = None
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
