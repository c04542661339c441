"""Measure how fast the devices of this machine do what the plan counts."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from settings import Settings
from transfer import CLASSES, detection_config, segmentation_config

from geossl import models
from geossl.data.scenes import BOX
from geossl.tasks import detect, segment
from geossl.utils.device import select_device

SECONDS = 5.0  # of a measurement
_STEPS = {"cuda": (4, 44), "cpu": (1, 2)}  # of two trainings, whose difference is timed
_BATCH_ON_CPU = 2


@torch.no_grad()
def images_per_s(
    encoder: models.Encoder, *, size_px: int, batch_size: int, device: torch.device
) -> float:
    """Measure the images per second that an encoder embeds."""
    encoder = encoder.to(device).eval()
    x = torch.zeros(batch_size, encoder.bands, size_px, size_px, device=device)
    float(encoder(x).sum())
    steps, began = 0, time.perf_counter()
    while not steps or time.perf_counter() - began < SECONDS:
        float(encoder(x).sum())  # waits for a GPU
        steps += 1
    return steps * batch_size / (time.perf_counter() - began)


def crops_per_s(settings: Settings, encoder: models.Encoder) -> float:
    """Measure the crops per second that a detector or a segmentation network trains on."""
    kind = select_device(settings.device).type
    few, many = _STEPS.get(kind, _STEPS["cuda"])
    with tempfile.TemporaryDirectory() as folder:
        make = _detection if settings.task == "xview" else _segmentation
        train, batch_size = make(settings, encoder, Path(folder), on_cpu=kind == "cpu")
        seconds = []
        for steps in (1, few, many):  # the first warms up
            began = time.perf_counter()
            train(steps)
            seconds.append(time.perf_counter() - began)
    return (many - few) * batch_size / max(seconds[2] - seconds[1], 1e-6)


def _detection(
    settings: Settings, encoder: models.Encoder, folder: Path, *, on_cpu: bool
) -> tuple[Callable[[int], object], int]:
    """Return a function that trains a detector for some steps, and the crops of a step."""
    side, path = settings.side_px, str(folder / "scene.png")
    Image.fromarray(np.full((side, side, 3), 100, np.uint8)).save(path)
    box = pd.DataFrame([[path, 0, 0, side / 2, side / 2, "x"]], columns=["path", *BOX, "label"])
    config = dataclasses.replace(detection_config(settings, crops=1), epochs=1)
    if on_cpu:
        config = dataclasses.replace(config, batch_size=_BATCH_ON_CPU)

    def train(steps: int) -> object:
        counted = dataclasses.replace(config, crops=steps * config.batch_size)
        return detect.train(pd.DataFrame({"path": [path]}), box, encoder, config=counted)

    return train, config.batch_size


def _segmentation(
    settings: Settings, encoder: models.Encoder, folder: Path, *, on_cpu: bool
) -> tuple[Callable[[int], object], int]:
    """Return a function that trains a segmentation network for some steps, and the crops of one."""
    config = segmentation_config(settings)
    if on_cpu:
        config = dataclasses.replace(config, batch_size=_BATCH_ON_CPU)
    side, scene, mask = settings.side_px, folder / "scene.png", folder / "mask.png"
    tall = np.full((side * config.batch_size, side, 3), 100, np.uint8)  # one step an epoch
    Image.fromarray(tall).save(scene)
    Image.fromarray(np.indices(tall.shape[:2]).sum(0).astype(np.uint8) % 2).save(mask)
    table = pd.DataFrame({"path": [str(scene)], "mask": [str(mask)]})

    def train(steps: int) -> object:
        counted = dataclasses.replace(config, epochs=steps)
        return segment.train(table, encoder, classes=CLASSES, config=counted)

    return train, config.batch_size
