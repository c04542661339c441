"""Sample positive pairs: (query, key) indices of a whole epoch, no pixels.

A sampler is prepared once for a scene table, then drawn once an epoch: each eligible chip is a
query once, in random order, and its key is uniform over the chips that the sampler allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl import geo
from geossl.data import dates, scenes
from geossl.utils.validate import (
    NonNegative,
    Positive,
    Seed,
    advise,
    check,
    check_fields,
    validated,
)

__all__ = ["PairSampler", "mixture", "report", "same_image", "spatial", "temporal"]

Draw = Callable[[torch.Generator], tuple[Tensor, Tensor]]
_DAY_US = 86_400_000_000
_CHUNK = 4_000_000  # candidate pairs compared at a time


@runtime_checkable
class PairSampler(Protocol):
    """Anything with a name and `prepare`.

    Attributes:
        name: its identity, kept in a run's directory; samplers that draw differently need other
            names, such as ``temporal(min_gap_days=30)``.

    Example:
        >>> class Neighbors:
        ...     name = "next row"
        ...
        ...     def prepare(self, table):
        ...         def draw(generator):
        ...             query = torch.randperm(len(table) - 1, generator=generator)
        ...             return query, query + 1
        ...
        ...         return draw
    """

    @property
    def name(self) -> str:
        """The sampler's identity."""

    def prepare(self, table: pd.DataFrame) -> Draw:
        """Return a function that draws an epoch from a generator: rows of queries and of keys."""


class _Named:
    @property
    def name(self) -> str:
        """The sampler's function, and its options that are not at their default."""
        function = "same_image" if isinstance(self, SameImage) else type(self).__name__.lower()
        options = [
            f"{f.name}={getattr(self, f.name)!r}".removesuffix(".0")
            for f in fields(self)  # type: ignore[arg-type]
            if getattr(self, f.name) != f.default
        ]
        return f"{function}({', '.join(options)})"


@dataclass(frozen=True)
class _Candidates:
    """Lists of allowed keys, ``keys[start[o] : start[o + 1]]`` for owner o; a chip has an owner."""

    keys: np.ndarray
    start: np.ndarray
    owner: np.ndarray

    def sampler(self, single: str) -> Draw:
        keys, owner = torch.from_numpy(self.keys), torch.from_numpy(self.owner)
        first = torch.from_numpy(self.start[:-1])[owner]
        count = torch.from_numpy(np.diff(self.start))[owner]
        queries = torch.arange(len(count)) if single == "self" else count.nonzero()[:, 0]

        def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            query = queries[torch.randperm(len(queries), generator=generator)]
            among = count[query]
            u = torch.rand(len(query), generator=generator, dtype=torch.float64)
            index = first[query] + torch.minimum((u * among).long(), (among - 1).clamp(min=0))
            return query, torch.where(among > 0, keys[index.clamp(max=len(keys) - 1)], query)

        return draw


@dataclass(frozen=True)
class SameImage(_Named):
    """Pair each chip with itself: query and key are two views of it.

    Source: MoCo-v2, arXiv 2003.04297.
    """

    def prepare(self, table: pd.DataFrame) -> Draw:
        """Return a function that draws an epoch."""
        count = len(table)

        def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            query = torch.randperm(count, generator=generator)
            return query, query.clone()

        return draw


