"""Retrieval: find a location again at another date."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import torch

from geossl.data import scenes
from geossl.data.splits import is_in_split
from geossl.embeddings import Embeddings
from geossl.evaluate import metrics
from geossl.evaluate.bootstrap import share_interval
from geossl.evaluate.results import ProbeResult
from geossl.evaluate.splits import count_values, get_column, require_finite
from geossl.utils.device import select_device
from geossl.utils.validate import Seed, validated


@validated
def same_location(
    embeddings: Embeddings,
    *,
    key: Literal["last", "other"] = "last",
    split: str | None = None,
    center_dates: bool | Literal["time", "year"] = False,
    device: str = "cpu",
    seed: Seed = 0,
) -> ProbeResult:
    """Measure recall: is a location at its first date found among all locations at another date?

    Args:
        embeddings: vectors and their scenes; locations without two dates are left out.
        key: the gallery: every location at its "last" date, or at all its "other" dates, where any
            chip of the location is a hit.
        split: only locations of this split, in the query and in the gallery.
        center_dates: subtract the mean vector of each date (exact time, or "year") first.
        device: where vectors are compared, as for `linear`.
        seed: of the bootstrap over locations.

    Returns:
        Recall@1, with recall@5, its interval and the size of the gallery in ``more``.

    Raises:
        ValueError: fewer than two locations with two dates, no location of that split, NaN, an
            absent device.
    """
    target_device = select_device(device)
    require_finite(embeddings)
    rows = np.arange(len(embeddings))
    if split is not None:
        splits = get_column(embeddings.scenes, "split")
        rows = np.flatnonzero(is_in_split(splits, split))
        if len(rows) == 0:
            raise ValueError(
                f"`split` must name a split of the scenes, got {split!r} ({count_values(splits)})."
            )
    part = embeddings.subset(rows)
    query, gallery = _first_and_later(part.scenes, key)
    if len(query) < 2:
        dated = part.scenes["time"].notna().sum()
        raise ValueError(
            f"`embeddings` needs at least two locations with two dates, got {len(query)} among "
            f"{part.scenes['location'].nunique()} locations ({dated} of {len(part)} rows have a "
            "time)."
        )
    if center_dates:
        part = part.centered(by="time" if center_dates is True else center_dates)
    x, codes = part.tensor(), torch.from_numpy(scenes.location_codes(part.scenes))
    pairs = (t[i].to(target_device) for t in (x, codes) for i in (query, gallery))
    rank, nearest = (t.cpu().numpy() for t in metrics.ranks(*pairs))
    location = part.scenes["location"].to_numpy()
    match = gallery[nearest]
    predictions = pd.DataFrame({
        "row": rows[query],
        "location": location[query],
        "truth": location[query],
        "predicted": location[match],
        "hit": rank == 0,
        "rank": rank,
        "match": rows[match],
    })  # fmt: skip
    group = codes[query].numpy()
    (value, low, high), at_5 = (share_interval(rank < k, group, seed) for k in (1, 5))
    names = ("recall@5", "recall@5 low", "recall@5 high")
    own = np.bincount(codes[gallery].numpy())[group]
    return ProbeResult(
        "same location, other date: recall@1", value, low, high,
        chance=float((own / len(gallery)).mean()), n_train=0, n_test=len(query),
        predictions=predictions, more=dict(zip(names, at_5, strict=True), gallery=len(gallery)),
    )  # fmt: skip


def _first_and_later(table: pd.DataFrame, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each location's first date, and of its last or all others."""
    dated = pd.DataFrame({
        "row": np.arange(len(table)),
        "location": scenes.location_codes(table),
        "time": get_column(table, "time").reset_index(drop=True),
    }).dropna()  # fmt: skip
    dated = dated.sort_values(["location", "time"], kind="stable")
    start = dated.groupby("location")["time"].transform("min")
    later = dated[dated["time"] > start]
    first = dated[dated["location"].isin(later["location"])].drop_duplicates("location")
    if key == "last":
        later = later.drop_duplicates("location", keep="last")
    return first["row"].to_numpy(copy=True), later["row"].to_numpy(copy=True)
