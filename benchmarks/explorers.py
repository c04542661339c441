"""The explorer of embeddings from ten thousand to a million images: frames, seconds, megabytes.

    make explorers       some ten minutes; needs Chromium; best under the caps of a laptop, see README

In JupyterLab in headless Chromium without a graphics card: the time of a frame while a view is moved,
with and without a filter; of a change of a filter with all its counts; and from a released box to the
chips of the selection. Beside them the frame of the smallest program that draws as many points by
WebGL, a lower bound of what any library of WebGL takes on such a machine. Then saved pages. Writes
explorers.md and explorers.json to this folder.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from maps import CHIPS, EXPLORE, WATCH
from playwright.sync_api import Browser, Page, sync_playwright
from study import Records, hardware

import geossl
from geossl import datasets
from geossl.viz.widgets import EmbeddingExplorer

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests" / "browser"))

from labs import FLAGS, Notebook, canvas_box, chromium_path, drag, jupyterlab, write_notebook  # noqa: E402

SIZES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
SAVED = {"1k": 1_000, "4k": 4_000, "20k": 20_000}
REPEATS = 3
REPEAT_STORE = """
import dataclasses, time
row = numpy.arange({count}) % len(store)
scenes = store.scenes.iloc[row].reset_index(drop=True)
scenes["location"] = numpy.arange({count}) // 4  # the same chips at other places
store = dataclasses.replace(store, scenes=scenes, chips=store.chips[row])
"""
FRAMES = """() => {
  const host = document.querySelector(".geossl-explorer").geossl, result = {};
  const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
  const frame = (view) => {
    const times = [];
    for (let k = 0; k < 15; k++) {
      view.middle[0] += (k % 2 ? 1 : -1) * 1e-3 * (view.span[2] - view.span[0]);
      const start = performance.now();
      view.draw();
      times.push(performance.now() - start);
    }
    return median(times);
  };
  const names = ["map", "scatter"];
  names.forEach((name, k) => { result[`${name}_ms`] = frame(host.views[k]); });
  const column = host.filters.columns.find((c) => c.kind === "date"), times = [];
  for (let k = 0; k < 9; k++) {
    const start = performance.now();
    host.filters.allow(column, new Set([k, k + 1, k + 2]));
    host.filters.counts();
    times.push(performance.now() - start);
  }
  result.filter_ms = median(times);
  names.forEach((name, k) => { result[`${name}_filtered_ms`] = frame(host.views[k]); });
  host.clear();
  return result;
}"""
WEBGL = """(count) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [700, 392];
  const gl = canvas.getContext("webgl2", {antialias: false});
  if (!gl) return null;
  const shader = (kind, text) => {
    const made = gl.createShader(kind);
    gl.shaderSource(made, text);
    gl.compileShader(made);
    return made;
  };
  const program = gl.createProgram();
  gl.attachShader(program, shader(gl.VERTEX_SHADER,
    "attribute vec2 at; uniform float move; void main() {" +
    " gl_Position = vec4(at.x + move, at.y, 0, 1); gl_PointSize = 2.0; }"));
  gl.attachShader(program, shader(gl.FRAGMENT_SHADER,
    "precision mediump float; void main() { gl_FragColor = vec4(0, .4, .7, 1); }"));
  gl.linkProgram(program);
  gl.useProgram(program);
  const points = Float32Array.from({length: 2 * count}, () => 2 * Math.random() - 1);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, points, gl.STATIC_DRAW);
  const at = gl.getAttribLocation(program, "at"), pixel = new Uint8Array(4), times = [];
  gl.enableVertexAttribArray(at);
  gl.vertexAttribPointer(at, 2, gl.FLOAT, false, 0, 0);
  for (let k = 0; k < 7; k++) {
    const start = performance.now();
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform1f(gl.getUniformLocation(program, "move"), k * 1e-3);
    gl.drawArrays(gl.POINTS, 0, count);
    gl.readPixels(9, 9, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);  // waits for the frame
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[3];
}"""


def explore(browser: Browser, name: str, count: int, records: Records) -> None:
    """Measure the explorer of so many images in JupyterLab."""
    made = EXPLORE.replace("radians =", REPEAT_STORE.format(count=count) + "radians =")
    made = made.replace("explorer = ", "start = time.perf_counter()\nexplorer = ")
    made += "\nseconds = time.perf_counter() - start"
    shown = (
        "megabytes = sum(len(v) for v in explorer.get_state().values() if type(v) is bytes) / 1e6"
    )
    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as address:
        write_notebook(
            Path(folder) / "explore.ipynb", made.replace("\nexplorer\n", "\n"), "explorer"
        )
        book = Notebook(browser, address).open("explore.ipynb").run_all()
        page: Page = book.page
        page.wait_for_selector("text=/a random sample/", timeout=300_000)
        page.locator(".geossl-view canvas").first.scroll_into_view_if_needed()
        values = {
            "python_s": float(book.ask("print(seconds)")),
            "sent_mb": float(book.ask(f"{shown}\nprint(megabytes)")),
        }
        records.add("explorer", 0, {f"{key}_{name}": value for key, value in values.items()})
        for repeat in range(REPEATS):
            values = page.evaluate(FRAMES) | {"webgl_ms": page.evaluate(WEBGL, count)}
            page.wait_for_timeout(500)
            page.evaluate(WATCH)
            x, y, wide, high = canvas_box(page, repeat % 2)
            corner = (x + (0.7 + 0.05 * repeat) * wide, y + 0.7 * high)
            drag(page, [(x + 0.25 * wide, y + 0.2 * high), corner])
            values["gallery_s"] = page.evaluate("window.shown")
            book.wait_idle()
            records.add("explorer", repeat, {f"{k}_{name}": v for k, v in values.items() if v})
            print(name, values, flush=True)
        book.leave()


def save(browser: Browser, name: str, count: int, records: Records) -> None:
    """Measure a saved page of so many images."""
    store = geossl.ChipStore.open(CHIPS)
    rows = np.arange(count)
    part = dataclasses.replace(
        store, scenes=store.scenes.iloc[:count].reset_index(drop=True), chips=store.chips[rows]
    )
    vectors = np.random.default_rng(0).normal(size=(count, 256)).astype(np.float32)
    explorer = EmbeddingExplorer(geossl.Embeddings(vectors, part.scenes), store=part)
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder) / "explorer.html", time.perf_counter()
        explorer.save(path)
        values = {"save_s": time.perf_counter() - start, "page_mb": path.stat().st_size / 1e6}
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        start = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector(".geossl-gallery img")
        values["opens_s"] = time.perf_counter() - start
        page.close()
    records.add("saved", 0, {f"{key}_{name}": value for key, value in values.items()})
    print(name, values, flush=True)


def page(records: Records) -> str:
    """Render the page from the records."""

    def median(metric: str) -> float:
        return statistics.median(r["value"] for r in records.rows if r["metric"] == metric)

    def row(name: str, keys: list[str], digits: int) -> str:
        cells = [f"{median(f'{key}_{name}'):.{digits}f}" for key in keys]
        return f"| {name} | " + " | ".join(cells) + " |"

    keys = [
        "map_ms",
        "scatter_ms",
        "map_filtered_ms",
        "scatter_filtered_ms",
        "filter_ms",
        "webgl_ms",
    ]
    frames = "\n".join(row(name, keys, 1) for name in SIZES)
    sent = "\n".join(row(name, ["python_s", "sent_mb", "gallery_s"], 2) for name in SIZES)
    saved = "\n".join(row(name, ["save_s", "page_mb", "opens_s"], 2) for name in SAVED)
    return f"""# The explorer from ten thousand to a million images

