import time

import numpy as np
import pandas as pd
import pytest

from geossl.data.dates import AmbiguousDate, parse, read_names, to_utc

NOW = pd.Timestamp("2026-11-29", tz="UTC")
SAFE = "S2A_MSIL1C_20190605T105031_N0207_R051_T31UDQ_20190605T124509"
NAMES = {  # name -> date, and time of day where there is one
    "ndvi_2019-01.tif": "2019-01-01", "ndvi_201901.tif": "2019-01-01", "06-2019.tif": "2019-06-01",
    "20190605.tif": "2019-06-05", "2019_06_05.tif": "2019-06-05", "2019.06.05.tif": "2019-06-05",
    "x_2019-6-5.tif": "2019-06-05", "IMG20190605.tif": "2019-06-05",
    "date2019-06-05.tif": "2019-06-05",
    "s_25-06-2019.tif": "2019-06-25", "s_06.25.2019.tif": "2019-06-25",
    "25062019.tif": "2019-06-25",
    "05Jun2019.tif": "2019-06-05", "5-june-2019.tif": "2019-06-05", "JUN_05_2019.tif": "2019-06-05",
    "2019-Sept-05.tif": "2019-09-05", "June_2019.tif": "2019-06-01", "2019_dec.tif": "2019-12-01",
    "x_2019_Q2.tif": "2019-04-01", "2019Q4.tif": "2019-10-01", "3Q2019.tif": "2019-07-01",
    "2019-W23.tif": "2019-06-03", "2019W23.tif": "2019-06-03", "x_2020-W53.tif": "2020-12-28",
    "2019156.tif": "2019-06-05", "M.A2019156.tif": "2019-06-05", "x_2019-156.tif": "2019-06-05",
    "2020-366.tif": "2020-12-31", "MOD09GA.A2019156.h18v04.006.2019158025523.tif": "2019-06-05",
    "LC81990262019156LGN00.tif": "2019-06-05",
    "HLS.L30.T31UDQ.2019156T103021.tif": "2019-06-05 10:30:21",
    "LC08_L1TP_199026_20190605_20190620_01_T1.tif": "2019-06-05",
    "m_2009055_ne_15_1_20140805_20141001.tif": "2014-08-05",
    "IMG_20190605105031.tif": "2019-06-05 10:50:31", "201906051050.tif": "2019-06-05 10:50:00",
    "PXL_20190605_105031123.jpg": "2019-06-05 10:50:31.123000",
    "2019-06-05 10.50.31.tif": "2019-06-05 10:50:31", "img_20190605_2359.tif": "2019-06-05",
    f"{SAFE}.tif": "2019-06-05 10:50:31",
    "S1A_IW_GRDH_1SDV_20190605T054102_20190605T054127_027541.tif": "2019-06-05 05:41:02",
    "S2A_OPER_PRD_MSIL1C_PDMC_20160606T232310_R121_V20160605T092032.tif": "2016-06-05 09:20:32",
    "AST_L1T_00306052019105031_20190606120101_1234.tif": "2019-06-05 10:50:31",
    "19JUN05105031-M2AS-012345678010_01_P001.tif": "2019-06-05 10:50:31",
    "OR_ABI-L1b-RadC-M6C01_G16_s20191561801238_e20191561803611.nc": "2019-06-05 18:01:23",
    f"{SAFE}.SAFE/GRANULE/L1C_T31UDQ_A020634_20190606T105416/B02.jp2": "2019-06-06 10:54:16",
    f"{SAFE}.SAFE/GRANULE/IMG_DATA/B02.jp2": "2019-06-05 10:50:31",
    "2019-06-05/scene.tif": "2019-06-05", "2019/06/05/scene.tif": "2019-06-05",
    "2019/06/scene.tif": "2019-06-01", "2019/0605.tif": "2019-06-05",
    "2019/156/x.tif": "2019-06-05",
    "2019/June/x.tif": "2019-06-01", "2019/scene.tif": "2019-01-01",
    "2018/2019-06.tif": "2019-06-01",
    "2019-06/ndvi_2019.tif": "2019-06-01", "2019-06-05/s_05-06-2019.tif": "2019-06-05",
    "tile_2048_2015.tif": "2015-01-01", "N2050_E1900_2018.tif": "2018-01-01",
    "x1999y_2011.tif": "2011-01-01", "aerial_1938.tif": "1938-01-01",
    "2015_x_2015.tif": "2015-01-01",
    "2014_Marseille.tif": "2014-01-01", "EPSG32631_2019.tif": "2019-01-01",
    "row2000_col1950.tif": None, "scene_2030.tif": None, "scene_1899.tif": None,
    "r2010_10_12.tif": None,
    "20191340.tif": None, "2024-02-30.tif": None, "30-02-2024.tif": None, "x.tif": None,
    "NDVI2015.tif": None, "20301231.tif": None, "2026-12-01.tif": None,
}  # fmt: skip


