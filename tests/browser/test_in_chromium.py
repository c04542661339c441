"""Maps and the demo page in a browser: drawn, and nothing asked of any network."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from geossl.clusters import GeoClusters
from geossl.viz import maps
from geossl.viz.maps import points as point_maps


def table(places=60):
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "location": np.arange(places), "lon": rng.uniform(-170, 170, places),
        "lat": rng.uniform(-50, 65, places), "label": np.where(np.arange(places) % 2, "wet", "dry"),
    })  # fmt: skip


def network(page):
    return [url for url in page.asked if not url.startswith(("file:", "data:", "blob:", "about:"))]


def picture(page):
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def where(page, lon, lat):
    """Pixels of a position on the page, by Leaflet's own projection."""
    return page.evaluate(
        """([lon, lat]) => { const map = Object.values(window).find((v) => v instanceof L.Map);
        const p = map.latLngToContainerPoint([lat, lon]); return [p.x, p.y]; }""",
        [lon, lat],
    )


@pytest.mark.parametrize("size", [(1000, 640), (390, 700)])
@pytest.mark.parametrize("places", [60, 2100])  # marks of their own, and one packed layer
def test_points_are_drawn_in_place_and_answer_a_click(visit, tmp_path, size, places):
    given = table(places)
    maps.map_scenes(given).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html", *size)
    assert network(page) == [] and page.errors == []
    seen, colors = picture(page), {"dry": (0, 114, 178), "wet": (230, 159, 0)}
    hits = []
    for row in given.sample(60, random_state=0).itertuples():
        x, y = where(page, row.lon, row.lat)
        covered = page.evaluate("([x, y]) => document.elementFromPoint(x, y)?.tagName", [x, y])
        if 5 < x < size[0] - 5 and 5 < y < size[1] - 5 and covered in ("CANVAS", "path"):
            hits.append(np.abs(seen[round(y), round(x)] - colors[row.label]).max() < 25)
    assert len(hits) > 25 and np.mean(hits) > (0.85 if places < 100 else 0.6)  # or a later one's
    last = given.iloc[-1]
    page.mouse.click(*where(page, last["lon"], last["lat"]))
    page.wait_for_selector(".leaflet-popup-content")
    text = page.inner_text(".leaflet-popup-content")
    assert last["label"] in text and f"{last['lon']:.3f}, {last['lat']:.3f}" in text


HILLSIDE = {  # places, and the least and most pixels across their marks on 1000 x 640
    "antimeridian": ([(179.5, -17), (-179.5, -16), (178, -18), (-178.5, -19)], 100, 1180),
    "north": ([(10, 85), (40, 85), (-20, 84)], 100, 1180),
    "one": ([(7.6, 46.9)], 0, 0),
    "town": ([(7.44, 46.94), (7.45, 46.95), (7.46, 46.945)], 100, 1180),
}


@pytest.mark.parametrize("name", HILLSIDE)
def test_places_at_the_edges_are_in_the_picture(visit, tmp_path, tmp_path_factory, name):
    places, least, most = HILLSIDE[name]
    lon, lat = np.array(places, float).T
    maps.map_scenes(pd.DataFrame({"location": range(len(lon)), "lon": lon, "lat": lat})).save(
        tmp_path / "m.html"
    )  # without a label
    page = visit(tmp_path / "m.html", 1000, 640)
    page.screenshot(path=tmp_path_factory.getbasetemp() / f"map_{name}.png")
    marks = np.array(page.evaluate(
        """[...document.querySelectorAll('path[role=button]')].map((p) => {
        const box = p.getBoundingClientRect(), fill = p.getAttribute('fill').slice(1);
        return [box.x + box.width / 2, box.y + box.height / 2,
                ...[0, 2, 4].map((i) => parseInt(fill.slice(i, i + 2), 16))]; })"""
    ))  # fmt: skip
    seen = picture(page)
    assert len(marks) == len(places) and page.errors == [] and network(page) == []
    x, y = marks[:, :2].T
    assert (x > 5).all() and (x < 995).all() and (y > 5).all() and (y < 635).all()
    drawn = seen[y.round().astype(int), x.round().astype(int)]
    assert np.abs(drawn - marks[:, 2:]).max() < 25
    assert least <= np.hypot(np.ptp(x), np.ptp(y)) <= most


def test_very_many_places_are_a_picture_and_near_by_a_sample(
    visit, tmp_path, tmp_path_factory, monkeypatch
):
    monkeypatch.setattr(point_maps, "_MOST_PACKED", 3000)
    monkeypatch.setattr(point_maps, "_SAMPLE", 5000)
    given = table(6000)
    maps.map_scenes(given, color="label").save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html")
    page.screenshot(path=tmp_path_factory.getbasetemp() / "map_raster.png")
    assert "6,000 locations as a picture" in page.inner_text("body")
    colors, shown = {"dry": (0, 114, 178), "wet": (230, 159, 0)}, "img.geossl-overview"
    seen, hits = picture(page), []
    for row in given.sample(300, random_state=0).itertuples():
        x, y = where(page, row.lon, row.lat)
        if 5 < x < 995 and 5 < y < 640:
            hits.append(np.abs(seen[round(y), round(x)] - colors[row.label]).max() < 40)
    assert len(hits) > 100 and np.mean(hits) > 0.5  # where two share a pixel, one is seen
    assert page.evaluate(f"getComputedStyle(document.querySelector('{shown}')).display") != "none"
    lon, lat = map(float, given.loc[0, ["lon", "lat"]])
    page.evaluate(
        "([lon, lat]) => Object.values(window).find((v) => v instanceof L.Map)"
        ".setView([lat, lon], 7, {animate: false})",
        [lon, lat],
    )
    page.wait_for_function(f"!document.querySelector('{shown}')?.checkVisibility()")
    x, y = where(page, lon, lat)
    assert np.abs(picture(page)[round(y), round(x)] - colors[given.loc[0, "label"]]).max() < 40
    assert network(page) == [] and page.errors == []


