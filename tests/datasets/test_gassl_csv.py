import numpy as np
import pandas as pd
import pytest
from fmow_folders import about, listing, scene
from PIL import Image

from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.datasets.fmow import fmow
from geossl.datasets.gassl_csv import gassl_csv, write_gassl_csv
from geossl.datasets.satmae_csv import satmae_csv

PLACES = ["train/zoo/zoo_1", "train/zoo/zoo_1", "train/zoo/zoo_2", "val/zoo ä/zoo_1"]


@pytest.mark.parametrize("header", [("label", "path"), ("category", "image"), ("Geo_Cluster", "p")])
def test_gassl_csv(tmp_path, header):
    table = gassl_csv(listing(tmp_path, header=header))
    known = "cluster" if "Cluster" in header[0] else "label"
    assert table[known].tolist() == [0, 0, 10, 2] and table[known].dtype == "int64"
    assert table["location"].tolist() == PLACES
    assert table[["lon", "lat", "time"]].isna().all(axis=None)
    assert len(ChipStore.build(tmp_path / "store", table, size_px=4, progress=False)) == 4
    with pytest.raises(ValueError, match="4 of 4 rows have none"):
        GeoClusters.fit(table, k=2)


def test_satmae_csv(tmp_path):
    times = ["2015-07-25T08:45:17Z", "2016-01-01T00:00:00.5Z", "2017-01-01T00:00:00Z", "2015-02-03"]
    path = listing(tmp_path, header=("category", "image_path", "timestamp"), third=times)
    table = satmae_csv(path)
    assert table["time"].dt.year.tolist() == [2015, 2016, 2017, 2015]
    assert table["location"].tolist() == PLACES and table["reader"].unique() == ["satmae_csv"]
    with pytest.raises(
        ValueError, match="needs a header and the columns .label or cluster, path, time., got"
    ):
        satmae_csv(listing(tmp_path))
    path = listing(tmp_path, header=("label", "path", "t"), third=[*times[:3], "noon"])
    with pytest.raises(ValueError, match="row 3: it has the time 'noon'"):
        satmae_csv(path)
    assert len(satmae_csv(path, skip_bad=True)) == 3


def test_the_location_of_a_csv_can_be_told(tmp_path):
    path = listing(tmp_path)
    found = gassl_csv(path, location=r"zoo_\d+")
    assert found["location"].tolist() == ["zoo_1", "zoo_1", "zoo_2", "zoo_1"]
    found = gassl_csv(path, location=r"(train|val)/.*_(\d+)")
    assert found["location"].tolist() == ["train", "train", "train", "val"]
    found = gassl_csv(path, location=lambda name: len(name))
    assert found["location"].nunique() == 3
    assert gassl_csv(path, location=str)["location"].nunique() == 4
    with pytest.raises(
        ValueError, match="row 3: the path 'val.*' contains no location; pass `location`"
    ):
        gassl_csv(path, location=r"train/zoo/\w+")
    assert len(gassl_csv(path, location=r"train/zoo/\w+", skip_bad=True)) == 3
    with pytest.raises(ValueError, match="`location` must be a regular expression, got"):
        gassl_csv(path, location="(")
    (tmp_path / "AnnualCrop").mkdir()
    for i in range(2):  # a class folder is no place
        Image.new("RGB", (8, 8)).save(tmp_path / f"AnnualCrop/AnnualCrop_{i}.jpg")
    flat = tmp_path / "flat.csv"
    flat.write_text("label,path\n0,AnnualCrop/AnnualCrop_0.jpg\n0,AnnualCrop/AnnualCrop_1.jpg\n")
    with pytest.raises(ValueError, match="contains no location; pass `location`"):
        gassl_csv(flat)


def test_paths_of_a_csv_stay_in_its_folder(tmp_path):
    inner = tmp_path / "inner"
    path = listing(inner)
    outside = tmp_path / "train/zoo/zoo_1"
    outside.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(outside / "zoo_1_0_rgb.jpg")
    for name in (
        "../train/zoo/zoo_1/zoo_1_0_rgb.jpg", str(outside / "zoo_1_0_rgb.jpg"), "",
        "../inner_2/zoo_1/zoo_1_0_rgb.jpg", "a\0b",
    ):  # fmt: skip
        path.write_text(f"label,path\n0,train/zoo/zoo_1/zoo_1_0_rgb.jpg\n0,{name}\n")
        with pytest.raises(ValueError, match="row 1: .*pass `root`"):
            gassl_csv(path)
        assert len(gassl_csv(path, skip_bad=True)) == 1
    path.write_text("label,path\n0,train/zoo/zoo_1/zoo_1_99_rgb.jpg\n")
    with pytest.raises(ValueError, match="row 0: there is no file .*zoo_1_99_rgb.jpg; pass `root`"):
        gassl_csv(path)
    path.write_text("0,train/zoo/zoo_1/zoo_1_0_rgb.jpg\n0,train/zoo/zoo_1/zoo_1_12_rgb.jpg\n")
    with pytest.raises(
        ValueError, match="needs a header and the columns .label or cluster, path., got"
    ):
        gassl_csv(path)
    path.write_text(f"label,path\n0,{outside}/zoo_1_0_rgb.jpg\n")
    assert len(gassl_csv(path, root=tmp_path)) == 1
    path.write_text("label,path\n0,/atlas/u/fmow/train/zoo/zoo_1/zoo_1_0_rgb.jpg\n")
    found = gassl_csv(path, root=tmp_path, strip="/atlas/u/fmow/")
    assert found["path"].tolist() == [str(outside / "zoo_1_0_rgb.jpg")]


def test_more_columns_of_a_csv(tmp_path):
    path = listing(tmp_path)
    table = pd.read_csv(path).assign(lon=["10", "10", "-5", "7"], lat=1, split="train", note="NA")
    table.to_csv(path)  # with an index, as happens
    found = gassl_csv(path)
    assert found["lon"].tolist() == [10, 10, -5, 7] and (found["split"] == "train").all()
    assert (found["note"] == "NA").all() and "Unnamed: 0" not in found
    table.assign(lon=["10", "east", "-5", "7"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match="row 1: it has no position"):
        gassl_csv(path)
    assert len(gassl_csv(path, skip_bad=True)) == 3


def test_writing_the_papers_csv(tmp_path):
    scene(tmp_path, "train/zoo/zoo_1/zoo_1_0", about())
    scene(tmp_path, "train/airport/airport_4/airport_4_9", about())
    table = fmow(tmp_path)
    names = write_gassl_csv(table, tmp_path / "labels.csv")
    assert names == ["airport", "zoo"]
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines[0] == "label,path" and lines[2] == f"1,{table['path'][1]}"
    back = gassl_csv(tmp_path / "labels.csv")
    assert back["label"].tolist() == [0, 1] and back["path"].tolist() == table["path"].tolist()
    clusters = GeoClusters(np.array([[10.0, 50.0]]), np.array([2]))
    clusters.to_csv(tmp_path / "clusters.csv", table)
    assert gassl_csv(tmp_path / "clusters.csv")["cluster"].tolist() == [0, 0]
    with pytest.raises(ValueError, match="needs a label, but 1 of 2 have none"):
        write_gassl_csv(table.assign(label=["zoo", None]), tmp_path / "x.csv")
    with pytest.raises(ValueError, match="`label` must be one of .*'path', .*, got 'kind'"):
        write_gassl_csv(table, tmp_path / "x.csv", label="kind")
    assert not (tmp_path / "x.csv").exists()
