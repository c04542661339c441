"""Training a detector: a copy of the encoder and new heads learn boxes from crops of scenes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torchvision.models.detection.retinanet import RetinaNet
from tqdm.auto import tqdm

from geossl import models
from geossl.data.scenes import BOX, label_codes, rows_of_split
from geossl.datasets.raster import area
from geossl.models import features, state_dicts
from geossl.tasks.detect.boxes import check_boxes
from geossl.tasks.detect.crops import Crops
from geossl.tasks.detect.detector import FORMAT, Detector
from geossl.tasks.detect.model import DetectConfig, build
from geossl.train.checkpoint import prepare_directory
from geossl.train.optim import check_finite_loss, load_optimizer_state, set_learning_rates
from geossl.utils.cpu import single_threaded
from geossl.utils.device import select_device, select_precision, use_fused
from geossl.utils.seeds import derive_seed

_STATE = "last.safetensors"
_LOSSES = ("classification", "bbox_regression")


def train(
    scenes: pd.DataFrame,
    boxes: pd.DataFrame,
    encoder: models.Encoder,
    *,
    config: DetectConfig | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    progress: bool = False,
) -> Detector:
    """Train a detector on crops drawn from whole scenes.

    Args:
        scenes: a table of whole scenes, such as `readers.coco` and `readers.xview` make. With a
            column ``split`` only the rows "train" are learned from.
        boxes: what is in them, see `check_boxes`; scenes without a box are background. Boxes marked
            ``crowd`` are neither objects nor background.
        encoder: where to start; it is left bit for bit as it was.
        config: everything else.
        output_dir: folder of the run, for `load`. If it holds an unfinished run of the same arguments,
            that one goes on after its last epoch, bit for bit; None keeps nothing on disk.
        seed: of the heads and the crops. The global random state is not touched.
        skip_bad: leave out boxes that cannot be used, counted in ``skipped``.
        progress: show a bar.

    Raises:
        FileNotFoundError: a scene is absent.
        ValueError: an encoder for other bands, no training scene, a scene that cannot be read, a
            box that cannot be used, a folder that holds another run, or a loss that is no longer
            finite.
    """
    config = config or DetectConfig()
    scenes = scenes.iloc[rows_of_split(scenes, "train").numpy()]
    rows = area.rows_with_bands(scenes, bands=encoder.bands)
    found = check_boxes(boxes, scenes, skip_bad=skip_bad)
    codes, classes = label_codes(found["label"][~found["crowd"]].astype(object))
    counts = pd.Series(np.bincount(codes, minlength=len(classes)), pd.Index(classes, dtype=object))
    net = build(encoder, len(classes), config, seed=derive_seed(seed, "detector"))
    device = select_device(config.device)
    net.to(device, memory_format=torch.channels_last)
    groups = features.parameter_groups(
        net, net.backbone.pyramid.encoder, lr=config.lr, encoder_rate=config.encoder_rate,
        weight_decay=config.weight_decay,
    )  # fmt: skip
    solver = torch.optim.AdamW(groups, config.lr, fused=use_fused(device))
    logs: list[dict[str, float]] = []
    folder = None if output_dir is None else Path(output_dir)
    if folder is not None:
        about = _identity(rows, found, encoder, config, seed)
        logs = _resume(folder, about, net, solver)
    crops = Crops(rows, found, classes, config)
    with tqdm(total=config.epochs, initial=len(logs), unit="epoch", disable=not progress) as bar:
        while len(logs) < config.epochs:
            logs.append(_epoch(net, solver, crops, config=config, epoch=len(logs), seed=seed))
            if folder is not None:
                _save(folder, net, solver, logs)
            bar.set_postfix(loss=f"{logs[-1]['loss']:.2f}", refresh=False)
            bar.update()
    reading = area.reading_options(rows[0])
    skipped = len(found.attrs["skipped"])
    tuned = Detector(net.eval(), config, reading, counts, skipped, pd.DataFrame(logs))
    if folder is not None:
        tuned.save(folder)
    return tuned


def _epoch(
    net: RetinaNet, solver: torch.optim.Optimizer, crops: Crops, *,
    config: DetectConfig, epoch: int, seed: int,
) -> dict[str, float]:  # fmt: skip
    """Train an epoch in place; its log."""
    encoder = net.backbone.pyramid.encoder
    net.train()
    device, began = encoder.mean.device, time.monotonic()
    fast = select_precision(config.precision, device) == "bf16"
    steps = max(1, config.crops // config.batch_size)
    sums = torch.zeros(len(_LOSSES), device=device)
    few = single_threaded(encoder, bf16=fast)
    pool = ThreadPoolExecutor(1, thread_name_prefix="geossl-crops")
    with few, pool:
        seeds = [derive_seed(seed, "crops", epoch, step) for step in range(steps)]
        ahead = pool.submit(crops.batch, seeds[0])
        for step in range(steps):
            pixels, valid, targets = ahead.result()
            if step + 1 < steps:
                ahead = pool.submit(crops.batch, seeds[step + 1])
            pixels, valid = pixels.to(device), valid.to(device)
            x = features.augment_colors(
                encoder, pixels, valid, color=config.color, seed=seeds[step]
            )
            x = x.contiguous(memory_format=torch.channels_last)
            targets = [{k: v.to(device) for k, v in target.items()} for target in targets]
            done, whole = epoch * steps + step, config.epochs * steps
            set_learning_rates(solver, done, whole, warmup=config.warmup)
            with torch.enable_grad():
                with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                    found = net(x, targets)
                losses = torch.stack([found[name] for name in _LOSSES])
                losses.sum().backward()
            solver.step()
            solver.zero_grad(set_to_none=True)
            sums += losses.detach()
    classification, box = (sums / steps).tolist()
    loss = classification + box
    check_finite_loss(loss, where=f"epoch {epoch + 1}", lr=config.lr)
    return {
        "epoch": epoch + 1,
        "loss": loss,
        "classification": classification,
        "box": box,
        "seconds": time.monotonic() - began,
    }


def _identity(
    rows: list[area.Row], boxes: pd.DataFrame, encoder: models.Encoder, config: DetectConfig,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """What makes a run that run, as json holds it."""
    known = hashlib.blake2b(digest_size=8)
    for row in rows:
        known.update(f"{os.path.basename(row['path'])}/{row['bands']}/{row['dtype']}\n".encode())
    for box in boxes[[*BOX, "label", "crowd"]].itertuples(index=False):
        known.update(repr(tuple(box)).encode())
    settings = {k: v for k, v in asdict(config).items() if k != "device"}
    about = {
        "format": FORMAT,
        "seed": seed,
        "data": known.hexdigest(),
        "encoder": state_dicts.weights_digest(encoder),
        **{f"config.{k}": v for k, v in settings.items()},
    }
    return json.loads(json.dumps(about))


def _save(
    folder: Path, net: RetinaNet, solver: torch.optim.Optimizer, logs: list[dict[str, float]]
) -> None:
    """Write what it takes to go on bit for bit."""
    tensors = {f"network.{k}": v for k, v in net.state_dict().items()}
    for i, state in solver.state_dict()["state"].items():
        tensors |= {f"solver.{i}.{k}": v for k, v in state.items()}
    state_dicts.write_safetensors(tensors, {"logs": json.dumps(logs)}, folder / _STATE)


def _resume(
    folder: Path, about: dict[str, Any], net: RetinaNet, solver: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Begin a run in a folder, or take up the one that is there; its logs so far."""
    prepare_directory(folder, about)
    path = folder / _STATE
    if not path.exists():
        return []
    with state_dicts.open_checkpoint(path) as (metadata, tensors):
        weights = {k.removeprefix("network."): v for k, v in tensors.items() if k[:8] == "network."}
        state_dicts.load_into(net, weights, path)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("solver."):
                _, number, name = key.split(".")
                state.setdefault(int(number), {})[name] = value
        load_optimizer_state(solver, {**solver.state_dict(), "state": state})
        return list(json.loads(metadata["logs"]))
