import datetime
import io
import json
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import rio_stac
from bad_proxy import FAULTS, serve
from rasterio.shutil import copy as copy_raster
from rasterio.transform import Affine
from rasterio.warp import transform

from geossl.cli import stac as cli_stac
from geossl.cli.main import main
from geossl.cli.stac import _locations
from geossl.data.store import ChipStore
from geossl.datasets.raster import chips as images
from geossl.datasets.stac import harvest, worker
from geossl.datasets.stac import search as stac
from geossl.datasets.stac.locations import land_grid
from geossl.geo import great_circle_km
from geossl.utils import http, remote_file
from geossl.utils.http import RetryPolicy, UnavailableError
from geossl.utils.remote_file import RemoteFile

DATA = Path(__file__).parents[3] / "shared" / "data"
TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
QUICK = RetryPolicy(tries=4, timeout_s=0.5)
SIDE, BLOCK, CHIP = 320, 128, 48
CORNERS = {
    "33TUN": ("EPSG:32633", 499_980.0, 5_200_020.0),
    "32TQT": ("EPSG:32632", 700_020.0, 5_200_020.0),
}
DAYS = ["2019-01-03", "2019-01-13", "2019-06-02", "2019-12-30", "2020-06-11", "2020-12-28"]
RANGE = {"start": "2019-01-01", "end": "2020-12-31"}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(http, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(http, "_held_until", {})


def cog(path, pixels, *, crs, left, top, px, **about):
    """A COG of pixels ``(C, H, W)``."""
    plain = path.with_suffix(".plain.tif")
    with rasterio.open(
        plain, "w", driver="GTiff", dtype=pixels.dtype, count=len(pixels), height=pixels.shape[1],
        width=pixels.shape[2], crs=crs, transform=Affine(px, 0, left, 0, -px, top), **about,
    ) as file:  # fmt: skip
        file.write(pixels)
    copy_raster(plain, path, driver="COG", blocksize=BLOCK, compress="deflate")
    plain.unlink()


def item(files, when, *, name, collection, address, cloud=5.0):
    """A STAC item of files by key, made by rio-stac from the first."""
    assets = {
        key: pystac.Asset(href=f"{address}/files/{path.name}", media_type=TIFF)
        for key, path in files.items()
    }
    made = rio_stac.create_stac_item(
        str(next(iter(files.values()))), input_datetime=datetime.datetime.fromisoformat(when),
        id=name, collection=collection, assets=assets, with_proj=True,
        properties={} if cloud is None else {"eo:cloud_cover": cloud},
    ).to_dict()  # fmt: skip
    return {**made, "links": []}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def catalog(folder, make_items):
    """rustac behind a server that can misbehave and has the files of ``folder`` as well."""
    port = free_port()
    with serve(folder, ("127.0.0.1", port)) as server:
        items = make_items(server.url)
        names = sorted({one["collection"] for one in items})
        for name in names:
            about = {
                "type": "Collection", "stac_version": "1.0.0", "id": name, "description": name,
                "license": "CC-BY-4.0", "links": [
                    {"rel": "license", "href": "https://license.example/of/it"}],
                "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]},
                           "temporal": {"interval": [["2000-01-01T00:00:00Z", None]]}},
            }  # fmt: skip
            (folder / f"{name}.json").write_text(json.dumps(about))
        listed = {"type": "FeatureCollection", "features": items}
        (folder / "items.json").write_text(json.dumps(listed))
        rustac = subprocess.Popen(
            [Path(sys.executable).with_name("rustac"), "serve", "--addr", server.url, "--bind",
             f"127.0.0.1:{port}", *(f"{name}.json" for name in names), "items.json"],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield server
        finally:
            rustac.kill()
            rustac.wait()


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """Two tiles in two UTM zones at six dates: red and green at 10 m, nir at 20 m."""
    folder = tmp_path_factory.mktemp("sky")

    def make(address):
        items, rng = [], np.random.default_rng(0)
        for tile, (crs, left, top) in CORNERS.items():
            for n, day in enumerate(DAYS):
                files = {}
                for band, px in (("red", 10), ("green", 10), ("nir", 20)):
                    files[band] = folder / f"{tile}_{day}_{band}.tif"
                    side = SIDE * 10 // px
                    pixels = rng.integers(1, 4000, (1, side, side)).astype(np.uint16)
                    cog(files[band], pixels, crs=crs, left=left, top=top, px=px, nodata=0)
                items.append(
                    item(files, f"{day}T10:00:00+00:00", name=f"{tile}_{day}", collection="s2",
                         address=address, cloud=[5, 1, 5, 10, 19, 20][n])
                )  # fmt: skip
            items.append({**items[-1], "id": f"{tile}_cloudy"})
            items[-1] = json.loads(json.dumps(items[-1]))
            items[-1]["properties"]["eo:cloud_cover"] = 20.5
        return items

    with catalog(folder, make) as server:
        yield server


@pytest.fixture(autouse=True)
def good_weather(request):
    if "sky" in request.fixturenames:
        server = request.getfixturevalue("sky")
        server.faults, server.rewrites, server.hang_s, server.retry_after = {}, {}, 2.0, "0"
        server.log.clear()
        server.bodies.clear()


def middle(tile, dx=0.0, dy=0.0):
    """Longitude and latitude near the middle of a tile, moved by some meters."""
    crs, left, top = CORNERS[tile]
    lon, lat = transform(crs, "EPSG:4326", [left + SIDE * 5 + dx], [top - SIDE * 5 + dy])
    return lon[0], lat[0]


def four_places():
    spots = [middle("33TUN"), middle("32TQT"), middle("33TUN", 733, 611), middle("33TUN", -500)]
    table = pd.DataFrame(spots, columns=["lon", "lat"])
    return table.assign(location=["a", "b", "../c", "ü"], label=["x", "y", "x", None])


def reap(server, out, places=None, **more):
    asked = {"api": server.url, "collection": "s2", "dates": 3, "chip_px": CHIP, "max_cloud": 20,
             "bands": ("red", "nir", "green"), "retry_policy": QUICK, "num_workers": 3,
             "progress": False, **RANGE, **more}  # fmt: skip
    return harvest(out, four_places() if places is None else places, **asked)


def tree(out):
    files = [p for p in sorted(out.rglob("*")) if p.is_file() and p.suffix != ".parquet"]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}


