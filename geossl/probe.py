"""Is it any good? Linear probe, kNN, same-place retrieval, and the baselines beside them.

Everything is measured on places held out in space, with an interval over locations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, TypeAlias

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
_VAL_SHARE = 5  # one in so many training locations stands in for an absent val split
Split: TypeAlias = Literal["column", "blocks"] | pd.Series


@dataclass(frozen=True, eq=False, repr=False)
class ProbeResult:
    """A figure with what stands behind it.

    Attributes:
        metric: what was measured.
        value: of all test chips.
        low, high: 95 % interval, by bootstrap over test locations (all chips of one go together).
        chance: what guessing gives (the most frequent class of the training chips, or 1 / gallery).
        n_train, n_test: chips.
        predictions: one row per test chip: row (in the embeddings), location, truth, predicted,
            hit; of a linear probe also confidence, the probability of the predicted class; of a
            retrieval also rank and found, the row of the most similar chip.
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
    more: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        more = "".join(f", {name} {_short(value)}" for name, value in self.more.items())
        chips = f"{self.n_train} train, " if self.n_train else ""
        return (
            f"{self.metric} {self.value:.3f} (95 % {self.low:.3f} to {self.high:.3f}, chance "
            f"{self.chance:.3f}{more}; {chips}{self.n_test} test chips)"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = {
            "metric": self.metric,
            "value": f"{self.value:.3f}",
            "95 % interval": f"{self.low:.3f} to {self.high:.3f}",
            "chance": f"{self.chance:.3f}",
            "train chips": f"{self.n_train}",
            "test chips": f"{self.n_test}",
            **{name: _short(value) for name, value in self.more.items()},
        }
        head = "".join(f"<th>{escape(name)}</th>" for name in cells)
        body = "".join(f"<td>{escape(value)}</td>" for value in cells.values())
        return f"<table><tr>{head}</tr><tr>{body}</tr></table>"

    @property
    def per_class(self) -> pd.DataFrame:
        """One row per true class: chips, recall, precision (missing where never predicted)."""
        truth, guess = self.predictions["truth"], self.predictions["predicted"]
        names = scenes.label_codes(truth)[1]
        hits, real, given = (
            values.value_counts().reindex(names, fill_value=0).to_numpy()
            for values in (truth[self.predictions["hit"]], truth, guess)
        )
        precision = np.divide(hits, given, out=np.full(len(names), np.nan), where=given > 0)
        columns = {"label": names, "chips": real, "recall": hits / real, "precision": precision}
        return pd.DataFrame(columns)


def linear(
    embeddings: Embeddings,
    *,
    label: str = "label",
    split: Split = "column",
    block_deg: float = 10.0,
    l2: float | Sequence[float] = L2,
    seed: int = 0,
) -> ProbeResult:
    """Accuracy of a linear classifier of frozen embeddings on held-out places.

    Multinomial logistic regression on vectors standardised by the training chips, fitted on train
    to its optimum; the penalty is the one of ``l2`` that is best on val (the larger when equal);
    measured once, on test.

    Args:
        embeddings: vectors and their scenes.
        label: column of labels; rows without one are left out.
        split: "column" takes the table's own (train, val, test), "blocks" makes one by blocks of
            space, a Series ``(M,)`` gives one row by row. Without a labelled val chip, a fifth of
            the training locations serves as val.
        block_deg: side of the blocks in degrees.
        l2: penalty, or penalties to choose from, each times the sum of squared weights beside the
            mean cross-entropy in nats; scikit-learn's ``C`` is ``1 / (2 * l2 * n_train)``.
        seed: of the blocks, the stand-in val and the bootstrap.

    Raises:
        ValueError: no such column, fewer than two classes, an empty split, vectors with NaN.

    Source:
        The linear protocol of arXiv 2011.09980 with a convex solver in place of SGD.
    """
    penalties = sorted(np.atleast_1d(np.asarray(l2, float)).tolist(), reverse=True)
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"expected penalties l2 > 0, came {l2!r}")
    codes, names, parts = _prepare(embeddings, label, split, block_deg, seed)
    train, val, test = parts
    if len(penalties) > 1 and len(val) == 0:
        train, val = _set_aside(embeddings, train, label, seed)
    _two_classes(codes[train], label)
    x, y = embeddings.tensor(), torch.from_numpy(codes)
    x, axes = _on_principal_axes(x, x[train])
    weight = torch.zeros(x.shape[1] + 1, len(names))
    best = (-1.0, weight, penalties[0])
    x_train, y_train = x[train], y[train]
    for penalty in penalties:
        weight = _fit(x_train, y_train, weight, axes, penalty)
        guess = _scores(x[val], weight).argmax(1)
        score = float((guess == y[val]).float().mean()) if len(val) else 0.0
        if score > best[0]:
            best = (score, weight, penalty)
    confidence, guess = _scores(x[test], best[1]).softmax(1).max(1)
    more = {"l2": best[2]} | ({"val": best[0]} if len(val) else {})
    parts = (train, val, test)
    result = _result("linear top-1", embeddings, codes, names, parts, guess.numpy(), more, seed)
    result.predictions["confidence"] = confidence.numpy()
    return result


