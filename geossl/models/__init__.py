"""Encoders, MoCo, and their weights."""

from geossl.models.bands import with_bands
from geossl.models.encoder import ENCODERS, STEMS, Encoder, build_encoder, trainable_copy
from geossl.models.location_encoder import LocationEncoder
from geossl.models.moco import MoCo
from geossl.models.weights import load, load_encoder, save_encoder

__all__ = [
    "ENCODERS", "STEMS", "Encoder", "LocationEncoder", "MoCo", "build_encoder", "load",
    "load_encoder", "save_encoder", "trainable_copy", "with_bands",
]  # fmt: skip
