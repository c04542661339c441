"""Small folders as those of the paper's five data sets, with something to learn in them."""

import json

import numpy as np
from fmow_folders import about, scene
from PIL import Image
from tile_folders import tif

COLORS = {
    "airport": (150, 90, 90), "multi-unit_residential": (90, 90, 150), "crop_field": (90, 150, 90),
}  # fmt: skip
EXTRA = {"false_detection": (128, 128, 128)}
# gaps in k, and a single date at every third location
DATES = ((0, 3, 7), (2,), (1, 12))
# of three categories; a scene of train has two boxes, of which each is a chip and a location
FMOW_CHIPS = {"train": 3 * 12 + 1, "val": 3 * 6}
FMOW_LOCATIONS = {"train": 3 * 6 + 1, "val": 3 * 3}


def photo(color, size, rng):
    """A picture of noise about a color, which itself varies: not all pictures can be told apart."""
    pixels = rng.normal(0, 20, (size[1], size[0], 3)) + color + rng.normal(0, 40, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def fmow(root):
    """Six locations of each category in train and three in val; boxes in lists and dictionaries."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for c, (category, color) in enumerate((COLORS | EXTRA).items()):
            for n in range(count):
                lon, lat = 20.0 * c - 30 + n, 10.0 * n - 20 + (split == "val")
                for k in DATES[n % 3]:
                    data = about(lon, lat, f"201{k % 7}-0{1 + n}-01T00:00:00Z", category)
                    boxes = data["bounding_boxes"]
                    if (n, k, category) == (4, 2, "airport"):  # two boxes of one scene
                        second = boxes[1] | {"ID": 1, "box": [0, 0, 30, 20]}
                        data["bounding_boxes"] = [*boxes, second]
                    elif n % 2:
                        data["bounding_boxes"] = boxes[1]
                    elif k == 3:
                        data["bounding_boxes"] = {"0": boxes[0], "1": boxes[1]}
                    name = f"{split}/{category}/{category}_{n}/{category}_{n}_{k}"
                    scene(root, name, data, picture=photo(color, (80, 60), rng))
    scene(root, "test/0000123/0000123_0", about(5, 6))
    return root


def geoimagenet(root):
    """Two classes of photos, of which some have no position."""
    rng, lines = np.random.default_rng(1), []
    for c, name in enumerate(("n01440764", "n01443537")):
        (root / name).mkdir(parents=True)
        for i in range(24):
            number = 1000 * (c + 1) + i
            color = (200, 60, 60) if c else (60, 60, 200)
            photo(color, (40, 30), rng).save(root / name / f"{number}.jpg")
            place = "-1000,-1000" if i == 5 else f"{-40 + 3 * i},{100 * c + 2 * i}"
            lines.append(f"{number},{place}")
    (root / "locations.csv").write_text("\n".join(lines) + "\n")
    return root


def xview(root):
    """Six scenes of bright squares, each in a block of space of its own."""
    rng, features = np.random.default_rng(2), []
    for i in range(6):
        pixels = rng.integers(20, 80, (3, 96, 96), dtype=np.uint8)
        for _ in range(4):
            x, y = rng.integers(0, 72, 2)
            pixels[:, y : y + 20, x : x + 20] = 230
            about_box = {"bounds_imcoords": f"{x},{y},{x + 20},{y + 20}", "type_id": 73}
            features.append({"type": "Feature", "properties": about_box | {"image_id": f"{i}.tif"}})
        path, left = root / "train_images" / f"{i}.tif", 10.1 + 3 * i
        tif(path, pixels, crs="EPSG:4326", left=left, top=40.9, px=1e-5)
    empty = {"bounds_imcoords": "[]", "type_id": 73, "image_id": "0.tif"}
    features.append({"type": "Feature", "properties": empty})
    content = {"type": "FeatureCollection", "features": features}
    (root / "xView_train.geojson").write_text(json.dumps(content))
    return root


def spacenet(root):
    """Sixteen scenes with a bright building each, one without any, one without a geojson."""
    rng = np.random.default_rng(3)
    (root / "geojson").mkdir(parents=True)
    for i in range(1, 18):
        left, top, px = -43.6 + i / 1000, -22.9, 1e-5
        pixels = rng.integers(20, 80, (3, 40, 44), dtype=np.uint8)
        shapes = []
        if i != 2:
            x, y = rng.integers(2, 20, 2)
            pixels[:, y : y + 18, x : x + 18] += 150
            corners = [(x, y), (x + 18, y), (x + 18, y + 18), (x, y + 18), (x, y)]
            ring = [[left + px * a, top - px * b, 0.0] for a, b in corners]
            polygon = {"type": "Polygon", "coordinates": [ring]}
            shapes = [{"type": "Feature", "properties": {}, "geometry": polygon}]
        name = f"AOI_1_RIO_img{i}"
        path = root / "3band" / f"3band_{name}.tif"
        tif(path, pixels, crs="EPSG:4326", left=left, top=top, px=px)
        if i != 17:
            text = json.dumps({"type": "FeatureCollection", "features": shapes}) if shapes else ""
            (root / "geojson" / f"Geo_{name}.geojson").write_text(text)
    return root


def tile2vec(root):
    """Tiles of two land covers, with their mask of labels as a fifth band."""
    rng, labels = np.random.default_rng(4), []
    root.mkdir(parents=True)
    for i in range(1, 41):
        labels.append(24 if i % 2 else 111)
        pixels = rng.integers(0, 60, (20, 20, 5)) + (150 if i % 2 else 30)
        np.save(root / f"{i}tile.npy", pixels.astype(np.uint8))
    np.save(root / "y.npy", np.array(labels))
    return root
