import base64
import json
import re

import folium
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import Point, shape

from geossl import maps
from geossl.clusters import GeoClusters
from geossl.embedding import Embeddings, to_rgb


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
    (found,) = re.findall(r"data = (\{.*\});$", page_of(drawn), flags=re.MULTILINE)
    return json.loads(found)


def numbers(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def test_places_are_packed_where_they_are():
    given = table()
    data = data_of(maps.map_scenes(given))
    places = given.drop_duplicates("location")
    position = numbers(data["points"]["place"], "<f4").reshape(-1, 2)
    np.testing.assert_allclose(position, places[["lon", "lat"]], rtol=1e-6)
    label = next(c for c in data["points"]["columns"] if c["name"] == "label")
    words = np.array(label["words"])[numbers(label["codes"], "<u2")]
    assert words.tolist() == places["label"].fillna("no value").tolist()
    colour = numbers(data["points"]["colour"], "u1").reshape(-1, 3)
    legend = {name.rsplit(" (", 1)[0]: c for c, name in data["legend"]}
    for word, rgb in zip(words, colour, strict=True):
        assert legend[word] == "#{:02x}{:02x}{:02x}".format(*rgb)


def test_a_label_past_the_seventh_is_grey():
    given = table(places=200)
    given["label"] = (given["location"] % 11).astype(str)
    legend = data_of(maps.map_scenes(given))["legend"]
    assert len(legend) == 8 and legend[-1][1].startswith("4 others")


def test_embeddings_colour_the_mean_of_each_place():
    given = table()
    vectors = np.random.default_rng(0).normal(size=(len(given), 6)).astype(np.float32)
    found = Embeddings(vectors, given)
    data = data_of(maps.map_embeddings(found))
    want = to_rgb(Embeddings(vectors.reshape(40, 2, 6).mean(1), given[::2].reset_index(drop=True)))
    assert np.array_equal(numbers(data["points"]["colour"], "u1").reshape(-1, 3), want)
    assert data_of(maps.map_embeddings(found, colour="label"))["legend"]


def test_cells_hold_their_own_places():
    given = table(places=300)
    clusters = GeoClusters.fit(given, k=12, seed=0)
    data = data_of(maps.map_clusters(clusters, given, highlight=3))
    cells = [shape(c["shape"]) for c in data["cells"]]
    own = clusters.assign(given["lon"], given["lat"])
    for lon, lat, cell in zip(given["lon"], given["lat"], own, strict=True):
        assert cells[cell].buffer(0.05).contains(Point(lon, lat))
    lit = [c["style"]["fillColor"] != maps.GREY for c in data["cells"]]
    assert [i for i, on in enumerate(lit) if on] == [3]


def test_the_view_fits_a_region_and_falls_back_to_the_world():
    near = table().assign(lon=lambda t: 10 + t["lon"] / 1000, lat=lambda t: 50 + t["lat"] / 1000)
    (south, west), (north, east) = data_of(maps.map_scenes(near))["bounds"]
    assert 9 < west < near["lon"].min() and near["lon"].max() < east < 11
    assert south < near["lat"].min() and near["lat"].max() < north
    assert data_of(maps.map_scenes(table()))["bounds"] is None


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
    with pytest.raises(ValueError, match="a column 'koeppen'"):
        maps.map_scenes(table(), colour="koeppen")
    with pytest.raises(ValueError, match="from 0 to 4, came 5"):
        maps.map_clusters(GeoClusters.fit(table(), k=5, seed=0), highlight=5)
