"""The explorer of embeddings as a saved page: what is drawn, filtered, found and played."""

import re

import numpy as np
import pandas as pd
import pytest
from labs import canvas_box, drag
from test_pretrain import write_store

from geossl import Embeddings, geo
from geossl.viz.widgets import EmbeddingExplorer

HOST = "document.querySelector('.geossl-explorer').geossl"


def embeddings(places=300, dates=3):
    rng = np.random.default_rng(0)
    lat = np.degrees(np.arcsin(rng.uniform(-0.99, 0.99, places)))
    lon, location = rng.uniform(-180, 180, places), np.repeat(np.arange(places), dates)
    times = pd.to_datetime([f"20{10 + i}-0{1 + 3 * i}-01" for i in range(dates)], utc=True)
    scenes = pd.DataFrame({
        "location": location, "lon": lon[location], "lat": lat[location],
        "time": np.tile(times, places),
        "label": np.where(lat > 20, "north", np.where(lat < -20, "south", "middle"))[location],
        "sensor": np.resize(["A", "B"], places * dates),
    })  # fmt: skip
    vectors = rng.normal(size=(len(scenes), 80)) + 3 * np.sin(scenes[["lat"]].to_numpy() / 30)
    return Embeddings(vectors.astype(np.float32), scenes)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    EmbeddingExplorer(embeddings()).save(path)
    return path


def opened(visit, path, width=1600):
    page = visit(path, width, 1000)
    page.wait_for_selector(".geossl-gallery button")
    return page


def settled(page):
    page.wait_for_function(f"{HOST}.isSettled")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def selected(page):
    text = page.locator(".geossl-status").inner_text()
    return 0 if "none" in text else int(text.split()[0].replace(",", ""))


def test_a_new_color_paints_points_as_its_legend_says(visit, saved):
    page = opened(visit, saved)
    seen = """(name) => {
      const host = HOST, view = host.views[1], {canvas} = view;
      const pen = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
      const column = host.filters.columns.find((c) => c.name === name), hits = {};
      view.draw();
      pen.drawImage(canvas, 0, 0);
      const {data, width} = pen.getImageData(0, 0, canvas.width, canvas.height);
      for (let i = 0; i < host.rows; i++) {
        const [x, y] = view.toPixels(view.positions[2 * i], view.positions[2 * i + 1]);
        const at = 4 * (Math.floor(y * view.ratio) * width + Math.floor(x * view.ratio));
        const [r, g, b] = data.subarray(at, at + 3);
        const hex = "#" + [r, g, b].map((n) => n.toString(16).padStart(2, "0")).join("");
        const wanted = column.entries[column.codes[i]];
        (hits[wanted.text] ||= []).push(hex === wanted.color);
      }
      const share = (all) => all.filter(Boolean).length / all.length;
      return Object.entries(hits).map(([text, all]) => [text, share(all)]);
    }""".replace("HOST", HOST)
    for name in ("label", "sensor", "label"):
        page.locator("label", has_text="color by").locator("select").select_option(name)
        settled(page)
        shares = dict(page.evaluate(seen, name))
        assert len(shares) >= 2 and min(shares.values()) > 0.6  # others lie on the rest
    colors = page.evaluate(
        "[...document.querySelectorAll('.geossl-coloring i')]"
        ".map((e) => getComputedStyle(e).backgroundColor)"
    )
    assert len(set(colors)) == 3  # the legend has the colors of what is painted
    assert page.errors == []


