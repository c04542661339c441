"""Damaged, edited and foreign files in place of those of a chip store."""

import json
import os
import shutil
import socket
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_store import Pretend, build, content, table_of

import geossl
from geossl import ChipStore
from geossl.cli import main
from geossl.data.build import ChipBuilder
from geossl.data.files import DatasetError
from geossl.data.notices import DataWarning
from geossl.data.readers import register_reader
from geossl.data.table_files import read_table, write


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    register_reader("pretend", Pretend())
    return build(tmp_path_factory.mktemp("built") / "chips", table_of(23)).path


@pytest.fixture
def path(built, tmp_path):
    return shutil.copytree(built, tmp_path / "chips")


def edited(**values):
    def damage(path):
        info = json.loads((path / "store.json").read_text())
        (path / "store.json").write_text(json.dumps({**info, **values}))

    return damage


def without(name):
    def damage(path):
        info = json.loads((path / "store.json").read_text())
        del info[name]
        (path / "store.json").write_text(json.dumps(info))

    return damage


def text(content):
    return lambda path: (path / "store.json").write_text(content)


JSON = {
    "empty": text(""),
    "null": text("null"),
    "a list": text("[]"),
    "a number": text("7"),
    "nested": text("[" * 100_000),
    "bands nested": edited(bands=json.loads("[" * 40 + "]" * 40)),
    "bands is null": edited(bands=None),
    "bands is a number": edited(bands=3),
    "bands is a word": edited(bands="abc"),
    "no bands": edited(bands=[]),
    "numbers for bands": edited(bands=[1, 2, 3]),
    "mean is a number": edited(mean=4.0),
    "mean of two bands": edited(mean=[1.0, 2.0]),
    "mean of words": edited(mean=["a", "b", "c"]),
    "mean is infinite": text('{"format": 2, "mean": [1e999, 1, 1]}'),
    "std of zero": edited(std=[0.0, 1.0, 1.0]),
    "std is nan": edited(std=[float("nan"), 1.0, 1.0]),
    "rgb is null": edited(rgb=None),
    "rgb beyond the bands": edited(rgb=[0, 1, 3]),
    "rgb below": edited(rgb=[-1, 1, 2]),
    "n is a word": edited(n="23"),
    "n is negative": edited(n=-23),
    "n is another": edited(n=22),
    "n is huge": edited(n=10**400),
    "size is a list": edited(size_px=[5]),
    "dtype of objects": edited(dtype="object"),
    "dtype is a number": edited(dtype=8),
    "bad is a list": edited(bad=["x"]),
    "pixels is a list": edited(pixels=[1]),
    "pixels of lists": edited(pixels={"reader": ["x"]}),
    "pixels of other columns": edited(pixels={"lon": 3.0}),
    "format is null": edited(format=None),
    "format is a word": edited(format="2"),
    "format is true": edited(format=True),
    "format is negative": edited(format=-2),
    "checks is a list": edited(checks=[1]),
    "checks of less": edited(checks={"info": 1, "table": "", "rows": 4, "total": 23, "left_out": [],
                                     "extra": {}, "records": [{"crc": 1}]}),
    **{f"no {name}": without(name) for name in ("bands", "n", "size_px", "mean", "format")},
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
def test_store_json_is_checked_when_it_is_opened(path, name):
    JSON[name](path)
    with pytest.raises(DatasetError, match="is damaged .*store.json.* build it again") as caught:
        ChipStore.open(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def saved(make):
    def damage(path):
        chips = np.load(path / "chips.npy")
        with open(path / "chips.npy", "wb") as file:
            np.save(file, make(chips))

    return damage


def header(**values):
    def damage(path):
        about = {"descr": "|u1", "fortran_order": False, "shape": (23, 3, 5, 5), **values}
        with open(path / "chips.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, about)
            file.write(bytes(23 * 75))

    return damage


def resized(change):
    def damage(path):
        size = (path / "chips.npy").stat().st_size
        os.truncate(path / "chips.npy", max(0, size + change))

    return damage


def archive(path):
    np.savez(path / "other.npz", np.load(path / "chips.npy"))
    os.replace(path / "other.npz", path / "chips.npy")


def pickled(path):
    np.save(path / "chips.npy", np.array([{"x": 1}] * 23, object), allow_pickle=True)


CHIPS = {
    "empty": resized(-(10**9)),
    "shorter": resized(-1),
    "longer": resized(1),
    "a header alone": resized(-23 * 75),
    "an archive": archive,
    "objects": pickled,
    "fewer": saved(lambda chips: chips[:-1]),
    "in Fortran's order": saved(np.asfortranarray),
    "signed": saved(lambda chips: chips.astype(np.int8)),
    "in another order of bytes": saved(lambda chips: chips.astype(">u2")),
    "a negative shape": header(shape=(-23, 3, 5, 5)),
    "an absurd shape": header(shape=(10**30, 3, 5, 5)),
    "a shape of words": header(shape=("23", 3, 5, 5)),
    "no header": lambda path: (path / "chips.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xff" * 9),
    "absent": lambda path: (path / "chips.npy").unlink(),
    "a folder": lambda path: ((path / "chips.npy").unlink(), (path / "chips.npy").mkdir()),
    "other pixels at the start": header(),
}


@pytest.mark.parametrize("name", CHIPS)
def test_chips_are_checked_when_they_are_opened(path, name):
    CHIPS[name](path)
    with pytest.raises(DatasetError, match="is damaged .*chips.* build it again") as caught:
        ChipStore.open(path)
    assert "\n" not in str(caught.value)


def table_with(change):
    def damage(path):
        table = pd.read_parquet(path / "scenes.parquet")
        change(table).to_parquet(path / "scenes.parquet")

    return damage


SCENES = {
    "empty": lambda path: (path / "scenes.parquet").write_bytes(b""),
    "text": lambda path: (path / "scenes.parquet").write_text("path,location"),
    "absent": lambda path: (path / "scenes.parquet").unlink(),
    "no location": table_with(lambda t: t.drop(columns="location")),
    "no time": table_with(lambda t: t.drop(columns="time")),
    "no rows": table_with(lambda t: t[:0]),
    "fewer rows": table_with(lambda t: t[:-1]),
    "a missing location": table_with(lambda t: t.assign(location=[None, *t["location"][1:]])),
    "lists for locations": table_with(lambda t: t.assign(location=[[1]] * 23)),
    "lists for labels": table_with(lambda t: t.assign(label=[[1, 2]] * 23)),
    "lists for times": table_with(lambda t: t.assign(time=[["2020"]] * 23)),
    "lists for lon": table_with(lambda t: t.assign(lon=[[1.0]] * 23)),
    "words for times": table_with(lambda t: t.assign(time="yesterday")),
    "infinite lon": table_with(lambda t: t.assign(lon=np.inf)),
    "lat of 1000": table_with(lambda t: t.assign(lat=1000.0)),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_table_of_a_store_is_checked_when_it_is_opened(path, name):
    SCENES[name](path)
    with pytest.raises(DatasetError, match="is damaged .*scenes.* build it again") as caught:
        ChipStore.open(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["store.json", "chips.npy", "scenes.parquet"])
def test_what_is_no_regular_file_is_not_opened(path, name, monkeypatch):
    def listen(target):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(target))

    monkeypatch.chdir(path)  # a socket's path is short
    for replace in (os.mkfifo, listen):
        os.remove(name)
        replace(name)
        with pytest.raises((DatasetError, FileNotFoundError)):
            ChipStore.open(path)
    os.remove(path / name)
    os.symlink("/dev/zero", path / name)
    with pytest.raises((DatasetError, FileNotFoundError)):
        ChipStore.open(path)


def test_an_edited_table_opens_and_means_what_it_says(path, capsys):
    table = pd.read_parquet(path / "scenes.parquet")
    days = table["time"].dt.strftime("%Y-%m-%d")
    table.assign(label="mine", time=days).to_parquet(path / "scenes.parquet")
    store = ChipStore.open(path)
    assert set(store.scenes["label"]) == {"mine"} and list(store.check()) == ["scenes.parquet"]
    main(["doctor", str(path)])  # which is no fault
    assert "scenes.parquet was edited since" in capsys.readouterr().out
    assert str(store.scenes["time"].dtype) == "datetime64[us, UTC]"
    assert (store.scenes["time"].dt.strftime("%Y-%m-%d") == days).all()


def test_a_flipped_bit_in_a_page_of_a_table_is_noticed(tmp_path):
    table = pd.DataFrame({"path": "x", "number": np.random.default_rng(0).random(1000)})
    write(table, tmp_path / "t.parquet")
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    data[data.index(table["number"].to_numpy()[500].tobytes())] ^= 1
    (tmp_path / "t.parquet").write_bytes(data)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_table(tmp_path / "t.parquet")


def test_flipped_bits_in_chips_are_found_and_mended(built, path, capsys):
    want = content(built)
    start = (path / "chips.npy").stat().st_size - 23 * 75
    for chip in (5, 17):  # rows 4 to 7, and 16 to 19
        with open(path / "chips.npy", "rb+") as file:
            file.seek(start + chip * 75)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 4]))
    problems = ChipStore.open(path).check()
    assert list(problems) == ["chips"]
    assert problems["chips"].startswith("4 to 7, 16 to 19 are damaged; `geossl chips`")
    with pytest.raises(SystemExit) as stop:
        main(["doctor", str(path)])
    assert stop.value.code == 1 and "4 to 7, 16 to 19 are damaged" in capsys.readouterr().out
    reader = Pretend()
    register_reader("pretend", reader)
    build(path, table_of(23))
    assert reader.calls == []  # nobody looked
    build(path, table_of(23), verify=True)
    assert sum(reader.calls) == 8 and content(path) == want
    main(["doctor", str(path)])
    assert "23 chips of 5 px are as they were written" in capsys.readouterr().out
    os.truncate(path / "chips.npy", 300)
    with pytest.raises(DatasetError, match="is damaged"):
        build(path, table_of(23))
    build(path, table_of(23), verify=True)
    assert content(path) == want


