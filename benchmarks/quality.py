"""Time to quality: seconds of training until a linear probe on the Blue Marble reaches a target.

    python benchmarks/quality.py    about 15 minutes on two idle cores; resumes

All methods use the same images: geossl reads them from a chip store, lightly's MoCo-v2 and the paper's
code (peers.py) from JPEGs of the same chips. The probe is measured on val after every half pass, while
the clock is stopped; a method stops after LIMIT_S seconds. Writes quality.md and quality.json to this
folder, and `seconds_to_quality` into speed.json; under the cap of laptop.py, files that end in _laptop.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from study import Records, hardware, results

import geossl
from geossl import datasets, evaluate, models

HERE = Path(__file__).parent
FOLDER = HERE.parent / "runs" / results("quality").name
TARGET = 0.57  # of val: that of geossl after two passes, chosen before the others ran
LIMIT_S = 120
SEEDS = (0, 1, 2)
METHODS = ("geossl", "lightly", "paper")
UNTRAINED = {"tiny": "small", "resnet18": "standard"}  # encoders of these methods -> their stem
BATCH, SIZE, WORKERS = 128, 32, 2
RECIPE = geossl.PretrainConfig(epochs=3, knn_every=0)


def images(store: geossl.ChipStore) -> Path:
    """Write the training chips as JPEGs, one folder per location."""
    from PIL import Image

    folder = FOLDER / "images"
    if folder.exists():
        return folder
    part, table = folder.with_suffix(".part"), store.scenes
    for row in np.flatnonzero(table["split"] == "train"):
        path = part / f"{table['location'].iloc[row]}" / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(store.preview([row])[0]).save(path, quality=95, subsampling=0)
    part.rename(folder)
    return folder


def quality(store: geossl.ChipStore, encoder: models.Encoder, split: str) -> float:
    """Measure a linear probe: fitted on one date of each training location, tested on a split."""
    table = store.scenes
    first = ~table.duplicated("location")
    part = table["split"].where(~((table["split"] == "train") & ~first), "unused")
    rows = np.flatnonzero(part.isin(["train", split]))
    embeddings = geossl.embed(store, encoder, index=rows)
    probe_split = part.iloc[rows].replace({split: "test"}).reset_index(drop=True)
    return evaluate.linear(embeddings, split=probe_split, l2=1e-3).value


def ours(store: geossl.ChipStore, seed: int) -> tuple[models.Encoder, Iterator[int]]:
    """Return the encoder of a geossl run, and an iterator that trains and yields pairs trained."""
    training = store.scenes[store.scenes["split"] == "train"]
    run = geossl.pretrain(
        store,
        pairs=geossl.pairs.temporal(),
        geo=geossl.GeoClusters.fit(training, k=100, seed=seed),
        config=RECIPE,
        seed=seed,
    )

    def steps() -> Iterator[int]:
        done = 0
        for log in run:
            yield (log.step - done) * RECIPE.batch_size
            done = log.step

    return run.encoder, steps()


def theirs(method: str, store: geossl.ChipStore, seed: int) -> tuple[models.Encoder, Iterator[int]]:
    """Return the same for a pipeline of another library."""
    import peers

    torch.manual_seed(seed)
    random.seed(seed)
    settings = {"batch_size": BATCH, "queue_size": 4096, "num_workers": WORKERS}
    pipeline = getattr(peers, method)(images(store), SIZE, **settings)
    encoder = models.Encoder(
        "resnet18", pipeline.backbone, bands=3, stem="standard", embedding_dim=512
    )
    for buffer, values in zip((encoder.mean, encoder.std), peers.IMAGENET, strict=True):
        buffer.copy_(255 * torch.tensor(values))  # of chips from 0 to 255

    def steps() -> Iterator[int]:
        while True:
            for _ in pipeline.epoch():
                yield BATCH

    return encoder, steps()


def measure(method: str, seed: int) -> dict[str, float]:
    """Train until the target is reached or the time is up."""
    store = geossl.ChipStore.open(FOLDER / "chips")
    every = int((store.scenes["split"] == "train").sum()) // 2
    encoder, steps = ours(store, seed) if method == "geossl" else theirs(method, store, seed)
    wall = cpu = 0.0
    pairs, due, best = 0, every, 0.0
    while best < TARGET and wall < LIMIT_S:
        began, began_cpu = time.perf_counter(), time.process_time()
        more = next(steps, 0)
        wall += time.perf_counter() - began
        cpu += time.process_time() - began_cpu
        pairs += more
        if pairs >= due or not more:
            accuracy, due = quality(store, encoder, "val"), due + every
            best = max(best, accuracy)
            encoder.train()
            print(
                f"{method} seed {seed}: {pairs:,} pairs, {wall:.1f} s, val {accuracy:.4f}",
                flush=True,
            )
        if not more:
            break
    return {
        "seconds_to_quality": wall if best >= TARGET else np.nan,
        "seconds": wall,
        "main_cpu_seconds": cpu,
        "pairs": pairs,
        "best_val": best,
        "test": quality(store, encoder, "test"),
    }


def measure_untrained(name: str, seed: int) -> dict[str, float]:
    """Measure the probe of an untrained encoder."""
    store = geossl.ChipStore.open(FOLDER / "chips")
    encoder = models.build_encoder(
        name, stem=UNTRAINED[name], mean=store.mean.tolist(), std=store.std.tolist(), seed=seed
    )
    return {"start_val": quality(store, encoder, "val")}


def page(records: Records) -> str:
    """Render the page from the records."""
    frame = pd.DataFrame(records.rows)
    table = frame.pivot_table(
        index="seed", columns=["method", "metric"], values="value", dropna=False
    )

    def cell(method: str, metric: str, digits: int = 0) -> str:
        values = table[method, metric]
        return f"{values.median():,.{digits}f} ({values.min():,.{digits}f} to {values.max():,.{digits}f})"

    def time_of(method: str) -> str:
        values = table[method, "seconds_to_quality"]
        missed = int(values.isna().sum())
        if missed == len(values):
            return f"not within {LIMIT_S}"
        return cell(method, "seconds_to_quality") + (
            f", {missed} not within {LIMIT_S}" if missed else ""
        )

    rows = []
    for method in METHODS:
        seconds, pairs = table[method, "seconds"], table[method, "pairs"]
        ratio = seconds / table["geossl", "seconds"]
        missed = "at least " if table[method, "seconds_to_quality"].isna().any() else ""
        rows.append(
            f"| {method} | {time_of(method)} | {missed}{ratio.median():.1f} ({ratio.min():.1f} to "
            f"{ratio.max():.1f}) | {cell(method, 'pairs')} | {(seconds / pairs * 1e3).median():.2f} | "
            f"{cell(method, 'best_val', 3)} | {cell(method, 'test', 3)} |"
        )
    r = RECIPE
    return f"""# Time to quality: the Blue Marble on two cores

