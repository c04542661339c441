"""CPU ms per positive pair, compared with other libraries, by stage, on one and two threads.

    python benchmarks/speed.py     half an hour on two idle cores; resumes

Writes speed.md and speed.json to this folder; under the cap of laptop.py, speed_laptop.md and its records.
ResNet-18 with its usual stem, batch 64, queue 4096, fp32 and eager. In each round every method starts in a new process; the processes run a block of steps each, in
an order that rotates, and figures are compared within the round. The processes are new because the layout
of its memory was seen to slow a process down by up to a tenth for as long as it lives. `geossl_tuned` has
bf16, where the processor is faster in it. See peers.py for the others.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from speed_page import page
from study import Records, Worker, results

from geossl.utils.device import select_precision

HERE = Path(__file__).parent
FOLDER = HERE.parent / "runs" / results("speed").name
BATCH, QUEUE, LOCATIONS = 64, 4096, 128  # two dates per location
ROUNDS = {1: 5, 2: 2}  # by threads
SIZES = {64: (64, 64), 512: (192, 96)}  # side of the files -> of our chips, of a view
STEPS = 2 * LOCATIONS // BATCH  # of a block: an epoch
FAST = select_precision("auto", torch.device("cpu")) == "bf16"  # else geossl_tuned is geossl
METHODS = (
    "geossl", *(("geossl_tuned",) if FAST else ()), "lightly", "torchgeo", "paper", "bare",
)  # fmt: skip


def images(side: int) -> Path:
    """Cut JPEGs out of the Blue Marble's land, two per location; return their folder."""
    from PIL import Image

    from geossl.data import earth

    folder = FOLDER / f"images-{side}"
    if folder.exists():
        return folder
    picture, rng = earth.world_image(), np.random.default_rng(0)
    height, width = picture.shape[:2]
    part = folder.with_suffix(".part")
    made = 0
    while made < 2 * LOCATIONS:
        y, x = rng.integers(0, (height - side, width - side))
        lon, lat = (x + side / 2) / width * 360 - 180, 90 - (y + side / 2) / height * 180
        if earth.on_land(np.array([lon]), np.array([lat]))[0]:
            path = part / f"location-{made // 2:04d}" / f"{made % 2}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture[y : y + side, x : x + side]).save(path, quality=90)
            made += 1
    part.rename(folder)
    return folder


