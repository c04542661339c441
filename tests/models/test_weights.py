"""Weights of others are made here from their documented key names; no file is downloaded."""

import datetime
import hashlib
import json
import pickle
import sys
import types
from argparse import Namespace
from collections import defaultdict
from contextlib import nullcontext
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms.v2.functional import normalize

from geossl import ChipStore, datasets, embed, evaluate, models
from geossl.data.notices import DataWarning
from geossl.models import pretrained, weights

close = partial(torch.testing.assert_close, rtol=1e-3, atol=1e-3)  # embeddings are of order 1
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def resnet(name="resnet18", bands=3, seed=0):
    """A torchvision ResNet with random running statistics, so that losing one shows."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = getattr(torchvision.models, name)(weights=None)
        if bands != 3:
            net.conv1 = nn.Conv2d(bands, 64, 7, 2, 3, bias=False)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.running_mean, module.weight.data, module.bias.data):
                    values.add_(0.2 * torch.randn(len(values)))
                module.running_var.uniform_(0.5, 2)
                module.num_batches_tracked += 7
    return net.eval()


@pytest.fixture(scope="module")
def r18():
    return resnet()


@pytest.fixture(scope="module")
def r18_13():
    return resnet(bands=13, seed=1)


@pytest.fixture(scope="module")
def r50():
    return resnet("resnet50", seed=2)


def plain(net, head=False):
    return {k: v for k, v in net.state_dict().items() if head or not k.startswith("fc.")}


def moco(net, *, mlp=True, geo=False):
    """As the paper's code and facebookresearch/moco save it, behind DistributedDataParallel."""
    width = net.fc.in_features
    head = {"fc.weight": torch.rand(128, width), "fc.bias": torch.rand(128)}
    if mlp:
        head = {
            "fc.0.weight": torch.rand(width, 1).expand(width, width),
            "fc.0.bias": head.pop("fc.bias"),
        }
        head |= {"fc.2.weight": torch.rand(128, width), "fc.2.bias": torch.rand(128)}
    query = plain(net) | head
    state = {f"module.encoder_q.{k}": v for k, v in query.items()}
    state |= {f"module.encoder_k.{k}": v for k, v in light(query).items()}
    state |= {"module.queue": torch.rand(128, 16), "module.queue_ptr": torch.zeros(1).long()}
    whole = {"epoch": 200, "arch": "resnet50", "state_dict": state}
    if geo:
        head = {
            "module.layers.1.weight": torch.rand(100, 128),
            "module.layers.1.bias": torch.rand(100),
        }
        whole["geo_dict"] = head
    return whole | {"optimizer": {"state": {0: {"momentum_buffer": torch.rand(3)}}}}


def seco(net):
    """As SeCo's lightning module names it: the children of the ResNet by their number."""
    numbered = nn.Sequential(*list(net.children())[:-1], nn.Flatten()).state_dict()
    state = {f"encoder_q.{k}": v for k, v in numbered.items()}
    state |= {f"encoder_k.{k}": torch.zeros_like(v) for k, v in numbered.items()}
    for head in ("heads_q", "heads_k"):
        for space in range(3):
            state |= {
                f"{head}.{space}.0.weight": torch.rand(8, 8),
                f"{head}.{space}.2.bias": torch.rand(8),
            }
    return {"state_dict": state | {"queue": torch.rand(3, 8, 4), "queue_ptr": torch.zeros(3, 1)}}


def light(state):
    """The same keys and shapes in a small file."""
    return {k: torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in state.items()}


def saved(content, path, **how):
    torch.save(content, path, **how)
    return path


@torch.no_grad()
def outputs(encoder, chips):
    assert not encoder.training
    return encoder(encoder.normalize(chips))


@torch.no_grad()
def wanted(net, images):
    """Torchvision's own forward pass, up to its last layer."""
    found = []
    handle = net.avgpool.register_forward_hook(lambda *a: found.append(a[2].flatten(1)))
    net(images)
    handle.remove()
    return found[0]


@pytest.fixture(scope="module")
def three(r18, tmp_path_factory):
    return saved(moco(r18), tmp_path_factory.mktemp("moco") / "3.pth.tar")


@pytest.fixture(scope="module")
def thirteen(r18_13, tmp_path_factory):
    return saved(moco(r18_13), tmp_path_factory.mktemp("moco") / "B13_rn18_moco_0099_ckpt.pth")


def chips(bands=3, top=255, n=2, px=32):
    draw = torch.Generator().manual_seed(n)
    return torch.randint(0, top + 1, (n, bands, px, px), generator=draw)


def as_imagenet(x, top=255):
    return normalize(x / top, *IMAGENET)


def as_seco(x):
    low, high = torch.tensor([0.0, 2, 3]), torch.tensor([129.0, 103, 88])
    x = (x / 10_000 * 255 - low[:, None, None]) / (high - low)[:, None, None]
    return normalize(x, *IMAGENET)


