"""The study at scale: Blue Marble, 100,000 locations x 8 dates at 64 px, ResNet-50, all methods.

    python benchmarks/world_study.py --build --minutes 9   repeat until the store is complete (about 13
                                                           minutes on one core, 2 on 16; 10 GB); needs
                                                           geossl[data]
    python benchmarks/world_study.py --minutes 9           repeat until nothing is left; needs geossl
                                                           only; a seed takes six minutes on an H100 as
                                                           three parallel calls, each with its own
                                                           --methods and --output-dir, their records
                                                           joined
    python benchmarks/world_study.py --small --build       a small form for two cores, to see that it
    python benchmarks/world_study.py --small               works; a minute

If geossl is not installed, set PYTHONPATH=. for it. Each call resumes the last one, whether that ended
or was killed, and adds to world_study.json; without --minutes it runs to the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from study import METHODS, Records, hardware

import geossl
from geossl import evaluate, models
from geossl.utils.device import select_device

HERE = Path(__file__).parent
ALL = ("random", *METHODS)
SEEDS = (0, 1, 2)
LABELS = {"main": "label", "full": "climate"}
SHARES = (1, 10, 100)  # % of the training locations that keep their label
METRICS = (
    *(f"linear_{name}_{share}" for name in LABELS for share in SHARES), "knn_main", "recall_at_1",
)  # fmt: skip
COMPARED = ("linear_main_1", "linear_main_100", "linear_full_100")


@dataclass(frozen=True)
class Setting:
    """Configuration of the study, and its folder."""

    folder: Path
    locations: int = 100_000
    dates: int = 8
    size_px: int = 64
    k: int = 100
    config: geossl.PretrainConfig = geossl.PretrainConfig(
        encoder="resnet50", stem="standard", epochs=1, batch_size=512, queue_size=16_384, log_every=40,
        knn_every=0,
    )  # fmt: skip

    @cached_property
    def store(self) -> geossl.ChipStore:
        """Return the chip store, once it is built."""
        return geossl.ChipStore.open(self.folder / "chips")

    def clusters(self, seed: int) -> Path:
        """Return the file of the geo clusters of a seed."""
        return self.folder / f"clusters-{seed}.json"


def small(folder: Path) -> Setting:
    """Return the small form."""
    config = replace(
        Setting.config, encoder="small", stem="small", epochs=1, batch_size=32, queue_size=64, log_every=3,
        device="cpu",
    )  # fmt: skip
    return Setting(folder, locations=200, dates=3, size_px=32, k=16, config=config)


def build(setting: Setting) -> None:
    """Build the store and the geo clusters; resumes."""
    from geossl import datasets  # readers of images need packages that training does not

    scenes = datasets.blue_marble(places=setting.locations, dates=setting.dates, seed=0)
    store = geossl.ChipStore.build(setting.folder / "chips", scenes, size_px=setting.size_px)
    training = store.scenes[store.scenes["split"] == "train"]
    for seed in SEEDS:
        if not setting.clusters(seed).exists():
            geossl.GeoClusters.fit(training, k=setting.k, seed=seed).save(setting.clusters(seed))


def study(
    setting: Setting, records: Records, methods: list[str], *, seeds: tuple[int, ...]
) -> Generator[str, None, None]:
    """Do what is left, yielding a message after each unit of work; may be stopped at any."""
    for seed in seeds:
        for method in methods:
            run_dir = setting.folder / f"{method}-{seed}"
            if missing(records, method, seed):
                yield from job(setting, records, method, seed, run_dir)
            for path in (*setting.folder.glob(f"{run_dir.name}.*"), run_dir / "last.pt"):
                path.unlink(missing_ok=True)  # large, and no longer needed


def job(
    setting: Setting, records: Records, method: str, seed: int, run_dir: Path
) -> Generator[str, None, None]:
    """Do what is left of one method and seed, whose run is in ``run_dir``."""
    vectors = run_dir.with_name(f"{run_dir.name}.parquet")
    if not vectors.exists():
        encoder = yield from train(setting, method, seed, output_dir=run_dir)
        embed(setting, encoder).save(vectors)
        yield f"{method} seed {seed}: embedded"
    embeddings = geossl.Embeddings.load(vectors)
    for metric in missing(records, method, seed):
        value = measure(embeddings, metric, device=setting.config.device)
        records.add(method, seed, {metric: value})
        yield f"{method} seed {seed}: {metric} {value:.3f}"


def missing(records: Records, method: str, seed: int) -> list[str]:
    """Return the metrics of a method and seed that are not measured yet."""
    done = {r["metric"] for r in records.rows if (r["method"], r["seed"]) == (method, seed)}
    return [metric for metric in METRICS if metric not in done]


def train(
    setting: Setting, method: str, seed: int, *, output_dir: Path
) -> Generator[str, None, models.Encoder]:
    """Train or resume; yield a message at every log record and return the encoder."""
    store, config = setting.store, setting.config
    if method == "random":
        return models.build_encoder(
            config.encoder, stem=config.stem, mean=store.mean.tolist(), std=store.std.tolist(),
            seed=seed,
        )  # fmt: skip
    pairs, geo, label = METHODS[method]
    run = geossl.pretrain(
        store,
        pairs=pairs,
        geo=geossl.GeoClusters.load(setting.clusters(seed)) if geo else None,
        label="climate" if label else None,
        config=config,
        output_dir=output_dir,
        seed=seed,
    )
    with closing(iter(run)) as logs:  # a call that stops here leaves a checkpoint
        for log in logs:
            yield (
                f"{method} seed {seed}: step {log.step:,} of {run.steps:,}, loss {log.loss:.3f}, "
                f"{log.pairs_per_s:,.0f} pairs/s"
            )
    return run.encoder


def embed(setting: Setting, encoder: models.Encoder) -> geossl.Embeddings:
    """Embed one image of each location, and the test locations at their first and last date.

    The column ``one`` marks the former; their dates are drawn once, for all methods.
    """
    store, device = setting.store, select_device(setting.config.device)
    table, dates = store.scenes, setting.dates
    location = np.arange(len(table)) // dates
    date = np.arange(len(table)) % dates
    one = date == np.random.default_rng(0).integers(0, dates, len(table) // dates)[location]
    ends = (table["split"] == "test").to_numpy() & ((date == 0) | (date == dates - 1))
    embeddings = geossl.embed(store, encoder.to(device), index=one | ends)
    return geossl.Embeddings(embeddings.vectors, embeddings.scenes.assign(one=one[one | ends]))


def measure(embeddings: geossl.Embeddings, metric: str, *, device: str) -> float:
    """Measure one metric of the embeddings of a method and seed."""
    if metric == "recall_at_1":
        return evaluate.same_location(embeddings, split="test", device=device).value
    one = embeddings.subset(embeddings.scenes["one"].to_numpy(bool))
    if metric == "knn_main":
        return evaluate.knn(one, label=LABELS["main"], device=device).value
    _, name, share = metric.split("_")
    draws = (0, 1, 2) if int(share) < 100 else (0,)  # which locations keep their label
    results = evaluate.label_efficiency(
        one, label=LABELS[name], shares=(int(share) / 100,), seeds=draws,
        measure=partial(evaluate.linear, device=device),
    )  # fmt: skip
    return float(results["value"].mean())


def page(records: Records, *, machine: str) -> str:
    """Render the page from the records; without any it says that nothing was measured."""
    setting = Setting(HERE)
    c = setting.config
    seeds = {method: sum(not missing(records, method, s) for s in SEEDS) for method in ALL}
    done = ", ".join(f"{method} {count}" for method, count in seeds.items() if count)
    status = f"Seeds measured so far: {done}; on {machine}." if done else (
        "**Not measured**: no GPU was available. The small form (`--small`) runs as a test."
    )  # fmt: skip
    compared = (("moco+tp", "moco"), ("moco+geo", "moco"), ("moco+geo+tp", "moco"),
                ("moco+geo+tp", "geoloc"), ("moco+geo+tp", "supervised"))  # fmt: skip
    rows = [
        f"| {a} - {b} | " + " | ".join(records.paired(a, b, metric) for metric in COMPARED) + " |"
        for a, b in compared
    ]
    return f"""# The study at scale: Blue Marble, {setting.locations:,} locations

