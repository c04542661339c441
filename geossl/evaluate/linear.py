"""Linear probe of frozen embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from geossl.embeddings import Embeddings
from geossl.evaluate import solvers
from geossl.evaluate.results import ProbeResult, classification_result
from geossl.evaluate.solvers import L2, SGD
from geossl.evaluate.splits import Split, hold_out_validation, labeled_rows, require_finite
from geossl.utils.device import select_device
from geossl.utils.validate import Positive, Seed, validated


@validated
def linear(
    embeddings: Embeddings,
    *,
    label: str = "label",
    split: Split = "column",
    test_split: str = "test",
    block_deg: Positive = 10.0,
    l2: Positive | Sequence[Positive] = L2,
    solver: Literal["lbfgs", "sgd"] | SGD = "lbfgs",
    device: str = "cpu",
    seed: Seed = 0,
) -> ProbeResult:
    """Measure a linear classifier of frozen embeddings on held-out locations.

    Multinomial logistic regression on vectors standardized by the training chips, fitted on train
    to its optimum; the penalty is the one of ``l2`` that is best on val (the larger when equal);
    measured once, on test. A class without training chips stays in the test, as missed.

    Args:
        embeddings: vectors and their scenes.
        label: column of labels; rows without one are left out.
        split: "column" takes the table's own (train, val, test), "blocks" makes one by blocks of
            space, a Series ``(M,)`` gives one row by row. Without a labeled val chip, a fifth of
            the training locations serves as val.
        test_split: the split to test on: "val" of fMoW, as in the paper, or "test_gt".
        block_deg: side of the blocks in degrees.
        l2: penalty, or penalties to choose from: each times the sum of squared weights is added to
            the mean cross-entropy in nats; scikit-learn's ``C`` is ``1 / (2 * l2 * n_train)``.
        solver: "lbfgs" as above; "sgd", or an `SGD` with other settings, is the paper's protocol,
            which chooses nothing: it uses neither ``l2`` nor val.
        device: where it is computed, "cuda" for a hundred thousand vectors; "auto" takes a GPU
            where there is one. Results differ by rounding only.
        seed: of the blocks, the stand-in val, the order of SGD and the bootstrap.

    Raises:
        ValueError: no such column, fewer than two classes, an empty split, vectors with NaN, an
            absent device.

    Source:
        The linear protocol of arXiv 2011.09980, by default with a convex solver in place of SGD.
    """
    penalties = solvers.sorted_penalties(l2)
    target_device = select_device(device)
    require_finite(embeddings)
    rows = labeled_rows(
        embeddings.scenes, label, split=split, test_split=test_split, block_deg=block_deg, seed=seed
    )
    if solver == "lbfgs" and len(penalties) > 1 and len(rows.val) == 0:
        train, val = hold_out_validation(rows.table, rows.train, rows.codes, label=label, seed=seed)
        rows = replace(rows, train=train, val=val)
    classes = len(rows.trained)
    x, y = embeddings.tensor().to(target_device), rows.targets.to(target_device)
    if solver == "lbfgs":
        metric = "linear top-1"
        logits, more = solvers.fit_best_penalty(
            x, y, train=rows.train, val=rows.val, penalties=penalties, classes=classes,
            score=lambda logits, target: (logits.argmax(1) == target).float().mean(),
        )  # fmt: skip
    else:
        metric, more = "linear (SGD) top-1", {}
        x = solvers.standardize(x, x[rows.train]) / x.shape[1] ** 0.5
        config = solver if isinstance(solver, SGD) else SGD()
        start = torch.zeros(x.shape[1] + 1, classes, device=target_device)
        weight = solvers.sgd(x[rows.train], y[rows.train], start, config=config, seed=seed)
        logits = solvers.scores(x, weight)
    probabilities = logits[rows.test].softmax(1).cpu().numpy()
    return classification_result(metric, rows, rows.probabilities(probabilities), more, seed=seed)