Made by `make explorers` on {hardware()}, JupyterLab in headless Chromium without a graphics card.
Medians of {REPEATS} repeats, each the median of several frames; 20 frames a second are 50 ms.

| images | map, ms a frame | scatter | map, filtered | scatter, filtered | filter and counts, ms | WebGL, ms |
|---|---|---|---|---|---|---|
{frames}

*Map* and *scatter*: a view is moved by a little and drawn anew. *Filter and counts*: another span of
dates, and all histograms. *WebGL*: the smallest program that draws as many points of 2 px in one color
and size, without a graphics card; whatever a library of WebGL does comes on top of it. That is why the
explorer paints its pixels itself: it needs no graphics card, loses no context beside other widgets,
and is fast enough where WebGL is not.

| images | made by Python, s | sent to the browser, MB | from a box to its chips, s |
|---|---|---|---|
{sent}

Python: everything but the vectors' own computation; PCA of eight numbers. The chips of 100,000 images
are those of the embedded world; the others are fewer, or the same ones at other places.

## Saved pages

| images | saved in s | MB | opens in s |
|---|---|---|---|
{saved}

Chips of 32 px, vectors in 64 dimensions of a byte. Of more than 20,000 images a sample is saved.
"""


def main() -> None:
    """Measure everything and write the page."""
    if not (CHIPS / "store.json").exists():
        geossl.ChipStore.build(CHIPS, datasets.blue_marble(places=25_000, dates=4), size_px=32)
    records = Records(HERE / "explorers.json")
    records.rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        for name, count in SAVED.items():
            save(browser, name, count, records)
        for name, count in SIZES.items():
            explore(browser, name, count, records)
        browser.close()
    text = page(records)
    (HERE / "explorers.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
