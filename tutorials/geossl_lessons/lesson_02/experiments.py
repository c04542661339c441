"""What lesson 02 measures: pictures found again, a queue on film, and training that collapses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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


def two_views(
    store: ChipStore, rows: ArrayLike, *, views: Views | None = None, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Two augmented views of each chip, drawn one after the other.

    Args:
        store: the chips.
        rows: ``(N,)`` of the store.
        views: the augmentation; that of `geossl.PretrainConfig` when None.
        seed: of both draws.

    Returns:
        Two tensors ``(N, C, H, W)``, float32, normalized with the store's mean and spread.
    """
    views = views or Views()
    generator = torch.Generator().manual_seed(seed)
    mean, std = torch.from_numpy(store.mean), torch.from_numpy(store.std)
    chips = store.gather(rows)
    first = views(chips, mean=mean, std=std, generator=generator)
    return first, views(chips, mean=mean, std=std, generator=generator)


def pictures(store: ChipStore, seen: Tensor) -> np.ndarray:
    """Normalized views ``(N, C, H, W)`` as ``(N, H, W, 3)`` uint8 for the eye."""
    mean, std = torch.from_numpy(store.mean), torch.from_numpy(store.std)
    return store.picture_of((seen * std[:, None, None] + mean[:, None, None]).numpy())


@torch.no_grad()
def embed_views(store: ChipStore, encoder: models.Encoder, seen: Tensor) -> Tensor:
    """Unit-norm embeddings ``(N, E)`` of views normalized by the store, in eval mode."""
    mean, std = torch.from_numpy(store.mean), torch.from_numpy(store.std)
    chips = seen * std[:, None, None] + mean[:, None, None]  # the encoder normalizes by its own
    encoder = encoder.eval()
    device = encoder.mean.device
    parts = [encoder(encoder.normalize(part.to(device))).cpu() for part in chips.split(256)]
    return F.normalize(torch.cat(parts), dim=1)


@dataclass(frozen=True)
class FoundAgain:
    """How often a view leads back to the other view of its own chip, among all chips.

    Attributes:
        value, low, high: share, and its 95 % interval over places.
        among: number of chips to choose from.
    """

    value: float
    low: float
    high: float
    among: int

    def __str__(self) -> str:
        return (
            f"{self.value:.0%} ({self.low:.0%} to {self.high:.0%}) of {self.among:,} pictures, "
            f"chance {1 / self.among:.2%}"
        )


def found_again(
    store: ChipStore,
    encoder: models.Encoder,
    rows: ArrayLike,
    *,
    views: Views | None = None,
    seed: int = 0,
) -> FoundAgain:
    """Two views of each chip: is the other view the nearest of all?

    Args:
        store: the chips.
        encoder: trained or not.
        rows: ``(N,)`` chips to draw views of.
        views: the augmentation; that of `geossl.PretrainConfig` when None.
        seed: of the views and of the bootstrap.
    """
    rows = np.asarray(rows)
    first, second = (
        embed_views(store, encoder, seen)
        for seen in two_views(store, rows, views=views, seed=derive_seed(seed, "found again"))
    )
    hit = ((first @ second.T).argmax(1) == torch.arange(len(rows))).numpy()
    place = store.scenes["location"].to_numpy()[rows]
    return FoundAgain(*bootstrap.share_interval(hit, place, seed), len(rows))


def what_it_knows(
    store: ChipStore, encoders: Mapping[str, models.Encoder], *, seed: int = 0
) -> pd.DataFrame:
    """What some encoders can do with pictures of the split "test".

    Args:
        store: the chips, with a split.
        encoders: name -> encoder.
        seed: of views, probes and bootstrap.

    Returns:
        A row an encoder and a task, with ``encoder, task, value, low, high``. The tasks: the same
        picture found again among the test pictures by another view, the main climate by a linear
        probe, and the same place found again at another date.
    """
    test = np.flatnonzero((store.scenes["split"] == "test").to_numpy(bool))
    lines = []
    for name, encoder in encoders.items():
        embeddings = embed(store, encoder)
        results: dict[str, FoundAgain | evaluate.ProbeResult] = {
            f"same picture, other view (1 of {len(test):,})": found_again(
                store, encoder, test, seed=seed
            ),
            "climate, linear probe": evaluate.linear(embeddings, label="label", seed=seed),
            "same place, other date": evaluate.same_location(embeddings, split="test", seed=seed),
        }
        lines += [[name, task, r.value, r.low, r.high] for task, r in results.items()]
    return pd.DataFrame(lines, columns=["encoder", "task", "value", "low", "high"])


def conclusion(found: pd.DataFrame) -> pd.DataFrame:
    """The table of `what_it_knows` for two encoders in words, a row a task.

    Args:
        found: the first encoder is the baseline, the second the one that is judged.

    Returns:
        Columns ``task``, one for each encoder, and ``so`` what follows from their intervals.
    """
    lines = []
    before, after = found["encoder"].unique()
    for task, rows in found.groupby("task", sort=False):
        base, new = (rows[rows["encoder"] == name].iloc[0] for name in (before, after))
        so = "no difference shown: the intervals overlap"
        if new["low"] > base["high"]:
            so = "yes, learned"
        elif new["high"] < base["low"]:
            so = "no, worse than without learning"
        told = [f"{r['value']:.1%} ({r['low']:.1%} to {r['high']:.1%})" for r in (base, new)]
        lines.append([task, *told, so])
    return pd.DataFrame(lines, columns=["task", before, after, "so"])


