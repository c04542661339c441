"""What a probe found: one figure with what stands behind it, and the tables made of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.data import scenes
from geossl.evaluate import metrics
from geossl.evaluate.bootstrap import RESAMPLES, bootstrap_interval, interval

JOINT = "|"  # between the labels of one chip
UNLEARNED = "test classes without a training chip"


@dataclass(frozen=True, eq=False, repr=False)
class ProbeResult:
    """A figure with what stands behind it.

    Attributes:
        metric: what was measured.
        value: of all test chips.
        low, high: 95 % interval, by bootstrap over test locations (all chips of one go together).
        chance: what guessing gives (the most frequent class of the training chips, 1 / gallery, or
            the share of chips that have a label).
        n_train, n_test: chips.
        predictions: one row per test chip: row (in the embeddings), location, truth, predicted,
            hit; of a classifier also confidence, the probability of the predicted class (of a kNN
            its share of the votes); of a retrieval also rank and found, the row of the most
            similar chip.
        more: further figures by name, e.g. the penalty chosen on the val split, or recall@5.
        classes: of a classifier, all classes and how many training chips each had (of a
            cross-validation, in the fold with the fewest).
        probabilities: of a classifier, ``(n_test, C)`` float32, a column a class; else None.
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
        head = "".join(f"<th>{escape(name)}</th>" for name in cells)
        body = "".join(f"<td>{escape(value)}</td>" for value in cells.values())
        return f"<table><tr>{head}</tr><tr>{body}</tr></table>"

    @property
    def per_class(self) -> pd.DataFrame:
        """One row per true class of the test chips.

        Columns: label, chips, recall, precision (missing where never predicted), f1; of a
        classifier also train_chips (0: it could not be learned).
        """
        truth, guess = (self._long(name) for name in ("truth", "predicted"))
        names = scenes.label_codes(truth)[1]
        hits, real, given = (
            values.value_counts().reindex(names, fill_value=0).to_numpy()
            for values in (self._long("both"), truth, guess)
        )
        precision = np.divide(hits, given, out=np.full(len(names), np.nan), where=given > 0)
        columns = {"label": names, "chips": real, "recall": hits / real, "precision": precision}
        columns["f1"] = 2 * hits / (real + given)
        if len(self.classes):
            columns["train_chips"] = self.classes.reindex(names).to_numpy()
        return pd.DataFrame(columns)

    @property
    def confusion(self) -> pd.DataFrame:
        """Chips by true class (rows) and predicted class (columns), over all classes.

        Raises:
            ValueError: a chip can have several classes, or the result is one of a retrieval.
        """
        self._need_probabilities("a confusion matrix")
        if self.multi:
            raise ValueError(
                "expected one class a chip for a confusion matrix, came several; see per_class"
            )
        size = len(self.classes)
        truth, guess = (self._codes(name) for name in ("truth", "predicted"))
        table = np.bincount(truth * size + guess, minlength=size**2).reshape(size, size)
        names = list(self.classes.index)
        return pd.DataFrame(table, pd.Index(names, name="truth"), pd.Index(names, name="predicted"))

    def calibration(self, *, bins: int = 15) -> pd.DataFrame:
        """Reliability table: is a chip that is held for certain by 80 % right in 80 %?

        Args:
            bins: of equal width, each with its upper end.

        Returns:
            One row a bin that is not empty: low, high, chips, confidence (mean), accuracy. With
            several classes a chip, of all pairs of chip and class: how often it has it.

        Raises:
            ValueError: ``bins < 1``, or the result is one of a retrieval.
        """
        confidence, hit, _ = self._certainty()
        chips, sure, right = (x.numpy() for x in metrics.reliability(confidence, hit, bins=bins))
        edge = np.linspace(0, 1, bins + 1)
        table = pd.DataFrame({
            "low": edge[:-1], "high": edge[1:], "chips": chips.astype(np.int64),
            "confidence": sure, "accuracy": right,
        })  # fmt: skip
        return table[chips > 0].reset_index(drop=True)

    def figures(self, *, seed: int = 0, resamples: int = RESAMPLES) -> pd.DataFrame:
        """All figures of a classifier, each with a 95 % interval by bootstrap over locations.

        Top-1, top-5 (of more than five classes), macro F1 (over the classes of the test chips),
        mAP (mean over these of the average precision), calibration error (expected, 15 bins; its
        interval leans high, as noise adds to it). With several classes a chip: exact match for
        top-1, and micro AP over all pairs of chip and class.

        Args:
            seed: of the bootstrap.
            resamples: draws of it; fewer are quicker, mAP takes most of the time.

        Returns:
            One row a figure: metric, value, low, high.

        Raises:
            ValueError: the result is one of a retrieval.
        """
        p = self._need_probabilities("figures of a classifier")
        group = scenes.location_codes(self.predictions)
        confidence, hit, several = self._certainty()
        truth, guess = (self._codes(name) for name in ("truth", "predicted"))
        target, guessed = torch.from_numpy(truth), torch.from_numpy(guess)
        has = target if self.multi else one_hot(target, p.shape[1])
        first = "exact match" if self.multi else "top-1"
        rows = [(first, *interval(self.predictions["hit"].to_numpy(), group, seed))]
        if not self.multi and p.shape[1] > 5:
            top_5 = metrics.top_k_hits(p, target, k=5).numpy()
            rows.append(("top-5", *interval(top_5, group, seed)))
        measures = {
            "macro F1": lambda w: metrics.macro_f1(target, guessed, weights=w),
            "mAP": lambda w: metrics.average_precision(p, has, weights=w).nanmean(-1),
            "micro AP": lambda w: metrics.average_precision(
                p.reshape(-1, 1), has.reshape(-1, 1), weights=_spread(w, several)
            )[..., 0],
            "calibration error": lambda w: metrics.calibration_error(
                confidence, hit, weights=_spread(w, several)
            ),
        }
        if not self.multi:
            del measures["micro AP"]
        for name, measure in measures.items():
            value = float(measure(torch.ones(1, len(p))))
            low, high = bootstrap_interval(measure, group, seed=seed, resamples=resamples)
            rows.append((name, value, low, high))
        return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])

    def _need_probabilities(self, purpose: str) -> Tensor:
        if self.probabilities is None:
            raise ValueError(
                f"expected the result of a classifier for {purpose}, came {self.metric!r}, which "
                "has no probabilities of classes"
            )
        return torch.from_numpy(self.probabilities)

    def _codes(self, column: str) -> np.ndarray:
        """Classes ``(n_test,)`` int64, or ``(n_test, C)`` bool with several a chip."""
        names, values = list(self.classes.index), self.predictions[column]
        return has_label(values, names) if self.multi else pd.Index(names).get_indexer(values)

    def _long(self, column: str) -> pd.Series:
        """True, predicted or rightly predicted ("both") labels, those of all chips in a row."""
        seen = self.predictions
        if not self.multi:
            return seen["truth"][seen["hit"]] if column == "both" else seen[column]
        names = np.array(self.classes.index, dtype=object)
        columns = ("truth", "predicted") if column == "both" else (column,)
        has = np.logical_and.reduce([has_label(seen[name], list(names)) for name in columns])
        return pd.Series(names[np.nonzero(has)[1]], dtype=object)

    def _certainty(self) -> tuple[Tensor, Tensor, int]:
        """Confidences and whether they were right, ``(n_test * several,)``, and several."""
        p = self._need_probabilities("a calibration")
        if self.multi:
            return p.reshape(-1), torch.from_numpy(self._codes("truth").reshape(-1)), p.shape[1]
        hit = torch.from_numpy(self.predictions["hit"].to_numpy(bool, copy=True))
        return p.amax(1), hit, 1


