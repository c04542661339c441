"""Train from a stream ten times as large as the memory: does training wait for the disk?

    python benchmarks/streams.py             about five minutes on two idle cores
    python benchmarks/streams.py --small     a small form, to see that it works

The same training reads the same kind of chips from an array in memory and from a stream on the local
disk, in turn. The process that reads the stream runs in a memory cgroup whose limit is a tenth of the
stream and includes the system's cache of its files. Nothing of the stream is in the cache at the start.
Writes streams.md and streams.json to this folder, and temporarily twenty gigabytes to ``--folder``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import synthetic
from study import Records, hardware

import geossl
from geossl.data import streaming
from geossl.transforms import Views

HERE = Path(__file__).parent
SIZE_PX, VIEW_PX, BATCH, REPEATS, WARM_S, SECONDS = 128, 64, 128, 3, 4.0, 15.0
ROOM_MB, TIMES = 300, 10  # above the need of training itself; size of the stream over the limit
SMALL = {"ROOM_MB": 40, "TIMES": 0.2, "BATCH": 16, "REPEATS": 1, "WARM_S": 0.1, "SECONDS": 0.5}
CGROUPS = (  # versions 1 and 2: folder, limit, peak
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    ("/sys/fs/cgroup", "memory.max", "memory.peak"),
)


@contextmanager
def cgroup(limit: float | None) -> Iterator[tuple[Path, str] | None]:
    """Make a group of processes with a memory limit in bytes; None without permission."""
    for root, limit_file, peak_file in CGROUPS:
        group = Path(root) / f"geossl-{os.getpid()}"
        try:
            group.mkdir()
            try:
                if limit is not None:
                    (group / limit_file).write_text(str(int(limit)))
                yield group, peak_file
            finally:
                group.rmdir()
            return
        except OSError:
            continue
    yield None


def train(store: geossl.ChipStore) -> dict[str, float]:
    """Train, and return pairs per second and the megabytes read from the disk."""
    config = geossl.PretrainConfig(
        batch_size=BATCH,
        epochs=1000,
        queue_size=4096,
        transform=Views(size_px=VIEW_PX),
        log_every=1,
        knn_every=0,
    )
    before, ticks = _read_mb(), []
    began = time.perf_counter()
    for _ in geossl.pretrain(store, pairs=geossl.pairs.temporal(), config=config):
        ticks.append(time.perf_counter())
        if ticks[-1] - began > WARM_S + SECONDS and len(ticks) > 2:
            break
    start = min(np.searchsorted(ticks, began + WARM_S), len(ticks) - 2)
    speed = BATCH * (len(ticks) - 1 - start) / (ticks[-1] - ticks[start])
    return {"pairs_per_s": speed, "read_mb": _read_mb() - before}


def _read_mb() -> float:
    lines = Path("/proc/self/io").read_text("utf-8").splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"]) / 1e6


def child(what: str, folder: Path, limit: float | None) -> dict[str, float]:
    """Train in a new process; return its rates and its peak memory in megabytes."""
    with cgroup(limit) as group:
        command = [sys.executable, __file__, "--train", what, "--folder", str(folder)]
        command += ["--small"] if "--small" in sys.argv else []

        def join_group() -> None:
            if group is not None:
                (group[0] / "cgroup.procs").write_text(str(os.getpid()))

        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, preexec_fn=join_group)
        if done.returncode:
            raise SystemExit(f"Training from {what} ended with exit code {done.returncode}.")
        values = json.loads(done.stdout.splitlines()[-1])
        if group is not None:
            values["memory_mb"] = int((group[0] / group[1]).read_text()) / 1e6
        return values


def drop_cache(folder: Path) -> None:
    """Remove the files of a folder from the system's cache."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def main() -> None:
    """Measure, and write records and page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--output-dir", type=Path, default=HERE)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--train", choices=["bare", "memory", "stream"])
    args = parser.parse_args()
    if args.small:
        globals().update(SMALL)
    if args.train == "stream":
        store = streaming.open(args.folder / "stream", memory_bytes=int(ROOM_MB * 1e6 / 2))
        print(json.dumps(train(store)))
    elif args.train:
        store = geossl.ChipStore.open(args.folder / args.train)
        print(json.dumps(train(replace(store, chips=np.array(store.chips)))))
    else:
        records = Records(args.output_dir / "streams.json")
        if args.small:
            records.path = Path(tempfile.mkdtemp()) / "streams.json"
        records.rows = []
        with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
            measure(records, Path(temporary))
        print(page(records))
        if not args.small:
            (args.output_dir / "streams.md").write_text(page(records), "utf-8")


def measure(records: Records, folder: Path) -> None:
    """Write the stores, then train from each in turn."""
    least, room = 4 * BATCH, ROOM_MB * 1e6
    synthetic.store(folder / "bare", least, size_px=SIZE_PX)
    synthetic.store(folder / "memory", rows_in(room, least), size_px=SIZE_PX)
    bare = child("bare", folder, None)
    records.add("bare", 0, bare)
    limit = bare["memory_mb"] * 1e6 + room if "memory_mb" in bare else None
    large = synthetic.store(
        folder / "large", rows_in(TIMES * (limit or room), least), size_px=SIZE_PX
    )
    began = time.perf_counter()
    streaming.write(large, folder / "stream", progress=False)
    took = time.perf_counter() - began
    megabytes = large.chips.nbytes / 1e6
    records.add("stream", 0, {"write_mb_per_s": megabytes / took, "size_mb": megabytes})
    for file in (folder / "large").iterdir():
        file.unlink()
    for repeat in range(REPEATS):
        for what in ("memory", "stream"):
            drop_cache(folder / "stream")
            values = child(what, folder, limit if what == "stream" else None)
            records.add(what, repeat, values)
            print(what, repeat, values, flush=True)


def rows_in(size: float, least: int) -> int:
    """Return the number of chips in ``size`` bytes: entire locations, and at least ``least``."""
    return max(int(size / (3 * SIZE_PX**2)) // 4 * 4, least)


def page(records: Records) -> str:
    """Render the page from the records."""
    frame = pd.DataFrame(records.rows)

    def values(method: str, metric: str) -> pd.Series:
        chosen = (frame["method"] == method) & (frame["metric"] == metric)
        return frame[chosen].set_index("seed")["value"]

    def spread(series: pd.Series, digits: int = 0) -> str:
        if series.empty:
            return "not measured"
        return f"{series.median():,.{digits}f} ({series.min():,.{digits}f} to {series.max():,.{digits}f})"

    share = values("stream", "pairs_per_s") / values("memory", "pairs_per_s")
    gigabytes = values("stream", "size_mb").iloc[0] / 1000
    bare = values("bare", "memory_mb")
    limit = (
        f"limited to {bare.iloc[0] + ROOM_MB:,.0f} MB, a {TIMES}th of the stream, by a memory cgroup, which includes "
        f"the system's cache of the files it reads; with {4 * BATCH} chips the same training needs "
        f"{bare.iloc[0]:,.0f} MB"
        if len(bare)
        else "not limited (no permission to make a memory cgroup)"
    )
    return f"""# Stores larger than the memory

Made by `python benchmarks/streams.py` on {hardware()}.
Median (smallest to largest) of {REPEATS} repeats in turn; MoCo-v2 with temporal positives, the small
encoder, batch {BATCH}, chips of {SIZE_PX} px in three bands, four dates per location, views of {VIEW_PX} px.

A stream of {gigabytes:.1f} GB on the local disk, none of it in the system's cache at the start; the process
is {limit}.

| chips from | pairs per s | / memory | read from the disk, MB | peak memory, MB |
|---|---|---|---|---|
| an array in memory, {ROOM_MB} MB | {spread(values("memory", "pairs_per_s"))} | 1 | {spread(values("memory", "read_mb"))} | {spread(values("memory", "memory_mb"))} |
| the stream | {spread(values("stream", "pairs_per_s"))} | {spread(share, 2)} | {spread(values("stream", "read_mb"))} | {spread(values("stream", "memory_mb"))} |

The stream was written at {spread(values("stream", "write_mb_per_s"))} MB/s by all cores. Target: 0.90.
"""


if __name__ == "__main__":
    main()
