import numpy as np
import pandas as pd
import pytest
from fmow_folders import sentinel, tif

from geossl.data.store import ChipStore
from geossl.datasets.fmow_sentinel import fmow_sentinel
from geossl.datasets.raster.chips import read_chips
from geossl.datasets.raster.window import pixel_info


def test_fmow_sentinel(tmp_path):
    root = sentinel(tmp_path, inside="fmow-sentinel")
    rows = ((0, 3, "airport"), (7, 2, "multi-unit_residential"))
    sentinel(tmp_path, "test_gt", rows, inside="fmow-sentinel")
    table = fmow_sentinel(root)
    assert table["location"].tolist() == [
        "train/airport/airport_0", "train/airport/airport_0", "test_gt/airport/airport_0",
        "test_gt/multi-unit_residential/multi-unit_residential_7",
    ]  # fmt: skip
    assert table["image_id"].tolist() == [6, 100, 3, 2]
    assert table["split"].tolist() == ["train", "train", "test_gt", "test_gt"]
    np.testing.assert_allclose(table["lon"], [10, 10, 10, 17])
    store = ChipStore.build(tmp_path / "store", table, size_px=4, progress=False)
    assert store.chips.shape == (4, 13, 4, 4) and store.chips.dtype == np.uint16
    assert store.chips[1, :, 0, 0].tolist() == [100 + 100 * i for i in range(13)]
    info = pixel_info(table)
    assert [info["bands"][i] for i in info["rgb"]] == ["B4", "B3", "B2"]
    assert info["bands"].index("B8A") == 8
    one = fmow_sentinel(root / "train.csv", root=root / "fmow-sentinel")
    assert one["path"].tolist() == table["path"].tolist()[:2]
    (root / "train.csv").rename(root / "train_filtered.csv")
    assert len(fmow_sentinel(root / "train_filtered.csv")) == 2


def test_fmow_sentinel_of_floats_wants_a_scale(tmp_path):
    root = sentinel(tmp_path, dtype="float32")
    with pytest.raises(ValueError, match="Pass `scale="):
        fmow_sentinel(root)
    table = fmow_sentinel(root, scale=(0.0, 10_000.0))
    chips = read_chips(table, size_px=4).chips
    assert chips[1, 3, 0, 0] == round(1 + 400 / 10_000 * 65534)


def test_fmow_sentinel_stays_in_its_folder(tmp_path):
    root = sentinel(tmp_path / "data")
    tif(tmp_path / "data/secret/a_1/a_1_2.tif", 1)
    table = pd.read_csv(root / "train.csv", index_col=0)
    odd = pd.concat([table] * 4, ignore_index=True)
    odd["category"] = odd["category"].astype(object)
    odd.loc[2, "category"] = "../secret"
    odd.loc[3, "category"] = np.nan
    odd["image_id"] = odd["image_id"].astype(object)
    odd.loc[4, "image_id"] = "../6"
    odd.loc[5, "image_id"] = 77
    odd.loc[6, "polygon"] = "[[10, 50], [11, 51]]"
    odd.loc[7, "timestamp"] = "2016-02-31T00:00:00Z"
    odd.to_csv(root / "train.csv")
    with pytest.raises(
        ValueError, match="train.csv row 2: its category must be a name without slashes"
    ):
        fmow_sentinel(root)
    found = fmow_sentinel(root, skip_bad=True)
    assert len(found) == 2 and len(found.attrs["skipped"]) == 6
    assert "no file" in found.attrs["skipped"][f"{root / 'train.csv'} row 5"]
    with pytest.raises(
        FileNotFoundError, match="must be a csv or contain one of train.csv, val.csv, test_gt.csv"
    ):
        fmow_sentinel(root / "train")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        fmow_sentinel(root / "absent.csv")
