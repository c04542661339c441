"""From a folder of one's own to what the explorer shows: chips, and their embeddings."""

from __future__ import annotations

import copy
import hashlib
import os
from pathlib import Path

import numpy as np
import torch

from geossl.data.store import ChipStore
from geossl.datasets import open_scenes
from geossl.embeddings import Embeddings, embed
from geossl.models.bands import fit_bands, with_bands
from geossl.models.encoder import Encoder
from geossl.utils.validate import PositiveInt, validated


@validated
def embed_source(
    source: str | os.PathLike[str],
    *,
    encoder: Encoder,
    folder: str | os.PathLike[str] = "runs/explore",
    size_px: PositiveInt = 64,
) -> tuple[ChipStore, Embeddings, Encoder]:
    """Open or build the chips of a source, and embed them; what was made before is reused.

    An encoder that does not know the names of the store's bands reads its natural color; values
    other than bytes are normalized by the store's own mean and deviation.

    Args:
        source: what `geossl.datasets.open_scenes` opens, or a chip store.
        encoder: that embeds them.
        folder: for the chips that have to be made.
        size_px: height and width of a chip.

    Returns:
        The store, its embeddings, and the encoder as it fits the store.

    Raises:
        DatasetError, ValueError: the source cannot be opened, or has no images.
    """
    path = Path(source)
    if (path / "store.json").is_file():
        store = ChipStore.open(path)
    else:
        scenes = open_scenes(source)
        key = hashlib.sha256(f"{path.resolve()} {size_px}".encode()).hexdigest()[:8]
        store = ChipStore.build(Path(folder) / f"chips_{key}", scenes, size_px=size_px)
    encoder = _fit(encoder, store)
    return store, embed(store, encoder, progress=True), encoder


def _fit(encoder: Encoder, store: ChipStore) -> Encoder:
    try:
        fitted = fit_bands(encoder, store.bands, mean=store.mean, std=store.std)
    except ValueError:
        colors = [store.bands[i] for i in store.rgb]
        if len(colors) != encoder.bands:
            raise
        fitted = with_bands(encoder, store.bands, reads=colors)
    if store.dtype == "uint8" or len(fitted.mean.flatten()) != len(store.bands):
        return fitted
    fitted = copy.deepcopy(fitted)
    for buffer, values in ((fitted.mean, store.mean), (fitted.std, store.std)):
        buffer.copy_(torch.from_numpy(np.asarray(values, np.float32)).view_as(buffer))
    return fitted
