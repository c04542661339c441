"""Growth of cost, memory and start-up: 10^3 to 10^6 chips; clusters and pairs up to 10^7 rows.

    python benchmarks/growth.py             about seven minutes on two idle cores, one thread
    python benchmarks/growth.py --small     a small form, to see that it works

Synthetic chips of 16 px, four dates per location. Each size is measured in a new process, so that its
memory is measured too. Writes growth.md, growth.json and growth.png (log-log) to this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import synthetic
import torch
from study import Records, hardware
from torch import Tensor

import geossl
from geossl.train.loader import ChipPrefetcher

HERE = Path(__file__).parent
SIZES = {"chips": (10**3, 10**4, 10**5, 10**6), "rows": (10**3, 10**4, 10**5, 10**6, 10**7)}
SMALL = {"chips": (10**3, 10**4), "rows": (10**3, 10**4)}
REPEATS, BATCH, BATCHES, SIZE_PX = 3, 256, 64, 16
NEIGHBORS = 10  # locations within the radius of spatial pairs; a fixed radius would have more
STORES = {
    "pair_us": "one pair: draw, gather, two views; µs",
    "draw_us": "of which drawing an epoch; µs",
    "gather_us": "gathering only; µs",
    "open_s": "opening the store; s",
    "clusters_s": "100 geo clusters of its locations; s",
    "start_s": "`pretrain()` up to its first step; s",
    "memory_mb": "peak memory above an empty process; MB",
}
TABLES = {
    "fit_s": "100 geo clusters; s",
    "assign_s": "assigning all rows to them; s",
    "temporal_s": "temporal pairs, preparing; s",
    "temporal_draw_s": "temporal pairs, drawing an epoch; s",
    "spatial_s": f"spatial pairs, {NEIGHBORS} locations near each, preparing; s",
    "spatial_draw_s": "spatial pairs, drawing an epoch; s",
    "mixture_draw_s": "a mixture of three samplers, drawing an epoch; s",
    "rows_mb": "peak memory above the table; MB",
}


class Peak:
    """Peak private memory (no mapped files) of this process, in MB above its start.

    Sampled every millisecond; nan on systems without /proc.
    """

    def __enter__(self) -> Peak:
        self._start = self._peak = private_mb()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self._peak = max(self._peak, private_mb())

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self.mb = max(self._peak, private_mb()) - self._start


def private_mb() -> float:
    """Return the memory of this process that maps no file, in MB."""
    try:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text("ascii").split()
    except FileNotFoundError:
        return float("nan")
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE") / 1e6


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a function takes, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def warm_up() -> None:
    """Import and initialize what is needed once per process."""
    table = synthetic.table(1000)
    geossl.GeoClusters.fit(table, k=100)
    geossl.pairs.spatial(radius_km=500).prepare(table)(torch.Generator())
    views(torch.zeros(2, 3, SIZE_PX, SIZE_PX, dtype=torch.uint8), torch.Generator())
    with tempfile.TemporaryDirectory() as folder:
        store = synthetic.store(Path(folder) / "chips", 1000, size_px=SIZE_PX)
        geossl.pretrain(store, pairs=geossl.pairs.temporal())


def views(chips: Tensor, generator: torch.Generator) -> Tensor:
    """Make one view of each chip, as in training."""
    one = torch.ones(chips.shape[1])
    return geossl.transforms.Views()(chips, mean=127 * one, std=74 * one, generator=generator)


def batches(draw: geossl.pairs.Draw) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some batches of rows of queries and keys, epoch after epoch."""
    count, generator = 0, torch.Generator().manual_seed(0)
    while count < BATCHES:
        query, key = draw(generator)
        for start in range(0, len(query) - BATCH + 1, BATCH):
            if count < BATCHES:
                yield query[start : start + BATCH], key[start : start + BATCH]
            count += 1


