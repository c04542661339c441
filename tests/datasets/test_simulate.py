from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from geossl import datasets
from geossl.datasets import simulate

FOREST, SAND = (40, 70, 25), (220, 190, 130)


def days_of(count=1, size_px=6, *, effects=simulate.EFFECTS, **columns):
    """Ordinary days with clear air, seen by the first sensor."""
    row = {"lat": 45.0, "footprint_km": 240.0, "sensor": "A", "effects": " ".join(effects)}
    rows = pd.DataFrame([row] * count).assign(
        noise=range(count), time=pd.Timestamp("2010-07-19", tz="UTC"), **columns
    )
    half = np.full(count, 0.5)
    middle = dict.fromkeys(("year", "line", "azimuth", "light", "smoke"), half)
    clear = {"haze": 0 * half, "cloudy": half + 0.5}
    return replace(simulate.draw(rows, size_px), **middle, **clear)


def acquire(color, *, lat, day, height=0.0, effects=("season", "snow"), **changes):
    """One acquisition of a plain ground."""
    ground = np.broadcast_to(np.array(color, np.float32) / 255, (1, 6, 6, 3))
    days = replace(
        days_of(effects=effects), lat=np.array([lat]), day=np.array([float(day)]), **changes
    )
    return simulate.acquire(ground, np.full((1, 6, 6), height, np.float32), days)[0]


def test_season_depends_on_latitude_and_hemisphere():
    def greenness(lat, day):
        red, green, _ = acquire(FOREST, lat=lat, day=day)[0, 0].astype(float)
        return green / red

    assert greenness(45, 200) > greenness(45, 20) + 0.3
    assert greenness(-45, 20) > greenness(-45, 200) + 0.3
    assert greenness(2, 200) == greenness(2, 20)
    year = 365.25
    np.testing.assert_array_equal(
        acquire(FOREST, lat=50, day=100, height=300),
        acquire(FOREST, lat=-50, day=100 + year / 2, height=300),
    )
    spread = [np.ptp([greenness(lat, day) for day in range(1, 365, 30)]) for lat in (5, 20, 40)]
    assert spread[0] < spread[1] < spread[2]
    np.testing.assert_array_equal(
        acquire(SAND, lat=15, day=20), acquire(SAND, lat=15, day=200)
    )  # sand knows no season


def test_snow_comes_with_height_latitude_and_cold():
    def white(**where):
        return int(acquire(FOREST, **where).mean())

    assert white(lat=30, day=20, height=5000) > white(lat=30, day=20, height=1000) + 60
    assert white(lat=62, day=20, height=300) > white(lat=62, day=200, height=300) + 40
    assert white(lat=62, day=20, height=300) > white(lat=40, day=20, height=300) + 40
    assert abs(white(lat=5, day=20, height=300) - white(lat=5, day=200, height=300)) < 2
    water = acquire((5, 10, 25), lat=62, day=20, height=300)
    assert water.max() < 60  # open water stays dark
    for color in ((5, 10, 25), (12, 40, 110)):
        np.testing.assert_array_equal(
            acquire(color, lat=62, day=20, height=0), acquire(color, lat=62, day=200, height=0)
        )
    ice = acquire((200, 215, 230), lat=75, day=20, height=2000)
    assert ice.min() > 180


def test_what_is_off_changes_nothing():
    ground = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
    height = np.random.default_rng(1).uniform(0, 4000, (3, 16, 16))
    off = simulate.acquire(ground, height, days_of(3, 16, effects=()))
    np.testing.assert_array_equal(off, (ground * 255 + 0.5).astype(np.uint8))
    for effect in simulate.EFFECTS:
        days = days_of(3, 16, effects=(effect,), sensor="B")
        days = replace(days, cloudy=np.zeros(3), haze=np.ones(3), lat=np.full(3, 50.0))
        assert (simulate.acquire(ground, height, days) != off).mean() > 0.1, effect


