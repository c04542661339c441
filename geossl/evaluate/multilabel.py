"""Several labels per chip: a logistic regression each, measured by average precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from geossl.data import scenes
from geossl.embeddings import Embeddings
from geossl.evaluate import metrics, solvers
from geossl.evaluate.bootstrap import RESAMPLES, bootstrap_interval
from geossl.evaluate.results import SEPARATOR, ProbeResult, has_label, split_labels, unlearned
from geossl.evaluate.solvers import L2
from geossl.evaluate.splits import (
    Split,
    hold_out_validation,
    require_finite,
    require_label,
    split_rows,
)
from geossl.utils.device import select_device
from geossl.utils.validate import Positive, Seed, validated


@validated
def multi_label(
    embeddings: Embeddings,
    *,
    label: str = "labels",
    split: Split = "column",
    test_split: str = "test",
    block_deg: Positive = 10.0,
    l2: Positive | Sequence[Positive] = L2,
    device: str = "cpu",
    seed: Seed = 0,
) -> ProbeResult:
    """Measure the mean average precision of a linear classifier with several labels per chip.

    One logistic regression per label on vectors standardized by the training chips, all with the
    penalty of ``l2`` that is best on val; measured once, on test. A label is predicted where its
    probability is above a half. One without training chips has a probability of 0.

    Args:
        embeddings: vectors and their scenes.
        label: column of labels joined by "|"; an empty text is a chip with none of them, rows with
            a missing value are left out.
        split: as in `linear`, like the next ones.
        test_split: likewise.
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
    penalties = solvers.sorted_penalties(l2)
    target_device = select_device(device)
    require_finite(embeddings)
    table = embeddings.scenes
    require_label(table, label)
    labels = table[label]
    names = sorted({name for text in labels.unique() for name in split_labels(text)})
    has = has_label(labels, names)
    train, val, test = split_rows(
        table, labels.notna().to_numpy(bool), label=label, split=split, test_split=test_split,
        block_deg=block_deg, seed=seed,
    )  # fmt: skip
    if len(penalties) > 1 and len(val) == 0:
        one_kind = np.zeros(len(table), np.int64)
        train, val = hold_out_validation(table, train, one_kind, label=label, seed=seed)
    counts, truth = has[train].sum(0), has[test]
    if not ((counts > 0) & (counts < len(train))).any():
        raise ValueError(
            f"`label` needs a label in {label!r} that some training chips have and others lack, "
            f"got none among {len(names)} labels of {len(train)} training chips."
        )
    known = counts > 0
    x, y = embeddings.tensor().to(target_device), torch.from_numpy(has[:, known]).float()
    logits, more = solvers.fit_best_penalty(
        x, y.to(target_device), train=train, val=val, penalties=penalties, classes=y.shape[1],
        score=lambda logits, y: metrics.average_precision(logits.cpu(), y.cpu() > 0)
        .nanmean().nan_to_num(0.0),
    )  # fmt: skip
    probabilities = np.zeros((len(test), len(names)), np.float32)
    probabilities[:, known] = logits[test].sigmoid().cpu().numpy()
    predicted = probabilities > 0.5
    micro = metrics.average_precision(
        torch.from_numpy(probabilities).reshape(-1, 1), torch.from_numpy(truth).reshape(-1, 1)
    )
    predictions = pd.DataFrame({
        "row": test,
        "location": table["location"].to_numpy()[test],
        "truth": _join(truth, names),
        "predicted": _join(predicted, names),
        "hit": (truth == predicted).all(1),
    })  # fmt: skip
    value, low, high = mean_precision(probabilities, truth, predictions, seed=seed)
    tested = truth.any(0)
    return ProbeResult(
        "multi-label mAP", value, low, high, float(truth[:, tested].mean()),
        len(train), len(test), predictions,
        {"micro AP": float(micro)} | more | unlearned(counts[tested]),
        classes=pd.Series(counts, index=pd.Index(names)), probabilities=probabilities, multi=True,
    )  # fmt: skip


def mean_precision(
    probabilities: np.ndarray, truth: np.ndarray, predictions: pd.DataFrame, *, seed: int
) -> tuple[float, float, float]:
    """Return the average precision, mean over the labels that occur, with its 95 % interval."""
    p, true = torch.from_numpy(probabilities), torch.from_numpy(truth)
    value = float(metrics.average_precision(p, true).nanmean())
    low, high = bootstrap_interval(
        lambda w: metrics.average_precision(p, true, weights=w).nanmean(1),
        scenes.location_codes(predictions), seed=seed, resamples=RESAMPLES,
    )  # fmt: skip
    return value, low, high


def _join(has: np.ndarray, names: list[str]) -> list[str]:
    return [SEPARATOR.join(np.array(names, dtype=object)[row]) for row in has]
