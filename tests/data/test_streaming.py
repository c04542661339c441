import ast
import json
import os
import pickle
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geossl import embed, models, pairs, pretrain
from geossl.cli.main import main
from geossl.data import streaming
from geossl.data.store import ChipStore
from geossl.data.streaming import writer
from geossl.data.streaming.writer import INDEX
from geossl.train.config import PretrainConfig
from geossl.transforms import Views

litdata = pytest.importorskip("litdata", reason="needs the packages of the extra stream")


def write_store(path, *, dates=(4, 1, 3, 2) * 10, dtype="uint8", size_px=5, bands=3):
    """A chip store as it lies on disk: place i has dates[i] chips, all in a mixed order."""
    rng = np.random.default_rng(0)
    location = rng.permutation(np.repeat(np.arange(len(dates)), dates))
    n = len(location)
    path.mkdir(parents=True)
    chips = rng.integers(0, 2 ** (8 * np.dtype(dtype).itemsize), (n, bands, size_px, size_px))
    np.save(path / "chips.npy", chips.astype(dtype))
    days = rng.permutation(n) * 10
    table = pd.DataFrame({
        "path": [f"{i}.tif" for i in range(n)],
        "location": [f"place {i}" for i in location],
        "time": pd.to_datetime("2020-01-01", utc=True) + pd.to_timedelta(days, "D"),
        "lon": rng.uniform(-180, 180, len(dates))[location],
        "lat": rng.uniform(-80, 80, len(dates))[location],
        "label": np.where(location % 2, "odd", "even"),
        "split": np.where(location % 8 == 0, "val", "train"),
    })  # fmt: skip
    table.to_parquet(path / "scenes.parquet")
    info = {
        "format": 1, "bands": [f"b{i}" for i in range(bands)], "mean": [125.5] * bands,
        "std": [60.0] * bands, "size_px": size_px, "dtype": dtype, "rgb": [0, 0, 0],
        "units": "counts", "source": "test", "n": n, "bad": {},
    }  # fmt: skip
    (path / "store.json").write_text(json.dumps(info))
    return ChipStore.open(path)


def stream_of(store, path, **options):
    """Several chunks, of some locations each."""
    options = {"chunk_mb": store.chips[:9].nbytes / 1e6, "progress": False, **options}
    return streaming.write(store, path, **options)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("streams") / "chips")


@pytest.fixture(scope="module")
def stream(store):
    return stream_of(store, store.path.parent / "stream")


def fetched(stream, monkeypatch):
    """A list that grows by each location that is read, and the bytes kept after it."""
    pixels = stream.chips
    seen, plain = [], pixels._fetch

    def fetch(number):
        found = plain(number)
        seen.append(
            (
                number,
                pixels._cache_bytes,
                sum(chips.nbytes for chips in list(pixels._cache.values())),
            )
        )
        return found

    monkeypatch.setattr(pixels, "_fetch", fetch)
    return seen


def rows_of(stream, policy, **options):
    got = [
        b.rows
        for b in streaming.batches(stream, policy, **{"batch_size": 8, "split": None} | options)
    ]
    return torch.stack(got)  # (batches, N, 2)


# --- what is written ----------------------------------------------------------------------------


def assert_same_content(stream, store):
    table = stream.scenes.assign(row=np.arange(len(stream))).set_index("path")
    rows = table["row"][store.scenes["path"]].to_numpy()
    pd.testing.assert_frame_equal(stream.scenes.iloc[rows].reset_index(drop=True), store.scenes)
    assert torch.equal(stream.gather(rows), torch.from_numpy(np.array(store.chips)))


def test_the_stream_holds_the_same_pixels_and_table(store, stream):
    assert_same_content(stream, store)
    assert len(stream.info["locations"]) > 5  # chunks
    assert (stream.bands, stream.dtype, stream.size_px) == (store.bands, "uint8", 5)
    assert np.array_equal(stream.mean, store.mean) and np.array_equal(stream.std, store.std)
    assert stream.info["units"] == "counts" and "100 chips of 3 x 5 x 5" in repr(stream)
    assert not (Path(stream.path) / ".writing").exists()


