"""Maps and the demo page in a browser: drawn, and nothing asked of any network."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from geossl import demo, maps
from geossl.clusters import GeoClusters


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
def test_points_are_drawn_in_place_and_answer_a_click(visit, tmp_path, size):
    given = table()
    maps.map_scenes(given).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html", *size)
    assert network(page) == [] and page.errors == []
    seen, colours = picture(page), {"dry": (0, 114, 178), "wet": (230, 159, 0)}
    hits = near = 0
    for row in given.itertuples():
        x, y = where(page, row.lon, row.lat)
        covered = page.evaluate("([x, y]) => document.elementFromPoint(x, y)?.tagName", [x, y])
        if 5 < x < size[0] - 5 and 5 < y < size[1] - 5 and covered == "CANVAS":
            near += 1
            hits += np.abs(seen[round(y), round(x)] - colours[row.label]).max() < 12
    assert near > 25 and hits / near > 0.85  # the rest lie under a later point
    last = given.iloc[-1]
    page.mouse.click(*where(page, last["lon"], last["lat"]))
    page.wait_for_selector(".leaflet-popup-content")
    text = page.inner_text(".leaflet-popup-content")
    assert last["label"] in text and f"{last['lon']:.2f}, {last['lat']:.2f}" in text


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
def test_the_demo_page_is_whole_without_a_network(visit, tmp_path_factory, size):
    folder = tmp_path_factory.getbasetemp() / "demo"  # made once for both sizes
    index = demo.run(folder, places=200, epochs=1, say=lambda line: None)
    page = visit(index, *size)
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
