"""Lesson 08: pixels and boxes, windows, and scenes that no encoder has seen."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from geossl_lessons import checking
from geossl_lessons.drawing import ROLES
from geossl_lessons.lesson_08 import exercises, experiments, figures
from matplotlib.colors import to_hex
from rasterio.transform import from_origin
from torch.nn import functional as F
from torchvision.ops import box_iou

import geossl
from geossl.data import earth
from geossl.data.scenes import BOX
from geossl.datasets.blue_marble_tasks import CLIMATES
from geossl.tasks import detect
from geossl.utils.colors import PALETTE

HERE = from_origin(10, 50, 0.5, 0.5)


def hint(number, answer, data=None):
    return checking.judge(number, answer, data).hint


# --- the exercises --------------------------------------------------------------------------------


def test_iou_of_classes_right_and_wrong():
    def by_pixels(confusion):
        truth, guess = (
            np.repeat(np.indices(confusion.shape)[axis].ravel(), confusion.ravel())
            for axis in (0, 1)
        )
        pairs = [(truth == k, guess == k) for k in range(len(confusion))]
        return [(a & b).sum() / (a | b).sum() for a, b in pairs]

    assert hint("08.1", by_pixels) == ""
    for wrong, words in (
        (lambda c: np.diag(c) / c.sum(1), "recall"),
        (lambda c: np.diag(c) / c.sum(0), "precision"),
        (lambda c: np.diag(c) / (c.sum(0) + c.sum(1)), "subtract them once"),
        (lambda c: np.diag(c) / c.sum(), "in truth or map"),
        (lambda c: np.mean(by_pixels(c)), "not one number"),
        (lambda c: c, "shape (3,)"),
        (lambda c: np.diag(c) / 7, "hold the right ones twice"),
        (lambda c: np.diag(c) / ..., "Are all the dots replaced?"),
        (0.5, "without parentheses"),
    ):
        assert words in hint("08.1", wrong), (words, hint("08.1", wrong))


def striped():
    """Maps of 8 cells a side whose left half tells the class, masks, and rows."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (14, 1, 2), generator=generator)
    masks = masks.repeat_interleave(32, 1).repeat_interleave(16, 2)
    maps = F.one_hot(masks[:, 2::4, 2::4], 6).movedim(-1, 1).float()
    maps = maps + 0.3 * torch.randn(maps.shape, generator=generator)
    return maps, masks, 0.01, np.arange(9), np.arange(9, 14)


def test_maps_without_a_where_right_and_wrong():
    maps, masks, decay, train, test = data = striped()
    with_where, without = (
        _segment_by_layer(values, masks, decay, train, test)
        for values in (maps, maps.mean((2, 3), keepdim=True).expand_as(maps))
    )
    assert with_where > 0.9 > without + 0.2
    assert hint("08.2", without, data) == ""
    assert "as they are" in hint("08.2", with_where, data)
    assert "in percent" in hint("08.2", 100 * without, data)
    assert "add up the places" in hint("08.2", without / 2, data)


def _segment_by_layer(maps, masks, decay, train, test):
    """As the lesson does it, with a convolution and a confusion matrix."""
    layer = torch.nn.Conv2d(maps.shape[1], 6, 1)
    for values in layer.parameters():
        torch.nn.init.zeros_(values)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(60):
        loss = F.cross_entropy(layer(maps[train]), masks[train][:, 2::4, 2::4])
        loss = loss + decay * layer.weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    guess = F.interpolate(layer(maps[test]), scale_factor=4, mode="bilinear").argmax(1)
    counts = np.bincount((masks[test] * 6 + guess).ravel(), minlength=36).reshape(6, 6)
    either = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return (counts.diagonal()[either > 0] / either[either > 0]).mean()


