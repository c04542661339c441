"""95 % intervals by bootstrap over locations: all chips of one go together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

RESAMPLES = 1000
_AT_ONCE = 64  # resamples weighed together


def interval(hit: np.ndarray, group: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Share of hits, and its 95 % interval by bootstrap over groups, rows of one going together.

    Groups of as many rows and hits are alike, so that the draw is of how often each kind comes:
    the same distribution, and as quick for a million groups as for a hundred.
    """
    group = np.unique(group, return_inverse=True)[1]
    kinds = np.stack([np.bincount(group), np.bincount(group, weights=hit)]).astype(np.int64)
    kinds, often = np.unique(kinds, axis=1, return_counts=True)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(often.sum(), often / often.sum(), RESAMPLES)  # (resamples, kinds)
    rows, hits = (times @ kinds.T).T
    low, high = np.percentile(hits / rows, [2.5, 97.5])
    return float(np.mean(hit)), float(low), float(high)


def bootstrap_interval(
    measure: Callable[[Tensor], Tensor], group: np.ndarray, *, seed: int, resamples: int
) -> tuple[float, float]:
    """The 95 % interval of any measure of weighted chips.

    Args:
        measure: weights ``(R, N)``, how often each chip counts -> ``(R,)``; nan is left out.
        group: ``(N,)`` what is drawn together.
        seed: of the draws.
        resamples: how many.
    """
    group = np.unique(group, return_inverse=True)[1]
    groups = int(group.max()) + 1
    rng, found = np.random.default_rng(seed), []
    for start in range(0, resamples, _AT_ONCE):
        count = min(_AT_ONCE, resamples - start)
        times = rng.multinomial(groups, np.full(groups, 1 / groups), count)
        found.append(measure(torch.from_numpy(times[:, group])))
    values = torch.cat(found).numpy()
    if np.isnan(values).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