@pytest.mark.parametrize(
    "about",
    [
        {"dates": (1,), "size_px": 1, "bands": 1},
        {"dates": (7,), "dtype": "uint16", "bands": 2},
        {"dates": (1, 1, 1), "size_px": 7},
        {"dates": (9, 1, 30), "dtype": "uint16", "size_px": 3, "bands": 5},
    ],
)
def test_awkward_stores_come_back_exactly(about, tmp_path):
    store = write_store(tmp_path / "chips", **about)
    assert_same_content(stream_of(store, tmp_path / "stream"), store)


def test_all_dates_of_a_location_are_one_sample_in_the_order_of_time(store, stream):
    files = litdata.StreamingDataset(stream.path, item_loader=litdata.TemporalArrayLoader())
    places = stream.scenes.groupby("location", sort=False)
    assert len(files) == len(places) == 40
    for i, (name, rows) in enumerate(places):
        own = np.flatnonzero(store.scenes["location"] == name)
        own = own[np.argsort(store.scenes["time"].to_numpy()[own])]
        assert np.array_equal(files[i]["chips"], store.chips[own])
        assert np.array_equal(files[i]["row"], rows.index)


def test_missing_times_come_last(tmp_path):
    store = write_store(tmp_path / "chips", dates=(4, 4))
    table = store.scenes.copy()
    table.loc[::2, "time"] = pd.NaT
    table.to_parquet(store.path / "scenes.parquet")
    store = ChipStore.open(store.path)
    stream = stream_of(store, tmp_path / "stream")
    assert_same_content(stream, store)
    for _, rows in stream.scenes.groupby("location"):
        assert rows["time"].isna().is_monotonic_increasing


def test_the_seed_decides_the_order_of_the_locations(store, stream, tmp_path):
    again = stream_of(store, tmp_path / "again")
    other = stream_of(store, tmp_path / "other", seed=1)
    assert again.scenes.equals(stream.scenes) and not other.scenes.equals(stream.scenes)
    one, two = (sorted(Path(s.path).iterdir()) for s in (stream, again))
    assert [f.name for f in one] == [f.name for f in two]
    for a, b in zip(one, two, strict=True):
        assert a.name == "index.json" or a.read_bytes() == b.read_bytes(), a


def test_a_killed_writer_leaves_nothing_to_be_seen_and_goes_on(store, tmp_path, monkeypatch):
    plain, written = writer.write_chunk, []

    def dies(job):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(job.number)
        return plain(job)

    monkeypatch.setattr(writer, "write_chunk", dies)
    with pytest.raises(KeyboardInterrupt):
        stream_of(store, tmp_path / "s", num_workers=1)
    with pytest.raises(FileNotFoundError, match="resumes where it stopped"):
        streaming.open(tmp_path / "s")
    torn = next((tmp_path / "s").glob("chunk-*-1.bin"))
    torn.write_bytes(torn.read_bytes()[:-1])  # lost with the power
    (tmp_path / "s" / "chunk-0123abcd-0.bin").write_bytes(b"of another plan")
    fresh = []
    monkeypatch.setattr(litdata.streaming.writer.BinaryWriter, "done", spy(fresh, "done"))
    monkeypatch.setattr(writer, "write_chunk", plain)
    stream = stream_of(store, tmp_path / "s", num_workers=1)
    assert len(fresh) == len(stream.info["locations"]) - 2
    assert_same_content(stream, store)
    assert not list((tmp_path / "s").glob("chunk-0123abcd*")) + list((tmp_path / "s").glob(".w*"))
    fresh.clear()
    stream_of(store, tmp_path / "s")
    assert not fresh  # it is there


def spy(calls, name):
    plain = getattr(litdata.streaming.writer.BinaryWriter, name)

    def spied(self, *args):
        calls.append(self)
        return plain(self, *args)

    return spied


