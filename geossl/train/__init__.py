"""The training loop and its parts."""

from geossl.train.config import PretrainConfig, paper_config
from geossl.train.pretrain import Run, pretrain

__all__ = ["PretrainConfig", "Run", "paper_config", "pretrain"]
