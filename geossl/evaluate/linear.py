"""Linear probe and kNN on frozen embeddings, and the classes of places by all their dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.data import scenes
from geossl.embeddings import Embeddings
from geossl.evaluate import metrics, solvers
from geossl.evaluate.bootstrap import interval
from geossl.evaluate.results import ProbeResult, classification_result
from geossl.evaluate.solvers import SGD
from geossl.evaluate.splits import (
    Split,
    hold_out_validation,
    known_classes,
    prepare,
    require_finite,
    require_two_classes,
)
from geossl.utils.device import select_device

L2 = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


def linear(
    embeddings: Embeddings,
    *,
    label: str = "label",
    split: Split = "column",
    block_deg: float = 10.0,
    l2: float | Sequence[float] = L2,
    solver: Literal["lbfgs", "sgd"] | SGD = "lbfgs",
    device: str = "cpu",
    seed: int = 0,
) -> ProbeResult:
    """Accuracy of a linear classifier of frozen embeddings on held-out places.

    Multinomial logistic regression on vectors standardized by the training chips, fitted on train
    to its optimum; the penalty is the one of ``l2`` that is best on val (the larger when equal);
    measured once, on test. A class without training chips stays in the test, as missed.

    Args:
        embeddings: vectors and their scenes.
        label: column of labels; rows without one are left out.
        split: "column" takes the table's own (train, val, test), "blocks" makes one by blocks of
            space, a Series ``(M,)`` gives one row by row. Without a labeled val chip, a fifth of
            the training locations serves as val.
        block_deg: side of the blocks in degrees.
        l2: penalty, or penalties to choose from, each times the sum of squared weights beside the
            mean cross-entropy in nats; scikit-learn's ``C`` is ``1 / (2 * l2 * n_train)``.
        solver: "lbfgs" as above; "sgd", or an `SGD` with other settings, is the paper's protocol,
            which chooses nothing: it uses neither ``l2`` nor val.
        device: where it is computed, "cuda" for a hundred thousand vectors; "auto" takes a GPU
            where there is one. What comes out differs by rounding only.
        seed: of the blocks, the stand-in val, the order of SGD and the bootstrap.

    Raises:
        ValueError: no such column, fewer than two classes, an empty split, vectors with NaN, an
            absent device.

    Source:
        The linear protocol of arXiv 2011.09980, by default with a convex solver in place of SGD.
    """
    penalties = sorted(np.atleast_1d(np.asarray(l2, float)).tolist(), reverse=True)
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"expected penalties l2 > 0, came {l2!r}")
    if solver not in ("lbfgs", "sgd") and not isinstance(solver, SGD):
        raise ValueError(f"expected solver of lbfgs, sgd or a probe.SGD, came {solver!r}")
    where = select_device(device)
    require_finite(embeddings)
    table = embeddings.scenes
    codes, names, parts = prepare(table, label, split=split, block_deg=block_deg, seed=seed)
    train, val, test = parts
    if solver == "lbfgs" and len(penalties) > 1 and len(val) == 0:
        train, val = hold_out_validation(table, train, codes, label=label, seed=seed)
    require_two_classes(codes[train], label)
    known, y = known_classes(codes, train)
    x, y = embeddings.tensor().to(where), y.to(where)
    if solver == "lbfgs":
        metric = "linear top-1"
        weight, x, more = _best_lbfgs(x, y, train, val, penalties=penalties, size=len(known))
    else:
        metric = "linear (SGD) top-1"
        x = solvers.standardize(x, x[train]) / x.shape[1] ** 0.5
        config = SGD() if solver == "sgd" else solver
        start = torch.zeros(x.shape[1] + 1, len(known), device=where)
        weight = solvers.sgd(x[train], y[train], start, config=config, seed=seed)
        more = {}
    probabilities = np.zeros((len(test), len(names)), np.float32)
    probabilities[:, known] = solvers.scores(x[test], weight).softmax(1).cpu().numpy()
    return classification_result(
        metric, table, codes=codes, names=names, train=train, test=test,
        probabilities=probabilities, more=more, seed=seed,
    )  # fmt: skip


def _best_lbfgs(
    x: Tensor, y: Tensor, train: np.ndarray, val: np.ndarray, *, penalties: list[float], size: int
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Weights of the penalty that is best on val, the vectors they are for, and which it was."""
    x, variance = solvers.rotate_to_principal_axes(x, x[train])
    weight = torch.zeros(x.shape[1] + 1, size, device=x.device)
    best = (-1.0, weight, penalties[0])
    x_train, y_train = x[train], y[train]
    for penalty in penalties:
        weight = solvers.lbfgs(x_train, y_train, weight, variance=variance, penalty=penalty)
        guess = solvers.scores(x[val], weight).argmax(1)
        score = float((guess == y[val]).float().mean()) if len(val) else 0.0
        if score > best[0]:
            best = (score, weight, penalty)
    return best[1], x, {"l2": best[2]} | ({"val": best[0]} if len(val) else {})


