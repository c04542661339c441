"""Is it any good? Linear probe, kNN, same-place retrieval, and the baselines beside them.

Everything is measured on places held out in space, with an interval over locations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from geossl import metrics, models, scenes
from geossl.chips import ChipStore
from geossl.embedding import Embeddings, embed

L2 = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_RESAMPLES = 1000
Split = Literal["column", "blocks"] | pd.Series


@dataclass(frozen=True)
class ProbeResult:
    """A figure with what stands behind it.

    Attributes:
        metric: what was measured.
        value: of all test chips.
        low, high: 95 % interval, by bootstrap over test locations.
        chance: what guessing gives (the most frequent class of the training chips, or 1 / gallery).
        n_train, n_test: chips.
        predictions: one row per test chip: location, truth, predicted, hit.
        more: further figures by name, e.g. the penalty chosen on the val split, or recall@5.
    """

    metric: str
    value: float
    low: float
    high: float
    chance: float
    n_train: int
    n_test: int
    predictions: pd.DataFrame
    more: dict[str, float]

    def __str__(self) -> str:
        more = "".join(f", {name} {value:.3g}" for name, value in self.more.items())
        return (
            f"{self.metric} {self.value:.3f} (95 % {self.low:.3f} to {self.high:.3f}, chance "
            f"{self.chance:.3f}{more}; {self.n_train} train, {self.n_test} test chips)"
        )

    def per_class(self) -> pd.DataFrame:
        """One row per true class: chips, recall, precision."""
        seen = self.predictions
        rows = [
            {
                "label": name,
                "chips": int((seen["truth"] == name).sum()),
                "recall": float(seen.loc[seen["truth"] == name, "hit"].mean()),
                "precision": float(seen.loc[seen["predicted"] == name, "hit"].mean()),
            }
            for name in sorted(seen["truth"].unique(), key=str)
        ]
        return pd.DataFrame(rows)


def linear(
    embeddings: Embeddings,
    *,
    label: str = "label",
    split: Split = "column",
    l2: Iterable[float] = L2,
    seed: int = 0,
) -> ProbeResult:
    """Accuracy of a linear classifier of frozen embeddings on held-out places.

    Multinomial logistic regression (L-BFGS) on standardised vectors, fitted on train; the penalty
    is the one of ``l2`` that is best on val; measured once, on test.

    Args:
        embeddings: vectors and their scenes.
        label: column of labels; rows without one are left out.
        split: "column" takes the table's own (train, val, test), "blocks" makes one by blocks of
            10 degrees, a Series gives one. Without a val split a fifth of the training locations
            serves as val.
        l2: penalties on the mean squared weights to try.
        seed: of the blocks, the stand-in val and the bootstrap.

    Raises:
        ValueError: no such column, one class, or an empty split.

    Source:
        The linear protocol of arXiv 2011.09980 with a convex solver in place of SGD.
    """
    codes, names, parts = _prepare(embeddings, label, split, seed)
    train, val, test = parts
    x = _standardised(embeddings.vectors, train)
    y = torch.from_numpy(codes)
    weight = torch.zeros(x.shape[1] + 1, len(names))
    best = (-1.0, weight, 0.0)
    for penalty in sorted(l2, reverse=True):
        weight = _fit(x[train], y[train], weight, penalty)
        score = float((_scores(x[val], weight).argmax(1) == y[val]).float().mean())
        if score > best[0]:
            best = (score, weight, penalty)
    guess = _scores(x[test], best[1]).argmax(1).numpy()
    more = {"l2": best[2], "val": best[0]}
    return _result("linear top-1", embeddings, codes, names, parts, guess, more, seed)


def knn(
    embeddings: Embeddings,
    *,
    label: str = "label",
    split: Split = "column",
    k: int = 20,
    seed: int = 0,
) -> ProbeResult:
    """Accuracy of a k-nearest-neighbour classifier on held-out places; see `linear`."""
    codes, names, parts = _prepare(embeddings, label, split, seed)
    train, _, test = parts
    vectors = torch.from_numpy(embeddings.vectors)
    known = torch.from_numpy(codes)
    guess = metrics.knn_predict(vectors[train], known[train], vectors[test], k=k).numpy()
    return _result(f"kNN (k = {k}) top-1", embeddings, codes, names, parts, guess, {}, seed)


def same_place(
    embeddings: Embeddings,
    *,
    split: str | None = None,
    centre_dates: bool = False,
    seed: int = 0,
) -> ProbeResult:
    """Recall: is a place at its first date found again among all places at their last date?

    Args:
        embeddings: vectors and their scenes; places with one date are left out.
        split: only places of this split.
        centre_dates: take the mean vector of each date out first.
        seed: of the bootstrap over places.

    Returns:
        Recall@1, with recall@5 and the number of places in ``more``.

    Raises:
        ValueError: fewer than two places with two dates.
    """
    if split is not None:
        embeddings = embeddings.subset((embeddings.scenes["split"] == split).to_numpy(bool))
    if centre_dates:
        embeddings = embeddings.centred()
    first, last = _first_and_last(embeddings.scenes)
    if len(first) < 2:
        raise ValueError(
            f"expected at least two places with two dates, came {len(first)} among "
            f"{embeddings.scenes['location'].nunique()} places"
            + ("" if split is None else f" of split {split!r}")
        )
    vectors = torch.from_numpy(embeddings.vectors)
    own = torch.arange(len(first))
    rank = metrics.ranks(vectors[first], vectors[last], own, own)[0].numpy()
    location = embeddings.scenes["location"].to_numpy()[first]
    seen = pd.DataFrame(
        {"location": location, "truth": location, "predicted": rank, "hit": rank == 0}
    )
    low, high = _interval(seen["hit"].to_numpy(), np.arange(len(seen)), seed)
    return ProbeResult(
        metric="same place, other date: recall@1",
        value=float((rank == 0).mean()),
        low=low,
        high=high,
        chance=1 / len(first),
        n_train=0,
        n_test=len(first),
        predictions=seen,
        more={"recall@5": float((rank < 5).mean()), "places": len(first)},
    )


def random_features(
    store: ChipStore, *, name: str = "small", stem: str = "small", seed: int = 0
) -> Embeddings:
    """Embeddings of an untrained encoder: the baseline that stands in every table."""
    encoder = models.encoder(
        name,
        bands=len(store.bands),
        stem=stem,
        mean=store.mean.tolist(),
        std=store.std.tolist(),
        seed=seed,
    )
    return embed(store, encoder)


def hog(store: ChipStore, *, cell_px: int = 8) -> Embeddings:
    """Histograms of oriented gradients of the mean of all bands: a baseline without learning.

    Source:
        Dalal and Triggs, CVPR 2005, by scikit-image.
    """
    try:
        from skimage.feature import hog as hog_of
    except ImportError:
        raise ImportError("HOG needs scikit-image; run: pip install scikit-image") from None

    cell = min(cell_px, store.size_px // 2)
    vectors = [
        hog_of(chip.mean(0), pixels_per_cell=(cell, cell), cells_per_block=(2, 2))
        for chip in store.chips
    ]
    return Embeddings(np.stack(vectors).astype(np.float32), store.scenes)


def compare(results: Mapping[str, ProbeResult]) -> pd.DataFrame:
    """A table of several results, in the order given."""
    rows = [
        {
            "method": name,
            "metric": result.metric,
            "value": result.value,
            "low": result.low,
            "high": result.high,
            "chance": result.chance,
        }
        for name, result in results.items()
    ]
    return pd.DataFrame(rows)


def _prepare(
    embeddings: Embeddings, label: str, split: Split, seed: int
) -> tuple[np.ndarray, list, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Label codes, class names, and the rows of train, val and test."""
    table = embeddings.scenes
    if label not in table:
        raise ValueError(f"expected a column {label!r} of labels, came {list(table.columns)}")
    codes, names = scenes.label_codes(table[label])
    if len(names) < 2:
        raise ValueError(f"expected two classes or more in {label!r}, came {names}")
    if isinstance(split, pd.Series):
        where = split.to_numpy()
    elif split == "blocks":
        where = scenes.split_by_blocks(table, seed=seed).to_numpy()
    elif split == "column":
        where = table["split"].to_numpy() if "split" in table else np.full(len(table), None)
    else:
        raise ValueError(f"expected split of column, blocks or a Series, came {split!r}")
    if len(where) != len(table):
        raise ValueError(f"expected a split of {len(table)} rows, came {len(where)}")
    train, val, test = (np.flatnonzero((where == s) & (codes >= 0)) for s in
                        ("train", "val", "test"))  # fmt: skip
    if len(train) and not len(val):
        places = scenes.location_codes(table)[train]
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(np.unique(places))
        aside = np.isin(places, chosen[: max(1, len(chosen) // 5)])
        train, val = train[~aside], train[aside]
    for name, rows in (("train", train), ("val", val), ("test", test)):
        if len(rows) == 0:
            raise ValueError(
                f"expected labelled rows with split {name!r}, came none among "
                f"{pd.Series(where).value_counts(dropna=False).to_dict()}; give split='blocks'"
            )
    if len(np.unique(codes[train])) < 2:
        raise ValueError(f"expected two classes or more to train on, came {len(names)} in all")
    return codes, names, (train, val, test)


def _standardised(vectors: np.ndarray, train: np.ndarray) -> Tensor:
    x = torch.from_numpy(vectors).float()
    spread, mean = torch.std_mean(x[train], 0, correction=0)
    return (x - mean) / spread.clamp(min=1e-6)


def _scores(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight[:-1] + weight[-1]


def _fit(x: Tensor, y: Tensor, start: Tensor, penalty: float) -> Tensor:
    weight = start.clone().requires_grad_(True)
    solver = torch.optim.LBFGS(
        [weight], max_iter=100, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-5, tolerance_change=1e-7,
    )  # fmt: skip

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(_scores(x, weight), y) + penalty * weight[:-1].square().sum()
        value.backward()
        return value

    solver.step(loss)
    return weight.detach()


def _result(
    metric: str,
    embeddings: Embeddings,
    codes: np.ndarray,
    names: list,
    parts: tuple[np.ndarray, np.ndarray, np.ndarray],
    guess: np.ndarray,
    more: dict[str, float],
    seed: int,
) -> ProbeResult:
    train, _, test = parts
    hit = guess == codes[test]
    named = np.array(names, dtype=object)
    location = embeddings.scenes["location"].to_numpy()[test]
    seen = pd.DataFrame(
        {"location": location, "truth": named[codes[test]], "predicted": named[guess], "hit": hit}
    )
    low, high = _interval(hit, pd.factorize(location)[0], seed)
    usual = np.bincount(codes[train]).argmax()
    return ProbeResult(
        metric, float(hit.mean()), low, high, float((codes[test] == usual).mean()),
        len(train), len(test), seen, more,
    )  # fmt: skip


def _interval(hit: np.ndarray, group: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % interval of a mean by bootstrap over groups; all rows of a group go together."""
    count = np.bincount(group)
    hits = np.bincount(group, weights=hit)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(count), np.full(len(count), 1 / len(count)), _RESAMPLES)
    low, high = np.percentile((times @ hits) / (times @ count), [2.5, 97.5])
    return float(low), float(high)


def _first_and_last(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each location's first and last date, for locations with two dates."""
    timed = table[table["time"].notna()].reset_index(names="row")
    if "row" not in timed or timed.empty:
        return np.zeros(0, int), np.zeros(0, int)
    ordered = timed.sort_values(["location", "time"], kind="stable")
    grouped = ordered.groupby("location", sort=False)
    several = grouped["time"].nunique() > 1
    first, last = (np.array(getattr(grouped["row"], end)()[several]) for end in ("first", "last"))
    return first, last
