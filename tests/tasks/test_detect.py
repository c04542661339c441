import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin
from safetensors import safe_open
from safetensors.torch import save_file

from geossl import models
from geossl.data.scenes import BOX
from geossl.datasets.raster import area
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.models import layers
from geossl.tasks import detect
from geossl.tasks.detect import evaluate, train
from geossl.tasks.detect.boxes import crop_boxes, rotate_boxes, rotate_pixels
from geossl.tasks.detect.crops import Crops
from geossl.tasks.detect.model import build
from geossl.viz.plots import detection

SMALL = detect.DetectConfig(
    epochs=2, crops=4, batch_size=2, size_px=32, upsample=1, width=8, color=None, precision="fp32",
    device="cpu",
)  # fmt: skip


def table_of(boxes):
    """Boxes of (path, left, top, right, bottom, label)."""
    return pd.DataFrame(boxes, columns=["path", *BOX, "label"])


def picture(path, *, size=(64, 64), squares=(), seed=0):
    """A noisy picture with bright squares at (left, top, side)."""
    pixels = np.random.default_rng(seed).integers(20, 60, (*size, 3), dtype=np.uint8)
    for left, top, side in squares:
        pixels[top : top + side, left : left + side] = 230
    Image.fromarray(pixels).save(path)
    return str(path)


def scattered(folder, *, count, size=96, squares=3, seed=0):
    """Scenes with bright squares of 10 to 16 px, and their boxes."""
    rng, paths, boxes = np.random.default_rng(seed), [], []
    for i in range(count):
        cells = rng.permutation(9)[:squares]
        at = [(cell % 3 * 32 + rng.integers(0, 14), cell // 3 * 32 + rng.integers(0, 14),
               rng.integers(10, 17)) for cell in cells]  # fmt: skip
        paths.append(picture(folder / f"{i}.png", size=(size, size), squares=at, seed=i))
        boxes += [(paths[-1], x, y, x + side, y + side, "square") for x, y, side in at]
    return pd.DataFrame({"path": paths}), table_of(boxes)


