"""Speed on an ordinary laptop: two cores with AVX2, simulated on any x86 machine; version 0.1 beside it.

    python benchmarks/laptop.py                what is missing of all parts; resumes
    python benchmarks/laptop.py loop tsne      these parts only

Parts: `loop` (pairs per second of 0.1 and now, in turn), `ideas` (what each idea gives), `quality` (val
of both encoders, three seeds), `tsne`, `demo`, `tests`. Run `speed.py` and `quality.py` under the cap
before (they write speed_laptop and quality_laptop): their rows belong to this page. Version 0.1 is checked out of git into a temporary
folder. Writes laptop.md and laptop.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from study import Records, Worker, hardware, results

import geossl
from geossl import datasets, evaluate, models, pairs
from geossl.utils.io import atomic_write

HERE = Path(__file__).parent
ROOT = HERE.parent
FOLDER = ROOT / "runs" / "laptop"
CAP = {  # an x86 processor without AVX-512 and AMX
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",
}
OLD_COMMIT = "7b413c5"  # version 0.1
SECONDS, ROUNDS, SEEDS = 2, 20, (0, 1, 2)
FP32 = {"precision": "fp32"}
IDEAS = {  # options of loop_rate.py, in the order in which they were added
    "encoder small, contiguous": {"encoder": "small", "contiguous": True, **FP32},
    "encoder small, channels_last": {"encoder": "small", **FP32},
    "encoder tiny, contiguous": {"contiguous": True, **FP32},
    "encoder tiny, channels_last": FP32,
    "the same, batches of 256": {"batch_size": 256, **FP32},
    "the same, batches of 512": {"batch_size": 512, **FP32},
    "the same, in bf16, which AVX2 emulates": {"precision": "bf16"},
    "the same, compiled by inductor": {"compile": True, **FP32},
}
SPINS = (
    "the same, idle threads sleep at once",
    "the same, idle threads spin long, OpenMP's default",
)
TWO_PROCESSES = "the same, two processes of one thread each, sum"


def start(options: dict, old: Path | None = None, **variables: str) -> tuple[Worker, float]:
    """Start a training loop that waits between blocks; return it and the seconds of its start."""
    command = [sys.executable, str(HERE / "loop_rate.py"), str(FOLDER), str(SECONDS)]
    command.append(json.dumps(options))
    worker = Worker(command, PYTHONPATH=str(old or ROOT), **variables)
    first = worker.answer()
    if first["capability"] != "AVX2":
        raise SystemExit("torch does not obey the cap. Is this an x86 processor?")
    return worker, first["start_s"]


def race(records: Records, workers: dict[str, list[Worker]]) -> None:
    """Let methods train a block each in turn, in an order that rotates; the workers of one at once."""
    names = list(workers)
    for turn in range(ROUNDS):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            for worker in workers[name]:
                worker.begin()
            rate = sum([worker.answer()["pairs_per_s"] for worker in workers[name]])
            records.add(name, turn, {"pairs_per_s": rate})
    for group in workers.values():
        for worker in group:
            worker.close()


def measure_loop(records: Records) -> None:
    """Measure version 0.1 and this one in turn."""
    if records.has("geossl", ROUNDS - 1):
        return
    records.rows.clear()  # a race that was stopped is run anew
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", OLD_COMMIT], cwd=ROOT, stdout=subprocess.PIPE, check=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        old, _ = start(FP32, Path(folder), GOMP_SPINCOUNT="0")  # as its Makefile had it
        new, _ = start({})
        race(records, {"geossl_0.1": [old], "geossl": [new]})


def measure_ideas(records: Records) -> None:
    """Measure each idea by itself, and one process a core."""
    if records.has(TWO_PROCESSES, ROUNDS - 1):
        return
    records.rows.clear()
    spins = [{"GOMP_SPINCOUNT": count} for count in ("0", "300000")]
    alone = {"OMP_NUM_THREADS": "1"}
    todo = [(name, options, {}) for name, options in IDEAS.items()]
    todo += [(name, FP32, spin) for name, spin in zip(SPINS, spins, strict=True)]
    todo += [(TWO_PROCESSES, FP32, alone)] * 2
    workers: dict[str, list[Worker]] = {}
    for name, options, variables in todo:
        worker, start_s = start(options, **variables)
        workers.setdefault(name, []).append(worker)
        records.add(name, len(workers[name]) - 1, {"start_s": start_s})
    race(records, workers)


def measure_quality(records: Records) -> None:
    """Measure the probe of the climate on val after training with either encoder."""
    store = geossl.ChipStore.open(FOLDER / f"chips-{geossl.__version__}")
    table = store.scenes
    training = table[table["split"] == "train"]
    unused = (table["split"] == "train") & table.duplicated("location")
    part = table["split"].where(~unused, "unused")
    rows = np.flatnonzero(part.isin(["train", "val"]))
    split = part.iloc[rows].replace({"val": "test"}).reset_index(drop=True)
    for seed in SEEDS:
        clusters = geossl.GeoClusters.fit(training, k=100, seed=seed)
        for name, lr in (("small", 1e-3), ("tiny", 2e-3)):
            for method, geo in (("+TP", None), ("+Geo+TP", clusters)):
                if records.has(f"{name} {method}", seed):
                    continue
                config = geossl.PretrainConfig(encoder=name, lr=lr, epochs=4, knn_every=0)
                run = geossl.pretrain(
                    store, pairs=pairs.temporal(), geo=geo, config=config, seed=seed
                )
                embeddings = geossl.embed(store, run.finish().encoder, index=rows)
                value = evaluate.linear(embeddings, split=split, l2=1e-3).value
                records.add(f"{name} {method}", seed, {"val": value})


def measure_tsne(records: Records) -> None:
    """Measure the projection of 5,000 vectors, as the explorer does it."""
    from geossl.viz.projection import project

    scenes = datasets.blue_marble(places=1_250, dates=4, seed=0)
    store = geossl.ChipStore.build(FOLDER / "chips-tsne", scenes, size_px=32)
    encoder = models.build_encoder(mean=store.mean.tolist(), std=store.std.tolist())
    embeddings = geossl.embed(store, encoder)
    for turn in range(3):
        if not records.has("geossl", turn):
            values = {}
            for method in ("tsne", "umap"):
                began = time.perf_counter()
                project(embeddings, method=method, seed=turn)
                values[f"{method}_s_5k"] = time.perf_counter() - began
            records.add("geossl", turn, values)


def minutes(command: list[str]) -> float:
    """Return the minutes that a command takes."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    return (time.perf_counter() - began) / 60


