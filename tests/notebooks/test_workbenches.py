"""Every workbench runs from top to bottom, with small knobs, in a folder of its own."""

import contextlib
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from kernels import Kernel, error_text
from PIL import Image

import geossl

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
NAIP = ROOT.parent / "shared" / "data" / "naip_north_dakota"
EUROSAT = ROOT.parent / "shared" / "data" / "eurosat_100"


@pytest.fixture(scope="module")
def kernels():
    """The kernel of the workbench that is run, new for each workbench and kept for its next run."""
    with contextlib.ExitStack() as stack:
        running = {}

        def start(name, folder):
            if name not in running:
                stack.close()
                running.clear()
                running[name] = stack.enter_context(Kernel(folder))
            return running[name]

        yield start


@pytest.fixture
def run(kernels):
    """The words of all outputs of a notebook, run with other values in its cell of knobs.

    Of a notebook that ``stops``, the error that it stops with.
    """

    def run(name, folder, *, stops=False, **knobs):
        book = nbformat.read(ROOT / "notebooks" / name, as_version=4)
        cell = next(c for c in book.cells if "parameters" in c.metadata.get("tags", []))
        cell.source += "".join(f"\n{knob} = {value!r}" for knob, value in knobs.items())
        kernel = kernels(name, folder)
        kernel.open(book, folder=folder)
        error, at = kernel.run()
        if stops:
            return error_text(error)
        assert error is None, f"cell {at}: {error_text(error)}"
        outputs = [output for c in book.cells for output in c.get("outputs", [])]
        shown = [
            o["data"].get("text/html", o["data"].get("text/plain", ""))
            for o in outputs if "data" in o
        ]  # fmt: skip
        pictures = sum("data:image/png" in text and "<iframe" not in text for text in shown)
        words = [o["text"] for o in outputs if "text" in o]
        return "\n".join([*shown, f"{pictures} pictures", *words])

    return run


