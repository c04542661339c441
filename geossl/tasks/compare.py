"""Transfer: encoders side by side on a task of one's own, an untrained one among them.

    task = transfer.classification(store, label="crop", folds=5)
    for row in transfer.compare({"ours": "runs/my/geo_tp", "random": None}, task, seeds=(0, 1, 2)):
        print(row.method, row.value)

A task holds its images' bands and statistics and says how an encoder is measured on them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from geossl import evaluate, models
from geossl.data.store import ChipStore
from geossl.datasets.raster import area
from geossl.embeddings import embed
from geossl.evaluate.splits import Split, count_values, get_column, require_label
from geossl.models import weights
from geossl.tasks import finetune

if TYPE_CHECKING:
    from geossl.tasks import detect, segment

# An encoder, a file of one, an untrained one (None), or what gives one of these for a seed.
Start: TypeAlias = models.Encoder | str | os.PathLike[str] | None
Given: TypeAlias = Start | Callable[[int], Start]
Found: TypeAlias = tuple[str, float, float, float, int, Any, Any]


@dataclass(frozen=True, eq=False)
class Task:
    """What encoders are compared on.

    Attributes:
        name: in words.
        bands: names, or the number, of the bands of its images.
        mean, std: ``(C,)`` of these images, in their units.
        measure: called with an encoder of these bands and a seed; gives metric, value, low and high
            of a 95 % interval, number of chips or scenes tested, the whole result, and what was
            trained (None: nothing that one could keep).
    """

    name: str
    bands: Sequence[str] | int
    mean: np.ndarray
    std: np.ndarray
    measure: Callable[[models.Encoder, int], Found]


@dataclass(frozen=True, eq=False)
class Row:
    """One method, measured with one seed: its figure, and a 95 % interval over the test places.

    ``result`` is all that was found; ``tuned`` the detector, segmenter or fine-tuned encoder.
    """

    method: str
    seed: int
    metric: str
    value: float
    low: float
    high: float
    n_test: int
    seconds: float
    result: Any
    tuned: Any


def compare(
    encoders: Mapping[str, Given],
    task: Task,
    *,
    seeds: Sequence[int] = (0,),
    input: Literal["task", "own"] = "task",
    adapt: Literal["name", "mean"] = "name",
) -> Iterator[Row]:
    """Measure encoders on a task; yields each figure as soon as it is known.

    Args:
        encoders: name -> an encoder, the path of one (a run's folder, `weights.load`), None for an
            untrained "small" one of the seed, or a function of the seed that gives one of these.
        task: of `classification`, `detection` or `segmentation`.
        seeds: of heads, crops, orders and untrained weights; each method is measured with each.
        input: "task" normalizes by the statistics of the task's images, which fits any sensor and
            unit; "own" keeps what the weights were trained with, for images of the same kind.
        adapt: how the first convolution is fitted to the task's bands, see `weights.with_bands`.

    Raises:
        ValueError: no encoder or seed, an encoder that does not fit, or what the task refuses.
    """
    if not encoders or not len(seeds):
        raise ValueError(f"expected an encoder and a seed or more, came {encoders!r} and {seeds!r}")
    if input not in ("task", "own"):
        raise ValueError(f"expected input of task, own; came {input!r}")
    for seed in seeds:
        for method, given in encoders.items():
            encoder = _fitted(given, task, seed=seed, input=input, adapt=adapt)
            began = time.monotonic()
            metric, value, low, high, n_test, result, tuned = task.measure(encoder, seed)
            seconds = time.monotonic() - began
            yield Row(method, seed, metric, value, low, high, n_test, seconds, result, tuned)


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """A row a method: metric, value (mean of its seeds), std (between them), low, high, seeds, ...

    ``low`` and ``high`` are the means of the seeds' 95 % intervals over the test places;
    ``seconds`` and ``n_test`` are means too.
    """
    kept = ("method", "seed", "metric", "value", "low", "high", "n_test", "seconds")
    frame = pd.DataFrame([[getattr(r, k) for k in kept] for r in rows], columns=list(kept))
    return (
        frame.groupby(["method", "metric"], sort=False)
        .agg(
            value=("value", "mean"),
            std=("value", "std"),
            low=("low", "mean"),
            high=("high", "mean"),
            seeds=("seed", "nunique"),
            n_test=("n_test", "mean"),
            seconds=("seconds", "mean"),
        )
        .reset_index()
    )


def classification(
    store: ChipStore,
    *,
    label: str = "label",
    measure: Literal["linear", "knn", "fine-tune"] = "linear",
    folds: int | None = None,
    split: Split = "column",
    block_deg: float = 10.0,
    config: finetune.FineTuneConfig | None = None,
) -> Task:
    """Classes of chips: frozen embeddings under a probe, or all layers fine-tuned.

    Args:
        store: the chips.
        label: column of labels.
        measure: "linear" and "knn" leave the encoder frozen; "fine-tune" trains a copy.
        folds: cross-validation by blocks of space, for few labels; not for "fine-tune".
        split: as in `probe.linear`, where ``folds`` is None.
        block_deg: side of the blocks in degrees.
        config: of "fine-tune".

    Raises:
        ValueError: an unknown ``measure``, folds of a fine-tuning, or no such column.
    """
    if measure not in ("linear", "knn", "fine-tune"):
        raise ValueError(f"expected measure of linear, knn, fine-tune; came {measure!r}")
    if measure == "fine-tune" and folds is not None:
        raise ValueError("expected no folds for fine-tune; give a split, or measure='linear'")
    require_label(store.scenes, label)
    by: dict[str, Any] = {"label": label, "block_deg": block_deg}

    def found(encoder: models.Encoder, seed: int) -> Found:
        tuned = None
        if measure == "fine-tune":
            tuned = finetune.fine_tune(store, encoder, split=split, config=config, seed=seed, **by)
            result = tuned.result
        else:
            vectors, how = (
                embed(store, encoder),
                evaluate.knn if measure == "knn" else evaluate.linear,
            )
            if folds is None:
                result = how(vectors, split=split, seed=seed, **by)
            else:
                result = evaluate.cross_validate(vectors, folds=folds, measure=how, seed=seed, **by)
        return result.metric, result.value, result.low, result.high, result.n_test, result, tuned

    return Task(f"{label}, {measure}", store.bands, store.mean, store.std, found)


def detection(
    scenes: pd.DataFrame,
    boxes: pd.DataFrame,
    *,
    config: detect.DetectConfig | None = None,
    skip_bad: bool = False,
) -> Task:
    """Boxes in whole scenes: a detector trained on the rows "train", AP50 on the rows "test".

    Args:
        scenes: with a column ``split``, see `detect.train`.
        boxes: what is in them.
        config: of the training.
        skip_bad: leave out boxes that cannot be used.

    Raises:
        ValueError: no training or test scene, or a scene that cannot be read.
    """
    from geossl.tasks import detect  # torchvision's detectors take seconds to load

    train, test = (_of(scenes, name) for name in ("train", "test"))
    rows = area.scene_rows(train)
    mean, std = area.band_statistics(rows)

    def found(encoder: models.Encoder, seed: int) -> Found:
        tuned = detect.train(train, boxes, encoder, config=config, seed=seed, skip_bad=skip_bad)
        result = detect.measure(tuned.detect(test), boxes, test, skip_bad=skip_bad, seed=seed)
        return "AP50", result.ap50, result.low, result.high, len(test), result, tuned

    return Task("boxes, RetinaNet", _names_of(rows), mean, std, found)


def segmentation(
    scenes: pd.DataFrame,
    *,
    classes: Sequence[str],
    mask: str = "mask",
    config: segment.SegmentConfig | None = None,
    **masks: Any,
) -> Task:
    """Classes of pixels: a network trained on the rows "train", mIoU on the rows "test".

    Args:
        scenes: with columns ``split`` and ``mask``, see `segment.train`.
        classes: their names.
        mask: column of the paths of the masks.
        config: of the training.
        **masks: ``values``, ``label`` and ``resample`` of `segment.train`.

    Raises:
        ValueError: no training or test scene, or a scene that cannot be read.
    """
    from geossl.tasks import segment

    train, test = (_of(scenes, name) for name in ("train", "test"))
    rows = area.scene_rows(train)
    mean, std = area.band_statistics(rows)
    kept = scenes[scenes["split"] != "test"]  # val is watched

    def found(encoder: models.Encoder, seed: int) -> Found:
        tuned = segment.train(
            kept, encoder, classes=classes, mask=mask, config=config, seed=seed, **masks
        )
        result = segment.measure(tuned, test, seed=seed)
        return result.metric, result.value, result.low, result.high, len(test), result, tuned

    return Task("pixels", _names_of(rows), mean, std, found)


def _fitted(given: Given, task: Task, *, seed: int, input: str, adapt: str) -> models.Encoder:
    """The encoder that is meant, for the task's bands and, unless "own", normalized for them."""
    if callable(given) and not isinstance(given, models.Encoder):
        given = given(seed)
    if given is None:
        count = task.bands if isinstance(task.bands, int) else len(task.bands)
        given = models.build_encoder("small", bands=count, seed=seed)
        return weights.with_input(given, task.mean, task.std).eval()
    if not isinstance(given, models.Encoder):
        given = weights.load(given)
    encoder = weights.with_bands(given, task.bands, adapt=adapt)
    return encoder if input == "own" else weights.with_input(encoder, task.mean, task.std)


def _of(scenes: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of a split.

    Raises:
        ValueError: there are none.
    """
    found = get_column(scenes, "split")
    rows = scenes[(found == split).fillna(False)]
    if rows.empty:
        raise ValueError(
            f"expected scenes of split {split!r}, came {count_values(found)}; give the "
            "table a column 'split' of train and test, e.g. by scenes.split_by_blocks"
        )
    return rows.reset_index(drop=True)


def _names_of(rows: Sequence[area.Row]) -> list[str] | int:
    """Names of the bands, or their number where the table does not say which to read."""
    names = str(rows[0]["band_names"]).split(",")
    return names if rows[0]["dtype"] else len(names)
