"""Pre-training starts from weights: what it starts from, how it resumes, and on which bands."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from test_pretrain import TINY, assert_same_run, run_of, write_store

import geossl
from geossl import models, pairs, pretrain
from geossl.cli.main import main
from geossl.data.notices import DataWarning
from geossl.models import weights
from geossl.train.config import PretrainConfig


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("start") / "chips", bands=4)


def encoder_of(bands, names=None, seed=7):
    made = models.build_encoder(
        "small", bands=bands, mean=[90.0] * bands, std=[30.0] * bands, seed=seed
    )
    made.metadata = {} if names is None else {"bands": names}
    return made.eval()


def first_weight(encoder):
    return next(iter(encoder.backbone.parameters()))


def test_it_starts_from_the_weights_and_leaves_them_as_they_were(store):
    start = encoder_of(4)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    run = run_of(store, encoder=start)
    assert run.config.encoder == "small"
    assert all(torch.equal(v, before[k]) for k, v in run.encoder.state_dict().items())
    for key, query in zip(
        run._moco.key_encoder.parameters(), run._moco.encoder.parameters(), strict=True
    ):
        assert torch.equal(key, query) and query.requires_grad and not key.requires_grad
    run.finish(progress=False)
    assert not torch.equal(first_weight(run.encoder), first_weight(start))
    assert all(torch.equal(v, before[k]) for k, v in start.state_dict().items())


@pytest.mark.parametrize("label", [None, "label"])
def test_a_run_from_weights_resumes_exactly_and_refuses_others(store, tmp_path, label):
    kind = {"pairs": None, "label": label} if label else {"pairs": pairs.temporal()}
    whole = run_of(store, encoder=encoder_of(4), **kind).finish(progress=False)
    stopped = run_of(store, encoder=encoder_of(4), output_dir=tmp_path, **kind)
    for _ in stopped:
        break
    again = run_of(store, encoder=encoder_of(4), output_dir=tmp_path, **kind)
    assert 0 < again.step < again.steps
    assert_same_run(again.finish(progress=False), whole)
    for other in (encoder_of(4, seed=8), None):
        with pytest.raises(ValueError, match="already contains a run"):
            run_of(store, encoder=other, output_dir=tmp_path, **kind)
    assert json.loads((tmp_path / "config.json").read_text())["config"]["encoder"] == "small"
    back = weights.load(tmp_path)
    assert torch.equal(first_weight(back), first_weight(whole.encoder))


def test_bands_are_found_by_name_and_those_that_are_new_learn_too(store):
    start = encoder_of(3, ["b3", "b0", "b1"])
    run = run_of(store, encoder=start)
    found = run.encoder
    assert found.bands == 4 and found.mean.tolist() == [90, 90, 125, 90]
    weight = first_weight(found)
    assert torch.equal(weight[:, [3, 0, 1]], first_weight(start)) and not weight[:, 2].any()
    run.finish(progress=False)
    assert first_weight(run.encoder)[:, 2].any()


def test_weights_that_do_not_fit_the_store_are_told(store, tmp_path):
    with pytest.raises(
        ValueError, match="`encoder` must take the store's 4 bands .* got one for 3"
    ):
        run_of(store, encoder=encoder_of(3))
    with pytest.warns(DataWarning, match="lack swir"):
        run_of(store, encoder=encoder_of(5, ["b0", "b1", "b2", "b3", "swir"]))
    start = encoder_of(3, ["b2", "b1", "b0"])
    next(iter(run_of(store, encoder=start, output_dir=tmp_path)))
    start.metadata = {"bands": ["b0", "b1", "b2"]}
    with pytest.raises(ValueError, match="already contains a run"):
        run_of(store, encoder=start, output_dir=tmp_path)
    with pytest.raises(TypeError, match="`encoder` must be"):
        pretrain(store, pairs=pairs.temporal(), encoder="runs/x", config=TINY)


def test_the_command_names_the_option_whose_weights_do_not_fit(store, tmp_path, capsys):
    models.save_encoder(encoder_of(3), tmp_path / "three.safetensors")
    words = ["--start", str(tmp_path / "three.safetensors"), "--output-dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main(["pretrain", str(store.path), *words, "--batch-size", "8"])
    assert "`--start` must take the store's 4 bands" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["timm/test_vit", "timm/test_convnext"])
def test_a_network_of_timm_trains_resumes_and_comes_back(store, tmp_path, name):
    config = dataclasses.replace(TINY, encoder=name)
    whole = run_of(store, config=config).finish(progress=False)
    for _ in run_of(store, config=config, output_dir=tmp_path):
        break
    again = run_of(store, config=config, output_dir=tmp_path)
    assert 0 < again.step < again.steps
    assert_same_run(again.finish(progress=False), whole)
    back = weights.load(tmp_path)
    assert back.name == name and back.metadata["bands"] == list(store.bands)
    vectors = geossl.embed(store, back).vectors
    assert vectors.shape == (len(store), back.embedding_dim) and np.isfinite(vectors).all()
    with pytest.raises(ValueError, match="`encoder` must be one of .* of a library such as 'timm/"):
        PretrainConfig(encoder="vit_small")


def test_the_commands_take_networks_of_timm_and_their_files(store, tmp_path, capsys):
    run, data = str(tmp_path / "run"), str(store.path)
    small = ["--epochs", "1", "--batch-size", "8", "--queue-size", "16", "--knn-every", "0"]
    own = ["--encoder", "timm/test_vit", "--stem", "standard"]
    main(["pretrain", data, *own, "--output-dir", run, *small])
    main(["embed", data, "--encoder", run, "--output", str(tmp_path / "own.parquet")])
    torch.save(weights.load(run).backbone.state_dict(), tmp_path / "net.pth")
    words = ["--encoder", str(tmp_path / "net.pth"), "--architecture", "timm/test_vit"]
    output = ["--output", str(tmp_path / "file.parquet")]
    with pytest.raises(SystemExit):
        main(["embed", data, *words, *output])
    assert "`--input` must be given for" in capsys.readouterr().err
    main(["embed", data, *words, "--input", "unit", *output])
    start = ["--start", str(tmp_path / "net.pth"), "--input", "unit", "--output-dir", run + "2"]
    with pytest.raises(SystemExit):
        main(["pretrain", data, *start, *small])
    assert "Pass `--architecture` for another network" in capsys.readouterr().err
    main(["pretrain", data, *start, "--architecture", "timm/test_vit", *small])
    assert weights.load(run + "2").name == "timm/test_vit"
    with pytest.raises(SystemExit):
        main(["pretrain", data, "--start", run, "--encoder", "resnet18", "--output-dir", run + "3"])
    err = capsys.readouterr().err
    assert "`--encoder` must be that of the weights to start from, timm/test_vit, got" in err


def test_the_commands_refuse_options_that_would_not_count(store, tmp_path, capsys):
    run, data = str(tmp_path / "run"), str(store.path)
    models.save_encoder(encoder_of(4), run)
    new = ["--output-dir", str(tmp_path / "new"), "--batch-size", "8"]
    output = ["--output", str(tmp_path / "e.parquet")]
    vit = ["--architecture", "timm/test_vit"]
    for words, says in (
        (["pretrain", data, "--start", run, *vit, *new], "Leave out `--architecture`.\n"),
        (["embed", data, "--encoder", run, *vit, *output], "Leave out `--architecture`.\n"),
        (
            ["pretrain", data, "--start", run, "--paper", "--encoder", "resnet18", *new],
            "`--encoder` must be that of the weights to start from, small, got resnet18",
        ),
        (
            ["pretrain", data, "--encoder", "timm/of_nobody", *new],
            "`--encoder` must be one that timm has, got 'timm/of_nobody'",
        ),
        (
            ["pretrain", data, "--start", "timm/of_nobody", *new],
            "`--start` must be one that timm has, got 'timm/of_nobody'",
        ),
        (
            ["embed", data, "--encoder", "timm/of_nobody", *output],
            "`--encoder` must be one that timm has, got 'timm/of_nobody'",
        ),
        (
            ["embed", data, "--encoder", run, "--bands", "b0", "nir", *output],
            "geossl: `--bands` must be among ['b0', 'b1', 'b2', 'b3'], or numbers",
        ),
        (
            ["embed", data, "--encoder", run, "--size-px", "100000", *output],
            "are available. Lower `--size-px`.",
        ),
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert says in capsys.readouterr().err, words
    torch.save(models.build_encoder("resnet18").backbone.state_dict(), tmp_path / "net.pth")
    words = ["--encoder", str(tmp_path / "net.pth"), "--architecture", "timm/of_nobody"]
    with pytest.raises(SystemExit):
        main(["embed", data, *words, *output])
    assert "`--architecture` must be one that timm has" in capsys.readouterr().err
    options = ["--adapt mean", "--input unit", "--full-scale 255", "--size-px 8", "--bands 1"]
    for option in ["--architecture timm/test_vit", *options]:
        for encoder in ("random", "hog"):
            with pytest.raises(SystemExit):
                main(["embed", data, "--encoder", encoder, *option.split(), *output])
            err = capsys.readouterr().err
            assert f"need weights, and `--encoder {encoder}` has none" in err
            assert f"`{option.split()[0]}`" in err
