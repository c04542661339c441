"""The package of docs/extend_datasets.md works without an edit in geossl."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geossl.data.pixels import Pixels
from geossl.data.store import ChipStore
from geossl.datasets import registry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend_datasets.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def frames(tmp_path):
    """Frames of two cameras on two days, each of one gray value, and the page's package."""
    for camera, gray in (("a1", 40), ("b2", 80)):
        (tmp_path / "frames" / camera).mkdir(parents=True)
        for day in (1, 2):
            pixels = np.full((64, 64, 3), gray + day, np.uint8)
            pixels.tofile(tmp_path / "frames" / camera / f"2024060{day}.bin")
    (tmp_path / "frames" / "cameras.csv").write_text("camera,lon,lat\na1,10.5,50\nb2,-70,-33.25\n")
    module, group = blocks("python")[0], blocks("toml")[0]
    (tmp_path / "site" / "geossl_cameras-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "geossl_cameras.py").write_text(module, "utf-8")
    about = tmp_path / "site" / "geossl_cameras-1.0.dist-info"
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: geossl_cameras\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        group.replace('project.entry-points."geossl.datasets"', "geossl.datasets").replace('"', "")
    )
    return tmp_path


def run(folder, *command):
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_small():
    assert len(blocks("python")[0].splitlines()) <= 50


@pytest.mark.slow
def test_the_page_opens_and_builds_what_the_package_reads(frames):
    said = run(frames, "-c", blocks("python")[1] + "print(scenes.attrs['opened'])\n"
               "print(len(geossl.datasets.open_scenes('frames', camera='a1')))\n")  # fmt: skip
    assert "('cameras', 'contains cameras.csv')" in said and said.split()[-1] == "2"
    store = ChipStore.open(frames / "runs" / "frames" / "chips")
    assert store.chips.shape == (4, 3, 32, 32) and store.dtype == "uint8" and store.rgb == [0, 1, 2]
    assert store.chips[:, 0, 5, 5].tolist() == [41, 42, 81, 82]
    assert store.bands == ["red", "green", "blue"]
    assert store.scenes["lon"].tolist() == [10.5, 10.5, -70, -70]
    assert store.scenes["time"].dt.day.tolist() == [1, 2, 1, 2]
    assert store.scenes["reader"].unique().tolist() == ["cameras"]


@pytest.mark.slow
def test_the_command_line_opens_it(frames):
    _, *words = blocks("bash")[0].split()
    run(frames, "-m", "geossl", *words)
    table = pd.read_parquet(frames / "runs" / "frames" / "scenes.parquet")
    assert len(table) == 4 and set(table["reader"]) == {"cameras"}


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_DATA_SETS", dict(registry._DATA_SETS))


def points(folder):
    return pd.DataFrame({"path": ["a", "b"], "location": [0, 1]})


def test_pixels_say_what_their_bands_are_or_the_first_good_chip_does(registered, tmp_path):
    def read(rows, *, size_px):
        chips = np.full((len(rows), 5, size_px, size_px), 300, np.uint16)
        bad = {i: "is gone" for i, path in enumerate(rows["path"]) if path == "a"}
        return Pixels(chips, bad=bad)

    registry.register("five", open=points, read=read)
    table = registry.open_scenes(tmp_path, reader="five")
    store = ChipStore.build(tmp_path / "chips", table, size_px=4, skip_bad=True, progress=False)
    assert store.bands == [f"band_{i}" for i in range(1, 6)] and store.rgb == [0, 1, 2]
    assert store.dtype == "uint16" and len(store) == 1 and store.info["source"] == "five"
    registry.register("two", open=points, read=read, bands=("vv", "vh"))
    table = registry.open_scenes(tmp_path, reader="two")
    with pytest.raises(ValueError, match=r"`read` must return chips \(1, 2, 8, 8\), got \(1, 5, 8"):
        ChipStore.build(tmp_path / "two", table, size_px=4, progress=False)


def test_wrong_registrations_are_refused(registered, tmp_path):
    with pytest.raises(ValueError, match="`name` must be an identifier, got 'my set'"):
        registry.register("my set", open=points)
    with pytest.raises(TypeError, match="`open` must be a function"):
        registry.register("mine", open="points")
    with pytest.raises(ValueError, match="`bands` needs `read`"):
        registry.register("mine", open=points, bands=("a",))
    registry.register("mine", open=points)
    with pytest.raises(ValueError, match="`camera` is not an option of the data set mine.* none"):
        registry.open_scenes(tmp_path, reader="mine", camera=1)


@pytest.mark.slow
def test_a_plugin_that_cannot_be_imported_is_named(frames):
    (frames / "site" / "geossl_cameras.py").write_text("import nothing_of_this_name")
    code = "import geossl; print('fmow' in geossl.datasets.registry.names())"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], cwd=frames, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{frames / 'site'}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert done.stdout.strip() == "True"
    assert "geossl_cameras cannot be imported: No module named 'nothing_of" in done.stderr
