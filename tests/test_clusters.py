import json
import os

import numpy as np
import pandas as pd
import pytest
from shapely import Point, union_all

from geossl import geo
from geossl.clusters import GeoClusters
from geossl.data import scenes
from geossl.data.files import DatasetError


def places(n, seed=0, town=None):
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    if town is not None:
        lon, lat = town[0] + lon / 5000, town[1] + lat / 5000
    return pd.DataFrame({"location": np.arange(n), "lon": lon, "lat": lat, "path": "x"})


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("on", ["sphere", "degrees"])
def test_the_cell_that_holds_a_point_is_the_cluster_it_is_assigned_to(k, on):
    clusters = GeoClusters.fit(places(400), k=k, seed=0, on=on)
    probes = places(300, seed=1)
    edge = pd.DataFrame({
        "lon": [179.99, -179.99, 0, 90, -90, 179.9, -179.9],
        "lat": [10, 10, 89.9, 89.9, -89.9, -70, -70],
    })  # fmt: skip
    probes = pd.concat([probes, edge], ignore_index=True)
    cells = clusters.cells()
    got = clusters.assign(probes["lon"], probes["lat"])
    for lon, lat, cluster in zip(probes["lon"], probes["lat"], got, strict=True):
        # 2-degree steps bend an edge by some hundredths of a degree
        assert cells[cluster].distance(Point(lon, lat)) < 0.05, (lon, lat, cluster)
    assert union_all(cells).area == pytest.approx(360 * 180, rel=1e-3)
    assert sum(cell.area for cell in cells) == pytest.approx(360 * 180, rel=2e-3)


@pytest.mark.parametrize("town", [(10, 50), (179.99, -40), (25, 89.5)])
def test_all_places_in_one_town(town):
    table = places(200, town=town)
    table["lon"] = geo.wrap_lon(table["lon"])
    table["lat"] = table["lat"].clip(-90, 90)
    clusters = GeoClusters.fit(table, k=12, seed=0)
    cells, got = clusters.cells(), clusters.assign(table["lon"], table["lat"])
    inside = [
        cells[c].distance(Point(x, y)) < 1e-3
        for x, y, c in zip(table["lon"], table["lat"], got, strict=True)
    ]
    assert all(inside)
    assert sum(cell.area for cell in cells) == pytest.approx(360 * 180, rel=5e-3)


def test_assignment_is_to_the_nearest_center_by_great_circle():
    clusters = GeoClusters.fit(places(500), k=20, seed=0)
    probes = places(200, seed=2)
    distance = geo.great_circle_km(
        probes["lon"].to_numpy()[:, None], probes["lat"].to_numpy()[:, None],
        clusters.centers[:, 0], clusters.centers[:, 1],
    )  # fmt: skip
    assert (clusters.assign(probes["lon"], probes["lat"]) == distance.argmin(1)).all()


def test_the_antimeridian_splits_degrees_but_not_the_sphere():
    lon = np.concatenate([np.linspace(176, 180, 20), np.linspace(-179.9, -176, 20), [0.0] * 20])
    lat = np.tile(np.linspace(-1, 1, 20), 3)
    table = pd.DataFrame({"location": np.arange(60), "lon": lon, "lat": lat})
    sphere = GeoClusters.fit(table, k=2, seed=0).assign(lon, lat)
    degrees = GeoClusters.fit(table, k=2, seed=0, on="degrees").assign(lon, lat)
    assert len(set(sphere[:40])) == 1 and sphere[0] != sphere[-1]
    assert len(set(degrees[:40])) == 2


def test_sizes_count_locations_once_and_a_seed_decides():
    table = pd.concat([places(100)] * 3, ignore_index=True)
    a, b = (GeoClusters.fit(table, k=7, seed=3) for _ in range(2))
    assert a.sizes.sum() == 100 and (a.centers == b.centers).all()
    assert not np.array_equal(a.centers, GeoClusters.fit(table, k=7, seed=4).centers)


