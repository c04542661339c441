"""Check whether a hot function became slower, relative to a matrix product on the same machine.

    make bench-quick                          under a minute; compares with quick.json
    python benchmarks/quick.py --write        writes the results to quick.json instead

A figure is CPU time on one thread over that of a product of two 1024 x 1024 float32 matrices, measured
in turn, so that runs on different machines compare roughly: processors differ in the balance of
arithmetic and memory. Ratios below ``NOTABLE`` are not reported.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from study import Records, hardware

import geossl
from geossl import datasets, losses, models
from geossl.evaluate import metrics
from geossl.transforms import Views, moco_v2

PATH = Path(__file__).with_name("quick.json")
REPEATS, SECONDS = 7, 0.05  # of a repeat of one function, about
NOTABLE = 1.5  # ratio to the stored figure that is reported


def hot_functions(folder: Path) -> dict[str, Callable[[], object]]:
    """Return the hot functions, each on data of a typical size."""
    g = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    mean, std = torch.full((3,), 100.0), torch.full((3,), 50.0)
    store = geossl.ChipStore.build(
        folder, datasets.blue_marble(places=512, dates=4), size_px=32, progress=False
    )
    chips = {
        side: torch.randint(0, 256, (64, 3, side, side), dtype=torch.uint8, generator=g)
        for side in (32, 64, 192)
    }

    def views(side: int, settings: Views) -> Callable[[], object]:
        return lambda: settings(chips[side], mean=mean, std=std, generator=g)

    query, key = torch.randn(2, 128, 128, generator=g)
    queue = F.normalize(torch.randn(4096, 128, generator=g), dim=1)
    location, queue_location = torch.arange(128), torch.arange(4096)
    guess, cluster = torch.randn(128, 100, generator=g), torch.arange(128) % 100

    def contrast() -> None:
        mask = losses.same_location(location, queue_location)
        losses.info_nce(query.requires_grad_(), key, queue, mask=mask).backward()

    scenes = pd.DataFrame({
        "location": np.arange(100_000) // 4,
        "time": pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(np.arange(100_000), "D"),
        "lon": rng.uniform(-180, 180, 25_000).repeat(4),
        "lat": rng.uniform(-80, 80, 25_000).repeat(4),
    })  # fmt: skip
    clusters = geossl.GeoClusters.fit(scenes[:4_000], k=100)
    temporal = geossl.pairs.temporal().prepare(scenes)
    spatial = geossl.pairs.spatial(radius_km=200).prepare(scenes[:4_000])
    vectors, codes = torch.randn(4096, 256, generator=g), torch.arange(4096) % 10
    rows = torch.randint(0, len(store), (512,), generator=g)
    encoder = models.build_encoder("small")
    config = geossl.PretrainConfig(
        encoder="small", epochs=10_000, knn_every=0, log_every=2, split=None, precision="fp32"
    )
    run = iter(geossl.pretrain(store, pairs=geossl.pairs.temporal(), config=config))
    return {
        "views of 32 px, default, 64 chips": views(32, Views()),
        "views of 64 px, moco_v2, 64 chips": views(64, moco_v2(64)),
        "views of 96 px out of 192, moco_v2, 64 chips": views(192, moco_v2(96)),
        "InfoNCE and its gradient, 128 pairs, queue 4,096": contrast,
        "geo cross-entropy and its gradient, 128 x 100": lambda: losses.geo_cross_entropy(
            guess.requires_grad_(), cluster
        ).backward(),
        "geo clusters assigned, 100,000 positions, k 100": lambda: clusters.assign(
            scenes["lon"], scenes["lat"]
        ),
        "temporal pairs drawn, 100,000 chips": lambda: temporal(g),
        "spatial pairs drawn, 4,000 chips": lambda: spatial(g),
        "512 chips of 32 px gathered": lambda: store.gather(rows),
        "kNN votes, 1,024 of 4,096 x 256": lambda: metrics.knn_votes(
            vectors, codes, vectors[:1024]
        ),
        "ranks, 1,024 of 4,096 x 256": lambda: metrics.ranks(
            vectors[:1024], vectors, codes[:1024], codes
        ),
        "512 chips of 32 px embedded, small encoder": lambda: geossl.embed(
            store, encoder, index=rows
        ),
        "two training steps, small encoder, batch 128, fp32": lambda: next(run),
    }


def cpu_ms(function: Callable[[], object], calls: int) -> float:
    """Return the CPU milliseconds of a call, the mean over ``calls``."""
    began = time.process_time()
    for _ in range(calls):
        function()
    return (time.process_time() - began) / calls * 1e3


def main() -> None:
    """Measure, and compare with the stored figures or write them."""
    torch.set_num_threads(1)
    records = Records(PATH)
    stored = pd.DataFrame(records.rows, columns=["method", "metric", "seed", "value"])
    stored = stored.groupby("metric")["value"].median()
    a, b = torch.randn(2, 1024, 1024)
    with tempfile.TemporaryDirectory() as folder:
        hot = hot_functions(Path(folder) / "chips")
        calls = {}
        for name, function in {"": lambda: a @ b, **hot}.items():
            function()  # the first call allocates
            calls[name] = max(1, round(SECONDS * 1e3 / max(cpu_ms(function, 1), 1e-3)))
        ratios: dict[str, list[float]] = {name: [] for name in hot}
        for _ in range(REPEATS):
            for name, function in hot.items():
                unit = cpu_ms(lambda: a @ b, calls[""])
                ratios[name].append(cpu_ms(function, calls[name]) / unit)
    print(f"{hardware()}; CPU time over a 1024 x 1024 float32 matrix product, one thread\n")
    changed = []
    for name, values in ratios.items():
        value, before = float(np.median(values)), stored.get(name, np.nan)
        print(f"{value:9.3f}  stored {before:9.3f}  {value / before:5.2f} x  {name}")
        if not 1 / NOTABLE <= value / before <= NOTABLE:
            changed.append(name)
    if "--write" in sys.argv:
        records.rows = [
            {"method": "geossl", "metric": name, "seed": repeat, "value": round(value, 5)}
            for name, values in ratios.items()
            for repeat, value in enumerate(values)
        ]
        records.write()
        print(f"\nWritten to {PATH}")
    elif changed:
        print(f"\nChanged by more than {NOTABLE} x (or new): {'; '.join(changed)}")
    else:
        print(f"\nNothing changed by more than {NOTABLE} x")


if __name__ == "__main__":
    main()
