"""The paper's table in miniature: what place and date save in labels, on the embedded world.

    make study            resumes; the page says how long it took

Writes few_labels.md and few_labels.json to this folder. Every method has the same pairs, batch, queue,
encoder and augmentation; world and recipe were chosen on the val split (world_design.md).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from study import METHODS, Records, hardware, run_jobs

import geossl
from geossl import datasets, evaluate
from geossl.transforms import Views

HERE = Path(__file__).parent
FOLDER = HERE.parent / "runs" / "study"
SEEDS, DRAWS = (0, 1, 2), 8  # of training; of the labeled locations
LABELED = (25, 50, 100, 400, 1_000_000)
PLACES, DATES = 24_000, 4
VIEWS = Views(flip=0, dihedral=False)  # all dates show a place the same way up
RECIPE = geossl.PretrainConfig(knn_every=0, epochs=2.5, transform=VIEWS)
ALL = ("random", *METHODS)
FEW = tuple(f"linear_main_{n}" for n in (*LABELED[:-1], "all"))
METRICS = (*FEW, "season_shift", "sensor_shift", "recall_at_1")
PROBE = partial(evaluate.linear, l2=1e-2)


def build() -> geossl.ChipStore:
    """Build the store, or open it."""
    scenes = datasets.blue_marble(places=PLACES, dates=DATES, seed=0)
    return geossl.ChipStore.build(FOLDER / "chips", scenes, size_px=32)


def embed(
    store: geossl.ChipStore,
    method: str,
    seed: int,
    *,
    config: geossl.PretrainConfig = RECIPE,
    output_dir: Path | None = None,
) -> geossl.Embeddings:
    """Pre-train with one method and seed, and embed all chips."""
    if method == "random":
        return evaluate.random_features(store, seed=seed)
    if method == "bundled":
        return geossl.embed(store, geossl.models.load_encoder("blue_marble"))
    pairs, geo, label = METHODS[method]
    training = store.scenes[store.scenes["split"] == "train"]
    run = geossl.pretrain(
        store,
        pairs=pairs,
        geo=geossl.GeoClusters.fit(training, k=100, seed=seed) if geo else None,
        label="climate" if label else None,
        config=config,
        output_dir=output_dir,
        seed=seed,
    )
    return geossl.embed(store, run.finish(progress=False).encoder)


def shift(embeddings: geossl.Embeddings, group: np.ndarray) -> tuple[float, pd.DataFrame]:
    """Fit on images of one group and test on those of another, both ways; groups of -1 stay out."""
    table = embeddings.scenes
    split, parts = table["split"].to_numpy(object), []
    for source in (0, 1):
        role = np.full(len(table), None, object)
        for name, of_group in (("train", source), ("test", 1 - source)):
            chosen = (split == name) & (group == of_group)
            role[chosen] = name
        parts.append(PROBE(embeddings, split=pd.Series(role)))
    return float(np.mean([p.value for p in parts])), pd.concat([p.predictions for p in parts])


def seasons(table: pd.DataFrame) -> np.ndarray:
    """Number the warm half of the year 0 and the cold one 1, outside of the tropics; -1 within."""
    day = table["time"].dt.day_of_year
    warm = np.cos(2 * np.pi * (day - 200) / 365.25) * np.where(table["lat"] < 0, -1, 1) > 0
    return np.where(table["lat"].abs() > 23.5, np.where(warm, 0, 1), -1)


def evaluate_all(
    embeddings: geossl.Embeddings,
) -> tuple[dict[str, float], dict[str, pd.DataFrame]]:
    """Measure everything on the test locations: values, and columns location and hit by metric."""
    table = embeddings.scenes
    later = (table["split"] == "train") & table.duplicated("location")
    values, hits = {}, {}

    def spy(*args, **named) -> evaluate.ProbeResult:
        result = PROBE(*args, **named)
        spied.append(result.predictions)
        return result

    for name, count in zip(FEW, LABELED, strict=True):
        spied: list[pd.DataFrame] = []
        curve = evaluate.label_efficiency(
            embeddings, locations=(count,), split=table["split"].mask(later), measure=spy,
            seeds=range(DRAWS if count < 1_000 else 1),
        )  # fmt: skip
        values[name], hits[name] = float(curve["value"].mean()), pd.concat(spied)
    values["season_shift"], hits["season_shift"] = shift(embeddings, seasons(table))
    sensor = np.where(table["sensor"] == "A", 0, 1)
    values["sensor_shift"], hits["sensor_shift"] = shift(embeddings, sensor)
    found = evaluate.same_location(embeddings, split="test")
    values["recall_at_1"], hits["recall_at_1"] = found.value, found.predictions
    return values, hits


def measure(method: str, seed: int) -> dict[str, float]:
    """Pre-train with one method and seed, and measure on the test blocks."""
    values, hits = evaluate_all(
        embed(build(), method, seed, output_dir=FOLDER / f"{method}-{seed}")
    )
    for name, rows in hits.items():
        shares = rows.groupby("location")["hit"].mean()
        shares.to_frame().to_parquet(FOLDER / f"hits-{method}-{seed}-{name}.parquet")
    return values


def interval(method: str, metric: str) -> tuple[float, float, float]:
    """Return the mean over seeds and draws, and its 95 % interval over test locations."""
    seeds = SEEDS if method in ALL else SEEDS[:1]
    files = [FOLDER / f"hits-{method}-{seed}-{metric}.parquet" for seed in seeds]
    shares = pd.concat([pd.read_parquet(file)["hit"] for file in files], axis=1).mean(axis=1)
    count, rng = len(shares), np.random.default_rng(0)
    times = rng.multinomial(count, np.full(count, 1 / count), 2_000)
    low, high = np.percentile(times @ shares.to_numpy() / count, [2.5, 97.5])
    return float(shares.mean()), float(low), float(high)


def labels_worth(records: Records) -> list[str]:
    """Say for each method how many labels MoCo-v2 needs for what it reaches with 50."""
    rows = pd.DataFrame(records.rows)
    means = rows.groupby(["method", "metric"])["value"].mean()
    training = build().scenes.query("split == 'train'")["location"].nunique()
    counts = [min(count, training) for count in LABELED]
    plain = pd.DataFrame({"locations": counts, "value": [means["moco", name] for name in FEW]})
    plain.insert(0, "share", plain["locations"])
    lines = []
    for method in (*ALL, "bundled"):
        needed = evaluate.labels_needed(plain, means[method, "linear_main_50"])
        text = f"{needed:,.0f}" if np.isfinite(needed) else f"more than {training:,}"
        lines.append(f"| {method} | {means[method, 'linear_main_50']:.3f} | {text} |")
    return lines


def page(records: Records) -> str:
    """Render the page from the records."""
    lines = []
    for method in (*ALL, "bundled"):
        cells = ["{:.3f} ({:.3f} to {:.3f})".format(*interval(method, m)) for m in METRICS]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    gaps = [
        f"| {a} minus {b} | " + " | ".join(records.paired(a, b, m) for m in METRICS) + " |"
        for a, b in (
            ("moco", "random"),
            ("moco+tp", "moco"),
            ("moco+geo", "moco"),
            ("moco+geo+tp", "moco+tp"),
            ("supervised", "moco+geo+tp"),
        )
    ]
    r, table = RECIPE, build().scenes
    places = table.groupby("split")["location"].nunique()
    return f"""# Few labels: what place and date save

