"""Explorers for notebooks: widgets that wire the library's parts together, and hold no method.

Each explorer is shown by putting it last in a cell; what was chosen is an attribute for Python.
"""

from geossl.explore.cluster_explorer import ClusterExplorer
from geossl.explore.comparison import watch_comparison
from geossl.explore.embedding_explorer import EmbeddingExplorer
from geossl.explore.pair_explorer import PairExplorer
from geossl.explore.training_monitor import TrainingMonitor

__all__ = [
    "ClusterExplorer",
    "EmbeddingExplorer",
    "PairExplorer",
    "TrainingMonitor",
    "watch_comparison",
]
