"""A run's directory: what makes another run, and what is written again."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_pretrain import TINY, run_of, write_store

import geossl
from geossl import pairs
from geossl.clusters import GeoClusters


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "chips")


class Mean(geossl.train.Objective):
    name = "mean"

    def loss(self, model, batch):
        return batch.embedding.mean(), {}


def begun(store, folder, **options):
    run = run_of(store, output_dir=folder, **options)
    next(iter(run))
    return run


def test_an_objective_that_is_no_longer_there_is_another_run(store, tmp_path):
    both = [geossl.train.Contrastive(), Mean()]
    begun(store, tmp_path / "a", objectives=both)
    with pytest.raises(ValueError, match=r"another `objective.mean` .* not absent"):
        run_of(store, output_dir=tmp_path / "a", objectives=both[:1])
    clusters = GeoClusters.fit(store.scenes, k=3, seed=0)
    begun(store, tmp_path / "b", geo=clusters)
    with pytest.raises(ValueError, match="another `objective.geo`"):
        run_of(store, output_dir=tmp_path / "b")


def test_other_clusters_labels_or_locations_are_another_run(store, tmp_path):
    clusters = GeoClusters.fit(store.scenes, k=3, seed=0)
    begun(store, tmp_path / "geo", geo=clusters)
    turned = dataclasses.replace(clusters, centers=clusters.centers[::-1].copy())
    with pytest.raises(ValueError, match="another `centers`"):
        run_of(store, output_dir=tmp_path / "geo", geo=turned)
    begun(store, tmp_path / "label", pairs=None, label="label")
    table = store.scenes
    other = table.assign(label=np.roll(table["label"], 2))
    with pytest.raises(ValueError, match="another `codes`"):
        changed = dataclasses.replace(store, scenes=other)
        run_of(changed, output_dir=tmp_path / "label", pairs=None, label="label")
    begun(store, tmp_path / "pairs")
    halved = dataclasses.replace(store, scenes=table.assign(location=table["location"] // 2))
    with pytest.raises(ValueError, match="another `store`"):
        run_of(halved, output_dir=tmp_path / "pairs")


def test_an_encoder_that_was_deleted_is_written_again(store, tmp_path):
    whole = run_of(store, output_dir=tmp_path / "run").finish(progress=False)
    path = tmp_path / "run" / "encoder.safetensors"
    weights = load_file(path)
    path.unlink()
    again = run_of(store, output_dir=tmp_path / "run").finish(progress=False)
    assert again.step == whole.steps
    for name, value in load_file(path).items():
        assert torch.equal(value, weights[name]), name


def test_numbers_of_numpy_are_settings_too(store, tmp_path):
    config = dataclasses.replace(TINY, batch_size=np.int64(8), lr=np.float32(0.01))
    begun(store, tmp_path / "run", config=config, seed=np.int64(3))
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["seed"] == 3 and settings["config"]["batch_size"] == 8


def test_objectives_that_do_not_fit_each_other_or_torch_are_refused(store):
    class Paired(Mean):
        name, views = "paired", 2

    class Type(Mean):
        name = "type"

    class Heavy(Mean):
        weight = "much"

    given = {"objectives": [geossl.train.Contrastive(), Paired()], "pairs": pairs.temporal()}
    with pytest.raises(ValueError, match="`bn_splits` must be 1 for the objective 'paired', got 2"):
        run_of(store, config=dataclasses.replace(TINY, bn_splits=2), **given)
    with pytest.raises(ValueError, match="must not be 'type'"):
        run_of(store, objectives=[Type()], pairs=None)
    with pytest.raises(TypeError, match="`weight of mean` must be a number"):
        run_of(store, objectives=[Heavy()], pairs=None)
