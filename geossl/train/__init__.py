"""The training loop and its parts."""

from geossl.train.config import PretrainConfig, paper_config
from geossl.train.logs import Log
from geossl.train.objectives import (
    Batch,
    Contrastive,
    GeoClassification,
    GeoRank,
    GeoRegression,
    LabelClassification,
    LocationContrastive,
    Objective,
    SeCo,
    Triplet,
    View,
)
from geossl.train.pretrain import Run, pretrain

__all__ = [
    "Batch",
    "Contrastive",
    "GeoClassification",
    "GeoRank",
    "GeoRegression",
    "LabelClassification",
    "LocationContrastive",
    "Log",
    "Objective",
    "PretrainConfig",
    "Run",
    "SeCo",
    "Triplet",
    "View",
    "paper_config",
    "pretrain",
]
