"""Geo clusters of locations: fit, assign, change by hand, their cells, and their files."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge
from numpy.typing import ArrayLike

from geossl.clusters import fitting
from geossl.clusters.density import group_by_density
from geossl.clusters.files import read_clusters, write_clusters
from geossl.clusters.purity import measure_purity
from geossl.clusters.regions import Regions
from geossl.clusters.space import Metric, condense, group_centers, points_of
from geossl.utils.io import atomic_write
from geossl.utils.validate import NonNegativeInt, PositiveInt, Seed, advise, validated

__all__ = ["GeoClusters"]


class GeoClusters(Regions):
    """K clusters of locations, and where each of them is.

    A location belongs to the cluster of its nearest center. A cluster that was merged, or is not
    round, has several centers; one that was split by hand has centers within its own region only.

    Attributes:
        centers: ``(C, 2)`` longitudes and latitudes in degrees; ``C = K`` after `fit`.
        sizes: ``(K,)`` number of fitted locations in each cluster.
        on: "sphere", or "degrees" for the raw variant, which splits clusters at the antimeridian
            and squashes the poles.
        cluster_of: ``(C,)`` cluster of each center, -1 where others divide its region; 0 to
            ``C - 1`` when empty.
        parent: ``(C,)`` row of the center whose region this one divides, -1 for the whole world;
            all -1 when empty.
    """

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
        lon, lat = fitting.locations(table)
        centers = fitting.numbered(fitting.kmeans(points_of(lon, lat, on), k, seed=seed, on=on))
        return cls(centers, np.zeros(k, int), on)._counted(lon, lat)

    @classmethod
    @validated
    def fit_density(
        cls,
        table: pd.DataFrame,
        *,
        min_size: Annotated[int, Ge(2)] = 20,
        seed: Seed = 0,
    ) -> GeoClusters:
        """Cluster the clumps of the locations, see `group_by_density`; their number is found.

        Args:
            table: scene table; every location counts once.
            min_size: least number of locations in a clump.
            seed: of the sample where there are more than 20,000 locations.

        Returns:
            Clusters of any shape. Locations between the clumps (noise) are with the nearest one.

        Raises:
            ValueError: there is no clump of that size, or rows lack coordinates.

        Example:
            >>> lon = [0, 0.1, 0.2, 50, 50.1, 50.2, 120]
            >>> table = pd.DataFrame({"location": range(7), "lon": lon, "lat": 0})
            >>> GeoClusters.fit_density(table, min_size=3).sizes.tolist()
            [3, 4]
        """
        lon, lat = fitting.locations(table)
        groups = group_by_density(lon, lat, min_size=min_size, seed=seed)
        return cls.from_groups(lon, lat, groups)

    @classmethod
    @validated
    def from_groups(
        cls, lon: ArrayLike, lat: ArrayLike, groups: ArrayLike, *, on: Metric = "sphere"
    ) -> GeoClusters:
        """Make clusters of groups that are known: a place is with the nearest grouped location.

        Args:
            lon: ``(N,)`` degrees, one for each location.
            lat: ``(N,)`` degrees.
            groups: ``(N,)`` integers; locations with a number below 0 are with the nearest others.
            on: which distance is near.

        Raises:
            ValueError: not one group for each location, or no group at all.

        Example:
            >>> GeoClusters.from_groups([0, 1, 9], [0, 0, 0], [5, 5, 7]).assign([2, 8], [0, 0])
            array([0, 1])
        """
        lon, lat, groups = (np.atleast_1d(values) for values in (lon, lat, groups))
        if groups.shape != lon.shape or groups.dtype.kind not in "iu" or not (groups >= 0).any():
            raise ValueError(
                "`groups` must be an integer for each location, at least one of them >= 0, got "
                f"{groups.dtype} of shape {groups.shape} for {len(lon)} locations."
            )
        known = np.flatnonzero(groups >= 0)
        points, first = np.unique(points_of(lon[known], lat[known], on), axis=0, return_index=True)
        rows = known[first]
        number = np.unique(groups[rows], return_inverse=True)[1]
        rows = rows[kept := condense(points, number, on)]
        fitted = cls(np.column_stack([lon, lat])[rows].astype(float),
                     np.zeros(number.max() + 1, int), on, number[kept])  # fmt: skip
        return fitted._renumbered()._counted(lon, lat)

    @classmethod
    @validated
    def hierarchy(
        cls,
        table: pd.DataFrame,
        *,
        k: Sequence[PositiveInt] = (5, 20, 100),
        seed: Seed = 0,
        on: Metric = "sphere",
    ) -> list[GeoClusters]:
        """Cluster at several K such that each cluster lies in one of every smaller K.

        k-means makes the most clusters. Those that spread least together are merged (Ward),
        down to each smaller K.

        Args:
            table: scene table.
            k: numbers of clusters.
            seed: of k-means.
            on: whether distances are those on the sphere, or between degrees.

        Returns:
            Clusters for each of ``k``. All have the same centers, so ``coarse.cluster_of`` says
            in which cluster of the coarse level each of the finest lies.

        Raises:
            ValueError: no K, fewer distinct locations than the largest, or missing coordinates.

        Example:
            >>> table = pd.DataFrame({"location": range(4), "lon": [0, 1, 50, 52], "lat": 0})
            >>> coarse, fine = GeoClusters.hierarchy(table, k=(2, 4))
            >>> coarse.cluster_of.tolist()
            [0, 0, 1, 1]
        """
        if not k:
            raise ValueError("`k` must hold at least one number of clusters, got none.")
        finest = cls.fit(table, k=max(k), seed=seed, on=on)
        points = points_of(finest.centers[:, 0], finest.centers[:, 1], on)
        return [
            dataclasses.replace(finest, cluster_of=groups, sizes=fitting.sums(finest.sizes, groups))
            for groups in group_centers(points, finest.sizes, tuple(k))
        ]

    @validated
    def merge(self, clusters: Sequence[NonNegativeInt]) -> GeoClusters:
        """Make one cluster of several; it takes the lowest number, and later ones move up.

        Args:
            clusters: their numbers, at least two.

        Raises:
            ValueError: fewer than two, or one that does not exist.

        Example:
            >>> GeoClusters.from_groups([0, 9, 50], [0, 0, 0], [0, 1, 2]).merge([0, 2]).k
            2
        """
        chosen = sorted(set(clusters))
        if len(chosen) < 2 or chosen[-1] >= self.k:
            raise ValueError(
                f"`clusters` must be two or more numbers from 0 to {self.k - 1}, got {clusters}."
            )
        number = np.arange(self.k)
        number[chosen] = chosen[0]
        number = np.unique(number, return_inverse=True)[1]
        own = np.where(self.cluster_of < 0, -1, number[self.cluster_of])
        return dataclasses.replace(self, cluster_of=own, sizes=fitting.sums(self.sizes, number))

    @validated
    def split(
        self, table: pd.DataFrame, *, cluster: NonNegativeInt, k: Annotated[int, Ge(2)] = 2,
        seed: Seed = 0,
    ) -> GeoClusters:  # fmt: skip
        """Divide a cluster by k-means of its locations; all others keep their region and number.

        The first part keeps the number of the cluster, the others get the numbers after the last.

        Args:
            table: scene table; ``sizes`` are counted in it again.
            cluster: its number.
            k: number of parts.
            seed: of k-means.

        Raises:
            ValueError: there is no such cluster, or it has fewer distinct locations than parts.

        Example:
            >>> table = pd.DataFrame({"location": range(4), "lon": [0, 1, 50, 90], "lat": 0})
            >>> GeoClusters.fit(table, k=2).split(table, cluster=0).k
            3
        """
        if cluster >= self.k:
            raise ValueError(f"`cluster` must be from 0 to {self.k - 1}, got {cluster}.")
        lon, lat = fitting.locations(table)
        inside = self.assign(lon, lat) == cluster
        points, where = points_of(lon[inside], lat[inside], self.on), f" in cluster {cluster}"
        centers = fitting.kmeans(points, k, seed=seed, on=self.on, where=where)
        centers = fitting.numbered(centers)
        divided = np.flatnonzero(self.cluster_of == cluster)
        own, parts = self.cluster_of.copy(), np.r_[cluster, self.k : self.k + k - 1]
        own[divided] = -1
        return GeoClusters(
            np.concatenate([self.centers, np.tile(centers, (len(divided), 1))]),
            np.zeros(self.k + k - 1, int), self.on,
            np.concatenate([own, np.tile(parts, len(divided))]),
            np.concatenate([self.parent, np.repeat(divided, k)]),
        )._counted(lon, lat)  # fmt: skip

    def _counted(self, lon: np.ndarray, lat: np.ndarray) -> GeoClusters:
        sizes = np.bincount(self.assign(lon, lat), minlength=self.k)
        return dataclasses.replace(self, sizes=sizes)

    def _renumbered(self) -> GeoClusters:
        """Number the clusters as `fit` does, by their middles."""
        order = fitting.order(self.middles())
        number = np.empty(self.k, int)
        number[order] = np.arange(self.k)
        return dataclasses.replace(
            self, cluster_of=number[self.cluster_of], sizes=self.sizes[order]
        )

    @validated
    def purity(self, table: pd.DataFrame, *, label: str = "label") -> pd.DataFrame:
        """Measure how pure the labels of each cluster are, one row per cluster, the largest first.

        Args:
            table: scene table; every location counts once, by its first row with a label.
            label: column of labels; a table without a column "label" has no labels.

        Returns:
            ``cluster, size`` (labeled locations), ``label`` (the most frequent), ``purity`` (its
            share) and ``entropy_bits``; nan where no location has a label.

        Raises:
            ValueError: there is no such column, and it is not called "label".
        """
        if label not in table:
            if label != "label":
                columns = list(table.columns)
                raise ValueError(f"`label` must be a column of {columns}, got {label!r}.")
            table = table.assign(label=None)
        labeled = table[table[label].notna()].drop_duplicates("location")
        cluster = self.assign(labeled["lon"].to_numpy(), labeled["lat"].to_numpy())
        return measure_purity(cluster, labeled[label], self.k)

    @validated
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as json, which `geossl.pretrain` reads through `load`; atomic."""
        write_clusters(self, path)

    @classmethod
    @validated
    def load(cls, path: str | os.PathLike[str]) -> GeoClusters:
        """Read a file of `save`.

        Raises:
            FileNotFoundError: there is no such file.
            DatasetError: it holds no geo clusters.
        """
        loaded = read_clusters(path, cls)
        assert isinstance(loaded, cls)
        return loaded

    @validated
    def to_csv(self, path: str | os.PathLike[str], table: pd.DataFrame) -> None:
        """Write (cluster, path) of every scene, with a header: the paper's own format; atomic."""
        cluster = self.assign(table["lon"].to_numpy(), table["lat"].to_numpy())
        with atomic_write(path) as part:
            frame = pd.DataFrame({"cluster": cluster, "path": table["path"].to_numpy()})
            frame.to_csv(part, index=False)

    @validated
    def to_geojson(self, path: str | os.PathLike[str]) -> None:
        """Write the cells with their ``cluster`` and its number of ``places``; atomic."""
        from shapely.geometry import mapping

        features = [
            {"type": "Feature", "geometry": mapping(cell),
             "properties": {"cluster": i, "places": int(size)}}
            for i, (cell, size) in enumerate(zip(self.cells(), self.sizes, strict=True))
        ]  # fmt: skip
        with atomic_write(path) as part:
            content = {"type": "FeatureCollection", "features": features}
            part.write_text(json.dumps(content), "utf-8")


advise(GeoClusters, "Load them with GeoClusters.load(path).")
