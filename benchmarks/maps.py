"""How maps grow: Python seconds, megabytes of HTML and browser seconds from 1k to a million places.

    python benchmarks/maps.py       some minutes; needs Chromium, and ../shared/data for the points

Real photo coordinates, repeated with a jitter of 0.2 degrees for the million. Browser seconds are
from opening the file until the places are drawn. Writes maps.md and maps.json beside itself.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import Browser, sync_playwright
from study import Records, hardware

from geossl import maps

HERE = Path(__file__).parent
POINTS = HERE.parent.parent / "shared" / "data" / "points" / "photo_coordinates_100k.csv"
SIZES = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1m": 1_000_000}
REPEATS = 3
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-component-update"
    " --disable-background-networking --disable-sync"
).split()


def table(count: int) -> pd.DataFrame:
    """A scene table of that many places."""
    points = pd.read_csv(POINTS)
    rng = np.random.default_rng(0)
    row = np.arange(count) % len(points)
    again = (np.arange(count) >= len(points))[:, None]
    place = points[["LON", "LAT"]].to_numpy()[row] + again * rng.normal(0, 0.2, (count, 2))
    return pd.DataFrame({
        "location": np.arange(count), "lon": (place[:, 0] + 180) % 360 - 180,
        "lat": np.clip(place[:, 1], -89, 89),
        "label": np.array(["a", "b", "c", "d", "e"])[rng.integers(0, 5, count)],
    })  # fmt: skip


def drawn_after(browser: Browser, path: Path) -> float:
    """Seconds from opening a file until its places, or the picture of them, are there."""
    page = browser.new_page(viewport={"width": 1200, "height": 750})
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_function(
        "document.querySelector('.leaflet-container')?.dataset.drawn"
        " || document.querySelector('img.geossl-raster')?.complete"
        " || document.querySelectorAll('path[role=button]').length"
    )
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def main() -> None:
    """Measure every size, and write the page."""
    records = Records(HERE / "maps.json")
    records.rows = [r for r in records.rows if r["method"] == "embedding_explorer"]
    maps.map_scenes(table(10))  # the base layer is made once a session
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as running, tempfile.TemporaryDirectory() as folder:
        browser = running.chromium.launch(executable_path=found, args=FLAGS)
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
                    f"browser_s_{name}": drawn_after(browser, path),
                }
                records.add(method, repeat, values)
                print(method, name, values, flush=True)
        browser.close()
    lines = []
    for name in SIZES:
        cells = []
        for what in ("python_s", "html_mb", "browser_s"):
            values = [r["value"] for r in records.rows if r["metric"] == f"{what}_{name}"]
            cells.append(
                f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            )
        method = next(r["method"] for r in records.rows if r["metric"] == f"html_mb_{name}")
        lines.append(f"| {name} | {method} | " + " | ".join(cells) + " |")
    text = f"""# Maps from a thousand to a million places

Made by `python benchmarks/maps.py` on {hardware()}.

Median (smallest to largest) of {REPEATS} repeats. Python: `map_scenes` and saving, after the first map
of the session (which prepares the base layer). Browser: headless Chromium without a GPU, 1200 x 750,
from opening the file until the places are drawn.

| places | way | Python, s | HTML, MB | browser, s |
|---|---|---|---|---|
{chr(10).join(lines)}
"""
    (HERE / "maps.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
