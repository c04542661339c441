"""The cells of geo clusters as a map draws them: in its frame, to the coast, exact to a pixel."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from geossl import geo
from geossl.clusters import GeoClusters
from geossl.data import earth
from geossl.viz.frame import Frame

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_COAST_DEG = 5.0  # in smaller frames the coast, right to some km, would cut off places
_ON_LAND = {False: 0.7, True: 0.1}  # least share of places: of a region, of the world
_AROUND = 2.0  # cells of a region end so many extents around it
_BEYOND = (-270.0, -90.0, 270.0, 90.0)  # cells that cross the edges of the world go on to here
_AT_SEA = 1 / 900  # radius of the patch of a place off the coast, per extent of the frame
_LEAST_VIEW = 0.05  # of the frame's extent, around a cluster of a few places


def draw_cells(
    clusters: GeoClusters, lon: np.ndarray, lat: np.ndarray, *, frame: Frame, to_coast: bool
) -> list[dict[str, Any]]:
    """Return shape, center and bounds of each cell, in the longitudes of the frame.

    Every place lies in the shape of its own cluster: one off the coast gets a patch around it.

    Args:
        clusters: the clusters.
        lon: longitudes of the places ``(N,)``.
        lat: their latitudes; places are what the bounds of a cell hold.
        frame: of the map.
        to_coast: whether cells end at the coast, see `is_of_land`.
    """
    from shapely import (
        clip_by_rect,
        distance,
        get_parts,
        intersects_xy,
        points,
        set_precision,
        transform,
        union_all,
    )
    from shapely.geometry import mapping

    own, places = clusters.assign(lon, lat), np.column_stack([frame.unwrap(lon), lat])
    middles = clusters.middles()
    centers = np.column_stack([frame.unwrap(middles[:, 0]), middles[:, 1]])
    decimals = min(9, max(6, frame.decimals + 2))
    land = _land(_around(frame)) if to_coast else None
    cells: list[dict[str, Any]] = []
    for cell, center, members in zip(
        clusters.cells(), centers, (places[own == i] for i in range(clusters.k)), strict=True
    ):
        shape = cell = _in_frame(cell, frame)
        if land is not None and not cell.is_empty:
            shape = clip_by_rect(land, *cell.bounds).intersection(cell)
            spots = members if len(members) or not shape.is_empty else center[None]
            radius = frame.extent * _AT_SEA
            patches = _discs(spots[~intersects_xy(shape, spots)], radius)
            patches = np.round(patches, 2 - int(np.log10(radius)))  # short in the page
            if frame.is_world:
                patches = np.concatenate([patches + [turn, 0] for turn in (-360, 0, 360)])
            shape = union_all([shape, *(_polygons(patches) & cell)])
        shape = set_precision(shape, 10.0**-decimals)
        spots = members[~intersects_xy(shape, members)]
        if len(spots):  # on an edge, or between it and the great circle that it follows
            radius = 2 * distance(points(spots), shape) + 8 * 10.0**-decimals
            shape = union_all([shape, *_polygons(_discs(spots, radius[:, None]))])
            shape = set_precision(shape, 10.0**-decimals)
        if shape.geom_type == "GeometryCollection":  # an edge along the pole is no cell
            shape = union_all([part for part in get_parts(shape) if part.area])
        if np.count_nonzero(clusters.cluster_of == len(cells)) > 1 and len(members):
            center = members[((members - members.mean(0)) ** 2).sum(1).argmin()]
        cells.append({
            "shape": mapping(transform(shape, lambda xy: np.round(xy, decimals))),
            "center": center[::-1].tolist(),
            "bounds": _bounds(members, center, shape, frame),
        })  # fmt: skip
    return cells


def is_of_land(frame: Frame, lon: np.ndarray, lat: np.ndarray) -> bool:
    """Return whether a frame is so large, and its places so rarely at sea, that coasts help."""
    from shapely import intersects_xy

    if frame.extent < _COAST_DEG:
        return False
    on_land = intersects_xy(_land(_around(frame)), frame.unwrap(lon), lat)
    return bool(on_land.mean() >= _ON_LAND[frame.is_world])


def _in_frame(cell: BaseGeometry, frame: Frame) -> BaseGeometry:
    """Turn a cell into the frame, where the antimeridian does not cut it, and clip it around."""
    from shapely import MultiPolygon, box, get_parts, union_all
    from shapely.affinity import translate

    if frame.is_world and (cell.bounds[0] > -180 or cell.bounds[2] < 180):
        return cell
    around = _around(frame)
    turned = union_all([translate(cell, turn) for turn in (-360, 0, 360)], grid_size=1e-10)
    turned = turned.intersection(box(*around))
    if not frame.is_world:
        return turned
    parts = [part for part in get_parts(turned) if part.bounds[0] < 180 and part.bounds[2] > -180]
    return MultiPolygon(parts)


def _around(frame: Frame) -> tuple[float, float, float, float]:
    """Return the bounds of all that is drawn."""
    if frame.is_world:
        return _BEYOND
    wide = frame.padded(_AROUND)
    return wide.left, wide.bottom, wide.right, wide.top


@lru_cache(maxsize=4)
def _land(around: tuple[float, float, float, float]) -> BaseGeometry:
    """Return the land within bounds, whose longitudes may go on past 180."""
    from shapely import clip_by_rect, prepare, union_all
    from shapely.affinity import translate

    turned = [clip_by_rect(translate(earth.land(), turn), *around) for turn in (-360, 0, 360)]
    land = union_all([part for part in turned if not part.is_empty], grid_size=1e-9)
    prepare(land)
    return land


def _discs(spots: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    """Return rings ``(n, 9, 2)`` around positions ``(n, 2)`` that look round on a map."""
    angle = np.radians(np.arange(0, 361, 45))
    shrink = np.maximum(np.cos(np.radians(spots[:, 1:])), 0.01)  # of a degree of longitude
    x, y = radius * np.cos(angle) / shrink, radius * np.sin(angle) + 0 * shrink
    return spots[:, None] + np.stack([x, y], 2)


def _polygons(rings: np.ndarray) -> np.ndarray:
    from shapely import polygons

    return polygons(rings) if len(rings) else np.zeros(0, object)


def _bounds(
    members: np.ndarray, center: np.ndarray, shape: BaseGeometry, frame: Frame
) -> list[list[float]]:
    """Return the corners of what to show of a cluster: its places, else its cell."""
    lon, lat = members.T
    lon = center[0] + geo.wrap_lon(lon - center[0])
    if len(members) == 0:
        left, bottom, right, top = (*center, *center) if shape.is_empty else shape.bounds
        lon, lat = np.array([left, right]), np.array([bottom, top])
    box = Frame(*map(float, (lon.min(), lat.min(), lon.max(), lat.max())))
    more = max(0.3 * box.extent, frame.extent * _LEAST_VIEW - box.extent) / 2
    aside = more / box.shrink
    return [[box.bottom - more, box.left - aside], [box.top + more, box.right + aside]]
