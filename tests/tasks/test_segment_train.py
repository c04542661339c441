import copy
import itertools
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.features
import rasterio.shutil
import rasterio.warp
import torch
from PIL import Image
from segment_scenes import (
    BANG,
    NAMES,
    PLANTS,
    QUICK,
    Bomb,
    noise,
    same,
    small,
    squares,
    states,
    tif,
)

from geossl import models
from geossl.datasets.raster import area
from geossl.models import layers
from geossl.tasks import segment
from geossl.tasks.segment.crops import Scenes
from geossl.tasks.segment.masks import IGNORE
from geossl.tasks.segment.model import Network
from geossl.tasks.segment.train import class_weights, pixel_loss
from geossl.train.checkpoint import RunDirectory
from geossl.transforms import Views


@pytest.mark.parametrize("freeze", ["none", "norm", "all"])
def test_what_is_frozen_stays_bit_for_bit_and_the_encoder_given_is_never_touched(freeze, tmp_path):
    scenes, encoder = squares(tmp_path, 2), small()
    layers.split_batchnorm(encoder, 2)
    encoder.train()
    before, given = states(encoder), copy.deepcopy(encoder)
    config = segment.SegmentConfig(epochs=1, batch_size=4, size_px=32, width=8, freeze=freeze)
    tuned = segment.train(scenes, encoder, classes=NAMES, config=config)
    assert same(before, states(encoder)) and encoder.training
    assert all(p.requires_grad and p.grad is None for p in encoder.parameters())
    assert encoder.backbone[1].splits == given.backbone[1].splits == 2
    after = states(tuned.encoder)
    statistics = [k for k in before if "running" in k or "tracked" in k]
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    if freeze == "all":
        assert not moved
    else:
        assert "backbone.0.weight" in moved
        assert moved.isdisjoint(statistics) == (freeze == "norm")
    assert not tuned.network.training


def test_it_learns_a_small_set_and_an_untrained_one_does_not_know_it(trained):
    _, scenes, tuned = trained
    result = segment.measure(tuned, scenes[scenes["split"] == "train"])
    assert result.value > 0.9 and result.low > 0.85 and result.low <= result.value <= result.high
    assert tuned.logs["val"].iloc[-1] > 0.8 and tuned.logs["loss"].iloc[-1] < 0.35
    assert list(tuned.logs.columns) == ["epoch", "loss", "accuracy", "val"]
    raw = Network(small(), classes=2, head="fpn", width=32)
    untrained = segment.Segmenter(raw, tuned.masks, tuned.reading, tuned.pixels)
    assert segment.measure(untrained, scenes).value < 0.6


def test_the_pixels_of_the_training_are_counted(trained):
    _, scenes, tuned = trained
    masks = [rasterio.open(p).read(1) for p in scenes["mask"][scenes["split"] == "train"]]
    plants = sum(int(m.sum()) for m in masks)
    assert tuned.pixels.to_dict() == {"background": 5 * 48 * 53 - plants, "plant": plants}


def test_what_is_left_out_has_no_part_in_the_loss():
    logits, weight = noise(2, 3, 5, 4), torch.tensor([1.0, 3.0, 0.5])
    target = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 5, 4)))
    target[0, :3] = IGNORE
    total, heft = pixel_loss(logits, target, weight)
    known = target != IGNORE
    chosen = logits.permute(0, 2, 3, 1)[known].double().log_softmax(1).numpy()
    each = [-row[t] * weight[t] for row, t in zip(chosen, target[known], strict=True)]
    assert total.item() == pytest.approx(sum(each).item(), rel=1e-5)
    assert heft.item() == pytest.approx(weight[target[known]].sum().item())
    logits.requires_grad_()
    total, heft = pixel_loss(logits, torch.full_like(target, IGNORE), weight)
    total.backward()
    assert total == heft == 0 and not logits.grad.any()


