"""A training that is killed at any file operation, and started again by the same line."""

import json
import os
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from detect_scenes import encoder_of
from segment_scenes import NAMES, small, squares

import geossl
from geossl.data.store import ChipStore
from geossl.tasks import detect, segment
from geossl.tasks.finetune import FineTuneConfig, fine_tune
from geossl.transforms import Views
from geossl.utils.io import digest, file_digest

CLOCK = {"seconds", "seconds_left", "pairs_per_s"}
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate", "shutil.rmtree")


class Recorder:
    """Copy a folder before each operation that changes it: what a kill there would leave."""

    def __init__(self):
        self.folder, self.copies, self.states = None, None, {}
        sys.addaudithook(self.hook)

    def hook(self, event, args):
        folder = self.folder
        if folder is None or event not in CHANGES:
            return
        path = args[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        reads = event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if reads or not os.fsdecode(path).startswith(str(folder)):
            return
        self.folder = None  # the copy itself is not recorded
        content = [(path.name, file_digest(path)) for path in sorted(folder.glob("*"))]
        key = repr((folder.exists(), content))
        if key not in self.states:
            self.states[key] = self.copies / f"{len(self.states):02}"
            if folder.exists():
                shutil.copytree(folder, self.states[key])
        self.folder = folder

    def states_of(self, act, folder, copies):
        """Return copies of all states that a folder is in while a training writes to it."""
        self.states, self.copies, self.folder = {}, copies, folder
        copies.mkdir()
        try:
            act(folder)
        finally:
            self.folder = None
        return list(self.states.values())


RECORDER = Recorder()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return squares(tmp_path_factory.mktemp("scenes"), 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(0)
    np.save(path / "chips.npy", rng.integers(0, 255, (16, 3, 8, 8), dtype=np.uint8))
    pd.DataFrame({
        "path": [f"{i}.png" for i in range(16)], "location": np.arange(16) // 2,
        "lon": np.arange(16) // 2 * 10.0, "lat": 0.0, "label": np.repeat(["a", "b"], 8),
        "time": pd.to_datetime(["2020-01-01", "2021-01-01"] * 8, utc=True),
        "split": ["train"] * 6 + ["test"] * 2 + ["train"] * 6 + ["test"] * 2,
    }).to_parquet(path / "scenes.parquet")  # fmt: skip
    info = {
        "format": 1, "bands": ["r", "g", "b"], "mean": [127.0] * 3, "std": [74.0] * 3,
        "size_px": 8, "dtype": "uint8", "rgb": [0, 1, 2], "units": "", "source": "", "n": 16,
        "bad": {},
    }  # fmt: skip
    (path / "store.json").write_text(json.dumps(info))
    return ChipStore.open(path)


@pytest.fixture
def trainers(store, scenes):
    def pretrain(out):
        config = geossl.PretrainConfig(
            epochs=1, batch_size=4, queue_size=8, projection_dim=4, transform=Views(), log_every=2,
            checkpoint_every_s=0,
        )  # fmt: skip
        geossl.pretrain(store, pairs=geossl.pairs.temporal(), config=config, output_dir=out).finish(
            progress=False
        )

    def finetune(out):
        config = FineTuneConfig(epochs=2, batch_size=6)
        fine_tune(store, small(), config=config, output_dir=out)

    def segmentation(out):
        config = segment.SegmentConfig(epochs=2, batch_size=2, size_px=16, width=4)
        segment.train(scenes, small(), classes=NAMES, config=config, output_dir=out)

    def detection(out):
        boxes = pd.DataFrame({
            "path": scenes["path"], "box_left": 1.0, "box_top": 2.0, "box_right": 9.0,
            "box_bottom": 8.0, "label": "a",
        })  # fmt: skip
        config = detect.DetectConfig(epochs=2, crops=2, batch_size=1, size_px=16, width=8)
        detect.train(scenes, boxes, encoder_of(), config=config, output_dir=out)

    return {f.__name__: f for f in (pretrain, finetune, segmentation, detection)}


def end_of(folder):
    """What a run leaves: its log without the clock, the tensors, and the names of its files."""
    logs = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    (weights,) = folder.glob("*.safetensors")
    texts, tensors = geossl.models.state_dicts.read_safetensors(weights)
    texts = {k: v for k, v in texts.items() if k != "checksum"}
    return (
        [{k: v for k, v in log.items() if k not in CLOCK} for log in logs],
        {name: digest(value.numpy().tobytes()) for name, value in tensors.items()},
        texts,
        (folder / "config.json").read_text(),
        sorted(path.name for path in folder.iterdir()),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain", "finetune", "segmentation", "detection"])
def test_killed_at_any_file_operation_the_same_line_leads_to_the_same_end(
    name, trainers, tmp_path, monkeypatch
):
    monkeypatch.setattr("geossl.train.checkpoint.RunDirectory.is_due", lambda run: True)
    monkeypatch.setattr("geossl.models.encoder._WIDTHS", (4, 4, 8, 8))
    train = trainers[name]
    states = RECORDER.states_of(train, tmp_path / "whole", tmp_path / "states")
    want = end_of(tmp_path / "whole")
    assert len(states) > 10
    for i, state in enumerate(states):
        if i % 4 == 3:  # killed once more, in the second session
            again = RECORDER.states_of(train, state, tmp_path / f"again{i}")
            state = again[len(again) // 2]
        train(state)
        assert end_of(state) == want, state