def photos(folder):
    """A csv of pictures with positions, one of them damaged."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(12):
        pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
    (folder / "3.jpg").write_bytes(b"no picture")
    pd.DataFrame({
        "image": [f"{i}.jpg" for i in range(12)], "latitude": np.linspace(-50, 50, 12).round(2),
        "longitude": np.linspace(-170, 170, 12).round(2), "class": ["a", "b", "c"] * 4,
    }).to_csv(folder / "list.csv", index=False)  # fmt: skip
    return folder / "list.csv"


def test_a_data_set_is_built_from_the_embedded_world(run, tmp_path):
    told = run("build_dataset.ipynb", tmp_path, PLACES=60)
    assert "240 chips of 3 x 32 x 32 uint8" in told and "every file was read" in told
    assert "\n1 pictures" in told
    assert (tmp_path / "runs" / "dataset" / "chips" / "store.json").is_file()


def test_a_data_set_is_built_from_a_csv(run, tmp_path):
    told = run("build_dataset.ipynb", tmp_path, SOURCE=str(photos(tmp_path / "photos")), SIZE_PX=16)
    assert "11 chips of 3 x 16 x 16" in told and "3.jpg" in told
    assert "temporal: No location has two dates that satisfy temporal()" in told


@pytest.mark.skipif(not NAIP.is_dir(), reason="needs the real images in ../shared/data")
def test_a_data_set_is_built_from_a_folder_of_scenes(run, tmp_path):
    options = {"chip_px": 128, "test_side": "east"}
    told = run("build_dataset.ipynb", tmp_path, SOURCE=str(NAIP), OPTIONS=options)
    assert "300 chips of 4 x 32 x 32" in told and "2009-08-18 to 2020-08-31" in told
    assert "look at this" not in told
    assert "\n1 pictures" in told  # none of the chips that lack the most data: all are whole


@pytest.mark.skipif(not EUROSAT.is_dir(), reason="needs the real images in ../shared/data")
def test_a_folder_of_images_is_embedded_and_explored(run, tmp_path):
    shown = run("explore_embeddings.ipynb", tmp_path, SOURCE=str(EUROSAT))
    assert shown.count("EmbeddingExplorer(100 images of 100 locations)") == 2
    page = (tmp_path / "runs" / "explore" / "explorer.html").read_text("utf-8")
    assert page.count("data:image/webp") >= 100  # the scenes on the map


def test_vectors_of_another_tool_are_explored_without_labels_or_chips(run, tmp_path):
    rng = np.random.default_rng(0)
    vectors = pd.DataFrame(rng.normal(size=(40, 8)), columns=[f"emb_{i}" for i in range(8)])
    vectors = vectors.assign(lon=rng.uniform(5, 6, 40), lat=rng.uniform(45, 46, 40))
    vectors.to_csv(tmp_path / "vectors.csv", index=False)
    shown = run("explore_embeddings.ipynb", tmp_path, EMBEDDINGS=str(tmp_path / "vectors.csv"))
    assert shown.count("EmbeddingExplorer(") == 2 and "0 images selected" in shown


def test_own_vectors_are_explored_where_their_label_cannot_be_probed(run, tmp_path):
    rng = np.random.default_rng(0)
    vectors = pd.DataFrame(rng.normal(size=(40, 8)), columns=[f"emb_{i}" for i in range(8)])
    vectors = vectors.assign(crop=["a", "b"] * 20)
    vectors.to_csv(tmp_path / "nowhere.csv", index=False)
    path = str(tmp_path / "nowhere.csv")
    shown = run("explore_embeddings.ipynb", tmp_path, EMBEDDINGS=path, LABEL="crop")
    assert "No probe of 'crop': " in shown and shown.count("EmbeddingExplorer(") == 2
    assert "serialization failed" not in shown
    places = {"lon": rng.uniform(5, 6, 40), "lat": rng.uniform(45, 46, 40)}
    vectors.assign(**places).to_csv(tmp_path / "site.csv", index=False)
    knobs = {"EMBEDDINGS": str(tmp_path / "site.csv"), "LABEL": "crop"}
    assert "Use block_deg=0.2." in run("explore_embeddings.ipynb", tmp_path, **knobs)
    shown = run("explore_embeddings.ipynb", tmp_path, **knobs, BLOCK_DEG=0.2)
    assert "linear top-1" in shown and "No probe" not in shown


@pytest.mark.parametrize("name", ["explore_embeddings.ipynb", "explore_clusters.ipynb"])
def test_the_explorers_run(run, tmp_path, name):
    told = run(name, tmp_path, PLACES=60)
    assert "240" in told
    assert (tmp_path / "runs" / "explore" / "embeddings.parquet").is_file()


def test_places_without_labels_are_clustered(run, tmp_path):
    rng = np.random.default_rng(0)
    places = {"location": range(30), "lon": rng.uniform(5, 6, 30), "lat": rng.uniform(45, 46, 30)}
    pd.DataFrame(places).to_csv(tmp_path / "places.csv", index=False)
    shown = run("explore_clusters.ipynb", tmp_path, SOURCE=str(tmp_path / "places.csv"), K=5)
    assert "30 images of 30 locations" in shown and "ClusterExplorer(" in shown


def test_an_encoder_is_pre_trained_and_taken_away(run, tmp_path):
    settings = {"epochs": 1, "batch_size": 32}
    told = run("pretrain.ipynb", tmp_path, PLACES=60, GEO_K=5, SETTINGS=settings)
    assert "finished" in told and "effective rank" in told and "untrained" in told
    out = tmp_path / "runs" / "pretrain"
    assert geossl.models.weights.load(out / "run").bands == 3
    assert (out / "encoder.onnx").is_file() and (out / "embeddings.parquet").is_file()
    again = run("pretrain.ipynb", tmp_path, PLACES=60, GEO_K=5, SETTINGS=settings)
    assert "finished" in again  # the run that is there, taken up at its end


def test_an_encoder_is_pre_trained_without_pairs_on_a_store_of_ones_own(run, tmp_path):
    scenes = geossl.datasets.blue_marble(places=80, dates=1).drop(columns="label")
    geossl.ChipStore.build(tmp_path / "own", scenes, size_px=16, progress=False)
    settings = {"epochs": 1, "batch_size": 16, "encoder": "resnet18", "stem": "standard"}
    told = run("pretrain.ipynb", tmp_path, STORE="own", PAIRS=None, GEO_K=4, SETTINGS=settings)
    assert "no contrastive loss" in told and "no label to measure with" in told
    assert (tmp_path / "runs" / "pretrain" / "resnet18.pth").is_file()


def test_encoders_are_probed(run, tmp_path):
    told = run("probe.ipynb", tmp_path, PLACES=60, SEEDS=(0,))
    assert "random" in told and "made earlier" in told and "linear top-1" in told
    assert "within" in told or "km" in told  # of the leakage report
    assert "\n4 pictures" in told


def test_two_methods_are_compared(run, tmp_path):
    knobs = {"PLACES": 60, "EPOCHS": 1, "GEO_K": 5, "SETTINGS": {"batch_size": 32}}
    methods = ("MoCo-v2+Geo+TP", "+TP, GeoRank")
    told = run("methods.ipynb", tmp_path, METHODS=methods, **knobs)
    assert "untrained" in told and "36 labeled locations" in told and "other date" in told
    assert "MoCo-v2+Geo+TP minus +TP, GeoRank" in told and "EmbeddingExplorer(" in told
    assert told.count(", finished</div>") == 2
    assert "ahead" in told or "Too close to call" in told
    assert told.count('title="locations colored by') == 2 and "Neighbors in common, of 10" in told
    assert told.count('alt="a location and its neighbors by') == 4 and "\n6 pictures" in told
    kept = tmp_path / "runs" / "methods" / "_tp__georank-1-0"
    assert geossl.models.weights.load(kept).bands == 3
    written = (kept / "log.jsonl").read_text("utf-8")
    start = {"START": str(kept), "LABEL": None, "SEED": 0, "EPOCHS": 0.5}
    told = run("methods.ipynb", tmp_path, METHODS=("Tile2Vec", "Geoloc."), **(knobs | start))
    assert "before training" in told and "labeled locations" not in told
    assert "other date" in told and (kept / "log.jsonl").read_text("utf-8") == written


def test_two_methods_are_compared_on_photos_of_one_date(run, tmp_path):
    knobs = {"SIZE_PX": 16, "BLOCK_DEG": 30.0, "EPOCHS": 1, "SETTINGS": {"batch_size": 2}}
    source = str(photos(tmp_path / "photos"))
    methods = ("MoCo-v2", "regression")
    told = run("methods.ipynb", tmp_path, IMAGES=source, METHODS=methods, LABEL="kind", **knobs)
    assert "No few labels: `label` must be one of the columns" in told
    assert "No same place: `embeddings` needs at least two locations with two dates" in told
    assert "Nothing was measured" in told and "no labels, no curve" in told
    assert "Neighbors in common, of 10" in told


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"METHODS": ("MoCo-v2", "SimCLR")}, "ValueError: `METHODS` must be one of ['MoCo-v2', "),
        ({"METHODS": ("MoCo-v2",) * 2}, "ValueError: `METHODS` must be two different names, got "),
        ({"EPOCHS": 0}, "ValueError: `epochs` must be > 0, got 0."),
        ({"GEO_K": 1_000, "METHODS": ("Geoloc.", "MoCo-v2")}, "ValueError: `k` must be <= 36, "),
        ({"IMAGES": "nowhere"}, "FileNotFoundError: nowhere does not exist."),
        ({"START": "resnet"}, "FileNotFoundError: There is no encoder at resnet. "),
    ],
)
def test_methods_that_cannot_be_compared_are_a_sentence(run, tmp_path, knobs, sentence):
    told = run("methods.ipynb", tmp_path, stops=True, **{"PLACES": 60, **knobs})
    assert told.startswith(sentence) and "\n" not in told


def test_objects_are_found_and_pixels_are_named(run, tmp_path):
    quick = {"upsample": 1, "anchor_sides": (1.5, 2.1, 3.0), "crops": 24}
    told = run("detect_segment.ipynb", tmp_path, EPOCHS=1, SCENES=5, DETECTOR=quick)
    assert "AP50" in told and "mIoU" in told and "island" in told
    assert (tmp_path / "runs" / "scenes" / "map.tif").is_file()
    assert (tmp_path / "runs" / "detector" / "detector.safetensors").is_file()
