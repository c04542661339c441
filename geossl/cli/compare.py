"""The command that compares encoders on a task of one's own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from geossl.cli.output import print_line
from geossl.tasks import finetune

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Transfer:
    """Encoders side by side on a task of your own, an untrained one beside them."""

    data: Positional[Path]
    """linear, knn, fine-tune: a chip store. detect: a COCO json or xView geojson, or the folder of
    one. segment: a scene table with a column of masks or polygons."""
    encoder: tuple[str, ...]
    """Runs' folders, encoder.safetensors, or weights of others; "random" comes by itself."""
    task: Literal["linear", "knn", "fine-tune", "detect", "segment"]
    """What is learned."""
    label: str = "label"
    """linear, knn, fine-tune: column of labels."""
    folds: int | None = None
    """linear, knn: cross-validation by blocks of space, for few labels."""
    mask: str = "mask"
    """segment: column of the masks' paths."""
    classes: tuple[str, ...] = ("background", "object")
    """segment: names of the classes 0, 1, ..."""
    values: tuple[int, ...] | None = None
    """segment: what stands for each class in the masks; 0, 1, ... when not given."""
    resample: bool = False
    """segment: take masks that do not lie on their scene's grid."""
    epochs: int | None = None
    """fine-tune, detect, segment: passes over the training data; the task's own when not given."""
    seeds: tuple[int, ...] = (0,)
    """Of heads, orders and untrained weights."""
    split: Literal["column", "blocks"] = "column"
    """The table's own split, or one by blocks of space. A detection set without a split holds a
    quarter of its scenes out, by blocks where it has coordinates."""
    block_deg: float = 1.0
    """Side of the blocks in degrees."""
    input: Literal["task", "own"] = "task"
    """Normalize by the statistics of these images, or as the weights were trained."""
    adapt: Literal["name", "mean"] = "name"
    """Fit the first convolution to the images' bands by name, or make absent ones up."""
    out: Path | None = None
    """A .csv of all figures to write."""

    def run(self) -> None:
        """Measure and print, a line a figure, then the table."""
        from geossl.tasks import compare
        from geossl.utils.io import atomic_write

        encoders: dict[str, Any] = {name: name for name in self.encoder}
        encoders["random"] = None
        rows = []
        for row in compare.compare(
            encoders, self._task(), seeds=self.seeds, input=self.input, adapt=self.adapt
        ):
            rows.append(row)
            print_line(f"{row.method}, seed {row.seed}: {row.result}")
        table = compare.table(rows)
        print_line(table.to_string(index=False, float_format="{:.3f}".format))
        if self.out is not None:
            with atomic_write(self.out) as part:
                table.to_csv(part, index=False)

    def _task(self) -> Any:
        from geossl import ChipStore, datasets
        from geossl.data import scenes
        from geossl.datasets import registry
        from geossl.tasks import compare, detect, segment

        def trained(config: Any) -> Any:
            return (
                config if self.epochs is None else dataclasses.replace(config, epochs=self.epochs)
            )

        if self.task == "segment":
            return compare.segmentation(
                self._split(scenes.read(self.data, positions=False)), classes=self.classes,
                mask=self.mask, values=self.values, resample=self.resample,
                config=trained(segment.SegmentConfig()),
            )  # fmt: skip
        if self.task == "detect":
            fitting = registry.matching_data_sets(self.data)
            reader = next((name for name in ("coco", "xview") if name in fitting), None)
            if reader is None:
                raise ValueError(
                    "expected a COCO json, an xView geojson or the folder of one, came "
                    f"{self.data}: {registry.describe_path(self.data) if self.data.exists() else 'absent'}"
                )
            read = getattr(datasets, reader)
            found, boxes = read(self.data), read(self.data, boxes=True)
            return compare.detection(
                self._split(found), boxes, config=trained(detect.DetectConfig())
            )
        return compare.classification(
            ChipStore.open(self.data), label=self.label, measure=self.task, folds=self.folds,
            split=self.split, block_deg=self.block_deg, config=trained(finetune.FineTuneConfig()),
        )  # fmt: skip

    def _split(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with a split of train and test."""
        from geossl.data import scenes

        if self.split == "column" and table["split"].notna().any():
            return table
        shares = {"train": 0.75, "test": 0.25}
        if table["lon"].notna().all():
            split = scenes.split_by_blocks(table, block_deg=self.block_deg, shares=shares)
            return table.assign(split=split)
        print_line("no coordinates: every fourth location is held out, whatever lies beside it")
        held = scenes.location_codes(table) % 4 == 3
        return table.assign(split=["test" if out else "train" for out in held])
