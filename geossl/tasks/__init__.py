"""What an encoder is for: detection, segmentation, fine-tuning, comparisons."""

from geossl.utils.lazy import submodules

__all__ = ["compare", "detect", "finetune", "segment"]

__getattr__ = submodules(__name__, *__all__)
