"""Find the places that changed most, with what the season does to all of them taken out."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import pandas as pd
import torch

from geossl.data import scenes
from geossl.data.notices import DataWarning
from geossl.embeddings import Embeddings
from geossl.evaluate.splits import require_finite
from geossl.utils.validate import PositiveInt, validated

_CELLS = 2**24  # numbers held at a time
_MOST_ROWS = 0.9  # of all rows must share dates to take the mean of each date


@validated
def changes(
    embeddings: Embeddings,
    *,
    season: Literal["auto", "date", "month", "none"] = "auto",
    min_locations: PositiveInt = 10,
) -> pd.DataFrame:
    """Rank locations by the largest cosine distance between two of their dates.

    Grass turns brown and snow falls everywhere at once: that is no change of one place. So the
    mean vector of each date, or of each month of the year, is subtracted first, where each
    location counts once. Rows of a date or month that has fewer than ``min_locations`` locations
    lose the mean of all instead. Sensors and haze that all images of a date share go with it.

    Args:
        embeddings: vectors and their scenes; rows without a time are left out.
        season: what to subtract: the mean of each "date" (where all locations have the same dates)
            or calendar "month"; "none" compares the vectors as they are. "auto" takes dates if at
            least 90 % of the rows share theirs with enough locations, else months if any has
            enough, else none, with a warning.
        min_locations: of a date or month whose mean is taken.

    Returns:
        One row a location with at least two dates, the largest change first: ``location``,
        ``change`` (0 to 2), ``first_row, second_row`` of the embeddings, and ``first_time,
        second_time``. ``attrs["season"]`` says what was subtracted.

    Raises:
        ValueError: no location has two dates, no date or month has enough locations, or a vector is
            not finite.

    Example:
        >>> changes(embeddings).columns.tolist()[:2]
        ['location', 'change']
    """
    require_finite(embeddings)
    times, codes = embeddings.scenes["time"], scenes.location_codes(embeddings.scenes)
    rows = np.flatnonzero(times.notna())
    stamps = times.astype("int64").to_numpy()
    rows = rows[np.lexsort((stamps[rows], codes[rows]))]  # by location, then by time
    stamps, codes = stamps[rows], codes[rows]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    ends = np.flatnonzero(np.diff(codes, append=-1)) + 1
    several = stamps[starts] != stamps[ends - 1]
    starts, ends = starts[several], ends[several]
    if len(starts) == 0:
        raise ValueError(
            f"`embeddings` has no location with two dates ({len(rows):,} of "
            f"{len(embeddings):,} rows have a time), so nothing can have changed."
        )
    groups, removed = _group(times.iloc[rows], codes, season, min_locations)
    means = np.zeros((1, embeddings.vectors.shape[1]), np.float32)
    if removed != "none":
        means = _means(embeddings.vectors, rows, codes, groups)
    change, first, second = np.zeros(len(starts)), starts.copy(), starts.copy()
    for count in np.unique(ends - starts):
        same = np.flatnonzero(ends - starts == count)
        step = max(1, _CELLS // (count * max(count, embeddings.vectors.shape[1])))
        for some in (same[i : i + step] for i in range(0, len(same), step)):
            at = starts[some, None] + np.arange(count)  # (B, T) positions in rows
            unit = embeddings.vectors[rows[at]] - means[groups[at]]
            unit /= np.maximum(np.linalg.norm(unit, axis=2, keepdims=True), 1e-12)
            change[some], i, j = _farthest(unit, stamps[at])
            first[some], second[some] = at[:, 0] + i, at[:, 0] + j
    first, second = rows[first], rows[second]
    table = pd.DataFrame({
        "location": embeddings.scenes["location"].to_numpy()[first], "change": change,
        "first_row": first, "second_row": second,
        "first_time": times.to_numpy()[first], "second_time": times.to_numpy()[second],
    })  # fmt: skip
    table = table.sort_values("change", ascending=False, kind="stable", ignore_index=True)
    table.attrs["season"] = removed
    return table


def _group(
    times: pd.Series, codes: np.ndarray, season: str, min_locations: int
) -> tuple[np.ndarray, str]:
    """Return the group ``(n,)`` whose mean each row loses, 0 for that of all, and what it is."""
    found = {}
    for name, keys in (("date", times), ("month", times.dt.month)):
        group = pd.factorize(keys)[0] + 1
        locations = pd.Series(codes).groupby(group).transform("nunique").to_numpy()
        found[name] = np.where(locations >= min_locations, group, 0)
    if season == "auto":
        season = "date" if (found["date"] > 0).mean() >= _MOST_ROWS else "month"
        if not found[season].any():
            warnings.warn(
                f"No month has {min_locations} locations, so the season stays in the changes. Pass "
                "a smaller `min_locations`, or `season='none'` if it should.",
                DataWarning,
                stacklevel=4,
            )
            season = "none"
    if season == "none":
        return np.zeros(len(codes), np.int64), season
    if not found[season].any():
        raise ValueError(
            f"`season={season!r}` needs a {season} with at least {min_locations} locations, and "
            "none has so many. Pass a smaller `min_locations`, or `season='none'`."
        )
    return found[season], season


def _means(
    vectors: np.ndarray, rows: np.ndarray, codes: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Return means ``(G, E)`` of the groups, each location counted once; 0 is that of all rows."""
    total = torch.zeros(int(groups.max()) + 1, vectors.shape[1], dtype=torch.float64)
    weight = 1 / pd.Series(codes).groupby([codes, groups]).transform("size").to_numpy(float)
    weight[groups == 0] = 0
    alone = 1 / np.bincount(codes)[codes]
    step = max(1, _CELLS // vectors.shape[1])
    for part in (slice(start, start + step) for start in range(0, len(rows), step)):
        values = torch.from_numpy(vectors[rows[part]]).double()
        weights = torch.from_numpy(weight[part])
        total.index_add_(0, torch.from_numpy(groups[part]), weights[:, None] * values)
        total[0] += torch.from_numpy(alone[part]) @ values
    sizes = np.bincount(groups, weights=weight)
    sizes[0] = alone.sum()
    return (total.numpy() / np.maximum(sizes, 1e-12)[:, None]).astype(np.float32)


def _farthest(unit: np.ndarray, stamps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the largest distance ``(B,)`` in each of ``(B, T, E)``, and between which two."""
    blocks, count, _ = unit.shape
    best = np.full(blocks, -1.0, np.float32)
    where = np.zeros((2, blocks), np.int64)
    step = max(1, _CELLS // (blocks * count))
    for start in range(0, count, step):
        part = slice(start, start + step)
        distance = 1 - unit[:, part] @ unit.transpose(0, 2, 1)  # (B, t, T)
        distance[stamps[:, part, None] >= stamps[:, None]] = -1  # the same date, or the other way
        flat = distance.reshape(blocks, -1)
        at = flat.argmax(1)
        value = flat[np.arange(blocks), at]
        better = value > best
        best[better] = value[better]
        where[:, better] = np.stack([start + at // count, at % count])[:, better]
    return np.clip(best, 0, 2), *where
