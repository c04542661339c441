"""Is it any good? Probes of frozen embeddings, fine-tuning, and the baselines beside them.

Everything is measured on places held out in space, with an interval over locations.
"""

from geossl.evaluate.baselines import compare, hog, random_features
from geossl.evaluate.cross_validation import cross_validate, label_efficiency
from geossl.evaluate.linear import L2, knn, linear, temporal
from geossl.evaluate.multilabel import multi_label
from geossl.evaluate.results import ProbeResult
from geossl.evaluate.retrieval import same_place
from geossl.evaluate.solvers import SGD
from geossl.evaluate.splits import Leakage, Split, leakage

__all__ = [
    "L2",
    "Leakage",
    "ProbeResult",
    "SGD",
    "Split",
    "compare",
    "cross_validate",
    "hog",
    "knn",
    "label_efficiency",
    "leakage",
    "linear",
    "multi_label",
    "random_features",
    "same_place",
    "temporal",
]