def manifest(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(sky, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    return out, reap(sky, out)


@pytest.mark.slow
def test_chips_hold_the_pixels_of_the_files_at_spread_dates(sky, undisturbed, tmp_path):
    out, table = undisturbed
    assert len(table) == 12 and list(table["location"].unique()) == ["a", "b", "../c", "ü"]
    days = table["time"].dt.strftime("%Y-%m-%d").to_numpy().reshape(4, 3)
    assert (days == ["2019-01-03", "2019-12-30", "2020-12-28"]).all()
    assert table.attrs["short"] == {} and table["cloud_cover"].max() == 20
    assert set(table["license"]) == {"CC-BY-4.0 https://license.example/of/it"}
    assert table["label"].iloc[:6].tolist() == ["x"] * 3 + ["y"] * 3
    for _, row in table.iterrows():
        tile, day = row["item"].split("_")
        crs, left, top = CORNERS[tile]
        with rasterio.open(row["path"]) as chip:
            assert chip.crs == crs and chip.shape == (CHIP, CHIP) and chip.transform.a == 10
            assert (
                chip.descriptions == ("red", "nir", "green") and chip.tags()["ITEM"] == row["item"]
            )
            x, y = transform("EPSG:4326", crs, [row["lon"]], [row["lat"]])
            center = chip.transform @ (CHIP / 2, CHIP / 2)
            assert np.abs(np.array(center) - [x[0], y[0]]).max() <= 5.001
            got, c, r = (
                chip.read(),
                *(round(v) for v in ((chip.bounds.left - left) / 10, (top - chip.bounds.top) / 10)),
            )
        for n, band in ((0, "red"), (2, "green")):
            with rasterio.open(sky.folder / f"{tile}_{day}_{band}.tif") as source:
                wanted = source.read(1, window=((r, r + CHIP), (c, c + CHIP)))
            assert (got[n] == wanted).all()
        with rasterio.open(sky.folder / f"{tile}_{day}_nir.tif") as source:
            coarse = source.read(1).astype(float)
        fine = np.kron(coarse, np.ones((2, 2)))[r : r + CHIP, c : c + CHIP]
        assert np.corrcoef(fine.ravel(), got[1].ravel())[0, 1] > 0.8  # smoothed, not shifted
    again = pd.read_parquet(out / "scenes.parquet")
    store = ChipStore.build(tmp_path / "store", again, size_px=CHIP, progress=False)
    with rasterio.open(table["path"][0]) as chip:
        assert (store.chips[0] == chip.read()).all()
    assert store.info["bands"] == ["red", "nir", "green"] and store.chips.dtype == np.uint16


@pytest.mark.slow
def test_the_manifest_says_where_from_and_a_second_start_asks_nothing_twice(sky, undisturbed):
    out, table = undisturbed
    lines = manifest(out)
    assert [line["place"] for line in lines] == [0, 1, 2, 3]
    first = lines[0]["items"][0]
    assert first["item"] == "33TUN_2019-01-03" and first["status"] == "ok"
    assert first["assets"]["nir"] == f"{sky.url}/files/33TUN_2019-01-03_nir.tif"
    assert first["cloud_cover"] == 5 and first["datetime"].startswith("2019-01-03T10:00")
    assert all((out / i["path"]).is_file() for line in lines for i in line["items"])
    before = tree(out)
    sky.log.clear()
    again = reap(sky, out)
    assert not sky.asked("/files/") and not sky.asked("/search")
    assert tree(out) == before and again.drop(columns="time").equals(table.drop(columns="time"))
    with pytest.raises(ValueError, match="contains a harvest with dates '3', not '4'"):
        reap(sky, out, dates=4)
    with pytest.raises(ValueError, match="contains a harvest with places"):
        reap(sky, out, four_places().assign(lat=lambda t: t["lat"] + 1e-4))


@pytest.mark.slow
def test_only_parts_of_the_files_travel(sky, tmp_path):
    reap(sky, tmp_path, four_places().iloc[:1], dates=1, bands=("red",))
    (_, path, _, _), *_ = asked = sky.asked("/files/")
    spans = [tuple(map(int, span.removeprefix("bytes=").split("-"))) for _, _, span, _ in asked]
    size = (sky.folder / path.removeprefix("/files/")).stat().st_size
    assert sum(stop - start + 1 for start, stop in spans) < 0.8 * size and len(spans) <= 4


@pytest.mark.slow
def test_a_storm_of_faults_changes_no_byte(sky, undisturbed, tmp_path):
    seen = {}

    def storm(count, path):
        seen[path] = seen.get(path, -1) + 1
        kinds = ["drop", "cut", "429", "500", "hang", "503"]
        # every other request fails, each path in another order; rustac's answers have no ranges
        return kinds[(seen[path] // 2 + len(seen)) % 6] if seen[path] % 2 == 0 else None

    sky.faults = storm
    sky.hang_s = 1.0
    reap(sky, tmp_path, retry_policy=RetryPolicy(tries=6, timeout_s=0.3), num_workers=8)
    assert {entry[3] for entry in sky.log} >= {"drop", "cut", "429", "500", "hang", "503"}
    assert tree(tmp_path) == tree(undisturbed[0])


def test_an_item_without_an_answer_gives_way_to_the_next_best_date(sky, undisturbed, tmp_path):
    bad = "33TUN_2019-01-03_nir"
    sky.faults = {bad: ["500!"]}
    table = reap(sky, tmp_path, four_places().iloc[:1])
    days = table["time"].dt.strftime("%Y-%m-%d").tolist()
    assert days == ["2019-01-13", "2019-12-30", "2020-12-28"]
    assert len(sky.asked(bad)) == QUICK.tries
    lost = manifest(tmp_path)[0]["items"][0]
    assert (
        lost["status"] == "gave up" and "no answer in 4 tries, the last: HTTP 500" in lost["reason"]
    )


def test_a_dead_server_ends_in_a_sentence_and_a_second_start_finishes(sky, undisturbed, tmp_path):
    sky.faults = {"/files/": ["drop!"]}
    begun = time.monotonic()
    with pytest.raises(
        ValueError, match=r"None of the 4 locations in `places` got a chip.*a broken connection"
    ):
        reap(sky, tmp_path)
    assert time.monotonic() - begun < 5
    sky.faults = {"32TQT": ["404!"]}  # an answer that waiting does not change
    table = reap(sky, tmp_path)
    assert len(table) == 9 and list(table.attrs["short"]) == ["b"]
    assert "HTTP 404" in table.attrs["short"]["b"]
    sky.faults = {}
    sky.log.clear()
    reap(sky, tmp_path)
    assert not sky.asked("/files/")
    sky.faults = {"": ["drop!"]}
    with pytest.raises(
        ConnectionError, match="no answer in 4 tries, the last: a broken connection"
    ):
        reap(sky, tmp_path)


def test_a_second_start_gets_what_gave_no_answer_and_keeps_no_spare_chip(sky, tmp_path):
    place = four_places().iloc[:1]
    wanted = reap(sky, tmp_path / "calm", place)
    sky.faults = {f"33TUN_{day}": ["500!"] for day in ("2019-01-03", "2019-12-30", "2020-06-11")}
    first = reap(sky, tmp_path / "late", place, start=pd.Timestamp(RANGE["start"]))
    assert (
        first["item"].tolist() == ["33TUN_2019-01-13"]
        and "1 of 3 dates" in first.attrs["short"]["a"]
    )
    sky.faults = {}
    second = reap(sky, tmp_path / "late", place)
    assert second["item"].tolist() == wanted["item"].tolist()
    assert tree(tmp_path / "late") == tree(tmp_path / "calm")


SCRIPT = """
import json, sys, pandas as pd
from geossl.utils import http
from geossl.datasets.stac import harvest
http._FIRST_PAUSE_S = 0.01
places = pd.DataFrame(json.load(open(sys.argv[2])))
harvest(sys.argv[1], places, api=sys.argv[3], collection="s2", dates=3, chip_px=48, max_cloud=20,
        bands=("red", "nir", "green"), num_workers=2, progress=False, start="2019-01-01",
        end="2020-12-31", retry_policy=http.RetryPolicy(tries=4, timeout_s=0.5))
"""


@pytest.mark.slow
def test_killed_at_any_point_it_goes_on_to_the_same_files(sky, undisturbed, tmp_path):
    out, wanted = tmp_path / "out", tree(undisturbed[0])
    (tmp_path / "places.json").write_text(
        four_places().to_json(orient="records", double_precision=15)
    )
    sky.hang_s = 1.0
    chips = [0]
    for answers in (5, 18):
        sky.log.clear()
        sky.faults = lambda n, path, most=answers: (
            "hang" if len(sky.asked("/files/")) > most else ""
        )
        run = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, out, tmp_path / "places.json", sky.url],
            stderr=subprocess.PIPE,
        )
        while run.poll() is None and not any(fault == "hang" for *_, fault in sky.log):
            time.sleep(0.005)
        run.kill()
        assert run.wait() == -9, run.stderr.read().decode()
        run.stderr.close()
        there = tree(out)
        done = [name for name in there if name.startswith("chips/") and "/." not in name]
        assert all(there[name] == wanted[name] for name in done)
        chips.append(len(done))
    assert 0 < chips[-1] < 12 and chips == sorted(chips)
    (out / "chips" / "000003").mkdir(exist_ok=True)
    (out / "chips" / "000003" / ".x.1.part.tif").write_bytes(b"half")  # such as a kill leaves
    with open(out / "manifest.jsonl", "a") as journal:
        journal.write('\n{"place": 3, "comp')
    sky.faults = {}
    reap(sky, out)
    assert tree(out) == wanted


@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f not in ("404", "html", "whole", "wrong_part")]
)
def test_a_passing_fault_is_tried_again(sky, tmp_path, fault):
    name = f"33TUN_{DAYS[0]}_red.tif"
    sky.faults = {name: [fault, fault]}
    policy = RetryPolicy(tries=4, timeout_s=0.1)
    content, size = http.fetch_range(f"{sky.url}/files/{name}", 10, 60, policy=policy)
    whole = (sky.folder / name).read_bytes()
    assert content == whole[10:60] and size == len(whole) and len(sky.asked(name)) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [("404", "HTTP 404"), ("html", "does not serve ranges"), ("whole", "does not serve ranges"),
     ("wrong_part", "another range")],
)  # fmt: skip
def test_a_final_answer_is_asked_for_once(sky, fault, words):
    name = f"33TUN_{DAYS[0]}_red.tif"
    sky.faults = {name: [fault]}
    with pytest.raises(UnavailableError, match=words) as caught:
        http.fetch_range(f"{sky.url}/files/{name}?sig=secret", 0, 99, policy=QUICK)
    assert (
        len(sky.asked(name)) == 1
        and not caught.value.temporary
        and "secret" not in str(caught.value)
    )


