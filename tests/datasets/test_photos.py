import logging
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rasters import noise, tif

from geossl.datasets import open_scenes
from geossl.datasets.photos import _degrees, photos
from geossl.datasets.raster import chips as images


def photo(path, position=None, taken=None, offset=None, refs=("N", "E")):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if position is not None:
        exif[0x8825] = {1: refs[0], 2: position[0], 3: refs[1], 4: position[1]}
    exif[0x8769] = {k: v for k, v in ((0x9003, taken), (0x9011, offset)) if v}
    Image.new("RGB", (16, 12)).save(path, exif=exif)


def test_photos_lie_where_their_exif_says(tmp_path):
    photo(tmp_path / "a.jpg", ((48, 30, 0), (2, 15, 36)), "2020:06:30 23:15:00", "+02:00")
    photo(tmp_path / "in" / "ö.jpg", ((33, 0, 0), (70, 40, 30)), "2020:06:30 10:00:00", None, "SW")
    photo(tmp_path / "c.png", ((48, 30, 0.01), (2, 15, 36)), "0000:00:00 00:00:00")
    photo(tmp_path / "no.jpg")
    photo(tmp_path / "zero.jpg", ((0, 0, 0), (0, 0, 0)))
    photo(tmp_path / "far.jpg", ((95, 0, 0), (2, 0, 0)))
    photo(tmp_path / "half.jpg", ((5, 0, 0), (2, 0, 0)), refs=("N", ""))
    found = photos(tmp_path)
    assert [Path(p).name for p in found["path"]] == ["a.jpg", "c.png", "ö.jpg"]
    np.testing.assert_allclose(found["lon"], [2.26, 2.26, -70.675])
    np.testing.assert_allclose(found["lat"], [48.5, 48.5, -33], atol=1e-5)
    assert found["time"].dt.strftime("%d %H:%M").tolist()[::2] == ["30 21:15", "30 10:00"]
    assert pd.isna(found["time"][1])
    assert found["location"].tolist() == ["48.5000,2.2600"] * 2 + ["-33.0000,-70.6750"]
    assert photos(tmp_path, decimals=7)["location"].nunique() == 3
    reasons = {Path(p).name: why for p, why in found.attrs["skipped"].items()}
    assert set(reasons) == {"no.jpg", "zero.jpg", "far.jpg", "half.jpg"}
    assert "no GPS" in reasons["no.jpg"] and "not on the globe" in reasons["zero.jpg"]
    assert not images.read_chips(found, size_px=4).bad


GPS = {1: "S", 2: (36.0, 48.0, 14.0), 3: "E", 4: (174.0, 43.0, 35.0)}
SOUTH_EAST = (174 + 43 / 60 + 35 / 3600, -36 - 48 / 60 - 14 / 3600)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({}, SOUTH_EAST),
        ({1: b"S\0", 3: "e"}, SOUTH_EAST),
        ({2: (36.0, 48.2), 4: (174.0, 43.6)}, (174 + 43.6 / 60, -36 - 48.2 / 60)),
        ({2: (36.0, 47.0, 60.0), 4: (174.0, 60.0, 0.0)}, (175, -36 - 48 / 60)),  # rounded up
        ({2: (36.5,), 4: (174.5,)}, (174.5, -36.5)),
        ({1: None}, "without N or S"),
        ({3: None}, "without E or W"),
        ({1: "E"}, "without N or S"),
        ({2: (36.0, 75.0, 14.0)}, "no GPS position in its EXIF but"),
        ({2: None}, "has no GPS position in its EXIF"),
    ],
)
def test_a_photo_lies_on_its_own_side_of_the_globe_or_nowhere(tmp_path, change, place):
    exif = Image.Exif()
    exif[0x8825] = {key: value for key, value in (GPS | change).items() if value is not None}
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    if isinstance(place, str):
        with pytest.raises(ValueError, match=f"None of the 1 photos.*{place}"):
            photos(tmp_path)
        photo(tmp_path / "b.jpg", ((48, 30, 0), (2, 15, 36)))
        found = photos(tmp_path)  # left out, and said
        assert len(found) == 1 and place in found.attrs["skipped"][str(tmp_path / "a.jpg")]
    else:
        np.testing.assert_allclose(
            photos(tmp_path)[["lon", "lat"]].to_numpy()[0], place, rtol=1e-12
        )


def test_numbers_in_exif_that_are_none(tmp_path):
    exif = Image.Exif()
    exif[0x8825] = GPS | {5: b"\xff", 6: 77.0}  # the altitude
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    file = (tmp_path / "a.jpg").read_bytes()
    for value, place in ((77, SOUTH_EAST), (14, None)):
        before = next(struct.pack(f"{order}2L", value, 1) for order in "<>"
                      if struct.pack(f"{order}2L", value, 1) in file)  # fmt: skip
        (tmp_path / "a.jpg").write_bytes(file.replace(before, bytes(8)))  # 0/0
        if place:
            found = photos(tmp_path)[["lon", "lat"]].to_numpy()[0]
            np.testing.assert_allclose(found, place, rtol=1e-12)
        else:
            with pytest.raises(ValueError, match="no GPS position in its EXIF but"):
                photos(tmp_path)


