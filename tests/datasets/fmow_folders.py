"""Small folders as those of fMoW, WILDS, fMoW-Sentinel and the csv files of papers."""

import json

import numpy as np
import pandas as pd
from PIL import Image


def square(lon, lat, half=0.01):
    """WKT of a square about a position, longitude first."""
    turns = [(-1, 1), (1, 1), (1, -1), (-1, -1), (-1, 1)]
    corners = ", ".join(f"{lon + a * half:.16f} {lat + b * half:.16f}" for a, b in turns)
    return f"POLYGON (({corners}))"


def about(lon=10.0, lat=50.0, time="2014-07-01T05:31:57Z", category="airport", **more):
    """What a json of fMoW says."""
    pseudo = {"ID": -1, "category": category, "visible": True, "box": [0, 0, 80, 60]}
    box = {"ID": 0, "category": category, "visible": True, "box": [20, 10, 40, 30]}
    return {
        "img_filename": "x.jpg", "gsd": 0.5, "utm": "32U", "cloud_cover": 7, "timestamp": time,
        "country_code": "NA", "img_width": 80, "img_height": 60, "epsg": "4326",
        "raw_location": square(lon, lat), "sun_azimuth_dbl": 1.5, "bounding_boxes": [pseudo, box],
    } | more  # fmt: skip


def scene(root, name, data=None, kind="rgb", picture=None):
    """A jpg with its json; ``name`` such as train/airport/airport_0/airport_0_3; its path."""
    path = root / f"{name}_{kind}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or Image.new("RGB", (80, 60), (90, 120, 30))).save(path, "jpeg", quality=95)
    if data is not None:
        text = data if isinstance(data, bytes) else json.dumps(data).encode()
        path.with_suffix(".json").write_bytes(text)
    return str(path)


def wilds(root, rows, pictures=None):
    """WILDS' folder of (split, img_filename, timestamp, lat, lon) with pictures of gray i."""
    (root / "images").mkdir(parents=True)
    for i in range(len(rows)) if pictures is None else pictures:
        Image.new("RGB", (224, 224), (i, i, i)).save(root / f"images/rgb_img_{i}.png")
    table = pd.DataFrame(rows, columns=["split", "img_filename", "timestamp", "lat", "lon"])
    table["category"] = table["img_filename"].str.replace(r"_\d+_\d+_rgb.jpg", "", regex=True)
    table["country_code"], table["region"], table["cloud_cover"] = "NAM", "Africa", 3
    table.to_csv(root / "rgb_metadata.csv", index=False)
    return root


WILDS = [
    ("train", "multi-unit_residential_3_1_rgb.jpg", "2014-07-01T05:31:57Z", -20.0, 17.0),
    ("train", "multi-unit_residential_3_0_rgb.jpg", "2002-02-07T08:43:59.123Z", -20.001, 17.001),
    ("val", "zoo_7_0_rgb.jpg", "2013-01-01T00:00:00Z", 40.0, -70.0),
    ("seq", "zoo_7_0_rgb.jpg", "2013-01-01T00:00:00Z", 10.0, 20.0),
]


def tif(path, value, dtype="uint16"):
    import rasterio
    from rasterio.transform import Affine

    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=9, height=7, count=13, dtype=dtype, crs="EPSG:4326",
        transform=Affine(1e-4, 0, 10, 0, -1e-4, 50),
    ) as file:  # fmt: skip
        file.write((np.arange(13)[:, None, None] * 100 + np.full((13, 7, 9), value)).astype(dtype))


TWO = ((0, 6, "airport"), (0, 100, "airport"))


def sentinel(root, split="train", rows=TWO, inside=None, **how):
    """fMoW-Sentinel's csv with an index, as it is published, and its files."""
    root.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=["location_id", "image_id", "category"])
    table["timestamp"] = [f"2016-0{1 + i}-01T00:00:00Z" for i in range(len(table))]
    table["polygon"] = [square(10 + n, 50) for n in table["location_id"]]
    table.to_csv(root / f"{split}.csv")
    for place, image, category in rows:
        folder = root / (inside or "") / split / category / f"{category}_{place}"
        tif(folder / f"{category}_{place}_{image}.tif", image, **how)
    return root


def listing(root, name="train.csv", header=("label", "path"), third=None):
    """A csv of the paper's with four pictures of three fMoW sequences."""
    names = [
        "train/zoo/zoo_1/zoo_1_0_rgb.jpg", "train/zoo/zoo_1/zoo_1_12_rgb.jpg",
        "train/zoo/zoo_2/zoo_2_0_msrgb.jpg", "val/zoo ä/zoo_1/zoo_1_0_rgb.jpg",
    ]  # fmt: skip
    for one in names:
        (root / one).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (9, 9, 9)).save(root / one)
    columns = [[0, 0, 10, 2], names] + ([third] if third else [])
    pd.DataFrame(dict(zip(header, columns, strict=True))).to_csv(root / name, index=False)
    return root / name