def test_retry_after_keeps_every_thread_away(sky):
    name = f"/files/33TUN_{DAYS[0]}_red.tif"
    sky.faults, sky.retry_after = {name: ["429"]}, "1"
    first = Thread(target=http.fetch_range, args=(sky.url + name, 0, 9), kwargs={"policy": QUICK})
    first.start()
    while not sky.asked(name):
        time.sleep(0.01)
    time.sleep(0.5)  # for the answer to be read, still within the second
    http.fetch_range(f"{sky.url}/files/33TUN_{DAYS[1]}_red.tif", 0, 9, policy=QUICK)
    first.join()
    times = [entry[0] for entry in sky.log]
    assert len(times) == 3 and min(times[1:]) - times[0] >= 1
    sky.faults, sky.retry_after = {name: ["503"]}, "3600"
    for _ in range(2):
        with pytest.raises(UnavailableError, match=r"wants no requests for 3,\d00 s") as caught:
            http.fetch_range(sky.url + name, 0, 9, policy=QUICK)
        assert caught.value.temporary
    assert len(sky.asked(name)) == 3  # the second time nobody asks


def test_pauses_grow_and_differ(sky, monkeypatch):
    pauses = []
    monkeypatch.setattr(http, "_FIRST_PAUSE_S", 1.0)
    clock = SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic)
    monkeypatch.setattr(http, "time", clock)
    sky.faults = {"/files/x": ["500!"]}
    for _ in range(2):
        with pytest.raises(UnavailableError):
            http.fetch(f"{sky.url}/files/x", policy=RetryPolicy(tries=9, timeout_s=1))
    first, second = np.reshape(pauses, (2, 8))
    base = np.minimum(60, 2.0 ** np.arange(8))
    assert (first >= base / 2).all() and (first <= base * 1.5).all() and (first != second).all()


def test_a_remote_file_is_the_file(sky):
    name = f"33TUN_{DAYS[0]}_red.tif"
    plain = io.BytesIO((sky.folder / name).read_bytes())
    remote = RemoteFile(f"{sky.url}/files/{name}", policy=QUICK).open()
    size = plain.seek(0, 2)
    assert remote.seek(0, 2) == size and size > 3 * remote_file._BLOCK
    rng = np.random.default_rng(0)
    for start, length in [
        *rng.integers(0, size, (40, 2)),
        (size - 5, 99),
        (size + 9, 5),
        (0, size),
    ]:
        assert remote.seek(start) == plain.seek(start)
        assert remote.read(int(length)) == plain.read(length) and remote.tell() == plain.tell()
    asked = [entry[2] for entry in sky.asked(name)]
    starts = [int(span.removeprefix("bytes=").split("-")[0]) for span in asked]
    assert len(set(starts)) == len(starts) and all(
        start % remote_file._BLOCK == 0 for start in starts
    )
    lost = RemoteFile(f"{sky.url}/files/none.tif", policy=QUICK)
    assert lost.open().read(9) == b"" == lost.open().read(9) and "404" in str(lost.error)
    assert len(sky.asked("none.tif")) == 1


