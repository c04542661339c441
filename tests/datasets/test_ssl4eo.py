from pathlib import Path

import numpy as np
import pytest
from tile_folders import DATES, L1C, PLACES, dated, flat, read, seco_folder, ssl4eo_folder, tif

from geossl.data.store import ChipStore
from geossl.datasets.raster.window import pixel_info
from geossl.datasets.seco import seco
from geossl.datasets.ssl4eo import ssl4eo


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
    assert pixel_info(radar)["rgb"] == [0, 1, 0]
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
    assert [store.gather([0])[0, i, 5, 5].item() for i in store.rgb] == [4, 3, 2]
