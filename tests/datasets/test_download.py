import hashlib
import io
import json
import os
import socket
import stat
import struct
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from geossl.cli.main import main
from geossl.datasets.download import describe_sets, fetch
from geossl.datasets.download.archive import unpack
from geossl.datasets.download.catalog import SETS, File, PublicData
from geossl.utils import http

pytest.importorskip("requests")
BODY = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Files by path; may cut an answer short, know no ranges, be busy, or tell no length."""

    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cuts, self.busy, self.asked = {}, [], 0, []
        self.ranges, self.tells_length = True, True

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path.lstrip("/"), asked))
        if server.busy:
            server.busy -= 1
            return self.begin(503, 0, {"Retry-After": "0"})
        body = server.files.get(self.path.lstrip("/"))
        if callable(body):
            body = body(self.path)
        if body is None:
            return self.begin(404, 0)
        start = int(asked[6:-1]) if asked and server.ranges else 0
        if start >= len(body) and start:
            return self.begin(416, 0)
        if asked and server.ranges:
            self.begin(206, len(body) - start,
                       {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"})  # fmt: skip
        else:
            self.begin(200, len(body))
        cut = server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[start : start + cut])

    def begin(self, status, length, headers=()):
        self.send_response(status)
        if self.server.tells_length:
            self.send_header("Content-Length", str(length))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def stated(body, way="sha256"):
    return f"{way}:{hashlib.new(way, body).hexdigest()}"


@pytest.fixture
def known(server, monkeypatch):
    """Make a set of some files that the server has."""

    def make(bodies, *, checksum=stated, name="some", **options):
        server.files.update(bodies)
        files = tuple(
            File(path, server.url(path), len(body), checksum(body)) for path, body in bodies.items()
        )
        data = PublicData("what", "license", "https://page.example", files, **options)
        monkeypatch.setitem(SETS, name, data)
        return name

    return make


def zipped(entries, *, modes=()):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, body in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = dict(modes).get(name, stat.S_IFREG | 0o644) << 16
            file.writestr(info, body)
    return data.getvalue()


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_set_comes_whole_and_the_second_call_asks_nobody(tmp_path, known, server):
    bodies = {f"{i}.tif": BODY[i * 10 : i * 999 + 20] for i in range(9)}
    name = known(bodies)
    folder = fetch(name, output_dir=tmp_path / "new", progress=False)
    assert folder == tmp_path / "new" / "some" and content(folder) == bodies
    lines = (tmp_path / "new" / "some.sha256").read_text().splitlines()
    assert lines == [f"{stated(bodies[p])[7:]}  {p}" for p in sorted(bodies)]
    assert sorted(os.listdir(tmp_path / "new")) == ["some", "some.sha256"]
    n = len(server.asked)
    assert n == 9 and fetch(name, output_dir=tmp_path / "new") == folder and len(server.asked) == n


@pytest.mark.parametrize("way", ["sha256", "md5"])
def test_a_dropped_connection_goes_on_where_it_was(tmp_path, known, server, way):
    server.cuts = [100_000, 0, 50_000, 1]
    name = known({"a.bin": BODY}, checksum=lambda body: stated(body, way))
    assert content(fetch(name, output_dir=tmp_path, progress=False)) == {"a.bin": BODY}
    ranges = [asked for _, asked in server.asked]
    assert ranges == [None] + [f"bytes={n}-" for n in (100_000, 100_000, 150_000, 150_001)]


def test_a_server_without_ranges_starts_again(tmp_path, known, server):
    server.ranges, server.cuts = False, [100_000, 250_000]
    name = known({"a.bin": BODY})
    assert content(fetch(name, output_dir=tmp_path, progress=False)) == {"a.bin": BODY}
    assert len(server.asked) == 3


def test_a_second_call_goes_on_if_a_checksum_tells_that_it_fits(tmp_path, known, server):
    server.cuts = [100_000, 0, 0, 0, 0]
    name = known({"a.bin": BODY})
    with pytest.raises(
        ConnectionError,
        match="a.bin cannot be downloaded: no answer in 4 tries.* Run the same command",
    ):
        fetch(name, output_dir=tmp_path, progress=False)
    assert (tmp_path / "some.part" / "a.bin.part").stat().st_size == 100_000
    server.asked, server.cuts = [], []
    assert content(fetch(name, output_dir=tmp_path, progress=False)) == {"a.bin": BODY}
    assert server.asked == [("a.bin", "bytes=100000-")]


def test_without_a_checksum_an_old_part_is_not_trusted_but_the_first_file_is(
    tmp_path, known, server
):
    name = known({"a.bin": BODY}, checksum=lambda body: None)
    (tmp_path / "some.part").mkdir()
    (tmp_path / "some.part" / "a.bin.part").write_bytes(b"x" * 1000)
    server.cuts = [100_000]
    folder = fetch(name, output_dir=tmp_path, progress=False)
    assert content(folder) == {"a.bin": BODY}
    assert [asked for _, asked in server.asked] == [None, "bytes=100000-"]
    folder.rename(tmp_path / "old")
    server.files["a.bin"] = BODY[::-1]
    with pytest.raises(ValueError, match="does not have the checksum sha256:.* to trust this one"):
        fetch(name, output_dir=tmp_path, progress=False)
    assert sorted(os.listdir(tmp_path)) == ["old", "some.sha256"]
    (tmp_path / "some.sha256").unlink()
    assert content(fetch(name, output_dir=tmp_path, progress=False)) == {"a.bin": BODY[::-1]}


def test_another_checksum_is_refused_and_nothing_is_left(tmp_path, known, server):
    name = known({"a.bin": BODY})
    server.files["a.bin"] = BODY[:-1] + bytes([BODY[-1] ^ 1])
    with pytest.raises(
        ValueError, match="a.bin does not have the checksum sha256:.* is not kept. See"
    ):
        fetch(name, output_dir=tmp_path, progress=False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("body", [BODY + b"more", BODY[:-5], b"<html>log in</html>"])
def test_another_length_is_refused_before_it_is_loaded(tmp_path, known, server, body):
    name = known({"a.bin": BODY})
    server.files["a.bin"] = body
    with pytest.raises(ConnectionError, match=r"bytes instead of 300,000, so it is another file"):
        fetch(name, output_dir=tmp_path, progress=False)
    assert os.listdir(tmp_path) == []


def test_a_server_that_tells_no_length_is_not_read_without_end(tmp_path, known, server):
    name = known({"a.bin": BODY})
    server.tells_length, server.files["a.bin"] = False, BODY + bytes(1_000_000)
    server.cuts = [100_000]
    assert content(fetch(name, output_dir=tmp_path, progress=False)) == {"a.bin": BODY}
    assert [asked for _, asked in server.asked] == [None, "bytes=100000-"]


def test_a_part_that_is_too_long_is_not_used(tmp_path, known, server):
    name = known({"a.bin": BODY})
    (tmp_path / "some.part").mkdir()
    (tmp_path / "some.part" / "a.bin.part").write_bytes(BODY + b"more")
    assert content(fetch(name, output_dir=tmp_path, progress=False)) == {"a.bin": BODY}


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(tmp_path, known, server):
    name = known({"a.bin": BODY})
    server.busy = 3
    assert content(fetch(name, output_dir=tmp_path, progress=False)) == {"a.bin": BODY}
    name = known({"b.bin": BODY}, name="other")
    del server.files["b.bin"]
    server.asked = []
    with pytest.raises(
        ConnectionError, match="b.bin cannot be downloaded: HTTP 404. Download it by hand"
    ):
        fetch(name, output_dir=tmp_path, progress=False)
    assert len(server.asked) == 1


def test_offline_is_one_sentence_and_a_file_by_hand_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(http, "_FIRST_PAUSE_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.bin"
    data = PublicData(
        "w", "l", "https://page.example", (File("a.bin", url, 300_000, stated(BODY)),)
    )
    monkeypatch.setitem(SETS, "far", data)
    with pytest.raises(ConnectionError) as error:
        fetch("far", output_dir=tmp_path, progress=False)
    by_hand = tmp_path / "far.part" / "a.bin"
    assert "\n" not in str(error.value) and url in str(error.value)
    assert f"download it by hand to {by_hand} (see https://page.example)" in str(error.value)
    assert os.listdir(tmp_path) == []
    by_hand.parent.mkdir()
    by_hand.write_bytes(BODY)
    assert content(fetch("far", output_dir=tmp_path, progress=False)) == {"a.bin": BODY}


def test_an_archive_is_unpacked_and_goes(tmp_path, known):
    files = {"Top/A/1.jpg": b"one", "Top/A/é.jpg": b"two", "Top/empty": b""}
    name = known({"a.zip": zipped([("Top/", b""), *files.items()])}, unpacked=6)
    assert fetch(name, output_dir=tmp_path, progress=False) == tmp_path / "some" / "Top"
    assert content(tmp_path / "some") == files
    assert sorted(os.listdir(tmp_path)) == ["some", "some.sha256"]
    assert fetch(name, output_dir=tmp_path, progress=False) == tmp_path / "some" / "Top"


def test_a_refused_archive_leaves_nothing(tmp_path, known):
    name = known({"a.zip": zipped([("a", b"one"), ("../b", b"two")])}, unpacked=99)
    with pytest.raises(
        ValueError, match=r"has an entry '../b' that leaves its folder, and was refused"
    ):
        fetch(name, output_dir=tmp_path / "out", progress=False)
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == ["some.sha256"]


def tarred(entries, mode="w:gz"):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as file:
        for name, kind, body in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o4777
            if kind == tarfile.REGTYPE:
                info.size = len(body)
            else:
                info.linkname = body.decode()
            file.addfile(info, io.BytesIO(body) if kind == tarfile.REGTYPE else None)
    return data.getvalue()


FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
BAD = {
    "up.zip": (zipped([("../x", b"x")]), "leaves its folder"),
    "inner_up.zip": (zipped([("a/../../x", b"x")]), "leaves its folder"),
    "absolute.zip": (zipped([("/tmp/geossl_x", b"x")]), "leaves its folder"),
    "windows.zip": (zipped([("..\\x", b"x")]), "leaves its folder"),
    "drive.zip": (zipped([("c:x", b"x")]), "leaves its folder"),
    "link.zip": (zipped([("l", b"/etc/passwd")], modes=[("l", stat.S_IFLNK | 0o777)]), "a link or"),
    "bomb.zip": (zipped([("z", bytes(2_000_000))]), "more than 1,000,000 bytes"),
    "many.zip": (zipped([(f"z{i}", bytes(200_000)) for i in range(6)]), "more than 1,000,000"),
    "twice.zip": (zipped([("a/b", b"x"), ("a", b"y")]), "two entries of one name"),
    "empty.zip": (b"", "cannot be unpacked"),
    "noise.zip": (BODY[:3000], "cannot be unpacked"),
    "cut.zip": (zipped([("a", BODY)])[:-40], "cannot be unpacked"),
    "up.tar.gz": (tarred([("../x", FILE, b"x")]), "leaves its folder"),
    "absolute.tar": (tarred([("/tmp/geossl_x", FILE, b"x")], "w"), "leaves its folder"),
    "link.tar.gz": (tarred([("l", LINK, b"/etc"), ("l/x", FILE, b"x")]), "a link or device 'l'"),
    "hard.tar.gz": (tarred([("h", HARD, b"../../x")]), "a link or device 'h'"),
    "fifo.tar": (tarred([("f", tarfile.FIFOTYPE, b"")], "w"), "a link or device 'f'"),
    "bomb.tar.gz": (tarred([("z", FILE, bytes(2_000_000))]), "more than 1,000,000 bytes"),
    "bomb.tar.xz": (tarred([("z", FILE, bytes(2_000_000))], "w:xz"), "more than 1,000,000"),
    "twice.tar": (tarred([("a", FILE, b"x"), ("a", FILE, b"y")], "w"), "two entries of one name"),
    "noise.tar.gz": (b"\x1f\x8b\x08" + BODY[:3000], "cannot be unpacked"),
    "noise.tar.bz2": (b"BZh9" + BODY[:3000], "cannot be unpacked"),
    "cut.tar.gz": (tarred([("a", FILE, BODY)])[:200_000], "cannot be unpacked"),
    "cut.tar": (tarred([("a", FILE, BODY)], "w")[:200_000], "cannot be unpacked"),
}


def crc_wrong():
    good = bytearray(zipped([("a", b"hello hello")]))
    at = good.index(b"PK\1\2") + 16
    good[at : at + 4] = struct.pack("<I", 1)
    return bytes(good), "cannot be unpacked"


def open_files():
    """The files that this process has open, where the system lists them."""
    links = Path("/proc/self/fd").glob("*")
    return [os.readlink(link) for link in links if link.exists()]


@pytest.mark.parametrize("name", [*BAD, "crc.zip"])
def test_hostile_archives_are_refused_whole(tmp_path, name):
    body, why = BAD.get(name) or crc_wrong()
    archive = tmp_path / "in" / name
    archive.parent.mkdir()
    archive.write_bytes(body)
    before = content(tmp_path)
    with pytest.raises(ValueError, match=why) as error:
        unpack(archive, tmp_path / "made" / "out", max_bytes=1_000_000)
    assert str(archive) in str(error.value) and "\n" not in str(error.value)
    assert str(archive) not in open_files()  # Windows could not delete it
    assert content(tmp_path) == before and os.listdir(tmp_path / "made") == []
    assert not Path("/tmp/geossl_x").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_good_tar_is_unpacked_without_its_modes(tmp_path, mode):
    entries = [("./", FOLDER, b""), ("./a", FOLDER, b""), ("./a/b", FILE, b"x"), ("c", FILE, BODY)]
    archive = tmp_path / {"w": "a.tar", "w:gz": "a.tgz"}.get(mode, f"a.tar.{mode[2:]}")
    archive.write_bytes(tarred(entries, mode))
    unpack(archive, tmp_path / "out", max_bytes=len(BODY) + 1)
    assert content(tmp_path / "out") == {"a/b": b"x", "c": BODY}
    assert not (tmp_path / "out" / "c").stat().st_mode & 0o7111


class Bucket:
    """Enough of S3's ListObjectsV2, in the order of names, at most so many a page."""

    def __init__(self, bodies, tags=True):
        self.bodies, self.tags, self.most = bodies, tags, 500

    def __call__(self, path):
        query = {key: value[0] for key, value in parse_qs(urlsplit(path).query).items()}
        assert query["list-type"] == "2"
        keys = sorted(k for k in self.bodies if k.startswith(query["prefix"]))
        rows = ""
        if "delimiter" in query:
            start = len(query["prefix"])
            folders = sorted({k[: k.index("/", start) + 1] for k in keys if "/" in k[start:]})
            rows = "".join(
                f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in folders
            )
            keys = []
        most = min(self.most, int(query.get("max-keys", 1000)))
        for key in keys[:most]:
            tag = hashlib.md5(self.bodies[key]).hexdigest() if self.tags else "0123-2"
            rows += (f"<Contents><Key>{key}</Key><ETag>&quot;{tag}&quot;</ETag>"
                     f"<Size>{len(self.bodies[key])}</Size></Contents>")  # fmt: skip
        cut = str(len(keys) > most).lower()
        text = (f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/">'
                f"<IsTruncated>{cut}</IsTruncated>{rows}</ListBucketResult>")  # fmt: skip
        return text.encode()


