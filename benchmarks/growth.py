"""How cost, memory and start-up grow: 10^3 to 10^6 chips, clusters and pairs to 10^7 rows.

    python benchmarks/growth.py             some seven minutes on two idle cores, one thread
    python benchmarks/growth.py --small     a shrunk form that proves that it works

Synthetic chips of 16 px, four dates a place. Each size is measured in a process of its own, so that
memory is its own too. Writes growth.md, growth.json and growth.png, log over log, beside itself.
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
NEIGHBOURS = 10  # places within the radius of spatial pairs; a fixed radius would find more of them
STORES = {
    "pair_us": "a pair: drawing, gathering, two views; µs",
    "draw_us": "of which drawing an epoch; µs",
    "gather_us": "gathering alone; µs",
    "open_s": "opening the store; s",
    "clusters_s": "100 geo clusters of its places; s",
    "start_s": "`pretrain()` up to its first step; s",
    "memory_mb": "memory at most, beyond the empty process; MB",
}
TABLES = {
    "fit_s": "100 geo clusters; s",
    "assign_s": "assigning all rows to them; s",
    "temporal_s": "temporal pairs, preparing; s",
    "temporal_draw_s": "temporal pairs, drawing an epoch; s",
    "spatial_s": f"spatial pairs, {NEIGHBOURS} places near each, preparing; s",
    "spatial_draw_s": "spatial pairs, drawing an epoch; s",
    "mixture_draw_s": "a mixture of three policies, drawing an epoch; s",
    "rows_mb": "memory at most, beyond the table; MB",
}


class Peak:
    """The most memory of its own (no mapped files) that this process had, in MB beyond the start.

    Looked at every millisecond; nan where the system has no /proc.
    """

    def __enter__(self) -> Peak:
        self._start = self._most = own_mb()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self._most = max(self._most, own_mb())

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self.mb = max(self._most, own_mb()) - self._start


def own_mb() -> float:
    """Memory of this process that maps no file, in MB."""
    try:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text("ascii").split()
    except FileNotFoundError:
        return float("nan")
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE") / 1e6


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def warm() -> None:
    """Load what is loaded once a process."""
    table = synthetic.table(1000)
    geossl.GeoClusters.fit(table, k=100)
    geossl.pairs.spatial(radius_km=500).prepare(table)(torch.Generator())
    views(torch.zeros(2, 3, SIZE_PX, SIZE_PX, dtype=torch.uint8), torch.Generator())
    with tempfile.TemporaryDirectory() as folder:
        store = synthetic.store(Path(folder) / "chips", 1000, size_px=SIZE_PX)
        geossl.pretrain(store, pairs=geossl.pairs.temporal())


def views(chips: Tensor, generator: torch.Generator) -> Tensor:
    """One view of each chip, as training draws it."""
    one = torch.ones(chips.shape[1])
    return geossl.transforms.Views()(chips, mean=127 * one, std=74 * one, generator=generator)


def batches(draw: geossl.pairs.Draw) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of queries and keys, some batches, epoch after epoch; those of an epoch are cut off."""
    given, generator = 0, torch.Generator().manual_seed(0)
    while given < BATCHES:
        query, key = draw(generator)
        for start in range(0, len(query) - BATCH + 1, BATCH):
            if given < BATCHES:
                yield query[start : start + BATCH], key[start : start + BATCH]
            given += 1


def measure_chips(rows: int, folder: Path) -> dict[str, float]:
    """Start of a run on a store, and the cost of its pairs."""
    warm()
    with Peak() as peak:
        open_s, store = timed(lambda: geossl.ChipStore.open(folder))
        clusters_s, clusters = timed(lambda: geossl.GeoClusters.fit(store.scenes, k=100))
        policy, config = geossl.pairs.temporal(), geossl.PretrainConfig(device="cpu")
        start_s, _ = timed(
            lambda: geossl.pretrain(store, pairs=policy, geo=clusters, config=config)
        )
        draw = policy.prepare(store.scenes)
        draw(torch.Generator())
        draw_s, _ = timed(lambda: draw(torch.Generator()))
        feed, index = (
            ChipPrefetcher(store, torch.device("cpu"), torch.arange(rows)),
            list(batches(draw)),
        )
        gather_s, _ = timed(lambda: [None for _ in feed.batches(index)])
        generator = torch.Generator()
        whole_s, _ = timed(
            lambda: [
                None for _, two in feed.batches(index) for c in two if len(views(c, generator))
            ]
        )
    draw_us, pairs = draw_s / rows * 1e6, BATCH * BATCHES
    return {
        "pair_us": whole_s / pairs * 1e6 + draw_us, "draw_us": draw_us,
        "gather_us": gather_s / pairs * 1e6, "open_s": open_s, "clusters_s": clusters_s,
        "start_s": start_s, "memory_mb": peak.mb,
    }  # fmt: skip