Made by `make study` on {hardware()}.

{PLACES:,} locations x {DATES} simulated dates of the embedded world, 32 px; {places["train"]:,} locations to train on,
{places["val"]:,} for choices, {places["test"]:,} in test blocks of 10 degrees that nothing was trained on.

- `linear_main_25` to `_all`: a linear probe of the Koeppen-Geiger main class (5 classes) from one image each of so
  many labeled training locations ({DRAWS} draws), tested on all dates of the test locations.
- `season_shift`: the probe is fitted on images of the warm half of the year and tested on the cold one, and the other way
  round, outside of the tropics; `sensor_shift`: likewise with images of sensor A, and of B and C.
- `recall_at_1`: a test location at its first date is found among all test locations at their last.

Mean over {len(SEEDS)} seeds (of weights, pairs, views and clusters; data and split are the same), and in brackets its 95 % interval
over the test locations.

| method | {" | ".join(METRICS)} |
|{"---|" * (len(METRICS) + 1)}
{chr(10).join(lines)}

`bundled` is `load_encoder("blue_marble")`, MoCo-v2+Geo+TP with more locations and passes ([bundled_encoder.py](bundled_encoder.py)).
How many labeled locations MoCo-v2 needs for what a method reaches with 50, read off MoCo-v2's row:

| method | with 50 | MoCo-v2 needs |
|---|---|---|
{chr(10).join(labels_worth(records))}

Paired differences per seed: mean (smallest to largest).

| difference | {" | ".join(METRICS)} |
|{"---|" * (len(METRICS) + 1)}
{chr(10).join(gaps)}

The same for all methods: the encoder "{r.encoder}", {r.epochs:g} epochs, batch {r.batch_size}, AdamW {r.lr:g} with
cosine decay, queue {r.queue_size}, momentum {r.momentum:g}, temperature {r.temperature:g}, one batch norm over the batch, crops of
{r.transform.crop[0]:g} to {r.transform.crop[1]:g} of the area, jitter {r.transform.brightness:g}, hue {r.transform.hue:g}, no flips; 100 geo clusters. Supervised training uses the full class (30 classes) of all training images. World,
flips and number of passes were chosen on val ([world_design.md](world_design.md)), the rest of the recipe with version 0.1 on the
val split of its world (learning rate, queue, momentum, temperature, crops and jitter, for MoCo-v2+TP); it then serves every method. What differs between
two dates is simulated: these figures show how the methods deal with such changes; for real ones see
[real_imagery.md](real_imagery.md).
"""


def main() -> None:
    """Build the store, run the jobs and write the page."""
    build()
    jobs = [(method, seed) for seed in SEEDS for method in ALL] + [("bundled", 0)]
    records = run_jobs(jobs, measure, FOLDER, HERE / "few_labels.json")
    if len({(r["method"], r["seed"]) for r in records.rows}) == len(jobs):
        (HERE / "few_labels.md").write_text(page(records), "utf-8")
        print((HERE / "few_labels.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