def show(date):
    return date and str(date.time.tz_localize(None)).removesuffix(" 00:00:00")


@pytest.mark.parametrize("name", NAMES)
def test_dates_in_names(name):
    assert show(read_names([name], now=NOW)[0]) == NAMES[name]


@pytest.mark.parametrize(
    ("names", "dates"),
    [
        (["s_05-06-2019.tif", "s_25-07-2019.tif"], ["2019-06-05", "2019-07-25"]),
        (["s_05-06-2019.tif", "s_07-25-2019.tif"], ["2019-05-06", "2019-07-25"]),
        (["s_05-05-2019.tif", "s.tif"], ["2019-05-05", ""]),
        (["200601.tif", "201301.tif"], ["2006-01-01", "2013-01-01"]),
        (["05Jun19.tif", "05Jun31.tif"], ["2019-06-05", None]),
        # numbers of tiles or frames, which one name shows
        (["x_2019_06.tif", "x_2019_13.tif"], ["2019-01-01", "2019-01-01"]),
        (["x_2019_001.tif", "x_2019_400.tif"], ["2019-01-01", "2019-01-01"]),
        (["x_3_4_2019.tif", "x_3_45_2019.tif"], ["2019-01-01", "2019-01-01"]),
        (["2019/12/34.tif", "2019/77/12.tif"], ["2019-01-01", "2019-01-01"]),
        (["2019156.tif", "20190605.tif"], ["2019-06-05", "2019-06-05"]),
    ],
)
def test_other_names_of_a_set_settle_how_one_is_read(names, dates):
    if dates[1] is None:  # no such day of any month settles nothing
        with pytest.raises(AmbiguousDate):
            read_names(names, now=NOW)
    else:
        assert [show(date) or "" for date in read_names(names, now=NOW)] == dates


AMBIGUOUS = {
    "s_05-06-2019.tif": {'"%d-%m-%Y"': "2019-06-05", '"%m-%d-%Y"': "2019-05-06"},
    "05062019.tif": {'"%d%m%Y"': "2019-06-05", '"%m%d%Y"': "2019-05-06"},
    "in/05.06.2019_10.tif": {'"%d.%m.%Y"': "2019-06-05", '"%m.%d.%Y"': "2019-05-06"},
    "200601.tif": {'"%Y%m"': "2006-01-01", '"%y%m%d"': "2020-06-01"},
    "05Jun19.tif": {'"%d%b%y"': "2019-06-05", '"%y%b%d"': "2005-06-19"},
    "a_2015-2016_b.tif": {r'r"(\d{4})\-\d{4}"': "2015-01-01", r'r"\d{4}\-(\d{4})"': "2016-01-01"},
    "1990_77_2015.tif": {
        r'r"(\d{4})_\d+_\d{4}"': "1990-01-01", r'r"\d{4}_\d+_(\d{4})"': "2015-01-01"},
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_may_be_two_dates_is_refused_and_the_advice_works(name):
    with pytest.raises(AmbiguousDate) as caught:
        read_names([name], now=NOW)
    message = str(caught.value)
    for form, date in AMBIGUOUS[name].items():
        assert f"`date_pattern={form}`" in message and name in message
        assert show(read_names([name], pattern=eval(form))[0]) == date
    assert read_names(["s.tif"], pattern="") == [None]


@pytest.mark.parametrize(
    ("pattern", "name", "date"),
    [
        (r"A(\d{7})", "M.A2019156.tif", "2019-06-05"),
        ("%Y%j", "x_2019156.tif", "2019-06-05"),
        ("A%Y%j", "MOD09GA.A2019156.h18v04.006.2019158025523.hdf", "2019-06-05"),
        ("%d%B%Y", "5June2019.tif", "2019-06-05"),
        ("%Y-%m-%d", "2019-06-05/scene.tif", "2019-06-05"),
        ("%Y/%m/%d", "2019/06/05/x.tif", "2019-06-05"),
        (r"^(\d+)-x/", "20190605-x/b_2020.tif", "2019-06-05"),
        (r"_(\d{4})$", "in/2020_2019.tif", "2019-01-01"),
        ("%Y%m%dT%H%M%S", "a_20190605T105031_b.tif", "2019-06-05 10:50:31"),
        ("%G-W%V", "2019-W23.tif", "2019-06-03"),
        ("%Y%m%d.tif", "20190605.tif", "2019-06-05"),
        ("%y%m%d", "190605.tif", "2019-06-05"),
        ("%Y%m%d", "20301231.tif", "2030-12-31"),
    ],
)
def test_patterns(pattern, name, date):
    assert show(read_names([name], pattern=pattern)[0]) == date


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "must be a regular expression"),
        ("%E%Y", "with %E which is unknown"),
        ("%Y-%Y", "with %Y twice"),
        ("%m", "must have a year"),
        ("%Y%m%d", "finds no date in 'in/aa.tif'"),
        ("%Y", "finds no date"),
        ("(a+)", "catches 'aa', which is not a date, in 'in/aa.tif'"),
    ],
)
def test_patterns_that_read_nothing(pattern, problem):
    with pytest.raises(ValueError, match="`date_pattern`") as caught:
        read_names(["in/aa.tif"], pattern=pattern)
    assert problem in str(caught.value)