def a_search(server, api=None, **more):
    asked = {"start": datetime.date(2019, 1, 1), "end": datetime.date(2020, 12, 31),
             "max_cloud": 20.0, "policy": QUICK, **more}  # fmt: skip
    return stac.open_search(api or server.url, "s2", **asked)


def test_the_cloud_limit_is_the_servers_work_where_it_can(sky):
    lon, lat = middle("33TUN")
    plain = a_search(sky)
    assert not plain.can_query and b"query" not in b"".join(sky.bodies)
    found = stac.items_at(plain, lon, lat)
    assert [i.id for i in found] == [f"33TUN_{day}" for day in DAYS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stac, "_PAGE", 2)
        sky.bodies.clear()
        assert stac.items_at(plain, lon, lat) == found and len(sky.bodies) >= 4
    sky.bodies.clear()
    sky.rewrites = {
        b'"conformsTo":[': b'"conformsTo":["https://api.stacspec.org/v1.0.0/item-search#query",'
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clever = a_search(sky)
    assert clever.can_query
    # rustac knows no queries and answers with nothing: then it is asked without
    assert stac.items_at(clever, lon, lat) == found
    first, second = (json.loads(body) for body in sky.bodies)
    assert first.pop("query") == {"eo:cloud_cover": {"lte": 20.0}} and first == second
    assert first["datetime"] == "2019-01-01T00:00:00Z/2020-12-31T23:59:59Z"


@pytest.mark.parametrize("fault", ["drop", "cut", "hang", "429", "500"])
def test_a_search_is_tried_again(sky, fault):
    sky.hang_s = 1.0
    sky.faults = {"": [fault], "/search": [fault]}
    search = a_search(sky, policy=RetryPolicy(tries=3, timeout_s=0.3))
    assert len(stac.items_at(search, *middle("33TUN"))) == 6


def test_what_is_no_stac_is_said_in_a_sentence(sky, monkeypatch):
    with pytest.raises(ValueError, match="There is no collection 'nope' at .*HTTP 404"):
        stac.open_search(sky.url, "nope", start=datetime.date(2019, 1, 1),
                         end=datetime.date(2020, 1, 1), max_cloud=9, policy=QUICK)  # fmt: skip
    with pytest.raises(
        ValueError,
        match="`api` must be one of .'earth-search', 'planetary-computer'. or .*, got 'earth'",
    ):
        stac._catalog("earth")
    assert stac._catalog("https://planetarycomputer.microsoft.com/api/stac/v1/").token_url
    for answer in (b"<html>", b"[" * 100_000, b"[]", b"{}", b'{"type": "Catalog"}', b"\xff"):
        monkeypatch.setattr(stac, "fetch", lambda *a, answer=answer, **k: answer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ConnectionError, match="There is no STAC API at http"):
                a_search(sky)
    monkeypatch.undo()
    search = a_search(sky)
    for answer in (b"<html>", b"[" * 100_000, b'{"features": 3}', b'{"features": [3], "links": 5}'):
        monkeypatch.setattr(stac, "fetch", lambda *a, answer=answer, **k: answer)
        with pytest.raises(UnavailableError, match="no STAC answer"):
            stac.items_at(search, 0, 0)


def test_hostile_items_are_left_out_or_refused(sky, tmp_path, monkeypatch):
    search = a_search(sky)
    good = json.loads((sky.folder / "items.json").read_text())["features"][0]

    def but(**changes):
        return json.loads(json.dumps({**good, **changes}))

    secret = tmp_path / "secret.tif"
    shutil.copy(sky.folder / f"33TUN_{DAYS[0]}_red.tif", secret)
    vrt = f'<VRTDataset rasterXSize="320" rasterYSize="320"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource><SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'  # noqa: E501
    (sky.folder / "evil.tif").write_text(vrt)
    (sky.folder / "empty.tif").write_bytes(b"")
    (sky.folder / "magic.tif").write_bytes(b"II*\0" + b"\xff" * 200)
    whole = (sky.folder / f"33TUN_{DAYS[0]}_red.tif").read_bytes()
    (sky.folder / "half.tif").write_bytes(whole[: len(whole) // 3])
    hrefs = {
        "the URL is not usable": [
            str(secret),
            f"file://{secret}",
            f"/vsizip/{secret}",
            "s3://bucket/a.tif",
            "../x.tif",
            "http://[::1",
            "",
            "\ud800",
        ],
        "no readable GeoTIFF": [
            f"{sky.url}/files/evil.tif",
            f"{sky.url}/files/magic.tif",
            f"{sky.url}/files/half.tif",
        ],
        "HTTP 416": [f"{sky.url}/files/empty.tif"],
    }
    plan = worker.Plan(tmp_path / "out", search, 1, CHIP, 10.0, ("red",), 0.05)
    place = worker.Location(0, *middle("33TUN"))
    for words, some in hrefs.items():
        for href in some:
            one = stac._item(but(assets={"red": {"href": href, "type": TIFF}}), search)
            monkeypatch.setattr(stac, "items_at", lambda *a, one=one: [one])
            record = worker.harvest_location(plan, place)
            assert record["items"][0]["status"] == "refused", record
            assert words in record["items"][0]["reason"] and "secret" not in str(record["reason"])
            json.dumps(record).encode()
    assert not list((tmp_path / "out").rglob("*"))
    day = "2019-05-05"
    odd = [3, None, [], {}, but(properties=None), but(properties={"datetime": "soon"}),
           but(assets=[]), but(assets={"red": {}}), but(properties={"datetime": 7}),
           but(properties={"datetime": day, "eo:cloud_cover": "x"}),
           but(properties={"datetime": "1850-05-05T00:00:00Z"})]  # fmt: skip
    assert [stac._item(one, search) for one in odd] == [None] * len(odd)
    for shape in (None, 3, {}, {"type": "Polygon"}, {"type": "Polygon", "coordinates": [[["x"]]]}):
        assert worker._covers(stac._item(but(geometry=shape), search), plan, place)
    ring = [[179, 0], [-179, 0], [-179, 2], [179, 2], [179, 0]]  # over the antimeridian
    item = stac._item(but(geometry={"type": "Polygon", "coordinates": [ring]}), search)
    covered = {lon: worker._covers(item, plan, worker.Location(0, lon, 1.0))
               for lon in (179.5, -179.5, 180.0, 178.5, -178.5, 0.0)}  # fmt: skip
    assert list(covered.values()) == [True, True, True, False, False, False]
    name = stac._item(but(id="../../\ud800\0" + "x" * 999), search).id
    assert name.startswith("../../x") and len(name) <= 300  # only a hash of it names the file


def test_a_window_that_is_a_mistake_or_a_bomb_is_not_read(sky, tmp_path):
    wide = sky.folder / "wide.tif"
    with rasterio.open(
        wide, "w", driver="GTiff", width=60_000, height=60_000, count=1, dtype="uint8",
        crs="EPSG:32633", transform=Affine(10, 0, 499_980, 0, -10, 5_500_000), sparse_ok=True,
        tiled=True, blockxsize=32_768, blockysize=16_384, compress="deflate",
    ):  # fmt: skip
        pass
    place = worker.Location(0, 16.0, 48.0)
    plan = worker.Plan(tmp_path, a_search(sky), 1, 4096, 10.0, ("red",), 0.05)
    where = {"red": (f"{sky.url}/files/wide.tif", 1)}
    with pytest.raises(UnavailableError, match=r"blocks \(16384, 32768\)"):
        worker._read(where, plan, place)
    begun = time.monotonic()
    monster = worker.Plan(tmp_path, plan.search, 1, 4096, 100.0, ("red",), 0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "_MAX_PX", 2**30)
        with pytest.raises(UnavailableError, match="not fully in the scene|pixels there, too many"):
            worker._read(where, monster, place)
    assert time.monotonic() - begun < 2


def test_many_threads_read_one_file(sky, tmp_path):
    where = {"red": (f"{sky.url}/files/33TUN_{DAYS[0]}_red.tif", 1)}
    plan = worker.Plan(tmp_path, a_search(sky), 1, CHIP, 10.0, ("red",), 0.05)
    spots = [worker.Location(i, *middle("33TUN", 30 * i - 450)) for i in range(30)]
    with ThreadPoolExecutor(8) as pool:
        chips = list(pool.map(lambda spot: worker._read(where, plan, spot)[0], spots))
    for first, second in pairwise(chips):
        assert (first[:, :, 3:] == second[:, :, :-3]).all()


def test_one_file_of_many_bands_no_data_and_masks(sky, tmp_path):
    crs, left, top = CORNERS["33TUN"]
    rng = np.random.default_rng(3)
    rgb = rng.integers(1, 255, (3, 128, 128)).astype(np.uint8)
    rgb[0, 60:70, 60:70] = 0  # dark in one band
    rgb[:, :, 70:] = 0
    cog(sky.folder / "rgb.tif", rgb, crs=crs, left=left, top=top, px=10, nodata=0)
    lon, lat = transform(crs, "EPSG:4326", [left + 640], [top - 640])
    place = worker.Location(0, lon[0], lat[0])
    search = a_search(sky)
    where = {name: (f"{sky.url}/files/rgb.tif", n) for name, n in (("blue", 3), ("red", 1))}

    def plan(**more):
        about = {
            "output_dir": tmp_path,
            "search": search,
            "dates": 1,
            "chip_px": 32,
            "resolution_m": None,
            "bands": ("blue", "red"),
            "max_nodata": 0.5,
            **more,
        }
        return worker.Plan(**about)

    pixels, valid, about = worker._read(where, plan(), place)
    assert (pixels == rgb[[2, 0], 48:80, 48:80]).all() and about["nodata"] == 0
    assert valid[:, :22].all() and not valid[:, 22:].any()  # dark pixels hold data
    apart = {}
    for n, name in enumerate(("red", "green")):
        cog(
            sky.folder / f"{name}.tif", rgb[n : n + 1], crs=crs, left=left, top=top, px=10, nodata=0
        )
        apart[name] = (f"{sky.url}/files/{name}.tif", 1)
    two, seen, _ = worker._read(apart, plan(bands=("red", "green")), place)
    assert (seen == valid).all() and (two == rgb[:2, 48:80, 48:80]).all()
    values = rng.normal(size=(1, 128, 128)).astype(np.float32)
    values[0, 50, 50] = np.nan
    cog(sky.folder / "float.tif", values, crs=crs, left=left, top=top, px=10)
    where = {"ndvi": (f"{sky.url}/files/float.tif", 1)}
    pixels, valid, about = worker._read(where, plan(bands=("ndvi",)), place)
    assert about["nodata"] is None and valid.sum() == 32 * 32 - 1 and not valid[2, 2]
    assert np.array_equal(pixels[0][valid], values[0, 48:80, 48:80][valid])
    coarse, _, about = worker._read(
        where, plan(bands=("ndvi",), resolution_m=20.0, chip_px=8), place
    )
    square = values[0, 56:72, 56:72].reshape(8, 2, 8, 2).mean((1, 3))
    assert np.allclose(coarse[0], square, atol=1e-5) and about["transform"].a == 20
    mixed = {**where, "red": (f"{sky.url}/files/rgb.tif", 1)}
    with pytest.raises(UnavailableError, match="different types"):
        worker._read(mixed, plan(), place)
    with pytest.raises(UnavailableError, match="no band 4, the file has 3"):
        worker._read({"x": (f"{sky.url}/files/rgb.tif", 4)}, plan(), place)
    edge = worker.Location(0, *np.ravel(transform(crs, "EPSG:4326", [left + 100], [top - 640])))
    with pytest.raises(UnavailableError, match="not fully in the scene"):
        worker._read(where, plan(bands=("ndvi",)), edge)


def test_what_a_chip_lacks_is_said_refused_or_not_even_read(sky, tmp_path, monkeypatch):
    crs, left, top = CORNERS["33TUN"]
    values = np.random.default_rng(5).normal(size=(1, SIDE, SIDE)).astype(np.float32)
    values[0, :, 150:] = np.nan
    cog(sky.folder / "gap.tif", values, crs=crs, left=left, top=top, px=10)
    found = json.loads((sky.folder / "items.json").read_text())["features"][0]
    found["assets"] = {"ndvi": {"href": f"{sky.url}/files/gap.tif"}}
    lon, lat = middle("33TUN", -100)
    plan = worker.Plan(tmp_path, a_search(sky), 1, CHIP, 10.0, ("ndvi",), 0.7)
    place = worker.Location(0, lon, lat)

    def tried(plan, **changes):
        one = stac._item({**found, **changes}, plan.search)
        monkeypatch.setattr(stac, "items_at", lambda *a: [one])
        sky.log.clear()
        return worker.harvest_location(plan, place)

    strict = tried(replace(plan, max_nodata=0.4))
    assert strict["items"][0]["reason"] == "50% of the chip have no data" and strict["complete"]
    ring = [[lon - 1, lat - 1], [lon, lat - 1], [lon, lat + 1], [lon - 1, lat + 1]]
    west = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    partly = tried(plan, geometry=west)
    assert partly["items"] == [] and "1 items under the cloud limit, 0 cover" in partly["reason"]
    assert not sky.asked()
    (done,) = tried(plan)["items"]
    with rasterio.open(tmp_path / done["path"]) as file:
        assert np.isfinite(file.read()).all() and file.read_masks(1).mean() == 255 / 2
    rows = pd.DataFrame({"path": [str(tmp_path / done["path"])]})
    about = {"reader": "images", "bands": (1,), "band_names": ("ndvi",), "scale": (-4.0, 4.0)}
    chip = images.read_chips(images.add_pixel_columns(rows, **about), size_px=CHIP)
    assert chip.valid[0, :, : CHIP // 2].all() and not chip.valid[0, :, CHIP // 2 :].any()
    (tmp_path / done["path"]).write_bytes(b"II*\0")  # a disk's fault is mended
    assert tried(plan)["items"] == [done] and len(sky.asked()) > 0


def test_a_full_disk_leaves_no_file_and_is_no_fault_of_the_item(sky, tmp_path, monkeypatch):
    def full(self, **tags):
        raise OSError("No space left on device")

    monkeypatch.setattr(rasterio.io.DatasetWriter, "update_tags", full)
    with pytest.raises(OSError, match="No space"):
        reap(sky, tmp_path)
    assert [name for name in tree(tmp_path) if name.startswith("chips")] == []


def test_metres_in_degrees_and_in_feet(sky, tmp_path):
    pixels = np.random.default_rng(6).integers(1, 9, (1, 256, 256)).astype(np.uint8)
    cog(sky.folder / "deg.tif", pixels, crs="EPSG:4326", left=10.0, top=60.128, px=0.001)
    x, y = transform("EPSG:4326", "EPSG:2263", [-74.0], [40.7])
    cog(sky.folder / "feet.tif", pixels, crs="EPSG:2263", left=x[0] - 420, top=y[0] + 420, px=3.28)
    for name, lon, lat, meters, wide, high in (
        ("deg", 10.128, 60.0, 50.0, 50 / 111_195 / 0.5, 50 / 111_195),
        ("feet", -74.0, 40.7, 2.0, 2 * 3937 / 1200, 2 * 3937 / 1200),
    ):
        plan = worker.Plan(tmp_path, a_search(sky), 1, 16, meters, ("x",), 0.0)
        where = {"x": (f"{sky.url}/files/{name}.tif", 1)}
        grid = worker._read(where, plan, worker.Location(0, lon, lat))[2]
        step = grid["transform"]
        assert step.a == pytest.approx(wide, rel=1e-4) and -step.e == pytest.approx(high, rel=1e-4)
        x, y = transform("EPSG:4326", grid["crs"], [lon], [lat])
        assert np.abs(np.array(~step @ (x[0], y[0])) - 8).max() <= 0.501


def an_item(name, when, cloud=None, **assets):
    time = datetime.datetime.fromisoformat(when).replace(tzinfo=datetime.UTC)
    return stac.Item(name, time, cloud, "", None, assets, {})


def test_bands_are_found_by_key_number_and_name():
    def bands(*names, key="name"):
        return [{key: name} for name in names]

    planetary = an_item(
        "a", "2020-01-01",
        B04={"href": "4", "type": TIFF, "eo:bands": [{"name": "B04", "common_name": "red"}]},
        visual={"href": "v", "type": TIFF,
                "eo:bands": bands("red", "green", "blue", key="common_name")},
        preview={"href": "p", "type": "image/png", "eo:bands": bands("red")},
        new={"href": "n", "bands": bands("coastal", "swir", key="eo:common_name")},
        odd={"href": "o", "eo:bands": "red"}, odder={"href": "o", "eo:bands": [None, 3, {}]},
    )  # fmt: skip
    found = {
        name: stac.find_band(planetary, name)
        for name in ("red", "b04", "Green", "visual:3", "swir")
    }
    assert list(found.values()) == [("4", 1), ("4", 1), ("v", 2), ("v", 3), ("n", 2)]
    earth = an_item(
        "b", "2020-01-01",
        red={"href": "r", "type": TIFF, "eo:bands": bands("red")},
        **{"red-jp2": {"href": "j", "type": "image/jp2", "eo:bands": bands("red")}},
    )  # fmt: skip
    assert stac.find_band(earth, "red") == ("r", 1)
    for wrong in ("nir", "red:0", "red:-1", "preview", ""):
        with pytest.raises(UnavailableError, match="no GeoTIFF for the band"):
            stac.find_band(earth, wrong)


def test_tokens_are_shown_to_their_own_servers_and_asked_for_once(sky, monkeypatch):
    monkeypatch.setattr(stac, "_tokens", {})
    soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).isoformat()
    (sky.folder / "s2").write_text(json.dumps({"msft:expiry": soon, "token": "se=1&sig=a%2Bb"}))
    where = stac.Catalog(sky.url, f"{sky.url}/files", ("127.0.0.1",))
    search = a_search(sky, api=where)
    sky.faults = {"/files/s2": ["429", "drop"]}
    assert (
        stac.sign_url("http://127.0.0.1/a.tif", search) == "http://127.0.0.1/a.tif?se=1&sig=a%2Bb"
    )
    assert stac.sign_url("http://127.0.0.1/a.tif?x=1", search).endswith("?x=1&se=1&sig=a%2Bb")
    for other in ("http://evil.example/127.0.0.1", "http://127.0.0.1.evil.example/a", "http://[x"):
        assert stac.sign_url(other, search) == other
    assert len(sky.asked("/files/s2")) == 3
    late = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=4)).isoformat()
    (sky.folder / "s2").write_text(json.dumps({"msft:expiry": late, "token": "t"}))
    monkeypatch.setattr(stac, "_tokens", {})
    for _ in range(2):  # it ends too soon to be kept
        assert stac.sign_url("http://127.0.0.1/a.tif", search).endswith("?t")
    assert len(sky.asked("/files/s2")) == 5
    for answer in ("<html>", "[]", '{"token": 1}', "[" * 100_000):
        (sky.folder / "s2").write_text(answer)
        with pytest.raises(UnavailableError, match="no token"):
            stac.sign_url("http://127.0.0.1/a.tif", search)


def test_a_signed_harvest_keeps_its_token_to_itself(sky, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(stac, "_tokens", {})
    soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).isoformat()
    (sky.folder / "s2").write_text(json.dumps({"msft:expiry": soon, "token": "sig=secret"}))
    reap(sky, tmp_path, api=stac.Catalog(sky.url, f"{sky.url}/files", ("127.0.0.1",)))
    assert all(path.endswith(".tif?sig=secret") for _, path, _, _ in sky.asked("_red"))
    assert len(sky.asked("/files/s2")) == 1
    found, wanted = tree(tmp_path), tree(undisturbed[0])
    assert found.pop("harvest.json") != wanted.pop("harvest.json") and found == wanted


def daily(count, start="2020-01-01"):
    first = datetime.datetime.fromisoformat(start)
    days = [(first + datetime.timedelta(days=n, hours=10)).isoformat() for n in range(count)]
    return [an_item(f"i{n:03d}", day, cloud=float(n % 7)) for n, day in enumerate(days)]


@pytest.mark.parametrize("dates", [1, 2, 3, 4, 9])
def test_dates_are_spread_and_do_not_depend_on_the_order(dates):
    items, start, end = daily(121), datetime.date(2020, 1, 1), datetime.date(2020, 4, 30)

    def chosen(items, keep=lambda item: True):
        found = worker.pick_dates(items, keep, start=start, end=end, dates=dates)
        return sorted(int(item.id[1:]) for item in found)

    numbers = chosen(items)
    wanted = np.linspace(0, 120, dates) if dates > 1 else [60]
    assert len(numbers) == dates and np.abs(np.array(numbers) - wanted).max() <= 1
    shuffled = [items[i] for i in np.random.default_rng(0).permutation(121)]
    assert chosen(shuffled) == numbers
    bad = set(numbers)
    others = chosen(items, lambda item: int(item.id[1:]) not in bad)
    assert len(others) == dates and np.abs(np.array(others) - numbers).max() <= 1


def test_dates_of_a_gap_are_filled_up_on_other_days():
    start, end = datetime.date(2020, 1, 1), datetime.date(2020, 12, 31)
    same_day = [an_item("z", "2020-02-01T10:00:00"), an_item("y", "2020-02-01T10:00:05")]
    clear = [an_item("x", "2020-02-11T10:00:00", 3.0), an_item("w", "2020-02-20T10:00:00", 4.0)]
    tried = []

    def keep(item):
        tried.append(item.id)
        return True

    found = worker.pick_dates([*same_day, *clear], keep, start=start, end=end, dates=4)
    assert sorted(item.id for item in found) in (["w", "x", "y"], ["w", "x", "z"])
    assert len(tried) == 3
    year = {"start": start, "end": end}

    def chosen(days, dates):
        first = datetime.datetime(2020, 1, 1)
        some = [an_item(f"{d}", (first + datetime.timedelta(d)).isoformat()) for d in days]
        found = worker.pick_dates(some, lambda item: True, dates=dates, **year)
        return [float(item.id) for item in found]

    assert chosen([0.5, 1.5, 2.5, 30.5], 2) == [0.5, 30.5]
    assert chosen([0.1, *np.arange(175.1, 186)], 4) == [0.1, 175.1, 185.1, 180.1]
    assert chosen([182.9, 183.1, 100], 2) == [100, 183.1]
    assert chosen([182.9, 183.1], 2) == [182.9]  # hours apart, on both sides of the middle
    assert worker.pick_dates([], keep, start=start, end=end, dates=4) == []
    assert worker.pick_dates(daily(9), lambda i: False, start=start, end=end, dates=4) == []


@pytest.mark.parametrize(
    ("box", "km"),
    [((5, 44, 15, 50), 60), ((-180, 60, 180, 70), 200), ((170, -46, -170, -34), 60)],
)
def test_the_grid_is_uniform_and_on_land(box, km):
    from geossl.data import earth as world

    places = land_grid(box, spacing_km=km)
    lon, lat = places["lon"].to_numpy(), places["lat"].to_numpy()
    assert places["location"].tolist() == list(range(len(places)))
    assert world.on_land(lon, lat).all()
    left, bottom, right, top = box
    assert ((lat > bottom) & (lat < top)).all()
    assert (((lon - left) % 360) <= ((right - left) % 360 or 360)).all()
    apart = great_circle_km(lon[:, None], lat[:, None], lon, lat)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(1)
    assert np.median(np.abs(nearest - km)) < 0.1 * km and nearest.min() > 0.6 * km
    if box[0] == 5:  # nearly all land
        ground = 10 * 111.19 * np.cos(np.radians(47)) * 6 * 111.19
        assert 0.85 * ground / 60**2 < len(places) < 1.02 * ground / 60**2


@pytest.mark.parametrize(
    ("box", "spacing", "words"),
    [
        ((5, 50, 15, 44), 50, "`box` must be left"),
        ((5, 44, 5, 50), 50, "`box` must be left"),
        ((0, 0, 200, 1), 50, "`box` must be left"),
        ((5, 44, 15, 50), 0, "`spacing_km` must be > 0"),
        ((-180, -90, 180, 90), 1, "`spacing_km` = 1 gives more than 1,000,000"),
        ((-30, -30, -28, -28), 50, "has no land"),
    ],
)
def test_a_wrong_grid_is_refused(box, spacing, words):
    with pytest.raises(ValueError, match=words):
        land_grid(box, spacing_km=spacing)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"start": "2021-01-01"}, "`start` must not be after `end`"),
        ({"start": "2019"}, "`start` must be a day"),
        ({"dates": 0}, "`dates` must be >= 1"),
        ({"max_cloud": 101}, "`max_cloud` must be <= 100"),
        ({"chip_px": 0}, "`chip_px` must be >= 1"),
        ({"bands": ()}, "`bands` must be different names"),
        ({"bands": ("a", "a")}, "`bands` must be different names"),
        ({"bands": ("a,b",)}, "`bands` must be .* without commas"),
        ({"resolution_m": 0}, "`resolution_m` must be > 0"),
        ({"scale": (1, 1)}, "`scale` must be .lowest, highest"),
        ({"api": "earth"}, "got 'earth'"),
        ({"collection": "none"}, "'none'"),
        ({"max_nodata": 2}, "`max_nodata` must be <= 1"),
        ({"num_workers": 0}, "`num_workers` must be > 0"),
    ],
)
def test_wrong_arguments_are_refused(sky, tmp_path, more, words):
    with pytest.raises(ValueError, match=words):
        reap(sky, tmp_path, **more)


