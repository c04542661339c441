"""A store ten times as large as the memory: does training wait for the disk?

    python benchmarks/streams.py             some five minutes on two idle cores
    python benchmarks/streams.py --small     a shrunk form that proves that it works

The same training reads the same kind of chips from an array in memory and from a stream on the local
disk, in turn. The process that reads the stream lives in a memory cgroup, whose limit counts all that
the process holds, the system's cache of its files too: a tenth of the stream. Nothing of the stream is
in the cache when it starts. Writes streams.md and streams.json beside itself, and for a while twenty
gigabytes in ``--folder``.
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
ROOM_MB, TIMES = 300, 10  # beyond what training takes anyway; the stream over the limit
SMALL = {"ROOM_MB": 40, "TIMES": 0.2, "BATCH": 16, "REPEATS": 1, "WARM_S": 0.1, "SECONDS": 0.5}
CGROUPS = (  # of the first and the second version: folder, limit, highest use
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    ("/sys/fs/cgroup", "memory.max", "memory.peak"),
)


@contextmanager
def cgroup(limit: float | None) -> Iterator[tuple[Path, str] | None]:
    """A group whose processes hold so many bytes together at most; None where that is forbidden."""
    for root, limiting, highest in CGROUPS:
        group = Path(root) / f"geossl-{os.getpid()}"
        try:
            group.mkdir()
            try:
                if limit is not None:
                    (group / limiting).write_text(str(int(limit)))
                yield group, highest
            finally:
                group.rmdir()
            return
        except OSError:
            continue
    yield None


def train(store: geossl.ChipStore) -> dict[str, float]:
    """Pairs per second of a training, and megabytes that it read from the disk."""
    config = geossl.PretrainConfig(
        batch_size=BATCH,
        epochs=1000,
        queue_size=4096,
        transform=Views(size_px=VIEW_PX),
        log_every=1,
        knn_every=0,
    )
    before, rates = _read_mb(), []
    began = time.perf_counter()
    for _ in geossl.pretrain(store, pairs=geossl.pairs.temporal(), config=config):
        rates.append(time.perf_counter())
        if rates[-1] - began > WARM_S + SECONDS and len(rates) > 2:
            break
    start = min(np.searchsorted(rates, began + WARM_S), len(rates) - 2)
    speed = BATCH * (len(rates) - 1 - start) / (rates[-1] - rates[start])
    return {"pairs_per_s": speed, "read_mb": _read_mb() - before}


def _read_mb() -> float:
    lines = Path("/proc/self/io").read_text("utf-8").splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"]) / 1e6


def child(what: str, folder: Path, limit: float | None) -> dict[str, float]:
    """Train in a process of its own; its rates, and the highest use of memory in megabytes."""
    with cgroup(limit) as group:
        command = [sys.executable, __file__, "--train", what, "--folder", str(folder)]
        command += ["--small"] if "--small" in sys.argv else []

        def joined() -> None:
            if group is not None:
                (group[0] / "cgroup.procs").write_text(str(os.getpid()))

        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, preexec_fn=joined)
        if done.returncode:
            raise SystemExit(f"training from {what} ended with {done.returncode}")
        found = json.loads(done.stdout.splitlines()[-1])
        if group is not None:
            found["memory_mb"] = int((group[0] / group[1]).read_text()) / 1e6
        return found


def forgotten(folder: Path) -> None:
    """Take the files of a folder out of the system's cache."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def main() -> None:
    """Measure, write the records and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--train", choices=["bare", "memory", "stream"])
    asked = parser.parse_args()
    if asked.small:
        globals().update(SMALL)
    if asked.train == "stream":
        store = streaming.open(asked.folder / "stream", memory_bytes=int(ROOM_MB * 1e6 / 2))
        print(json.dumps(train(store)))
    elif asked.train:
        store = geossl.ChipStore.open(asked.folder / asked.train)
        print(json.dumps(train(replace(store, chips=np.array(store.chips)))))
    else:
        records = Records(asked.out / "streams.json")
        if asked.small:
            records.path = Path(tempfile.mkdtemp()) / "streams.json"
        records.rows = []
        with tempfile.TemporaryDirectory(dir=asked.folder) as temporary:
            measure(records, Path(temporary))
        print(page(records))
        if not asked.small:
            (asked.out / "streams.md").write_text(page(records), "utf-8")


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
            forgotten(folder / "stream")
            found = child(what, folder, limit if what == "stream" else None)
            records.add(what, repeat, found)
            print(what, repeat, found, flush=True)


def rows_in(size: float, least: int) -> int:
    """Chips in so many bytes, whole places, and at least so many."""
    return max(int(size / (3 * SIZE_PX**2)) // 4 * 4, least)


def page(records: Records) -> str:
    """The page, with what was found."""
    frame = pd.DataFrame(records.rows)

    def values(method: str, metric: str) -> pd.Series:
        chosen = (frame["method"] == method) & (frame["metric"] == metric)
        return frame[chosen].set_index("seed")["value"]

    def spread(found: pd.Series, digits: int = 0) -> str:
        if found.empty:
            return "not measured"
        return (
            f"{found.median():,.{digits}f} ({found.min():,.{digits}f} to {found.max():,.{digits}f})"
        )

    share = values("stream", "pairs_per_s") / values("memory", "pairs_per_s")
    gigabytes = values("stream", "size_mb").iloc[0] / 1000
    bare = values("bare", "memory_mb")
    limit = (
        f"limited to {bare.iloc[0] + ROOM_MB:,.0f} MB, a {TIMES}th of the stream, by a memory cgroup, which counts "
        f"the system's cache of the files it reads too; with {4 * BATCH} chips the same training takes "
        f"{bare.iloc[0]:,.0f} MB"
        if len(bare)
        else "not limited (no permission to make a memory cgroup)"
    )
    return f"""# Stores past one disk

Made by `python benchmarks/streams.py` on {hardware()}.
Median (smallest to largest) of {REPEATS} repeats in turn; MoCo-v2 with temporal positives, the small
encoder, batch {BATCH}, chips of {SIZE_PX} px in three bands, four dates a place, views of {VIEW_PX} px.

A stream of {gigabytes:.1f} GB on the local disk, none of it in the system's cache at the start; the process
is {limit}.

| chips from | pairs per s | over memory | read from the disk, MB | memory at most, MB |
|---|---|---|---|---|
| an array in memory, {ROOM_MB} MB | {spread(values("memory", "pairs_per_s"))} | 1 | {spread(values("memory", "read_mb"))} | {spread(values("memory", "memory_mb"))} |
| the stream | {spread(values("stream", "pairs_per_s"))} | {spread(share, 2)} | {spread(values("stream", "read_mb"))} | {spread(values("stream", "memory_mb"))} |

The stream was written at {spread(values("stream", "write_mb_per_s"))} MB/s by all cores. Target: 0.90.
"""


if __name__ == "__main__":
    main()
