import pandas as pd
import pytest
import rasterio
from tile_folders import DATA, S2, bigearthnet_folder, lon_lat, patch, read

from geossl.data.store import ChipStore
from geossl.datasets.bigearthnet import bigearthnet
from geossl.datasets.raster.window import pixel_info


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
    "odd labels": ({"labels": [{"a": 1}]}, "labels that are not names"),
    "lone surrogate": ({"labels": ["\ud800"]}, "labels that are not names"),
    "two in one": ({"labels": ["a|b"]}, "labels that are not names"),
    "no date": ({"acquisition_date": None}, "acquisition_date 'None' is not an ISO date"),
    "now": ({"acquisition_date": "now"}, "acquisition_date 'now' is not an ISO date"),
}


@pytest.mark.slow
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
        ValueError, match=f"S2A_bad_1_1.*{reason}.*`skip_bad=True` to skip bad ones.$"
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
