import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from rasters import noise, tif

from geossl.datasets import open_scenes
from geossl.datasets.raster.chips import read_chips
from geossl.datasets.table import fits, table

DATA = Path(__file__).parents[3] / "shared" / "data"

GRAY = {"a.jpg": 40, "b.jpg": 120, "ä ö.jpg": 200}


@pytest.fixture
def pictures(tmp_path):
    """A folder of three pictures of one gray each, in ``img/``."""
    (tmp_path / "img").mkdir()
    for name, gray in GRAY.items():
        Image.new("L", (20, 16), gray).save(tmp_path / "img" / name)
    return tmp_path


def grays(rows):
    found = read_chips(rows, size_px=4)
    assert not found.bad
    return found.chips[:, 0, 1, 1].tolist()


@pytest.mark.parametrize(
    ("head", "sep"),
    [
        ("file_name,latitude,longitude,eventDate,category", ","),
        ("PATH;decimalLatitude;decimalLongitude;Date;class", ";"),
        ("fn\tLAT\tLON\ttimestamp\tlabel", "\t"),
        ("image,y,x,time,cls", ","),
    ],
)
def test_columns_are_guessed_from_usual_names(pictures, head, sep):
    rows = [
        ("img/a.jpg", "10.5", "-70.25", "2020-06-30", "NA"),
        ("img/ä ö.jpg", "10.5", "-70.25", "", "007"),
        ("./img/../img/b.jpg", "-10", "170", "2021-01-01T10:00:00+02:00", ""),
    ]
    text = "\n".join([head, *(sep.join(row) for row in rows)])
    (pictures / "index.csv").write_text("\ufeff" + text, "utf-8")
    found = table(pictures / "index.csv")
    assert grays(found) == pytest.approx([40, 200, 120], abs=1)
    assert found["lat"].tolist() == [10.5, 10.5, -10] and found["lon"].tolist()[1:] == [-70.25, 170]
    assert found["location"].tolist() == [0, 0, 1]
    assert found["label"].tolist()[:2] == ["NA", "007"] and pd.isna(found["label"][2])
    assert found["time"].dt.strftime("%Y%m%d%H").tolist()[::2] == ["2020063000", "2021010108"]
    assert pd.isna(found["time"][1]) and found["reader"].unique() == ["table"]
    assert found["dtype"][0] == "uint8" and found["band_names"][0] == "red,green,blue"


def test_columns_can_be_told_and_untold(pictures):
    pd.DataFrame(
        {"path": ["x", "y"], "photo": ["a.jpg", "b.jpg"], "lat": [99, 99], "north": [1, 2],
         "lon": [3, 4], "date": ["soon", "later"], "location": ["Rome", "Rome"], "kind": ["k", "l"]}
    ).to_csv(pictures / "t.csv", index=False)  # fmt: skip
    how = {"photo": "path", "north": "lat", "date": None, "location": None, "kind": "label"}
    found = table(pictures / "t.csv", columns=how, root=pictures / "img")
    assert grays(found) == pytest.approx([40, 120], abs=1)
    assert found["lat"].tolist() == [1, 2] and found["lat_given"].tolist() == [99, 99]
    assert found["location"].tolist() == [0, 1] and found["location_given"].tolist() == ["Rome"] * 2
    assert found["path_given"].tolist() == ["x", "y"] and found["date"].tolist() == [
        "soon",
        "later",
    ]
    assert found["label"].tolist() == ["k", "l"] and found["time"].isna().all()
    with pytest.raises(ValueError, match="south"):
        table(pictures / "t.csv", columns={"south": "lat"})
    with pytest.raises(ValueError, match="`columns` must name one column for 'lat'.* got two"):
        table(pictures / "t.csv", columns={"north": "lat", "lat": "lat"})


