"""The scene tables of the five data sets, with a split."""

from __future__ import annotations

import numpy as np
import pandas as pd
from settings import Settings

from geossl import datasets
from geossl.data import scenes

_BLOCK_DEG = 1.0
_TEST_SHARE = 0.25  # where neither the data set nor geossl has a split


def read_scenes(settings: Settings, *, partial: bool = False) -> pd.DataFrame:
    """Return the scene table of a task; of fMoW a row for each box.

    Args:
        settings: the options.
        partial: take what is there of the splits of fMoW, and leave damaged images out.

    Raises:
        ValueError: the data set lacks a split, or an image is damaged.
    """
    skip_bad = settings.skip_bad or partial
    if settings.task == "fmow":
        table = _read_fmow(settings, skip_bad=skip_bad, partial=partial)
    elif settings.task == "geoimagenet":
        table = datasets.geoimagenet(settings.data)  # photos without a position are left out
    elif settings.task == "xview":
        table = datasets.xview(settings.data, skip_bad=skip_bad)
    elif settings.task == "spacenet":
        table = datasets.spacenet(settings.data, skip_bad=skip_bad)
        table = table[table["polygons"].notna()].reset_index(drop=True)
    else:
        table = datasets.tile2vec(settings.data, skip_bad=skip_bad)
        if table["label"].isna().all():
            raise ValueError(f"`data` must contain labels in y.npy, but {settings.data} has none.")
    return _with_split(table, seed=settings.seed, blocks=settings.task == "xview")


def read_boxes(settings: Settings) -> pd.DataFrame:
    """Return the boxes of xView."""
    return datasets.xview(settings.data, boxes=True, skip_bad=settings.skip_bad)


def _read_fmow(settings: Settings, *, skip_bad: bool, partial: bool) -> pd.DataFrame:
    """Return the rows of train and val only: the other splits are large, and not needed."""
    names = ["train", settings.test_split]
    there = [name for name in names if (settings.data / name).is_dir()]
    if len(there) < len(names) and not (partial and there):
        folders = sorted(path.name for path in settings.data.iterdir() if path.is_dir())
        raise ValueError(
            f"`data` must contain the folders train and val of fMoW-rgb, got {folders[:8]} in "
            f"{settings.data}."
        )
    tables = [
        datasets.fmow(settings.data / name, boxes=True, false_detection=False, skip_bad=skip_bad)
        for name in there
    ]
    skipped = {path: why for table in tables for path, why in table.attrs.pop("skipped").items()}
    table = pd.concat(tables, ignore_index=True)
    table.attrs["skipped"] = skipped
    return table


def _with_split(table: pd.DataFrame, *, seed: int, blocks: bool) -> pd.DataFrame:
    """Return a table with a split; one without gets one by blocks of space, or by location."""
    if table["split"].notna().any():
        return table
    if blocks and table["lon"].notna().all():
        shares = {"train": 1 - _TEST_SHARE, "test": _TEST_SHARE}
        names = scenes.split_by_blocks(table, block_deg=_BLOCK_DEG, shares=shares, seed=seed)
        return table.assign(split=names)
    codes = scenes.location_codes(table)
    place = np.random.default_rng(seed).permutation(codes.max() + 1)[codes]
    is_test = place < max(1, round(_TEST_SHARE * (codes.max() + 1)))
    return table.assign(split=np.where(is_test, "test", "train").astype(object))