def test_a_pattern_that_backtracks_for_ever_is_stopped():
    start = time.process_time()
    with pytest.raises(ValueError, match="`date_pattern` must match a name within 1 s"):
        read_names(["a" * 60 + "!.tif"], pattern=r"^(a|aa)+$")
    assert time.process_time() - start < 10


def test_rules_are_said():
    names = ["a_20190605.tif", "2019-06/b.tif", "2019/06/c.tif", f"{SAFE}.tif", "d.A2019156.tif"]
    assert [date.rule for date in read_names(names, now=NOW)] == [
        "year-month-day in the name",
        "year-month in the name of the folder",
        "year/month in the names of folders",
        "year-month-day (the first of 2) in the name",
        "date in the id of a product in the name",
    ]


TEXTS = {
    "2017:05:04 10:11:12": "2017-05-04 10:11:12", "20190605103031": "2019-06-05 10:30:31",
    "25/06/2019": "2019-06-25", "6/25/2019 1:30 PM": "2019-06-25 13:30:00",
    "25.6.2019": "2019-06-25",
    "5 June 2019": "2019-06-05", "Jun 5, 2019 10:30:00": "2019-06-05 10:30:00",
    "2019": "2019-01-01",
    "2019-06-05T10:30:31.5+02:00": "2019-06-05 08:30:31.500000",
    "2019.06.05 12:00 AM": "2019-06-05",
    "2019-06-05 10:30 UTC": "2019-06-05 10:30:00", "2019-W23": "2019-06-03",
    "2019156": "2019-06-05",
    " 2019/6/5 ": "2019-06-05", "05-Jun-2019": "2019-06-05", "1938-01-01": "1938-01-01",
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_dates_in_columns(text):
    found = to_utc(pd.Series([text, None, ""]))
    assert str(found.dtype) == "datetime64[us, UTC]" and found.isna().tolist() == [
        False,
        True,
        True,
    ]
    assert str(found[0].tz_localize(None)).removesuffix(" 00:00:00") == TEXTS[text]


@pytest.mark.parametrize(
    "text", ["may", "101112", "20201340", "99", "43621", "2019-02-30", "1.6e9"]
)
def test_texts_that_are_no_dates(text):
    assert to_utc(pd.Series([text])).isna().all()


def test_a_column_is_read_in_one_order():
    assert parse(["05/06/2019", "25/06/2019"])["05/06/2019"] == pd.Timestamp("2019-06-05", tz="UTC")
    with pytest.raises(AmbiguousDate, match="`05/06/2019` may be 5 June 2019 or 6 May 2019."):
        to_utc(pd.Series(["05/06/2019", "2019-06-25"]))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (43621, "a day as spreadsheets count them .2019-06-05"),
        (1559730631, "seconds since 1970 .2019-06-05"),
        (1559730631000, "milliseconds since 1970 .2019-06-05"),
        (np.inf, "such as inf"),
    ],
)
def test_numbers_that_may_be_anything_are_named(number, words):
    with pytest.raises(ValueError, match=words):
        to_utc(pd.Series([float(number)]))
    assert to_utc(pd.Series([20190605, None]))[0] == pd.Timestamp("2019-06-05", tz="UTC")


def test_periods_are_their_start():
    months = pd.Series(pd.period_range("2019-06", periods=2, freq="M"))
    assert [str(t)[:10] for t in to_utc(months)] == ["2019-06-01", "2019-07-01"]
