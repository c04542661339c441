"""Compare encoders on a task of your own, an untrained one among them.

task = compare.classification(store, label="crop", folds=5)
for row in compare.compare({"ours": "runs/my/geo_tp", "random": None}, task, seeds=(0, 1, 2)):
    print(row.method, row.value)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from annotated_types import Ge

from geossl import evaluate, models
from geossl.data.splits import is_in_split
from geossl.data.store import ChipStore
from geossl.datasets.raster import area
from geossl.embeddings import embed
from geossl.evaluate.splits import Split, count_values, get_column, require_label
from geossl.models import weights
from geossl.models.bands import fit_bands
from geossl.tasks import finetune
from geossl.utils.validate import Positive, PositiveInt, Seed, check, validated

if TYPE_CHECKING:
    from geossl.tasks import detect, segment

__all__ = ["Row", "Task", "classification", "compare", "detection", "segmentation", "table"]

# An encoder, a file of one, or an untrained one (None).
Start: TypeAlias = models.Encoder | str | os.PathLike[str] | None


@dataclass(frozen=True, eq=False)
class Task:
    """A task that encoders are compared on.

    Attributes:
        name: of the task.
        bands: names, or the number, of the bands of its images.
        mean, std: ``(C,)`` of these images, in their units.
        measure: of an encoder of these bands and a seed: a result with ``metric``, ``value``,
            ``low``, ``high`` and ``n_test``, and the trained model or None.
    """

    name: str
    bands: Sequence[str] | int
    mean: np.ndarray
    std: np.ndarray
    measure: Callable[[models.Encoder, int], tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class Row:
    """One method, measured with one seed: its value, and a 95 % interval over test locations.

    ``n_test`` counts chips or scenes, ``seconds`` is the time it took, ``result`` has all details,
    ``model`` is the detector, segmenter or fine-tuned encoder.
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
    model: Any


@validated
def compare(
    encoders: Mapping[str, Start | Callable[[int], Start]],
    task: Task,
    *,
    seeds: Sequence[Seed] = (0,),
    input: Literal["task", "own"] = "task",
    reads: Sequence[str | PositiveInt] | None = None,
    adapt: weights.Adapt = "name",
) -> Iterator[Row]:
    """Measure encoders on a task, and yield each row as soon as it is measured.

    Args:
        encoders: name -> an encoder, the path of one (a run's folder, or see `weights.load`), None
            for an untrained "tiny" one of the seed, or a function of the seed that returns one of
            these.
        task: of `classification`, `detection` or `segmentation`.
        seeds: of heads, crops, orders and untrained weights; each method is measured with each.
        input: "task" normalizes by the statistics of the task's images, which fits any sensor and
            unit; "own" keeps those of the encoder's training, for images of the same kind.
        reads: those of the task's bands that the encoders read, see `geossl.models.with_bands`.
        adapt: how the first convolution is adapted to the task's bands, likewise.

    Raises:
        ValueError: no encoder or seed, an encoder that does not fit, or an error of the task.
    """
    for name, values in (("encoders", encoders), ("seeds", seeds)):
        if not len(values):
            raise ValueError(f"`{name}` must have at least one entry, got {values!r}.")
    for seed in seeds:
        for method, start in encoders.items():
            encoder = _prepare(start, task, seed=seed, input=input, reads=reads, adapt=adapt)
            began = time.monotonic()
            result, model = task.measure(encoder, seed)
            yield Row(
                method, seed, result.metric, result.value, result.low, result.high, result.n_test,
                time.monotonic() - began, result, model,
            )  # fmt: skip


@validated
def table(rows: Iterable[Row]) -> pd.DataFrame:
    """Summarize rows: one per method, with the mean and spread (``std``) of its seeds.

    ``low`` and ``high`` are the means of the seeds' 95 % intervals; ``seconds`` and ``n_test`` are
    means too.
    """
    columns = ["method", "seed", "metric", "value", "low", "high", "n_test", "seconds"]
    frame = pd.DataFrame([[getattr(row, c) for c in columns] for row in rows], columns=columns)
    summary = frame.groupby(["method", "metric"], sort=False).agg(
        value=("value", "mean"), std=("value", "std"), low=("low", "mean"), high=("high", "mean"),
        seeds=("seed", "nunique"), n_test=("n_test", "mean"), seconds=("seconds", "mean"),
    )  # fmt: skip
    return summary.reset_index()


@validated
def classification(
    store: ChipStore,
    *,
    label: str = "label",
    measure: Literal["linear", "knn", "fine-tune"] = "linear",
    folds: Annotated[int, Ge(2)] | None = None,
    split: Split = "column",
    test_split: str = "test",
    block_deg: Positive = 10.0,
    config: finetune.FineTuneConfig | None = None,
    progress: bool = False,
) -> Task:
    """Make a task of classifying chips: frozen embeddings under a probe, or all layers fine-tuned.

    Args:
        store: the chips.
        label: column of labels.
        measure: "linear" and "knn" leave the encoder frozen; "fine-tune" trains a copy.
        folds: cross-validation by blocks of space, for few labels; not for "fine-tune".
        split: as in `geossl.evaluate.linear`, where ``folds`` is None; as is the next one.
        test_split: the split to test on.
        block_deg: side of the blocks in degrees.
        config: of "fine-tune".
        progress: show a bar for each encoder.

    Raises:
        ValueError: folds of a fine-tuning, or no such column.
    """
    if measure == "fine-tune" and folds is not None:
        raise ValueError(
            "`folds` must be None for measure='fine-tune'. Pass a `split`, or measure='linear'."
        )
    if folds is not None and test_split != "test":
        raise ValueError("`test_split` must be left out with `folds`, which test on every row.")
    require_label(store.scenes, label)
    options: dict[str, Any] = {"label": label, "block_deg": block_deg}
    probe: Callable[..., evaluate.ProbeResult] = (
        evaluate.knn if measure == "knn" else evaluate.linear
    )

    def measured(encoder: models.Encoder, seed: int) -> tuple[Any, Any]:
        if measure == "fine-tune":
            model = finetune.fine_tune(
                store, encoder, split=split, test_split=test_split, config=config, seed=seed,
                progress=progress, **options,
            )  # fmt: skip
            return model.result, model
        embeddings = embed(store, encoder, progress=progress)
        if folds is None:
            where = {"split": split, "test_split": test_split}
            return probe(embeddings, seed=seed, **where, **options), None
        options_of_folds = {"folds": folds, "measure": probe, "seed": seed, **options}
        return evaluate.cross_validate(embeddings, **options_of_folds), None

    return Task(f"{label}, {measure}", store.bands, store.mean, store.std, measured)