def test_places_are_told_apart_by_their_position_and_found_by_their_first_row():
    table = pd.concat([places(40), places(40, seed=1), places(40)], ignore_index=True)
    table["location"] = np.random.default_rng(0).permutation(np.arange(120) % 90)
    codes = scenes.location_codes(table)
    want = np.unique(codes, return_index=True)[1]
    assert (scenes.first_rows(codes) == want).all()
    distinct = table.iloc[want].drop_duplicates(["lon", "lat"])  # some places lie on each other
    assert len(distinct) < 90
    for k, message in (
        (len(distinct), None),
        (len(distinct) + 1, f"`k` must be <= {len(distinct)}, the number of distinct loc"),
    ):
        if message is None:
            assert GeoClusters.fit(table, k=k).sizes.sum() == 90
        else:
            with pytest.raises(ValueError, match=message):
                GeoClusters.fit(table, k=k)


def test_many_rows_are_assigned_as_one_by_one():
    clusters, table = GeoClusters.fit(places(500), k=20, seed=0), places(10_000, seed=2)
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    got = clusters.assign(lon, lat)
    some = [0, 4095, 4096, 4097, 8191, 8192, 9999]
    assert [int(clusters.assign(lon[i], lat[i])[0]) for i in some] == got[some].tolist()
    assert len(got) == 10_000 and len(clusters.assign([], [])) == 0


@pytest.mark.parametrize("on", ["sphere", "degrees"])
def test_neighboring_cells_have_different_colors(on):
    clusters = GeoClusters.fit(places(1500), k=100, seed=0, on=on)
    colors, cells = clusters.colors(), clusters.cells()
    assert set(colors) <= set(range(8)) and len(set(colors)) > 3
    for i in range(100):
        for j in range(i):
            if cells[i].intersection(cells[j]).length > 0.5:
                assert colors[i] != colors[j], (i, j)


def test_purity_by_hand():
    table = pd.DataFrame({
        "location": [0, 0, 1, 2, 3, 4], "lon": [0, 0, 1, 2, 100, 101], "lat": 0.0,
        "label": ["a", "a", "a", "b", None, "c"],
    })  # fmt: skip
    got = GeoClusters.fit(table, k=2, seed=0).purity(table)
    assert got["size"].tolist() == [3, 1]
    assert got["label"].tolist() == ["a", "c"]
    assert got["purity"].tolist() == pytest.approx([2 / 3, 1])
    want = -(2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3))
    assert got["entropy_bits"].tolist() == pytest.approx([want, 0])