def classification_result(
    metric: str,
    table: pd.DataFrame,
    *,
    codes: np.ndarray,
    names: list[Any],
    train: np.ndarray,
    test: np.ndarray,
    probabilities: np.ndarray,
    more: dict[str, float],
    seed: int,
) -> ProbeResult:
    """The result of a classifier of one class a chip; a class unknown in training is said."""
    guess = probabilities.argmax(1)
    hit = guess == codes[test]
    named, counts = pd.Series(names), np.bincount(codes[train], minlength=len(names))
    seen = pd.DataFrame({
        "row": test,
        "location": table["location"].to_numpy()[test],
        "truth": named.to_numpy()[codes[test]],
        "predicted": named.to_numpy()[guess],
        "hit": hit,
        "confidence": probabilities.max(1).astype(np.float32),
    })  # fmt: skip
    value, low, high = interval(hit, scenes.location_codes(table)[test], seed)
    return ProbeResult(
        metric, value, low, high, float((codes[test] == counts.argmax()).mean()),
        len(train), len(test), seen, more | unlearned(counts[np.unique(codes[test])]),
        classes=pd.Series(counts, index=pd.Index(names)),
        probabilities=probabilities.astype(np.float32),
    )  # fmt: skip


def unlearned(counts: np.ndarray) -> dict[str, float]:
    """A word for ``more`` on test classes with no training chip, where there are any."""
    absent = int((counts == 0).sum())
    return {UNLEARNED: absent} if absent else {}


def has_label(values: pd.Series, names: Sequence[Any]) -> np.ndarray:
    """Whether a chip's labels, joined by "|", hold each name: ``(N, C)`` bool."""
    column = {name: c for c, name in enumerate(names)}
    found = np.zeros((len(values), len(names)), bool)
    for row, text in enumerate(values):
        for name in split_labels(text):
            if name in column:
                found[row, column[name]] = True
    return found


def split_labels(text: Any) -> list[str]:
    """The labels of one chip; none of an empty text or a missing value."""
    return [] if pd.isna(text) else [x for x in map(str.strip, str(text).split(JOINT)) if x]


def one_hot(codes: Tensor, classes: int) -> Tensor:
    """``(N, C)`` bool of classes ``(N,)``."""
    return codes[:, None] == torch.arange(classes)


def _spread(weights: Tensor, several: int) -> Tensor:
    """Weights of chips ``(R, N)`` as those of all pairs of chip and class ``(R, N * several)``."""
    return weights.repeat_interleave(several, dim=1)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
