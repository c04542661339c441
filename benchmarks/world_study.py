"""The study at scale: Blue Marble, 100,000 places x 8 dates at 64 px, ResNet-50, all methods.

    python benchmarks/world_study.py --build --minutes 9   until the store is there (about 13 minutes
                                                           of one core, 2 of 16; 10 GB); needs
                                                           geossl[data]
    python benchmarks/world_study.py --minutes 9           until nothing is left; needs what training
                                                           needs; a seed takes an H100 six minutes by
                                                           three calls side by side, each with its own
                                                           --methods and --out, their records joined
    python benchmarks/world_study.py --small --build       a shrunk form for two cores proves that it
    python benchmarks/world_study.py --small               works, in a minute

Where geossl is not installed, say PYTHONPATH=. before it. Each call goes on where the last one was,
whether it ended or was killed, and adds to world_study.json; without --minutes it works to the end.
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
SHARES = (1, 10, 100)  # % of the training places that keep their label
METRICS = (
    *(f"linear_{name}_{share}" for name in LABELS for share in SHARES), "knn_main", "recall_at_1",
)  # fmt: skip
COMPARED = ("linear_main_1", "linear_main_100", "linear_full_100")


@dataclass(frozen=True)
class Setting:
    """What is run, and where it lies."""

    folder: Path
    places: int = 100_000
    dates: int = 8
    size_px: int = 64
    k: int = 100
    config: geossl.PretrainConfig = geossl.PretrainConfig(
        encoder="resnet50", stem="standard", epochs=1, batch_size=512, queue_size=16_384, log_every=40,
        knn_every=0,
    )  # fmt: skip

    @cached_property
    def store(self) -> geossl.ChipStore:
        """The chips, once they are built."""
        return geossl.ChipStore.open(self.folder / "chips")

    def clusters(self, seed: int) -> Path:
        """File of the geo clusters of a seed."""
        return self.folder / f"clusters-{seed}.json"


def small(folder: Path) -> Setting:
    """The shrunk form."""
    config = replace(
        Setting.config, encoder="small", stem="small", epochs=1, batch_size=32, queue_size=64, log_every=3,
        device="cpu",
    )  # fmt: skip
    return Setting(folder, places=200, dates=3, size_px=32, k=16, config=config)


def build(setting: Setting) -> None:
    """Make the store and the geo clusters; a killed build goes on."""
    from geossl import datasets  # what reads images is not on every machine that trains

    scenes = datasets.blue_marble(places=setting.places, dates=setting.dates, seed=0)
    store = geossl.ChipStore.build(setting.folder / "chips", scenes, size_px=setting.size_px)
    training = store.scenes[store.scenes["split"] == "train"]
    for seed in SEEDS:
        if not setting.clusters(seed).exists():
            geossl.GeoClusters.fit(training, k=setting.k, seed=seed).save(setting.clusters(seed))


def study(
    setting: Setting, records: Records, methods: list[str], *, seeds: tuple[int, ...]
) -> Generator[str, None, None]:
    """Do what is left, a unit at a time; yields what was done after each. It may stop at any."""
    for seed in seeds:
        for method in methods:
            at = setting.folder / f"{method}-{seed}"
            if missing(records, method, seed):
                yield from job(setting, records, method, seed, at)
            for path in (*setting.folder.glob(f"{at.name}.*"), at / "last.pt"):
                path.unlink(missing_ok=True)  # large, and no longer needed


def job(
    setting: Setting, records: Records, method: str, seed: int, at: Path
) -> Generator[str, None, None]:
    """What is left of one method and seed, whose run is kept in the folder ``at``."""
    vectors = at.with_name(f"{at.name}.parquet")
    if not vectors.exists():
        encoder = yield from trained(setting, method, seed, out=at)
        embed(setting, encoder).save(vectors)
        yield f"{method} seed {seed}: embedded"
    embeddings = geossl.Embeddings.load(vectors)
    for metric in missing(records, method, seed):
        value = measured(embeddings, metric, device=setting.config.device)
        records.add(method, seed, {metric: value})
        yield f"{method} seed {seed}: {metric} {value:.3f}"


def missing(records: Records, method: str, seed: int) -> list[str]:
    """The figures of a method and seed that are not there yet."""
    there = {r["metric"] for r in records.rows if (r["method"], r["seed"]) == (method, seed)}
    return [metric for metric in METRICS if metric not in there]


def trained(
    setting: Setting, method: str, seed: int, *, out: Path
) -> Generator[str, None, models.Encoder]:
    """Train, or go on; yields at every log record and returns the encoder."""
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
        output_dir=out,
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
    """Vectors of one image of every place, and of the test places at their first and last date.

    A column ``one`` tells the first kind; which date it is was drawn once for all.
    """
    store, device = setting.store, select_device(setting.config.device)
    table, dates = store.scenes, setting.dates
    place = np.arange(len(table)) // dates
    date = np.arange(len(table)) % dates
    one = date == np.random.default_rng(0).integers(0, dates, len(table) // dates)[place]
    ends = (table["split"] == "test").to_numpy() & ((date == 0) | (date == dates - 1))
    found = geossl.embed(store, encoder.to(device), index=one | ends)
    return geossl.Embeddings(found.vectors, found.scenes.assign(one=one[one | ends]))


def measured(embeddings: geossl.Embeddings, metric: str, *, device: str) -> float:
    """One figure of one method and seed."""
    if metric == "recall_at_1":
        return evaluate.same_location(embeddings, split="test", device=device).value
    one = embeddings.subset(embeddings.scenes["one"].to_numpy(bool))
    if metric == "knn_main":
        return evaluate.knn(one, label=LABELS["main"], device=device).value
    _, name, share = metric.split("_")
    draws = (0, 1, 2) if int(share) < 100 else (0,)  # which places keep their label
    found = evaluate.label_efficiency(
        one, label=LABELS[name], shares=(int(share) / 100,), seeds=draws,
        measure=partial(evaluate.linear, device=device),
    )  # fmt: skip
    return float(found["value"].mean())


def page(records: Records, *, place: str) -> str:
    """The page, with what was found, and on which hardware, or that it was not."""
    setting = Setting(HERE)
    c = setting.config
    seeds = {method: sum(not missing(records, method, s) for s in SEEDS) for method in ALL}
    done = ", ".join(f"{method} {count}" for method, count in seeds.items() if count)
    about = f"Seeds measured so far: {done}; on {place}." if done else (
        "**Not measured**: no GPU was at hand. The shrunk form (`--small`) runs as a test."
    )  # fmt: skip
    compared = (("moco+tp", "moco"), ("moco+geo", "moco"), ("moco+geo+tp", "moco"),
                ("moco+geo+tp", "geoloc"), ("moco+geo+tp", "supervised"))  # fmt: skip
    rows = [
        f"| {a} - {b} | " + " | ".join(records.paired(a, b, metric) for metric in COMPARED) + " |"
        for a, b in compared
    ]
    return f"""# The study at scale: Blue Marble, {setting.places:,} places

