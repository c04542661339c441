"""CPU ms a positive pair, against what people use today: split, in turn, one and two threads.

    make speed            about ten minutes on two idle cores; a killed run goes on where it was

Writes speed.md and speed.json beside itself. ResNet-18 with its usual stem, batch 64, queue 4096, fp32
and eager; every round measures every method on a block of steps, in an order that turns by one, and
figures are compared within a round. `geossl_tuned` has what we offer besides. See peers.py for the others.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
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
from study import Records

HERE = Path(__file__).parent
FOLDER = HERE.parent / "runs" / "speed"
BATCH, QUEUE, PLACES = 64, 4096, 128  # two dates a place
ROUNDS = {1: 5, 2: 3}  # by threads
SIZES = {64: (64, 64), 512: (192, 96)}  # side of the files -> of our chips, of a view
STEPS = 2 * PLACES // BATCH  # of a block: an epoch
METHODS = ("geossl", "geossl_tuned", "lightly", "torchgeo", "paper", "bare")


def images(side: int) -> Path:
    """JPEGs cut out of the Blue Marble's land, two a place."""
    from PIL import Image

    from geossl import world

    folder = FOLDER / f"images-{side}"
    if folder.exists():
        return folder
    picture, rng = world.world_image(), np.random.default_rng(0)
    height, width = picture.shape[:2]
    part = folder.with_suffix(".part")
    made = 0
    while made < 2 * PLACES:
        y, x = rng.integers(0, (height - side, width - side))
        lon, lat = (x + side / 2) / width * 360 - 180, 90 - (y + side / 2) / height * 180
        if world.on_land(np.array([lon]), np.array([lat]))[0]:
            path = part / f"place-{made // 2:04d}" / f"{made % 2}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture[y : y + side, x : x + side]).save(path, quality=90)
            made += 1
    part.rename(folder)
    return folder


