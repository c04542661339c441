"""Pictures of scenes in Web Mercator: where they lie, what they show, what they leave out."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.warp import transform
from rasters import noise, tif

from geossl.datasets import open_scenes, scene_previews
from geossl.datasets.raster import previews

DATA = Path(__file__).parents[3] / "shared" / "data"


def picture(row):
    return np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGBA")).astype(int)


def utm(path, pixels, left, top, *, crs="EPSG:32633", px=10.0, nodata=None):
    about = {"crs": crs, "transform": Affine(px, 0, left, 0, -px, top), "nodata": nodata}
    with rasterio.open(
        path, "w", driver="GTiff", dtype=pixels.dtype, count=len(pixels),
        height=pixels.shape[1], width=pixels.shape[2], **about,
    ) as file:  # fmt: skip
        file.write(pixels)


def smooth(bands=3, side=80, low=20, high=230):
    """Pixels that change slowly, so that a lossy picture keeps them to some levels."""
    y, x = np.mgrid[:side, :side] / side
    waves = [0.5 + 0.5 * np.sin(3 * x + 2 * y * (b + 1)) for b in range(bands)]
    return low + (high - low) * np.stack(waves)


def oracle(path, row, shape, bands=(1, 2, 3)):
    """The value of the file under each pixel of a picture, one by one; -1 outside."""
    height, width = shape
    seen = np.full((height, width, 3), -1.0)
    y = np.arcsinh(np.tan(np.radians([row["bottom"], row["top"]])))
    with rasterio.open(path) as file:
        pixels = file.read(list(bands))
        for i in range(height):
            lat = np.degrees(np.arctan(np.sinh(y[1] - (i + 0.5) / height * (y[1] - y[0]))))
            for j in range(width):
                lon = row["left"] + (j + 0.5) / width * (row["right"] - row["left"])
                (e,), (n,) = transform("EPSG:4326", file.crs, [lon], [lat])
                column, line = ~file.transform * (e, n)
                if 0 <= column < file.width and 0 <= line < file.height:
                    seen[i, j] = pixels[:, int(line), int(column)]
    return seen


@pytest.mark.parametrize(
    ("crs", "left", "top"),
    [("EPSG:32633", 500_000, 5_000_000), ("EPSG:32601", 182_200, 2_000_000)],  # the latter: 180
)
def test_a_picture_shows_what_lies_there(tmp_path, crs, left, top):
    path = tmp_path / "a.tif"
    utm(path, smooth().astype("uint8"), left, top, crs=crs)
    (row,) = scene_previews(pd.DataFrame({"path": [str(path)]}), max_px=40).to_dict("records")
    assert (row["right"] > 180) == (crs == "EPSG:32601") and row["left"] > 10
    seen = picture(row)
    assert seen.shape[:2] == (row["height"], row["width"]) and max(seen.shape) == 40
    expected = oracle(path, row, seen.shape[:2])
    known = (expected >= 0).all(2)
    assert known.mean() > 0.9 and (seen[..., 3] > 0)[known].mean() > 0.99
    assert np.median(np.abs(seen[..., :3] - expected)[known]) < 6
    inner = np.s_[3:-3, 3:-3]
    assert np.abs(seen[inner][..., :3] - expected[inner])[known[inner]].max() < 30


def test_pixels_without_data_are_clear(tmp_path):
    pixels = smooth().astype("uint8")
    pixels[:, :40] = 0
    utm(tmp_path / "a.tif", pixels, 500_000, 5_000_000, nodata=0)
    utm(tmp_path / "b.tif", pixels * 0, 600_000, 5_000_000, nodata=0)
    table = scene_previews(pd.DataFrame({"path": [str(tmp_path / n) for n in ("a.tif", "b.tif")]}))
    alpha = picture(table.iloc[0])[..., 3]
    assert (alpha[:35] == 0).all() and (alpha[45:, 5:-5] == 255).all()
    assert len(table) == 1 and "has no data" in table.attrs["skipped"][str(tmp_path / "b.tif")]


def test_many_bands_show_natural_color_and_dates_of_a_place_compare(tmp_path):
    rows = []
    for name, factor in (("2020-01-01", 1.0), ("2021-01-01", 0.5)):
        pixels = (factor * smooth(12, low=300, high=3000)).astype("uint16")
        utm(tmp_path / f"{name}.tif", pixels, 500_000, 5_000_000)
        rows.append({"path": str(tmp_path / f"{name}.tif"), "time": pd.Timestamp(name, tz="UTC")})
    table = scene_previews(pd.DataFrame(rows))
    assert table["place"].tolist() == [0, 0] and table["time"].is_monotonic_decreasing
    dark, bright = picture(table.iloc[0]), picture(table.iloc[1])
    assert dark[..., :3].mean() < 0.75 * bright[..., :3].mean()
    pixels = smooth(12, low=300, high=3000)[[3, 2, 1]]  # bands 4, 3, 2
    for band in range(3):
        size = (bright.shape[1], bright.shape[0])
        own = np.asarray(Image.fromarray(pixels[band].astype("float32")).resize(size))
        inner = np.s_[4:-4, 4:-4]
        assert np.corrcoef(own[inner].ravel(), bright[inner][..., band].ravel())[0, 1] > 0.98


def test_the_newest_of_each_place_come_first_and_files_that_fail_are_named(tmp_path):
    rows = []
    for place, left in enumerate((500_000, 520_000)):
        for year in (2019, 2021, 2020):
            path = tmp_path / f"{place}_{year}.tif"
            utm(path, noise(3, 20, 20), left, 5_000_000)
            rows.append({"path": str(path), "time": pd.Timestamp(f"{year}-01-01", tz="UTC")})
    (tmp_path / "broken.tif").write_bytes(b"II*\0 nothing")
    tif(tmp_path / "nowhere.tif", noise())
    utm(tmp_path / "pole.tif", noise(), 0, 0, crs="EPSG:3413", px=10)
    names = ["broken", "nowhere", "pole", "gone"]
    rows += [{"path": str(tmp_path / f"{name}.tif"), "time": pd.NaT} for name in names]
    table = scene_previews(pd.DataFrame(rows), max_scenes=3)
    assert table["time"].dt.year.tolist() == [2021, 2021, 2020]
    assert table["place"].tolist()[:2] == [0, 1] and table.attrs["omitted"] == 3
    skipped = {Path(path).stem: reason for path, reason in table.attrs["skipped"].items()}
    assert set(skipped) == set(names)
    assert "no CRS" in skipped["nowhere"] and "beyond 85" in skipped["pole"]


def test_all_pictures_together_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "_MOST_PIXELS", 4 * 15**2)
    for i in range(4):
        utm(tmp_path / f"{i}.tif", noise(3, 60, 60), 500_000 + 9000 * i, 5_000_000)
    table = scene_previews(pd.DataFrame({"path": sorted(map(str, tmp_path.glob("*.tif")))}))
    assert table[["width", "height"]].to_numpy().max() == 15


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real imagery in ../shared/data")
def test_one_file_a_band_and_real_scenes():
    table = scene_previews(open_scenes(DATA / "bigearthnet_11"), max_px=64)
    assert len(table) == 11 and table.attrs["skipped"] == {}
    assert (table[["width", "height"]].max(axis=1) == 64).all()
    colors = np.stack([picture(row)[..., :3].mean((0, 1)) for _, row in table.iterrows()])
    assert (colors.mean(1) > 30).all() and (np.ptp(colors, axis=1) > 5).any()  # no black, no gray
    naip = open_scenes(DATA / "naip_north_dakota")
    table = scene_previews(naip, max_px=100)
    assert len(table) == 10 and table["place"].nunique() == 1
    box = table.iloc[0]
    assert naip["lon"].between(box["left"], box["right"]).all()
    assert naip["lat"].between(box["bottom"], box["top"]).all()
