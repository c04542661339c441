"""Classify locations by all their dates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.evaluate.bootstrap import share_interval
from geossl.evaluate.results import ProbeResult
from geossl.utils.validate import Seed, validated


@validated
def temporal(result: ProbeResult, *, seed: Seed = 0) -> ProbeResult:
    """Classify locations by all their dates: sum the probabilities of a location's images.

    Args:
        result: of `linear`, `knn` or `fine_tune`, which learn from single images.
        seed: of the bootstrap.

    Returns:
        One test row per location: row is that of its first image, images is their number.

    Raises:
        ValueError: the result has no probabilities, or the images of a location differ in class.

    Source:
        Temporal classification of arXiv 2011.09980, section 5.
    """
    images = result.predictions
    if result.probabilities is None or result.multi:
        raise ValueError(
            "`result` must come from a classifier with one class per chip, such as linear() or "
            f"knn(), got {result.metric!r}."
        )
    codes = scenes.location_codes(images)
    first = scenes.first_rows(codes)
    mixed = np.flatnonzero(images["truth"].groupby(codes).nunique() > 1)
    if len(mixed):
        raise ValueError(
            f"`result` must have one class per location to sum over its dates, but {len(mixed)} "
            f"locations have several, the first is {images['location'].iloc[first[mixed[0]]]!r}. "
            "Measure each date separately for such a label."
        )
    count = np.bincount(codes)
    total = np.zeros((len(first), result.probabilities.shape[1]))
    np.add.at(total, codes, result.probabilities.astype(np.float64))
    mean = total / count[:, None]
    table = images.iloc[first].reset_index(drop=True)
    table["predicted"] = pd.Series(list(result.classes.index)).to_numpy()[total.argmax(1)]
    table["confidence"] = mean.max(1).astype(np.float32)
    table["hit"] = table["predicted"] == table["truth"]
    table["images"] = count
    value, low, high = share_interval(table["hit"].to_numpy(), np.arange(len(table)), seed)
    return ProbeResult(
        metric=f"{result.metric}, all dates of a location",
        value=value,
        low=low,
        high=high,
        chance=float((table["truth"] == result.classes.idxmax()).mean()),
        n_train=result.n_train,
        n_test=len(table),
        predictions=table,
        more={**result.more, "images per location": float(count.mean())},
        classes=result.classes,
        probabilities=mean.astype(np.float32),
    )
