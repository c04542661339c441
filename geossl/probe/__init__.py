"""Is it any good? Probes of frozen embeddings, fine-tuning, and the baselines beside them.

Everything is measured on places held out in space, with an interval over locations.
"""

from geossl.probe.baselines import compare, hog, random_features
from geossl.probe.classifiers import L2, knn, linear, temporal
from geossl.probe.labels import multi_label
from geossl.probe.results import ProbeResult
from geossl.probe.retrieval import same_place
from geossl.probe.solvers import SGD
from geossl.probe.splits import Leakage, Split, leakage
from geossl.probe.tuning import FineTuneConfig, FineTuned, fine_tune
from geossl.probe.validation import cross_validate, label_efficiency

__all__ = [
    "FineTuneConfig",
    "FineTuned",
    "L2",
    "Leakage",
    "ProbeResult",
    "SGD",
    "Split",
    "compare",
    "cross_validate",
    "fine_tune",
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