def test_the_first_and_the_last_chips_are_checked_when_a_store_is_opened(path):
    with open(path / "chips.npy", "rb+") as file:
        file.seek(-1, 2)
        byte = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(DatasetError, match="chips 20 to 22 in chips.npy are not what was written"):
        ChipStore.open(path)


def test_stores_of_version_0_1_open_without_checksums(path):
    for name in ("checks", "max_nodata_share", "empty_rows", "pixels", "bad_rows"):
        without(name)(path)
    edited(format=1)(path)
    table_with(lambda t: t.assign(reader="pretend").drop(columns="nodata_share"))(path)
    store = ChipStore.open(path)
    assert len(store) == 23 and list(store.check()) == ["checksums"]
    assert len(build(path, table_of(23))) == 23
    with pytest.raises(ValueError, match="has no checksums.* another folder"):
        build(path, table_of(23), verify=True)


class Files(Pretend):
    """A reader of one byte per file."""

    def read_chips(self, rows, *, size_px):
        pixels = super().read_chips(rows.assign(path="scene1.tif"), size_px=size_px)
        for i, path in enumerate(rows["path"]):
            value = Path(path).read_bytes() if os.path.exists(path) else b""
            if value == b"":
                pixels.bad[i] = "it is broken"
            pixels.chips[i] = ord(value or b"\0")
            pixels.extra["name"][i] = f"is {value.hex()}"[:5]
        return pixels


