import copy
import dataclasses
import importlib
import json
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from geossl import models, pairs, pretrain
from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.models.encoder import has_correct_bf16_gradients
from geossl.train import loader, optim, setup
from geossl.train.config import PretrainConfig, paper_config
from geossl.train.loader import ChipPrefetcher, load_to_gpu
from geossl.train.logs import Log
from geossl.transforms import Views, moco_v2
from geossl.utils import dist
from geossl.utils.cpu import single_threaded

pretraining = importlib.import_module("geossl.train.pretrain")

TINY = PretrainConfig(
    epochs=2, batch_size=8, queue_size=20, projection_dim=16, transform=Views(size_px=16),
    log_every=2, knn_every=2, precision="fp32", checkpoint_every_s=0,
)  # fmt: skip
CLOCK = ["pairs_per_s", "seconds", "seconds_left"]


def write_store(path, *, places=24, dates=2, bands=3, dtype="uint8"):
    """A chip store as it lies on disk, without any reader."""
    rng = np.random.default_rng(0)
    n = places * dates
    path.mkdir(parents=True)
    location = np.repeat(np.arange(places), dates)
    base = rng.integers(0, 100, (places, bands, 16, 16))
    base[1::2, 0] += 100  # what the label says
    chips = base[location] + rng.integers(0, 50, (n, bands, 16, 16))
    np.save(path / "chips.npy", chips.astype(dtype))
    table = pd.DataFrame({
        "path": [f"{i}" for i in range(n)],
        "location": location,
        "time": pd.to_datetime("2020-01-01", utc=True)
        + pd.to_timedelta(np.tile(np.arange(dates) * 100, places), "D"),
        "lon": rng.uniform(-180, 180, places)[location],
        "lat": rng.uniform(-80, 80, places)[location],
        "label": np.where(location % 2, "odd", "even"),
        "split": np.where(location % 6 == 0, "val", "train"),
    })  # fmt: skip
    table.to_parquet(path / "scenes.parquet")
    info = {
        "format": 1, "bands": [f"b{i}" for i in range(bands)], "mean": [125.0] * bands,
        "std": [60.0] * bands, "size_px": 16, "dtype": dtype, "rgb": [0, 0, 0], "units": "counts",
        "source": "test", "n": n, "bad": {},
    }  # fmt: skip
    (path / "store.json").write_text(json.dumps(info))
    return ChipStore.open(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("pretraining") / "chips")


def weights_of(run):
    return {k: v for k, v in run._moco.state_dict().items() if torch.is_tensor(v)}


def assert_same_run(a, b):
    assert a.step == b.step
    for name, value in weights_of(a).items():
        assert torch.equal(value, weights_of(b)[name]), name
    assert a._moco.pointer == b._moco.pointer
    pd.testing.assert_frame_equal(a.logs.drop(columns=CLOCK), b.logs.drop(columns=CLOCK))


def run_of(store, **changes):
    settings = {"pairs": pairs.temporal(), "config": TINY, "seed": 0, **changes}
    return pretrain(store, **settings)


