"""What a map draws lies where it is, from sites of 100 m to the world."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from shapely import get_coordinates, intersects_xy, union_all
from shapely.geometry import shape
from sites import SITES, scenes_of

from geossl import geo
from geossl.clusters import GeoClusters
from geossl.embeddings import Embeddings
from geossl.viz import maps
from geossl.viz.frame import Frame
from geossl.viz.maps import leaflet
from geossl.viz.maps import points as point_maps


def data_of(drawing):
    """What the written page holds."""
    page = drawing.get_root().render()
    text = page[page.rindex("})(map_") :]
    return json.loads(text[text.index("{") : text.rindex("});") + 1])


def positions(packed):
    lon_lat = np.frombuffer(leaflet.base64.b64decode(packed["lon_lat"]), "<f4").astype(float)
    rest = np.frombuffer(leaflet.base64.b64decode(packed["rest"]), "<f4")
    return (lon_lat + rest).reshape(-1, 2)


def nearest_turn(lon, to):
    return lon + 360 * np.round((to - lon) / 360)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("on", ["sphere", "degrees"])
@pytest.mark.parametrize("name", SITES)
def test_each_place_lies_in_the_cell_of_its_cluster_and_in_the_view(name, on, seed):
    scenes = scenes_of(name, seed=seed)
    clusters = GeoClusters.fit(scenes, k=8, seed=seed, on=on)
    data = data_of(maps.map_clusters(clusters, scenes))
    own = clusters.assign(scenes["lon"], scenes["lat"])
    drawn = positions(data["dots"])
    lon = nearest_turn(scenes["lon"].to_numpy(), drawn[:, 0])
    np.testing.assert_allclose(drawn, np.stack([lon, scenes["lat"]], 1), rtol=0, atol=1e-9)
    cells = [shape(cell["shape"]) for cell in data["cells"]]
    assert all(intersects_xy(cells[c], *at) for c, at in zip(own, drawn, strict=True))
    assert all(cell.is_valid for cell in cells)
    for i, cell in enumerate(data["cells"]):
        (south, west), (north, east) = cell["bounds"]
        x = nearest_turn(scenes["lon"][own == i].to_numpy(), (west + east) / 2)
        y = scenes["lat"][own == i]
        assert ((west <= x) & (x <= east) & (south <= y) & (y <= north)).all()
        assert west <= cell["center"][1] <= east
    if data["view"] is None:
        assert name == "world" or on == "degrees"
    else:
        (south, west), (north, east) = data["view"]
        assert (south < drawn[:, 1]).all() and (drawn[:, 1] < north).all()
        assert np.ptp(drawn[:, 1]) > (north - south) / 2 or name == "around the pole"
        if name != "around the pole":
            assert (west < drawn[:, 0]).all() and (drawn[:, 0] < east).all()
            assert np.ptp(drawn[:, 0]) > (east - west) / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", SITES)
def test_the_cells_of_clusters_hold_their_places_exactly(name):
    for seed in range(3):
        scenes = scenes_of(name, places=300, seed=seed)
        clusters = GeoClusters.fit(scenes, k=12, seed=seed)
        cells, own = clusters.cells(), clusters.assign(scenes["lon"], scenes["lat"])
        inside = [
            intersects_xy(cells[c], x, y)
            for c, x, y in zip(own, scenes["lon"], scenes["lat"], strict=True)
        ]
        # an edge of hundreds of km is right to some meters
        assert np.mean(inside) == 1 if name != "world" else np.mean(inside) > 0.99
        assert sum(cell.area for cell in cells) == pytest.approx(360 * 180, rel=1e-9)
        assert union_all(cells).area == pytest.approx(360 * 180, rel=1e-9)


@pytest.mark.slow
def test_places_on_a_line_and_on_a_grid_lie_in_their_cells():
    x, y = np.meshgrid(np.arange(12) * 1e-3, np.arange(12) * 1e-3)
    grid = pd.DataFrame({"location": range(144), "lon": 12 + x.ravel(), "lat": 50 + y.ravel()})
    line = grid.assign(lat=50.0, lon=12 + np.random.default_rng(0).uniform(0, 1e-3, 144))
    for scenes in (grid, line):
        for k in (2, 4, 6, 9):
            clusters = GeoClusters.fit(scenes, k=k, seed=0)
            cells = data_of(maps.map_clusters(clusters, scenes))["cells"]
            own = clusters.assign(scenes["lon"], scenes["lat"])
            for i, cell in enumerate(cells):
                members = scenes.loc[own == i, ["lon", "lat"]].to_numpy()
                assert intersects_xy(shape(cell["shape"]), members).all()


@pytest.mark.slow
@pytest.mark.parametrize("offset", [(30.0, 0.0), (-140.0, 20.0), (-25.0, -40.0), (80.0, -35.0)])
def test_cells_of_the_world_end_at_the_coast(offset):
    rng = np.random.default_rng(0)
    lon = np.r_[rng.uniform(5, 30, 200), rng.uniform(-120, -80, 200), rng.uniform(120, 145, 200)]
    lat = np.r_[rng.uniform(5, 50, 200), rng.uniform(33, 50, 200), rng.uniform(-30, -20, 200)]
    scenes = pd.DataFrame({"location": range(600), "lon": lon, "lat": lat})
    clusters = GeoClusters.fit(scenes, k=20, seed=0)
    land = union_all(
        [shape(c["shape"]) for c in data_of(maps.map_clusters(clusters, scenes))["cells"]]
    )
    assert all(intersects_xy(land, *at) for at in ((20, 10), (-100, 40), (134, -25), (-60, -10)))
    if offset[0] != 30.0:
        assert not intersects_xy(land, *offset)
    data = data_of(maps.map_clusters(clusters, scenes, cells="whole"))
    assert intersects_xy(union_all([shape(c["shape"]) for c in data["cells"]]), *offset)
    assert data["coast"]["points"]  # on top of them


@pytest.mark.slow
def test_a_place_off_the_coast_has_a_patch_of_its_own_cluster():
    scenes = scenes_of("world", places=300)
    atoll = pd.DataFrame({"location": [-1], "lon": [-140.5], "lat": [-18.0]})  # no land of 400 km2
    scenes = pd.concat([scenes, atoll], ignore_index=True)
    clusters = GeoClusters.fit(scenes, k=12, seed=0)
    cells = data_of(maps.map_clusters(clusters, scenes))["cells"]
    holding = [i for i, c in enumerate(cells) if intersects_xy(shape(c["shape"]), -140.5, -18.0)]
    assert holding == clusters.assign(-140.5, -18.0).tolist()


@pytest.mark.slow
def test_the_page_of_clusters_stays_small():
    scenes = scenes_of("world", places=3000)
    clusters = GeoClusters.fit(scenes, k=100, seed=0)
    assert len(maps.map_clusters(clusters, scenes).get_root().render()) < 1_700_000
    site = scenes_of("300 m")
    drawing = maps.map_clusters(GeoClusters.fit(site, k=8, seed=0), site)
    assert len(drawing.get_root().render()) < 700_000


def test_clusters_alone_open_on_their_centers_and_rows_without_a_place_are_counted():
    scenes = scenes_of("300 m")
    clusters = GeoClusters.fit(scenes, k=8, seed=0)
    (south, west), (north, east) = data_of(maps.map_clusters(clusters))["view"]
    assert south < scenes["lat"].min() and scenes["lat"].max() < north < south + 0.02
    assert west < scenes["lon"].min() and scenes["lon"].max() < east < west + 0.02
    scenes.loc[:3, "lon"] = np.nan
    scenes.loc[4, "lat"] = np.inf
    data = data_of(maps.map_clusters(clusters, scenes))
    assert data["caption"] == "5 rows without coordinates are not shown."
    assert sum(row[1] for row in data["table"]["rows"]) == 45


def test_positions_and_their_words_are_exact_at_the_scale_shown():
    for name, decimals in (("100 m", 8), ("5 km", 6), ("500 km", 4), ("world", 3)):
        scenes = scenes_of(name)
        data = data_of(maps.map_scenes(scenes))
        assert data["decimals"] == decimals
        want = scenes[["lon", "lat"]]
        np.testing.assert_allclose(positions(data["points"]), want, rtol=0, atol=1e-10)


def test_longitudes_from_0_to_360_are_where_they_are():
    scenes = scenes_of("500 km").assign(lon=lambda t: t["lon"] - 100)
    data = data_of(maps.map_scenes(scenes.assign(lon=scenes["lon"] + 360)))
    view = data_of(maps.map_scenes(scenes))["view"]
    np.testing.assert_allclose(data["view"], view, atol=1e-9)
    np.testing.assert_allclose(positions(data["points"])[:, 0], scenes["lon"], atol=1e-9)


def test_lines_over_the_antimeridian_go_the_short_way():
    scenes = pd.DataFrame({"location": range(3), "lon": [178.0, -179.0, -178.0], "lat": -17.0})
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.2]], np.float32)
    data = data_of(maps.map_neighbors(Embeddings(vectors, scenes), 0, k=2))
    assert len(data["lines"]) == 2 and data["view"][1][1] - data["view"][0][1] < 6
    for line in data["lines"]:
        lon = np.array(line["path"])[:, 1]
        assert (np.diff(lon) > 0).all() and lon[0] == pytest.approx(178) and lon[-1] < 182.1


def test_one_place_opens_with_its_surroundings():
    one = pd.DataFrame({"location": [1, 2], "lon": 7.5, "lat": 46.5})
    for drawing in (maps.map_scenes(one), maps.map_clusters(GeoClusters.fit(one, k=1), one)):
        (south, west), (north, east) = data_of(drawing)["view"]
        assert (north - south, (south + north) / 2) == pytest.approx((4, 46.5))
        assert 5 < east - west < 7


def test_the_picture_of_very_many_places_covers_their_area_only(monkeypatch):
    monkeypatch.setattr(point_maps, "_MOST_PACKED", 100)
    scenes = scenes_of("5 km", places=500)
    data = data_of(maps.map_scenes(scenes))
    (south, west), (north, east) = data["overview"]["bounds"]
    assert west < scenes["lon"].min() and scenes["lon"].max() < east < west + 0.1
    assert south < scenes["lat"].min() and scenes["lat"].max() < north < south + 0.1
    assert data["overview"]["max_zoom"] > 15


def test_edges_of_the_world_s_cells_have_corners_where_they_bend():
    clusters = GeoClusters.fit(scenes_of("world", places=300), k=12, seed=0)
    for i, cell in enumerate(clusters.cells()):
        corners = get_coordinates(cell)
        corners = corners[(np.abs(corners[:, 0]) < 180) & (np.abs(corners[:, 1]) < 90)]
        away = geo.great_circle_km(*corners.T[..., None], *clusters.centers.T)
        nearest = np.sort(away, 1)[:, :2]
        on_edge = nearest[:, 1] - nearest[:, 0] < 1e-3  # km; others are where octants were cut
        assert on_edge.mean() > 0.9
        assert (away[:, i] - nearest[:, 0] < 1e-3).all()


@pytest.mark.parametrize(
    "lon, lat, west, east",
    [([179, -179], [0, 0], 179, 181), ([-10, 10], [0, 5], -10, 10),
     ([0, 120, -120], [0] * 3, -180, 180)],
)  # fmt: skip
def test_frames_go_the_short_way(lon, lat, west, east):
    frame = Frame.around(np.array(lon, float), np.array(lat, float))
    assert (frame.left, frame.right) == (west, east)
    turned = frame.unwrap(np.array(lon, float))
    assert ((frame.left <= turned) & (turned <= frame.right)).all()
    assert frame.is_world == (east - west == 360)


def test_the_page_tells_its_bounds_as_json():
    page = maps.map_scenes(scenes_of("300 m")).get_root().render()
    (south, west), (north, east) = json.loads(re.search(r'"bounds":(\[\[.*?\]\])', page)[1])
    assert 0.002 < north - south < 0.003 and 0.002 < east - west < 0.0034


def test_clusters_of_elsewhere_leave_a_map_of_empty_cells():
    rng = np.random.default_rng(0)
    far = pd.DataFrame({"location": range(60), "lon": rng.uniform(100, 140, 60),
                        "lat": rng.uniform(-30, 30, 60)})  # fmt: skip
    near = far.assign(lon=rng.uniform(0, 15, 60), lat=rng.uniform(42, 52, 60))
    clusters = GeoClusters.fit(far, k=6, seed=0)
    data = data_of(maps.map_clusters(clusters, near))
    own = clusters.assign(near["lon"], near["lat"])
    assert len(set(own)) < 6 and len(data["cells"]) == 6
    for i, cell in enumerate(data["cells"]):
        assert intersects_xy(shape(cell["shape"]), near.loc[own == i, ["lon", "lat"]]).all()
        assert np.isfinite(cell["bounds"]).all()


def test_cells_of_places_at_a_pole_are_polygons():
    places = pd.DataFrame({"location": range(3), "lon": [0.0, 90.0, 180.0], "lat": 90.0})
    data = data_of(maps.map_clusters(GeoClusters.fit(places, k=3, seed=0), places))
    assert {cell["shape"]["type"] for cell in data["cells"]} <= {"Polygon", "MultiPolygon"}