def knn(
    embeddings: Embeddings,
    *,
    label: str = "label",
    split: Split = "column",
    block_deg: float = 10.0,
    k: int = 20,
    seed: int = 0,
) -> ProbeResult:
    """Accuracy of a k-nearest-neighbour classifier on held-out places.

    Cosine similarity, votes as in `geossl.metrics.knn_predict`; arguments and errors of `linear`.
    """
    codes, names, parts = _prepare(embeddings, label, split, block_deg, seed)
    train, _, test = parts
    _two_classes(codes[train], label)
    vectors, known = embeddings.tensor(), torch.from_numpy(codes)
    guess = metrics.knn_predict(vectors[train], known[train], vectors[test], k=k).numpy()
    return _result(f"kNN (k = {k}) top-1", embeddings, codes, names, parts, guess, {}, seed)


def same_place(
    embeddings: Embeddings,
    *,
    key: Literal["last", "other"] = "last",
    split: str | None = None,
    centre_dates: bool | Literal["time", "year"] = False,
    seed: int = 0,
) -> ProbeResult:
    """Recall: is a place at its first date found again among all places at another date?

    Args:
        embeddings: vectors and their scenes; places without two dates are left out.
        key: the gallery: every place at its "last" date, or at all its "other" dates, where any
            chip of the place counts as found.
        split: only places of this split, in the query and in the gallery.
        centre_dates: take the mean vector of each date (exact time, or "year") out first.
        seed: of the bootstrap over places.

    Returns:
        Recall@1, with recall@5, its interval and the size of the gallery in ``more``.

    Raises:
        ValueError: fewer than two places with two dates, no place of that split, NaN.
    """
    if key not in ("last", "other"):
        raise ValueError(f"expected key of last or other, came {key!r}")
    _finite(embeddings)
    kept = np.arange(len(embeddings))
    if split is not None:
        kept = np.flatnonzero(_is(_column(embeddings.scenes, "split"), split))
        if len(kept) == 0:
            found = _counts(_column(embeddings.scenes, "split"))
            raise ValueError(f"expected places of split {split!r}, came none among {found}")
    some = embeddings.subset(kept)
    query, gallery = _first_and_later(some.scenes, key)
    if len(query) < 2:
        raise ValueError(
            f"expected at least two places with two dates, came {len(query)} among "
            f"{some.scenes['location'].nunique()} places"
            + ("" if split is None else f" of split {split!r}")
        )
    if centre_dates:
        some = some.centred(by="time" if centre_dates is True else centre_dates)
    x, codes = some.tensor(), torch.from_numpy(scenes.location_codes(some.scenes))
    rank, nearest = metrics.ranks(x[query], x[gallery], codes[query], codes[gallery])
    location = some.scenes["location"].to_numpy()
    nearest, ranked = gallery[nearest.numpy()], rank.numpy()
    seen = pd.DataFrame({
        "row": kept[query],
        "location": location[query],
        "truth": location[query],
        "predicted": location[nearest],
        "hit": ranked == 0,
        "rank": ranked,
        "found": kept[nearest],
    })  # fmt: skip
    (value, low, high), at_5 = (_interval(ranked < k, codes[query].numpy(), seed) for k in (1, 5))
    more = {"recall@5": at_5[0], "recall@5 low": at_5[1], "recall@5 high": at_5[2]}
    own = np.bincount(codes[gallery].numpy())[codes[query].numpy()]
    return ProbeResult(
        metric="same place, other date: recall@1",
        value=value,
        low=low,
        high=high,
        chance=float((own / len(gallery)).mean()),
        n_train=0,
        n_test=len(query),
        predictions=seen,
        more={**more, "gallery": len(gallery)},
    )


