"""A headless Chromium; the whole tier is skipped, saying so, where there is none."""

import pytest
from labs import FLAGS, Notebook, chromium_path, jupyterlab


def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = chromium_path()
    if not found:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Open a file in a page of a given size; ``page.asked`` and ``page.errors`` are kept."""
    opened = []

    def open_page(path, width=1000, height=700):
        page = chromium.new_page(viewport={"width": width, "height": height})
        opened.append(page)
        page.asked, page.errors = [], []
        page.on("request", lambda r: page.asked.append(r.url[:200]))
        page.on("pageerror", lambda e: page.errors.append(str(e)))
        page.on("dialog", lambda d: (page.errors.append(f"dialog: {d.message}"), d.dismiss()))
        page.on(
            "console", lambda m: page.errors.append(m.text) if m.type in ("error", "warning") else 0
        )
        page.goto(path.as_uri())
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    for page in opened:
        page.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """One JupyterLab for all tests: its address and its folder."""
    pytest.importorskip("jupyterlab")
    root = tmp_path_factory.mktemp("lab")
    with jupyterlab(root) as address:
        yield address, root


@pytest.fixture(scope="session")
def lab_page(lab, chromium):
    """One page of it, in which the tests open their notebooks one after the other."""
    opened = Notebook(chromium, lab[0])
    yield opened
    opened.leave()


@pytest.fixture
def notebook(lab_page):
    yield lab_page
    lab_page.close()
