"""Geo clusters: groups of locations on the sphere, their cells, and what they are worth.

`GeoClusters` are what `geossl.pretrain` predicts. `measure_k` and `match_clusters` help to choose
them, `group_by_density` finds clumps of locations.
"""

from geossl.clusters.core import GeoClusters
from geossl.clusters.density import group_by_density
from geossl.clusters.measure import balance, match_clusters, measure, measure_k
from geossl.clusters.space import Metric

__all__ = [
    "GeoClusters",
    "Metric",
    "balance",
    "group_by_density",
    "match_clusters",
    "measure",
    "measure_k",
]
