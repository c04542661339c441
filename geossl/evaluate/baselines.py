"""What stands beside a trained encoder: an untrained one, a descriptor without learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from geossl import models
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, embed
from geossl.evaluate.linear import linear
from geossl.evaluate.results import ProbeResult


def random_features(
    store: ChipStore, *, name: str = "small", stem: str = "small", seed: int = 0
) -> Embeddings:
    """Embeddings of an untrained encoder: the baseline that stands in every table.

    Args:
        store: the chips; their statistics normalize them, as they do for a trained encoder.
        name: architecture, see `geossl.models.build_encoder`; take that of the trained one.
        stem: likewise.
        seed: of the weights.
    """
    encoder = models.build_encoder(
        name,
        bands=len(store.bands),
        stem=stem,
        mean=store.mean.tolist(),
        std=store.std.tolist(),
        seed=seed,
    )
    return embed(store, encoder)


def hog(store: ChipStore, *, cell_px: int = 8) -> Embeddings:
    """Histograms of oriented gradients of the mean of all bands: a baseline without learning.

    Args:
        store: the chips.
        cell_px: side of a cell; half a chip when that is smaller. Blocks are of 2 x 2 cells.

    Raises:
        ImportError: scikit-image is not installed.

    Source:
        Dalal and Triggs, CVPR 2005, by scikit-image.
    """
    try:
        from skimage.feature import hog as hog_of
    except ImportError:
        raise ImportError("HOG needs scikit-image; run: pip install scikit-image") from None

    cell = max(1, min(cell_px, store.size_px // 2))
    vectors = [
        hog_of(chip.mean(0), pixels_per_cell=(cell, cell), cells_per_block=(2, 2))
        for chip in store.chips
    ]
    return Embeddings(np.stack(vectors).astype(np.float32), store.scenes)


def compare(
    methods: Mapping[str, Embeddings | ProbeResult],
    *,
    measure: Callable[[Embeddings], ProbeResult] = linear,
) -> pd.DataFrame:
    """A table of several methods, in the order given.

    Args:
        methods: name -> embeddings to measure, or a result measured already; put
            `random_features` among them.
        measure: e.g. `knn`, or ``lambda e: linear(e, label="climate")``.

    Returns:
        One row a method: method, metric, value, low, high, chance, n_train, n_test.
    """
    names = ("metric", "value", "low", "high", "chance", "n_train", "n_test")
    rows = []
    for method, given in methods.items():
        result = given if isinstance(given, ProbeResult) else measure(given)
        rows.append({"method": method} | {name: getattr(result, name) for name in names})
    return pd.DataFrame(rows, columns=["method", *names])
