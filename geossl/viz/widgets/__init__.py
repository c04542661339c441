"""Widgets for notebooks that explore clusters, embeddings, pairs and running training.

Put a widget last in a cell to show it; what was chosen in it is an attribute for Python.
"""

from geossl.viz.widgets.cluster_explorer import ClusterExplorer
from geossl.viz.widgets.comparison import watch_comparison
from geossl.viz.widgets.embedding_explorer import EmbeddingExplorer
from geossl.viz.widgets.explorer.source import embed_source
from geossl.viz.widgets.pair_explorer import PairExplorer
from geossl.viz.widgets.training_monitor import TrainingMonitor

__all__ = [
    "ClusterExplorer",
    "EmbeddingExplorer",
    "PairExplorer",
    "TrainingMonitor",
    "embed_source",
    "watch_comparison",
]
