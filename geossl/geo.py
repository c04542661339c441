"""Positions on the sphere: distances, unit vectors, bounds, blocks, shapes, cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import ArrayLike

from geossl.utils.validate import validated

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

__all__ = [
    "EARTH_RADIUS_KM", "block_ids", "bounds", "great_circle_km", "lon_lat", "planar_cell",
    "shape_centers", "spherical_cell", "unit_vectors", "unwrap_shapes", "wrap_lon",
]  # fmt: skip

EARTH_RADIUS_KM = 6371.0088  # mean radius of the WGS 84 ellipsoid
_BEND = 1e-4  # how far a cell's edge may leave its great circle, per distance from the center


@validated
def unit_vectors(lon: ArrayLike, lat: ArrayLike) -> np.ndarray:
    """Convert degrees ``(N,)`` to float64 unit vectors ``(N, 3)``.

    x points to longitude and latitude 0, z to the north pole.

    Example:
        >>> unit_vectors(90, 0).round(3).tolist()
        [0.0, 1.0, 0.0]
    """
    lon, lat = np.radians(np.asarray(lon, float)), np.radians(np.asarray(lat, float))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)


@validated
def lon_lat(vectors: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Convert vectors ``(N, 3)`` of any length > 0 to longitudes and latitudes in degrees."""
    x, y, z = np.moveaxis(np.asarray(vectors, float), -1, 0)
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


@validated
def great_circle_km(
    lon1: ArrayLike, lat1: ArrayLike, lon2: ArrayLike, lat2: ArrayLike
) -> np.ndarray:
    """Compute the distance in km along the sphere between positions in degrees; broadcasts.

    Accurate for a meter and for antipodes alike: the angle comes from an arc tangent of the chord
    and its complement.
    """
    a, b = unit_vectors(lon1, lat1), unit_vectors(lon2, lat2)
    chord, complement = np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)
    return EARTH_RADIUS_KM * 2 * np.arctan2(chord, complement)


@validated
def wrap_lon(lon: ArrayLike) -> np.ndarray:
    """Wrap longitudes in degrees into [-180, 180); those in it keep every bit."""
    lon = np.asarray(lon, float)
    wrapped = (lon + 180) % 360 - 180
    wrapped = np.where(wrapped >= 180, -180.0, wrapped)  # -180 - tiny rounds to a full turn
    return np.where((lon >= -180) & (lon < 180), lon, wrapped)


@validated
def bounds(lon: ArrayLike, lat: ArrayLike) -> tuple[float, float, float, float]:
    """Compute the smallest box ``(left, bottom, right, top)`` around positions in degrees.

    ``left > right`` when it crosses the antimeridian, which it does only to be smaller.

    Raises:
        ValueError: no positions.
    """
    lon, lat = np.sort(wrap_lon(lon).ravel()), np.asarray(lat, float)
    if lon.size == 0:
        raise ValueError("`lon` and `lat` must hold at least one position, got none.")
    gaps = np.diff(lon, append=lon[0] + 360)[::-1]  # first the one over the antimeridian
    widest = len(lon) - 1 - int(gaps.argmax())  # the box is everything but the widest gap
    left, right = lon[(widest + 1) % len(lon)], lon[widest]
    right = 180.0 if right == -180 < left else right
    return float(left), float(lat.min()), float(right), float(lat.max())


@validated
def block_ids(
    lon: ArrayLike, lat: ArrayLike, *, block_deg: Annotated[float, Interval(gt=0, le=180)]
) -> np.ndarray:
    """Number the block of space that each position ``(N,)`` lies in.

    Blocks are bands of latitude ``block_deg`` high, cut in longitude so that every block is about
    as wide on the ground as it is high: they cover about the same ground everywhere.
    """
    lat = np.asarray(lat, float)
    bands = int(np.ceil(180 / block_deg))
    band = np.clip(np.floor((lat + 90) / block_deg), 0, bands - 1).astype(np.int64)
    middle = np.clip((np.arange(bands) + 0.5) * block_deg - 90, -89, 89)
    columns = np.maximum(1, np.round(360 * np.cos(np.radians(middle)) / block_deg)).astype(np.int64)
    column = np.floor((wrap_lon(lon) + 180) / 360 * columns[band]).astype(np.int64)
    return band * (int(columns.max()) + 1) + np.minimum(column, columns[band] - 1)


