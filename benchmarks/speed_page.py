"""The page of speed.py: targets, splits, threads, and what differs."""

from __future__ import annotations

import pandas as pd
from study import Records, hardware

PEERS = ("lightly", "torchgeo", "paper")
NAMES = {
    "geossl": "geossl",
    "lightly": "lightly, its MoCo-v2 example",
    "torchgeo": "torchgeo, MoCoTask with kornia, Lightning",
    "paper": "the paper's way: PIL, torchvision, DataLoader, DDP",
    "bare": "bare loop, views at hand",
    "geossl_tuned": "geossl, all switched on",
}


class Figures:
    """Records by method and metric, each a series over the rounds."""

    def __init__(self, records: Records):
        frame = pd.DataFrame(records.rows, columns=["method", "metric", "seed", "value"])
        self.table = frame.pivot_table(index="seed", columns=["method", "metric"], values="value")

    def of(self, method: str, metric: str) -> pd.Series:
        """Over the rounds; nan where it was not measured."""
        if (method, metric) not in self.table:
            return pd.Series(dtype=float)
        return self.table[method, metric].dropna()

    def cell(self, method: str, metric: str) -> str:
        """Median (smallest to largest)."""
        return spread(self.of(method, metric))

    def best_peer(self, metric: str) -> pd.Series:
        """Of each round the smallest figure of another's pipeline."""
        return pd.concat([self.of(p, metric) for p in PEERS], axis=1).min(axis=1)


def spread(values: pd.Series, digits: int = 2) -> str:
    """Median (smallest to largest)."""
    if values.empty:
        return "-"
    low, high = values.min(), values.max()
    if len(values) == 1:
        return f"{low:.{digits}f}"
    return f"{values.median():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def targets(f: Figures) -> list[str]:
    """Rows of the table of targets: what, target, found, met."""
    rows = []

    def target(what: str, limit: float, found: pd.Series, *, most: bool) -> None:
        word = "-"
        if not found.empty:
            met = found.median()
            word = "yes" if (met <= limit if most else met >= limit) else "**no**"
        sign = "at most" if most else "at least"
        rows.append(f"| {what} | {sign} {limit:g} | {spread(found)} | {word} |")

    for view, side, limit in ((64, 64, 0.4), (96, 192, 1.0)):
        ours, theirs = f.of("geossl", f"views_ms_{view}"), f.of("lightly", f"views_ms_{view}")
        target(f"two views of {view} px from a {side} px store, ms", limit, ours, most=True)
        target(f"lightly's two views of {view} px over ours", 4.5, theirs / ours, most=False)
    for view, side in ((64, 64), (96, 512)):
        bare, ours = f.of("bare", f"model_ms_{view}"), f.of("geossl", f"model_ms_{view}")
        target(f"model step over the bare loop, {view} px", 1.03, ours / bare, most=True)
        whole = f.of("geossl", f"pair_ms_{side}")
        outside = 1 - bare / whole
        target(f"share of the whole beyond the bare loop, {view} px", 0.08, outside, most=True)
    small, large = f.of("geossl", "pair_ms_64"), f.of("geossl", "pair_ms_512")
    target("64 px, lightly over geossl", 1.2, f.of("lightly", "pair_ms_64") / small, most=False)
    target("64 px, torchgeo over geossl", 1.05, f.of("torchgeo", "pair_ms_64") / small, most=False)
    target(
        "512 px, the best of them over geossl", 1.25, f.best_peer("pair_ms_512") / large, most=False
    )
    for side in (64, 512):
        tuned = f.of("geossl_tuned", f"pair_ms_{side}")
        best = f.best_peer(f"pair_ms_{side}")
        target(f"{side} px, the best of them over geossl_tuned", 1.5, best / tuned, most=False)
    return rows


