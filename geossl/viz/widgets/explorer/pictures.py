"""Chips as small files for a browser, and the words under them."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from PIL import Image

from geossl.data.store import ChipStore
from geossl.viz.pages import SHOWN_PX, date_text


def encode_chips(
    store: ChipStore,
    rows: np.ndarray,
    *,
    min_px: int = SHOWN_PX,
    size_px: int | None = None,
    quality: int = 85,
    effort: int = 0,
) -> list[bytes]:
    """Encode chips as WebP, whose small files have hardly a header.

    Args:
        store: the chips.
        rows: of the store.
        min_px: of chips that can be computed in any size, see `ChipStore.preview`.
        size_px: largest width and height; as `ChipStore.preview` gives them when None.
        quality: 1 to 100.
        effort: 0 to 6; more makes files smaller.
    """
    encoded = []
    for start in range(0, len(rows), 256):
        for chip in store.preview(rows[start : start + 256], min_px=min_px):
            picture, file = Image.fromarray(chip), io.BytesIO()
            if size_px is not None:
                picture.thumbnail((size_px, size_px), Image.Resampling.BOX)
            picture.save(file, "WEBP", quality=quality, method=effort)
            encoded.append(file.getvalue())
    return encoded


def describe(scenes: pd.DataFrame, label: str) -> list[str]:
    """Return what each row shows in words: its location, date and label."""
    words = []
    has_label = label in scenes
    for place, time, name in zip(
        scenes["location"], scenes["time"], scenes[label] if has_label else scenes["time"],
        strict=True,
    ):  # fmt: skip
        parts = [f"location {place}", date_text(time)]
        if has_label and pd.notna(name):
            parts.append(str(name))
        words.append(", ".join(parts))
    return words
