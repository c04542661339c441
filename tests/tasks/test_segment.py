import copy
import itertools
import json
import pickle
import warnings
from pathlib import Path

import geopandas
import matplotlib
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.features
import rasterio.shutil
import rasterio.warp
import shapely
import torch
from affine import Affine
from PIL import Image
from rasterio.transform import from_origin
from sklearn.metrics import jaccard_score

from geossl import models
from geossl.datasets.raster import area
from geossl.models import layers
from geossl.tasks import segment
from geossl.tasks.segment import evaluate, loop
from geossl.tasks.segment.class_map import ClassMap
from geossl.tasks.segment.crops import Areas
from geossl.tasks.segment.masks import IGNORE, Masks
from geossl.tasks.segment.model import Network
from geossl.tasks.segment.segmenter import class_map
from geossl.transforms import Views
from geossl.viz import plots
from geossl.viz.plots import segmentation

NAMES = ("background", "plant")
NORTH_UP = from_origin(500_000, 5_000_000, 10, 10)
PLANTS = Path(__file__).parents[3] / "shared" / "data" / "us_power_plants"
QUICK = segment.SegmentConfig(epochs=2, batch_size=4, size_px=32, width=16)


@pytest.fixture(autouse=True)
def global_random_state_is_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def tif(path, pixels, *, crs="EPSG:32633", transform=NORTH_UP, **more):
    pixels = np.asarray(pixels)
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    count, height, width = pixels.shape
    place = {} if transform is None else {"crs": crs, "transform": transform}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype,
        **place, **more,
    ) as file:  # fmt: skip
        file.write(pixels)
    return str(path)


def a_grid(height=30, width=40, *, crs="EPSG:32633", transform=NORTH_UP):
    return area.Grid(height, width, 1, crs, transform)


def read(path, masks=None, *, grid=None, window=None):
    grid = grid or a_grid()
    window = window or (0, 0, grid.width, grid.height)
    return (masks or Masks(NAMES)).read(str(path), grid=grid, window=window)


def geojson(path, shapes, *, crs="EPSG:32633", labels=None):
    features = [
        {
            "type": "Feature",
            "geometry": None if shape is None else shapely.geometry.mapping(shape),
            "properties": None if labels is None else {"class": labels[i]},
        }
        for i, shape in enumerate(shapes)
    ]
    about = {"type": "FeatureCollection", "features": features}
    if crs is not None:
        about["crs"] = {"type": "name", "properties": {"name": crs}}
    Path(path).write_text(json.dumps(about))
    return str(path)


