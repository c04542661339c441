"""The build of a chip store past one machine: a Dask cluster of processes of this one."""

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geossl import ChipStore
from geossl.data import build as chip_build
from geossl.data import decode, scenes
from geossl.data.scenes import BOX
from geossl.data.table_files import write
from geossl.datasets.raster import chips
from geossl.utils import parallel

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")


def pictures(folder, *, n, rows, side_px=500):
    """A scene table of boxes in a few pictures that take some time to decode."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        pixels = rng.integers(0, 255, (side_px, side_px, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i}.png", compress_level=1)
    number = np.arange(rows)
    table = pd.DataFrame({
        "path": [str(folder / f"p{i % n}.png") for i in number],
        "location": number // 2,
        "time": pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(number, "D"),
        "lon": number // 2 % 100 * 1.0,
        "lat": 1.5,
        "label": pd.Categorical([f"label {i // 2}" for i in number]),
        BOX[0]: number * 2.0,
        BOX[1]: number * 3.0,
        BOX[2]: number * 2.0 + 40,
        BOX[3]: number * 3.0 + 40,
    })  # fmt: skip
    return chips.add_pixel_columns(scenes.check(table), reader="images")


def build(path, table, **options):
    return ChipStore.build(
        path, table, **{"size_px": 8, "chunk_size": 4, "progress": False, **options}
    )


def content(path):
    return {
        str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(path.rglob("*"))
        if p.is_file()
    }


def workers_of(process):
    return [
        p
        for p in process.children(recursive=True)
        if "spawn_main" in " ".join(p.cmdline()) and "resource_tracker" not in str(p.cmdline())
    ]


def when_under_way(journal, act, *, at_least=2):
    """Wait until some chunks are in the journal, act; give the number there was then."""
    until = time.monotonic() + 60
    while len(found := journal.read_text().splitlines() if journal.exists() else []) <= at_least:
        if time.monotonic() > until:
            raise TimeoutError(f"{journal} has {len(found)} lines")
        time.sleep(0.01)
    act()
    return len(found) - 1


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A scene table that takes a while, and what the store of one machine holds."""
    folder = tmp_path_factory.mktemp("slow")
    table = pictures(folder / "data", n=3, rows=160)
    return table, content(build(folder / "threads", table, num_workers=2).path)


@pytest.mark.slow
def test_a_worker_is_killed_in_the_middle_and_the_store_is_the_same(tmp_path, slow, monkeypatch):
    table, expected = slow
    journal, killed, kept = tmp_path / "dask" / ".build" / "journal.jsonl", [], []

    def kill_one():
        worker = workers_of(psutil.Process())[1]
        worker.send_signal(signal.SIGKILL)
        killed.append(worker.pid)

    thread = threading.Thread(target=lambda: kept.append(when_under_way(journal, kill_one)))
    finish = chip_build.ChipBuilder._finish

    def spy(builder, records):
        kept.append([json.loads(line)["chunk"] for line in journal.read_text().split("\n")[1:]])
        finish(builder, records)

    monkeypatch.setattr(chip_build.ChipBuilder, "_finish", spy)
    thread.start()
    store = build(tmp_path / "dask", table, dask="local:3")
    thread.join()
    assert len(killed) == 1
    at_kill, recorded = kept
    assert at_kill < 40  # in the middle
    assert sorted(recorded) == list(range(40))
    assert content(store.path) == expected
    assert sorted(expected) == ["chips.npy", "scenes.parquet", "store.json"]
    assert not workers_of(psutil.Process())


@pytest.mark.slow
def test_a_second_start_goes_on_where_a_killed_one_stopped(tmp_path, slow):
    table, expected = slow
    write(table, tmp_path / "scenes.parquet")
    script = tmp_path / "build.py"
    script.write_text(
        textwrap.dedent(
            f"""
            if __name__ == "__main__":
                from geossl import ChipStore
                from geossl.data import scenes

                table = scenes.read({str(tmp_path / "scenes.parquet")!r})
                ChipStore.build({str(tmp_path / "dask")!r}, table, size_px=8, chunk_size=4,
                                progress=False, dask="local:3")
            """
        )
    )
    journal = tmp_path / "dask" / ".build" / "journal.jsonl"
    first = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE)
    workers = []

    def kill():
        workers.extend(workers_of(psutil.Process(first.pid)))
        first.kill()

    done = when_under_way(journal, kill)
    first.communicate()
    assert first.returncode == -signal.SIGKILL and 0 < done < 40 and len(workers) >= 3
    assert not psutil.wait_procs(workers, timeout=20)[1]  # they end when their parent does
    assert not (tmp_path / "dask" / "store.json").exists()
    at_start = set(journal.read_text().splitlines())
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chip_build, "run_tasks", watched(seen))
        store = build(tmp_path / "dask", scenes.read(tmp_path / "scenes.parquet"), dask="local:2")
    assert 0 < len(seen) <= 40 - (len(at_start) - 2)  # one line may be torn
    assert content(store.path) == expected