@dataclass(frozen=True)
class Film:
    """A queue over some steps of training. S steps, K slots.

    Attributes:
        rows: ``(S, K)`` row of the store whose key lies in a slot; -1 where none came yet.
        age: ``(S, K)`` steps since it came; -1 likewise.
        drift: ``(S, K)`` 1 - cosine of the stored key and of the key that the key encoder of that
            step makes of the same view; nan likewise.
        momentum: of the key encoder.
    """

    rows: np.ndarray
    age: np.ndarray
    drift: np.ndarray
    momentum: float


def film_queue(
    store: ChipStore,
    *,
    queue_size: int = 48,
    batch_size: int = 8,
    steps: int = 16,
    momentum: float = 0.99,
    seed: int = 0,
) -> Film:
    """Train for some steps with a small queue, and keep what lies in it after each.

    Batch norm is set by a few passes and then held, so that only learning moves the keys.

    Args:
        store: the chips.
        queue_size: slots K.
        batch_size: pairs N a step, at most K.
        steps: to film.
        momentum: of the key encoder.
        seed: of everything.
    """
    moco, step = _apprentice(store, queue=queue_size, momentum=momentum, seed=seed)
    with torch.no_grad():
        for warm in range(12):
            a, b = two_views(store, _draw(store, 64, seed, "warm", warm), seed=warm)
            moco.query(a), moco.key(b)
    moco.eval()
    rows = np.full((steps, queue_size), -1)
    age, drift = np.full((steps, queue_size), -1), np.full((steps, queue_size), np.nan)
    held = torch.zeros((queue_size, *store.chips.shape[1:]))
    for now in range(steps):
        drawn = _draw(store, batch_size, seed, "film", now)
        slots = (moco.pointer + np.arange(batch_size)) % queue_size
        before = rows[now - 1] if now else rows[0]
        rows[now], age[now] = before, np.where(before < 0, -1, age[now - 1] + 1)
        a, held[slots] = two_views(store, drawn, seed=derive_seed(seed, "views", now))
        step(a, held[slots], drawn, negatives=True)
        rows[now, slots], age[now, slots] = drawn, 0
        filled = rows[now] >= 0
        drift[now, filled] = 1 - (moco.queue * moco.key(held)).sum(1).numpy()[filled]
    return Film(rows, age, np.maximum(drift, 0), momentum)


def short_run(
    store: ChipStore,
    *,
    negatives: bool = True,
    steps: int = 60,
    batch_size: int = 64,
    seed: int = 0,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Train with or without negatives and record the signs of collapse.

    Args:
        store: the chips; all of them are used.
        negatives: InfoNCE with a queue; False: only pull positives together.
        steps: optimizer steps.
        batch_size: pairs a step.
        seed: of everything.

    Returns:
        A table with a row a step: ``step, loss`` as a share of the first, ``cosine`` of the
        positives, ``feature_std`` of the projections (1 even, 0 collapse) and their
        ``effective_rank``; and the projections ``(N, D)`` of the last batch.
    """
    moco, step = _apprentice(store, queue=512, momentum=0.99 if negatives else 0.0, seed=seed)
    for filled in range(0, 512, batch_size) if negatives else ():
        drawn = _draw(store, batch_size, seed, "fill", filled)
        moco.enqueue(moco.key(two_views(store, drawn, seed=filled)[1]), torch.from_numpy(drawn))
    lines = []
    for now in range(steps):
        drawn = _draw(store, batch_size, seed, "short", now)
        a, b = two_views(store, drawn, seed=derive_seed(seed, "views", now))
        loss, query, key = step(a, b, drawn, negatives=negatives)
        cosine = (F.normalize(query, dim=1) * key).sum(1).mean()
        std, rank = metrics.feature_std(query), metrics.effective_rank(query)
        lines.append([now + 1, *(float(value) for value in (loss, cosine, std, rank))])
    columns = ["step", "loss", "cosine", "feature_std", "effective_rank"]
    table = pd.DataFrame(lines, columns=columns)
    table["loss"] /= table["loss"].iloc[0]
    return table, query.numpy()


def arrows(
    store: ChipStore, encoder: models.Encoder, *, count: int = 64, seed: int = 0
) -> np.ndarray:
    """Unit-norm embeddings ``(count, E)`` of views of some chips."""
    drawn = _draw(store, count, seed, "arrows")
    return embed_views(store, encoder, two_views(store, drawn, seed=seed)[0]).numpy()


def _draw(store: ChipStore, count: int, seed: int, *purpose: str | int) -> np.ndarray:
    rng = np.random.default_rng(derive_seed(seed, *purpose))
    return rng.choice(len(store), count, replace=len(store) < count)


def _apprentice(
    store: ChipStore, *, queue_size: int, momentum: float, seed: int
) -> tuple[models.MoCo, Callable[..., tuple[Tensor, Tensor, Tensor]]]:
    """A small MoCo and its training step, for some seconds of training."""
    encoder = models.build_encoder(bands=store.chips.shape[1], seed=seed)
    moco = models.MoCo(encoder, queue_size=queue_size, momentum=momentum, seed=seed)
    learned = [p for p in moco.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-3)

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
