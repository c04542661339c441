"""Print the pairs per second of a training loop, a line for each line read; runs with version 0.1 too.

    yes | head -5 | python benchmarks/loop_rate.py FOLDER SECONDS '{"precision": "fp32"}'

See laptop.py. The options are fields of `PretrainConfig` and "contiguous": true, which turns channels_last
off. The first line that is printed says how long the start took.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import torch

import geossl

OLD = geossl.__version__.startswith("0.1")


def main(folder: str, seconds: str, options: str) -> None:
    """Build or open a store of the Blue Marble, train, and print the rate as a `Worker` of study.py does."""
    changes = json.loads(options)
    path = Path(folder) / f"chips-{geossl.__version__}"
    if path.exists():
        store = geossl.ChipStore.open(path)
    else:
        datasets = importlib.import_module("geossl.readers" if OLD else "geossl.datasets")
        scenes = datasets.blue_marble(places=6_000, dates=4, seed=0)
        store = geossl.ChipStore.build(path, scenes, size_px=32)
    if changes.pop("contiguous", False):
        setup = importlib.import_module("geossl.train.pretrain")
        setup.memory_format = lambda model: torch.contiguous_format
        importlib.import_module("geossl.train.setup").memory_format = setup.memory_format
    began = time.perf_counter()
    run = geossl.pretrain(
        store,
        pairs=geossl.pairs.temporal(),
        geo=geossl.GeoClusters.fit(store.scenes[store.scenes["split"] == "train"], k=100),
        config=geossl.PretrainConfig(knn_every=0, log_every=5, epochs=10_000, **changes),
    )
    batch = run.config.batch if OLD else run.config.batch_size
    logs = iter(run)
    next(logs)
    start = time.perf_counter() - began
    capability = torch.backends.cpu.get_cpu_capability()
    print("@", json.dumps({"start_s": start, "capability": capability}), flush=True)
    for _ in sys.stdin:
        before, began = run.step, time.perf_counter()
        while time.perf_counter() - began < float(seconds):
            next(logs)
        rate = (run.step - before) * batch / (time.perf_counter() - began)
        print("@", json.dumps({"pairs_per_s": rate}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