@pytest.mark.slow
@pytest.mark.parametrize("geo", [False, True])
def test_the_papers_checkpoints_give_the_outputs_of_the_same_torchvision_network(
    tmp_path, r50, geo
):
    path = saved(moco(r50, geo=geo), tmp_path / "moco_tp.pth.tar")
    found = weights.load(path)
    assert (found.name, found.stem, found.bands) == ("resnet50", "standard", 3)
    close(outputs(found, chips()), wanted(r50, as_imagenet(chips())))
    parts = ["encoder_q.fc", "encoder_k", "queue", "queue_ptr", "epoch", "arch"]
    assert found.metadata["left_out"] == parts + ["geo_dict"] * geo + ["optimizer"]
    assert (found.metadata["layout"], found.metadata["input"]) == ("moco", "imagenet")
    assert found.metadata["bands"] == ["red", "green", "blue"]


def test_an_image_of_0_to_255_is_what_imagenet_weights_expect():
    about = pretrained.INPUTS["imagenet"]
    assert np.allclose(np.multiply(about.mean, 255), [123.675, 116.28, 103.53])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "input", "by"),
    [
        (lambda net: moco(net, mlp=False), "imagenet", "layout"),  # MoCo v1
        (lambda net: plain(net, head=True), "imagenet", "layout"),  # torchvision
        (
            lambda net: {f"module.{k}": v for k, v in plain(net, head=True).items()},
            "imagenet",
            "layout",
        ),
        (seco, "seco", "layout"),
    ],
)
def test_three_band_layouts_are_known_by_their_keys(tmp_path, r18, write, input, by):
    found = weights.load(saved(write(r18), tmp_path / "w.pth"))
    prepare, top = (as_seco, 3_000) if input == "seco" else (as_imagenet, 255)
    close(outputs(found, chips(top=top)), wanted(r18, prepare(chips(top=top))))
    assert (found.name, found.metadata["input"], found.metadata["input_by"]) == (
        "resnet18",
        input,
        by,
    )


@pytest.mark.slow
def test_thirteen_bands_of_ssl4eo_are_reflectances(thirteen, r18_13):
    found = weights.load(thirteen)
    x = chips(13, 10_000)
    close(outputs(found, x), wanted(r18_13, x / 10_000))
    assert found.metadata["bands"][9:11] == ["B9", "B10"] and found.metadata["input"] == "ssl4eo"


@pytest.mark.slow
def test_seco_names_every_resnet(tmp_path, r50):
    found = weights.load(saved(seco(r50), tmp_path / "seco_resnet50_1m.ckpt"))
    x = chips(top=3_000)
    close(outputs(found, x), wanted(r50, as_seco(x)))
    assert found.metadata["left_out"] == ["encoder_k", "heads_q", "heads_k", "queue", "queue_ptr"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchgeos_files_are_known_by_their_digest_and_others_are_asked_for(
    tmp_path, monkeypatch, r18, suffix
):
    path = tmp_path / f"resnet18_fmow_rgb_gassl-00000000{suffix}"  # its name proves nothing
    save_file(plain(r18), path) if suffix == ".safetensors" else saved(plain(r18), path)
    with pytest.raises(ValueError, match="`input` must be given") as error:
        weights.load(path)
    with pytest.raises(ValueError, match="`input` must be given"):  # not ImageNet's 1,000 classes
        head = {"fc.weight": torch.ones(10, 512), "fc.bias": torch.ones(10)}
        weights.load(saved(light(plain(r18) | head), tmp_path / "mine.pth"))
    assert all(f"'{name}'" in str(error.value) for name in pretrained.INPUTS)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(pretrained._PUBLISHED, digest[:8], "seco")
    found = weights.load(path)
    assert (found.metadata["input"], found.metadata["input_by"]) == ("seco", "digest")
    given = weights.load(path, input="imagenet")
    close(outputs(given, chips()), wanted(r18, as_imagenet(chips())))
    assert given.metadata["input_by"] == "argument"


@pytest.mark.slow
def test_timms_network_gives_the_same_outputs(tmp_path):
    import timm

    net = timm.create_model("resnet18", pretrained=False, in_chans=13, num_classes=0).eval()
    net.load_state_dict(plain(resnet(bands=13, seed=3)))
    path = saved({"state_dict": net.state_dict()}, tmp_path / "backbone.pth")
    found = weights.load(path, input="ssl4eo")
    with torch.no_grad():
        close(outputs(found, chips(13, 9_999)), net(chips(13, 9_999) / 10_000))
    with pytest.raises(ValueError, match="13 bands does not say"):
        weights.load(path)


def test_the_unit_of_the_chips_can_be_told(three, r18):
    x = chips(top=10_000)
    scaled = weights.load(three, full_scale=10_000)
    close(outputs(scaled, x), wanted(r18, as_imagenet(x, 10_000)))
    assert scaled.metadata["full_scale"] == 10_000
    close(outputs(weights.load(three, input="unit"), chips()), wanted(r18, chips() / 255))
    mean, std = torch.tensor([1.0, 2, 3]), torch.tensor([40.0, 50, 60])
    paired = weights.load(three, input=(mean.tolist(), std.tolist()))
    close(outputs(paired, chips()), wanted(r18, normalize(chips() / 1, mean, std)))


def test_old_files_are_read(tmp_path, r18):
    """Not a zip, and from before BatchNorm counted its batches."""
    state = {k: v for k, v in plain(r18, head=True).items() if "num_batches" not in k}
    path = saved(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    close(outputs(weights.load(path), chips()), wanted(r18, as_imagenet(chips())))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: s.pop("layer3.1.bn2.running_var"), "lacks keys .*: 'layer3.1.bn2.running_var'"),
        (lambda s: s.pop("bn1.bias"), "lacks keys .*: 'bn1.bias'"),
        (lambda s: s.pop("conv1.weight"), "keys of a ResNet .*conv1.weight.*, got "),
        (lambda s: s.update({"layer2.0.se.fc1.weight": torch.ones(1)}), "'layer2.0.se.fc1.weight'"),
        (lambda s: s.update({"mask_token": torch.ones(1)}), "layout 'resnet' .* 'mask_token'"),
        (lambda s: s.update({"bn1.bias": torch.ones(63)}), r"bn1.bias .* \(64,\), got \(63,\)"),
        (lambda s: s.update({"bn1.bias": torch.full((64,), torch.nan)}), "bn1.bias .* be finite"),
        (lambda s: s.update({"bn1.bias": -1e300 * torch.ones(64).double()}), r"32, got 1e\+300"),
        (lambda s: s.update({"bn1.running_var": -torch.ones(64)}), "running_var .* >= 0, got -1"),
        (lambda s: s.update({"conv1.weight": torch.ones(64, 3, 3, 3)}), "bands, 7, 7"),
        (lambda s: s.update({"bn1.bias": 3}), "int at 'bn1.bias'"),
        (lambda s: s.update({"bn1.bias": torch.ones(64).to_sparse()}), "Tensor at 'bn1.bias'"),
        (lambda s: s.update({5: torch.ones(1)}), "at 5"),
        (lambda s: [s.pop(k) for k in list(s) if "layer2.1." in k], r"\(2, 1, 2, 2\) blocks"),
        (lambda s: s.update({"layer1.0.conv3.weight": torch.ones(1)}), r"\(2, 2, 2, 2\) blocks"),
    ],
)  # fmt: skip
def test_a_key_that_does_not_fit_is_named(tmp_path, r18, spoil, says):
    state = light(plain(r18))
    spoil(state)
    with pytest.raises(ValueError, match=says) as error:
        weights.load(saved(state, tmp_path / "w.pth"), input="imagenet")
    assert "w.pth" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("write", [moco, seco])
