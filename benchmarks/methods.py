"""The family of geography-aware methods beside MoCo-v2, at the scale of a lesson, with equal steps.

    python benchmarks/methods.py            on the embedded world; resumes; about an hour on two cores of a laptop
    python benchmarks/methods.py --real     on NAIP and Landsat (geossl fetch naip landsat); half an hour

On the embedded world, few labels first, as in few_labels.md, which explains the metrics; test locations.
On real imagery, the same location at another date. Weights and distances are those of the sources or round
numbers, none was tuned. Writes methods.md, methods.json and methods_real.json to this folder.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from few_labels import RECIPE, evaluate_all
from real_imagery import AREAS, VIEWS, images
from study import Records, hardware, run_jobs

import geossl
from geossl import datasets, evaluate, pairs, train

HERE = Path(__file__).parent
FOLDER = HERE.parent / "runs" / "methods"
REAL = FOLDER / "real"
Methods = dict[str, tuple[Any, Callable[[], list[train.Objective]] | None]]
SEEDS, PLACES, EPOCHS = (0, 1, 2), 4_000, 8
STEPS, BATCH = 240, 64  # on real imagery
TEMPORAL = pairs.temporal()


def methods(near_km: float, far_km: float, negative_km: tuple[float, float]) -> Methods:
    """Return the pairs and objectives of each method; None: the contrastive loss alone.

    Args:
        near_km: radius of Tile2Vec's neighbors.
        far_km: its distant images are farther.
        negative_km: smallest distance of a negative, and scale of those that count by distance.
    """
    nearest, scale = negative_km
    return {
        "MoCo-v2": (pairs.same_image(), None),
        "MoCo-v2+TP": (TEMPORAL, None),
        "+TP, no near negatives": (
            TEMPORAL,
            lambda: [train.Contrastive(min_negative_km=nearest)],
        ),
        "+TP, negatives by distance": (
            TEMPORAL,
            lambda: [train.Contrastive(negative_scale_km=scale)],
        ),
        "+TP and GeoRank": (
            TEMPORAL,
            lambda: [train.Contrastive(weight=0.5), train.GeoRank(weight=0.5)],
        ),
        "+TP and regression": (TEMPORAL, lambda: [train.Contrastive(), train.GeoRegression()]),
        "+TP and location encoder": (
            TEMPORAL,
            lambda: [train.Contrastive(), train.LocationContrastive()],
        ),
        "SeCo": (TEMPORAL, lambda: [train.SeCo()]),
        "regression alone": (None, lambda: [train.GeoRegression()]),
        "location encoder alone": (None, lambda: [train.LocationContrastive()]),
        "triplets": (
            pairs.spatial(radius_km=near_km),
            lambda: [train.Triplet(min_km=far_km)],
        ),
    }


METHODS = methods(300, 1_000, (50, 300))
METRICS = (
    *("linear_main_25", "linear_main_50", "linear_main_100", "linear_main_400"),
    *("linear_main_all", "season_shift", "recall_at_1"),
)


def build() -> geossl.ChipStore:
    """Build the store, or open it."""
    scenes = datasets.blue_marble(places=PLACES, dates=4, seed=0)
    return geossl.ChipStore.build(FOLDER / "chips", scenes, size_px=32, progress=False)


def embed(store: geossl.ChipStore, method: str, seed: int) -> geossl.Embeddings:
    """Pre-train with one method and seed, and embed all chips."""
    if method == "untrained":
        return evaluate.random_features(store, seed=seed)
    sampler, make = METHODS[method]
    config = dataclasses.replace(RECIPE, epochs=EPOCHS)
    terms = None if make is None else make()
    run = geossl.pretrain(store, pairs=sampler, objectives=terms, config=config, seed=seed)
    return geossl.embed(store, run.finish(progress=False).encoder)


def measure(method: str, seed: int) -> dict[str, float]:
    """Pre-train with one method and seed, and measure on the test blocks."""
    values, _ = evaluate_all(embed(build(), method, seed))
    return {name: values[name] for name in METRICS}


def build_area(area: str) -> geossl.ChipStore:
    """Build the store of an area of real imagery: chips of 32 px, the east is "test"."""
    scenes = datasets.geotiff(
        images(area), chip_px=64, stride_px=64, band_names=AREAS[area][1], test_side="east"
    )
    complete = scenes.groupby("location")["time"].transform("nunique")
    scenes = scenes[complete == scenes["time"].nunique()].reset_index(drop=True)
    return geossl.ChipStore.build(REAL / area, scenes, size_px=32, progress=False)


def extent_km(table: pd.DataFrame) -> float:
    """Return the diagonal of the training locations."""
    box = table[table["split"] == "train"][["lon", "lat"]].agg(["min", "max"])
    (west, south), (east, north) = box.to_numpy()
    return float(geossl.geo.great_circle_km(west, south, east, north))


def measure_real(job: str, seed: int) -> dict[str, float]:
    """Pre-train in an area, and find each location of its east at its last date by its first."""
    area, method = job.split(": ")
    store = build_area(area)
    if method == "untrained":
        embeddings = evaluate.random_features(store, seed=seed)
    elif method == "HOG":
        embeddings = evaluate.hog(store)
    else:
        km = extent_km(store.scenes)
        sampler, make = methods(km / 5, km / 3, (km / 10, km / 10))[method]
        chips = int((store.scenes["split"] == "train").sum())
        config = dataclasses.replace(
            RECIPE, epochs=STEPS / (chips // BATCH), batch_size=BATCH, knn_every=0,
            transform=dataclasses.replace(VIEWS, size_px=None),
        )  # fmt: skip
        terms = None if make is None else make()
        run = geossl.pretrain(store, pairs=sampler, objectives=terms, config=config, seed=seed)
        embeddings = geossl.embed(store, run.finish(progress=False).encoder)
    test = embeddings.subset(np.flatnonzero(store.scenes["split"] == "test"))
    centered, plain = (evaluate.same_location(test, center_dates=c).value for c in (True, False))
    return {"recall_at_1_centered": centered, "recall_at_1": plain}


def describe_area(area: str) -> str:
    """Say how large an area is, where its images are there."""
    if not images(area).is_dir():
        return ""
    table = build_area(area).scenes
    counts = table.groupby("split")["location"].nunique()
    return (
        f"{counts['train']} locations to train on and {counts['test']} to test, "
        f"{table['time'].nunique()} dates, {extent_km(table):.0f} km.\n\n"
    )


def real_tables(records: Records) -> str:
    """Render a table for each area."""
    parts = []
    for area in AREAS:
        rows = Records(records.path)
        rows.rows = [
            {**row, "method": row["method"].removeprefix(f"{area}: ")}
            for row in records.rows
            if row["method"].startswith(f"{area}: ")
        ]
        parts.append(
            f"### {area}\n\n{describe_area(area)}"
            + rows.table(("untrained", "HOG", *METHODS), ("recall_at_1_centered", "recall_at_1"))
        )
    return "\n\n".join(parts)


def page(records: Records, real: Records) -> str:
    """Render the page from the records of both studies."""
    rows = pd.DataFrame(records.rows)
    means = rows.groupby(["method", "metric"])["value"].mean()
    behind = [
        method
        for method in METHODS
        if any(means[method, name] <= means["untrained", name] for name in METRICS[:4])
    ]
    verdict = (
        "Every method beats untrained features in all few-label probes."
        if not behind
        else f"Not ahead of untrained features in every few-label probe: {', '.join(behind)}."
    )
    return f"""# Methods

