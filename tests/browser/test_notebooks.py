"""The explorers in a real JupyterLab in a real browser, with the network cut."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ipywidgets.embed import embed_data
from labs import canvas_box, drag, write_notebook

from geossl import Embeddings
from geossl.cli import demo
from geossl.viz.widgets import EmbeddingExplorer
from tools.tutorials import stills

# a page in a sandbox has no storage to look through
MAP = "const map = window[Object.keys(window).find((name) => /^map_[0-9a-f]+$/.test(name))];"
VIEW = f"() => {{ {MAP} const c = map.getCenter(); return [c.lat, c.lng, map.getZoom()]; }}"
CELL = f"""() => {{ {MAP} const {{x: wide, y: high}} = map.getSize();
  for (let x = 120; x < wide - 60; x += 20) for (let y = 40; y < high - 60; y += 20) {{
    if (!document.elementFromPoint(x, y)?.matches("path.leaflet-interactive")) continue;
    const at = map.containerPointToLatLng([x, y]);
    return [[x, y], [at.lat, (at.lng + 540) % 360 - 180]];
  }}
}}"""
NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


@pytest.fixture(scope="module")
def world(lab):
    """A small store and its embeddings, made once in the folder of the server."""
    demo.load_demo(lab[1] / "world", places=200)
    return "world"


def bring(lab, name, **knobs):
    """A notebook of ours in the server's folder, with other values in its cell of knobs."""
    book = json.loads((NOTEBOOKS / name).read_text("utf-8"))
    cell = next(c for c in book["cells"] if "parameters" in c["metadata"].get("tags", []))
    cell["source"] = [*cell["source"], "\n", *(f"{k} = {v!r}\n" for k, v in knobs.items())]
    (lab[1] / name).write_text(json.dumps(book), "utf-8")
    return name


def write(lab, name, *cells):
    write_notebook(lab[1] / name, *cells)
    return name


def keep_picture(page, name, tmp_path_factory):
    page.screenshot(path=tmp_path_factory.getbasetemp() / f"{name}.png")


def inside(flat, wide, high, margin):
    """Rows whose dots are further than a share from the edges of a scatter (which pads 12 px)."""
    columns = list(zip(*flat, strict=True))
    (x0, y0), (x1, y1) = map(min, columns), map(max, columns)
    found = set()
    for row, (x, y) in enumerate(flat):
        across = wide / 2 + (x - (x0 + x1) / 2) * (wide - 24) / (x1 - x0)
        down = high / 2 - (y - (y0 + y1) / 2) * (high - 24) / (y1 - y0)
        if abs(across / wide - 0.5) < 0.5 - margin and abs(down / high - 0.5) < 0.5 - margin:
            found.add(row)
    return found


def scroll_to(page, selector):
    page.locator(selector).first.scroll_into_view_if_needed()
    page.wait_for_timeout(300)


