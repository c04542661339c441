"""benchmarks/paper: all steps of all five data sets in small, resumed, refused and planned."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paper_folders
import pytest
from safetensors.torch import load_file

import geossl
from geossl import evaluate, models

pytestmark = pytest.mark.slow

PAPER = Path(__file__).parent.parent / "benchmarks" / "paper"
SMALL = {
    "encoder": "tiny", "size-px": 32, "view-px": 24, "epochs": 1, "batch-size": 8, "queue-size": 16,
    "k": 4, "linear-epochs": 5, "finetune-epochs": 1, "task-epochs": 1, "device": "cpu",
}  # fmt: skip
FOLDERS = {
    "fmow": "fMoW-rgb", "geoimagenet": "GeoImageNet", "xview": "xView", "spacenet": "SpaceNet",
    "naip": "tiles",
}  # fmt: skip
METHODS = {
    "fmow": ("supervised", "moco+geo+tp", "mine"), "geoimagenet": ("geoloc", "moco+geo"),
    "xview": ("random", "moco+geo+tp"), "spacenet": ("supervised", "moco+geo+tp"),
    "naip": ("random", "moco+geo+tp"),
}  # fmt: skip
STEPS = {
    "fmow": {"chips", "clusters", "pretrain", "linear", "finetune", "temporal"},
    "geoimagenet": {"chips", "clusters", "pretrain", "linear"},
    "xview": {"detect"}, "spacenet": {"segment"}, "naip": {"chips", "linear"},
}  # fmt: skip


@pytest.fixture(scope="session")
def reproduce():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PAPER)
        import reproduce

        yield reproduce


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("paper data")
    paper_folders.fmow(root / "fMoW-rgb")
    paper_folders.geoimagenet(root / "GeoImageNet")
    paper_folders.xview(root / "xView")
    paper_folders.spacenet(root / "SpaceNet")
    paper_folders.tile2vec(root / "tiles")
    encoder = models.build_encoder("tiny", mean=[110.0] * 3, std=[50.0] * 3, seed=3)
    models.save_encoder(encoder, root / "mine.safetensors")
    return root


def words(task, data, output_dir, *more, methods=True, **changes):
    line = [task, "--data", str(data / FOLDERS[task]), "--output-dir", str(output_dir)]
    of_task = {"size-px": 64} if task == "xview" else {}  # few crops: they take long
    for name, value in (SMALL | of_task | changes).items():
        line += [f"--{name}", str(value)]
    if task == "fmow":
        line += ["--weights", str(data / "mine.safetensors")]
    if methods:
        line += ["--methods", *METHODS[task]]
    return [*line, *more]


@pytest.fixture(scope="session")
def made(reproduce, data, tmp_path_factory):
    """The folder in which all steps of all tasks were done, by one process."""
    output_dir = tmp_path_factory.mktemp("paper runs")
    for task in FOLDERS:
        reproduce.main(words(task, data, output_dir))
    return output_dir


def result(output_dir, task, step, method):
    path = output_dir / task / "results" / step / f"{method}.json"
    return json.loads(path.read_text("utf-8"))


def refused(reproduce, capsys, line, *, status=2):
    """The one sentence, or two, with which a command line is refused."""
    with pytest.raises(SystemExit) as stop:
        reproduce.main(line)
    assert stop.value.code == status
    text = capsys.readouterr().err.splitlines()
    assert text[-1].startswith("reproduce.py: ") and "Traceback" not in "".join(text)
    return text[-1]


@pytest.mark.parametrize("task", FOLDERS)
def test_every_step_leaves_a_result_of_each_method(made, task):
    folder = made / task / "results"
    assert {path.name for path in folder.iterdir()} == STEPS[task]
    for step in STEPS[task] - {"chips", "clusters"}:
        wanted = set(METHODS[task]) - ({"mine"} if step == "pretrain" else set())
        assert {path.stem for path in (folder / step).iterdir()} == wanted


def test_the_chips_are_the_boxes_of_62_categories_in_train_and_val(made):
    store = geossl.ChipStore.open(made / "fmow" / "chips")
    assert store.scenes["split"].value_counts().to_dict() == paper_folders.FMOW_CHIPS
    assert set(store.scenes["label"]) == set(paper_folders.COLORS)
    locations = store.scenes.groupby("split")["location"].nunique().to_dict()
    assert locations == paper_folders.FMOW_LOCATIONS
    assert sum(name.count("/") == 3 for name in store.scenes["location"]) == 2  # with a box's ID
    values = result(made, "fmow", "chips", "all")["values"]
    assert values == {"images": 55, "train": 37, "test": 18, "locations": 28, "classes": 3,
                      "left_out": 0}  # fmt: skip


def test_the_clusters_are_those_of_the_training_locations(made):
    table = geossl.ChipStore.open(made / "fmow" / "chips").scenes
    wanted = geossl.GeoClusters.fit(table[table["split"] == "train"], k=4, seed=0)
    clusters = geossl.GeoClusters.load(made / "fmow" / "clusters.json")
    np.testing.assert_array_equal(clusters.centers, wanted.centers)
    assert sum(clusters.sizes) == paper_folders.FMOW_LOCATIONS["train"]


def test_the_runs_have_the_settings_of_the_paper(made):
    runs = made / "fmow" / "encoders"
    both = json.loads((runs / "moco+geo+tp" / "config.json").read_text())
    alone = json.loads((runs / "supervised" / "config.json").read_text())
    assert both["pairs"].startswith("temporal") and alone["pairs"] is None
    config = both["config"]
    assert config["temperature"] == 0.02 and config["optimizer"] == "sgd" and config["lr"] == 0.03
    assert (
        config["bn_splits"] == 4 and not config["mask_same_location"] and config["knn_every"] == 0
    )
    assert config["transform"]["crop"] == [0.08, 1.0] and config["transform"]["size_px"] == 24
    assert alone["config"]["transform"]["crop"] == [0.2, 1.0]


def linear_of(made, task, method, test_split):
    embeddings = geossl.Embeddings.load(made / task / "embeddings" / f"{method}.parquet")
    solver = evaluate.SGD(epochs=5, drops=(3, 4))
    return evaluate.linear(embeddings, solver=solver, test_split=test_split)


@pytest.mark.parametrize(
    "task, method, test_split",
    [("fmow", "moco+geo+tp", "val"), ("fmow", "mine", "val"), ("geoimagenet", "geoloc", "test"),
     ("naip", "random", "test")],
)  # fmt: skip
def test_the_linear_result_is_that_of_the_embeddings_file(made, task, method, test_split):
    wanted = linear_of(made, task, method, test_split)
    values = result(made, task, "linear", method)["values"]
    assert values["top1"] == wanted.value and values["n_test"] == wanted.n_test
    assert values["f1"] == wanted.per_class["f1"].mean()
    table = geossl.ChipStore.open(made / task / "chips").scenes
    assert values["n_test"] == (table["split"] == test_split).sum()


def test_a_location_has_one_temporal_prediction(made):
    values = result(made, "fmow", "temporal", "moco+geo+tp")["values"]
    wanted = evaluate.temporal(linear_of(made, "fmow", "moco+geo+tp", "val"))
    assert values["linear_n_test"] == values["finetuned_n_test"] == 9 == wanted.n_test
    assert values["linear_top1"] == wanted.value and values["images_per_location"] == 2
    single = result(made, "fmow", "finetune", "moco+geo+tp")["values"]
    assert single["n_test"] == 18 and single["top1"] * 18 == pytest.approx(
        round(single["top1"] * 18)
    )


def test_photos_without_a_position_are_left_out(made):
    values = result(made, "geoimagenet", "chips", "all")["values"]
    assert values["images"] == 46 and values["left_out"] == 2
    assert values["train"] + values["test"] == 46 and min(values["train"], values["test"]) > 0


def test_the_encoders_of_fmow_learn_boxes_buildings_and_land_cover(made):
    settings = result(made, "xview", "detect", "moco+geo+tp")["settings"]
    assert (
        settings["fmow epochs"] == 1
        and settings["fmow size_px"] == 32
        and settings["size_px"] == 64
    )
    values = result(made, "xview", "detect", "moco+geo+tp")["values"]
    assert values["train"] + values["test"] == 6 and 0 <= values["ap50"] <= 1
    # windows of 64 px that share 12 cover 96 px by two a side
    assert values["crops_per_epoch"] == values["train"] * 4
    values = result(made, "spacenet", "segment", "moco+geo+tp")["values"]
    assert values["train"] + values["test"] == 16  # one image has no geojson
    assert 0 < values["building_iou"] < 1
    values = result(made, "naip", "chips", "all")["values"]
    assert values["images"] == 40 and values["classes"] == 2


def test_the_tables_hold_the_papers_numbers_ours_and_what_differs(made):
    page = (made / "fmow" / "table.md").read_text("utf-8")
    rows = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if " | " in line}
    assert rows["MoCo-v2 + TP"].startswith(
        "| MoCo-v2 + TP | 74.42* | not measured | not measured |"
    )
    ours = f"{100 * result(made, 'fmow', 'linear', 'moco+geo+tp')['values']['top1']:.2f}"
    assert f"| MoCo-v2 + Geo + TP | 66.33 | {ours} (" in page
    ours = f"{100 * result(made, 'fmow', 'finetune', 'supervised')['values']['f1']:.2f}"
    assert f"| supervised, from scratch | 69.05 | " in page and f"| 64.71 | {ours} |" in page  # noqa: F541
    assert "| `mine` |  | " in page and "One run a method, seed 0." in page
    assert "- `--epochs` is 1, the paper's 200." in page and "ImageNet" in page
    assert "`--seed`" not in page and "`--weights`" not in page
    pages = {task: (made / task / "table.md").read_text("utf-8") for task in FOLDERS}
    assert (
        "PSANet" in pages["spacenet"]
        and "| supervised, from scratch | 75.6 | " in pages["spacenet"]
    )
    assert "LayerNorm" in pages["xview"] and "| random weights | 10.75 | " in pages["xview"]
    assert "- `--epochs` of fmow is 1, the paper's 200." in pages["xview"]
    assert "| Geoloc. learning | 22.26 | " in pages["geoimagenet"]
    assert "paper |" not in pages["naip"]  # it lists no number
    assert all("The split was not published" in pages[t] for t in FOLDERS if t != "fmow")


def test_what_is_done_is_not_done_again(reproduce, made, data, capsys, monkeypatch):
    for name in ("pretrain", "embed"):
        monkeypatch.setattr(geossl, name, None)
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.json")}
    reproduce.main(words("fmow", data, made))
    text = capsys.readouterr().out
    assert text.count(": done before\n") == 2 + 2 + 3 * 3 and "fmow linear mine: done" in text
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*.json")}


def test_other_settings_are_refused(reproduce, made, data, capsys):
    text = refused(reproduce, capsys, words("fmow", data, made, epochs=2))
    assert "supervised.json was made with another `--epochs` (1" in text and "not 2" in text
    assert "another `--output-dir`" in text
    text = refused(reproduce, capsys, words("naip", data, made, **{"linear-epochs": 6}))
    assert "random.json was made with another `--linear-epochs` (5, not 6)" in text
    text = refused(
        reproduce, capsys, words("fmow", data, made, "--step", "chips", **{"size-px": 40})
    )
    assert "another `--size-px` (32, not 40)" in text


def copy_chips(made, output_dir):
    for name in ("chips", "results/chips", "results/clusters"):
        shutil.copytree(made / "fmow" / name, output_dir / "fmow" / name)
    shutil.copy(made / "fmow" / "clusters.json", output_dir / "fmow")


def test_a_stopped_run_resumes_to_the_same_encoder(
    reproduce, made, data, tmp_path, capsys, monkeypatch
):
    copy_chips(made, tmp_path)
    line = words("fmow", data, tmp_path, "--step", "pretrain", "linear", "--methods", "moco+geo+tp",
                 methods=False)  # fmt: skip
    run = sys.modules["geossl.train.pretrain"].Run
    one_step = run._one_step

    def stop(self):
        if self.step == 2:
            raise KeyboardInterrupt
        one_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(run, "_one_step", stop)
        assert "Run the same command again to resume" in refused(
            reproduce, capsys, line, status=130
        )
    folder = tmp_path / "fmow"
    assert (folder / "encoders" / "moco+geo+tp" / "last.pt").exists()
    assert not (folder / "results" / "pretrain").exists()
    reproduce.main(line)
    name = "encoders/moco+geo+tp/encoder.safetensors"
    one, other = load_file(made / "fmow" / name), load_file(folder / name)
    assert all((one[key] == other[key]).all() for key in one)
    assert result(tmp_path, "fmow", "linear", "moco+geo+tp")["values"] == \
        result(made, "fmow", "linear", "moco+geo+tp")["values"]  # fmt: skip


def first_log(output_dir, method):
    path = output_dir / "fmow" / "encoders" / method / "log.jsonl"
    return json.loads(path.read_text("utf-8").splitlines()[0])


def test_two_processes_train_together_and_share_the_methods_out(made, data, tmp_path):
    copy_chips(made, tmp_path)
    line = words("fmow", data, tmp_path, "--step", "pretrain", "finetune", "--methods",
                 "supervised", "moco+geo+tp", methods=False)  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(PAPER / "reproduce.py"), *line],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("fmow pretrain moco+geo+tp: optimizer_steps") == 1
    for method in ("supervised", "moco+geo+tp"):
        one, two = (result(o, "fmow", "pretrain", method) for o in (made, tmp_path))
        # later steps differ: BatchNorm sees two images here, and rounding decides between them
        first = [first_log(output_dir, method) for output_dir in (made, tmp_path)]
        assert first[1]["feature_std"] == pytest.approx(first[0]["feature_std"], rel=1e-4)
        assert first[1]["loss"] == pytest.approx(first[0]["loss"], rel=1e-3, abs=1e-4)
        assert two["machine"].startswith("2 x ") and not one["machine"].startswith("2 x ")
        tuned = result(tmp_path, "fmow", "finetune", method)
        assert tuned["values"]["n_test"] == 18 and not tuned["machine"].startswith("2 x ")
    assert not (tmp_path / "fmow" / "results" / "linear").exists()


@pytest.fixture
def quick(reproduce, monkeypatch):
    import timing

    monkeypatch.setattr(timing, "SECONDS", 0.05)


def test_the_plan_counts_images_hours_and_disk(reproduce, quick, data, tmp_path, capsys):
    reproduce.main(words("fmow", data, tmp_path, "--plan"))
    text = capsys.readouterr().out
    assert "37 training and 18 test images" in text and "tiny at 24 px trains on" in text
    assert (
        "| chips |  | 55 chips of 32 px |" in text
        and "| pretrain | supervised | 1 epochs |" in text
    )
    assert "In all 0.0" in text and "device hours" in text and "GB of disk" in text
    assert not list(tmp_path.iterdir())


def test_the_plan_takes_data_in_part_and_says_what_is_done(
    reproduce, quick, made, data, tmp_path, capsys
):
    part = tmp_path / "fMoW-rgb"
    shutil.copytree(data / "fMoW-rgb" / "train" / "airport", part / "train" / "airport")
    next(part.rglob("*.json")).unlink()  # a download that is not complete
    line = words("fmow", data, tmp_path, "--plan", "--step", "pretrain", methods=False)
    line[2] = str(part)
    reproduce.main(line)
    text = capsys.readouterr().out
    assert "12 training and 0 test images" in text and "1 left out" in text
    reproduce.main(words("fmow", data, made, "--plan"))
    assert "| finetune | supervised, moco+geo+tp, mine | done |" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["xview", "spacenet"])
def test_the_plan_times_detection_and_segmentation(reproduce, data, tmp_path, capsys, task):
    reproduce.main(words(task, data, tmp_path, "--plan"))
    text = capsys.readouterr().out
    assert f"crops of {64 if task == 'xview' else 32} px a second" in text
    assert f"| {', '.join(METHODS[task])} | 1 epochs of " in text and "device hours" in text


@pytest.mark.parametrize(
    "task, change, message",
    [
        ("fmow", ["--data", "nowhere"], "`--data` must be the folder of the data set, but nowhere"),
        ("fmow", ["--step", "detect"], "`--step` of fmow must be among ['chips',"),
        ("fmow", ["--methods", "moko"], "`--methods` of fmow must be among ['supervised',"),
        ("fmow", ["--weights", "no.pth"], "`--weights` must be files, folders of runs or names"),
        ("fmow", ["--step", "linear"], "The step chips must come first"),
        ("fmow", ["--epochs", "0"], "`--epochs` must be > 0, got 0"),
        ("fmow", ["--k", "50"], "`--k` must be <= 18, the number of distinct locations, got 50"),
        ("xview", [], "`--output-dir` must contain the encoder of moco+geo+tp that fmow trained"),
        ("naip", [], "There are no <i>tile.npy in"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_a_sentence(
    reproduce, data, tmp_path, capsys, task, change, message
):
    line = words(task, data, tmp_path, *change, methods=task in ("xview", "naip"))
    if task == "naip":
        line[2] = str(data / "fMoW-rgb")
    assert message in refused(reproduce, capsys, line)


def test_a_split_of_fmow_that_is_absent_is_named(reproduce, data, tmp_path, capsys):
    line = words("fmow", data, tmp_path)
    line[2] = str(data / "GeoImageNet")
    text = refused(reproduce, capsys, line)
    assert "must contain the folders train and val of fMoW-rgb, got ['n01440764'" in text
