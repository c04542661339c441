"""Which two chips make a positive pair: (query, key) index tensors of a whole epoch, no pixels.

A policy is prepared once for a table, then drawn once an epoch: every eligible chip is a query
exactly once, in random order, and its key is uniform over the chips that the policy allows.
Neither step loops over samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl import geo
from geossl.data import scenes

Draw = Callable[[torch.Generator], tuple[Tensor, Tensor]]
Single = Literal["self", "drop"]
_DAY_US = 86_400_000_000
_CHUNK = 4_000_000  # candidate pairs looked at together


class PairSampler(Protocol):
    """Anything with `prepare`."""

    def prepare(self, table: pd.DataFrame) -> Draw:
        """Look at a scene table once; the result draws an epoch."""


@dataclass(frozen=True)
class _Candidates:
    """Lists of allowed keys, ``keys[start[o] : start[o + 1]]`` for owner o; a chip has an owner."""

    keys: np.ndarray
    start: np.ndarray
    owner: np.ndarray

    def draw(self, single: Single) -> Draw:
        keys, owner = torch.from_numpy(self.keys), torch.from_numpy(self.owner)
        first = torch.from_numpy(self.start[:-1])[owner]
        count = torch.from_numpy(np.diff(self.start))[owner]
        queries = torch.arange(len(count)) if single == "self" else count.nonzero()[:, 0]

        def drawn(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            query = queries[torch.randperm(len(queries), generator=generator)]
            among = count[query]
            u = torch.rand(len(query), generator=generator, dtype=torch.float64)
            place = first[query] + torch.minimum((u * among).long(), (among - 1).clamp(min=0))
            return query, torch.where(among > 0, keys[place.clamp(max=len(keys) - 1)], query)

        return drawn


@dataclass(frozen=True)
class SameImage:
    """The two views show one chip: plain MoCo-v2."""

    def prepare(self, table: pd.DataFrame) -> Draw:
        """Look at a scene table once; the result draws an epoch."""
        count = len(table)

        def drawn(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            query = torch.randperm(count, generator=generator)
            return query, query.clone()

        return drawn


@dataclass(frozen=True)
class Temporal:
    """The key is another date of the query's location; see `temporal`."""

    min_gap_days: float = 0.0
    max_gap_days: float | None = None
    season: Literal["same", "other"] | None = None
    single_date: Single = "self"

    def prepare(self, table: pd.DataFrame) -> Draw:
        """Look at a scene table once; the result draws an epoch."""
        candidates = _in_groups(scenes.location_codes(table), self._allowed(table))
        if len(candidates.keys) == 0:
            dates = table.groupby("location")["time"].nunique()
            raise ValueError(
                f"expected places with two dates that fit {self}, came none among {len(dates)} "
                f"places ({int((dates > 1).sum())} have two dates or more); loosen the policy or "
                "use same_image()"
            )
        return candidates.draw(self.single_date)

    def _allowed(self, table: pd.DataFrame) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        missing = table["time"].isna().to_numpy()
        when = table["time"].astype("datetime64[us, UTC]").astype("int64").to_numpy() / _DAY_US
        quarter = (table["time"].dt.month.fillna(0).to_numpy(int) % 12) // 3
        free = self.min_gap_days <= 0 and self.max_gap_days is None and self.season is None

        def allowed(query: np.ndarray, key: np.ndarray) -> np.ndarray:
            ok = query != key
            if free:  # another row of the place at another time, or at an unknown one
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


@dataclass(frozen=True)
class Spatial:
    """The key shows another location near by; see `spatial`."""

    radius_km: float
    single_date: Single = "self"

    def prepare(self, table: pd.DataFrame) -> Draw:
        """Look at a scene table once; the result draws an epoch."""
        from scipy.spatial import cKDTree

        scenes.require_positions(table, "pairs of neighbors")
        codes = scenes.location_codes(table)
        order = np.argsort(codes, kind="stable")
        size = np.bincount(codes)
        first = np.concatenate([[0], np.cumsum(size)])
        rows = scenes.first_rows(codes)
        at = geo.unit_vectors(table["lon"].to_numpy()[rows], table["lat"].to_numpy()[rows])
        chord = 2 * np.sin(min(self.radius_km / geo.EARTH_RADIUS_KM, np.pi) / 2)
        near = cKDTree(at).query_pairs(chord * (1 + 1e-12), output_type="ndarray")
        if len(near) == 0:
            raise ValueError(
                f"expected places within {self.radius_km} km of each other, came none among "
                f"{len(size)}; give a larger radius_km"
            )
        both = np.concatenate([near, near[:, ::-1]])
        both = both[np.argsort(both[:, 0], kind="stable")]
        # chips of the neighbors, listed once per place, then repeated for its chips by reference
        lengths = size[both[:, 1]]
        keys = order[_ranges(first[both[:, 1]], lengths)]
        per_place = np.bincount(both[:, 0], weights=lengths, minlength=len(size)).astype(np.int64)
        start = np.concatenate([[0], np.cumsum(per_place)])
        return _Candidates(keys, start, codes).draw(self.single_date)