def squares(folder, count=6, *, size=48, seed=0, start=0):
    """Scenes of dim noise with bright red rectangles, which are the plants."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(start, start + count):
        pixels = rng.integers(20, 80, (3, size, size + 5), dtype=np.uint8)
        mask = np.zeros((size, size + 5), np.uint8)
        for _ in range(2):
            y, x = rng.integers(0, size - 16, 2)
            h, w = rng.integers(10, 16, 2)
            mask[y : y + h, x : x + w] = 1
        pixels[0][mask == 1] += 120
        rows.append({
            "path": tif(folder / f"scene{i}.tif", pixels),
            "mask": tif(folder / f"mask{i}.tif", mask),
        })  # fmt: skip
    return pd.DataFrame(rows)


def small(bands=3, **more):
    return models.build_encoder(
        "small", bands=bands, mean=[60.0] * bands, std=[40.0] * bands, **more
    )


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def settle(net, *shape, times=1):
    """Give BatchNorms some statistics, as training does."""
    net.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for i in range(times):
            net(noise(*shape, seed=i))
    return net.eval()


def states(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    scenes = squares(folder).assign(split=["train"] * 5 + ["val"])
    config = segment.SegmentConfig(
        epochs=25, batch_size=4, size_px=32, width=32, lr=3e-3, color=Views()
    )
    tuned = segment.train(
        scenes, small(), classes=NAMES, config=config, output_dir=folder / "run", seed=1
    )
    return folder, scenes, tuned


# --- the measure ------------------------------------------------------------------------------


def test_iou_is_sklearns_jaccard_on_random_cases():
    rng = np.random.default_rng(0)
    for case in range(40):
        classes = int(rng.integers(2, 7))
        pool = rng.permutation(classes)[: rng.integers(1, classes + 1)]  # some are absent
        truth, guess = (rng.choice(pool, (9, 13)).astype(np.uint8) for _ in range(2))
        truth[rng.random(truth.shape) < 0.2] = IGNORE
        guess[rng.random(guess.shape) < 0.1] = IGNORE
        found = evaluate.iou(evaluate.confusion(truth, guess, classes=classes)).numpy()
        known = (truth != IGNORE) & (guess != IGNORE)
        real, given = truth[known], guess[known]
        there = np.union1d(real, given)
        expected = jaccard_score(real, given, labels=there, average=None, zero_division=0)
        np.testing.assert_allclose(found[there], expected, err_msg=str(case))
        assert np.isnan(np.delete(found, there)).all()


def test_confusion_counts_in_parts(monkeypatch):
    truth, guess = np.array([0, 1, 2, 2, IGNORE]), np.array([0, 2, 2, IGNORE, 1])
    whole = evaluate.confusion(truth, guess, classes=3)
    assert whole.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    monkeypatch.setattr(evaluate, "_PART", 2)
    assert torch.equal(evaluate.confusion(truth, guess, classes=3), whole)
    assert evaluate.confusion(truth[:0], guess[:0], classes=3).sum() == 0


# --- masks on their scene's grid --------------------------------------------------------------


def test_a_mask_is_read_as_it_is_by_windows(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, (30, 40), dtype=np.uint8)
    codes[3, 4] = IGNORE
    path = tif(tmp_path / "m.tif", codes)
    assert np.array_equal(read(path), codes)
    assert np.array_equal(read(path, window=(5, 7, 20, 29)), codes[7:29, 5:20])
    Image.fromarray(codes).save(tmp_path / "m.png")  # no CRS: the scene's pixels
    assert np.array_equal(read(tmp_path / "m.png"), codes)
    wide = tif(tmp_path / "wide.tif", codes.astype(np.float32))
    assert np.array_equal(read(wide), codes)


def test_values_and_nodata_of_masks(tmp_path):
    codes = np.random.default_rng(0).integers(0, 2, (30, 40), dtype=np.uint8)
    path = tif(tmp_path / "a.tif", codes * 255)
    assert np.array_equal(read(path, Masks(NAMES, values=(0, 255))), codes)
    assert set(np.unique(read(path))) == {0, IGNORE}  # 255 is left out
    path = tif(tmp_path / "b.tif", codes, nodata=0)  # many write background so
    assert np.array_equal(read(path), codes)
    path = tif(tmp_path / "c.tif", np.where(codes, 1, 9), nodata=9)
    assert np.array_equal(read(path), np.where(codes, 1, IGNORE))
    nan = np.where(codes, 1, np.nan).astype(np.float32)
    assert np.array_equal(read(tif(tmp_path / "d.tif", nan)), np.where(codes, 1, IGNORE))
    path = tif(tmp_path / "e.tif", np.where(codes, 7, 0).astype(np.uint16))
    with pytest.raises(ValueError, match=rf"values 0, 1 or 255 .*, came 7 in {codes.sum()} pixels"):
        read(path)
    with pytest.raises(ValueError, match="expected one band of classes"):
        read(tif(tmp_path / "f.tif", np.stack([codes] * 3)))


def test_masks_of_another_size_are_refused_or_resampled_by_majority(tmp_path):
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 3, (90, 120), dtype=np.uint8)
    Image.fromarray(fine).save(tmp_path / "fine.png")
    three = ("a", "b", "c")
    with pytest.raises(ValueError, match="came 120 x 90 pixels for 40 x 30; give resample=True"):
        read(tmp_path / "fine.png", Masks(three))
    masks = Masks(three, resample=True)
    found = read(tmp_path / "fine.png", masks)
    votes = np.stack([(fine == c).reshape(30, 3, 40, 3).sum((1, 3)) for c in range(3)])
    best = np.sort(votes, axis=0)
    clear = best[2] > best[1]
    assert clear.mean() > 0.6 and np.array_equal(found[clear], votes.argmax(0)[clear])
    part = read(tmp_path / "fine.png", masks, window=(3, 5, 17, 9))
    assert np.array_equal(part, found[5:9, 3:17])
    coarse = rng.integers(0, 3, (10, 10), dtype=np.uint8)
    Image.fromarray(coarse).save(tmp_path / "coarse.png")
    grid = a_grid(30, 30)
    expected = np.kron(coarse, np.ones((3, 3), np.uint8))
    assert np.array_equal(read(tmp_path / "coarse.png", masks, grid=grid), expected)
    with pytest.raises(ValueError, match="of the shape of its scene, came 10 x 10"):
        read(tmp_path / "coarse.png", masks)
    # footprints whose sides were rounded, as the power plants' are
    Image.fromarray(np.tile(np.uint8([[0], [1]]), (557, 1115))).save(tmp_path / "p.png")
    assert read(tmp_path / "p.png", masks, grid=a_grid(75, 76)).shape == (75, 76)


def test_masks_of_another_crs_are_refused_or_brought_to_the_scene(tmp_path):
    shape = shapely.box(500_050, 4_999_780, 500_210, 4_999_900)
    grid = a_grid()
    left, bottom, right, top = rasterio.warp.transform_bounds(
        "EPSG:32633", "EPSG:4326", 500_000, 4_999_700, 500_400, 5_000_000
    )
    fine = from_origin(left - 0.001, top + 0.001, 1e-5, 1e-5)
    size = int((top - bottom + 0.002) / 1e-5), int((right - left + 0.002) / 1e-5)
    moved = rasterio.warp.transform_geom("EPSG:32633", "EPSG:4326", shapely.geometry.mapping(shape))
    burnt = rasterio.features.rasterize([(moved, 1)], size, transform=fine, dtype="uint8")
    path = tif(tmp_path / "m.tif", burnt, crs="EPSG:4326", transform=fine)
    with pytest.raises(ValueError, match="came EPSG:4326 for EPSG:32633; give resample=True"):
        read(path)
    masks = Masks(NAMES, resample=True)
    expected = read(geojson(tmp_path / "m.geojson", [shape]))
    assert expected.sum() == 16 * 12
    found = read(path, masks)
    assert (found != expected).sum() <= 6  # pixels that the edge halves
    half = tif(tmp_path / "half.tif", burnt[: size[0] // 2], crs="EPSG:4326", transform=fine)
    found = read(half, masks)
    assert (found[:10] != IGNORE).all() and (found[-5:] == IGNORE).all()
    shifted = tif(tmp_path / "s.tif", expected, transform=from_origin(500_005, 5_000_000, 10, 10))
    with pytest.raises(ValueError, match="came pixels of another size or place"):
        read(shifted)
    other = tif(tmp_path / "o.tif", expected, transform=from_origin(600_000, 5_000_000, 10, 10))
    with pytest.raises(ValueError, match="where its scene lies, it lies elsewhere"):
        read(other, masks, grid=grid)


# --- polygons ---------------------------------------------------------------------------------

GRIDS = {
    "north-up": NORTH_UP,
    "south-up": Affine(10, 0, 500_000, 0, 10, 4_999_700),
    "rotated": Affine.translation(500_100, 4_999_900) @ Affine.rotation(30) @ Affine.scale(8, -8),
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_pixel_whose_center_lies_in_a_polygon_is_of_its_class(name, tmp_path):
    grid = a_grid(transform=GRIDS[name])
    middle = grid.transform @ (20, 15)
    shape = shapely.Point(middle).buffer(83).difference(shapely.Point(middle).buffer(31))
    far = shapely.box(0, 0, 1, 1)
    lonlat = shapely.geometry.shape(
        rasterio.warp.transform_geom("EPSG:32633", "EPSG:4326", shapely.geometry.mapping(shape))
    )
    centers = [
        [shapely.Point(grid.transform @ (x + 0.5, y + 0.5)) for x in range(40)] for y in range(30)
    ]
    expected = np.array([[shape.contains(p) for p in row] for row in centers])
    assert 100 < expected.sum() < 600
    for path in (
        geojson(tmp_path / "utm.geojson", [None, shape, far]),
        geojson(tmp_path / "lonlat.json", [lonlat], crs=None),  # GeoJSON's own
        geojson(tmp_path / "urn.json", [lonlat], crs="urn:ogc:def:crs:OGC:1.3:CRS84"),
    ):
        found = read(path, grid=grid)
        assert np.array_equal(found, expected), path
        part = read(path, grid=grid, window=(11, 3, 29, 22))
        assert np.array_equal(part, expected[3:22, 11:29])


def test_geopackages_and_their_class_column(tmp_path):
    boxes = [shapely.box(500_000, 4_999_700, 500_200, 5_000_000), shapely.Point(500_200, 4_999_850)]
    boxes[1] = boxes[1].buffer(55)
    frame = geopandas.GeoDataFrame({"class": ["b", "c"]}, geometry=boxes, crs="EPSG:32633")
    frame.to_crs(3857).to_file(tmp_path / "a.gpkg", driver="GPKG")
    three = Masks(("a", "b", "c"), label="class")
    found = read(tmp_path / "a.gpkg", three)
    assert found[0, 0] == 1 and found[0, 39] == 0 and found[15, 18] == 2  # the later one wins
    with pytest.raises(ValueError, match="expected label='...', the property"):
        read(tmp_path / "a.gpkg", Masks(("a", "b", "c")))
    with pytest.raises(ValueError, match=r"feature 1 \(from 0\) has no class of a, b in 'class'"):
        read(tmp_path / "a.gpkg", Masks(("a", "b"), label="class"))
    with pytest.raises(ValueError, match="feature 0 .* has no class of a, b in 'kind'"):
        read(tmp_path / "a.gpkg", Masks(("a", "b"), label="kind"))
    frame.to_file(tmp_path / "a.gpkg", driver="GPKG", layer="second")
    with pytest.raises(ValueError, match="expected one layer of polygons"):
        read(tmp_path / "a.gpkg", three)
    whole = (tmp_path / "a.gpkg").read_bytes()
    (tmp_path / "half.gpkg").write_bytes(whole[:5000])
    (tmp_path / "vrt.gpkg").write_text("<OGRVRTDataSource></OGRVRTDataSource>")
    for name in ("half.gpkg", "vrt.gpkg"):
        with pytest.raises(ValueError, match=name):
            read(tmp_path / name, three)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that is what is tried
        frame.set_crs(None, allow_override=True).to_file(tmp_path / "n.gpkg", driver="GPKG")
    with pytest.raises(ValueError, match="n.gpkg"):
        read(tmp_path / "n.gpkg", three)


def test_polygons_that_cross_themselves_are_taken_by_the_even_odd_rule(tmp_path):
    bow = shapely.Polygon([
        (500_000, 4_999_700), (500_400, 5_000_000), (500_400, 4_999_700), (500_000, 5_000_000)
    ])  # fmt: skip
    assert not bow.is_valid
    found = read(geojson(tmp_path / "bow.geojson", [bow]))
    assert 550 < found.sum() < 650  # two triangles, half of the scene
    assert found[15, 0] and found[15, 39] and not found[0, 20] and not found[29, 20]
    spike = shapely.Polygon([
        (500_100, 4_999_800), (500_200, 4_999_800), (500_200, 4_999_900), (500_100, 4_999_900),
        (500_100, 4_999_950), (500_100, 4_999_900),
    ])  # fmt: skip
    assert not spike.is_valid
    assert read(geojson(tmp_path / "spike.geojson", [spike])).sum() == 100  # the line is nothing
    for shape in (bow, spike):  # as GEOS mends them
        mended = geojson(tmp_path / "mended.geojson", [polygonal(shapely.make_valid(shape))])
        crossed = geojson(tmp_path / "crossed.geojson", [shape])
        assert np.array_equal(read(crossed), read(mended))
    two = shapely.MultiPolygon([
        shapely.box(500_000, 4_999_800, 500_200, 5_000_000),
        shapely.box(500_100, 4_999_800, 500_300, 5_000_000),
    ])  # fmt: skip
    assert not two.is_valid
    assert read(geojson(tmp_path / "two.geojson", [two])).sum() == 30 * 20  # no hole


def polygonal(shape):
    parts = [p for p in shapely.get_parts(shape) if p.geom_type != "LineString"]
    return shapely.MultiPolygon([p for part in parts for p in shapely.get_parts(part)])


def test_empty_files_hold_no_polygon_and_bad_ones_are_named(tmp_path):
    (tmp_path / "empty.geojson").write_bytes(b"")
    assert not read(tmp_path / "empty.geojson").any()
    assert not read(geojson(tmp_path / "none.geojson", [])).any()
    nothing = shapely.from_wkt("POLYGON EMPTY")
    assert not read(geojson(tmp_path / "null.geojson", [None, nothing])).any()
    box = shapely.box(500_000, 4_999_700, 500_200, 5_000_000)
    for name, text in {
        "cut.geojson": '{"type": "FeatureCollection", "features": [',
        "list.geojson": "[1, 2]",
        "other.geojson": '{"type": "Topology"}',
        "word.geojson": '{"features": "abc"}',
        "shape.geojson": '{"features": [{"geometry": {"type": "Cube", "coordinates": []}}]}',
        "nan.geojson": geojson_text(box).replace("500200.0", "NaN"),
        "crs.geojson": geojson_text(box).replace("EPSG:32633", "EPSG:0"),
        "point.geojson": geojson_text(shapely.Point(1, 2)),
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            read(tmp_path / name)
    with pytest.raises(ValueError, match=r"point.geojson, feature 0 \(from 0\) is no polygon"):
        read(tmp_path / "point.geojson")
    with pytest.raises(ValueError, match="expected a scene with a CRS"):
        read(
            geojson(tmp_path / "a.geojson", [box]),
            grid=a_grid(crs=None, transform=Affine.identity()),
        )
    pole = geojson(tmp_path / "pole.geojson", [shapely.box(0, 80, 10, 95)], crs="EPSG:4326")
    with pytest.raises(ValueError, match="pole.geojson"):
        read(pole, grid=a_grid(crs="EPSG:3857"))
    with pytest.raises(FileNotFoundError, match="expected a mask at .*gone.png"):
        read(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="expected a mask of .tif"):
        read(tmp_path / "gone.jpg")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(ValueError, match="broken.png cannot be read"):
        read(tmp_path / "broken.png")


def geojson_text(shape):
    features = [{"type": "Feature", "geometry": shapely.geometry.mapping(shape)}]
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    return json.dumps({"type": "FeatureCollection", "features": features, "crs": crs})


@pytest.mark.parametrize(
    ("classes", "more"),
    [((), {}), (("plant",), {}), ("plant", {}), (("a", "a"), {}), (("a", ""), {}),
     (tuple(map(str, range(256))), {}), (NAMES, {"values": (1,)}), (NAMES, {"values": (1, 1)})],
)  # fmt: skip
def test_classes_that_cannot_be_told_apart_are_refused(classes, more):
    with pytest.raises(ValueError, match="expected (the names of two|a value of its own)"):
        Masks(classes, **more)


# --- crops ------------------------------------------------------------------------------------


def coded(folder, sizes):
    """Scenes whose first band is ten times the class, the second the scene's number."""
    rng = np.random.default_rng(0)
    rows = []
    for i, (height, width) in enumerate(sizes):
        codes = rng.integers(0, 3, (height, width), dtype=np.uint8)
        pixels = np.stack([10 * codes + 1, np.full_like(codes, i + 1)])
        pixels[:, 0, :2] = 0  # no data
        rows.append({
            "path": tif(folder / f"{i}.tif", pixels, nodata=0),
            "mask": tif(folder / f"m{i}.tif", codes),
        })  # fmt: skip
    return area.scene_rows(pd.DataFrame(rows), bands=2)