@dataclass(frozen=True, kw_only=True)
class Temporal(_Named):
    """Pair a chip with another date of its location, uniformly over those allowed.

    A chip without a time has partners only where no gap and no season is set.

    Args:
        min_gap_days: smallest gap between the dates.
        max_gap_days: largest gap.
        season: both in the same season (December to February, March to May, ...), or in two.
        single_date: a chip without an allowed partner is paired with itself ("self", as the paper's
            code does) or is no query ("drop").

    Raises:
        ValueError: an empty range of gaps; on `prepare`, when no chip has a partner.

    Source:
        Ayush et al., arXiv 2011.09980, section 4.1; the gaps, the seasons and "drop" are ours.
    """

    min_gap_days: NonNegative = 0.0
    max_gap_days: NonNegative | None = None
    season: Literal["same", "other"] | None = None
    single_date: Literal["self", "drop"] = "self"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_gap_days is not None and self.max_gap_days < self.min_gap_days:
            raise ValueError(
                f"`max_gap_days` must be >= `min_gap_days` ({self.min_gap_days}), got "
                f"{self.max_gap_days}."
            )

    def prepare(self, table: pd.DataFrame) -> Draw:
        """Return a function that draws an epoch."""
        candidates = _in_groups(scenes.location_codes(table), self._allowed(table))
        if len(candidates.keys) == 0:
            times = table.groupby("location")["time"]
            days = (times.max() - times.min()).max().days
            raise ValueError(
                f"No location has two dates that satisfy {self.name}: those of the {len(times)} "
                f"locations are at most {days} days apart. Relax it or use pairs=same_image()."
            )
        return candidates.sampler(self.single_date)

    def _allowed(self, table: pd.DataFrame) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        scenes.require_columns(table, ["time"])
        times = dates.to_utc(table["time"])
        missing = times.isna().to_numpy()
        when = times.astype("int64").to_numpy() / _DAY_US
        quarter = (times.dt.month.fillna(0).to_numpy(int) % 12) // 3
        unconstrained = self.min_gap_days <= 0 and self.max_gap_days is None and self.season is None

        def allowed(query: np.ndarray, key: np.ndarray) -> np.ndarray:
            ok = query != key
            if unconstrained:  # another row of the location at another time, or at an unknown one
                unknown = missing[query] | missing[key]
                return ok & (unknown | (when[query] != when[key]))
            gap = np.abs(when[query] - when[key])
            ok &= ~missing[query] & ~missing[key] & (gap > 0) & (gap >= self.min_gap_days)
            if self.max_gap_days is not None:
                ok &= gap <= self.max_gap_days
            if self.season is not None:
                ok &= (quarter[query] == quarter[key]) == (self.season == "same")
            return ok

        return allowed


@dataclass(frozen=True, kw_only=True)
class Spatial(_Named):
    """Pair a chip with any date of another location within a radius.

    Args:
        radius_km: great-circle distance between the two locations.
        single_date: what happens to a chip without such a neighbor, as in `Temporal`.

    Raises:
        ValueError: on `prepare`, when no two locations are within the radius.

    Source:
        Tile2Vec, arXiv 1805.02855: neighbors as positives.
    """

    radius_km: Positive
    single_date: Literal["self", "drop"] = "self"

    def __post_init__(self) -> None:
        check_fields(self)

    def prepare(self, table: pd.DataFrame) -> Draw:
        """Return a function that draws an epoch."""
        from scipy.spatial import cKDTree

        scenes.require_positions(table, "pairs of neighbors")
        codes = scenes.location_codes(table)
        order = np.argsort(codes, kind="stable")
        size = np.bincount(codes)
        first = np.concatenate([[0], np.cumsum(size)])
        rows = scenes.first_rows(codes)
        points = geo.unit_vectors(table["lon"].to_numpy()[rows], table["lat"].to_numpy()[rows])
        chord = 2 * np.sin(min(self.radius_km / geo.EARTH_RADIUS_KM, np.pi) / 2)
        near = (tree := cKDTree(points)).query_pairs(chord * (1 + 1e-12), output_type="ndarray")
        if len(near) == 0:
            angle = 2.02 * np.arcsin(min(tree.query(points, k=2)[0][:, 1].min() / 2, 1))
            raise ValueError(
                f"No two of the {len(size)} locations are within radius_km={self.radius_km}. Use a "
                f"larger `radius_km`, at least {angle * geo.EARTH_RADIUS_KM:.3g}."
            )
        both = np.concatenate([near, near[:, ::-1]])
        both = both[np.argsort(both[:, 0], kind="stable")]
        # the neighbors' chips, listed once per location, then repeated for its chips by reference
        lengths = size[both[:, 1]]
        keys = order[_ranges(first[both[:, 1]], lengths)]
        counts = np.bincount(both[:, 0], weights=lengths, minlength=len(size)).astype(np.int64)
        start = np.concatenate([[0], np.cumsum(counts)])
        return _Candidates(keys, start, codes).sampler(self.single_date)


