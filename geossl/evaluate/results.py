"""The result of a probe: one value, its interval, and the tables made from its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.data import scenes
from geossl.evaluate import metrics
from geossl.evaluate.bootstrap import RESAMPLES, bootstrap_interval, share_interval
from geossl.evaluate.splits import LabeledRows
from geossl.utils.validate import PositiveInt, Seed, validated

SEPARATOR = "|"  # between the labels of one chip
UNLEARNED = "test classes without a training chip"


@dataclass(frozen=True, eq=False, repr=False)
class ProbeResult:
    """A measured value with its interval and predictions.

    Attributes:
        metric: what was measured.
        value: of all test chips.
        low, high: 95 % interval, by bootstrap over test locations (all chips of one go together).
        chance: what guessing gives (the most frequent class of the training chips, 1 / gallery, or
            the share of chips that have a label).
        n_train, n_test: chips.
        predictions: one row per test chip: row (in the embeddings), location, truth, predicted,
            hit; of a classifier also confidence, the probability of the predicted class (of a kNN
            its share of the votes); of a retrieval also rank and match, the row of the most
            similar chip.
        more: further values by name, e.g. the penalty chosen on the val split, or recall@5.
        classes: of a classifier, all classes and how many training chips each had (of a
            cross-validation, in the fold with the fewest).
        probabilities: of a classifier, ``(n_test, C)`` float32, a column per class; else None.
        multi: whether a chip can have several classes, joined by "|" in predictions.
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
    classes: pd.Series = field(default_factory=lambda: pd.Series(dtype=np.int64))
    probabilities: np.ndarray | None = None
    multi: bool = False

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
        return pd.DataFrame([cells]).to_html(index=False, border=0)

    @property
    def per_class(self) -> pd.DataFrame:
        """One row per true class of the test chips.

        Columns: label, chips, recall, precision (missing where never predicted), f1; of a
        classifier also train_chips (0: it could not be learned).
        """
        truth, guess = (self._labels(name) for name in ("truth", "predicted"))
        names = scenes.label_codes(truth)[1]
        hits, real, predicted = (
            values.value_counts().reindex(names, fill_value=0).to_numpy()
            for values in (self._labels("truth", "predicted"), truth, guess)
        )
        with np.errstate(invalid="ignore"):
            columns = {"label": names, "chips": real, "recall": hits / real}
            columns |= {"precision": hits / predicted, "f1": 2 * hits / (real + predicted)}
        if len(self.classes):
            columns["train_chips"] = self.classes.reindex(names).to_numpy()
        return pd.DataFrame(columns)

    @property
    def confusion(self) -> pd.DataFrame:
        """Chips by true class (rows) and predicted class (columns), over all classes.

        Raises:
            ValueError: a chip can have several classes, or the result is one of a retrieval.
        """
        self._require_probabilities("a confusion matrix")
        if self.multi:
            raise ValueError(
                "A confusion matrix needs one class per chip, but these chips can have several. "
                "See `per_class`."
            )
        size = len(self.classes)
        truth, guess = (self._codes(name) for name in ("truth", "predicted"))
        table = np.bincount(truth * size + guess, minlength=size**2).reshape(size, size)
        names = list(self.classes.index)
        return pd.DataFrame(table, pd.Index(names, name="truth"), pd.Index(names, name="predicted"))

    @validated
    def calibration(self, *, bins: PositiveInt = 15) -> pd.DataFrame:
        """Compare confidence with accuracy: are predictions at 80 % right 80 % of the time?

        Args:
            bins: of equal width, each with its upper end.

        Returns:
            One row per bin that is not empty: low, high, chips, confidence (mean), accuracy. With
            several classes per chip, of all pairs of chip and class: how often it has it.

        Raises:
            ValueError: the result is one of a retrieval.
        """
        confidence, hit, _ = self._confidence()
        chips, mean, accuracy = (x.numpy() for x in metrics.reliability(confidence, hit, bins=bins))
        edge = np.linspace(0, 1, bins + 1)
        columns = {"low": edge[:-1], "high": edge[1:], "chips": chips.astype(np.int64)}
        table = pd.DataFrame({**columns, "confidence": mean, "accuracy": accuracy})
        return table[chips > 0].reset_index(drop=True)

    @validated
    def all_metrics(self, *, seed: Seed = 0, resamples: PositiveInt = RESAMPLES) -> pd.DataFrame:
        """Compute all metrics of a classifier, each with a 95 % interval by bootstrap.

        Top-1, top-5 (of more than five classes), macro F1 (over the classes of the test chips),
        mAP (mean over these of the average precision), calibration error (expected, 15 bins; its
        interval leans high, as noise adds to it). With several classes per chip: exact match for
        top-1, and micro AP over all pairs of chip and class.

        Args:
            seed: of the bootstrap over locations.
            resamples: its draws; fewer are quicker, mAP takes most of the time.

        Returns:
            One row per metric: metric, value, low, high.

        Raises:
            ValueError: the result is one of a retrieval.
        """
        p = self._require_probabilities("all_metrics()")
        group = scenes.location_codes(self.predictions)
        confidence, hit, pairs = self._confidence()
        target, guess = (torch.from_numpy(self._codes(c)) for c in ("truth", "predicted"))
        has = target if self.multi else target[:, None] == torch.arange(p.shape[1])
        first = "exact match" if self.multi else "top-1"
        rows = [(first, *share_interval(self.predictions["hit"].to_numpy(), group, seed))]
        if not self.multi and p.shape[1] > 5:
            top_5 = metrics.top_k_hits(p, target, k=5).numpy()
            rows.append(("top-5", *share_interval(top_5, group, seed)))
        measures = {
            "macro F1": lambda w: metrics.macro_f1(target, guess, weights=w),
            "mAP": lambda w: metrics.average_precision(p, has, weights=w).nanmean(-1),
            "micro AP": lambda w: metrics.average_precision(
                p.reshape(-1, 1), has.reshape(-1, 1), weights=w.repeat_interleave(pairs, dim=1)
            )[..., 0],
            "calibration error": lambda w: metrics.calibration_error(
                confidence, hit, weights=w.repeat_interleave(pairs, dim=1)
            ),
        }
        if not self.multi:
            del measures["micro AP"]
        for name, measure in measures.items():
            value = float(measure(torch.ones(1, len(p))))
            low, high = bootstrap_interval(measure, group, seed=seed, resamples=resamples)
            rows.append((name, value, low, high))
        return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])

    def _require_probabilities(self, purpose: str) -> Tensor:
        if self.probabilities is None:
            raise ValueError(
                f"{purpose} needs the result of a classifier, but {self.metric!r} has no "
                "probabilities of classes."
            )
        return torch.from_numpy(self.probabilities)

    def _codes(self, column: str) -> np.ndarray:
        """Classes ``(n_test,)`` int64, or ``(n_test, C)`` bool with several per chip."""
        names, values = list(self.classes.index), self.predictions[column]
        return has_label(values, names) if self.multi else pd.Index(names).get_indexer(values)

    def _labels(self, *columns: str) -> pd.Series:
        """All labels of all chips, one after another, that each of these columns has."""
        table = self.predictions
        if not self.multi:
            return table[columns[0]][table["hit"] if len(columns) == 2 else slice(None)]
        has = np.logical_and.reduce([self._codes(column) for column in columns])
        names = np.array(self.classes.index, dtype=object)
        return pd.Series(names[np.nonzero(has)[1]], dtype=object)

    def _confidence(self) -> tuple[Tensor, Tensor, int]:
        """Confidences, whether they were right, both ``(n_test * pairs,)``, and pairs per chip."""
        p = self._require_probabilities("A calibration")
        if self.multi:
            return p.reshape(-1), torch.from_numpy(self._codes("truth").reshape(-1)), p.shape[1]
        hit = torch.from_numpy(self.predictions["hit"].to_numpy(bool, copy=True))
        return p.amax(1), hit, 1


