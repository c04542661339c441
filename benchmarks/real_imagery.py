"""Real imagery from folder to result: NAIP and Landsat, the same location at another date.

    geossl fetch naip landsat     real GeoTIFFs, public domain, 33 MB
    make real                     an hour and a half on two cores; resumes

Pre-trains on the western two thirds and retrieves each location of the eastern third, whose first date is
the query, among the last dates of all: on the same pixels, and with the gallery shifted. Compared with
random features and HOG. Writes real_imagery.md and real_imagery.json to this folder (the embedding with
its cells is the recipe; "mean" in a metric is the embedding alone).
The recipe was chosen on a strip of the western two thirds (see the page), never on the eastern third.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from study import METHODS, Records, hardware, run_jobs

import geossl
from geossl import datasets, evaluate
from geossl.transforms import Views

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "data"
FETCHED = HERE.parent / "data"
FOLDER = HERE.parent / "runs" / "real"
SEEDS = (0, 1, 2)
LEARNED = ("moco", "moco+tp")
PX, MARGIN, STRIDE, SHIFTS = 64, 16, 32, (0, 4, 8, 16)
HEAD = (
    f"| | aligned | {' | '.join(f'{s} px' for s in SHIFTS[1:])} |\n{'|---' * (1 + len(SHIFTS))}|\n"
)
GRIDS = {"mean": (1,), "cells": (1, 2)}  # the embedding alone, and with those of its four quarters
VIEWS = Views(
    size_px=48, crop=(0.6, 1.0), flip=0, dihedral=False, brightness=0.4, contrast=0.4,
    band_gain=0.1, band_offset=0.2,
)  # fmt: skip
TEMPERATURE = 0.1
AREAS = {  # folder, band names, queue, epochs
    "naip": ("naip_north_dakota", ("red", "green", "blue", "nir"), 2048, 120),
    "landsat": ("landsat_pucallpa", ("swir1", "nir", "red", "green"), 512, 300),
}


def images(area: str) -> Path:
    """Return the folder of an area's images."""
    shared = SHARED / AREAS[area][0]
    return shared if shared.is_dir() else FETCHED / area


def build(area: str, size_px: int) -> geossl.ChipStore:
    """Build the chip store of an area, split into west and east; locations present at every date."""
    scenes = datasets.geotiff(
        images(area), chip_px=size_px, stride_px=STRIDE, band_names=AREAS[area][1], test_side="east"
    )
    complete = scenes.groupby("location")["time"].transform("nunique")
    scenes = scenes[complete == scenes["time"].nunique()].reset_index(drop=True)
    folder = FOLDER / area / f"chips-{size_px}"
    return geossl.ChipStore.build(folder, scenes, size_px=size_px, progress=False)


def cut(wide: geossl.ChipStore, rows: np.ndarray, down: int, right: int) -> geossl.ChipStore:
    """Cut chips out of wider ones, so many pixels below and to the right of their centers."""
    y, x = slice(MARGIN + down, MARGIN + down + PX), slice(MARGIN + right, MARGIN + right + PX)
    chips = np.ascontiguousarray(wide.chips[rows][:, :, y, x])
    return dataclasses.replace(
        wide, chips=chips, scenes=wide.scenes.iloc[rows].reset_index(drop=True)
    )


def apart(embeddings: geossl.Embeddings) -> list[geossl.Embeddings]:
    """Divide tiles that overlap into up to four sets of tiles that do not."""
    place = embeddings.scenes[["row", "column"]] % PX
    return [
        embeddings.subset(index.to_numpy())
        for _, index in place.groupby(["row", "column"]).groups.items()
    ]


def retrieve(
    embed: Callable[[geossl.ChipStore], geossl.Embeddings], wide: geossl.ChipStore, rows: np.ndarray
) -> dict[str, float]:
    """Retrieve first dates among last dates that are shifted in four directions; means over them."""
    queries = embed(cut(wide, rows, 0, 0))
    table = queries.scenes
    first = (table["time"] == table.groupby("location")["time"].transform("min")).to_numpy()
    values = {}
    for shift in SHIFTS:
        corners = {(a * shift, b * shift) for a in (-1, 1) for b in (-1, 1)}
        found = []
        for down, right in sorted(corners):
            gallery = embed(cut(wide, rows, down, right)).vectors
            both = geossl.Embeddings(np.where(first[:, None], queries.vectors, gallery), table)
            found += [
                [
                    evaluate.same_location(part, center_dates=center).value
                    for center in (False, True)
                ]
                for part in apart(both)
            ]
        plain, centered = np.mean(found, axis=0)
        values[f"recall_at_1_shift_{shift}"] = plain
        values[f"recall_at_1_centered_shift_{shift}"] = centered
    return values