def measure_rows(rows: int) -> dict[str, float]:
    """Clusters and pairs of a table, without pixels."""
    warm()
    table, pairs = synthetic.table(rows), geossl.pairs
    share = NEIGHBOURS / (rows / synthetic.DATES)  # of the sphere, within the radius of a place
    radius = 2 * geossl.geo.EARTH_RADIUS_KM * np.arcsin(np.sqrt(min(1.0, share)))
    found = {}
    with Peak() as peak:
        found["fit_s"], clusters = timed(lambda: geossl.GeoClusters.fit(table, k=100))
        lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
        found["assign_s"], _ = timed(lambda: clusters.assign(lon, lat))
        near = pairs.spatial(radius_km=radius)
        mixed = pairs.mixture((pairs.temporal(), 2), (near, 1), (pairs.same_image(), 1))
        for name, policy in (("temporal", pairs.temporal()), ("spatial", near), ("mixture", mixed)):
            found[f"{name}_s"], draw = timed(lambda p=policy: p.prepare(table))
            found[f"{name}_draw_s"], _ = timed(lambda d=draw: d(torch.Generator()))
            del draw
    del found["mixture_s"]  # the sum of its parts
    return found | {"rows_mb": peak.mb}


def here(kind: str, rows: int, folder: Path) -> dict[str, float]:
    """What `measure_chips` or `measure_rows` finds."""
    return measure_chips(rows, folder) if kind == "chips" else measure_rows(rows)


def in_a_process(kind: str, rows: int, folder: Path) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", kind, str(rows), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def medians(records: Records, names: dict[str, str]) -> pd.DataFrame:
    """One row a metric, a column a size."""
    frame = pd.DataFrame(records.rows)
    parts = frame["metric"].str.rsplit("_", n=1, expand=True)
    frame = frame.assign(metric=parts[0], rows=parts[1].astype(float).astype(int))
    wide = frame[frame["metric"].isin(names)].groupby(["metric", "rows"])["value"].median()
    return wide.unstack().reindex(list(names))


def lines(records: Records, names: dict[str, str]) -> str:
    """A markdown table of medians, with the factor of the last ten-fold."""
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
    """The page, with what was found."""
    return f"""# Growth

Made by `python benchmarks/growth.py` on {hardware()}, one thread. Median of
{repeats} repeats, each in a process of its own.

![The tables below, log over log: a pair costs the same in stores of a thousand and of a million chips, the \
rest grows with the rows or less, but for random draws among ten million](growth.png)

Chip stores: synthetic chips of {SIZE_PX} px in three bands, {synthetic.DATES} dates a place, places uniform on the sphere,
the store in the cache of the system.

{lines(records, STORES)}

Tables without pixels:

{lines(records, TABLES)}

At ten times the rows a pair should cost the same, and the rest ten times as much or less. Geo clusters
cost less: above 200,000 places k-means learns from a sample. What is drawn or gathered at random costs
more than ten times where its arrays outgrow the processor's cache. Two things grow faster than a straight
line by what they are, and are held fixed here: spatial pairs list the chips of all neighbors, whose number
grows with the places within a fixed radius (here the radius shrinks so that it holds {NEIGHBOURS} places); temporal
pairs look at every two dates of a place, which grows with the square of the dates a place.
"""


def figure(records: Records, path: Path) -> None:
    """Log over log, a line a metric."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(11, 8), layout="constrained")
    axes = fig.subplots(2, 2).flat
    both = {"memory_mb": "with a chip store", "rows_mb": "tables without pixels"}
    parts = (("A pair, by chips in the store", STORES, "_us", "µs"),
             ("Start, by chips in the store", STORES, "_s", "seconds"),
             ("Clusters and pairs, by rows of the table", TABLES, "_s", "seconds"),
             ("Memory at most", both, "_mb", "MB"))  # fmt: skip
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
    fig.suptitle("Growth, log over log; dotted: proportional")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Measure every size, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="a shrunk form")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of growth.md and .json")
    parser.add_argument("--figure", type=Path, default=HERE / "growth.png")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.one:
        kind, rows, folder = given.one
        print(json.dumps(here(kind, int(rows), Path(folder))))
        return
    records = Records(given.out / "growth.json")
    records.rows = []
    repeats, measure = (1, here) if given.small else (REPEATS, in_a_process)
    for kind, sizes in (SMALL if given.small else SIZES).items():
        for rows in sizes:
            with tempfile.TemporaryDirectory() as folder:
                if kind == "chips":
                    synthetic.store(Path(folder) / "chips", rows, size_px=SIZE_PX)
                for repeat in range(repeats):
                    found = measure(kind, rows, Path(folder) / "chips")
                    values = {
                        f"{name}_1e{len(str(rows)) - 1}": value for name, value in found.items()
                    }
                    records.add("geossl", repeat, values)
                    print(f"{rows:,} {kind}: {found}", flush=True)
    (given.out / "growth.md").write_text(page(records, repeats), "utf-8")
    figure(records, given.figure)
    print((given.out / "growth.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
