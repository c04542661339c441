"""Maps in a browser at all scales: opened on their data, and on a cluster that is chosen."""

import numpy as np
import pytest
from shapely import Point, Polygon
from sites import SITES, scenes_of

from geossl.clusters import GeoClusters
from geossl.viz import maps

MAP = "const map = Object.values(window).find((v) => v instanceof L.Map);"

SET_VIEW = f"([lon, lat]) => {{ {MAP} map.setView([lat, lon], 20, {{animate: false}}); }}"
IN_LAYER = f"""([lon, lat]) => {{ {MAP} const p = map.latLngToLayerPoint([lat, lon]);
    return [p.x, p.y]; }}"""
PATHS = "[...document.querySelectorAll('path')].map((p) => p.getAttribute('d'))"


def visible(page):
    """West, south, east and north of the map."""
    box = page.evaluate(f"() => {{ {MAP} return map.getBounds().toBBoxString(); }}")
    return [float(side) for side in box.split(",")]


def pixels(page, lon, lat):
    west, _, east, _ = visible(page)
    lon = np.asarray(lon) + 360 * np.round(((west + east) / 2 - np.asarray(lon)) / 360)
    spots = page.evaluate(
        f"""(spots) => {{ {MAP} return spots.map(([lon, lat]) => {{
        const p = map.latLngToContainerPoint([lat, lon]); return [p.x, p.y]; }}); }}""",
        np.stack([lon, lat], 1).tolist(),
    )
    return np.array(spots)


def check_view(page, scenes, least=0.33):
    """Check that all places are in the picture and take up a good part of it."""
    spots, size = pixels(page, scenes["lon"], scenes["lat"]), page.viewport_size
    assert ((spots >= 0) & (spots <= [size["width"], size["height"]])).all()
    assert (np.ptp(spots, axis=0) / [size["width"], size["height"]]).max() > least


@pytest.mark.parametrize("size", [(800, 500), (1600, 1000)])
@pytest.mark.parametrize("name", SITES)
def test_maps_open_on_their_data(visit, tmp_path, name, size):
    scenes = scenes_of(name)
    clusters = GeoClusters.fit(scenes, k=8, seed=0)
    maps.map_clusters(clusters, scenes).save(tmp_path / "c.html")
    maps.map_scenes(scenes).save(tmp_path / "p.html")
    for file in ("c.html", "p.html"):
        page = visit(tmp_path / file, *size)
        check_view(page, scenes)
        assert page.locator(".leaflet-control-scale-line").count() == 2 and page.errors == []


@pytest.mark.parametrize("name", SITES)
def test_a_cluster_that_is_chosen_is_brought_into_view(visit, tmp_path, name):
    scenes = scenes_of(name)
    clusters = GeoClusters.fit(scenes, k=6, seed=0)
    own = clusters.assign(scenes["lon"], scenes["lat"])
    maps.map_clusters(clusters, scenes).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html")
    before = visible(page)
    for i in range(6):
        page.click(f".geossl-table tr[data-cell='{i}'] button")
        check_view(page, scenes[own == i], least=0 if name == "world" else 0.02)
    page.click(".geossl-table tr[data-cell='5'] button")  # once more: all
    np.testing.assert_allclose(visible(page), before, rtol=1e-9, atol=1e-9)
    maps.map_clusters(clusters, scenes, highlight=2).save(tmp_path / "m.html")
    check_view(visit(tmp_path / "m.html"), scenes[own == 2], least=0)
    assert page.errors == []


@pytest.mark.parametrize("places", [60, 2100])
def test_a_choice_in_the_legend_brings_its_places_into_view(visit, tmp_path, places):
    scenes = scenes_of("5 km", places=places)
    is_corner = (scenes["lon"] > 0.01) & (scenes["lat"] > 51.488)
    scenes["label"] = np.where(is_corner, "corner", "elsewhere")
    maps.map_scenes(scenes).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html")
    before = visible(page)
    page.click(".geossl-legend button >> nth=0")
    check_view(page, scenes[is_corner])
    assert visible(page)[2] - visible(page)[0] < (before[2] - before[0]) / 1.5
    assert page.get_attribute(".geossl-legend button >> nth=0", "aria-pressed") == "true"
    page.click(".geossl-legend button >> nth=0")
    np.testing.assert_allclose(visible(page), before, rtol=1e-9)
    assert page.errors == []


@pytest.mark.parametrize("on", ["sphere", "degrees"])
def test_edges_of_cells_are_right_to_a_pixel_at_the_deepest_zoom(visit, tmp_path, on):
    scenes = scenes_of("world", places=100)
    clusters = GeoClusters.fit(scenes, k=12, seed=0, on=on)
    maps.map_clusters(clusters, scenes, cells="whole").save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html")
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-150, 150, 4000), rng.uniform(-60, 60, 4000)
    own = clusters.assign(lon, lat)
    checked = 0
    for i in rng.permutation(4000)[:8]:
        j = int(np.flatnonzero(own != own[i])[0])
        a, b = np.array([lon[i], lat[i]]), np.array([lon[j], lat[j]])
        for _ in range(60):  # the point of the edge between the two
            middle = (a + b) / 2
            a, b = (middle, b) if clusters.assign(*middle)[0] == own[i] else (a, middle)
        page.evaluate(SET_VIEW, a.tolist())
        spot = Point(*page.evaluate(IN_LAYER, a.tolist()))
        away = []
        for path in page.evaluate(PATHS):
            for ring in path.split("M")[1:]:
                corners = [tuple(map(float, c.split())) for c in ring.strip("z").split("L")]
                if len(corners) > 2:
                    away.append(Polygon(corners).exterior.distance(spot))
        assert min(away) < 1.5, (a, min(away))
        checked += 1
    assert checked == 8 and page.errors == []


def test_a_click_anywhere_opens_the_nearest_cluster_and_empty_cells_do_no_harm(visit, tmp_path):
    scenes, near = scenes_of("world", places=200), scenes_of("500 km")
    clusters = GeoClusters.fit(scenes, k=10, seed=0)
    maps.map_clusters(clusters, near).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html")
    check_view(page, near)
    for i in range(10):
        page.click(f".geossl-table tr[data-cell='{i}'] button")
    assert page.errors == []
    maps.map_clusters(clusters, scenes).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html", 700, 500)
    page.click(".geossl-table summary")  # fold or unfold
    for lon, lat in ((-140.0, 20.0), (-25.0, -35.0), (80.0, -35.0), (20.0, 10.0)):
        x, y = pixels(page, [lon], [lat])[0].tolist()
        if page.evaluate("([x, y]) => !document.elementFromPoint(x, y).closest('.geossl-table')",
                         [x, y]):  # fmt: skip
            page.mouse.click(x, y)
            page.wait_for_selector(".leaflet-popup-content")
            title = page.inner_text(".leaflet-popup-content h4")
            assert title == f"cluster {clusters.assign(lon, lat)[0]}"
            page.dispatch_event(".leaflet-popup-close-button", "click")  # the map may still pan
            page.wait_for_selector(".leaflet-popup-content", state="detached")
    assert page.errors == []
