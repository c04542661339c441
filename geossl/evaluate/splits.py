"""Which chips train and which test, checked; and how far apart their places are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl import geo
from geossl.data import scenes
from geossl.embeddings import Embeddings

_VAL_SHARE = 5  # one in so many training locations stands in for an absent val split
_BELOW_KM = (1, 10, 100)
Split: TypeAlias = Literal["column", "blocks"] | pd.Series
Parts: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


def prepare(
    table: pd.DataFrame, label: str, *, split: Split, block_deg: float, seed: int
) -> tuple[np.ndarray, list[Any], Parts]:
    """Label codes, class names, and the labeled rows of train, val (may be empty) and test."""
    require_label(table, label)
    codes, names = scenes.label_codes(table[label])
    require_two_classes(codes, label)
    parts = split_rows(table, codes >= 0, label=label, split=split, block_deg=block_deg, seed=seed)
    return codes, names, parts


def split_rows(
    table: pd.DataFrame,
    known: np.ndarray,
    *,
    label: str,
    split: Split,
    block_deg: float,
    seed: int,
) -> Parts:
    """The rows of train, val (may be empty) and test whose label is known ``(M,)``."""
    where = split_of(table, split, block_deg=block_deg, seed=seed)
    train, val, test = (
        np.flatnonzero(rows_with_value(where, n) & known) for n in ("train", "val", "test")
    )
    for name, rows in (("train", train), ("test", test)):
        if len(rows) == 0:
            raise ValueError(
                f"expected rows of split {name!r} with a {label!r}, came none among "
                f"{count_values(where)}; give split='blocks' to make one"
            )
    return train, val, test


def split_of(table: pd.DataFrame, split: Split, *, block_deg: float, seed: int) -> pd.Series:
    """The split ``(M,)`` that is meant."""
    if isinstance(split, pd.Series):
        where = split
    elif split == "blocks":
        where = scenes.split_by_blocks(table, block_deg=block_deg, seed=seed)
    elif split == "column":
        where = get_column(table, "split")
    else:
        raise ValueError(f"expected split of column, blocks or a Series, came {split!r}")
    if len(where) != len(table):
        raise ValueError(f"expected a split of {len(table)} rows, came {len(where)}")
    return where


def require_label(table: pd.DataFrame, label: str) -> None:
    """Refuse a table without this column."""
    if label not in table:
        raise ValueError(f"expected a column {label!r} of labels, came {list(table.columns)}")


def get_column(table: pd.DataFrame, name: str) -> pd.Series:
    """A column, of missing values where the table has none."""
    return table[name] if name in table else pd.Series([None] * len(table), dtype=object)


def rows_with_value(values: pd.Series, name: str) -> np.ndarray:
    """Whether each is of this split ``(M,)``; a missing one is not."""
    return values.eq(name).fillna(False).to_numpy(bool)


def count_values(values: pd.Series) -> str:
    """How many rows each split has, for a message."""
    seen = {str(name): int(n) for name, n in values.value_counts().items()}
    return f"{len(values)} rows ({seen or 'no row has a split'})"


def require_finite(embeddings: Embeddings) -> None:
    """Refuse vectors with NaN or infinity."""
    bad = np.flatnonzero(~np.isfinite(embeddings.vectors).all(1))
    if len(bad):
        raise ValueError(
            f"expected finite vectors, {len(bad)} of {len(embeddings)} have NaN or infinity, the "
            f"first is row {bad[0]}; did the training diverge?"
        )


def require_two_classes(codes: np.ndarray, label: str) -> None:
    """Refuse less than two classes; codes of -1 are none."""
    classes = len(np.unique(codes[codes >= 0]))
    if classes < 2:
        raise ValueError(
            f"expected two classes or more of {label!r} to tell apart, came {classes} in "
            f"{len(codes)} rows"
        )


def known_classes(codes: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """Classes with training chips, and each row's place among them (-1: not there)."""
    known = np.unique(codes[train])
    place = np.full(codes.max() + 2, -1)
    place[known] = np.arange(len(known))
    return known, torch.from_numpy(place[codes])


