"""Geo clusters: k-means of places on the sphere, their cells, and what they confound."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geossl import geo
from geossl.data import scenes
from geossl.utils.io import atomic_write

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

On = Literal["sphere", "degrees"]
_ROWS = 4096  # places assigned at a time; their similarities stay in the cache
_MANY = 200_000  # places above which k-means learns from a sample of so many
_STEP_DEG = 2.0  # a cell's edge follows the great circle in steps of this


@dataclass(frozen=True)
class GeoClusters:
    """K clusters of places.

    Attributes:
        centers: ``(K, 2)`` longitudes and latitudes in degrees.
        sizes: ``(K,)`` number of locations fitted in each.
        on: "sphere", or "degrees" for the raw variant, which splits clusters at the antimeridian
            and squashes the poles.
    """

    centers: np.ndarray
    sizes: np.ndarray
    on: On = "sphere"

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centers)

    @classmethod
    def fit(
        cls, table: pd.DataFrame, *, k: int = 100, seed: int = 0, on: On = "sphere"
    ) -> GeoClusters:
        """K-means of the locations of a scene table, each counted once.

        Args:
            table: scene table.
            k: number of clusters; 100 in the paper.
            seed: of the start.
            on: what the distance is taken on.

        Raises:
            ValueError: fewer distinct places than clusters, or an unknown ``on``.

        Source:
            Ayush et al., arXiv 2011.09980, section 4.2. Whether the paper clusters degrees or the
            sphere is not stated; the sphere is right. Above 200,000 places the centers are learned
            from a random 200,000 of them.
        """
        from sklearn.cluster import KMeans

        if on not in ("sphere", "degrees"):
            raise ValueError(f"expected on of sphere or degrees, came {on!r}")
        scenes.require_positions(table, "geo clusters")
        first = scenes.first_rows(scenes.location_codes(table))
        lon, lat = table["lon"].to_numpy(float)[first], table["lat"].to_numpy(float)[first]
        points = _points(lon, lat, on)
        distinct = int((~pd.DataFrame(points).duplicated()).sum())
        if not 1 <= k <= distinct:
            raise ValueError(
                f"expected 1 <= k <= {distinct}, the number of distinct places; came k = {k}; "
                "lower k or add places"
            )
        sample = points
        if len(points) > _MANY:
            sample = points[np.random.default_rng(seed).permutation(len(points))[:_MANY]]
        found = KMeans(k, n_init=1, random_state=seed, max_iter=100).fit(sample).cluster_centers_
        if on == "sphere":
            found = np.column_stack(geo.lon_lat(found))
        # numbered from west to east within bands from north to south, so that neighbors are near
        order = np.lexsort((found[:, 0], -np.round(found[:, 1] / 20)))
        clusters = cls(found[order], np.zeros(k, int), on)
        sizes = np.bincount(clusters.assign(lon, lat), minlength=k)
        return cls(clusters.centers, sizes, on)

    def assign(self, lon: ArrayLike, lat: ArrayLike) -> np.ndarray:
        """Cluster ``(M,)`` int64 of positions in degrees: that of the nearest center."""
        lon, lat = np.atleast_1d(lon), np.atleast_1d(lat)
        centers = _points(self.centers[:, 0], self.centers[:, 1], self.on)
        half = (centers**2).sum(1) / 2  # nearest = largest dot product less half the norm
        parts = [
            (_points(lon[i : i + _ROWS], lat[i : i + _ROWS], self.on) @ centers.T - half).argmax(1)
            for i in range(0, len(lon), _ROWS)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def cells(self) -> list[BaseGeometry]:
        """The region of each cluster as a shapely geometry in longitude and latitude.

        On the sphere these are spherical Voronoi cells: bounded by great circles, cut at the
        antimeridian, with the pole inside where the cell holds it.
        """
        from shapely import box

        if self.on == "degrees":
            return _planar_cells(self.centers)
        if self.k == 1:
            return [box(-180, -90, 180, 90)]
        return _spherical_cells(self)

    def colors(self) -> np.ndarray:
        """Color number 0..7 of each cell such that neighbors differ; ``(K,)`` int.

        Greedy: the most crowded cell first, the least used color that no neighbor has.
        """
        near = self._neighbors()
        colors = np.full(self.k, -1)
        used = np.zeros(8, int)
        for i in sorted(range(self.k), key=lambda i: -len(near[i])):
            taken = {int(colors[j]) for j in near[i]}
            free = [c for c in range(8) if c not in taken] or list(range(8))
            colors[i] = min(free, key=lambda c: (used[c], c))
            used[colors[i]] += 1
        return colors

    def _neighbors(self) -> list[np.ndarray]:
        """Clusters whose cells touch, for each cluster."""
        from shapely import STRtree

        if self.on == "sphere":
            near = _delaunay(geo.unit_vectors(self.centers[:, 0], self.centers[:, 1]))
            if near is not None:
                return near
        cells = self.cells()
        slack = 1e-6 * max(float(np.ptp(self.centers, 0).max()), 1e-6)
        a, b = STRtree(cells).query([c.buffer(slack) for c in cells], predicate="intersects")
        return [np.setdiff1d(b[a == i], [i]) for i in range(self.k)]

    def purity(self, table: pd.DataFrame, *, label: str = "label") -> pd.DataFrame:
        """How much a cluster tells of a label, one row per cluster, the largest first.

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
            raise ValueError(f"expected a column {label!r} of labels, came {list(table.columns)}")
        known = table[table[label].notna()].drop_duplicates("location")
        cluster = self.assign(known["lon"].to_numpy(), known["lat"].to_numpy())
        counts = pd.crosstab(cluster, known[label].to_numpy()).reindex(range(self.k), fill_value=0)
        size = counts.sum(axis=1)
        share = counts.div(size.where(size > 0), axis=0)
        bits = -(share * np.log2(share.where(share > 0))).sum(axis=1)
        result = pd.DataFrame(
            {
                "cluster": np.arange(self.k),
                "size": size.to_numpy(),
                "label": share.fillna(-1).idxmax(axis=1).where(size > 0).to_numpy(),
                "purity": share.max(axis=1).to_numpy(),
                "entropy_bits": bits.abs().where(size > 0).to_numpy(),
            }
        )
        return result.sort_values(["size", "cluster"], ascending=[False, True], ignore_index=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as json; atomic."""
        state = {
            "format": 1, "on": self.on, "centers": self.centers.tolist(),
            "sizes": self.sizes.tolist(),
        }  # fmt: skip
        with atomic_write(path) as part:
            part.write_text(json.dumps(state) + "\n", "utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GeoClusters:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no geo clusters.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"expected geo clusters at {path}, found no file")
        try:
            state = json.loads(path.read_text("utf-8"))
            centers = np.array(state["centers"], float).reshape(-1, 2)
            return cls(centers, np.array(state["sizes"], int), state["on"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"expected geo clusters written by GeoClusters.save at {path}, came something else"
            ) from None

    def to_csv(self, path: str | os.PathLike[str], table: pd.DataFrame) -> None:
        """Write (cluster, path) of every scene, with a header: the paper's own format; atomic."""
        cluster = self.assign(table["lon"].to_numpy(), table["lat"].to_numpy())
        with atomic_write(path) as part:
            frame = pd.DataFrame({"cluster": cluster, "path": table["path"].to_numpy()})
            frame.to_csv(part, index=False)


def _points(lon: ArrayLike, lat: ArrayLike, on: On) -> np.ndarray:
    if on == "sphere":
        return geo.unit_vectors(lon, lat)
    return np.column_stack([geo.wrap_lon(lon), np.asarray(lat, float)])


def _spherical_cells(clusters: GeoClusters) -> list[BaseGeometry]:
    """Each cell is where no other center is nearer: an intersection of hemispheres.

    Hemispheres become regions of the plane by their boundary's latitude as a function of longitude
    (a great circle meets every meridian once), so that poles and antimeridian need no special
    case. The curves are sampled at even steps and wherever two of them meet.
    """
    from shapely import MultiPolygon, Polygon, box, union_all

    centers = geo.unit_vectors(clusters.centers[:, 0], clusters.centers[:, 1])
    near = _delaunay(centers)
    even = np.linspace(-180, 180, round(360 / _STEP_DEG) + 1)
    world = box(-180, -90, 180, 90)
    cells: list[BaseGeometry] = []
    for i, center in enumerate(centers):
        others = np.delete(np.arange(len(centers)), i) if near is None else near[i]
        normals = center - centers[others]  # the cell lies where normal @ x >= 0
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        corners = np.cross(normals[:, None], normals[None]).reshape(-1, 3)
        corners = geo.lon_lat(corners[np.linalg.norm(corners, axis=1) > 1e-12])[0]
        lons = np.unique(np.concatenate([even, corners, geo.wrap_lon(corners + 180)]))
        upright = np.abs(normals[:, 2]) < 1e-9  # the boundary is a meridian
        cell: BaseGeometry = world
        for at in geo.lon_lat(normals[upright])[0]:
            half = [box(at - 90 + turn, -90, at + 90 + turn, 90) for turn in (-360, 0, 360)]
            cell = cell.intersection(union_all(half))
        leaning = normals[~upright]
        a = np.radians(lons)
        along = leaning[:, :1] * np.cos(a) + leaning[:, 1:2] * np.sin(a)
        edge = np.degrees(np.arctan(-along / leaning[:, 2:]))  # (J, L)
        north = leaning[:, 2] > 0
        low = edge[north].max(0, initial=-90.0)
        high = edge[~north].min(0, initial=90.0)
        rings = _between(lons, low, high)
        region = union_all([Polygon(ring).buffer(0) for ring in rings]) if rings else MultiPolygon()
        cells.append(cell.intersection(region))
    return cells


def _between(lons: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """Rings of the region between two curves over longitude, where low < high."""
    rings = []
    gap = high - low
    inside = gap > 0
    start = 0
    n = len(lons)
    while start < n:
        if not inside[start]:
            start += 1
            continue
        stop = start
        while stop + 1 < n and inside[stop + 1]:
            stop += 1
        x, y0, y1 = lons[start : stop + 1], low[start : stop + 1], high[start : stop + 1]
        for side, at in ((-1, start), (1, stop)):  # where the two curves meet beyond the last step
            other = at + side
            if 0 <= other < n:
                part = gap[at] / (gap[at] - gap[other])
                tip = lons[at] + part * (lons[other] - lons[at])
                lat = low[at] + part * (low[other] - low[at])
                x, y0, y1 = (
                    np.concatenate([[v], a] if side < 0 else [a, [v]])
                    for v, a in ((tip, x), (lat, y0), (lat, y1))
                )
        if len(x) > 1:
            bottom, top = np.column_stack([x, y0]), np.column_stack([x, y1])[::-1]
            rings.append(np.concatenate([bottom, top]))
        start = stop + 1
    return rings


def _delaunay(centers: np.ndarray) -> list[np.ndarray] | None:
    """Neighbors of each center on the sphere, from their convex hull; None where it is flat."""
    from scipy.spatial import ConvexHull, QhullError

    k = len(centers)
    if k < 5:
        return None
    try:
        hull = ConvexHull(centers)
    except QhullError:
        return None
    if len(hull.vertices) < k:
        return None
    near: list[set[int]] = [set() for _ in range(k)]
    for triangle in hull.simplices:
        for i in triangle:
            near[i] |= set(triangle.tolist()) - {int(i)}
    return [np.array(sorted(n)) for n in near]


def _planar_cells(centers: np.ndarray) -> list[BaseGeometry]:
    """Voronoi cells of points in the plane of degrees, within the map."""
    from shapely import Polygon, box

    big = 1000.0
    cells: list[BaseGeometry] = []
    for i, center in enumerate(centers):
        cell: BaseGeometry = box(-180, -90, 180, 90)
        for j, other in enumerate(centers):
            away = center - other
            length = np.linalg.norm(away)
            if j == i or length < 1e-12:
                continue
            u = away / length
            v = np.array([-u[1], u[0]])
            m = (center + other) / 2
            half = Polygon([m + big * v, m - big * v, m - big * v + big * u, m + big * v + big * u])
            cell = cell.intersection(half)
        cells.append(cell)
    return cells