@pytest.fixture
def bucket(server, monkeypatch):
    def make(bodies, **options):
        found = Bucket(bodies, **options)
        server.files.update(bodies)
        get = server.files.get
        monkeypatch.setattr(
            server, "files", type("", (), {"get": lambda _, p: found if p[0] == "?" else get(p)})()
        )
        where = (server.url(""), "x/rgb/val/")
        data = PublicData("what", "license", "https://page.example", bucket=where)
        monkeypatch.setitem(SETS, "sample", data)
        return found

    return make


def fmow(category, places, dates):
    for place in places:
        for date in range(dates):
            base = f"x/rgb/val/{category}/{category}_{place}/{category}_{place}_{date}"
            for end in ("_rgb.jpg", "_rgb.json", "_msrgb.jpg", "_msrgb.json"):
                yield base + end, f"{base}{end}".encode() * 3


@pytest.mark.parametrize("tags", [True, False])
def test_the_first_sequences_of_a_bucket(tmp_path, bucket, tags):
    bodies = dict(fmow("airport", range(12), 2)) | dict(fmow("multi-unit_residential", [7], 3))
    bucket(bodies | {"x/rgb/val/notes.txt": b"n", "x/rgb/train/zoo/zoo_0/zoo_0_0_rgb.jpg": b"t"},
           tags=tags)  # fmt: skip
    folder = fetch("sample", output_dir=tmp_path, progress=False)
    places = ("airport_0", "airport_1", "airport_10", "airport_11", "multi-unit_residential_7")
    expected = {
        key.removeprefix("x/rgb/"): body
        for key, body in bodies.items()
        if key.split("/")[4] in places and "_rgb." in key
    }
    assert content(folder) == expected and len(expected) == 4 * 2 * 2 + 3 * 2