def scenes_in(folder, n):
    folder.mkdir(exist_ok=True)
    table = table_of(n, path=[str(folder / f"{i}.bin") for i in range(n)])
    for i, path in enumerate(table["path"]):
        Path(path).write_bytes(bytes([i + 1]))
        os.utime(path, (1e9, 1e9 + i))
    return table


def rewrite(path, data, time):
    Path(path).write_bytes(data)
    os.utime(path, (time, time))


def test_files_that_changed_are_read_again_and_no_others(tmp_path, capsys):
    reader = Files()
    register_reader("pretend", reader)
    table = scenes_in(tmp_path / "data", 23)
    rewrite(table["path"][9], b"", 5)
    store = build(tmp_path / "chips", table, skip_bad=True)
    assert len(store) == 22 and store.scenes["file_bytes"].tolist() == [1] * 22
    reader.calls[:] = []
    build(store.path, table, skip_bad=True)
    assert reader.calls == []
    rewrite(table["path"][2], b"\xff", 6e8)  # another time
    rewrite(table["path"][9], b"\xee", 7e8)  # a file that was broken
    rewrite(table["path"][21], b"", 8e8)  # one that breaks: another size
    assert list(store.check()) == ["changed"]
    main(["scenes", "describe", str(store.path)])
    assert "changed  files of 2 of 22 chips, e.g. " in capsys.readouterr().out
    store = build(store.path, table, skip_bad=True)
    assert sum(reader.calls) == 4 + 4 + 3
    assert store.chips[2].max() == 255 and list(store.info["bad"]) == [table["path"][21]]
    assert store.scenes["path"].tolist() == table["path"].drop(21).tolist()
    row = store.scenes["path"].tolist().index(table["path"][9])
    assert store.chips[row].min() == 0xEE and store.check() == {}
    fresh = build(tmp_path / "fresh", table, skip_bad=True)
    assert content(fresh.path) == content(store.path)


