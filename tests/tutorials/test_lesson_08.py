"""Lesson 08: boxes, average precision, windows, and scenes kept from the encoder."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from geossl_lessons import checking
from geossl_lessons.lesson_08 import experiments, figures
from rasterio.transform import from_origin
from torchvision.ops import box_iou

from geossl.data.scenes import BOX
from geossl.tasks import detect
from geossl.tasks.segment import ClassMap

HERE = from_origin(10, 50, 0.5, 0.5)


def hint(number, answer, data=None):
    return checking.judge(number, answer, data).hint


def confusion():
    names = pd.Index(["ocean", "dry", "cold"])
    return pd.DataFrame([[50, 1, 2], [4, 20, 6], [0, 3, 14]], names, names)


def answers(truth, detections):
    """Hits and precision of a toy, by torchvision's overlaps."""
    overlap = box_iou(torch.tensor(detections.to_numpy()[:, :4]), torch.tensor(truth.to_numpy()))
    of = [int(row.argmax()) if row.max() >= 0.5 else -1 for row in overlap]
    hit = np.array([box >= 0 and box not in of[:n] for n, box in enumerate(of)])
    return hit, hit.cumsum() / np.arange(1, len(hit) + 1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("outlined") / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=120, width=120, dtype="uint8",
        crs="EPSG:4326", transform=HERE,
    ) as file:  # fmt: skip
        file.write(np.full((3, 120, 120), 90, np.uint8))
    return str(path)


# --- the exercises --------------------------------------------------------------------------------


def test_iou_right_and_wrong():
    data = ((0, 0, 6, 8), (2, 4, 10, 10))
    truth = float(box_iou(torch.tensor([data[0]]), torch.tensor([data[1]]))[0, 0])
    assert hint("08.1", truth, data) == ""
    assert "twice" in hint("08.1", 16 / 96, data)
    assert "one of the boxes" in hint("08.1", 16 / 48, data)
    assert "shared area" in hint("08.1", 16, data)
    assert "between 0" in hint("08.1", 7, data)
    assert "larger left edge" in hint("08.1", 0.77, data)
    apart = ((0, 0, 1, 1), (5, 5, 6, 6))
    assert hint("08.1", 0.0, apart) == ""


@pytest.mark.parametrize("seed", range(6))
def test_hits_and_average_precision_right_and_wrong(seed, scene):
    data = truth, detections = experiments.make_toy(seed)
    hit, precision = answers(truth, detections)
    assert hit.sum() == 4 and len(detections) == 7 and detections["score"].is_monotonic_decreasing
    assert hint("08.2", hit.tolist(), data) == hint("08.2", hit, data) == ""
    second, nothing = hit.copy(), hit.copy()
    second[4] = True
    assert "found already" in hint("08.2", second, data)
    nothing[1] = True
    assert "1 of 7 are wrong" in hint("08.2", nothing, data)
    values = box_iou(torch.tensor(detections.to_numpy()[:, :4]), torch.tensor(truth.to_numpy()))
    third = hit.copy()
    third[int(((values.amax(1) > 0.2) & (values.amax(1) < 0.5)).nonzero()[0])] = True
    assert "at least 0.5?" in hint("08.2", third, data)
    assert "shape (7,)" in hint("08.2", hit[:4], data)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    assert hint("08.3", best[hit].sum() / 5, data) == ""
    assert "mean over the hits" in hint("08.3", best[hit].mean(), data)
    assert "entire list" in hint("08.3", 4 / 7, data)
    plain = precision[hit].sum() / 5
    if abs(plain - best[hit].sum() / 5) > 0.02:
        assert "best precision from there" in hint("08.3", plain, data)
    table = {"path": scene, "label": "island"}
    counted = detect.measure(detections.assign(**table), truth.assign(**table), scene, score=0)
    assert hint("08.3", counted.ap50, data) == ""
    outcome = counted.detections.sort_values("score", ascending=False)["outcome"] == "hit"
    assert outcome.tolist() == hit.tolist()


def test_the_toy_differs_by_its_seed_and_lies_within():
    one, other = experiments.make_toy(0), experiments.make_toy(1)
    assert one[0].equals(experiments.make_toy(0)[0]) and not one[0].equals(other[0])
    for truth, detections in (one, other):
        both = np.concatenate([truth.to_numpy(), detections[list(BOX)].to_numpy()])
        assert both.min() >= 0 and both.max() <= 100
        apart = box_iou(*[torch.tensor(truth.to_numpy())] * 2)
        assert torch.equal(apart > 0, torch.eye(5, dtype=torch.bool))


def test_iou_of_a_class_right_and_wrong():
    data = confusion(), "dry"
    assert hint("08.4", 20 / (4 + 20 + 6 + 1 + 3), data) == ""
    assert "in percent" in hint("08.4", 2000 / 34, data)
    assert "recall" in hint("08.4", 20 / 30, data)
    assert "precision" in hint("08.4", 20 / 24, data)
    assert "this class" in hint("08.4", 20 / 100, data)
    assert "right ones twice" in hint("08.4", 20 / 54, data)


