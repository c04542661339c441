"""Experiments of lesson 03: what policies pair, what moves an embedding, what it can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from geossl import evaluate, models, pairs
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, embed
from geossl.evaluate import bootstrap
from geossl.utils.validate import Seed, validated
from geossl_lessons.lesson_03.floods import COLUMN, FLOODED

CLIMATE = "which climate? (linear probe)"
SAME_LOCATION = "same location at another date? (nearest)"
CHANGED = "which of two pairs has a new flood? (distance of the dates)"
LABELED = "flooded or not? (linear probe)"
DATE, FLOOD = "another date", "a flood"


def policies_table(policies: Mapping[str, pairs.PairSampler], table: pd.DataFrame) -> pd.DataFrame:
    """Describe one epoch of pairs of each policy in words."""
    rows = []
    for name, policy in policies.items():
        report = pairs.report(policy, table)
        query, key = (p.numpy() for p in policy.prepare(table)(torch.Generator().manual_seed(0)))
        pair, quarter = query != key, table["time"].dt.month.to_numpy() % 12 // 3
        same = (quarter[query] == quarter[key])[pair]
        gap = f"{report['gap_days_median']:,.0f} days" if pair.any() else "–"
        rows.append([
            name, f"{report['n_pairs']:,}", f"{report['degenerate_share']:.0%}",
            f"{report['dropped']:,}", gap, f"{same.mean():.0%}" if pair.any() else "–",
        ])  # fmt: skip
    columns = ["policy", "pairs per epoch", "with itself", "dropped", "median gap", "same season"]
    return pd.DataFrame(rows, columns=columns)


def pairs_of_dates(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """List all pairs of dates of each location, the earlier date first: rows ``(P,)`` each."""
    times, early, late = table["time"].to_numpy(), [], []
    for rows in table.groupby("location", sort=False).indices.values():
        order = rows[np.argsort(times[rows], kind="stable")]
        one, two = np.triu_indices(len(order), k=1)
        early.append(order[one])
        late.append(order[two])
    return np.concatenate(early), np.concatenate(late)


@validated
def measure_shifts(
    dry: ChipStore, wet: ChipStore, encoders: Mapping[str, models.Encoder]
) -> pd.DataFrame:
    """Measure how far another date, or a flood, moves an embedding, in the split "test".

    Takes a store without floods and with those of `add_floods`. For each encoder: the mean of
    1 - cosine between two dates of a location (both dry), and between a picture without and with a
    flood, each divided by that of two different locations.
    """
    table = wet.scenes
    test = np.flatnonzero((table["split"] == "test").to_numpy(bool))
    early, late = pairs_of_dates(table.iloc[test])
    flooded = (table[COLUMN] == FLOODED).to_numpy(bool)[test]
    location = table["location"].to_numpy()[test]
    rows = []
    for name, encoder in encoders.items():
        before, after = (
            F.normalize(torch.from_numpy(embed(s, encoder, index=test).vectors), dim=1)
            for s in (dry, wet)
        )
        distance = 1 - before @ before.T
        far = distance[torch.from_numpy(location[:, None] != location)].mean()
        flood = (1 - (before[flooded] * after[flooded]).sum(1)).mean()
        rows.append([name, float(distance[early, late].mean() / far), float(flood / far)])
    return pd.DataFrame(rows, columns=["encoder", DATE, FLOOD])


def change_scores(embeddings: Embeddings, *, split: str = "test") -> pd.DataFrame:
    """Detect changes in a split without labels: how far apart are the embeddings of two dates?

    Returns one row for each pair of dates of a location: location, ``score`` = 1 - cosine, and
    ``changed``: one of the dates is flooded and the other is not.
    """
    part = embeddings.subset((embeddings.scenes["split"] == split).to_numpy(bool))
    early, late = pairs_of_dates(part.scenes)
    unit = F.normalize(part.tensor(), dim=1)
    flooded = (part.scenes[COLUMN] == FLOODED).to_numpy(bool)
    return pd.DataFrame({
        "location": part.scenes["location"].to_numpy()[early],
        "score": (1 - (unit[early] * unit[late]).sum(1)).numpy(),
        "changed": flooded[early] != flooded[late],
    })  # fmt: skip


@validated
def compare_encoders(
    store: ChipStore,
    encoders: Mapping[str, models.Encoder],
    *,
    baseline: str,
    candidate: str,
    seed: Seed = 0,
) -> pd.DataFrame:
    """Measure what encoders can tell of held-out locations, and compare two of them by name.

    Returns one row for each task: task, chance, a column for each encoder, and the paired
    difference of candidate and baseline in points with its 95 % interval over locations.
    """
    embeddings = {name: embed(store, encoder) for name, encoder in encoders.items()}
    tasks = {
        CLIMATE: lambda e: evaluate.linear(e, label="label", seed=seed),
        SAME_LOCATION: lambda e: evaluate.same_location(e, split="test", seed=seed),
        LABELED: lambda e: evaluate.linear(e, label=COLUMN, seed=seed),
    }
    rows: list[list[Any]] = []
    for task, measure in tasks.items():
        results = {name: measure(e) for name, e in embeddings.items()}
        one, two = (results[name].predictions for name in (baseline, candidate))
        gain = two["hit"].to_numpy().astype(int) - one["hit"].to_numpy().astype(int)
        interval = bootstrap.share_interval(gain, one["location"].to_numpy(), seed)
        values = [result.value for result in results.values()]
        rows.append([task, results[baseline].chance, values, interval])
    scores = {name: change_scores(e) for name, e in embeddings.items()}
    wins = {name: _wins(part) for name, part in scores.items()}
    gain = wins[candidate] - wins[baseline]
    interval = (float(gain.mean()), *_interval_of_wins(gain, scores[baseline], seed=seed))
    rows.insert(2, [CHANGED, 0.5, [float(part.mean()) for part in wins.values()], interval])
    return pd.DataFrame(
        [[task, f"{chance:.1%}", *(f"{v:.1%}" for v in values), _conclude(*interval)]
         for task, chance, values, interval in rows],
        columns=["task", "chance", *encoders, f"{candidate}, compared with {baseline}"],
    )  # fmt: skip


def _conclude(value: float, low: float, high: float) -> str:
    word = "no difference shown" if low <= 0 <= high else "gained" if value > 0 else "lost"
    return f"{word}: {100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def _wins(scores: pd.DataFrame) -> torch.Tensor:
    """Return ``(C, U)``: 1 if a changed pair scores higher than an unchanged one, 0.5 if equal."""
    score = torch.tensor(scores["score"].to_numpy(np.float32))
    changed = torch.tensor(scores["changed"].to_numpy(bool))
    high, low = score[changed][:, None], score[~changed][None]
    return (high > low).float() + 0.5 * (high == low)


def _interval_of_wins(
    wins: torch.Tensor, scores: pd.DataFrame, *, seed: int
) -> tuple[float, float]:
    """Compute the 95 % interval of the mean of ``wins (C, U)`` by bootstrap over locations."""
    changed = torch.tensor(scores["changed"].to_numpy(bool))

    def mean(weights: torch.Tensor) -> torch.Tensor:
        one, two = weights[:, changed].float(), weights[:, ~changed].float()
        return ((one @ wins) * two).sum(1) / (one.sum(1) * two.sum(1))

    location = scores["location"].to_numpy()
    return bootstrap.bootstrap_interval(mean, location, seed=seed, resamples=bootstrap.RESAMPLES)
