"""What a run is made of before its first step."""

from __future__ import annotations

from geossl import models
from geossl.data.store import ChipStore
from geossl.models import layers
from geossl.train.config import PretrainConfig
from geossl.utils import dist
from geossl.utils.seeds import derive_seed


def build_moco(
    store: ChipStore, config: PretrainConfig, classes: dict[str, int], *, queue: bool, seed: int
) -> models.MoCo:
    """The untrained model of a run, on the CPU; without a queue it holds one key."""
    encoder = models.build_encoder(
        config.encoder,
        bands=len(store.bands),
        stem=config.stem,
        mean=store.mean.tolist(),
        std=store.std.tolist(),
        seed=derive_seed(seed, "encoder"),
    )
    ranks = dist.world_size()
    if config.bn_splits > 1 or ranks > 1:
        here, sharing = max(1, config.bn_splits // ranks), max(1, ranks // config.bn_splits)
        layers.split_batchnorm(encoder, here, sharing=sharing)
    return models.MoCo(
        encoder,
        projection_dim=config.projection_dim,
        queue_size=config.queue_size if queue else 1,
        momentum=config.momentum,
        classes=classes,
        heads_on={"geo": config.geo_on, "label": "embedding"},
        seed=derive_seed(seed, "heads"),
    )