def measure_demo(records: Records) -> None:
    """Measure the demo from the command to the page."""
    folder = FOLDER / "demo"
    for turn in range(2):
        if not records.has("geossl", turn):
            shutil.rmtree(folder, ignore_errors=True)
            command = [sys.executable, "-m", "geossl", "demo", "--output-dir", str(folder)]
            records.add("geossl", turn, {"demo_minutes": minutes(command)})


def measure_tests(records: Records) -> None:
    """Measure the two test commands once."""
    if not records.has("geossl", 0):
        values = {"test_minutes": minutes(["make", "test"])}
        records.add("geossl", 0, values | {"test_fast_minutes": minutes(["make", "test-fast"])})


PARTS: dict[str, Callable[[Records], None]] = {
    "loop": measure_loop,
    "ideas": measure_ideas,
    "quality": measure_quality,
    "tsne": measure_tsne,
    "demo": measure_demo,
    "tests": measure_tests,
}


class Figures:
    """Records of a part by method and metric."""

    def __init__(self, part: str):
        rows = Records(FOLDER / f"{part}.json").rows
        self.frame = pd.DataFrame(rows, columns=["method", "metric", "seed", "value"])

    def of(self, method: str, metric: str) -> np.ndarray:
        """Return the values in the order of their seeds."""
        frame = self.frame[(self.frame["method"] == method) & (self.frame["metric"] == metric)]
        return frame.sort_values("seed")["value"].to_numpy()

    def cell(self, method: str, metric: str, digits: int = 0) -> str:
        """Return the median (smallest to largest)."""
        return spread(self.of(method, metric), digits)


def spread(values: np.ndarray, digits: int) -> str:
    """Return the median (smallest to largest)."""
    if not len(values):
        return "not measured"
    text = f"{np.median(values):,.{digits}f}"
    if len(values) > 1:
        text += f" ({values.min():,.{digits}f} to {values.max():,.{digits}f})"
    return text


