"""Commands that train and embed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tyro.conf import OmitArgPrefixes, Positional

from geossl.cli.output import print_line
from geossl.train.config import PretrainConfig


@dataclass(frozen=True)
class Pretrain:
    """Pre-train an encoder; the same line goes on with a run that was stopped.

    On many devices: torchrun --nproc-per-node N -m geossl pretrain ...
    """

    store: Positional[str]
    """The chip store, or a stream: a folder, or s3://bucket/prefix."""
    out: Path
    """Folder of the run."""
    pairs: Literal["same-image", "temporal", "spatial", "none"] = "temporal"
    """Which two chips are a positive pair; none leaves the contrastive loss out."""
    min_gap_days: float = 0
    """Temporal: the dates lie at least so far apart."""
    max_gap_days: float | None = None
    """Temporal: and at most so far."""
    season: Literal["same", "other"] | None = None
    """Temporal: of the same season of the year, or of another."""
    single_date: Literal["self", "drop"] = "self"
    """Temporal: a chip without a partner is paired with itself, or left out."""
    radius_km: float = 10.0
    """Spatial: the partner lies within this distance."""
    geo: Path | None = None
    """Geo clusters (.json) to predict as well."""
    label: str | None = None
    """Column of labels to predict as well: supervised training."""
    seed: int = 0
    """Of the weights, the pairs and the views."""
    config: OmitArgPrefixes[PretrainConfig] = field(default_factory=PretrainConfig)

    def run(self) -> None:
        """Train, with a progress bar."""
        from geossl import GeoClusters, pairs, pretrain
        from geossl.data import streaming
        from geossl.utils import dist

        policies: dict[str, Any] = {
            "same-image": pairs.same_image,
            "temporal": lambda: pairs.temporal(
                min_gap_days=self.min_gap_days,
                max_gap_days=self.max_gap_days,
                season=self.season,
                single_date=self.single_date,
            ),
            "spatial": lambda: pairs.spatial(radius_km=self.radius_km),
            "none": lambda: None,
        }
        policy = policies[self.pairs]()
        store = streaming.open_store(self.store)
        if policy is not None and dist.rank() == 0:
            seen = pairs.report(policy, store.scenes)
            print_line(
                f"pairs: {seen['n_pairs']:,}, of which {seen['degenerate_share']:.1%} self-pairs"
            )
        run = pretrain(
            store,
            pairs=policy,
            geo=None if self.geo is None else GeoClusters.load(self.geo),
            label=self.label,
            config=self.config,
            output_dir=self.out,
            seed=self.seed,
        ).finish()
        if dist.rank() > 0:
            return
        last = run.logs.iloc[-1]
        print_line(
            f"{self.out}: {run.step} steps in {last['seconds']:.0f} s, loss {last['loss']:.3f}, "
            f"effective rank {last['effective_rank']:.0f}, kNN {last['knn']:.3f}"
        )


@dataclass(frozen=True)
class Embed:
    """Embed every chip of a store."""

    store: Positional[str]
    """The chip store, or a stream: a folder, or s3://bucket/prefix."""
    encoder: str
    """A run's folder, an encoder.safetensors, weights of others (the paper's, MoCo, SeCo,
    SSL4EO-S12, torchvision, timm), or "random" or "hog" for comparison."""
    out: Path
    """The .parquet or .geoparquet to write."""
    seed: int = 0
    """Of random weights."""
    input: Literal["imagenet", "seco", "ssl4eo", "unit"] | None = None
    """What weights of others saw; told from the file where it says so."""
    full_scale: float | None = None
    """The value of a chip that stands for 1 to weights of others."""
    adapt: Literal["name", "mean"] = "name"
    """Fit the first convolution to the store's bands by name, or make absent ones up."""

    def run(self) -> None:
        """Embed and write."""
        from geossl import embed, evaluate
        from geossl.data import streaming
        from geossl.models import weights
        from geossl.utils import dist
        from geossl.utils.device import select_device

        store = streaming.open_store(self.store)
        if self.encoder == "random":
            vectors = evaluate.random_features(store, name="small", seed=self.seed)
        elif self.encoder == "hog":
            vectors = evaluate.hog(store)
        else:
            encoder = weights.load(
                self.encoder,
                input=self.input,
                full_scale=self.full_scale,
                bands=store.bands,
                adapt=self.adapt,
            )
            vectors = embed(store, encoder, device=select_device("auto"), progress=True)
        if dist.rank() == 0:
            vectors.save(self.out)
            print_line(f"{self.out}: {vectors.vectors.shape[0]:,} x {vectors.vectors.shape[1]}")
