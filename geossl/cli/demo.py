"""The main job on the embedded world: store, clusters, pre-training, embedding, probe, one page."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from geossl import datasets, evaluate, pairs
from geossl.cli.demo_page import _page, _table
from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, embed
from geossl.train.config import PretrainConfig
from geossl.train.pretrain import Run, pretrain

METHODS: dict[str, tuple[pairs.PairSampler, bool]] = {
    "MoCo-v2": (pairs.same_image(), False),
    "MoCo-v2+TP": (pairs.temporal(), False),
    "MoCo-v2+Geo+TP": (pairs.temporal(), True),
}
_EMBEDDINGS = "embeddings.parquet"


def run(
    out: str | os.PathLike[str],
    *,
    places: int = 6_000,
    epochs: float = 8,
    seed: int = 0,
    say: Callable[[object], None],
) -> Path:
    """Run the main job; a second call takes up what is there.

    Args:
        out: folder of everything that is made.
        places: number of places of the Blue Marble.
        epochs: of each of the three pre-trainings.
        seed: of everything.
        say: takes the lines that a person reads.

    Returns:
        Path of the page, ``index.html``.
    """
    out, began = Path(out), time.monotonic()
    say(f"1/5  chips: {places:,} places of the world x 4 simulated dates")
    scenes = datasets.blue_marble(places=places, dates=4, seed=seed)
    store = ChipStore.build(out / "chips", scenes, size_px=32)
    say("2/5  geo clusters: k-means on the sphere")
    training = store.scenes[store.scenes["split"] == "train"]
    clusters = GeoClusters.fit(training, k=min(100, max(2, places // 20)), seed=seed)
    clusters.save(out / "clusters.json")
    say(f"3/5  pre-training by {len(METHODS)} methods, the same steps each")
    config = PretrainConfig(epochs=epochs)
    config = dataclasses.replace(config, batch_size=min(config.batch_size, len(training) // 2))
    runs = {}
    for number, (name, (policy, geo)) in enumerate(METHODS.items(), 1):
        run = pretrain(
            store,
            pairs=policy,
            geo=clusters if geo else None,
            config=config,
            output_dir=out / name.lower().replace("+", "_"),
            seed=seed,
        )
        left = _time_left(run, len(METHODS) - number)
        say(f"     {number} of {len(METHODS)}: {name}, {run.steps} steps{left}")
        runs[name] = run.finish()
    say("4/5  embedding and probing on held-out blocks of the world")
    embeddings = {"random features": evaluate.random_features(store, seed=seed)}
    embeddings |= {name: embed(store, run.encoder) for name, run in runs.items()}
    results = {
        what: evaluate.compare({name: measure(found) for name, found in embeddings.items()})
        for what, measure in _MEASURES.items()
    }
    best = embeddings["MoCo-v2+Geo+TP"]
    best.save(out / _EMBEDDINGS)
    say("5/5  drawing the page")
    seconds = time.monotonic() - began
    finder = embeddings["MoCo-v2+TP"]
    page = _page(out, store, clusters, runs, best, finder, results, seed, seconds)
    say(f"\n{_text_table(results)}\n")
    say(f"done in {(time.monotonic() - began) / 60:.1f} min; open {page}")
    return page


def workbench(
    *folders: str | os.PathLike[str], places: int = 2_000, epochs: float = 8, seed: int = 0
) -> tuple[ChipStore, Embeddings]:
    """Store and embeddings to explore: what `run` left in a folder, else smaller ones made now.

    Args:
        folders: where `run` may have left them (``runs/demo`` after ``make demo``), the first that
            has them is taken; the last is where to make smaller ones when none has.
        places: number of places if they have to be made; 2,000 take about a minute on two cores.
        epochs: of the one pre-training (MoCo-v2+Geo+TP) likewise.
        seed: of everything.

    Raises:
        ValueError: no folder was given.
    """
    if not folders:
        raise ValueError("expected at least one folder, came none; give e.g. 'runs/demo'")
    found = (Path(f) for f in folders if (Path(f) / _EMBEDDINGS).is_file())
    out = next(found, Path(folders[-1]))
    if not (out / "chips" / "store.json").exists():
        scenes = datasets.blue_marble(places=places, dates=4, seed=seed)
        ChipStore.build(out / "chips", scenes, size_px=32)
    store = ChipStore.open(out / "chips")
    kept = out / _EMBEDDINGS
    if not kept.exists():
        training = store.scenes[store.scenes["split"] == "train"]
        count = training["location"].nunique()
        run = pretrain(
            store,
            pairs=pairs.temporal(),
            geo=GeoClusters.fit(training, k=max(2, min(100, count // 20)), seed=seed),
            config=dataclasses.replace(
                PretrainConfig(epochs=epochs), batch_size=min(128, len(training) // 2)
            ),
            output_dir=out / "workbench",
            seed=seed,
        )
        embed(store, run.finish().encoder, progress=True).save(kept)
    return store, Embeddings.load(kept)


_MEASURES: dict[str, Callable[[Embeddings], evaluate.ProbeResult]] = {
    "Koeppen main class": lambda found: evaluate.linear(found, label="label"),
    "Koeppen full class": lambda found: evaluate.linear(found, label="climate"),
    "same place, other date": lambda found: evaluate.same_location(found, split="test"),
}


def _time_left(run: Run, more: int) -> str:
    """Words for what is left, from a few steps of this very run on a copy without a folder."""
    if run.step == run.steps:
        return ", done before"
    trial = pretrain(
        run.store, pairs=pairs.temporal(), config=dataclasses.replace(run.config, log_every=5)
    )
    rates = [log.pairs_per_s for log, _ in zip(trial, range(3), strict=False)]
    step_s = run.config.batch_size / max(rates)
    minutes = step_s * (run.steps - run.step + more * run.steps) / 60
    return f", about {minutes:.1f} min of training left in all"


def _text_table(results: dict[str, pd.DataFrame]) -> str:
    lines = _table(results).rename(columns={"method": ""}).to_string(index=False, justify="right")
    return f"{lines}\naccuracy and recall@1 on held-out blocks, 95 % interval over places"
