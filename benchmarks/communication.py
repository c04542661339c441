"""Bytes that processes send per training step against the minimum, and ways to send gradients.

    python benchmarks/communication.py        about two minutes on two idle cores

Counts the collectives of real runs under torchrun: the bytes that a process sends in a step if the
collectives are rings. The minimum is a ring all-reduce of the gradients, and every key once. Then
times a step with one flat bucket (ours), with DistributedDataParallel and without communication, in
turn in the same processes. Writes communication.md and communication.json to this folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import synthetic
import torch
import torch.distributed as dist
from study import Records, hardware

import geossl
from geossl import models
from geossl.transforms import Views
from geossl.utils import dist as geossl_dist

HERE = Path(__file__).parent
BATCH, DIM, REPEATS, STEPS = 256, 128, 5, 4
CONFIG = geossl.PretrainConfig(
    encoder="small", batch_size=BATCH, projection_dim=DIM, queue_size=1024, transform=Views(size_px=16), knn_every=0,
    log_every=100, precision="fp32", device="cpu",
)  # fmt: skip
SHAPES = {"small": "small", "resnet18": "standard", "resnet50": "standard"}  # encoder: stem


def count_megabytes(folder: Path) -> dict[str, float]:
    """Count the megabytes that this process sends in a step, by encoder."""
    store, sent, ranks = geossl.ChipStore.open(folder), [0.0], dist.get_world_size()
    reduce, gather = dist.all_reduce, dist.all_gather

    def all_reduce(tensor, *args, group=None, **options):
        size = dist.get_world_size(group)
        sent[0] += 2 * (size - 1) / size * tensor.nbytes
        return reduce(tensor, *args, group=group, **options)

    def all_gather(parts, mine, *args, group=None, **options):
        sent[0] += (dist.get_world_size(group) - 1) * mine.nbytes
        return gather(parts, mine, *args, group=group, **options)

    dist.all_reduce, dist.all_gather = all_reduce, all_gather
    megabytes = {}
    for name, stem in SHAPES.items():
        config = replace(CONFIG, encoder=name, stem=stem, bn_splits=ranks)
        run = geossl.pretrain(store, pairs=geossl.pairs.temporal(), config=config)
        before = sent[0]
        run._one_step()
        gradients = 4 * sum(p.numel() for p in run._parameters)
        minimum = 2 * (ranks - 1) / ranks * gradients + (ranks - 1) / ranks * BATCH * DIM * 4
        megabytes[f"{name} sent_mb"] = (sent[0] - before) / 1e6
        megabytes[f"{name} least_mb"] = minimum / 1e6
    dist.all_reduce, dist.all_gather = reduce, gather
    return megabytes


class _Forward(torch.nn.Module):
    """Encoder and head as one module, which DistributedDataParallel needs."""

    def __init__(self, moco: models.MoCo):
        super().__init__()
        self.encoder, self.head = moco.encoder, moco.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the projections."""
        return self.head(self.encoder(x))


def time_passes() -> dict[str, float]:
    """Measure the seconds of a forward and backward pass with each method of sending, in turn."""
    seconds = {}
    for name, stem in list(SHAPES.items())[:2]:
        x = torch.randn(16, 3, 32, 32)
        plain = _Forward(
            models.MoCo(models.build_encoder(name, stem=stem), projection_dim=DIM, queue_size=1)
        )
        wrapped = torch.nn.parallel.DistributedDataParallel(plain, broadcast_buffers=False)

        def step(way: str, plain=plain, wrapped=wrapped, x=x) -> None:
            net = wrapped if way == "ddp" else plain
            net(x).square().mean().backward()
            if way == "flat":
                geossl_dist.all_reduce_mean([p.grad for p in plain.parameters()])
            plain.zero_grad(set_to_none=True)

        for repeat in range(REPEATS + 1):
            for way in ("alone", "flat", "ddp"):
                geossl_dist.gather_objects(None)
                began = time.perf_counter()
                for _ in range(STEPS):
                    step(way)
                geossl_dist.gather_objects(None)
                if repeat:  # the first one warms up
                    seconds[f"{name} {way} {repeat}"] = (time.perf_counter() - began) / STEPS
    return seconds


def work(folder: Path, output: Path) -> None:
    """Measure in one of the processes; the first writes the results."""
    torch.set_num_threads(1)
    geossl_dist.init_process_group(torch.device("cpu"))
    results = {"sent": count_megabytes(folder), "seconds": time_passes()}
    if geossl_dist.rank() == 0:
        output.write_text(json.dumps(results), "utf-8")


def launch(ranks: int, folder: Path) -> dict[str, dict[str, float]]:
    """Start several processes and return the results of the first."""
    output = folder / "results.json"
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}
    subprocess.run(
        [*line, str(ranks), __file__, str(folder), str(output)],
        check=True,
        env={**os.environ, **quiet},
    )
    return json.loads(output.read_text("utf-8"))


def main() -> None:
    """Measure, and write records and page."""
    records = Records(HERE / "communication.json")
    records.rows = []
    volumes, times, load = [], [], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "chips"
        synthetic.store(folder, 2 * BATCH, size_px=32)
        for ranks in (2, 4):
            results = launch(ranks, folder)
            for shape in SHAPES:
                sent, least = (results["sent"][f"{shape} {m}_mb"] for m in ("sent", "least"))
                records.add(f"{shape} apart {ranks}", 0, {"sent_mb": sent, "least_mb": least})
                volumes.append(
                    f"| {ranks} | {shape} | apart | {least:.2f} | {sent:.2f} | {sent / least:.3f} |"
                )
            for shape in list(SHAPES)[:2]:
                ways = {}
                for way in ("alone", "flat", "ddp"):
                    seconds = [
                        results["seconds"][f"{shape} {way} {r}"] for r in range(1, REPEATS + 1)
                    ]
                    for seed, value in enumerate(seconds):
                        records.add(f"{shape} {way} {ranks}", seed, {"seconds": value})
                    ways[way] = 1e3 * np.median(seconds), 1e3 * min(seconds), 1e3 * max(seconds)
                cells = " | ".join(f"{m:.0f} ({a:.0f} to {b:.0f})" for m, a, b in ways.values())
                times.append(f"| {ranks} | {shape} | {cells} |")
    text = "\n".join(
        [
            "# What processes send each other",
            "",
            f"`python benchmarks/communication.py` ({hardware()}; {load:.0f} other processes were running).",
            "",
            f"Megabytes that a process sends per step, batch {BATCH}, keys of {DIM} numbers, if collectives are",
            "rings. `apart`: each process normalizes its own part of the batch (`bn_splits` = processes).",
            "",
            "| processes | encoder | BatchNorm | minimum, MB | sent, MB | ratio |",
            "|---|---|---|---|---|---|",
            *volumes,
            "",
            "Milliseconds of a forward and backward pass of 16 images of 32 px per process (median, range of",
            f"{REPEATS} repeats, in turn), over gloo on this machine: without communication, with one flat",
            "all-reduce (ours), with DistributedDataParallel. More processes than cores wait for each other.",
            "",
            "| processes | encoder | no communication | flat | DDP |",
            "|---|---|---|---|---|",
            *times,
            "",
        ]
    )
    (HERE / "communication.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        main()
