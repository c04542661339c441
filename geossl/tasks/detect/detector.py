"""A trained detector: detect objects in scenes of any size, save and load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops import batched_nms

from geossl import models
from geossl.data.scenes import BOX
from geossl.datasets.raster import area
from geossl.datasets.raster.header import read_positions
from geossl.models import features, state_dicts, weights
from geossl.tasks.detect.model import DetectConfig, build
from geossl.transforms import Views
from geossl.utils.device import select_device, select_precision
from geossl.utils.progress import progress_bar
from geossl.utils.validate import Fraction, NonNegativeInt, PositiveInt, validated

FORMAT = 2  # files of 1 have no checksum
_PER_WINDOW = 1000  # boxes of a window at most
_OLD_NAMES = {"batch": "batch_size", "colour": "color", "grey": "grayscale"}  # of version 0.1


@dataclass(frozen=True, eq=False, repr=False)
class Detector:
    """A trained detector with all that its use needs.

    Attributes:
        network: RetinaNet on normalized images, in eval mode.
        config: options of its training.
        reading: how the training scenes were read: bands, their names, dtype, and scale.
        boxes: training boxes by class, in the order of the network's outputs.
        skipped: number of training boxes that could not be used.
        logs: one row per epoch: epoch, loss, classification (focal), box (L1).
    """

    network: RetinaNet
    config: DetectConfig
    reading: dict[str, Any]
    boxes: pd.Series
    skipped: int
    logs: pd.DataFrame

    def __repr__(self) -> str:
        names = ", ".join(map(str, self.classes[:6])) + (", ..." if len(self.classes) > 6 else "")
        return (
            f"Detector({self.encoder.name} of {self.encoder.bands} bands; {len(self.classes)} "
            f"classes: {names or 'none'}; from {self.boxes.sum():,} boxes)"
        )

    @property
    def classes(self) -> list:
        """The labels it can predict; none if it was trained without a box."""
        return self.boxes.index.tolist()

    @property
    def encoder(self) -> models.Encoder:
        """The trained copy of the encoder."""
        return self.network.backbone.pyramid.encoder

    @validated
    @torch.no_grad()
    def detect(
        self,
        scenes: pd.DataFrame | str | os.PathLike[str],
        *,
        score: Fraction = 0.05,
        nms_iou: Fraction = 0.5,
        size_px: PositiveInt = 512,
        overlap_px: NonNegativeInt = 128,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Detect objects in scenes of any size, window by window.

        A box whose middle is within a quarter of ``overlap_px`` of a seam (a window's edge inside
        the scene) is left to the neighbor, which sees more around it. The boxes of all windows are
        then merged by non-maximum suppression over the scene, class by class.

        Args:
            scenes: a table of scenes, or the path of one file, read as the training scenes were.
            score: boxes of a lower score are left out; a window gives its 1,000 best at most.
            nms_iou: of two boxes of a class that overlap more, the one of the higher score stays.
            size_px: side of a window in pixels of the scene.
            overlap_px: what neighbors share; twice the largest object is enough.
            progress: show a bar.

        Returns:
            One row per box, scene by scene, the highest score first: ``path``, the corners
            `geossl.data.scenes.BOX` in pixels, ``label``, ``score``, and ``lon, lat`` of its middle
            where the file is georeferenced. ``attrs["classes"]`` are the detector's classes.

        Raises:
            FileNotFoundError: a scene is absent.
            ValueError: one cannot be read, or has other bands or another dtype.
        """
        net, tables = self.network.eval(), []
        net.score_thresh, net.nms_thresh = score, nms_iou
        net.detections_per_img = net.topk_candidates = _PER_WINDOW
        rows = area.rows_with_bands(scenes, bands=self.encoder.bands, reading=self.reading)
        for row in progress_bar(rows, unit="scene", show=progress):
            parts = list(self._windows(row, size_px, overlap_px))
            boxes, scores, codes = (torch.cat(part) for part in zip(*parts, strict=True))
            keep = batched_nms(boxes, scores, codes, nms_iou)
            table = pd.DataFrame(boxes[keep].numpy(), columns=list(BOX))
            table.insert(0, "path", pd.Series([str(row["path"])] * len(keep), dtype=object))
            table["label"] = pd.Series([self.classes[code] for code in codes[keep]], dtype=object)
            table["score"] = scores[keep].numpy()
            x, y = ((table[BOX[i]] + table[BOX[i + 2]]) / 2 for i in (0, 1))
            table["lon"], table["lat"] = read_positions(table["path"].tolist(), x, y)
            tables.append(table)
        result = pd.concat(tables, ignore_index=True)
        result.attrs["classes"] = self.classes
        return result

    def _windows(
        self, row: area.Row, size_px: int, overlap_px: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of each window boxes ``(B, 4)`` in pixels of the scene, scores, both float64, classes."""
        encoder, grid = self.encoder, area.read_grid(row)
        device, margin = encoder.mean.device, overlap_px / 4
        bf16 = select_precision(self.config.precision, device) == "bf16"
        for left, top, right, bottom in features.sliding_windows(
            grid.height, grid.width, size_px=size_px, overlap_px=overlap_px
        ):
            window = left, top, min(right, grid.width), min(bottom, grid.height)
            pixels, valid = area.read_area(row, window)
            x = encoder.normalize(torch.from_numpy(pixels)[None].to(device))
            x = (x * torch.from_numpy(valid).to(device)).contiguous(
                memory_format=torch.channels_last
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                output = {k: v.cpu() for k, v in self.network(x)[0].items()}
            boxes = output["boxes"].double() + torch.tensor([left, top, left, top])
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2
            low = [edge + margin if edge > 0 else -1 for edge in (left, top)]
            high = [
                edge - margin if edge < end else end + 1
                for edge, end in ((right, grid.width), (bottom, grid.height))
            ]
            own = (middle >= torch.tensor(low)) & (middle < torch.tensor(high))
            keep = own.all(1) & (output["labels"] < len(self.classes))
            yield boxes[keep], output["scores"][keep].double(), output["labels"][keep]

    @validated
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, or ``detector.safetensors`` into a folder: weights and json; atomic."""
        about = {
            "encoder": self.encoder.config,
            "note": self.encoder.metadata,
            "config": asdict(self.config),
            "reading": self.reading,
            "boxes": list(zip(self.classes, self.boxes.tolist(), strict=True)),
            "skipped": self.skipped,
            "logs": self.logs.to_dict("list"),
        }
        state_dicts.save_model(
            "detector", self.network, {"detector": about}, path=path, format=FORMAT
        )


@validated
def load(path: str | os.PathLike[str], *, device: str = "cpu") -> Detector:
    """Load what `train` or `Detector.save` wrote; nothing in the file is run.

    Args:
        path: the folder or the file.
        device: "cpu", "auto", "cuda", ...

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, of another kind, or written by a newer version.
    """
    path, metadata, tensors = state_dicts.load_model("detector", path, format=FORMAT)
    try:
        about = metadata["detector"]
        config = _read_config({**about["config"], "device": device})
        names, counts = zip(*about["boxes"], strict=True) if about["boxes"] else ((), ())
        boxes = pd.Series(counts, index=pd.Index(names, dtype=object), dtype="int64")
        reading = area.reading_options(about["reading"])
        logs, skipped = pd.DataFrame(about["logs"]), int(about["skipped"])
        # Before a network is built: sizes that do not fit the tensors could fill the memory.
        logits = tensors["head.classification_head.cls_logits.weight"]
        anchors = len(config.anchor_sides) * len(config.anchor_ratios)
        fits = logits.shape == (anchors * max(1, len(boxes)), config.width, 3, 3)
        if not fits:
            raise ValueError("sizes of other tensors")
        encoder = weights.describe_encoder(
            about["encoder"], about["note"], tensors, prefix="backbone.pyramid.encoder."
        )
        network = build(encoder, len(boxes), config, seed=0)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
        raise state_dicts.CheckpointError(
            f"{path} has a description that does not fit its tensors. Write the file again."
        ) from None
    state_dicts.load_into(network, tensors, path)
    network.to(select_device(device), memory_format=torch.channels_last)
    return Detector(network.eval(), config, reading, boxes, skipped, logs)


def _read_config(values: dict[str, Any]) -> DetectConfig:
    """A config from json, which has lists for tuples; names of version 0.1 are mapped."""

    def rename(options: dict[str, Any]) -> dict[str, Any]:
        return {
            _OLD_NAMES.get(name, name): tuple(value) if isinstance(value, list) else value
            for name, value in options.items()
        }

    options = rename(values)
    if options["color"] is not None:
        options["color"] = Views(**rename(options["color"]))
    return DetectConfig(**options)