def classification_result(
    metric: str, rows: LabeledRows, probabilities: np.ndarray, more: dict[str, float], *, seed: int
) -> ProbeResult:
    """Make the result of a classifier with one class per chip.

    Args:
        metric: its name.
        rows: training and test rows.
        probabilities: ``(n_test, C)`` of all classes.
        more: further values.
        seed: of the bootstrap.
    """
    truth, guess = rows.codes[rows.test], probabilities.argmax(1)
    names = pd.Series(rows.names)
    counts = np.bincount(rows.codes[rows.train], minlength=len(names))
    predictions = pd.DataFrame({
        "row": rows.test,
        "location": rows.table["location"].to_numpy()[rows.test],
        "truth": names.to_numpy()[truth],
        "predicted": names.to_numpy()[guess],
        "hit": guess == truth,
        "confidence": probabilities.max(1).astype(np.float32),
    })  # fmt: skip
    group = scenes.location_codes(predictions)
    value, low, high = share_interval(guess == truth, group, seed)
    return ProbeResult(
        metric, value, low, high, float((truth == counts.argmax()).mean()),
        len(rows.train), len(rows.test), predictions, more | unlearned(counts[np.unique(truth)]),
        classes=pd.Series(counts, index=pd.Index(rows.names)),
        probabilities=probabilities.astype(np.float32),
    )  # fmt: skip


def unlearned(counts: np.ndarray) -> dict[str, float]:
    """Return the entry of ``more`` on test classes without a training chip, if there are any."""
    absent = int((counts == 0).sum())
    return {UNLEARNED: absent} if absent else {}


def has_label(values: pd.Series, names: Sequence[Any]) -> np.ndarray:
    """Return whether a chip's labels, joined by "|", contain each name: ``(N, C)`` bool."""
    column = {name: c for c, name in enumerate(names)}
    result = np.zeros((len(values), len(names)), bool)
    for row, text in enumerate(values):
        result[row, [column[name] for name in split_labels(text) if name in column]] = True
    return result


def split_labels(text: Any) -> list[str]:
    """Return the labels of one chip; none for an empty text or a missing value."""
    return [] if pd.isna(text) else [x for x in map(str.strip, str(text).split(SEPARATOR)) if x]


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