Made by `python benchmarks/quality.py` on {hardware()}.

Seconds of training until a linear probe of the climate (5 classes) reaches {TARGET} on val; the clock
stops while it is measured, after every half pass. 6,000 locations x 4 simulated dates, 32 px; the probe
is fitted on one date of each training location. Median (smallest to largest) of {len(SEEDS)} seeds; target: the
others take 5 times as long. The test split is measured at the end; nothing was chosen on it.

Untrained, geossl's encoder has {cell("tiny", "start_val", 3)} on val, the ResNet-18 of the
others {cell("resnet18", "start_val", 3)}: its usual stem reduces 32 pixels to one. A method that falls below its start
learns something other than climates.

| method | seconds | / geossl | pairs | ms per pair | best on val | test |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Time is the number of pairs times the cost of a pair, and both differ:

- geossl: its recipe for two cores (`PretrainConfig` of [few_labels.md](few_labels.md)), MoCo-v2+Geo+TP:
  the encoder "{r.encoder}", AdamW {r.lr:g} with a cosine that ends after {r.epochs:g} passes, batch {r.batch_size}, queue
  {r.queue_size}, momentum {r.momentum:g}, temperature {r.temperature:g}; keys are other dates of the location, 100 geo
  clusters are predicted, crops of {r.transform.crop[0]:g} to 1, light jitter, the eight symmetries; chips from a
  store, views made batch by batch; bf16 if the processor has AMX. (Three passes: with two, one seed of
  two ended at .5695.)
- lightly: its MoCo-v2 example, unchanged (ResNet-18, queue 4096, SGD 0.06, momentum 0.996 to 1,
  temperature 0.5, `MoCoV2Transform`) with batch {BATCH} and {WORKERS} workers. It uses neither location nor date.
- paper: temporal pairs with the paper's settings (SGD 0.03, momentum 0.999, temperature 0.02, MoCo-v2's
  transforms) on ResNet-18, batch {BATCH}, queue 4096, {WORKERS} workers. These settings were chosen for ResNet-50,
  a batch of 256 and 200 passes.

So this compares each library with its own settings. For the loops at equal work see [speed.md](speed.md),
for the methods with equal settings [few_labels.md](few_labels.md).
"""


def main() -> None:
    """Build the store, measure what is missing, and write records and page."""
    scenes = datasets.blue_marble(places=6_000, dates=4, seed=0)
    store = geossl.ChipStore.build(FOLDER / "chips", scenes, size_px=SIZE)
    images(store)
    records = Records(FOLDER / "records.json")
    for seed in SEEDS:
        for name in UNTRAINED:
            if not records.has(name, seed):
                records.add(name, seed, measure_untrained(name, seed))
        for method in METHODS:
            if not records.has(method, seed):
                records.add(method, seed, measure(method, seed))
    final = Records(results("quality.json"))
    final.rows = records.rows
    final.write()
    speed = Records(results("speed.json"))
    new = [r for r in records.rows if r["metric"] == "seconds_to_quality"]
    speed.rows = [r for r in speed.rows if r["metric"] != "seconds_to_quality"] + new
    speed.write()
    records.path.unlink()
    results("quality.md").write_text(page(final), "utf-8")
    print(page(final))


if __name__ == "__main__":
    sys.exit(main())