def build_store(side: int) -> tuple[Any, float]:
    """Return the chip store of the images, and the CPU ms per image that it took to build."""
    import geossl
    from geossl.datasets.raster import chips

    paths = sorted(str(p) for p in images(side).glob("*/*.jpg"))
    scenes = chips.add_pixel_columns(
        pd.DataFrame({"path": paths, "location": np.arange(len(paths)) // 2}), reader="images"
    )
    folder = FOLDER / f"chips-{side}"
    began = time.process_time()
    store = geossl.ChipStore.build(
        folder, scenes, size_px=SIZES[side][0], num_workers=1, progress=False
    )
    return store, (time.process_time() - began) / len(paths) * 1e3


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and all its workers, past and present."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class Ours:
    """A run of geossl whose blocks are its log intervals."""

    def __init__(self, side: int, **changes: Any):
        import geossl
        from geossl.transforms import moco_v2

        config = geossl.PretrainConfig(
            encoder="resnet18", stem="standard", optimizer="sgd", lr=0.03, batch_size=BATCH,
            queue_size=QUEUE, epochs=10_000, knn_every=0, log_every=STEPS, split=None,
            transform=moco_v2(SIZES[side][1]),
        )  # fmt: skip
        self.run = geossl.pretrain(
            build_store(side)[0], pairs=geossl.pairs.same_image(), config=replace(config, **changes)
        )
        self.blocks = iter(self.run)

    def block(self) -> None:
        """Train one interval."""
        next(self.blocks)


def time_stages(spent: Counter[str]) -> None:
    """Make views and reads of geossl add their thread's CPU seconds to ``spent``."""
    from geossl import ChipStore
    from geossl.transforms import Views

    def wrap(owner: Any, name: str, stage: str) -> None:
        original = getattr(owner, name)

        def wrapper(*args: Any, **named: Any) -> Any:
            began = time.thread_time()
            result = original(*args, **named)
            spent[stage] += time.thread_time() - began
            return result

        setattr(owner, name, wrapper)

    wrap(Views, "apply", "views")
    wrap(ChipStore, "gather", "decode")


def make_block(
    method: str, side: int, *, num_workers: int, spent: Counter[str]
) -> tuple[Callable[[], object], Counter[str]]:
    """Return a function that trains a block with a method, and the counter of its stages."""
    import peers

    size = SIZES[side][1]
    if method in ("geossl", "geossl_tuned"):
        return Ours(side, precision="fp32" if method == "geossl" else "auto").block, spent
    if method == "bare":
        encoder = Ours(side, precision="fp32").run.encoder
        pipeline = peers.bare(encoder, size, batch_size=BATCH, queue_size=QUEUE, steps=STEPS)
    else:
        make_pipeline = getattr(peers, method)
        pipeline = make_pipeline(
            images(side), size, batch_size=BATCH, queue_size=QUEUE, num_workers=num_workers
        )

    def block() -> None:
        pipeline.watch.switch("rest")
        pipeline.watch.spent.clear()
        for _ in pipeline.epoch():
            pass
        pipeline.watch.switch("rest")

    return block, pipeline.watch.spent


def serve(method: str, threads: int) -> None:
    """Run one method in this process: for each side read from stdin, print a block's figures."""
    torch.set_num_threads(threads)
    spent: Counter[str] = Counter()
    time_stages(spent)
    num_workers = 0 if threads == 1 else threads
    sides = {s: make_block(method, s, num_workers=num_workers, spent=spent) for s in SIZES}
    for block, _ in sides.values():  # not counted: the first steps allocate
        block()
    print("@ {}", flush=True)
    for line in sys.stdin:
        side, ms = int(line), 1e3 / (STEPS * BATCH)
        block, parts = sides[side]
        block()  # not counted: caches may have gone cold while it waited
        parts.clear()
        cpu, wall = cpu_seconds(), time.perf_counter()
        block()
        cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
        values = {
            f"pair_ms_{side}_{threads}t": cpu * ms,
            f"pair_wall_ms_{side}_{threads}t": wall * ms,
        }
        if threads == 1:
            values = split_stages(method, side, cpu * ms, {k: s * ms for k, s in parts.items()})
        print("@", json.dumps(values), flush=True)
    sys.stdout.flush()
    os._exit(0)  # workers and Lightning's thread have nothing to save


def start(method: str, threads: int) -> Worker:
    """Start the process of a method."""
    command = [sys.executable, *sys.argv, "--serve", method, str(threads)]
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}  # as geossl sets them
    return Worker(command, OMP_NUM_THREADS=str(threads), **waiting)


def measure(threads: int) -> None:
    """Measure the missing rounds with a number of threads."""
    records = Records(FOLDER / f"records-{threads}.json")
    records.rows = [r for r in records.rows if records.has(METHODS[-1], r["seed"])]
    todo = [r for r in range(ROUNDS[threads]) if not records.has(METHODS[-1], r)]
    for turn in todo:
        workers = {method: start(method, threads) for method in METHODS}  # they start together
        try:
            figures: dict[str, dict[str, float]] = {method: {} for method in METHODS}
            for worker in workers.values():
                worker.answer()
            for side in SIZES:
                for k in range(len(METHODS)):
                    method = METHODS[(k + turn) % len(METHODS)]
                    workers[method].begin(str(side))
                    figures[method] |= workers[method].answer()
        finally:
            for worker in workers.values():
                worker.close()
        for method in METHODS:  # the last of them marks the round as done
            records.add(method, turn, figures[method])
        print(f"round {turn} of {threads} thread(s):", figures, flush=True)


def split_stages(method: str, side: int, total: float, spent: dict[str, float]) -> dict[str, float]:
    """Return a block's figures in ms per pair; geossl's loop counts as part of its model step."""
    view = SIZES[side][1]
    if method == "bare":
        return {f"model_ms_{view}": total}
    views, decode = spent["views"], spent["decode"]
    if not views:
        raise SystemExit(f"The views of {method} were not timed. Does another function make them?")
    model = spent.get("model", total - views - decode)
    return {
        f"decode_ms_{side}": decode,
        f"views_ms_{view}": views,
        f"model_ms_{view}": model,
        f"rest_ms_{side}": total - decode - views - model,
        f"pair_ms_{side}": total,
    }


def main() -> None:
    """Make the images, measure with each number of threads, and write records and page."""
    if "--serve" in sys.argv:
        method, threads = sys.argv[sys.argv.index("--serve") + 1 :]
        return serve(method, int(threads))
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = Records(FOLDER / "records-0.json")
    if not made.rows:
        for side in SIZES:
            shutil.rmtree(FOLDER / f"chips-{side}", ignore_errors=True)
        cost = {f"store_ms_{side}": build_store(side)[1] for side in SIZES}
        made.add("geossl", 0, cost)
    for threads in ROUNDS:
        measure(threads)
    records = Records(results("speed.json"))
    records.rows = [r for r in records.rows if r["metric"] == "seconds_to_quality"]
    for part in (0, *ROUNDS):
        path = FOLDER / f"records-{part}.json"
        records.rows += Records(path).rows
        path.unlink()
    records.write()
    names = ("lightly", "torchgeo", "kornia", "lightning", "timm", "torchvision", "pillow")
    text = page(records, versions=", ".join(f"{name} {version(name)}" for name in names))
    results("speed.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
