"""ClusterExplorer without a browser: its sources, comparisons, changes by hand, empty states."""

import base64
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sites import scenes_of
from test_pretrain import write_store
from test_widgets import status, table

from geossl.clusters import GeoClusters, match_clusters
from geossl.embeddings import Embeddings
from geossl.evaluate import place_information
from geossl.viz.widgets import ClusterExplorer
from geossl.viz.widgets.cluster_panes import count_by_period


def data_of(view):
    """What the map's page draws."""
    page = view.page[view.page.index("(map, data)") :]
    return json.loads(page[page.index(', {"bounds"') + 2 : page.rindex(");")].split(");\n")[0])


def write_image(path):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


@pytest.mark.parametrize("kind", ["csv", "parquet", "geojson", "geoparquet", "folder", "store"])
def test_one_knob_opens_whatever_is_there(tmp_path, kind):
    places = pd.DataFrame({"lon": [5.0, 5.1, 5.2, 6.0], "lat": [45.0, 45.1, 45.2, 46.0]})
    path = tmp_path / f"places.{kind}"
    if kind == "csv":
        places.rename(columns=str.upper).to_csv(path, index=False)  # LON, LAT: mere coordinates
    elif kind == "parquet":
        places.to_parquet(path)
    elif kind in ("geojson", "geoparquet"):
        geopandas = pytest.importorskip("geopandas")
        points = geopandas.points_from_xy(places["lon"], places["lat"])
        frame = geopandas.GeoDataFrame({"name": list("abcd")}, geometry=points, crs=4326)
        frame.to_file(path) if kind == "geojson" else frame.to_parquet(path)
    elif kind == "folder":
        path = tmp_path / "images"
        for i in range(4):
            write_image(path / f"{i}.png")
        places.assign(path=[f"{i}.png" for i in range(4)]).to_csv(path / "t.csv", index=False)
    else:
        path = tmp_path / "chips"
        write_store(path)
    seen = ClusterExplorer.open_source(path, k=2)
    assert seen.clusters.k == 2 and len(seen.scenes) >= 4
    has_pictures = "data:image/jpeg" in seen._controls.chips.value
    assert has_pictures == (kind == "store")
    assert has_pictures or "geossl chips" in seen._controls.chips.value


def test_what_is_not_there_or_has_no_place_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.csv does not exist"):
        ClusterExplorer.open_source(tmp_path / "no.csv")
    with pytest.raises(ValueError, match=r"`label` must be a column of \[.*\], got 'climate'"):
        ClusterExplorer(table(10), label="climate")
    with pytest.raises(ValueError, match="two locations with a position, got 1. Fill lon and lat"):
        ClusterExplorer(table(1))
    vectors = Embeddings(np.eye(6), table(3))
    with pytest.raises(ValueError, match="`embeddings` must have one vector for each of the 20 r"):
        ClusterExplorer(table(10), embeddings=vectors)


def test_a_small_area_opens_on_itself():
    given = scenes_of("5 km")
    view = data_of(ClusterExplorer(given, k=4).map)["view"]
    (south, west), (north, east) = view
    assert south < given["lat"].min() and given["lat"].max() < north and north - south < 0.2
    assert west < given["lon"].min() and given["lon"].max() < east and east - west < 0.3


def test_data_without_labels_has_everything_but_purity():
    given = table().drop(columns="label")
    seen = ClusterExplorer(given, k=6)
    assert seen.clusters.purity(given)["purity"].isna().all()
    assert "balance of sizes" in seen._controls.facts.value
    assert "purity" not in seen._controls.facts.value
    seen.table.value = 2
    assert seen.cluster == 2


def test_clusters_are_split_and_merged_by_hand_and_that_is_taken_back():
    given = table()
    seen = ClusterExplorer(given, k=5)
    first, view = seen.clusters, seen.map.view
    assert seen.split_button.disabled and seen.merge_choice.disabled and seen.undo_button.disabled
    seen.table.value = 3
    seen.split_button.click()
    want = first.split(given, cluster=3, k=2, seed=0)
    assert np.array_equal(seen.clusters.centers, want.centers) and seen.cluster == 3
    assert "its parts are 3 and 5; 6 clusters" in status(seen)
    neighbor = seen.merge_choice.options[1][1]
    seen.merge_choice.value = neighbor
    assert seen.clusters.k == 5 and seen.cluster == min(3, neighbor)
    assert np.array_equal(seen.clusters.sizes, want.merge([3, neighbor]).sizes)
    own = seen.clusters.assign(given["lon"], given["lat"])
    assert np.array_equal(seen.rows, np.flatnonzero(own == seen.cluster))
    seen.undo_button.click()
    seen.undo_button.click()
    assert seen.clusters is first and seen.undo_button.disabled and seen.map.view == view
    seen.k_slider.value = 6
    seen.table.value = 0
    seen.split_button.click()
    seen.k_slider.value = 7  # a fresh start has nothing to take back
    assert seen.undo_button.disabled and seen.clusters.k == 7


