"""Build the model of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from geossl import models
from geossl.data.store import ChipStore
from geossl.models import layers
from geossl.models.bands import fit_bands
from geossl.models.encoder import COMPACT, has_correct_bf16_gradients
from geossl.train.config import PretrainConfig
from geossl.train.objectives import (
    Classification,
    Contrastive,
    Objective,
    modules_of,
    plan_views,
)
from geossl.utils import dist
from geossl.utils.device import check_memory, select_precision
from geossl.utils.errors import rename_argument
from geossl.utils.seeds import derive_seed


def build_model(
    store: ChipStore,
    config: PretrainConfig,
    objectives: Sequence[Objective],
    *,
    start: models.Encoder | None = None,
    device: torch.device,
    seed: int,
) -> models.MoCo:
    """Build the model of a run on its device; untrained, or with the encoder ``start``.

    Its queue holds a single key unless an objective is contrastive. Its memory format is
    channels_last in bf16, and of the encoders made for two cores.
    """
    mean, std = store.mean.tolist(), store.std.tolist()
    if start is None:
        with rename_argument("name", "encoder"):
            encoder = models.build_encoder(
                config.encoder, bands=len(store.bands), stem=config.stem, mean=mean, std=std,
                seed=derive_seed(seed, "encoder"),
            )  # fmt: skip
    else:
        encoder = fit_bands(start, store.bands, mean=mean, std=std)
        encoder = models.trainable_copy(encoder).cpu()
    heads = [o for o in objectives if isinstance(o, Classification)]
    uses_queue = any(isinstance(o, Contrastive) for o in objectives)
    size_px, width = config.transform.size_px or store.size_px, encoder.embedding_dim
    pairs, keys = config.batch_size // dist.world_size(), config.queue_size * uses_queue
    views = len(plan_views(objectives))
    needed = {
        "`queue_size` or `projection_dim`": keys * (config.projection_dim + 2) * 4,
        "`projection_dim`": config.projection_dim * width * 4 * 4,  # query, key, gradient, momentum
        "`batch_size` or the size of `transform`": pairs * views * encoder.bands * size_px**2 * 4,
    }
    check_memory(needed, device)
    moco = models.MoCo(
        _normalize_parts(encoder, config.bn_splits, device),
        projection_dim=config.projection_dim,
        queue_size=config.queue_size if uses_queue else 1,
        momentum=config.momentum,
        classes={o.name: o.num_classes for o in heads},
        heads_on={o.name: o.on for o in heads},
        seed=derive_seed(seed, "heads"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "objectives"))
        for objective in objectives:
            objective.setup(moco)
    moco.objectives = modules_of(objectives)
    moco.bf16 = trains_in_bf16(encoder, config.precision, device, size_px)
    moco.to(device).to(memory_format=memory_format(moco))
    if config.compile:
        moco.query, moco.key = torch.compile(moco.query), torch.compile(moco.key)  # type: ignore[method-assign]
    return moco


def memory_format(moco: models.MoCo) -> torch.memory_format:
    """Return the memory format in which a model is fastest.

    In channels_last, ResNets in fp32 take 4 to 9 % less time with AVX2; with AVX-512 between 5 %
    less and 8 % more.
    """
    avx2 = torch.backends.cpu.get_cpu_capability() == "AVX2"
    on_cpu = moco.queue.device.type == "cpu" and (avx2 or moco.encoder.name in COMPACT)
    return torch.channels_last if moco.bf16 or on_cpu else torch.contiguous_format


def trains_in_bf16(
    encoder: models.Encoder, precision: str, device: torch.device, size_px: int
) -> bool:
    """Return whether views of ``size_px`` are trained on in bf16.

    Raises:
        ValueError: the precision is "bf16", and its gradients would be wrong.
    """
    bf16 = select_precision(precision, device) == "bf16"
    if bf16 and device.type == "cpu":
        return has_correct_bf16_gradients(encoder, size_px, required=precision == "bf16")
    return bf16


def _normalize_parts(encoder: models.Encoder, splits: int, device: torch.device) -> models.Encoder:
    """Make BatchNorm see ``splits`` parts of the batch, of which each process holds its share.

    Fewer parts than processes share statistics by torch's SyncBatchNorm. It needs GPUs: on CPUs
    each process is a part. Running statistics follow as fast as in one process, which sees all
    parts of a step one after the other.
    """
    processes = dist.world_size()
    for norm in encoder.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.momentum is not None:
            norm.momentum = 1 - (1 - norm.momentum) ** min(splits, processes)
    if splits > processes:
        layers.split_batchnorm(encoder, splits // processes)
    elif splits < processes and device.type == "cuda":
        size = processes // splits
        group = None if splits == 1 else torch.distributed.new_subgroups(size)[0]
        if encoder.name.startswith("timm/"):  # some of its BatchNorms have an activation inside
            from timm.layers import convert_sync_batchnorm

            convert_sync_batchnorm(encoder, group)
        else:
            nn.SyncBatchNorm.convert_sync_batchnorm(encoder, group)
    return encoder
