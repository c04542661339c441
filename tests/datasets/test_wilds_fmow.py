import os

import pandas as pd
import pytest
from fmow_folders import WILDS, wilds

from geossl.data.store import ChipStore
from geossl.datasets.wilds_fmow import wilds_fmow


def test_wilds(tmp_path):
    table = wilds_fmow(wilds(tmp_path / "fmow_v1.1", WILDS))
    assert table["location"].tolist() == [
        *["train/multi-unit_residential/multi-unit_residential_3"] * 2, "val/zoo/zoo_7",
        "seq/zoo/zoo_7",
    ]  # fmt: skip
    assert table["label"].tolist() == [*["multi-unit_residential"] * 2, "zoo", "zoo"]
    assert table["split"].tolist() == ["train", "train", "val", "seq"]
    assert table["lon"].tolist() == [17.0, 17.001, -70.0, 20.0]
    assert table["time"].dt.year.tolist() == [2014, 2002, 2013, 2013]
    assert table["country_code"][0] == "NAM" and table["cloud_cover"][0] == 3
    store = ChipStore.build(tmp_path / "store", table, size_px=4, progress=False)
    assert store.chips[:, 0, 0, 0].tolist() == [0, 1, 2, 3]  # picture i belongs to row i


def test_wilds_with_bad_rows(tmp_path):
    rows = [
        *WILDS, ("val", "zoo 7.jpg", "2013-01-01T00:00:00Z", 10.0, 20.0),
        ("val", "zoo_9_0_rgb.jpg", "2013-01-01T00:00:00Z", -1000, -1000),
        ("val", "zoo_9_1_rgb.jpg", "some day", 10, 20),
        ("val", "../../zoo_9_1_rgb.jpg", "2013-01-01T00:00:00Z", 10, 20),
    ]  # fmt: skip
    root = wilds(tmp_path, rows, pictures=[0, 1, 3, 4, 5, 6, 7])
    with pytest.raises(
        ValueError, match="rgb_metadata.csv row 2: there is no file .*rgb_img_2.png"
    ):
        wilds_fmow(root)
    table = wilds_fmow(root, skip_bad=True)
    assert len(table) == 3 and len(table.attrs["skipped"]) == 5
    assert all(table["path"].map(os.path.isfile))
    reasons = list(table.attrs["skipped"].values())
    for reason, words in zip(reasons[1:4], ["img_filename", "globe", "some day"], strict=True):
        assert words in reason
    metadata = pd.read_csv(root / "rgb_metadata.csv")
    metadata.drop(columns="img_filename").to_csv(root / "rgb_metadata.csv", index=False)
    with pytest.raises(ValueError, match="img_filename is missing"):
        wilds_fmow(root)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        wilds_fmow(tmp_path / "images")
