import json
import re
import shutil

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geossl.cli import demo
from geossl.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture
def made(demo_made):
    return demo_made


def test_the_page_has_every_part_and_stands_alone(made):
    page = made[1]
    text = page.read_text("utf-8")
    for title in (
        "The locations", "Geo clusters", "Positive pairs", "Training",
        "How many labels does it save?", "With all labels", "The world as the encoder sees it",
        "Same place, other date", "Explore them yourself",
    ):  # fmt: skip
        assert f"<h2>{title}</h2>" in text
    assert text.count("<iframe") == 4 and text.count("<img") >= 7
    assert text.count("<img") == text.count('alt="') and "simulated" in text
    assert 'src="http' not in text and 'href="http' not in text


def test_the_first_maps_come_before_training(made):
    _, page, _, early, lines = made
    assert re.findall("<h2>(.*)</h2>", early) == ["The locations", "Geo clusters", "Positive pairs"]
    assert early.count("<iframe") == 3 and "load this page again" in early
    assert sum(str(page) in line for line in lines) == 1
    text = page.read_text("utf-8")
    assert "<h2>How many labels does it save?</h2>" in text and "load this page again" not in text


def test_the_terminal_shows_the_table_and_what_is_left(made):
    _, page, lines, *_ = made
    said = "\n".join(lines)
    for name in ("random features", *demo.METHODS):
        assert name in said
    assert "min of training left in all" in said and str(page) in said
    assert len(re.findall(r"\d+ steps in .*, kNN of label \d\.\d{3} on val", said)) == 3
    cells = re.findall(r"\d\.\d{3} \(\d\.\d{3}-\d\.\d{3}\)", said)
    assert len(cells) == 3 * (1 + len(demo.METHODS))
    text = page.read_text("utf-8")
    assert all(f"<td>{cell}</td>" in text for cell in cells)
    assert said.index("25 labels") < said.index(cells[0])  # few labels first
    few = re.search(r"MoCo-v2\+Geo\+TP((?: +\d\.\d{3})+)\n", said)[1].split()
    assert len(few) >= 4 and all(f"<td>{value}</td>" in text for value in few)
    assert re.search(r"with \d+ labeled locations, MoCo-v2 (reaches with|does not reach)", text)


def test_what_it_made_is_kept_and_taken_up(made, tmp_path, monkeypatch):
    out = tmp_path / "a copy"  # others look at the page meanwhile
    shutil.copytree(made[0], out)
    lines = []

    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "embed", stop)  # what comes after training is not made once more
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(out, places=240, epochs=1, seed=0, echo=lambda line: lines.append(str(line)))
    assert sum("done before" in line for line in lines) == len(demo.METHODS)
    logs = (out / "moco-v2" / "log.jsonl").read_text().splitlines()
    assert json.loads(logs[-1])["step"] > 0


def test_a_workbench_takes_what_the_demo_left_or_makes_a_small_one(made, tmp_path):
    store, embeddings = demo.load_demo(made[0], tmp_path / "own")
    assert len(store) == len(embeddings) == 4 * 240 and not (tmp_path / "own").exists()
    store, embeddings = demo.load_demo(tmp_path / "none", tmp_path / "own", places=60)
    assert store.path == tmp_path / "own" / "chips" and len(embeddings) == 4 * 60
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="at least one folder"):
        demo.load_demo()


def write_photographs(folder):
    """Three dates of one area, as ``geossl fetch naip`` leaves them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(0, 150, (4, 24, 32)), np.ones((8, 8)))
    for year in (2009, 2015, 2020):
        with rasterio.open(
            folder / f"area_{year}0701.tif", "w", driver="GTiff", width=256, height=192, count=4,
            dtype="uint8", crs="EPSG:26914", photometric="minisblack",
            transform=from_origin(500_000, 5_200_000, 5, 5),
        ) as file:  # fmt: skip
            file.write((ground + rng.integers(0, 60, ground.shape)).astype(np.uint8))


def test_real_photographs_by_one_knob(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photographs(tmp_path / "data" / "naip")
    main(["demo", "--data", "naip", "--epochs", "1"])
    text = (tmp_path / "runs" / "demo_naip" / "index.html").read_text("utf-8")
    assert re.findall("<h2>(.*)</h2>", text) == [
        "The locations", "Geo clusters", "Positive pairs", "Training", "Is a place found again?",
        "The area as the encoder sees it", "Same place, other date", "Explore them yourself",
    ]  # fmt: skip
    assert "25 overlapping squares of 64 pixels, each on up to 3 dates from 2009 to 2020" in text
    for word in ("Koeppen", "climate", "simulated:", "Blue Marble Next Generation"):
        assert word not in text
    assert "each date centered" in text and not (tmp_path / "runs" / "demo").exists()


def test_photographs_that_are_not_there_say_how_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["demo", "--data", "landsat"])
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "run `geossl fetch landsat`" in said[0]
    assert not (tmp_path / "runs" / "demo_landsat").exists()


def test_no_epochs_are_refused_not_replaced(tmp_path):
    with pytest.raises(ValueError, match="`epochs`"):
        demo.run_demo(tmp_path, places=120, epochs=0, echo=lambda line: None)
