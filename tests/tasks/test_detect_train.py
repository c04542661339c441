import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from detect_scenes import SMALL, alike, encoder_of, scattered, state, table_of, talkative

from geossl.datasets.raster.chips import add_pixel_columns
from geossl.models import layers
from geossl.tasks import detect
from geossl.tasks.detect.crops import Crops
from geossl.train.checkpoint import RunDirectory
from geossl.utils.seeds import derive_seed


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path, monkeypatch):
    scenes, boxes = scattered(tmp_path, count=2)
    config = detect.DetectConfig(**{**vars(SMALL), "epochs": 3, "freeze": "none"})
    given = {"config": config, "seed": 3}
    whole = detect.train(scenes, boxes, encoder_of(), **given)
    seeds, batch = [], Crops.batch
    last = [derive_seed(3, "crops", 2, step) for step in range(2)]

    def killed(self, seed):
        if seed in last:
            raise KeyboardInterrupt
        return batch(self, seed)

    monkeypatch.setattr(RunDirectory, "is_due", lambda self: True)
    monkeypatch.setattr(Crops, "batch", killed)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        detect.train(scenes, boxes, encoder_of(), output_dir=out, **given)
    with pytest.raises(FileNotFoundError, match="no detector at"):
        detect.load(out)
    monkeypatch.setattr(Crops, "batch", lambda self, seed: seeds.append(seed) or batch(self, seed))
    tuned = detect.train(scenes, boxes, encoder_of(), output_dir=out, **given)
    assert seeds == last and tuned.logs["epoch"].tolist() == [1, 2, 3]
    assert alike(state(tuned.network), state(whole.network))
    assert tuned.logs["loss"].tolist() == whole.logs["loss"].tolist()
    again = detect.train(scenes, boxes, encoder_of(), output_dir=out, **given)  # it has ended
    assert seeds == last and alike(state(again.network), state(whole.network))
    other = detect.train(scenes, boxes, encoder_of(), config=config, seed=4)
    assert not alike(state(other.network), state(whole.network))
    for change in ({"seed": 4}, {"config": SMALL}):
        with pytest.raises(ValueError, match="already contains a run with another"):
            detect.train(scenes, boxes, encoder_of(), output_dir=out, **given | change)
    for data in ((scenes, boxes.iloc[1:], encoder_of()), (scenes, boxes, encoder_of(seed=1))):
        with pytest.raises(ValueError, match="already contains a run with another"):
            detect.train(*data, output_dir=out, **given)
    file = out / "last.pt"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="last.pt is damaged"):
        detect.train(scenes, boxes, encoder_of(), output_dir=out, **given)


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_is_refused_in_one_sentence(tmp_path):
    scenes, boxes = scattered(tmp_path, count=1)
    config = detect.DetectConfig(**{**vars(SMALL), "epochs": 1})
    detect.train(scenes, boxes, encoder_of(), config=config, output_dir=tmp_path)
    last = tmp_path / "last.pt"
    good = torch.load(last, weights_only=True)
    changes = [{"logs": 3}, {"optimizer": {"x": torch.zeros(1)}}, {"model": {}}, {"model": 3}]
    cut = {k: v for k, v in good.items() if k != "logs"}
    for bad in (*(good | change for change in changes), cut):
        torch.save(bad, last)
        with pytest.raises(ValueError, match="last.pt is damaged. Delete"):
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
    with pytest.raises(ValueError, match="`split` must be one of .*, got .train."):
        detect.train(scenes.assign(split="val"), boxes, encoder_of(), config=SMALL)
    with pytest.raises(ValueError, match="1.png cannot be read"):
        detect.train(scenes.iloc[:2].assign(split="train"), boxes, encoder_of(), config=SMALL)


@pytest.mark.slow
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
    with pytest.raises(ValueError, match=r"row 4 of the boxes, .*1\.png: left, top, right"):
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
    with pytest.raises(ValueError, match="loss is .* in epoch 1: .*diverged. Use a lower `lr`"):
        detect.train(scenes, boxes, encoder_of(), config=config, output_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "detector.safetensors").exists()


@pytest.mark.slow
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


@pytest.mark.slow
def test_boxes_of_other_scenes_and_other_files_are_another_run(tmp_path):
    scenes, boxes = scattered(tmp_path, count=2)
    config = detect.DetectConfig(**{**vars(SMALL), "epochs": 1})
    given = {"config": config, "output_dir": tmp_path / "run"}
    detect.train(scenes, boxes, encoder_of(), **given)
    first, second = scenes["path"]
    swapped = boxes.assign(path=boxes["path"].replace({first: second, second: first}))
    with pytest.raises(ValueError, match="already contains a run with another `boxes`"):
        detect.train(scenes, swapped, encoder_of(), **given)
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (first, second):
        (moved / os.path.basename(path)).write_bytes(Path(path).read_bytes())
    there = {path: str(moved / os.path.basename(path)) for path in (first, second)}
    tables = [table.assign(path=table["path"].replace(there)) for table in (scenes, boxes)]
    detect.train(*tables, encoder_of(), **given)  # the folder of the scenes does not matter
    with open(first, "ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match="already contains a run with another `boxes`"):
        detect.train(scenes, boxes, encoder_of(), **given)


def test_crops_that_cannot_fit_in_memory_are_refused(tmp_path):
    scenes, boxes = scattered(tmp_path, count=1)
    config = detect.DetectConfig(batch_size=10**9)
    with pytest.raises(ValueError, match="GiB are available. Lower `batch_size` or `size_px`"):
        detect.train(scenes, boxes, encoder_of(), config=config)
    with pytest.raises(ValueError, match="`epochs` must be <= 1000000, got 1000000000"):
        detect.DetectConfig(epochs=10**9)