def knn(
    embeddings: Embeddings,
    *,
    label: str = "label",
    split: Split = "column",
    block_deg: float = 10.0,
    k: int = 20,
    device: str = "cpu",
    seed: int = 0,
) -> ProbeResult:
    """Accuracy of a k-nearest-neighbor classifier on held-out places.

    Cosine similarity, votes as in `geossl.evaluate.metrics.knn_votes`; arguments and errors of `linear`.
    """
    where = select_device(device)
    require_finite(embeddings)
    table = embeddings.scenes
    codes, names, parts = prepare(table, label, split=split, block_deg=block_deg, seed=seed)
    train, _, test = parts
    require_two_classes(codes[train], label)
    vectors, known = (t.to(where) for t in (embeddings.tensor(), torch.from_numpy(codes)))
    found = metrics.knn_votes(vectors[train], known[train], vectors[test], k=k)
    votes = found.double().cpu().numpy()
    probabilities = np.zeros((len(test), len(names)))
    probabilities[:, : votes.shape[1]] = votes / votes.sum(1, keepdims=True)
    return classification_result(
        f"kNN (k = {k}) top-1", table, codes=codes, names=names, train=train, test=test,
        probabilities=probabilities, more={}, seed=seed,
    )  # fmt: skip


def temporal(result: ProbeResult, *, seed: int = 0) -> ProbeResult:
    """Classify places by all their dates: the probabilities of a place's images are summed.

    Args:
        result: of `linear`, `knn` or `fine_tune`, which learn from single images.
        seed: of the bootstrap.

    Returns:
        One test row per location: row is that of its first image, images is their number.

    Raises:
        ValueError: the result has no probabilities, or the images of a place differ in class.

    Source:
        Temporal classification of arXiv 2011.09980, section 5.
    """
    seen = result.predictions
    if result.probabilities is None or result.multi:
        raise ValueError(
            "expected the result of a classifier of one class a chip to sum over dates, came "
            f"{result.metric!r}"
        )
    place = scenes.location_codes(seen)
    differ = np.flatnonzero(seen["truth"].groupby(place).nunique() > 1)
    first = np.unique(place, return_index=True)[1]
    if len(differ):
        location = seen["location"].iloc[first[differ[0]]]
        raise ValueError(
            f"expected one class a place to sum over its dates, {len(differ)} places have several, "
            f"the first is {location!r}; leave the dates apart for such a label"
        )
    images = np.bincount(place)
    total = np.zeros((len(first), result.probabilities.shape[1]))
    np.add.at(total, place, result.probabilities.astype(np.float64))
    mean, guess = total / images[:, None], total.argmax(1)
    names = pd.Series(list(result.classes.index)).to_numpy()
    table = seen.iloc[first].reset_index(drop=True)
    table = table.assign(predicted=names[guess], confidence=mean.max(1).astype(np.float32))
    table["hit"] = table["predicted"] == table["truth"]
    table["images"] = images
    value, low, high = interval(table["hit"].to_numpy(), np.arange(len(table)), seed)
    usual = result.classes.idxmax()
    return ProbeResult(
        f"{result.metric}, all dates of a place", value, low, high,
        float((table["truth"] == usual).mean()), result.n_train, len(table), table,
        {**result.more, "images a place": float(images.mean())}, result.classes,
        mean.astype(np.float32),
    )  # fmt: skip
