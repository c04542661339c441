"""Samplers and objectives from outside the package; the code is that of the pages in docs/."""

import dataclasses
import importlib.util
import inspect
import json
import re
import sys
from pathlib import Path

import folium
import numpy as np
import pytest
import torch
from test_pretrain import CLOCK, TINY, assert_same_run, write_store

import geossl
from geossl import pairs, pretrain
from geossl.cli import train as commands
from geossl.models import hub

DOCS = Path(__file__).parents[1] / "docs"


def from_page(page, name, folder):
    """The module that a code block of a page begins with: ``# name.py``."""
    text = (DOCS / page).read_text("utf-8")
    (code,) = re.findall(rf"```python\n(# {name}\.py\n.*?)```", text, re.DOTALL)
    (folder / f"{name}.py").write_text(code, "utf-8")
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("extensions") / "chips")


def stopped_and_resumed(store, folder, options):
    """A run that is stopped after its first record and resumed, and the same run in one piece."""
    config = dataclasses.replace(TINY, epochs=3, bn_splits=1)
    whole = pretrain(store, config=config, **options()).finish(progress=False)
    first = pretrain(store, config=config, output_dir=folder, **options())
    next(iter(first))
    assert 0 < first.step < first.steps
    resumed = pretrain(store, config=config, output_dir=folder, **options())
    assert resumed.step == first.step
    resumed.finish(progress=False)
    assert_same_run(whole, resumed)
    return resumed


@pytest.mark.slow
def test_a_sampler_from_outside_runs_stops_and_resumes(store, tmp_path):
    SameLabel = from_page("extend_pairs.md", "label_pairs", tmp_path).SameLabel
    table = store.scenes
    query, key = SameLabel().prepare(table)(torch.Generator().manual_seed(0))
    label, location = table["label"].to_numpy(), table["location"].to_numpy()
    assert len(query) > 20 and (label[query] == label[key]).all()
    assert (location[query] != location[key]).all()
    resumed = stopped_and_resumed(store, tmp_path / "run", lambda: {"pairs": SameLabel()})
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["pairs"] == "same_label(label)"
    assert resumed.logs["contrastive_loss"].notna().all()
    with pytest.raises(
        ValueError, match=r"another `pairs` \(same_label\(label\), not temporal\(\)\)"
    ):
        pretrain(store, pairs=pairs.temporal(), config=TINY, output_dir=tmp_path / "run")
    both = pairs.mixture((SameLabel(), 1), (pairs.same_image(), 1))
    assert pairs.report(both, table)["n_pairs"] == len(table)


@pytest.mark.slow
def test_an_objective_from_outside_learns_stops_and_resumes(store, tmp_path):
    GeoRegression = from_page("extend_objectives.md", "geoloss", tmp_path).GeoRegression
    resumed = stopped_and_resumed(
        store, tmp_path / "run", lambda: {"objectives": [GeoRegression(weight=0.5)]}
    )
    logs = resumed.logs
    np.testing.assert_allclose(logs["loss"], 0.5 * logs["position_loss"], rtol=1e-5)
    assert logs["position_error_deg"].between(0, 180).all()
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["position_loss"] for line in lines] == logs["position_loss"].tolist()
    long = dataclasses.replace(TINY, epochs=40, lr=1e-2, bn_splits=1)
    logs = pretrain(store, objectives=[GeoRegression()], config=long).finish(progress=False).logs
    assert logs["position_error_deg"].tail(5).mean() < logs["position_error_deg"].iloc[0] - 15
    with pytest.raises(ValueError, match=r"another `weight` \(0.5, not 2.0\)"):
        pretrain(
            store,
            objectives=[GeoRegression(weight=2.0)],
            config=dataclasses.replace(TINY, epochs=3, bn_splits=1),
            output_dir=tmp_path / "run",
        )


