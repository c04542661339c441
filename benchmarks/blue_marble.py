"""The paper's table in miniature: Blue Marble, held-out blocks, three seeds, all methods.

    make study            about an hour on two cores; a killed study goes on where it was

Writes blue_marble.md and blue_marble.json beside itself. Every method has the same steps, batch,
queue, encoder and augmentation; the recipe was chosen on the val split (RECIPE below).
"""

from __future__ import annotations

from pathlib import Path

from study import METHODS, Records, hardware, run_jobs

import geossl
from geossl import probe, readers

HERE = Path(__file__).parent
FOLDER = HERE.parent / "runs" / "study"
SEEDS = (0, 1, 2)
METRICS = ("linear_main", "linear_full", "knn_main", "recall_at_1")
RECIPE = geossl.PretrainConfig(knn_every=0)
ALL = ("random", *METHODS)


def measure(method: str, seed: int) -> dict[str, float]:
    """Pre-train by one method with one seed and measure on the test blocks."""
    store = geossl.ChipStore.open(FOLDER / "chips")
    if method == "random":
        embeddings = probe.random_features(store, seed=seed)
    else:
        pairs, geo, label = METHODS[method]
        training = store.scenes[store.scenes["split"] == "train"]
        run = geossl.pretrain(
            store,
            pairs=pairs,
            geo=geossl.GeoClusters.fit(training, k=100, seed=seed) if geo else None,
            label="climate" if label else None,
            config=RECIPE,
            out=FOLDER / f"{method}-{seed}",
            seed=seed,
        ).finish(progress=False)
        embeddings = geossl.embed(store, run.encoder)
    return {
        "linear_main": probe.linear(embeddings, label="label").value,
        "linear_full": probe.linear(embeddings, label="climate").value,
        "knn_main": probe.knn(embeddings, label="label").value,
        "recall_at_1": probe.same_place(embeddings, split="test").value,
    }


def page(records: Records) -> str:
    """The page, with what was found."""
    gaps = [
        f"| {a} less {b} | " + " | ".join(records.paired(a, b, m) for m in METRICS) + " |"
        for a, b in (
            ("moco", "random"),
            ("moco+tp", "moco"),
            ("moco+geo", "moco"),
            ("moco+geo+tp", "moco"),
            ("supervised", "moco"),
            ("supervised", "moco+geo+tp"),
        )
    ]
    return f"""# Blue Marble: do place and time close the gap?

`make study` ({hardware()}). 6,000 places x 4 simulated dates, 32 px; 25 % of the places in held-out
blocks of 10 degrees; linear and kNN probes of the Koeppen-Geiger main class (5) and full class (30)
on single images, and recall@1 of the same place between its first and last date among the test
places. Mean ± standard deviation over {len(SEEDS)} seeds of weights, pairs, views and clusters (the
data and the split are the same). Same steps, batch, queue, encoder and augmentation for all: `{RECIPE}`

{records.table(ALL, METRICS)}

Paired differences, seed by seed: mean (smallest to largest).

| difference | {" | ".join(METRICS)} |
|{"---|" * (len(METRICS) + 1)}
{chr(10).join(gaps)}
"""


def main() -> None:
    """Build the store, run the jobs, write the page."""
    scenes = readers.blue_marble(places=6_000, dates=4, seed=0)
    geossl.ChipStore.build(FOLDER / "chips", scenes, size_px=32)
    jobs = [(method, seed) for seed in SEEDS for method in ALL]
    records = run_jobs(jobs, measure, FOLDER, HERE / "blue_marble.json")
    if len({(r["method"], r["seed"]) for r in records.rows}) == len(jobs):
        (HERE / "blue_marble.md").write_text(page(records), "utf-8")
        print((HERE / "blue_marble.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