`python benchmarks/world_study.py --build`, then `python benchmarks/world_study.py`, each with `--minutes 9`
and repeated until nothing is left: a call stops after the first unit of work that ends after that time, and the
next one resumes, on a CPU bit for bit, on a GPU as exactly as its kernels repeat.

{status}

{setting.locations:,} locations x {setting.dates} simulated dates, {setting.size_px} px; 60 % of the locations train, 25 % in held-out blocks of 10
degrees test. The same for all methods: ResNet-50 with the {c.stem} stem (the small one costs sixteen times as much at
{setting.size_px} px), epochs: {c.epochs:g}, batch {c.batch_size:,}, queue {c.queue_size:,}, {setting.k} geo clusters, all else as in
[few_labels.md](few_labels.md), whose recipe was chosen on its own val split. Nothing was tuned here: batch and
epochs were set beforehand, so that one seed of all methods takes a quarter of an hour on one H100.

Probes are fitted on one image per location, at a date drawn once, and tested on one image of each test location.
`linear_main_1`, `_10`, `_100`: linear probe of the Koeppen-Geiger main class with that percentage of the training
locations labeled (with all their images, at least one of each class, mean of three draws below 100 %); `linear_full_*`
of the full class. `recall_at_1`: a test location at its first date is retrieved among all test locations at their last.
Mean ± standard deviation over the seeds of weights, pairs, views and clusters.

