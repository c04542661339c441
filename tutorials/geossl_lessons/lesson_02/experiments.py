"""Experiments of lesson 02: recognizing pictures, a queue step by step, training that collapses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from geossl import evaluate, losses, models
from geossl.data.store import ChipStore
from geossl.embeddings import embed
from geossl.evaluate import bootstrap, metrics
from geossl.transforms import Views
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import Fraction, PositiveInt, Seed, validated
from geossl_lessons.showing import interval_text


@validated
def two_views(
    store: ChipStore, rows: ArrayLike, *, transform: Views | None = None, seed: Seed = 0
) -> tuple[Tensor, Tensor]:
    """Draw two views ``(N, C, H, W)`` of each chip, normalized with the store's mean and std."""
    transform = transform or Views()
    generator = torch.Generator().manual_seed(seed)
    mean, std = torch.from_numpy(store.mean), torch.from_numpy(store.std)
    chips = store.gather(rows)
    first = transform(chips, mean=mean, std=std, generator=generator)
    return first, transform(chips, mean=mean, std=std, generator=generator)


def to_pictures(store: ChipStore, views: Tensor) -> np.ndarray:
    """Turn normalized views ``(N, C, H, W)`` into pictures ``(N, H, W, 3)``, uint8."""
    return store.to_rgb(_denormalize(store, views).numpy())


@torch.no_grad()
def embed_views(store: ChipStore, encoder: models.Encoder, views: Tensor) -> Tensor:
    """Compute unit-norm embeddings ``(N, E)`` of views normalized by the store, in eval mode."""
    chips = _denormalize(store, views)  # the encoder normalizes with its own mean and std
    encoder = encoder.eval()
    device = encoder.mean.device
    parts = [encoder(encoder.normalize(part.to(device))).cpu() for part in chips.split(256)]
    return F.normalize(torch.cat(parts), dim=1)


def _denormalize(store: ChipStore, views: Tensor) -> Tensor:
    mean, std = torch.from_numpy(store.mean), torch.from_numpy(store.std)
    return views * std[:, None, None] + mean[:, None, None]


class Retrieval(NamedTuple):
    """How often the nearest of ``candidates`` views is the other one of its chip: 95 % interval."""

    value: float
    low: float
    high: float
    candidates: int


@validated
def retrieve_views(
    store: ChipStore,
    encoder: models.Encoder,
    rows: ArrayLike,
    *,
    transform: Views | None = None,
    seed: Seed = 0,
) -> Retrieval:
    """Search for the other view of each chip in ``rows`` among the views of all of them."""
    rows = np.asarray(rows)
    first, second = (
        embed_views(store, encoder, views)
        for views in two_views(
            store, rows, transform=transform, seed=derive_seed(seed, "found again")
        )
    )
    hit = ((first @ second.T).argmax(1) == torch.arange(len(rows))).numpy()
    location = store.scenes["location"].to_numpy()[rows]
    return Retrieval(*bootstrap.share_interval(hit, location, seed), len(rows))


