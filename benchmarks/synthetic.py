"""Random pixels at random locations, for benchmarks that measure only rates and sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

import geossl

DATES = 4
_ROWS = 65_536  # chips written at a time


def table(rows: int) -> pd.DataFrame:
    """Return a scene table of ``rows`` chips: four dates per location, uniform on the sphere."""
    rng = np.random.default_rng(0)
    locations = -(-rows // DATES)
    location = np.arange(rows) // DATES
    years = pd.to_datetime(["2001-01-01", "2006-04-01", "2011-07-01", "2016-10-01"], utc=True)
    return pd.DataFrame({
        "path": pd.Categorical.from_codes(np.zeros(rows, np.int8), categories=["random"]),
        "location": location,
        "time": years.as_unit("us")[np.arange(rows) % DATES],
        "lon": rng.uniform(-180, 180, locations)[location],
        "lat": np.degrees(np.arcsin(rng.uniform(-1, 1, locations)))[location],
        "label": pd.Categorical.from_codes(np.zeros(rows, np.int8), categories=["none"]),
        "split": pd.Categorical.from_codes(np.zeros(rows, np.int8), categories=["train"]),
    })  # fmt: skip


def store(folder: Path, rows: int, *, size_px: int) -> geossl.ChipStore:
    """Write a chip store of random uint8 pixels in three bands."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shape = (rows, 3, size_px, size_px)
    chips = np.lib.format.open_memmap(folder / "chips.npy", "w+", np.uint8, shape)
    for start in range(0, rows, _ROWS):
        part = chips[start : start + _ROWS]
        part[:] = rng.integers(0, 256, part.shape, np.uint8)
    chips.flush()
    table(rows).to_parquet(folder / "scenes.parquet")
    info = {
        "format": 1, "bands": ["red", "green", "blue"], "mean": [127.5] * 3, "std": [73.9] * 3,
        "size_px": size_px, "dtype": "uint8", "rgb": [0, 1, 2], "units": "", "source": "random",
        "n": rows, "bad": {},
    }  # fmt: skip
    (folder / "store.json").write_text(json.dumps(info))
    return geossl.ChipStore.open(folder)