def test_reading_a_map_right_and_wrong(tmp_path):
    values = np.zeros((20, 90), np.uint8)
    values[2, 6], values[10, 78] = 1, 2  # (13.25, 48.75), and what lies at (49.25, 44.75)
    with rasterio.open(
        tmp_path / "map.tif", "w", driver="GTiff", count=1, height=20, width=90, dtype="uint8",
        crs="EPSG:4326", transform=HERE,
    ) as file:  # fmt: skip
        file.write(values, 1)
        file.update_tags(1, class_0="ocean", class_1="dry", class_2="cold")
    path = tmp_path / "map.tif"
    assert hint("08.5", " Dry ", (path, (13.25, 48.75))) == ""
    assert "index(lon, lat)" in hint("08.5", "cold", (path, (13.25, 48.75)))
    assert hint("08.5", "ocean", (path, (44.75, 49.25))) == ""
    assert "comes first" in hint("08.5", "cold", (path, (44.75, 49.25)))
    assert "must be one of these words" in hint("08.5", "desert", (path, (13.25, 48.75)))


# --- the material ---------------------------------------------------------------------------------


def test_no_chip_reaches_into_a_test_scene():
    scenes = pd.DataFrame(
        {"lon": [15.0, 45.0, 165.0], "lat": [45.0, 45.0, -15.0], "split": ["test", "val", "test"]}
    )
    rng = np.random.default_rng(0)
    places = pd.DataFrame({"lon": rng.uniform(-180, 180, 4000), "lat": rng.uniform(-60, 80, 4000)})
    locations = experiments.split_by_scene(places, scenes)
    assert set(locations["split"]) == {"train", "val", "test"} and "split" not in places
    for scene in scenes[scenes["split"] == "test"].itertuples():
        train = locations[locations["split"] == "train"]
        dlat = np.clip(np.abs(train["lat"] - scene.lat) - 15, 0, None) * 111
        dlon = np.clip(np.abs((train["lon"] - scene.lon + 180) % 360 - 180) - 15, 0, None)
        dlon *= 111 * np.cos(np.radians(train["lat"]))
        assert np.maximum(dlat, dlon).min() > 120  # half of a chip
    across = pd.DataFrame({"lon": [-179.9], "lat": [-15.0]})  # just over the date line
    assert experiments.split_by_scene(across, scenes)["split"].tolist() == ["test"]


def test_fewer_scenes_are_drawn_from_each_split():
    scenes = pd.DataFrame({"path": list("abcdefgh"), "split": ["train"] * 5 + ["test"] * 3})
    few = experiments.sample_scenes(scenes, {"train": 2}, seed=1)
    assert few["split"].tolist() == ["train"] * 2 + ["test"] * 3
    drawn = {
        tuple(experiments.sample_scenes(scenes, {"train": 2}, seed=s)["path"][:2]) for s in range(8)
    }
    assert len(drawn) > 1
    assert experiments.sample_scenes(scenes, {"train": 99}).equals(scenes)


def test_the_large_scene_lies_where_it_says(tmp_path, monkeypatch):
    world = np.random.default_rng(0).integers(0, 255, (2700, 5400, 3), dtype=np.uint8)
    monkeypatch.setattr(experiments.earth, "world_image", lambda: world)
    path = experiments.write_large_scene(tmp_path / "a" / "x.tif", west=-2, north=50, width_deg=4,
                                height_deg=3)  # fmt: skip
    with rasterio.open(path) as file:
        assert file.shape == (45, 60) and file.bounds == (-2, 47, 2, 50)
        row, column = file.index(0.51, 48.99)
        values = file.read()[:, row, column]
    assert values.tolist() == world[int((90 - 48.99) * 15), int((180 + 0.51) * 15)].tolist()
    before = path.stat().st_mtime_ns
    assert experiments.write_large_scene(path).stat().st_mtime_ns == before


def test_the_figures_of_lesson_08(scene):
    truth, detections = experiments.make_toy(2)
    boxes = truth.assign(
        path=scene, label=["island", "lake"] * 2 + ["lake"], crowd=[True] + [False] * 4
    )
    ax = figures.plot_boxes(scene, boxes)
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["island (1)", "lake (3)", "does not count (1)"] and len(ax.patches) == 5
    figure = figures.plot_pairs_of_boxes([((0, 0, 4, 4), (2, 2, 5, 5)),
                                                   ((0, 0, 1, 1), (3, 3, 4, 4))])  # fmt: skip
    assert [len(ax.patches) for ax in figure.axes] == [3, 2]
    assert figure.axes[0].patches[2].get_bbox().bounds == (2, 2, 2, 2)
    numbers = [text.get_text() for text in figures.plot_toy(truth, detections).texts]
    assert numbers == list("1234567")
    ax = figures.plot_precision_recall([True, False, True, False], 4)
    assert ax.lines[1].get_xydata().tolist() == [[0.25, 1], [0.25, 0.5], [0.5, 2 / 3], [0.5, 0.5]]
    assert ax.lines[0].get_ydata().tolist() == [1, 1, 2 / 3, 2 / 3, 0.5]
    grid = type("Grid", (), {"transform": HERE})()
    last = np.zeros((8, 10), np.uint8)
    other = last.copy()
    other[:2] = 1
    maps = {n: ClassMap(v, ("a", "b"), grid) for n, v in (("cut", other), ("all", last))}
    titles = [ax.get_title() for ax in figures.plot_class_maps(maps).axes]
    assert "(25.0%)" in titles[1] and "(0.0%)" in titles[3]


def test_results_are_listed_by_task():
    rows = [type("Row", (), {"method": m, "value": v, "low": 0.1, "high": 0.2})()
            for m, v in (("random", 0.11), ("mine", 0.19))]  # fmt: skip
    table = experiments.results_table({"x": rows, "y": rows[:1]})
    assert table.to_numpy().tolist()[1] == ["mine", "x", 0.19, 0.1, 0.2] and len(table) == 3
