"""Data at scale: open and describe a million rows, build a chip store from ten thousand JPEGs.

    make data             about five minutes on two cores

Compares the build, in turn within each repeat, with Pillow and torchvision, which only decode, on the
same number of threads. Writes data.md and data.json to this folder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from study import Records, hardware

HERE = Path(__file__).parent
ROWS, FILES, SIDE, CHIP, REPEATS, THREADS = 1_000_000, 10_000, 512, 128, 3, 2


def write_table(path: Path) -> None:
    """Write a csv of a million rows, four dates per location, and the first of its images."""
    from PIL import Image

    (path.parent / "images" / "0").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(path.parent / "images" / "0" / "0.jpg")
    rng = np.random.default_rng(0)
    location = np.arange(ROWS) // 4
    pd.DataFrame({
        "path": [f"images/{i // 1000}/{i}.jpg" for i in range(ROWS)],
        "location": location,
        "time": pd.date_range("2000-01-01", periods=ROWS, freq="7min").strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lon": rng.uniform(-180, 180, ROWS // 4).round(5)[location],
        "lat": rng.uniform(-80, 80, ROWS // 4).round(5)[location],
        "label": np.array(["forest", "crop", "water"])[location % 3],
    }).to_csv(path, index=False)  # fmt: skip


def measure_open(path: Path) -> dict[str, float]:
    """Measure seconds and gigabytes to open and describe a csv, in a new process."""
    code = (
        "import sys, time, resource; t = time.perf_counter()\n"
        "from geossl import describe, open_scenes\n"
        f"describe(open_scenes({str(path)!r}))\n"
        "print(time.perf_counter() - t, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, gigabytes = map(float, done.stdout.split()[-2:])
    return {"csv_1m_s": seconds, "csv_1m_gb": gigabytes}


def write_jpegs(folder: Path) -> list[str]:
    """Cut JPEGs out of the Blue Marble: real detail, 512 px, quality 90; return their paths."""
    from PIL import Image

    from geossl.data import earth

    picture = earth.world_image()
    rng = np.random.default_rng(0)
    folder.mkdir()
    paths = []
    for i in range(FILES):
        y, x = rng.integers(0, np.array(picture.shape[:2]) - SIDE)
        paths.append(str(folder / f"{i}.jpg"))
        Image.fromarray(picture[y : y + SIDE, x : x + SIDE]).save(paths[-1], quality=90)
    return paths


def pillow(path: str) -> None:
    """Only decode, with Pillow."""
    from PIL import Image

    with Image.open(path) as file:
        file.load()


def pillow_scaled(path: str) -> None:
    """Only decode, with Pillow, at the smallest scale of the JPEG that is large enough."""
    from PIL import Image

    with Image.open(path) as file:
        file.draft("RGB", (CHIP, CHIP))
        file.load()


def torchvision(path: str) -> None:
    """Only decode, with torchvision."""
    from torchvision.io import decode_jpeg, read_file

    decode_jpeg(read_file(path))


def rate(work: Callable[[], object]) -> float:
    """Return images per second."""
    began = time.perf_counter()
    work()
    return FILES / (time.perf_counter() - began)


def measure_rates(paths: list[str], folder: Path) -> dict[str, float]:
    """Measure the rates of the plain decoders and of our build, in turn."""
    import torch

    import geossl
    from geossl.datasets.raster import chips

    torch.set_num_threads(1)
    scenes = chips.add_pixel_columns(
        pd.DataFrame({"path": paths, "location": range(FILES)}), reader="images"
    )

    def decode_all(decode: Callable[[str], None]) -> Callable[[], object]:
        def work() -> object:
            with ThreadPoolExecutor(THREADS) as pool:
                return list(pool.map(decode, paths, chunksize=64))

        return work

    rates = {f.__name__: rate(decode_all(f)) for f in (pillow, torchvision, pillow_scaled)}
    rates["geossl"] = rate(
        lambda: geossl.ChipStore.build(
            folder, scenes, size_px=CHIP, num_workers=THREADS, progress=False
        )
    )
    return rates


def main() -> None:
    """Measure, and write records and page."""
    records = Records(HERE / "data.json")
    records.rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_table(folder / "million.csv")
        paths = write_jpegs(folder / "jpg")
        for repeat in range(REPEATS):
            records.add("geossl", repeat, measure_open(folder / "million.csv"))
            for method, value in measure_rates(paths, folder / f"store-{repeat}").items():
                records.add(method, repeat, {"images_per_s": value})
            print(records.rows[-1], flush=True)
    (HERE / "data.md").write_text(page(records), "utf-8")
    print((HERE / "data.md").read_text("utf-8"))


def page(records: Records) -> str:
    """Render the page from the records."""
    frame = pd.DataFrame(records.rows)

    def spread(metric: str, method: str = "geossl", digits: int = 0) -> str:
        values = frame[(frame["metric"] == metric) & (frame["method"] == method)]["value"]
        return f"{values.median():,.{digits}f} ({values.min():,.{digits}f} to {values.max():,.{digits}f})"

    rates = frame[frame["metric"] == "images_per_s"].pivot(
        index="seed", columns="method", values="value"
    )
    lines = [
        f"| {name} | {spread('images_per_s', key)} | {(rates['geossl'] / rates[key]).median():.2f} |"
        for key, name in (
            (
                "geossl",
                "geossl: a chip store of 128 px: decode, crop, resize, write, checksum",
            ),
            ("pillow", "Pillow, decoding only"),
            ("torchvision", "torchvision.io, decoding only"),
            ("pillow_scaled", "Pillow, decoding only, at a quarter of the size (`draft`)"),
        )
    ]
    return f"""# Data at scale

Made by `make data` on {hardware()}. Median (smallest
to largest) of {REPEATS} repeats.

- `open_scenes` opens, checks and describes a csv of {ROWS:,} rows in {spread("csv_1m_s", digits=1)} s, the start of
  Python included, with {spread("csv_1m_gb", digits=2)} GB of memory.
- {FILES:,} JPEGs of {SIDE} px, {THREADS} threads, files in the system's cache:

| method | images per s | geossl / method |
|---|---|---|
{chr(10).join(lines)}

A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size with less work. The build uses the smallest of these that
is large enough, through Pillow.
"""


if __name__ == "__main__":
    main()