def test_the_sun_lights_the_slopes_that_face_it():
    ridge = 3000 - 400 * np.abs(np.arange(16) - 7.5)[None, None, :].repeat(
        16, 1
    )  # from north to south
    ground = np.full((1, 16, 16, 3), 0.4, np.float32)

    def east_minus_west(**changes):
        days = replace(days_of(size_px=16, effects=("sun",)), **changes)
        light = simulate.acquire(ground, ridge, days)[0].mean((0, 2))
        return light[10:14].mean() - light[2:6].mean()

    winter, summer = np.array([20.0]), np.array([200.0])
    assert east_minus_west(day=winter) > 10  # before noon the sun stands in the southeast
    assert east_minus_west(day=winter) > east_minus_west(day=summer) > 1
    east, north = np.array([-0.9]), np.array([3.0])
    assert east_minus_west(day=winter, azimuth=north) < east_minus_west(day=winter, azimuth=east)
    dim, bright = (acquire(SAND, lat=lat, day=20, effects=("sun",)).mean() for lat in (65.0, 5.0))
    assert dim < 0.85 * bright


def test_sensors_render_the_same_light_in_their_own_way():
    ground = np.random.default_rng(0).random((1, 12, 12, 3), np.float32) * 0.6
    pictures = {}
    for name in simulate.SENSORS:
        days = days_of(size_px=12, effects=("sensor",), sensor=name)
        pictures[name] = simulate.acquire(ground, np.zeros((1, 12, 12)), days)[0].astype(float)
    np.testing.assert_array_equal(pictures["A"], (ground[0] * 255 + 0.5).astype(np.uint8))
    colorful = {name: np.ptp(x, axis=2).mean() / x.mean() for name, x in pictures.items()}
    assert colorful["B"] < 0.8 * colorful["A"] < 0.8 * colorful["C"]


def test_haze_and_clouds_are_rough_and_as_dense_as_drawn():
    count = 600
    ground, flat = np.full((count, 32, 32, 3), 0.2, np.float32), np.zeros((count, 32, 32))
    days = days_of(count, 32, effects=("clouds",))
    drawn = np.random.default_rng(0).random((2, count))
    days = replace(days, cloudy=drawn[0], cover=drawn[1])
    seen = simulate.acquire(ground, flat, days).astype(float).mean(3)
    share = (seen > 100).mean((1, 2))
    cloudy = days.cloudy < 0.5
    assert (share[~cloudy] == 0).all() and 0.02 < share[cloudy].min() and share.max() < 0.6
    assert np.corrcoef(share[cloudy], days.cover[cloudy])[0, 1] > 0.9
    shaded = seen < 45  # of 51: beside clouds only
    assert 0.02 < shaded[cloudy].mean() < 0.2 and not shaded[~cloudy].any()
    step = (
        np.abs(np.diff(seen[cloudy], axis=2)).mean()
        / np.abs(np.diff(seen[cloudy][:, :, ::8], axis=2)).mean()
    )
    assert step < 0.5  # neighbors are alike
    days = replace(days_of(count, 32, effects=("haze",)), haze=drawn[0])
    seen = simulate.acquire(ground, flat, days).astype(float)
    assert np.corrcoef(seen.mean((1, 2, 3)), drawn[0])[0, 1] > 0.9
    assert (seen[..., 2] >= seen[..., 0]).mean() > 0.5  # bluish, unless it is smoke
    assert seen.std((1, 2)).mean() > 2


def test_a_chip_depends_on_its_own_row_alone():
    table = datasets.blue_marble(places=40, dates=3, seed=5)
    everyone = simulate.draw(table, 16)
    some = simulate.draw(table.iloc[[7, 3]], 16)
    np.testing.assert_array_equal(some.veil, everyone.veil[[7, 3]])
    np.testing.assert_array_equal(some.cover, everyone.cover[[7, 3]])
    assert set(table["sensor"]) == set(simulate.SENSORS)
    drawn = np.concatenate([getattr(everyone, name) for name in ("year", "line", "haze", "spare")])
    assert 0 <= drawn.min() < drawn.max() < 1 and abs(drawn.mean() - 0.5) < 0.05
    for field in (everyone.veil, everyone.clouds):
        np.testing.assert_allclose(field.mean((1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(field.std((1, 2)), 1, rtol=1e-4)


def test_only_known_effects():
    with pytest.raises(ValueError, match="`effects"):
        datasets.blue_marble(places=5, effects=("fog",))
    plain = datasets.blue_marble(places=30, dates=2, effects=())
    assert (plain["effects"] == "").all()