@pytest.mark.slow
def test_many_silent_places_end_the_harvest(sky, tmp_path):
    spots = [(i, *middle("33TUN", 10 * i)) for i in range(22)]
    places = pd.DataFrame(spots, columns=["location", "lon", "lat"])
    sky.faults = {"/files/": ["drop!"]}
    with pytest.raises(ConnectionError, match="20 locations in a row got no answer"):
        reap(sky, tmp_path, places, dates=1, retry_policy=RetryPolicy(tries=1, timeout_s=1))
    sky.faults = {}
    table = reap(sky, tmp_path, places, dates=1)
    assert len(table) == 22 and table.attrs["short"] == {}


def test_a_manifest_of_somebody_else_is_not_believed(sky, undisturbed, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(undisturbed[0], out)
    lines = manifest(out)
    lines[0]["items"][0]["path"] = "../../secret.tif"
    (out / lines[1]["items"][2]["path"]).unlink()
    del lines[2]["items"][0]["path"]
    with open(out / "manifest.jsonl", "w") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)
        file.write("[" * 100_000 + "\n3\n{}\n")
    sky.log.clear()
    reap(sky, out)
    assert tree(out) == tree(undisturbed[0])
    assert {path.split("_")[1] for _, path, *_ in sky.asked("/files/")} == {"2020-12-28"}


