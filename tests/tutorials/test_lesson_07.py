"""Lesson 07: its exercises, what it writes by hand, its folder, and its figures."""

import ast
import math
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import rasterio
from geossl_lessons import checking
from geossl_lessons.drawing import ROLES
from geossl_lessons.lesson_07 import figures, sample_folder
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from rasterio.transform import from_origin
from rasterio.warp import transform

import geossl
from geossl import datasets, evaluate
from geossl.data import earth


def hint(number, answer, data=None):
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


def find_cell(transform, x, y, chip_px):
    row, column = (y - transform.f) / transform.e, (x - transform.c) / transform.a
    return int(row // chip_px), int(column // chip_px)


def test_the_cell_of_a_place():
    assert hint("07.1", find_cell) == ""
    assert hint("07.1", lambda t, x, y, px: np.array(~t * (x, y))[::-1] // px) == ""  # as good
    for wrong, words in (
        (lambda *a: find_cell(*a)[::-1], "the row first"),
        (lambda t, x, y, px: (int((t.f - y) / t.e // px), find_cell(t, x, y, px)[1]), "negative"),
        (lambda t, x, y, px: (int((y - t.f) / t.e), int((x - t.c) / t.a)), "in pixels"),
        (lambda t, x, y, px: (find_cell(t, x, y, px)[0], int((x - t.c) / t.a)), "in pixels"),
        (lambda t, x, y, px: (find_cell(t, x, y, px)[0], 99), "column is not"),
        (lambda t, x, y, px: (99, find_cell(t, x, y, px)[1]), "row is not"),
        (lambda t, x, y, px: (99, 99), "turn y into pixels"),
        (lambda t, x, y, px: 7, "shape (2,)"),
        (lambda t, x, y, px: (int((y - ...) // px), 0), "Are all the dots replaced?"),
        (lambda t, x, y, px: None, "returns nothing"),
        ((3, 5), "without parentheses"),
    ):
        assert words in hint("07.1", wrong), (words, hint("07.1", wrong))


def test_ndvi():
    def right(chip, nir, red):
        a, b = chip[nir].astype(float), chip[red].astype(float)
        return (a - b) / np.maximum(a + b, 1)

    assert hint("07.2", right) == ""
    assert hint("07.2", lambda c, n, r: np.nan_to_num(right(c, n, r).astype(np.float32))) == ""
    for wrong, words in (
        (lambda c, n, r: (c[n] - c[r]) / np.maximum(c[n] + c[r], 1), "still wrap around"),
        (lambda c, n, r: (c[n] - c[r]) / np.maximum(c[n] + c[r], 1).astype(float), "still wrap"),
        (lambda c, n, r: right(c, r, n), "sign"),
        (lambda c, n, r: right(c, n, r).astype(int), "decimals"),
        (lambda c, n, r: np.full(c.shape[1:], 0.9), "For each pixel"),
        (lambda c, n, r: right(c, n, r).mean(), "shape (6, 7)"),
        (lambda c, n, r: right(c, n, r) / (c.any(0)), "finite"),
        (lambda c, n, r: c[n].astype(...), "Are all the dots replaced?"),
        (0.3, "without parentheses"),
    ):
        assert words in hint("07.2", wrong), (words, hint("07.2", wrong))


@pytest.fixture(scope="module")
def found():
    """Vectors of places and days in which both networks find some of the places."""
    rng = np.random.default_rng(0)
    days, places = 3, 40
    table = pd.DataFrame({
        "location": np.tile(np.arange(places), days),
        "time": np.repeat(pd.date_range("2020-01-01", periods=days, freq="91D", tz="UTC"), places),
    }).sample(frac=1, random_state=0, ignore_index=True)  # fmt: skip
    place, day = rng.normal(size=(places, 8)), 2 * rng.normal(size=(days, 8))
    codes = pd.factorize(table["time"], sort=True)[0]
    each = place[table["location"]] + day[codes]
    vectors = {
        name: (each + noise * rng.normal(size=each.shape)).astype(np.float32)
        for name, noise in (("untrained", 1.5), ("trained", 0.8))
    }
    return vectors, table


def share_found(vectors, table, *, split=None, center_dates=False):
    return evaluate.same_location(
        geossl.Embeddings(vectors, table.assign(lon=0.0, lat=0.0, split=split)),
        center_dates=center_dates,
    ).value


def test_what_is_left_of_a_place(found):
    vectors, table = found
    mean = pd.DataFrame(vectors["trained"]).groupby(table["location"]).transform("mean").to_numpy()
    truth = share_found(vectors["trained"] - mean, table)
    plain = share_found(vectors["trained"], table)
    by_date = share_found(vectors["trained"], table, center_dates=True)
    assert truth < 0.1 < plain < by_date
    assert hint("07.3", truth, found) == ""
    assert "nothing subtracted" in hint("07.3", plain, found)
    assert "mean of each date" in hint("07.3", by_date, found)
    assert "right argument" in hint("07.3", 0.9, found)
    assert "from 0 to 1" in hint("07.3", 12.5, found)
    once = table.assign(time=table["time"].iloc[0])
    assert hint("07.3", 0.0, (vectors, once)) == ""
    assert "second date" in hint("07.3", 0.3, (vectors, once))


# --- by hand, and by the library ------------------------------------------------------------------


@pytest.fixture
def by_hand():
    """The functions that the lesson writes in its cells."""
    path = Path(__file__).parents[2] / "tutorials" / "07_your_own_images.ipynb"
    names = {"np": np, "pd": pd, "SEED": 0}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and "exercise" not in cell.metadata.get("tags", []):
            body = [n for n in ast.parse(cell.source.replace("%pip", "pass  #")).body]
            functions = [node for node in body if isinstance(node, ast.FunctionDef)]
            exec(compile(ast.Module(functions, []), "lesson", "exec"), names)
    return names


def test_the_grid_by_hand_is_the_librarys(by_hand, folder, scenes):
    bounds = ["left", "bottom", "right", "top"]
    for path in good_files(folder):
        with rasterio.open(path) as file:
            cells = by_hand["lay_grid"](file.profile, 24)
        theirs = scenes[scenes["path"] == str(path)]
        assert len(cells) == len(theirs) == 9
        assert len(cells[bounds].merge(theirs[bounds])) == 9


def test_the_search_by_hand_is_the_librarys(by_hand, found):
    vectors, table = found
    dates = table.groupby("location")["time"]
    by_hand |= {"held_out": table}
    by_hand |= {"first": dates.idxmin().to_numpy(), "last": dates.idxmax().to_numpy()}
    by_hand["center"].__globals__.update(by_hand)
    for some in vectors.values():
        assert by_hand["recognized"](some).mean() == share_found(some, table)
        centered = by_hand["recognized"](by_hand["center"](some)).mean()
        assert centered == share_found(some, table, center_dates=True)
    assert np.isfinite(by_hand["center"](np.zeros((len(table), 8)))).all()


def test_the_interval_by_hand_is_the_librarys(by_hand):
    rng = np.random.default_rng(3)
    ours, theirs = rng.random(400) < 0.5, rng.random(400) < 0.2
    value, low, high = by_hand["interval"](ours)
    assert np.allclose(
        evaluate.bootstrap.share_interval(ours, np.arange(400), 0), (value, low, high), atol=8e-3
    )
    gain = ours.astype(int) - theirs
    value, low, high = by_hand["interval"](gain)
    half = 1.96 * gain.std() / 20
    assert value == gain.mean() and np.allclose(
        [low, high], [value - half, value + half], atol=8e-3
    )


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


def test_not_one_chip_of_the_broken_file_can_be_read(tmp_path, monkeypatch):
    """It is the copy of another date: its chips would find a place again by their very pixels."""
    monkeypatch.setattr(sample_folder, "QUARTERS", ("SW",))
    sample_folder.write_folder(tmp_path, side_px=512, dates=1)
    with rasterio.open(tmp_path / sample_folder.NO_PIXELS) as file:
        for row, column in ((0, 0), (0, 480), (480, 0), (480, 480)):
            with pytest.raises(rasterio.errors.RasterioIOError):
                file.read(1, window=rasterio.windows.Window(column, row, 20, 20))


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


# --- the figures ----------------------------------------------------------------------------------


def test_a_scene_and_its_cells_are_drawn(scenes, folder):
    path = good_files(folder)[0]
    ax = figures.plot_cells(path, scenes[scenes["path"] == str(path)])
    assert isinstance(ax, Axes) and [len(c.get_segments()) for c in ax.collections] == [4, 4]
    assert ax.get_xlabel() == "x (km, EPSG:3035)" and ax.images[0].get_array().shape == (72, 72, 3)


@pytest.mark.parametrize("bands", [1, 3])
def test_a_scene_in_degrees_with_few_bands_is_drawn(tmp_path, bands):
    pixels = np.random.default_rng(0).integers(1, 255, (bands, 40, 60), np.uint8)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=bands, height=40, width=60, dtype="uint8",
        crs="EPSG:4326", transform=from_origin(8, 60, 0.02, 0.01),
    ) as file:  # fmt: skip
        file.write(pixels)
    table = datasets.geotiff(tmp_path, chip_px=20)
    ax = figures.plot_cells(tmp_path / "a.tif", table)
    assert ax.get_xlabel() == "x (degrees, EPSG:4326)" and 1.9 < ax.get_aspect() < 2.1
    assert len(ax.collections[0].get_segments()) == 4


def test_chips_in_rows_and_an_index(folder, scenes, tmp_path):
    rows = scenes.iloc[:6].reset_index(drop=True)
    store = geossl.ChipStore.build(tmp_path / "chips", rows, size_px=12, progress=False)
    values = np.linspace(-1, 1, 3 * 144).reshape(3, 12, 12)
    drawn = figures.plot_rows({"eye": store, "NDVI": values}, [0, 2, 4])
    assert [ax.get_title() for ax in drawn.axes[:3]] == [
        f"{time:%Y-%m-%d}" for time in rows["time"].iloc[[0, 2, 4]]
    ]
    assert np.array_equal(drawn.axes[5].images[-1].get_array(), values[2])
    lines = {"first date": [0, 1], "trained says": [2, 3]}
    drawn = figures.plot_found(store, lines, right={"trained says": [True, False]})
    frames = [to_hex(ax.spines["left"].get_edgecolor()) for ax in drawn.axes]
    assert frames[2:] == [to_hex(ROLES["right"]), to_hex(ROLES["wrong"])]
    assert [ax.get_title().split()[-1] for ax in drawn.axes[2:]] == ["right", "wrong"]


def test_the_split_is_drawn_in_the_colors_of_its_roles(scenes):
    table = scenes.assign(split=np.where(scenes["lon"] > 20, "test", "train"))
    for crs in ({}, {"crs": np.where(scenes["lat"] > 50, "EPSG:3035", "EPSG:32633")}):
        ax = figures.plot_split(table.assign(**crs))
        colors = [to_hex(c.get_facecolor()[0]) for c in ax.collections if len(c.get_paths())]
        assert colors == [to_hex(ROLES["train"]), to_hex(ROLES["test"])]
        assert sum(len(c.get_paths()) for c in ax.collections) == scenes["location"].nunique()
        assert ("EPSG:4326" in ax.get_xlabel()) == bool(crs)