def test_unknown_parts_of_a_checkpoint_are_not_dropped_silently(tmp_path, r18, write):
    state = light(write(r18)["state_dict"])
    added = next(iter(state)).split("encoder_q")[0] + "predictor.weight"
    content = {"state_dict": state | {added: torch.ones(1)}}
    with pytest.raises(ValueError, match=r"layout '(moco|seco)' lacks: 'predictor.weight'"):
        weights.load(saved(content, tmp_path / "w.pth"))


def test_a_layout_that_is_given_is_kept_to(tmp_path, r18):
    path = saved(plain(r18), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="layout 'moco'"):
        weights.load(path, layout="moco")
    with pytest.raises(
        ValueError,
        match=r"`layout` must be one of \['geossl', 'moco', 'seco', 'resnet'\], got 'dino'",
    ):
        weights.load(path, layout="dino")
    with pytest.raises(ValueError, match="keys of a ResNet .* 'patch_embed.weight'"):
        weights.load(saved({"patch_embed.weight": torch.ones(1)}, tmp_path / "vit.pth"))


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize(
    "how", ["zip", "legacy", "pickle", "pickle 4", "beside lightning", "named beside lightning"]
)
def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path, r18, how, monkeypatch):
    target, path = tmp_path / "made.txt", tmp_path / "w.pth"
    content = {"state_dict": light(plain(r18)), "extra": Evil(target)}
    if how.endswith("beside lightning"):
        content["hyper_parameters"] = lightning(monkeypatch)()
    if how.startswith("named"):
        content["extra"] = open  # not called, but nothing of ours either
    if how.startswith("pickle"):
        path.write_bytes(pickle.dumps(Evil(target), protocol=4 if "4" in how else 2))
    else:
        saved(content, path, _use_new_zipfile_serialization=how != "legacy")
    with pytest.raises(ValueError) as error:
        weights.load(path, input="imagenet")
    assert not target.exists() and "\n" not in str(error.value)
    if how != "pickle 4":  # not even read as far
        assert "asks to run io.open, which is refused" in str(error.value)


def lightning(monkeypatch):
    """A class that lives in pytorch_lightning's module while the file is written."""
    names = (
        "pytorch_lightning",
        "pytorch_lightning.utilities",
        "pytorch_lightning.utilities.parsing",
    )
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    made = type("AttributeDict", (dict,), {"__module__": names[-1]})
    sys.modules[names[-1]].AttributeDict = made
    return made


