"""Measure how good embeddings are: probes, retrieval, baselines, and checks of the split.

Everything is measured on locations held out in space, with a 95 % interval over locations.
"""

from geossl.evaluate.baselines import compare, hog, random_features
from geossl.evaluate.changes import changes
from geossl.evaluate.cross_validation import cross_validate, label_efficiency, labels_needed
from geossl.evaluate.knn import knn
from geossl.evaluate.leakage import Leakage, leakage
from geossl.evaluate.linear import L2, linear
from geossl.evaluate.multilabel import multi_label
from geossl.evaluate.place import PlaceInformation, place_information
from geossl.evaluate.results import ProbeResult
from geossl.evaluate.retrieval import same_location
from geossl.evaluate.solvers import SGD
from geossl.evaluate.splits import Split
from geossl.evaluate.temporal import temporal

__all__ = [
    "L2",
    "Leakage",
    "PlaceInformation",
    "ProbeResult",
    "SGD",
    "Split",
    "changes",
    "compare",
    "cross_validate",
    "hog",
    "knn",
    "label_efficiency",
    "labels_needed",
    "leakage",
    "linear",
    "multi_label",
    "place_information",
    "random_features",
    "same_location",
    "temporal",
]