def embed_cells(
    store: geossl.ChipStore, encoder: geossl.Encoder, grids: tuple[int, ...]
) -> geossl.Embeddings:
    """Embed chips and their cells, for each grid of so many cells a side, one after the other."""
    parts = [geossl.embed(store, encoder, grid=grid).vectors for grid in grids]
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    return geossl.Embeddings(np.concatenate(unit, axis=1), store.scenes)


def measure(job: str, seed: int) -> dict[str, float]:
    """Pre-train in an area with a method and a seed, and measure in its east."""
    area, method = job.split(": ")
    _, _, queue, epochs = AREAS[area]
    store, wide = build(area, PX), build(area, PX + 2 * MARGIN)
    rows = np.flatnonzero(wide.scenes["split"] == "test")
    if method == "hog":
        return {f"hog_{name}": value for name, value in retrieve(evaluate.hog, wide, rows).items()}
    if method == "random":
        encoder = geossl.models.build_encoder(
            "small", bands=len(store.bands), mean=store.mean, std=store.std, seed=seed
        )
    else:
        pairs = METHODS[method][0]
        config = geossl.PretrainConfig(
            encoder="small", transform=VIEWS, temperature=TEMPERATURE, queue_size=queue, epochs=epochs, optimizer="sgd",
            lr=0.06, knn_every=0,
        )  # fmt: skip
        encoder = (
            geossl.pretrain(
                store,
                pairs=pairs,
                config=config,
                output_dir=FOLDER / area / f"{method}-{seed}",
                seed=seed,
            )
            .finish(progress=False)
            .encoder
        )
    values = {}
    for kind, grids in GRIDS.items():
        found = retrieve(lambda part, grids=grids: embed_cells(part, encoder, grids), wide, rows)
        values |= {f"{kind}_{name}": value for name, value in found.items()}
    return values


def describe(area: str) -> str:
    """Say how many locations there are to train on and to test."""
    table, wide = (build(area, px).scenes for px in (PX, PX + 2 * MARGIN))
    tested = wide[wide["split"] == "test"].drop_duplicates("location")
    sets = (tested[["row", "column"]] % PX).value_counts()
    return (
        f"- {area}: {table.loc[table['split'] == 'train', 'location'].nunique()} overlapping locations to "
        f"train on, {len(tested)} to test, in {len(sets)} sets of {sets.min()} to {sets.max()} that do not "
        f"overlap; {table['time'].nunique()} dates ({table['time'].min():%Y} to {table['time'].max():%Y})"
    )


