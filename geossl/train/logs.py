"""Log records of a run, and the kNN accuracy measured while it trains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch

from geossl import models
from geossl.data import scenes
from geossl.data.store import ChipStore
from geossl.embeddings import embed
from geossl.evaluate import metrics
from geossl.utils import dist
from geossl.utils.progress import format_duration, show_values
from geossl.utils.seeds import derive_seed

_KNN_ROWS = 2000  # at most so many chips on either side


@dataclass(frozen=True)
class Log:
    """Record of one interval of training; losses and metrics are means over it.

    Attributes:
        step: optimizer steps done.
        epoch: passes over the training chips done.
        loss: weighted sum of the objectives' losses.
        metrics: of the objectives, by name, such as ``contrastive_loss`` (InfoNCE in nats;
            log(K + 1) is chance), ``contrastive_accuracy`` (share of queries whose key is nearer
            than every negative), ``geo_loss`` (log(k) is chance), ``geo_accuracy``; attributes too:
            ``log.geo_loss``.
        feature_std: spread of the unit-norm projections times sqrt(D); 1 is even, 0 is collapse.
        effective_rank: of the last batch's embeddings; 1 is collapse.
        knn: accuracy of a 20-NN classifier on the val split; nan if it was not measured.
        pairs_per_s: pairs trained per second in this interval.
        seconds: time trained so far, over all sessions of the run.
        seconds_left: at the present rate.
    """

    step: int
    epoch: float
    loss: float
    metrics: dict[str, float]
    feature_std: float
    effective_rank: float
    knn: float
    pairs_per_s: float
    seconds: float
    seconds_left: float

    def __getattr__(self, name: str) -> float:
        metrics_by_name = self.__dict__.get("metrics", {})
        if name in metrics_by_name:
            return metrics_by_name[name]
        raise AttributeError(f"The log has no {name!r}; its metrics are {list(metrics_by_name)}.")

    def to_dict(self) -> dict[str, Any]:
        """Return all values by name, metrics among them."""
        record: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            record |= value if field.name == "metrics" else {field.name: value}
        return record


def to_frame(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return log records as a table, one row each."""
    plain = [field.name for field in fields(Log) if field.name != "metrics"]
    rows = list(records)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=plain)


def summarize(records: Sequence[dict[str, Any]], *, label: str) -> str:
    """Say in a line how far a run is by its log, in which time, and what it has reached."""
    if not records:
        return "no steps yet"
    last = records[-1]
    text = (
        f"{last['step']:,} steps in {format_duration(last['seconds'])}, loss {last['loss']:.3f}, "
        f"effective rank {last['effective_rank']:.0f}"
    )
    return text + ("" if math.isnan(last["knn"]) else f", kNN of {label} {last['knn']:.3f} on val")


def draw_steps(steps: Iterable[Log | None], bar: Any) -> None:
    """Move a bar with each step of a run, and show the loss and the last kNN of its logs."""
    knn = math.nan
    for log in steps:
        if log is not None:
            knn = knn if math.isnan(log.knn) else log.knn
            show_values(bar, {"loss": log.loss, "knn": knn})
        bar.update()


class KnnMonitor:
    """Measure 20-NN accuracy on the val split by training chips, at most 2,000 of each.

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
        """Return the accuracy of an encoder as it is; nan where it cannot be measured."""
        if len(self._val) == 0 or len(self._train) == 0:
            return math.nan
        train, val = (
            embed(self._store, encoder, index=rows).tensor() for rows in (self._train, self._val)
        )
        mine = dist.local_slice(len(val))
        predicted = metrics.knn_predict(train, self._codes[self._train], val[mine], k=20)
        hit = predicted == self._codes[self._val[mine]]
        return float(dist.all_gather(hit.float(), len(val)).mean())
