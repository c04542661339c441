"""Repeat a probe: cross-validation by blocks of space, and learning from fewer labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias

import numpy as np
import pandas as pd
from annotated_types import Ge

from geossl.data import scenes
from geossl.embeddings import Embeddings
from geossl.evaluate.bootstrap import share_interval
from geossl.evaluate.linear import linear
from geossl.evaluate.multilabel import mean_precision
from geossl.evaluate.results import UNLEARNED, ProbeResult, has_label
from geossl.evaluate.splits import Split, labeled_rows, require_label
from geossl.utils.validate import Positive, PositiveFraction, PositiveInt, Seed, validated

# called with embeddings, and label, split (a Series) and seed by keyword
Measure: TypeAlias = Callable[..., ProbeResult]


@validated
def cross_validate(
    embeddings: Embeddings,
    *,
    label: str = "label",
    folds: Annotated[int, Ge(2)] = 5,
    block_deg: Positive = 10.0,
    measure: Measure = linear,
    seed: Seed = 0,
) -> ProbeResult:
    """Test every location exactly once, by a classifier that saw no chip of its block of space.

    The blocks are dealt to folds of about as many locations; each fold is the test once, all others
    are the training chips. What ``measure`` chooses, it chooses on some of these.

    Args:
        embeddings: vectors and their scenes; rows without a label are left out.
        label: column of labels.
        folds: number of folds.
        block_deg: side of the blocks in degrees.
        measure: `linear`, `knn` or `multi_label`, or e.g. ``functools.partial(knn, k=5)``.
        seed: of the folds, and passed to ``measure``.

    Returns:
        All test chips together, sorted by row; predictions have a column fold, ``more`` has the
        spread of the folds' values; n_train is the mean of the folds.

    Raises:
        ValueError: fewer blocks than folds, rows without coordinates, or an error of ``measure``.
    """
    table = embeddings.scenes
    require_label(table, label)
    known = np.flatnonzero(table[label].notna())
    labeled = embeddings.subset(known)
    shares = {str(fold): 1.0 for fold in range(folds)}
    fold = scenes.split_by_blocks(labeled.scenes, block_deg=block_deg, shares=shares, seed=seed)
    results = []
    for name in shares:
        split = pd.Series(np.where(fold == name, "test", "train"))
        results.append(measure(labeled, label=label, split=split, seed=seed))
    return _pool(results, known, seed=seed)


def _pool(results: list[ProbeResult], rows: np.ndarray, *, seed: int) -> ProbeResult:
    """Merge the results of the folds; their row numbers count in ``rows``."""
    table = pd.concat([r.predictions.assign(fold=i) for i, r in enumerate(results)])
    order = np.argsort(table["row"].to_numpy(), kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    table["row"] = rows[table["row"]]
    parts = [r.probabilities for r in results if r.probabilities is not None]
    p = np.concatenate(parts)[order] if len(parts) == len(results) else None
    first = results[0]
    if first.multi and p is not None:
        truth = has_label(table["truth"], list(first.classes.index))
        value, low, high = mean_precision(p, truth, table, seed=seed)
    else:
        codes = scenes.location_codes(table)
        value, low, high = share_interval(table["hit"].to_numpy(), codes, seed)
    worst = max(r.more.get(UNLEARNED, 0) for r in results)
    more = {"folds": float(len(results)), "std of folds": float(np.std([r.value for r in results]))}
    more |= {UNLEARNED: worst} if worst else {}
    return ProbeResult(
        f"{first.metric}, {len(results)} folds", value, low, high,
        float(np.average([r.chance for r in results], weights=[r.n_test for r in results])),
        round(np.mean([r.n_train for r in results])), len(table), table, more,
        classes=pd.concat([r.classes for r in results], axis=1).min(axis=1),
        probabilities=p, multi=first.multi,
    )  # fmt: skip


@validated
def label_efficiency(
    embeddings: Embeddings,
    *,
    label: str = "label",
    shares: Sequence[PositiveFraction] = (0.01, 0.05, 0.1, 0.5, 1),
    per_class: Sequence[PositiveInt] | None = None,
    locations: Sequence[PositiveInt] | None = None,
    seeds: Sequence[Seed] = (0, 1, 2),
    split: Split = "column",
    test_split: str = "test",
    block_deg: Positive = 10.0,
    measure: Measure = linear,
) -> pd.DataFrame:
    """Measure a probe that learns from few labels; the test chips stay the same.

    Locations lose their labels, the same share of each class, but never the last location of one;
    the locations of a share are among those of a larger one. The val locations, on which `linear`
    chooses, are thinned in the same way: these are labels as well.

    Args:
        embeddings: vectors and their scenes.
        label: column of labels, one per chip.
        shares: of the training locations that keep their label.
        per_class: training locations per class that keep it, in place of shares.
        locations: training locations that keep it, in place of shares; all of them where there are
            fewer. Each class gets its share, and at least one.
        seeds: of which locations.
        split: as in `linear`; one by blocks is made once, by the first seed.
        test_split: as in `linear`.
        block_deg: side of the blocks in degrees.
        measure: `linear` or `knn`, or e.g. ``functools.partial(linear, l2=1e-2)``.

    Returns:
        One row per share (or number) and seed: share or per_class, seed, locations and
        val_locations (with a label), n_train, n_test, metric, value, low, high (95 % over test
        locations), chance.

    Raises:
        ValueError: no share or seed, both ``per_class`` and ``locations``, or an error of
            ``measure``.

    Example:
        >>> table = label_efficiency(embeddings, locations=(25, 50, 100, 400))
    """
    if per_class is not None and locations is not None:
        raise ValueError("`per_class` and `locations` exclude each other. Give one of them.")
    name = "share" if per_class is None else "per_class"
    given = {"shares": shares, "per_class": per_class, "locations": locations}
    argument = "locations" if locations is not None else name.replace("share", "shares")
    amounts = given[argument] or ()
    for what, values in ((argument, amounts), ("seeds", seeds)):
        if not len(values):
            raise ValueError(f"`{what}` must have at least one value, got {values!r}.")
    table = embeddings.scenes
    rows = labeled_rows(
        table, label, split=split, test_split=test_split, block_deg=block_deg, seed=seeds[0]
    )
    location = scenes.location_codes(table)
    first = np.unique(location[rows.train], return_index=True)[1]  # a location's first row counts
    available = np.bincount(rows.codes[rows.train[first]], minlength=len(rows.names))
    if locations is not None:
        amounts = [min(1.0, count / available.sum()) for count in locations]
    total = available.sum() if locations is not None else None
    lines = []
    for amount in amounts:
        share = np.full(len(available), float(amount))
        if per_class is not None:
            share = np.minimum(1, amount / np.maximum(available, 1))
        for seed in seeds:
            reduced = pd.Series([None] * len(table), dtype=object)
            reduced[rows.test] = "test"
            counts = {}
            for part, of_part in (("train", rows.train), ("val", rows.val)):
                drawn = _draw_locations(
                    location[of_part],
                    rows.codes[of_part],
                    share,
                    seed=seed,
                    total=None if total is None or part == "val" else round(amount * total),
                )
                labeled = of_part[drawn]
                reduced[labeled], counts[part] = part, len(np.unique(location[labeled]))
            result = measure(embeddings, label=label, split=reduced, seed=seed)
            lines.append({
                name: amount,
                "seed": seed,
                "locations": counts["train"],
                "val_locations": counts["val"],
                **{column: getattr(result, column) for column in _COLUMNS},
            })  # fmt: skip
    return pd.DataFrame(lines)


@validated
def labels_needed(table: pd.DataFrame, value: float) -> float:
    """Read off a curve how many labeled locations it takes to reach a value.

    Args:
        table: result of `label_efficiency`; the mean over its seeds counts.
        value: of its metric.

    Returns:
        The number of locations where the curve first reaches it, interpolated on a logarithmic
        scale; the smallest number if that reaches it already, and infinity if none does.

    Example:
        >>> needed = labels_needed(curves["MoCo-v2"], curves["MoCo-v2+TP"]["value"].iloc[0])
    """
    curve = table.groupby(table.columns[0])[["locations", "value"]].mean()
    count, mean = np.log(curve["locations"].to_numpy()), curve["value"].to_numpy()
    reached = np.flatnonzero(mean >= value)
    if not len(reached):
        return float("inf")
    i = reached[0]
    at = count[i]
    if i:
        part = (value - mean[i - 1]) / (mean[i] - mean[i - 1])
        at = count[i - 1] + part * (count[i] - count[i - 1])
    return float(np.exp(at))


_COLUMNS = ("n_train", "n_test", "metric", "value", "low", "high", "chance")


def _draw_locations(
    location: np.ndarray,
    codes: np.ndarray,
    share: np.ndarray,
    *,
    seed: int,
    total: int | None = None,
) -> np.ndarray:
    """Whether the location of each row ``(n,)`` is drawn: a share ``(C,)`` of each class's.

    With a total, the largest remainders are rounded up until there are as many.
    """
    _, first, index = np.unique(location, return_index=True, return_inverse=True)
    kind = codes[first]
    order = np.random.default_rng(seed).permutation(len(first))
    rank = np.empty(len(first), np.int64)
    rank[order] = pd.Series(kind[order]).groupby(kind[order]).cumcount()
    available = np.bincount(kind, minlength=len(share))
    exact = share * available
    count = np.maximum(1, np.rint(exact) if total is None else np.floor(exact + 1e-9))
    if total is not None:
        missing = total - int(np.minimum(count, available).sum())
        count[np.argsort(count - exact, kind="stable")[: max(0, missing)]] += 1
    return (rank < count[kind])[index]
