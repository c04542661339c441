"""The same loop on a GPU: ResNet-50, 224 px views, bf16, beside the model alone.

    python benchmarks/gpu.py        ends within ten minutes; needs a CUDA device for the figure

Random pixels: only the rate is measured. `geossl` is the training loop end to end, `model_only` the
same model on one fixed batch without data, views or logs. Writes gpu.md and gpu.json. Without a
GPU a small form runs on the CPU to prove that the script works, and the figure stays "not
measured".
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from study import Records, hardware

import geossl
from geossl import losses, models
from geossl.augment import moco_v2

HERE = Path(__file__).parent
GPU = torch.cuda.is_available()
SIZE, BATCH, PLACES, STEPS = (256, 256, 2048, 60) if GPU else (32, 16, 64, 4)
CONFIG = geossl.paper_config(
    encoder="resnet50" if GPU else "small",
    batch=BATCH,
    queue=65_536 if GPU else 256,
    views=moco_v2(224 if GPU else 32, crop=(0.08, 1.0)),
    precision="bf16" if GPU else "fp32",
    compile=GPU,
    log_every=10 if GPU else 1,
    knn_every=0,
    bn_splits=1,
)
REPEATS = 3


def write_store(folder: Path) -> geossl.ChipStore:
    """A chip store of random pixels, four dates a place."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    count = 4 * PLACES
    np.save(folder / "chips.npy", rng.integers(0, 256, (count, 3, SIZE, SIZE), dtype=np.uint8))
    table = pd.DataFrame(
        {
            "path": "random",
            "location": np.repeat(np.arange(PLACES), 4),
            "time": pd.to_datetime(np.tile(["2001", "2006", "2011", "2016"], PLACES), utc=True),
            "lon": np.repeat(rng.uniform(-180, 180, PLACES), 4),
            "lat": np.repeat(rng.uniform(-80, 80, PLACES), 4),
            "label": None,
            "split": None,
        }
    )
    table.to_parquet(folder / "scenes.parquet")
    info = {
        "format": 1, "bands": ["red", "green", "blue"], "mean": [127.5] * 3, "std": [73.9] * 3,
        "size_px": SIZE, "dtype": "uint8", "rgb": [0, 1, 2], "units": "", "source": "random",
        "n": count, "bad": {},
    }  # fmt: skip
    (folder / "store.json").write_text(json.dumps(info))
    return geossl.ChipStore.open(folder)


def end_to_end(store: geossl.ChipStore, seed: int) -> float:
    """Pairs/s of the training loop, the median interval after the first three."""
    epochs = STEPS * BATCH / len(store)
    run = geossl.pretrain(
        store,
        pairs=geossl.pairs.temporal(),
        config=geossl.paper_config(**{**vars(CONFIG), "epochs": epochs}),
        seed=seed,
    )
    return float(np.median([log.pairs_per_s for log in run][3:]))


def model_only(seed: int) -> float:
    """Pairs/s of query, key, loss, backward, step and queue on one fixed batch."""
    device = torch.device("cuda" if GPU else "cpu")
    layout = torch.channels_last if GPU else torch.contiguous_format
    encoder = models.encoder(CONFIG.encoder, stem=CONFIG.stem, seed=seed)
    moco = models.MoCo(encoder, queue=CONFIG.queue, momentum=CONFIG.momentum).to(device)
    moco = moco.to(memory_format=layout).train()
    query, key = (torch.compile(f) if GPU else f for f in (moco.query, moco.key))
    learned = [p for p in moco.parameters() if p.requires_grad]
    solver = torch.optim.SGD(learned, CONFIG.lr, CONFIG.sgd_momentum, weight_decay=1e-4)
    side = CONFIG.views.size_px or SIZE
    x = torch.randn(BATCH, 3, side, side, device=device).to(memory_format=layout)
    location = torch.arange(BATCH, device=device)
    began = 0.0
    for step in range(STEPS):
        if step == STEPS // 2:
            if GPU:
                torch.cuda.synchronize()
            began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=GPU):
            _, projection = query(x)
            moco.update_key()
            keys = key(x)
        loss = losses.info_nce(projection, keys, moco.queue, temperature=CONFIG.temperature)
        loss.backward()
        moco.enqueue(keys, location)
        solver.step()
        solver.zero_grad(set_to_none=True)
    if GPU:
        torch.cuda.synchronize()
    return (STEPS - STEPS // 2) * BATCH / (time.perf_counter() - began)


def main() -> None:
    """Measure in turn, several times, and write what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "chips")
        records = Records(HERE / "gpu.json")
        records.rows = []
        seen = [(end_to_end(store, seed), model_only(seed)) for seed in range(REPEATS)]
    ratio = [a / b for a, b in seen]
    rates = "\n".join(f"- geossl {a:,.0f}, model alone {b:,.0f} pairs/s" for a, b in seen)
    found = f"{np.mean(ratio):.1%} ({min(ratio):.1%} to {max(ratio):.1%}, {REPEATS} repeats)"
    print(f"{hardware()}\n{rates}\nshare of the model-only rate: {found}")
    if not GPU:
        print("no CUDA device: this was the small form, the figure stays not measured")
        return
    for seed, (ours, alone) in enumerate(seen):
        records.add("geossl", seed, {"pairs_per_s": ours})
        records.add("model_only", seed, {"pairs_per_s": alone})
    memory = torch.cuda.max_memory_allocated() / 1e9
    records.add("geossl", 0, {"memory_gb": memory})
    (HERE / "gpu.md").write_text(
        f"# On a GPU\n\n`python benchmarks/gpu.py` ({hardware()}). ResNet-50, views of 224 px, batch "
        f"{BATCH}, bf16, compiled, chips on the GPU.\n\n{rates}\n\nThe loop reaches {found} of the "
        f"model-only rate; at most {memory:.1f} GB allocated.\n",
        "utf-8",
    )


if __name__ == "__main__":
    main()