def test_a_sequence_that_the_list_may_cut_is_left_out(tmp_path, bucket):
    bucket(dict(fmow("zoo", range(3), 2))).most = 20  # two and a half sequences
    folder = fetch("sample", output_dir=tmp_path, progress=False)
    assert sorted(os.listdir(folder / "val" / "zoo")) == ["zoo_0", "zoo_1"]


def test_what_a_bucket_lists_stays_in_the_folder(tmp_path, bucket):
    bucket({"x/rgb/val/zoo/../../../../../evil_rgb.jpg": b"x"})
    with pytest.raises(ValueError, match="evil_rgb.jpg' that leaves its folder, and was refused"):
        fetch("sample", output_dir=tmp_path / "out", progress=False)
    assert not list(tmp_path.rglob("evil*"))


def test_an_empty_bucket_and_a_list_that_is_none(tmp_path, bucket, server, monkeypatch):
    bucket({})
    with pytest.raises(ConnectionError, match="lists no files below x/rgb/val/. See https://page"):
        fetch("sample", output_dir=tmp_path, progress=False)
    monkeypatch.setattr(server, "files", type("", (), {"get": lambda _, p: b"<html>"})())
    with pytest.raises(ConnectionError, match="no list of files"):
        fetch("sample", output_dir=tmp_path, progress=False)
    assert os.listdir(tmp_path) == []


