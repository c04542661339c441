"""95 % intervals by bootstrap over locations: all chips of a location are drawn together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

RESAMPLES = 1000
_CHUNK = 64  # resamples weighed together


def share_interval(hit: np.ndarray, group: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Return the share of hits with its 95 % interval by bootstrap over groups.

    Groups with the same numbers of rows and hits are interchangeable, so it is enough to draw how
    often each kind occurs: the same distribution, as fast for a million groups as for a hundred.
    """
    group = np.unique(group, return_inverse=True)[1]
    kinds = np.stack([np.bincount(group), np.bincount(group, weights=hit)]).astype(np.int64)
    kinds, counts = np.unique(kinds, axis=1, return_counts=True)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(counts.sum(), counts / counts.sum(), RESAMPLES)  # (resamples, kinds)
    rows, hits = (times @ kinds.T).T
    low, high = np.percentile(hits / rows, [2.5, 97.5])
    return float(np.mean(hit)), float(low), float(high)


def bootstrap_interval(
    measure: Callable[[Tensor], Tensor], group: np.ndarray, *, seed: int, resamples: int
) -> tuple[float, float]:
    """Return the 95 % interval of any measure of weighted chips.

    Args:
        measure: weights ``(R, N)``, how often each chip counts -> ``(R,)``; nan is left out.
        group: ``(N,)`` chips of one group are drawn together.
        seed: of the draws.
        resamples: number of draws.
    """
    group = np.unique(group, return_inverse=True)[1]
    groups = int(group.max()) + 1
    rng, values = np.random.default_rng(seed), []
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        times = rng.multinomial(groups, np.full(groups, 1 / groups), count)
        values.append(measure(torch.from_numpy(times[:, group])))
    samples = torch.cat(values).numpy()
    if np.isnan(samples).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return float(low), float(high)