@validated
def evaluate_encoders(
    store: ChipStore, encoders: Mapping[str, models.Encoder], *, seed: Seed = 0
) -> pd.DataFrame:
    """Measure what encoders can do with pictures of the split "test".

    They find the same picture by another view, the climate by a linear probe, and the same location
    at another date. Returns the columns ``encoder, task, value, low, high``.
    """
    test = np.flatnonzero((store.scenes["split"] == "test").to_numpy(bool))
    rows = []
    for name, encoder in encoders.items():
        embeddings = embed(store, encoder)
        results: dict[str, Retrieval | evaluate.ProbeResult] = {
            f"same picture, other view (1 of {len(test):,})": retrieve_views(
                store, encoder, test, seed=seed
            ),
            "climate, linear probe": evaluate.linear(embeddings, label="label", seed=seed),
            "same location, other date": evaluate.same_location(
                embeddings, split="test", seed=seed
            ),
        }
        rows += [[name, task, r.value, r.low, r.high] for task, r in results.items()]
    return pd.DataFrame(rows, columns=["encoder", "task", "value", "low", "high"])


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Put the results of `evaluate_encoders` into words; the first encoder is the baseline."""
    lines = []
    before, after = results["encoder"].unique()
    for task, rows in results.groupby("task", sort=False):
        base, new = (rows[rows["encoder"] == name].iloc[0] for name in (before, after))
        conclusion = "no difference shown: the intervals overlap"
        if new["low"] > base["high"]:
            conclusion = "yes, learned"
        elif new["high"] < base["low"]:
            conclusion = "no, worse than without learning"
        values = [interval_text(row["value"], row["low"], row["high"]) for row in (base, new)]
        lines.append([task, *values, conclusion])
    return pd.DataFrame(lines, columns=["task", before, after, "learned?"])


@dataclass(frozen=True)
class QueueHistory:
    """A queue over some steps of training. S steps, K slots.

    Attributes:
        rows: ``(S, K)`` row of the store whose key is in a slot; -1 for an empty slot.
        age: ``(S, K)`` steps since it was added; -1 for an empty slot.
        drift: ``(S, K)`` 1 - cosine of the stored key and of the key that the key encoder of that
            step computes for the same view; nan for an empty slot.
        momentum: of the key encoder.
    """

    rows: np.ndarray
    age: np.ndarray
    drift: np.ndarray
    momentum: float


@validated
def record_queue(
    store: ChipStore,
    *,
    queue_size: PositiveInt = 48,
    batch_size: PositiveInt = 8,
    steps: PositiveInt = 16,
    momentum: Fraction = 0.99,
    seed: Seed = 0,
) -> QueueHistory:
    """Train for some steps with a small queue, and record its contents after each.

    Batch norm is set by a few passes and then fixed, so that only learning moves the keys.
    """
    moco, step = _small_moco(store, queue_size=queue_size, momentum=momentum, seed=seed)
    with torch.no_grad():
        for warm in range(12):
            a, b = two_views(store, _sample_rows(store, 64, seed, "warm", warm), seed=warm)
            moco.query(a), moco.key(b)
    moco.eval()
    rows = np.full((steps, queue_size), -1)
    age, drift = np.full((steps, queue_size), -1), np.full((steps, queue_size), np.nan)
    views = torch.zeros((queue_size, *store.chips.shape[1:]))
    for now in range(steps):
        batch = _sample_rows(store, batch_size, seed, "film", now)
        slots = (moco.pointer + np.arange(batch_size)) % queue_size
        before = rows[now - 1] if now else rows[0]
        rows[now], age[now] = before, np.where(before < 0, -1, age[now - 1] + 1)
        a, views[slots] = two_views(store, batch, seed=derive_seed(seed, "views", now))
        step(a, views[slots], batch, negatives=True)
        rows[now, slots], age[now, slots] = batch, 0
        filled = rows[now] >= 0
        drift[now, filled] = 1 - (moco.queue * moco.key(views)).sum(1).numpy()[filled]
    return QueueHistory(rows, age, np.maximum(drift, 0), momentum)


@validated
def train_briefly(
    store: ChipStore,
    *,
    negatives: bool = True,
    steps: PositiveInt = 60,
    batch_size: PositiveInt = 64,
    seed: Seed = 0,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Train with a queue of negatives, or only pull positives together; record signs of collapse.

    Returns ``step, loss`` as a share of the first, ``cosine`` of the positives, ``feature_std`` of
    the projections (1 even, 0 collapse) and their ``effective_rank``; and the projections
    ``(N, D)`` of the last batch.
    """
    momentum = 0.99 if negatives else 0.0
    moco, step = _small_moco(store, queue_size=512, momentum=momentum, seed=seed)
    for start in range(0, 512, batch_size) if negatives else ():
        batch = _sample_rows(store, batch_size, seed, "fill", start)
        moco.enqueue(moco.key(two_views(store, batch, seed=start)[1]), torch.from_numpy(batch))
    rows = []
    for now in range(steps):
        batch = _sample_rows(store, batch_size, seed, "short", now)
        a, b = two_views(store, batch, seed=derive_seed(seed, "views", now))
        loss, query, key = step(a, b, batch, negatives=negatives)
        cosine = (F.normalize(query, dim=1) * key).sum(1).mean()
        std, rank = metrics.feature_std(query), metrics.effective_rank(query)
        rows.append([now + 1, *(float(value) for value in (loss, cosine, std, rank))])
    columns = ["step", "loss", "cosine", "feature_std", "effective_rank"]
    table = pd.DataFrame(rows, columns=columns)
    table["loss"] /= table["loss"].iloc[0]
    return table, query.numpy()


def _sample_rows(store: ChipStore, count: int, seed: int, *purpose: str | int) -> np.ndarray:
    rng = np.random.default_rng(derive_seed(seed, *purpose))
    return rng.choice(len(store), count, replace=len(store) < count)


def _small_moco(
    store: ChipStore, *, queue_size: int, momentum: float, seed: int
) -> tuple[models.MoCo, Callable[..., tuple[Tensor, Tensor, Tensor]]]:
    """Build a small MoCo and its training step, for some seconds of training."""
    encoder = models.build_encoder(bands=store.chips.shape[1], seed=seed)
    moco = models.MoCo(encoder, queue_size=queue_size, momentum=momentum, seed=seed)
    parameters = [p for p in moco.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)

    def step(
        a: Tensor, b: Tensor, rows: np.ndarray, *, negatives: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        moco.update_key()
        _, query = moco.query(a)
        key = moco.key(b)
        if negatives:
            loss = losses.info_nce(query, key, moco.queue)
        else:
            loss = (1 - F.cosine_similarity(query, key)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        moco.enqueue(key, torch.from_numpy(rows))
        return loss.detach(), query.detach(), key

    return moco, step
