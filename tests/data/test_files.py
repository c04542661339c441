import os

import pandas as pd
import pytest

from geossl.data.columns import find_ambiguous, map_columns
from geossl.data.files import DatasetError, csv_head, read_csv, read_json
from geossl.datasets import open_scenes


def test_columns_that_are_needed_may_be_written_in_any_case(tmp_path):
    (tmp_path / "t.csv").write_text(" PATH ; Time\na;1\n")
    assert list(read_csv(tmp_path / "t.csv", needed=["path", "time"])) == ["path", "time"]
    with pytest.raises(DatasetError, match="needs the columns path, lon; lon is missing among"):
        read_csv(tmp_path / "t.csv", needed=["path", "lon"])


def test_values_keep_what_they_are(tmp_path):
    (tmp_path / "t.csv").write_text(
        'a,b,c,d,e,f\n007,NA,"1,5",True,1.5,\n010,x,"2,5",,2,\n', "utf-8"
    )
    found = read_csv(tmp_path / "t.csv", text=["a", "b"])
    assert found["a"].tolist() == ["007", "010"] and found["b"].tolist() == ["NA", "x"]
    assert found["c"].tolist() == [1.5, 2.5] and found["e"].tolist() == [1.5, 2.0]
    assert found["d"].tolist()[0] is True and pd.isna(found["d"][1]) and found["f"].isna().all()
    text = read_csv(tmp_path / "t.csv")  # lists such as "1,5" stay where all is text
    assert text["c"].tolist() == ["1,5", "2,5"] and text["e"].tolist() == ["1.5", "2"]


def test_an_index_that_pandas_wrote_and_names_that_repeat(tmp_path):
    pd.DataFrame({"a": [1, 2], "b": [3, 4]}).to_csv(tmp_path / "t.csv")
    assert list(read_csv(tmp_path / "t.csv")) == ["a", "b"] == csv_head(tmp_path / "t.csv")[0]
    (tmp_path / "t.csv").write_text("a,a,,b\n1,2,,3\n")
    assert list(read_csv(tmp_path / "t.csv")) == ["a", "a.1", "b"]


def test_one_column_keeps_its_empty_rows(tmp_path):
    (tmp_path / "t.csv").write_text('a\n1\n""\n2\n')
    assert len(read_csv(tmp_path / "t.csv")) == 3


@pytest.mark.parametrize("read", [read_csv, read_json, csv_head, open_scenes])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    for name in ("t.csv", "t.json"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(
            ValueError, match="is a named pipe.*Copy its content|a pipe or a device"
        ):
            read(tmp_path / name)
    with pytest.raises(ValueError, match="has no known layout"):
        open_scenes(tmp_path)


def test_columns_are_guessed_and_doubts_are_named():
    names = [
        "Scene ID",
        "LAT_DD",
        "Long (deg)",
        "Image File",
        "Acquisition-Date",
        "Class",
        "x",
        "y",
    ]
    assert map_columns(names) == {
        "LAT_DD": "lat", "Long (deg)": "lon", "Image File": "path", "Acquisition-Date": "time",
        "Class": "label",
    }  # fmt: skip
    assert find_ambiguous(names) == {}
    assert map_columns(["x", "y"]) == {"x": "lon", "y": "lat"}
    assert set(map_columns(["x", "y", "w", "h"]).values()) >= {"box_left", "box_top"}
    doubtful = ["file", "image", "lat", "latitude", "date", "timestamp"]
    assert find_ambiguous(doubtful) == {"path": ["file", "image"], "time": ["date", "timestamp"]}
    assert find_ambiguous(doubtful, {"file": "path", "date": "time"}) == {}
    assert find_ambiguous(doubtful, {"file": None, "date": None}) == {}
