"""The explorers in a real JupyterLab in a real browser, with the network cut."""

import json
from pathlib import Path

import pytest

from geossl import demo

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


@pytest.fixture(scope="module")
def world(lab):
    """A small store and its embeddings, made once in the folder of the server."""
    demo.workbench(lab[1] / "world", places=200, epochs=2)
    return "world"


def bring(lab, name, **knobs):
    """A notebook of ours in the server's folder, with other values in its cell of knobs."""
    book = json.loads((NOTEBOOKS / name).read_text("utf-8"))
    cell = next(c for c in book["cells"] if "parameters" in c["metadata"].get("tags", []))
    cell["source"] = [*cell["source"], "\n", *(f"{k} = {v!r}\n" for k, v in knobs.items())]
    (lab[1] / name).write_text(json.dumps(book), "utf-8")
    return name


def keep_picture(page, name, tmp_path_factory):
    page.screenshot(path=tmp_path_factory.getbasetemp() / f"{name}.png")


def scroll_to(page, selector):
    page.locator(selector).first.scroll_into_view_if_needed()
    page.wait_for_timeout(300)


def test_the_cluster_explorer(lab, world, notebook, tmp_path_factory):
    book = notebook.open(bring(lab, "explore_clusters.ipynb", FOLDER=world, K=6)).run_all()
    page = book.page
    page.wait_for_selector("text=/6 clusters: 200 places/")
    slider = page.locator(".widget-slider", has_text="light one").locator(".noUi-handle")
    slider.scroll_into_view_if_needed()
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector("text=/cluster 2: \\d+ places/")
    book.wait_idle()
    keep_picture(page, "explore_clusters", tmp_path_factory)
    assert book.ask("print(explorer.cluster)") == "2"
    rows = int(book.ask("print(len(explorer.rows))"))
    assert page.locator(".jp-OutputArea img[alt^='chip of']").count() == min(24, rows)
    assert book.failures() == [] and book.blocked == [] and book.errors == []


def test_the_embedding_explorer(lab, world, notebook, tmp_path_factory):
    book = notebook.open(bring(lab, "explore_embeddings.ipynb", FOLDER=world)).run_all()
    page = book.page
    page.wait_for_selector(".geossl-view canvas")
    page.wait_for_selector("text=/800 images, none selected/")
    scroll_to(page, ".geossl-view canvas")
    for view, name in enumerate(("map", "scatter")):
        box = page.locator(".geossl-view canvas").nth(view).bounding_box()
        x, y, wide, high = (box[k] for k in ("x", "y", "width", "height"))
        page.mouse.move(x + 0.3 * wide, y + 0.25 * high)
        page.mouse.down()
        page.mouse.move(x + 0.6 * wide, y + 0.6 * high, steps=4)
        page.mouse.up()
        page.wait_for_selector("text=/\\d+ of 800 selected/")
        book.wait_idle()
        told = int(page.locator(".geossl-status").first.inner_text().split()[0])
        assert 0 < told < 800
        assert book.ask("print(len(explorer.selection))") == str(told)
        keep_picture(page, f"explore_embeddings_{name}", tmp_path_factory)
    page.locator(".geossl-gallery button").nth(1).click()
    page.wait_for_selector("text=/images most like the first/")
    page.locator(".geossl-view canvas").first.focus()
    page.keyboard.press("Escape")
    page.wait_for_selector("text=/800 images, none selected/")
    book.wait_idle()
    assert book.ask("print(len(explorer.selection))") == "0"
    assert book.failures() == [] and book.blocked == [] and book.errors == []