def test_another_store_or_something_else_is_not_overwritten(store, tmp_path):
    stream_of(store, tmp_path / "s")
    with pytest.raises(ValueError, match="contains a stream of other scenes"):
        stream_of(store, tmp_path / "s", seed=1)
    with pytest.raises(
        ValueError, match=r"contains a (scenes.parquet|store.json) that is not of a stream"
    ):
        stream_of(store, store.path)
    (tmp_path / "s" / "stream.json").write_bytes(b"")
    with pytest.raises(ValueError, match="contains a stream of other scenes"):
        stream_of(store, tmp_path / "s")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        stream_of(store, tmp_path / "file")
    with pytest.raises(ValueError, match="`chunk_mb` must be > 0"):
        stream_of(store, tmp_path / "s", chunk_mb=0)
    with pytest.raises(ValueError, match="got 'ftp://x/y'"):
        stream_of(store, "ftp://x/y")


@pytest.mark.slow
def test_a_cluster_writes_the_same_bytes(store, stream, tmp_path):
    pytest.importorskip("distributed")
    by = stream_of(store, tmp_path / "s", dask="local:2")
    for file in Path(by.path).glob("*.bin"):
        assert file.read_bytes() == (Path(stream.path) / file.name).read_bytes()
    assert_same_content(by, store)


# --- what is drawn ------------------------------------------------------------------------------

POLICIES = {
    "same_image": pairs.same_image(),
    "temporal": pairs.temporal(),
    "gap": pairs.temporal(min_gap_days=100, max_gap_days=600, single_date="drop"),
    "season": pairs.temporal(season="other", single_date="self"),
    "mixture": pairs.mixture((pairs.same_image(), 1), (pairs.temporal(), 2)),
}


@pytest.mark.parametrize("name", POLICIES)
def test_each_query_comes_once_an_epoch_and_its_key_obeys_the_policy(name, store, stream):
    table, policy = stream.scenes, POLICIES[name]
    query, key = rows_of(stream, policy, batch_size=1).flatten(0, 1).T.numpy()
    expected = np.sort(policy.prepare(table)(torch.Generator())[0].numpy())
    assert np.array_equal(np.sort(query), expected) and len(query) > 30
    assert (table["location"].to_numpy()[query] == table["location"].to_numpy()[key]).all()
    gap = np.abs(table["time"].to_numpy()[query] - table["time"].to_numpy()[key])
    gap = gap / np.timedelta64(1, "D")
    if name == "same_image":
        assert (query == key).all()
    if name == "temporal":
        dates = table.groupby("location")["time"].transform("size").to_numpy()
        assert ((query == key) == (dates[query] == 1)).all()
    if name == "gap":
        assert gap.min() >= 100 and gap.max() <= 600
    if name == "season":
        quarter = (table["time"].dt.month.to_numpy() % 12) // 3
        own = query == key
        assert (quarter[query] != quarter[key])[~own].all() and 0 < own.sum() < len(own)
    if name == "mixture":
        assert 0 < (query == key).sum() < len(query)


def test_the_chips_of_a_batch_are_those_of_its_rows(store, stream):
    for got in streaming.batches(stream, pairs.temporal(), batch_size=16):
        assert torch.equal(got.query, stream.gather(got.rows[:, 0]))
        assert torch.equal(got.key, stream.gather(got.rows[:, 1]))
        places = stream.scenes["location"].to_numpy()[got.rows]
        assert (places[:, 0] == places[:, 1]).all()
        assert len(set(zip(places[:, 0], got.location.tolist(), strict=True))) == len(
            set(got.location.tolist())
        )
        assert (stream.scenes["split"].iloc[got.rows.flatten().numpy()] == "train").all()


