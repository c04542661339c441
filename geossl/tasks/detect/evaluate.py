"""Measure detections: average precision as COCO computes it, and the tables behind it."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.data.scenes import BOX, label_codes
from geossl.datasets.raster import area
from geossl.evaluate.bootstrap import RESAMPLES, bootstrap_interval
from geossl.tasks.detect.boxes import check_boxes, require_columns
from geossl.utils.validate import Fraction, Seed, validated

_MAX_DETECTIONS = 10**9  # of a scene and class: all count


@dataclass(frozen=True, eq=False, repr=False)
class DetectionResult:
    """The average precision of detections, with its interval, and the tables behind it.

    Attributes:
        ap50: mean over the classes of the average precision at an IoU of .5, in [0, 1]; nan
            without a box.
        low, high: its 95 % interval, by bootstrap over scenes; nan of a single scene.
        ap: the same mean over IoUs of .5, .55, ..., .95: COCO's mAP.
        score: least score of the detections that count in precision, recall and outcomes.
        precision: share of these that hit a box at an IoU of .5; nan without any.
        recall: share of the boxes that they hit; nan without any.
        per_class: one row per class: label, boxes, ap50, ap, precision, recall, and known: whether
            the detector was trained on it (a class that it does not know counts as 0).
        detections: in these scenes, with ``outcome``: hit, false alarm, or ignored (in a crowd).
        boxes: with ``outcome``: hit, missed, or ignored (a crowd).
        n_scenes: number of scenes.
        skipped: number of boxes that could not be used.
    """

    ap50: float
    low: float
    high: float
    ap: float
    score: float
    precision: float
    recall: float
    per_class: pd.DataFrame
    detections: pd.DataFrame
    boxes: pd.DataFrame
    n_scenes: int
    skipped: int

    @property
    def metric(self) -> str:
        """Name of the metric of `value`."""
        return "AP50"

    @property
    def value(self) -> float:
        """The same as ``ap50``."""
        return self.ap50

    @property
    def n_test(self) -> int:
        """The same as ``n_scenes``."""
        return self.n_scenes

    def __str__(self) -> str:
        real = self.per_class[self.per_class["boxes"] > 0]
        unknown = int((~real["known"]).sum())
        more = f"; classes it was not trained on, counted as 0: {unknown}" if unknown else ""
        more += f"; boxes left out: {self.skipped}" if self.skipped else ""
        return (
            f"AP50 {self.ap50:.3f} (95 % {self.low:.3f} to {self.high:.3f}), mAP {self.ap:.3f}; "
            f"from score {self.score:g} precision {self.precision:.2f}, recall {self.recall:.2f} "
            f"({real['boxes'].sum():,} boxes, {len(real)} classes, {self.n_scenes:,} scenes{more})"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = self.per_class.to_html(index=False, float_format="{:.3f}".format, border=0)
        return f"<p>{escape(str(self))}</p>{table}"


@validated
def measure(
    detections: pd.DataFrame,
    boxes: pd.DataFrame,
    scenes: pd.DataFrame | str | os.PathLike[str],
    *,
    score: Fraction = 0.3,
    skip_bad: bool = False,
    seed: Seed = 0,
) -> DetectionResult:
    """Measure detections against boxes, as COCO does, by pycocotools.

    COCO's limit of 100 detections per image is lifted: a large scene may have more. Boxes marked
    ``crowd`` count neither way. A class without a box in these scenes is not in the means.

    Args:
        detections: of `Detector.detect`, or a table with its columns.
        boxes: the truth, see `check_boxes`.
        scenes: what to measure on; detections and boxes of other scenes are left out.
        score: least score of the detections that count in precision, recall and outcomes; the
            average precision does not depend on it. Focal loss keeps scores low.
        skip_bad: leave out boxes of the truth that cannot be used.
        seed: of the bootstrap.

    Raises:
        ImportError: the package pycocotools is missing.
        FileNotFoundError: a scene is absent.
        ValueError: an absent column, or a box or score that cannot be used.

    Source:
        COCO's detection evaluation, arXiv 1405.0312: precision at 101 recalls, IoU .5 to .95.
    """
    truth = check_boxes(boxes, scenes, skip_bad=skip_bad)
    skipped = len(truth.attrs["skipped"])
    paths = [str(row["path"]) for row in area.scene_rows(scenes, bands=1)]
    guess = _check_detections(detections, paths)
    codes, names = label_codes(pd.concat([truth["label"], guess["label"]]).astype(object))
    for table, part in ((truth, codes[: len(truth)]), (guess, codes[len(truth) :])):
        table["class"], table["scene"] = part, pd.Index(paths).get_indexer(table["path"])
    ap50, ap, match, ignored = _coco_evaluation(truth, guess, len(names), len(paths))
    guess["outcome"] = np.select([ignored, match >= 0], ["ignored", "hit"], "false alarm")
    objects = ~truth["crowd"].to_numpy()
    confident = ~ignored & (guess["score"] >= score).to_numpy()
    hit = np.isin(np.arange(len(truth)), match[confident])
    truth["outcome"] = np.select([~objects, hit], ["ignored", "hit"], "missed")
    masks = {
        "boxes": (truth, objects), "recall": (truth, objects & hit),
        "predicted": (guess, confident), "precision": (guess, confident & (match >= 0)),
    }  # fmt: skip
    counts = {
        name: np.bincount(table["class"][mask], minlength=len(names))
        for name, (table, mask) in masks.items()
    }
    total = {name: values.sum() for name, values in counts.items()}
    known = detections.attrs.get("classes", names)
    per_class = pd.DataFrame({
        "label": pd.Series(names, dtype=object),
        "boxes": counts["boxes"],
        "ap50": ap50,
        "ap": ap,
        "precision": _divide(counts["precision"], counts["predicted"]),
        "recall": _divide(counts["recall"], counts["boxes"]),
        "known": [name in known for name in names],
    })  # fmt: skip
    low, high = _interval(guess[~ignored], truth[objects], len(paths), seed=seed)
    guess, truth = (
        t.drop(columns=["class", "scene"]).reset_index(drop=True) for t in (guess, truth)
    )
    return DetectionResult(
        ap50=_mean(ap50), low=low, high=high, ap=_mean(ap), score=score,
        precision=float(_divide(total["precision"], total["predicted"])),
        recall=float(_divide(total["recall"], total["boxes"])),
        per_class=per_class, detections=guess, boxes=truth, n_scenes=len(paths), skipped=skipped,
    )  # fmt: skip


def _check_detections(detections: pd.DataFrame, paths: list[str]) -> pd.DataFrame:
    """The detections of some scenes; refused if a number is not finite."""
    require_columns(detections, ("path", *BOX, "label", "score"), "detections")
    table = detections[detections["path"].isin(paths)].copy()
    table.attrs = {}
    columns = [*BOX, "score"]
    table[columns] = table[columns].apply(pd.to_numeric, errors="coerce").astype("float64")
    values = table[columns].to_numpy()
    bad = ~np.isfinite(values).all(1) | (values[:, 2:4] < values[:, :2]).any(1)
    bad |= table["label"].isna().to_numpy()
    if bad.any():
        raise ValueError(
            "`detections` must have finite left <= right, top <= bottom and score, and a label, "
            f"got {table.iloc[int(np.argmax(bad))].to_dict()}."
        )
    return table


def _coco_evaluation(
    truth: pd.DataFrame, guess: pd.DataFrame, classes: int, scenes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Average precision ``(K,)`` at .5 and over all IoUs, nan where a class has no box.

    And, at .5, for each detection the row of the box it hits (-1: none), and whether it is ignored.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise ImportError("measure() needs pycocotools. Run: pip install 'geossl[tasks]'") from None
    sets = []
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        for table in (truth, guess):
            coco = COCO()
            coco.dataset = {
                "images": [{"id": i + 1} for i in range(scenes)],
                "categories": [{"id": i + 1} for i in range(classes)],
                "annotations": _entries(table),
            }
            coco.createIndex()
            sets.append(coco)
        evaluation = COCOeval(*sets, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, np.inf]], ["all"]
        evaluation.params.maxDets = [_MAX_DETECTIONS]
        if classes:
            evaluation.evaluate()
            evaluation.accumulate()
    match, ignored = np.full(len(guess), -1), np.zeros(len(guess), bool)
    if not classes:
        return np.zeros(0), np.zeros(0), match, ignored
    for part in filter(None, evaluation.evalImgs):
        rows = np.array(part["dtIds"], int) - 1
        match[rows] = part["dtMatches"][0].astype(int) - 1
        ignored[rows] = part["dtIgnore"][0]
    precision = evaluation.eval["precision"][..., 0, 0]  # (IoUs, recalls, classes)
    ap = np.where(precision > -1, precision, np.nan).mean(1)
    return ap[0], ap.mean(0), match, ignored


def _entries(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Boxes or detections as annotations of COCO."""
    left, top, right, bottom = table[list(BOX)].to_numpy().T
    columns = {
        "id": np.arange(1, len(table) + 1),
        "image_id": table["scene"] + 1,
        "category_id": table["class"] + 1,
        "bbox": np.stack([left, top, right - left, bottom - top], 1).tolist(),
        "area": (right - left) * (bottom - top),
        "iscrowd": table["crowd"].astype(int) if "crowd" in table else 0,
        "score": table["score"] if "score" in table else 1.0,
    }
    return pd.DataFrame(columns).to_dict("records")