def watched(seen):
    def work_off(function, tasks, **options):
        return chip_work_off(function, (seen.append(t.number) or t for t in tasks), **options)

    chip_work_off = parallel.run_tasks
    return work_off


@pytest.fixture(scope="module")
def address():
    import distributed

    quiet = {"dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, **quiet) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_relative_paths_and_bad_scenes_are_as_on_one_machine(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)  # the worker stays where it started
    table = pictures(Path("data"), n=2, rows=12, side_px=90)
    table.loc[5, "path"] = "data/none.png"
    table.loc[7, "path"] = str(tmp_path / "data" / "none.png")
    one = build(Path("one"), table, skip_bad=True)
    many = build(Path("many"), table, skip_bad=True, dask=address)
    assert list(one.info["bad"]) == ["data/none.png", str(tmp_path / "data" / "none.png")]
    assert all(path in reason for path, reason in one.info["bad"].items())
    assert content(one.path) == content(many.path)
    messages = []
    for name, dask in (("a", None), ("b", address)):
        with pytest.raises(ValueError, match="data/none.png.* Use skip_bad=True") as error:
            build(Path(name), table, dask=dask, num_workers=1)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_a_finished_store_needs_no_cluster(tmp_path):
    table = pictures(tmp_path / "data", n=1, rows=4, side_px=90)
    store = build(tmp_path / "chips", table)
    again = build(tmp_path / "chips", table, dask="tcp://127.0.0.1:9")
    assert content(store.path) == content(again.path)


@pytest.mark.slow
@pytest.mark.parametrize("texts", ["object", "string", "string[pyarrow]"])
def test_a_task_is_small_however_long_the_table(tmp_path, texts):
    small = pictures(tmp_path / "data", n=1, rows=4, side_px=90)
    table = pd.concat([small] * 5_000, ignore_index=True)
    table["path"] = table["path"].astype(texts)
    table["label"] = pd.Categorical([f"label {i}" for i in range(len(table))])
    table.attrs["skipped"] = {f"file {i}": "reason" for i in range(20_000)}
    builder = chip_build.ChipBuilder(tmp_path / "chips", table, size_px=8, chunk_size=256)
    builder.work.mkdir(parents=True)
    (builder.work / "raw.npy").write_bytes(b"")
    chunks = list(builder._chunks([0, 50], False, True))
    assert [len(chunk.rows) for chunk in chunks] == [256, 256]
    assert max(len(pickle.dumps(chunk)) for chunk in chunks) < 100_000
    assert list(chunks[1].rows["label"]) == list(table["label"][50 * 256 : 51 * 256])


def test_what_does_not_arrive_is_found(tmp_path, monkeypatch):
    table = pictures(tmp_path / "data", n=1, rows=12, side_px=90)
    real_work_off = parallel.run_tasks

    def elsewhere(function, tasks, *, num_workers, dask):
        def lost(chunk):
            there = tmp_path / "elsewhere.npy"
            there.write_bytes(Path(chunk.path).read_bytes())
            path = str(there) if chunk.number == 1 else chunk.path
            return function(replace(chunk, path=path))

        return real_work_off(lost, tasks, num_workers=1)

    with monkeypatch.context() as patch:
        patch.setattr(chip_build, "run_tasks", elsewhere)
        with pytest.raises(OSError, match="1 of 3 parts .* must be on a file system that all sha"):
            build(tmp_path / "chips", table, dask="local:2")
    assert not (tmp_path / "chips" / "store.json").exists()
    seen = []
    monkeypatch.setattr(chip_build, "run_tasks", watched(seen))
    assert content(build(tmp_path / "chips", table).path) == content(
        build(tmp_path / "other", table).path
    )
    assert seen == [1, 0, 1, 2]


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path):
    table = pictures(tmp_path / "data", n=1, rows=4, side_px=90)
    builder = chip_build.ChipBuilder(tmp_path / "chips", table, size_px=8, chunk_size=256)
    builder.work.mkdir(parents=True)
    (builder.work / "raw.npy").write_bytes(b"")
    chunk = next(builder._chunks([0], False, True))
    os.remove(builder.work / "raw.npy")
    with pytest.raises(FileNotFoundError, match="on a file system that all workers share"):
        decode.decode_chunk(chunk)
