"""Synthetic chips, where only rates and sizes are measured: random pixels, places on the sphere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

import geossl

DATES = 4
_ROWS = 65_536  # chips written at a time


def table(rows: int) -> pd.DataFrame:
    """A scene table of ``rows`` chips, four dates a place, places uniform on the sphere."""
    rng = np.random.default_rng(0)
    places = -(-rows // DATES)
    at = np.arange(rows) // DATES
    years = pd.to_datetime(["2001-01-01", "2006-04-01", "2011-07-01", "2016-10-01"], utc=True)
    return pd.DataFrame({
        "path": pd.Categorical.from_codes(np.zeros(rows, np.int8), categories=["random"]),
        "location": at,
        "time": years.as_unit("us")[np.arange(rows) % DATES],
        "lon": rng.uniform(-180, 180, places)[at],
        "lat": np.degrees(np.arcsin(rng.uniform(-1, 1, places)))[at],
        "label": pd.Categorical.from_codes(np.zeros(rows, np.int8), categories=["none"]),
        "split": pd.Categorical.from_codes(np.zeros(rows, np.int8), categories=["train"]),
    })  # fmt: skip


def store(folder: Path, rows: int, *, size_px: int) -> geossl.ChipStore:
    """A chip store of random uint8 pixels in three bands."""
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