def random_features(
    store: ChipStore, *, name: str = "small", stem: str = "small", seed: int = 0
) -> Embeddings:
    """Embeddings of an untrained encoder: the baseline that stands in every table.

    Args:
        store: the chips; their statistics normalise them, as they do for a trained encoder.
        name: architecture, see `geossl.models.encoder`; take that of the trained one.
        stem: likewise.
        seed: of the weights.
    """
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

    Args:
        store: the chips.
        cell_px: side of a cell; half a chip when that is smaller. Blocks are of 2 x 2 cells.

    Raises:
        ImportError: scikit-image is not installed.

    Source:
        Dalal and Triggs, CVPR 2005, by scikit-image.
    """
    try:
        from skimage.feature import hog as hog_of
    except ImportError:
        raise ImportError("HOG needs scikit-image; run: pip install scikit-image") from None

    cell = max(1, min(cell_px, store.size_px // 2))
    vectors = [
        hog_of(chip.mean(0), pixels_per_cell=(cell, cell), cells_per_block=(2, 2))
        for chip in store.chips
    ]
    return Embeddings(np.stack(vectors).astype(np.float32), store.scenes)


def compare(
    methods: Mapping[str, Embeddings | ProbeResult],
    *,
    measure: Callable[[Embeddings], ProbeResult] = linear,
) -> pd.DataFrame:
    """A table of several methods, in the order given.

    Args:
        methods: name -> embeddings to measure, or a result measured already; put
            `random_features` among them.
        measure: e.g. `knn`, or ``lambda e: linear(e, label="climate")``.

    Returns:
        One row a method: method, metric, value, low, high, chance, n_train, n_test.
    """
    names = ("metric", "value", "low", "high", "chance", "n_train", "n_test")
    rows = []
    for method, given in methods.items():
        result = given if isinstance(given, ProbeResult) else measure(given)
        rows.append({"method": method} | {name: getattr(result, name) for name in names})
    return pd.DataFrame(rows, columns=["method", *names])


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


_Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


def _prepare(
    embeddings: Embeddings, label: str, split: Split, block_deg: float, seed: int
) -> tuple[np.ndarray, list[Any], _Parts]:
    """Label codes, class names, and the labelled rows of train, val (may be empty) and test."""
    table = embeddings.scenes
    _finite(embeddings)
    if label not in table:
        raise ValueError(f"expected a column {label!r} of labels, came {list(table.columns)}")
    codes, names = scenes.label_codes(table[label])
    _two_classes(codes, label)
    if isinstance(split, pd.Series):
        where = split
    elif split == "blocks":
        where = scenes.split_by_blocks(table, block_deg=block_deg, seed=seed)
    elif split == "column":
        where = _column(table, "split")
    else:
        raise ValueError(f"expected split of column, blocks or a Series, came {split!r}")
    if len(where) != len(table):
        raise ValueError(f"expected a split of {len(table)} rows, came {len(where)}")
    train, val, test = (
        np.flatnonzero(_is(where, name) & (codes >= 0)) for name in ("train", "val", "test")
    )
    for name, rows in (("train", train), ("test", test)):
        if len(rows) == 0:
            raise ValueError(
                f"expected rows of split {name!r} with a {label!r}, came none among "
                f"{_counts(where)}; give split='blocks' to make one"
            )
    return codes, names, (train, val, test)


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    return table[name] if name in table else pd.Series([None] * len(table), dtype=object)


def _is(values: pd.Series, name: str) -> np.ndarray:
    return values.eq(name).fillna(False).to_numpy(bool)


def _counts(values: pd.Series) -> str:
    seen = {str(name): int(n) for name, n in values.value_counts().items()}
    return f"{len(values)} rows ({seen or 'no row has a split'})"


def _finite(embeddings: Embeddings) -> None:
    bad = np.flatnonzero(~np.isfinite(embeddings.vectors).all(1))
    if len(bad):
        raise ValueError(
            f"expected finite vectors, {len(bad)} of {len(embeddings)} have NaN or infinity, the "
            f"first is row {bad[0]}; did the training diverge?"
        )


def _two_classes(codes: np.ndarray, label: str) -> None:
    classes = len(np.unique(codes[codes >= 0]))
    if classes < 2:
        raise ValueError(
            f"expected two classes or more of {label!r} to tell apart, came {classes} in "
            f"{len(codes)} rows"
        )


def _set_aside(
    embeddings: Embeddings, train: np.ndarray, label: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Training rows without those of a fifth of the locations, and those."""
    places = scenes.location_codes(embeddings.scenes)[train]
    shuffled = np.random.default_rng(seed).permutation(np.unique(places))
    if len(shuffled) < 2:
        raise ValueError(
            f"expected a val split, or two training locations or more with a {label!r} to make "
            "one; came neither; give one l2"
        )
    aside = np.isin(places, shuffled[: max(1, len(shuffled) // _VAL_SHARE)])
    return train[~aside], train[aside]


def _on_principal_axes(x: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """All vectors standardised by the training ones and turned to their principal axes.

    A rotation leaves the penalty as it is, so that the optimum is the same; it is found sooner.
    A coordinate that is constant among the training vectors says nothing and becomes 0.

    Returns:
        ``(M, E)`` float32, and the variances ``(E,)`` of the training vectors, float64.
    """
    spread, mean = torch.std_mean(train, 0, correction=0)
    scale = torch.where(spread <= 1e-6 * mean.abs(), 0.0, 1 / spread)
    standard = (train - mean) * scale
    variance, axes = torch.linalg.eigh((standard.T @ standard).double() / len(standard))
    return (x - mean) * scale @ axes.float(), variance.clamp(min=0)


def _scores(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight[:-1] + weight[-1]


def _fit(x: Tensor, y: Tensor, start: Tensor, variance: Tensor, penalty: float) -> Tensor:
    """Weights ``(E + 1, classes)`` of the optimum; L-BFGS on weights scaled to like curvature."""
    curvature = variance / start.shape[1] + 2 * penalty
    scale = torch.cat([curvature, torch.tensor([1 / start.shape[1]], dtype=torch.float64)])
    scale = scale.rsqrt().float()[:, None]
    free = (start / scale).requires_grad_(True)
    solver = torch.optim.LBFGS(
        [free], max_iter=200, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-4, tolerance_change=1e-9,
    )  # fmt: skip

    def loss() -> Tensor:
        solver.zero_grad()
        weight = free * scale
        value = F.cross_entropy(_scores(x, weight), y) + penalty * weight[:-1].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return (free * scale).detach()


def _result(
    metric: str,
    embeddings: Embeddings,
    codes: np.ndarray,
    names: list[Any],
    parts: _Parts,
    guess: np.ndarray,
    more: dict[str, float],
    seed: int,
) -> ProbeResult:
    train, _, test = parts
    hit = guess == codes[test]
    named = pd.Series(names)
    seen = pd.DataFrame({
        "row": test,
        "location": embeddings.scenes["location"].to_numpy()[test],
        "truth": named.to_numpy()[codes[test]],
        "predicted": named.to_numpy()[guess],
        "hit": hit,
    })  # fmt: skip
    value, low, high = _interval(hit, scenes.location_codes(embeddings.scenes)[test], seed)
    usual = np.bincount(codes[train]).argmax()
    return ProbeResult(
        metric, value, low, high, float((codes[test] == usual).mean()),
        len(train), len(test), seen, more,
    )  # fmt: skip


def _interval(hit: np.ndarray, group: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Share of hits, and its 95 % interval by bootstrap over groups, rows of one going together.

    Groups of as many rows and hits are alike, so that the draw is of how often each kind comes:
    the same distribution, and as quick for a million groups as for a hundred.
    """
    group = np.unique(group, return_inverse=True)[1]
    kinds = np.stack([np.bincount(group), np.bincount(group, weights=hit)]).astype(np.int64)
    kinds, often = np.unique(kinds, axis=1, return_counts=True)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(often.sum(), often / often.sum(), _RESAMPLES)  # (resamples, kinds)
    rows, hits = (times @ kinds.T).T
    low, high = np.percentile(hits / rows, [2.5, 97.5])
    return float(np.mean(hit)), float(low), float(high)


def _first_and_later(table: pd.DataFrame, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each place's first date, and of its last or all others; places with two dates."""
    timed = pd.DataFrame({
        "row": np.arange(len(table)),
        "place": scenes.location_codes(table),
        "time": table["time"].reset_index(drop=True) if "time" in table else pd.NaT,
    }).dropna()  # fmt: skip
    timed = timed.sort_values(["place", "time"], kind="stable")
    start = timed.groupby("place")["time"].transform("min")
    later = timed[timed["time"] > start]
    first = timed[timed["place"].isin(later["place"])].drop_duplicates("place")
    if key == "last":
        later = later.drop_duplicates("place", keep="last")
    return first["row"].to_numpy(copy=True), later["row"].to_numpy(copy=True)
