"""The clusters that a ClusterExplorer shows, each fitted once."""

from __future__ import annotations

import pandas as pd

from geossl.clusters import GeoClusters, Metric


class Fits:
    """Fit the clusters of a table by each method, and keep them.

    Args:
        table: scene table, every row with a position.
        most: number of the finest nested clusters.
        seed: of k-means.
    """

    def __init__(self, table: pd.DataFrame, *, most: int, seed: int) -> None:
        self._table, self._most, self._seed = table, most, seed
        self._known: dict[tuple[str, int], GeoClusters] = {}

    def get(self, method: str, number: int) -> GeoClusters:
        """Return the clusters of a method at its K, or least size for "density"."""
        if (method, number) not in self._known:
            table, seed = self._table, self._seed
            if method == "nested":
                levels = GeoClusters.hierarchy(table, k=tuple(range(2, self._most + 1)), seed=seed)
                self._known |= {("nested", level.k): level for level in levels}
            elif method == "density":
                fitted = GeoClusters.fit_density(table, min_size=number, seed=seed)
                self._known[method, number] = fitted
            else:
                on: Metric = "degrees" if method == "degrees" else "sphere"
                fitted = GeoClusters.fit(table, k=number, seed=seed, on=on)
                self._known[method, number] = fitted
        return self._known[method, number]
