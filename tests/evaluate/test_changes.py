"""The places that changed most: against slow loops, and with changes that were planted."""

import warnings

import numpy as np
import pandas as pd
import pytest

from geossl.data.notices import DataWarning
from geossl.embeddings import Embeddings
from geossl.evaluate import changes


def made(rng, places=25, width=8, dates=6, months=None, drop=0.0):
    """Vectors of places with a season that all share, shuffled; some rows are missing."""
    location = np.repeat(np.arange(places), dates)
    month = np.tile(months if months is not None else np.arange(dates) * 2 + 1, places)
    year = np.tile(2015 + np.arange(dates), places)
    day = np.ones(len(location), int) if months is None else rng.integers(1, 28, len(location))
    time = pd.to_datetime(
        [f"{y}-{m:02}-{d:02}" for y, m, d in zip(year, month, day, strict=True)], utc=True
    )
    own = rng.normal(0, 1, (places, width))[location]
    season = 5 * rng.normal(0, 1, (13, width))[month]
    vectors = own + season + 0.1 * rng.normal(0, 1, own.shape)
    table = pd.DataFrame({"location": [f"p{i}" for i in location], "time": time,
                          "lon": location * 1.0, "lat": 0.0})  # fmt: skip
    keep = rng.permutation(len(table))[: round((1 - drop) * len(table))]
    return Embeddings(vectors[keep].astype(np.float32), table.iloc[keep].reset_index(drop=True))


def by_loops(embeddings, season, least):
    """What `changes` says it does, row by row."""
    table, x = embeddings.scenes, embeddings.vectors.astype(np.float64)
    known = [i for i in range(len(table)) if pd.notna(table["time"][i])]

    def group_of(i):
        return table["time"][i] if season == "date" else table["time"][i].month

    def mean_of(rows):
        places = {}
        for i in rows:
            places.setdefault(table["location"][i], []).append(x[i])
        return np.mean([np.mean(own, axis=0) for own in places.values()], axis=0), len(places)

    overall, centered = mean_of(known)[0], {}
    for i in known:
        mean, count = mean_of([j for j in known if group_of(j) == group_of(i)])
        centered[i] = x[i] - (mean if count >= least else overall) if season != "none" else x[i]
    result = {}
    for i in known:
        for j in known:
            if table["location"][i] == table["location"][j] and table["time"][i] < table["time"][j]:
                a, b = centered[i], centered[j]
                far = 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                result[table["location"][i]] = max(
                    result.get(table["location"][i], (-1,)), (far, i, j)
                )
    return result


def check(found, expected):
    assert set(found["location"]) == set(expected) and len(found) == len(expected)
    assert found["change"].is_monotonic_decreasing
    for row in found.itertuples():
        far, i, j = expected[row.location]
        assert row.change == pytest.approx(far, abs=2e-5)
        assert (row.first_row, row.second_row) == (i, j)


@pytest.mark.parametrize("season", ["date", "month", "none"])
def test_changes_are_what_slow_loops_find(season):
    rng = np.random.default_rng(3)
    given = made(rng, months=np.array([1, 1, 4, 7, 7, 10]) if season == "month" else None, drop=0.2)
    given.scenes.loc[[4, 9], "time"] = pd.NaT
    found = changes(given, season=season, min_locations=18)
    check(found, by_loops(given, season, 18))
    assert found.attrs["season"] == season
    times = given.scenes["time"]
    assert (times[found["first_row"]].to_numpy() == found["first_time"]).all()
    assert (found["first_time"] < found["second_time"]).all()


def test_small_blocks_change_nothing(monkeypatch):
    import sys

    given = made(np.random.default_rng(0), drop=0.3)
    whole = changes(given, season="month", min_locations=5)
    monkeypatch.setattr(sys.modules["geossl.evaluate.changes"], "_CELLS", 20)
    pd.testing.assert_frame_equal(whole, changes(given, season="month", min_locations=5), rtol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_places_that_were_changed_come_first_in_spite_of_the_season(shared):
    rng = np.random.default_rng(1)
    given = made(rng, places=60, width=16, months=None if shared else np.arange(1, 13, 2))
    changed = [f"p{i}" for i in (7, 21, 40)]
    late = given.scenes["location"].isin(changed) & (given.scenes["time"] >= "2018")
    given.vectors[late] += 1.5 * rng.normal(0, 1, 16)
    found = changes(given)
    assert found.attrs["season"] == ("date" if shared else "month")
    assert set(found["location"][:3]) == set(changed)
    assert set(changes(given, season="none")["location"][:3]) != set(changed)
    top = found.iloc[0]
    assert top["first_time"].year < 2018 <= top["second_time"].year


def test_what_cannot_be_taken_out_is_said():
    rng = np.random.default_rng(0)
    few = made(rng, places=5)
    with pytest.warns(DataWarning, match="No month has 10 locations"):
        assert changes(few).attrs["season"] == "none"
    with pytest.raises(ValueError, match="needs a month with at least 10 locations"):
        changes(few, season="month")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert changes(few, min_locations=5).attrs["season"] == "date"
    once = few.subset(few.scenes.drop_duplicates("location").index.to_numpy())
    with pytest.raises(ValueError, match="no location with two dates"):
        changes(once)
    with pytest.raises(ValueError, match="`season` must be one of"):
        changes(few, season="week")
    undated = Embeddings(few.vectors, few.scenes.assign(time=pd.NaT))
    with pytest.raises(ValueError, match="0 of 30 rows have a time"):
        changes(undated)


def test_two_tiles_of_one_date_are_no_change():
    days = ["2020-01-01", "2020-01-01", "2021-01-01", "2020-01-01", "2020-01-01"]
    table = pd.DataFrame({"location": list("aaabb"), "lon": 0.0, "lat": 0.0,
                          "time": pd.to_datetime(days, utc=True)})  # fmt: skip
    vectors = np.array([[1, 0], [0, 1], [1, 0.1], [1, 0], [0, 1]], np.float32)
    found = changes(Embeddings(vectors, table), season="none")
    assert found["location"].tolist() == ["a"]
    assert found.loc[0, ["first_row", "second_row"]].tolist() == [1, 2]
