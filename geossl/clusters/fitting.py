"""Fit centers to the locations of a scene table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geossl import geo
from geossl.clusters.space import Metric
from geossl.data import scenes

_SAMPLE = 200_000  # with more locations, k-means learns from a sample of so many


def locations(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return longitudes and latitudes of the locations of a scene table, each once."""
    scenes.require_positions(table, "geo clusters")
    first = scenes.first_rows(scenes.location_codes(table))
    return table["lon"].to_numpy(float)[first], table["lat"].to_numpy(float)[first]


def kmeans(points: np.ndarray, k: int, *, seed: int, on: Metric, where: str = "") -> np.ndarray:
    """Return the centers ``(k, 2)`` in degrees of points."""
    from sklearn.cluster import KMeans

    distinct = len(pd.DataFrame(points).drop_duplicates())
    if k > distinct:
        raise ValueError(
            f"`k` must be <= {distinct}, the number of distinct locations{where}, got {k}. Lower "
            "`k` or add locations."
        )
    if len(points) > _SAMPLE:
        points = points[np.random.default_rng(seed).permutation(len(points))[:_SAMPLE]]
    centers = KMeans(k, n_init=1, random_state=seed, max_iter=100).fit(points).cluster_centers_
    return np.column_stack(geo.lon_lat(centers)) if on == "sphere" else centers


def order(centers: np.ndarray) -> np.ndarray:
    """Order from west to east within bands from north to south, so that neighbors are near."""
    return np.lexsort((centers[:, 0], -np.round(centers[:, 1] / 20)))


def numbered(centers: np.ndarray) -> np.ndarray:
    """Return the centers in their `order`."""
    return centers[order(centers)]


def sums(sizes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the sizes of groups of clusters."""
    return np.bincount(groups, weights=sizes).astype(int)