def test_the_cluster_explorer(lab, world, notebook, tmp_path_factory):
    book = notebook.open(bring(lab, "explore_clusters.ipynb", FOLDER=world, K=6)).run_all()
    page = book.page
    page.wait_for_selector("text=/6 clusters: 200 locations/")
    explorer = page.locator(".geossl-clusters")
    explorer.scroll_into_view_if_needed()
    map_page = explorer.locator(".geossl-map iframe").first.content_frame
    map_page.get_by_role("button", name="zoom to the highlighted").wait_for()  # it is linked
    view = "print([round(x, 3) for x in explorer.map.view])"
    map_page.get_by_label("Zoom in").click()
    until = time.monotonic() + 20
    while (zoomed := book.ask(view)) == "[]" and time.monotonic() < until:
        page.wait_for_timeout(100)
    assert len(json.loads(zoomed)) == 3

    # a click on a cell, wherever it is, reaches Python
    (x, y), (lat, lon) = map_page.locator("body").evaluate(CELL)
    box = explorer.locator(".geossl-map iframe").first.bounding_box()
    page.mouse.click(box["x"] + x, box["y"] + y)
    page.wait_for_selector("text=/cluster \\d+: \\d+ locations/")
    book.comes_to(f"print(explorer.cluster == explorer.clusters.assign({lon}, {lat})[0])", "True")
    rows = int(book.ask("print(len(explorer.rows))"))
    assert page.locator(".jp-OutputArea img[alt^='chip of']").count() == min(24, rows)
    keep_picture(page, "explore_clusters", tmp_path_factory)

    # other clusters are drawn where the map was left; the slider has a length at 800 px
    page.set_viewport_size({"width": 800, "height": 900})
    slider = explorer.locator(".widget-hslider .slider-container").first
    assert slider.bounding_box()["width"] > 100
    book.comes_to("print(explorer.map.page == '')", "False")
    left_at = None
    while left_at != (now := book.ask(view)):  # the map settles in its new size
        left_at = now
        page.wait_for_timeout(700)
    handle = slider.locator(".noUi-handle")
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("text=/7 clusters: 200 locations/")
    page.wait_for_function("document.querySelectorAll('.geossl-map iframe').length === 1")
    frame = explorer.locator(".geossl-map iframe").first
    frame.content_frame.get_by_role("button", name="zoom to the highlighted").wait_for()
    book.wait_idle()
    assert book.ask(view) == left_at
    at = frame.content_frame.locator("body").evaluate(VIEW)
    assert at == pytest.approx(json.loads(left_at), abs=0.3)  # a pixel

    # a message of another page than the map's own is not heard
    page.evaluate("window.postMessage({geossl: {chosen: 3}}, '*')")
    page.wait_for_timeout(200)
    assert book.ask("print(explorer.cluster)") == "None"
    page.set_viewport_size({"width": 1400, "height": 1500})
    assert book.failures() == [] and book.blocked == [] and book.errors == []


def settled(page):
    host = "document.querySelector('.geossl-explorer').geossl"
    page.wait_for_function(f"() => {host}.isSettled")


def test_the_embedding_explorer(lab, world, notebook, tmp_path_factory):
    book = notebook.open(bring(lab, "explore_embeddings.ipynb", FOLDER=world)).run_all()
    page = book.page
    page.wait_for_selector(".geossl-view canvas")
    page.wait_for_selector("text=/800 images, none selected/")
    scroll_to(page, ".geossl-view canvas")
    for view, name in enumerate(("map", "scatter")):
        x, y, wide, high = canvas_box(page, view)
        drag(page, [(x + 0.3 * wide, y + 0.25 * high), (x + 0.6 * wide, y + 0.6 * high)])
        settled(page)
        page.wait_for_selector("text=/\\d+ of 800 selected/")
        book.wait_idle()
        told = int(page.locator(".geossl-status").first.inner_text().split()[0])
        assert 0 < told < 800
        book.comes_to("print(len(explorer.selection))", str(told))
        keep_picture(page, f"explore_embeddings_{name}", tmp_path_factory)
    page.locator(".geossl-gallery button").nth(1).click()
    page.wait_for_selector("text=/images most similar to the first/")
    page.get_by_role("button", name="lasso").first.click()
    scroll_to(page, ".geossl-view canvas")
    x, y, wide, high = canvas_box(page, 1)
    corners = [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2)]
    drag(page, [(x + across * wide, y + down * high) for across, down in corners])
    settled(page)
    page.wait_for_selector("text=/\\d+ of 800 selected/")
    told = page.locator(".geossl-status").first.inner_text().split()[0]
    book.comes_to("print(len(explorer.selection))", told)
    drawn = json.loads(book.ask(
        "import json, numpy; flat = numpy.frombuffer(explorer.first, 'f4').reshape(-1, 2)\n"
        "print(json.dumps([flat.tolist(), explorer.selection.tolist()]))"
    ))  # fmt: skip
    chosen = set(drawn[1])
    assert inside(drawn[0], wide, high, 0.22) <= chosen <= inside(drawn[0], wide, high, 0.18)
    assert 10 < len(chosen) < 790
    name = page.get_by_label("name of a new label").first
    name.fill("mine")
    name.press("Enter")
    book.comes_to("print(explorer.labels['counts'])", f"[{len(chosen)}]")
    x, y, wide, high = canvas_box(page, 1)
    page.get_by_role("button", name="box").first.click()
    drag(page, [(x + 0.02 * wide, y + 0.02 * high), (x + 0.2 * wide, y + 0.98 * high)])
    settled(page)
    page.wait_for_selector("text=/\\d+ of 800 selected/")
    name.fill("theirs")
    name.press("Enter")
    page.wait_for_selector("section[aria-label=predicted]")
    page.locator(".geossl-gallery button").nth(0).click()
    page.wait_for_selector("text=/images most similar to the first/")
    page.keyboard.press("1")  # the chosen image, while the focus is in the explorer
    book.comes_to(f"print(explorer.labels['counts'][0] >= {len(chosen)})", "True")
    keep_picture(page, "explore_embeddings_labels", tmp_path_factory)
    page.get_by_role("button", name="undo").first.click()
    page.locator(".geossl-view canvas").first.focus()
    page.keyboard.press("Escape")
    page.wait_for_selector("text=/800 images, none selected/")
    book.comes_to("print(len(explorer.selection))", "0")
    assert book.failures() == [] and book.blocked == [] and book.errors == []