METHODS = {
    "moco": {"pairs": pairs.same_image()},
    "moco+tp": {"pairs": pairs.temporal()},
    "geoloc": {"pairs": None, "geo": True},
    "moco+geo+tp": {"pairs": pairs.temporal(), "geo": True},
    "supervised": {"pairs": None, "label": "label"},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_learns_what_it_is_told(store, method):
    given = dict(METHODS[method])
    if given.pop("geo", False):
        given["geo"] = GeoClusters.fit(store.scenes, k=3, seed=0)
    run = run_of(store, **given).finish(progress=False)
    logs = run.logs
    fixed = [f.name for f in dataclasses.fields(Log) if f.name != "metrics"]
    assert [name for name in logs if name in fixed] == fixed
    assert run.step == run.steps == logs["step"].iloc[-1]
    assert logs["loss"].notna().all() and np.isfinite(logs["loss"]).all()
    assert ("contrastive_loss" in logs) == (given["pairs"] is not None)
    assert ("geo_loss" in logs) == ("geo" in given)
    assert ("label_loss" in logs) == ("label" in given)
    assert logs["knn"].notna().any()
    parts = [c for c in ("contrastive_loss", "geo_loss", "label_loss") if c in logs]
    assert logs[parts].notna().all(axis=None)
    np.testing.assert_allclose(logs[parts].sum(axis=1), logs["loss"], rtol=1e-5)


@pytest.mark.slow
def test_it_learns(store):
    """A run that learns ends far below one that stands still on the same pairs and views."""
    whole = dataclasses.replace(TINY, epochs=15, bn_splits=1)  # splits of two images tell nothing
    learning, still = (
        run_of(store, config=dataclasses.replace(whole, lr=lr)).finish(progress=False).logs
        for lr in (0.03, 1e-9)
    )
    last = [logs["contrastive_loss"].tail(5).mean() for logs in (learning, still)]
    assert last[0] < last[1] - 0.2
    logs = run_of(store, pairs=None, label="label", config=whole).finish(progress=False).logs
    assert logs["label_accuracy"].tail(5).mean() > 0.85


def test_the_same_seed_gives_the_same_run_and_the_global_state_is_left_alone(store):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, c = (run_of(store, seed=s).finish(progress=False) for s in (0, 0, 1))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert_same_run(a, b)
    assert not torch.equal(a._moco.queue, c._moco.queue)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_run_goes_on_bit_for_bit(store, tmp_path, accumulate):
    config = dataclasses.replace(TINY, accumulation_steps=accumulate, epochs=4)
    whole = run_of(store, config=config).finish(progress=False)
    for stops in (1, 2):
        run = run_of(store, config=config, output_dir=tmp_path / "run")
        for seen, _ in enumerate(run, 1):
            if seen == stops:
                break
        assert run.step < run.steps
    last = run_of(store, config=config, output_dir=tmp_path / "run").finish(progress=False)
    assert_same_run(whole, last)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == whole.logs["step"].tolist()
    again = run_of(store, config=config, output_dir=tmp_path / "run")
    assert list(again) == [] and len(again.logs) == len(whole.logs)


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_pretrain import TINY, ChipStore, pairs, pretrain
pretraining = sys.modules["geossl.train.pretrain"]
import dataclasses
kill_at = int(sys.argv[1])
config = dataclasses.replace(TINY, epochs=4)
run = pretrain(ChipStore.open({store!r}), pairs=pairs.temporal(), config=config, output_dir={out!r})
real = run._one_step
def one_step():
    if run.step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    real()
run._one_step = one_step
run.finish(progress=False)
"""


@pytest.mark.slow
def test_a_run_killed_at_any_step_and_resumed_equals_the_run_that_was_not(store, tmp_path):
    out = tmp_path / "run"
    code = textwrap.dedent(CHILD).format(
        tests=str(__import__("pathlib").Path(__file__).parent), store=str(store.path), out=str(out)
    )
    for step in (0, 7, 12):
        done = subprocess.run([sys.executable, "-c", code, str(step)], capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    config = dataclasses.replace(TINY, epochs=4)
    resumed = run_of(store, config=config, output_dir=out)
    assert 0 < resumed.step < resumed.steps
    assert_same_run(
        run_of(store, config=config).finish(progress=False), resumed.finish(progress=False)
    )
    assert not [p for p in out.iterdir() if "part" in p.name]


@pytest.mark.parametrize("kept", [False, True])
def test_a_state_is_gathered_where_a_checkpoint_is_written(store, tmp_path, kept):
    run = run_of(store, output_dir=tmp_path if kept else None)
    gathered, plain = [], run._optimizer.state_dict
    run._optimizer.state_dict = lambda: gathered.append(run.step) or plain()
    next(logs := iter(run))
    assert gathered == ([run.step] if kept else [])
    logs.close()


@pytest.mark.slow
def test_an_interrupt_leaves_a_usable_encoder_and_a_run_that_goes_on(store, tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
    config = dataclasses.replace(TINY, epochs=4, checkpoint_every_s=1e9)
    run = run_of(store, config=config, output_dir=tmp_path)
    real = run._one_step

    def interrupted():
        if run.step == 5:
            signal.raise_signal(signal.SIGINT)  # as Ctrl-C in the middle of a step
        real()

    run._one_step = interrupted
    with pytest.raises(KeyboardInterrupt):
        run.finish(progress=False)
    assert run.step == 6 and not run.encoder.training
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (tmp_path / "encoder.safetensors").exists()
    whole = run_of(store, config=config).finish(progress=False)
    assert_same_run(whole, run_of(store, config=config, output_dir=tmp_path).finish(progress=False))


class Bar:
    """What a bar is given: its steps, and the values shown after how many of them."""

    def __init__(self, *args, initial, **options):
        self.step, self.shown = initial, []

    def update(self):
        self.step += 1

    def set_postfix(self, texts, **options):
        self.shown.append((self.step, texts))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def test_a_bar_moves_with_every_step_and_keeps_the_last_knn(store, monkeypatch):
    run, bars, steps = run_of(store), [], []
    real = run._one_step
    run._one_step = lambda: (steps.append(bars[0].step), real())

    def make(*args, **options):
        bars.append(Bar(*args, **options))
        return bars[0]

    monkeypatch.setattr(pretraining, "progress_bar", make)
    run.finish()
    (bar,) = bars
    assert steps == list(range(run.steps)) and bar.step == run.steps
    logs = run.logs
    assert [step + 1 for step, _ in bar.shown] == logs["step"].tolist()
    for (_, texts), loss, knn in zip(bar.shown, logs["loss"], logs["knn"].ffill(), strict=True):
        want = {"loss": f"{loss:.2f}"} | ({} if np.isnan(knn) else {"knn": f"{knn:.2f}"})
        assert texts == want
    assert logs["knn"].isna().any() and "knn" not in bar.shown[0][1] and "knn" in bar.shown[-1][1]
    last = logs.iloc[-1]
    assert re.fullmatch(
        rf"{run.steps} steps in [\d.]+ seconds, loss {last['loss']:.3f}, effective rank "
        rf"{last['effective_rank']:.0f}, kNN of label {last['knn']:.3f} on val",
        run.summary(),
    )
    unmeasured = run_of(store, config=dataclasses.replace(TINY, epochs=0.5, knn_every=0))
    assert unmeasured.summary() == "no steps yet"
    assert "nan" not in unmeasured.finish(progress=False).summary()


def test_key_follows_query_within_the_loop(store):
    run = run_of(store)
    moco = run._moco
    key = [p.clone() for p in moco.key_encoder.parameters()]
    query = [p.clone() for p in moco.encoder.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(key, query, strict=True))
    run._one_step()  # the first update moves equal weights: nothing but rounding changes
    for now, then in zip(moco.key_encoder.parameters(), key, strict=True):
        torch.testing.assert_close(now, then)
    query = [p.clone() for p in moco.encoder.parameters()]
    key = [p.clone() for p in moco.key_encoder.parameters()]
    run._one_step()
    for now, k, q in zip(moco.key_encoder.parameters(), key, query, strict=True):
        torch.testing.assert_close(now, TINY.momentum * k + (1 - TINY.momentum) * q)


def test_no_positive_is_among_its_negatives(store, monkeypatch):
    from geossl import losses

    seen = []
    real = losses.contrastive_logits

    def spy(query, key, queue, *, temperature, mask):
        seen.append(real(query, key, queue, temperature=temperature, mask=mask).detach())
        masks.append(mask)
        return real(query, key, queue, temperature=temperature, mask=mask)

    masks = []
    monkeypatch.setattr(losses, "contrastive_logits", spy)
    run = run_of(store)
    for _ in range(6):
        held = run._moco.queue_location.clone()
        run._one_step()
        rows = run._loader.pairs_of((run.step - 1) // run._loader.per_epoch)[0]
        place = (run.step - 1) % run._loader.per_epoch
        location = run._loader.location[
            rows[place * TINY.batch_size : (place + 1) * TINY.batch_size]
        ]
        own = location[:, None] == held[None]
        assert torch.equal(seen[-1][:, 1:] == -torch.inf, own)
    assert torch.stack(masks).any()
    paper = run_of(store, config=dataclasses.replace(TINY, mask_same_location=False))
    paper._one_step()
    assert masks[-1] is None


def test_shuffled_keys_come_back_to_their_queries(store, monkeypatch):
    from geossl import losses
    from geossl.utils.seeds import derive_seed

    keys, real = [], losses.contrastive_logits

    def spy(query, key, queue, **options):
        keys.append(key)
        return real(query, key, queue, **options)

    monkeypatch.setattr(losses, "contrastive_logits", spy)
    run = run_of(store, config=dataclasses.replace(TINY, bn_splits=2))
    twin = copy.deepcopy(run._moco).train()
    run._one_step()
    generator = torch.Generator().manual_seed(derive_seed(0, "views", 0))
    _, draws = (TINY.transform.sample_params(8, 3, generator=generator) for _ in range(2))
    order = torch.randperm(8, generator=generator)
    chips = store.gather(run._loader.rows[run._loader.pairs_of(0)[1][:8]])
    scale = {"mean": twin.encoder.mean, "std": twin.encoder.std}
    x = TINY.transform.apply(chips, draws, **scale)
    torch.testing.assert_close(keys[0], twin.key(x, order=order), rtol=1e-4, atol=1e-5)
    plain = twin.key(x)
    assert not torch.allclose(keys[0], plain, atol=1e-2)  # the parts held other images


def test_training_rows_are_those_of_the_split(store):
    run = run_of(store)
    assert set(store.scenes["split"].to_numpy()[run._loader.rows.numpy()]) == {"train"}
    everything = run_of(store, config=dataclasses.replace(TINY, split=None))
    assert len(everything._loader.rows) == len(store)


def test_sixteen_bits_and_five_bands(tmp_path):
    store = write_store(tmp_path / "chips", bands=5, dtype="uint16")
    run = run_of(store).finish(progress=False)
    assert np.isfinite(run.logs["loss"]).all() and run.encoder.bands == 5


def test_bf16_and_adamw_take_the_same_path(store):
    config = dataclasses.replace(TINY, precision="bf16", optimizer="adamw", lr=1e-3)
    logs = run_of(store, config=config).finish(progress=False).logs
    assert np.isfinite(logs["loss"]).all()


def test_seconds_hold_the_wait_for_the_device(store, monkeypatch):
    """A GPU is asked for the means when it has not done the steps yet."""
    clock = [0.0]
    monkeypatch.setattr(pretraining, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def average(tensors):
        clock[0] += 5

    monkeypatch.setattr(dist, "all_reduce_mean", average)
    logs = run_of(store).finish(progress=False).logs
    assert logs["seconds"].tolist() == [5.0 * n for n in range(1, len(logs) + 1)]
    assert (logs["pairs_per_s"] == 2 * TINY.batch_size / 5).all()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_checkpoint(store, tmp_path):
    run = run_of(store, output_dir=tmp_path)
    real = run._one_step

    def poisoned():
        if run.step == 4:
            with torch.no_grad():
                run._moco.head[0].weight.fill_(float("nan"))
        real()

    run._one_step = poisoned
    with pytest.raises(
        ValueError, match="loss is nan in steps 4 to 6: training diverged. Use a lower `lr`"
    ):
        run.finish(progress=False)
    again = run_of(store, output_dir=tmp_path)
    assert 0 < again.step <= 4
    assert_same_run(run_of(store).finish(progress=False), again.finish(progress=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stem", "smallest"),
    [("small", "small", 10), ("small", "standard", 20), ("resnet18", "small", 5)],
)
def test_bf16_on_a_cpu_is_for_views_that_a_stride_sees_in_full(name, stem, smallest):
    """The sizes are those of each layer by hand: a map of one pixel leads to wrong gradients."""
    encoder = models.build_encoder(name, stem=stem)
    assert has_correct_bf16_gradients(encoder, smallest, required=True)
    assert not has_correct_bf16_gradients(encoder, smallest - 1, required=False)
    with pytest.raises(ValueError, match=f"Views of {smallest - 1} px .*'bf16'.*'fp32'"):
        has_correct_bf16_gradients(encoder, smallest - 1, required=True)


def test_small_views_train_in_fp32_unless_bf16_is_asked_for(store, monkeypatch):
    monkeypatch.setattr(setup, "select_precision", lambda name, device: "bf16")
    config = dataclasses.replace(TINY, transform=Views(size_px=8), epochs=1)
    found = [
        run_of(store, config=dataclasses.replace(config, precision=name)).finish(progress=False)
        for name in ("auto", "fp32")
    ]
    assert_same_run(*found)
    assert not found[0]._moco.bf16 and run_of(store)._moco.bf16
    with pytest.raises(ValueError, match="8 px"):
        run_of(store, config=dataclasses.replace(config, precision="bf16"))


# --- chips on their way to a GPU, which need none here; `benchmarks/gpu.py` asks a real one -------


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_chips_that_lie_on_the_device_are_those_of_the_store(tmp_path, monkeypatch, dtype):
    store = write_store(tmp_path / "chips", dtype=dtype)
    some = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, store.chips.shape)
    some[0, 0, 0, :5] = np.array([0, 1, 32_767, 32_768, 65_535]) % (np.iinfo(dtype).max + 1)
    store = dataclasses.replace(store, chips=some.astype(dtype))
    monkeypatch.setattr(loader, "_PART", 7)  # 29 rows in five parts
    rows = torch.from_numpy(np.random.default_rng(2).permutation(len(store))[:29])
    device = torch.device("cpu")
    whole = load_to_gpu(store, rows, device)
    assert whole.nbytes == store.chips[:29].nbytes
    feed, plain = (ChipPrefetcher(store, device, rows) for _ in range(2))
    feed._resident = whole
    index = [(torch.tensor([3, 3, 28]), torch.tensor([0, 1, 2])), (torch.arange(29),)]
    for (_, here), (_, there) in zip(feed.batches(index), plain.batches(index), strict=True):
        for one, other in zip(here, there, strict=True):
            assert torch.equal(one.float(), other.float())
    assert np.array_equal(there[0].numpy(), store.chips[rows.numpy()])


def test_what_goes_to_a_gpu_is_pinned_and_nobody_waits_for_it():
    done = []

    class Traveler:
        device = torch.device("cpu")

        def pin_memory(self):
            done.append("pinned")
            return self

        def to(self, device, *, non_blocking):
            done.append((device.type, non_blocking))
            return self

    dist.to_device(Traveler(), torch.device("cuda"))
    assert done == ["pinned", ("cuda", True)]
    x = torch.arange(3)
    assert dist.to_device(x, torch.device("cpu")) is x


def test_chips_of_a_side_stream_are_waited_for_and_kept_by_the_stream_that_uses_them(
    store, monkeypatch
):
    done = []

    class Stream:
        def record_event(self):
            done.append("there")
            return done.count("there")

        def wait_event(self, event):
            done.append(("waited", event))

    side, main = Stream(), Stream()
    feed = ChipPrefetcher(store, torch.device("cpu"), torch.arange(20))
    feed._side = side
    monkeypatch.setattr(torch.cuda, "stream", lambda s: done.append(s) or nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda x, s: done.append((s, len(x))))
    monkeypatch.setattr(loader, "_AHEAD", 0)  # one after the other
    list(feed.batches([(torch.arange(3), torch.arange(2)), (torch.arange(5),)]))
    first = [side, "there", ("waited", 1), (main, 3), (main, 2)]
    assert done == [*first, side, "there", ("waited", 2), (main, 5)]


def test_a_run_is_taken_up_on_the_cpu(store, tmp_path, monkeypatch):
    """Model and optimizer take what they need to their device; the rest would fill it."""
    next(iter(run_of(store, output_dir=tmp_path)))
    places, load = [], torch.load
    monkeypatch.setattr(
        torch, "load", lambda *a, **k: places.append(k["map_location"]) or load(*a, **k)
    )
    run_of(store, output_dir=tmp_path)
    assert places == ["cpu"]


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_gpu_trains_as_the_cpu_does_and_no_step_waits_for_it(
    tmp_path, monkeypatch, dtype, resident
):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if not resident:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    store = write_store(tmp_path / "chips", dtype=dtype)
    config = dataclasses.replace(TINY, epochs=10, log_every=6, lr=1e-4, transform=moco_v2(16))
    here, there = (
        run_of(store, config=dataclasses.replace(config, device=name)) for name in ("cpu", "cuda")
    )
    for run in (here, there):
        next(iter(run))
    np.testing.assert_allclose(here.logs["loss"], there.logs["loss"], rtol=1e-3)
    there._one_step()  # what is made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            there._one_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_clear_words_for_wrong_arguments(store, tmp_path):
    def change(**settings):
        return dataclasses.replace(TINY, **settings)

    with pytest.raises(
        ValueError, match="No objective given. Pass at least one of `pairs`, `geo` or `label`"
    ):
        run_of(store, pairs=None)
    with pytest.raises(
        ValueError, match="`batch_size` x `accumulation_steps` must be <= .* got 4096 x 1"
    ):
        run_of(store, config=change(batch_size=4096))
    with pytest.raises(ValueError, match="`split` must be one of .* got 'nowhere'"):
        run_of(store, config=change(split="nowhere"))
    with pytest.raises(ValueError, match="`label` must be a column .* got 'color'"):
        run_of(store, pairs=None, label="color")
    with pytest.raises(ValueError, match="`lr` must be > 0, got 0"):
        change(lr=0)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="`device` is 'cuda', but torch finds 0"):
            run_of(store, config=change(device="cuda"))
    with pytest.raises(ValueError, match="`device` must be .* got 'abacus'"):
        run_of(store, config=change(device="abacus"))
    next(iter(run_of(store, output_dir=tmp_path)))
    with pytest.raises(ValueError, match=r"another `projection_dim` \(16, not 8\)"):
        run_of(store, output_dir=tmp_path, config=change(projection_dim=8))
    with pytest.raises(ValueError, match=r"another `encoder` \(tiny, not resnet18\)"):
        run_of(store, output_dir=tmp_path, config=change(encoder="resnet18"))
    about = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**about, "format": 99}))
    (tmp_path / "last.pt").write_bytes(b"a checkpoint as format 99 has it")
    with pytest.raises(ValueError, match="a newer geossl wrote"):
        run_of(store, output_dir=tmp_path)


def test_the_papers_settings():
    config = paper_config(batch_size=64)
    assert (config.encoder, config.temperature, config.queue_size, config.batch_size) == (
        "resnet50", 0.02, 65_536, 64,
    )  # fmt: skip


@pytest.mark.slow
def test_a_store_of_twice_the_memory_trains(tmp_path):
    if not hasattr(signal, "SIGXCPU") or sys.platform != "linux":
        pytest.skip("limits the data segment through Linux's resource module")
    write_store(tmp_path / "big", places=87_000)  # 134 MB of chips, 64 MB allowed
    code = f"""
    import dataclasses, resource, sys
    sys.path.insert(0, {str(__import__("pathlib").Path(__file__).parent)!r})
    from test_pretrain import TINY, ChipStore, pairs, pretrain
    import numpy as np

    def train(path):
        store = ChipStore.open(path)
        config = dataclasses.replace(TINY, epochs=0.002, batch_size=16, knn_every=0)
        run = pretrain(store, pairs=pairs.temporal(), config=config)
        for log in run:
            pass
        return store

    big = {str(tmp_path / "big")!r}
    store = train(big)  # imports, threads, and the table's own memory are there before the limit
    words = open("/proc/self/status").read().split()
    used = int(words[words.index("VmData:") + 1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + 2**26, resource.RLIM_INFINITY))
    train(big)
    try:
        np.array(store.chips)
    except MemoryError:
        print("the limit holds")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "the limit holds"


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_the_state_of_an_optimizer_follows_the_layout_of_its_parameters(kind):
    weight, slopes = torch.randn(4, 3, 3, 3), torch.randn(3, 4, 3, 3, 3)
    config = PretrainConfig(optimizer=kind, lr=0.1)

    def stepped(resumed):
        layer = torch.nn.Parameter(weight.clone(memory_format=torch.channels_last))
        optimizer = optim.build_optimizer([layer], config)
        for slope in slopes:
            if resumed:
                state = optimizer.state_dict()
                for kept in state["state"].values():
                    for name, value in kept.items():
                        kept[name] = value.clone(memory_format=torch.contiguous_format)
                optim.load_optimizer_state(optimizer, state)
            layer.grad = slope.to(memory_format=torch.channels_last)
            optimizer.step()
        return layer

    assert torch.equal(stepped(True), stepped(False))


def test_the_small_encoder_learns_on_one_thread_in_bf16_and_others_keep_theirs():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        small, large = models.build_encoder("small"), models.build_encoder("resnet18")
        for encoder, bf16, inside in ((small, True, 1), (small, False, 2), (large, True, 2)):
            with pytest.raises(ZeroDivisionError), single_threaded(encoder, bf16=bf16):
                assert torch.get_num_threads() == inside
                raise ZeroDivisionError
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
