"""How good a segmentation is: intersection over union, by class, with an interval over places."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from geossl.data import scenes as scene_tables
from geossl.datasets.raster.area import rows_with_bands
from geossl.evaluate.bootstrap import RESAMPLES, bootstrap_interval
from geossl.tasks.segment.crops import Areas
from geossl.tasks.segment.masks import IGNORE
from geossl.tasks.segment.segmenter import OVERLAP_PX, SIZE_PX, Segmenter, class_map
from geossl.utils.seeds import derive_seed

_PART = 2**24  # pixels counted at a time


@dataclass(frozen=True, eq=False, repr=False)
class SegmentResult:
    """mIoU with what stands behind it.

    Attributes:
        value: mean over the classes of the intersection over union, all pixels of all scenes
            together. A class that is neither in the truth nor predicted has none and is left out;
            one that is predicted but not there has 0.
        low, high: 95 % interval, by bootstrap over locations (all scenes of one go together).
        chance: mIoU of the most frequent class of the training everywhere.
        accuracy: share of pixels that are right.
        confusion: pixels by true class (rows) and predicted class (columns).
        scenes: one row a scene: path, location, pixels (with a class in the mask), miou, accuracy.
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
        """What was measured."""
        return "mIoU"

    @property
    def per_class(self) -> pd.DataFrame:
        """One row a class.

        Columns: class, iou (missing where it has none), recall, precision (missing likewise),
        pixels (in the truth), predicted, train_pixels (0: it could not be learned).
        """
        table = torch.from_numpy(self.confusion.to_numpy().copy()).double()
        both, real, given = table.diag(), table.sum(1), table.sum(0)
        return pd.DataFrame({
            "class": list(self.confusion.index),
            "iou": iou(table).numpy(),
            "recall": (both / real).numpy(),
            "precision": (both / given).numpy(),
            "pixels": real.long().numpy(),
            "predicted": given.long().numpy(),
            "train_pixels": self.trained.to_numpy(),
        })  # fmt: skip

    def __str__(self) -> str:
        unlearned = self.per_class.query("pixels > 0 and train_pixels == 0")["class"]
        more = f"; not in the training: {', '.join(unlearned)}" if len(unlearned) else ""
        return (
            f"{self.metric} {self.value:.3f} (95 % {self.low:.3f} to {self.high:.3f}, chance "
            f"{self.chance:.3f}, pixel accuracy {self.accuracy:.3f}; {len(self.scenes)} scenes of "
            f"{self.scenes['location'].nunique()} places{more})"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = self.per_class.to_html(index=False, float_format="{:.3f}".format, na_rep="-")
        return f"<p>{escape(str(self))}</p>{table}"


def measure(
    tuned: Segmenter,
    scenes: pd.DataFrame,
    *,
    size_px: int = SIZE_PX,
    overlap_px: int = OVERLAP_PX,
    seed: int = 0,
    progress: bool = False,
) -> SegmentResult:
    """The mIoU of a trained network on scenes with masks, which it should not have seen.

    Pixels without data or of no class in the mask are left out; so are scenes without a mask.

    Args:
        tuned: the network; the masks are read as those it learned from.
        scenes: the table. Rows of one ``location``, where it has that column, are drawn together.
        size_px: of the windows, see `Segmenter.segment`.
        overlap_px: likewise.
        seed: of the bootstrap.
        progress: show a bar.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no scene with a mask, or one that cannot be read or does not fit.
    """
    table = rows_with_masks(scenes, tuned.masks.column)
    rows = rows_with_bands(table, bands=tuned.encoder.bands, reading=tuned.reading)
    found = confusion_matrices(
        tuned, Areas(rows, tuned.masks), size_px=size_px, overlap_px=overlap_px, progress=progress
    )
    total = found.sum(0)
    if not total.any():
        raise ValueError(f"expected pixels of a class in {len(rows)} masks, came none")
    if "location" in table and table["location"].notna().all():
        place = scene_tables.location_codes(table)
    else:
        place = np.arange(len(table))
    low, high = bootstrap_interval(
        lambda times: iou(torch.einsum("rn,ntp->rtp", times.double(), found.double())).nanmean(1),
        place, seed=derive_seed(seed, "segment"), resamples=RESAMPLES,
    )  # fmt: skip
    usual = torch.zeros_like(total)
    usual[:, int(tuned.pixels.to_numpy().argmax())] = total.sum(1)
    seen = pd.DataFrame({
        "path": [str(row["path"]) for row in rows],
        "location": table["location"].to_numpy() if "location" in table else place,
        "pixels": found.sum((1, 2)).numpy(),
        "miou": iou(found).nanmean(1).numpy(),
        "accuracy": _accuracy(found).numpy(),
    })  # fmt: skip
    names = list(tuned.classes)
    confusion = pd.DataFrame(
        total.numpy(), pd.Index(names, name="truth"), pd.Index(names, name="predicted")
    )
    return SegmentResult(
        float(iou(total).nanmean()), low, high, float(iou(usual).nanmean()),
        float(_accuracy(total)), confusion, seen, tuned.pixels,
    )  # fmt: skip


def rows_with_masks(scenes: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows that have a mask.

    Raises:
        ValueError: there is no such column, or no such row.
    """
    if not isinstance(scenes, pd.DataFrame) or column not in scenes:
        came = list(scenes.columns) if isinstance(scenes, pd.DataFrame) else type(scenes).__name__
        raise ValueError(
            f"expected a table with a column {column!r} of masks, came {came}; name it by mask="
        )
    table = scenes[scenes[column].notna()].reset_index(drop=True)
    if table.empty:
        raise ValueError(f"expected scenes with a mask in {column!r}, {len(scenes)} have none")
    return table


def confusion_matrices(
    tuned: Segmenter, scenes: Areas, *, size_px: int, overlap_px: int, progress: bool = False
) -> Tensor:
    """Pixels ``(scenes, classes, classes)`` by true and by predicted class."""
    found = []
    for i in tqdm(range(len(scenes)), unit="scene", disable=not progress):
        guess = class_map(tuned.network, scenes, i, size_px=size_px, overlap_px=overlap_px)
        truth = scenes.codes(i, scenes.whole(i))
        found.append(confusion(truth, guess.values, classes=len(tuned.classes)))
    return torch.stack(found)


def confusion(truth: np.ndarray, guess: np.ndarray, *, classes: int) -> Tensor:
    """Pixels ``(classes, classes)`` by true and by predicted class, by ``torch.bincount``.

    Args:
        truth: numbers of classes, any shape; pixels of 255 here or there are left out.
        guess: likewise.
        classes: how many.
    """
    total = torch.zeros(classes**2, dtype=torch.int64)
    flat = np.ravel(truth), np.ravel(guess)
    for start in range(0, flat[0].size, _PART):
        real, given = (part[start : start + _PART].astype(np.int64) for part in flat)
        known = (real != IGNORE) & (given != IGNORE)
        pair = torch.from_numpy(real[known] * classes + given[known])
        total += torch.bincount(pair, minlength=classes**2)
    return total.reshape(classes, classes)


def iou(confusion: Tensor) -> Tensor:
    """Intersection over union ``(..., classes)`` of counts by truth and prediction.

    Nan for a class that is neither in the truth nor predicted.
    """
    both = confusion.diagonal(dim1=-2, dim2=-1).double()
    return both / (confusion.sum(-1) + confusion.sum(-2) - both)


def _accuracy(confusion: Tensor) -> Tensor:
    right = confusion.diagonal(dim1=-2, dim2=-1).sum(-1)
    return right.double() / confusion.sum((-2, -1))
