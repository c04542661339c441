"""Measure a segmentation: intersection over union by class, with an interval over locations."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.data import scenes as scene_tables
from geossl.datasets.raster.area import rows_with_bands
from geossl.evaluate.bootstrap import RESAMPLES, bootstrap_interval
from geossl.tasks.segment.crops import Scenes
from geossl.tasks.segment.masks import IGNORE
from geossl.tasks.segment.segmenter import OVERLAP_PX, SIZE_PX, Segmenter, predict_map
from geossl.utils.progress import progress_bar
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import NonNegativeInt, PositiveInt, Seed, validated

_CHUNK = 2**24  # pixels counted at a time


@dataclass(frozen=True, eq=False, repr=False)
class SegmentResult:
    """The mIoU of some scenes, with its interval, and the tables behind it.

    Attributes:
        value: mean over the classes of the intersection over union, all pixels of all scenes
            together. A class that is neither in the truth nor predicted has none and is left out;
            one that is predicted but not there has 0.
        low, high: 95 % interval, by bootstrap over locations (all scenes of one go together).
        chance: mIoU of the most frequent class of the training everywhere.
        accuracy: share of pixels that are right.
        confusion: pixels by true class (rows) and predicted class (columns).
        scenes: one row per scene: path, location, pixels (of a class), miou, accuracy.
        trained: training pixels by class.
    """

    value: float
    low: float
    high: float
    chance: float
    accuracy: float
    confusion: pd.DataFrame
    scenes: pd.DataFrame
    trained: pd.Series

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return "mIoU"

    @property
    def n_test(self) -> int:
        """Number of scenes."""
        return len(self.scenes)

    @property
    def per_class(self) -> pd.DataFrame:
        """One row per class.

        Columns: class, iou (missing where it has none), recall, precision (missing likewise),
        pixels (in the truth), predicted, train_pixels (0: it could not be learned).
        """
        table = torch.from_numpy(self.confusion.to_numpy().copy()).double()
        both, real, predicted = table.diag(), table.sum(1), table.sum(0)
        return pd.DataFrame({
            "class": list(self.confusion.index),
            "iou": iou(table).numpy(),
            "recall": (both / real).numpy(),
            "precision": (both / predicted).numpy(),
            "pixels": real.long().numpy(),
            "predicted": predicted.long().numpy(),
            "train_pixels": self.trained.to_numpy(),
        })  # fmt: skip

    def __str__(self) -> str:
        unlearned = self.per_class.query("pixels > 0 and train_pixels == 0")["class"]
        more = f"; not in the training: {', '.join(unlearned)}" if len(unlearned) else ""
        return (
            f"{self.metric} {self.value:.3f} (95 % {self.low:.3f} to {self.high:.3f}, chance "
            f"{self.chance:.3f}, pixel accuracy {self.accuracy:.3f}; {len(self.scenes)} scenes of "
            f"{self.scenes['location'].nunique()} locations{more})"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = self.per_class.to_html(index=False, float_format="{:.3f}".format, na_rep="-")
        return f"<p>{escape(str(self))}</p>{table}"


@validated
def measure(
    segmenter: Segmenter,
    scenes: pd.DataFrame,
    *,
    size_px: PositiveInt = SIZE_PX,
    overlap_px: NonNegativeInt = OVERLAP_PX,
    seed: Seed = 0,
    progress: bool = False,
) -> SegmentResult:
    """Measure the mIoU of a trained network on scenes with masks that it was not trained on.

    Pixels without data or of no class in the mask are left out; so are scenes without a mask.

    Args:
        segmenter: the network; the masks are read as the training masks were.
        scenes: the table. Rows of one ``location``, where it has that column, are drawn together.
        size_px: of the windows, see `Segmenter.segment`.
        overlap_px: likewise.
        seed: of the bootstrap.
        progress: show a bar.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no scene with a mask, or one that cannot be read or does not fit.
    """
    table = rows_with_masks(scenes, segmenter.masks.column)
    rows = rows_with_bands(table, bands=segmenter.encoder.bands, reading=segmenter.reading)
    counts = confusion_matrices(
        segmenter, Scenes(rows, segmenter.masks), size_px=size_px, overlap_px=overlap_px,
        progress=progress,
    )  # fmt: skip
    total = counts.sum(0)
    if not total.any():
        raise ValueError(f"The {len(rows)} masks of `scenes` must have a pixel of a class.")
    if "location" in table and table["location"].notna().all():
        group = scene_tables.location_codes(table)
    else:
        group = np.arange(len(table))
    low, high = bootstrap_interval(
        lambda times: iou(torch.einsum("rn,ntp->rtp", times.double(), counts.double())).nanmean(1),
        group, seed=derive_seed(seed, "segment"), resamples=RESAMPLES,
    )  # fmt: skip
    most_frequent = torch.zeros_like(total)
    most_frequent[:, int(segmenter.pixels.to_numpy().argmax())] = total.sum(1)
    per_scene = pd.DataFrame({
        "path": [str(row["path"]) for row in rows],
        "location": table["location"].to_numpy() if "location" in table else group,
        "pixels": counts.sum((1, 2)).numpy(),
        "miou": iou(counts).nanmean(1).numpy(),
        "accuracy": _accuracy(counts).numpy(),
    })  # fmt: skip
    truth, predicted = (pd.Index(segmenter.classes, name=n) for n in ("truth", "predicted"))
    return SegmentResult(
        float(iou(total).nanmean()), low, high, float(iou(most_frequent).nanmean()),
        float(_accuracy(total)), pd.DataFrame(total.numpy(), truth, predicted), per_scene,
        segmenter.pixels,
    )  # fmt: skip


def rows_with_masks(scenes: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows that have a mask.

    Raises:
        ValueError: there is no such column, or no such row.
    """
    if column not in scenes:
        raise ValueError(
            f"`mask` must be one of the columns {list(scenes.columns)}, got {column!r}."
        )
    table = scenes[scenes[column].notna()].reset_index(drop=True)
    if table.empty:
        raise ValueError(
            f"`scenes` must have a row with a mask in {column!r}, but all {len(scenes)} are empty."
        )
    return table


