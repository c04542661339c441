"""What a run tells and keeps: log records, the kNN measured on the way, and which run it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from geossl import models
from geossl.data import scenes
from geossl.data.store import ChipStore
from geossl.embeddings import embed
from geossl.evaluate import metrics
from geossl.utils import dist
from geossl.utils.seeds import derive_seed

_KNN_ROWS = 2000  # chips at most on either side of the kNN measured while training


@dataclass(frozen=True)
class Log:
    """What one interval of training showed; means over the interval, nan where it does not apply.

    Attributes:
        step: optimizer steps done.
        epoch: passes over the training chips done.
        loss: the weighted sum, in nats.
        contrastive_loss: InfoNCE, in nats; log(K + 1) is chance.
        geo_loss: cross-entropy of geo clusters, in nats; log(k) is chance.
        label_loss: cross-entropy of labels, in nats.
        contrastive_accuracy: share of queries whose positive is nearer than every negative.
        geo_accuracy: share of queries whose geo cluster is predicted.
        label_accuracy: share of labeled queries whose label is predicted.
        feature_std: spread of the unit-norm projections times sqrt(D); 1 is even, 0 is collapse.
        effective_rank: of the last batch's embeddings; 1 is collapse.
        knn: accuracy of a 20-NN classifier on the val split.
        pairs_per_s: pairs trained per second in this interval.
        seconds: time trained so far, over all sessions of the run.
        seconds_left: what is left at the present rate.
    """

    step: int
    epoch: float
    loss: float
    contrastive_loss: float
    geo_loss: float
    label_loss: float
    contrastive_accuracy: float
    geo_accuracy: float
    label_accuracy: float
    feature_std: float
    effective_rank: float
    knn: float
    pairs_per_s: float
    seconds: float
    seconds_left: float


MEANS = (
    "loss", "contrastive_loss", "geo_loss", "label_loss",
    "contrastive_accuracy", "geo_accuracy", "label_accuracy",
)  # fmt: skip


class KnnMonitor:
    """20-NN accuracy on the val split by training chips, at most 2,000 of each.

    Args:
        store: the chips.
        training: ``(M,)`` the training chips.
        label: column of labels; without it, or without a val split, the accuracy is nan.
        seed: of which chips.
    """

    def __init__(self, store: ChipStore, training: np.ndarray, *, label: str, seed: int):
        table = store.scenes
        codes = np.full(len(table), -1)
        if label in table:
            codes = scenes.label_codes(table[label])[0]
        val = np.zeros(len(table), bool)
        if "split" in table:
            val = (table["split"] == "val").to_numpy(bool, na_value=False)
        rng = np.random.default_rng(derive_seed(seed, "knn"))
        self._train, self._val = (
            np.sort(rng.permutation(rows[codes[rows] >= 0])[:_KNN_ROWS])
            for rows in (training, np.flatnonzero(val))
        )
        self._store, self._codes = store, torch.from_numpy(codes)

    def measure(self, encoder: models.Encoder) -> float:
        """The accuracy of an encoder as it is; nan where it cannot be measured."""
        if len(self._val) == 0 or len(self._train) == 0:
            return math.nan
        train, val = (
            embed(self._store, encoder, index=rows).tensor() for rows in (self._train, self._val)
        )
        mine = dist.local_slice(len(val))
        guess = metrics.knn_predict(train, self._codes[self._train], val[mine], k=20)
        hit = guess == self._codes[self._val[mine]]
        return float(dist.all_gather(hit.float(), len(val)).mean())


def check_not_diverged(loss: float, since: int, step: int) -> None:
    """Raise when the mean loss of the steps from ``since`` to ``step`` is not finite."""
    if not math.isfinite(loss):
        raise ValueError(
            f"expected a finite loss, came {loss} between the steps {since} and {step}: the "
            "training diverged; give a lower lr, a higher temperature or precision='fp32'"
        )