@validated
def detection(
    scenes: pd.DataFrame,
    boxes: pd.DataFrame,
    *,
    config: detect.DetectConfig | None = None,
    skip_bad: bool = False,
    progress: bool = False,
) -> Task:
    """Make a task of detecting objects: trained on the rows "train", AP50 on the rows "test".

    Args:
        scenes: with a column ``split``, see `geossl.tasks.detect.train`.
        boxes: the objects in them.
        config: of the training.
        skip_bad: leave out boxes that cannot be used.
        progress: show bars for each encoder.

    Raises:
        ValueError: no training or test scene, or a scene that cannot be read.
    """
    from geossl.tasks import detect  # torchvision's detectors take seconds to import
    from geossl.tasks.detect.model import DetectConfig

    check("config", config, DetectConfig | None)
    train, test = (_rows_of(scenes, name) for name in ("train", "test"))

    def measured(encoder: models.Encoder, seed: int) -> tuple[Any, Any]:
        model = detect.train(
            train, boxes, encoder, config=config, seed=seed, skip_bad=skip_bad, progress=progress
        )
        detections = model.detect(test, progress=progress)
        return detect.measure(detections, boxes, test, skip_bad=skip_bad, seed=seed), model

    return _scene_task("boxes, RetinaNet", train, measured)


@validated
def segmentation(
    scenes: pd.DataFrame,
    *,
    classes: Sequence[str],
    mask: str = "mask",
    values: Sequence[int] | None = None,
    label: str | None = None,
    resample: bool = False,
    config: segment.SegmentConfig | None = None,
    progress: bool = False,
) -> Task:
    """Make a task of classifying pixels: trained on the rows "train", mIoU on the rows "test".

    Args:
        scenes: with columns ``split`` and ``mask``, see `geossl.tasks.segment.train`.
        classes: their names, see `geossl.tasks.segment.Masks`, as for the next four.
        mask: column of the paths of the masks.
        values: what stands for each class in the masks.
        label: property of polygons that names their class.
        resample: accept masks of another size or CRS than their scenes'.
        config: of the training.
        progress: show bars for each encoder.

    Raises:
        ValueError: no training or test scene, or a scene that cannot be read.
    """
    from geossl.tasks import segment
    from geossl.tasks.segment.train import SegmentConfig

    check("config", config, SegmentConfig | None)
    train, test = (_rows_of(scenes, name) for name in ("train", "test"))
    watched = scenes[~is_in_split(scenes["split"], "test")]  # train and val

    def measured(encoder: models.Encoder, seed: int) -> tuple[Any, Any]:
        model = segment.train(
            watched, encoder, classes=classes, mask=mask, values=values, label=label,
            resample=resample, config=config, seed=seed, progress=progress,
        )  # fmt: skip
        return segment.measure(model, test, seed=seed, progress=progress), model

    return _scene_task("pixels", train, measured)


def _scene_task(
    name: str, train: pd.DataFrame, measure: Callable[[models.Encoder, int], tuple[Any, Any]]
) -> Task:
    """A task with the bands and statistics of the training scenes."""
    rows = area.scene_rows(train)
    names = str(rows[0]["band_names"]).split(",")
    bands = names if rows[0]["dtype"] else len(names)  # a number if the table does not name them
    return Task(name, bands, *area.band_statistics(rows), measure)


def _prepare(
    start: Any,
    task: Task,
    *,
    seed: int,
    input: str,
    reads: Sequence[str | int] | None,
    adapt: weights.Adapt,
) -> models.Encoder:
    """An encoder for the task's bands and, unless "own", normalized for them."""
    if callable(start) and not isinstance(start, models.Encoder):
        start = start(seed)
    if start is None:
        bands = task.bands if isinstance(task.bands, int) else len(task.bands)
        encoder = models.build_encoder(bands=bands, seed=seed)
        return weights.with_input(encoder, task.mean, task.std).eval()
    encoder = start if isinstance(start, models.Encoder) else weights.load(start)
    if reads is None and adapt == "name" and not isinstance(task.bands, int):
        encoder = fit_bands(encoder, task.bands, mean=task.mean, std=task.std)
    else:
        encoder = models.with_bands(encoder, task.bands, reads=reads, adapt=adapt)
    return encoder if input == "own" else weights.with_input(encoder, task.mean, task.std)


def _rows_of(scenes: pd.DataFrame, split: str) -> pd.DataFrame:
    splits = get_column(scenes, "split")
    rows = scenes[is_in_split(splits, split)]
    if rows.empty:
        raise ValueError(
            f"`scenes` must have rows of split {split!r} ({count_values(splits)}). Add a column "
            "'split' with 'train' and 'test', e.g. by scenes.split_by_blocks()."
        )
    return rows.reset_index(drop=True)
