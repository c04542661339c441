"""How far test locations lie from the training locations: near by, images show much the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from geossl import geo
from geossl.data import scenes
from geossl.embeddings import Embeddings
from geossl.evaluate.splits import Split, split_rows
from geossl.utils.validate import Fraction, NonNegative, Positive, Seed, validated

_BELOW_KM = (1, 10, 100)


@dataclass(frozen=True, eq=False, repr=False)
class Leakage:
    """Distances of the test locations to the training locations.

    Attributes:
        locations: one row per test location: location, lon, lat, km (to the nearest training
            location) and nearest (which one).
        n_train: training locations.
        n_shared: locations in both.
    """

    locations: pd.DataFrame
    n_train: int
    n_shared: int

    @validated
    def quantiles(self, shares: tuple[Fraction, ...] = (0, 0.05, 0.25, 0.5, 0.75, 1)) -> pd.Series:
        """Return the distances in km below which these shares of the test locations lie."""
        return self.locations["km"].quantile(list(shares))

    @validated
    def share_below(self, km: NonNegative) -> float:
        """Return the share of the test locations nearer than ``km`` to a training location."""
        return float((self.locations["km"] < km).mean())

    def __str__(self) -> str:
        near = ", ".join(f"{self.share_below(km):.1%} below {km} km" for km in _BELOW_KM)
        least, middle = (f"{self.locations['km'].quantile(q):,.3g} km" for q in (0, 0.5))
        shared = f"; {self.n_shared:,} locations are in both" if self.n_shared else ""
        return (
            f"{len(self.locations):,} test locations lie {least} or more (half of them {middle} or "
            f"more) from the nearest of {self.n_train:,} training locations: {near}{shared}"
        )

    __repr__ = __str__


@validated
def leakage(
    table: pd.DataFrame | Embeddings,
    *,
    split: Split = "column",
    block_deg: Positive = 10.0,
    seed: Seed = 0,
) -> Leakage:
    """Measure the great-circle distance of each test location to the nearest training location.

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
        raise ImportError("leakage() needs SciPy. Run: pip install scipy") from None

    table = table.scenes if isinstance(table, Embeddings) else table
    scenes.require_positions(table, "distances to training locations")
    every = np.ones(len(table), bool)
    train, _, test = split_rows(
        table,
        every,
        label="location",
        split=split,
        test_split="test",
        block_deg=block_deg,
        seed=seed,
    )
    codes = scenes.location_codes(table)
    first = scenes.first_rows(codes)
    lon, lat, location = (table[name].to_numpy()[first] for name in ("lon", "lat", "location"))
    points = geo.unit_vectors(lon.astype(float), lat.astype(float))
    train, test = np.unique(codes[train]), np.unique(codes[test])
    nearest = train[cKDTree(points[train]).query(points[test])[1]]  # by chord, so on the sphere
    km = geo.great_circle_km(lon[test], lat[test], lon[nearest], lat[nearest])
    columns = {"location": location[test], "lon": lon[test], "lat": lat[test]}
    distances = pd.DataFrame({**columns, "km": km, "nearest": location[nearest]})
    return Leakage(distances, len(train), len(np.intersect1d(train, test)))