def cut(length, size, overlap, left=None, right=None):
    """Windows along an axis; neighbors give all but ``left`` and ``right`` pixels at their ends."""
    left, right = (overlap // 2 if part is None else part for part in (left, right))
    windows = []
    for start in range(0, max(length - overlap, 1), size - overlap):
        stop = min(start + size, length)
        windows.append((start, stop, start + left * (start > 0), stop - right * (stop < length)))
    return windows


def test_windows_right_and_wrong():
    assert hint("08.3", cut) == ""
    assert hint("08.3", lambda *given: np.array(cut(*given))) == ""
    for wrong, words in (
        (lambda *given: cut(*given, left=0, right=0), "from two windows"),
        (lambda *given: cut(*given, left=given[2], right=given[2]), "from neither of them"),
        (lambda *given: cut(*given, left=0, right=given[2]), "more than its half"),
        (lambda *given: [(a, b, c + 1, d) for a, b, c, d in cut(*given)], "at the edges"),
        (lambda *given: [(a, b, c, d + 1) for a, b, c, d in cut(*given)], "that it has"),
        (lambda *given: [part[:2] for part in cut(*given)], "four numbers"),
        (lambda *given: [(a, b, ..., d) for a, b, c, d in cut(*given)], "must hold numbers"),
        ([(0, 16, 0, 16)], "without parentheses"),
    ):
        assert words in hint("08.3", wrong), (words, hint("08.3", wrong))


def find_hits(truth, detections, least=0.5, twice=False):
    """Hits by torchvision's overlaps."""
    tensors = (torch.tensor(np.array(boxes), dtype=torch.float64) for boxes in (detections, truth))
    overlap = box_iou(*tensors)
    of = [int(row.argmax()) if row.max() >= least else -1 for row in overlap]
    return [box >= 0 and (twice or box not in of[:n]) for n, box in enumerate(of)]


def test_hits_right_and_wrong():
    assert hint("08.4", find_hits) == ""
    for wrong, words in (
        (lambda *given: find_hits(*given, twice=True), "second detection on a box"),
        (lambda *given: find_hits(*given, least=0.3), "at least 0.5 with its box"),
        (lambda *given: find_hits(*given, least=0.6), "0.5 will do"),
        (lambda truth, boxes: [True] * 2, "shape (4,)"),
        (lambda truth, boxes: None, "returns nothing"),
        (lambda truth, boxes: truth > ..., "Are all the dots replaced?"),
    ):
        assert words in hint("08.4", wrong), (words, hint("08.4", wrong))


@pytest.mark.parametrize("seed", range(6))
def test_hits_are_those_of_cocos_code(seed, scene):
    truth, detections = experiments.make_toy(seed)
    boxes = truth.to_numpy(), detections[list(BOX)].to_numpy()
    hit = find_hits(*boxes)
    assert exercises.match(*boxes)[0] == hit and sum(hit) == 4 and len(detections) == 7
    assert detections["score"].is_monotonic_decreasing
    table = {"path": scene, "label": "island"}
    counted = detect.measure(detections.assign(**table), truth.assign(**table), scene, score=0)
    outcome = counted.detections.sort_values("score", ascending=False)["outcome"] == "hit"
    assert outcome.tolist() == hit


@pytest.mark.parametrize("number", ["08.1", "08.2", "08.3", "08.4", "08.5"])
def test_whatever_the_answer_is_nothing_is_raised(number):
    given = striped() if number == "08.2" else None
    for answer in (None, ..., "x", float("nan"), [[]], {}, object(), np.ones((3, 4)) / 3, len):
        verdict = checking.judge(number, answer, given)
        assert not verdict.correct and len(verdict.hint) > 15
        assert not checking.judge(number, answer, answer).correct


# --- the material ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes():
    return experiments.place_scenes(count=30, dates=2, seed=3)


def test_no_training_chip_reaches_into_a_test_scene(scenes):
    assert set(scenes["split"]) == {"train", "val", "test"} and len(scenes) == 60
    assert (scenes.groupby("location")["split"].nunique() == 1).all()
    world = geossl.datasets.blue_marble(places=4_000, dates=1, seed=9)
    training = world[world["split"] == "train"]
    for scene in scenes[scenes["split"] != "train"].drop_duplicates("location").itertuples():
        north = np.abs(training["lat"] - scene.lat) * 111.2
        middle = np.radians((training["lat"] + scene.lat) / 2)
        east = np.abs((training["lon"] - scene.lon + 180) % 360 - 180) * 111.2 * np.cos(middle)
        assert np.maximum(north, east).min() > 360 + 120  # half a scene and half a chip
    again = experiments.place_scenes(count=30, dates=2, seed=3)
    assert again.equals(scenes)
    other = experiments.place_scenes(count=30, dates=2, seed=4)
    assert not other["lon"].equals(scenes["lon"])


def test_masks_lie_on_the_pixels(scenes, tmp_path):
    some = scenes.head(6)
    masks = experiments.climate_masks(some, size_px=48)
    assert masks.shape == (6, 48, 48) and masks.max() < len(CLIMATES)
    assert (masks[0] == masks[1]).all() and not (masks[0] == masks[2]).all()  # dates, places
    store = geossl.ChipStore.build(
        tmp_path / "store", some.assign(effects=""), size_px=48, progress=False
    )
    for scene, mask, chip in zip(some.itertuples(), masks, store.chips, strict=True):
        for y, x in ((24, 24), (3, 40)):
            lat = scene.lat - ((y + 0.5) / 48 - 0.5) * 720 / 111.19
            lon = scene.lon + ((x + 0.5) / 48 - 0.5) * 720 / 111.19 / np.cos(np.radians(lat))
            zone = earth.zone_names().get(int(earth.zones_at(np.array([lon]), np.array([lat]))[0]))
            assert CLIMATES[mask[y, x]] == ("ocean" if zone is None or zone[0] not in "ABCDE" else
                                            CLIMATES["ABCDE".index(zone[0]) + 1])  # fmt: skip
        water = chip.mean((1, 2))
        assert water.shape == (3,)


def test_scenes_are_written_where_they_are(scenes, tmp_path):
    store = geossl.ChipStore.build(tmp_path / "store", scenes.head(8), size_px=32, progress=False)
    masks = experiments.climate_masks(store.scenes, size_px=32)
    files = experiments.write_scenes(tmp_path / "files", store, masks, [5, 2])
    assert files["location"].tolist() == store.scenes["location"][[5, 2]].tolist()
    with rasterio.open(files["path"][0]) as file, rasterio.open(files["mask"][0]) as mask:
        assert (file.read() == store.chips[5]).all() and (mask.read(1) == masks[5]).all()
        assert file.bounds == mask.bounds
        left, bottom, right, top = file.bounds
    lon, lat = store.scenes.loc[5, ["lon", "lat"]]
    assert (left + right) / 2 == pytest.approx(lon) and (bottom + top) / 2 == pytest.approx(lat)
    assert (top - bottom) * 111.19 == pytest.approx(720, rel=1e-3)
    ground = (right - left) * 111.19 * np.cos(np.radians(lat))
    assert ground == pytest.approx(720, rel=1e-3)


def test_the_toy_differs_by_its_seed_and_lies_within():
    one, other = experiments.make_toy(0), experiments.make_toy(1)
    assert one[0].equals(experiments.make_toy(0)[0]) and not one[0].equals(other[0])
    for truth, detections in (one, other):
        both = np.concatenate([truth.to_numpy(), detections[list(BOX)].to_numpy()])
        assert both.min() >= 0 and both.max() <= 100
        apart = box_iou(*[torch.tensor(truth.to_numpy())] * 2)
        assert torch.equal(apart > 0, torch.eye(5, dtype=torch.bool))


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
    with rasterio.open(experiments.write_large_scene(tmp_path / "y.tif")) as file:
        assert all(side % 16 == 0 for side in file.shape)
        row, column = file.index(15.3, -4.3)  # Kinshasa is in it
        assert 0 <= row < file.height and 0 <= column < file.width


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("outlined") / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=120, width=120, dtype="uint8",
        crs="EPSG:4326", transform=HERE,
    ) as file:  # fmt: skip
        file.write(np.full((3, 120, 120), 90, np.uint8))
    return str(path)