@pytest.mark.parametrize("batch", [3, 7, 8, 40, 64])
def test_only_the_last_incomplete_batch_is_left_out(batch, stream):
    rows = rows_of(stream, pairs.same_image(), batch_size=batch)
    assert rows.shape == (100 // batch, batch, 2)
    assert len(rows[..., 0].unique()) == rows[..., 0].numel()


def test_an_epoch_has_its_own_order_and_the_seed_decides_it(stream):
    state = np.random.get_state  # noqa: NPY002
    states = random.getstate(), state()[1].copy(), torch.get_rng_state()
    first = rows_of(stream, pairs.temporal())
    assert torch.equal(first, rows_of(stream, pairs.temporal()))
    for other in ({"epoch": 1}, {"seed": 1}):
        changed = rows_of(stream, pairs.temporal(), **other)
        assert not torch.equal(changed, first)
        assert (changed[..., 0] == first[..., 0]).float().mean() < 0.1
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[2])
    assert (state()[1] == states[1]).all()


@pytest.mark.parametrize("start", [1, 5, 11, 12])
def test_an_epoch_goes_on_exactly_where_it_stopped(start, stream):
    whole = list(streaming.batches(stream, pairs.temporal(), batch_size=8, split=None, epoch=3))
    rest = list(
        streaming.batches(stream, pairs.temporal(), batch_size=8, split=None, epoch=3, start=start)
    )
    assert len(rest) == 12 - start
    for a, b in zip(whole[start:], rest, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_each_batch_and_read_places_of_their_own(ranks, store, tmp_path, monkeypatch):
    store = write_store(tmp_path / "chips", dates=(4,) * 200)
    alone = streaming.open(
        stream_of(store, tmp_path / "s").path, memory_bytes=store.chips[:80].nbytes
    )
    parts, read = [], []
    for rank in range(ranks):
        mine = streaming.open(alone.path, memory_bytes=alone.chips.memory_bytes)
        seen = fetched(mine, monkeypatch)
        parts.append(rows_of(mine, pairs.temporal(), batch_size=16, share=(rank, ranks)))
        read.append({number for number, *_ in seen})
    whole = rows_of(alone, pairs.temporal(), batch_size=16)
    assert torch.equal(torch.cat(parts, 1), whole)
    assert set.union(*read) == set(range(200))
    assert sum(map(len, read)) <= 200 + ranks  # but for those where two shares meet


@pytest.mark.slow
def test_each_place_is_read_once_an_epoch_within_the_memory(tmp_path, monkeypatch):
    dates = np.random.default_rng(1).integers(1, 9, 3000)
    store = write_store(tmp_path / "chips", dates=tuple(dates), size_px=4)
    memory = store.chips.nbytes // 8
    stream = streaming.open(
        stream_of(store, tmp_path / "s", chunk_mb=0.02).path, memory_bytes=memory
    )
    seen = fetched(stream, monkeypatch)
    rows_of(stream, pairs.temporal(), batch_size=32)
    assert {number for number, *_ in seen} == set(range(3000))
    assert len(seen) <= 3000 + 2 * 32  # a place where two lanes meet comes in both
    assert max(kept for *_, kept in seen) <= memory
    assert all(counted == kept for _, counted, kept in seen)


@pytest.mark.slow
def test_batches_are_mixed_from_all_over_the_stream(tmp_path):
    store = write_store(tmp_path / "chips", dates=(4,) * 2000, size_px=1, bands=1)
    stream = stream_of(store, tmp_path / "s", chunk_mb=400 / 1e6)  # 100 places in a chunk
    place_of = stream.location.numpy()
    few = streaming.open(
        stream.path, memory_bytes=stream.gather([0]).nbytes * 4 * 400
    )  # a fifth of it
    rows = rows_of(few, pairs.temporal(), batch_size=64)[..., 0].numpy()
    distinct = np.mean([len(np.unique(place_of[batch])) for batch in rows])
    assert distinct > 55  # of 64: 200 places are mixed, so two of 64 are often the same one
    chunks = np.mean([len(np.unique(place_of[batch] // 100)) for batch in rows])
    assert chunks > 15  # of 20; one after the other would be one or two
    step = pd.Series(np.repeat(np.arange(len(rows)), 64)).groupby(place_of[rows.ravel()])
    apart = (step.max() - step.min()).median()  # four dates of a place; 200 * 4 / 64 steps
    assert 5 < apart < 12.5


def test_pairs_of_two_places_are_refused(stream):
    spatial = pairs.spatial(radius_km=20_000)
    with pytest.raises(ValueError, match="keeps the dates of a location together"):
        next(streaming.batches(stream, spatial, batch_size=8))
    with pytest.raises(ValueError, match="keeps the dates of a location together"):
        next(
            streaming.batches(
                stream, pairs.mixture((spatial, 1), (pairs.temporal(), 1)), batch_size=8
            )
        )
    for wrong in (
        {"batch_size": 9, "share": (0, 2)},
        {"batch_size": 8, "share": (2, 2)},
        {"batch_size": 0},
    ):
        with pytest.raises(ValueError, match="`batch_size` must be"):
            next(streaming.batches(stream, pairs.temporal(), **wrong))


# --- reading ------------------------------------------------------------------------------------


def test_gather_takes_any_rows(store, stream):
    everything = stream.gather(np.arange(100))
    for rows in ([], [3], [5, 5, 5], [-1, 0, -100], np.arange(99, -1, -7), np.arange(100) % 3 == 0):
        assert torch.equal(
            stream.gather(rows), everything[np.asarray(rows, None if len(rows) else int)]
        )
    assert torch.equal(stream.gather(torch.tensor([4, 2])), everything[[4, 2]])
    chips = stream.chips
    assert np.array_equal(chips[7], everything[7]) and len(list(chips)) == len(chips) == 100
    assert np.array_equal(chips[::9, 1, ::2, 3:], everything.numpy()[::9, 1, ::2, 3:])
    assert np.array_equal(chips[-1, 0], everything.numpy()[-1, 0])
    assert (chips.nbytes, chips[:1].nbytes) == (store.chips.nbytes, store.chips[:1].nbytes)
    rows = stream.scenes["path"].str.removesuffix(".tif").astype(int).to_numpy()
    assert np.array_equal(stream.preview([3, 50]), store.preview(rows[[3, 50]]))
    for row in (100, -101):
        with pytest.raises(IndexError):
            stream.gather([row])


def test_embeddings_of_a_stream_are_those_of_the_store(store, stream, monkeypatch):
    encoder = models.build_encoder(
        "small", bands=3, stem="small", mean=[127] * 3, std=[60] * 3, seed=0
    )
    fresh = streaming.open(stream.path, memory_bytes=10_000)
    seen = fetched(fresh, monkeypatch)
    found = embed(fresh, encoder, batch_size=7)
    assert len(seen) == 40  # each place once, though batches cut it
    table = found.scenes.assign(row=np.arange(100)).set_index("path")
    rows = table["row"][store.scenes["path"]].to_numpy()
    expected = embed(store, encoder, batch_size=100)
    np.testing.assert_allclose(found.vectors[rows], expected.vectors, atol=1e-5)


def test_a_path_is_opened_for_what_it_is(store, stream):
    assert type(streaming.open_store(store.path)) is ChipStore
    assert type(streaming.open_store(stream.path)) is streaming.StreamStore
    with pytest.raises(FileNotFoundError, match="There is no chip store"):
        streaming.open_store(store.path.parent)


def test_a_stream_travels_to_another_process_by_its_path(stream):
    copy = pickle.loads(pickle.dumps(streaming.open(stream.path, memory_bytes=1234)))
    assert (copy.chips.memory_bytes, copy.path) == (1234, stream.path)
    assert torch.equal(copy.gather([7]), stream.gather([7]))


def truncate(name, keep):
    def damage(path):
        file = next(path.glob(name))
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])

    return damage


def edit(name, change):
    def damage(path):
        content = json.loads((path / name).read_text())
        change(content)
        (path / name).write_text(json.dumps(content))

    return damage


def swapped(index):
    a, b = index["chunks"][:2]
    for key in ("filename", "chunk_bytes"):
        a[key], b[key] = b[key], a[key]


DAMAGES = {
    "no info": truncate("stream.json", 0),
    "half an info": truncate("stream.json", 0.5),
    "a list": lambda path: (path / "stream.json").write_text("[1]"),
    "a newer one": edit("stream.json", lambda info: info.update(format=99)),
    "no bands": edit("stream.json", lambda info: info.pop("bands")),
    "nested": lambda path: (path / "stream.json").write_text("[" * 100_000),
    "no size": edit("stream.json", lambda info: info.update(size_px=None)),
    "another number": edit("stream.json", lambda info: info.update(n=99)),
    "a format that is a word": edit("stream.json", lambda info: info.update(format="1")),
    "std of words": edit("stream.json", lambda info: info.update(std=["a", "b", "c"])),
    "locations is a number": edit("stream.json", lambda info: info.update(locations=3)),
    "chunks is a number": edit("index.json", lambda index: index.update(chunks=3)),
    "an index of nothing at all": lambda path: (path / "index.json").write_text("null"),
    "a nested index": lambda path: (path / "index.json").write_text("[" * 100_000),
    "a pipe": lambda path: ((path / "index.json").unlink(), os.mkfifo(path / "index.json")),
    "a table without times": lambda path: pd.read_parquet(path / "scenes.parquet")
    .drop(columns="time").to_parquet(path / "scenes.parquet"),
    "a table of lists": lambda path: pd.read_parquet(path / "scenes.parquet")
    .assign(location=[[1]] * 100).to_parquet(path / "scenes.parquet"),
    "other chunks": edit("stream.json", lambda info: info["locations"].reverse()),
    "half an index": truncate("index.json", 0.5),
    "no index": lambda path: (path / "index.json").unlink(),
    "index of nothing": edit("index.json", lambda index: index.update(chunks=[])),
    "index without schema": edit("index.json", lambda index: index["config"].clear()),
    "a path": edit("index.json", lambda i: i["chunks"][0].update(filename="../../etc/passwd")),
    "an absolute path": edit("index.json", lambda i: i["chunks"][0].update(filename="/etc/passwd")),
    "a number for a name": edit("index.json", lambda i: i["chunks"][0].update(filename=1)),
    "other dates": edit("index.json", lambda i: i["chunks"][0]["temporal_frames"].reverse()),
    "chunks swapped": edit("index.json", swapped),
    "half a table": truncate("scenes.parquet", 0.5),
    "no table": truncate("scenes.parquet", 0),
    "half a chunk": truncate("chunk-*-0.bin", 0.5),
    "an empty chunk": truncate("chunk-*-0.bin", 0),
    "no chunk": lambda path: next(path.glob("chunk-*-0.bin")).unlink(),
    "a chunk of zeros": lambda path: (f := next(path.glob("chunk-*-0.bin"))).write_bytes(
        bytes(f.stat().st_size)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told_in_one_sentence(name, stream, tmp_path):
    path = Path(shutil.copytree(stream.path, tmp_path / "stream"))
    DAMAGES[name](path)
    kind = FileNotFoundError if name == "no chunk" else ValueError
    with pytest.raises(kind) as caught:
        streaming.open(path).gather(np.arange(100))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_flipped_bits_in_a_file_are_found_on_demand(stream, tmp_path, capsys):
    path = Path(shutil.copytree(stream.path, tmp_path / "stream"))
    opened = streaming.open(path)
    assert opened.check() == {}
    main(["doctor", str(path)])
    assert "100 chips of 5 px are as they were written" in capsys.readouterr().out
    chunk = sorted(path.glob("chunk-*.bin"))[1]
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    problem = opened.check()["chips"]
    assert problem.startswith("1 of ") and chunk.name in problem and "write it again" in problem
    with pytest.raises(SystemExit):
        main(["doctor", str(path)])
    assert chunk.name in capsys.readouterr().out
    edit("index.json", lambda index: [chunk.pop("crc") for chunk in index["chunks"]])(path)
    assert list(streaming.open(path).check()) == ["checksums"]


def test_what_is_no_stream_is_told(store, tmp_path):
    for path in (tmp_path / "absent", store.path, store.path / "chips.npy"):
        with pytest.raises(FileNotFoundError, match="There is no stream at"):
            streaming.open(path)
    with pytest.raises(ValueError, match="`memory_bytes` must be > 0"):
        streaming.open(tmp_path, memory_bytes=0)


def test_the_table_needs_no_other_package_and_the_pixels_say_which(
    store, stream, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "litdata", None)
    monkeypatch.setitem(sys.modules, "boto3", None)
    alone = streaming.open(stream.path)
    assert len(alone.scenes) == 100
    for use in (
        lambda: alone.gather([0]),
        lambda: streaming.open("s3://bucket/x"),
        lambda: stream_of(store, tmp_path),
    ):
        with pytest.raises(ImportError, match=r"pip install 'geossl\[stream\]'"):
            use()


def test_importing_streams_loads_neither_litdata_nor_boto3():
    for path in Path(streaming.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"litdata", "boto3", "botocore"}


# --- object stores ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3():
    """An S3-compatible server on the loopback device; gives storage_options and a client."""
    import logging
    import os

    pytest.importorskip("moto", reason="needs moto, flask and flask-cors")
    pytest.importorskip("flask_cors", reason="needs moto, flask and flask-cors")
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "endpoint_url": f"http://{host}:{port}", "aws_access_key_id": "key",
        "aws_secret_access_key": "secret", "region_name": "us-east-1",
    }  # fmt: skip
    client = boto3.client("s3", **options)
    client.create_bucket(Bucket="world")
    yield options, client
    client.close()
    server.stop()


def objects(client, prefix):
    found = client.list_objects_v2(Bucket="world", Prefix=prefix).get("Contents", ())
    return {item["Key"].removeprefix(prefix) for item in found}


@pytest.mark.slow
def test_an_object_store_serves_a_stream_from_end_to_end(store, stream, s3, monkeypatch):
    options, client = s3
    plain, done = writer.write_chunk, []

    def dies(job):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job)
        return plain(job)

    monkeypatch.setattr(writer, "write_chunk", dies)
    with pytest.raises(KeyboardInterrupt):
        stream_of(store, "s3://world/some/chips", storage_options=options, num_workers=1)
    with pytest.raises(FileNotFoundError, match="There is no stream at s3://world/some/chips"):
        streaming.open("s3://world/some/chips", storage_options=options)
    assert len(objects(client, "some/chips/.writing/")) == 2
    monkeypatch.setattr(writer, "write_chunk", plain)
    remote = stream_of(store, "s3://world/some/chips/", storage_options=options)
    files = {f.name for f in Path(stream.path).iterdir()}
    assert objects(client, "some/chips/") == files
    pd.testing.assert_frame_equal(remote.scenes, stream.scenes)
    local = streaming.batches(stream, pairs.temporal(), batch_size=16)
    far = streaming.batches(remote, pairs.temporal(), batch_size=16)
    for a, b in zip(local, far, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    encoder = models.build_encoder(
        "small", bands=3, stem="small", mean=[127] * 3, std=[60] * 3, seed=0
    )
    assert np.array_equal(embed(remote, encoder).vectors, embed(stream, encoder).vectors)


@pytest.mark.slow
def test_trouble_with_an_object_store_is_told(store, s3, monkeypatch):
    from botocore.config import Config

    options, client = s3
    remote = stream_of(store, "s3://world/lost", storage_options=options)
    chunk = next(name for name in objects(client, "lost/") if name.endswith("-0.bin"))
    client.put_object(Bucket="world", Key=f"lost/{chunk}", Body=b"short")
    with pytest.raises((ValueError, OSError), match="s3://world/lost") as caught:
        remote.gather(np.arange(100))
    assert "\n" not in str(caught.value)
    client.delete_object(Bucket="world", Key=f"lost/{chunk}")
    with pytest.raises(FileNotFoundError, match=f"s3://world/lost/{chunk}"):
        remote.gather(np.arange(100))
    with pytest.raises(FileNotFoundError, match="s3://nowhere/x"):
        streaming.open("s3://nowhere/x", storage_options=options)
    once = Config(retries={"max_attempts": 1}, connect_timeout=1)
    down = {**options, "endpoint_url": "http://127.0.0.1:9", "config": once}
    with pytest.raises(ConnectionError, match="endpoint_url"):
        streaming.open("s3://world/lost", storage_options=down)
    with pytest.raises(ValueError, match="got 's3://'"):
        streaming.open("s3://", storage_options=options)
    assert INDEX in objects(client, "lost/")


# --- training -----------------------------------------------------------------------------------

TINY = PretrainConfig(
    epochs=3, batch_size=8, queue_size=16, projection_dim=8, transform=Views(size_px=4),
    log_every=2, knn_every=2, precision="fp32", checkpoint_every_s=0,
)  # fmt: skip
CLOCK = ["pairs_per_s", "seconds", "seconds_left"]


def run_of(stream, **changes):
    return pretrain(stream, **{"pairs": pairs.temporal(), "config": TINY, "seed": 3, **changes})


def assert_same_run(a, b):
    assert a.step == b.step == a.steps
    for name, value in a._moco.state_dict().items():
        assert not torch.is_tensor(value) or torch.equal(value, b._moco.state_dict()[name]), name
    pd.testing.assert_frame_equal(a.logs.drop(columns=CLOCK), b.logs.drop(columns=CLOCK))


@pytest.mark.slow
def test_pretrain_takes_a_stream_and_goes_on_bit_for_bit_in_mid_epoch(stream, tmp_path):
    small = streaming.open(stream.path, memory_bytes=2000)
    whole = run_of(small, label="label").finish(progress=False)
    assert whole.logs["loss"].notna().all() and whole.logs["knn"].notna().any()
    for log in run_of(small, label="label", output_dir=tmp_path):
        if log.step >= 12:  # of 10 an epoch
            break
    again = run_of(
        streaming.open(stream.path, memory_bytes=2000), label="label", output_dir=tmp_path
    )
    assert 12 <= again.step < again.steps
    assert_same_run(again.finish(progress=False), whole)


def test_pretrain_draws_the_batches_of_a_stream(stream):
    run = run_of(stream)
    for epoch in (0, 1):
        query, key = (run._loader.rows[part] for part in run._loader.pairs_of(epoch))
        own = rows_of(stream, pairs.temporal(), split="train", seed=3, epoch=epoch).flatten(0, 1)
        assert torch.equal(own, torch.stack([query, key], 1))


def test_pretrain_without_pairs_takes_a_stream_in_its_order_too(stream):
    run = run_of(stream, pairs=None, label="label")
    (rows,) = run._loader.pairs_of(0)
    assert len(rows) == len(rows.unique()) == len(run._loader.rows) // 8 * 8
    assert run.finish(progress=False).logs["label_loss"].notna().all()


def test_a_run_of_another_stream_or_memory_is_not_taken_up(store, stream, tmp_path):
    next(iter(run_of(stream, output_dir=tmp_path)))  # a call that trained nothing claims no folder
    for other in (streaming.open(stream.path, memory_bytes=9999), store):
        with pytest.raises(ValueError, match="already contains a run with another `store`"):
            run_of(other, output_dir=tmp_path)
    with pytest.raises(ValueError, match="keeps the dates of a location together"):
        run_of(stream, pairs=pairs.spatial(radius_km=20_000))


@pytest.mark.slow
def test_the_commands_write_and_train_from_a_stream(store, tmp_path, capsys):
    path = tmp_path / "stream"
    main(["stream", str(store.path), "--output-dir", str(path)])
    assert "100 chips of 40 locations in 1 files" in capsys.readouterr().out
    size = ["--batch-size", "8", "--epochs", "1", "--queue-size", "16", "--size-px", "8"]
    size += ["--precision", "fp32"]
    main(["pretrain", str(path), "--output-dir", str(tmp_path / "run"), *size])
    main(
        [
            "embed",
            str(path),
            "--encoder",
            str(tmp_path / "run"),
            "--output",
            str(tmp_path / "e.parquet"),
        ]
    )
    assert len(pd.read_parquet(tmp_path / "e.parquet")) == 100