@dataclass(frozen=True)
class Mixture:
    """Draw a sampler for each query by weight; see `mixture`."""

    parts: tuple[tuple[PairSampler, float], ...]

    @property
    def name(self) -> str:
        """The names and weights of the parts."""
        parts = ", ".join(f"({sampler.name}, {weight:g})" for sampler, weight in self.parts)
        return f"mixture({parts})"

    def prepare(self, table: pd.DataFrame) -> Draw:
        """Return a function that draws an epoch."""
        draws = [sampler.prepare(table) for sampler, _ in self.parts]
        weights = torch.tensor([w for _, w in self.parts], dtype=torch.float64)
        pairs_itself = torch.tensor([isinstance(s, SameImage) for s, _ in self.parts])
        count = len(table)

        def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            keys = torch.full((len(draws), count), -1)
            for key, draw_part in zip(keys, draws, strict=True):
                query, partner = draw_part(generator)
                key[query] = partner
            listed = keys >= 0
            able = listed & ((keys != torch.arange(count)) | pairs_itself[:, None])
            share = weights[:, None] * torch.where(able.any(0), able, listed)
            query = (share.sum(0) > 0).nonzero()[:, 0]
            query = query[torch.randperm(len(query), generator=generator)]
            chosen = torch.multinomial(share[:, query].T, 1, generator=generator)[:, 0]
            return query, keys[chosen, query]

        return draw


same_image, temporal, spatial = SameImage, Temporal, Spatial
advise(PairSampler, "Use e.g. geossl.pairs.temporal(), or an object with `name` and `prepare`.")


def mixture(*parts: tuple[PairSampler, float]) -> Mixture:
    """Draw one of several samplers for each query, among those that have a partner for it.

    Args:
        parts: ``(sampler, weight)``, weights > 0, in any unit.

    Raises:
        TypeError, ValueError: no part, or one that is no sampler with a weight > 0.
    """
    if not parts:
        raise ValueError("`parts` must hold a (sampler, weight), got none.")
    for i, part in enumerate(parts):
        check(f"parts[{i}]", part, tuple[PairSampler, Positive])
    return Mixture(tuple((sampler, float(weight)) for sampler, weight in parts))


@validated
def report(sampler: PairSampler, table: pd.DataFrame, *, seed: Seed = 0) -> dict[str, Any]:
    """Describe the pairs that a sampler draws from a scene table in one epoch.

    Returns:
        ``n_pairs``, ``degenerate`` (a chip with itself), ``degenerate_share``, ``dropped`` chips;
        ``gap_days_median``, ``gap_days_max``, ``distance_km_median`` of the others, nan if none.
    """
    scenes.require_columns(table, ["time", "lon", "lat"])
    draw = sampler.prepare(table)
    query, key = (rows.numpy() for rows in draw(torch.Generator().manual_seed(seed)))
    same = query == key
    times = dates.to_utc(table["time"]).to_numpy("datetime64[us]")
    gaps = np.abs((times[query] - times[key])[~same] / np.timedelta64(1, "D"))
    gaps = gaps[np.isfinite(gaps)]
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    distance = geo.great_circle_km(lon[query], lat[query], lon[key], lat[key])[~same]
    return {
        "n_pairs": len(query),
        "degenerate": int(same.sum()),
        "degenerate_share": float(same.mean()) if len(same) else 0.0,
        "dropped": len(table) - len(query),
        "gap_days_median": float(np.median(gaps)) if len(gaps) else float("nan"),
        "gap_days_max": float(gaps.max()) if len(gaps) else float("nan"),
        "distance_km_median": float(np.median(distance)) if len(distance) else float("nan"),
    }


def _ranges(first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return ``first[0], first[0] + 1, ...`` for each length, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - lengths), lengths)


def _in_groups(
    codes: np.ndarray, allowed: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> _Candidates:
    """Return allowed keys among the rows of a group, compared in chunks of bounded memory."""
    order = np.argsort(codes, kind="stable")
    size = np.bincount(codes)
    first = np.concatenate([[0], np.cumsum(size)])[:-1]
    counts = np.zeros(len(codes), np.int64)
    parts = []
    many = size[codes]
    ends = np.cumsum(many)
    cuts = np.searchsorted(ends, np.arange(_CHUNK, ends[-1] + _CHUNK, _CHUNK), side="right")
    begin = 0
    for cut in np.unique(np.maximum(cuts, 1)):
        rows = np.arange(begin, cut)
        query = np.repeat(rows, many[rows])
        key = order[_ranges(first[codes[rows]], many[rows])]
        ok = allowed(query, key)
        parts.append(key[ok])
        counts[begin:cut] = np.bincount(query[ok] - begin, minlength=len(rows))
        begin = cut
    start = np.concatenate([[0], np.cumsum(counts)])
    return _Candidates(np.concatenate(parts), start, np.arange(len(codes)))
