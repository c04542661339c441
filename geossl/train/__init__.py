"""The training loop and its parts."""

from geossl.train.config import PretrainConfig, paper_config
from geossl.train.logs import Log
from geossl.train.objectives import (
    Batch,
    Contrastive,
    GeoClassification,
    LabelClassification,
    Objective,
)
from geossl.train.pretrain import Run, pretrain

__all__ = [
    "Batch",
    "Contrastive",
    "GeoClassification",
    "LabelClassification",
    "Log",
    "Objective",
    "PretrainConfig",
    "Run",
    "paper_config",
    "pretrain",
]
