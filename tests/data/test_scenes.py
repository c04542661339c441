import numpy as np
import pandas as pd
import pytest

import geossl
from geossl import geo
from geossl.data import scenes
from geossl.data.table_files import from_geo, read_table, to_geo, write


def table(**columns):
    return pd.DataFrame(
        {"location": ["a", "a", "b"], "lon": [10.0, 10.0, -170.0], "lat": [50.0, 50.0, -3.0]}
        | columns
    )


def test_a_bare_table_gets_the_known_columns():
    found = scenes.check(table(lon=["10", "10", "-170"], more=[1, 2, 3]))
    assert list(found.columns) == [*scenes.COLUMNS, "more"]
    assert found["lon"].dtype == found["lat"].dtype == "float64"
    assert str(found["time"].dtype) == "datetime64[us, UTC]" and found["time"].isna().all()


def test_the_given_table_is_left_alone():
    given = table(time=["2020", "2021", None])
    before = given.copy()
    scenes.check(given)
    pd.testing.assert_frame_equal(given, before)


BAD = {
    "swapped": ({"lon": [1.0, 1.0, 2.0], "lat": [50.0, 50.0, 120.0]}, "1 of 3 .*swapped.*row 2"),
    "range": ({"lon": [10.0, 10.0, -190.0]}, "out of range"),
    "beyond": ({"lon": [10.0, 10.0, 9999.0]}, "out of range"),
    "0..360": ({"lon": [10.0, 10.0, 190.0]}, r"0..360 .use `normalize_lon=True`"),
    "sentinel": ({"lat": [50.0, 50.0, -1000.0]}, "sentinel"),
    "nan": ({"lon": [10.0, np.nan, 0.0]}, "missing coordinate in 'lon'. The first is row 1"),
    "words": ({"lat": ["50", "50", "north"]}, "no number.*north"),
    "place": ({"location": ["a", None, "b"]}, "a missing location"),
    "date": ({"time": ["2020-01-01", "2020-13-01", "?"]}, "2 of 3 times do not parse.*2020-13-01"),
    "seconds": ({"time": [1.6e9, 1.6e9, 1.7e9]}, "Convert them first"),
    "scattered": ({"lon": [10.0, 13.0, 0.0]}, "Give each location its own name"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_rows_are_counted_and_the_first_is_named(kind):
    columns, words = BAD[kind]
    with pytest.raises(ValueError, match=words) as caught:
        scenes.check(table(**columns), source="my.csv")
    assert "my.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_columns_and_empty_tables():
    with pytest.raises(ValueError, match="lat is missing"):
        scenes.check(table().drop(columns="lat"))
    with pytest.raises(ValueError, match="needs at least one row"):
        scenes.check(table().iloc[:0])


def test_longitudes_of_0_to_360_on_request():
    found = scenes.check(table(lon=[10.0, 10.0, 190.0]), normalize_lon=True)
    assert found["lon"].tolist() == [10, 10, -170]
    with pytest.raises(ValueError, match="out of range"):
        scenes.check(table(lon=[10.0, 10.0, 9999.0]), normalize_lon=True)


@pytest.mark.parametrize(
    "times",
    [["2020-06-30", "2020-06-30T12:00:00Z", ""], ["2020-06-30T14:00:00+02:00", "2020", None],
     [20200630, 20210630, 20220101], [2020, 2021, np.nan]],
)  # fmt: skip
def test_times_are_utc(times):
    found = scenes.check(table(time=times))["time"]
    for value, given in zip(found, times, strict=True):
        if given is None or given == "" or given != given:
            assert pd.isna(value)
        else:
            text = str(given).removesuffix(".0")
            want = pd.Timestamp(text)
            assert value == (want.tz_localize("UTC") if want.tzinfo is None else want)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".geoparquet"])
