"""Encoders, MoCo, and weights in and out."""

from geossl.models.encoder import ENCODERS, STEMS, Encoder, encoder, trainable_copy
from geossl.models.moco import MoCo

__all__ = ["ENCODERS", "STEMS", "Encoder", "MoCo", "encoder", "trainable_copy"]