def test_the_monitor_shows_an_objective_from_outside(store, tmp_path, capsys):
    GeoRegression = from_page("extend_objectives.md", "geoloss", tmp_path).GeoRegression
    run = pretrain(store, objectives=[GeoRegression()], config=TINY)
    geossl.viz.widgets.TrainingMonitor(run, every_s=0).watch()
    lines = capsys.readouterr().err.splitlines()
    assert "position error deg" in lines[-1] and "finished" in lines[-1]
    figure = geossl.viz.plots.plot_training(run.logs)
    texts = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    assert any("position" in text.get_text() for text in texts)


@pytest.mark.slow
def test_a_loss_of_lightly_is_an_objective_of_ten_lines(store, tmp_path):
    pytest.importorskip("lightly.loss")
    NTXent = from_page("extend_objectives.md", "lightly_loss", tmp_path).NTXent
    resumed = stopped_and_resumed(
        store,
        tmp_path / "run",
        lambda: {"pairs": pairs.temporal(), "objectives": [NTXent()]},
    )
    assert list(resumed.logs.drop(columns=CLOCK))[3] == "ntxent_loss"
    assert "contrastive_loss" not in resumed.logs
    assert resumed._moco.queue.shape[0] == 1  # nobody uses the queue
    code = (tmp_path / "lightly_loss.py").read_text()
    assert len([line for line in code.splitlines() if line.strip()]) <= 11


def test_the_parts_work_without_the_loop(store, tmp_path):
    train = from_page("extend_objectives.md", "own_loop", tmp_path).train
    images = store.gather(np.arange(len(store))).float() / 255
    encoder, loss = train(images, store.scenes, epochs=2, batch_size=16)
    assert np.isfinite(loss) and encoder(images[:2]).shape == (2, 256)


def test_objectives_and_pairs_that_do_not_fit_are_refused(store):
    class Empty(geossl.train.Objective):
        name = "empty"

        def loss(self, model, batch):
            return batch.embedding.sum() * 0, {}

    class Paired(Empty):
        name, views = "paired", 2

    with pytest.raises(ValueError, match="`pairs` is needed by the objective 'paired'"):
        pretrain(store, objectives=[Paired()])
    with pytest.raises(ValueError, match="`pairs` must be None"):
        pretrain(store, pairs=pairs.temporal(), objectives=[Empty()])
    with pytest.raises(ValueError, match="needs a `name` of its own"):
        pretrain(store, objectives=[Empty(), Empty()])
    with pytest.raises(TypeError, match=r"`objectives\[0\]` must be an Objective"):
        pretrain(store, objectives=[lambda: None])
    with pytest.raises(TypeError, match="`pairs` must be a PairSampler, got 'temporal'"):
        pretrain(store, pairs="temporal")