def test_files_survive(tmp_path):
    table = places(50)
    clusters = GeoClusters.fit(table, k=5, seed=0)
    clusters.save(tmp_path / "c.json")
    back = GeoClusters.load(tmp_path / "c.json")
    assert np.array_equal(back.centers, clusters.centers) and back.on == "sphere"
    assert np.array_equal(back.sizes, clusters.sizes)
    clusters.to_csv(tmp_path / "c.csv", table)
    csv = pd.read_csv(tmp_path / "c.csv")
    assert list(csv) == ["cluster", "path"]
    assert (csv["cluster"] == clusters.assign(table["lon"], table["lat"])).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"centers": [[0.0, 1.0], [float("nan"), 2.0]]}, "a number must be finite, got NaN"),
        ({"centers": [[0.0, 1.0], [float("inf"), 2.0]]}, "a number must be finite, got Infinity"),
        ({"centers": [[0.0, 1.0], [0.0, 1.0]]}, r"must be distinct, got \[0.0, 1.0\] 2 times"),
        ({"centers": [[0, 1], [181, 2]]}, r"`centers\[1\]\[0\]` must be <= 180, got 181"),
        ({"centers": [[0, 1], [1, -91]]}, r"`centers\[1\]\[1\]` must be >= -90, got -91"),
        ({"centers": [[0, 1], [1e300, 0]]}, "must be <= 180"),
        ({"centers": [[0, 1], ["1", 2]]}, r"`centers\[1\]\[0\]` must be a number, got '1'"),
        ({"centers": [[0, 1], [1, 2, 3]]}, "must have 2 values"),
        ({"centers": [0, 1, 1, 2]}, r"`centers\[0\]` must be a tuple of 2, got 0"),
        ({"centers": []}, "`centers` must be numbers of shape"),
        ({"centers": [[0, 1]]}, "`sizes` must be 1 counts"),
        ({"sizes": [1, -1]}, r"`sizes\[1\]` must be >= 0"),
        ({"sizes": [1, 1.5]}, r"`sizes\[1\]` must be an integer"),
        ({"sizes": None}, "`sizes` must be a list"),
        ({"on": "plane"}, "`on` must be one of"),
        ({"on": []}, "`on` must be one of"),
        ({"format": 3}, "its format 3 is of a newer geossl"),
        ({"format": "1"}, "`format` must be an integer"),
    ],
)
def test_files_that_were_edited_are_refused_in_one_sentence(tmp_path, change, words):
    good = {"format": 1, "on": "sphere", "centers": [[0.0, 1.0], [2.0, 3.0]], "sizes": [1, 1]}
    path = tmp_path / "c.json"
    path.write_text(json.dumps(good))
    assert GeoClusters.load(path).k == 2
    path.write_text(json.dumps(good | change))
    with pytest.raises(DatasetError, match=rf"c\.json .*{words}.*\. Write it with Geo") as error:
        GeoClusters.load(path)
    assert "\n" not in str(error.value)


def test_files_of_version_0_1_without_a_format_are_read(tmp_path):
    (tmp_path / "c.json").write_text('{"on": "degrees", "centers": [[180, 1]], "sizes": [3]}')
    assert GeoClusters.load(tmp_path / "c.json").on == "degrees"


@pytest.mark.parametrize(
    ("centers", "sizes", "words"),
    [
        ([[0, np.nan]], [1], "must be longitudes from -180 to 180 .*, got .0.0, nan"),
        ([[0, 91]], [1], "latitudes from -90 to 90, got .0, 91"),
        ([[0, 1], [0, 1]], [1, 1], "must be distinct"),
        ([["0", "1"]], [1], "must be numbers of shape"),
        ([[0, 1]], [1.0], "`sizes` must be 1 counts, got float64"),
    ],
)
def test_centers_that_are_no_places_are_refused(centers, sizes, words):
    with pytest.raises(ValueError, match=words):
        GeoClusters(np.array(centers), np.array(sizes))


def test_clear_words_for_wrong_arguments(tmp_path):
    with pytest.raises(
        ValueError, match="`k` must be <= 10, the number of distinct locations, got 11"
    ):
        GeoClusters.fit(pd.concat([places(10)] * 2), k=11)
    with pytest.raises(
        ValueError, match=r"`on` must be one of \['sphere', 'degrees'\], got 'plane'"
    ):
        GeoClusters.fit(places(10), k=2, on="plane")
    with pytest.raises(ValueError, match="`label` must be a column of .*, got 'climate'"):
        GeoClusters.fit(places(10), k=2).purity(places(10), label="climate")
    with pytest.raises(FileNotFoundError, match="no.json does not exist"):
        GeoClusters.load(tmp_path / "no.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DatasetError, match="pipe.json must be a file, it is a named pipe"):
        GeoClusters.load(tmp_path / "pipe.json")
    for text in ("", "{", "[" * 10_000, "[]", "3"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DatasetError, match=r"bad\.json .*Write it with GeoClusters.save\(\)\."):
            GeoClusters.load(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(ValueError, match="bad.json must hold geo clusters"):
        GeoClusters.load(tmp_path / "bad.json")


def test_purity_of_a_label_that_no_location_has():
    table = places(10).assign(label=None)
    found = GeoClusters.fit(table, k=2, seed=0).purity(table)
    assert found["size"].tolist() == [0, 0]
    assert found[["label", "purity", "entropy_bits"]].isna().all(axis=None)
