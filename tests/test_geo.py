import numpy as np
import pytest
import shapely

from geossl import geo

RNG = np.random.default_rng(0)
LON, LAT = RNG.uniform(-180, 180, 500), RNG.uniform(-90, 90, 500)


def test_distances_of_known_length():
    quarter = np.pi / 2 * geo.EARTH_RADIUS_KM
    assert geo.great_circle_km(0, 0, 90, 0) == pytest.approx(quarter)
    assert geo.great_circle_km(10, 90, -70, 0) == pytest.approx(quarter)
    assert geo.great_circle_km(0, 0, 180, 0) == pytest.approx(2 * quarter)
    assert geo.great_circle_km(179.5, 0, -179.5, 0) == pytest.approx(quarter / 90)
    assert geo.great_circle_km(5, 50, 5, 50) == 0
    meter = geo.great_circle_km(0, 60, 0, 60 + 360 / (4000 * np.pi * geo.EARTH_RADIUS_KM) * 2)
    assert meter * 1000 == pytest.approx(1, rel=1e-6)


def test_distances_are_those_of_the_haversine_formula():
    lon, lat = np.radians(LON), np.radians(LAT)
    h = (
        np.sin((lat[:-1] - lat[1:]) / 2) ** 2
        + np.cos(lat[:-1]) * np.cos(lat[1:]) * np.sin((lon[:-1] - lon[1:]) / 2) ** 2
    )
    want = 2 * geo.EARTH_RADIUS_KM * np.arcsin(np.sqrt(h))
    np.testing.assert_allclose(geo.great_circle_km(LON[:-1], LAT[:-1], LON[1:], LAT[1:]), want)


def test_unit_vectors_and_back():
    vectors = geo.unit_vectors(LON, LAT)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    np.testing.assert_allclose(geo.lon_lat(3 * vectors), (LON, LAT))
    np.testing.assert_allclose(geo.unit_vectors(0, 90), [0, 0, 1], atol=1e-15)


@pytest.mark.parametrize("turns", [-2, -1, 1, 3])
def test_longitudes_wrap(turns):
    np.testing.assert_allclose(geo.wrap_lon(LON + 360 * turns), LON, atol=1e-9)
    assert geo.wrap_lon(180) == geo.wrap_lon(-180) == -180
    assert np.array_equal(geo.wrap_lon(LON), LON)  # not a bit changes


def test_bounds_cross_the_antimeridian_only_to_be_smaller():
    assert geo.bounds([10, 20], [-5, 5]) == (10, -5, 20, 5)
    assert geo.bounds([175, -170], [0, 1]) == (175, 0, -170, 1)
    assert geo.bounds([7], [8]) == (7, 8, 7, 8)
    assert geo.bounds([-100, 100, 0], [0, 0, 0])[::2] == (-100, 100)
    with pytest.raises(ValueError, match="at least one"):
        geo.bounds([], [])


def test_blocks_cover_about_the_same_ground_and_join_no_far_places():
    z, lon = RNG.uniform(-1, 1, 200_000), RNG.uniform(-180, 180, 200_000)
    lat = np.degrees(np.arcsin(z))  # even over the sphere
    blocks = geo.block_ids(lon, lat, block_deg=10)
    _, which, counts = np.unique(blocks, return_inverse=True, return_counts=True)
    assert 0.5 < counts.min() / np.median(counts) and counts.max() / np.median(counts) < 1.5
    some = which == which[0]
    apart = geo.great_circle_km(lon[some][0], lat[some][0], lon[some], lat[some])
    assert apart.max() < 2 * 10 * 111.2
    assert geo.block_ids(180, 0, block_deg=10) == geo.block_ids(-180, 0, block_deg=10)
    with pytest.raises(ValueError, match="block_deg"):
        geo.block_ids(0, 0, block_deg=0)


SHAPES = [  # WKT, center, whether it reaches over the antimeridian
    ("POLYGON ((1 2, 3 2, 3 4, 1 4, 1 2))", (2, 3), False),
    ("POLYGON ((179.9 -17, -179.9 -17, -179.9 -16, 179.9 -16, 179.9 -17))", (180, -16.5), True),
    ("POLYGON ((-179 -17, -179 -16, 179.4 -16, 179.4 -17, -179 -17))", (-179.8, -16.5), True),
    ("MULTIPOLYGON (((179 0, 180 0, 180 1, 179 1, 179 0)), ((-180 0, -178 0, -178 1, -180 1, "
     "-180 0)))", (-179.5, 0.5), True),
    ("MULTIPOLYGON (((-180 0, -179 0, -179 1, -180 1, -180 0)), ((179 0, 180 0, 180 1, 179 1, "
     "179 0)))", (180, 0.5), True),
    ("POLYGON ((179 0, 180 0, -180 1, 179 1, 179 0))", (179.5, 0.5), True),
    ("POLYGON ((-180 -60, 180 -60, 180 0, -180 0, -180 -60))", (0, -30), False),  # all longitudes
    ("POLYGON ((170 0, -170 0, -170 20, 170 20, 170 0), (175 5, -175 5, -175 15, 175 15, 175 5))",
     (172.5, 10), True),  # a ring: its centroid is in the hole
    ("POLYGON ((0 80, 90 80, 180 80, -90 80, 0 80))", (None, 90), False),
    ("MULTIPOINT ((179 0), (-179 0))", (180, 0), True),
    ("LINESTRING (179 0, -179 2)", (180, 1), True),
    ("POINT (-179.5 3)", (-179.5, 3), False),
    ("POLYGON ((200 1, 202 1, 202 2, 200 2, 200 1))", (201, 1.5), False),
    ("GEOMETRYCOLLECTION (POLYGON ((179 0, 180 0, 180 2, 179 2, 179 0)), POINT (-179 1))",
     (179.5, 1), True),
    ("POLYGON EMPTY", (np.nan, np.nan), False),
]  # fmt: skip


def test_shapes_lie_where_they_lie_on_the_sphere():
    shapes = np.array([*map(shapely.from_wkt, [text for text, *_ in SHAPES]), None], object)
    lon, lat = geo.shape_centers(shapes)
    for i, (text, (x, y), _) in enumerate(SHAPES):
        assert x is None or np.isnan(x) == np.isnan(lon[i]), text
        turn = 0 if x is None else (lon[i] - x) % 360
        assert np.isnan(turn) or min(turn, 360 - turn) < 1e-9, text
        np.testing.assert_allclose(lat[i], y, atol=1e-9, err_msg=text)
    assert np.isnan([lon[-1], lat[-1]]).all() and lon[1] == 180
    plain, moved, polar = geo.unwrap_shapes(shapes)
    assert moved[:-1].tolist() == [across for *_, across in SHAPES]
    assert polar.sum() == 1 and shapely.bounds(plain[1]).tolist() == [179.9, -17, 180.1, -16]
    assert all(len(part) == 0 for part in geo.shape_centers(np.array([], object)))