Made by `python benchmarks/methods.py` on {hardware()}. {PLACES:,} locations x 4 dates of the embedded world, 32 px,
{EPOCHS} epochs of the recipe of [few_labels.md](few_labels.md), which explains the metrics, on the test locations. Seeds: {rows["seed"].nunique()} of
{len(SEEDS)}; means, and their standard deviation where there are several. Weights and distances are those of the sources or round numbers:
none was tuned.

{records.table(("untrained", *METHODS), METRICS)}

{verdict} Near negatives: 50 km; by distance: 300 km; triplets: neighbors within 300 km, distant images from 1,000 km on.

## Real imagery: the same location at another date

Made by `python benchmarks/methods.py --real`: NAIP and Landsat of [real_imagery.md](real_imagery.md) at lesson scale, chips of 64 px in 32,
{STEPS} steps of {BATCH} pairs, the tiny encoder, no flips. The first date of each location of the east is looked for among the last ones, with
the mean of each date subtracted (*centered*) and without. An area of some kilometers has hardly a position to learn: distances are shares
of its extent (near negatives a tenth, neighbors a fifth, distant images a third), regression and location encoder are as for the world. HOG learns nothing, and both dates
lie on the same pixels, which it needs.

{real_tables(real)}
"""


def main() -> None:
    """Run the jobs of a study, and write the page of both."""
    result, real = HERE / "methods.json", HERE / "methods_real.json"
    if "--real" in sys.argv:
        for area in AREAS:
            build_area(area)
        jobs = [(f"{a}: {m}", s) for s in SEEDS for a in AREAS for m in ("untrained", *METHODS)]
        run_jobs([(f"{a}: HOG", 0) for a in AREAS] + jobs, measure_real, REAL, real)
    else:
        build()
        jobs = [(method, seed) for seed in SEEDS for method in ("untrained", *METHODS)]
        run_jobs(jobs, measure, FOLDER, result)
    if "--part" not in sys.argv:
        (HERE / "methods.md").write_text(page(Records(result), Records(real)), "utf-8")
        print((HERE / "methods.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