def test_filters_of_columns_regions_and_dates_cross(visit, saved):
    scenes = embeddings().scenes
    page = opened(visit, saved)
    page.locator(".geossl-entry", has_text="north").click()
    settled(page)
    north = scenes["label"] == "north"
    assert selected(page) == north.sum()
    other = page.locator("section", has_text="sensor").locator("small").all_inner_texts()
    assert [int(n) for n in other] == [(north & (scenes["sensor"] == s)).sum() for s in "AB"]
    own = page.locator("section[aria-label=label] small").all_inner_texts()
    assert [int(n) for n in own] == scenes["label"].value_counts().sort_index().tolist()
    bars = page.locator("section[aria-label=time] canvas")
    box = bars.bounding_box()
    drag(page, [(box["x"] + 1, box["y"] + 9), (box["x"] + 0.3 * box["width"], box["y"] + 9)])
    settled(page)
    assert selected(page) == (north & (scenes["time"].dt.year == 2010)).sum()
    bars.focus()
    page.keyboard.press("Escape")
    settled(page)
    assert selected(page) == north.sum()
    x, y, wide, high = canvas_box(page, 0)
    drag(page, [(x + 0.5 * wide, y), (x + wide - 1, y + high - 1)])  # the eastern half
    settled(page)
    assert selected(page) == (north & (scenes["lon"] > 0)).sum()
    page.get_by_role("button", name="clear").click()
    settled(page)
    assert selected(page) == 0 and page.errors == []


def test_all_of_the_world_is_in_view_and_can_be_boxed(visit, saved):
    page = opened(visit, saved)
    for view in (0, 1):
        x, y, wide, high = canvas_box(page, view)
        drag(page, [(x + 1, y + 1), (x + wide - 1, y + high - 1)])
        settled(page)
        assert selected(page) == 900


