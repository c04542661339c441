"""A headless Chromium; the whole tier is skipped, saying so, where there is none."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-component-update"
    " --disable-background-networking --disable-sync"
).split()


def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), 0
    )
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
        page.on(
            "console", lambda m: page.errors.append(m.text) if m.type in ("error", "warning") else 0
        )
        page.goto(path.as_uri())
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    for page in opened:
        page.close()


def _port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """One JupyterLab for all tests: its address and its folder."""
    pytest.importorskip("jupyterlab")
    root, port = tmp_path_factory.mktemp("lab"), _port()
    config = root / "config.py"
    config.write_text(
        "from jupyterlab.galata import configure_jupyter_server\nconfigure_jupyter_server(c)\n"
        f"c.ServerApp.port = {port}\nc.ServerApp.ip = '127.0.0.1'\nc.ServerApp.allow_root = True\n"
        f"c.ServerApp.root_dir = {str(root)!r}\n"
        "c.LabApp.check_for_updates_class = 'jupyterlab.NeverCheckForUpdate'\n"
    )
    quiet = root / "settings" / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True)  # no dialog about news over the page
    (quiet / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}'
    )
    own = {"JUPYTERLAB_SETTINGS_DIR": root / "settings", "JUPYTER_CONFIG_DIR": root / "jupyter",
           "IPYTHONDIR": root / "ipython"}  # fmt: skip
    with open(root / "lab.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--config", str(config)],
            stdout=log, stderr=log, env=os.environ | {k: str(v) for k, v in own.items()},
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(address, server, root / "lab.log")
            yield address, root
        finally:
            server.terminate()
            server.wait(20)


def _wait_for(address, server, log):
    for _ in range(240):
        try:
            with urllib.request.urlopen(address + "/api", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
        if server.poll() is not None:
            break
    raise RuntimeError("JupyterLab did not start: " + log.read_text()[-2000:])


class Notebook:
    """A notebook open in JupyterLab, with every network cut but that of this machine."""

    def __init__(self, page, address):
        self.page, self.address = page, address
        self.blocked, self.errors = [], []

    def open(self, name):
        self.page.goto(f"{self.address}/lab/tree/{name}?reset")
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
        self.wait_idle()
        return self

    def wait_idle(self):
        kernel = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
        self.page.wait_for_function(f"() => {kernel}?.status === 'idle'", timeout=120_000)

    def run_all(self, *, to_the_end=True):
        self.page.set_default_timeout(90_000)
        run = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
        self.page.evaluate(f"() => {run}" if to_the_end else f"() => {{ {run} }}")
        return self

    def outputs(self):
        cells = "window.jupyterapp.shell.currentWidget.content.widgets"
        return self.page.evaluate(
            f"() => {cells}.map((c) => c.model.outputs ? c.model.outputs.toJSON() : [])"
        )

    def failures(self):
        return [
            (o["ename"], o["evalue"])
            for cell in self.outputs() for o in cell if o["output_type"] == "error"
        ]  # fmt: skip

    def ask(self, code):
        """What the kernel prints for some code."""
        return self.page.evaluate(
            """async (code) => {
              const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
              const future = kernel.requestExecute({code, store_history: false});
              let text = "";
              future.onIOPub = (m) => { text += m.content.text || m.content.evalue || ""; };
              await future.done;
              return text.trim();
            }""",
            code,
        )

    def shutdown(self):
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")


@pytest.fixture
def notebook(lab, chromium):
    address, _ = lab
    context = chromium.new_context(viewport={"width": 1400, "height": 1500})
    page = context.new_page()
    opened = Notebook(page, address)

    def only_here(route):
        url = route.request.url
        if url.startswith((address, "data:", "blob:", "about:")):
            route.continue_()
        else:
            opened.blocked.append(url)
            route.abort()

    context.route("**/*", only_here)
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    page.on("console", lambda m: opened.errors.append(m.text) if m.type == "error" else None)
    yield opened
    opened.shutdown()
    context.close()
