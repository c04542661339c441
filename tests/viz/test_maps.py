import base64
import io
import json
import re

import folium
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation
from shapely import prepare
from shapely.geometry import Point, shape
from test_pretrain import write_store

from geossl import evaluate, geo
from geossl.clusters import GeoClusters
from geossl.data.scenes import check
from geossl.embeddings import Embeddings, neighbors
from geossl.utils.colors import GRAY
from geossl.viz import maps
from geossl.viz.maps import leaflet
from geossl.viz.maps import points as point_maps
from geossl.viz.projection import to_rgb


def table(places=40, dates=2, seed=0):
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, places), rng.uniform(-70, 70, places)
    location = np.repeat(np.arange(places), dates)
    return pd.DataFrame({
        "location": location, "lon": lon[location], "lat": lat[location],
        "label": np.array(["wet", "dry", None])[location % 3],
    })  # fmt: skip


def page_of(drawn):
    return drawn.get_root().render()


def data_of(drawn):
    (drawing,) = (c for c in drawn._children.values() if c._name == "GeosslDrawing")
    return json.loads(drawing.data)


def numbers(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def test_places_are_packed_where_they_are():
    given = table()
    data = data_of(maps.map_scenes(given))
    places = given.drop_duplicates("location")
    position = numbers(data["points"]["lon_lat"], "<f4").reshape(-1, 2)
    np.testing.assert_allclose(position, places[["lon", "lat"]], rtol=1e-6)
    label = next(c for c in data["points"]["columns"] if c["name"] == "label")
    words = np.array(label["words"])[numbers(label["values"], "<" + label["type"])]
    assert words.tolist() == places["label"].fillna("no value").tolist()
    codes = numbers(data["points"]["color"], "u1")
    legend = {name.rsplit(" (", 1)[0]: color for color, name in data["legend"]["entries"]}
    for word, code in zip(words, codes, strict=True):
        assert legend[word] == data["points"]["palette"][code]


def test_places_without_labels_are_all_alike():
    data = data_of(maps.map_scenes(table().drop(columns="label")))
    assert len(set(numbers(data["points"]["color"], "u1").tolist())) == 1
    assert "legend" not in data
    with pytest.raises(ValueError, match="`color` must be a column of .*, got 'label'"):
        maps.map_scenes(table().drop(columns="label"), color="label")


def test_identifiers_are_whole_and_as_short_as_they_can():
    for values, kind in (([0, 255], "u1"), ([0, 256], "u2"), ([-1, 12_345_678], "i4")):
        column = leaflet.pack_column("location", pd.Series(values))
        assert column["type"] == kind and "words" not in column
        assert numbers(column["values"], "<" + kind).tolist() == values
    long = leaflet.pack_column("location", pd.Series([2**40, 5, 2**40]))
    assert long["words"] == [str(2**40), "5"] and long["type"] == "u1"
    missing = leaflet.pack_column("location", pd.Series([2, None], dtype="Int64"))
    assert missing["words"] == ["2", "no value"]
    assert leaflet.pack_column("name", pd.Series(range(70_000)).astype(str)) is None


def test_dates_and_numbers_are_colored_by_a_ramp():
    given = table(places=300, dates=1).assign(value=np.linspace(-1, 3, 300))
    given.loc[7, "value"] = np.nan
    given["time"] = pd.to_datetime("2020-01-01", utc=True) + pd.to_timedelta(given.index, "D")
    data = data_of(maps.map_scenes(given, color="value"))
    codes = numbers(data["points"]["color"], "u1").astype(int)
    assert data["points"]["palette"][codes[7]] == GRAY
    assert (np.diff(np.delete(codes, 7)) >= 0).all() and np.delete(codes, 7).max() == 63
    ends = data_of(maps.map_scenes(given, color="time"))["legend"]
    assert (ends["low"], ends["high"]) == ("2020-01-01", "2020-10-26")


def test_a_label_past_the_nineteenth_is_gray():
    given = table(places=200)
    given["label"] = (given["location"] % 23).astype(str)
    legend = data_of(maps.map_scenes(given))["legend"]["entries"]
    assert len(legend) == 20 and legend[-1][1].startswith("4 others")


def test_embeddings_color_the_mean_of_each_place():
    given = table()
    vectors = np.random.default_rng(0).normal(size=(len(given), 6)).astype(np.float32)
    found = Embeddings(vectors, given)
    data = data_of(maps.map_embeddings(found))
    want = to_rgb(Embeddings(vectors.reshape(40, 2, 6).mean(1), given[::2].reset_index(drop=True)))
    assert np.array_equal(numbers(data["points"]["color"], "u1").reshape(-1, 3), want)
    assert data_of(maps.map_embeddings(found, color="label"))["legend"]["entries"]


def test_cells_hold_their_own_places():
    given = table(places=300)
    clusters = GeoClusters.fit(given, k=12, seed=0)
    data = data_of(maps.map_clusters(clusters, given, highlight=3))
    cells = [shape(c["shape"]).buffer(0.05) for c in data["cells"]]
    prepare(cells)
    own = clusters.assign(given["lon"], given["lat"])
    for lon, lat, cell in zip(given["lon"], given["lat"], own, strict=True):
        assert cells[cell].contains(Point(lon, lat))
    assert data["highlight"] == 3
    rows = data["table"]["rows"]
    assert [r[1] for r in rows] == sorted(clusters.sizes.tolist(), reverse=True)
    assert {r[0]: r[1] for r in rows} == dict(enumerate(clusters.sizes.tolist()))
    for i, cell in enumerate(data["cells"]):
        labels = given["label"][own == i].value_counts()
        assert dict(map(tuple, cell["card"]["histogram"])) == labels.head(5).to_dict()


def test_cells_count_the_places_of_the_table_and_say_how_many_taught_them():
    given = table(places=300)
    learned = given[given["location"] < 200]
    clusters = GeoClusters.fit(learned, k=12, seed=0)
    data = data_of(maps.map_clusters(clusters, given))
    first = given.drop_duplicates("location")
    places = np.bincount(clusters.assign(first["lon"], first["lat"]), minlength=12)
    rows = {
        row[0]: dict(zip(data["table"]["columns"], row, strict=True))
        for row in data["table"]["rows"]
    }
    for i, cell in enumerate(data["cells"]):
        facts = dict(map(tuple, cell["card"]["rows"]))
        assert rows[i]["locations"] == places[i] and facts["locations"] == str(places[i])
        assert rows[i]["chips"] == 2 * places[i]
        if places[i] != clusters.sizes[i]:
            assert facts["fitted on"] == f"{clusters.sizes[i]} locations"
    assert sum(row["locations"] for row in rows.values()) == 300 > clusters.sizes.sum()


def test_lines_follow_the_great_circle_and_stop_at_the_antimeridian():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lon, lat = rng.uniform(-180, 180, 2), rng.uniform(-80, 80, 2)
        pieces = point_maps._great_circle(lon[0], lat[0], lon[1], lat[1], steps=400)
        points = np.concatenate([np.array(p) for p in pieces])
        along = geo.great_circle_km(points[:-1, 1], points[:-1, 0], points[1:, 1], points[1:, 0])
        whole = geo.great_circle_km(lon[0], lat[0], lon[1], lat[1])
        assert along.sum() == pytest.approx(whole, rel=1e-6)
        for piece in pieces:
            assert np.abs(np.diff(np.array(piece)[:, 1])).max() < 180


def test_neighbors_are_those_of_the_embeddings():
    given = table()
    found = Embeddings(np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32), given)
    data = data_of(maps.map_neighbors(found, 10, k=3))
    rows = np.r_[10, neighbors(found, [10], k=3)[0][0]]
    place = numbers(data["points"]["lon_lat"], "<f4").reshape(-1, 2)
    np.testing.assert_allclose(place, given[["lon", "lat"]].to_numpy()[rows], rtol=1e-6)
    assert len(data["lines"]) >= 3 and data["points"]["large"] == [0]


