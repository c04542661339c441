"""Retrieval: is a place found again at another date?"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import torch

from geossl.data import scenes
from geossl.embeddings import Embeddings
from geossl.evaluate import metrics
from geossl.evaluate.bootstrap import interval
from geossl.evaluate.results import ProbeResult
from geossl.evaluate.splits import count_values, get_column, require_finite, rows_with_value
from geossl.utils.device import select_device


def same_place(
    embeddings: Embeddings,
    *,
    key: Literal["last", "other"] = "last",
    split: str | None = None,
    center_dates: bool | Literal["time", "year"] = False,
    device: str = "cpu",
    seed: int = 0,
) -> ProbeResult:
    """Recall: is a place at its first date found again among all places at another date?

    Args:
        embeddings: vectors and their scenes; places without two dates are left out.
        key: the gallery: every place at its "last" date, or at all its "other" dates, where any
            chip of the place counts as found.
        split: only places of this split, in the query and in the gallery.
        center_dates: take the mean vector of each date (exact time, or "year") out first.
        device: where vectors are compared, as for `linear`.
        seed: of the bootstrap over places.

    Returns:
        Recall@1, with recall@5, its interval and the size of the gallery in ``more``.

    Raises:
        ValueError: fewer than two places with two dates, no place of that split, NaN, an
            absent device.
    """
    if key not in ("last", "other"):
        raise ValueError(f"expected key of last or other, came {key!r}")
    where = select_device(device)
    require_finite(embeddings)
    kept = np.arange(len(embeddings))
    if split is not None:
        kept = np.flatnonzero(rows_with_value(get_column(embeddings.scenes, "split"), split))
        if len(kept) == 0:
            found = count_values(get_column(embeddings.scenes, "split"))
            raise ValueError(f"expected places of split {split!r}, came none among {found}")
    some = embeddings.subset(kept)
    query, gallery = _first_and_later(some.scenes, key)
    if len(query) < 2:
        raise ValueError(
            f"expected at least two places with two dates, came {len(query)} among "
            f"{some.scenes['location'].nunique()} places"
            + ("" if split is None else f" of split {split!r}")
        )
    if center_dates:
        some = some.centered(by="time" if center_dates is True else center_dates)
    x, codes = some.tensor(), torch.from_numpy(scenes.location_codes(some.scenes))
    compared = (t[i].to(where) for t in (x, codes) for i in (query, gallery))
    rank, nearest = (found.cpu() for found in metrics.ranks(*compared))
    location = some.scenes["location"].to_numpy()
    nearest, ranked = gallery[nearest.numpy()], rank.numpy()
    seen = pd.DataFrame({
        "row": kept[query],
        "location": location[query],
        "truth": location[query],
        "predicted": location[nearest],
        "hit": ranked == 0,
        "rank": ranked,
        "found": kept[nearest],
    })  # fmt: skip
    (value, low, high), at_5 = (interval(ranked < k, codes[query].numpy(), seed) for k in (1, 5))
    more = {"recall@5": at_5[0], "recall@5 low": at_5[1], "recall@5 high": at_5[2]}
    own = np.bincount(codes[gallery].numpy())[codes[query].numpy()]
    return ProbeResult(
        metric="same place, other date: recall@1",
        value=value,
        low=low,
        high=high,
        chance=float((own / len(gallery)).mean()),
        n_train=0,
        n_test=len(query),
        predictions=seen,
        more={**more, "gallery": len(gallery)},
    )


def _first_and_later(table: pd.DataFrame, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each place's first date, and of its last or all others; places with two dates."""
    timed = pd.DataFrame({
        "row": np.arange(len(table)),
        "place": scenes.location_codes(table),
        "time": table["time"].reset_index(drop=True) if "time" in table else pd.NaT,
    }).dropna()  # fmt: skip
    timed = timed.sort_values(["place", "time"], kind="stable")
    start = timed.groupby("place")["time"].transform("min")
    later = timed[timed["time"] > start]
    first = timed[timed["place"].isin(later["place"])].drop_duplicates("place")
    if key == "last":
        later = later.drop_duplicates("place", keep="last")
    return first["row"].to_numpy(copy=True), later["row"].to_numpy(copy=True)