def test_what_a_loss_or_a_sampler_returns_is_checked(store):
    class Alone(geossl.train.Objective):
        name = "alone"

        def loss(self, model, batch):
            return batch.embedding.mean()

    class Detached(Alone):
        def loss(self, model, batch):
            return batch.embedding.mean().detach(), {}

    class Number(Alone):
        def loss(self, model, batch):
            return batch.embedding.mean(), {"x": "high"}

    class Silent(geossl.train.Objective):
        name = "silent"

    for objective, message in (
        (Alone(), r"must return \(loss, metrics\), got Tensor"),
        (Detached(), "a scalar tensor with gradient"),
        (Number(), "scalar tensors as its metrics"),
    ):
        with pytest.raises(TypeError, match=message):
            next(iter(pretrain(store, objectives=[objective], config=TINY)))
    with pytest.raises(NotImplementedError, match="Silent needs a method `loss`"):
        next(iter(pretrain(store, objectives=[Silent()], config=TINY)))

    class Sampler:
        name = "wrong"

        def __init__(self, result):
            self.result = result

        def prepare(self, table):
            return lambda generator: self.result

    rows = torch.arange(20)
    for result, message in (
        (None, "must draw two int64 tensors"),
        ((rows, rows[:5]), "must draw two int64 tensors"),
        ((rows.float(), rows), "must draw two int64 tensors"),
        ((rows, rows + 1000), "must draw rows from 0 to 39"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            pretrain(store, pairs=Sampler(result), config=TINY)


def test_a_run_does_not_begin_in_a_chip_store_or_a_file(store, tmp_path):
    with pytest.raises(ValueError, match="holds a chip store"):
        pretrain(store, pairs=pairs.temporal(), config=TINY, output_dir=store.path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        pretrain(store, pairs=pairs.temporal(), config=TINY, output_dir=tmp_path / "file")


@pytest.mark.parametrize("kind", ["VICRegLoss", "BarlowTwinsLoss", "BYOL", "SimSiam"])
def test_further_losses_of_lightly_are_objectives(store, tmp_path, kind):
    lightly = pytest.importorskip("lightly.loss")
    if kind in ("BYOL", "SimSiam"):
        objective = from_page("extend_objectives.md", "byol", tmp_path).BYOL
        if kind == "SimSiam":  # as the page says
            code = (tmp_path / "byol.py").read_text()
            code = code.replace("        model.update_key()\n", "")
            code = code.replace(
                "model.key(batch.views[1])", "model.query(batch.views[1])[1].detach()"
            )
            names = {}
            exec(code, names)
            objective = names["BYOL"]
    else:
        NTXent = from_page("extend_objectives.md", "lightly_loss", tmp_path).NTXent
        objective = type(kind, (NTXent,), {"criterion": getattr(lightly, kind)()})
    config = dataclasses.replace(TINY, epochs=6, batch_size=20)
    run = pretrain(store, pairs=pairs.temporal(), objectives=[objective()], config=config)
    before = [p.clone() for p in run._moco.key_encoder.parameters()]
    run.finish(progress=False)
    assert run.logs["loss"].iloc[-1] < run.logs["loss"].iloc[0]
    moved = any(
        not torch.equal(a, b)
        for a, b in zip(before, run._moco.key_encoder.parameters(), strict=True)
    )
    assert moved == (kind == "BYOL")


def test_objectives_that_come_with_geossl_are_those_of_the_page(tmp_path, monkeypatch):
    text = (DOCS / "extend_objectives.md").read_text("utf-8")
    section = text.split("## Objectives that come with geossl")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert set(listed) == {
        name for name in geossl.train.__all__
        if isinstance(getattr(geossl.train, name), type)
        and issubclass(getattr(geossl.train, name), geossl.train.Objective)
    } - {"Objective"}  # fmt: skip
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(TINY, batch_size=16)
    names = {"store": write_store(tmp_path / "chips"), "geossl": geossl}
    train = geossl.pretrain
    monkeypatch.setattr(geossl, "pretrain", lambda *a, **k: train(*a, config=config, **k))
    exec(code, names)
    assert isinstance(names["map_of_places"], folium.Map) and len(names["table"]) == 24


def test_the_page_about_weights_is_true(tmp_path, monkeypatch):
    """Its program runs, on a store and weights that are here; its names are those that exist."""
    text = (DOCS / "weights.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    geossl.models.save_encoder(geossl.models.build_encoder(), "gassl")
    store = write_store(tmp_path / "chips", places=200)
    monkeypatch.setattr(geossl.ChipStore, "open", lambda path: store)
    names = {}
    exec(code, names)
    assert names["run"].step == 0 and names["run"].config.encoder == "tiny"
    told = set(re.findall(r"`([a-z0-9-]+)`", text.split("**Names**")[1].split("**Files.**")[0]))
    assert told - {"blue_marble"} == set(hub.WEIGHTS)
    help_text = inspect.getdoc(commands.embed)
    assert set(re.findall(r"[a-z0-9]+(?:-rgb)?-resnet\d+|gassl", help_text)) == set(hub.WEIGHTS)