def measure_chips(rows: int, folder: Path) -> dict[str, float]:
    """Measure the start of a run on a store, and the cost of its pairs."""
    warm_up()
    with Peak() as peak:
        open_s, store = timed(lambda: geossl.ChipStore.open(folder))
        clusters_s, clusters = timed(lambda: geossl.GeoClusters.fit(store.scenes, k=100))
        sampler, config = geossl.pairs.temporal(), geossl.PretrainConfig(device="cpu")
        start_s, _ = timed(
            lambda: geossl.pretrain(store, pairs=sampler, geo=clusters, config=config)
        )
        draw = sampler.prepare(store.scenes)
        draw(torch.Generator())
        draw_s, _ = timed(lambda: draw(torch.Generator()))
        feed, index = (
            ChipPrefetcher(store, torch.device("cpu"), torch.arange(rows)),
            list(batches(draw)),
        )
        gather_s, _ = timed(lambda: [None for _ in feed.batches(index)])
        generator = torch.Generator()
        total_s, _ = timed(
            lambda: [
                None for _, two in feed.batches(index) for c in two if len(views(c, generator))
            ]
        )
    draw_us, pairs = draw_s / rows * 1e6, BATCH * BATCHES
    return {
        "pair_us": total_s / pairs * 1e6 + draw_us, "draw_us": draw_us,
        "gather_us": gather_s / pairs * 1e6, "open_s": open_s, "clusters_s": clusters_s,
        "start_s": start_s, "memory_mb": peak.mb,
    }  # fmt: skip


def measure_rows(rows: int) -> dict[str, float]:
    """Measure clusters and pairs of a table, without pixels."""
    warm_up()
    table, pairs = synthetic.table(rows), geossl.pairs
    share = NEIGHBORS / (rows / synthetic.DATES)  # of the sphere, within the radius of a location
    radius = 2 * geossl.geo.EARTH_RADIUS_KM * np.arcsin(np.sqrt(min(1.0, share)))
    values = {}
    with Peak() as peak:
        values["fit_s"], clusters = timed(lambda: geossl.GeoClusters.fit(table, k=100))
        lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
        values["assign_s"], _ = timed(lambda: clusters.assign(lon, lat))
        near = pairs.spatial(radius_km=radius)
        mixed = pairs.mixture((pairs.temporal(), 2), (near, 1), (pairs.same_image(), 1))
        for name, sampler in (
            ("temporal", pairs.temporal()),
            ("spatial", near),
            ("mixture", mixed),
        ):
            values[f"{name}_s"], draw = timed(lambda p=sampler: p.prepare(table))
            values[f"{name}_draw_s"], _ = timed(lambda d=draw: d(torch.Generator()))
            del draw
    del values["mixture_s"]  # the sum of its parts
    return values | {"rows_mb": peak.mb}


def measure_here(kind: str, rows: int, folder: Path) -> dict[str, float]:
    """Measure one size in this process."""
    return measure_chips(rows, folder) if kind == "chips" else measure_rows(rows)


