import numpy as np
import pandas as pd
import pytest
import torch

from geossl import geo, pairs

QUARTER = {12: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 2, 9: 3, 10: 3, 11: 3}


def table(n=60, places=7, seed=0, missing=0.1):
    rng = np.random.default_rng(seed)
    location = rng.integers(0, places, n)
    day = rng.integers(0, 900, n) // 30 * 30  # the same time comes twice
    time = pd.Series(pd.Timestamp("2019-01-01", tz="UTC") + pd.to_timedelta(day, "D"))
    time[rng.random(n) < missing] = pd.NaT
    return pd.DataFrame({
        "location": location, "time": time, "lon": location * 1.0, "lat": 0.0,
    })  # fmt: skip


def allowed_by_hand(rows, i, policy):
    """The chips that may be the key of chip i, by looking at each."""
    keys = set()
    for j, b in enumerate(rows):
        a = rows[i]
        if j == i or a["location"] != b["location"]:
            continue
        known = not (pd.isna(a["time"]) or pd.isna(b["time"]))
        bound = policy.min_gap_days > 0 or policy.max_gap_days is not None or policy.season
        if not known:
            if not bound:
                keys.add(j)
            continue
        gap = abs((a["time"] - b["time"]).days)
        same = QUARTER[a["time"].month] == QUARTER[b["time"].month]
        if gap == 0 or gap < policy.min_gap_days:
            continue
        if policy.max_gap_days is not None and gap > policy.max_gap_days:
            continue
        if policy.season is not None and same != (policy.season == "same"):
            continue
        keys.add(j)
    return keys


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


POLICIES = [
    {},
    {"min_gap_days": 100},
    {"max_gap_days": 200},
    {"min_gap_days": 60, "max_gap_days": 400},
    {"season": "same"},
    {"season": "other", "min_gap_days": 90},
]


@pytest.mark.parametrize("settings", POLICIES)
@pytest.mark.parametrize("single", ["self", "drop"])
def test_temporal_pairs_are_those_found_by_hand_and_uniform(settings, single):
    t = table()
    policy = pairs.temporal(**settings, single_date=single)
    draw = policy.prepare(t)
    rows = t.to_dict("records")
    want = {i: allowed_by_hand(rows, i, policy) for i in range(len(rows))}
    queries = {i for i in want if want[i] or single == "self"}
    seen = {i: [] for i in range(len(t))}
    g = generator()
    for _ in range(300):
        query, key = (part.tolist() for part in draw(g))
        assert sorted(query) == sorted(queries)
        for q, k in zip(query, key, strict=True):
            seen[q].append(k)
    statistic = degrees = 0
    for i in queries:
        assert set(seen[i]) <= (want[i] or {i})
        if len(want[i]) > 1:
            counts = np.array([seen[i].count(j) for j in want[i]])
            expected = len(seen[i]) / len(want[i])
            statistic += ((counts - expected) ** 2 / expected).sum()
            degrees += len(want[i]) - 1
    assert degrees > 10
    assert statistic < degrees + 4 * np.sqrt(2 * degrees)  # chi-square, about four sigma


def test_the_same_seed_gives_the_same_epoch_and_epochs_differ():
    draw = pairs.temporal().prepare(table())
    before = torch.random.get_rng_state()
    g = generator()
    first, second, again = draw(g), draw(g), draw(generator())
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_the_pairs_do_not_depend_on_how_many_are_looked_at_together(chunk, monkeypatch):
    t, policy = table(), pairs.temporal(min_gap_days=60)
    want = policy.prepare(t)(generator())
    monkeypatch.setattr(pairs, "_CHUNK", chunk)
    assert all(torch.equal(a, b) for a, b in zip(policy.prepare(t)(generator()), want, strict=True))


def test_same_image_is_a_permutation_paired_with_itself():
    query, key = pairs.same_image().prepare(table())(generator())
    assert torch.equal(query, key) and sorted(query.tolist()) == list(range(60))


def test_spatial_partners_are_other_places_within_the_radius():
    t = table(60, 30)
    t["lon"] = (t["location"] - 15) * 0.1 + 180  # across the antimeridian
    t["lon"] = geo.wrap_lon(t["lon"])
    draw = pairs.spatial(radius_km=25, single_date="drop").prepare(t)
    query, key = (part.numpy() for part in draw(generator()))
    lon, lat = t["lon"].to_numpy(), t["lat"].to_numpy()
    apart = geo.great_circle_km(lon[:, None], lat[:, None], lon, lat)
    other = t["location"].to_numpy()[:, None] != t["location"].to_numpy()
    near = (apart <= 25) & other
    assert near[query, key].all()
    assert sorted(query) == np.flatnonzero(near.any(1)).tolist()
    drawn = {q: set() for q in query}
    g = generator(1)
    for _ in range(200):
        for q, k in zip(*(part.tolist() for part in draw(g)), strict=True):
            drawn[q].add(k)
    assert all(found == set(np.flatnonzero(near[q])) for q, found in drawn.items())