def test_a_file_that_went_leaves_its_chip(tmp_path):
    register_reader("pretend", Files())
    table = scenes_in(tmp_path / "data", 9)
    before = content(build(tmp_path / "chips", table).path)
    os.remove(table["path"][4])
    with pytest.warns(DataWarning, match=r"files of 1 of 9 chips are gone, e.g. .*4.bin"):
        build(tmp_path / "chips", table)
    assert content(tmp_path / "chips") == before
    rewrite(table["path"][1], b"\x63", 4e8)
    with pytest.warns(DataWarning, match="are gone"):
        store = build(tmp_path / "chips", table)
    assert store.chips[1].max() == 0x63 and store.chips[4].max() == 5
    rewrite(table["path"][7], b"\x62", 4e8)  # in the chunk of the file that went
    with pytest.raises(ValueError, match="files next to them are gone, e.g. .*4.bin. Put them"):
        build(tmp_path / "chips", table, skip_bad=True)
    rewrite(table["path"][4], b"\x61", 4e8)
    assert build(tmp_path / "chips", table).chips[:, 0, 0, 0][[1, 4, 7]].tolist() == [99, 97, 98]


@pytest.mark.slow
def test_a_store_that_is_mended_and_killed_at_any_step_ends_the_same(tmp_path, monkeypatch):
    """Raise at each file operation of mending in turn; the same line then ends the same way."""
    register_reader("pretend", Files())
    table = scenes_in(tmp_path / "data", 11)
    rewrite(table["path"][5], b"", 5)
    old = build(tmp_path / "old", table, skip_bad=True).path
    rewrite(table["path"][2], b"\xff", 6e8)
    want = content(build(tmp_path / "want", table, skip_bad=True).path)

    class Killed(BaseException):
        pass

    for step in range(1, 100):
        path, seen = shutil.copytree(old, tmp_path / f"s{step}"), [0]

        def counted(call, step=step, seen=seen):
            def act(*args, **options):
                seen[0] += 1
                if seen[0] == step:
                    raise Killed
                return call(*args, **options)

            return act

        with monkeypatch.context() as patch:
            for module, name in (
                (os, "replace"), (os, "truncate"), (os, "unlink"), (os, "mkdir"), (os, "fsync"),
                (shutil, "rmtree"), (zlib, "crc32"), (json, "dumps"),
            ):  # fmt: skip
                patch.setattr(module, name, counted(getattr(module, name)))
            try:
                build(path, table, skip_bad=True, num_workers=1)
                break
            except Killed:
                pass
        build(path, table, skip_bad=True)
        assert content(path) == want, step
    assert step > 20


