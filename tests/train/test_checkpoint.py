"""A run's directory: what makes another run, and what is written again."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_pretrain import TINY, run_of, write_store

import geossl
from geossl import pairs
from geossl.clusters import GeoClusters
from geossl.models import state_dicts, weights
from geossl.train import checkpoint
from geossl.utils import device as devices


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


def test_runs_of_other_versions_say_so(store, tmp_path):
    begun(store, tmp_path)
    config = tmp_path / "config.json"
    settings = json.loads(config.read_text())
    content = checkpoint.read_checkpoint(tmp_path / "last.pt")
    for number, words in ((99, "a newer geossl wrote. Update"), (1, "geossl 0.1, whose encoder")):
        changed = settings | {"format": number}
        for state in (content | {"format": number, "settings": changed}, {"step": 3}):
            checkpoint.write_checkpoint(state, tmp_path / "last.pt")
            config.write_text(json.dumps(changed))
            with pytest.raises(ValueError, match=words):
                run_of(store, output_dir=tmp_path)


def test_settings_that_json_cannot_hold_are_refused(store, tmp_path):
    class Odd(Mean):
        settings = {"folder": tmp_path}

    with pytest.raises(TypeError, match="`settings` of a run .* what JSON can hold, got a Posix"):
        run_of(store, pairs=None, objectives=[Odd()], output_dir=tmp_path / "run")


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


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A store, and the folder of a run of it that has ended."""
    folder = tmp_path_factory.mktemp("ended")
    store = write_store(folder / "chips")
    run_of(store, output_dir=folder / "run").finish(progress=False)
    return store, folder / "run"


