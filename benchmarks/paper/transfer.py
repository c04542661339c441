"""Detection on xView and segmentation on SpaceNet: all layers are fine-tuned."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from encoders import load_encoder
from scene_tables import read_boxes, read_scenes
from settings import Settings

from geossl.data.splits import is_in_split
from geossl.datasets.raster import area
from geossl.tasks import detect, segment

CLASSES = ("background", "building")
BATCH_SIZE = 4  # of detection, as in the paper


def measure_detection(settings: Settings, method: str) -> dict[str, Any]:
    """Train a detector on xView, or resume it, and measure its AP50."""
    scenes, boxes = read_scenes(settings), read_boxes(settings)
    train, test = split_of(scenes, "train"), split_of(scenes, "test")
    mean, std = area.band_statistics(area.scene_rows(train))
    detector = detect.train(
        train, boxes, load_encoder(settings, method, mean=mean, std=std),
        config=detection_config(settings, crops=count_windows(settings, train)),
        output_dir=settings.folder / "detectors" / method, seed=settings.seed,
        skip_bad=settings.skip_bad, progress=True,
    )  # fmt: skip
    found = detector.detect(
        test, size_px=settings.side_px, overlap_px=overlap_px(settings), progress=True
    )
    result = detect.measure(found, boxes, test, skip_bad=settings.skip_bad, seed=settings.seed)
    return {
        "ap50": result.ap50, "low": result.low, "high": result.high, "train": len(train),
        "test": len(test), "classes": len(detector.classes), "crops_per_epoch": detector.config.crops,
    }  # fmt: skip


def detection_config(settings: Settings, *, crops: int) -> detect.DetectConfig:
    """Return the paper's settings of detection: RetinaNet, Adam at 1e-5, batches of 4.

    Args:
        settings: the options.
        crops: of an epoch.
    """
    return detect.DetectConfig(
        epochs=settings.task_epochs, crops=crops, batch_size=BATCH_SIZE, size_px=settings.side_px,
        boxed=0.0, upsample=1, finest_stride=8, width=256, anchor_sides=(4.0, 5.04, 6.35),
        anchor_ratios=(0.5, 1.0, 2.0), lr=1e-5, weight_decay=0.0, color=None,
        device=settings.device,
    )  # fmt: skip


def overlap_px(settings: Settings) -> int:
    """Return what neighboring windows share: a fifth, less than the paper's quarter."""
    return settings.side_px // 5


def count_windows(settings: Settings, scenes: pd.DataFrame) -> int:
    """Count the overlapping windows that cover the scenes: the crops of an epoch."""
    stride = settings.side_px - overlap_px(settings)

    def along(length: int) -> int:
        return max(1, math.ceil((length - overlap_px(settings)) / stride))

    grids = map(area.read_grid, area.scene_rows(scenes))
    return sum(along(grid.height) * along(grid.width) for grid in grids)


def measure_segmentation(settings: Settings, method: str) -> dict[str, Any]:
    """Train a segmentation network on SpaceNet, or resume it, and measure its mIoU."""
    scenes = read_scenes(settings)
    train, test = split_of(scenes, "train"), split_of(scenes, "test")
    mean, std = area.band_statistics(area.scene_rows(train))
    segmenter = segment.train(
        train, load_encoder(settings, method, mean=mean, std=std), classes=CLASSES, mask="polygons",
        config=segmentation_config(settings), output_dir=settings.folder / "segmenters" / method,
        seed=settings.seed, progress=True,
    )  # fmt: skip
    result = segment.measure(segmenter, test, seed=settings.seed, progress=True)
    building = result.per_class.set_index("class")["iou"]["building"]
    return {
        "miou": result.value, "low": result.low, "high": result.high, "building_iou": float(building),
        "train": len(train), "test": len(test),
    }  # fmt: skip


def segmentation_config(settings: Settings) -> segment.SegmentConfig:
    """Return the settings of segmentation; the encoder learns at a tenth of the head's rate."""
    return segment.SegmentConfig(
        epochs=settings.task_epochs,
        size_px=settings.side_px,
        lr=1e-3,
        encoder_rate=0.1,
        device=settings.device,
    )


def split_of(scenes: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a split."""
    return scenes[is_in_split(scenes["split"], name)].reset_index(drop=True)
