"""The page that the demo writes; its words are in ``demo_page.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from geossl import evaluate, pairs
from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings
from geossl.train.pretrain import Run
from geossl.utils.io import atomic_write
from geossl.viz import maps, plots, report

__all__ = ["Results", "few_labels_table", "result_table", "write_demo_page"]

_RETRIEVALS = 3  # correct ones, and wrong ones
_SAMPLERS: dict[str, pairs.PairSampler] = {
    "same image": pairs.same_image(),
    "temporal": pairs.temporal(),
}
_SAMPLERS_OF_THE_WORLD = _SAMPLERS | {
    "temporal, same season": pairs.temporal(season="same", single_date="drop"),
    "spatial, 150 km": pairs.spatial(radius_km=150),
}


EXPLORER = "explorer.html"  # beside the page


@dataclass(frozen=True)
class Results:
    """What the demo computed.

    Attributes:
        store: the chips.
        clusters: of the training locations.
        runs: by the name of the method; none before they are trained.
        embeddings: likewise, with those of an untrained encoder.
        curves: of `geossl.evaluate.label_efficiency`, by the name of the method; none for
            photographs, which have no labels.
        tables: of `geossl.evaluate.compare`, by the name of the measure.
        seconds: that it took.
    """

    store: ChipStore
    clusters: GeoClusters
    runs: Mapping[str, Run] = field(default_factory=dict)
    embeddings: Mapping[str, Embeddings] = field(default_factory=dict)
    curves: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    seconds: float = 0.0


def result_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a row per method and a column per measure, with value and interval as text."""
    columns = {
        measure: [f"{row.value:.3f} ({row.low:.3f}-{row.high:.3f})" for row in table.itertuples()]
        for measure, table in tables.items()
    }
    return pd.DataFrame({"method": next(iter(tables.values()))["method"], **columns})


