"""The demo: from chips to tests on the embedded world or on photographs, and one page."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pandas as pd

from geossl import datasets, evaluate, pairs
from geossl.cli.demo_page import EXPLORER, Results, few_labels_table, result_table, write_demo_page
from geossl.cli.output import Output, print_line
from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, embed
from geossl.models.weights import load_encoder
from geossl.train.config import PretrainConfig
from geossl.train.pretrain import Run, pretrain
from geossl.transforms import Views
from geossl.viz.widgets import EmbeddingExplorer

__all__ = ["METHODS", "demo", "load_demo", "run_demo"]

METHODS: dict[str, tuple[pairs.PairSampler, bool]] = {  # pairs, and whether the clusters are used
    "MoCo-v2": (pairs.same_image(), False),
    "MoCo-v2+TP": (pairs.temporal(), False),
    "MoCo-v2+Geo+TP": (pairs.temporal(), True),
}
Data = Literal["world", "naip", "landsat"]
_BANDS = {"naip": ("red", "green", "blue", "nir"), "landsat": ("swir1", "nir", "red", "green")}
_EMBEDDINGS = "embeddings.parquet"
_LABELED, _DRAWS = (25, 50, 100, 400, 1_000_000), 4  # numbers of labeled locations; draws of them
_MEASURES: dict[str, Callable[[Embeddings], evaluate.ProbeResult]] = {
    "Koeppen main class": lambda embeddings: evaluate.linear(embeddings, label="label"),
    "Koeppen full class": lambda embeddings: evaluate.linear(embeddings, label="climate"),
    "same place, other date": lambda embeddings: evaluate.same_location(embeddings, split="test"),
}
_MEASURES_WITHOUT_LABELS: dict[str, Callable[[Embeddings], evaluate.ProbeResult]] = {
    "same place, other date": _MEASURES["same place, other date"],
    "same place, each date centered": lambda embeddings: evaluate.same_location(
        embeddings, split="test", center_dates=True
    ),
}


def demo(
    *,
    data: Data = "world",
    output_dir: Output[Path | None] = None,
    places: int = 6_000,
    epochs: float | None = None,
    seed: int = 0,
) -> None:
    """Run everything on the embedded world: about four minutes on an ordinary laptop, no network.

    Args:
        data: the embedded world, whose dates are simulated, or real photographs of one area on
            several dates, which ``geossl fetch naip landsat`` downloads.
        output_dir: folder of everything that the demo writes; the page is index.html. None:
            runs/demo, or runs/demo_naip and so on.
        places: number of locations of the world.
        epochs: epochs of each pre-training. None: 5, and 15 of the photographs.
        seed: seed of everything.
    """
    output_dir = output_dir or Path("runs/demo" if data == "world" else f"runs/demo_{data}")
    run_demo(output_dir, data=data, places=places, epochs=epochs, seed=seed)


def run_demo(
    output_dir: str | os.PathLike[str],
    *,
    data: Data = "world",
    places: int = 6_000,
    epochs: float | None = None,
    seed: int = 0,
    echo: Callable[[object], None] = print_line,
) -> Path:
    """Run the demo; a second call reuses what is there.

    Args:
        output_dir: folder of everything that the demo writes.
        data: "world", or photographs that were fetched into the folder ``data``.
        places: number of locations of the Blue Marble.
        epochs: of each of the three pre-trainings; None: 5, and 15 of the photographs.
        seed: of everything.
        echo: called with each line of progress.

    Returns:
        Path of the page, ``index.html``.

    Raises:
        FileNotFoundError: the photographs are not there.
    """
    output_dir, start = Path(output_dir), time.monotonic()
    labeled = data == "world"
    if labeled:
        echo(f"1/5  chips: {places:,} locations of the world x 4 simulated dates")
        store = _build_store(output_dir / "chips", places=places, seed=seed)
    else:
        echo(f"1/5  chips: photographs in {Path('data', data)}")
        store = _build_photographs(output_dir / "chips", data)
    echo("2/5  geo clusters: k-means on the sphere")
    clusters = _fit_clusters(store, seed=seed)
    clusters.save(output_dir / "clusters.json")
    page = output_dir / "index.html"
    if not page.exists():
        write_demo_page(page, Results(store, clusters), seed=seed)
        echo(f"     the first maps are in {page}; load it again at the end")
    echo(f"3/5  pre-training with {len(METHODS)} methods, the same number of steps each")
    config = _config(store, epochs=(5 if labeled else 15) if epochs is None else epochs)
    runs: dict[str, Run] = {}
    for number, (name, (sampler, with_clusters)) in enumerate(METHODS.items(), 1):
        run = pretrain(
            store,
            pairs=sampler,
            geo=clusters if with_clusters else None,
            config=config,
            output_dir=output_dir / name.lower().replace("+", "_"),
            seed=seed,
        )
        left = _time_left(run, len(METHODS) - number)
        echo(f"     {number} of {len(METHODS)}: {name}, {run.steps} steps, {left}")
        runs[name] = run.finish()
        echo(f"     {name}: {run.summary()}")
    echo("4/5  embedding, and tests on held-out locations")
    embeddings = {"random features": evaluate.random_features(store, seed=seed)}
    embeddings |= {name: embed(store, run.encoder) for name, run in runs.items()}
    embeddings["MoCo-v2+Geo+TP"].save(output_dir / _EMBEDDINGS)
    curves = {name: _measure_few_labels(e) for name, e in embeddings.items()} if labeled else {}
    tables = {
        measure_name: evaluate.compare({name: measure(e) for name, e in embeddings.items()})
        for measure_name, measure in (_MEASURES if labeled else _MEASURES_WITHOUT_LABELS).items()
    }
    echo("5/5  drawing the page")
    seconds = time.monotonic() - start
    results = Results(store, clusters, runs, embeddings, curves, tables, seconds)
    world = embeddings["MoCo-v2+Geo+TP"]
    explorer = EmbeddingExplorer(world, store=store, clusters=clusters, seed=seed)
    explorer.save(output_dir / EXPLORER, title="Explore the demo's embeddings")
    write_demo_page(page, results, seed=seed)
    said = {
        "climate (5 classes), by number of labeled places": few_labels_table(curves),
        "with all there is, 95 % interval over locations": result_table(tables),
    }
    for words, table in said.items():
        if len(table):
            text = table.rename(columns={"method": ""}).to_string(index=False, justify="right")
            echo(f"\n{words}, on held-out blocks\n{text}")
    echo(f"done in {(time.monotonic() - start) / 60:.1f} min; open {page}")
    return page


def load_demo(
    *folders: str | os.PathLike[str], places: int = 2_000, seed: int = 0
) -> tuple[ChipStore, Embeddings]:
    """Load the store and the embeddings of a demo, or make smaller ones with the bundled encoder.

    Args:
        folders: where `run_demo` may have written (``runs/demo`` after ``make demo``); the first
            that has embeddings is used. If none has, smaller ones are made in the last.
        places: number of locations if they have to be made; 2,000 take some seconds.
        seed: of these locations.

    Raises:
        ValueError: no folder was given.
    """
    if not folders:
        raise ValueError("`folders` must name at least one folder, e.g. 'runs/demo'.")
    ready = (Path(folder) for folder in folders if (Path(folder) / _EMBEDDINGS).is_file())
    folder = next(ready, Path(folders[-1]))
    if (folder / "chips" / "store.json").exists():
        store = ChipStore.open(folder / "chips")
    else:
        store = _build_store(folder / "chips", places=places, seed=seed)
    file = folder / _EMBEDDINGS
    if not file.exists():
        embed(store, load_encoder("blue_marble"), progress=True).save(file)
    return store, Embeddings.load(file)


def _measure_few_labels(embeddings: Embeddings) -> pd.DataFrame:
    """Probe the climate with few labels: one image each of some training locations."""
    table = embeddings.scenes
    later = (table["split"] == "train") & table.duplicated("location")
    return evaluate.label_efficiency(
        embeddings,
        locations=_LABELED,
        seeds=range(_DRAWS),
        split=table["split"].mask(later),
        measure=functools.partial(evaluate.linear, l2=1e-2),
    )


def _build_store(path: Path, *, places: int, seed: int) -> ChipStore:
    scenes = datasets.blue_marble(places=places, dates=4, seed=seed)
    return ChipStore.build(path, scenes, size_px=32)


def _build_photographs(path: Path, name: str) -> ChipStore:
    """Cut chips of 64 pixels out of fetched photographs; the eastern third is the test."""
    images = Path("data", name)
    if not images.is_dir():
        raise FileNotFoundError(
            f"`{images}` does not exist. With a network, run `geossl fetch {name}` here first."
        )
    scenes = datasets.geotiff(
        images, chip_px=64, stride_px=32, band_names=_BANDS[name], test_side="east"
    )
    return ChipStore.build(path, scenes, size_px=32)


def _fit_clusters(store: ChipStore, *, seed: int) -> GeoClusters:
    training = store.scenes[store.scenes["split"] == "train"]
    k = min(100, max(2, store.scenes["location"].nunique() // 20))
    return GeoClusters.fit(training, k=k, seed=seed)


def _config(store: ChipStore, *, epochs: float) -> PretrainConfig:
    views = Views(flip=0, dihedral=False)  # all dates show a place the same way up
    config = PretrainConfig(epochs=epochs, transform=views)
    half = int((store.scenes["split"] == "train").sum()) // 2
    return dataclasses.replace(config, batch_size=min(config.batch_size, half))


def _time_left(run: Run, more: int) -> str:
    """Estimate the time left from a few steps of the same run on a copy without a folder."""
    if run.step == run.steps:
        return "done before"
    trial = pretrain(
        run.store, pairs=pairs.temporal(), config=dataclasses.replace(run.config, log_every=5)
    )
    rates = [log.pairs_per_s for log, _ in zip(trial, range(3), strict=False)]
    step_s = run.config.batch_size / max(rates)
    minutes = step_s * (run.steps - run.step + more * run.steps) / 60
    return f"about {minutes:.1f} min of training left in all"