def test_floats_need_a_scale_and_no_second_download(sky, tmp_path, monkeypatch):
    plain = stac._item

    def floats(found, search):
        one = plain(found, search)
        if one is not None:
            one.assets["red"] = {"href": f"{sky.url}/files/ndvi.tif"}
        return one

    crs, left, top = CORNERS["33TUN"]
    pixels = np.random.default_rng(1).normal(size=(1, SIDE, SIDE)).astype(np.float32)
    cog(sky.folder / "ndvi.tif", pixels, crs=crs, left=left, top=top, px=10)
    monkeypatch.setattr(stac, "_item", floats)
    asked = {"places": four_places().iloc[:1], "bands": ("red",), "dates": 2}
    with pytest.raises(ValueError, match="`scale` is needed .*, got float32 in 33TUN"):
        reap(sky, tmp_path, **asked)
    sky.log.clear()
    table = reap(sky, tmp_path, scale=(-3.0, 3.0), **asked)
    assert not sky.asked("/files/") and set(table["dtype"]) == {"uint16"}
    store = ChipStore.build(tmp_path / "store", table, size_px=CHIP, progress=False)
    assert store.chips.min() >= 1 and store.chips.max() == 65535


def test_the_command_line_is_the_function(sky, tmp_path, capsys, monkeypatch):
    lon, lat = middle("33TUN")
    main(["stac", "--output-dir", str(tmp_path / "one"), "--api", sky.url, "--collection", "s2",
          "--place", str(lon), str(lat), "--start", "2019-01-01", "--end", "2020-12-31",
          "--dates", "2", "--chip-px", "48", "--bands", "red", "green", "--num-workers", "2",
          "--resolution-m", "None"])  # fmt: skip
    said = capsys.readouterr().out
    assert said.endswith("scenes.parquet --size-px 48\n") and "2 scenes of 1 locations" in said
    table = pd.read_parquet(tmp_path / "one" / "scenes.parquet")
    assert len(table) == 2 and table["band_names"][0] == "red,green"
    csv = tmp_path / "places.csv"
    four_places()[["lat", "lon"]].to_csv(csv, index=False)
    assert len(_locations(None, csv, None, 50.0)) == 4
    assert len(_locations(None, None, (5, 44, 15, 50), 100)) > 30
    boxes = []
    monkeypatch.setattr(cli_stac, "_locations", lambda *given: boxes.append(given[2]) or 1 / 0)
    western = ["--start", "a", "--end", "b", "--box", "-75.5", "-9", "-74", "-8"]
    with pytest.raises(ZeroDivisionError):
        main(["stac", "-o", "x", *western])
    assert boxes == [(-75.5, -9, -74, -8)]
    monkeypatch.undo()
    for wrong in ([], ["--place", "1", "2", "--box", "5", "44", "15", "50"]):
        with pytest.raises(SystemExit):
            main(["stac", "-o", str(tmp_path), "--start", "2019-01-01", "--end", "2020", *wrong])
        assert "one of --place LON LAT, --points FILE and --box" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_makes_the_same_files(sky, undisturbed, tmp_path):
    pytest.importorskip("distributed")
    import psutil
    from test_build_dask import workers_of

    killed = []

    def kill_one(count, path):
        if "/files/" in path and not killed:  # a worker of the cluster is reading pixels
            worker = workers_of(psutil.Process())[1]
            worker.send_signal(signal.SIGKILL)
            killed.append(worker.pid)

    sky.faults = kill_one
    table = reap(sky, tmp_path, dask="local:3", num_workers=None)
    assert len(killed) == 1 and len(table) == 12
    assert tree(tmp_path) == tree(undisturbed[0])