def test_a_projection_shows_how_far_it_is_and_is_cancelled(lab, notebook, tmp_path_factory):
    made = (
        "import geossl, numpy as np, pandas as pd\n"
        "rng = np.random.default_rng(0)\n"
        "lon, lat = rng.uniform(-170, 170, 4000), rng.uniform(-60, 70, 4000)\n"
        "vectors = rng.normal(size=(4000, 64)) + 6 * np.eye(64)[rng.integers(6, size=4000)]\n"
        "found = geossl.Embeddings(vectors, pd.DataFrame({'lon': lon, 'lat': lat}))\n"
        "explorer = geossl.viz.widgets.EmbeddingExplorer(found)\nexplorer"
    )  # fmt: skip
    book = notebook.open(write(lab, "projection.ipynb", made)).run_all()
    page = book.page
    page.wait_for_selector(".geossl-view canvas")
    bar, cancel = page.locator("progress"), page.get_by_role("button", name="cancel")
    choice = page.locator("label", has_text="projection").locator("select")
    picture = "import hashlib; print(hashlib.sha1(explorer.first).hexdigest())"
    drawn = book.ask(picture)
    assert not cancel.is_visible() and not bar.is_visible()
    choice.select_option(label="t-SNE")
    cancel.wait_for()
    shares = set()
    for _ in range(600):  # the kernel answers while it computes
        shares.add(float(book.ask("print(explorer.progress)")))
        if len(shares - {0.0, -1.0}) > 1:
            break
    assert len(shares - {0.0, -1.0}) > 1 and bar.is_visible()
    for width in (800, 1600):
        page.set_viewport_size({"width": width, "height": 1000})
        keep_picture(page, f"projection_at_{width}", tmp_path_factory)
    cancel.click()
    page.wait_for_selector("text=/stopped; the picture is still PCA/")
    assert not cancel.is_visible() and choice.input_value() == "pca"
    assert book.ask(picture) == drawn
    choice.select_option(label="t-SNE")
    page.wait_for_selector("text=/t-SNE of 4,000 vectors in/", timeout=300_000)
    assert not cancel.is_visible() and book.ask(picture) != drawn
    page.set_viewport_size({"width": 1400, "height": 1500})
    keep_picture(page, "projection_done", tmp_path_factory)
    assert book.failures() == [] and book.errors == []


def test_the_pair_explorer(lab, world, notebook, tmp_path_factory):
    code = "import geossl\nstore = geossl.ChipStore.open('world/chips')\n"
    shown = "explorer = geossl.viz.widgets.PairExplorer(store)\nexplorer"
    book = notebook.open(write(lab, "pairs.ipynb", code + shown)).run_all()
    page = book.page
    page.wait_for_selector("text=/800 pairs an epoch, 800 of a chip with itself/")
    pictures = ".jp-OutputArea img[alt^='query of']"
    assert page.locator(pictures).count() == 8
    page.get_by_label("policy").select_option("temporal")
    page.wait_for_selector("text=/800 pairs an epoch, 0 of a chip with itself/")
    assert book.ask("print((explorer.query == explorer.key).sum())") == "0"
    plain = page.locator(pictures).first.get_attribute("src")
    page.get_by_label("augmented").check()
    page.wait_for_function(f"document.querySelector({pictures!r}).src !== {plain!r}")
    before = page.locator(pictures).first.get_attribute("src")
    slider = page.locator(".widget-slider", has_text="brightness").locator(".noUi-handle")
    slider.focus()
    page.keyboard.press("End")
    page.wait_for_function(f"document.querySelector({pictures!r}).src !== {before!r}")
    book.wait_idle()
    keep_picture(page, "pair_explorer", tmp_path_factory)
    book.comes_to("print(explorer.views.brightness)", "1.0")
    assert book.failures() == [] and book.blocked == [] and book.errors == []


