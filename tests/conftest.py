"""What holds for all tests."""

import contextlib
import json
import os
import signal
import socket

import filelock
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call():
    """Skip the rest of a test where it needs what Windows lacks: named pipes, SIGKILL, fork."""
    try:
        return (yield)
    except AttributeError as error:
        if os.name == "posix" or error.obj not in (os, signal, socket):
            raise
        pytest.skip(f"this system has no {error.name}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Deal the long tests to all workers, first of all: what they leave for the end is short."""
    if not hasattr(config, "workerinput"):
        return
    n = config.workerinput["workercount"]
    long = [item for item in items if item.path.parent.name in ("browser", "notebooks")]
    short = [item for item in items if item.path.parent.name not in ("browser", "notebooks")]
    items[:] = [
        item
        for i in range(n)
        for part in (long, short)
        for item in part[len(part) * i // n : len(part) * (i + 1) // n]
    ]


@pytest.fixture(scope="module", autouse=True)
def environment_of_the_next_module_is_untouched():
    """A Dask cluster, for one, leaves OMP_NUM_THREADS behind: programs started later differ."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def demo_made(tmp_path_factory):
    """The small demo, interrupted before it trains and then made, once for all workers.

    Its folder, its page, what the terminal said, and the page and the words of the interrupted one.
    """
    top = tmp_path_factory.getbasetemp()
    top = top.parent if "PYTEST_XDIST_WORKER" in os.environ else top
    folder, told = top / "with a space", top / "demo_told.json"
    with filelock.FileLock(top / "demo.lock"):
        if not told.exists():
            told.write_text(json.dumps(_make_demo(folder)), "utf-8")
    lines, early, early_lines = json.loads(told.read_text("utf-8"))
    return folder, folder / "index.html", lines, early, early_lines


def _make_demo(folder):
    from geossl.cli import demo

    def make():
        lines = []
        with contextlib.suppress(KeyboardInterrupt):
            demo.run_demo(
                folder, places=240, epochs=1, seed=0, echo=lambda line: lines.append(str(line))
            )
        return lines, (folder / "index.html").read_text("utf-8")

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "pretrain", interrupt)
        early_lines, early = make()
    return make()[0], early, early_lines


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium; what needs it is skipped, saying so, where there is none."""
    from labs import FLAGS, chromium_path

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
def lab_folder(tmp_path_factory):
    """The folder in which JupyterLab is started, if it is."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def lab(lab_folder):
    """One JupyterLab for all tests: its address and its folder."""
    pytest.importorskip("jupyterlab")
    from labs import jupyterlab

    with jupyterlab(lab_folder) as address:
        yield address, lab_folder


@pytest.fixture(scope="session")
def lab_page(lab, chromium):
    """One page of it, in which the tests open their notebooks one after the other."""
    from labs import Notebook

    opened = Notebook(chromium, lab[0])
    yield opened
    opened.leave()


@pytest.fixture
def notebook(lab_page):
    yield lab_page
    lab_page.close()
