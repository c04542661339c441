"""The steps: each measures a method, and returns the values of its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from encoders import load_encoder
from results import Results
from scene_tables import read_scenes
from settings import METHODS, Settings
from transfer import measure_detection, measure_segmentation

import geossl
from geossl import evaluate
from geossl.data.scenes import rows_of_split
from geossl.evaluate.results import ProbeResult, classification_result
from geossl.evaluate.splits import labeled_rows
from geossl.tasks.finetune import FineTuneConfig, FineTuned, fine_tune
from geossl.transforms import Views
from geossl.utils.device import select_device

Values = dict[str, Any]


def build_chips(settings: Settings, method: str) -> Values:
    """Build the chip store, or resume it."""
    table = read_scenes(settings)
    store = geossl.ChipStore.build(
        settings.folder / "chips", table, size_px=settings.side_px, skip_bad=settings.skip_bad
    )
    split, counts = store.scenes["split"], store.scenes["label"].nunique()
    return {
        "images": len(store),
        "train": int((split == "train").sum()),
        "test": int((split == settings.test_split).sum()),
        "locations": int(store.scenes["location"].nunique()),
        "classes": int(counts),
        "left_out": len(table.attrs.get("skipped", {})) + int(store.info.get("bad_rows", 0)),
    }


def fit_clusters(settings: Settings, method: str) -> Values:
    """Fit the geo clusters to the training locations."""
    table = open_store(settings).scenes
    table = table.iloc[rows_of_split(table, "train").numpy()]
    clusters = geossl.GeoClusters.fit(table, k=settings.k, seed=settings.seed)
    clusters.save(settings.folder / "clusters.json")
    sizes = clusters.sizes
    return {"clusters": clusters.k, "locations": int(sum(sizes)), "smallest": int(min(sizes)),
            "largest": int(max(sizes))}  # fmt: skip


def pretrain(settings: Settings, method: str) -> Values:
    """Train an encoder, or resume it; under torchrun on all devices."""
    sampler, geo, label = METHODS[method]
    store = open_store(settings)
    if geo:
        Results(settings).require("clusters", "all")
    run = geossl.pretrain(
        store,
        pairs=sampler,
        geo=geossl.GeoClusters.load(settings.folder / "clusters.json") if geo else None,
        label="label" if label else None,
        config=pretrain_config(settings, method),
        output_dir=settings.encoders / method,
        seed=settings.seed,
    ).finish()
    values: Values = {"optimizer_steps": run.steps, "loss": float(run.logs["loss"].iloc[-1])}
    if sampler is not None and "tp" in method:
        rows = rows_of_split(store.scenes, "train").numpy()
        report = geossl.pairs.report(sampler, store.scenes.iloc[rows])
        values["self_pairs"] = float(report["degenerate_share"])
    return values | {"seconds": float(run.logs["seconds"].iloc[-1])}


def pretrain_config(settings: Settings, method: str) -> geossl.PretrainConfig:
    """Return the paper's settings of a method, with the changes of the command line."""
    config = geossl.paper_config(
        temporal="tp" in method, encoder=settings.encoder, epochs=settings.epochs,
        batch_size=settings.batch_size, queue_size=settings.queue_size, device=settings.device,
        knn_every=0,  # what is tested on stays unseen
    )  # fmt: skip
    views = dataclasses.replace(config.transform, size_px=settings.view_px)
    return dataclasses.replace(config, transform=views)


def measure_linear(settings: Settings, method: str) -> Values:
    """Embed all images, and train a linear classifier on the frozen embeddings."""
    store = open_store(settings)
    embeddings = geossl.embed(
        store, load_encoder(settings, method, mean=store.mean, std=store.std), size_px=settings.view_px,
        device=select_device(settings.device), progress=True,
    )  # fmt: skip
    embeddings.save(settings.folder / "embeddings" / f"{method}.parquet")
    return values_of(linear_result(settings, embeddings))


def linear_result(settings: Settings, embeddings: geossl.Embeddings) -> ProbeResult:
    """Train a linear classifier by the paper's protocol, and measure it."""
    epochs = settings.linear_epochs
    solver = evaluate.SGD(epochs=epochs, drops=(round(0.6 * epochs), round(0.8 * epochs)))
    return evaluate.linear(
        embeddings, test_split=settings.test_split, solver=solver, device=settings.device,
        seed=settings.seed,
    )  # fmt: skip


def measure_finetuned(settings: Settings, method: str) -> Values:
    """Fine-tune all layers, or resume it."""
    return values_of(finetuned_result(settings, method))


def finetuned_result(settings: Settings, method: str) -> ProbeResult:
    """Fine-tune all layers, and measure the test images at the size of the views."""
    store = open_store(settings)
    views = Views(
        size_px=settings.view_px,
        crop=(0.2, 1.0),
        redraw=True,
        antialias=True,
        dihedral=False,
        jitter=0,
    )
    config = FineTuneConfig(
        epochs=settings.finetune_epochs, transform=views, device=settings.device
    )
    tuned = fine_tune(
        store, load_encoder(settings, method, mean=store.mean, std=store.std), test_split=settings.test_split, config=config,
        output_dir=settings.folder / "finetuned" / method, seed=settings.seed, progress=True,
    )  # fmt: skip
    return _measure_at_view_size(settings, store, tuned)


def _measure_at_view_size(
    settings: Settings, store: geossl.ChipStore, tuned: FineTuned
) -> ProbeResult:
    """Measure a fine-tuned encoder on test images of `view_px`; fine_tune takes entire chips."""
    rows = labeled_rows(
        store.scenes, "label", split="column", test_split=settings.test_split, block_deg=10.0,
        seed=settings.seed,
    )  # fmt: skip
    embeddings = geossl.embed(store, tuned.encoder, index=rows.test, size_px=settings.view_px)
    x = embeddings.tensor().to(tuned.head.weight.device)
    probabilities = tuned.head(x).softmax(1).detach().cpu().numpy()
    return classification_result(
        tuned.result.metric, rows, rows.probabilities(probabilities), {}, seed=settings.seed
    )


def measure_temporal(settings: Settings, method: str) -> Values:
    """Classify locations by all their dates, with the linear and the fine-tuned classifier."""
    for step in ("linear", "finetune"):
        Results(settings).require(step, method)
    path = settings.folder / "embeddings" / f"{method}.parquet"
    results = {
        "linear": linear_result(settings, geossl.Embeddings.load(path)),
        "finetuned": finetuned_result(settings, method),  # trained before: only measured
    }
    values: Values = {}
    for name, result in results.items():
        merged = evaluate.temporal(result, seed=settings.seed)
        values |= {f"{name}_{key}": value for key, value in values_of(merged).items()}
        values["images_per_location"] = merged.more["images per location"]
    return values


def values_of(result: ProbeResult) -> Values:
    """Return the values of a classifier's result, as shares of 1."""
    return {
        "top1": float(result.value), "low": float(result.low), "high": float(result.high),
        "f1": float(result.per_class["f1"].mean()), "n_test": int(result.n_test),
    }  # fmt: skip


def open_store(settings: Settings) -> geossl.ChipStore:
    """Open the chips that the step chips has built."""
    Results(settings).require("chips", "all")
    return geossl.ChipStore.open(settings.folder / "chips")


WORK: dict[str, Callable[[Settings, str], Values]] = {
    "chips": build_chips,
    "clusters": fit_clusters,
    "pretrain": pretrain,
    "linear": measure_linear,
    "finetune": measure_finetuned,
    "temporal": measure_temporal,
    "detect": measure_detection,
    "segment": measure_segmentation,
}
