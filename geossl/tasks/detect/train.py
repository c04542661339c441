"""Train a detector: a copy of an encoder and new heads learn boxes from crops of scenes."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl import models
from geossl.data.scenes import BOX, label_codes, rows_of_split
from geossl.datasets.raster import area
from geossl.models import features
from geossl.tasks._training import (
    files_digest,
    prefetch,
    start_run,
    table_digest,
    train_epochs,
)
from geossl.tasks.detect.boxes import check_boxes
from geossl.tasks.detect.crops import Crops, Target
from geossl.tasks.detect.detector import Detector
from geossl.tasks.detect.model import DetectConfig, build
from geossl.utils.device import check_memory, select_device
from geossl.utils.seeds import derive_seed
from geossl.utils.validate import Seed, validated


@validated
def train(
    scenes: pd.DataFrame,
    boxes: pd.DataFrame,
    encoder: models.Encoder,
    *,
    config: DetectConfig | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    seed: Seed = 0,
    skip_bad: bool = False,
    progress: bool = False,
) -> Detector:
    """Train a detector on crops drawn from scenes.

    Args:
        scenes: a table of scenes, such as `geossl.datasets.coco` and `xview` return. With a column
            ``split`` only the rows "train" are used.
        boxes: the objects in them, see `check_boxes`; scenes without a box are background. Boxes
            marked ``crowd`` are neither objects nor background.
        encoder: where to start; it is not changed.
        config: all other options.
        output_dir: folder of the run, for `load`. The same call resumes an unfinished one with the
            same result; None writes nothing.
        seed: of the heads and the crops. The global random state is not touched.
        skip_bad: leave out boxes that cannot be used, counted in ``skipped``.
        progress: show a bar.

    Raises:
        FileNotFoundError: a scene is absent.
        ValueError: an encoder for other bands, no training scene, a scene that cannot be read, a
            box that cannot be used, a folder that contains another run, or a loss that is no longer
            finite.
    """
    config = config or DetectConfig()
    scenes = scenes.iloc[rows_of_split(scenes, "train").numpy()]
    rows = area.rows_with_bands(scenes, bands=encoder.bands)
    boxes = check_boxes(boxes, scenes, skip_bad=skip_bad)
    codes, classes = label_codes(boxes["label"][~boxes["crowd"]].astype(object))
    network = build(encoder, len(classes), config, seed=derive_seed(seed, "detector"))
    device = select_device(config.device)
    network.to(device, memory_format=torch.channels_last)
    tuned = network.backbone.pyramid.encoder
    files = pd.DataFrame(rows)[["path", "bands", "dtype"]]
    files["path"] = files["path"].map(os.path.basename)  # the folder may be moved
    data = table_digest(files, boxes[[*BOX, "label", "crowd"]])
    number = {str(row["path"]): i for i, row in enumerate(rows)}
    boxed = [table_digest(boxes[["path"]].replace({"path": number})), files_digest(number)]
    run = start_run(output_dir, encoder, config, seed=seed, data=data, boxes=boxed)
    crops_bytes = config.batch_size * encoder.bands * config.size_px**2 * 4
    check_memory({"`batch_size` or `size_px`": crops_bytes}, device)
    crops, steps = Crops(rows, boxes, classes, config), max(1, config.crops // config.batch_size)

    def loss(batch: tuple[Tensor, Tensor, list[Target]], seed: int) -> tuple[Tensor, Tensor]:
        pixels, valid = (part.to(device, non_blocking=True) for part in batch[:2])
        x = features.augment_colors(tuned, pixels, valid, color=config.color, seed=seed)
        targets = [{k: v.to(device) for k, v in target.items()} for target in batch[2]]
        losses = network(x.contiguous(memory_format=torch.channels_last), targets)
        parts = torch.stack([losses["classification"], losses["bbox_regression"]])
        return parts.sum(), parts.detach()

    def log(sums: list[float]) -> dict[str, float]:
        classification, box = (value / steps for value in sums)
        return {"loss": classification + box, "classification": classification, "box": box}

    counts = pd.Series(np.bincount(codes, minlength=len(classes)), pd.Index(classes, dtype=object))
    with run:
        logs = train_epochs(
            network, tuned,
            features.parameter_groups(
                network, tuned, lr=config.lr, encoder_rate=config.encoder_rate,
                weight_decay=config.weight_decay,
            ),
            config=config, run=run, steps=steps, size_px=config.size_px * config.upsample,
            batches=lambda epoch: prefetch(
                lambda step: crops.batch(derive_seed(seed, "crops", epoch, step)), steps
            ),
            loss=loss, log=log, seed=seed, progress=progress,
        )  # fmt: skip
        detector = Detector(
            network, config, area.reading_options(rows[0]), counts, len(boxes.attrs["skipped"]),
            pd.DataFrame(logs),
        )  # fmt: skip
        if output_dir is not None:
            detector.save(output_dir)
    return detector