@dataclass(frozen=True)
class Mixture:
    """Each query draws its policy by weight; see `mixture`."""

    parts: tuple[tuple[Any, float], ...]

    def prepare(self, table: pd.DataFrame) -> Draw:
        """Look at a scene table once; the result draws an epoch."""
        draws = [policy.prepare(table) for policy, _ in self.parts]
        weights = torch.tensor([w for _, w in self.parts], dtype=torch.float64)
        means_self = torch.tensor([isinstance(policy, SameImage) for policy, _ in self.parts])
        count = len(table)

        def drawn(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            keys = torch.full((len(draws), count), -1)
            for key, draw in zip(keys, draws, strict=True):
                query, partner = draw(generator)
                key[query] = partner
            loose = keys >= 0
            able = loose & ((keys != torch.arange(count)) | means_self[:, None])
            share = weights[:, None] * torch.where(able.any(0), able, loose)
            query = (share.sum(0) > 0).nonzero()[:, 0]
            query = query[torch.randperm(len(query), generator=generator)]
            chosen = torch.multinomial(share[:, query].T, 1, generator=generator)[:, 0]
            return query, keys[chosen, query]

        return drawn


def same_image() -> SameImage:
    """Query and key are two views of one chip.

    Source:
        MoCo-v2, arXiv 2003.04297.
    """
    return SameImage()


def temporal(
    *,
    min_gap_days: float = 0.0,
    max_gap_days: float | None = None,
    season: Literal["same", "other"] | None = None,
    single_date: Single = "self",
) -> Temporal:
    """The key is another date of the query's location, uniform over those allowed.

    Args:
        min_gap_days: the dates lie at least so far apart.
        max_gap_days: and at most so far.
        season: both in the same season (December to February, March to May, ...), or in two.
        single_date: a chip without an allowed partner is paired with itself ("self", which is
            what the paper's code does) or is no query ("drop").

    Returns:
        A policy. A chip without a time has no gap: it has partners only where no constraint is set.

    Raises:
        ValueError: a gap range that is empty, or an unknown word; on `prepare`, when no chip has a
            partner.

    Source:
        Ayush et al., arXiv 2011.09980, section 4.1; the gaps, the seasons and "drop" are ours.
    """
    if min_gap_days < 0 or (max_gap_days is not None and max_gap_days < min_gap_days):
        raise ValueError(
            f"expected 0 <= min_gap_days <= max_gap_days, came {min_gap_days} and {max_gap_days}"
        )
    if season not in (None, "same", "other"):
        raise ValueError(f"expected season of same, other or None; came {season!r}")
    _check_single(single_date)
    return Temporal(min_gap_days, max_gap_days, season, single_date)


def spatial(*, radius_km: float, single_date: Single = "self") -> Spatial:
    """The key shows another location within a radius; any of its dates.

    Args:
        radius_km: great-circle distance between the two places, > 0.
        single_date: what becomes of a chip without such a neighbor, "self" or "drop".

    Raises:
        ValueError: a radius that is not > 0; on `prepare`, when no two places lie so near.

    Source:
        Tile2Vec, arXiv 1805.02855, for the idea of near places as positives.
    """
    if not radius_km > 0:
        raise ValueError(f"expected radius_km > 0, came {radius_km}")
    _check_single(single_date)
    return Spatial(radius_km, single_date)


def mixture(*parts: tuple[PairSampler, float]) -> Mixture:
    """Each query draws one of several policies, by weight, among those that have a partner for it.

    Args:
        parts: ``(policy, weight)``, weights > 0, in any unit.

    Raises:
        ValueError: no part, or a weight that is not > 0.
    """
    if not parts or min(weight for _, weight in parts) <= 0:
        raise ValueError(f"expected (policy, weight) with weights > 0, came {parts}")
    return Mixture(tuple((policy, float(weight)) for policy, weight in parts))


def report(policy: PairSampler, table: pd.DataFrame, *, seed: int = 0) -> dict[str, float]:
    """What one epoch of pairs looks like.

    Args:
        policy: what draws.
        table: the scene table.
        seed: of the epoch looked at.

    Returns:
        ``n_pairs``; ``degenerate`` and ``degenerate_share``: pairs of a chip with itself;
        ``dropped``: chips that are no query; ``gap_days_median``, ``gap_days_max`` and
        ``distance_km_median`` over the others (nan when there are none).
    """
    query, key = (
        part.numpy() for part in policy.prepare(table)(torch.Generator().manual_seed(seed))
    )
    own = query == key
    times = table["time"].to_numpy("datetime64[us]")
    gaps = np.abs((times[query] - times[key])[~own] / np.timedelta64(1, "D"))
    gaps = gaps[np.isfinite(gaps)]
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    far = geo.great_circle_km(lon[query], lat[query], lon[key], lat[key])[~own]
    return {
        "n_pairs": len(query),
        "degenerate": int(own.sum()),
        "degenerate_share": float(own.mean()) if len(own) else 0.0,
        "dropped": len(table) - len(query),
        "gap_days_median": float(np.median(gaps)) if len(gaps) else float("nan"),
        "gap_days_max": float(gaps.max()) if len(gaps) else float("nan"),
        "distance_km_median": float(np.median(far)) if len(far) else float("nan"),
    }


def _check_single(single_date: str) -> None:
    if single_date not in ("self", "drop"):
        raise ValueError(f"expected single_date of self or drop, came {single_date!r}")


def _ranges(first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``first[0], first[0] + 1, ...`` for each length, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - lengths), lengths)


def _in_groups(
    codes: np.ndarray, allowed: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> _Candidates:
    """Allowed keys among the rows of the same group, looked at in chunks of bounded memory."""
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
