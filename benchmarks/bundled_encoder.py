"""Train the encoder of the embedded world that ships with geossl: `load_encoder("blue_marble")`.

    python benchmarks/bundled_encoder.py     resumes; the model card says how long it took

Many more locations and passes than a lesson has; the same method, encoder and views. The val and test
blocks of the world are the same for any number of locations, and it saw neither. Writes
geossl/models/blue_marble.safetensors; few_labels.md measures it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from few_labels import RECIPE
from study import hardware

import geossl
from geossl import datasets

FOLDER = Path(__file__).parent.parent / "runs" / "bundled_encoder"
FILE = Path(geossl.models.__file__).with_name("blue_marble.safetensors")
PLACES, DATES, EPOCHS, SEED = 40_000, 4, 10, 0


def main() -> None:
    """Build the store, train, and write the encoder in half precision."""
    scenes = datasets.blue_marble(places=PLACES, dates=DATES, seed=SEED + 1_000)
    store = geossl.ChipStore.build(FOLDER / "chips", scenes, size_px=32)
    training = store.scenes[store.scenes["split"] == "train"]
    run = geossl.pretrain(
        store,
        pairs=geossl.pairs.temporal(),
        geo=geossl.GeoClusters.fit(training, k=100, seed=SEED),
        config=dataclasses.replace(RECIPE, epochs=EPOCHS),
        output_dir=FOLDER / "run",
        seed=SEED,
    ).finish()
    card = {
        "bands": store.bands,
        "data": f"geossl.datasets.blue_marble: {training['location'].nunique():,} locations of the "
        f"training blocks x {DATES} simulated dates, chips of 32 px that cover 240 km",
        "method": "MoCo-v2+Geo+TP, 100 geo clusters; no labels",
        "training": f"{EPOCHS} epochs, {run.steps:,} steps of {run.config.batch_size} pairs, "
        f"{run.logs['seconds'].iloc[-1] / 60:.0f} minutes on {hardware()}",
        "use": "lessons, workbenches and demo; not meant for real images, and chosen by no test",
        "figures": "benchmarks/few_labels.md",
        "made by": "python benchmarks/bundled_encoder.py",
        "license": "that of geossl; imagery: NASA Blue Marble Next Generation, public domain",
    }
    geossl.models.save_encoder(run.encoder, FILE, metadata=card, half=True)
    print(f"{FILE}: {FILE.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
