"""How good detections are: average precision as COCO computes it, and what stands behind it."""

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

_MOST = 10**9  # detections of a scene and class that count: all


@dataclass(frozen=True, eq=False, repr=False)
class DetectionResult:
    """What `measure` found.

    Attributes:
        ap50: mean over the classes of the average precision at an IoU of .5, in [0, 1]; nan
            without a box.
        low, high: its 95 % interval, by bootstrap over scenes; nan of a single scene.
        ap: the same mean over IoUs of .5, .55, ..., .95: COCO's mAP.
        score: least score of the detections that precision, recall and outcomes are about.
        precision: share of these that hit a box at an IoU of .5; nan without any.
        recall: share of the boxes that they hit; nan without any.
        per_class: a row a class: label, boxes, ap50, ap, precision, recall, and known: whether the
            detector was trained on it (a class that it does not know counts as 0).
        found: the detections in these scenes, with ``outcome``: hit, false alarm, or ignored (in a
            crowd).
        boxes: the boxes, with ``outcome``: hit, missed, or ignored (a crowd).
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
    found: pd.DataFrame
    boxes: pd.DataFrame
    n_scenes: int
    skipped: int

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


def measure(
    found: pd.DataFrame,
    boxes: pd.DataFrame,
    scenes: pd.DataFrame | str | os.PathLike[str],
    *,
    score: float = 0.3,
    skip_bad: bool = False,
    seed: int = 0,
) -> DetectionResult:
    """Measure detections against boxes, as COCO does, by pycocotools.

    COCO's limit of 100 detections an image is lifted: a large scene may hold more. Boxes marked
    ``crowd`` count neither way. A class without a box in these scenes is not in the means.

    Args:
        found: what `Detector.detect` gave, or a table with its columns.
        boxes: the truth, see `check_boxes`.
        scenes: what to measure on; detections and boxes of other scenes are left out.
        score: least score of the detections that precision, recall and outcomes are about; it
            does not touch the average precision. Focal loss keeps scores low.
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
    guess = _usable(found, paths)
    codes, names = label_codes(pd.concat([truth["label"], guess["label"]]).astype(object))
    for table, part in ((truth, codes[: len(truth)]), (guess, codes[len(truth) :])):
        table["class"], table["scene"] = part, pd.Index(paths).get_indexer(table["path"])
    ap50, ap, hit, ignored = _evaluated(truth, guess, len(names), len(paths))
    guess["outcome"] = np.select([ignored, hit >= 0], ["ignored", "hit"], "false alarm")
    objects, sure = ~truth["crowd"].to_numpy(), ~ignored & (guess["score"] >= score).to_numpy()
    matched = np.isin(np.arange(len(truth)), hit[sure])
    truth["outcome"] = np.select([~objects, matched], ["ignored", "hit"], "missed")
    count = {
        "boxes": (truth, objects), "recall": (truth, objects & matched),
        "given": (guess, sure), "precision": (guess, sure & (hit >= 0)),
    }  # fmt: skip
    of = {k: np.bincount(t["class"][mask], minlength=len(names)) for k, (t, mask) in count.items()}
    total = {name: values.sum() for name, values in of.items()}
    known = found.attrs.get("classes", names)
    per_class = pd.DataFrame({
        "label": pd.Series(names, dtype=object),
        "boxes": of["boxes"],
        "ap50": ap50,
        "ap": ap,
        "precision": _share(of["precision"], of["given"]),
        "recall": _share(of["recall"], of["boxes"]),
        "known": [name in known for name in names],
    })  # fmt: skip
    low, high = _interval(guess[~ignored], truth[objects], len(paths), seed=seed)
    plain = [t.drop(columns=["class", "scene"]).reset_index(drop=True) for t in (guess, truth)]
    return DetectionResult(
        ap50=_mean(ap50),
        low=low,
        high=high,
        ap=_mean(ap),
        score=score,
        precision=float(_share(total["precision"], total["given"])),
        recall=float(_share(total["recall"], total["boxes"])),
        per_class=per_class,
        found=plain[0],
        boxes=plain[1],
        n_scenes=len(paths),
        skipped=skipped,
    )


