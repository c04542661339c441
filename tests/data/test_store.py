import dataclasses
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geossl import ChipStore, datasets
from geossl.data import build as chip_build
from geossl.data import decode
from geossl.data.notices import DataWarning
from geossl.data.pixels import Pixels
from geossl.data.readers import FunctionReader, register_reader

ROOT = Path(__file__).parents[2]


def table_of(n, *, reader="pretend", **columns):
    """Some scenes of a pretended reader; the number in the path decides the pixels."""
    table = pd.DataFrame({
        "path": [f"scene{i}.tif" for i in range(n)],
        "location": np.arange(n) // 2,
        "time": pd.to_datetime("2020-01-01", utc=True) + pd.to_timedelta(np.arange(n), "D"),
        "lon": (np.arange(n) // 2) % 180.0,
        "lat": 0.5,
        "label": None,
        "split": "train",
        "reader": reader,
    })  # fmt: skip
    return table.assign(**columns)


def pixels_of(path, dtype, size_px, bands=3):
    rng = np.random.default_rng(int("".join(filter(str.isdigit, path))))
    top = np.iinfo(dtype).max
    level = rng.integers(0, top, (bands, 1, 1))
    return (level * rng.random((bands, size_px, size_px))).astype(dtype)


class Pretend(types.ModuleType):
    """A reader without files."""

    dtype = "uint8"
    bad: tuple[str, ...] = ()
    masked = False

    def __init__(self):
        super().__init__("geossl.datasets.pretend")
        self.calls, self.lock = [], threading.Lock()

    def pixel_info(self, scenes):
        return {"bands": ["a", "b", "c"], "dtype": self.dtype, "rgb": [2, 1, 0],
                "units": "counts", "source": "pretended"}  # fmt: skip

    def read_chips(self, rows, *, size_px):
        with self.lock:
            self.calls.append(len(rows))
        chips = np.stack([pixels_of(p, self.dtype, size_px) for p in rows["path"]])
        bad = {i: "it is broken" for i, p in enumerate(rows["path"]) if p in self.bad}
        chips[list(bad)] = 0
        valid = None
        if self.masked:
            valid = chips[:, 0] % 3 > 0
        extra = {
            "brightness": chips.mean((1, 2, 3)) / 3,
            "name": np.array([p[: 5 + i % 9] for i, p in enumerate(rows["path"])]),
        }
        return Pixels(chips, valid, extra, bad)


@pytest.fixture
def reader(monkeypatch):
    module = Pretend()
    register_reader("pretend", module)
    return module


def build(path, table, **options):
    given = {"size_px": 5, "chunk_size": 4, "progress": False, "num_workers": 2, **options}
    return ChipStore.build(path, table, **given)


def content(path):
    return {
        str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(path.rglob("*"))
        if p.is_file()
    }


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("n", [1, 4, 23])
def test_a_store_holds_what_the_reader_gave(tmp_path, reader, dtype, n):
    reader.dtype = dtype
    table = table_of(n)
    store = build(tmp_path / "new" / "chips", table)
    expected = np.stack([pixels_of(p, dtype, 5) for p in table["path"]])
    np.testing.assert_array_equal(np.load(store.path / "chips.npy"), expected)
    np.testing.assert_array_equal(store.chips, expected)
    assert isinstance(store.chips, np.memmap) and not store.chips.flags.writeable
    assert list(store.scenes["path"]) == list(table["path"])
    np.testing.assert_array_equal(store.scenes["brightness"], expected.mean((1, 2, 3)) / 3)
    assert list(store.scenes["name"]) == [p[: 5 + i % 4] for i, p in enumerate(table["path"])]
    assert (len(store), store.size_px, store.dtype, store.bands) == (n, 5, dtype, ["a", "b", "c"])
    assert store.rgb == [2, 1, 0] and store.info["source"] == "pretended"
    assert sorted(content(store.path)) == ["chips.npy", "scenes.parquet", "store.json"]
    assert sum(reader.calls) == n and max(reader.calls) <= 4


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_statistics_are_those_of_the_valid_pixels(tmp_path, reader, dtype, masked):
    reader.dtype, reader.masked, reader.bad = dtype, masked, ("scene3.tif", "scene8.tif")
    store = build(tmp_path / "chips", table_of(11), skip_bad=True)
    chips = np.asarray(store.chips).astype(np.float64)
    seen = store.chips[:, 0] % 3 > 0 if masked else np.ones((9, 5, 5), bool)
    for band in range(3):
        values = chips[:, band][seen]
        np.testing.assert_allclose(store.mean[band], values.mean(), rtol=1e-6)
        np.testing.assert_allclose(store.std[band], values.std(), rtol=1e-6)
    assert store.mean.dtype == store.std.dtype == np.float32


def test_a_constant_band_can_be_normalized(tmp_path, reader, monkeypatch):
    monkeypatch.setattr(
        reader, "read_chips", lambda rows, size_px: Pixels(np.full((len(rows), 3, 5, 5), 7, "u1"))
    )
    store = build(tmp_path / "chips", table_of(3))
    assert store.mean.tolist() == [7.0] * 3 and store.std.tolist() == [1.0] * 3


def test_order_and_number_of_threads_do_not_matter(tmp_path, reader):
    one = build(tmp_path / "one", table_of(23), num_workers=1)
    many = build(tmp_path / "many", table_of(23), num_workers=7)
    assert content(one.path) == content(many.path)
    assert one.mean.tolist() == build(tmp_path / "big", table_of(23), chunk_size=50).mean.tolist()


def test_gather_copies_rows(tmp_path, reader):
    store = build(tmp_path / "chips", table_of(9))
    index = torch.tensor([8, 0, 3, 3])
    chips = store.gather(index)
    assert chips.dtype == torch.uint8
    np.testing.assert_array_equal(chips.numpy(), np.asarray(store.chips)[[8, 0, 3, 3]])
    chips.zero_()
    assert store.chips[8].any()
    assert store.gather([]).shape == (0, 3, 5, 5)
    again = pickle.loads(pickle.dumps(store))
    assert torch.equal(again.gather(index), store.gather(index))
    assert len(pickle.dumps(store)) < 1000
    reader.dtype = "uint16"
    wide = build(tmp_path / "wide", table_of(9))
    expected = np.asarray(wide.chips)[[8, 1]].astype(np.float32)
    np.testing.assert_array_equal(wide.gather([8, 1]).float().numpy(), expected)
    assert expected.max() > 2**15


def test_pairs_stay_in_the_order_they_were_drawn_in(tmp_path, reader):
    store = build(tmp_path / "chips", table_of(9))
    drawn = (torch.tensor([8, 0, 3]), torch.tensor([1, 1, 2]))
    assert store.arrange(drawn, torch.arange(9), batch_size=2, generator=torch.Generator()) is drawn
    assert store.ordering == []


def test_preview_shows_red_green_blue(tmp_path, reader):
    store = build(tmp_path / "chips", table_of(9))
    expected = np.asarray(store.chips)[[4, 2]][:, [2, 1, 0]].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(store.preview([4, 2]), expected)
    reader.dtype = "uint16"
    wide = build(tmp_path / "wide", table_of(300), num_workers=1)
    seen = wide.preview(np.arange(300))
    assert seen.shape == (300, 5, 5, 3) and seen.dtype == np.uint8
    looked_at, shown = wide.chips[::2, ::-1], wide.chips[:, ::-1]  # half, as B, G, R are stored
    low, high = np.percentile(looked_at, [2, 98], axis=(0, 2, 3))[..., None, None]
    middle = np.median(np.clip((looked_at - low) / (high - low), 0, 1).mean(1))
    gamma = np.log(0.4) / np.log(middle)  # they are dark
    assert 0.45 < gamma < 1
    expected = np.clip((shown - low) / (high - low), 0, 1) ** gamma * 255
    assert np.abs(seen - expected.transpose(0, 2, 3, 1)).max() < 1


def test_chips_that_are_computed_are_shown_in_more_pixels(tmp_path, reader):
    scenes = datasets.blue_marble(places=5, dates=2, seed=3)
    store = ChipStore.build(tmp_path / "world", scenes, size_px=8, progress=False)
    for rows in ([7, 0], torch.tensor([7, 0]), np.isin(np.arange(10), [0, 7])):
        small, large = store.preview(rows), store.preview(rows, min_px=32)
        assert small.shape == (2, 8, 8, 3) and large.shape == (2, 32, 32, 3)
        blocks = large.reshape(2, 8, 4, 8, 4, 3).mean((2, 4))
        assert np.abs(blocks - small).mean() < np.abs(blocks[::-1] - small).mean() / 4
    assert np.array_equal(store.preview([7, 0], min_px=8), store.preview([7, 0]))
    assert store.preview([], min_px=32).shape == (0, 8, 8, 3)
    other = dataclasses.replace(store, chips=255 - store.chips)  # not what is computed
    older = dataclasses.replace(store, scenes=store.scenes.drop(columns="noise"))
    lost = dataclasses.replace(store, scenes=store.scenes.drop(columns="reader"))
    for changed in (other, older, lost, build(tmp_path / "chips", table_of(9))):
        assert np.array_equal(changed.preview([7, 0], min_px=32), changed.preview([7, 0]))


def test_a_finished_store_opens_at_once_and_others_are_refused(tmp_path, reader):
    store = build(tmp_path / "chips", table_of(9))
    before, reader.calls[:] = content(store.path), []
    assert len(build(store.path, table_of(9), chunk_size=2)) == 9
    assert reader.calls == []
    for other, options in [(table_of(8), {}), (table_of(9), {"size_px": 6}),
                           (table_of(9, split="test"), {})]:  # fmt: skip
        with pytest.raises(
            ValueError, match="other scenes or another `size_px`. Use another folder"
        ):
            build(store.path, other, **options)
    assert content(store.path) == before and reader.calls == []


def test_nothing_foreign_is_overwritten(tmp_path, reader):
    (tmp_path / "scenes.parquet").write_bytes(b"mine")
    with pytest.raises(ValueError, match="contains a scenes.parquet that is not of a chip store"):
        build(tmp_path, table_of(3))
    with pytest.raises(ValueError, match="is a file"):
        build(tmp_path / "scenes.parquet", table_of(3))
    assert content(tmp_path) == {"scenes.parquet": hashlib.sha256(b"mine").hexdigest()}


def test_a_bad_scene_stops_the_build_by_name_or_is_left_out(tmp_path, reader):
    reader.bad = ("scene0.tif", "scene6.tif", "scene7.tif", "scene22.tif")
    table = table_of(23)
    path = tmp_path / "chips"
    with pytest.raises(ValueError, match=r"scene\d+\.tif: it is broken. Use skip_bad=True"):
        build(path, table)
    with pytest.raises(FileNotFoundError, match="unfinished"):
        ChipStore.open(path)
    store = build(path, table, skip_bad=True)
    good = [i for i in range(23) if i not in (0, 6, 7, 22)]
    assert list(store.scenes["path"]) == [f"scene{i}.tif" for i in good]
    for i, row in enumerate(good):
        np.testing.assert_array_equal(store.chips[i], pixels_of(f"scene{row}.tif", "uint8", 5))
    assert store.info["bad"] == dict.fromkeys(reader.bad, "it is broken")
    assert sorted(content(path)) == ["chips.npy", "scenes.parquet", "store.json"]
    with pytest.raises(ValueError, match="without 4 unreadable"):
        build(path, table)
    reader.bad = tuple(table["path"])
    with pytest.raises(ValueError, match="None of the 23 scenes can be read"):
        build(tmp_path / "none", table, skip_bad=True)


def test_a_scene_left_out_by_an_unfinished_build_is_read_again(tmp_path, reader, monkeypatch):
    want = content(build(tmp_path / "want", table_of(9)).path)
    reader.bad = ("scene6.tif",)
    with monkeypatch.context() as patch:
        patch.setattr(chip_build.ChipBuilder, "_finish", lambda *a: (_ for _ in ()).throw(KeyError))
        with pytest.raises(KeyError):
            build(tmp_path / "chips", table_of(9), skip_bad=True)
    with pytest.raises(ValueError, match="scene6.tif: it is broken"):
        build(tmp_path / "chips", table_of(9))
    reader.bad = ()
    assert content(build(tmp_path / "chips", table_of(9)).path) == want


def test_bad_requests_get_a_sentence(tmp_path, reader, monkeypatch):
    for table, match in [
        (table_of(3).drop(columns="reader"), "no such column"),
        (table_of(3, reader=["a", "b", "a"]), "one reader in its column 'reader'"),
        (table_of(3, reader="nobody"), "No reader is registered as 'nobody'"),
        (table_of(3, reader="../x"), "No reader is registered as '../x'"),
        (table_of(3, lat=95.0), "out of range"),
    ]:
        with pytest.raises(ValueError, match=match):
            build(tmp_path / "chips", table)
    with pytest.raises(ValueError, match="`size_px` must be > 0"):
        build(tmp_path / "chips", table_of(3), size_px=0)
    assert list(tmp_path.iterdir()) == []
    empty = Pixels(np.zeros((3, 3, 5, 5), "u1"), np.zeros((3, 5, 5), bool))
    monkeypatch.setattr(reader, "read_chips", lambda rows, size_px: empty)
    with pytest.raises(ValueError, match="`scenes` have no valid pixel"):
        build(tmp_path / "chips", table_of(3))


def test_open_says_what_is_wrong(tmp_path, reader):
    with pytest.raises(FileNotFoundError, match="no chip store at .*nothing: it is no folder"):
        ChipStore.open(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="the folder has no store.json"):
        ChipStore.open(tmp_path / "empty")
    store = build(tmp_path / "chips", table_of(9))
    text = (store.path / "store.json").read_text()
    newer = json.dumps({**json.loads(text), "format": 3})
    (store.path / "store.json").write_text(newer)
    for act in (ChipStore.open, lambda p: build(p, table_of(9))):
        with pytest.raises(ValueError, match="format 3, but this geossl reads up to 2. Update"):
            act(store.path)
    for damage in ("{", "{}", text.replace('"n": 9', '"n": 8')):
        (store.path / "store.json").write_text(damage)
        with pytest.raises(ValueError, match="is damaged .* build it again"):
            ChipStore.open(store.path)
    (store.path / "store.json").write_text(text)
    assert len(ChipStore.open(store.path)) == 9
    with open(store.path / "chips.npy", "rb+") as file:
        file.truncate(300)
    with pytest.raises(ValueError, match="is damaged"):
        ChipStore.open(store.path)


def test_a_full_disk_leaves_nothing_that_looks_finished(tmp_path, reader, monkeypatch):
    usage = types.SimpleNamespace(free=100)
    with monkeypatch.context() as patch:
        patch.setattr(chip_build.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(OSError, match="Make space"):
            build(tmp_path / "chips", table_of(9))
    assert list(tmp_path.iterdir()) == []
    want = content(build(tmp_path / "want", table_of(23)).path)
    real = open

    class Full:
        """A file on a disk that fills up."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            raise OSError(28, "No space left on device")

    def filling(name, mode="r", *args, **options):
        file = real(name, mode, *args, **options)
        return Full(file) if mode == "rb+" and len(reader.calls) > 3 else file

    reader.calls[:] = []
    with monkeypatch.context() as patch:
        patch.setattr(decode, "open", filling, raising=False)
        with pytest.raises(OSError, match="is full, and the build is unfinished. Make space"):
            build(tmp_path / "chips", table_of(23), num_workers=1)
    assert not (tmp_path / "chips" / "store.json").exists()
    assert content(build(tmp_path / "chips", table_of(23)).path) == want
    assert sum(reader.calls) < 23 + 2 * 4 * 2  # it did go on


def test_two_builds_of_the_same_store_at_once(tmp_path, reader):
    threads = [
        threading.Thread(target=build, args=(tmp_path / "chips", table_of(23))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(reader.calls) == 23
    assert content(tmp_path / "chips") == content(build(tmp_path / "one", table_of(23)).path)


def run_python(code, **values):
    """Run code after the definitions of this file; ``{name}`` is filled in."""
    head = "import sys\nsys.path.insert(0, {tests!r})\nfrom test_store import *\n"
    head += "reader = Pretend()\nregister_reader('pretend', reader)\n"
    text = head.format(tests=str(Path(__file__).parent)) + textwrap.dedent(code).format(**values)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("bad", [False, True])
def test_killed_at_any_file_operation_and_resumed_gives_the_same_bytes(tmp_path, bad):
    """SIGKILL at every ninth operation on the store, then resume; some killed once more."""
    code = """
    import os, signal
    from pathlib import Path
    reader.bad = ("scene5.tif",) if {bad} else ()

    def forked(act):
        child = os.fork()
        if child == 0:
            act()
            os._exit(0)
        return os.waitpid(child, 0)[1]

    def killed(path, after):
        seen, armed = [0], threading.Lock()
        def hook(event, args):
            names = [a for a in args if isinstance(a, (str, Path)) and str(a).startswith(str(path))]
            if names:
                with armed:
                    seen[0] += 1
                    if seen[0] == after:
                        os.kill(os.getpid(), signal.SIGKILL)
        def act():
            sys.addaudithook(hook)
            build(path, table_of(11), skip_bad=True)
        return forked(act)

    out = Path({out!r})
    forked(lambda: build(out / "want", table_of(11), skip_bad=True))
    want, kills = content(out / "want"), 0
    for after in range({first}, 400, 9):
        path = out / str(after)
        if killed(path, after) == 0:
            break
        kills += 1
        if (path / "store.json").exists():
            ChipStore.open(path)
        if after % 3 == 0:
            killed(path, 7 + after // 3)
        assert forked(lambda: build(path, table_of(11), skip_bad=True)) == 0
        assert content(path) == want, (after, content(path), want)
    print(kills)
    """
    kills = int(run_python(code, out=str(tmp_path), bad=bad, first=1 + 4 * bad))
    assert 4 < kills < 44


def test_pixels_lost_in_a_crash_of_the_machine_are_decoded_again(tmp_path, reader, monkeypatch):
    want = content(build(tmp_path / "want", table_of(23)).path)
    path = tmp_path / "chips"
    with monkeypatch.context() as patch:
        patch.setattr(chip_build.ChipBuilder, "_finish", lambda *a: (_ for _ in ()).throw(KeyError))
        with pytest.raises(KeyError):
            build(path, table_of(23))
    raw, journal = path / ".build" / "raw.npy", path / ".build" / "journal.jsonl"
    data = bytearray(raw.read_bytes())
    data[-400:-300] = bytes(100)  # in the chunk before the last
    raw.write_bytes(data)
    journal.write_text(journal.read_text()[:-50])  # and a torn line
    reader.calls[:] = []
    build(path, table_of(23))
    assert content(path) == want
    assert len(reader.calls) in (1, 2)  # the torn line may be of the same chunk


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA and VmData are Linux's")
def test_a_store_of_twice_the_memory_is_built_and_read(tmp_path):
    code = """
    import resource

    def read_chips(rows, *, size_px):
        chips = np.empty((len(rows), 3, size_px, size_px), np.uint8)
        for i, path in enumerate(rows["path"]):
            chips[i] = int(path[5:-4]) % 251
        return Pixels(chips)

    reader.read_chips = read_chips
    build({out!r} + "_small", table_of(9))  # libraries, stacks of threads
    limit, size_px = 64 * 2**20, 512
    table = table_of(2 * limit // (3 * size_px**2) + 1)
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    used = int(status["VmData"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + limit, used + limit))
    try:
        np.ones(2 * limit, np.uint8)  # as large as the store; a little fits into the freed heap
        raise SystemExit("the limit does not limit")
    except MemoryError:
        pass
    store = ChipStore.build({out!r}, table, size_px=size_px, num_workers=2, progress=False)
    assert store.chips.nbytes > 2 * limit
    expected = np.arange(len(store)) % 251
    assert abs(store.mean[0] - expected.mean()) < 1e-3
    for part in np.array_split(np.arange(len(store)), 20):
        assert (store.gather(part)[:, 1, 5, 7].numpy() == expected[part]).all()
    """
    run_python(code, out=str(tmp_path / "chips"))
    shutil.rmtree(tmp_path / "chips")  # pytest keeps the folders of three runs


@pytest.mark.parametrize("masked", [False, True])
def test_sums_are_exact_to_the_last_unit(masked):
    rng = np.random.default_rng(0)
    chips = rng.integers(65_000, 65_536, (5, 3, 200, 200)).astype(np.uint16)
    valid = rng.random((5, 200, 200)) > 0.3 if masked else None
    found = decode._sums(chips, valid, [4])
    seen = np.ones((5, 200, 200), bool) if valid is None else valid.copy()
    seen[4] = False
    for band in range(3):
        values = [int(v) for v in chips[:, band][seen]]
        assert found["sum"][band] == sum(values) and found["count"] == len(values)
        assert found["square"][band] == sum(v * v for v in values)


def test_what_all_rows_say_of_their_pixels_is_kept_once(tmp_path):
    from geossl.data.build import _identity
    from geossl.data.pixels import PIXEL_COLUMNS
    from geossl.datasets.raster.chips import add_pixel_columns

    np.save(tmp_path / "a.npy", np.full((6, 6, 3), 9, np.uint8))
    rows = pd.DataFrame({"path": str(tmp_path / "a.npy"), "location": range(3), "lon": 1.0,
                         "lat": range(3)})  # fmt: skip
    table = add_pixel_columns(rows, reader="images")
    assert all(len(table[name].cat.categories) <= 1 for name in PIXEL_COLUMNS)
    store = ChipStore.build(tmp_path / "chips", table, size_px=6, progress=False)
    assert not set(pd.read_parquet(tmp_path / "chips" / "scenes.parquet")) & set(PIXEL_COLUMNS)
    assert store.info["pixels"] == {
        "bands": "1,2,3", "band_names": "red,green,blue", "dtype": "uint8", "scale_low": None,
        "scale_high": None, "reader": "images",
    }  # fmt: skip
    assert (
        store.scenes["bands"].tolist() == ["1,2,3"] * 3 and store.scenes["scale_low"].isna().all()
    )
    again = ChipStore.build(tmp_path / "small", store.scenes, size_px=3, progress=False)
    assert (again.chips == 9).all()
    # the columns of version 0.1: the same identity, so that its stores are found to be finished
    old = table.astype({name: table[name].cat.categories.dtype for name in PIXEL_COLUMNS})
    info = {"bands": ["red"], "dtype": "uint8"}
    assert _identity(old, (3,), info) == _identity(table, (3,), info)
    mixed = pd.concat([table, table.assign(bands="3,2,1")], ignore_index=True)
    store = ChipStore.build(tmp_path / "mixed", mixed, size_px=6, progress=False)
    assert "bands" not in store.info["pixels"]
    assert store.scenes["bands"].tolist() == ["1,2,3"] * 3 + ["3,2,1"] * 3


ONES = np.ones((2, 3, 8, 8))
INFO = {"bands": ["a", "b", "c"], "dtype": "uint8", "rgb": [0, 1, 2], "units": "", "source": ""}


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "int8", "complex64", "object"])
def test_readers_of_others_are_told_which_types_a_store_holds(tmp_path, dtype):
    table = table_of(2, reader="mine")
    register_reader("mine", FunctionReader(lambda rows, size_px: ONES[: len(rows)].astype(dtype)))
    with pytest.raises(ValueError, match=f"'mine' returns {dtype} chips.*uint8 or uint16.*Convert"):
        build(tmp_path / "a", table, size_px=8)
    read = FunctionReader(lambda rows, size_px: ONES.astype(dtype), lambda scenes: INFO)
    register_reader("mine", read)
    with pytest.raises(ValueError, match=rf"'mine' must return uint8 chips .*, got {dtype} \("):
        build(tmp_path / "b", table, size_px=8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bands": []}, "names as `bands`"),
        ({"bands": [1, 2, 3]}, "names as `bands`"),
        ({"rgb": [3]}, "`rgb` from 0 to 2"),
        ({"rgb": []}, "`rgb` from 0 to 2"),
        ({"dtype": "float16"}, "returns float16 chips"),
        ({"dtype": None}, "returns float64 chips"),
    ],
)
def test_what_a_reader_says_of_its_pixels_is_checked(tmp_path, change, words):
    read = FunctionReader(lambda rows, size_px: ONES.astype("u1"), lambda scenes: INFO | change)
    register_reader("mine", read)
    with pytest.raises(ValueError, match=f"reader 'mine'.*{words}"):
        build(tmp_path / "a", table_of(2, reader="mine"), size_px=8)
    numpy = {"dtype": np.uint8, "rgb": np.array([2, 1, 0]), "bands": np.array(["a", "b", "c"])}
    read = FunctionReader(lambda rows, size_px: ONES.astype("u1"), lambda scenes: INFO | numpy)
    register_reader("mine", read)
    store = build(tmp_path / "b", table_of(2, reader="mine"), size_px=8)
    assert store.rgb == [2, 1, 0] and store.dtype == "uint8"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"valid": np.ones((2, 8), bool)}, "`valid` as bool"),
        ({"valid": np.ones((2, 8, 8), int)}, "`valid` as bool"),
        ({"bad": {2: "x"}}, "`bad` from 0 to 1"),
        ({"extra": {"x": np.ones(3)}}, "`extra` 'x' with a value for each of 2 rows"),
    ],
)
def test_what_a_reader_returns_is_checked(tmp_path, reader, monkeypatch, change, words):
    pixels = Pixels(np.ones((2, 3, 8, 8), "u1"), **change)
    monkeypatch.setattr(reader, "read_chips", lambda rows, size_px: pixels)
    with pytest.raises(ValueError, match=f"reader 'pretend' must.*{words}"):
        build(tmp_path / "a", table_of(2), size_px=8)


@pytest.mark.slow
def test_sizes_that_cannot_be_are_refused_before_work_begins(tmp_path, reader):
    for size_px in (10**6, 10**12):
        with pytest.raises(ValueError, match="chips of .* MB, which do not fit into .* of memory"):
            build(tmp_path / "chips", table_of(3), size_px=size_px)
    with pytest.raises(OSError, match="needs .* MB, but .* MB free. Make space"):
        table = pd.concat([table_of(1)] * 10_000, ignore_index=True)
        build(tmp_path / "chips", table, size_px=5_000)
    with pytest.raises(ValueError, match="`size_px` must be at least 2 for an image, got 1"):
        build(tmp_path / "chips", table_of(3), size_px=1)
    assert list(tmp_path.iterdir()) == [] and reader.calls == []


def test_masked_chips_are_left_out_by_share(tmp_path, reader, monkeypatch):
    def read(rows, *, size_px):
        number = rows["path"].str.extract(r"(\d+)")[0].astype(int).to_numpy()
        chips = np.stack([pixels_of(path, "uint8", size_px) for path in rows["path"]])
        valid = np.arange(25) >= (number * 2)[:, None]  # of 25 pixels
        return Pixels(chips, valid.reshape(-1, 5, 5))

    monkeypatch.setattr(reader, "read_chips", read)
    for share, kept in [(1, 23), (0.9, 12), (0.5, 7), (0, 1)]:
        path = tmp_path / str(share)
        if kept < 23:
            with pytest.warns(DataWarning, match=f"{23 - kept} of 23 chips have no data"):
                store = build(path, table_of(23), max_nodata_share=share)
        else:
            store = build(path, table_of(23), max_nodata_share=share)
        assert store.scenes["path"].tolist() == [f"scene{i}.tif" for i in range(kept)]
        for i in range(kept):
            np.testing.assert_array_equal(store.chips[i], pixels_of(f"scene{i}.tif", "uint8", 5))
        assert store.scenes["nodata_share"].tolist() == pytest.approx(
            [min(1, i * 2 / 25) for i in range(kept)]
        )
        values = [
            pixels_of(f"scene{i}.tif", "uint8", 5).reshape(3, 25)[:, i * 2 :] for i in range(kept)
        ]
        np.testing.assert_allclose(store.mean, np.concatenate(values, 1).mean(1), rtol=1e-6)
    # the key is the table and the share
    with pytest.raises(ValueError, match="`max_nodata_share` = 0.5, not 0.9"):
        build(tmp_path / "0.5", table_of(23))
