"""Geo clusters: k-means of locations on the sphere, their cells, and how pure their labels are."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geossl import geo
from geossl.data import scenes
from geossl.data.files import DatasetError
from geossl.utils.io import as_record, atomic_write, load_json
from geossl.utils.validate import (
    Latitude,
    Longitude,
    NonNegativeInt,
    PositiveInt,
    Seed,
    advise,
    check_fields,
    validated,
)

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

__all__ = ["GeoClusters"]

Metric = Literal["sphere", "degrees"]
FORMAT = 1
_ROWS = 4096  # locations assigned at a time; their similarities stay in the cache
_SAMPLE = 200_000  # with more locations, k-means learns from a sample of so many


@dataclass(frozen=True)
class GeoClusters:
    """K clusters of locations.

    Attributes:
        centers: ``(K, 2)`` longitudes and latitudes in degrees.
        sizes: ``(K,)`` number of fitted locations in each.
        on: "sphere", or "degrees" for the raw variant, which splits clusters at the antimeridian
            and squashes the poles.
    """

    centers: np.ndarray
    sizes: np.ndarray
    on: Metric = "sphere"

    def __post_init__(self) -> None:
        check_fields(self)
        k = len(self.centers)
        if self.centers.shape != (k, 2) or k == 0 or self.centers.dtype.kind not in "fiu":
            raise ValueError(
                f"`centers` must be numbers of shape (K, 2), got {self.centers.dtype} of shape "
                f"{self.centers.shape}."
            )
        far = ~(np.abs(self.centers) <= (180, 90)).all(1)  # nan is far too
        if far.any():
            raise ValueError(
                "`centers` must be longitudes from -180 to 180 and latitudes from -90 to 90, got "
                f"{self.centers[far][0].tolist()}."
            )
        distinct, count = np.unique(self.centers, axis=0, return_counts=True)
        if len(distinct) < k:
            raise ValueError(
                f"`centers` must be distinct, got {distinct[count.argmax()].tolist()} "
                f"{count.max()} times."
            )
        if self.sizes.shape != (k,) or self.sizes.dtype.kind not in "iu" or (self.sizes < 0).any():
            raise ValueError(
                f"`sizes` must be {k} counts, got {self.sizes.dtype} of shape {self.sizes.shape}."
            )

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centers)

    @classmethod
    @validated
    def fit(
        cls,
        table: pd.DataFrame,
        *,
        k: PositiveInt = 100,
        seed: Seed = 0,
        on: Metric = "sphere",
    ) -> GeoClusters:
        """Cluster the locations of a scene table by k-means, each counted once.

        Args:
            table: scene table.
            k: number of clusters; 100 in the paper.
            seed: of the initial centers.
            on: whether distances are those on the sphere, or between degrees.

        Raises:
            ValueError: fewer distinct locations than clusters, or rows without coordinates.

        Source:
            Ayush et al., arXiv 2011.09980, section 4.2. Whether the paper clusters degrees or the
            sphere is not stated; the sphere is right. With more than 200,000 locations the centers
            are learned from a random 200,000 of them.

        Example:
            >>> table = pd.DataFrame({"location": [0, 1, 2], "lon": [0, 1, 90], "lat": [0, 1, 45]})
            >>> GeoClusters.fit(table, k=2).sizes.tolist()
            [1, 2]
        """
        from sklearn.cluster import KMeans

        scenes.require_positions(table, "geo clusters")
        first = scenes.first_rows(scenes.location_codes(table))
        lon, lat = table["lon"].to_numpy(float)[first], table["lat"].to_numpy(float)[first]
        points = _points(lon, lat, on)
        distinct = len(pd.DataFrame(points).drop_duplicates())
        if k > distinct:
            raise ValueError(
                f"`k` must be <= {distinct}, the number of distinct locations, got {k}. Lower `k` "
                "or add locations."
            )
        sample = points
        if len(points) > _SAMPLE:
            sample = points[np.random.default_rng(seed).permutation(len(points))[:_SAMPLE]]
        centers = KMeans(k, n_init=1, random_state=seed, max_iter=100).fit(sample).cluster_centers_
        if on == "sphere":
            centers = np.column_stack(geo.lon_lat(centers))
        # numbered from west to east within bands from north to south, so that neighbors are near
        centers = centers[np.lexsort((centers[:, 0], -np.round(centers[:, 1] / 20)))]
        cluster = cls(centers, np.zeros(k, int), on).assign(lon, lat)
        return cls(centers, np.bincount(cluster, minlength=k), on)

    @validated
    def assign(self, lon: ArrayLike, lat: ArrayLike) -> np.ndarray:
        """Return the cluster ``(M,)`` int64 of positions in degrees: that of the nearest center."""
        lon, lat = np.atleast_1d(lon), np.atleast_1d(lat)
        if lon.shape != lat.shape or bool((np.abs(lat) > 90).any()):
            raise ValueError("`lon` and `lat` must have one length, and `lat` be from -90 to 90.")
        centers = self._points()
        origin = centers.mean(0)  # centers of a small area differ in their last digits only
        centers = centers - origin
        half = (centers**2).sum(1) / 2  # nearest = largest dot product less half the norm
        parts = [
            ((_points(lon[part], lat[part], self.on) - origin) @ centers.T - half).argmax(1)
            for part in (slice(i, i + _ROWS) for i in range(0, len(lon), _ROWS))
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _points(self) -> np.ndarray:
        return _points(self.centers[:, 0], self.centers[:, 1], self.on)

    def cells(self) -> list[BaseGeometry]:
        """Return the region of each cluster as a shapely geometry in longitude and latitude.

        On the sphere these are spherical Voronoi cells: bounded by great circles, cut at the
        antimeridian, with the pole inside where the cell holds it. Edges have corners where they
        bend, the closer to the center the finer, so that cells of a site of some meters are as
        right as those of the world.
        """
        return list(self._cells)

    @cached_property
    def _cells(self) -> list[BaseGeometry]:
        points = self._points()
        cell = geo.planar_cell if self.on == "degrees" else geo.spherical_cell
        order = [near[((points[near] - p) ** 2).sum(1).argsort()]
                 for p, near in zip(points, self._neighbors(), strict=True)]  # fmt: skip
        return [cell(p, points[near]) for p, near in zip(points, order, strict=True)]

    def colors(self) -> np.ndarray:
        """Return a color number 0..7 for each cell such that neighbors differ; ``(K,)`` int.

        Greedy: the most crowded cell first, the least used color that no neighbor has.
        """
        near = self._neighbors()
        colors = np.full(self.k, -1)
        used = np.zeros(8, int)
        for i in sorted(range(self.k), key=lambda i: -len(near[i])):
            taken = set(colors[near[i]].tolist())
            free = [color for color in range(8) if color not in taken] or range(8)
            colors[i] = min(free, key=lambda color: (used[color], color))
            used[colors[i]] += 1
        return colors

    def _neighbors(self) -> list[np.ndarray]:
        """Return for each cluster those whose cells may touch its own, by Delaunay triangles.

        All others where there are none: few centers, or all on one line or circle.
        """
        from scipy.spatial import ConvexHull, Delaunay, QhullError

        points = self._points()
        offsets = points - points.mean(0)
        try:
            if self.on == "sphere":
                # the Delaunay triangles are the faces of the convex hull, of a small area too once
                # its slight curve is scaled up: one axis along the mean, the others across it
                up, *across = np.linalg.svd(points.mean(0)[None])[2]
                up *= np.copysign(1, up @ points.mean(0))
                height = ((points - up) ** 2).sum(1)
                local = np.column_stack([offsets @ np.transpose(across), height - height.mean()])
                shape = ConvexHull(local / np.maximum(np.abs(local).max(0), 1e-300))
            else:
                shape = Delaunay(offsets / np.maximum(np.abs(offsets).max(), 1e-300))
        except (QhullError, ValueError):  # ValueError: fewer points than qhull accepts
            shape = None
        corners = np.zeros((0, 3), int) if shape is None else shape.simplices
        if self.k < 5 or len(np.unique(corners)) < self.k:
            return [np.delete(np.arange(self.k), i) for i in range(self.k)]
        pairs = np.concatenate([corners[:, [i, j]] for i, j in permutations(range(3), 2)])
        pairs = np.unique(pairs, axis=0)
        return np.split(pairs[:, 1], np.cumsum(np.bincount(pairs[:, 0], minlength=self.k))[:-1])

    @validated
    def purity(self, table: pd.DataFrame, *, label: str = "label") -> pd.DataFrame:
        """Measure how pure the labels of each cluster are, one row per cluster, the largest first.

        Args:
            table: scene table; every location counts once, by its first row with a label.
            label: column of labels.

        Returns:
            ``cluster, size`` (labeled locations), ``label`` (the most frequent), ``purity`` (its
            share) and ``entropy_bits``; nan where no location has a label.

        Raises:
            ValueError: there is no such column.
        """
        if label not in table:
            raise ValueError(f"`label` must be a column of {list(table.columns)}, got {label!r}.")
        labeled = table[table[label].notna()].drop_duplicates("location")
        cluster = self.assign(labeled["lon"].to_numpy(), labeled["lat"].to_numpy())
        counts = pd.crosstab(cluster, labeled[label].to_numpy())
        counts = counts.reindex(range(self.k), fill_value=0)
        size = counts.sum(axis=1)
        share = counts.div(size.where(size > 0), axis=0)
        best = share.fillna(-1).idxmax(axis=1) if share.size else size
        bits = -(share * np.log2(share.where(share > 0))).sum(axis=1)
        result = pd.DataFrame({
            "cluster": np.arange(self.k),
            "size": size.to_numpy(),
            "label": best.where(size > 0).to_numpy(),
            "purity": share.max(axis=1).to_numpy(),
            "entropy_bits": bits.abs().where(size > 0).to_numpy(),
        })  # fmt: skip
        return result.sort_values(["size", "cluster"], ascending=[False, True], ignore_index=True)

    @validated
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as json; atomic."""
        state = {"centers": self.centers.tolist(), "sizes": self.sizes.tolist()}
        with atomic_write(path) as part:
            part.write_text(json.dumps({"format": FORMAT, "on": self.on, **state}) + "\n", "utf-8")

    @classmethod
    @validated
    def load(cls, path: str | os.PathLike[str]) -> GeoClusters:
        """Read a file of `save`.

        Raises:
            FileNotFoundError: there is no such file.
            DatasetError: it holds no geo clusters.
        """
        advice = "Write it with GeoClusters.save()."
        if not os.path.exists(path):
            raise FileNotFoundError(f"The file {path} does not exist. {advice}")
        content = load_json(path, error=DatasetError, advice=advice)
        try:
            record = as_record(_File, content)
            if record.format > FORMAT:
                raise ValueError(f"its format {record.format} is of a newer geossl")
            return cls(np.array(record.centers, float), np.array(record.sizes, int), record.on)
        except ValueError as error:
            reason = str(error).rstrip(".")
            raise DatasetError(f"{path} must hold geo clusters: {reason}. {advice}") from None

    @validated
    def to_csv(self, path: str | os.PathLike[str], table: pd.DataFrame) -> None:
        """Write (cluster, path) of every scene, with a header: the paper's own format; atomic."""
        cluster = self.assign(table["lon"].to_numpy(), table["lat"].to_numpy())
        with atomic_write(path) as part:
            frame = pd.DataFrame({"cluster": cluster, "path": table["path"].to_numpy()})
            frame.to_csv(part, index=False)


@dataclass(frozen=True)
class _File:
    centers: list[tuple[Longitude, Latitude]]
    sizes: list[NonNegativeInt]
    on: Metric
    format: PositiveInt = FORMAT


advise(GeoClusters, "Load them with GeoClusters.load(path).")


def _points(lon: ArrayLike, lat: ArrayLike, on: Metric) -> np.ndarray:
    if on == "sphere":
        return geo.unit_vectors(lon, lat)
    return np.column_stack([geo.wrap_lon(lon), np.asarray(lat, float)])
