"""What lesson 03 measures: what pairs ask for, what moves an embedding, and what it still tells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from geossl import evaluate, models, pairs
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, embed
from geossl.evaluate import bootstrap
from geossl_lessons.lesson_03.floods import COLUMN, YES

CLIMATE, PLACE = "which climate? (linear probe)", "same place at another date? (nearest)"
CHANGED = "which of two pairs has a new flood? (distance of the dates)"
LABELLED = "flooded or not? (linear probe)"
DATE, FLOOD = "another date", "a flood"


def policies_table(policies: Mapping[str, pairs.PairSampler], table: pd.DataFrame) -> pd.DataFrame:
    """What one epoch of pairs looks like under some policies, in words.

    Args:
        policies: name -> policy.
        table: the scene table.

    Returns:
        A row a policy: policy, pairs an epoch, with itself, dropped, median gap, same season.
    """
    lines = []
    for name, policy in policies.items():
        seen = pairs.report(policy, table)
        query, key = (p.numpy() for p in policy.prepare(table)(torch.Generator().manual_seed(0)))
        apart, quarter = query != key, table["time"].dt.month.to_numpy() % 12 // 3
        same = (quarter[query] == quarter[key])[apart]
        gap = f"{seen['gap_days_median']:,.0f} days" if apart.any() else "–"
        lines.append([
            name, f"{seen['n_pairs']:,}", f"{seen['degenerate_share']:.0%}",
            f"{seen['dropped']:,}", gap, f"{same.mean():.0%}" if apart.any() else "–",
        ])  # fmt: skip
    columns = ["policy", "pairs an epoch", "with itself", "dropped", "median gap", "same season"]
    return pd.DataFrame(lines, columns=columns)


def pairs_of_dates(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of dates of each place, the earlier date first: rows ``(P,)`` each."""
    times, early, late = table["time"].to_numpy(), [], []
    for rows in table.groupby("location", sort=False).indices.values():
        order = rows[np.argsort(times[rows], kind="stable")]
        one, two = np.triu_indices(len(order), k=1)
        early.append(order[one])
        late.append(order[two])
    return np.concatenate(early), np.concatenate(late)


def moved(dry: ChipStore, wet: ChipStore, encoders: Mapping[str, models.Encoder]) -> pd.DataFrame:
    """How far another date, or a flood, moves an embedding; 1 is as far as to another place.

    Args:
        dry: the chips without floods.
        wet: what `geossl_lessons.lesson_03.floods.flooded` made of them.
        encoders: name -> encoder.

    Returns:
        A row an encoder: encoder, "another date" of a place (both dry), "a flood" (the same
        picture with and without). Each is the mean of 1 - cosine over places of the split "test",
        as a share of that of two places.
    """
    table = wet.scenes
    test = np.flatnonzero((table["split"] == "test").to_numpy(bool))
    early, late = pairs_of_dates(table.iloc[test])
    hit = (table[COLUMN] == YES).to_numpy(bool)[test]
    place = table["location"].to_numpy()[test]
    lines = []
    for name, encoder in encoders.items():
        before, after = (
            F.normalize(torch.from_numpy(embed(s, encoder, index=test).vectors), dim=1)
            for s in (dry, wet)
        )
        apart = 1 - before @ before.T
        far = apart[torch.from_numpy(place[:, None] != place)].mean()
        flood = (1 - (before[hit] * after[hit]).sum(1)).mean()
        lines.append([name, float(apart[early, late].mean() / far), float(flood / far)])
    return pd.DataFrame(lines, columns=["encoder", DATE, FLOOD])


