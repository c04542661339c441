"""The scenes of a map as pictures: bounds, dates, captions, and a frame that holds them."""

import base64
import io
import re

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from PIL import Image
from test_maps import data_of, page_of

from geossl.viz import maps


def scenes_of(folder, dates=("2020-01-01", "2021-06-01")):
    """Dated scenes of two places, and a file that cannot be read."""
    rows = []
    for place, lon in enumerate((10.0, 10.5)):
        for date in dates:
            path = folder / f"{place}_{date}.tif"
            pixels = np.random.default_rng(place).integers(1, 255, (3, 50, 50), np.uint8)
            with rasterio.open(
                path, "w", driver="GTiff", dtype="uint8", count=3, height=50, width=50,
                crs="EPSG:4326", transform=Affine(0.001, 0, lon, 0, -0.001, 45),
            ) as file:  # fmt: skip
                file.write(pixels)
            rows.append({"path": str(path), "location": place, "time": pd.Timestamp(date, tz="UTC"),
                         "lon": lon + 0.025, "lat": 44.975})  # fmt: skip
    (folder / "broken.tif").write_bytes(b"II*\0 nothing")
    rows.append({"path": str(folder / "broken.tif"), "location": 9, "time": pd.NaT, "lon": 10.2,
                 "lat": 45.0})  # fmt: skip
    return pd.DataFrame(rows)


def test_scenes_are_pictures_at_their_bounds_with_their_dates(tmp_path):
    drawn = maps.map_scenes(scenes_of(tmp_path), imagery=True)
    data = data_of(drawn)
    scenes = data["imagery"]["scenes"]
    assert [scene["date"] for scene in scenes] == ["2021-06-01"] * 2 + ["2020-01-01"] * 2
    assert scenes[0]["place"] == scenes[2]["place"] != scenes[1]["place"]
    np.testing.assert_allclose(scenes[0]["bounds"], [[44.95, 10.0], [45.0, 10.05]], atol=1e-6)
    kind, text = re.fullmatch("data:image/(webp);base64,(.*)", scenes[0]["image"]).groups()
    assert Image.open(io.BytesIO(base64.b64decode(text))).format == kind.upper()
    assert "4 scenes as pictures of at most" in data["caption"]
    assert "1 file cannot be shown: broken.tif" in data["caption"]
    assert str(tmp_path) not in page_of(drawn)
    (south, west), (north, east) = data["view"]
    assert south < 44.95 and west < 10.0 and north > 45.0 and east > 10.55


def test_a_map_without_pictures_says_why(tmp_path):
    points = pd.DataFrame({"location": [1, 2], "lon": [10.0, 11.0], "lat": [45.0, 46.0]})
    data = data_of(maps.map_scenes(points.assign(path="-"), imagery=True))
    assert "imagery" not in data and "cannot be shown" in data["caption"]
    pole = points.assign(path="-", lat=[89.0, 89.5])
    assert "not shown around a pole" in data_of(maps.map_scenes(pole, imagery=True))["caption"]
    assert "imagery" not in data_of(maps.map_scenes(scenes_of(tmp_path)))
