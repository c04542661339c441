"""The family of geography-aware methods beside MoCo-v2, at the scale of a lesson, with equal steps.

    python benchmarks/methods.py     resumes; about an hour on two cores of a laptop

On the embedded world, few labels first, as in few_labels.md, which explains the metrics; test locations.
Weights and distances are those of the sources or round numbers, none was tuned. Writes methods.md and
methods.json to this folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from few_labels import RECIPE, evaluate_all
from study import Records, hardware, run_jobs

import geossl
from geossl import datasets, evaluate, pairs, train

HERE = Path(__file__).parent
FOLDER = HERE.parent / "runs" / "methods"
SEEDS, PLACES, EPOCHS = (0, 1, 2), 4_000, 8
TEMPORAL = pairs.temporal()
NEIGHBORS = pairs.spatial(radius_km=300)
# Pairs and objectives; None: the contrastive loss alone.
METHODS: dict[str, tuple[Any, Callable[[], list[train.Objective]] | None]] = {
    "MoCo-v2": (pairs.same_image(), None),
    "MoCo-v2+TP": (TEMPORAL, None),
    "+TP, negatives from 50 km on": (TEMPORAL, lambda: [train.Contrastive(min_negative_km=50)]),
    "+TP, negatives by distance, 300 km": (
        TEMPORAL,
        lambda: [train.Contrastive(negative_scale_km=300)],
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
    "triplets, 300 km": (NEIGHBORS, lambda: [train.Triplet(min_km=1_000)]),
}
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


def page(records: Records) -> str:
    """Render the page from the records."""
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

{verdict}
"""


def main() -> None:
    """Run the jobs and write the page."""
    build()
    jobs = [(method, seed) for seed in SEEDS for method in ("untrained", *METHODS)]
    records = run_jobs(jobs, measure, FOLDER, HERE / "methods.json")
    (HERE / "methods.md").write_text(page(records), "utf-8")
    print((HERE / "methods.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