def test_a_mixture_draws_by_weight_among_the_policies_that_have_a_partner():
    t = pd.concat([table(2000, 200, missing=0), table(500, 500, seed=1)], ignore_index=True)
    t.loc[2000:, "location"] = np.arange(1000, 1500)  # one date: no temporal partner
    policy = pairs.mixture((pairs.temporal(), 3), (pairs.same_image(), 1))
    query, key = (part.numpy() for part in policy.prepare(t)(generator()))
    assert sorted(query) == list(range(2500))
    alone = query >= 2000
    assert (query[alone] == key[alone]).all()
    share = (query[~alone] == key[~alone]).mean()
    assert abs(share - 0.25) < 0.05


def test_report_counts_degenerate_pairs():
    t = pd.DataFrame({
        "location": [0, 0, 1, 2], "lon": 0.0, "lat": [0.0, 0, 5, 9],
        "time": pd.to_datetime(["2020-01-01", "2020-04-10", "2020-01-01", None], utc=True),
    })  # fmt: skip
    seen = pairs.report(pairs.temporal(), t)
    assert (seen["n_pairs"], seen["degenerate"], seen["dropped"]) == (4, 2, 0)
    assert seen["gap_days_median"] == 100 and seen["distance_km_median"] == 0
    dropped = pairs.report(pairs.temporal(single_date="drop"), t)
    assert (dropped["n_pairs"], dropped["degenerate"], dropped["dropped"]) == (2, 0, 2)
    assert pairs.report(pairs.same_image(), t)["degenerate_share"] == 1


def test_clear_words_for_wrong_arguments():
    with pytest.raises(ValueError, match="`max_gap_days` must be >= `min_gap_days`"):
        pairs.temporal(min_gap_days=5, max_gap_days=3)
    with pytest.raises(ValueError, match="`season` must be one of"):
        pairs.temporal(season="winter")
    with pytest.raises(ValueError, match="`single_date` must be one of"):
        pairs.temporal(single_date="keep")
    with pytest.raises(ValueError, match="`radius_km` must be > 0"):
        pairs.spatial(radius_km=0)
    with pytest.raises(ValueError, match=r"`parts\[0\]\[1\]` must be > 0, got 0"):
        pairs.mixture((pairs.same_image(), 0))
    one_date = table(30, 5, missing=0).assign(time=pd.Timestamp("2020-01-01", tz="UTC"))
    with pytest.raises(ValueError, match="No location has two dates"):
        pairs.temporal().prepare(one_date)
    with pytest.raises(ValueError, match="larger `radius_km`, at least") as refusal:
        pairs.spatial(radius_km=1).prepare(table())
    least = float(str(refusal.value).rstrip(".").split()[-1])
    pairs.spatial(radius_km=least).prepare(table())  # the value that it gives is right
    with pytest.raises(ValueError, match="larger `radius_km`"):
        pairs.spatial(radius_km=0.95 * least).prepare(table())
    days = table().groupby("location")["time"].agg(lambda times: (times.max() - times.min()).days)
    with pytest.raises(ValueError, match=f"at most {int(days.max())} days apart"):
        pairs.temporal(min_gap_days=9999).prepare(table())


def test_a_number_has_one_name():
    names = {pairs.temporal(min_gap_days=days).name for days in (30, 30.0, np.float64(30))}
    assert names == {"temporal(min_gap_days=30)"}
    assert pairs.temporal(min_gap_days=30.5).name == "temporal(min_gap_days=30.5)"
    assert pairs.temporal(max_gap_days=1e300).name == "temporal(max_gap_days=1e+300)"
    assert pairs.spatial(radius_km=np.float32(100.0)).name == "spatial(radius_km=100)"


def test_times_as_text_and_tables_without_them():
    dated = table()
    text = dated.assign(time=dated["time"].astype(str).replace("NaT", ""))
    drawn, as_text = (
        pairs.temporal(min_gap_days=30).prepare(t)(torch.Generator().manual_seed(0))
        for t in (dated, text)
    )
    assert all(torch.equal(a, b) for a, b in zip(drawn, as_text, strict=True))
    assert pairs.report(pairs.temporal(), text) == pairs.report(pairs.temporal(), dated)
    for call in (pairs.temporal().prepare, lambda t: pairs.report(pairs.same_image(), t)):
        with pytest.raises(ValueError, match="needs the columns time.*time is missing among"):
            call(dated.drop(columns="time"))