def test_lightnings_own_classes_are_read_as_plain_dicts_and_never_imported(tmp_path, r18):
    content = seco(r18)
    with pytest.MonkeyPatch.context() as patch:
        kind = lightning(patch)
        content["hyper_parameters"] = kind(base_encoder="resnet18", emb_dim=128)
        content["callbacks"] = {kind: {"best_model_score": torch.ones(1)}}
        path = saved(content, tmp_path / "seco_resnet18_1m.ckpt")
    allowed = set(torch.serialization.get_safe_globals())
    assert "pytorch_lightning" not in sys.modules
    x = chips(top=3_000)
    found = weights.load(path)
    close(outputs(found, x), wanted(r18, as_seco(x)))
    assert set(torch.serialization.get_safe_globals()) == allowed
    other = {"state_dict": {}, "hyper_parameters": Recipe()}
    with pytest.raises(ValueError, match=r"test_weights.Recipe.*\['state_dict'\]"):
        weights.load(saved(other, path))


class Recipe:
    """Of a user: neither a weight nor what every tool pickles."""


@pytest.mark.parametrize("legacy", [False, True])
def test_settings_beside_the_weights_are_not_in_the_way_and_never_run(tmp_path, r18, legacy):
    omegaconf = types.ModuleType("omegaconf")
    omegaconf.DictConfig = type("DictConfig", (), {"__module__": "omegaconf"})
    config = omegaconf.DictConfig()
    config.__dict__ |= {"_content": {"lr": 0.1}, "_parent": None}
    settings = {
        "args": Namespace(lr=0.1, arch="resnet18", out=Path("runs")),
        "best": np.float64(0.5), "scores": np.arange(3.0), "when": datetime.datetime(2026, 1, 1),
        "more": types.SimpleNamespace(a=1, tags={"x"}), "config": config,
        "counts": defaultdict(list, a=[1]), "torch": torch.__version__, "loss": Decimal("0.5"),
        "optimizer": {"state": {0: {"exp_avg": torch.rand(2)}}, "param_groups": [{"lr": 0.1}]},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "omegaconf", omegaconf)
        how = {"_use_new_zipfile_serialization": not legacy}
        path = saved({"model": plain(r18), **settings}, tmp_path / "w.pth", **how)
    allowed, before = set(torch.serialization.get_safe_globals()), sys.modules.get("omegaconf")
    encoder = weights.load(path, input="imagenet")
    close(outputs(encoder, chips()), wanted(r18, as_imagenet(chips())))
    assert encoder.metadata["left_out"] == list(settings)
    assert set(torch.serialization.get_safe_globals()) == allowed
    assert sys.modules.get("omegaconf") is before


@pytest.mark.parametrize("legacy", [False, True])
def test_of_settings_and_code_the_code_is_blamed(tmp_path, r18, legacy):
    how = {"_use_new_zipfile_serialization": not legacy}
    content = {"args": Namespace(lr=0.1), "model": light(plain(r18))}
    path, target = tmp_path / "w.pth", tmp_path / "made.txt"
    for code, name in ((Evil(target), "io.open"), (setattr, "builtins.setattr")):
        with pytest.raises(ValueError, match=f"asks to run {name}, which is refused"):
            weights.load(saved(content | {"extra": code}, path, **how), input="imagenet")
    assert not target.exists()
    for odd, says in (
        (Namespace(lr=0.1), "by name.*, got Namespace"),
        ({"bn1.bias": torch.ones(1), "args": Namespace()}, "got Namespace at 'args'"),
    ):
        with pytest.raises(ValueError, match=says):
            weights.load(saved(odd, path, **how))


def test_a_defaultdict_may_hold_the_weights(tmp_path, r18):
    path = saved(defaultdict(list, model=defaultdict(int, plain(r18))), tmp_path / "w.pth")
    found = weights.load(path, input="imagenet")
    close(outputs(found, chips()), wanted(r18, as_imagenet(chips())))


@pytest.mark.parametrize(
    ("prefix", "wrap"),
    [
        ("backbone.", lambda s: s),
        ("encoder.", lambda s: {"state_dict": s}),
        ("model.", lambda s: {"model": s}),
        ("net.", lambda s: s),
        ("_orig_mod.", lambda s: {"state_dict": s}),
        ("module.backbone.", lambda s: s),
        ("module._orig_mod.backbone.", lambda s: {"epoch": 3, "model_state_dict": s}),
        ("0.model.encoder.", lambda s: s),
    ],
)
@pytest.mark.parametrize("numbered", [False, True])
def test_one_prefix_before_the_first_convolution_is_found(tmp_path, r18, prefix, wrap, numbered):
    net = nn.Sequential(*r18.children())[:-1].state_dict() if numbered else plain(r18)
    state = {f"{prefix}{key}": value for key, value in net.items()}
    # A head before the encoder, as big as one, in a part of its own.
    parts = {} if prefix == "_orig_mod." else {"projector.0.weight": torch.ones(2, 2)}
    if prefix.startswith("module."):
        parts = {f"module.{key}": value for key, value in parts.items()}
    path = saved(wrap(parts | state), tmp_path / "w.pth")
    encoder = weights.load(path, input="imagenet")
    close(outputs(encoder, chips()), wanted(r18, as_imagenet(chips())))
    assert ("projector" in encoder.metadata["left_out"]) == bool(parts)
    assert encoder.metadata["layout"] == "resnet"


