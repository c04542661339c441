"""Every lesson in a real JupyterLab, with the network cut: it runs, and every slider moves."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from ipywidgets.embed import embed_data
from labs import QUICK_DOCTOR

from geossl.viz.widgets.linked import Gallery, LinkedViews
from tools.tutorials import copies, stills

LESSONS = copies.find_lessons(Path(__file__).parent.parent.parent / "tutorials")
_CONTENT = "window.jupyterapp.shell.currentWidget.content"


def cells_with_widgets(book):
    view = "application/vnd.jupyter.widget-view+json"
    return [
        number
        for number, outputs in enumerate(book.outputs())
        if any(view in output.get("data", {}) for output in outputs)
    ]


def move_sliders(book, number):
    """Move every slider of a cell by some steps with the keyboard; how many there were."""
    page = book.page
    page.evaluate(f"(n) => {_CONTENT}.scrollToItem(n, 'start')", number)
    cell = page.locator(f".jp-Cell[data-windowed-list-index='{number}']")
    cell.locator(".jp-OutputArea-output").first.wait_for()
    handles = cell.locator(".noUi-handle")
    for i in range(handles.count()):
        handle = handles.nth(i)
        if not handle.is_visible():
            continue
        handle.scroll_into_view_if_needed()
        handle.focus()
        before = handle.get_attribute("aria-valuenow")
        key = "PageDown" if before == handle.get_attribute("aria-valuemax") else "PageUp"
        for _ in range(3):  # of five steps each: what is said is rounded to tenths
            page.keyboard.press(key)
        moved = "([e, before]) => e.getAttribute('aria-valuenow') !== before"
        if handle.get_attribute("aria-valuemin") != handle.get_attribute("aria-valuemax"):
            page.wait_for_function(moved, arg=[handle.element_handle(), before])
        book.wait_idle()
    assert cell.locator("[role=alert]").count() == 0, cell.locator("[role=alert]").inner_text()
    return handles.count()


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_and_its_sliders_move(lab, notebook, path, tmp_path_factory):
    learners = copies.make_copy(nbformat.read(path, as_version=4), "learners")
    nbformat.write(copies.shrink_knobs(learners), lab[1] / path.name)
    book = notebook.open(path.name)
    book.page.set_default_timeout(240_000)
    if "check_machine" in str(learners.cells):
        book.ask(QUICK_DOCTOR)
    book.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    book.wait_idle()
    assert book.failures() == []
    for number in cells_with_widgets(book):
        move_sliders(book, number)
        picture = tmp_path_factory.getbasetemp() / f"{path.stem}_{number}.png"
        book.page.screenshot(path=picture)
    assert book.failures() == [] and book.blocked == [] and book.errors == []


def test_drawing_widgets_live_on_without_a_kernel(visit, tmp_path):
    rng = np.random.default_rng(0)
    views = LinkedViews(
        place=rng.uniform(-80, 80, (50, 2)).astype("<f4").tobytes(),
        first=rng.normal(size=(50, 2)).astype("<f4").tobytes(),
        codes=bytes(50), palette=["#0072b2"], titles=["map", "scatter"],
        region=[-180.0, -90.0, 180.0, 90.0],
    )  # fmt: skip
    chips = [{"row": 3, "image": "", "words": "a chip", "caption": "3"}]
    gallery = Gallery(chips=chips, note="one chip")
    states = embed_data(views=[views, gallery], drop_defaults=False)["manager_state"]["state"]
    pages = [stills._page(states, widget.model_id) for widget in (views, gallery)]
    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    (tmp_path / "page.html").write_text(head + "".join(pages), "utf-8")
    page = visit(tmp_path / "page.html")
    page.wait_for_selector("canvas")
    page.get_by_label("a chip").click()
    assert page.locator("canvas").count() >= 2 and "one chip" in page.inner_text("body")
    x, y, wide, high = (page.locator("canvas").first.bounding_box()[k] for k in
                        ("x", "y", "width", "height"))  # fmt: skip
    page.mouse.move(x + 0.2 * wide, y + 0.2 * high)
    page.mouse.down()
    page.mouse.move(x + 0.8 * wide, y + 0.8 * high, steps=5)
    page.mouse.up()
    page.wait_for_selector("text=/\\d+ of 50 selected/")
    assert page.errors == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