def encoder_of(bands=3, seed=0):
    return models.build_encoder(
        "small", bands=bands, mean=[45] * bands, std=[30] * bands, seed=seed
    )


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def alike(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- average precision --------------------------------------------------------------------------


def slow_iou(a, b, crowd=False):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    own, other = ((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return wide * high / (own if crowd else own + other - wide * high)


def slow_ap(found, boxes, paths, label, least):
    """Average precision of a class, written from COCO's description; nan without a box."""
    verdicts, total = [], 0
    for order, path in enumerate(paths):
        real = [b for b in boxes if b["path"] == path and b["label"] == label]
        total += sum(not b["crowd"] for b in real)
        given = [f for f in found if f["path"] == path and f["label"] == label]
        given.sort(key=lambda f: -f["score"])  # stable
        taken = set()
        for place, f in enumerate(given):
            best, where = least, None
            for i, b in enumerate(real):
                value = slow_iou(f["box"], b["box"])
                if not b["crowd"] and i not in taken and value >= best:
                    best, where = value, i
            if where is not None:
                taken.add(where)
                verdicts.append((-f["score"], order, place, True))
            elif not any(b["crowd"] and slow_iou(f["box"], b["box"], True) >= least for b in real):
                verdicts.append((-f["score"], order, place, False))
    if total == 0:
        return np.nan
    verdicts.sort()
    points, right = [], 0
    for seen, (_, _, _, hit) in enumerate(verdicts, 1):
        right += hit
        points.append((right / total, right / seen))
    levels = [i / 100 for i in range(101)]
    return np.mean([max([p for r, p in points if r >= level - 1e-12], default=0.0)
                    for level in levels])  # fmt: skip


def random_case(seed, paths):
    """Truth and detections near it, with ties of score, crowds, and classes of one side only."""
    rng = np.random.default_rng(seed)
    boxes, found = [], []
    for path in paths:
        for _ in range(rng.integers(0, 6)):
            corner, size = rng.uniform(0, 40, 2), rng.uniform(4, 20, 2)
            label = rng.choice(["a", "b", "only true"])
            boxes.append((path, *corner, *(corner + size), label, rng.random() < 0.15))
            for _ in range(rng.integers(0, 3)):
                moved = corner + rng.normal(0, 2, 2)
                end = moved + size * rng.uniform(0.8, 1.25, 2)
                name = rng.choice(["a", "b", "only found"])
                found.append((path, *moved, *end, name, round(rng.random(), 1)))
    return (
        pd.DataFrame(boxes, columns=["path", *BOX, "label", "crowd"]),
        pd.DataFrame(found, columns=["path", *BOX, "label", "score"]),
    )


def entries(table):
    return [row | {"box": [row[name] for name in BOX]} for row in table.to_dict("records")]


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seven")
    return [picture(folder / f"{i}.png") for i in range(7)]


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_that_of_a_slow_one(seven, seed):
    boxes, found = random_case(seed, seven[:5])
    result = detect.measure(found, boxes, pd.DataFrame({"path": seven}), score=0.5)
    truth, guess = entries(boxes), entries(found)
    table = result.per_class.set_index("label")
    assert set(table.index) == {b["label"] for b in truth} | {f["label"] for f in guess}
    expected = {
        label: [slow_ap(guess, truth, seven, label, least) for least in np.arange(50, 96, 5) / 100]
        for label in table.index
    }
    for label, values in expected.items():
        np.testing.assert_allclose(table.loc[label, "ap50"], values[0], atol=1e-12)
        np.testing.assert_allclose(table.loc[label, "ap"], np.mean(values), atol=1e-12)
    known = [values for values in expected.values() if not np.isnan(values[0])]
    assert result.ap50 == pytest.approx(np.mean([values[0] for values in known]))
    assert result.ap == pytest.approx(np.mean(known))
    if "only true" in table.index and table.loc["only true", "boxes"]:
        assert table.loc["only true", "ap50"] == 0 == table.loc["only true", "recall"]
    # precision and recall at the score, counted anew
    hits = result.found[(result.found.outcome == "hit") & (result.found.score >= 0.5)]
    wrong = result.found[(result.found.outcome == "false alarm") & (result.found.score >= 0.5)]
    real = result.boxes[~result.boxes.crowd]
    assert (real.outcome == "hit").sum() == len(hits)
    assert result.precision == pytest.approx(len(hits) / (len(hits) + len(wrong)))
    assert result.recall == pytest.approx(len(hits) / len(real))
    assert set(result.boxes.outcome[result.boxes.crowd]) <= {"ignored"}


def test_the_interval_is_that_of_scenes_drawn_again(seven, monkeypatch):
    boxes, found = random_case(3, seven)
    monkeypatch.setattr(evaluate, "RESAMPLES", 25)
    result = detect.measure(found, boxes, pd.DataFrame({"path": seven}), seed=4)
    times = np.random.default_rng(4).multinomial(7, np.full(7, 1 / 7), 25)
    values = []
    for draw in times:
        names = [f"{path}#{i}" for path, n in zip(seven, draw, strict=True) for i in range(n)]
        truth, guess = (
            [row | {"path": f"{row['path']}#{i}"} for path, n in zip(seven, draw, strict=True)
             for i in range(n) for row in entries(table) if row["path"] == path]
            for table in (boxes, found)
        )  # fmt: skip
        each = [slow_ap(guess, truth, names, label, 0.5) for label in ("a", "b", "only true")]
        values.append(np.nanmean(each))
    assert (result.low, result.high) == pytest.approx(np.percentile(values, [2.5, 97.5]))
    assert result.low < result.ap50 < result.high


def test_all_found_and_nothing_else_is_perfect_and_a_hundred_are_not_the_most(seven):
    at = [(x, y) for x in range(0, 60, 4) for y in range(0, 60, 4)]  # 225 boxes in a scene
    boxes = table_of([(seven[0], x, y, x + 3, y + 3, "ship") for x, y in at])
    scenes = pd.DataFrame({"path": seven[:1]})
    result = detect.measure(boxes.assign(score=1.0), boxes, scenes)
    assert (result.ap50, result.ap, result.precision, result.recall) == (1, 1, 1, 1)
    assert np.isnan(result.low)  # of one scene
    assert "AP50 1.000" in str(result) and "225 boxes" in result._repr_html_()


def test_scenes_and_boxes_without_anything(seven):
    scenes, none = pd.DataFrame({"path": seven[:2]}), table_of([])
    box = table_of([(seven[0], 1, 1, 9, 9, "ship")])
    empty = detect.measure(none.assign(score=0.0), none, scenes)
    assert np.isnan([empty.ap50, empty.precision, empty.recall, empty.low]).all()
    alarm = detect.measure(box.assign(score=0.9), none, scenes)
    assert alarm.precision == 0 and np.isnan(alarm.ap50) and np.isnan(alarm.recall)
    missed = detect.measure(none.assign(score=0.0), box, scenes)
    assert missed.ap50 == 0 == missed.recall and np.isnan(missed.precision)
    other = detect.measure(box.assign(score=0.9), box, seven[1])  # all lies in another scene
    assert len(other.found) == 0 == len(other.boxes)
    str(empty), str(alarm), missed._repr_html_()


@pytest.mark.parametrize("column, value", [("score", np.nan), ("box_left", np.inf),
                                           ("box_right", 0), ("label", None)])  # fmt: skip
def test_detections_that_are_none_are_refused(seven, column, value):
    box = table_of([(seven[0], 1, 1, 9, 9, "ship")])
    found = box.assign(score=0.9)
    found[column] = value
    with pytest.raises(ValueError, match=r"expected detections .*0\.png"):
        detect.measure(found, box, seven[0])
    with pytest.raises(ValueError, match="score is missing"):
        detect.measure(box, box, seven[0])


# --- boxes --------------------------------------------------------------------------------------

BAD = {
    "nan": (1, np.nan, 9, 9), "infinite": (np.inf, 1, np.inf, 9), "a word": (1, "x", 9, 9),
    "inverted": (9, 1, 1, 9), "no area": (4, 4, 4, 9), "outside": (64, 1, 80, 9),
    "above": (1, -9, 9, 0), "a sliver": (1, 63.99, 9, 80),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_boxes_that_cannot_be_used_are_refused_or_left_out_and_counted(seven, kind):
    good = (seven[0], 5, 5, 15, 15, "ship")
    boxes = table_of([good, (seven[1], *BAD[kind], "ship"), good])
    scenes = pd.DataFrame({"path": seven[:3]})
    with pytest.raises(ValueError, match=r"row 1 of the boxes, .*1\.png: .*skip_bad=True"):
        detect.check_boxes(boxes, scenes)
    left = detect.check_boxes(boxes, scenes, skip_bad=True)
    assert list(left.index) == [0, 2] and list(left.attrs["skipped"]) == [
        f"row 1 of the boxes, {seven[1]}"
    ]
    with pytest.raises(ValueError, match="row 1 of the boxes"):
        detect.measure(table_of([good]).assign(score=1.0), boxes, scenes)
    result = detect.measure(table_of([good]).assign(score=1.0), boxes, scenes, skip_bad=True)
    assert result.skipped == 1 and "boxes left out: 1" in str(result)


def test_boxes_are_cut_at_their_scene_and_those_of_other_scenes_left_out(seven):
    boxes = table_of([(seven[0], -5, 60, 5, 70, 3), (seven[1], 1, 1, 2, 2, 7)])
    found = detect.check_boxes(boxes, seven[0])
    assert found[list(BOX)].to_numpy().tolist() == [[0, 60, 5, 64]] and not found["crowd"].any()
    assert detect.check_boxes(boxes, pd.DataFrame({"path": [seven[5]]})).empty
    with pytest.raises(ValueError, match="no path|a path and a label"):
        detect.check_boxes(boxes.assign(label=[None, 7]), seven[0])
    with pytest.raises(ValueError, match="label is missing"):
        detect.check_boxes(boxes.drop(columns="label"), seven[0])
    alone = boxes.assign(path=[Path(p).name for p in boxes["path"]])
    with pytest.raises(ValueError, match="write them alike"):
        detect.check_boxes(alone, seven[0])


@pytest.mark.parametrize("turn", range(8))
def test_boxes_turn_with_their_pixels(turn):
    rng = np.random.default_rng(turn)
    for _ in range(5):
        (left, right), (top, bottom) = (np.sort(rng.choice(13, 2, False)) for _ in "xy")
        mask = np.zeros((1, 12, 12), bool)
        mask[:, top:bottom, left:right] = True
        ((x0, y0, x1, y1),) = rotate_boxes(np.array([[left, top, right, bottom]]), turn, 12)
        expected = np.zeros((1, 12, 12), bool)
        expected[:, y0:y1, x0:x1] = True
        assert np.array_equal(rotate_pixels(mask, turn), expected)


def test_a_cut_box_counts_while_enough_of_it_is_left():
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [-7, 0, 3, 10], [50, 50, 60, 60.0]])
    found, whole, part = crop_boxes(boxes, (0, 0, 10, 10), min_visible=0.5)
    assert whole.tolist() == [True, True, False, False] and part.tolist() == [False] * 2 + [
        True, False
    ]  # fmt: skip
    assert found[:3].tolist() == [[0, 0, 10, 10], [4, 0, 10, 10], [0, 0, 3, 10]]


# --- crops --------------------------------------------------------------------------------------


def test_crops_show_what_their_boxes_say(tmp_path):
    scenes, boxes = scattered(tmp_path, count=3)
    config = detect.DetectConfig(batch_size=6, size_px=48, boxed=1.0, min_visible=0.4)
    crops = Crops(area.scene_rows(scenes), detect.check_boxes(boxes, scenes), ["square"], config)
    for seed in range(6):
        pixels, valid, targets = crops.batch(seed)
        again = crops.batch(seed)
        assert torch.equal(pixels, again[0]) and valid.all() and pixels.dtype == torch.float32
        for image, target in zip(pixels, targets, strict=True):
            assert len(target["boxes"]) >= 1 and len(target["boxes"]) == len(target["labels"])
            bright = torch.zeros(48, 48, dtype=torch.bool)
            for x0, y0, x1, y1 in torch.cat([target["boxes"], target["ignored"]]).int().tolist():
                bright[y0:y1, x0:x1] = True
            assert torch.equal(bright, (image > 200).all(0))
    assert not torch.equal(crops.batch(0)[0], crops.batch(1)[0])


def test_crops_of_small_scenes_of_background_and_of_crowds(tmp_path):
    path = picture(tmp_path / "a.png", size=(20, 90))
    boxes = table_of([(path, 2, 2, 8, 8, "x"), (path, 40, 2, 60, 12, "x")])
    boxes["crowd"] = [False, True]
    config = detect.DetectConfig(batch_size=64, size_px=32)
    rows = area.scene_rows(path)
    pixels, valid, targets = Crops(rows, detect.check_boxes(boxes, path), ["x"], config).batch(0)
    assert (
        valid.sum((1, 2)).eq(20 * 32).all() and not pixels[~valid[:, None].expand_as(pixels)].any()
    )
    seen = [len(t["boxes"]) for t in targets]
    assert max(seen) == 1 and 0.6 < np.mean(seen) < 1  # the crowd is never an object
    assert any(len(t["ignored"]) for t in targets)
    none = Crops(rows, detect.check_boxes(table_of([]), path), [], config).batch(0)
    assert not any(len(t["boxes"]) for t in none[2])


def test_ignored_anchors_teach_nothing_and_the_rest_does():
    net = build(encoder_of(), 1, SMALL, seed=0)
    x, none = torch.randn(1, 3, 32, 32), torch.zeros(0, 4)
    target = {"boxes": none, "labels": torch.zeros(0, dtype=torch.int64)}
    everywhere = torch.tensor([[-999.0, -999, 999, 999]])
    assert net(x, [target | {"ignored": everywhere}])["classification"] == 0
    assert net(x, [target | {"ignored": none}])["classification"] > 0
    box = {"boxes": torch.tensor([[4.0, 4, 20, 20]]), "labels": torch.tensor([0])}
    losses = net(x, [box | {"ignored": everywhere}])  # an object within is still learned
    assert losses["classification"] > 0 and losses["bbox_regression"] > 0


# --- windows ------------------------------------------------------------------------------------


def talkative(encoder, *, upsample, classes=2, seed=0):
    """A detector that was not trained, made to say something all over a scene."""
    config = detect.DetectConfig(upsample=upsample, width=8, precision="fp32", device="cpu")
    net = build(encoder, classes, config, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    head = net.head.classification_head.cls_logits
    with torch.no_grad():
        head.weight.normal_(0, 0.35, generator=generator)
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_var.fill_(4)
    counts = pd.Series([1] * classes, index=pd.Index(list("ab")[:classes], dtype=object))
    reading = {"bands": "1,2,3", "band_names": "r,g,b", "dtype": "uint8",
               "scale_low": np.nan, "scale_high": np.nan}  # fmt: skip
    return detect.Detector(net, config, reading, counts, 0, pd.DataFrame())


def noise_tif(path, *, height, width):
    """Structured noise with coordinates."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 200, (3, -(-height // 6), -(-width // 6)), dtype=np.uint8)
    pixels = coarse.repeat(6, 1).repeat(6, 2)[:, :height, :width]
    pixels += rng.integers(0, 50, pixels.shape, dtype=np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=height, width=width, dtype="uint8",
        crs="EPSG:32633", transform=from_origin(500_000, 5_000_000, 10, 10),
    ) as file:  # fmt: skip
        file.write(pixels)
    return str(path)


def same_boxes(a, b):
    order = ["label", *BOX]
    a, b = (x.round(3).sort_values(order).reset_index(drop=True) for x in (a, b))
    pd.testing.assert_frame_equal(a[["path", *order]], b[["path", *order]], atol=2e-3)
    np.testing.assert_allclose(a["score"], b["score"], atol=1e-4)


def test_a_tiled_scene_gives_what_the_whole_gives(tmp_path):
    """All of it, where a window shows as much around each box as the network looks at."""
    path = noise_tif(tmp_path / "a.tif", height=60, width=760)
    tuned = talkative(encoder_of(), upsample=1)
    whole = tuned.detect(path, size_px=760, score=0.8)
    tiled = tuned.detect(path, size_px=624, overlap_px=592, score=0.8)  # 148 px on either side
    assert 20 < len(whole) < 900 and whole["label"].nunique() == 2
    same_boxes(tiled, whole)


def test_away_from_the_seams_any_windows_give_what_the_whole_gives(tmp_path):
    path = noise_tif(tmp_path / "a.tif", height=330, width=300)
    tuned = talkative(encoder_of(), upsample=2)
    whole = tuned.detect(path, size_px=336, score=0.8)
    tiled = tuned.detect(path, size_px=240, overlap_px=64, score=0.8)
    x, y = (np.stack([(t[BOX[i]] + t[BOX[i + 2]]) / 2 for i in (0, 1)]) for t in (whole, tiled))
    # seams at 176 and 240 either way; the network looks 66 px around, and so do its neighbors
    assert not whole[(x < 90).all(0)].empty
    same_boxes(tiled[(y < 90).all(0)], whole[(x < 90).all(0)])
    # nothing twice: no two boxes of a class overlap more than the suppression allows
    for _, part in tiled.groupby("label"):
        corners = part[list(BOX)].to_numpy()
        overlap = np.array([[slow_iou(p, q) for q in corners] for p in corners])
        assert (overlap - np.eye(len(part)) <= 0.5 + 1e-6).all()


def test_what_is_found_says_where_it_is(tmp_path):
    path = noise_tif(tmp_path / "a.tif", height=64, width=64)
    tuned = talkative(encoder_of(), upsample=1)
    found = tuned.detect(path, score=0.1)
    assert list(found) == ["path", *BOX, "label", "score", "lon", "lat"]
    assert found["score"].is_monotonic_decreasing and found["score"].min() > 0.1
    assert set(found["path"]) == {path} and found.attrs["classes"] == ["a", "b"]
    east, north = ((found[a] + found[b]) / 2 for a, b in (BOX[::2], BOX[1::2]))
    lon, lat = rasterio.warp.transform(
        "EPSG:32633", "EPSG:4326", 500_000 + 10 * east, 5_000_000 - 10 * north
    )
    np.testing.assert_allclose(found["lon"], lon, atol=1e-7)
    np.testing.assert_allclose(found["lat"], lat, atol=1e-7)
    assert tuned.detect(path, score=0.1, nms_iou=1.0).shape[0] > len(found)
    none = tuned.detect(path, score=1.0)
    assert none.empty and list(none) == list(found)
    plain = picture(tmp_path / "b.png")
    assert tuned.detect(plain, score=0.1)["lon"].isna().all()


# --- training -----------------------------------------------------------------------------------


def test_a_detector_learns_bright_squares(tmp_path):
    scenes, boxes = scattered(tmp_path, count=5)
    scenes["split"] = ["train"] * 4 + ["test"]
    config = detect.DetectConfig(
        freeze="none",
        epochs=8,
        crops=40,
        batch_size=4,
        size_px=48,
        upsample=1,
        width=16,
        lr=5e-3,
        device="cpu",
    )
    tuned = detect.train(scenes, boxes, encoder_of(), config=config)
    assert tuned.logs["loss"].iloc[-1] < tuned.logs["loss"].iloc[0] / 2
    for part in ("train", "test"):
        here = scenes[scenes["split"] == part]
        result = detect.measure(tuned.detect(here), boxes, here)
        assert result.ap50 > 0.9, (part, result)
    raw = talkative(encoder_of(), upsample=1, classes=1)
    raw.boxes.index = ["square"]
    assert detect.measure(raw.detect(scenes), boxes, scenes).ap50 < 0.1


@pytest.mark.parametrize("freeze", ["none", "norm", "all"])
def test_what_is_frozen_stays_bit_for_bit(tmp_path, freeze):
    scenes, boxes = scattered(tmp_path, count=2)
    encoder = encoder_of().train()
    layers.split_batchnorm(encoder, 2)
    encoder.metadata = {"bands": ["r", "g", "b"]}
    before, drawn = state(encoder), torch.random.get_rng_state()
    grads = [p.requires_grad for p in encoder.parameters()]
    config = detect.DetectConfig(**{**vars(SMALL), "freeze": freeze})
    tuned = detect.train(scenes, boxes, encoder, config=config)
    assert alike(before, state(encoder)) and encoder.training
    assert grads == [p.requires_grad for p in encoder.parameters()]
    assert all(p.grad is None for p in encoder.parameters())
    assert torch.equal(drawn, torch.random.get_rng_state())
    after = state(tuned.encoder)
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    statistics = {k for k in before if "running" in k or "batches" in k}
    assert bool(moved - statistics) == (freeze != "all")
    assert bool(moved & statistics) == (freeze == "none")
    assert tuned.encoder.metadata == encoder.metadata and not tuned.network.training


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path, monkeypatch):
    scenes, boxes = scattered(tmp_path, count=2)
    config = detect.DetectConfig(**{**vars(SMALL), "epochs": 3, "freeze": "none"})
    given = {"config": config, "seed": 3}
    whole = detect.train(scenes, boxes, encoder_of(), **given)
    epoch = train._epoch

    def killed(*args, **kwargs):
        if kwargs["epoch"] == 2:
            raise KeyboardInterrupt
        return epoch(*args, **kwargs)

    monkeypatch.setattr(train, "_epoch", killed)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        detect.train(scenes, boxes, encoder_of(), output_dir=out, **given)
    with pytest.raises(FileNotFoundError, match="no detector at"):
        detect.load(out)
    calls = []
    monkeypatch.setattr(train, "_epoch", lambda *a, **k: calls.append(k["epoch"]) or epoch(*a, **k))
    tuned = detect.train(scenes, boxes, encoder_of(), output_dir=out, **given)
    assert calls == [2] and tuned.logs["epoch"].tolist() == [1, 2, 3]
    assert alike(state(tuned.network), state(whole.network))
    assert tuned.logs["loss"].tolist() == whole.logs["loss"].tolist()
    again = detect.train(scenes, boxes, encoder_of(), output_dir=out, **given)  # it has ended
    assert calls == [2] and alike(state(again.network), state(whole.network))
    other = detect.train(scenes, boxes, encoder_of(), config=config, seed=4)
    assert not alike(state(other.network), state(whole.network))
    for change in ({"seed": 4}, {"config": SMALL}):
        with pytest.raises(ValueError, match="holds a run with"):
            detect.train(scenes, boxes, encoder_of(), output_dir=out, **given | change)
    for data in ((scenes, boxes.iloc[1:], encoder_of()), (scenes, boxes, encoder_of(seed=1))):
        with pytest.raises(ValueError, match="holds a run with"):
            detect.train(*data, output_dir=out, **given)
    last = out / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(ValueError, match="last.safetensors"):
        detect.train(scenes, boxes, encoder_of(), output_dir=out, **given)


def test_a_checkpoint_that_does_not_fit_is_refused_in_one_sentence(tmp_path):
    scenes, boxes = scattered(tmp_path, count=1)
    config = detect.DetectConfig(**{**vars(SMALL), "epochs": 1})
    detect.train(scenes, boxes, encoder_of(), config=config, output_dir=tmp_path)
    last = tmp_path / "last.safetensors"
    with safe_open(last, "pt") as file:
        tensors, logs = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()
    other = tensors | {"solver.x": torch.zeros(1)}
    for bad in ((tensors, {}), (tensors, {"logs": "3"}), (other, logs), ({}, logs)):
        save_file(bad[0], last, bad[1])
        with pytest.raises(ValueError, match="last.safetensors is damaged. Delete"):
            detect.train(scenes, boxes, encoder_of(), config=config, output_dir=tmp_path)


def test_every_step_draws_its_own_crops(tmp_path, monkeypatch):
    scenes, boxes = scattered(tmp_path, count=1)
    seeds, batch = [], Crops.batch
    monkeypatch.setattr(Crops, "batch", lambda self, seed: seeds.append(seed) or batch(self, seed))
    detect.train(scenes, boxes, encoder_of(), config=SMALL)
    assert len(seeds) == len(set(seeds)) == SMALL.epochs * SMALL.crops // SMALL.batch_size


def test_rows_of_other_splits_are_not_learned_from(tmp_path):
    scenes, boxes = scattered(tmp_path, count=3)
    scenes["split"] = ["train", "val", None]
    (tmp_path / "1.png").write_bytes(b"nothing")
    (tmp_path / "2.png").unlink()
    tuned = detect.train(scenes, boxes, encoder_of(), config=SMALL)
    assert tuned.boxes.to_dict() == {"square": 3}
    with pytest.raises(ValueError, match="training rows"):
        detect.train(scenes.assign(split="val"), boxes, encoder_of(), config=SMALL)
    with pytest.raises(ValueError, match="1.png cannot be read"):
        detect.train(scenes.iloc[:2].assign(split="train"), boxes, encoder_of(), config=SMALL)


def test_no_boxes_one_class_and_a_class_missing_from_train(tmp_path):
    scenes, boxes = scattered(tmp_path, count=2)
    tuned = detect.train(scenes, boxes.iloc[:0], encoder_of(), config=SMALL)
    assert tuned.classes == [] and tuned.detect(scenes, score=0.0).empty
    tuned.save(tmp_path / "none")
    assert detect.load(tmp_path / "none").classes == []
    scenes["split"], boxes["label"] = ["train", "test"], [4] * 3 + [9] * 3
    tuned = detect.train(scenes, boxes, encoder_of(), config=SMALL)
    assert tuned.classes == [4] and "1 classes: 4" in repr(tuned)
    found = tuned.detect(scenes, score=0.001)
    result = detect.measure(found, boxes, scenes)
    table = result.per_class.set_index("label")
    assert table["known"].to_dict() == {4: True, 9: False} and table.loc[9, "ap50"] == 0
    assert result.ap50 == pytest.approx(table.loc[4, "ap50"] / 2)
    assert "classes it was not trained on, counted as 0: 1" in str(result)


def test_bad_boxes_stop_a_training_or_are_counted(tmp_path):
    scenes, boxes = scattered(tmp_path, count=2)
    boxes.loc[4, "box_right"] = np.nan
    with pytest.raises(ValueError, match=r"row 4 of the boxes, .*1\.png: expected left, top"):
        detect.train(scenes, boxes, encoder_of(), config=SMALL)
    tuned = detect.train(scenes, boxes, encoder_of(), config=SMALL, skip_bad=True)
    assert tuned.skipped == 1 and tuned.boxes.sum() == 5


def test_an_encoder_for_other_bands_and_scenes_of_other_kinds_are_refused(tmp_path):
    scenes, boxes = scattered(tmp_path, count=2)
    table = add_pixel_columns(scenes, reader="coco")
    with pytest.raises(ValueError, match="`scenes` must have the encoder's 2 bands"):
        detect.train(table, boxes, encoder_of(2), config=SMALL)
    tuned = detect.train(table, boxes, encoder_of(), config=SMALL)
    other = add_pixel_columns(scenes, reader="coco", dtype="uint16")
    with pytest.raises(ValueError, match="`scenes` must have dtype uint8, as in training"):
        tuned.detect(other)
    with pytest.raises(FileNotFoundError, match="none.tif"):
        tuned.detect(tmp_path / "none.tif")


def test_a_loss_that_is_not_finite_stops_and_is_not_kept(tmp_path):
    scenes, boxes = scattered(tmp_path, count=1)
    config = detect.DetectConfig(**{**vars(SMALL), "lr": 1e30, "warmup": 0.0})
    with pytest.raises(ValueError, match="expected a finite loss"):
        detect.train(scenes, boxes, encoder_of(), config=config, output_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "detector.safetensors").exists()


@pytest.mark.parametrize(
    "change", [{"freeze": "some"}, {"batch_size": 0}, {"upsample": 1.5}, {"boxed": 2}, {"lr": 0},
               {"anchor_sides": ()}, {"anchor_ratios": (0.0,)}, {"warmup": 1.0}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match="expected"):
        detect.DetectConfig(**change)
    with pytest.raises(ValueError, match="finest_stride <= 16"):
        build(encoder_of(), 1, detect.DetectConfig(finest_stride=32), seed=0)


# --- files --------------------------------------------------------------------------------------


def test_a_saved_detector_finds_the_same(tmp_path):
    scenes, boxes = scattered(tmp_path, count=2)
    config = detect.DetectConfig(**{**vars(SMALL), "color": detect.DetectConfig().color})
    tuned = detect.train(scenes, boxes, encoder_of(), config=config, output_dir=tmp_path / "run")
    loaded = detect.load(tmp_path / "run")
    assert loaded.config == config and repr(loaded) == repr(tuned)
    pd.testing.assert_frame_equal(
        loaded.detect(scenes, score=0.01), tuned.detect(scenes, score=0.01), check_exact=True
    )
    pd.testing.assert_frame_equal(loaded.logs, tuned.logs)
    pd.testing.assert_series_equal(loaded.boxes, tuned.boxes, check_names=False)


def test_damaged_and_hostile_files_are_refused(tmp_path):
    tuned = talkative(encoder_of(), upsample=1)
    tuned.save(tmp_path)
    path = tmp_path / "detector.safetensors"
    whole = path.read_bytes()
    for content in (b"", whole[:50], whole[:-7], pickle.dumps(print)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="detector.safetensors"):
            detect.load(tmp_path)
    path.write_bytes(whole)
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}
        about = json.loads(file.metadata()["detector"])
    changes = [
        {"config": {**about["config"], "width": 2**30}}, {"boxes": [["a", 1]] * 10**5},
        {"config": {**about["config"], "upsample": "x"}}, {"boxes": 3}, {"note": 3},
        {"encoder": {**about["encoder"], "bands": 10**9}}, {"encoder": {"name": "x"}},
        {"reading": {}}, {"config": {**about["config"], "anchor_sides": [1.0] * 10**6}},
    ]  # fmt: skip
    for change in changes:
        save_file(tensors, path, {"format": "1", "detector": json.dumps(about | change)})
        with pytest.raises(ValueError, match="does not fit its tensors"):
            detect.load(path)
    save_file(tensors, path, {"format": "9", "detector": "{}"})
    with pytest.raises(ValueError, match="newer geossl"):
        detect.load(path)
    first = next(iter(tensors))
    save_file(tensors | {first: tensors[first] * np.nan}, path,
              {"format": "1", "detector": json.dumps(about)})  # fmt: skip
    with pytest.raises(ValueError, match="must be finite, got nan"):
        detect.load(path)
    with pytest.raises(FileNotFoundError, match="no detector at"):
        detect.load(tmp_path / "nowhere")


# --- pictures -----------------------------------------------------------------------------------


def test_pictures_show_hits_misses_and_false_alarms(tmp_path):
    scenes, boxes = scattered(tmp_path, count=2)
    found = boxes.iloc[:4].assign(score=[0.9, 0.8, 0.7, 0.1])
    found.loc[2, list(BOX)] = [1, 1, 4, 4]
    result = detect.measure(found, boxes, scenes, score=0.5)
    ax = detection.plot_detections(result, scenes, path=scenes["path"][0])
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["hits (2)", "missed (1)", "false alarms (1)"]
    lines = [(patch.get_linestyle(), patch.get_edgecolor()) for patch in ax.patches]
    assert len(lines) == 4 and len(set(lines)) == 3 == len({line for line, _ in lines})
    assert "hits (2)" in ax._repr_html_() and "alt=" in ax._repr_html_()
    part = detection.plot_detections(result, scenes, path=scenes["path"][0], window=(0, 0, 5, 5))
    assert len(part.patches) == 1
    figure = detection.plot_outcomes(result, scenes, count=2, size_px=40)
    assert len(figure.axes) == 6 and "missed" in figure._repr_html_()
    with pytest.raises(ValueError, match="expected a path of the 2 scenes"):
        detection.plot_detections(result, scenes, path="x")
    with pytest.raises(ValueError, match="smaller window"):
        detection.plot_detections(result, scenes, window=(0, 0, 10**5, 10**5))


# --- the real ports -----------------------------------------------------------------------------


def test_real_ports_are_read_and_trained_on_for_a_step(tmp_path):
    folder = Path(__file__).parents[3] / "shared" / "data" / "ports_sentinel2"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/ports_sentinel2")
    ships = pd.read_csv(folder / "boxes.csv")
    files = {f.stem.rsplit("_", 1)[0]: str(f) for f in folder.glob("*.tif")}
    boxes = table_of(list(zip(
        ships["scene"].map(files), ships["x"], ships["y"], ships["x"] + ships["w"],
        ships["y"] + ships["h"], ships["cls"], strict=True,
    )))  # fmt: skip
    scenes = pd.DataFrame({"path": [files["klang"], files["san_francisco"]]})
    assert len(detect.check_boxes(boxes, pd.DataFrame({"path": list(files.values())}))) == 382
    tuned = detect.train(scenes, boxes, encoder_of(), config=SMALL)
    assert tuned.boxes.to_dict() == {"ship": 23} and np.isfinite(tuned.logs["loss"]).all()
    found = tuned.detect(scenes.iloc[1:], score=0.001)
    assert (found["lon"].between(-122.6, -122.2) & found["lat"].between(37.6, 37.9)).all()
    str(detect.measure(found, boxes, scenes.iloc[1:]))