def test_masks_that_know_only_a_part_are_counted_there_alone(tmp_path):
    scenes = squares(tmp_path, 3)
    for path in scenes["mask"]:
        with rasterio.open(path, "r+") as file:
            mask = file.read(1)
            mask[:, 26:] = IGNORE
            file.write(mask, 1)
    tuned = segment.train(scenes, small(), classes=NAMES, config=QUICK)
    assert tuned.pixels.sum() == 3 * 48 * 26
    result = segment.measure(tuned, scenes)
    assert result.confusion.to_numpy().sum() == 3 * 48 * 26
    assert result.scenes["pixels"].tolist() == [48 * 26] * 3


def test_class_weights_are_powers_of_the_share_with_a_mean_of_one():
    pixels = pd.Series([900, 100, 0])
    assert class_weights(pixels, balance=0).tolist() == [1, 1, 1]
    weight = class_weights(pixels, balance=1)
    assert weight[0] * 900 == pytest.approx(float(weight[1] * 100))
    assert (weight[0] * 0.9 + weight[1] * 0.1).item() == pytest.approx(1) and weight[2] == 1
    half = class_weights(pixels, balance=0.5)
    assert half[1] / half[0] == pytest.approx(3)


class Stop(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("color", [True, False])
def test_a_killed_training_goes_on_to_the_same_end(color, tmp_path, monkeypatch):
    scenes = squares(tmp_path, 3).assign(split=["train", "train", "val"])
    more = {"color": Views()} if color else {}
    config = segment.SegmentConfig(epochs=4, batch_size=4, size_px=32, width=8, **more)

    def run(out):
        return segment.train(scenes, small(), classes=NAMES, config=config, output_dir=out, seed=5)

    whole = run(tmp_path / "whole")
    save, steps = RunDirectory.save, []

    def killed(self, step, *args, **more):
        save(self, step, *args, **more)
        steps.append(step)
        if len(steps) == 2:
            raise Stop

    monkeypatch.setattr(RunDirectory, "is_due", lambda self: True)
    monkeypatch.setattr(RunDirectory, "save", killed)
    with pytest.raises(Stop):
        run(tmp_path / "killed")
    assert not (tmp_path / "killed" / "segmenter.safetensors").exists()
    monkeypatch.setattr(RunDirectory, "save", save)
    epochs = []
    batches = Scenes.batches
    monkeypatch.setattr(
        Scenes,
        "batches",
        lambda *a, epoch, **k: epochs.append(epoch) or batches(*a, epoch=epoch, **k),
    )
    rest = run(tmp_path / "killed")
    assert epochs == [2, 3]
    assert same(states(whole.network), states(rest.network))
    pd.testing.assert_frame_equal(whole.logs, rest.logs)
    lines = (tmp_path / "killed" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rest.logs.to_dict("records")
    again = run(tmp_path / "killed")  # finished: nothing is trained
    assert len(epochs) == 2 and same(states(again.network), states(rest.network))
    other = segment.train(scenes, small(), classes=NAMES, config=config, seed=6)
    assert not same(states(other.network), states(rest.network))


@pytest.mark.slow
def test_a_folder_of_another_or_a_damaged_training_is_refused(tmp_path):
    scenes, out = squares(tmp_path, 2), tmp_path / "deep" / "run"

    def run(encoder=None, *, seed=0, config=QUICK, classes=NAMES):
        return segment.train(
            scenes, encoder or small(), classes=classes, config=config, output_dir=out, seed=seed
        )

    run()
    with pytest.raises(ValueError, match=r"another `seed` \(0, not 1\)"):
        run(seed=1)
    with pytest.raises(ValueError, match="already contains a run with another `encoder`"):
        run(small(seed=3))
    with pytest.raises(ValueError, match="already contains a run with another `classes`"):
        run(classes=("a", "b"))
    with pytest.raises(ValueError, match=r"another `epochs` \(2, not 3\)"):
        run(config=segment.SegmentConfig(epochs=3, batch_size=4, size_px=32, width=16))
    good = (out / "last.pt").read_bytes()
    for bad in (good[: len(good) // 2], b"", pickle.dumps(Bomb())):
        (out / "last.pt").write_bytes(bad)
        with pytest.raises(ValueError, match="last.pt is damaged"):
            run()
    assert not BANG.exists()
    (out / "last.pt").write_bytes(good)
    for bad in ("{", "[]", None):  # it is written again from the checkpoint, which knows the run
        (out / "config.json").unlink()
        if bad:
            (out / "config.json").write_text(bad)
        with pytest.raises(ValueError, match=r"another `seed` \(0, not 1\)"):
            run(seed=1)
        run()
        assert json.loads((out / "config.json").read_text())["seed"] == 0
    (out / "last.pt").unlink()
    (out / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is damaged"):
        run()


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    config = segment.SegmentConfig(epochs=3, batch_size=4, size_px=32, width=8, lr=1e30)
    with pytest.raises(ValueError, match="loss is .* diverged. Use a lower `lr` .now 1e"):
        segment.train(squares(tmp_path, 2), small(), classes=NAMES, config=config)


@pytest.mark.parametrize(
    "more",
    [{"head": "psp"}, {"freeze": "some"}, {"epochs": 0}, {"batch_size": 1}, {"lr": 0},
     {"warmup": 1}, {"size_px": 0}, {"balance": -1}, {"width": 2}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(more):
    (name,) = more
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        segment.SegmentConfig(**more)


def test_training_refuses_what_it_cannot_learn_from(tmp_path):
    scenes = squares(tmp_path, 2)

    def run(table=scenes, encoder=None, **more):
        kwargs = {"classes": NAMES, "config": QUICK, **more}
        return segment.train(table, encoder or small(), **kwargs)

    with pytest.raises(ValueError, match="`mask` must be one of the columns .*, got 'masks'"):
        run(mask="masks")
    with pytest.raises(ValueError, match="all 2 are empty"):
        run(scenes.assign(mask=None))
    with pytest.raises(TypeError, match="`scenes` must be a DataFrame"):
        run(scenes["path"][0])
    with pytest.raises(ValueError, match="`classes` must be 2 to 255 different names"):
        run(classes=("plant",))
    with pytest.raises(ValueError, match="has 3 bands, so there is no band 4"):
        run(encoder=small(bands=4))
    with pytest.raises(ValueError, match="`split` must be one of .*, got 'train'"):
        run(scenes.assign(split="test"))
    with pytest.raises(ValueError, match="has 53 x 48 pixels, not 9 x 9"):
        tiny = tif(tmp_path / "tiny.tif", np.ones((3, 9, 9), np.uint8))
        run(pd.DataFrame({"path": [tiny], "mask": scenes["mask"][:1]}), resample=False)
    for bad in (b"", b"II*\0nonsense"):
        (tmp_path / "bad.tif").write_bytes(bad)
        for column in ("path", "mask"):
            with pytest.raises(ValueError, match="bad.tif cannot be read"):
                run(scenes.assign(**{column: [scenes[column][0], str(tmp_path / "bad.tif")]}))
    whole = Path(scenes["path"][0]).read_bytes()
    (tmp_path / "half.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="half.tif cannot be read"):
        run(scenes.assign(path=[scenes["path"][1], str(tmp_path / "half.tif")]))
    for path in scenes["mask"]:
        with rasterio.open(path, "r+") as file:
            file.write(file.read() * 255)
    with pytest.raises(ValueError, match=r"'plant': 0\}. Pixels of 255 .* pass values=\(0, 255\)"):
        run()
    assert run(values=(0, 255)).pixels["plant"] > 0


def test_an_encoder_of_many_bands_and_a_class_that_no_training_scene_has(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(3):
        codes = rng.integers(0, 2, (20, 24)).astype(np.uint8)
        codes = np.kron(codes[:5, :6], np.ones((4, 4), np.uint8))
        if i == 2:
            codes[:8] = 2  # only in the test scene
        pixels = (1000 * codes.astype(int) + rng.integers(1, 500, (5, 20, 24))).astype(np.uint16)
        rows.append({"path": tif(tmp_path / f"{i}.tif", pixels),
                     "mask": tif(tmp_path / f"m{i}.tif", codes),
                     "split": "train" if i < 2 else "test", "location": "x"})  # fmt: skip
    scenes = pd.DataFrame(rows)
    encoder = models.build_encoder("small", bands=5, mean=[700.0] * 5, std=[500.0] * 5)
    three = ("low", "high", "never")
    tuned = segment.train(scenes, encoder, classes=three, config=QUICK)
    assert tuned.pixels["never"] == 0 and tuned.reading["dtype"] == "uint16"
    assert repr(tuned).endswith("never; not in the training: never)")
    result = segment.measure(tuned, scenes.tail(1))
    table = result.per_class.set_index("class")
    assert table["train_pixels"].to_dict() == tuned.pixels.to_dict()
    assert table.loc["never", "pixels"] == 8 * 24 and table.loc["never", "iou"] == 0
    assert "not in the training: never" in str(result) and "never" in result._repr_html_()
    absent = segment.measure(tuned, scenes.head(1)).per_class.set_index("class")["iou"]
    if np.isnan(absent["never"]):  # neither there nor predicted: it has none
        assert segment.measure(tuned, scenes.head(1)).value == pytest.approx(absent[:2].mean())


@pytest.mark.slow
def test_real_power_plants_are_read_and_learned_from():
    if not PLANTS.is_dir():
        pytest.skip("needs ../shared/data/us_power_plants")
    files = sorted((PLANTS / "images").glob("*.tif"))
    assert len(files) == 147
    masks = [PLANTS / "masks" / f"bilabels_{f.stem.split('_')[1]}.png" for f in files]
    scenes = pd.DataFrame({"path": map(str, files), "mask": map(str, masks)})
    encoder = models.build_encoder("small", mean=[100.0] * 3, std=[50.0] * 3)
    config = segment.SegmentConfig(epochs=1, batch_size=8, width=16)
    more = {"classes": NAMES, "values": (0, 255), "config": config}
    with pytest.raises(ValueError, match="has 1114 x 1114 pixels, not 76 x 75"):
        segment.train(scenes[:12], encoder, **more)
    few = scenes[::14]
    tuned = segment.train(few, encoder, resample=True, **more)
    share = []
    for path in few["mask"]:
        with Image.open(path) as mask:
            share.append((np.asarray(mask) > 0).mean())
    share = np.mean(share)
    assert tuned.pixels["plant"] / tuned.pixels.sum() == pytest.approx(share, abs=0.005)
    result = segment.measure(tuned, few.head(4))
    grids = [area.read_grid({"path": path}) for path in few["path"][:4]]
    assert result.confusion.to_numpy().sum() == sum(g.height * g.width for g in grids)


def test_all_heads_and_settings_are_named_in_the_docs():
    for head, freeze in itertools.product(("fpn", "fcn", "deeplab"), ("none", "norm", "all")):
        assert f'"{head}"' in segment.SegmentConfig.__doc__
        assert f'"{freeze}"' in segment.SegmentConfig.__doc__


def test_masks_that_were_drawn_anew_are_another_run(tmp_path):
    scenes = squares(tmp_path, 2)
    config = segment.SegmentConfig(epochs=1, batch_size=2, size_px=32, width=8)
    given = {"classes": NAMES, "config": config, "output_dir": tmp_path / "run"}
    segment.train(scenes, small(), **given)
    segment.train(scenes, small(), **given)
    mask = scenes["mask"].iloc[0]
    with rasterio.open(mask) as file:
        values, profile = file.read(), file.profile
    with rasterio.open(mask, "w", **profile) as file:
        file.write(values[:, ::-1].copy())  # as many pixels of each class
    with pytest.raises(ValueError, match="already contains a run with another `pixels`"):
        segment.train(scenes, small(), **given)
    huge = replace(config, batch_size=10**9)
    with pytest.raises(ValueError, match="GiB are available. Lower `batch_size` or `size_px`"):
        segment.train(scenes, small(), classes=NAMES, config=huge)