def test_written_and_read_again(tmp_path, suffix):
    full = scenes.check(
        table(
            location=["0001", "0001", "1"], label=["NA", "NA", "FR"],
            time=["2020-06-30T10:15:00.25Z", "2021-01-01", None], path=["a b.tif", "c,d", '"e"'],
            split=["train", "train", "test"], cloud=[0.5, 0.25, np.nan],
        )
    )  # fmt: skip
    path = tmp_path / f"scenes{suffix}"
    write(full, path)
    found = scenes.read(path)[full.columns]
    pd.testing.assert_frame_equal(found, full, check_dtype=False)
    assert list(tmp_path.iterdir()) == [path]


def test_columns_of_other_names(tmp_path):
    path = tmp_path / "t.csv"
    table().rename(columns={"lon": "longitude"}).to_csv(path, index=False)
    assert scenes.read(path, columns={"longitude": "lon"})["lon"].tolist() == [10, 10, -170]
    with pytest.raises(ValueError, match="lon is missing"):
        scenes.read(path)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(FileNotFoundError, match="There is no scene table"):
        scenes.read(tmp_path / "none.csv")
    for name in ("broken.parquet", "empty.csv"):
        with pytest.raises(ValueError, match="cannot be read"):
            scenes.read(tmp_path / name)
    with pytest.raises(ValueError, match="`suffix of path` must be one of"):
        scenes.read(tmp_path / "t.xlsx")


def test_a_geodataframe_in_another_crs():
    geopandas = pytest.importorskip("geopandas")
    frame = to_geo(table())
    assert frame.crs.to_epsg() == 4326
    back = scenes.check(from_geo(frame.to_crs(3857)))
    np.testing.assert_allclose(back[["lon", "lat"]], table()[["lon", "lat"]], atol=1e-9)
    with pytest.raises(ValueError, match="`frame` must be a GeoDataFrame with a CRS"):
        from_geo(geopandas.GeoDataFrame(table(), geometry=frame.geometry.set_crs(None, allow_override=True)))  # fmt: skip  # noqa: E501


def world(places, dates=3, seed=0):
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, places), np.degrees(np.arcsin(rng.uniform(-1, 1, places)))
    location = np.repeat(np.arange(places), dates)
    return pd.DataFrame({"location": location, "lon": lon[location], "lat": lat[location]})


def test_a_split_keeps_blocks_and_places_together_and_meets_the_shares():
    given = world(4000)
    split = scenes.split_by_blocks(given, seed=3)
    blocks = geo.block_ids(given["lon"], given["lat"], block_deg=10)
    assert (pd.DataFrame({"b": blocks, "s": split}).groupby("b")["s"].nunique() == 1).all()
    shares = split.value_counts(normalize=True)
    for name, share in {"train": 0.6, "val": 0.15, "test": 0.25}.items():
        assert shares[name] == pytest.approx(share, abs=0.02)
    assert split.equals(scenes.split_by_blocks(given, seed=3))
    assert not split.equals(scenes.split_by_blocks(given, seed=4))


def test_a_split_needs_a_block_each():
    with pytest.raises(ValueError, match="need one each. Use more locations"):
        scenes.split_by_blocks(table(), block_deg=10)
    for extent in (0.003, 0.2, 1.5):  # 300 m to 150 km
        rng = np.random.default_rng(0)
        lon, lat = np.array([[7.0], [46.0]]) + rng.uniform(0, extent, (2, 60))
        area = pd.DataFrame({"location": range(60), "lon": lon, "lat": lat})
        with pytest.raises(ValueError, match=r"Use block_deg=[\de.-]+\.$") as refusal:
            scenes.split_by_blocks(area)
        block_deg = float(str(refusal.value).rpartition("=")[2].rstrip("."))
        assert extent / 30 < block_deg < extent
        assert set(scenes.split_by_blocks(area, block_deg=block_deg)) == {"train", "val", "test"}
    three = scenes.split_by_blocks(world(3, seed=1), block_deg=1)
    assert set(three) == {"train", "val", "test"}
    with pytest.raises(ValueError, match="`shares.*test.*` must be > 0"):
        scenes.split_by_blocks(world(9), shares={"train": 1, "test": 0})


