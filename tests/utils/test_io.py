import json
import multiprocessing
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest

from geossl.utils import io
from geossl.utils.validate import Positive


def test_a_digest_is_that_of_the_bytes_in_their_order():
    array = np.arange(4)
    assert io.digest(array) == io.digest(array.tobytes()) == io.digest(array[:2], array[2:])
    assert len(io.digest(b"")) == 16 and len(io.digest(b"", size=16)) == 32
    assert io.digest(b"ab") != io.digest(b"ba")


def test_a_files_digest_is_that_of_its_bytes(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert io.file_digest(file, algorithm="sha256").startswith("ba7816bf8f01cfea")
    file.write_bytes(bytes(3 * 2**20))
    assert io.file_digest(file) == io.digest(bytes(3 * 2**20), size=64)
    assert io.file_digest(file, length=2**20 + 1) == io.digest(bytes(2**20 + 1), size=64)


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "file").write_text("1")
    (tmp_path / "link").symlink_to("file")
    assert io.check_file(tmp_path / "link") == tmp_path / "link"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, words in {"pipe": "a named pipe", "to_pipe": "a named pipe",
                            "socket": "a socket", "/dev/zero": "a device"}.items():  # fmt: skip
            with pytest.raises(KeyError, match=f"must be a file, it is {words}"):
                io.check_file(tmp_path / name, "store", error=KeyError)
    with pytest.raises(IsADirectoryError, match="must be a file, it is a directory"):
        io.check_file(tmp_path, "store")
    for name in ("absent", "file/below", "a\0b"):
        with pytest.raises(FileNotFoundError, match="There is no store at"):
            io.check_file(tmp_path / name, "store")
    with pytest.raises(OSError):
        io.check_file(tmp_path / "loop")
    with pytest.raises(ValueError, match="it is a named pipe"):
        io.load_json(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expecting value"),
        ('{"a": 1} x', "Extra data"),
        ('{"a": 1e999}', "a number must be finite, got 1e999"),
        ('{"a": -1e999}', "a number must be finite, got -1e999"),
        ('{"a": NaN}', "a number must be finite, got NaN"),
        ('{"a": [-Infinity]}', "a number must be finite, got -Infinity"),
        ('{"a": ' + "9" * 5000 + "}", "a number must be finite, got 9999"),
        ('{"a": 9223372036854775808}', "a number must be finite"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is there twice"),
        ("[" * 40 + "]" * 40, "nested more than 32 levels deep"),
        ("[" * 100_000, "nested more than 32 levels deep"),
        ('{"a":' * 40 + "1" + "}" * 40, "nested more than 32 levels deep"),
    ],
)
def test_json_that_geossl_would_not_write_is_refused(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        io.parse_json(text)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(LookupError, match=rf"a\.json cannot be read as json \(.*{words}.*\)\. Go."):
        io.load_json(tmp_path / "a.json", error=LookupError, advice="Go.")


def test_json_of_ours_is_read_as_it_is(tmp_path):
    content = {"a": [1, -(2**63), 2**63 - 1, 1.5, 1e308, None, True, "x"], "b": {}}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert io.load_json(tmp_path / "a.json") == content
    deep = json.loads("[" * 32 + "]" * 32)
    assert io.parse_json(json.dumps(deep)) == deep
    assert io.parse_json("[NaN, 9223372036854775808]", finite=False)[1] == 2**63
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read as json"):
        io.load_json(tmp_path / "b.json")
    with pytest.raises(ValueError, match="more than 10 bytes"):
        io.load_json(tmp_path / "a.json", max_bytes=10)


def test_a_file_that_is_open_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    """As on Windows, where a virus scanner opens a new file."""
    plain, refusals = os.replace, [2]

    def refusing(source, target):
        refusals[0] -= 1
        if refusals[0] >= 0:
            raise PermissionError(13, "Access is denied", str(source))
        plain(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    monkeypatch.setattr(io, "_PAUSES_S", (0.01, 0.01))
    with io.atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new", "utf-8")
    assert (tmp_path / "a.txt").read_text("utf-8") == "new"
    refusals[0] = 3
    with pytest.raises(PermissionError, match=r"a.txt cannot be replaced \(Access is denied\). C"):
        with io.atomic_write(tmp_path / "a.txt") as part:
            part.write_text("newer", "utf-8")
    assert [(p.name, p.read_text("utf-8")) for p in tmp_path.iterdir()] == [("a.txt", "new")]


def test_a_folder_is_locked_without_fcntl_too(tmp_path, monkeypatch):
    import filelock  # noqa: F401 (before: on this system it has fcntl)

    monkeypatch.setitem(sys.modules, "fcntl", None)
    inside = []

    def work(name):
        with io.lock_folder(tmp_path):
            inside.append(f"{name} in")
            time.sleep(0.05)
            inside.append(f"{name} out")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [line[0] for line in inside]
    assert sorted(names[::2]) == list("abc") and names[::2] == names[1::2]


@dataclass(frozen=True)
class Store:
    bands: list[str]
    size_px: Positive
    units: str = ""


def test_a_record_has_fields_of_the_right_types():
    content = {"bands": ["r"], "size_px": 3, "more": None}
    assert io.as_record(Store, content) == Store(["r"], 3)
    for name, value, words in [
        ("bands", None, "`bands` must be a list of str, got None"),
        ("bands", [1], r"`bands\[0\]` must be a string, got 1"),
        ("bands", {"r": 1}, "`bands` must be a list of str, got a dict"),
        ("size_px", True, "`size_px` must be a number, got True"),
        ("size_px", -1, "`size_px` must be > 0, got -1"),
        ("units", [[]], "`units` must be a string"),
    ]:
        with pytest.raises(ValueError, match=words):
            io.as_record(Store, content | {name: value})
    with pytest.raises(ValueError, match="`size_px` is missing"):
        io.as_record(Store, {"bands": []})
    with pytest.raises(ValueError, match="must be a dictionary, not list"):
        io.as_record(Store, [])


def _hold(folder, held, leave):
    with io.claim_folder(folder):
        held.set()
        leave.wait(30)


def test_a_folder_is_claimed_by_one_process_and_free_after_a_kill(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, leave = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, leave))
    other.start()
    assert held.wait(30)
    with pytest.raises(BlockingIOError, match="Another process is writing to"):
        with io.claim_folder(tmp_path):
            pass
    other.kill()
    other.join()
    with io.claim_folder(tmp_path), io.claim_folder(tmp_path):
        pass
