"""The command that compares encoders on a task of your own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from geossl.cli.output import Output, print_line

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare"]


def compare(
    data: Positional[Path],
    *,
    encoder: tuple[str, ...],
    task: Literal["linear", "knn", "fine-tune", "detect", "segment"],
    label: str = "label",
    folds: int | None = None,
    mask: str = "mask",
    classes: tuple[str, ...] = ("background", "object"),
    values: tuple[int, ...] | None = None,
    resample: bool = False,
    epochs: int | None = None,
    seeds: tuple[int, ...] = (0,),
    split: Literal["column", "blocks"] = "column",
    test_split: str = "test",
    block_deg: float = 1.0,
    input: Literal["task", "own"] = "task",
    bands: tuple[str, ...] | None = None,
    adapt: Literal["name", "mean"] = "name",
    output: Output[Path | None] = None,
) -> None:
    """Compare encoders on a task of your own, with an untrained one as the baseline.

    Args:
        data: linear, knn, fine-tune: a chip store. detect: a COCO json or xView geojson, or the
            folder of one. segment: a scene table with a column of masks or polygons.
        encoder: folders of runs, encoder.safetensors, or weights of others; an untrained encoder
            ("random") is always added.
        task: what to learn.
        label: linear, knn, fine-tune: column of labels.
        folds: linear, knn: cross-validation by blocks of space, for few labels.
        mask: segment: column of the masks' paths.
        classes: segment: names of the classes 0, 1, ...
        values: segment: value of each class in the masks; 0, 1, ... by default.
        resample: segment: accept masks that are not on their scene's grid.
        epochs: fine-tune, detect, segment: passes over the training data; the task's own by
            default.
        seeds: seeds of heads, orders and untrained weights.
        split: the table's own split, or one by blocks of space. A detection set without a split
            holds a quarter of its scenes out, by blocks if it has coordinates.
        test_split: linear, knn, fine-tune: the split to test on, e.g. val of fMoW.
        block_deg: side of the blocks in degrees.
        input: normalize by the statistics of these images, or as the weights were trained.
        bands: those of the images' bands that the encoders read, by name or by number from 1.
        adapt: fit the first convolution to the images' bands by name; mean: fill absent bands in.
        output: .csv of all figures to write.
    """
    from geossl import ChipStore
    from geossl.tasks import compare, detect, finetune, segment
    from geossl.utils.io import atomic_write
    from geossl.utils.progress import format_duration

    changes: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    if task == "segment":
        job = compare.segmentation(
            _with_split(_read_segmentation_set(data), split, block_deg), classes=classes,
            mask=mask, values=values, resample=resample, progress=True,
            config=dataclasses.replace(segment.SegmentConfig(), **changes),
        )  # fmt: skip
    elif task == "detect":
        table, boxes = _read_detection_set(data)
        job = compare.detection(
            _with_split(table, split, block_deg), boxes, progress=True,
            config=dataclasses.replace(detect.DetectConfig(), **changes),
        )  # fmt: skip
    else:
        job = compare.classification(
            ChipStore.open(data), label=label, measure=task, folds=folds, split=split,
            test_split=test_split, block_deg=block_deg, progress=True,
            config=dataclasses.replace(finetune.FineTuneConfig(), **changes),
        )  # fmt: skip
    encoders: dict[str, Any] = {**{name: name for name in encoder}, "random": None}
    rows = []
    for row in compare.compare(encoders, job, seeds=seeds, input=input, reads=bands, adapt=adapt):
        rows.append(row)
        time = format_duration(row.seconds)
        print_line(f"{row.method}, seed {row.seed}, in {time}: {row.result}")
    table = compare.table(rows)
    print_line(table.to_string(index=False, float_format="{:.3f}".format))
    if output is not None:
        with atomic_write(output) as part:
            table.to_csv(part, index=False)


def _read_segmentation_set(path: Path) -> pd.DataFrame:
    """Read a scene table, or a table of images that says no locations."""
    from geossl import datasets
    from geossl.data import scenes, table_files

    table = table_files.read_table(path)
    if "location" in table:
        return scenes.check(table, positions=False, source=str(path))
    return datasets.open_scenes(path)


def _read_detection_set(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the scenes and the boxes of a COCO or xView set."""
    from geossl import datasets
    from geossl.datasets import registry

    matches = registry.matching_data_sets(path)
    for name in ("coco", "xview"):
        if name in matches:
            read = getattr(datasets, name)
            return read(path), read(path, boxes=True)
    there = registry.describe_path(path) if path.exists() else "nothing"
    raise ValueError(
        f"`data` must be a COCO json, an xView geojson or a folder of one, got {path}: {there}."
    )


def _with_split(table: pd.DataFrame, split: str, block_deg: float) -> pd.DataFrame:
    """Return the table with a split of train and test."""
    from geossl.data import scenes

    if split == "column" and table["split"].notna().any():
        return table
    if table["lon"].notna().all():
        shares = {"train": 0.75, "test": 0.25}
        blocks = scenes.split_by_blocks(table, block_deg=block_deg, shares=shares)
        return table.assign(split=blocks)
    print_line("No coordinates: every fourth location is held out, wherever it is.")
    is_test = scenes.location_codes(table) % 4 == 3
    return table.assign(split=["test" if test else "train" for test in is_test])