def test_a_choice_lights_its_place_and_what_is_similar(visit, saved):
    page = opened(visit, saved)
    button = page.locator(".geossl-gallery button").nth(4)
    row = int(button.get_attribute("data-row"))
    button.click()
    page.wait_for_selector("text=/images most similar to the first/")
    found = embeddings()
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    exact = np.argsort(-(unit @ unit[row]))[1:32]
    shown = [int(r) for r in page.locator(".geossl-explorer").get_attribute("data-shown").split()]
    assert shown[0] == row and len(set(shown[1:]) & set(exact)) >= 22  # 64 dimensions, a byte each
    assert page.evaluate(f"{HOST}.marks.length") == 31 and page.evaluate(f"{HOST}.query") == row
    captions = page.locator(".geossl-gallery").last.locator("small").all_inner_texts()
    assert re.fullmatch(r"0\.\d\d", captions[1])
    strip = page.locator(".geossl-strip small").all_inner_texts()
    assert strip == ["2010-01-01", "2011-04-01", "2012-07-01"]
    assert page.evaluate(f"{HOST}.path") == [3 * (row // 3) + i for i in range(3)]
    assert page.errors == []


def test_the_wheel_scrolls_the_page_until_a_view_was_clicked(visit, saved):
    page = opened(visit, saved, width=800)
    page.set_viewport_size({"width": 800, "height": 400})
    x, y, wide, high = canvas_box(page, 0)
    page.mouse.move(x + 0.5 * wide, y + 0.5 * high)
    page.mouse.wheel(0, 120)
    page.wait_for_function("window.scrollY > 0")
    assert page.evaluate(f"{HOST}.views[0].zoom") == 1
    x, y, wide, high = canvas_box(page, 0)
    page.mouse.click(x + 0.5 * wide, y + 0.6 * high)
    before = page.evaluate("window.scrollY")
    page.mouse.wheel(0, -240)
    page.wait_for_function(f"{HOST}.views[0].zoom > 1")
    assert page.evaluate("window.scrollY") == before


def test_a_single_selected_point_can_be_seen(visit, saved):
    page = opened(visit, saved)
    count = """() => {
      const {canvas} = HOST.views[1], pen = canvas.getContext("2d");
      const {data} = pen.getImageData(0, 0, canvas.width, canvas.height);
      let n = 0;
      for (let i = 0; i < data.length; i += 4) {
        const [r, g, b] = data.subarray(i, i + 3);
        if (r > 200 && g > 80 && g < 110 && b < 20) n++;
      }
      return n;
    }""".replace("HOST", HOST)  # fmt: skip
    assert page.evaluate(count) == 0
    page.evaluate(f"{HOST}.choose([5])")
    settled(page)
    assert selected(page) == 1 and page.evaluate(count) > 40


def test_a_page_plays_its_dates_and_is_searched(visit, saved):
    page = opened(visit, saved)
    page.get_by_role("button", name="play").click()
    page.wait_for_function(f"{HOST}.filters.any")
    page.get_by_role("button", name="pause").click()
    settled(page)
    assert 0 < selected(page) <= 300
    page.get_by_role("button", name="clear").click()
    scenes = embeddings().scenes
    find = page.get_by_role("searchbox")
    find.fill(f"{scenes['lat'][30]:.3f}, {scenes['lon'][30]:.3f}")
    find.press("Enter")
    page.wait_for_selector("text=/The images nearest to/")
    shown = page.locator(".geossl-explorer").get_attribute("data-shown").split()
    assert {"30", "31", "32"} <= set(shown[:3])
    far = geo.great_circle_km(scenes["lon"], scenes["lat"], 170.0, 80.5)
    find.fill("80.5 170")
    find.press("Enter")
    page.wait_for_selector("text=/The images nearest to 80.5 170/")
    shown = [int(r) for r in page.locator(".geossl-explorer").get_attribute("data-shown").split()]
    np.testing.assert_allclose(far[shown], np.sort(far)[:32], atol=0.1)
    captions = page.locator(".geossl-gallery").last.locator("small").all_inner_texts()
    assert abs(float(captions[0].split()[0]) - far.min()) < 1
    find.fill("91, 5")
    find.press("Enter")
    page.wait_for_selector("text=/91, 5 is not on the globe/")
    find.fill("no such place")
    find.press("Enter")
    page.wait_for_selector("text=/Nothing here is called/")
    assert [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.errors == []


@pytest.mark.parametrize("width", [380, 800, 1600])
def test_a_page_fits_phones_and_screens(visit, saved, width, tmp_path_factory):
    page = opened(visit, saved, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    first, second = (canvas_box(page, view) for view in (0, 1))
    assert min(first[2], second[2]) > 0.4 * width - 40
    assert (first[1] == second[1]) == (width > 700)  # beside each other, or below
    page.screenshot(
        path=tmp_path_factory.getbasetemp() / f"explorer_at_{width}.png", full_page=True
    )


def test_chips_lie_where_they_are_on_the_ground_when_near(visit, tmp_path):
    store = write_store(tmp_path / "chips", places=6)
    scenes = store.scenes.assign(
        lon=10 + 0.01 * store.scenes["location"], lat=50.0, footprint_km=0.6
    )
    object.__setattr__(store, "scenes", scenes)
    vectors = np.random.default_rng(0).normal(size=(len(store), 4)).astype(np.float32)
    EmbeddingExplorer(Embeddings(vectors, scenes), store=store).save(tmp_path / "e.html")
    page = opened(visit, tmp_path / "e.html")
    page.wait_for_function(f"{HOST}.pictures.size >= 6")
    settled(page)
    wide, high = page.evaluate(
        """() => {
          const host = HOST, view = host.views[0], at = (x, y) => view.toPixels(x, y);
          const corners = [...host.corners.slice(0, 8)].map((n, k) => n + view.positions[k % 2]);
          const [a, c] = [at(corners[0], corners[1]), at(corners[4], corners[5])];
          return [c[0] - a[0], c[1] - a[1]];
        }""".replace("HOST", HOST)
    )
    assert wide == pytest.approx(high, rel=0.02) and wide > 18  # square on the ground
    picture = page.evaluate(
        """() => {
          const view = HOST.views[0], [x, y] = view.toPixels(view.positions[0], view.positions[1]);
          const pen = view.canvas.getContext("2d");
          const {data} = pen.getImageData(x * view.ratio - 6, y * view.ratio - 6, 12, 12);
          const tones = new Set();
          for (let i = 0; i < data.length; i += 4) tones.add(data[i] >> 4);
          return tones.size;
        }""".replace("HOST", HOST)
    )
    assert picture > 3  # a chip of noise, not a plain dot
    assert page.errors == []