@pytest.mark.parametrize("keep", [0, 1e9])
def test_crops_move_image_and_mask_alike_and_pad_what_is_small(keep, tmp_path):
    found = Areas(coded(tmp_path, [(50, 70), (9, 5)]), Masks(("a", "b", "c")), keep_bytes=keep)
    scenes = found.drawn(size_px=16, batch_size=3, epoch=0, seed=0)
    each = round(50 * 70 / 256)
    assert scenes.shape == ((each + 1) // 3, 3) and np.bincount(scenes.ravel())[0] >= each - 2
    seen = set()
    for epoch in range(3):
        for pixels, valid, codes in found.batches(size_px=16, batch_size=3, epoch=epoch, seed=0):
            assert pixels.shape == (3, 2, 16, 16) and pixels.dtype == torch.float32
            assert valid.shape == codes.shape == (3, 16, 16)
            assert torch.equal(codes != IGNORE, valid) and not pixels[:, 0][~valid].any()
            assert torch.equal(pixels[:, 0][valid], 10 * codes[valid].float() + 1)
            for one, part in zip(pixels[:, 1], valid, strict=True):
                which = int(one.max())
                seen.add(which)
                assert int(part.sum()) in ({43, 44, 45} if which == 2 else range(254, 257))
    assert seen == {1, 2}
    few = found.drawn(size_px=512, batch_size=7, epoch=0, seed=0)
    assert few.shape == (1, 7) and set(few[0]) == {0, 1}  # two scenes come several times
    (batch,) = found.batches(size_px=64, batch_size=7, epoch=0, seed=0)
    assert len(batch[0]) == 7


def test_crops_are_drawn_by_the_seed_in_all_eight_ways(tmp_path):
    codes = np.arange(16, dtype=np.uint8).reshape(4, 4)
    scenes = pd.DataFrame({
        "path": [tif(tmp_path / "a.tif", codes[None] + 1)],
        "mask": [tif(tmp_path / "m.tif", codes)],
    })  # fmt: skip
    names = tuple(map(str, range(16)))
    found = Areas(area.scene_rows(scenes, bands=1), Masks(names), keep_bytes=1e6)

    def drawn(seed, epochs=4):
        parts = (
            batch[2]
            for epoch in range(epochs)
            for batch in found.batches(size_px=4, batch_size=20, epoch=epoch, seed=seed)
        )
        return torch.cat(list(parts))

    ways = {tuple(t.flatten().tolist()) for t in drawn(0)}
    turned = {
        tuple(np.rot90(part, k).ravel().tolist()) for k in range(4) for part in (codes, codes.T)
    }
    assert ways == turned and len(ways) == 8
    assert torch.equal(drawn(0), drawn(0)) and not torch.equal(drawn(0), drawn(1))


# --- the network ------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["fpn", "fcn", "deeplab"])
@pytest.mark.parametrize(("name", "stem"), [("small", "small"), ("resnet18", "standard")])
def test_scores_have_the_resolution_of_the_image(head, name, stem):
    encoder = models.build_encoder(name, stem=stem, bands=2)
    net = Network(encoder, classes=5, head=head, width=8, seed=3)
    assert net.encoder is not encoder and net.stride == (16 if name == "small" else 32)
    assert net.eval()(noise(2, 2, 64, 32)).shape == (2, 5, 64, 32)
    again = Network(encoder, classes=5, head=head, width=8, seed=3)
    other = Network(encoder, classes=5, head=head, width=8, seed=4)
    assert same(states(net), states(again))
    assert not same(states(other.head), states(again.head))


def test_pixels_without_data_do_not_reach_the_network():
    net = Network(small(), classes=2, head="fpn", width=8).eval()
    chips, valid = 90 * noise(1, 3, 32, 32), torch.ones(1, 32, 32, dtype=torch.bool)
    valid[:, 10:14] = False
    with torch.no_grad():
        first = net.from_chips(chips, valid)
        chips[:, :, 10:14] = 9999
        assert torch.equal(net.from_chips(chips, valid), first)
        chips[:, :, 10:14] = 60  # the mean
        assert torch.allclose(net.from_chips(chips, torch.ones_like(valid)), first, atol=1e-6)


def test_an_encoder_of_several_processes_is_tuned_in_one():
    encoder = layers.split_batchnorm(small(), 1)
    for module in encoder.modules():
        if isinstance(module, layers.SplitBatchNorm2d):
            module.sharing = 2  # as a run of torchrun has it: it asks for a process group
    maps = Network(encoder, classes=2, head="fcn").pyramid.train()(noise(2, 3, 32, 32))
    assert maps[-1].isfinite().all() and encoder.backbone[1].sharing == 2


@pytest.mark.parametrize("freeze", ["none", "norm", "all"])
def test_what_is_frozen_stays_bit_for_bit_and_the_encoder_given_is_never_touched(freeze, tmp_path):
    scenes, encoder = squares(tmp_path, 2), small()
    layers.split_batchnorm(encoder, 2)
    encoder.train()
    before, given = states(encoder), copy.deepcopy(encoder)
    config = segment.SegmentConfig(epochs=1, batch_size=4, size_px=32, width=8, freeze=freeze)
    tuned = segment.train(scenes, encoder, classes=NAMES, config=config)
    assert same(before, states(encoder)) and encoder.training
    assert all(p.requires_grad and p.grad is None for p in encoder.parameters())
    assert encoder.backbone[1].splits == given.backbone[1].splits == 2
    after = states(tuned.encoder)
    statistics = [k for k in before if "running" in k or "tracked" in k]
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    if freeze == "all":
        assert not moved
    else:
        assert "backbone.0.weight" in moved
        assert moved.isdisjoint(statistics) == (freeze == "norm")
    assert not tuned.network.training


# --- training ---------------------------------------------------------------------------------


def test_it_learns_a_small_set_and_an_untrained_one_does_not_know_it(trained):
    _, scenes, tuned = trained
    result = segment.measure(tuned, scenes[scenes["split"] == "train"])
    assert result.value > 0.9 and result.low > 0.85 and result.low <= result.value <= result.high
    assert tuned.logs["val"].iloc[-1] > 0.8 and tuned.logs["loss"].iloc[-1] < 0.35
    assert list(tuned.logs.columns) == ["epoch", "loss", "accuracy", "val"]
    raw = Network(small(), classes=2, head="fpn", width=32)
    untrained = segment.Segmenter(raw, tuned.masks, tuned.reading, tuned.pixels)
    assert segment.measure(untrained, scenes).value < 0.6


def test_the_pixels_of_the_training_are_counted(trained):
    _, scenes, tuned = trained
    masks = [rasterio.open(p).read(1) for p in scenes["mask"][scenes["split"] == "train"]]
    plants = sum(int(m.sum()) for m in masks)
    assert tuned.pixels.to_dict() == {"background": 5 * 48 * 53 - plants, "plant": plants}


def test_what_is_left_out_has_no_part_in_the_loss():
    logits, weight = noise(2, 3, 5, 4), torch.tensor([1.0, 3.0, 0.5])
    target = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 5, 4)))
    target[0, :3] = IGNORE
    total, heft = loop.pixel_loss(logits, target, weight)
    known = target != IGNORE
    chosen = logits.permute(0, 2, 3, 1)[known].double().log_softmax(1).numpy()
    each = [-row[t] * weight[t] for row, t in zip(chosen, target[known], strict=True)]
    assert total.item() == pytest.approx(sum(each).item(), rel=1e-5)
    assert heft.item() == pytest.approx(weight[target[known]].sum().item())
    logits.requires_grad_()
    total, heft = loop.pixel_loss(logits, torch.full_like(target, IGNORE), weight)
    total.backward()
    assert total == heft == 0 and not logits.grad.any()