def test_labels_and_places_keep_their_zeros(pictures):
    (pictures / "t.csv").write_text(
        "path,lat,lon,label,split,location\nimg/a.jpg,1,2,007,01,0003\nimg/b.jpg,1,2,010,02,3\n"
    )
    found = table(pictures / "t.csv")[["label", "split", "location"]]
    assert found.to_numpy().tolist() == [["007", "01", "0003"], ["010", "02", "3"]]


def geo_frame(crs="EPSG:32633"):
    import geopandas

    plain = pd.DataFrame({"file": ["img/a.jpg", "img/b.jpg", "img/a.jpg"], "n": [1, 2, 3]})
    places = geopandas.points_from_xy([15.0, 15.1, 15.0], [45.0, -45.2, 45.0])
    return geopandas.GeoDataFrame(plain, geometry=places, crs="EPSG:4326").to_crs(crs)


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "geoparquet", "parquet"])
def test_geometry_of_any_crs_gives_the_coordinates(pictures, suffix):
    path = pictures / f"t.{suffix}"
    if "parquet" in suffix:
        geo_frame().to_parquet(path)
    else:
        geo_frame("EPSG:4326" if suffix == "geojson" else "EPSG:32633").to_file(path)
    found = table(path)
    np.testing.assert_allclose(found["lon"], [15, 15.1, 15], atol=1e-6)
    np.testing.assert_allclose(found["lat"], [45, -45.2, 45], atol=1e-6)
    assert grays(found) == pytest.approx([40, 120, 40], abs=1)
    assert found["location"].tolist() == [0, 1, 0] and found["n"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("suffix", ["shp", "fgb", "kml", "gpkg", "geojson"])
def test_points_and_footprints_of_any_file_of_shapes_lie_on_the_globe(pictures, suffix):
    import geopandas
    from shapely.geometry import MultiPolygon, Point, Polygon, box

    across = Polygon([(179.9, -17), (-179.9, -17), (-179.9, -16.9), (179.9, -16.9)])
    split = MultiPolygon([box(179.9, -17, 180, -16.9), box(-180, -17, -179.9, -16.9)])
    shapes = {"points": [Point(15.0, 45.0), Point(-179.95, -16.95)], "areas": [across, split]}
    for name, geometry in shapes.items():
        path = pictures / name / f"t ä.{suffix}"
        path.parent.mkdir()
        frame = geopandas.GeoDataFrame(
            {"path": ["img/a.jpg", "img/b.jpg"], "kind": ["NA", "x"]}, geometry=geometry, crs=4326
        )
        frame.to_file(path, driver="KML" if suffix == "kml" else None, layer="t")
        found = table(path, root=pictures, columns={"kind": "label"})
        assert grays(found) == pytest.approx([40, 120], abs=1)
        assert found["label"].tolist() == ["NA", "x"]
        east = found["lon"].to_numpy() % 360
        want = [15, 180.05] if name == "points" else [180, 180]
        np.testing.assert_allclose(east, want, atol=1e-6)
        np.testing.assert_allclose(found["lat"], [45 if name == "points" else -16.95, -16.95])
        assert fits(path) is not None


def test_shapes_without_a_crs_in_layers_or_of_another_kind_are_refused(pictures):
    frame = geo_frame("EPSG:32633")
    frame.to_file(pictures / "t.shp")
    (pictures / "t.prj").unlink()
    with pytest.raises(ValueError, match="t.shp has no CRS. Write it into a copy.*ogr2ogr"):
        table(pictures / "t.shp")
    for layer in ("one", "two"):
        frame.to_file(pictures / "t.gpkg", layer=layer)
    with pytest.raises(ValueError, match=r"t.gpkg .*one layer .*\['one', 'two'\]"):
        table(pictures / "t.gpkg")
    text = "<OGRVRTDataSource><OGRVRTLayer name='x'/></OGRVRTDataSource>"
    for name in ("v.kml", "v.shp", "v.fgb", "v.gpx"):
        (pictures / name).write_text(text)
        with pytest.raises(ValueError, match=f"{name} cannot be read: it does not start as a"):
            table(pictures / name)
    folders = "".join(
        f"<Folder><name>{n}</name><Placemark><ExtendedData><Data name='path'><value>img/{n}.jpg"
        f"</value></Data></ExtendedData><Point><coordinates>{x},45</coordinates></Point>"
        "</Placemark></Folder>"
        for n, x in (("a", 10), ("b", 11))
    )
    kml = '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>'
    (pictures / "f.kml").write_text(f"{kml}{folders}</Document></kml>")
    found = table(pictures / "f.kml")
    assert found["lon"].tolist() == [10, 11] and grays(found) == pytest.approx([40, 120], abs=1)


def test_coordinates_come_from_the_headers_of_any_raster(tmp_path):
    from affine import Affine
    from rasterio.control import GroundControlPoint

    pixels = noise(height=64, width=64)
    about = {"width": 64, "height": 64, "count": 3, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "a.jp2", "w", driver="JP2OpenJPEG", crs="EPSG:32633", QUALITY="100",
        transform=Affine(10, 0, 500_000, 0, -10, 5_200_000), REVERSIBLE="YES", **about,
    ) as file:  # fmt: skip
        file.write(pixels)
    points = [GroundControlPoint(r, c, 15 + c / 100, 45 - r / 100)
              for r, c in ((0, 0), (0, 64), (64, 0), (64, 64))]  # fmt: skip
    with rasterio.open(tmp_path / "b.tif", "w", driver="GTiff", gcps=points, crs="EPSG:4326",
                       **about) as file:  # fmt: skip
        file.write(pixels)
    (tmp_path / "t.csv").write_text("path\na.jp2\nb.tif\n")
    found = table(tmp_path / "t.csv", headers=True)
    np.testing.assert_allclose(found["lon"], [15.0042, 15.32], atol=1e-4)
    np.testing.assert_allclose(found["lat"], [46.9515, 44.68], atol=1e-3)
    assert (read_chips(found, size_px=64).chips == pixels).all()


def test_a_parquet_with_an_index_of_its_own_keeps_its_rows_apart(pictures):
    frame = pd.DataFrame(
        {"path": ["img/a.jpg", "../out.jpg", "img/b.jpg"], "lon": 1.0, "lat": [1.0, 2.0, 3.0]},
        index=[7, 7, 7],
    )
    frame.attrs["skipped"] = {"from": "the file"}
    frame.to_parquet(pictures / "t.parquet")
    found = table(pictures / "t.parquet", skip_bad=True)
    assert found["lat"].tolist() == [1, 3] and len(found.attrs["skipped"]) == 1


@pytest.mark.parametrize("name", ["../out.jpg", "img/../../out.jpg", "/etc/hostname", "", " "])
def test_paths_that_leave_the_root_are_refused(pictures, name):
    (pictures / "in").mkdir()
    Image.new("L", (8, 8), 1).save(pictures / "out.jpg")
    Image.new("L", (8, 8), 2).save(pictures / "in" / "in.jpg")
    lines = f'path,lat,lon\nin.jpg,1,2\n"{name}",3,4\n'
    (pictures / "in" / "t.csv").write_text(lines)
    with pytest.raises(ValueError, match="row 1: .* is not a file in .*pass `root`"):
        table(pictures / "in" / "t.csv")
    found = table(pictures / "in" / "t.csv", skip_bad=True)
    assert found["lat"].tolist() == [1] and "row 1" in next(iter(found.attrs["skipped"]))


def test_a_root_lets_absolute_paths_within_it_pass(pictures):
    path = pictures / "elsewhere" / "t.csv"
    path.parent.mkdir()
    path.write_text(f"path,lat,lon\n{pictures / 'img' / 'a.jpg'},1,2\nimg/b.jpg,1,2\n")
    assert grays(table(path, root=pictures)) == pytest.approx([40, 120], abs=1)
    with pytest.raises(ValueError, match="row 0"):
        table(path)
    path.write_text(f"path,lat,lon\n{pictures / 'img' / 'a.jpg'},1,2\n")  # the whole disk is not
    found = table(path, root="/", skip_bad=True)  # searched for a second image
    assert found["path"].tolist()[0] == str(pictures / "img" / "a.jpg")


def test_rows_without_coordinates_are_refused_left_out_or_kept(pictures):
    rows = [("a", "1", "2"), ("b", "", "2"), ("a", "-1000", "-1000"), ("b", "x", "2")]
    text = "\n".join(["path,lat,lon", *(f"img/{p}.jpg,{lat},{lon}" for p, lat, lon in rows)])
    (pictures / "t.csv").write_text(text)
    with pytest.raises(ValueError, match="2 of 4 rows have no number in 'lat'"):
        table(pictures / "t.csv")
    found = table(pictures / "t.csv", skip_bad=True)
    assert len(found) == 1
    assert [key[-5:] for key in found.attrs["skipped"]] == ["row 1", "row 2", "row 3"]
    (pictures / "t.csv").write_text("path,lat,lon\nimg/a.jpg,,\nimg/b.jpg,,\nimg/a.jpg,1,2\n")
    kept = table(pictures / "t.csv", positions=False)
    assert kept["lon"].isna().sum() == 2 and kept["location"].nunique() == 3
    (pictures / "t.csv").write_text("path,cls\nimg/a.jpg,x\nimg/b.jpg,x\n")
    with pytest.raises(ValueError, match="`positions=False`"):
        table(pictures / "t.csv")
    assert table(pictures / "t.csv", positions=False)["location"].tolist() == [0, 1]


def test_boxes_are_cut_and_lie_where_the_tif_says(tmp_path):
    scene = tif(tmp_path / "one_2020.tif", noise(), left=10.0, top=50.0)
    tif(tmp_path / "two_2020.tif", noise(seed=1))  # not georeferenced
    (tmp_path / "b.csv").write_text("scene,x,y,w,h,cls\none,10,4,8,8,ship\none,30,20,4,6,boat\n")
    found = table(tmp_path / "b.csv", files="{scene}_*.tif", headers=True)
    np.testing.assert_allclose(found["lon"], [10 + 0.014, 10 + 0.032])
    np.testing.assert_allclose(found["lat"], [50 - 0.008, 50 - 0.023])
    assert found["location"].tolist() == [0, 1] and found["label"].tolist() == ["ship", "boat"]
    assert (read_chips(found, size_px=8).chips[0] == scene[:, 4:12, 10:18]).all()
    (tmp_path / "b.csv").write_text("scene,x,y,w,h\none,10,4,8,8\ntwo,1,1,4,4\n")
    with pytest.raises(ValueError, match="missing coordinate"):
        table(tmp_path / "b.csv", files="{scene}_*.tif", headers=True)
    mixed = table(tmp_path / "b.csv", files="{scene}_*.tif", headers=True, positions=False)
    assert mixed["lon"].isna().tolist() == [False, True]


def test_files_are_found_by_a_pattern_of_columns(pictures):
    for name in ("0a_1.jpg", "0a1_1.jpg", "0b_1.jpg", "0b_2.jpg", "[c]_9.jpg"):
        Image.new("L", (8, 8), 77).save(pictures / "img" / name)
    (pictures / "t.csv").write_text("id,lat,lon\n0a,1,2\n0b,1,2\n[c],1,2\nnone,1,2\n../img/0a,1,2")
    with pytest.raises(ValueError, match="row 1: not exactly one file .*'0b'"):
        table(pictures / "t.csv", files="img/{id}_*.jpg")
    found = table(pictures / "t.csv", files="img/{id}_*.jpg", skip_bad=True)
    assert [Path(p).name for p in found["path"]] == ["0a_1.jpg", "[c]_9.jpg"]
    assert len(found.attrs["skipped"]) == 3
    exact = table(pictures / "t.csv", files="img/{id}_1.jpg", columns={"id": "label"})
    assert exact["path"].iloc[-1] == str(pictures / "img" / "0a_1.jpg")  # normal, within the root
    with pytest.raises(ValueError, match="'number' is not among"):
        table(pictures / "t.csv", files="img/{number}.jpg")


def test_pixels_are_described_by_the_first_file_that_is_there(tmp_path):
    deep = tif(tmp_path / "b.tif", noise(12, dtype="uint16"))
    tif(tmp_path / "f.tif", noise(1, dtype="float32"))
    (tmp_path / "t.csv").write_text("path,lat,lon\nabsent.tif,0,0\nb.tif,0,0\n")
    found = table(tmp_path / "t.csv", bands=(4, 1))
    assert found["band_names"][0] == "band_4,band_1" and found["dtype"][0] == "uint16"
    pixels = read_chips(found, size_px=40)
    assert list(pixels.bad) == [0] and (pixels.chips[1, 0] == deep[3, :, 10:50]).all()
    assert len(table(tmp_path / "t.csv")["bands"][0].split(",")) == 12
    (tmp_path / "t.csv").write_text("path,lat,lon\nf.tif,0,0\n")
    with pytest.raises(ValueError, match="scale="):
        table(tmp_path / "t.csv")
    assert table(tmp_path / "t.csv", scale=(0, 255))["dtype"][0] == "uint16"
    np.save(tmp_path / "n.npy", np.zeros((6, 7, 5), np.uint16))
    Image.fromarray(noise(1, dtype="uint16")[0]).save(tmp_path / "g.png")
    for name, bands in (("n.npy", 5), ("g.png", 1)):
        (tmp_path / "t.csv").write_text(f"path,lat,lon\n{name},0,0\n")
        rows = table(tmp_path / "t.csv")
        assert len(rows["bands"][0].split(",")) == bands and not read_chips(rows, size_px=4).bad
    (tmp_path / "t.csv").write_text("path,lat,lon\nabsent.tif,0,0\n")
    with pytest.raises(FileNotFoundError, match="absent.tif"):
        table(tmp_path / "t.csv")


def test_a_file_that_names_another_is_not_followed(tmp_path):
    inner = tmp_path / "in"
    tif(tmp_path / "secret.tif", noise(), left=1.0)
    (tmp_path / "secret.csv").write_text("path,x,y\na.tif,1,2\n")
    tif(inner / "a.tif", noise(), left=1.0)
    band = "<SimpleSource><SourceFilename>../secret.tif</SourceFilename></SimpleSource>"
    (inner / "vrt.tif").write_text(
        '<VRTDataset rasterXSize="60" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1">'
        f"{band}</VRTRasterBand></VRTDataset>"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        assert rasterio.open(inner / "vrt.tif").count == 1  # GDAL itself would follow
    (inner / "t.csv").write_text("path,lat,lon\nvrt.tif,0,0\n")
    with pytest.raises(ValueError, match="vrt.tif cannot be read"):
        table(inner / "t.csv")
    with pytest.raises(ValueError, match="missing coordinate"):
        table(inner / "t.csv", headers=True)
    point = '<GeometryField encoding="PointFromColumns" x="x" y="y"/>'
    (inner / "t.geojson").write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource relativeToVRT="1">../secret'
        f".csv</SrcDataSource>{point}<LayerSRS>EPSG:4326</LayerSRS></OGRVRTLayer>"
        "</OGRVRTDataSource>"
    )
    with pytest.raises(ValueError, match="does not start as a .geojson does"):
        table(inner / "t.geojson")


def test_one_file_a_band(tmp_path):
    for band in ("B02", "B11"):
        tif(tmp_path / f"p_{band}.tif", noise(1, dtype="uint16", seed=len(band)), left=3.0, top=1.0)
    (tmp_path / "t.csv").write_text("path\np_{band}.tif\n")
    found = table(tmp_path / "t.csv", bands=("B02", "B11"), headers=True)
    assert found["band_names"][0] == "B02,B11" and found["lon"][0] == pytest.approx(3.03)
    assert read_chips(found, size_px=8).chips.shape == (1, 2, 8, 8)


HOSTILE = {
    "zero.csv": b"", "header.csv": b"path,lat,lon\n", "longer.csv": b"path,lat,lon\na,1,2,3\n",
    "latin.csv": "path,lat,lon\nä,1,2\n".encode("latin-1"), "line.csv": b"x," * 5_000_000,
    "quote.csv": b'path,lat,lon\n"' + b"x" * 2**20, "bytes.csv": bytes(range(256)) * 9,
    "swapped.csv": b"path,lat,lon\na,100,2\n", "nul.csv": b"path,lat,lon\na\0b,1,2\n",
    "when.csv": b"path,lat,lon,date\na,1,2,yesterday\n", "zero.parquet": b"",
    "magic.parquet": b"PAR1....PAR1", "zero.gpkg": b"",
    "magic.gpkg": b"SQLite format 3\0" + b"x" * 99,
    "deep.geojson": b'{"type":"FeatureCollection","features":' + b"[" * 100_000,
    "cut.geojson": b'{"type":"FeatureCollection","features":[{"type":"Fea',
    "none.geojson": b'{"type":"FeatureCollection","features":[]}', "other.geojson": b'{"a": 1}',
    "vrt.geojson": b"<OGRVRTDataSource><OGRVRTLayer name='x'/></OGRVRTDataSource>",
    "table.txt": b"path,lat,lon\na,1,2\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tables_are_refused_in_a_sentence_that_names_them(tmp_path, name):
    (tmp_path / name).write_bytes(HOSTILE[name])
    for skip in (False, True):
        with pytest.raises((ValueError, FileNotFoundError), match=name) as caught:
            table(tmp_path / name, skip_bad=skip)
        assert "\n" not in str(caught.value)


def test_a_folder_holds_one_table(pictures):
    (pictures / "t.csv").write_text("path,lat,lon\nimg/a.jpg,1,2\n")
    assert len(table(pictures)) == 1
    (pictures / "u.csv").write_text("path,lat,lon\nimg/a.jpg,1,2\n")
    with pytest.raises(FileNotFoundError, match=r"\['t.csv', 'u.csv'\]"):
        table(pictures)
    with pytest.raises(FileNotFoundError, match="v.csv does not exist"):
        table(pictures / "v.csv")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real images in ../shared/data")
def test_real_tables():
    world = table(DATA / "sentinel2_world")
    assert len(world) == 20 and world["dtype"].unique() == ["uint16"]
    headers = table(DATA / "sentinel2_world", headers=True)
    apart = np.abs(world[["lon", "lat"]].to_numpy() - headers[["lon", "lat"]].to_numpy())
    assert apart.max() < 0.05  # the csv and the headers of the tifs agree
    plants = table(
        DATA / "us_power_plants" / "uspp_metadata.geojson",
        files="images/ls8_{egrid_ID}_*.tif", columns={"primary_fuel": "label"},
    )  # fmt: skip
    named = plants["path"].str.extract(r"_(\d+)_([A-Z]+)_([A-Z]*)\.tif")
    assert len(plants) == 147 and (named[0] == plants["egrid_ID"]).all()
    assert (named[1] == plants["state_name"]).all()
    ships = table(DATA / "ports_sentinel2" / "boxes.csv", files="{scene}_*.tif", headers=True)
    assert len(ships) == 382 and ships["path"].nunique() == ships["scene"].nunique()
    honolulu = ships[ships["scene"] == "honolulu"]
    assert honolulu["lon"].between(-158.2, -157.7).all() and honolulu["lat"].between(21, 21.6).all()
    points = table(DATA / "points" / "worldstrat_3449.csv", columns={"IPCC": "label"})
    assert len(points) == 3449 and "reader" not in points and points["label"].nunique() > 3


def one_row(pictures, text, **options):
    (pictures / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return table(pictures / "t.csv", **options)


WRITTEN = {  # as spreadsheets, other systems and people write a csv
    "byte order mark": "\ufeffpath,lat,lon,label\nimg/a.jpg,48.5,2.25,NA\n",
    "UTF-16": "path\tlat\tlon\tlabel\nimg/a.jpg\t48.5\t2.25\tNA\n".encode("utf-16"),
    "UTF-16 without a mark": "path,lat,lon,label\nimg/a.jpg,48.5,2.25,NA\n".encode("utf-16-le"),
    "semicolons and decimal commas": "path;lat;lon;label\nimg/a.jpg;48,5;2,25;NA\n",
    "quoted decimal commas": '"path","lat","lon","label"\n"img/a.jpg","48,5","2,25","NA"\n',
    "bars": "path|lat|lon|label\nimg/a.jpg|48.5|2.25|NA\n",
    "Excel's first line": "sep=;\r\npath;lat;lon;label\r\nimg/a.jpg;48.5;2.25;NA\r\n",
    "blanks": "path, lat, lon , label\nimg/a.jpg , 48.5, 2.25,  NA \n",
    "empty rows": "\n\npath,lat,lon,label\n,,,\nimg/a.jpg,48.5,2.25,NA\n\n,,,\n",
    "a comma at the end": "path,lat,lon,label,\nimg/a.jpg,48.5,2.25,NA,\n",
    "other names": "Image Path,LAT_DD,LONG_DD,Class\nimg/a.jpg,48.5,2.25,NA\n",
    "units": "Path,Latitude (deg),Longitude [WGS84],LABEL\nimg/a.jpg,48.5,2.25,NA\n",
    "of exiftool": "SourceFile,GPSLatitude,GPSLongitude,label\nimg/a.jpg,48.5,2.25,NA\n",
    "decimalLatitude": "file,decimalLatitude,decimalLongitude,label\nimg/a.jpg,48.5,2.25,NA\n",
    "back slashes": "path,lat,lon,label\nimg\\a.jpg,48.5,2.25,NA\n",
    "a Windows drive": "path,lat,lon,label\nC:\\me\\img\\a.jpg,48.5,2.25,NA\n",
    "another machine": "path,lat,lon,label\n/no/such/place/img/a.jpg,48.5,2.25,NA\n",
    "no suffix": "path,lat,lon,label\na,48.5,2.25,NA\n",
    "no folder": "path,lat,lon,label\na.jpg,48.5,2.25,NA\n",
    "capitals": "path,lat,lon,label\nIMG/A.JPG,48.5,2.25,NA\n",
    "a column called reader": "path,lat,lon,label,reader\nimg/a.jpg,48.5,2.25,NA,me\n",
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_a_csv_is_read_as_it_is_written(pictures, name):
    found = one_row(pictures, WRITTEN[name])
    assert found[["lat", "lon", "label"]].to_numpy().tolist() == [[48.5, 2.25, "NA"]]
    assert found["path"].tolist() == [str(pictures / "img" / "a.jpg")]
    assert grays(found) == pytest.approx([40], abs=1) and found["reader"].tolist() == ["table"]


NAMED = {
    "Latin-1": ("path,lat,lon,label\nimg/a.jpg,48,2,forêt\n".encode("latin-1"), "that is 'forêt'"),
    "URL": ("path,lat,lon\nhttps://x.org/a.jpg,48,2\n", "row 0: 'https://x.org/a.jpg' is a URL"),
    "two paths": ("file,image,lat,lon\na,b,1,2\n", "Pass `columns={'file': 'path'}`"),
    "two longitudes": ("path,lat,lng,longitude\na,1,2,3\n", "Pass `columns={'lng': 'lon'}`"),
    "1e999": ("path,lat,lon\nimg/a.jpg,1,2\nimg/b.jpg,1e999,2\n", "infinite .*'lat'.* row 1"),
    "inf": ("path,lat,lon\nimg/a.jpg,1,-inf\n", "infinite number in 'lon'"),
    "swapped": ("path,lat,lon\nimg/a.jpg,120,45\n", "lon and lat may be swapped"),
    "spreadsheet": (b"PK\3\4" + bytes(30), "is a spreadsheet or a zip archive, not text"),
    "no row": ("path,lat,lon\n", "names columns and has no rows"),
    "lines above": ("# of QGIS\n# v1\npath,lat,lon\nimg/a.jpg,1,2\n", "Remove lines above"),
    "a title": ("My plots\npath,lat,lon\nimg/a.jpg,1,2\n", "'My plots'.. Remove lines above"),
    "a longer row": ("path,lat,lon\nimg/a.jpg,1,2\nimg/b.jpg,1,2,3\n", "'lat', 'lon'.*quotes"),
    "comma in a value": ("path,lat,lon\nimg/a,b.jpg,1,2\n", "values that contain ',' in quotes"),
    "spreadsheet's day": ("path,lat,lon,date\nimg/a.jpg,1,2,43621\n", "as spreadsheets count them"),
    "seconds": ("path,lat,lon,date\nimg/a.jpg,1,2,1559730631\n", "seconds since 1970 .2019-06-05"),
    "day or month": ("path,lat,lon,date\na,1,2,05/06/2019\n", 'Pass `date_pattern="%d/%m/%Y"`'),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_a_csv_has_wrong_is_named(pictures, name):
    text, words = NAMED[name]
    with pytest.raises(ValueError, match=f"t.csv.*{words}"):
        one_row(pictures, text)


def test_advice_about_a_csv_leads_to_success(pictures):
    both = "file,image,lat,lon\nimg/a.jpg,img/b.jpg,1,2\n"
    assert grays(one_row(pictures, both, columns={"file": "path"})) == pytest.approx([40], abs=1)
    dated = "path,lat,lon,date\nimg/a.jpg,1,2,05/06/2019 10:30\nimg/b.jpg,1,2,\n"
    for form, date in (("%d/%m/%Y", "2019-06-05T10:30"), ("%m/%d/%Y", "2019-05-06T10:30")):
        found = one_row(pictures, dated, date_pattern=form)["time"]
        assert found[0] == pd.Timestamp(date, tz="UTC") and pd.isna(found[1])
    settled = one_row(pictures, dated.replace("2,\n", "2,25/06/2019\n"))["time"]
    assert settled[0] == pd.Timestamp("2019-06-05T10:30Z")


def test_only_a_unique_file_is_taken_for_a_name(pictures):
    for folder in ("one", "two"):
        (pictures / folder).mkdir()
        Image.new("L", (8, 8), 90).save(pictures / folder / "c.jpg")
    rows = "path,lat,lon\nimg/a.jpg,1,2\n{},1,2\n"
    for name, end in (("x/two/c.jpg", "two/c.jpg"), ("c.jpg", "c.jpg"), ("d.jpg", "d.jpg")):
        found = one_row(pictures, rows.format(name))["path"].tolist()[1]
        assert found == str(pictures / end)


@pytest.mark.parametrize(
    "rows, words",
    [
        ("48,2", r"e.g. `columns={'breite': 'lon', 'hoch': 'lat'}` or the other way round,"),
        ("48,102", r"e.g. `columns={'hoch': 'lon', 'breite': 'lat'}`,"),
        ("5410000,440000", "pass reader='table' with `columns` that name them, with"),
        ("a,b", "pass reader='table' with `columns` that name them, with"),
    ],
)
def test_columns_are_proposed_that_may_be_degrees(pictures, rows, words):
    (pictures / "t.csv").write_text(f"path,breite,hoch\nimg/a.jpg,{rows}\n")
    with pytest.raises(ValueError, match=words):
        open_scenes(pictures / "t.csv")


def test_masks_lie_next_to_the_table_as_images_do(tmp_path):
    for name in ("i.png", "m.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    (tmp_path / "t.csv").write_text("path,mask,lat,lon\ni.png,m.png,1,2\ni.png,,1,3\n")
    masks = table(tmp_path / "t.csv")["mask"]
    assert masks[0] == str(tmp_path / "m.png") and pd.isna(masks[1])
