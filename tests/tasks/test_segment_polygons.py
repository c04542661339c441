import json
import warnings

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.features
import rasterio.shutil
import rasterio.warp
import shapely
from affine import Affine
from segment_scenes import GRIDS, QUICK, a_grid, geojson, read, small, squares

from geossl.datasets.raster.area import Grid
from geossl.tasks import segment
from geossl.tasks.segment.masks import Masks


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
    with pytest.raises(ValueError, match="`label` must name the property"):
        read(tmp_path / "a.gpkg", Masks(("a", "b", "c")))
    with pytest.raises(ValueError, match=r"feature 1 \(from 0\) has no class of a, b in 'class'"):
        read(tmp_path / "a.gpkg", Masks(("a", "b"), label="class"))
    with pytest.raises(ValueError, match="feature 0 .* has no class of a, b in 'kind'"):
        read(tmp_path / "a.gpkg", Masks(("a", "b"), label="kind"))
    frame.to_file(tmp_path / "a.gpkg", driver="GPKG", layer="second")
    with pytest.raises(ValueError, match="it needs one layer of polygons"):
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


@pytest.mark.parametrize("suffix", ["geojson", "shp", "fgb", "kml"])
def test_polygons_and_scenes_over_180_degrees_meet(tmp_path, suffix):
    """A scene from 179.8 to 180.2, or from -180.2, and a polygon from 179.9 to -179.9."""
    ring = [(179.9, 0.1), (-179.9, 0.1), (-179.9, 0.3), (179.9, 0.3)]
    frame = geopandas.GeoDataFrame(geometry=[shapely.Polygon(ring)], crs=4326)
    frame.to_file(tmp_path / f"a.{suffix}", driver="KML" if suffix == "kml" else None)
    expected = np.zeros((40, 40), np.uint8)
    expected[10:30, 10:30] = 1
    for left in (179.8, -180.2):
        grid = Grid(40, 40, 1, "EPSG:4326", Affine(0.01, 0, left, 0, -0.01, 0.4))
        found = Masks(("a", "b")).read(
            str(tmp_path / f"a.{suffix}"), grid=grid, window=(0, 0, 40, 40)
        )
        assert np.array_equal(found, expected)


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
    with pytest.raises(ValueError, match=r"point.geojson: feature 0 \(from 0\) is no polygon"):
        read(tmp_path / "point.geojson")
    with pytest.raises(ValueError, match="need a scene with a CRS"):
        read(
            geojson(tmp_path / "a.geojson", [box]),
            grid=a_grid(crs=None, transform=Affine.identity()),
        )
    pole = geojson(tmp_path / "pole.geojson", [shapely.box(0, 80, 10, 95)], crs="EPSG:4326")
    with pytest.raises(ValueError, match="pole.geojson"):
        read(pole, grid=a_grid(crs="EPSG:3857"))
    with pytest.raises(FileNotFoundError, match="no mask at .*gone.png"):
        read(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="A mask must be one of .tif"):
        read(tmp_path / "gone.jpg")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(ValueError, match="broken.png cannot be read"):
        read(tmp_path / "broken.png")


def geojson_text(shape):
    features = [{"type": "Feature", "geometry": shapely.geometry.mapping(shape)}]
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    return json.dumps({"type": "FeatureCollection", "features": features, "crs": crs})


@pytest.mark.slow
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