@validated
def shape_centers(shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return longitudes and latitudes ``(N,)`` of the centers of shapely shapes in degrees.

    It is the centroid, or a point inside an area where the centroid lies outside. Shapes may
    reach over the antimeridian, see `unwrap_shapes`, or around a pole.

    Returns:
        Degrees; NaN of missing, empty and not finite shapes.
    """
    import shapely

    plain, is_moved, is_polar = unwrap_shapes(shapes)
    points, shape = shapely.get_coordinates(plain, return_index=True)
    odd = np.unique(shape[~(np.abs(points) < 1e4).all(1)])  # also NaN; GEOS stops at such numbers
    plain[odd] = None
    plain[shapely.is_empty(plain)] = None  # has no x
    centers = shapely.centroid(plain)
    lon, lat = shapely.get_x(centers), shapely.get_y(centers)
    is_area = np.isfinite(lon) & (shapely.get_dimensions(plain) == 2)
    outside = np.flatnonzero(is_area & ~shapely.intersects_xy(plain, lon, lat))
    inner = shapely.point_on_surface(plain[outside])
    lon[outside], lat[outside] = shapely.get_x(inner), shapely.get_y(inner)
    for i in np.flatnonzero(is_polar & np.isfinite(lon)):
        lon[i], lat[i] = lon_lat(unit_vectors(*points[shape == i].T)[:-1].sum(0))
    wrapped = -wrap_lon(-lon)  # into (-180, 180], as shapes have it
    return np.where(is_moved | is_polar, wrapped, lon) + 0.0, lat + 0.0  # no -0.0


@validated
def unwrap_shapes(shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make shapes that reach over the antimeridian connected: 179 to -179 becomes 179 to 181.

    A step of more than 180 degrees between two corners leads over the antimeridian, and parts of
    one shape lie on its nearer side. A step of 360 degrees is the edge of the whole world.

    Args:
        shapes: ``(N,)`` shapely shapes in degrees, or None.

    Returns:
        Shapes ``(N,)``; which of them were moved; which have a ring around a pole.
    """
    import shapely

    shapes = np.array(shapes, dtype=object)
    parts, owner = shapes, np.arange(len(shapes))
    while (shapely.get_type_id(parts) > 3).any():  # collections
        parts, index = shapely.get_parts(parts, return_index=True)
        owner = owner[index]
    rings, polygon = shapely.get_rings(parts, return_index=True)
    other = np.flatnonzero(shapely.get_type_id(parts) != 3)
    order = np.argsort(np.concatenate([polygon, other]), kind="stable")
    rings = np.concatenate([rings, parts[other]])[order]
    owner = owner[np.concatenate([polygon, other])[order]]  # of each ring
    filled = shapely.get_num_coordinates(rings) > 0
    rings, owner = rings[filled], owner[filled]
    points, ring = shapely.get_coordinates(rings, return_index=True)
    is_polar = np.zeros(len(shapes), bool)
    if not len(points):
        return shapes, is_polar, is_polar
    x = np.where(np.abs(points[:, 0]) < 1e4, points[:, 0], 0)
    start = np.flatnonzero(np.diff(ring, prepend=-1))
    step = np.diff(x, prepend=0)
    step[start] = 0
    across = np.abs(step) > 180
    crosses = np.bincount(ring, across & (np.abs(step) < 360)) > 0
    turns = np.cumsum(np.where(across & crosses[ring], -360 * np.round(step / 360), 0))
    moved = x + turns - turns[start][ring]
    end = np.append(start[1:], len(x)) - 1
    is_closed = (x[start] == x[end]) & (points[start, 1] == points[end, 1]) & (end > start)
    is_open = is_closed & (moved[start] != moved[end])
    np.logical_or.at(is_polar, owner, is_open)
    moved = np.where(is_open[ring], x, moved)  # such a ring has no other form
    middle = (np.minimum.reduceat(moved, start) + np.maximum.reduceat(moved, start)) / 2
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    away = middle - np.repeat(middle[first], np.diff(np.append(first, len(owner))))
    moved -= np.where(np.abs(away) > 180, 360 * np.round(away / 360), 0)[ring]
    changed = moved != x
    is_moved = np.zeros(len(shapes), bool)
    is_moved[owner[ring[changed]]] = True
    points[changed, 0] = moved[changed]
    return shapely.set_coordinates(shapes, points), is_moved, is_polar


@validated
def spherical_cell(center: np.ndarray, others: np.ndarray) -> BaseGeometry:
    """Return where a center is nearer than others, all unit vectors.

    Each octant of the sphere is cut by the planes between the centers. In an octant, poles and
    antimeridian are corners and edges like all others.
    """
    from shapely import Polygon, make_valid, union_all

    parts = []
    quarter_turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    turn = -np.eye(3) * [1, 1, -1]
    for west in (-180, -90, 0, 90):  # turned such that the octants lie between 0 and 90 degrees
        planes = (center - others) @ turn.T
        for pole in (1, -1):
            corners = _cut(np.diag([1.0, 1.0, pole]), planes)
            if len(corners) > 2:
                part = Polygon(_outline(corners, turn @ center) + [west, 0])
                # far from a tiny site its cells are needles, whose sides may cross
                parts.append(make_valid(part))
        turn = quarter_turn @ turn
    return union_all(parts, grid_size=1e-11)


def _cut(corners: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Cut a convex polygon ``(n, 3)``, its corners rays, by planes: keep plane @ x >= 0."""
    for plane in planes:
        side = corners @ plane
        if (side >= 0).all():
            continue
        if (side <= 0).all():
            return corners[:0]
        following, side_of_following = np.roll(corners, -1, 0), np.roll(side, -1)
        crosses = side * side_of_following < 0
        share = side / np.where(crosses, side - side_of_following, 1)
        crossings = corners + share[:, None] * (following - corners)
        both = np.stack([corners, crossings], 1).reshape(-1, 3)
        corners = both[np.stack([side >= 0, crosses], 1).ravel()]
    return corners


def _outline(corners: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return longitudes and latitudes along the great circles between corners in an octant."""
    starts = corners / np.linalg.norm(corners, axis=1, keepdims=True)
    ends = np.roll(starts, -1, 0)
    while True:
        middles = starts + ends
        middles /= np.linalg.norm(middles, axis=1, keepdims=True)
        ways = np.stack([starts, middles, ends])  # (3, n, 3)
        lon, lat = lon_lat(ways)
        at_pole = np.hypot(ways[..., 0], ways[..., 1]) < 1e-15
        lon = np.where(at_pole, lon[[2, 1, 0]], lon)  # along a meridian to the pole
        bend = np.hypot(
            (lon[1] - (lon[0] + lon[2]) / 2) * np.cos(np.radians(lat[1])),
            lat[1] - (lat[0] + lat[2]) / 2,
        )
        normals = np.cross(starts, ends)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)
        to_center = np.linalg.norm(ways - center, axis=2)
        is_beside = to_center[1] < np.linalg.norm(middles - starts, axis=1)
        to_center = np.where(is_beside, np.abs(normals @ center), to_center.min(0))
        to_pole = np.hypot(ways[..., 0], ways[..., 1]).min(0)
        reach = np.degrees(np.minimum(to_center, to_pole))
        bent = np.flatnonzero(bend > _BEND * reach + 1e-10)
        if len(bent) == 0:
            return np.stack([lon[[0, 2]].T.ravel(), lat[[0, 2]].T.ravel()], 1)
        starts = np.insert(starts, bent + 1, middles[bent], axis=0)
        ends = np.insert(ends, bent, middles[bent], axis=0)


@validated
def planar_cell(center: np.ndarray, others: np.ndarray) -> BaseGeometry:
    """Return where a center is nearer than others in the plane of degrees, within the map."""
    from shapely import Polygon

    offsets = others - center
    world = np.array([[-180, -90], [180, -90], [180, 90], [-180, 90]]) - center
    corners = np.column_stack([world, np.ones(4)])
    planes = np.column_stack([-offsets, (offsets**2).sum(1) / 2])
    return Polygon(_cut(corners, planes)[:, :2] + center)
