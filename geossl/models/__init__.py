"""Encoders, MoCo, and weights in and out."""

from geossl.models.encoder import ENCODERS, STEMS, Encoder, build_encoder, trainable_copy
from geossl.models.moco import MoCo

__all__ = ["ENCODERS", "STEMS", "Encoder", "MoCo", "build_encoder", "trainable_copy"]
