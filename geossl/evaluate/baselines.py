"""Baselines to compare a trained encoder with: an untrained one, and hand-made features."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from geossl import models
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, embed
from geossl.evaluate.linear import linear
from geossl.evaluate.results import ProbeResult
from geossl.models.encoder import Stem
from geossl.utils.validate import PositiveInt, Seed, validated


@validated
def random_features(
    store: ChipStore,
    *,
    name: str = "tiny",
    stem: Stem = "small",
    seed: Seed = 0,
) -> Embeddings:
    """Embed a store by an untrained encoder: the baseline that belongs in every table.

    Args:
        store: the chips; their statistics normalize them, as they do for a trained encoder.
        name: architecture, see `geossl.models.build_encoder`; take that of the trained one.
        stem: likewise.
        seed: of the weights.
    """
    mean, std = store.mean.tolist(), store.std.tolist()
    encoder = models.build_encoder(
        name, bands=len(store.bands), stem=stem, mean=mean, std=std, seed=seed
    )
    return embed(store, encoder)


@validated
def hog(store: ChipStore, *, cell_px: PositiveInt = 8) -> Embeddings:
    """Compute histograms of oriented gradients of the mean of all bands: nothing is learned.

    Args:
        store: the chips.
        cell_px: side of a cell; half a chip when that is smaller. Blocks are of 2 x 2 cells.

    Raises:
        ImportError: scikit-image is not installed.

    Source:
        Dalal and Triggs, CVPR 2005, by scikit-image.
    """
    try:
        from skimage import feature
    except ImportError:
        raise ImportError("hog() needs scikit-image. Run: pip install scikit-image") from None

    cell = max(1, min(cell_px, store.size_px // 2))
    vectors = [
        feature.hog(chip.mean(0), pixels_per_cell=(cell, cell), cells_per_block=(2, 2))
        for chip in store.chips
    ]
    return Embeddings(np.stack(vectors).astype(np.float32), store.scenes)


@validated
def compare(
    methods: Mapping[str, Embeddings | ProbeResult],
    *,
    measure: Callable[[Embeddings], ProbeResult] = linear,
) -> pd.DataFrame:
    """Tabulate several methods, in their order.

    Args:
        methods: name -> embeddings to measure, or a finished result; include `random_features`.
        measure: e.g. `knn`, or ``lambda e: linear(e, label="climate")``.

    Returns:
        One row per method: method, metric, value, low, high, chance, n_train, n_test.
    """
    columns = ("metric", "value", "low", "high", "chance", "n_train", "n_test")
    rows = []
    for method, item in methods.items():
        result = item if isinstance(item, ProbeResult) else measure(item)
        rows.append({"method": method} | {name: getattr(result, name) for name in columns})
    return pd.DataFrame(rows, columns=["method", *columns])