def test_work_travels_to_other_machines(sky, tmp_path):
    plan = worker.Plan(tmp_path, a_search(sky), 1, CHIP, 10.0, ("red",), 0.05)
    assert pickle.loads(pickle.dumps(plan)) == plan


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place", "bands", "names"),
    [
        ("landsat_pucallpa", (-74.45, -8.42), ("image:4", "image:3", "image:2"), (4, 3, 2)),
        ("naip_north_dakota", None, ("image:1", "image:2", "image:3", "image:4"), (1, 2, 3, 4)),
    ],
)
def test_real_imagery_arrives_as_it_is(tmp_path, name, place, bands, names):
    if not (DATA / name).is_dir():
        pytest.skip(f"needs the images of {DATA / name}")
    served = tmp_path / "served"
    served.mkdir()
    files = sorted((DATA / name).glob("*.tif"))[:5]
    for file in files:
        copy_raster(file, served / file.name, driver="COG", compress="deflate", blocksize=256)
    if place is None:
        with rasterio.open(files[0]) as file:
            lon, lat = transform(file.crs, "EPSG:4326", *[[v] for v in file.xy(300, 400)])
            place = lon[0], lat[0]

    def make(address):
        days = [f.stem[-8:] if len(f.stem) > 4 else f"{f.stem}0701" for f in files]
        return [
            item({"image": served / f.name}, f"{d[:4]}-{d[4:6]}-{d[6:]}", name=f.stem,
                 collection=name, address=address, cloud=None)
            for f, d in zip(files, days, strict=True)
        ]  # fmt: skip

    with catalog(served, make) as server:
        server.faults = {"/files/": ["drop", "429", "cut"]}
        table = harvest(
            tmp_path / "out",
            pd.DataFrame([(name, *place)], columns=["location", "lon", "lat"]),
            api=server.url,
            collection=name,
            start="1980-01-01",
            end="2020-12-31",
            dates=4,
            chip_px=64,
            resolution_m=None,
            bands=bands,
            max_cloud=0,
            retry_policy=QUICK,
            progress=False,
        )
    assert len(table) == 4 and table["item"].iloc[[0, -1]].tolist() == [
        files[0].stem,
        files[-1].stem,
    ]
    for _, row in table.iterrows():
        with (
            rasterio.open(row["path"]) as chip,
            rasterio.open(DATA / name / f"{row['item']}.tif") as file,
        ):
            window = file.window(*chip.bounds).round_offsets().round_lengths()
            assert (chip.read() == file.read(names, window=window)).all()
            assert chip.crs == file.crs and np.allclose(chip.bounds, file.window_bounds(window))
            x, y = transform("EPSG:4326", file.crs, [row["lon"]], [row["lat"]])
            off = np.array(~chip.transform @ (x[0], y[0])) - 32
            assert np.abs(off).max() <= 0.501