def same_encoder(one, other):
    a, b = (load_file(folder / "encoder.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.slow
@pytest.mark.parametrize("how", ["deleted", "emptied", "cut", "flipped", "another", "of_0_1"])
def test_an_encoder_that_is_not_that_of_the_checkpoint_is_written_again(ended, tmp_path, how):
    store, whole = ended
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "encoder.safetensors"
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "another":
        net = geossl.models.build_encoder("small", bands=len(store.bands), seed=3)
        weights.save_encoder(net, path)
    elif how == "of_0_1":
        net = geossl.models.build_encoder("small", bands=len(store.bands), seed=3)
        about = json.dumps({"name": "small", "bands": len(store.bands), "stem": "small"})
        save_file(net.state_dict(), path, {"format": "1", "encoder": about})
    else:
        flipped = bytearray(content)
        flipped[-50] ^= 4
        path.write_bytes({"emptied": b"", "cut": content[:-9], "flipped": flipped}[how])
    run = run_of(store, output_dir=tmp_path / "run").finish(progress=False)
    assert run.step == run.steps and same_encoder(whole, tmp_path / "run")
    before = path.stat().st_mtime_ns
    run_of(store, output_dir=tmp_path / "run").finish(progress=False)
    assert path.stat().st_mtime_ns == before  # nothing more to do


def flips(content, count, seed=0):
    """Copies with a bit flipped: some anywhere, some in the first and in the last bytes."""
    rng = np.random.default_rng(seed)
    ends = [*range(0, 300, 17), *range(len(content) - 200, len(content), 23)]
    for at in [*rng.integers(0, len(content), count).tolist(), *ends]:
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(rng.integers(8))
        yield at, bytes(flipped)


@pytest.mark.slow
def test_a_flipped_bit_of_a_checkpoint_is_noticed(ended, tmp_path):
    _, whole = ended
    path = tmp_path / "last.pt"
    shutil.copy(whole / "last.pt", path)
    content = checkpoint.read_checkpoint(path)
    assert content["step"] > 0 and torch.load(path, weights_only=True)["step"] == content["step"]
    for at, flipped in flips(path.read_bytes(), 40):
        path.write_bytes(flipped)
        with pytest.raises(state_dicts.CheckpointError, match="last.pt is damaged. Delete it and"):
            checkpoint.read_checkpoint(path)
            pytest.fail(f"byte {at}")


def test_a_flipped_bit_of_an_encoder_is_noticed(ended, tmp_path):
    _, whole = ended
    path = tmp_path / "encoder.safetensors"
    content = (whole / "encoder.safetensors").read_bytes()
    for at, flipped in flips(content, 40):
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"encoder\.safetensors"):
            weights.load(path, input="unit")
            pytest.fail(f"byte {at}")


def test_files_without_a_checksum_are_those_of_earlier_versions(ended, tmp_path):
    store, whole = ended
    shutil.copytree(whole, tmp_path / "run")
    last = tmp_path / "run" / "last.pt"
    content = torch.load(last, weights_only=True)
    old = content["settings"] | {"format": 2}
    old["pairs"] = "temporal(min_gap_days=30.0)"
    del content["encoder"]
    torch.save(content | {"format": 2, "settings": old, "has_encoder": True}, last)
    (tmp_path / "run" / "config.json").write_text(json.dumps(old))
    given = {"pairs": pairs.temporal(min_gap_days=30), "output_dir": tmp_path / "run"}
    run = run_of(store, **given).finish(progress=False)
    assert run.step == run.steps == content["step"] and same_encoder(whole, tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["format"] == checkpoint.FORMAT
    assert settings["pairs"] == "temporal(min_gap_days=30)"
    sealed = checkpoint.read_checkpoint(last)
    torch.save(sealed, last)  # of this format, so its checksum was lost
    with pytest.raises(ValueError, match="last.pt is damaged"):
        run_of(store, **given)
    torch.save(content | {"format": 2, "settings": old, "has_encoder": True}, last)
    damaged = bytearray(last.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    last.write_bytes(damaged)
    with pytest.raises(ValueError, match="last.pt is damaged"):
        run_of(store, **given)


@pytest.mark.slow
def test_the_checkpoint_says_which_run_it_is(ended, tmp_path):
    store, whole = ended
    run_of(store, output_dir=tmp_path / "other", seed=1).finish(progress=False)
    shutil.copytree(whole, tmp_path / "run")
    shutil.copy(tmp_path / "other" / "last.pt", tmp_path / "run")
    with pytest.raises(ValueError, match=r"another `seed` \(1, not 0\)"):
        run_of(store, output_dir=tmp_path / "run")
    resumed = run_of(store, output_dir=tmp_path / "run", seed=1).finish(progress=False)
    assert resumed.step == resumed.steps and same_encoder(tmp_path / "other", tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    for content in (None, "{", "[]", "null", '{"format": null}', '{"format": 99}'):
        config.unlink()
        if content:
            config.write_text(content)
        with pytest.raises(ValueError, match=r"another `seed` \(1, not 0\)"):
            run_of(store, output_dir=tmp_path / "run")
        run_of(store, output_dir=tmp_path / "run", seed=1)
        assert json.loads(config.read_text())["seed"] == 1


def test_a_call_that_did_not_train_does_not_block_the_next(store, tmp_path):
    out = tmp_path / "run"
    run_of(store, output_dir=out, seed=1)  # never iterated
    run = run_of(store, output_dir=out, seed=2).finish(progress=False)
    assert run.step == run.steps and json.loads((out / "config.json").read_text())["seed"] == 2


@pytest.mark.slow
def test_what_is_no_file_is_refused_and_a_torn_log_resumes(ended, tmp_path):
    store, whole = ended
    logs = (whole / "log.jsonl").read_text()
    for name in ("config.json", "log.jsonl", "last.pt", "encoder.safetensors"):
        for make in (os.mkdir, os.mkfifo):
            out = tmp_path / name / make.__name__
            shutil.copytree(whole, out)
            (out / name).unlink()
            make(out / name)
            with pytest.raises(ValueError, match=f"{name} must be a file of the run. Remove it"):
                run_of(store, output_dir=out)
            os.rmdir(out / name) if make is os.mkdir else os.unlink(out / name)
            run_of(store, output_dir=out).finish(progress=False)
            if name != "last.pt":
                assert same_encoder(whole, out)
                assert (out / "log.jsonl").read_text() == logs
    out = tmp_path / "torn"
    shutil.copytree(whole, out)
    (out / "log.jsonl").write_text(logs + '{"step": 3, "lo')
    run_of(store, output_dir=out).finish(progress=False)
    assert (out / "log.jsonl").read_text() == logs


OTHER = """
import sys
sys.path.insert(0, {tests!r})
from test_pretrain import ChipStore, run_of
run = run_of(ChipStore.open({store!r}), output_dir={out!r})
logs = iter(run)
next(logs)
print("training", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_two_processes_do_not_train_in_one_directory(store, tmp_path):
    out = tmp_path / "run"
    code = textwrap.dedent(OTHER).format(
        tests=str(Path(__file__).parent), store=str(store.path), out=str(out)
    )
    waiting = run_of(store, output_dir=out)
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "training\n"
    with pytest.raises(BlockingIOError, match="Another process is writing to .*run. Wait until"):
        run_of(store, output_dir=out)
    with pytest.raises(BlockingIOError, match="Another process is writing to"):
        waiting.finish(progress=False)
    other.kill()
    other.communicate()
    run = run_of(store, output_dir=out).finish(progress=False)
    lines = (out / "log.jsonl").read_text().splitlines()
    assert run.step == run.steps and len(lines) == len(run.logs) == 5
    assert not list(out.glob("*.part*"))
    with pytest.raises(ValueError, match="has changed since this run was opened. Make the same"):
        waiting.finish(progress=False)


def test_a_run_that_was_left_behind_does_not_overwrite_the_one_that_went_on(store, tmp_path):
    left = run_of(store, output_dir=tmp_path / "run")
    logs = iter(left)
    next(logs)
    whole = run_of(store, output_dir=tmp_path / "run").finish(progress=False)
    logs.close()
    again = run_of(store, output_dir=tmp_path / "run")
    assert again.step == whole.steps


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"queue_size": 10**12}, "Lower `queue_size` or `projection_dim`"),
        ({"projection_dim": 10**12}, "Lower `queue_size` or `projection_dim`|`projection_dim`"),
        ({"transform": geossl.transforms.Views(size_px=10**7)}, "the size of `transform`"),
    ],
)
def test_sizes_that_cannot_fit_are_refused_before_anything_is_written(
    store, tmp_path, changes, words
):
    config = dataclasses.replace(TINY, **changes)
    with pytest.raises(ValueError, match=rf"needs at least [\d,.]+ GiB .*available. .*({words})"):
        run_of(store, config=config, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_memory_that_is_there_is_used(monkeypatch):
    cpu = torch.device("cpu")
    free = devices.available_memory(cpu)
    assert free is None or 2**28 < free < 2**50
    monkeypatch.setattr(devices, "available_memory", lambda device: 2**30)
    devices.check_memory({"a": 2**29, "b": 2**29}, cpu)
    with pytest.raises(ValueError, match=r"at least 1.2 GiB .* 1.0 GiB are available. Lower b\."):
        devices.check_memory({"a": 2**29, "b": 3 * 2**28}, cpu)
    monkeypatch.setattr(devices, "available_memory", lambda device: None)
    devices.check_memory({"a": 2**80}, cpu)


@pytest.mark.parametrize("epochs", [float("inf"), float("nan"), 1e9, 0])
def test_epochs_without_end_are_refused(epochs):
    with pytest.raises(ValueError, match="`epochs` must be"):
        dataclasses.replace(TINY, epochs=epochs)
