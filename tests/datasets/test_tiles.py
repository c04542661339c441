import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from PIL import Image
from pyproj import Transformer

from geossl.data.store import ChipStore
from geossl.datasets.bigearthnet import bigearthnet
from geossl.datasets.bigearthnet import fits as bigearthnet_fits
from geossl.datasets.eurosat import eurosat
from geossl.datasets.eurosat import fits as eurosat_fits
from geossl.datasets.raster import chips as images
from geossl.datasets.raster.window import pixel_info
from geossl.datasets.seco import fits as seco_fits
from geossl.datasets.seco import seco
from geossl.datasets.spacenet import fits as spacenet_fits
from geossl.datasets.spacenet import spacenet
from geossl.datasets.ssl4eo import fits as ssl4eo_fits
from geossl.datasets.ssl4eo import ssl4eo
from geossl.datasets.tile2vec import fits as tile2vec_fits
from geossl.datasets.tile2vec import tile2vec

DATA = Path(__file__).parents[3] / "shared" / "data"
S2 = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12".split()
SIDE = dict.fromkeys(S2, 20) | dict.fromkeys(("B02", "B03", "B04", "B08"), 40)
SIDE |= dict.fromkeys(("B01", "B09", "B10"), 8)
DEGREES = "+proj=latlong"  # as SeCo and SSL4EO-S12 have it


