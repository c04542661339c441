"""Several labels a chip: a logistic regression each, measured by average precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.data import scenes
from geossl.embeddings import Embeddings
from geossl.evaluate import metrics, solvers
from geossl.evaluate.bootstrap import RESAMPLES, bootstrap_interval
from geossl.evaluate.linear import L2
from geossl.evaluate.results import JOINT, ProbeResult, has_label, split_labels, unlearned
from geossl.evaluate.splits import (
    Parts,
    Split,
    hold_out_validation,
    require_finite,
    require_label,
    split_rows,
)
from geossl.utils.device import select_device


def multi_label(
    embeddings: Embeddings,
    *,
    label: str = "labels",
    split: Split = "column",
    block_deg: float = 10.0,
    l2: float | Sequence[float] = L2,
    device: str = "cpu",
    seed: int = 0,
) -> ProbeResult:
    """Mean average precision of a linear classifier of frozen embeddings, several labels a chip.

    One logistic regression per label on vectors standardized by the training chips, all with the
    penalty of ``l2`` that is best on val; measured once, on test. A label is predicted where its
    probability is above a half. One without training chips has a probability of 0.

    Args:
        embeddings: vectors and their scenes.
        label: column of labels joined by "|"; an empty text is a chip with none of them, rows with
            a missing value are left out.
        split: as in `linear`, like the next ones.
        block_deg: side of the blocks in degrees.
        l2: penalties; scikit-learn's ``C`` is ``1 / (2 * l2 * n_train)``.
        device: where it is fitted, as for `linear`.
        seed: of the blocks, the stand-in val and the bootstrap.

    Returns:
        The mean over the labels of the test chips (macro); over all pairs of chip and label
        (micro) in ``more``. Chance is the mean share of chips that have a label.

    Raises:
        ValueError: no such column, no label that some training chips have and others lack, an
            empty split, vectors with NaN, an absent device.
    """
    penalties = sorted(np.atleast_1d(np.asarray(l2, float)).tolist(), reverse=True)
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"expected penalties l2 > 0, came {l2!r}")
    where = select_device(device)
    require_finite(embeddings)
    table = embeddings.scenes
    require_label(table, label)
    given = table[label]
    names = sorted({name for text in given.unique() for name in split_labels(text)})
    has = has_label(given, names)
    known = given.notna().to_numpy(bool)
    train, val, test = parts = split_rows(
        table, known, label=label, split=split, block_deg=block_deg, seed=seed
    )
    if len(penalties) > 1 and len(val) == 0:
        alike = np.zeros(len(table), np.int64)
        train, val = hold_out_validation(table, train, alike, label=label, seed=seed)
        parts = (train, val, test)
    count = has[train].sum(0)
    if not ((count > 0) & (count < len(train))).any():
        raise ValueError(
            f"expected a label of {label!r} that some training chips have and others lack, came "
            f"none among {len(names)} labels of {len(train)} training chips"
        )
    probabilities, more = _fitted(embeddings.tensor().to(where), has, parts, penalties=penalties)
    p, true = torch.from_numpy(probabilities), torch.from_numpy(has[test])
    micro = metrics.average_precision(p.reshape(-1, 1), true.reshape(-1, 1))
    seen = pd.DataFrame({
        "row": test,
        "location": table["location"].to_numpy()[test],
        "truth": _joined(has[test], names),
        "predicted": _joined(probabilities > 0.5, names),
        "hit": (has[test] == (probabilities > 0.5)).all(1),
    })  # fmt: skip
    tested = has[test].any(0)
    value, low, high = mean_precision(probabilities, has[test], seen, seed=seed)
    return ProbeResult(
        "multi-label mAP", value, low, high, float(has[test][:, tested].mean()),
        len(train), len(test), seen,
        {"micro AP": float(micro)} | more | unlearned(count[tested]),
        classes=pd.Series(count, index=pd.Index(names)), probabilities=probabilities, multi=True,
    )  # fmt: skip


def mean_precision(
    probabilities: np.ndarray, has: np.ndarray, seen: pd.DataFrame, *, seed: int
) -> tuple[float, float, float]:
    """Average precision, mean over the labels that occur, with its 95 % interval."""
    p, true = torch.from_numpy(probabilities), torch.from_numpy(has)
    value = float(metrics.average_precision(p, true).nanmean())
    low, high = bootstrap_interval(
        lambda w: metrics.average_precision(p, true, weights=w).nanmean(1),
        scenes.location_codes(seen), seed=seed, resamples=RESAMPLES,
    )  # fmt: skip
    return value, low, high


def _fitted(
    x: Tensor, has: np.ndarray, parts: Parts, *, penalties: list[float]
) -> tuple[np.ndarray, dict[str, float]]:
    """Probabilities ``(n_test, C)`` by the penalty that is best on val, and which it was."""
    train, val, test = parts
    known = has[train].any(0)
    y = torch.from_numpy(has[:, known]).float().to(x.device)
    x, variance = solvers.rotate_to_principal_axes(x, x[train])
    weight = torch.zeros(x.shape[1] + 1, y.shape[1], device=x.device)
    best = (-1.0, weight, penalties[0])
    for penalty in penalties:
        weight = solvers.lbfgs(x[train], y[train], weight, variance=variance, penalty=penalty)
        precision = metrics.average_precision(solvers.scores(x[val], weight), y[val] > 0)
        score = float(precision.nanmean().nan_to_num(0.0)) if len(val) else 0.0
        if score > best[0]:
            best = (score, weight, penalty)
    probabilities = np.zeros((len(test), has.shape[1]), np.float32)
    probabilities[:, known] = solvers.scores(x[test], best[1]).sigmoid().cpu().numpy()
    return probabilities, {"l2": best[2]} | ({"val": best[0]} if len(val) else {})


def _joined(has: np.ndarray, names: list[str]) -> list[str]:
    return [JOINT.join(np.array(names, dtype=object)[row]) for row in has]
