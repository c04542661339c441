from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from tile_folders import DATA, flat, lon_lat, ms_folder, read, rgb_folder, tif

from geossl.data.store import ChipStore
from geossl.datasets.eurosat import eurosat


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


@pytest.mark.slow
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