def measure_in_process(kind: str, rows: int, folder: Path) -> dict[str, float]:
    """Measure one size in a new process."""
    command = [sys.executable, __file__, "--one", kind, str(rows), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def medians(records: Records, names: dict[str, str]) -> pd.DataFrame:
    """Return medians: one row per metric, one column per size."""
    frame = pd.DataFrame(records.rows)
    parts = frame["metric"].str.rsplit("_", n=1, expand=True)
    frame = frame.assign(metric=parts[0], rows=parts[1].astype(float).astype(int))
    wide = frame[frame["metric"].isin(names)].groupby(["metric", "rows"])["value"].median()
    return wide.unstack().reindex(list(names))


def lines(records: Records, names: dict[str, str]) -> str:
    """Render a table of medians, with the factor of the last step of ten."""
    wide = medians(records, names)
    head = [f"10^{np.log10(size):g}" for size in wide.columns]
    rows = [f"| what | {' | '.join(head)} | last step |", "|---" * (len(head) + 2) + "|"]
    for name, values in wide.iterrows():
        last = values.to_numpy()[-2:]
        factor = f"x {last[1] / last[0]:.2g}" if len(last) == 2 and last[0] > 0 else ""
        cells = " | ".join(f"{v:.3g}" for v in values)
        rows.append(f"| {names[str(name)]} | {cells} | {factor} |")
    return "\n".join(rows)


def page(records: Records, repeats: int) -> str:
    """Render the page from the records."""
    return f"""# Growth

Made by `python benchmarks/growth.py` on {hardware()}, one thread. Median of
{repeats} repeats, each in a new process.

![The tables below as log-log curves: a pair costs the same in stores of a thousand and of a million chips; the \
rest grows in proportion to the rows or less, except for random draws among ten million](growth.png)

Chip stores: synthetic chips of {SIZE_PX} px in three bands, {synthetic.DATES} dates per location, locations uniform on the
sphere, files in the system's cache.

{lines(records, STORES)}

Tables without pixels:

{lines(records, TABLES)}

With ten times the rows a pair should cost the same, and the rest at most ten times as much. Geo clusters
cost less: above 200,000 locations k-means is fitted on a sample. Random draws and gathers cost more than
ten times as much once their arrays outgrow the processor's cache. Two costs grow faster than linearly by
nature, and are held fixed here: spatial pairs list the chips of all neighbors, whose number grows with the
locations within a fixed radius (here the radius shrinks so that it holds {NEIGHBORS} locations); temporal pairs
compare any two dates of a location, which grows with the square of the dates per location.
"""


def figure(records: Records, path: Path) -> None:
    """Plot all metrics over the size, on logarithmic axes."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(11, 8), layout="constrained")
    axes = fig.subplots(2, 2).flat
    both = {"memory_mb": "with a chip store", "rows_mb": "tables without pixels"}
    parts = (("A pair, by chips in the store", STORES, "_us", "µs"),
             ("Start, by chips in the store", STORES, "_s", "seconds"),
             ("Clusters and pairs, by rows of the table", TABLES, "_s", "seconds"),
             ("Peak memory", both, "_mb", "MB"))  # fmt: skip
    for ax, (title, names, end, unit) in zip(axes, parts, strict=True):
        for name, values in medians(records, names).iterrows():
            if str(name).endswith(end):
                label = names[str(name)].split(";")[0].replace("`", "")
                ax.loglog(values.dropna(), marker="o", markersize=3, label=label)
        low, high = ax.get_xlim()
        if end != "_us":
            start = ax.get_ylim()[0]
            ax.loglog([low, high], [start, start * high / low], "k:", linewidth=1)
        ax.set(title=title, xlabel="chips or rows", ylabel=unit)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** 0.5)  # room for the legend
        ax.legend(fontsize=8, loc="upper left")
    fig.suptitle("Growth, log-log; dotted: proportional")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Measure every size, and write records, page and figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="run a small form")
    parser.add_argument(
        "--output-dir", type=Path, default=HERE, help="of growth.md and growth.json"
    )
    parser.add_argument("--figure", type=Path, default=HERE / "growth.png")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.one:
        kind, rows, folder = args.one
        print(json.dumps(measure_here(kind, int(rows), Path(folder))))
        return
    records = Records(args.output_dir / "growth.json")
    records.rows = []
    repeats, measure = (1, measure_here) if args.small else (REPEATS, measure_in_process)
    for kind, sizes in (SMALL if args.small else SIZES).items():
        for rows in sizes:
            with tempfile.TemporaryDirectory() as folder:
                if kind == "chips":
                    synthetic.store(Path(folder) / "chips", rows, size_px=SIZE_PX)
                for repeat in range(repeats):
                    result = measure(kind, rows, Path(folder) / "chips")
                    values = {
                        f"{name}_1e{len(str(rows)) - 1}": value for name, value in result.items()
                    }
                    records.add("geossl", repeat, values)
                    print(f"{rows:,} {kind}: {result}", flush=True)
    (args.output_dir / "growth.md").write_text(page(records, repeats), "utf-8")
    figure(records, args.figure)
    print((args.output_dir / "growth.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
