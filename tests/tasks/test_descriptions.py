"""Descriptions in files of encoders, detectors and segmenters that were edited."""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from segment_scenes import NAMES, squares

from geossl import models
from geossl.models import state_dicts, weights
from geossl.tasks import detect, segment

JUNK = [
    None,
    True,
    -1,
    0,
    1.5,
    10**18,
    10**30,
    "x",
    "",
    [],
    [[1]],
    {},
    {"a": 1},
    [None],
    float("nan"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    scenes = squares(folder, 2)
    tiny = models.build_encoder("tiny", mean=[60.0] * 3, std=[40.0] * 3)
    boxes = pd.DataFrame({
        "path": scenes["path"], "box_left": 1.0, "box_top": 2.0, "box_right": 9.0,
        "box_bottom": 8.0, "label": "a",
    })  # fmt: skip
    config = detect.DetectConfig(epochs=1, crops=2, batch_size=2, size_px=32, width=8)
    detect.train(scenes, boxes, tiny, config=config).save(folder)
    config = segment.SegmentConfig(epochs=1, batch_size=2, size_px=32, width=8)
    segment.train(scenes, tiny, classes=NAMES, config=config).save(folder)
    note = {"bands": ["red", "green", "blue"], "units": "counts"}
    weights.save_encoder(tiny, folder, metadata=note)
    return folder


def edited(value):
    """Copies of a description with junk in the place of one of its parts."""
    yield from JUNK
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            yield from (value | {key: other} for other in edited(value[key]))
    elif isinstance(value, list):
        for i in range(min(len(value), 2)):
            yield from ([*value[:i], other, *value[i + 1 :]] for other in edited(value[i]))


LOADERS = {"encoder": weights.load, "detector": detect.load, "segmenter": segment.load}


@pytest.fixture
def networks_begin_as_they_are(monkeypatch):
    """No draws for the weights of a network whose weights are loaded next, a thousand times."""
    for name in ("kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.mark.slow
@pytest.mark.usefixtures("networks_begin_as_they_are")
@pytest.mark.parametrize("kind", LOADERS)
def test_an_edited_description_loads_or_is_refused_in_one_sentence(files, tmp_path, kind):
    texts, tensors = state_dicts.read_safetensors(files / f"{kind}.safetensors")
    texts = {k: v for k, v in texts.items() if k != "checksum"} | {"format": "1"}
    path, load = tmp_path / f"{kind}.safetensors", LOADERS[kind]
    save_file(tensors, path, texts)
    load(path)
    refused = 0
    for name in texts:
        for content in edited(json.loads(texts[name])):
            text = str(content) if name == "format" else json.dumps(content)
            save_file(tensors, path, texts | {name: text})
            try:
                load(path)
            except state_dicts.CheckpointError as error:
                assert str(path) in str(error) and "\n" not in str(error), content
                refused += 1
    assert refused > 40


@pytest.mark.parametrize("kind", LOADERS)
def test_a_changed_value_is_noticed_by_the_checksum(files, tmp_path, kind):
    path = files / f"{kind}.safetensors"
    texts, tensors = state_dicts.read_safetensors(path)
    name = next(name for name in tensors if name.endswith("weight"))
    changes = [{name: tensors[name] * (1 + 1e-7)}, {name: tensors[name].half()}]
    copy = tmp_path / path.name
    for change in changes:
        save_file(tensors | change, copy, texts)
        with pytest.raises(state_dicts.CheckpointError, match="damaged: its checksum is another"):
            LOADERS[kind](copy)
    save_file(tensors, copy, texts)
    LOADERS[kind](copy)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_normalization_that_is_none_is_refused(files, tmp_path, name):
    texts, tensors = state_dicts.read_safetensors(files / "encoder.safetensors")
    texts = {k: v for k, v in texts.items() if k != "checksum"} | {"format": "1"}
    path, good = tmp_path / "encoder.safetensors", tensors[name]
    bads = [good[:2], good[None], good * float("nan"), good.bool(), good.long(), good.cfloat()]
    for bad in bads + [good * 0, -good] * (name == "std"):
        save_file(tensors | {name: bad.contiguous()}, path, texts)
        with pytest.raises(state_dicts.CheckpointError, match=rf"{name}.*"):
            weights.load(path)
    rest = {key: value for key, value in tensors.items() if key != name}
    save_file(rest, path, texts)
    with pytest.raises(state_dicts.CheckpointError, match=f"`{name}`"):
        weights.load(path)