def tif(path, pixels, *, crs="EPSG:32633", left=500_000.0, top=5_200_000.0, px=10.0):
    """A GeoTIFF of pixels ``(C, H, W)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", dtype=pixels.dtype, count=len(pixels), height=pixels.shape[1],
        width=pixels.shape[2], crs=crs, transform=Affine(px, 0, left, 0, -px, top),
    ) as file:  # fmt: skip
        file.write(pixels)


def flat(value, side=16, bands=1, dtype="uint16"):
    return (np.ones((bands, side, side)) * np.reshape(value, (-1, 1, 1))).astype(dtype)


def lon_lat(crs, x, y):
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)


def rgb_folder(at):
    rng = np.random.default_rng(0)
    for name, i in (("River", 10), ("River", 9), ("Sé a", 1), ("AnnualCrop", 2)):
        (at / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(at / name / f"{name}_{i}.{'JPG' if i == 2 else 'jpg'}")
    (at / "River" / "Thumbs.db").write_bytes(b"odd")
    (at / "River" / "Forest_3.jpg").write_bytes(b"of another class")
    (at / "label_map.json").write_text("{}")
    return at


def ms_folder(at):
    bands = flat(np.arange(1, 14) * 100, side=16, bands=13)
    tif(at / "Forest" / "Forest_7.tif", bands)
    tif(at / "SeaLake" / "SeaLake_1.tif", bands + 1, crs="EPSG:32734", left=300_000.0)
    tif(at / "SeaLake" / "SeaLake_12.tif", bands + 2, left=300_000.0)
    return at


def patch(at, name, *, epsg=32629, left=600_000, top=5_834_040, bands=S2, **about):
    for i, band in enumerate(bands):
        side = SIDE[band]
        tif(at / name / f"{name}_{band}.tif", flat(100 * (i + 1), side), crs=f"EPSG:{epsg}",
            left=left, top=top, px=1200 / side)  # fmt: skip
    from rasterio.crs import CRS

    about = {
        "labels": ["Pastures"],
        "coordinates": {"ulx": left, "uly": top, "lrx": left + 1200, "lry": top - 1200},
        "projection": CRS.from_epsg(epsg).to_wkt(),
        "tile_source": "S2A_MSIL1C.SAFE",
        "acquisition_date": "2017-06-17 11:33:21",
    } | about
    about = {key: value for key, value in about.items() if value is not None}
    (at / name / f"{name}_labels_metadata.json").write_text(json.dumps(about))
    return at / name


def bigearthnet_folder(at):
    patch(at, "S2A_MSIL2A_20170617T113321_4_55")
    labels = ["Mixed forest", "Land principally occupied by agriculture, with natural vegetation"]
    patch(at, "S2B_MSIL2A_20180421T114349_4_55", labels=labels, projection=None,
          acquisition_date="2018-04-21 11:43:49")  # fmt: skip
    patch(at, "S2A_MSIL2A_20180510T94033_19_86", epsg=32635, labels=[], coordinates=None)
    (at / "docs").mkdir()
    (at / "patches.csv").write_text("name\n")
    return at


def dated(at, bands, *, lon, lat, dtype="uint16", crs=DEGREES, value=1):
    for i, band in enumerate(bands):
        side = SIDE.get(band.replace("B", "B0") if len(band) == 2 else band, 40)
        tif(at / f"{band}.tif", flat(value * (i + 1), side, dtype=dtype), crs=crs, left=lon - 0.01,
            top=lat + 0.01, px=0.02 / side)  # fmt: skip
    (at / "metadata.json").write_text("{}")


L1C = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12".split()
PLACES = {"0000003": (10.5, 50.0), "0000021": (-70.0, -33.5), "0251079": (179.5, 65.0)}
DATES = ("20200504T182911_20200504T183557_T12UWV", "20201221T101411_20201221T101408_T32UPU")


def ssl4eo_folder(at, kinds=("s2c",)):
    for kind in kinds:
        for place, (lon, lat) in PLACES.items():
            for k, date in enumerate(DATES if place != "0000021" else DATES[:1]):
                name = f"S1A_IW_GRDH_1SDV_{date}" if kind == "s1" else date
                bands = {"s1": ["VV", "VH"], "s2a": [b for b in L1C if b != "B10"], "s2c": L1C}
                float_or_not = {"dtype": "float32", "value": -5.0} if kind == "s1" else {}
                dated(at / kind / place / name, bands[kind], lon=lon + k * 1e-4, lat=lat,
                      **float_or_not)  # fmt: skip
    return at


def seco_folder(at):
    bands = [b for b in L1C if b != "B10"]
    for place, lon in (("000000", -3.0), ("199999", 30.0)):
        for date in DATES:
            dated(at / place / date, bands, lon=lon, lat=45.0, dtype="uint8")
        tif(at / place / f"{DATES[0]}.tif", flat(9, bands=3, dtype="uint8"))  # a preview
    return at


POLYGON = {"type": "Polygon", "coordinates": [[[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]]}


def geojson(*shapes):
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    return json.dumps({"type": "FeatureCollection", "features": features})


def spacenet_folder(at, polygons="geojson"):
    texts = {
        1: geojson(POLYGON, POLYGON, POLYGON | {"type": "MultiPolygon"}, None),
        2: geojson(),
        10: "",
        11: geojson({"type": "Point", "coordinates": [0, 0]}, POLYGON),
    }
    (at / polygons).mkdir(parents=True)
    for i in (*texts, 100):
        pixels = flat((i, 50, 60), 32, bands=3, dtype="uint8")
        tif(at / "3band" / f"3band_AOI_1_RIO_img{i}.tif", pixels, crs="EPSG:4326",
            left=-43.6 + i / 1000, top=-22.9, px=0.001 / 32)  # fmt: skip
        if i in texts:
            (at / polygons / f"Geo_AOI_1_RIO_img{i}.geojson").write_text(texts[i])
    return at


def tile2vec_folder(at, first=1, bands=5, y=(111, 24, 24)):
    at.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(first, first + 3):
        np.save(at / f"{i}tile.npy", rng.integers(0, 256, (12, 12, bands), dtype=np.uint8))
    if y is not None:
        np.save(at / "y.npy", np.array(y))
    return at


READERS = {
    "eurosat rgb": (eurosat, eurosat_fits, rgb_folder),
    "eurosat ms": (eurosat, eurosat_fits, ms_folder),
    "bigearthnet": (bigearthnet, bigearthnet_fits, bigearthnet_folder),
    "ssl4eo": (ssl4eo, ssl4eo_fits, ssl4eo_folder),
    "seco": (seco, seco_fits, seco_folder),
    "spacenet": (spacenet, spacenet_fits, spacenet_folder),
    "tile2vec": (tile2vec, tile2vec_fits, tile2vec_folder),
}


def read(table, size_px):
    found = images.read_chips(table.reset_index(drop=True), size_px=size_px)
    assert not found.bad
    return found.chips


def test_eurosat_rgb_has_labels_and_no_places(tmp_path):
    folder = rgb_folder(tmp_path / "2750")
    table = eurosat(folder)
    assert table["location"].tolist() == ["AnnualCrop_2", "River_9", "River_10", "Sé a_1"]
    assert table["label"].tolist() == ["AnnualCrop", "River", "River", "Sé a"]
    assert table[["lon", "lat", "time", "split"]].isna().all(axis=None)
    chips = read(table, 16)
    wanted = np.asarray(Image.open(folder / "River" / "River_9.jpg")).transpose(2, 0, 1)
    assert (chips[1] == wanted).all() and chips.dtype == np.uint8
    (folder / "River" / "River_1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="River_1.jpg: the file is empty. Repair"):
        eurosat(folder)
    left = eurosat(folder, skip_bad=True)
    assert len(left) == 4
    assert left.attrs["skipped"] == {str(folder / "River" / "River_1.jpg"): "the file is empty"}


def test_eurosat_ms_has_places_and_its_order_of_bands(tmp_path):
    folder = ms_folder(tmp_path)
    table = eurosat(folder)
    assert table["location"].tolist() == ["Forest_7", "SeaLake_1", "SeaLake_12"]
    zones = ("EPSG:32633", 500_080.0), ("EPSG:32734", 300_080.0), ("EPSG:32633", 300_080.0)
    for (crs, x), (lon, lat) in zip(zones, table[["lon", "lat"]].to_numpy(), strict=True):
        assert (lon, lat) == pytest.approx(lon_lat(crs, x, 5_200_000 - 80), abs=1e-7)
    store = ChipStore.build(tmp_path / "s", table, size_px=16, progress=False)
    pixels = dict(zip(store.bands, store.chips[0, :, 0, 0].tolist(), strict=True))
    assert pixels["B09"] == 900 and pixels["B12"] == 1200 and pixels["B8A"] == 1300
    assert store.rgb == [3, 2, 1] and store.dtype == "uint16"
    # the very pixels of B04, B03, B02, between the extremes of the store
    assert store.preview([0, 2])[:, 0, 0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_eurosat_of_both_kinds_asks_which(tmp_path):
    ms_folder(rgb_folder(tmp_path))
    with pytest.raises(
        ValueError, match="contains jpg and tif. Choose with `kind='rgb'` or `kind='ms'`"
    ):
        eurosat(tmp_path)
    assert len(eurosat(tmp_path, kind="rgb")) == 4 and len(eurosat(tmp_path, kind="ms")) == 3
    with pytest.raises(ValueError, match=r"`kind` must be one of \['rgb', 'ms'\], got 'sar'"):
        eurosat(tmp_path, kind="sar")


def test_tifs_that_are_not_as_they_should_be_are_named(tmp_path):
    good = ms_folder(tmp_path) / "Forest" / "Forest_7.tif"
    vrt = (
        '<VRTDataset rasterXSize="16" rasterYSize="16"><VRTRasterBand dataType="UInt16" band="1">'
        f"<SimpleSource><SourceFilename>{good}</SourceFilename></SimpleSource></VRTRasterBand>"
        "</VRTDataset>"
    )
    tif(tmp_path / "River" / "River_1.tif", flat(1, bands=12))
    tif(tmp_path / "River" / "River_2.tif", flat(1, bands=13), crs=None)
    tif(tmp_path / "River" / "River_3.tif", flat(1, bands=13), crs="EPSG:4326")  # far outside
    tif(tmp_path / "River" / "River_4.tif", flat(1, bands=13), crs='LOCAL_CS["here"]')
    tif(tmp_path / "River" / "River_8.tif", flat(1, bands=13), crs="+proj=latlong +R=1737400")
    (tmp_path / "River" / "River_5.tif").write_bytes(good.read_bytes()[:100])
    (tmp_path / "River" / "River_6.tif").write_text(vrt)  # would have another file read
    (tmp_path / "River" / "River_7.tif").mkdir()
    table = eurosat(tmp_path, skip_bad=True)
    assert len(table) == 3
    skipped = {Path(path).name: reason for path, reason in table.attrs["skipped"].items()}
    assert list(skipped) == [f"River_{i}.tif" for i in range(1, 9)]
    assert skipped["River_1.tif"] == "it has 12 bands of uint16, not 13 of uint16"
    assert "not georeferenced" in skipped["River_2.tif"]
    assert all("no longitude and latitude" in skipped[f"River_{i}.tif"] for i in (3, 4, 8))
    assert all("cannot be read as a GeoTIFF" in skipped[f"River_{i}.tif"] for i in (5, 6))
    assert "does not exist" in skipped["River_7.tif"]
    with pytest.raises(
        ValueError,
        match=r"River_1.tif: it has 12 bands of uint16, not 13 .* \(and 7 more\)\. Repair",
    ):
        eurosat(tmp_path)


def test_bigearthnet_pairs_dates_by_place_and_joins_labels(tmp_path):
    table = bigearthnet(bigearthnet_folder(tmp_path))
    table = table.set_index("patch", drop=False)
    one, two, lone = sorted(table["patch"], key=lambda name: ("2018" in name, name[2] == "A"))
    assert table["location"][one] == table["location"][two] != table["location"][lone]
    assert table["label"][one] == "Pastures" and table["labels"][one] == "Pastures"
    assert pd.isna(table["label"][two])
    assert table["labels"][two].split("|")[0] == "Mixed forest"
    assert table["labels"][lone] == "" and pd.isna(table["label"][lone])
    assert table["time"][two] == pd.Timestamp("2018-04-21 11:43:49", tz="UTC")
    for name, crs in ((one, "EPSG:32629"), (lone, "EPSG:32635")):  # the last by its tif alone
        wanted = lon_lat(crs, 600_600.0, 5_833_440.0)
        assert table.loc[name, ["lon", "lat"]].tolist() == pytest.approx(wanted, abs=1e-7)
    chips = read(table, 40)
    assert chips.shape == (3, 12, 40, 40)
    assert chips[:, :, 20, 20].tolist() == [[100 * (i + 1) for i in range(12)]] * 3
    assert pixel_info(table)["rgb"] == [3, 2, 1]


BAD_PATCHES = {
    "missing json": (None, "does not exist"),
    "no json": ("not json", "cannot be read as json"),
    "deep json": ("[" * 100_000, "cannot be read as json"),
    "no bytes": ("", "cannot be read as json"),
    "binary": (b"\xff\xfe\x00\xd8", "cannot be read as json"),
    "list": ("[1, 2]", "has no list of labels"),
    "no labels": ({"labels": None}, "has no list of labels"),
    "odd labels": ({"labels": [{"a": 1}]}, "labels that are no names"),
    "lone surrogate": ({"labels": ["\ud800"]}, "labels that are no names"),
    "two in one": ({"labels": ["a|b"]}, "labels that are no names"),
    "no date": ({"acquisition_date": None}, "acquisition_date 'None' is no ISO date"),
    "now": ({"acquisition_date": "now"}, "acquisition_date 'now' is no ISO date"),
}


@pytest.mark.parametrize("case", BAD_PATCHES)
def test_bad_patches_are_named(tmp_path, case):
    bigearthnet_folder(tmp_path)
    content, reason = BAD_PATCHES[case]
    bad = patch(tmp_path, "S2A_bad_1_1", **content if isinstance(content, dict) else {})
    about = bad / "S2A_bad_1_1_labels_metadata.json"
    if content is None:
        about.unlink()
    elif not isinstance(content, dict):
        about.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        ValueError, match=f"S2A_bad_1_1.*{reason}.*`skip_bad=True` to leave such out.$"
    ):
        bigearthnet(tmp_path)
    table = bigearthnet(tmp_path, skip_bad=True)
    assert len(table) == 3 and list(table.attrs["skipped"]) == [str(bad)]


@pytest.mark.parametrize(
    "about",
    [
        {"coordinates": {"ulx": "x", "uly": None, "lrx": 1e300, "lry": True}},
        {"coordinates": [1, 2]},
        {"projection": 'PROJCS["x", EXTENSION["PROJ4_GRIDS", "/etc/passwd"]]'},
        {"projection": None},
        {"projection": 'x AUTHORITY["EPSG","999999"]]'},
    ],
)
def test_a_patch_with_odd_corners_lies_where_its_tif_says(tmp_path, about):
    patch(tmp_path, "S2A_odd_1_1", **about)
    table = bigearthnet(tmp_path)
    wanted = lon_lat("EPSG:32629", 600_600.0, 5_833_440.0)
    assert table.loc[0, ["lon", "lat"]].tolist() == pytest.approx(wanted, abs=1e-7)


def test_bands_of_bigearthnet_are_those_that_patches_have(tmp_path):
    colors = ["B02", "B03", "B04"]
    patch(tmp_path, "a", bands=colors)
    assert bigearthnet(tmp_path)["bands"].tolist() == ["B02,B03,B04"]
    patch(tmp_path, "b", bands=colors[:2])
    (patch(tmp_path, "c", bands=colors[:1]) / "c_B02.tif").unlink()
    with pytest.raises(ValueError, match=r"b: it has no B04 \(and 1 more\)"):
        bigearthnet(tmp_path)
    table = bigearthnet(tmp_path, skip_bad=True)
    assert list(table.attrs["skipped"].values()) == ["it has no B04", "it has no B02, B03, B04"]
    assert read(table, 40)[0, :, 0, 0].tolist() == [100, 200, 300]


def test_ssl4eo_pairs_dates_by_place(tmp_path):
    table = ssl4eo(ssl4eo_folder(tmp_path))
    assert table["location"].tolist() == ["0000003"] * 2 + ["0000021"] + ["0251079"] * 2
    assert table["time"].dt.strftime("%Y-%m-%dT%H:%M:%S").tolist()[:2] == [
        "2020-05-04T18:29:11", "2020-12-21T10:14:11",
    ]  # fmt: skip
    for place, rows in table.groupby("location"):  # one position a place, of its first date
        assert rows[["lon", "lat"]].to_numpy() == pytest.approx(
            np.tile(PLACES[place], (len(rows), 1)), abs=1e-9
        )
    assert table["bands"][0] == ",".join(L1C)
    chips = read(table, 40)
    assert chips[:, :, 5, 5].tolist() == [list(range(1, 14))] * 5 and chips.dtype == np.uint16
    assert pixel_info(table)["rgb"] == [3, 2, 1]


def test_kinds_of_ssl4eo(tmp_path):
    ssl4eo_folder(tmp_path, kinds=("s1", "s2a"))
    with pytest.raises(ValueError, match="several kinds. Choose one: `kind='s1'`, `kind='s2a'`"):
        ssl4eo(tmp_path)
    with pytest.raises(ValueError, match=r"`kind` must be one of \['s1', 's2a', 's2c'\], got 's3'"):
        ssl4eo(tmp_path, kind="s3")
    with pytest.raises(FileNotFoundError, match="`kind='s2c'` needs a folder s2c in"):
        ssl4eo(tmp_path, kind="s2c")
    surface = ssl4eo(tmp_path, kind="s2a")
    assert "B10" not in surface["bands"][0] and len(surface) == 5
    assert ssl4eo(tmp_path / "s2a").equals(surface)
    assert ssl4eo(tmp_path / "s2a", kind="s2a").equals(surface)
    radar = ssl4eo(tmp_path, kind="s1")
    assert radar["time"].equals(surface["time"]) and radar["location"].equals(surface["location"])
    chips = read(radar, 40)  # -5 and -10 dB between -50 and 10
    wanted = 1 + (np.array([-5, -10]) + 50) / 60 * 65534
    assert chips[0, :, 3, 3] == pytest.approx(wanted, abs=1)
    assert pixel_info(radar)["rgb"] == [0]
    own = ssl4eo(tmp_path, kind="s1", scale=(-20.0, 0.0))
    assert read(own, 40)[0, 1, 3, 3] == pytest.approx(1 + 65534 / 2, abs=1)


def test_bad_dates_of_a_place_do_not_lose_it(tmp_path):
    place = ssl4eo_folder(tmp_path) / "s2c" / "0000003"
    (place / DATES[0] / "B1.tif").write_bytes(b"II*\0")  # the first, of which the header is read
    (place / DATES[1]).rename(place / "20210101T000000_later")
    dated(place / "no date here", L1C, lon=10.5, lat=50.0)
    dated(place / "20201399T000000", L1C, lon=10.5, lat=50.0)
    (place / "20200101T000000_empty").mkdir()
    (place / "notes").mkdir()
    dated(place / "20200102T000000_half", L1C[:5], lon=10.5, lat=50.0)
    lost = tmp_path / "s2c" / "0000021" / DATES[0]
    tif(lost / "B1.tif", flat(1), crs=None)  # its only date
    table = ssl4eo(tmp_path, skip_bad=True)
    assert table["location"].tolist() == ["0000003", "0251079", "0251079"]
    assert table.loc[0, ["lon", "lat"]].tolist() == pytest.approx((10.5001, 50.0), abs=1e-9)
    skipped = {Path(path).name: reason for path, reason in table.attrs["skipped"].items()}
    assert "cannot be read as a GeoTIFF" in skipped.pop(DATES[0], "") or str(lost) in str(
        table.attrs["skipped"]
    )
    assert skipped == {
        "20200101T000000_empty": "it has no " + ", ".join(L1C),
        "20200102T000000_half": "it has no " + ", ".join(L1C[5:]),
        "20201399T000000": "its name has no date",
        "no date here": "its name has no date",
    }
    with pytest.raises(ValueError, match=r"0000003.*\(and 5 more\)\. Repair"):
        ssl4eo(tmp_path)


def test_seco(tmp_path):
    table = seco(seco_folder(tmp_path))
    assert table["location"].tolist() == ["000000"] * 2 + ["199999"] * 2
    assert table["reader"].unique().tolist() == ["seco"]
    assert table.loc[2, ["lon", "lat"]].tolist() == pytest.approx((30.0, 45.0), abs=1e-9)
    chips = read(table, 40)
    assert chips.dtype == np.uint8 and chips[0, :, 5, 5].tolist() == list(range(1, 13))
    store = ChipStore.build(tmp_path / "s", table, size_px=40, progress=False)
    assert store.preview([0])[0, 0, 0].tolist() == [4, 3, 2]


@pytest.mark.parametrize("polygons", ["geojson", "vectordata/geojson"])
def test_spacenet_counts_buildings(tmp_path, polygons):
    table = spacenet(spacenet_folder(tmp_path, polygons))
    assert table["location"].tolist() == [f"AOI_1_RIO_img{i}" for i in (1, 2, 10, 11, 100)]
    assert table["buildings"].tolist() == [3, 0, 0, 1, pd.NA]
    assert Path(table["polygons"][3]).name == "Geo_AOI_1_RIO_img11.geojson"
    assert Path(table["polygons"][3]).is_file() and pd.isna(table["polygons"][4])
    assert table.loc[2, ["lon", "lat"]].tolist() == pytest.approx((-43.5895, -22.9005), abs=1e-9)
    assert read(table, 32)[:, 0, 0, 0].tolist() == [1, 2, 10, 11, 100]
    store = ChipStore.build(tmp_path / "s", table, size_px=32, progress=False)
    assert store.preview([0])[0, 0, 0].tolist() == [1, 50, 60]
    assert store.scenes["buildings"].tolist() == [3, 0, 0, 1, pd.NA]


@pytest.mark.parametrize(
    "text",
    ["{", "[" * 100_000, "[]", "{}", '{"features": 3}', '{"features": [3]}', '{"features": "ab"}',
     '{"features": [{"geometry": [1]}]}', '{"features": [{"geometry": {"kind": 1}}]}', "\0"],
)  # fmt: skip
def test_spacenet_names_bad_polygons(tmp_path, text):
    bad = spacenet_folder(tmp_path) / "geojson" / "Geo_AOI_1_RIO_img2.geojson"
    bad.write_text(text)
    with pytest.raises(ValueError, match="img2.tif: .*img2.geojson (cannot be read|has no)"):
        spacenet(tmp_path)
    table = spacenet(tmp_path, skip_bad=True)
    assert len(table) == 4 and len(table.attrs["skipped"]) == 1


def test_spacenet_of_eight_bands(tmp_path):
    spacenet_folder(tmp_path)
    for i in (1, 7):
        pixels = flat(np.arange(1, 9) * i, 8, bands=8)
        tif(tmp_path / "8band" / f"8band_AOI_1_RIO_img{i}.tif", pixels, crs="EPSG:4326",
            left=-43.6, top=-22.9, px=0.001 / 8)  # fmt: skip
    table = spacenet(tmp_path, kind="8band")
    assert table["buildings"].tolist() == [3, pd.NA]
    info = pixel_info(table)
    assert [info["bands"][i] for i in info["rgb"]] == ["red", "green", "blue"]
    assert read(table, 8)[1, info["rgb"], 0, 0].tolist() == [35, 21, 14]
    with pytest.raises(
        ValueError, match=r"`kind` must be one of \['3band', '8band'\], got '4band'"
    ):
        spacenet(tmp_path, kind="4band")
    tif(tmp_path / "8band" / "8band_AOI_1_RIO_img9.tif", flat(1, 8, bands=3))
    with pytest.raises(ValueError, match="img9.tif: it has 3 bands of uint16, not 8 of uint16"):
        spacenet(tmp_path, kind="8band")


@pytest.mark.parametrize("first", [0, 1])
def test_tile2vec_labels_start_at_the_first_tile(tmp_path, first):
    table = tile2vec(tile2vec_folder(tmp_path, first))
    assert table["location"].tolist() == [f"{first + i}tile" for i in range(3)]
    assert table["label"].tolist() == [111, 24, 24]
    assert table[["lon", "lat"]].isna().all(axis=None)
    chips = read(table, 12)
    wanted = np.load(tmp_path / f"{first + 1}tile.npy")[..., :4].transpose(2, 0, 1)
    assert (chips[1] == wanted).all()
    info = pixel_info(table)
    assert info["bands"] == ["red", "green", "blue", "nir"] and info["rgb"] == [0, 1, 2]


def test_tile2vec_without_labels_with_gaps_and_bad_tiles(tmp_path):
    tile2vec_folder(tmp_path, y=None, bands=3)
    assert tile2vec(tmp_path)["label"].isna().all()
    np.save(tmp_path / "12tile.npy", np.zeros((12, 12, 3), np.uint8))
    (tmp_path / "1tile.npy").unlink()
    np.save(tmp_path / "y.npy", np.arange(11))
    with pytest.raises(
        ValueError, match=r"y.npy needs a label for each of tile 1 to 12 \(12 labels\), got 11"
    ):
        tile2vec(tmp_path)
    np.save(tmp_path / "y.npy", np.arange(12.0))
    assert tile2vec(tmp_path)["label"].tolist() == [1, 2, 11]
    np.save(tmp_path / "4tile.npy", np.zeros((12, 12, 4), np.uint8))
    np.save(tmp_path / "5tile.npy", np.zeros((12, 12), np.uint8))
    np.save(tmp_path / "6tile.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "7tile.npy").write_bytes(b"")
    (tmp_path / "8tile.npy").write_bytes(b"PK\3\4")
    for i, shape in ((9, "-" * 9_000 + "1"), (10, "(" * 900), (11, f"({10**30}, 3, 3)")):
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        start = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little")
        (tmp_path / f"{i}tile.npy").write_bytes(start + header)
    with pytest.raises(
        ValueError, match="4tile.npy: it has 4 bands of uint8, the first tile 3 of uint8"
    ):
        tile2vec(tmp_path)
    table = tile2vec(tmp_path, skip_bad=True)
    assert table["label"].tolist() == [1, 2, 11]
    skipped = [Path(path).name for path in table.attrs["skipped"]]
    assert skipped == [f"{i}tile.npy" for i in range(4, 12)]
    for labels in (np.zeros((3, 2)), np.array([{}] * 12)):
        np.save(tmp_path / "y.npy", labels, allow_pickle=True)
        with pytest.raises(ValueError, match="y.npy"):
            tile2vec(tmp_path, skip_bad=True)


def test_tiles_of_other_types_need_a_scale(tmp_path):
    for i in (1, 2):
        np.save(tmp_path / f"{i}tile.npy", np.full((8, 8, 4), i / 4))
    with pytest.raises(ValueError, match="got float64. Pass `scale="):
        tile2vec(tmp_path)
    chips = read(tile2vec(tmp_path, scale=(0.0, 1.0)), 8)
    assert chips[:, 3, 0, 0] == pytest.approx([1 + 65534 / 4, 1 + 65534 / 2], abs=1)


@pytest.mark.parametrize("name", READERS)
def test_only_its_own_reader_says_that_it_fits(tmp_path, name):
    folder = READERS[name][2](tmp_path / "ä b")
    said = {other: fits(folder) for other, (_, fits, _) in READERS.items()}
    own = [other for other in READERS if other.split()[0] == name.split()[0]]
    assert [other for other, reason in said.items() if reason] == own
    assert all(said[other].startswith("contains ") for other in own)


def test_odd_places_fit_none(tmp_path):
    (tmp_path / "file").write_bytes(b"\0")
    loops = tmp_path / "loops"
    for name in ("0000001", "000001", "River", "3band", "s1", "1tile.npy", "patch"):
        loops.mkdir(exist_ok=True)
        (loops / name).symlink_to(loops / name)
    category = tmp_path / "fmow" / "airport" / "airport_1"
    category.mkdir(parents=True)
    (category / "airport_1_0_rgb.jpg").write_bytes(b"\xff\xd8")
    for name in ("cats/cats_1.jpg", "River/Forest_1.jpg", "Forest/IMG_1.jpg"):
        (tmp_path / "imagefolder" / name).parent.mkdir(parents=True)
        (tmp_path / "imagefolder" / name).write_bytes(b"\xff\xd8")
    deep = Path("x" * 5_000)
    for _, fits, _ in READERS.values():
        for folder in ("file", "absent", "loops", "fmow", "imagefolder", "", "a\0b", deep):
            assert fits(tmp_path / folder) is None, folder
    (loops / "0000002" / DATES[0]).mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{DATES[0]}: it has no band"):
        ssl4eo(loops)
    for reader in (bigearthnet, seco, spacenet, eurosat):
        with pytest.raises(FileNotFoundError):
            reader(loops)
    with pytest.raises(ValueError, match="cannot be read as an array"):
        tile2vec(loops)


@pytest.mark.parametrize("name", READERS)
def test_folders_without_the_files_are_refused_in_a_sentence(tmp_path, name):
    reader, _, _ = READERS[name]
    with pytest.raises(FileNotFoundError, match="There is no folder .*absent"):
        reader(tmp_path / "absent")
    with pytest.raises(
        FileNotFoundError, match="There are no .*. Pass the folder that contains them"
    ):
        reader(tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_cost_no_more_than_their_rows(tmp_path, name):
    """Each file in turn is cut, emptied or replaced: an error in a sentence, or a smaller table."""
    reader, _, make = READERS[name]
    folder = make(tmp_path)
    rows = len(reader(folder))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rng = np.random.default_rng(0)
    for path in [files[i] for i in rng.permutation(len(files))[:3]]:
        whole = path.read_bytes()
        for content in (b"", whole[: len(whole) // 2], whole[:9], rng.bytes(99), b"{" * 999):
            path.write_bytes(content)
            try:
                table = reader(folder, skip_bad=True)
            except ValueError as error:  # e.g. y.npy
                assert path.name in str(error) and "\n" not in str(error)
                continue
            found = images.read_chips(table, size_px=8)
            assert len(table) >= rows - 1 and len(table) - len(found.bad) >= rows - 2
            assert not found.chips[list(found.bad)].any()
        path.write_bytes(whole)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == files


@pytest.mark.parametrize(
    ("names", "rgb"),
    [
        ("Red Green Blue", [0, 1, 2]),
        ("nir red green blue", [1, 2, 3]),
        ("B01 B02 B03 B04 B05", [3, 2, 1]),
        ("B1 B2 B3 B4 B8A", [3, 2, 1]),
        ("b02 b03 b04", [2, 1, 0]),
        ("B04 B03 B02 red green blue", [3, 4, 5]),
        ("B05 B8A B02 B03", [0, 1, 2]),  # no B04
        ("B40 B30 B20", [0, 1, 2]),
        ("B12 B13 B14 B4", [0, 1, 2]),
        ("VV VH", [0]),
        ("swir nir red green", [0, 1, 2]),
    ],
)
def test_visible_bands_are_found_by_name_or_number(names, rgb):
    rows = images.add_pixel_columns(
        pd.DataFrame({"path": ["x"]}), reader="images", bands=range(1, len(names.split()) + 1),
        band_names=names.split(),
    )  # fmt: skip
    assert pixel_info(rows)["rgb"] == rgb


@pytest.mark.skipif(not (DATA / "eurosat_100").is_dir(), reason="needs ../shared/data/eurosat_100")
def test_real_eurosat(tmp_path):
    table = eurosat(DATA / "eurosat_100")
    assert table["label"].value_counts().tolist() == [10] * 10 and not table.attrs["skipped"]
    assert table["lon"].between(-25, 45).all() and table["lat"].between(34, 70).all()  # Europe
    with rasterio.open(table["path"][37]) as file:
        assert table.loc[37, ["lon", "lat"]].tolist() == pytest.approx(file.lnglat(), abs=1e-6)
    store = ChipStore.build(tmp_path / "s", table, size_px=64, progress=False)
    bands = dict(zip(store.bands, store.chips.transpose(1, 0, 2, 3).reshape(13, -1), strict=True))
    alike = {name: np.corrcoef(band, bands["B8A"])[0, 1] for name, band in bands.items()}
    assert alike["B07"] > 0.99 and alike["B12"] < 0.6  # so the last is the near infrared
    assert store.mean[store.bands.index("B10")] < 50  # cirrus: almost none
    seen = store.preview(np.flatnonzero(table["label"] == "Pasture")).mean((0, 1, 2))
    assert seen[1] > seen[0] and seen[1] > seen[2]  # pastures look green


@pytest.mark.skipif(
    not (DATA / "bigearthnet_11").is_dir(), reason="needs ../shared/data/bigearthnet_11"
)
def test_real_bigearthnet(tmp_path):
    table = bigearthnet(DATA / "bigearthnet_11")
    assert len(table) == 11 and table["bands"][0] == ",".join(S2)
    assert table["label"].notna().sum() == (~table["labels"].str.contains("|", regex=False)).sum()
    for path, lon, lat in table[["path", "lon", "lat"]].itertuples(index=False):
        with rasterio.open(path.replace("{band}", "B02")) as file:
            assert (lon, lat) == pytest.approx(file.lnglat(), abs=1e-6)
    store = ChipStore.build(tmp_path / "s", table, size_px=120, progress=False)
    with rasterio.open(table["path"][4].replace("{band}", "B04")) as file:
        assert (store.chips[4, store.bands.index("B04")] == file.read(1)).all()
    seen = store.preview([0, 1, 8, 9]).mean((0, 1, 2))  # fields in Ireland
    assert seen[1] > seen[0] and seen[1] > seen[2]