def test_masks_that_know_only_a_part_are_counted_there_alone(tmp_path):
    scenes = squares(tmp_path, 3)
    for path in scenes["mask"]:
        with rasterio.open(path, "r+") as file:
            mask = file.read(1)
            mask[:, 26:] = IGNORE
            file.write(mask, 1)
    tuned = segment.train(scenes, small(), classes=NAMES, config=QUICK)
    assert tuned.pixels.sum() == 3 * 48 * 26
    result = segment.measure(tuned, scenes)
    assert result.confusion.to_numpy().sum() == 3 * 48 * 26
    assert result.scenes["pixels"].tolist() == [48 * 26] * 3


def test_class_weights_are_powers_of_the_share_with_a_mean_of_one():
    pixels = pd.Series([900, 100, 0])
    assert loop.class_weights(pixels, balance=0).tolist() == [1, 1, 1]
    weight = loop.class_weights(pixels, balance=1)
    assert weight[0] * 900 == pytest.approx(float(weight[1] * 100))
    assert (weight[0] * 0.9 + weight[1] * 0.1).item() == pytest.approx(1) and weight[2] == 1
    half = loop.class_weights(pixels, balance=0.5)
    assert half[1] / half[0] == pytest.approx(3)


class Stop(Exception):
    pass


@pytest.mark.parametrize("color", [True, False])
def test_a_killed_training_goes_on_to_the_same_end(color, tmp_path, monkeypatch):
    scenes = squares(tmp_path, 3).assign(split=["train", "train", "val"])
    more = {"color": Views()} if color else {}
    config = segment.SegmentConfig(epochs=4, batch_size=4, size_px=32, width=8, **more)

    def run(out):
        return segment.train(scenes, small(), classes=NAMES, config=config, output_dir=out, seed=5)

    whole = run(tmp_path / "whole")
    keep, calls = loop._keep, []

    def killed(*args, **more):
        keep(*args, **more)
        calls.append(args)
        if len(calls) == 2:
            raise Stop

    monkeypatch.setattr(loop, "_PAUSE", 0)
    monkeypatch.setattr(loop, "_keep", killed)
    with pytest.raises(Stop):
        run(tmp_path / "killed")
    assert not (tmp_path / "killed" / "segmenter.safetensors").exists()
    monkeypatch.setattr(loop, "_keep", keep)
    epochs = []
    watched = loop._watched
    monkeypatch.setattr(loop, "_watched", lambda *a: epochs.append(1) or watched(*a))
    rest = run(tmp_path / "killed")
    assert len(epochs) == 2
    assert same(states(whole.network), states(rest.network))
    pd.testing.assert_frame_equal(whole.logs, rest.logs)
    lines = (tmp_path / "killed" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rest.logs.to_dict("records")
    again = run(tmp_path / "killed")  # finished: nothing is trained
    assert len(epochs) == 2 and same(states(again.network), states(rest.network))
    other = segment.train(scenes, small(), classes=NAMES, config=config, seed=6)
    assert not same(states(other.network), states(rest.network))


def test_a_folder_of_another_or_a_damaged_training_is_refused(tmp_path):
    scenes, out = squares(tmp_path, 2), tmp_path / "deep" / "run"

    def run(encoder=None, *, seed=0, config=QUICK, classes=NAMES):
        return segment.train(
            scenes, encoder or small(), classes=classes, config=config, output_dir=out, seed=seed
        )

    run()
    with pytest.raises(ValueError, match="holds a run with seed = 0, asked for was 1"):
        run(seed=1)
    with pytest.raises(ValueError, match="holds a run with encoder"):
        run(small(seed=3))
    with pytest.raises(ValueError, match="holds a run with masks.classes"):
        run(classes=("a", "b"))
    with pytest.raises(ValueError, match="holds a run with config.epochs = 2"):
        run(config=segment.SegmentConfig(epochs=3, batch_size=4, size_px=32, width=16))
    good = (out / "last.pt").read_bytes()
    for bad in (good[: len(good) // 2], b"", pickle.dumps(Bomb())):
        (out / "last.pt").write_bytes(bad)
        with pytest.raises(ValueError, match="last.pt is damaged"):
            run()
    assert not BANG.exists()
    (out / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is damaged"):
        run()


BANG = Path("/tmp/geossl-segment-bang")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (BANG,))


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    config = segment.SegmentConfig(epochs=3, batch_size=4, size_px=32, width=8, lr=1e30)
    with pytest.raises(ValueError, match="expected a finite loss, came .* lower lr = 1e"):
        segment.train(squares(tmp_path, 2), small(), classes=NAMES, config=config)


@pytest.mark.parametrize(
    "more",
    [{"head": "psp"}, {"freeze": "some"}, {"epochs": 0}, {"batch_size": 1}, {"lr": 0}, {"warmup": 1},
     {"size_px": 0}, {"balance": -1}, {"width": 2}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(more):
    with pytest.raises(ValueError, match="expected"):
        segment.SegmentConfig(**more)


def test_training_refuses_what_it_cannot_learn_from(tmp_path):
    scenes = squares(tmp_path, 2)

    def run(table=scenes, encoder=None, **more):
        kwargs = {"classes": NAMES, "config": QUICK, **more}
        return segment.train(table, encoder or small(), **kwargs)

    with pytest.raises(ValueError, match="column 'masks' of masks, came .* name it by mask="):
        run(mask="masks")
    with pytest.raises(ValueError, match="2 have none"):
        run(scenes.assign(mask=None))
    with pytest.raises(ValueError, match="expected a table with a column 'mask'"):
        run(scenes["path"][0])
    with pytest.raises(ValueError, match="expected the names of two"):
        run(classes=("plant",))
    with pytest.raises(ValueError, match="has 3 bands, so there is no band 4"):
        run(encoder=small(bands=4))
    with pytest.raises(ValueError, match="`split` must be one of .*, got 'train'"):
        run(scenes.assign(split="test"))
    with pytest.raises(ValueError, match="came 53 x 48 pixels for 9 x 9"):
        tiny = tif(tmp_path / "tiny.tif", np.ones((3, 9, 9), np.uint8))
        run(pd.DataFrame({"path": [tiny], "mask": scenes["mask"][:1]}), resample=False)
    for bad in (b"", b"II*\0nonsense"):
        (tmp_path / "bad.tif").write_bytes(bad)
        for column in ("path", "mask"):
            with pytest.raises(ValueError, match="bad.tif cannot be read"):
                run(scenes.assign(**{column: [scenes[column][0], str(tmp_path / "bad.tif")]}))
    whole = Path(scenes["path"][0]).read_bytes()
    (tmp_path / "half.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="half.tif cannot be read"):
        run(scenes.assign(path=[scenes["path"][1], str(tmp_path / "half.tif")]))
    for path in scenes["mask"]:
        with rasterio.open(path, "r+") as file:
            file.write(file.read() * 255)
    with pytest.raises(ValueError, match=r"'plant': 0\}; pixels of 255 .* give values=\(0, 255\)"):
        run()
    assert run(values=(0, 255)).pixels["plant"] > 0


def test_scenes_of_other_bands_or_types_are_refused(tmp_path, trained):
    _, scenes, tuned = trained
    wide = tif(tmp_path / "wide.tif", np.ones((3, 40, 40), np.uint16))
    with pytest.raises(ValueError, match="wide.tif must be uint8, got uint16"):
        tuned.segment(wide)
    two = tif(tmp_path / "two.tif", np.ones((2, 40, 40), np.uint8))
    with pytest.raises(ValueError, match="two.tif has 2 bands, so there is no band 3"):
        tuned.segment(two)
    with pytest.raises(ValueError, match="expected one scene, came a table of 6"):
        tuned.segment(scenes)
    with pytest.raises(FileNotFoundError):
        tuned.segment(tmp_path / "gone.tif")
    more = scenes.head(1).assign(
        bands="1,2", band_names="a,b", dtype="uint8", scale_low=np.nan, scale_high=np.nan
    )
    with pytest.raises(ValueError, match="`scenes` must have the encoder's 3 bands, got a,b"):
        segment.measure(tuned, more)
    scaled = more.assign(bands="1,2,3", band_names="a,b,c", scale_low=0.0, scale_high=1.0)
    with pytest.raises(ValueError, match="`scenes` must have scale_low nan"):
        segment.measure(tuned, scaled)
    own = {**tuned.reading, "scale_low": 0.0, "scale_high": 1.0}
    other = segment.Segmenter(tuned.network, tuned.masks, own, tuned.pixels)
    with pytest.raises(ValueError, match="must have scale_low 0.0, as in training, got nan"):
        segment.measure(other, more.assign(bands="1,2,3"))


def test_an_encoder_of_many_bands_and_a_class_that_no_training_scene_has(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(3):
        codes = rng.integers(0, 2, (20, 24)).astype(np.uint8)
        codes = np.kron(codes[:5, :6], np.ones((4, 4), np.uint8))
        if i == 2:
            codes[:8] = 2  # only in the test scene
        pixels = (1000 * codes.astype(int) + rng.integers(1, 500, (5, 20, 24))).astype(np.uint16)
        rows.append({"path": tif(tmp_path / f"{i}.tif", pixels),
                     "mask": tif(tmp_path / f"m{i}.tif", codes),
                     "split": "train" if i < 2 else "test", "location": "x"})  # fmt: skip
    scenes = pd.DataFrame(rows)
    encoder = models.build_encoder("small", bands=5, mean=[700.0] * 5, std=[500.0] * 5)
    three = ("low", "high", "never")
    tuned = segment.train(scenes, encoder, classes=three, config=QUICK)
    assert tuned.pixels["never"] == 0 and tuned.reading["dtype"] == "uint16"
    assert repr(tuned).endswith("never; not in the training: never)")
    result = segment.measure(tuned, scenes.tail(1))
    table = result.per_class.set_index("class")
    assert table["train_pixels"].to_dict() == tuned.pixels.to_dict()
    assert table.loc["never", "pixels"] == 8 * 24 and table.loc["never", "iou"] == 0
    assert "not in the training: never" in str(result) and "never" in result._repr_html_()
    absent = segment.measure(tuned, scenes.head(1)).per_class.set_index("class")["iou"]
    if np.isnan(absent["never"]):  # neither there nor predicted: it has none
        assert segment.measure(tuned, scenes.head(1)).value == pytest.approx(absent[:2].mean())


def test_the_figures_of_a_result_are_those_of_its_pixels(trained):
    folder, scenes, tuned = trained
    table = scenes.assign(location=[0, 0, 1, 1, 2, 2])
    result = segment.measure(tuned, table, seed=3)
    truth, guess = [], []
    for path, mask in zip(scenes["path"], scenes["mask"], strict=True):
        truth.append(rasterio.open(mask).read(1).ravel())
        guess.append(tuned.segment(path).values.ravel())
    each = [jaccard_score(t, g, average="macro") for t, g in zip(truth, guess, strict=True)]
    np.testing.assert_allclose(result.scenes["miou"], each)
    truth, guess = np.concatenate(truth), np.concatenate(guess)
    assert result.value == pytest.approx(jaccard_score(truth, guess, average="macro"))
    assert result.accuracy == pytest.approx((truth == guess).mean())
    assert result.chance == pytest.approx((truth == 0).mean() / 2)
    table = result.per_class.set_index("class")
    np.testing.assert_allclose(table["iou"], jaccard_score(truth, guess, average=None))
    assert table.loc["plant", "recall"] == pytest.approx(guess[truth == 1].mean())
    assert table.loc["plant", "precision"] == pytest.approx(truth[guess == 1].mean())
    assert "3 places" in str(result) and repr(result) == str(result)
    again = segment.measure(tuned, scenes.assign(location=7))
    assert again.low == again.high == pytest.approx(again.value)  # one place: nothing to draw
    with pytest.raises(ValueError, match="expected a table with a column 'mask'"):
        segment.measure(tuned, scenes.drop(columns="mask"))


# --- maps of scenes ---------------------------------------------------------------------------


def reach(net):
    """Half the receptive field, measured: how far from an output pixel an input can change it."""
    x = noise(1, 1, 288, 288).requires_grad_()
    far = 0
    for at in range(144, 144 + net.stride):
        (gradient,) = torch.autograd.grad(net(x)[0, :, at, at].sum(), x)
        rows = gradient[0, 0].abs().sum(1).nonzero().flatten()
        far = max(far, int(rows.max()) - at, at - int(rows.min()))
    return far


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A scene of several windows, its network, and the map of one window over all."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (1, 357, 618), dtype=np.uint8)
    path = tif(tmp_path_factory.mktemp("large") / "a.tif", pixels)
    encoder = models.build_encoder("small", bands=1, mean=[127.0], std=[70.0])
    net = Network(encoder, classes=3, head="fpn", width=8)
    settle(net, 2, 1, 64, 64, times=3)
    with torch.no_grad():  # make all classes occur
        scores = net(noise(1, 1, 64, 64))[0]
        last = net.head[-1]
        last.weight *= (3 / scores.std((1, 2)))[:, None, None, None]
        last.bias.zero_()
        last.bias -= net(noise(1, 1, 64, 64))[0].mean((1, 2))
    scene = Areas(area.scene_rows(path, bands=1), Masks(("a", "b", "c")))
    whole = class_map(net, scene, 0, size_px=640, overlap_px=0, probabilities=True)
    assert whole.shares.min() > 0.1
    return net, scene, whole, reach(net)


def test_windows_give_what_one_over_all_gives(large):
    net, scene, whole, far = large
    assert 40 < far < 128
    overlap = 2 * (far + net.stride)
    found = class_map(net, scene, 0, size_px=overlap + 64, overlap_px=overlap, probabilities=True)
    assert np.abs(found.probabilities - whole.probabilities).max() < 1e-5
    assert whole.probabilities.std((1, 2)).min() > 1e-3
    clear = np.sort(whole.probabilities, 0)
    clear = clear[-1] - clear[-2] > 1e-5
    assert np.array_equal(found.values[clear], whole.values[clear]) and clear.mean() > 0.99


def test_without_overlap_windows_differ_only_near_their_seams(large):
    net, scene, whole, far = large
    size = 320
    found = class_map(net, scene, 0, size_px=size, overlap_px=0, probabilities=True)
    gap = np.abs(found.probabilities - whole.probabilities).max(0)
    y, x = np.indices(gap.shape)
    near = (np.abs(y - size) <= far) | (np.abs(x - size) <= far)
    assert gap[~near].max() < 1e-5 and (~near).mean() > 0.4
    assert gap[near].max() > 1e-4  # the seams are there


@pytest.mark.parametrize("head", ["fcn", "deeplab"])
def test_other_heads_by_windows(head, large):
    _, scene, _, _ = large
    encoder = models.build_encoder("small", bands=1, mean=[127.0], std=[70.0])
    net = Network(encoder, classes=3, head=head)
    settle(net, 2, 1, 64, 64)
    maps = [
        class_map(net, scene, 0, size_px=size, overlap_px=192, probabilities=True)
        for size in (640, 320)
    ]
    gap = np.abs(maps[0].probabilities - maps[1].probabilities)
    if head == "fcn":
        assert gap.max() < 1e-5 < maps[0].probabilities.std()
    else:
        assert gap.mean() < 0.2  # it looks at all of a window: alike, not equal
    np.testing.assert_allclose(maps[1].probabilities.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 300), (48, 16), (33, 17)])
def test_scenes_of_any_size(height, width, tmp_path):
    net = Network(models.build_encoder("small", bands=1), classes=2, head="fpn", width=8)
    path = tif(tmp_path / "a.tif", np.ones((1, height, width), np.uint8))
    scene = Areas(area.scene_rows(path, bands=1), Masks(NAMES))
    found = class_map(net, scene, 0, size_px=64, overlap_px=20, probabilities=True)
    assert found.values.shape == (height, width) and (found.values < 2).all()
    assert found.probabilities.shape == (2, height, width)
    for size, overlap in ((64, 64), (64, -1), (0, 0)):
        with pytest.raises(ValueError, match="expected size_px > overlap_px >= 0"):
            class_map(net, scene, 0, size_px=size, overlap_px=overlap)


PLACES = {
    **{name: ("EPSG:32633", transform) for name, transform in GRIDS.items()},
    "degrees": ("EPSG:4326", from_origin(179.9, -10, 1e-3, 1e-3)),
    "no CRS": (None, None),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_map_written_lies_on_its_scene_to_the_pixel(name, trained, tmp_path):
    _, scenes, tuned = trained
    crs, transform = PLACES[name]
    with rasterio.open(scenes["path"][0]) as file:
        pixels = file.read()
    pixels[:, 40:44, 3:9] = 0
    path = tmp_path / "scene.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        tif(path, pixels, crs=crs, transform=transform, nodata=0)
    out = tmp_path / "missing" / "folder" / "classes.tif"
    found = tuned.segment(path, output=out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as source, rasterio.open(out) as file:
            assert (file.crs, file.transform, file.shape) == (
                source.crs, source.transform, source.shape,
            )  # fmt: skip
            written = file.read(1)
            assert file.dtypes == ("uint8",) and file.nodata == 255 and file.count == 1
            assert file.profile["tiled"] and file.profile["compress"] == "deflate"
            colors = file.colormap(1)
            assert colors[0][:3] == (0xDD, 0xDD, 0xDD) and colors[1][:3] == (0, 0x72, 0xB2)
            assert file.tags(1)["class_1"] == "plant"
            assert json.loads(file.tags()["classes"]) == list(NAMES)
            outside = file.dataset_mask() == 0
            if crs is not None:  # the middle of the plant, through its coordinates
                with rasterio.open(scenes["mask"][0]) as mask:
                    truth = mask.read(1)
                rows, cols = np.nonzero(truth)
                hits = []
                for row, col in zip(rows, cols, strict=True):
                    x, y = source.transform @ (col + 0.5, row + 0.5)
                    hits.append(int(next(file.sample([(x, y)]))[0]))
                assert np.mean(np.array(hits) == 1) > 0.9
        rasterio.shutil.copy(out, tmp_path / "copy.vrt", driver="VRT")  # GDAL's own reading
    assert "<Category>plant</Category>" in (tmp_path / "copy.vrt").read_text()
    assert np.array_equal(written, found.values)
    assert np.array_equal(outside, (pixels == 0).all(0)) and (written[outside] == 255).all()
    with pytest.raises(ValueError, match="another path than the scene's"):
        tuned.segment(path, output=path)
    with pytest.raises(ValueError, match="ends in .tif"):
        tuned.segment(path, output=tmp_path / "map.png")
    names = {p.name for p in out.parent.iterdir()}
    assert names == {"classes.tif", "classes.tif.aux.xml"}  # no half-written file is left


def test_a_map_of_many_classes_and_odd_names(tmp_path):
    names = tuple(f"<{i}> & ü" for i in range(255))
    values = np.arange(256, dtype=np.uint8).reshape(8, 32)
    found = ClassMap(values, names, a_grid(8, 32))
    found.write(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert np.array_equal(file.read(1), values)
        assert file.tags(1)["class_254"] == names[254]
        assert len({c[:3] for c in list(file.colormap(1).values())[:8]}) == 8
    assert found.shares.sum() == pytest.approx(1) and "..." in repr(found)
    nothing = ClassMap(np.full((2, 2), 255, np.uint8), NAMES, a_grid(2, 2))
    assert repr(nothing) == "ClassMap(2 x 2 px; no data)"


# --- kept -------------------------------------------------------------------------------------


def test_what_is_loaded_gives_the_same(trained, tmp_path):
    folder, scenes, tuned = trained
    path = scenes["path"][0]
    tuned.save(tmp_path / "own.safetensors")
    for where in (
        folder / "run",
        folder / "run" / "segmenter.safetensors",
        tmp_path / "own.safetensors",
    ):
        loaded = segment.load(where)
        a, b = (t.segment(path, probabilities=True) for t in (tuned, loaded))
        assert np.array_equal(a.probabilities, b.probabilities)
        assert np.array_equal(a.values, b.values)
        assert loaded.masks == tuned.masks and repr(loaded) == repr(tuned)
        pd.testing.assert_series_equal(loaded.pixels, tuned.pixels)
        pd.testing.assert_frame_equal(loaded.logs, tuned.logs)
        assert str(segment.measure(loaded, scenes)) == str(segment.measure(tuned, scenes))


@pytest.mark.parametrize("head", ["fcn", "deeplab"])
def test_other_heads_train_and_are_kept(head, tmp_path):
    scenes = squares(tmp_path, 2)
    config = segment.SegmentConfig(head=head, epochs=1, batch_size=4, size_px=32)
    masks = {"values": (0, 1), "label": "x", "resample": True}
    tuned = segment.train(
        scenes, small(), classes=NAMES, config=config, output_dir=tmp_path / "r", **masks
    )
    loaded = segment.load(tmp_path / "r", device="cpu")
    a, b = (t.segment(scenes["path"][0], probabilities=True) for t in (tuned, loaded))
    assert np.array_equal(a.probabilities, b.probabilities) and loaded.masks == tuned.masks


def test_files_of_others_and_damaged_ones_are_refused(trained, tmp_path):
    folder, _, tuned = trained
    good = (folder / "run" / "segmenter.safetensors").read_bytes()
    path = tmp_path / "a.safetensors"

    def refused(match):
        with pytest.raises(ValueError, match=match):
            segment.load(path)

    for bad in (b"", good[:100], good[: len(good) // 2], pickle.dumps(Bomb())):
        path.write_bytes(bad)
        refused("is damaged or not a safetensors file")
    torch.save(Bomb(), path)
    refused("is damaged or not a safetensors file")
    assert not BANG.exists()
    from safetensors.torch import save_file

    from geossl.models import weights

    weights.save_encoder(small(), path)
    refused("no description of a geossl segmenter")
    tensors = {k: v.clone() for k, v in tuned.network.state_dict().items()}
    about = json.loads(
        json.dumps({"encoder": {"name": "small", "bands": 3, "stem": "small"}, "note": {}})
    )
    save_file(tensors, path, {"format": "1", "segmenter": json.dumps(about)})
    refused("description that does not fit")
    save_file(tensors, path, {"format": "1", "segmenter": "{"})
    refused("description in .* is damaged")
    save_file(tensors, path, {"format": "2", "segmenter": "{}"})
    refused("newer geossl")
    tuned.save(path)
    with rasterio_free(path) as (meta, kept):
        kept.pop("head.0.weight")
        save_file(kept, path, meta)
    refused("lacks keys of the network: 'head.0.weight'")
    with pytest.raises(FileNotFoundError, match="no segmenter at"):
        segment.load(tmp_path)


def rasterio_free(path):
    import contextlib

    from safetensors import safe_open

    @contextlib.contextmanager
    def opened():
        with safe_open(path, "pt") as file:
            found = file.metadata(), {k: file.get_tensor(k).clone() for k in file.keys()}
        yield found

    return opened()


# --- pictures ---------------------------------------------------------------------------------


def test_pictures_show_truth_prediction_and_errors(trained):
    _, scenes, tuned = trained
    before = dict(matplotlib.rcParams)
    figure = segmentation.plot_segmentation(tuned, scenes, count=2)
    assert len(figure.axes) == 8 and dict(matplotlib.rcParams) == before
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles[0] == "scene0" and titles[1].startswith("truth: background")
    truth = rasterio.open(scenes["mask"][0]).read(1)
    guess = tuned.segment(scenes["path"][0]).values
    score = jaccard_score(truth.ravel(), guess.ravel(), average="macro")
    assert f"mIoU {score:.2f}" in titles[2]
    assert f"errors: {(truth != guess).mean():.1%}" in titles[3]
    kinds = np.asarray(figure.axes[3].images[0].get_array())
    missed = (kinds == (0xD5, 0x5E, 0)).all(-1)
    assert np.array_equal(missed, (truth == 1) & (guess == 0))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["plant", "error: missed", "error: invented"]
    html = figure._repr_html_()
    assert "alt=" in html and "truth: background" in html
    assert plots.figure_png(figure)[:4] == b"\x89PNG"


def test_pictures_without_masks_of_many_bands_and_classes(tmp_path):
    rng = np.random.default_rng(0)
    path = tif(tmp_path / "a.tif", rng.integers(1, 3000, (4, 40, 700), dtype=np.uint16), nodata=0)
    net = Network(small(bands=4), classes=3, head="fpn", width=8).eval()
    reading = {"bands": "1,2,3,4", "band_names": "blue,green,red,nir", "dtype": "uint16",
               "scale_low": np.nan, "scale_high": np.nan}  # fmt: skip
    names = ("forest", "water", "town")
    tuned = segment.Segmenter(net, Masks(names), reading, pd.Series([1, 1, 1], index=names))
    figure = segmentation.plot_segmentation(tuned, pd.DataFrame({"path": [path]}))
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(shown) == 2 and shown[0].images[0].get_array().shape == (20, 350, 3)
    assert "error: another class" in [t.get_text() for t in figure.legends[0].get_texts()]
    codes = tif(tmp_path / "m.tif", rng.integers(0, 3, (40, 700), dtype=np.uint8))
    figure = segmentation.plot_segmentation(tuned, pd.DataFrame({"path": [path], "mask": [codes]}))
    assert len([ax for ax in figure.axes if ax.axison]) == 4
    with pytest.raises(ValueError, match="at least one row"):
        segmentation.plot_segmentation(tuned, pd.DataFrame({"path": []}))


# --- real imagery -----------------------------------------------------------------------------


def test_real_power_plants_are_read_and_learned_from():
    if not PLANTS.is_dir():
        pytest.skip("needs ../shared/data/us_power_plants")
    files = sorted((PLANTS / "images").glob("*.tif"))
    assert len(files) == 147
    masks = [PLANTS / "masks" / f"bilabels_{f.stem.split('_')[1]}.png" for f in files]
    scenes = pd.DataFrame({"path": map(str, files), "mask": map(str, masks)})
    encoder = models.build_encoder("small", mean=[100.0] * 3, std=[50.0] * 3)
    config = segment.SegmentConfig(epochs=1, batch_size=8, width=16)
    more = {"classes": NAMES, "values": (0, 255), "config": config}
    with pytest.raises(ValueError, match="came 1114 x 1114 pixels for 76 x 75"):
        segment.train(scenes[:12], encoder, **more)
    few = scenes[::14]
    tuned = segment.train(few, encoder, resample=True, **more)
    share = []
    for path in few["mask"]:
        with Image.open(path) as mask:
            share.append((np.asarray(mask) > 0).mean())
    share = np.mean(share)
    assert tuned.pixels["plant"] / tuned.pixels.sum() == pytest.approx(share, abs=0.005)
    result = segment.measure(tuned, few.head(4))
    grids = [area.read_grid({"path": path}) for path in few["path"][:4]]
    assert result.confusion.to_numpy().sum() == sum(g.height * g.width for g in grids)


def test_polygons_of_a_spacenet_table_are_its_masks(tmp_path):
    shape = shapely.box(500_000, 4_999_800, 500_200, 5_000_000)
    scenes = squares(tmp_path, 2)
    (tmp_path / "empty.geojson").write_bytes(b"")
    scenes["polygons"] = [geojson(tmp_path / "a.geojson", [shape]), str(tmp_path / "empty.geojson")]
    scenes = pd.concat([scenes, scenes.head(1).assign(polygons=None)])  # without a truth
    names = ("background", "building")
    tuned = segment.train(scenes, small(), classes=names, mask="polygons", config=QUICK)
    assert tuned.pixels.to_dict() == {"background": 2 * 48 * 53 - 400, "building": 400}
    assert len(segment.measure(tuned, scenes).scenes) == 2


def test_all_heads_and_settings_are_named_in_the_docs():
    for head, freeze in itertools.product(("fpn", "fcn", "deeplab"), ("none", "norm", "all")):
        assert f'"{head}"' in segment.SegmentConfig.__doc__
        assert f'"{freeze}"' in segment.SegmentConfig.__doc__
