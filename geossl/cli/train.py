"""Commands that pre-train an encoder and embed chips with it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional

from geossl.cli.output import Output, print_line
from geossl.train.config import PretrainConfig, paper_config

if TYPE_CHECKING:
    from geossl import ChipStore
    from geossl.models import Encoder

__all__ = ["embed", "pretrain"]


def pretrain(
    store: Positional[str],
    *,
    output_dir: Output[Path],
    pairs: Literal["same-image", "temporal", "spatial", "none"] = "temporal",
    min_gap_days: float = 0,
    max_gap_days: float | None = None,
    season: Literal["same", "other"] | None = None,
    single_date: Literal["self", "drop"] = "self",
    radius_km: float = 10.0,
    geo: Path | None = None,
    label: str | None = None,
    paper: bool = False,
    start: str | None = None,
    architecture: str | None = None,
    input: Literal["imagenet", "seco", "ssl4eo", "unit"] | None = None,
    full_scale: float | None = None,
    bands: tuple[str, ...] | None = None,
    adapt: Literal["name", "mean"] = "name",
    seed: int = 0,
    config: OmitArgPrefixes[PretrainConfig] = PretrainConfig(),  # noqa: B008 (frozen)
) -> None:
    """Pre-train an encoder; the same command resumes a stopped run.

    On many devices: torchrun --nproc-per-node N -m geossl pretrain ...

    Args:
        store: chip store, or stream: a folder, or s3://bucket/prefix.
        output_dir: folder of the run.
        pairs: which two chips are a positive pair; none: no contrastive loss.
        min_gap_days: temporal pairs: fewest days between the two dates.
        max_gap_days: temporal pairs: most days between the two dates.
        season: temporal pairs: dates of the same season of the year, or of another.
        single_date: temporal pairs: pair a chip without a second date with itself, or drop it.
        radius_km: spatial pairs: largest distance between the two locations.
        geo: geo clusters (.json) to predict as well.
        label: column of labels to predict as well: supervised training.
        paper: the paper's settings, for ResNet-50 at 224 px on GPUs, in place of those for small
            chips on two cores; further options change them.
        start: weights to start from, as `--encoder` of geossl embed: a folder of a run, a file, or
            a published name; untrained by default.
        architecture: of `--start`: its network, where weights of others do not say it, such as
            timm/vit_small_patch16_224.
        input: of `--start`: what weights of others were trained on, where their file does not say.
        full_scale: of `--start`: chip value that stands for 1 to weights of others.
        bands: of `--start`: those of the store's bands that it reads, by name or number from 1.
        adapt: of `--start`: fit its first convolution to the bands by name; mean: fill absent bands
            in.
        seed: seed of the weights, the pairs and the augmentation.
        config: settings of the training.
    """
    import geossl
    from geossl.data import streaming
    from geossl.data.scenes import rows_of_split
    from geossl.utils import dist

    temporal_only = (min_gap_days, max_gap_days, season, single_date) != (0, None, None, "self")
    if temporal_only and pairs != "temporal":
        raise ValueError(
            f"Gaps, `--season` and `--single-date` need `--pairs temporal`, got {pairs}."
        )
    opened = streaming.open_store(store)
    if opened.nodata_summary() and "max_nodata_share" in opened.info and dist.rank() == 0:
        print_line(opened.nodata_summary())
    sampler = None
    if pairs == "same-image":
        sampler = geossl.pairs.same_image()
    elif pairs == "temporal":
        sampler = geossl.pairs.temporal(
            min_gap_days=min_gap_days, max_gap_days=max_gap_days, season=season,
            single_date=single_date,
        )  # fmt: skip
    elif pairs == "spatial":
        sampler = geossl.pairs.spatial(radius_km=radius_km)
    if sampler is not None and dist.rank() == 0:
        rows = rows_of_split(opened.scenes, config.split).numpy()
        report = geossl.pairs.report(sampler, opened.scenes.iloc[rows])
        print_line(f"pairs: {report['n_pairs']:,}, {report['degenerate_share']:.1%} self-pairs")
    encoder = None
    if start is not None:
        encoder = _load_encoder(
            "--start", start, opened, architecture, input, full_scale, bands, adapt
        )
        preset = paper_config().encoder if paper else PretrainConfig.encoder
        if config.encoder not in (preset, encoder.name):
            raise ValueError(
                f"`encoder` must be that of the weights to start from, {encoder.name}, got "
                f"{config.encoder}. Leave it out."
            )
    elif (architecture, input, full_scale, bands, adapt) != (None, None, None, None, "name"):
        raise ValueError(
            "`--architecture`, `--input`, `--full-scale`, `--bands` and `--adapt` are about the "
            "weights to start from. Pass `--start` too, or leave them out."
        )
    clusters = None if geo is None else geossl.GeoClusters.load(geo)
    try:
        run = geossl.pretrain(
            opened,
            pairs=sampler,
            geo=clusters,
            label=label,
            encoder=encoder,
            config=config,
            output_dir=output_dir,
            seed=seed,
        )
    except ValueError as error:
        if start is None:
            raise
        raise ValueError(str(error).replace("`encoder`", "`--start`")) from error
    run.finish()
    if dist.rank() == 0:
        print_line(f"{output_dir}: {run.summary()}")


def with_preset(options: Sequence[str]) -> Callable[..., None]:
    """Return `pretrain` with the defaults of the presets among the words of a command."""
    flags = [option for option in options if option.replace("_", "-") in ("--paper", "--no-paper")]
    if flags[-1:] != ["--paper"]:  # the last one counts
        return pretrain
    words = dict(pairwise(word for option in options for word in option.split("=", 1)))
    config = paper_config(temporal=words.get("--pairs", "temporal") == "temporal")
    return functools.partial(pretrain, config=config)


def embed(
    store: Positional[str],
    *,
    encoder: str,
    output: Output[Path],
    seed: int = 0,
    architecture: str | None = None,
    input: Literal["imagenet", "seco", "ssl4eo", "unit"] | None = None,
    full_scale: float | None = None,
    bands: tuple[str, ...] | None = None,
    adapt: Literal["name", "mean"] = "name",
    size_px: int | None = None,
) -> None:
    """Embed every chip of a store.

    Args:
        store: chip store, or stream: a folder, or s3://bucket/prefix.
        encoder: folder of a run, an encoder.safetensors, weights of others (the paper's, MoCo,
            SeCo, SSL4EO-S12, torchvision, timm), a published name that is downloaded (gassl,
            imagenet-resnet18, imagenet-resnet50, seco-resnet18, seco-resnet50, ssl4eo-resnet18,
            ssl4eo-resnet50, ssl4eo-rgb-resnet18, ssl4eo-rgb-resnet50, and those of timm, such as
            timm/convnext_tiny.fb_in22k), or "random" or "hog" for comparison.
        output: .parquet or .geoparquet to write.
        seed: seed of random weights.
        architecture: network of weights of others that do not say it, such as
            timm/vit_small_patch16_224 or torchvision/swin_t.
        input: what weights of others were trained on, where their file does not say.
        full_scale: chip value that stands for 1 to weights of others.
        bands: those of the store's bands that the encoder reads, by name or by number from 1.
        adapt: fit the first convolution to the store's bands by name; mean: fill absent bands in.
        size_px: size to which an encoder's chips are resized first, e.g. the one it was trained at.
    """
    import geossl
    from geossl.data import streaming
    from geossl.utils import dist
    from geossl.utils.device import select_device

    if output.suffix not in (".parquet", ".geoparquet"):  # before the work
        raise ValueError(f"`output` must end in .parquet or .geoparquet, got {output.name!r}.")
    about_weights = (architecture, input, full_scale, bands, size_px, adapt)
    if encoder in ("random", "hog") and about_weights != (*(None,) * 5, "name"):
        raise ValueError(
            "`--architecture`, `--input`, `--full-scale`, `--bands`, `--adapt` and `--size-px` "
            f"need weights, and `--encoder {encoder}` has none. Leave them out."
        )
    opened = streaming.open_store(store)
    if encoder == "random":
        embeddings = geossl.evaluate.random_features(opened, seed=seed)
    elif encoder == "hog":
        embeddings = geossl.evaluate.hog(opened)
    else:
        loaded = _load_encoder(
            "--encoder", encoder, opened, architecture, input, full_scale, bands, adapt
        )
        embeddings = geossl.embed(
            opened, loaded, size_px=size_px, device=select_device("auto"), progress=True
        )
    if dist.rank() == 0:
        embeddings.save(output)
        rows, columns = embeddings.vectors.shape
        print_line(f"{output}: {rows:,} x {columns}")


def _load_encoder(
    option: str,
    path: str,
    store: ChipStore,
    architecture: str | None,
    input: Any,
    full_scale: float | None,
    bands: tuple[str, ...] | None,
    adapt: Literal["name", "mean"],
) -> Encoder:
    """Load an encoder for the bands of a store, which finds them by name unless told otherwise."""
    from geossl.models import weights
    from geossl.utils.errors import rename_argument

    with rename_argument("path", option):
        encoder = weights.load(path, architecture=architecture, input=input, full_scale=full_scale)
    if bands is None and adapt == "name":
        return encoder
    return weights.with_bands(encoder, store.bands, reads=bands, adapt=adapt)