def test_chips_without_data_in_stores_of_version_0_1_are_counted(path, tmp_path, capsys):
    for name in ("checks", "max_nodata_share", "empty_rows"):
        without(name)(path)
    table_with(lambda t: t.assign(nodata_share=[1.0] * 3 + [0.2] * 20))(path)
    words = "3 of 23 chips have no data in more than 90% of their pixels; build the store again"
    main(["scenes", "describe", str(path)])
    assert words in capsys.readouterr().out
    config = geossl.train.PretrainConfig(batch_size=2)
    with pytest.warns(DataWarning, match=words):
        geossl.pretrain(
            ChipStore.open(path), pairs=geossl.pairs.same_image(), config=config,
            output_dir=tmp_path / "run",
        )  # fmt: skip


def test_a_changed_digit_in_store_json_is_said_on_demand(path):
    info = json.loads((path / "store.json").read_text())
    edited(mean=[info["mean"][0] + 100, *info["mean"][1:]])(path)
    assert list(ChipStore.open(path).check()) == ["store.json"]
    edited(mean=info["mean"])(path)
    assert ChipStore.open(path).check() == {}
    info["checks"]["records"][3]["count"] += 1
    edited(checks=info["checks"])(path)
    assert list(ChipStore.open(path).check()) == ["store.json"]


@pytest.mark.slow
def test_what_is_left_of_a_build_may_be_damaged(tmp_path, monkeypatch):
    register_reader("pretend", Pretend())
    want = content(build(tmp_path / "want", table_of(23)).path)
    with monkeypatch.context() as patch:
        patch.setattr(ChipBuilder, "_finish", lambda *a: (_ for _ in ()).throw(KeyError))
        with pytest.raises(KeyError):
            build(tmp_path / "begun", table_of(23))
    lines = (tmp_path / "begun" / ".build" / "journal.jsonl").read_text().split("\n")[1:]
    record = json.loads(lines[0])
    for number, text in enumerate([
        "[1]", "null", "3", '"x"', "{", "{}", '{"chunk": 0, "crc": 1}', "\0\0\0", lines[0][:40],
        json.dumps({**record, "chunk": "a"}), json.dumps({**record, "chunk": 99}),
        json.dumps({**record, "chunk": -1}), json.dumps({**record, "crc": 5}),
    ]):  # fmt: skip
        path = shutil.copytree(tmp_path / "begun", tmp_path / str(number))
        journal = path / ".build" / "journal.jsonl"
        journal.write_text("\n".join([text, *lines[1:]]))
        assert content(build(path, table_of(23)).path) == want, text
    for number, damage in enumerate([
        lambda work: os.truncate(work / "raw.npy", 500),
        lambda work: (work / "raw.npy").unlink(),
        lambda work: (work / "raw.npy").write_bytes(b"x"),
        lambda work: (work / "journal.jsonl").unlink(),
        lambda work: (work / "scenes.parquet").write_bytes(b""),
    ]):  # fmt: skip
        path = shutil.copytree(tmp_path / "begun", tmp_path / f"b{number}")
        damage(path / ".build")
        assert content(build(path, table_of(23)).path) == want
    for text in ("", "[]", "{}", "null", '{"identity": 3, "chunk": "x"}'):
        (tmp_path / "begun" / ".build" / "plan.json").write_text(text)
        with pytest.raises(DatasetError, match="unfinished build .* is damaged.* Remove it"):
            build(tmp_path / "begun", table_of(23))