def test_a_hundred_clusters_each_have_a_cell_and_a_color(visit, tmp_path, tmp_path_factory):
    given = table(3000)
    clusters = GeoClusters.fit(given, k=100, seed=0)
    maps.map_clusters(clusters, given).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html", 1280, 800)
    page.screenshot(path=tmp_path_factory.getbasetemp() / "map_100_clusters.png")
    assert page.locator(".geossl-number").count() == 100
    assert page.locator(".geossl-table td button").count() == 100
    seen, points = picture(page), [where(page, *map(float, c)) for c in clusters.centers]
    open_water = np.array([seen[round(y) + 12, round(x) + 12] for x, y in points
                           if 20 < x < 900 and 20 < y < 700])  # fmt: skip
    assert len(np.unique(open_water // 48, axis=0)) >= 8
    assert network(page) == [] and page.errors == []


def test_places_are_reached_by_keyboard(visit, tmp_path):
    maps.map_scenes(table(5)).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html")
    page.locator("path[role=button]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".leaflet-popup-content")
    assert "label dry" in page.inner_text(".leaflet-popup-content").replace("\n", " ")


def test_a_popup_opens_beside_the_table(visit, tmp_path):
    given = table(300)
    maps.map_clusters(GeoClusters.fit(given, k=8, seed=0), given).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html", 1280, 800)
    beside = page.locator(".geossl-table").bounding_box()
    page.mouse.click(beside["x"] - 20, beside["y"] + beside["height"] - 20)
    page.wait_for_selector(".leaflet-popup-content")
    right = (
        "[...document.querySelectorAll('.leaflet-popup-content-wrapper')]"
        ".every((box) => box.getBoundingClientRect().right <= %f)"
    )
    page.wait_for_function(right % beside["x"])
    page.click(".geossl-table summary")  # folded, it leaves its room to the popup
    page.dispatch_event(".leaflet-popup-close-button", "click")  # the map may still pan
    page.wait_for_selector(".leaflet-popup-content", state="detached")
    page.mouse.click(beside["x"] + 20, beside["y"] + beside["height"] - 20)
    page.wait_for_selector(".leaflet-popup-content")
    page.wait_for_timeout(600)  # it would have moved by then
    assert not page.evaluate(right % beside["x"])
    assert page.errors == []


def test_a_row_of_the_table_lights_its_cluster(visit, tmp_path):
    given = table(300)
    clusters = GeoClusters.fit(given, k=8, seed=0)
    maps.map_clusters(clusters, given).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html")
    fills = "[...document.querySelectorAll('path')].map((p) => p.getAttribute('fill'))"
    assert "#b0b0b0" not in page.evaluate(fills)
    page.click(".geossl-table td button >> nth=2")
    assert page.evaluate(fills).count("#b0b0b0") == 7
    assert page.get_attribute(".geossl-table tr.highlighted button", "aria-pressed") == "true"
    page.click(".geossl-table th button >> nth=1")
    sizes = [int(t) for t in page.locator(".geossl-table td:nth-child(2)").all_inner_texts()]
    assert sizes == sorted(sizes, reverse=True) or sizes == sorted(sizes)
    page.click(".geossl-table th button >> nth=1")
    again = [int(t) for t in page.locator(".geossl-table td:nth-child(2)").all_inner_texts()]
    assert again == sizes[::-1]
    assert page.errors == []


def test_online_tiles_fall_back_with_a_note(chromium, tmp_path):
    maps.map_scenes(table(), tiles="OpenStreetMap").save(tmp_path / "m.html")
    page = chromium.new_page()
    page.route("https://**", lambda route: route.abort())
    page.goto((tmp_path / "m.html").as_uri())
    page.wait_for_selector(".geossl-note")
    assert "No network" in page.inner_text(".geossl-note")
    page.close()


def test_cells_answer_a_click_and_words_stay_words(visit, tmp_path):
    given = table(300).assign(label="<img src=x onerror=alert(1)>")
    clusters = GeoClusters.fit(given, k=8, seed=0)
    maps.map_clusters(clusters, given).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html")
    assert page.locator(".geossl-number").count() == 8
    lon, lat = clusters.centers[3]
    page.mouse.click(*where(page, float(lon) + 1, float(lat) + 1))
    page.wait_for_selector(".leaflet-popup-content")
    assert "<img src=x" in page.inner_text(".leaflet-popup-content")
    assert page.locator(".leaflet-popup-content img").count() == 0
    assert network(page) == [] and page.errors == []


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_the_demo_page_is_whole_without_a_network(visit, demo_made, size):
    page = visit(demo_made[1], *size)
    for _ in range(page.evaluate("document.body.scrollHeight") // 500 + 1):
        page.mouse.wheel(0, 500)  # the maps load when they are scrolled to
        page.wait_for_timeout(60)
    page.wait_for_load_state("networkidle")
    frames = [f for f in page.frames if f is not page.main_frame]
    assert len(frames) == 4
    for frame in frames:
        frame.wait_for_selector(".leaflet-pane canvas, .leaflet-pane path", state="attached")
    assert network(page) == [] and page.errors == []
    assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