@pytest.mark.parametrize(
    ("key", "query"),
    [("target", "online"), ("momentum_encoder", "encoder"), ("encoder_k", "encoder_q")],
)
def test_of_state_dicts_side_by_side_the_one_that_was_trained_is_read(tmp_path, r18, key, query):
    content = {key: plain(resnet(seed=3)), query: plain(r18), "epoch": 3}
    found = weights.load(saved(content, tmp_path / "w.pth"), input="imagenet")
    close(outputs(found, chips()), wanted(r18, as_imagenet(chips())))


def test_a_prefix_is_found_or_refused(tmp_path, r18):
    other = resnet(seed=3)
    flat = {f"backbone.{k}": v for k, v in plain(other).items()}
    flat |= {f"teacher_backbone.{k}": v for k, v in plain(r18).items()}
    path = saved(flat, tmp_path / "w.pth")
    for prefix in ("teacher.backbone.", "student.", "net.backbone"):
        with pytest.raises(ValueError, match="Pass one of these as `prefix`"):
            weights.load(path, input="imagenet", prefix=prefix)
    dino = {
        "student": {f"module.backbone.{k}": v for k, v in plain(other).items()},
        "teacher": {f"backbone.{k}": v for k, v in plain(r18).items()},
    }
    path = saved(dino, path)
    for prefix in ("student", "student.backbone", "student.module.backbone."):
        found = weights.load(path, input="imagenet", prefix=prefix)
        close(outputs(found, chips()), wanted(other, as_imagenet(chips())))
    with pytest.raises(ValueError, match="behind 'teacher.backbone.'"):
        weights.load(path, input="imagenet", prefix="nothing.backbone")
    with pytest.raises(ValueError, match="`prefix` of layout='moco' must be 'encoder_q.', got 'x'"):
        weights.load(path, layout="moco", prefix="x")


def test_heads_beside_the_stages_are_left_out_and_few_tensors_are_settings(tmp_path, r18):
    content = {
        "model": plain(r18) | {"prototypes.weight": torch.ones(3)},
        "ema": {"d": torch.ones(1)},
    }
    found = weights.load(saved(content, tmp_path / "w.pth"), input="imagenet")
    close(outputs(found, chips()), wanted(r18, as_imagenet(chips())))
    assert found.metadata["left_out"] == ["prototypes", "ema"]
    with pytest.raises(ValueError, match="must hold a state dict .*, got Tensor"):
        weights.load(saved(torch.ones(3), tmp_path / "w.pth"))


def test_of_teacher_and_student_the_teacher_is_read_and_the_other_by_its_prefix(tmp_path, r18):
    student, teacher = plain(resnet(seed=3)), plain(r18)
    dino = {
        "student": {f"module.backbone.{k}": v for k, v in student.items()},
        "teacher": {f"backbone.{k}": v for k, v in teacher.items()} | {"head.mlp": torch.ones(1)},
        "epoch": 100, "args": Namespace(arch="resnet18"),
    }  # fmt: skip
    flat = {f"teacher_backbone.{k}": v for k, v in teacher.items()}
    flat |= {f"student_backbone.{k}": v for k, v in student.items()}
    images = as_imagenet(chips())
    for content, prefix in ((dino, "student.backbone."), (flat, "student_backbone")):
        path = saved(content, tmp_path / "w.pth")
        close(outputs(weights.load(path, input="imagenet"), chips()), wanted(r18, images))
        other = weights.load(path, input="imagenet", prefix=prefix)
        close(outputs(other, chips()), wanted(resnet(seed=3), images))
    with pytest.raises(ValueError, match="2 encoders, behind 'teacher_backbone.', 'student_back"):
        weights.load(path, input="imagenet", prefix="encoder")
    with pytest.raises(ValueError, match="'a.', 'b.'. Pass one of these as `prefix`"):
        twins = {f"{name}.{k}": v for name in "ab" for k, v in light(teacher).items()}
        weights.load(saved(twins, path), input="imagenet")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_told_in_one_sentence(tmp_path, legacy, share):
    state = {f"module.encoder_q.{i}": torch.rand(1000) for i in range(100)}
    path = saved(
        {"state_dict": state}, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"w.pth is damaged or not a file|asks to run") as error:
        weights.load(path)
    assert "\n" not in str(error.value)


