"""Lesson 07: its exercises, and the folder that it writes."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest
import rasterio
from geossl_lessons import checking
from geossl_lessons.lesson_07 import sample_folder
from matplotlib.axes import Axes
from rasterio.warp import transform

from geossl import datasets, geo
from geossl.data import earth


def hint(number, answer, data):
    return checking.judge(number, answer, data).hint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sample_folder.write_folder(
        tmp_path_factory.mktemp("own") / "scenes", side_px=72, dates=2
    )


@pytest.fixture(scope="module")
def scenes(folder):
    return datasets.geotiff(folder, chip_px=24, skip_bad=True)


def good_files(folder):
    broken = (sample_folder.NO_HEADER, sample_folder.NO_PIXELS)
    return sorted(path for path in folder.iterdir() if path.name not in broken)


def test_kilometers_of_a_chip(scenes):
    assert hint("07.1", 120, scenes) == "" and hint("07.1", 24 * 5.0, scenes) == ""
    assert "meters" in hint("07.1", 120_000, scenes)
    assert "in pixels" in hint("07.1", 24, scenes)
    assert "one pixel" in hint("07.1", 5, scenes)
    assert "right minus left" in hint("07.1", 60, scenes)
    degrees = pd.DataFrame({"chip_px": 24, "top": [10.0, 10.5, 11.0]})
    assert hint("07.1", 0.5 * 111.2, degrees) == ""


def test_the_file_that_lies(folder, tmp_path):
    assert hint("07.2", sample_folder.NO_PIXELS, folder) == ""
    assert hint("07.2", folder / sample_folder.NO_PIXELS, folder) == ""
    assert "no readable header" in hint("07.2", sample_folder.NO_HEADER, folder)
    assert "first.info" in hint("07.2", good_files(folder)[0].name, folder)
    assert "first.info" in hint("07.2", "none", folder)
    assert "must be one of these words" in hint("07.2", "b.tif", folder)
    (tmp_path / good_files(folder)[0].name).write_bytes(good_files(folder)[0].read_bytes())
    assert hint("07.2", "none", tmp_path) == ""


def test_ndvi():
    rng = np.random.default_rng(0)
    chip = rng.integers(1, 4000, (4, 6, 6)).astype(np.uint16)
    nir, red = (chip[band].astype(float) for band in (3, 2))
    truth = ((nir - red) / (nir + red)).mean()
    data = (chip, 3, 2)
    assert hint("07.3", truth, data) == ""
    assert "red above infrared" in hint("07.3", ((chip[3] - chip[2]) / (nir + red)).mean(), data)
    assert "sign" in hint("07.3", -truth, data)
    of_means = (nir.mean() - red.mean()) / (nir.mean() + red.mean())
    assert "pixel by pixel" in hint("07.3", of_means, data)
    assert "between" in hint("07.3", 40, data) and "each pixel" in hint("07.3", 0.9, data)
    chip[:, 0] = 0  # pixels without data say nothing
    with_data = ((nir - red) / (nir + red))[1:].mean()
    assert hint("07.3", with_data, data) == ""


def test_the_shortest_way(scenes):
    table = scenes.drop_duplicates("location").reset_index(drop=True)
    table["split"] = np.where(table["lon"] > table["lon"].median(), "test", "train")
    parts = {name: rows for name, rows in table.groupby("split")}
    nearest = [
        min(
            geo.great_circle_km(t.lon, t.lat, o.lon, o.lat)
            for o in parts["train"].itertuples()
        )
        for t in parts["test"].itertuples()
    ]  # fmt: skip
    assert hint("07.4", min(nearest), table) == ""
    assert "median" in hint("07.4", statistics.median(nearest), table)
    assert "in meters" in hint("07.4", 1000 * min(nearest), table)
    assert "from itself" in hint("07.4", 0, table)
    assert "leakage" in hint("07.4", 7, table)


# --- the folder -----------------------------------------------------------------------------------


def test_the_folder_is_as_untidy_as_it_says(folder):
    names = [path.name for path in good_files(folder)]
    assert len(names) == 8 and {name[:2] for name in names} == set(sample_folder.QUARTERS)
    for path in good_files(folder):
        with rasterio.open(path) as file:
            assert file.descriptions == sample_folder.BANDS and file.nodata == 0
            assert file.dtypes == ("uint16",) * 5 and file.crs.to_epsg() == 3035
            assert pd.Timestamp(path.stem[3:]).year in (2018, 2019, 2020)
            pixels = file.read()
            gone = ~pixels.any(0)
            assert (pixels[:, ~gone] > 0).all() and pixels.max() < 10_000
    assert (folder / sample_folder.NO_HEADER).stat().st_size == 0
    with rasterio.open(folder / sample_folder.NO_PIXELS) as file:
        assert file.count == 5
        with pytest.raises(rasterio.errors.RasterioIOError):
            file.read()


def test_the_scenes_lie_where_they_say(folder):
    """Water is dark in the infrared, so land and sea tell whether north and east are right."""
    dark, land = [], []
    for path in good_files(folder):
        with rasterio.open(path) as file:
            pixels = file.read()
            row, column = np.indices(file.shape)
            x, y = file.transform * (column.ravel() + 0.5, row.ravel() + 0.5)
            lon, lat = map(np.array, transform(file.crs, "EPSG:4326", x, y))
        with_pixels = pixels.any(0).ravel()
        water = np.stack([pixels[3].ravel() < 1500, pixels[4].ravel() < 1000]).all(0)
        dark.append(water[with_pixels])
        land.append(earth.on_land(lon, lat)[with_pixels])
    dark, land = np.concatenate(dark), np.concatenate(land)
    assert (~land).sum() > 200 and dark[~land].mean() > dark[land].mean() + 0.3


def test_what_is_there_stays_and_a_seed_decides(folder, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in good_files(folder)}
    sample_folder.write_folder(folder, side_px=72, dates=2)
    assert before == {path.name: path.stat().st_mtime_ns for path in good_files(folder)}
    one = good_files(folder)[0]
    content = one.read_bytes()
    one.unlink()
    sample_folder.write_folder(folder, side_px=72, dates=2)
    assert one.read_bytes() == content
    other = sample_folder.write_folder(tmp_path / "other", side_px=24, dates=1, seed=1)
    assert len(good_files(other)) == 4
    assert {p.name for p in good_files(other)}.isdisjoint(before)
    for name in ("side_px", "dates"):
        with pytest.raises(ValueError, match=f"`{name}` must be > 0, got 0"):
            sample_folder.write_folder(tmp_path / "none", **{name: 0})


def test_the_reader_finds_locations_at_their_dates(scenes):
    assert scenes["location"].nunique() == 4 * 9
    assert [name for name in scenes.attrs["skipped"] if sample_folder.NO_HEADER in name]
    assert scenes["band_names"].iloc[0] == "blue,green,red,nir,swir"
    assert math.isclose(scenes["right"].iloc[0] - scenes["left"].iloc[0], 120_000)


def test_a_scene_and_its_cells_are_drawn(scenes, folder):
    ax = sample_folder.plot_cells(scenes, str(good_files(folder)[0]))
    assert isinstance(ax, Axes) and [len(c.get_segments()) for c in ax.collections] == [4, 4]
    assert "EPSG:3035" in ax.get_xlabel() and ax.images[0].get_array().shape == (72, 72, 3)
    table = scenes.assign(bands="4", band_names="nir")
    assert sample_folder.plot_cells(table, str(good_files(folder)[0])).images
