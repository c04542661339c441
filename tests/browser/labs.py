"""A headless Chromium and a JupyterLab to drive with it, for the tests and the benchmarks."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import nbformat

# The check of the machine trains for five seconds, and lesson 0 makes it often.
QUICK_DOCTOR = "from geossl.cli import doctor; doctor._TRAINING_S = 0.2"

_CONTENT = "window.jupyterapp.shell.currentWidget.content"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-component-update"
    " --disable-background-networking --disable-sync"
).split()


def chromium_path():
    """Where the system's Chromium is, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def _port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def jupyterlab(root):
    """A JupyterLab that serves a folder; its address."""
    port = _port()
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
            yield address
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
    """A notebook open in JupyterLab, with every network cut but that of this machine.

    One after the other may be opened in the page: JupyterLab itself is loaded once.
    """

    def __init__(self, browser, address):
        self._context = browser.new_context(viewport={"width": 1400, "height": 1500})
        self.page, self.address = self._context.new_page(), address
        self.blocked, self.errors = [], []
        self._context.route("**/*", self._only_here)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    def _only_here(self, route):
        url = route.request.url
        if url.startswith((self.address, "data:", "blob:", "about:")):
            route.continue_()
        else:
            self.blocked.append(url)
            route.abort()

    def open(self, name):
        self.page.set_default_timeout(30_000)
        if self.page.url == "about:blank":
            self.page.goto(f"{self.address}/lab?reset")
            self.page.wait_for_function("() => window.jupyterapp", timeout=60_000)
            self.page.evaluate("() => window.jupyterapp.restored")
        self.page.evaluate(
            """async (path) => {
              const manager = {path, factory: "Notebook"};
              const opened = await window.jupyterapp.commands.execute("docmanager:open", manager);
              await opened.context.ready;
            }""",
            name,
        )
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

    def comes_to(self, code, wanted):
        """Wait until the kernel prints that: a message of the page may still be on its way."""
        until = time.monotonic() + 30
        while (found := self.ask(code)) != wanted:
            assert time.monotonic() < until, f"{code} gives {found}, wanted {wanted}"
            time.sleep(0.1)

    def close(self):
        """Close the notebook and end its kernel; the page may open another."""
        self.page.evaluate(
            """async () => {
              const opened = window.jupyterapp.shell.currentWidget;
              await opened.sessionContext.shutdown();
              opened.context.model.dirty = false;  // nothing is saved, and nothing asks
              opened.close();
            }"""
        )
        self.page.wait_for_selector(".jp-NotebookPanel", state="detached")
        self.blocked.clear()
        self.errors.clear()

    def leave(self):
        self._context.close()


def write_notebook(path, *cells):
    """A notebook of a few code cells."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, path)


def canvas_box(page, nth):
    """Left, top, width and height of the nth view of an explorer, in page pixels."""
    box = page.locator(".geossl-view canvas").nth(nth).bounding_box()
    return [box[k] for k in ("x", "y", "width", "height")]


def drag(page, corners):
    """Press at the first of the page positions, move along the others, and let go."""
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=5)
    page.mouse.up()


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
