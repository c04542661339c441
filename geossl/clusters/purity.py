"""How pure the labels of clusters are."""

from __future__ import annotations

import numpy as np
import pandas as pd


def measure_purity(cluster: np.ndarray, labels: pd.Series, k: int) -> pd.DataFrame:
    """Return one row per cluster, the largest first; see `GeoClusters.purity`."""
    counts = pd.crosstab(cluster, labels.to_numpy())
    counts = counts.reindex(range(k), fill_value=0)
    size = counts.sum(axis=1)
    share = counts.div(size.where(size > 0), axis=0)
    best = share.fillna(-1).idxmax(axis=1) if share.size else size
    bits = -(share * np.log2(share.where(share > 0))).sum(axis=1)
    result = pd.DataFrame({
        "cluster": np.arange(k),
        "size": size.to_numpy(),
        "label": best.where(size > 0).to_numpy(),
        "purity": share.max(axis=1).to_numpy(),
        "entropy_bits": bits.abs().where(size > 0).to_numpy(),
    })  # fmt: skip
    return result.sort_values(["size", "cluster"], ascending=[False, True], ignore_index=True)