def hold_out_validation(
    table: pd.DataFrame, train: np.ndarray, kind: np.ndarray, *, label: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Training rows without those of a fifth of the locations, and those.

    Args:
        table: the scenes.
        train: training rows.
        kind: ``(M,)`` class of every row; of each, one training location stays.
        label: column of the classes, for the message.
        seed: of which.
    """
    places = scenes.location_codes(table)[train]
    shuffled = np.random.default_rng(seed).permutation(np.unique(places))
    at = np.argsort(shuffled)[np.searchsorted(np.sort(shuffled), places)]  # place in the shuffle
    last = pd.Series(at).groupby(kind[train]).max()
    free = ~np.isin(np.arange(len(shuffled)), last)
    aside = free[at] & (at < max(1, len(shuffled) // _VAL_SHARE))
    if not aside.any():
        raise ValueError(
            "expected a val split, or more training locations than classes of "
            f"{label!r} to make one; came {len(shuffled)} locations; give one l2"
        )
    return train[~aside], train[aside]


@dataclass(frozen=True, eq=False, repr=False)
class Leakage:
    """How far test places lie from the training; near by, images show much the same.

    Attributes:
        places: one row per test location: location, lon, lat, km (to the nearest training
            location) and nearest (which).
        n_train: training locations.
        n_shared: locations in both.
    """

    places: pd.DataFrame
    n_train: int
    n_shared: int

    def quantiles(self, shares: tuple[float, ...] = (0, 0.05, 0.25, 0.5, 0.75, 1)) -> pd.Series:
        """Distances in km below which these shares of the test places lie."""
        return self.places["km"].quantile(list(shares))

    def share_below(self, km: float) -> float:
        """Share of the test places nearer to a training place than so many km."""
        return float((self.places["km"] < km).mean())

    def __str__(self) -> str:
        near = ", ".join(f"{self.share_below(km):.1%} below {km} km" for km in _BELOW_KM)
        least, middle = (f"{self.places['km'].quantile(q):,.3g} km" for q in (0, 0.5))
        shared = f"; {self.n_shared:,} places are in both" if self.n_shared else ""
        return (
            f"{len(self.places):,} test places lie {least} or more (half of them {middle} or more) "
            f"from the nearest of {self.n_train:,} training places: {near}{shared}"
        )

    __repr__ = __str__


def leakage(
    table: pd.DataFrame | Embeddings,
    *,
    split: Split = "column",
    block_deg: float = 10.0,
    seed: int = 0,
) -> Leakage:
    """Great-circle distance of each test place to the nearest training place.

    Args:
        table: a scene table, or embeddings with one; a location lies where its first row does.
        split: as in `linear`.
        block_deg: side of the blocks in degrees.
        seed: of the blocks.

    Raises:
        ValueError: rows without coordinates, no training or no test row.
        ImportError: SciPy is not installed.
    """
    try:
        from scipy.spatial import cKDTree
    except ImportError:
        raise ImportError("distances of places need SciPy; run: pip install scipy") from None

    table = table.scenes if isinstance(table, Embeddings) else table
    scenes.require_positions(table, "distances to training places")
    every = np.ones(len(table), bool)
    train, _, test = split_rows(
        table, every, label="location", split=split, block_deg=block_deg, seed=seed
    )
    codes = scenes.location_codes(table)
    first = np.unique(codes, return_index=True)[1]
    near, far = np.unique(codes[train]), np.unique(codes[test])
    lon, lat = (table[name].to_numpy(float)[first] for name in ("lon", "lat"))
    at = geo.unit_vectors(lon, lat)
    found = near[cKDTree(at[near]).query(at[far])[1]]  # nearest by chord is nearest on the sphere
    location = table["location"].to_numpy()[first]
    places = pd.DataFrame({
        "location": location[far], "lon": lon[far], "lat": lat[far],
        "km": geo.great_circle_km(lon[far], lat[far], lon[found], lat[found]),
        "nearest": location[found],
    })  # fmt: skip
    return Leakage(places, len(near), len(np.intersect1d(near, far)))