def test_a_sign_must_say_what_the_side_says():
    assert _degrees({1: "S", 2: (-36, 30, 0)}, 2, 1, "NS") == -36.5
    for side in ("N", "E"):
        with pytest.raises(ValueError, match="GPS position"):
            _degrees({1: side, 2: (-36, 30, 0)}, 2, 1, "NS")


def test_photos_of_one_place_are_grouped_by_distance_and_not_by_rounding(tmp_path):
    for name, seconds in (("a", 17.99), ("b", 18.01), ("c", 20.0)):  # 0.6 m apart, then 61 m
        photo(tmp_path / f"{name}.jpg", ((48, 30, seconds), (2, 15, 36)))
    photo(tmp_path / "d.jpg", ((48, 30, 18.19), (2, 15, 36)))  # 6 m from a: rounds to another name
    found = photos(tmp_path)
    assert found["location"].tolist() == ["48.5050,2.2600"] * 2 + [
        "48.5056,2.2600",
        "48.5050,2.2600",
    ]
    assert photos(tmp_path, decimals=6)["location"].nunique() == 4


def test_photos_that_are_damaged(tmp_path):
    photo(tmp_path / "a.jpg", ((48, 30, 0), (2, 15, 36)))
    whole = (tmp_path / "a.jpg").read_bytes()
    start = whole.index(b"Exif")
    hostile = {"zero.jpg": b"", "text.jpg": b"not a photo", "cut.jpg": whole[: start + 20]}
    for name, data in hostile.items():
        (tmp_path / name).write_bytes(data)
    rng = np.random.default_rng(0)
    for i in range(60):  # damaged tags must not crash it either
        data = bytearray(whole)
        for at in rng.integers(start, start + 160, 6):
            data[at] = rng.integers(256)
        (tmp_path / f"fuzz{i}.jpg").write_bytes(data)
    with pytest.raises(ValueError, match="cannot be opened"):
        photos(tmp_path)
    found = photos(tmp_path, skip_bad=True)
    assert str(tmp_path / "a.jpg") in found["path"].tolist()
    assert {"zero.jpg", "text.jpg"} <= {Path(p).name for p in found.attrs["skipped"]}
    for name in tmp_path.glob("[af]*.jpg"):
        name.unlink()
    with pytest.raises(ValueError, match="None of the 3 photos with a GPS position"):
        photos(tmp_path, skip_bad=True)
    with pytest.raises(FileNotFoundError, match="There are no photos"):
        (tmp_path / "empty").mkdir()
        photos(tmp_path / "empty")
    with pytest.raises(ValueError, match="decimals"):
        photos(tmp_path, decimals=0)


TAKEN = "2019:06:05 10:30:00"
TIMES = {  # tags of the photo's directory, tags of its GPS -> time, and where it is from
    "offset": ({0x9003: TAKEN, 0x9011: "+02:00"}, {}, "08:30", "EXIF DateTimeOriginal"),
    "short offset": ({0x9003: TAKEN, 0x9011: "-0330"}, {}, "14:00", "EXIF DateTimeOriginal"),
    "local": ({0x9003: TAKEN}, {}, "10:30", "EXIF DateTimeOriginal, local time"),
    "digitized": ({0x9004: TAKEN, 0x9012: "Z"}, {}, "10:30", "EXIF DateTimeDigitized"),
    "no date": ({0x9003: "0000:00:00 00:00:00", 0x9004: TAKEN}, {}, "10:30", "EXIF DateTimeDigit"),
    "GPS": ({}, {7: (8.0, 30.0, 5.5), 29: "2019:06:05"}, "08:30", "EXIF GPSDateStamp"),
    "damaged": ({0x9003: "soon"}, {7: (8.0,), 29: 3}, "23:15", "year-month-day in the name"),
}  # fmt: skip


@pytest.mark.parametrize("name", TIMES)
def test_times_of_photos(tmp_path, name):
    tags, gps, clock, rule = TIMES[name]
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (48, 30, 0), 3: "E", 4: (2, 15, 36), **gps}
    exif[0x8769] = tags
    Image.new("RGB", (16, 12)).save(tmp_path / "IMG_20190605_231500.jpg", exif=exif)
    found = photos(tmp_path).iloc[0]
    assert found["time"].strftime("%Y-%m-%d %H:%M") == f"2019-06-05 {clock}"
    assert found["date_rule"].startswith(rule)


def test_files_of_many_bands_are_no_photos_and_do_not_flood_the_log(tmp_path, caplog):
    for i in range(3):
        tif(tmp_path / f"{i}.tif", noise(12), left=10.0 + i, top=5.0)
    assert len(open_scenes(tmp_path)) >= 3
    with pytest.raises(ValueError, match="GPS position|can be used|cannot be opened"):
        photos(tmp_path)
    assert caplog.text == ""
    logging.getLogger("PIL.TiffImagePlugin").error("More samples per pixel than can be decoded: 12")
    assert "More samples" in caplog.text  # others still hear it