def compare_with_hog(rows: pd.DataFrame, area: str) -> str:
    """Say how far +TP is above HOG in an area, each date centered, for each shift."""
    value = rows[rows["area"] == area].groupby(["method", "metric"])["value"].mean()
    lines = []
    for kind in GRIDS:
        cells = []
        for shift in SHIFTS:
            name = f"recall_at_1_centered_shift_{shift}"
            gain = value["moco+tp", f"{kind}_{name}"] - value["hog", f"hog_{name}"]
            cells.append(f"{gain:+.3f}")
        lines.append(f"| {area}, {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(records: Records) -> str:
    """Render the page from the records."""
    rows = pd.DataFrame(records.rows)
    rows[["area", "method"]] = rows["method"].str.split(": ", expand=True).to_numpy()
    parts = [
        f"## +TP less HOG, each date centered\n\n{HEAD}"
        + "\n".join(compare_with_hog(rows, area) for area in AREAS)
        + "\n\nHOG, which learns nothing, stays ahead where both dates lie on the same pixels, and falls behind "
        "from 8 px on.\nTo tell a place from a pixel layout, shift one of the dates."
    ]
    for area in AREAS:
        for what, words in (
            ("recall_at_1_centered", "each date centered"),
            ("recall_at_1", "as it is"),
        ):
            lines = []
            for kind in ("hog", "cells", "mean"):
                of_kind = rows[(rows["area"] == area) & rows["metric"].str.startswith(f"{kind}_")]
                for method in ("hog",) if kind == "hog" else ("random", *LEARNED):
                    cells = []
                    for shift in SHIFTS:
                        chosen = of_kind["metric"] == f"{kind}_{what}_shift_{shift}"
                        values = of_kind["value"][chosen & (of_kind["method"] == method)]
                        spread = f" ± {values.std():.3f}" if len(values) > 1 else ""
                        cells.append(f"{values.mean():.3f}{spread}")
                    name = method if kind == "hog" else f"{method}, {kind}"
                    lines.append(f"| {name} | " + " | ".join(cells) + " |")
            parts.append(f"## {area}, {words}\n\n{HEAD}" + "\n".join(lines))
    return f"""# Real imagery: the same location at another date

Made by `make real` (`geossl fetch naip landsat` downloads the images) on {hardware()}.

Chips of {PX} px at stride {STRIDE} from real GeoTIFFs, pre-training on the western two thirds. A query is a
location of the eastern third at its first date; the gallery holds those locations at the last date that do
not overlap. In the first column both dates show a location on the same pixels, which is what satellites
rarely give and HOG lives on; in the others the gallery is shifted by so many pixels down or up *and* right or left (the
mean of four directions). *Each date centered*: the mean vector of each date is subtracted first.
*Cells*: the embedding beside those of its four quarters, `geossl.embed(..., grid=2)`; *mean*: the
embedding alone. Recall@1, mean ± standard deviation over {len(SEEDS)} seeds; HOG has none.

{chr(10).join(describe(area) for area in AREAS)}

{(chr(10) * 2).join(parts)}

## The recipe

The small encoder, SGD 0.06, batch 128, temperature {TEMPERATURE:g}, one batch norm over the batch,
views of {VIEWS.size_px} px from crops of {VIEWS.crop[0]:g} to {VIEWS.crop[1]:g} of the area without flips, brightness {VIEWS.brightness:g}, contrast
{VIEWS.contrast:g}, per band gain {VIEWS.band_gain:g} and offset {VIEWS.band_offset:g}; no geo clusters, an area of some km has no regions;
NAIP: queue {AREAS["naip"][2]}, {AREAS["naip"][3]} epochs, Landsat: queue {AREAS["landsat"][2]}, {AREAS["landsat"][3]} epochs.

How it was chosen: NAIP, +TP, seed 0, trained on the western two thirds of the western part and measured on
its eastern strip, centered; aligned, then shifted by 4, 8 and 16 px:

| | aligned | 4 px | 8 px | 16 px |
|---|---|---|---|---|
| HOG | .98 | .91 | .43 | .11 |
| untrained, a grid of 4 x 4 cells | .48 | .45 | .32 | .12 |
| 40 epochs, crops from .6 of the area, mean | .838 | .794 | .595 | .266 |
| the same, cells | .904 | .852 | .673 | .232 |
| 40 epochs, crops from .3 of the area, cells | .875 | .821 | .659 | .236 |
| 120 epochs, crops from .6, mean | .958 | .894 | .700 | .366 |
| the same, cells: **chosen** | .975 | .936 | .730 | .264 |
| the same, cells and a grid of 4 x 4 | .975 | .939 | .705 | .220 |

So most of it is training for longer, which every column shows; the quarters give a last .02 to .04 where
dates are aligned, and cost where they are far from it. Earlier rounds, with the mean: no mirror flips (.44 against
.39; both dates show a location the same way up), one batch norm in place of four splits (.39 against .27), temperature .1
(.73 against .70); weaker or stronger colors and training tiles at stride 16 did not help. Tried afterwards, on the strip, and left
out: whitening the cells by the spread within locations (.992 .941 .742 .248), and batch norm with the statistics of each
date (.975 .936 .751 .265).

On the strip +TP was equal to HOG where dates are aligned, and in the east it is not. The strip has sets of 20 to 30
locations and lies beside the training tiles; the east has 30 to 40 and lies apart, where less of what was learned holds.
NAIP has {build("naip", PX).scenes.query("split == 'train'")["location"].nunique()} training locations, which overlap. Whether more land closes the gap is not measured.
"""


def rename(row: dict) -> dict:
    """Name a record for readers: method "moco+tp", metric "naip_recall_at_1_centered_shift_4"."""
    area, method = row["method"].split(": ")
    kind, name = row["metric"].removesuffix("_shift_0").split("_", 1)
    return {**row, "method": method, "metric": f"{area}_{'mean_' * (kind == 'mean')}{name}"}


def main() -> None:
    """Build the stores, run the jobs and write the page."""
    for area in AREAS:
        if not images(area).is_dir():
            raise SystemExit(
                f"This study needs real imagery in {images(area)}; no such folder. Run: "
                f"geossl fetch {' '.join(AREAS)}"
            )
        for px in (PX, PX + 2 * MARGIN):
            build(area, px)
    jobs = [(f"{area}: hog", 0) for area in AREAS]
    for methods in (("random",), LEARNED):
        jobs += [(f"{a}: {m}", s) for s in SEEDS for a in AREAS for m in methods]
    records = run_jobs(jobs, measure, FOLDER, HERE / "real_imagery.json")
    if "--part" not in sys.argv:
        (HERE / "real_imagery.md").write_text(page(records), "utf-8")
        print((HERE / "real_imagery.md").read_text("utf-8"))
        records.rows = [rename(row) for row in records.rows]
        records.write()


if __name__ == "__main__":
    main()