def _interval(
    guess: pd.DataFrame, truth: pd.DataFrame, scenes: int, *, seed: int
) -> tuple[float, float]:
    """The 95 % interval of AP50, scenes drawn with replacement."""
    if scenes < 2 or truth.empty:
        return np.nan, np.nan
    classes = []
    for code, boxes in truth.groupby("class"):
        own = guess[guess["class"] == code].sort_values(["scene"], kind="stable")
        own = own.sort_values("score", ascending=False, kind="stable")
        count = np.bincount(boxes["scene"], minlength=scenes)
        classes.append(((own["outcome"] == "hit").to_numpy(), own["scene"].to_numpy(), count))

    def ap50(weights: Tensor) -> Tensor:
        times = weights.numpy()  # (R, scenes)
        sums, counted = np.zeros(len(times)), np.zeros(len(times))
        for hit, scene, count in classes:
            total = times @ count
            ap = _average_precision(hit, times[:, scene], total)
            sums, counted = sums + np.where(total > 0, ap, 0), counted + (total > 0)
        return torch.from_numpy(_divide(sums, counted))

    return bootstrap_interval(ap50, np.arange(scenes), seed=seed, resamples=RESAMPLES)


def _average_precision(hit: np.ndarray, times: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Average precision ``(R,)`` at 101 recalls of detections ``(D,)``, the best score first.

    Args:
        hit: which are right.
        times: ``(R, D)`` how often each counts.
        total: ``(R,)`` boxes.
    """
    right, total_so_far = np.cumsum(times * hit, 1), np.cumsum(times, 1)
    precision = _divide(right, total_so_far, otherwise=0)
    best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]  # at this recall or a higher one
    best = np.pad(best, ((0, 0), (0, 1)))  # none beyond the last
    recall = _divide(right, total[:, None], otherwise=0)
    levels = np.linspace(0, 1, 101)
    return np.array([
        row[np.searchsorted(reached, levels)].mean()
        for row, reached in zip(best, recall, strict=True)
    ])  # fmt: skip


def _divide(part: Any, total: Any, *, otherwise: float = np.nan) -> np.ndarray:
    part, total = np.broadcast_arrays(np.asarray(part, float), total)
    return np.divide(part, total, out=np.full(part.shape, float(otherwise)), where=total > 0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
