"""A probe many times over: cross-validation by blocks of space, and fewer and fewer labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.embeddings import Embeddings
from geossl.evaluate.bootstrap import interval
from geossl.evaluate.linear import linear
from geossl.evaluate.multilabel import mean_precision
from geossl.evaluate.results import UNLEARNED, ProbeResult, has_label
from geossl.evaluate.splits import Split, prepare, require_label

# called with embeddings, and label, split (a Series) and seed by keyword
Measure: TypeAlias = Callable[..., ProbeResult]


def cross_validate(
    embeddings: Embeddings,
    *,
    label: str = "label",
    folds: int = 5,
    block_deg: float = 10.0,
    measure: Measure = linear,
    seed: int = 0,
) -> ProbeResult:
    """Test every location exactly once, by a classifier that saw no chip of its block of space.

    The blocks are dealt to folds of about as many locations; each fold is the test once, all others
    are the training chips. What ``measure`` chooses, it chooses on some of these.

    Args:
        embeddings: vectors and their scenes; rows without a label are left out.
        label: column of labels.
        folds: how many, >= 2.
        block_deg: side of the blocks in degrees.
        measure: `linear`, `knn` or `multi_label`, or e.g. ``functools.partial(knn, k=5)``.
        seed: of the folds, and given to ``measure``.

    Returns:
        All test chips together, sorted by row; predictions have a column fold, ``more`` has the
        spread of the folds' figures; n_train is the mean of the folds.

    Raises:
        ValueError: ``folds < 2``, fewer blocks than folds, rows without coordinates, or what
            ``measure`` refuses.
    """
    if folds < 2:
        raise ValueError(f"expected folds >= 2, came {folds}")
    table = embeddings.scenes
    require_label(table, label)
    known = np.flatnonzero(table[label].notna())
    if len(known) == 0:
        raise ValueError(f"expected rows with a {label!r}, came none among {len(table)}")
    some = embeddings.subset(known)
    shares = {str(fold): 1.0 for fold in range(folds)}
    fold = scenes.split_by_blocks(some.scenes, block_deg=block_deg, shares=shares, seed=seed)
    results = []
    for name in shares:
        where = pd.Series(np.where(fold == name, "test", "train"))
        results.append(measure(some, label=label, split=where, seed=seed))
    return _pooled(results, known, seed=seed)


def _pooled(results: list[ProbeResult], rows: np.ndarray, *, seed: int) -> ProbeResult:
    """One result of those of folds, whose rows count in ``rows``."""
    seen = pd.concat([r.predictions.assign(fold=i) for i, r in enumerate(results)])
    order = np.argsort(seen["row"].to_numpy(), kind="stable")
    seen = seen.iloc[order].reset_index(drop=True)
    seen["row"] = rows[seen["row"]]
    found = [r.probabilities for r in results if r.probabilities is not None]
    p = np.concatenate(found)[order] if len(found) == len(results) else None
    first, tests = results[0], [r.n_test for r in results]
    counts = pd.concat([r.classes for r in results], axis=1).min(axis=1)
    if first.multi and p is not None:
        true = has_label(seen["truth"], list(first.classes.index))
        value, low, high = mean_precision(p, true, seen, seed=seed)
    else:
        value, low, high = interval(seen["hit"].to_numpy(), scenes.location_codes(seen), seed)
    worst = max(r.more.get(UNLEARNED, 0) for r in results)
    more = {"folds": float(len(results)), "std of folds": float(np.std([r.value for r in results]))}
    more |= {UNLEARNED: worst} if worst else {}
    return ProbeResult(
        f"{first.metric}, {len(results)} folds", value, low, high,
        float(np.average([r.chance for r in results], weights=tests)),
        round(np.mean([r.n_train for r in results])), len(seen), seen, more,
        classes=counts, probabilities=p, multi=first.multi,
    )  # fmt: skip


def label_efficiency(
    embeddings: Embeddings,
    *,
    label: str = "label",
    shares: Sequence[float] = (0.01, 0.05, 0.1, 0.5, 1),
    per_class: Sequence[int] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    split: Split = "column",
    block_deg: float = 10.0,
    measure: Measure = linear,
) -> pd.DataFrame:
    """How good is a probe that learns from a few labels? The test chips stay the same.

    Whole places lose their label, the same share of each class, but never the last place of one;
    the places of a share are among those of a larger one. The val places, on which `linear`
    chooses, are thinned alike: these are labels as well.

    Args:
        embeddings: vectors and their scenes.
        label: column of labels, one a chip.
        shares: of the training places that keep their label, in (0, 1].
        per_class: training places a class that keep it, in place of shares.
        seeds: of which places.
        split: as in `linear`; one by blocks is made once, by the first seed.
        block_deg: side of the blocks in degrees.
        measure: `linear` or `knn`, or e.g. ``functools.partial(linear, l2=1e-2)``.

    Returns:
        One row per share (or number) and seed: share or per_class, seed, places and val_places
        (with a label), n_train, n_test, metric, value, low, high (95 % over test locations),
        chance.

    Raises:
        ValueError: a share outside (0, 1], ``per_class`` below 1, no seed, or what ``measure``
            refuses.
    """
    amounts = list(shares if per_class is None else per_class)
    if not amounts or min(amounts) <= 0 or (per_class is None and max(amounts) > 1):
        raise ValueError(f"expected shares in (0, 1] or per_class >= 1, came {amounts}")
    if not len(seeds):
        raise ValueError("expected at least one seed, came none")
    table = embeddings.scenes
    codes, _, parts = prepare(table, label, split=split, block_deg=block_deg, seed=seeds[0])
    train, val, test = parts
    place = scenes.location_codes(table)
    of_train = _places_a_class(place[train], codes[train], size=codes.max() + 1)
    rows = []
    for amount in amounts:
        share = np.full(len(of_train), float(amount))
        if per_class is not None:
            share = np.minimum(1, amount / np.maximum(of_train, 1))
        for seed in seeds:
            where = pd.Series([None] * len(table), dtype=object)
            where[test] = "test"
            kept = {}
            for name, part in (("train", train), ("val", val)):
                kept[name] = part[_kept(place[part], codes[part], share, seed=seed)]
                where[kept[name]] = name
            result = measure(embeddings, label=label, split=where, seed=seed)
            rows.append({
                "share" if per_class is None else "per_class": amount,
                "seed": seed,
                "places": len(np.unique(place[kept["train"]])),
                "val_places": len(np.unique(place[kept["val"]])),
                **{name: getattr(result, name) for name in _COLUMNS},
            })  # fmt: skip
    return pd.DataFrame(rows)


_COLUMNS = ("n_train", "n_test", "metric", "value", "low", "high", "chance")


def _places_a_class(place: np.ndarray, codes: np.ndarray, *, size: int) -> np.ndarray:
    """Places ``(size,)`` of each class; one counts for the class of its first row."""
    return np.bincount(codes[np.unique(place, return_index=True)[1]], minlength=size)


def _kept(place: np.ndarray, codes: np.ndarray, share: np.ndarray, *, seed: int) -> np.ndarray:
    """Whether each row ``(n,)`` is of a place drawn, a share ``(C,)`` of each class's places."""
    if len(place) == 0:
        return np.zeros(0, bool)
    _, first, which = np.unique(place, return_index=True, return_inverse=True)
    kind = codes[first]
    order = np.random.default_rng(seed).permutation(len(first))
    rank = np.empty(len(first), np.int64)
    rank[order] = pd.Series(kind[order]).groupby(kind[order]).cumcount()
    wanted = np.maximum(1, np.rint(share * np.bincount(kind, minlength=len(share))))
    return (rank < wanted[kind])[which]
