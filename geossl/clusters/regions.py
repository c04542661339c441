"""The regions of geo clusters: centers, what lies nearest to them, cells and their colors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from geossl.clusters.space import Metric, nearest, neighbors, points_of, voronoi_cells
from geossl.utils.validate import NonNegativeInt, check_fields, validated

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True)
class Regions:
    """What `GeoClusters` know of space; they document the fields."""

    centers: np.ndarray
    sizes: np.ndarray
    on: Metric = "sphere"
    cluster_of: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    parent: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    def __post_init__(self) -> None:
        check_fields(self)
        count, k = len(self.centers), len(self.sizes)
        if self.centers.shape != (count, 2) or count == 0 or self.centers.dtype.kind not in "fiu":
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
        if len(self.cluster_of) == 0:
            if self.sizes.shape == () or k != count:
                raise ValueError(self._bad_sizes(count))
            object.__setattr__(self, "cluster_of", np.arange(count))
        if len(self.parent) == 0:
            object.__setattr__(self, "parent", np.full(count, -1))
        if self.sizes.shape != (k,) or self.sizes.dtype.kind not in "iu" or (self.sizes < 0).any():
            raise ValueError(self._bad_sizes(k))
        self._check_tree(count, k)
        own = np.column_stack([self.parent, self.centers])  # the parts of two regions may agree
        distinct, copies = np.unique(own, axis=0, return_counts=True)
        if len(distinct) < count:
            raise ValueError(
                f"`centers` must be distinct, got {distinct[copies.argmax(), 1:].tolist()} "
                f"{copies.max()} times."
            )

    @property
    def is_plain(self) -> bool:
        """Whether cluster i is what lies nearest to center i."""
        return np.array_equal(self.cluster_of, np.arange(len(self.centers)))

    def _bad_sizes(self, k: int) -> str:
        return f"`sizes` must be {k} counts, got {self.sizes.dtype} of shape {self.sizes.shape}."

    def _check_tree(self, count: int, k: int) -> None:
        """Raise unless each center divides an earlier one or none, and each cluster has some."""
        for name, values in (("cluster_of", self.cluster_of), ("parent", self.parent)):
            if values.shape != (count,) or values.dtype.kind not in "iu":
                raise ValueError(
                    f"`{name}` must be {count} integers, one for each center, got {values.dtype} "
                    f"of shape {values.shape}."
                )
        if (self.parent < -1).any() or (self.parent >= np.arange(count)).any():
            raise ValueError("`parent` must be -1 or the row of an earlier center.")
        is_leaf = ~np.isin(np.arange(count), self.parent)
        if (
            not np.array_equal(np.unique(self.cluster_of[is_leaf]), np.arange(k))
            or (self.cluster_of[~is_leaf] != -1).any()
        ):
            raise ValueError(
                f"`cluster_of` must be from 0 to {k - 1}, each with a center, and -1 for centers "
                "that others divide."
            )

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.sizes)

    @validated
    def assign(self, lon: ArrayLike, lat: ArrayLike) -> np.ndarray:
        """Return the cluster ``(M,)`` int64 of positions in degrees: that of the nearest center."""
        lon, lat = np.atleast_1d(lon), np.atleast_1d(lat)
        if lon.shape != lat.shape or bool((np.abs(lat) > 90).any()):
            raise ValueError("`lon` and `lat` must have one length, and `lat` be from -90 to 90.")
        points, centers = points_of(lon, lat, self.on), self._points()
        center = np.full(len(points), -1, np.int64)
        for parent in np.unique(self.parent):  # earlier ones first
            inside, children = np.flatnonzero(center == parent), self._children(parent)
            center[inside] = children[nearest(points[inside], centers[children])]
        return self.cluster_of[center].astype(np.int64)

    def _points(self) -> np.ndarray:
        return points_of(self.centers[:, 0], self.centers[:, 1], self.on)

    def _children(self, parent: int) -> np.ndarray:
        return np.flatnonzero(self.parent == parent)

    def middles(self) -> np.ndarray:
        """Return for each cluster the center nearest to the mean of its centers, ``(K, 2)``."""
        points, rows = self._points(), []
        for i in range(self.k):
            own = np.flatnonzero(self.cluster_of == i)
            rows.append(own[((points[own] - points[own].mean(0)) ** 2).sum(1).argmin()])
        return self.centers[rows]

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
        from shapely import make_valid, union_all

        points, regions = self._points(), np.empty(len(self.centers), object)
        for parent in np.unique(self.parent):
            children = self._children(parent)
            cells = voronoi_cells(points[children], self.on)
            for row, cell in zip(children, cells, strict=True):
                regions[row] = cell if parent < 0 else make_valid(cell & regions[parent])
        own = [regions[self.cluster_of == i] for i in range(self.k)]
        return [r[0] if len(r) == 1 else union_all(r, grid_size=1e-11) for r in own]

    def colors(self) -> np.ndarray:
        """Return a color number 0..7 for each cell such that neighbors differ; ``(K,)`` int.

        Greedy: the most crowded cell first, the least used color that no neighbor has.
        """
        near = self._near
        colors = np.full(self.k, -1)
        used = np.zeros(8, int)
        for i in sorted(range(self.k), key=lambda i: -len(near[i])):
            taken = set(colors[near[i]].tolist())
            free = [color for color in range(8) if color not in taken] or range(8)
            colors[i] = min(free, key=lambda color: (used[color], color))
            used[colors[i]] += 1
        return colors

    @validated
    def neighbors(self, cluster: NonNegativeInt) -> np.ndarray:
        """Return the clusters ``(n,)`` whose cells may touch that of one.

        Raises:
            ValueError: there is no such cluster.
        """
        if cluster >= self.k:
            raise ValueError(f"`cluster` must be from 0 to {self.k - 1}, got {cluster}.")
        return np.sort(self._near[cluster])

    @cached_property
    def _near(self) -> list[np.ndarray]:
        """Return for each cluster those whose cells may touch its own."""
        roots, points = self._children(-1), self._points()
        near = neighbors(points[roots], self.on)
        if self.is_plain:
            return near
        root = np.arange(len(self.centers))  # of each center; parents come first
        for row in np.flatnonzero(self.parent >= 0):
            root[row] = root[self.parent[row]]
        touches = np.zeros((self.k, self.k), bool)
        leaf = np.flatnonzero(self.cluster_of >= 0)
        within = [self.cluster_of[leaf[root[leaf] == r]] for r in roots]
        for own, others in zip(within, near, strict=True):
            around = np.concatenate([own, *(within[j] for j in others)])
            touches[np.ix_(own, around)] = True
        touches |= touches.T
        np.fill_diagonal(touches, False)
        return [np.flatnonzero(row) for row in touches]