`python benchmarks/world_study.py --build`, then `python benchmarks/world_study.py`, each with `--minutes 9`
as often as something is left: a call stops after the first piece of work that ends beyond that time, and
the next one goes on, on a CPU bit for bit, on a GPU as exactly as its kernels repeat.

{about}

{setting.places:,} places x {setting.dates} simulated dates, {setting.size_px} px; 60 % of the places train, 25 % in held-out blocks of 10 degrees
test. The same for all methods: ResNet-50 with the {c.stem} stem (the small one costs sixteen times as much at
{setting.size_px} px), epochs: {c.epochs:g}, batch {c.batch_size:,}, queue {c.queue_size:,}, {setting.k} geo clusters, all else as in
[blue_marble.md](blue_marble.md), whose recipe was chosen on its own val split. Nothing was tuned here: batch and
epochs were set beforehand, so that one seed of all methods fits a quarter of an hour of one H100.

Probes learn from one image a place, at a date drawn once, and are tested on one image of each test place.
`linear_main_1`, `_10`, `_100`: linear probe of the Koeppen-Geiger main class with that percentage of the training
places labeled (whole places, at least one of each class, mean of three draws below 100 %); `linear_full_*`
of the full class. `recall_at_1`: a test place at its first date is found among all test places at their last.
Mean ± standard deviation over the seeds of weights, pairs, views and clusters.

{records.table(ALL, METRICS)}

Differences, seed by seed (mean, smallest to largest):

| | {" | ".join(COMPARED)} |
|---|{"---|" * len(COMPARED)}
{chr(10).join(rows)}
"""


def main(arguments: list[str] | None = None) -> int:
    """Do one part; returns how many figures are left."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", action="store_true", help="make the store, and nothing else")
    parser.add_argument("--minutes", type=float, help="stop after so many, at the next checkpoint")
    parser.add_argument("--small", action="store_true", help="a shrunk form")
    parser.add_argument("--methods", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--seeds", type=int, choices=(1, 2, 3), default=3, help="how many")
    parser.add_argument("--folder", type=Path, help="of the store and the runs")
    parser.add_argument("--out", type=Path, help="folder of world_study.md and world_study.json")
    given = parser.parse_args(arguments)
    end = time.monotonic() + 60 * (float("inf") if given.minutes is None else given.minutes)
    folder = given.folder or HERE.parent / "runs" / ("world_small" if given.small else "world")
    setting = small(folder) if given.small else Setting(folder)
    if given.build and given.minutes is None:
        build(setting)
        return 0
    if given.build:  # a build that is killed goes on
        command = [sys.executable, __file__, "--build", "--folder", str(folder)]
        try:
            subprocess.run(
                [*command, *["--small"] * given.small], check=True, timeout=60 * given.minutes
            )
        except subprocess.TimeoutExpired:
            print("\nthe store is unfinished; the same line goes on")
        return 0
    if not all(setting.clusters(seed).exists() for seed in SEEDS):  # made last
        parser.error(f"expected the chips and clusters in {folder}; give --build first")
    out = given.out or (folder if given.small else HERE)
    records = Records(out / "world_study.json")
    with closing(study(setting, records, given.methods, seeds=SEEDS[: given.seeds])) as units:
        for unit in units:
            print(unit, flush=True)
            if time.monotonic() >= end:
                break
    (out / "world_study.md").write_text(page(records, place=hardware()), "utf-8")
    left = sum(len(missing(records, m, s)) for m in given.methods for s in SEEDS[: given.seeds])
    total = len(given.methods) * given.seeds * len(METRICS)
    print(f"{left} of {total} figures are left" + ("; the same line goes on" if left else ""))
    return left


if __name__ == "__main__":
    main()
