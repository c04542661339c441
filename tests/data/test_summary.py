import json

import numpy as np
import pandas as pd
import pytest

from geossl import datasets, geo
from geossl.data import scenes
from geossl.data.summary import describe


def table():
    return pd.DataFrame({
        "path": ["a0", "a1", "a2", "b0", "c0", "c1"],
        "location": ["a", "a", "a", "b", "c", "c"],
        "time": ["2020-01-01", "2020-01-11", "2020-02-10", "2021-05-05", "2019-03-01", None],
        "lon": [10.0, 10.0, 10.0, 179.0, -179.0, -179.0],
        "lat": [50.0, 50.0, 50.0, 65.0, 66.0, 66.0],
        "label": ["x", "x", "y", "x", None, "y"],
        "split": ["train"] * 3 + ["test"] * 3,
    })  # fmt: skip


def test_what_is_in_a_table_is_counted():
    found = describe(table())
    assert (found.rows, found.locations, found.dated) == (6, 3, 5)
    assert (found.first, found.last) == ("2019-03-01", "2021-05-05")
    assert found.dates_per_location == (1, 1.0, 3)
    assert found.single_date_share == pytest.approx(2 / 3)
    assert found.gap_days == (10.0, 20.0, 30.0)
    assert found.extent == (10.0, 50.0, -179.0, 66.0)  # over the antimeridian
    assert found.classes == {"x": 3, "y": 2} and found.splits == {"train": 3, "test": 3}
    assert found.missing == {"time": 1, "label": 1} and found.warnings == []
    assert json.loads(json.dumps(found.to_dict()))["rows"] == 6


def test_dates_and_gaps_agree_with_a_loop():
    rng = np.random.default_rng(0)
    n = 400
    place = rng.integers(0, 60, n)
    days = rng.integers(0, 30, n)
    given = pd.DataFrame(
        {"location": place, "time": pd.Timestamp("2020") + pd.to_timedelta(days, "D")}
    )
    found = describe(given)
    per, gaps = [], []
    for p in np.unique(place):
        own = sorted(set(days[place == p].tolist()))
        per.append(len(own))
        gaps += [b - a for a, b in zip(own, own[1:], strict=False)]
    assert found.dates_per_location == (min(per), float(np.median(per)), max(per))
    assert found.gap_days == (min(gaps), float(np.median(gaps)), max(gaps))
    repeats = n - sum(per)
    assert found.warnings == [f"{repeats} rows repeat the location and time of another row"]


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("lon", [10, 10, 10, 350, -179, -179], "1 rows have a longitude of 180 to 360"),
        ("lon", [-1000, 10, 10, 179, -179, -179], "1 rows have a sentinel"),
        ("lon", [700, 10, 10, 179, -179, -179], "1 rows have coordinates out of range"),
        ("lat", [50, 50, 50, 65, 66, 70], "1 rows lie over 1 degree from the first row"),
        ("time", ["2020-01-01", "soon", None, "2021", "2019", None], "1 times do not parse"),
        ("path", ["a0", "a0", "a2", "b0", "c0", "c1"], "1 rows repeat the path"),
        ("split", ["train", "test", None, "test", "test", "test"], "1 locations are in two splits"),
    ],
)  # fmt: skip
def test_what_looks_wrong_is_said(column, values, words):
    found = describe(table().assign(**{column: values}))
    assert any(text.startswith(words) for text in found.warnings), found.warnings


def test_a_table_with_a_latitude_beyond_the_pole_is_swapped():
    swapped = table().assign(lon=[50.0] * 6, lat=[120.0] * 6)
    assert any("are swapped" in text for text in describe(swapped).warnings)


def test_swapped_coordinates_are_suspected_from_the_land():
    world = datasets.blue_marble(places=300, dates=1)
    able = world[world["lon"].abs() < 90].reset_index(drop=True)
    assert describe(able).warnings == []
    exchanged = able.assign(lon=able["lat"], lat=able["lon"])
    assert any("are they swapped?" in text for text in describe(exchanged).warnings)


def test_bare_tables_and_words_in_a_notebook():
    found = describe(pd.DataFrame({"location": [1, 2]}))
    assert found.first is None and found.gap_days is None and found.extent is None
    assert found.single_date_share == 1.0 and "dates  " in str(found)
    odd = describe(table().assign(label="<b>" + table()["label"].fillna("z")))
    assert "<b>" not in odd._repr_html_() and "&lt;b&gt;x 3" in odd._repr_html_()
    many = describe(
        pd.DataFrame({"location": range(40), "label": [f"class {i}" for i in range(40)]})
    )
    assert "28 more with 28" in str(many)
    for bad in (pd.DataFrame({"path": ["x"]}), pd.DataFrame({"location": []})):
        with pytest.raises(ValueError, match="a column 'location'"):
            describe(bad)


def test_extent_is_that_of_the_positions_in_range():
    given = datasets.blue_marble(places=50, dates=2)
    found = describe(given)
    assert found.extent == geo.bounds(given["lon"], given["lat"]) and found.locations == 50
    assert scenes.check(given)["location"].nunique() == found.locations


def test_many_chips_of_one_file_are_no_repeats():
    grid = table().assign(path="one.tif", left=range(6), top=0.0, scale_low=np.nan)
    found = describe(grid)
    assert found.warnings == [] and "scale_low" not in found.missing
    assert any("repeat the path" in w for w in describe(grid.assign(left=0.0)).warnings)
