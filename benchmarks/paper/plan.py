"""How many images, how much disk and how many hours it takes, from a measurement of a minute."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import timing
import torch
from encoders import untrained
from results import Results, machine
from scene_tables import read_scenes
from settings import METHODS, Settings
from steps import pretrain_config
from timing import crops_per_s, images_per_s
from transfer import count_windows, split_of

from geossl.train.setup import trains_in_bf16
from geossl.train.throughput import measure_throughput
from geossl.utils.device import select_device
from geossl.utils.progress import format_duration, format_rate

_ONE_VIEW = 3 / 4  # of a pair's cost: forward and backward, without the keys' forward
_BATCH_ON_CPU = 4


@dataclass(frozen=True)
class Part:
    """A part of the work: a step of one method, its seconds on one device, and its files."""

    step: str
    method: str
    work: str
    seconds: float
    disk: float  # bytes


@dataclass(frozen=True)
class Counts:
    """Images of a task, and what a chip has."""

    train: int
    test: int
    left_out: int
    chip_bytes: int = 0


def plan(settings: Settings) -> str:
    """Return the plan of a task, as Markdown."""
    device = select_device(settings.device)
    devices = torch.cuda.device_count() if device.type == "cuda" else 1
    here = f"{devices} device{'s' * (devices > 1)}"
    counts, table = _count(settings)
    speeds: list[str] = []
    if table is not None and settings.task in ("xview", "spacenet"):
        parts = _parts_of_scenes(settings, counts, table, speeds)
    else:
        parts = _parts_of_chips(settings, counts, speeds)
    done = Results(settings).all()
    left = [part for part in parts if part.method not in done.get(part.step, {})]
    seconds, disk = sum(part.seconds for part in left), sum(part.disk for part in left)
    kind = "GPU" if device.type == "cuda" else "device"
    return "\n".join([
        f"# Plan of {settings.task}",
        "",
        f"{counts.train:,} training and {counts.test:,} test images in {settings.data}"
        + (f"; {counts.left_out:,} left out." if counts.left_out else "."),
        f"Measured on one device here ({machine(settings.device)}): {'; '.join(speeds)}.",
        "",
        f"| step | methods | work of each | time of each | all of them on {here} | disk |",
        "|---|---|---|---:|---:|---:|",
        *_rows(left, devices),
        *_rows([replace(p, work="done", seconds=0, disk=0) for p in parts if p not in left], devices),
        "",
        f"**In all {format_rate(seconds / 3600)} {kind} hours**, about "
        f"{format_duration(seconds / devices)} on {here}, and {_gb(disk) or 'no more'} of disk.",
        "",
        "Not in it: decoding images into chips, k-means, the linear classifier's own minutes, and what "
        "several devices lose to each other. If the disk reads chips more slowly than the device "
        "trains, the disk sets the pace.",
    ])  # fmt: skip


def _rows(parts: list[Part], devices: int) -> list[str]:
    """Return rows of the table: methods of a step that take as long and as much share one."""
    groups: dict[tuple[str, str, float, float], list[str]] = {}
    for part in parts:
        groups.setdefault((part.step, part.work, part.seconds, part.disk), []).append(part.method)
    rows = []
    for (step, work, seconds, disk), methods in groups.items():
        names = "" if methods == ["all"] else ", ".join(methods)
        times = [_time(seconds), _time(seconds * len(methods) / devices), _gb(disk * len(methods))]
        rows.append(" | ".join([f"| {step}", names, work, *times]) + " |")
    return rows


def _count(settings: Settings) -> tuple[Counts, pd.DataFrame | None]:
    """Count the images: those of the chip store, or those that lie in the folder of the data."""
    bands = 4 if settings.task == "naip" else 3
    chip_bytes = bands * settings.side_px**2
    built = Results(settings).all().get("chips", {}).get("all")
    if built is not None:
        values = built["values"]
        return Counts(values["train"], values["test"], values["left_out"], chip_bytes), None
    table = read_scenes(settings, partial=True)
    train, test = (int((table["split"] == name).sum()) for name in ("train", settings.test_split))
    return Counts(train, test, len(table.attrs.get("skipped", {})), chip_bytes), table


def _parts_of_chips(settings: Settings, counts: Counts, speeds: list[str]) -> list[Part]:
    """Return the parts of a task on chips."""
    encoder = untrained(settings, mean=np.full(3, 120.0), std=np.full(3, 60.0))
    device = select_device(settings.device)
    on_gpu = device.type == "cuda"
    batch_size = settings.batch_size if on_gpu else min(settings.batch_size, _BATCH_ON_CPU)
    bf16 = trains_in_bf16(encoder, "auto", device, settings.view_px)
    pairs_per_s = 1.0
    if {"pretrain", "finetune"} & set(settings.steps):
        pairs_per_s = measure_throughput(
            encoder, size_px=settings.view_px, batch_size=batch_size, device=device, bf16=bf16,
            seconds=timing.SECONDS, repeats=1,
        ).value  # fmt: skip
        speeds.append(
            f"{settings.encoder} at {settings.view_px} px trains on {format_rate(pairs_per_s)} pairs "
            f"of views a second in {'bf16' if bf16 else 'fp32'}, batches of {batch_size}"
        )
    rate = images_per_s(encoder, size_px=settings.view_px, batch_size=batch_size, device=device)
    speeds.append(f"it embeds {format_rate(rate)} images a second")
    weights = 4 * sum(p.numel() for p in encoder.parameters())
    images = counts.train + counts.test
    of_vectors = images * encoder.embedding_dim * 4
    embedding_s = images / rate
    # a test image costs that of its view, and fine_tune itself measures entire chips once more
    testing_s = counts.test / rate * (1 + (settings.side_px / settings.view_px) ** 2)
    parts = []
    for step in settings.steps:
        for method in settings.methods_of(step) if step != "table" else []:
            has_pairs = METHODS.get(method, (None,))[0] is not None
            disk, seconds, work = 0.0, 0.0, ""
            if step == "chips":
                disk, work = (
                    images * counts.chip_bytes,
                    f"{images:,} chips of {settings.side_px} px",
                )
            elif step == "clusters":
                work = f"K = {settings.k}"
            elif step == "pretrain":
                config = pretrain_config(settings, method)
                views = counts.train * settings.epochs
                seconds = views / pairs_per_s * (1 if has_pairs else _ONE_VIEW)
                queue = config.queue_size * config.projection_dim * 4 if has_pairs else 0
                disk, work = 4 * weights + queue, f"{settings.epochs:g} epochs"
            elif step == "linear":
                seconds, disk = embedding_s, of_vectors
                work = f"{images:,} embeddings, {settings.linear_epochs} epochs"
            elif step == "finetune":
                views = counts.train * settings.finetune_epochs
                seconds = views / pairs_per_s * _ONE_VIEW + testing_s
                disk, work = 4 * weights, f"{settings.finetune_epochs} epochs"
            elif step == "temporal":
                seconds, work = testing_s, f"{counts.test:,} test images"
            parts.append(Part(step, method, work, seconds, disk))
    return parts


def _parts_of_scenes(
    settings: Settings, counts: Counts, table: pd.DataFrame, speeds: list[str]
) -> list[Part]:
    """Return the parts of a task on scenes."""
    encoder = untrained(settings, mean=np.full(3, 120.0), std=np.full(3, 60.0))
    weights = 4 * sum(p.numel() for p in encoder.parameters())
    train, test, what = counts.train, counts.test, "images"
    if settings.task == "xview":
        train, test = (count_windows(settings, split_of(table, n)) for n in ("train", "test"))
        what = "crops"
    rate = crops_per_s(settings, encoder)
    speeds.append(
        f"{settings.encoder} with its heads trains on {format_rate(rate)} crops of "
        f"{settings.side_px} px a second"
    )
    seconds = (train * settings.task_epochs + test / 3) / rate  # no backward on test
    work = f"{settings.task_epochs} epochs of {train:,} {what}, {test:,} to test"
    return [
        Part(step, method, work, seconds, 5 * weights)
        for step in settings.steps
        for method in (settings.methods_of(step) if step != "table" else [])
    ]


def _time(seconds: float) -> str:
    return "" if seconds == 0 else format_duration(seconds)


def _gb(size: float) -> str:
    return "" if size == 0 else f"{format_rate(size / 1e9)} GB"