def test_the_figures_of_boxes():
    truth, detections = experiments.make_toy(2)
    figure = figures.plot_pairs_of_boxes([((0, 0, 4, 4), (2, 2, 5, 5)),
                                                   ((0, 0, 1, 1), (3, 3, 4, 4))])  # fmt: skip
    assert [len(ax.patches) for ax in figure.axes] == [3, 2]
    assert figure.axes[0].patches[2].get_bbox().bounds == (2, 2, 2, 2)
    numbers = [text.get_text() for text in figures.plot_toy(truth, detections).texts]
    assert numbers == list("1234567")
    ax = figures.plot_precision_recall([True, False, True, False], 4)
    assert ax.lines[0].get_ydata().tolist() == [1, 1, 2 / 3, 2 / 3, 0.5]
    points = ax.collections[-1]
    assert points.get_offsets().tolist() == [[0.25, 1], [0.25, 0.5], [0.5, 2 / 3], [0.5, 0.5]]
    colors = [to_hex(color) for color in points.get_facecolors()]
    assert colors == [ROLES["right"], ROLES["wrong"]] * 2


def test_the_figures_of_maps(scene):
    last = np.zeros((120, 120), np.uint8)
    other = last.copy()
    other[:30] = 1
    figure = figures.plot_class_maps({"cut": other, "all": last}, scene, classes=("a", "b"))
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["cut", "all", "differ: 25.0%", ""] and not figure.axes[3].images
    assert figure.axes[0].images[0].get_extent() == [10, 70, -10, 50]
    pictures = np.zeros((2, 120, 120, 3), np.uint8)
    maps = {"truth": np.stack([last, other]), "mine": np.stack([other, other])}
    figure = figures.plot_climates(pictures, maps, classes=("a", "b"))
    lines = np.array(figure.axes).reshape(3, 2)
    assert [ax.get_xlabel() for ax in lines[2]] == ["75% right", "100% right"]
    assert lines[1, 1].get_xlabel() == "" and lines[2, 0].get_ylabel() == "mine"
    pixel = lines[1, 1].images[0].get_array()[0, 0]
    assert to_hex(np.asarray(pixel) / 255) == PALETTE[1]


def test_the_figure_of_few_scenes():
    curves = {
        name: {4: (0.2, 0.1, 0.3), 30: (0.4, 0.3, 0.5)}
        for name in ("color", "untrained", "pre-trained")
    }
    ax = figures.plot_curves(curves)
    assert [line.get_color() for line in ax.lines][1:] == [ROLES["untrained"], ROLES["+Geo+TP"]]
    assert ax.lines[0].get_xdata().tolist() == [4, 30]
    assert ax.lines[2].get_ydata().tolist() == [20, 40]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "30"]