@pytest.mark.parametrize("what", ["metric", "embeddings"])
def test_a_second_map_shows_what_differs(what):
    given = table(places=120)
    rng = np.random.default_rng(0)
    vectors = Embeddings(rng.normal(size=(240, 8)) + given[["lon"]].to_numpy() / 20, given)
    seen = ClusterExplorer(given, embeddings=vectors, k=5)
    assert seen.other_map.page == ""
    seen.compare.value = what
    drawn = data_of(seen.other_map)
    codes = np.frombuffer(base64.b64decode(drawn["dots"]["color"]), np.uint8)
    said = seen._controls.compared.value
    if what == "metric":
        other = GeoClusters.fit(given, k=5, on="degrees")
        moved = match_clusters(seen.clusters, other, given)
        assert np.array_equal(codes, moved["changed"]) and drawn["on"] == "degrees"
        assert f"{moved['changed'].mean():.1%} of 120 locations change" in said
    else:
        found = place_information(vectors, seen.clusters)
        assert np.array_equal(codes, found.groups % 8)
        assert f"mutual information of {found.ami:.2f}" in said and found.ami > 0.1
    assert data_of(seen.map)["dots"].keys().isdisjoint({"color"})
    seen.compare.value = ""
    assert seen.other_map.page == "" and seen.other_map.layout.display == "none"


def test_nested_clusters_lie_in_each_other_and_clumps_need_no_k():
    given = table()
    seen = ClusterExplorer(given, k=20)
    seen.method.value = "nested"
    fine = seen._cluster_of_row
    seen.k_slider.value = 6
    assert len({*zip(fine, seen._cluster_of_row, strict=True)}) == 20
    seen.method.value = "density"
    assert seen.k_slider.layout.display == "none" and seen.size_slider.layout.display == ""
    assert 'role="alert"' in status(seen) or seen.clusters.k >= 1
    rng = np.random.default_rng(0)
    spots = given["location"].to_numpy() % 3 * 40
    clumped = given.assign(lon=spots + rng.normal(0, 0.01, 600), lat=rng.normal(0, 0.01, 600))
    clumped[["lon", "lat"]] = clumped.groupby("location")[["lon", "lat"]].transform("first")
    seen = ClusterExplorer(clumped, k=20)
    seen.method.value, seen.size_slider.value = "density", 30
    assert seen.clusters.k == 3 and sorted(seen.clusters.sizes) == [100, 100, 100]


def test_what_is_saved_is_what_pretraining_takes_and_the_command_says_so(tmp_path):
    given = table(places=60)
    seen = ClusterExplorer(given, k=4)
    seen.table.value = 1
    seen.split_button.click()
    for name, words in (("c.json", "geossl pretrain CHIPS --geo"), ("c.csv", "released code"),
                        ("c.geojson", "GIS")):  # fmt: skip
        seen.save_name.value = str(tmp_path / name)
        seen.save_button.click()
        assert words in seen._controls.usage.value and "wrote" in status(seen)
    back = GeoClusters.load(tmp_path / "c.json")
    own = seen.clusters.assign(given["lon"], given["lat"])
    assert np.array_equal(back.assign(given["lon"], given["lat"]), own)
    assert pd.read_csv(tmp_path / "c.csv")["cluster"].tolist() == own.tolist()
    cells = json.loads((tmp_path / "c.geojson").read_text())["features"]
    assert [cell["properties"]["places"] for cell in cells] == seen.clusters.sizes.tolist()


def test_many_years_are_counted_in_periods():
    years = pd.to_datetime([f"{year}-06-01" for year in range(1984, 2025)], utc=True)
    counts = count_by_period(pd.Series(years))
    assert counts.sum() == 41 and len(counts) <= 10 and counts.index[0] == "1980–1984"
    assert count_by_period(pd.Series(years[:3])).tolist() == [1, 1, 1]
