"""Growth of maps and explorers: seconds and megabytes from a thousand to a million locations.

    make maps       a few minutes; needs Chromium, and ../shared/data for the points

Maps: coordinates of real photos, repeated with a jitter of 0.2 degrees for the million. Explorer: the
time from a box dragged over 100,000 chips in JupyterLab until the gallery shows the selection. Writes
maps.md and maps.json to this folder; a chip store of 300 MB stays in runs/maps.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import Browser, sync_playwright
from study import Records, hardware

import geossl
from geossl import datasets
from geossl.viz import maps

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests" / "browser"))

from labs import FLAGS, Notebook, canvas_box, chromium_path, drag, jupyterlab, write_notebook  # noqa: E402

CHIPS = HERE.parent / "runs" / "maps" / "chips"
POINTS = HERE.parent.parent / "shared" / "data" / "points" / "photo_coordinates_100k.csv"
SIZES = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1m": 1_000_000}
REPEATS = 3


def table(count: int) -> pd.DataFrame:
    """Return a scene table of ``count`` locations."""
    points = pd.read_csv(POINTS)
    rng = np.random.default_rng(0)
    row = np.arange(count) % len(points)
    repeated = (np.arange(count) >= len(points))[:, None]
    position = points[["LON", "LAT"]].to_numpy()[row] + repeated * rng.normal(0, 0.2, (count, 2))
    return pd.DataFrame({
        "location": np.arange(count), "lon": (position[:, 0] + 180) % 360 - 180,
        "lat": np.clip(position[:, 1], -89, 89),
        "label": np.array(["a", "b", "c", "d", "e"])[rng.integers(0, 5, count)],
    })  # fmt: skip


def time_drawing(browser: Browser, path: Path) -> float:
    """Return the seconds from opening a file until its locations, or their image, are drawn."""
    page = browser.new_page(viewport={"width": 1200, "height": 750})
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_function(
        "document.querySelector('.leaflet-container')?.dataset.drawn"
        " || document.querySelector('img.geossl-overview')?.complete"
        " || document.querySelectorAll('path[role=button]').length"
    )
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    seconds = time.perf_counter() - start
    page.close()
    return seconds


EXPLORE = f"""
import numpy, geossl
store = geossl.ChipStore.open({str(CHIPS)!r})
radians = numpy.radians(store.scenes[["lon", "lat"]].to_numpy())
vectors = numpy.hstack([numpy.sin(radians), numpy.cos(radians)])
vectors = vectors + 0.1 * numpy.random.default_rng(0).standard_normal(vectors.shape)
embeddings = geossl.Embeddings(vectors.astype("f4"), store.scenes)
explorer = geossl.viz.widgets.EmbeddingExplorer(embeddings, store=store)
explorer
"""
WATCH = """() => {
  const gallery = document.querySelector(".geossl-gallery");
  addEventListener("pointerup", () => { window.released = performance.now(); }, {capture: true});
  window.shown = new Promise((done) => {
    const watch = new MutationObserver(async () => {
      if (!window.released) return;
      watch.disconnect();
      await Promise.all([...gallery.querySelectorAll("img")].map((i) => i.decode().catch(() => 0)));
      requestAnimationFrame(() => done((performance.now() - window.released) / 1000));
    });
    watch.observe(gallery, {childList: true, subtree: true, attributes: true});
  });
  window.released = 0;
}"""


def gallery_seconds(browser: Browser) -> list[float]:
    """Return the seconds from releasing a box over 100,000 chips until their gallery is drawn."""
    if not (CHIPS / "store.json").exists():
        geossl.ChipStore.build(CHIPS, datasets.blue_marble(places=25_000, dates=4), size_px=32)
    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as address:
        write_notebook(Path(folder) / "explore.ipynb", EXPLORE)
        book = Notebook(browser, address).open("explore.ipynb").run_all()
        book.page.wait_for_selector("text=/a random sample/")
        book.page.locator(".geossl-view canvas").first.scroll_into_view_if_needed()
        seconds = []
        for repeat in range(2 * REPEATS):
            book.page.evaluate(WATCH)
            x, y, wide, high = canvas_box(book.page, repeat % 2)  # the map, the scatter
            across = 0.2 + 0.05 * repeat
            drag(book.page, [(x + across * wide, y + 0.2 * high), (x + 0.7 * wide, y + 0.7 * high)])
            seconds.append(book.page.evaluate("window.shown"))
            book.wait_idle()
        book.leave()
    return seconds


def page(records: Records) -> str:
    """Render the page from the records."""

    def values(metric: str) -> list[float]:
        return [r["value"] for r in records.rows if r["metric"] == metric]

    def spread(numbers: list[float]) -> str:
        return f"{statistics.median(numbers):.2f} ({min(numbers):.2f} to {max(numbers):.2f})"

    lines = []
    for name in SIZES:
        cells = [spread(values(f"{what}_{name}")) for what in ("python_s", "html_mb", "browser_s")]
        method = next(r["method"] for r in records.rows if r["metric"] == f"html_mb_{name}")
        lines.append(f"| {name} | {method} | " + " | ".join(cells) + " |")
    gallery = values("gallery_s_100k")
    return f"""# Maps from a thousand to a million locations

Made by `make maps` on {hardware()}.

Median (smallest to largest) of {REPEATS} repeats. Python: `map_scenes` and saving, after the first map
of the session (which prepares the base layer). Browser: headless Chromium without a GPU, 1200 x 750,
from opening the file until the locations are drawn.

| locations | method | Python, s | HTML, MB | browser, s |
|---|---|---|---|---|
{chr(10).join(lines)}

`EmbeddingExplorer` of 100,000 chips in JupyterLab, from releasing a box on the map or the scatter plot
until the gallery of the selection is drawn: {statistics.median(gallery):.2f} s ({min(gallery):.2f}
to {max(gallery):.2f}, {len(gallery)} boxes).
"""


def main() -> None:
    """Measure every size, and write records and page."""
    records = Records(HERE / "maps.json")
    records.rows = []
    maps.map_scenes(table(10))  # the base layer is made once per session
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        for name, count in SIZES.items():
            scenes = table(count)
            method = "points" if count <= 2_000 else "packed" if count <= 200_000 else "raster"
            path = Path(folder) / f"{name}.html"
            for repeat in range(REPEATS):
                start = time.perf_counter()
                maps.map_scenes(scenes).save(str(path))
                values = {
                    f"python_s_{name}": time.perf_counter() - start,
                    f"html_mb_{name}": path.stat().st_size / 1e6,
                    f"browser_s_{name}": time_drawing(browser, path),
                }
                records.add(method, repeat, values)
                print(method, name, values, flush=True)
        for repeat, value in enumerate(gallery_seconds(browser)):
            records.add("embedding_explorer", repeat, {"gallery_s_100k": value})
        browser.close()
    text = page(records)
    (HERE / "maps.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