def test_a_probe_is_right_and_wrong_where_it_is():
    given = table(places=90).assign(split=lambda t: np.where(t["location"] % 2, "train", "test"))
    given["label"] = np.where(given["location"] % 3, "wet", "dry")
    vectors = (
        np.random.default_rng(0).normal(size=(180, 4))
        + (given["label"] == "wet").to_numpy()[:, None]
    )
    found = Embeddings(vectors.astype(np.float32), given)
    result = evaluate.knn(found, k=5)
    data = data_of(maps.map_probe(result, found))
    share = result.predictions.groupby("location")["hit"].mean()
    kinds = numbers(data["points"]["color"], "u1")
    location = next(c for c in data["points"]["columns"] if c["name"] == "location")
    own = numbers(location["values"], "<" + location["type"])
    want = np.select([share[own] == 1, share[own] == 0], [0, 2], 1)
    assert np.array_equal(kinds, want) and len(set(want)) > 1


def test_similarity_is_the_cosine_to_the_place():
    given = table()
    vectors = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    data = data_of(maps.map_embeddings(Embeddings(vectors, given), color="similarity", to=6))
    mean = vectors.reshape(40, 2, 6).mean(1)
    unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    column = next(c for c in data["points"]["columns"] if c["name"] == "similarity")
    np.testing.assert_allclose(numbers(column["values"], "<f4"), unit @ unit[3], atol=1e-6)
    with pytest.raises(ValueError, match="`to` must be a row from 0 to 79, got None"):
        maps.map_embeddings(Embeddings(vectors, given), color="similarity")