def test_the_training_monitor_redraws_and_survives_an_interrupt(
    lab, world, notebook, tmp_path_factory
):
    code = (
        "import geossl\nstore = geossl.ChipStore.open('world/chips')\n"
        "config = geossl.PretrainConfig(epochs=400, batch_size=64, queue_size=256, log_every=2)\n"
        "pairs = geossl.pairs.temporal()\n"
        "run = geossl.pretrain(store, pairs=pairs, config=config, output_dir='run')\n"
        "monitor = geossl.viz.widgets.TrainingMonitor(run, every_s=0.3)\nmonitor.watch()"
    )
    book = notebook.open(write(lab, "monitor.ipynb", code)).run_all(to_the_end=False)
    page = book.page
    told = page.locator(".jp-OutputArea [role=status]", has_text="step").first
    first = told.inner_text()
    page.wait_for_function(
        "(before) => [...document.querySelectorAll('.jp-OutputArea [role=status]')]"
        ".some((e) => /^step/.test(e.innerText) && e.innerText !== before)",
        arg=first,
    )
    assert re.match(r"step [\d,]+ of 2,800, loss [\d.]+", first), first
    assert page.locator(".jp-OutputArea img[alt^='training curves']").count() == 1
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    page.wait_for_selector("text=/stopped; the encoder is usable/")
    book.wait_idle()
    keep_picture(page, "training_monitor", tmp_path_factory)
    told = book.ask("print(monitor.interrupted, len(geossl.embed(store, run.encoder)))")
    assert told == "True 800"
    assert book.failures() == [] and book.blocked == [] and book.errors == []


def test_an_explorer_lives_on_in_a_lessons_page_without_a_kernel(visit, tmp_path):
    rng = np.random.default_rng(0)
    scenes = pd.DataFrame({"location": range(50), "lon": rng.uniform(-80, 80, 50), "lat": 1.0})
    explorer = EmbeddingExplorer(Embeddings(rng.normal(size=(50, 4)), scenes))
    states = embed_data(views=[explorer], drop_defaults=False)["manager_state"]["state"]
    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    (tmp_path / "page.html").write_text(head + stills._page(states, explorer.model_id), "utf-8")
    page = visit(tmp_path / "page.html")
    page.wait_for_selector("canvas")
    assert page.get_by_label("name of a new label").count() == 0  # nobody would answer
    x, y, wide, high = canvas_box(page, 0)
    drag(page, [(x + 0.2 * wide, y + 0.2 * high), (x + 0.8 * wide, y + 0.8 * high)])
    page.wait_for_selector("text=/\\d+ of 50 selected/")
    assert page.errors == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []


def test_a_notebook_without_a_kernel_shows_a_still_picture(lab, world, notebook, tmp_path_factory):
    code = (
        "import geossl\nembeddings = geossl.Embeddings.load('world/embeddings.parquet')\n"
        "geossl.viz.widgets.EmbeddingExplorer(embeddings)"
    )
    book = notebook.open(write(lab, "still.ipynb", code)).run_all()
    page = book.page
    page.wait_for_selector(".geossl-view canvas")
    still = "[class^=geossl-still]"
    assert page.locator(still).count() == 1 and not page.locator(still).is_visible()
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    book.close()
    saved = json.loads((lab[1] / "still.ipynb").read_text("utf-8"))
    (output,) = (o for o in saved["cells"][0]["outputs"] if "text/html" in o.get("data", {}))
    assert 'alt="800 images on a map and in a projection' in "".join(output["data"]["text/html"])
    page.evaluate(
        """async () => {
          await window.jupyterapp.commands.execute("docmanager:open",
            {path: "still.ipynb", kernelPreference: {shouldStart: false, autoStartDefault: false}});
        }"""
    )
    page.wait_for_selector(f"{still} img")
    assert page.locator(f"{still} img").is_visible()
    keep_picture(page, "still", tmp_path_factory)
