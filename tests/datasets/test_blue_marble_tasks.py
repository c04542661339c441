import os

import numpy as np
import pytest
import rasterio

from geossl.data import earth
from geossl.data.scenes import BOX
from geossl.datasets import blue_marble_tasks
from geossl.datasets.raster import area


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def islands(folder):
    return blue_marble_tasks.islands(folder)


@pytest.mark.slow
def test_scenes_lie_where_they_say(islands):
    table, _ = islands
    assert set(table["split"]) == {"train", "val", "test"} and table["location"].is_unique
    whole = earth.world_image()
    scene = table[table["location"] == "60N_0E"].iloc[0]
    with rasterio.open(scene["path"]) as file:
        assert file.crs.to_epsg() == 4326 and file.bounds == (0, 30, 30, 60)
        assert np.array_equal(file.read().transpose(1, 2, 0), whole[450:900, 2700:3150])
    assert (scene["lon"], scene["lat"]) == (15, 45)


@pytest.mark.slow
def test_known_islands_and_lakes_are_in_their_boxes(islands):
    table, boxes = islands
    inside = boxes[list(BOX)].to_numpy()
    assert inside.min() >= 0 and inside.max() <= 450 and (inside[:, 2:] - inside[:, :2]).min() >= 1
    for lon, lat, label, crowd in (
        (9.0, 40.0, "island", False),  # Sardinia
        (14.0, 37.5, "island", False),  # Sicily
        (33.0, -1.0, "lake", True),  # Victoria, larger than the task asks for
        (178.0, -17.8, "island", False),  # Fiji's main island, near 180 degrees
    ):
        west, north = np.floor(lon / 30) * 30, np.ceil(lat / 30) * 30
        scene = table[(table["lon"] == west + 15) & (table["lat"] == north - 15)].iloc[0]
        x, y = (lon - west) * 15, (north - lat) * 15
        found = boxes[boxes["path"] == scene["path"]]
        hit = found[
            (found["box_left"] < x) & (found["box_right"] > x)
            & (found["box_top"] < y) & (found["box_bottom"] > y)
        ]  # fmt: skip
        assert (label, crowd) in set(zip(hit["label"], hit["crowd"], strict=True)), (lon, lat)


@pytest.mark.slow
def test_climates_are_those_of_the_pixels(folder, islands):
    table = blue_marble_tasks.climates(folder)
    scene = table[table["location"] == "60N_0E"].iloc[0]
    with rasterio.open(scene["mask"]) as file:
        mask = file.read(1)
        grid = area.read_grid({"path": scene["path"]})
        assert (file.transform, file.shape) == (grid.transform, (grid.height, grid.width))
    names = earth.zone_names()
    rng = np.random.default_rng(0)
    for x, y in rng.integers(0, 450, (200, 2)):
        number = int(earth.zones_at(np.array([(x + 0.5) / 15]), np.array([60 - (y + 0.5) / 15]))[0])
        letter = "" if number == earth.OCEAN else names[number][0]
        assert mask[y, x] == ("ABCDE".index(letter) + 1 if letter else 0)
    assert len(set(np.unique(mask))) >= 5


@pytest.mark.slow
def test_scenes_are_written_once(folder, islands):
    table, _ = islands
    stamps = [os.stat(path).st_mtime_ns for path in table["path"]]
    again = blue_marble_tasks.scenes(folder, seed=1)
    assert [os.stat(path).st_mtime_ns for path in table["path"]] == stamps
    assert list(again["path"]) == list(table["path"])
    assert list(again["split"]) != list(table["split"])