def test_rows_without_position_or_with_nan_vectors_are_said_and_left_out():
    given = table()
    given.loc[given["location"] < 3, "lon"] = np.nan
    assert "3 without coordinates are not shown" in data_of(maps.map_scenes(given))["caption"]
    vectors = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    vectors[40:50] = np.nan
    data = data_of(maps.map_embeddings(Embeddings(vectors, given)))
    assert "10 without finite vectors" in data["caption"]
    assert len(numbers(data["points"]["lon_lat"], "<f4")) == 2 * (40 - 3 - 5)
    with pytest.raises(ValueError, match="Did the training diverge"):
        maps.map_embeddings(Embeddings(np.full((80, 6), np.nan), given))


def test_both_sides_of_the_antimeridian_lie_side_by_side():
    rng = np.random.default_rng(0)
    lon = np.r_[rng.uniform(172, 180, 20), rng.uniform(-180, -176, 20)]
    given = pd.DataFrame({"location": np.arange(40), "lon": lon, "lat": -15.0, "label": "x"})
    data = data_of(maps.map_scenes(given))
    place = numbers(data["points"]["lon_lat"], "<f4").reshape(-1, 2)
    assert data["across"] and np.ptp(place[:, 0]) < 12
    assert data["view"][0][1] < place[:, 0].min() and place[:, 0].max() < data["view"][1][1]


def test_many_places_are_packed_and_very_many_are_a_picture_and_a_sample(monkeypatch):
    given = table(places=3000, dates=1)
    assert not data_of(maps.map_scenes(given))["points"]["markers"]
    monkeypatch.setattr(point_maps, "_MOST_PACKED", 2500)
    monkeypatch.setattr(point_maps, "_SAMPLE", 500)
    data = data_of(maps.map_scenes(given))
    assert "3,000 locations as a picture" in data["caption"] and "sample of 500" in data["caption"]
    place = numbers(data["points"]["lon_lat"], "<f4").reshape(-1, 2)
    codes = numbers(data["points"]["color"], "u1")
    assert len(place) == len(codes) == 500
    spots = map(tuple, given[["lon", "lat"]].to_numpy("f4"))
    color = dict(zip(spots, given["label"].fillna("no value"), strict=True))
    legend = {c: name.rsplit(" (", 1)[0] for c, name in data["legend"]["entries"]}
    for at, code in zip(place, codes, strict=True):
        assert legend[data["points"]["palette"][code]] == color[tuple(at)]
    raw = base64.b64decode(data["overview"]["image"].split(",")[1])
    picture = np.asarray(Image.open(io.BytesIO(raw)))
    x = ((given["lon"].to_numpy() + 180) / 360 * 2048).astype(int)
    y = (1024 - np.arcsinh(np.tan(np.radians(given["lat"].to_numpy()))) / np.pi * 1024).astype(int)
    held = np.zeros((2048, 2048), bool)
    held[y, x] = True
    assert ((picture[..., 3] > 0) == binary_dilation(held, iterations=2)).all()
    alone = ~given.assign(x=x, y=y).duplicated(["x", "y"], keep=False).to_numpy()
    palette = {name: color for color, name in data["legend"]["entries"]}
    palette = {name.rsplit(" (", 1)[0]: color for name, color in palette.items()}
    wanted = [palette[name] for name in given["label"].fillna("no value")[alone]]
    assert ["#" + bytes(pixel[:3]).hex() for pixel in picture[y, x][alone]] == wanted


