"""The encoders that are measured: trained here, trained by fmow, from elsewhere, or untrained."""

from __future__ import annotations

import numpy as np
from results import Results, trained_by_fmow
from settings import Settings

from geossl import models
from geossl.models.weights import with_input

RGB = ("red", "green", "blue")


def load_encoder(
    settings: Settings, method: str, *, mean: np.ndarray, std: np.ndarray
) -> models.Encoder:
    """Load the encoder of a row, in eval mode on the CPU.

    Args:
        settings: the options.
        method: the row.
        mean: of the bands of the images, red, green and blue first, for an untrained encoder.
        std: likewise.

    Raises:
        ValueError: it has not been trained.
        FileNotFoundError: weights that are absent.
    """
    weights = settings.weights_of(method)
    if weights is not None:
        return models.load(weights)
    if method == "random":
        return untrained(settings, mean=mean, std=std)
    if settings.trains_encoders:
        Results(settings).require("pretrain", method)
    else:
        trained_by_fmow(settings, method)
    return models.load(settings.encoders / method)


def untrained(settings: Settings, *, mean: np.ndarray, std: np.ndarray) -> models.Encoder:
    """Build an encoder of red, green and blue with random weights."""
    encoder = models.build_encoder(settings.encoder, stem="standard", seed=settings.seed)
    return with_input(models.with_bands(encoder, RGB), mean[:3], std[:3]).eval()
