import copy
import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from test_pretrain import write_store
from vectors import RNG

from geossl import embed, evaluate, models
from geossl.models import layers, weights
from geossl.tasks import finetune
from geossl.train.checkpoint import RunDirectory
from geossl.train.optim import warmup_cosine
from geossl.transforms import Views

QUICK = finetune.FineTuneConfig(
    epochs=2, batch_size=8, lr=5e-3, transform=Views(size_px=16), precision="fp32", device="cpu"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = write_store(tmp_path_factory.mktemp("probe_more") / "chips", places=30)
    table = made.scenes
    table["split"] = np.where(table["location"] % 3 == 1, "test", table["split"])
    return made


def untrained(store, seed=0):
    return models.build_encoder(
        bands=3, mean=store.mean.tolist(), std=store.std.tolist(), seed=seed
    ).requires_grad_(False)


def fingerprint(encoder):
    """Every bit of an encoder: weights, buffers, modes, gradients."""
    found = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        found.update(name.encode() + value.numpy().tobytes())
    for part in (
        [m.training for m in encoder.modules()],
        [(p.requires_grad, p.grad) for p in encoder.parameters()],
    ):
        found.update(repr(part).encode())
    return found.hexdigest()


def test_probing_leaves_the_backbone_and_the_vectors_as_they_were(store):
    encoder = untrained(store)
    encoder.train()
    encoder.backbone[1].eval()
    before, chips = fingerprint(encoder), np.array(store.chips)
    state = torch.get_rng_state()
    found = embed(store, encoder)
    vectors, table = found.vectors.copy(), found.scenes.copy()
    evaluate.linear(found)
    evaluate.linear(found, solver=evaluate.SGD(epochs=2))
    evaluate.knn(found)
    evaluate.temporal(evaluate.linear(found, l2=0.1)).all_metrics(resamples=2)
    evaluate.same_location(found)
    evaluate.cross_validate(found, folds=2, measure=evaluate.knn)
    evaluate.label_efficiency(found, shares=(0.5,), measure=evaluate.knn)
    finetune.fine_tune(store, encoder, config=QUICK)
    assert fingerprint(encoder) == before
    assert np.array_equal(found.vectors, vectors) and found.scenes.equals(table)
    assert np.array_equal(store.chips, chips)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.slow
def test_fine_tuning_learns_the_same_thing_twice(store):
    encoder = untrained(store)
    config = finetune.FineTuneConfig(**{**vars(QUICK), "epochs": 6})
    with torch.no_grad():
        one, two = (finetune.fine_tune(store, encoder, config=config, seed=s) for s in (0, 0))
        other = finetune.fine_tune(store, encoder, config=QUICK, seed=1)
    for name, value in one.encoder.state_dict().items():
        assert torch.equal(value, two.encoder.state_dict()[name]), name
    assert np.array_equal(one.result.probabilities, two.result.probabilities)
    assert not np.allclose(one.result.probabilities, other.result.probabilities)
    assert one.result.value > 0.9 and one.logs["loss"].iloc[-1] < one.logs["loss"].iloc[0]
    assert one.logs["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert one.result.more["val"] == one.logs["val"].iloc[-1]
    # every layer has moved, and what it holds is what was measured
    for name, value in one.encoder.named_parameters():
        assert not torch.equal(value, dict(encoder.named_parameters())[name]), name
    test = one.result.predictions["row"].to_numpy()
    again = one.head(embed(store, one.encoder, index=test).tensor()).softmax(1)
    np.testing.assert_allclose(one.result.probabilities, again.detach().numpy(), atol=1e-6)
    assert one.encoder.backbone[1].num_batches_tracked == 6 * (30 // 8)  # norms learn as well
    assert not one.encoder.training and one.classes == ["even", "odd"]
    places = evaluate.temporal(one.result)
    assert places.n_test == 10 and "fine-tuned" in str(one)


def test_fine_tuning_looks_at_neither_val_nor_test(store):
    encoder = untrained(store)
    seen = finetune.fine_tune(store, encoder, config=QUICK)
    other = copy.copy(store)
    table = store.scenes.copy()
    held = table["split"].isin(["val", "test"])
    table.loc[held, "label"] = np.where(RNG(0).uniform(0, 1, held.sum()) < 0.5, "even", "new")
    object.__setattr__(other, "scenes", table)
    blind = finetune.fine_tune(other, encoder, config=QUICK)
    for name, value in seen.encoder.state_dict().items():
        assert torch.equal(value, blind.encoder.state_dict()[name]), name
    assert "test classes without a training chip 1" in str(blind.result)
    assert blind.classes == ["even", "odd"] and not blind.result.probabilities[:, 1].any()


def test_early_layers_learn_slowly():
    head = torch.nn.Linear(512, 4)
    net = models.build_encoder("resnet18")
    groups = finetune.parameter_groups(net, head, finetune.FineTuneConfig(lr=1.0, layer_decay=0.5))
    peak = {p: group["peak"] for group in groups for p in group["params"]}
    decay = {p: group["weight_decay"] for group in groups for p in group["params"]}
    assert set(peak) == {*net.parameters(), *head.parameters()} and len(peak) == len(groups)
    assert peak[head.weight] == 1
    at = {"layer4": 0.5, "layer3": 0.25, "layer2": 0.125, "layer1": 0.0625}
    at |= {"conv1": 0.03125, "bn1": 0.03125}
    for name, value in net.backbone.named_parameters():
        assert peak[value] == at[name.split(".")[0]], name
        assert (decay[value] > 0) == (value.ndim == 4), name
    small = finetune.stages(models.build_encoder("small").backbone)
    assert [len(stage) for stage in small] == [2, 1, 1, 1]

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.token = torch.nn.Parameter(torch.zeros(3))
            self.block = torch.nn.Sequential(torch.nn.Linear(3, 3))

    odd = models.Encoder("small", Odd(), bands=3, stem="small", embedding_dim=3)
    groups = finetune.parameter_groups(odd, torch.nn.Linear(3, 2), finetune.FineTuneConfig(lr=1.0))
    assert any(odd.backbone.token is p for group in groups for p in group["params"])


def test_the_rate_rises_and_falls_and_reaches_the_layers(store, monkeypatch):
    assert warmup_cosine(0, 100, 0.1) == pytest.approx(0.1)
    assert warmup_cosine(9, 100, 0.1) == warmup_cosine(10, 100, 0.1) == 1
    assert warmup_cosine(55, 100, 0.1) == pytest.approx(0.5)
    assert warmup_cosine(99, 100, 0.1) < 0.001 and warmup_cosine(0, 1, 0.0) == 1
    rates = []
    step = torch.optim.AdamW.step

    def watched(self, *given, **named):
        rates.append(sorted({group["lr"] for group in self.param_groups}, reverse=True))
        return step(self, *given, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    config = finetune.FineTuneConfig(**{**vars(QUICK), "batch_size": 13, "warmup": 0.0})
    finetune.fine_tune(store, untrained(store), config=config)
    n = (store.scenes["split"] == "train").sum()
    assert len(rates) == 2 * (n // 13) and n % 13  # what does not fill a batch is left out
    assert rates[0] == pytest.approx([5e-3 * 0.7**d for d in range(5)])
    assert rates[-1][0] == pytest.approx(5e-3 * warmup_cosine(len(rates) - 1, len(rates), 0.0))


def test_the_views_follow_the_seed(store, monkeypatch):
    seeds, drawn = [], Views.__call__

    def watched(self, chips, *, mean, std, generator):
        seeds.append(generator.initial_seed())
        return drawn(self, chips, mean=mean, std=std, generator=generator)

    monkeypatch.setattr(Views, "__call__", watched)
    config = finetune.FineTuneConfig(**{**vars(QUICK), "epochs": 1, "batch_size": 100})
    for seed in (0, 0, 1):
        finetune.fine_tune(store, untrained(store), config=config, seed=seed)
    assert len(seeds) == 3 and seeds[0] == seeds[1] != seeds[2]


def test_fine_tuning_undoes_the_split_of_batch_norm(store):
    encoder = layers.split_batchnorm(untrained(store), 4)
    small = pd.Series(np.where(np.arange(len(store)) < 5, "train", "test"))
    tuned = finetune.fine_tune(store, encoder, split=small, config=QUICK)
    assert tuned.result.n_train == 5 and encoder.backbone[1].splits == 4
    assert (
        type(tuned.encoder.backbone[1]) is torch.nn.BatchNorm2d and tuned.logs["val"].isna().all()
    )


def test_an_encoder_of_several_processes_is_tuned_in_one(store):
    encoder = torch.nn.SyncBatchNorm.convert_sync_batchnorm(untrained(store))
    tuned = finetune.fine_tune(store, encoder, config=QUICK)
    assert np.isfinite(tuned.result.value)
    assert type(tuned.encoder.backbone[1]) is torch.nn.BatchNorm2d
    assert isinstance(encoder.backbone[1], torch.nn.SyncBatchNorm)


def test_fine_tuning_refuses_in_one_sentence(store):
    encoder = untrained(store)
    with pytest.raises(ValueError, match="`encoder` must take the store's 3 bands.*got one for 4"):
        finetune.fine_tune(store, models.build_encoder(bands=4), config=QUICK)
    with pytest.raises(ValueError, match="`label` must be one of the columns .*, got 'fuel'"):
        finetune.fine_tune(store, encoder, label="fuel", config=QUICK)
    with pytest.raises(
        ValueError, match="loss is .* in epoch 1: training diverged. Use a lower `lr`"
    ):
        hot = copy.deepcopy(encoder)
        hot.backbone[0].weight.fill_(torch.nan)
        finetune.fine_tune(store, hot, config=QUICK)
    for bad in (
        {"epochs": 0},
        {"batch_size": 1},
        {"lr": -1.0},
        {"layer_decay": 1.1},
        {"warmup": 1.0},
    ):
        (name,) = bad
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            finetune.FineTuneConfig(**bad)
    with pytest.raises(ValueError, match="`lr` must be > 0, got 0"):
        evaluate.SGD(lr=0)


class Stop(Exception):
    pass


@pytest.mark.slow
def test_a_killed_fine_tuning_resumes_with_the_same_result(store, tmp_path, monkeypatch):
    config = finetune.FineTuneConfig(**{**vars(QUICK), "epochs": 3})

    def run(out, **change):
        options = {"config": config, "seed": 2, **change}
        return finetune.fine_tune(store, untrained(store), output_dir=out, **options)

    whole = run(tmp_path / "whole")
    monkeypatch.setattr(RunDirectory, "is_due", lambda self: True)
    save, steps = RunDirectory.save, []

    def killed(self, step, *args, **more):
        save(self, step, *args, **more)
        steps.append(step)
        if step == 2:
            raise Stop

    monkeypatch.setattr(RunDirectory, "save", killed)
    with pytest.raises(Stop):
        run(tmp_path / "killed")
    rest = run(tmp_path / "killed")
    assert steps == [1, 2, 3]
    for name, value in whole.encoder.state_dict().items():
        assert torch.equal(value, rest.encoder.state_dict()[name]), name
    assert torch.equal(whole.head.weight, rest.head.weight)
    assert np.array_equal(whole.result.probabilities, rest.result.probabilities)
    pd.testing.assert_frame_equal(whole.logs, rest.logs)
    again = run(tmp_path / "killed")  # finished: nothing is trained
    assert steps == [1, 2, 3] and again.result.value == whole.result.value
    loaded = weights.load(tmp_path / "killed")
    assert torch.equal(loaded.backbone[0].weight, whole.encoder.backbone[0].weight)
    for change, words in (
        ({"seed": 3}, "another `seed`"),
        ({"config": QUICK}, "another `epochs`"),
        ({"split": "blocks"}, "another `labels`"),
    ):
        with pytest.raises(ValueError, match=words):
            run(tmp_path / "killed", **change)


def test_chips_too_small_for_bf16_are_trained_on_in_fp32_or_refused(store):
    """On a CPU torch's bf16 gradients of the last stage would be what the memory held before."""
    given = {"epochs": 1, "batch_size": 8, "transform": Views(size_px=8), "device": "cpu"}
    config = finetune.FineTuneConfig(precision="bf16", **given)
    with pytest.raises(ValueError, match="Views of 8 px are too small for `precision='bf16'`"):
        finetune.fine_tune(store, untrained(store), config=config)
    losses = [
        finetune.fine_tune(
            store, untrained(store), config=finetune.FineTuneConfig(precision=precision, **given)
        ).logs["loss"].tolist()
        for precision in ("fp32", "auto")
    ]  # fmt: skip
    assert losses[0] == losses[1]


def test_several_processes_are_refused_in_one_sentence(store, monkeypatch):
    monkeypatch.setattr("geossl.utils.dist.world_size", lambda: 2)
    with pytest.raises(
        ValueError, match="train in one process. Start one for each device, without"
    ):
        finetune.fine_tune(store, untrained(store), config=QUICK)