def test_tables_without_a_column_that_is_needed_are_refused():
    with pytest.raises(ValueError, match="`scenes` needs the columns location; location is miss"):
        scenes.location_codes(table().drop(columns="location"))
    with pytest.raises(ValueError, match="needs the columns lon, lat; lon is missing among"):
        scenes.require_positions(table().drop(columns="lon"), "a test")


def test_codes():
    assert scenes.location_codes(table(location=["z", "a", "z"])).tolist() == [0, 1, 0]
    codes, names = scenes.label_codes(pd.Series(["z", None, "a", "z"]))
    assert codes.tolist() == [1, -1, 0, 1] and names == ["a", "z"]


def test_tables_without_positions_are_let_through_only_when_asked(tmp_path):
    bare = pd.DataFrame({"location": ["a", "a", "b"], "path": ["1", "2", "3"]})
    with pytest.raises(ValueError, match="lon, lat is"):
        scenes.check(bare)
    table = scenes.check(bare, positions=False)
    assert table["lon"].isna().all() and table["lat"].dtype == "float64"
    half = table.assign(lon=[1.0, np.nan, 2.0], lat=[1.0, np.nan, np.nan])
    with pytest.raises(ValueError, match="a missing coordinate in 'lat'. The first is row 2"):
        scenes.check(half, positions=False)
    write(table, tmp_path / "bare.csv")
    with pytest.raises(ValueError, match="missing coordinate"):
        scenes.read(tmp_path / "bare.csv")
    again = scenes.read(tmp_path / "bare.csv", positions=False)
    assert again["location"].tolist() == ["a", "a", "b"] and again["lon"].isna().all()
    for needs in (
        lambda: scenes.split_by_blocks(table),
        lambda: geossl.GeoClusters.fit(table, k=1),
        lambda: geossl.pairs.spatial(radius_km=1).prepare(table),
    ):
        with pytest.raises(ValueError, match="3 of 3 rows have none"):
            needs()


def test_a_csv_of_a_million_columns_is_refused_at_once(tmp_path):
    (tmp_path / "wide.csv").write_text(",".join(f"c{i}" for i in range(300_000)))
    with pytest.raises(ValueError, match="first line has more than"):
        read_table(tmp_path / "wide.csv")


@pytest.mark.parametrize("name", ["location", "label", "split"])
def test_lists_in_place_of_words_are_refused(name):
    with pytest.raises(ValueError, match=f"`scenes` has lists in the column '{name}'"):
        scenes.check(table(**{name: [["a"], ["b"], ["c"]]}))


def test_an_infinite_coordinate_is_named_by_its_own_column():
    with pytest.raises(ValueError, match="1 of 3 rows have an infinite number in 'lat'.* row 1"):
        scenes.check(table(lat=[0, np.inf, 2]))


def test_a_missing_latitude_is_named_by_its_own_column():
    with pytest.raises(ValueError, match="a missing coordinate in 'lat'.*row 1"):
        scenes.check(table(lat=[0, np.nan, 2]))
    with pytest.raises(ValueError, match="a missing coordinate in 'lat'.*row 2"):
        scenes.check(table(lat=[0, 0, np.nan]), positions=False)


def test_coordinates_in_meters_are_said_to_be():
    with pytest.raises(ValueError, match="degrees; convert those in meters. in 'lat'"):
        scenes.check(table(lon=[5e5] * 3, lat=[5e6] * 3))
    with pytest.raises(
        ValueError, match="no number in 'lat'.* Write decimal degrees, such as -48.8566"
    ):
        scenes.check(table(lat=["48 51 24 N"] * 3))


def test_shapes_in_meters_that_say_degrees_are_no_missing_places():
    geopandas = pytest.importorskip("geopandas")
    shapes = geopandas.points_from_xy([440_000, 441_000], [5_410_000, 5_411_000])
    frame = geopandas.GeoDataFrame({"location": ["a", "b"]}, geometry=shapes, crs=4326)
    with pytest.raises(ValueError, match="coordinates of 5,410,000 and more, which are no degrees"):
        from_geo(frame)
    found = from_geo(frame.set_crs(32631, allow_override=True))
    assert found["lat"].between(48.8, 48.9).all()