def test_a_store_shows_its_chips(tmp_path):
    store = write_store(tmp_path / "chips", places=6)
    data = data_of(maps.map_scenes(store.scenes, store=store))
    raw = base64.b64decode(data["points"]["strips"][2]["image"].split(",")[1])
    strip = np.asarray(Image.open(io.BytesIO(raw))).astype(int)
    want = np.concatenate(list(store.preview([4, 5])), axis=1).astype(int)
    assert strip.shape == want.shape and np.abs(strip - want).mean() < 30
    clusters = GeoClusters.fit(store.scenes, k=2, seed=0)
    cells = data_of(maps.map_clusters(clusters, store.scenes, store=store))["cells"]
    assert all(c["card"]["strip"]["image"].startswith("data:image/jpeg") for c in cells)
    with pytest.raises(
        ValueError, match="`store` must have one chip for each of the 3 rows, got a store of 12"
    ):
        maps.map_scenes(store.scenes[:3], store=store)


def test_the_view_fits_a_region_and_falls_back_to_the_world():
    near = table().assign(lon=lambda t: 10 + t["lon"] / 1000, lat=lambda t: 50 + t["lat"] / 1000)
    (south, west), (north, east) = data_of(maps.map_scenes(near))["view"]
    assert 9 < west < near["lon"].min() and near["lon"].max() < east < 11
    assert south < near["lat"].min() and near["lat"].max() < north
    assert data_of(maps.map_scenes(table()))["view"] is None


def test_nothing_given_can_break_out_of_the_page():
    given = table().assign(label="</script><script>alert(1)</script>\u2028")
    page = page_of(maps.map_scenes(given))
    assert "alert(1)</script>" not in page and "\u2028" not in page


def test_a_map_saves_to_one_file_that_asks_for_nothing(tmp_path):
    drawn = maps.map_scenes(table())
    assert isinstance(drawn, folium.Map)
    drawn.save(tmp_path / "map.html")
    page = (tmp_path / "map.html").read_text("utf-8")
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", page)
    assert sources and all(s.startswith("data:") for s in sources if not s.startswith("#"))


def test_what_does_not_do():
    with pytest.raises(ValueError, match="`color` must be a column of .*, got 'koeppen'"):
        maps.map_scenes(table(), color="koeppen")
    with pytest.raises(ValueError, match="`tiles` must be one of .*OpenStreetMap.*, got 'Google'"):
        maps.map_scenes(table(), tiles="Google")
    with pytest.raises(ValueError, match="`label` must be a column of .*, got 'koeppen'"):
        maps.map_clusters(GeoClusters.fit(table(), k=5, seed=0), table(), label="koeppen")
    with pytest.raises(ValueError, match="needs the columns location, lon and lat.* Add lat"):
        maps.map_scenes(table().drop(columns="lat"))
    with pytest.raises(TypeError, match="`scenes` must be a DataFrame, got 3"):
        maps.map_scenes(3)
    with pytest.raises(ValueError, match="`highlight` must be from 0 to 4, got 5"):
        maps.map_clusters(GeoClusters.fit(table(), k=5, seed=0), highlight=5)


def test_times_that_are_text_are_named():
    table = pd.DataFrame({"location": range(3), "lon": [1.0, 2, 3], "lat": 4.0})
    table["time"] = "2020-06-30"
    with pytest.raises(ValueError, match="'time', got '2020-06-30'. Pass it through geossl.data"):
        maps.map_clusters(GeoClusters.fit(table, k=2), table)
    maps.map_clusters(GeoClusters.fit(table, k=2), check(table))
    found = Embeddings(np.eye(3), check(table).assign(time="2020-06-30"))
    assert found.scenes["time"].dt.month.eq(6).all()
