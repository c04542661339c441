"""What processes tell each other in a step, beside the least they must, and how gradients travel best.

    python benchmarks/communication.py        some two minutes on two idle cores

Real runs under torchrun, whose collectives are counted: the bytes that a process sends in a step if
the collectives are rings. The least is a ring all-reduce of the gradients and every key once. Then
the seconds of a step with one flat bucket (ours), with DistributedDataParallel, and without
communication, in turn in the same processes. Writes communication.md and communication.json.
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
from geossl.utils import dist as distributed

HERE = Path(__file__).parent
BATCH, DIM, REPEATS, STEPS = 256, 128, 5, 4
CONFIG = geossl.PretrainConfig(
    encoder="small", batch_size=BATCH, projection_dim=DIM, queue_size=1024, transform=Views(size_px=16), knn_every=0,
    log_every=100, precision="fp32", device="cpu",
)  # fmt: skip
SHAPES = {"small": "small", "resnet18": "standard", "resnet50": "standard"}  # encoder: stem


def counted(folder: Path) -> dict[str, float]:
    """Bytes that this process sends in a step, by encoder and parts of BatchNorm."""
    store, sent, ranks = geossl.ChipStore.open(folder), [0.0], dist.get_world_size()
    reduce, gather = dist.all_reduce, dist.all_gather

    def all_reduce(tensor, *given, group=None, **options):
        size = dist.get_world_size(group)
        sent[0] += 2 * (size - 1) / size * tensor.nbytes
        return reduce(tensor, *given, group=group, **options)

    def all_gather(parts, mine, *given, group=None, **options):
        sent[0] += (dist.get_world_size(group) - 1) * mine.nbytes
        return gather(parts, mine, *given, group=group, **options)

    dist.all_reduce, dist.all_gather = all_reduce, all_gather
    found = {}
    for name, stem in SHAPES.items():
        for splits in (ranks, 1):
            config = replace(CONFIG, encoder=name, stem=stem, bn_splits=splits)
            run = geossl.pretrain(store, pairs=geossl.pairs.temporal(), config=config)
            before = sent[0]
            run._one_step()
            gradients = 4 * sum(p.numel() for p in run._learned)
            least = 2 * (ranks - 1) / ranks * gradients + (ranks - 1) / ranks * BATCH * DIM * 4
            kind = "apart" if splits > 1 else "together"
            found[f"{name} {kind} sent_mb"] = (sent[0] - before) / 1e6
            found[f"{name} {kind} least_mb"] = least / 1e6
    dist.all_reduce, dist.all_gather = reduce, gather
    return found


class _Forward(torch.nn.Module):
    """DistributedDataParallel wants one forward."""

    def __init__(self, moco: models.MoCo):
        super().__init__()
        self.encoder, self.head = moco.encoder, moco.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Projections."""
        return self.head(self.encoder(x))


def timed() -> dict[str, float]:
    """Seconds of a forward and backward pass and what follows, in turn."""
    found = {}
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
                distributed.all_reduce_mean([p.grad for p in plain.parameters()])
            plain.zero_grad(set_to_none=True)

        for repeat in range(REPEATS + 1):
            for way in ("alone", "flat", "ddp"):
                distributed.gather_objects(None)
                began = time.perf_counter()
                for _ in range(STEPS):
                    step(way)
                distributed.gather_objects(None)
                if repeat:  # the first one warms up
                    found[f"{name} {way} {repeat}"] = (time.perf_counter() - began) / STEPS
    return found


def work(folder: Path, out: Path) -> None:
    """What one of the processes does."""
    torch.set_num_threads(1)
    distributed.init_process_group(torch.device("cpu"))
    found = {"sent": counted(folder), "seconds": timed()}
    if distributed.rank() == 0:
        out.write_text(json.dumps(found), "utf-8")


def launched(ranks: int, folder: Path) -> dict[str, dict[str, float]]:
    """What the first of several processes found."""
    out = folder / "found.json"
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}
    subprocess.run(
        [*line, str(ranks), __file__, str(folder), str(out)],
        check=True,
        env={**os.environ, **quiet},
    )
    return json.loads(out.read_text("utf-8"))


def main() -> None:
    """Measure, and write what was seen."""
    records = Records(HERE / "communication.json")
    records.rows = []
    volumes, times, load = [], [], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "chips"
        synthetic.store(folder, 2 * BATCH, size_px=32)
        for ranks in (2, 4):
            found = launched(ranks, folder)
            for shape in SHAPES:
                for kind in ("apart", "together"):
                    sent, least = (
                        found["sent"][f"{shape} {kind} {m}_mb"] for m in ("sent", "least")
                    )
                    method = f"{shape} {kind} {ranks}"
                    records.add(method, 0, {"sent_mb": sent, "least_mb": least})
                    volumes.append(
                        f"| {ranks} | {shape} | {kind} | {least:.2f} | {sent:.2f} | {sent / least:.3f} |"
                    )
            for shape in list(SHAPES)[:2]:
                ways = {}
                for way in ("alone", "flat", "ddp"):
                    seconds = [
                        found["seconds"][f"{shape} {way} {r}"] for r in range(1, REPEATS + 1)
                    ]
                    for seed, value in enumerate(seconds):
                        records.add(f"{shape} {way} {ranks}", seed, {"seconds": value})
                    ways[way] = 1e3 * np.median(seconds), 1e3 * min(seconds), 1e3 * max(seconds)
                cells = " | ".join(f"{m:.0f} ({a:.0f} to {b:.0f})" for m, a, b in ways.values())
                times.append(f"| {ranks} | {shape} | {cells} |")
    text = "\n".join(
        [
            "# What processes tell each other",
            "",
            f"`python benchmarks/communication.py` ({hardware()}; {load:.0f} other processes wanted the cores).",
            "",
            f"Megabytes that a process sends in a step, batch {BATCH}, keys of {DIM} numbers, collectives taken",
            "as rings. `apart`: each process normalizes its own part (`bn_splits` = processes); `together`:",
            "`bn_splits=1`, all processes share the statistics of every BatchNorm.",
            "",
            "| processes | encoder | BatchNorm | least, MB | sent, MB | ratio |",
            "|---|---|---|---|---|---|",
            *volumes,
            "",
            "Milliseconds of a forward and backward pass of 16 images of 32 px a process (median, range of",
            f"{REPEATS} repeats, in turn), over gloo on this machine: without communication, with one flat",
            "all-reduce (ours), with DistributedDataParallel. More processes than cores wait for each other.",
            "",
            "| processes | encoder | alone | flat | DDP |",
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