def few_labels_table(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a row per method and a column per number of labeled locations, means over draws."""
    rows = []
    for method, curve in curves.items():
        means = curve.groupby("share")[["locations", "value"]].mean()
        values = {f"{row.locations:,.0f} labels": f"{row.value:.3f}" for row in means.itertuples()}
        rows.append({"method": method} | values)
    return pd.DataFrame(rows)


def _labels_saved(curves: Mapping[str, pd.DataFrame]) -> str:
    """Say how many labels plain contrastive learning needs for what the best has with few."""
    best, plain = curves["MoCo-v2+Geo+TP"], curves["MoCo-v2"]
    at = best.groupby("share")[["locations", "value"]].mean().iloc[1]
    needed = evaluate.labels_needed(plain, at["value"])
    more = f"does not reach with all {plain['locations'].max():,}"
    if np.isfinite(needed):
        more = f"reaches with {needed:,.0f}"
    return (
        f"what MoCo-v2+Geo+TP reaches with {at['locations']:.0f} labeled locations, MoCo-v2 {more}"
    )


def write_demo_page(page: Path, results: Results, *, seed: int) -> None:
    """Write the page; before training, what needs none of it.

    Args:
        page: path of the page; the picture of the world is written next to it.
        results: what the page shows.
        seed: of the pairs and retrievals that are shown.
    """
    store, clusters, table = results.store, results.clusters, results.store.scenes
    labeled = table["label"].notna().any()
    samplers = _SAMPLERS_OF_THE_WORLD if labeled else _SAMPLERS
    drawings: dict[str, Any] = {
        "map by split": maps.map_scenes(table, color="split", store=None if labeled else store),
        "map of clusters": maps.map_clusters(clusters, table, store=store),
        "pairs": plots.plot_pairs(store, _example_pairs(table, samplers, seed)),
        "pair statistics": _pair_statistics(table, samplers),
    }
    values: dict[str, Any] = {
        "locations": table["location"].nunique(),
        "tested": table.loc[table["split"] == "test", "location"].nunique(),
        "chips": len(table),
        "dates": table["time"].nunique(),
        "first": table["time"].min(),
        "last": table["time"].max(),
        "size_px": store.size_px,
        "k": clusters.k,
    }
    if labeled:
        drawings["map by climate"] = maps.map_scenes(table)
        drawings["purity"] = clusters.purity(table).rename(
            columns={"size": "locations", "label": "most frequent", "entropy_bits": "entropy"}
        )
    stages = ["data"]
    if results.runs:
        stages.append("training")
        drawings["explorer"] = EXPLORER
        _add_training(drawings, values, results, seed)
        if labeled:
            with atomic_write(page.with_name("world.png")) as part:
                world = results.embeddings["MoCo-v2+Geo+TP"]
                part.write_bytes(plots.figure_png(plots.plot_world(world)))
    words = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    sections = [
        report.Section(
            section["title"],
            section["words"].format(**values),
            [_block(drawings, values, **b) for b in section["blocks"] if b["name"] in drawings],
        )
        for section in words["sections"]
        if section["stage"] in stages and section.get("labeled", labeled) == labeled
    ]
    frame = words["world" if labeled else "photographs"]
    lead = words["lead"][stages[-1]].format(**values)
    report.write_page(page, title=frame["title"], lead=lead, sections=sections, foot=frame["foot"])


def _add_training(
    drawings: dict[str, Any], values: dict[str, Any], results: Results, seed: int
) -> None:
    """Add what training led to."""
    store, finder = results.store, results.embeddings["MoCo-v2+TP"]
    logs = {name: run.logs for name, run in results.runs.items()}
    correct, wrong = _retrieval_rows(finder, seed)
    drawings |= {
        "map of embeddings": maps.map_embeddings(results.embeddings["MoCo-v2+Geo+TP"]),
        "losses": plots.plot_losses(logs),
        "results": result_table(results.tables),
        "retrievals": plots.plot_retrievals(
            store,
            finder,
            np.concatenate([correct, wrong]),
            among=(store.scenes["split"] == "test").to_numpy(bool),
        ),
        **{measure: plots.plot_results(scores) for measure, scores in results.tables.items()},
    }
    values |= {
        "minutes": results.seconds / 60,
        "ranks": "; ".join(
            f"{name}: effective rank {log['effective_rank'].iloc[-1]:.0f}"
            for name, log in logs.items()
        ),
        "figures": {
            measure: ", ".join(f"{row.method} {row.value:.3f}" for row in scores.itertuples())
            for measure, scores in results.tables.items()
        },
        "correct": len(correct),
        "wrong": len(wrong),
    }
    if results.curves:
        drawings["few labels"] = plots.plot_label_efficiency(results.curves)
        drawings["few labels table"] = few_labels_table(results.curves)
        values["saved"] = _labels_saved(results.curves)


def _block(
    drawings: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    name: str,
    alt: str = "",
    caption: str = "",
    long: bool = False,
) -> str:
    drawing, alt, caption = drawings[name], alt.format(**values), caption.format(**values)
    if isinstance(drawing, str):
        return report.link_block(drawing, alt, caption=caption)
    if isinstance(drawing, pd.DataFrame):
        return report.table_block(drawing, caption=caption, long=long)
    if name.startswith("map "):
        return report.map_block(drawing, alt=alt, caption=caption)
    return report.figure_block(plots.figure_png(drawing), alt=alt, caption=caption)


def _example_pairs(
    table: pd.DataFrame, samplers: Mapping[str, pairs.PairSampler], seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    examples = {}
    for name, sampler in samplers.items():
        query, key = sampler.prepare(table)(torch.Generator().manual_seed(seed))
        examples[name] = (query[:6].numpy(), key[:6].numpy())
    return examples


def _pair_statistics(
    table: pd.DataFrame, samplers: Mapping[str, pairs.PairSampler]
) -> pd.DataFrame:
    rows = []
    for name, sampler in samplers.items():
        statistics = pairs.report(sampler, table)
        rows.append(
            {
                "pairs of": name,
                "pairs": f"{statistics['n_pairs']:,}",
                "self-pairs": f"{statistics['degenerate_share']:.1%}",
                "median gap (days)": f"{statistics['gap_days_median']:.0f}",
                "median distance (km)": f"{statistics['distance_km_median']:.0f}",
            }
        )
    return pd.DataFrame(rows).replace("nan", "–")


def _retrieval_rows(embeddings: Embeddings, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random rows of queries whose location is retrieved, and of others."""
    queries = evaluate.same_location(embeddings, split="test").predictions
    queries = queries.sample(frac=1, random_state=seed)
    correct, wrong = (queries["row"][queries["hit"] == hit].to_numpy() for hit in (True, False))
    return correct[:_RETRIEVALS], wrong[:_RETRIEVALS]
