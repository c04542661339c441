"""Render the page of speed.py: targets, stages, threads, and what differs."""

from __future__ import annotations

import pandas as pd
from study import Records, hardware

PEERS = ("lightly", "torchgeo", "paper")
NAMES = {
    "geossl": "geossl",
    "lightly": "lightly, its MoCo-v2 example",
    "torchgeo": "torchgeo, MoCoTask with kornia, Lightning",
    "paper": "the paper's code: PIL, torchvision, DataLoader, DDP",
    "bare": "bare loop, precomputed views",
    "geossl_tuned": "geossl, tuned",
}


class Figures:
    """Records by method and metric: a series over the rounds each."""

    def __init__(self, records: Records):
        frame = pd.DataFrame(records.rows, columns=["method", "metric", "seed", "value"])
        self.table = frame.pivot_table(index="seed", columns=["method", "metric"], values="value")

    def of(self, method: str, metric: str) -> pd.Series:
        """Return the series of a metric; empty if it was not measured."""
        if (method, metric) not in self.table:
            return pd.Series(dtype=float)
        return self.table[method, metric].dropna()

    def cell(self, method: str, metric: str) -> str:
        """Return the median (smallest to largest)."""
        return spread(self.of(method, metric))

    def best_peer(self, metric: str) -> pd.Series:
        """Return the smallest figure of another library, for each round."""
        return pd.concat([self.of(p, metric) for p in PEERS], axis=1).min(axis=1)


def spread(values: pd.Series, digits: int = 2) -> str:
    """Return the median (smallest to largest)."""
    if values.empty:
        return "-"
    low, high = values.min(), values.max()
    if len(values) == 1:
        return f"{low:.{digits}f}"
    return f"{values.median():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def targets(f: Figures) -> list[str]:
    """Return the rows of the table of targets."""
    rows = []

    def target(what: str, limit: float, values: pd.Series, *, most: bool) -> None:
        word = "-"
        if not values.empty:
            met = values.median()
            word = "yes" if (met <= limit if most else met >= limit) else "**no**"
        sign = "at most" if most else "at least"
        rows.append(f"| {what} | {sign} {limit:g} | {spread(values)} | {word} |")

    for view, side, limit in ((64, 64, 0.4), (96, 192, 1.0)):
        ours, theirs = f.of("geossl", f"views_ms_{view}"), f.of("lightly", f"views_ms_{view}")
        target(f"two views of {view} px from a {side} px store, ms", limit, ours, most=True)
        target(f"lightly's two views of {view} px / geossl's", 4.5, theirs / ours, most=False)
    for view, side in ((64, 64), (96, 512)):
        bare, ours = f.of("bare", f"model_ms_{view}"), f.of("geossl", f"model_ms_{view}")
        target(f"model step / bare loop, {view} px", 1.03, ours / bare, most=True)
        total = f.of("geossl", f"pair_ms_{side}")
        outside = 1 - bare / total
        target(f"share of the total outside the bare loop, {view} px", 0.08, outside, most=True)
    small, large = f.of("geossl", "pair_ms_64"), f.of("geossl", "pair_ms_512")
    target("64 px, lightly / geossl", 1.2, f.of("lightly", "pair_ms_64") / small, most=False)
    target("64 px, torchgeo / geossl", 1.05, f.of("torchgeo", "pair_ms_64") / small, most=False)
    target(
        "512 px, the fastest of them / geossl", 1.25, f.best_peer("pair_ms_512") / large, most=False
    )
    for side in (64, 512):
        if f.of("geossl_tuned", f"pair_ms_{side}").empty:
            continue
        tuned = f.of("geossl_tuned", f"pair_ms_{side}")
        best = f.best_peer(f"pair_ms_{side}")
        target(f"{side} px, the fastest of them / geossl_tuned", 1.5, best / tuned, most=False)
    return rows


def stages_table(f: Figures, side: int, view: int) -> str:
    """Render the stages for one size of files."""
    lines = [
        "| method | decode | two views | model step | rest | total | total / geossl |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, name in NAMES.items():
        if (method, f"model_ms_{view}") not in f.table:
            continue
        total = f.of(method, f"pair_ms_{side}")
        cells = [
            f.cell(method, metric)
            for metric in (
                f"decode_ms_{side}", f"views_ms_{view}", f"model_ms_{view}", f"rest_ms_{side}",
            )
        ]  # fmt: skip
        ratio = spread(total / f.of("geossl", f"pair_ms_{side}")) if len(total) else "-"
        lines.append(f"| {name} | {' | '.join(cells)} | {spread(total)} | {ratio} |")
    return "\n".join(lines)


def threads_table(f: Figures) -> str:
    """Render CPU and wall time on two threads."""
    metrics = [f"{kind}_{side}_2t" for side in (64, 512) for kind in ("pair_ms", "pair_wall_ms")]
    lines = ["| method | 64 px, CPU | wall | 512 px, CPU | wall |", "|---|---|---|---|---|"]
    for method, name in NAMES.items():
        if (method, metrics[0]) not in f.table:
            continue
        cells = [f.cell(method, metric) for metric in metrics]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page(records: Records, *, versions: str) -> str:
    """Render the page from the records."""
    f = Figures(records)
    rounds = [len(f.of("bare", metric)) for metric in ("model_ms_64", "pair_ms_64_2t")]
    return f"""# Speed: CPU ms per positive pair, compared with other libraries

Made by `python benchmarks/speed.py` on {hardware()};
{versions}. Median (smallest to largest) of {rounds[0]} rounds ({rounds[1]} with two threads); in a round every method starts in a new process, then
each trains a block of four steps in turn; ratios are taken within the round. ResNet-18 with its usual stem, batch 64, queue 4096,
fp32 and eager, one thread, loaders in the same process; CPU time is that of the process.

| what | target | measured | met |
|---|---|---|---|
{chr(10).join(targets(f))}

## JPEGs of 64 px, views of 64 px, one thread, CPU ms per pair

{stages_table(f, 64, 64)}

## JPEGs of 512 px, views of 96 px, one thread, CPU ms per pair

{stages_table(f, 512, 96)}

## Two threads, and two loader workers for the others

{threads_table(f)}

## What differs

- All use the same 256 JPEGs, cut out of the land of the Blue Marble, quality 90, two per folder. geossl reads
  a chip store that was built from them once: {f.cell("geossl", "store_ms_64")} and
  {f.cell("geossl", "store_ms_512")} ms per image at 64 and 512 px (to 64 and 192 px), not counted above.
- All have torchvision's or timm's ResNet-18.
- geossl's model step is its entire loop except views and reads. The bare loop has geossl's encoder, fused SGD
  and precomputed views.
- Views: all have MoCo-v2's augmentation but torchgeo, which lacks hue and saturation and adds a vertical flip.
  lightly and the paper's code make one image at a time with PIL. torchgeo crops and blurs batches with kornia,
  after its data module has converted the full images to floats. The paper's code reduces 512 px to 192 first.
- The paper's code opens two files per pair (the image and another date of its location), the others one.
- lightly's example has SGD without momentum or weight decay, which is less work than the others' SGD.
- "geossl, tuned" is measured where the processor has AMX: bf16 and channels_last.
- If geossl cost nothing beyond the bare loop's step, lightly would take {spread(f.of("lightly", "pair_ms_64") / f.of("bare", "model_ms_64"))} of its time at 64 px and
  {spread(f.of("lightly", "pair_ms_512") / f.of("bare", "model_ms_96"))} at 512 px; most of that step is oneDNN's convolutions, the same for all.
"""