def confusion_matrices(
    segmenter: Segmenter,
    scenes: Scenes,
    *,
    size_px: int = SIZE_PX,
    overlap_px: int = OVERLAP_PX,
    progress: bool = False,
) -> Tensor:
    """Count pixels ``(scenes, classes, classes)`` by true and by predicted class."""
    counts = []
    for i in progress_bar(range(len(scenes)), unit="scene", show=progress):
        guess = predict_map(segmenter.network, scenes, i, size_px=size_px, overlap_px=overlap_px)
        truth = scenes.codes(i, scenes.full_window(i))
        counts.append(confusion(truth, guess.values, classes=len(segmenter.classes)))
    return torch.stack(counts)


def confusion(truth: np.ndarray, guess: np.ndarray, *, classes: int) -> Tensor:
    """Count pixels ``(classes, classes)`` by true and by predicted class.

    Args:
        truth: class numbers of any shape; pixels of 255 in either are left out.
        guess: likewise.
        classes: their number.
    """
    total = torch.zeros(classes**2, dtype=torch.int64)
    flat = np.ravel(truth), np.ravel(guess)
    for start in range(0, flat[0].size, _CHUNK):
        real, predicted = (part[start : start + _CHUNK].astype(np.int64) for part in flat)
        known = (real != IGNORE) & (predicted != IGNORE)
        pair = torch.from_numpy(real[known] * classes + predicted[known])
        total += torch.bincount(pair, minlength=classes**2)
    return total.reshape(classes, classes)


def iou(confusion: Tensor) -> Tensor:
    """Return the intersection over union ``(..., classes)`` of counts by truth and prediction.

    Nan for a class that is neither in the truth nor predicted.
    """
    both = confusion.diagonal(dim1=-2, dim2=-1).double()
    return both / (confusion.sum(-1) + confusion.sum(-2) - both)


def _accuracy(confusion: Tensor) -> Tensor:
    right = confusion.diagonal(dim1=-2, dim2=-1).sum(-1)
    return right.double() / confusion.sum((-2, -1))
