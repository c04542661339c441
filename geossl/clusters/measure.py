"""What to choose geo clusters by: purity against chance, balance, width, a match of two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geossl import geo
from geossl.clusters.core import GeoClusters
from geossl.clusters.space import Metric
from geossl.data import scenes
from geossl.utils.validate import NonNegativeInt, PositiveInt, Seed, validated


@validated
def balance(sizes: ArrayLike) -> float:
    """Return the entropy of cluster sizes over that of equal sizes: 1 if equal, 0 if all in one.

    Args:
        sizes: ``(K,)`` number of locations in each cluster.

    Raises:
        ValueError: no location in any cluster.

    Source:
        Evenness J of Pielou 1966, "The measurement of diversity in different types of biological
        collections"; 1 for a single cluster.

    Example:
        >>> balance([5, 5, 5, 5]), balance([20, 0, 0, 0])
        (1.0, 0.0)
    """
    share = np.atleast_1d(np.asarray(sizes, float))
    if not share.sum() > 0:
        raise ValueError("`sizes` must count at least one location, got none.")
    share = share / share.sum()
    bits = -(share[share > 0] * np.log2(share[share > 0])).sum()
    return float(bits / np.log2(len(share)) + 0.0) if len(share) > 1 else 1.0


@validated
def measure(
    clusters: GeoClusters,
    table: pd.DataFrame,
    *,
    label: str = "label",
    permutations: NonNegativeInt = 10,
    seed: Seed = 0,
) -> dict[str, float]:
    """Measure clusters on a scene table: purity and entropy against chance, balance and width.

    Args:
        clusters: the clusters.
        table: scene table; every location counts once, by its first row (with a label).
        label: column of labels.
        permutations: of the labels between locations, which leaves the sizes of the clusters as
            they are: what clusters say about labels by chance.
        seed: of the permutations.

    Returns:
        ``purity`` (share of labeled locations with the most frequent label of their cluster),
        ``entropy_bits`` (mean over labeled locations), ``purity_chance`` and
        ``entropy_bits_chance`` (mean of the permutations), nan without labels; ``balance``; and
        ``mean_km``, the mean distance of a location from the middle of its cluster.

    Source:
        Purity: Manning, Raghavan and Schuetze 2008, "Introduction to information retrieval",
        section 16.3.

    Example:
        >>> table = pd.DataFrame({"location": range(4), "lon": [0, 0, 9, 9], "lat": 0})
        >>> clusters = GeoClusters.fit(table.assign(label=list("aabb")), k=2)
        >>> measure(clusters, table.assign(label=list("aabb")))["purity"]
        1.0
    """
    scenes.require_positions(table, "geo clusters")
    lon, lat, own = _first_rows(clusters, table)
    result = dict.fromkeys(
        ("purity", "entropy_bits", "purity_chance", "entropy_bits_chance"), np.nan
    )
    if label in table and table[label].notna().any():
        labeled = table[table[label].notna()]
        _, _, cluster = _first_rows(clusters, labeled)
        first = scenes.first_rows(scenes.location_codes(labeled))
        codes = scenes.label_codes(labeled[label].iloc[first].astype("string"))[0]
        result["purity"], result["entropy_bits"] = _purity(cluster, codes)
        if permutations:
            rng = np.random.default_rng(seed)
            chance = [_purity(cluster, rng.permutation(codes)) for _ in range(permutations)]
            means = np.mean(chance, axis=0)
            result["purity_chance"], result["entropy_bits_chance"] = map(float, means)
    points = geo.unit_vectors(lon, lat)
    sums = np.stack([np.bincount(own, band, clusters.k) for band in points.T], 1)
    middle = geo.lon_lat(sums)
    away = geo.great_circle_km(lon, lat, middle[0][own], middle[1][own])
    sizes = np.bincount(own, minlength=clusters.k)
    return result | {"balance": balance(sizes), "mean_km": float(away.mean())}


@validated
def measure_k(
    table: pd.DataFrame,
    *,
    k: Sequence[PositiveInt] = (5, 10, 20, 40, 80, 120, 200),
    label: str = "label",
    on: Metric = "sphere",
    permutations: NonNegativeInt = 10,
    seed: Seed = 0,
) -> pd.DataFrame:
    """Measure geo clusters by their number K; `geossl.viz.plots.plot_purity_by_k` plots it.

    Args:
        table: scene table.
        k: numbers of clusters; those above the number of distinct locations are left out.
        label: column of labels.
        on: metric of k-means.
        permutations: see `measure`.
        seed: of k-means and the permutations.

    Returns:
        A row for each K: ``k, on`` and the columns of `measure`.

    Raises:
        ValueError: no K that the locations allow.

    Example:
        >>> table = pd.DataFrame({"location": range(6), "lon": range(6), "lat": 0})
        >>> measure_k(table, k=(2, 3))[["k", "balance"]].round(2).values.tolist()
        [[2.0, 1.0], [3.0, 1.0]]
    """
    scenes.require_positions(table, "geo clusters")
    most = len(table[["lon", "lat"]].drop_duplicates())
    allowed = sorted({number for number in k if number <= most})
    if not allowed:
        raise ValueError(f"`k` must hold a number <= {most}, the distinct locations, got {k}.")
    rows = []
    for number in allowed:
        clusters = GeoClusters.fit(table, k=number, seed=seed, on=on)
        values = measure(clusters, table, label=label, permutations=permutations, seed=seed)
        rows.append({"k": number, "on": on, **values})
    return pd.DataFrame(rows)


@validated
def match_clusters(first: GeoClusters, second: GeoClusters, table: pd.DataFrame) -> pd.DataFrame:
    """Match the clusters of two clusterings one to one, such that most locations keep theirs.

    Args:
        first: the clusters to compare with.
        second: others; where they are more, some match none.
        table: scene table.

    Returns:
        A row for each location: ``location, lon, lat``, ``first`` and ``second`` (its cluster in
        each), ``match`` (the cluster of ``first`` that its cluster in ``second`` is matched to, -1
        for none) and ``changed``, whether that is another. ``changed.mean()`` is the share that
        changes.

    Source:
        Kuhn 1955, "The Hungarian method for the assignment problem"; scipy's
        ``linear_sum_assignment``.

    Example:
        >>> table = pd.DataFrame({"location": range(4), "lon": [0, 1, 50, 51], "lat": 0})
        >>> clusters = GeoClusters.fit(table, k=2)
        >>> match_clusters(clusters, clusters, table)["changed"].sum()
        0
    """
    from scipy.optimize import linear_sum_assignment

    scenes.require_positions(table, "geo clusters")
    lon, lat, one = _first_rows(first, table)
    two = second.assign(lon, lat)
    common = np.zeros((first.k, second.k))
    np.add.at(common, (one, two), 1)
    match = np.full(second.k, -1)
    rows, columns = linear_sum_assignment(common, maximize=True)
    match[columns] = rows
    rows = scenes.first_rows(scenes.location_codes(table))
    return pd.DataFrame({
        "location": table["location"].to_numpy()[rows], "lon": lon, "lat": lat,
        "first": one, "second": two, "match": match[two], "changed": match[two] != one,
    })  # fmt: skip


def _first_rows(
    clusters: GeoClusters, table: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return longitude, latitude and cluster of each location, by its first row."""
    first = scenes.first_rows(scenes.location_codes(table))
    lon, lat = table["lon"].to_numpy(float)[first], table["lat"].to_numpy(float)[first]
    return lon, lat, clusters.assign(lon, lat)


def _purity(cluster: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """Return purity and mean entropy in bits over locations."""
    counts = np.zeros((cluster.max() + 1, codes.max() + 1))
    np.add.at(counts, (cluster, codes), 1)
    size = counts.sum(1, keepdims=True)
    share = counts / np.maximum(size, 1)
    bits = -(share * np.log2(np.where(share > 0, share, 1))).sum(1)
    return counts.max(1).sum() / len(codes), float(bits @ size[:, 0] / len(codes))
