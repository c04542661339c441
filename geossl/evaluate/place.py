"""How much of what embeddings group together is a place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from geossl.clusters import GeoClusters
from geossl.data.scenes import require_positions
from geossl.embeddings import Embeddings
from geossl.utils.validate import NonNegativeInt, Seed, validated

__all__ = ["PlaceInformation", "place_information"]


@dataclass(frozen=True, eq=False)
class PlaceInformation:
    """What clusters of places and clusters of embeddings share.

    Attributes:
        ami: adjusted mutual information: 1 if they are the same, 0 by chance.
        chance: its mean where the embeddings are permuted between locations.
        chance_std: its standard deviation there.
        groups: ``(L,)`` cluster of the embedding of each location, in order of first appearance.
    """

    ami: float
    chance: float
    chance_std: float
    groups: np.ndarray

    def __str__(self) -> str:
        return f"AMI {self.ami:.3f} (by chance {self.chance:.3f} ± {self.chance_std:.3f})"


@validated
def place_information(
    embeddings: Embeddings,
    clusters: GeoClusters,
    *,
    k: Annotated[int, Ge(2)] | None = None,
    permutations: NonNegativeInt = 10,
    seed: Seed = 0,
) -> PlaceInformation:
    """Compare k-means of embeddings with geo clusters: how much does place explain?

    The embeddings of a location are averaged over its dates, and have unit length for k-means.

    Args:
        embeddings: vectors with positions.
        clusters: geo clusters.
        k: number of clusters of the embeddings; that of ``clusters`` when None.
        permutations: of the embeddings between locations, for chance.
        seed: of k-means and the permutations.

    Returns:
        The adjusted mutual information, that by chance, and the clusters of the embeddings.

    Raises:
        ValueError: rows without coordinates, or fewer locations than clusters.

    Source:
        Vinh, Epps and Bailey 2010, "Information theoretic measures for clusterings comparison";
        scikit-learn's ``adjusted_mutual_info_score``, with the arithmetic mean.

    Example:
        >>> result = place_information(embeddings, GeoClusters.fit(embeddings.scenes, k=4))
        >>> -1 <= result.ami <= 1
        True
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    mean = embeddings.mean_of_locations()
    require_positions(mean.scenes, "a comparison with geo clusters")
    own = clusters.assign(mean.scenes["lon"].to_numpy(), mean.scenes["lat"].to_numpy())
    length = np.linalg.norm(mean.vectors, axis=1, keepdims=True)
    points = mean.vectors / np.maximum(length, 1e-12)
    distinct = len(np.unique(points, axis=0))
    count = k or min(clusters.k, distinct)
    if count > distinct:
        raise ValueError(
            f"`k` must be <= {distinct}, the number of distinct embeddings, got {count}."
        )
    groups = KMeans(count, n_init=3, random_state=seed).fit(points).labels_.astype(np.int64)
    rng = np.random.default_rng(seed)
    by_chance = [
        adjusted_mutual_info_score(own, rng.permutation(groups)) for _ in range(permutations)
    ] or [np.nan]
    return PlaceInformation(
        float(adjusted_mutual_info_score(own, groups)),
        float(np.mean(by_chance)),
        float(np.std(by_chance)),
        groups,
    )
