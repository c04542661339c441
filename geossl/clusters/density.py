"""Clumps of locations by density, for photos that come in crowds."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge
from numpy.typing import ArrayLike

from geossl import geo
from geossl.utils.validate import Seed, validated

_SAMPLE = 20_000  # locations; the time grows with their square


@validated
def group_by_density(
    lon: ArrayLike, lat: ArrayLike, *, min_size: Annotated[int, Ge(2)] = 20, seed: Seed = 0
) -> np.ndarray:
    """Find clumps of locations with HDBSCAN; what lies between them is noise.

    Distances are chords of the unit sphere, which order locations as great circles do.

    Args:
        lon: ``(N,)`` degrees, one for each location.
        lat: ``(N,)`` degrees.
        min_size: least number of locations in a clump.
        seed: of the sample. With more than 20,000 locations a random 20,000 are grouped, with
            ``min_size`` in proportion, and each of the others is with the nearest of them.

    Returns:
        Clump ``(N,)`` int64 from 0; -1 for noise.

    Raises:
        ValueError: there is no clump of that size.

    Source:
        Campello, Moulavi and Sander 2013, "Density-based clustering based on hierarchical density
        estimates"; scikit-learn's HDBSCAN.

    Example:
        >>> group_by_density([0, 0.1, 0.2, 50, 50.1, 50.2, 120], [0] * 7, min_size=3).tolist()
        [0, 0, 0, 1, 1, 1, -1]
    """
    from scipy.spatial import cKDTree
    from sklearn.cluster import HDBSCAN

    points = np.atleast_2d(geo.unit_vectors(lon, lat))
    rows = np.arange(len(points))
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:_SAMPLE])
    least = max(2, round(min_size * len(rows) / max(len(points), 1)))
    groups = np.full(len(rows), -1, np.int64)
    if least <= len(rows):
        groups[:] = HDBSCAN(min_cluster_size=least, copy=True).fit(points[rows]).labels_
    if groups.max(initial=-1) < 0:
        raise ValueError(
            f"`min_size` = {min_size} finds no clump among {len(points)} locations. Lower it, or "
            "use k-means."
        )
    return groups if len(rows) == len(points) else groups[cKDTree(points[rows]).query(points)[1]]