def change_scores(embeddings: Embeddings, *, split: str = "test") -> pd.DataFrame:
    """Change detection without labels: how far apart are the embeddings of two dates?

    Args:
        embeddings: of all chips of a store with floods.
        split: the places that are asked.

    Returns:
        A row a pair of dates of a place: location, ``score`` = 1 - cosine, and ``changed``: one of
        the dates is flooded and the other is not.
    """
    some = embeddings.subset((embeddings.scenes["split"] == split).to_numpy(bool))
    early, late = pairs_of_dates(some.scenes)
    unit = F.normalize(some.tensor(), dim=1)
    flood = (some.scenes[COLUMN] == YES).to_numpy(bool)
    return pd.DataFrame({
        "location": some.scenes["location"].to_numpy()[early],
        "score": (1 - (unit[early] * unit[late]).sum(1)).numpy(),
        "changed": flood[early] != flood[late],
    })  # fmt: skip


def verdicts(
    store: ChipStore, encoders: Mapping[str, models.Encoder], *, base: str, judged: str,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """What encoders can tell of places that no training saw, and what separates two of them.

    Args:
        store: chips of `geossl_lessons.lesson_03.floods.flooded`, with a split.
        encoders: name -> encoder.
        base: name of the encoder compared with.
        judged: name of the one that is judged.
        seed: of the probes and the bootstrap.

    Returns:
        A row a task: task, chance, a column an encoder, and the difference of the two in points,
        question by question, with its 95 % interval over places, and what follows from it.
    """
    found = {name: embed(store, encoder) for name, encoder in encoders.items()}
    tasks = {
        CLIMATE: lambda e: evaluate.linear(e, label="label", seed=seed),
        PLACE: lambda e: evaluate.same_location(e, split="test", seed=seed),
        LABELLED: lambda e: evaluate.linear(e, label=COLUMN, seed=seed),
    }
    lines: list[tuple[str, float, list[float], tuple[float, float, float]]] = []
    for task, measure in tasks.items():
        results = {name: measure(e) for name, e in found.items()}
        one, two = (results[name].predictions for name in (base, judged))
        more = two["hit"].to_numpy().astype(int) - one["hit"].to_numpy().astype(int)
        apart = bootstrap.share_interval(more, one["location"].to_numpy(), seed)
        values = [result.value for result in results.values()]
        lines.append((task, results[base].chance, values, apart))
    scored = {name: change_scores(e) for name, e in found.items()}
    wins = {name: _wins(part) for name, part in scored.items()}
    low, high = _interval_of_wins(wins[judged] - wins[base], scored[base], seed=seed)
    values = [float(table.mean()) for table in wins.values()]
    apart = (float((wins[judged] - wins[base]).mean()), low, high)
    lines.insert(2, (CHANGED, 0.5, values, apart))
    return pd.DataFrame(
        [[task, f"{chance:.1%}", *(f"{v:.1%}" for v in values), _so(*apart)]
         for task, chance, values, apart in lines],
        columns=["task", "chance", *encoders, f"{judged}, beside {base}"],
    )  # fmt: skip


def _so(value: float, low: float, high: float) -> str:
    word = "no difference shown" if low <= 0 <= high else "gained" if value > 0 else "lost"
    return f"{word}: {100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def _wins(scored: pd.DataFrame) -> torch.Tensor:
    """``(C, U)``: 1 where a changed pair scores higher than an unchanged one, a half when equal."""
    score = torch.tensor(scored["score"].to_numpy(np.float32))
    changed = torch.tensor(scored["changed"].to_numpy(bool))
    more, less = score[changed][:, None], score[~changed][None]
    return (more > less).float() + 0.5 * (more == less)


def _interval_of_wins(
    wins: torch.Tensor, scored: pd.DataFrame, *, seed: int
) -> tuple[float, float]:
    """95 % interval of the mean of ``wins (C, U)`` by bootstrap over places."""
    changed = torch.tensor(scored["changed"].to_numpy(bool))

    def mean(weights: torch.Tensor) -> torch.Tensor:
        one, two = weights[:, changed].float(), weights[:, ~changed].float()
        return ((one @ wins) * two).sum(1) / (one.sum(1) * two.sum(1))

    place = scored["location"].to_numpy()
    return bootstrap.bootstrap_interval(mean, place, seed=seed, resamples=bootstrap.RESAMPLES)
