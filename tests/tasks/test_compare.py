import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from geossl import ChipStore, datasets, embed, evaluate, models
from geossl.cli.main import main
from geossl.data.scenes import BOX
from geossl.datasets.raster import area
from geossl.models import weights
from geossl.tasks import compare, detect, finetune, segment
from geossl.viz.plots.evaluation import plot_comparison
from geossl.viz.widgets import watch_comparison

RGB = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Bright and dark chips in twelve places all over the world."""
    folder = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(48):
        dark = i % 2
        pixels = np.clip(rng.normal(60 if dark else 180, 25, (16, 16, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        rows.append(
            (f"{i}.png", f"p{i}", -170 + 7 * i, 40 * np.sin(i), "dark" if dark else "bright")
        )
    pd.DataFrame(rows, columns=["path", "location", "lon", "lat", "label"]).to_csv(
        folder / "table.csv", index=False
    )
    table = datasets.table(folder / "table.csv")
    return ChipStore.build(folder / "store", table, size_px=16, progress=False)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Six scenes with bright squares, the boxes around them, and masks."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    rows, boxes = [], []
    for i in range(6):
        pixels = rng.integers(0, 60, (96, 96, 3), dtype=np.uint8)
        mask = np.zeros((96, 96), np.uint8)
        for x, y in rng.integers(4, 76, (3, 2)):
            pixels[y : y + 14, x : x + 14] = 230
            mask[y : y + 14, x : x + 14] = 1
            boxes.append((str(folder / f"{i}.png"), x, y, x + 14, y + 14, "square"))
        Image.fromarray(pixels).save(folder / f"{i}.png")
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
        split = "test" if i >= 4 else "train"
        rows.append((str(folder / f"{i}.png"), str(folder / f"{i}_mask.png"), i, split))
    table = pd.DataFrame(rows, columns=["path", "mask", "location", "split"])
    return table, pd.DataFrame(boxes, columns=["path", *BOX, "label"])


@pytest.mark.slow
def test_what_shows_figures_does_not_load_the_detectors_that_made_them():
    code = "import sys, geossl.tasks.compare, geossl.viz.plots.evaluation\n"
    code += "import geossl.viz.widgets.comparison\n"
    code += "assert not {'torchvision.models.detection', 'geossl.tasks.detect'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_classification_is_the_probe_itself(store):
    task = compare.classification(store, split="blocks", block_deg=5)
    ours = models.build_encoder("small", seed=3).eval()
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    found = list(compare.compare({"ours": ours, "random": None}, task, seeds=(0, 1)))
    assert [(r.method, r.seed) for r in found] == [
        ("ours", 0), ("random", 0), ("ours", 1), ("random", 1)
    ]  # fmt: skip
    fitted = weights.with_input(ours, store.mean, store.std)
    for row in found[::2]:
        expected = evaluate.linear(embed(store, fitted), split="blocks", block_deg=5, seed=row.seed)
        assert (row.value, row.low, row.high) == (expected.value, expected.low, expected.high)
        assert row.n_test == expected.n_test and row.model is None and row.seconds > 0
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())
    again = list(compare.compare({"random": None}, task, seeds=(0, 1)))
    assert [r.value for r in again] == [r.value for r in found[1::2]]


def test_statistics_are_the_tasks_or_the_encoders_own(store):
    seen, result = [], SimpleNamespace(metric="n", value=0.0, low=0.0, high=0.0, n_test=1)
    task = compare.Task(
        "any", RGB, np.array([1.0, 2, 3]), np.array([4.0, 5, 6]),
        lambda e, seed: (seen.append(e), (result, None))[1],
    )  # fmt: skip
    ours = models.build_encoder("small", mean=[7, 8, 9], std=[1, 2, 3])
    ours.metadata = {"bands": ["blue", "green", "red", "nir"][:3]}
    list(compare.compare({"a": ours}, task))
    list(compare.compare({"a": ours}, task, input="own"))
    assert seen[0].mean.tolist() == [1, 2, 3] and seen[0].std.tolist() == [4, 5, 6]
    assert seen[1].mean.tolist() == [9, 8, 7]  # by the names of the bands
    assert torch.equal(seen[1].backbone[0].weight, ours.backbone[0].weight.flip(1))


def test_encoders_come_as_files_and_from_seeds_too(store, tmp_path):
    weights.save_encoder(models.build_encoder("small", seed=5), tmp_path / "encoder.safetensors")
    task = compare.classification(store, measure="knn", folds=3, block_deg=5)
    given = {
        "file": tmp_path,
        "object": models.build_encoder("small", seed=5),
        "seeded": lambda seed: models.build_encoder("small", seed=5 + seed),
    }
    found = {(r.method, r.seed): r for r in compare.compare(given, task, seeds=(0, 1))}
    assert found["file", 0].value == found["object", 0].value == found["seeded", 0].value
    assert found["seeded", 0].n_test == 48  # every chip is tested once
    assert "folds" in found["file", 0].metric
    shown = found["seeded", 1].result.predictions["confidence"]
    assert not shown.equals(found["file", 1].result.predictions["confidence"])


def test_fine_tuning_keeps_what_was_trained(store):
    config = finetune.FineTuneConfig(epochs=2, batch_size=16)
    task = compare.classification(
        store, measure="fine-tune", split="blocks", block_deg=5, config=config
    )
    (row,) = compare.compare({"random": None}, task)
    assert row.model.result is row.result and len(row.model.logs) == 2


def test_the_table_has_mean_and_spread_of_the_seeds():
    rows = [
        compare.Row(m, s, "top-1", v, v - 0.1, v + 0.1, 10, 1.0, None, None)
        for m, s, v in (("b", 0, 0.2), ("a", 0, 0.5), ("b", 1, 0.4))
    ]
    table = compare.table(rows).set_index("method")
    assert list(table.index) == ["b", "a"] and table.loc["b", "value"] == pytest.approx(0.3)
    assert table.loc["b", "std"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert np.isnan(table.loc["a", "std"]) and list(table["seeds"]) == [2, 1]
    ax = plot_comparison(rows)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "a"]
    with pytest.raises(ValueError, match="`rows` must be of one metric"):
        plot_comparison([])


def test_a_comparison_is_watched_and_can_be_stopped(capsys):
    def rows():
        yield compare.Row("a", 0, "top-1", 0.5, 0.4, 0.6, 10, 1.0, None, None)
        raise KeyboardInterrupt

    found = watch_comparison(rows())
    assert [r.method for r in found] == ["a"]
    told = capsys.readouterr().err
    assert "a, seed 0: top-1 0.500 (0.400 to 0.600)" in told and "stopped after 1" in told


@pytest.mark.slow
def test_detection_and_segmentation_see_no_test_scene_in_training(scenes, monkeypatch):
    table, boxes = scenes
    read = []
    plain = area.open_raster
    monkeypatch.setattr(area, "open_raster", lambda path: (read.append(str(path)), plain(path))[1])
    tasks = [
        compare.detection(table, boxes, config=detect.DetectConfig(epochs=1, crops=8)),
        compare.segmentation(
            table, classes=("ground", "square"), config=segment.SegmentConfig(epochs=1)
        ),
    ]
    test = set(table.loc[table["split"] == "test", "path"])
    assert read and not test & set(read)  # the statistics are those of the training scenes
    for task, metric in zip(tasks, ("AP50", "mIoU"), strict=True):
        (row,) = compare.compare({"random": None}, task)
        assert row.metric == metric and 0 <= row.value <= 1 and row.n_test == 2
        assert row.model.encoder.mean.tolist() == pytest.approx(task.mean.tolist(), rel=1e-5)


def test_what_cannot_be_compared_is_said(store, scenes):
    table, boxes = scenes
    task = compare.classification(store, split="blocks", block_deg=5)
    for given, words in (({}, "`encoders` must have at least one"), ({"a": "nowhere"}, "nowhere")):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            list(compare.compare(given, task))
    with pytest.raises(ValueError, match="`input` must be one of .*got 'imagenet'"):
        list(compare.compare({"random": None}, task, input="imagenet"))
    four = models.build_encoder("small", bands=4)
    with pytest.raises(ValueError, match="bands"):
        list(compare.compare({"four": four}, task))
    with pytest.raises(ValueError, match="`measure` must be one of .*got 'svm'"):
        compare.classification(store, measure="svm")
    with pytest.raises(ValueError, match="`folds` must be None for measure='fine-tune'"):
        compare.classification(store, measure="fine-tune", folds=3)
    with pytest.raises(ValueError, match="`label` must be one of the columns .*got 'crop'"):
        compare.classification(store, label="crop")
    with pytest.raises(ValueError, match="`scenes` must have rows of split 'test'"):
        compare.detection(table.assign(split="train"), boxes)
    with pytest.raises(ValueError, match="`scenes` must have rows of split 'train'"):
        compare.segmentation(table.drop(columns="split"), classes=("a", "b"))


@pytest.mark.slow
def test_the_command_compares_on_all_tasks(store, scenes, tmp_path, capsys, monkeypatch):
    small = partial(detect.DetectConfig, crops=4, batch_size=4, size_px=64)
    monkeypatch.setattr(detect, "DetectConfig", small)
    monkeypatch.setattr(segment, "SegmentConfig", partial(segment.SegmentConfig, size_px=96))
    weights.save_encoder(models.build_encoder("small", seed=5), tmp_path / "encoder.safetensors")
    encoder = ["--encoder", str(tmp_path)]
    out = tmp_path / "figures.csv"
    main(["compare", str(store.path), *encoder, "--task", "linear", "--folds", "3",
              "--block-deg", "5", "--output", str(out)])  # fmt: skip
    assert list(pd.read_csv(out)["method"]) == [str(tmp_path), "random"]
    table, boxes = scenes
    table.drop(columns="split").assign(lon=np.nan, lat=np.nan).to_csv(
        tmp_path / "scenes.csv", index=False
    )
    main(["compare", str(tmp_path / "scenes.csv"), *encoder, "--task", "segment",
              "--classes", "ground", "square", "--epochs", "1"])  # fmt: skip
    told = capsys.readouterr().out
    assert "every fourth location is held out" in told and "mIoU" in told and "random" in told
    plain = Path(table["path"][0]).with_name("plain.csv")  # as in the README: no column location
    names = table[["path", "mask"]].map(lambda path: Path(path).name)
    names.assign(lon=np.arange(len(table)) * 2.0, lat=40.0).to_csv(plain, index=False)
    main(["compare", str(plain), *encoder, "--task", "segment", "--split", "blocks",
              "--classes", "ground", "square", "--epochs", "1"])  # fmt: skip
    told = capsys.readouterr().out
    assert "held out" not in told and "mIoU" in told
    coco = {
        "images": [{"id": i, "file_name": p} for i, p in enumerate(table["path"])],
        "annotations": [
            {"image_id": list(table["path"]).index(b.path), "category_id": 1,
             "bbox": [int(b.box_left), int(b.box_top), 14, 14]} for b in boxes.itertuples()
        ],
        "categories": [{"id": 1, "name": "square"}],
    }  # fmt: skip
    root = Path(table["path"].iloc[0]).parent
    for image in coco["images"]:
        image["file_name"] = Path(image["file_name"]).name
    (root / "coco.json").write_text(json.dumps(coco))
    main(["compare", str(root / "coco.json"), *encoder, "--task", "detect", "--epochs", "1"])
    assert "AP50" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path / "scenes.csv"), *encoder, "--task", "detect"])
    assert "`data` must be a COCO json, an xView geojson" in capsys.readouterr().err