def test_too_small_a_disk_is_told_first(tmp_path, known, server):
    name = known({"a.zip": BODY}, unpacked=10**18)
    with pytest.raises(
        OSError, match=r"some needs 1,000,000,000,000 MB, .* Make space or use another `output_dir`"
    ):
        fetch(name, output_dir=tmp_path, progress=False)
    assert server.asked == [] and os.listdir(tmp_path) == []


def test_an_unknown_name_and_no_requests(tmp_path, known, monkeypatch):
    with pytest.raises(
        ValueError, match="`name` must be one of .*'naip', 'landsat', .*, got 'nap'"
    ):
        fetch("nap", output_dir=tmp_path)
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(
        ImportError, match=r"pip install 'geossl\[fetch\]', or .* by hand from http"
    ):
        fetch(known({"a": b"a"}), output_dir=tmp_path)


def test_the_command(tmp_path, known, capsys):
    main(["fetch"])
    text = capsys.readouterr().out
    assert text == "\n".join(describe_sets()) + "\n"
    for name, data in SETS.items():
        assert name in text and data.license in text and data.page in text
    assert "2,065 MB" in text and "95 MB" in text
    known({"a": b"a"})
    main(["fetch", "some", "--output-dir", str(tmp_path)])
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'some'}: complete\n"
    assert "some: 100%" in captured.err


def test_the_table_is_well_formed():
    paths = json.dumps([file.path for data in SETS.values() for file in data.files])
    assert paths.count(".tif") == 18 and paths.count(".zip") == 2
    for data in SETS.values():
        assert data.files or (data.bucket and data.size)
        for file in data.files:
            way, _, digest = (file.checksum or "").partition(":")
            assert len(digest) == {"sha256": 64, "md5": 32}[way] and file.url.startswith("https://")


@pytest.mark.parametrize("name, folder", [("naip", "naip_north_dakota"),
                                          ("landsat", "landsat_pucallpa")])  # fmt: skip
def test_the_series_are_those_of_the_benchmark(name, folder):
    data = Path(__file__).parents[3] / "shared" / "data" / folder
    if not data.is_dir():
        pytest.skip(f"needs {data}")
    for file in SETS[name].files:
        body = (data / file.path).read_bytes()
        assert (len(body), stated(body)) == (file.size, file.checksum)
    assert sorted(os.listdir(data)) == sorted(file.path for file in SETS[name].files)