def test_other_kinds_of_files_are_told_in_one_sentence(tmp_path):
    path = tmp_path / "w.pth"
    for content in (b"<!DOCTYPE html><title>Quota exceeded</title>", b"PK\x03\x04", b"\x80\x02."):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"w.pth (is damaged or not a file of weights|must hold)"
        ):
            weights.load(path)
    with pytest.raises(ValueError, match="must hold a state dict .*, got list"):
        weights.load(saved([torch.ones(1)], path))
    with pytest.raises(ValueError, match="got an empty object"):
        weights.load(saved({}, path))
    with pytest.raises(ValueError, match="got float at 'loss'"):
        weights.load(saved({"loss": 0.5}, path))
    (tmp_path / "w.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match="damaged"):
        weights.load(tmp_path / "w.safetensors")
    with pytest.raises(FileNotFoundError, match="no.pth"):
        weights.load(tmp_path / "no.pth")
    with pytest.raises(FileNotFoundError, match="encoder.safetensors"):
        weights.load(tmp_path)


def test_wrong_inputs_are_told(three, thirteen):
    for path, arguments, says in [
        (
            three,
            {"input": "reflectance"},
            r"`input` must be one of \['imagenet', 'seco', 'ssl4eo', 'unit'\], got 'refl",
        ),
        (three, {"full_scale": 0}, "`full_scale` must be > 0, got 0"),
        (
            three,
            {"input": ([0] * 3, [1] * 3), "full_scale": 255},
            "`full_scale` needs a named `input`. Scale mean and std",
        ),
        (three, {"input": ([0] * 2, [1] * 2)}, "`mean` must have .* 3 bands"),
        (three, {"input": ([0] * 3, [1, 0, 1])}, "`std` must be > 0 in every band"),
        (three, {"input": ([0] * 3,)}, "`input` must have 2 values"),
        (
            three,
            {"bands": ["red"], "adapt": "guess"},
            r"`adapt` must be one of \['name', 'mean'\], got 'guess'",
        ),
        (thirteen, {"input": "imagenet"}, "`input` 'imagenet' needs weights of 3 bands, got 13"),
    ]:
        with pytest.raises(ValueError, match=says):
            weights.load(path, **arguments)


@pytest.mark.parametrize("names", ["B04 B03 B02", "red green blue", "b4 B3 B2"])
def test_bands_are_picked_by_name_and_absent_ones_count_as_their_mean(thirteen, r18_13, names):
    found = weights.load(thirteen, bands=names.split())
    x = chips(3, 10_000)
    whole = torch.zeros(2, 13, 32, 32)
    whole[:, [3, 2, 1]] = x / 10_000
    close(outputs(found, x), wanted(r18_13, whole))
    assert found.metadata["bands"] == names.split() and found.metadata["adapt"] == "name"


@pytest.mark.slow
def test_bands_in_another_order_take_their_normalization_along(three, r18):
    found = weights.load(three, bands=["blue", "red", "green"])
    close(outputs(found, chips()[:, [2, 0, 1]]), wanted(r18, as_imagenet(chips())))
    mean, std = [10.0, 20.0], [30.0, 40.0]
    with pytest.warns(DataWarning, match="does not know blue, red"):  # the names go with the input
        paired = weights.load(three, bands=["blue", "red"], input=(mean, std), adapt="mean")
    assert paired.mean.tolist() == mean and paired.std.tolist() == std


@pytest.mark.slow
def test_bands_that_are_made_up_follow_the_formula(three, r18):
    old, loaded = r18.conv1.weight.detach(), weights.load(three)
    with pytest.warns(DataWarning, match="does not know nir: .* mean of its 3 bands' weights. To"):
        found = weights.with_bands(loaded, ["nir", "red", "green", "blue", "red"], adapt="mean")
    new = found.backbone.conv1.weight.detach()
    for j, source in enumerate([old.mean(1), old[:, 0], old[:, 1], old[:, 2], old[:, 0]]):
        torch.testing.assert_close(new[:, j], source * 3 / 5)
    means = [0.485, 0.456, 0.406]
    np.testing.assert_allclose(found.mean / 255, [np.mean(means), *means, means[0]], rtol=1e-5)
    for count in (1, 2, 7):
        says = nullcontext() if count == 1 else pytest.warns(DataWarning, match="sees no colors")
        with says:
            gray = weights.with_bands(loaded, count, adapt="mean")
        same = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            made = gray(same.expand(-1, count, -1, -1))
        close(made, wanted(r18, same.expand(-1, 3, -1, -1)))
        assert gray.metadata["bands"] is None and gray.metadata["bands_from"] == [
            "red",
            "green",
            "blue",
        ]
    assert torch.equal(loaded.backbone.conv1.weight, old) and "adapt" not in loaded.metadata


def test_bands_that_do_not_fit_are_refused(three):
    with pytest.raises(ValueError, match="adapt='mean'"):
        weights.load(three, bands=["red", "green", "nir"])
    loaded, unnamed = weights.load(three), weights.load(three, input="unit")
    for bands in (4, 1, ["B4", "B3", "B2"], ["red", "green", "blue", "nir"], 0, []):
        with pytest.raises(
            ValueError, match="`bands` must be .*(adapt='mean'|> 0, got 0|at least one)"
        ):
            weights.with_bands(loaded, bands)
    for bands in (None, 3, ["Red", "green", "blue"]):
        assert weights.with_bands(loaded, bands) is loaded
    named = weights.with_bands(unnamed, ["a", "b", "c"])
    assert named.metadata["bands"] == ["a", "b", "c"] and unnamed.metadata["bands"] is None
    with pytest.raises(ValueError, match="3 without names"):
        weights.with_bands(unnamed, ["a", "b"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_our_own_encoders_are_loaded_by_the_same_line_and_keep_their_note(tmp_path, name):
    net = models.build_encoder(name, bands=3, mean=[5, 6, 7], std=[2, 3, 4]).eval()
    note = {"bands": ["red", "green", "nir"], "units": "counts"}
    weights.save_encoder(net, tmp_path / "run" / "encoder.safetensors", metadata=note)
    for path in (tmp_path / "run", tmp_path / "run" / "encoder.safetensors"):
        back = weights.load(path)
        assert torch.equal(outputs(net, chips()), outputs(back, chips())) and back.metadata == note
    weights.save_encoder(back, tmp_path / "again.safetensors")
    assert weights.load(tmp_path / "again.safetensors", layout="geossl").metadata == note
    turned = weights.load(tmp_path / "run", bands=["nir", "red", "green"])
    close(outputs(turned, chips()[:, [2, 0, 1]]), outputs(net, chips()))
    for option in (
        {"architecture": "timm/test_vit"}, {"input": "imagenet"}, {"full_scale": 2}, {"prefix": ""}
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"its own network, .* Leave out `{[*option][0]}`.$"):
            weights.load(tmp_path / "run", **option)


@pytest.mark.parametrize(
    "metadata",
    [
        {"encoder": "{"}, {"encoder": "[" * 100_000}, {"encoder": "[]"}, {"encoder": "{}"},
        {"note": "3"},
        {"encoder": '{"name": "small", "bands": 1000000000, "stem": "small"}'},
        {"encoder": '{"name": "small", "bands": "3", "stem": "small"}'},
        {"encoder": '{"name": "resnet18", "bands": 3, "stem": "small"}'},
        {"encoder": '{"name": "vit", "bands": 3, "stem": "small"}'},
        {"format": "2"},
    ],
)  # fmt: skip
def test_a_description_that_does_not_fit_is_told_in_one_sentence(tmp_path, metadata):
    tensors = models.build_encoder("small").state_dict()
    good = {
        "format": "1",
        "encoder": '{"name": "small", "bands": 3, "stem": "small"}',
        "note": "{}",
    }
    path = tmp_path / "encoder.safetensors"
    save_file(tensors, path, metadata=good)
    assert weights.load(path).name == "small"
    save_file(tensors, path, metadata=good | metadata)
    with pytest.raises(
        ValueError,
        match=r"safetensors (does not fit|is damaged|has keys that|has format 2 of a newer)",
    ) as error:
        weights.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_torchvision_and_timm_take_the_export(tmp_path, thirteen):
    import timm

    encoder = weights.load(thirteen)
    path = tmp_path / "out" / "resnet18.pth"
    weights.export_torchvision(encoder, path)
    state = torch.load(path, weights_only=True)
    net = torchvision.models.resnet18()
    net.conv1 = nn.Conv2d(13, 64, 7, 2, 3, bias=False)
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert set(missing) == {"fc.weight", "fc.bias"} and not unexpected
    x = chips(13, 10_000)
    assert torch.equal(wanted(net.eval(), x / 10_000), outputs(encoder, x))
    other = timm.create_model("resnet18", in_chans=13, pretrained=False)
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert set(missing) == {"fc.weight", "fc.bias"} and not unexpected
    about = json.loads((tmp_path / "out" / "resnet18.pth.json").read_text())
    assert about["std"] == [10_000] * 13 and about["model"] == "resnet18"
    back = weights.load(path, input=(about["mean"], about["std"]))
    assert torch.equal(outputs(back, x), outputs(encoder, x))
    again = weights.load(path)  # by the description beside it
    assert torch.equal(outputs(again, x), outputs(encoder, x))
    assert again.metadata["bands"] == encoder.metadata["bands"]
    with pytest.raises(ValueError, match="`full_scale` needs a named `input`: the description"):
        weights.load(path, full_scale=255)
    described = path.with_name("resnet18.pth.json")
    wrong = ({"std": [0] * 13}, {"std": [True] * 13}, {"mean": [1e300] * 13}, {"mean": "1" * 13})
    wrong += ({"note": []}, {"note": {"bands": [1] * 13}}, {"std": [1e-300] * 13})
    texts = [json.dumps(about | values) for values in wrong]
    for text in ("[]", "{", json.dumps({"mean": [1] * 13}), *texts):
        described.write_text(text)
        with pytest.raises(ValueError, match="must be the description that export_torchvision"):
            weights.load(path)
    for odd in (models.build_encoder("small"), models.build_encoder("resnet18", stem="small")):
        with pytest.raises(
            ValueError,
            match="`encoder` must be a network of torchvision or timm with stem='standard'",
        ):
            weights.export_torchvision(odd, tmp_path / "no.pth")
    assert not (tmp_path / "no.pth").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stem"), [("small", "small"), ("resnet18", "standard")])
def test_onnxruntime_gives_the_same_embeddings_of_raw_chips(tmp_path, name, stem):
    import onnxruntime

    net = models.build_encoder(
        name, bands=4, stem=stem, mean=[90, 80, 70, 900], std=[40, 30, 20, 300]
    )
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    weights.export_onnx(net, tmp_path / "out" / "encoder.onnx")
    assert net.training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["encoder.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "out" / "encoder.onnx")
    assert [(i.name, i.type) for i in session.get_inputs()] == [("chips", "tensor(float)")]
    net.eval()
    for n, px in ((1, 64), (5, 32), (3, 96)):
        x = chips(4, 1_500, n=n, px=px)
        made = session.run(["embedding"], {"chips": x.numpy().astype(np.float32)})[0]
        np.testing.assert_allclose(made, outputs(net, x), rtol=1e-3, atol=1e-4)


def test_a_description_beside_a_file_names_a_network_that_is_there(tmp_path, r18):
    path = saved(plain(r18), tmp_path / "w.pth")
    for library in ("timm", "torchvision"):
        (tmp_path / "w.pth.json").write_text(json.dumps({"model": f"{library}/of_nobody"}))
        with pytest.raises(ValueError, match=r"w.pth.json names a network .* '\w+/of_nobody'"):
            weights.load(path)
    with pytest.raises(ValueError, match="`architecture` must be one that timm has, got 'timm/of_"):
        weights.load(path, architecture="timm/of_nobody", input="imagenet")
    with pytest.raises(ValueError, match="`path` must be one that timm has, got 'timm/of_nobody'"):
        weights.load("timm/of_nobody")


def test_without_onnx_the_export_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install onnx"):
        weights.export_onnx(models.build_encoder("small"), tmp_path / "encoder.onnx")


def test_another_input_changes_the_normalization_of_a_copy_alone():
    ours = models.build_encoder("small", bands=2, mean=[1, 2], std=[3, 4], seed=1).eval()
    ours.metadata = {"bands": ["red", "nir"]}
    other = weights.with_input(ours, [10.0, 20.0], torch.tensor([30.0, 40.0]))
    assert ours.mean.tolist() == [1, 2] and other.std.tolist() == [30, 40]
    assert other.metadata == ours.metadata and not other.training
    x = torch.rand(3, 2, 16, 16)
    with torch.no_grad():
        same = other(other.normalize(x * 10))
        assert torch.allclose(same, ours(ours.normalize(x)), atol=1e-5)
    for mean, std, says in (
        ([1.0], [1.0], "`mean` must have one value for each of the encoder's 2 bands"),
        ([0, 0], [1, 0], "`std` must be > 0 in every band"),
        ([0, 0], [1, float("nan")], "`std` must be finite"),
        (0.0, 1.0, "`mean` must have one value for each of the encoder's 2 bands"),
    ):
        with pytest.raises(ValueError, match=says):
            weights.with_input(ours, mean, std)


def test_half_precision_takes_half_the_size_and_comes_back_rounded(tmp_path):
    encoder = models.build_encoder("tiny", mean=[100, 110, 120], std=[40, 41, 42], seed=3)
    for half in (False, True):
        models.save_encoder(encoder, tmp_path / f"{half}.safetensors", half=half)
    plain, half = (tmp_path / f"{half}.safetensors" for half in (False, True))
    assert 0.45 < half.stat().st_size / plain.stat().st_size < 0.55
    loaded = models.load_encoder(half)
    for name, weight in loaded.named_parameters():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, encoder.get_parameter(name), rtol=1e-3, atol=1e-6)
    assert torch.equal(loaded.mean, encoder.mean) and torch.equal(loaded.std, encoder.std)


def test_the_encoder_that_ships_with_geossl_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = models.load_encoder("blue_marble")
    assert encoder.name == "tiny" and not encoder.training
    assert {"data", "method", "training", "use", "figures", "made by"} <= set(encoder.metadata)
    again = models.load("blue_marble", bands=["red", "green", "blue"])
    assert torch.equal(again.backbone(torch.ones(1, 3, 32, 32)), encoder(torch.ones(1, 3, 32, 32)))
    file = Path(models.__file__).with_name("blue_marble.safetensors")
    assert file.stat().st_size <= 2_500_000
    models.save_encoder(models.build_encoder(seed=1), tmp_path / "blue_marble")  # one's own run
    own = models.load_encoder("blue_marble")
    assert not own.metadata


@pytest.mark.slow
def test_the_encoder_that_ships_with_geossl_knows_places_it_has_never_seen(tmp_path):
    """Better than an untrained one, on test blocks: more climates right from 100 labels."""
    scenes = datasets.blue_marble(places=1_200, dates=2, seed=7)
    store = ChipStore.build(tmp_path / "chips", scenes, size_px=32, progress=False)
    values = {}
    for name, vectors in (
        ("bundled", embed(store, models.load_encoder("blue_marble"))),
        ("untrained", evaluate.random_features(store)),
    ):
        curve = evaluate.label_efficiency(vectors, locations=(100,), seeds=(0, 1, 2))
        values[name] = curve["value"].mean(), evaluate.same_location(vectors, split="test").value
    assert values["bundled"][0] > values["untrained"][0] + 0.08
    assert values["bundled"][1] > 2 * values["untrained"][1]
