"""Small folders as those of EuroSAT, BigEarthNet, SSL4EO-S12, SeCo, SpaceNet and Tile2Vec."""

import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from PIL import Image
from pyproj import Transformer

from geossl.datasets.raster import chips as images

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


def read(table, size_px):
    found = images.read_chips(table.reset_index(drop=True), size_px=size_px)
    assert not found.bad
    return found.chips
