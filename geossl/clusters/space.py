"""Positions as points of a space in which near is near: the sphere, or the plane of degrees."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from geossl import geo

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Metric = Literal["sphere", "degrees"]
_SIMILARITIES = 2**22  # held at a time
_ROWS = 4096  # locations assigned at a time; their similarities stay in the cache


def points_of(lon: ArrayLike, lat: ArrayLike, on: Metric) -> np.ndarray:
    """Return points: unit vectors ``(N, 3)``, or degrees ``(N, 2)``."""
    if on == "sphere":
        return geo.unit_vectors(lon, lat)
    return np.column_stack([geo.wrap_lon(lon), np.asarray(lat, float)])


def nearest(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return the nearest of the centers ``(C, D)`` of each point ``(N, D)``, as ``(N,)`` int64."""
    origin = centers.mean(0)  # centers of a small area differ in their last digits only
    centers = centers - origin
    half = (centers**2).sum(1) / 2  # nearest = largest dot product less half the norm
    rows = max(1, min(_ROWS, _SIMILARITIES // len(centers)))
    parts = [
        ((points[i : i + rows] - origin) @ centers.T - half).argmax(1)
        for i in range(0, len(points), rows)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def triangles(points: np.ndarray, on: Metric) -> np.ndarray | None:
    """Return Delaunay triangles ``(T, 3)``, rows of points; None where there are none.

    So it is with few points, or with all on one line or circle.
    """
    from scipy.spatial import ConvexHull, Delaunay, QhullError

    offsets = points - points.mean(0)
    try:
        if on == "sphere":
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
        return None
    return shape.simplices


def neighbors(points: np.ndarray, on: Metric) -> list[np.ndarray]:
    """Return for each point those whose Voronoi cells may touch its own.

    All others where there are no triangles, or not of all points.
    """
    corners, count = triangles(points, on), len(points)
    if corners is None or count < 5 or len(np.unique(corners)) < count:
        return [np.delete(np.arange(count), i) for i in range(count)]
    pairs = np.concatenate([corners[:, [i, j]] for i, j in permutations(range(3), 2)])
    pairs = np.unique(pairs, axis=0)
    return np.split(pairs[:, 1], np.cumsum(np.bincount(pairs[:, 0], minlength=count))[:-1])


def voronoi_cells(points: np.ndarray, on: Metric) -> list[BaseGeometry]:
    """Return the Voronoi cell of each point as a shapely geometry in degrees."""
    cell = geo.planar_cell if on == "degrees" else geo.spherical_cell
    cells = []
    for point, near in zip(points, neighbors(points, on), strict=True):
        order = near[((points[near] - point) ** 2).sum(1).argsort()]
        cells.append(cell(point, points[order]))
    return cells


def condense(points: np.ndarray, groups: np.ndarray, on: Metric) -> np.ndarray:
    """Return the rows of points that decide which group is nearest everywhere.

    A point all of whose Delaunay neighbors are of its group changes no border between groups.

    Args:
        points: ``(N, D)``, all different.
        groups: ``(N,)`` from 0, each with a point.
        on: the space of the points.

    Returns:
        Rows ``(n,)`` of which each group has at least one.

    Source:
        Toussaint, Bhattacharya and Poulsen 1984, "The application of Voronoi diagrams to
        nonparametric decision rules".
    """
    corners = triangles(points, on)
    if corners is None:
        return np.arange(len(points))
    is_mixed = (groups[corners] != groups[corners][:, :1]).any(1)
    is_kept = np.zeros(len(points), bool)
    is_kept[corners[is_mixed]] = True
    first = np.unique(groups, return_index=True)[1]
    is_kept[first[np.bincount(groups[is_kept], minlength=len(first)) == 0]] = True
    while True:  # qhull leaves out points that lie on each other but for rounding
        rows = np.flatnonzero(is_kept)
        wrong = groups[rows][nearest(points, points[rows])] != groups
        if not (wrong & ~is_kept).any():
            return rows
        is_kept |= wrong


def group_centers(centers: np.ndarray, sizes: np.ndarray, ks: tuple[int, ...]) -> list[np.ndarray]:
    """Group centers step by step, each time the two groups that spread least when merged (Ward).

    Args:
        centers: ``(C, D)``.
        sizes: ``(C,)`` weight of each.
        ks: numbers of groups, each at most C.

    Returns:
        For each of ``ks`` the groups ``(C,)``, numbered from 0 in order of their first center.

    Source:
        Ward 1963, "Hierarchical grouping to optimize an objective function"; weighted.
    """
    weight, mean = np.maximum(sizes, 1e-9).astype(float), centers.astype(float)
    group, wanted = np.arange(len(centers)), {}
    square = ((mean[:, None] - mean) ** 2).sum(2)
    cost = square * weight[:, None] * weight / (weight[:, None] + weight)
    np.fill_diagonal(cost, np.inf)
    for count in range(len(centers), 0, -1):
        if count in ks:
            wanted[count] = np.unique(group, return_inverse=True)[1]
        if count == min(ks):
            break
        i, j = sorted(np.unravel_index(cost.argmin(), cost.shape))
        total = weight[i] + weight[j]
        mean[i] = (weight[i] * mean[i] + weight[j] * mean[j]) / total
        weight[i], group[group == j] = total, i
        cost[j] = cost[:, j] = np.inf
        others = np.flatnonzero(np.isfinite(cost[i]))
        added = ((mean[others] - mean[i]) ** 2).sum(1) * weight[others] * total
        cost[i, others] = cost[others, i] = added / (weight[others] + total)
    return [wanted[k] for k in ks]