def _usable(found: pd.DataFrame, paths: list[str]) -> pd.DataFrame:
    """The detections of some scenes, refused where a number is none."""
    require_columns(found, ("path", *BOX, "label", "score"), "detections")
    table = found[found["path"].isin(paths)].copy()
    table.attrs = {}
    columns = [*BOX, "score"]
    table[columns] = table[columns].apply(pd.to_numeric, errors="coerce").astype("float64")
    values = table[columns].to_numpy()
    bad = ~np.isfinite(values).all(1) | (values[:, 2:4] < values[:, :2]).any(1)
    if bad.any() or table["label"].isna().any():
        row = int(np.argmax(bad | table["label"].isna().to_numpy()))
        raise ValueError(
            "expected detections of finite left <= right, top <= bottom and score, and a label, "
            f"came {table.iloc[row].to_dict()}"
        )
    return table


def _evaluated(
    truth: pd.DataFrame, guess: pd.DataFrame, classes: int, scenes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Average precision ``(K,)`` at .5 and over all IoUs, nan where a class has no box.

    And, at .5, of each detection the row of the box it hits, -1 without, and whether it is ignored.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise ImportError("measure needs pycocotools; run: pip install 'geossl[tasks]'") from None
    sets = []
    with contextlib.redirect_stdout(io.StringIO()):  # it tells what it does
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
        evaluation.params.maxDets = [_MOST]
        if classes:
            evaluation.evaluate()
            evaluation.accumulate()
    hit, ignored = np.full(len(guess), -1), np.zeros(len(guess), bool)
    if not classes:
        return np.zeros(0), np.zeros(0), hit, ignored
    for part in filter(None, evaluation.evalImgs):
        rows = np.array(part["dtIds"], int) - 1
        hit[rows] = part["dtMatches"][0].astype(int) - 1
        ignored[rows] = part["dtIgnore"][0]
    precision = evaluation.eval["precision"][..., 0, 0]  # (IoUs, recalls, classes)
    ap = np.where(precision > -1, precision, np.nan).mean(1)
    return ap[0], ap.mean(0), hit, ignored


def _entries(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Boxes or detections as COCO has them."""
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
    of_class = []
    for code, boxes in truth.groupby("class"):
        mine = guess[guess["class"] == code].sort_values(["scene"], kind="stable")
        mine = mine.sort_values("score", ascending=False, kind="stable")
        count = np.bincount(boxes["scene"], minlength=scenes)
        of_class.append(((mine["outcome"] == "hit").to_numpy(), mine["scene"].to_numpy(), count))

    def ap50(weights: Tensor) -> Tensor:
        times = weights.numpy()  # (R, scenes)
        sums, counted = np.zeros(len(times)), np.zeros(len(times))
        for hit, where, count in of_class:
            total = times @ count
            ap = _average_precision(hit, times[:, where], total)
            sums, counted = sums + np.where(total > 0, ap, 0), counted + (total > 0)
        return torch.from_numpy(_share(sums, counted))

    return bootstrap_interval(ap50, np.arange(scenes), seed=seed, resamples=RESAMPLES)


def _average_precision(hit: np.ndarray, times: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Average precision ``(R,)`` at 101 recalls of detections ``(D,)``, the best score first.

    Args:
        hit: which are right.
        times: ``(R, D)`` how often each counts.
        total: ``(R,)`` boxes.
    """
    right, seen = np.cumsum(times * hit, 1), np.cumsum(times, 1)
    precision = _share(right, seen, otherwise=0)
    best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]  # at this recall or a higher one
    best = np.pad(best, ((0, 0), (0, 1)))  # none beyond the last
    recall = _share(right, total[:, None], otherwise=0)
    levels = np.linspace(0, 1, 101)
    return np.array([
        row[np.searchsorted(reached, levels)].mean()
        for row, reached in zip(best, recall, strict=True)
    ])  # fmt: skip


def _share(part: Any, whole: Any, *, otherwise: float = np.nan) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, float), whole)
    return np.divide(part, whole, out=np.full(part.shape, float(otherwise)), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