def table_of(f: Figures, side: int, view: int) -> str:
    """Split of one size of files."""
    lines = [
        "| way | decode | two views | model step | rest | whole | whole over geossl's |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, name in NAMES.items():
        whole = f.of(method, f"pair_ms_{side}")
        cells = [
            f.cell(method, metric)
            for metric in (
                f"decode_ms_{side}", f"views_ms_{view}", f"model_ms_{view}", f"rest_ms_{side}",
            )
        ]  # fmt: skip
        ratio = spread(whole / f.of("geossl", f"pair_ms_{side}")) if len(whole) else "-"
        lines.append(f"| {name} | {' | '.join(cells)} | {spread(whole)} | {ratio} |")
    return "\n".join(lines)


def threads_table(f: Figures) -> str:
    """Two threads: CPU and wall."""
    metrics = [f"{kind}_{side}_2t" for side in (64, 512) for kind in ("pair_ms", "pair_wall_ms")]
    lines = ["| way | 64 px, CPU | wall | 512 px, CPU | wall |", "|---|---|---|---|---|"]
    for method, name in NAMES.items():
        cells = [f.cell(method, metric) for metric in metrics]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page(records: Records, *, versions: str) -> str:
    """The page, with what was found."""
    f = Figures(records)
    rounds = [len(f.of("bare", metric)) for metric in ("model_ms_64", "pair_ms_64_2t")]
    return f"""# Speed: CPU ms a positive pair, beside what people use

Made by `python benchmarks/speed.py` on {hardware()};
{versions}. Median (smallest to largest) of {rounds[0]} rounds ({rounds[1]} with two threads); in a round every way starts anew, then
each trains a block of four steps in turn, and ratios are taken within the round. ResNet-18 with its usual stem, batch 64, queue 4096,
fp32 and eager, one thread, loaders in the same process; CPU time is the process's own.

| what | target | found | met |
|---|---|---|---|
{chr(10).join(targets(f))}

## JPEGs of 64 px, views of 64 px, one thread, CPU ms a pair

{table_of(f, 64, 64)}

## JPEGs of 512 px, views of 96 px, one thread, CPU ms a pair

{table_of(f, 512, 96)}

## Two threads, and two workers for the loaders of the others

{threads_table(f)}

## What differs

- The same 256 JPEGs, cut out of the land of the Blue Marble, quality 90, two to a folder. geossl reads a
  chip store that was made of them once: {f.cell("geossl", "store_ms_64")} and
  {f.cell("geossl", "store_ms_512")} ms an image at 64 and 512 px (to 64 and 192 px), not counted above.
- All have torchvision's or timm's ResNet-18. That of geossl computes gradients of layers of up to nine pixels
  as products of matrices and pools with its channels last (`geossl/layers.py`): the same numbers but for
  rounding, in fp32 on a CPU only.
- geossl's model step counts its whole loop but views and reads. The bare loop has geossl's encoder, those
  layers included, SGD in one pass, and views that are there already. It hands the memory of every step back
  to the system, as a loop written by hand does; geossl keeps it (`geossl/memory.py`). Measured apart, on two
  cores of a Xeon: kept, the bare loop took 10.4 ms for 11.5 at 64 px and 22.3 for 27 at 96 px (three
  processes each, in turn); beside that one, in five processes, geossl's step took 0.92 to 1.11 of its time at 64 px, 1.03 in the mean.
- Views: MoCo-v2's augmentation by all but torchgeo, which has no hue and saturation, adds a vertical flip.
  lightly and the paper's way make one image at a time by PIL. torchgeo crops and blurs a batch by kornia,
  after its data module brought the whole images to floats. The paper's way shrinks 512 px to 192 first.
- The paper's way opens two files a pair (the image and another date of its place), the others one.
- lightly's example has SGD without momentum or weight decay, which is less work than the others' SGD.
- `geossl_tuned`: bf16 where the processor has AMX, else fp32; channels_last. `torch.compile` is left out:
  on a Xeon with AMX it took 30 to 50 s to start and gained nothing.
- Were all of geossl free but the bare loop's step, lightly would take {spread(f.of("lightly", "pair_ms_64") / f.of("bare", "model_ms_64"))} of its time at 64 px and
  {spread(f.of("lightly", "pair_ms_512") / f.of("bare", "model_ms_96"))} at 512 px; most of that step are oneDNN's convolutions, the same for all.
"""