def store_of(side: int) -> tuple[Any, float]:
    """The chip store of the images, and the CPU ms an image that its making took (0: it was there)."""
    import geossl
    from geossl.readers import images as reader

    paths = sorted(str(p) for p in images(side).glob("*/*.jpg"))
    scenes = reader.described(
        pd.DataFrame({"path": paths, "location": np.arange(len(paths)) // 2}), reader="images"
    )
    folder = FOLDER / f"chips-{side}"
    began = time.process_time()
    store = geossl.ChipStore.build(
        folder, scenes, size_px=SIZES[side][0], workers=1, progress=False
    )
    return store, (time.process_time() - began) / len(paths) * 1e3


def cpu_seconds() -> float:
    """Of this process and of its workers, those that have ended too."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class Ours:
    """A run of geossl whose blocks are its log intervals, its views and its reads timed."""

    def __init__(self, side: int, **changes: Any):
        import geossl
        from geossl.augment import moco_v2

        config = geossl.PretrainConfig(
            encoder="resnet18", stem="standard", optimizer="sgd", lr=0.03, batch=BATCH,
            queue=QUEUE, epochs=10_000, knn_every=0, log_every=STEPS, split=None,
            views=moco_v2(SIZES[side][1]),
        )  # fmt: skip
        self.run = geossl.pretrain(
            store_of(side)[0], pairs=geossl.pairs.same_image(), config=replace(config, **changes)
        )
        self.blocks = iter(self.run)

    def block(self) -> None:
        """One interval."""
        next(self.blocks)


def timed_parts(spent: Counter[str]) -> None:
    """From now on views and reads of geossl add their thread's CPU seconds to ``spent``."""
    from geossl import ChipStore
    from geossl.augment import Views

    def timed(owner: Any, name: str, stage: str) -> None:
        plain = getattr(owner, name)

        def wrapper(*args: Any, **named: Any) -> Any:
            began = time.thread_time()
            result = plain(*args, **named)
            spent[stage] += time.thread_time() - began
            return result

        setattr(owner, name, wrapper)

    timed(Views, "see", "views")
    timed(ChipStore, "gather", "decode")


def blocks_of(
    side: int, workers: int, spent: Counter[str]
) -> dict[str, tuple[Callable[[], object], Counter[str]]]:
    """For each method what trains a block, and where its stages are counted."""
    import peers

    size = SIZES[side][1]
    plain, tuned = Ours(side, precision="fp32"), Ours(side, precision="auto")
    made: dict[str, tuple[Callable[[], object], Counter[str]]] = {
        "geossl": (plain.block, spent),
        "geossl_tuned": (tuned.block, spent),
    }
    named = {"batch": BATCH, "queue": QUEUE, "workers": workers}
    folder = images(side)
    pipelines = {
        "lightly": peers.lightly(folder, size, **named),
        "torchgeo": peers.torchgeo(folder, size, **named),
        "paper": peers.paper(folder, size, **named),
        "bare": peers.bare(plain.run.encoder, size, batch=BATCH, queue=QUEUE, steps=STEPS),
    }

    def epoch(pipeline: Any) -> Callable[[], None]:
        def block() -> None:
            pipeline.watch.switch("rest")
            pipeline.watch.spent.clear()
            for _ in pipeline.epoch():
                pass
            pipeline.watch.switch("rest")

        return block

    return made | {name: (epoch(p), p.watch.spent) for name, p in pipelines.items()}


def measure(threads: int) -> None:
    """All rounds at a number of threads, in this process; those that are done are kept."""
    torch.set_num_threads(threads)
    records = Records(FOLDER / f"records-{threads}.json")
    todo = [r for r in range(ROUNDS[threads]) if not records.has("bare", r)]
    if not todo:
        return
    records.rows = [r for r in records.rows if records.has("bare", r["seed"])]
    spent: Counter[str] = Counter()
    timed_parts(spent)
    workers = 0 if threads == 1 else threads
    sides = {side: blocks_of(side, workers, spent) for side in SIZES}
    for blocks in sides.values():  # not counted: the first steps allocate
        for block, _ in blocks.values():
            block()
    for turn in todo:
        found: dict[str, dict[str, float]] = {}
        for side, blocks in sides.items():
            for k in range(len(METHODS)):
                method = METHODS[(k + turn) % len(METHODS)]
                block, spent = blocks[method]
                spent.clear()
                cpu, wall = cpu_seconds(), time.perf_counter()
                block()
                cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
                ms = 1e3 / (STEPS * BATCH)
                values = found.setdefault(method, {})
                if threads == 1:
                    values |= split(method, side, cpu * ms, {k: s * ms for k, s in spent.items()})
                else:
                    values |= {f"pair_ms_{side}_2t": cpu * ms, f"pair_wall_ms_{side}_2t": wall * ms}
        for method in METHODS:  # the last of them marks the round as done
            records.add(method, turn, found[method])
        print(f"round {turn} of {threads} thread(s):", found, flush=True)


def split(method: str, side: int, whole: float, spent: dict[str, float]) -> dict[str, float]:
    """Figures of a block, in ms a pair; geossl's loop counts as part of its model step."""
    view = SIZES[side][1]
    if method == "bare":
        return {f"model_ms_{view}": whole}
    views, decode = spent["views"], spent["decode"]
    if not views:
        raise SystemExit(f"the views of {method} were not timed: is another function drawing them?")
    model = spent.get("model", whole - views - decode)
    return {
        f"decode_ms_{side}": decode,
        f"views_ms_{view}": views,
        f"model_ms_{view}": model,
        f"rest_ms_{side}": whole - decode - views - model,
        f"pair_ms_{side}": whole,
    }


def main() -> None:
    """Make the images, measure in a process for each number of threads, write records and page."""
    if "--threads" in sys.argv:
        return measure(int(sys.argv[sys.argv.index("--threads") + 1]))
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = Records(FOLDER / "records-0.json")
    if not made.rows:
        cost = {f"store_ms_{side}": store_of(side)[1] for side in SIZES}
        made.add("geossl", 0, cost)
    for threads in ROUNDS:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, *sys.argv, "--threads", str(threads)]
        if subprocess.run(command, env=environment).returncode:
            raise SystemExit(
                "a part of the benchmark failed; mend the cause, the same line goes on"
            )
    records = Records(HERE / "speed.json")
    records.rows = [r for r in records.rows if r["metric"] == "seconds_to_quality"]
    for part in (0, *ROUNDS):
        path = FOLDER / f"records-{part}.json"
        records.rows += Records(path).rows
        path.unlink()
    records.write()
    names = ("lightly", "torchgeo", "kornia", "lightning", "timm", "torchvision", "pillow")
    text = page(records, versions=", ".join(f"{name} {version(name)}" for name in names))
    (HERE / "speed.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
