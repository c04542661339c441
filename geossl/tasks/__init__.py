"""Use encoders: detection, segmentation, fine-tuning, and comparisons of encoders."""

from geossl.utils.lazy import submodules

__all__ = ["compare", "detect", "finetune", "segment"]

__getattr__ = submodules(__name__, *__all__)