{records.table(ALL, METRICS)}

Differences per seed: mean (smallest to largest).

| | {" | ".join(COMPARED)} |
|---|{"---|" * len(COMPARED)}
{chr(10).join(rows)}
"""


def main(arguments: list[str] | None = None) -> int:
    """Do one part of the work; return how many figures are left."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", action="store_true", help="only build the store")
    parser.add_argument(
        "--minutes", type=float, help="stop after this time, at the next checkpoint"
    )
    parser.add_argument("--small", action="store_true", help="run a small form")
    parser.add_argument("--methods", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--seeds", type=int, choices=(1, 2, 3), default=3, help="how many")
    parser.add_argument("--folder", type=Path, help="of the store and the runs")
    parser.add_argument("--output-dir", type=Path, help="of world_study.md and world_study.json")
    args = parser.parse_args(arguments)
    end = time.monotonic() + 60 * (float("inf") if args.minutes is None else args.minutes)
    folder = args.folder or HERE.parent / "runs" / ("world_small" if args.small else "world")
    setting = small(folder) if args.small else Setting(folder)
    if args.build and args.minutes is None:
        build(setting)
        return 0
    if args.build:  # a build that is killed resumes
        command = [sys.executable, __file__, "--build", "--folder", str(folder)]
        try:
            subprocess.run(
                [*command, *["--small"] * args.small], check=True, timeout=60 * args.minutes
            )
        except subprocess.TimeoutExpired:
            print("\nThe store is not complete; the same command resumes.")
        return 0
    if not all(setting.clusters(seed).exists() for seed in SEEDS):  # written last
        parser.error(
            f"The chips and clusters in {folder} are not complete. Run with --build first."
        )
    output_dir = args.output_dir or (folder if args.small else HERE)
    records = Records(output_dir / "world_study.json")
    with closing(study(setting, records, args.methods, seeds=SEEDS[: args.seeds])) as units:
        for unit in units:
            print(unit, flush=True)
            if time.monotonic() >= end:
                break
    (output_dir / "world_study.md").write_text(page(records, machine=hardware()), "utf-8")
    left = sum(len(missing(records, m, s)) for m in args.methods for s in SEEDS[: args.seeds])
    total = len(args.methods) * args.seeds * len(METRICS)
    print(f"{left} of {total} figures are left" + ("; the same command resumes" if left else ""))
    return left


if __name__ == "__main__":
    main()