def page() -> str:
    """Render the page from the records."""
    loop, ideas, quality = Figures("loop"), Figures("ideas"), Figures("quality")
    old, new = loop.of("geossl_0.1", "pairs_per_s"), loop.of("geossl", "pairs_per_s")
    count = min(len(old), len(new))
    first = next(iter(IDEAS))
    unit = ideas.of(first, "pairs_per_s")
    lines = []
    for name in [*IDEAS, *SPINS, TWO_PROCESSES]:
        rates = ideas.of(name, "pairs_per_s")
        n = min(len(rates), len(unit))
        lines.append(
            f"| {name} | {spread(rates, 0)} | {spread(rates[:n] / unit[:n], 2)} | "
            f"{ideas.cell(name, 'start_s', 1)} |"
        )
    probes = []
    for method in ("+TP", "+Geo+TP"):
        small, tiny = (quality.of(f"{name} {method}", "val") for name in ("small", "tiny"))
        n = min(len(small), len(tiny))
        probes.append(
            f"| MoCo-v2{method} | {spread(small, 3)} | {spread(tiny, 3)} | "
            f"{spread(tiny[:n] - small[:n], 3)} |"
        )
    tsne, demo, tests = Figures("tsne"), Figures("demo"), Figures("tests")
    pages = [results(name) for name in ("speed.md", "quality.md")]
    others = ", ".join(f"[{p.name}]({p.name})" for p in pages if p.exists()) or "not measured yet"
    return f"""# Speed on an ordinary laptop

Made by `python benchmarks/laptop.py` on {hardware()},
under a cap that makes any x86 processor an ordinary one: {", ".join(f"`{k}={v}`" for k, v in CAP.items())}.
Two threads unless said. Median (smallest to largest).

| what | target | measured |
|---|---|---|
| the loop, pairs/s | | {spread(new, 0)} |
| the loop of version 0.1, pairs/s | | {spread(old, 0)} |
| the loop / that of 0.1 as its Makefile ran it, {count} rounds in turn | at least 2 | {spread(new[:count] / old[:count], 2)} |
| `make demo` after the installation, minutes | at most 6 | {demo.cell("geossl", "demo_minutes", 1)} |
| t-SNE of 5,000 vectors, seconds | at most 10 | {tsne.cell("geossl", "tsne_s_5k", 1)} |
| UMAP of 5,000 vectors, seconds | at most 10 | {tsne.cell("geossl", "umap_s_5k", 1)} |
| `make test`, minutes | at most 15 | {tests.cell("geossl", "test_minutes", 1)} |
| `make test-fast`, minutes | at most 1.5 | {tests.cell("geossl", "test_fast_minutes", 1)} |

Other libraries under the cap: {others}.

## What each idea gives

MoCo-v2+Geo+TP on the Blue Marble, 32 px, batch 128. All are processes that train {SECONDS} s in turn, {ROUNDS} rounds; ratios are
taken within a round; the start is the time to the first five steps. Version 0.1 had the encoder "small", contiguous, and layers of
its own. An idle thread of OpenMP waits for work in a loop before it sleeps; as above it does so for some 50 us
(`GOMP_SPINCOUNT=1000`, which `make` and `geossl` set).

| | pairs/s | / the first line | start, s |
|---|---|---|---|
{chr(10).join(lines)}

Kept: "tiny", channels_last and the short spin. Larger batches are a choice of the recipe, not of speed. Emulated bf16 is
never chosen by `precision="auto"`; compiling stays an option, `compile=True`. Two processes need twice the memory and, for
one run, must exchange gradients.

## The same quality

Linear probe of the climate (5 classes) on val, fitted on one date of each training location; 6,000 locations x 4
dates, 4 epochs, {len(SEEDS)} seeds; the learning rate of 0.1 for "small", of now for "tiny". The encoder was chosen on val; the test split was not looked at.

| method | small | tiny | tiny minus small, by seed |
|---|---|---|---|
{chr(10).join(probes)}
"""


def main() -> None:
    """Measure what is missing under the cap, and write records and page."""
    if any(os.environ.get(name) != value for name, value in CAP.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **CAP})
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    for part in sys.argv[1:] or PARTS:
        PARTS[part](Records(FOLDER / f"{part}.json"))
    final = Records(HERE / "laptop.json")
    final.rows = [
        row
        for part in PARTS
        for row in Records(FOLDER / f"{part}.json").rows
        if part not in ("ideas", "quality") and row["metric"] not in ("cpu_ms", "start_s")
    ]
    for name in ("speed", "quality"):
        wanted = ("pair_ms_64", "pair_ms_512", "seconds_to_quality")
        rows = Records(results(f"{name}.json")).rows
        final.rows += [r for r in rows if r["metric"] in wanted and r not in final.rows]
    final.write()
    with atomic_write(HERE / "laptop.md") as part:
        part.write_text(page(), "utf-8")
    print(page())


if __name__ == "__main__":
    main()
