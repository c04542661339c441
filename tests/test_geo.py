import numpy as np
import pytest

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
