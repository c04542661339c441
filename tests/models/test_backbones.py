"""Backbones of timm and torchvision by name: their outputs, bands, sizes, weights and refusals."""

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from torch import nn

from geossl import models
from geossl.models import backbones, layers, weights
from geossl.models.features import Pyramid
from geossl.train import setup

VIT, CONVNEXT = "timm/test_vit", "timm/test_convnext"  # as large ones, and small enough for a test


def what_the_classifier_reads(net, images):
    """The input of a network's last linear layer."""
    last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    seen = []
    with last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])), torch.no_grad():
        net.eval()(images)
    return seen[0]


@pytest.mark.parametrize(
    "name", [VIT, CONVNEXT, "timm/vit_small_patch16_224", "timm/convnext_atto",
             "timm/mobilenetv3_small_100", "torchvision/mobilenet_v3_small"],
)  # fmt: skip
def test_embeddings_are_what_the_classifier_reads(name):
    library, model = name.split("/")
    net = timm.create_model(model) if library == "timm" else torchvision.models.get_model(model)
    encoder = models.build_encoder(name, stem="standard").eval()
    known = encoder.backbone.state_dict()
    missing, unexpected = encoder.backbone.load_state_dict(
        {k: v for k, v in net.state_dict().items() if k in known}, strict=False
    )
    assert not missing and not unexpected
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = encoder(images)
    assert ours.shape == (2, encoder.embedding_dim)
    torch.testing.assert_close(ours, what_the_classifier_reads(net, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bands", [1, 13])
@pytest.mark.parametrize(
    ("name", "stem", "size_px"),
    [(VIT, "small", 32), (VIT, "standard", 50), (CONVNEXT, "small", 32),
     (CONVNEXT, "standard", 64), ("timm/resnet18", "standard", 64),
     ("timm/swin_tiny_patch4_window7_224", "small", 16),
     ("torchvision/resnext50_32x4d", "small", 16), ("torchvision/regnet_y_400mf", "standard", 64),
     ("torchvision/googlenet", "standard", 64)],
)  # fmt: skip
def test_any_bands_and_sizes(name, stem, size_px, bands):
    encoder = models.build_encoder(name, bands=bands, stem=stem).eval()
    with torch.no_grad():
        out = encoder(torch.randn(2, bands, size_px, size_px))
    assert out.shape == (2, encoder.embedding_dim) and out.std() > 0


def test_a_small_stem_has_a_quarter_of_the_stride():
    tokens = {stem: models.build_encoder(VIT, stem=stem).backbone for stem in models.STEMS}
    assert {stem: net.patch_embed.patch_size for stem, net in tokens.items()} == {
        "standard": (16, 16), "small": (4, 4)
    }  # fmt: skip
    assert all(net.pos_embed.shape[1] == 10 * 10 + 1 for net in tokens.values())
    strides = [Pyramid(models.build_encoder(CONVNEXT, stem=stem)).strides for stem in models.STEMS]
    assert strides == [(1, 2, 4, 8), (4, 8, 16, 32)]


def test_the_seed_makes_the_weights_and_the_global_state_stays():
    before = torch.random.get_rng_state()
    a, b, c = (models.build_encoder(VIT, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a) and any(not torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize(
    ("name", "stem", "message"),
    [("resnet19", "small", r"`name` must be one of .* of a library such as 'timm/convnext_tiny'"),
     ("timm/vit_huge_of_nobody", "small", "`name` must be one that timm has.*timm.list_models"),
     ("torchvision/resnet19", "small", "`name` must be one that torchvision has, got"),
     ("torchvision/fcn_resnet50", "small", "`name` must be one that torchvision has, got"),
     ("timm/hf-hub:someone/net", "small", "`name` must be one of"),
     ("timm/local-dir:etc", "small", "`name` must be one of"),
     ("timm/efficientnet_b0", "small", "`stem` must be 'standard' for 'timm/efficientnet_b0'"),
     ("timm/mixer_b16_224", "small", "`stem` must be 'standard' for 'timm/mixer_b16_224'"),
     ("torchvision/swin_t", "small", "`stem` must be 'standard' for 'torchvision/swin_t'"),
     ("torchvision/squeezenet1_0", "standard", "whose last layer is linear, got")],
)  # fmt: skip
def test_what_is_not_there_is_said(name, stem, message):
    with pytest.raises(ValueError, match=message):
        models.build_encoder(name, stem=stem)


def test_a_network_of_one_size_says_so():
    encoder = models.build_encoder("timm/xcit_nano_12_p8_224", stem="standard").eval()
    with pytest.raises(ValueError, match="`size_px` must be 224 for .* images of 32 x 32 px"):
        encoder(torch.zeros(1, 3, 32, 32))
    assert models.trainable_copy(encoder)(torch.zeros(2, 3, 224, 224)).shape == (2, 128)


def test_timm_is_needed_and_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"need the package timm: pip install 'geossl\[encoders"):
        models.build_encoder(VIT)


@pytest.mark.parametrize("name", [VIT, CONVNEXT])
def test_bands_are_adapted(name):
    encoder = models.build_encoder(name, seed=1).eval()
    encoder.metadata["bands"] = ["red", "green", "blue"]
    wider = weights.with_bands(
        encoder, ["blue", "nir", "red", "green"], reads=["red", "green", "blue"]
    )
    chips = torch.randn(2, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(wider(chips), encoder(chips[:, [2, 3, 0]]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stem", models.STEMS)
def test_an_encoder_survives_its_file_and_a_false_file_is_refused(tmp_path, stem):
    encoder = models.build_encoder(VIT, bands=2, stem=stem, mean=[5, 6], std=[2, 3]).eval()
    weights.save_encoder(encoder, tmp_path)
    back = models.load(tmp_path)
    assert back.config == encoder.config
    chips = torch.randint(0, 255, (2, 2, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(encoder(encoder.normalize(chips)), back(back.normalize(chips)))
    encoder.name = "timm/vit_giant_patch14_dinov2"  # would take 4 GB
    weights.save_encoder(encoder, tmp_path / "false")
    with pytest.raises(ValueError, match="its tensors are not those of 'timm/vit_giant"):
        models.load(tmp_path / "false")
    encoder.name = "timm/hf-hub:someone/net"
    weights.save_encoder(encoder, tmp_path / "worse")
    with pytest.raises(ValueError, match="`name` must be one of"):
        models.load(tmp_path / "worse")


@pytest.mark.parametrize("prefix", ["", "backbone.", "student.net."])
def test_weights_of_a_named_architecture_load_behind_any_prefix(tmp_path, prefix):
    net = timm.create_model("test_vit").eval()
    state = {f"{prefix}{key}": value for key, value in net.state_dict().items()}
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": state, "epoch": 3}, path)
    with pytest.raises(ValueError, match="keys of a ResNet .* Pass `architecture` for another"):
        models.load(path)
    encoder = models.load(path, architecture=VIT)
    images = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    with torch.no_grad():  # timm's own mean and deviation of 0.5
        ours = encoder(encoder.normalize(images))
    wanted = what_the_classifier_reads(net, (images / 255 - 0.5) / 0.5)
    torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)
    assert encoder.metadata["left_out"] == ["head", "epoch"]
    assert encoder.metadata["bands"] == ["red", "green", "blue"]
    with pytest.raises(ValueError, match="must have the keys of 'timm/test_convnext' .stem.0"):
        models.load(path, architecture=CONVNEXT)
    with pytest.raises(ValueError, match="lacks keys of the network: 'blocks.6.norm1.weight'"):
        models.load(path, architecture="timm/vit_tiny_patch16_224")


@pytest.mark.parametrize("name", ["vit_small", "resnet50", "tiny", "timm/hf-hub:a"])
def test_an_architecture_is_one_of_a_library(tmp_path, name):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="`architecture` must be one of a library such as 'timm/"):
        models.load(tmp_path / "a.pth", architecture=name)


def test_the_input_of_other_weights_must_be_told(tmp_path):
    net = timm.create_model("test_convnext", in_chans=13, num_classes=0)
    path = tmp_path / "weights.pth"
    torch.save(net.state_dict(), path)
    with pytest.raises(ValueError, match="`input` must be given for .*weights.pth"):
        models.load(path, architecture=CONVNEXT)
    encoder = models.load(path, architecture=CONVNEXT, input="ssl4eo")
    assert encoder.bands == 13 and encoder.std.tolist() == [10_000] * 13
    net.stem[0].weight.data.zero_()
    torch.save({**net.state_dict(), "stages.9.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="keys that the network lacks: 'stages.9.weight'"):
        models.load(path, architecture=CONVNEXT, input="ssl4eo")


@pytest.mark.parametrize("name", [CONVNEXT, "torchvision/mobilenet_v3_small"])
def test_an_export_is_a_state_dict_of_the_library_and_comes_back(tmp_path, name):
    encoder = models.build_encoder(name, stem="standard", mean=[1, 2, 3], std=[4, 5, 6]).eval()
    weights.export_torchvision(encoder, tmp_path / "net.pth")
    library, model = name.split("/")
    net = timm.create_model(model) if library == "timm" else torchvision.models.get_model(model)
    lost = net.load_state_dict(torch.load(tmp_path / "net.pth"), strict=False)
    assert {key.split(".")[0] for key in lost.missing_keys} <= {"head", "classifier"}
    assert not lost.unexpected_keys
    back = models.load(tmp_path / "net.pth")
    assert back.config == encoder.config and back.mean.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="`full_scale` needs a named `input`: the description"):
        models.load(tmp_path / "net.pth", full_scale=10_000)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(back(images), encoder(images))


@pytest.mark.parametrize(
    "name", [CONVNEXT, "timm/resnet18"]
)  # fmt: skip
def test_dense_features_have_the_strides_and_widths_they_say(name):
    pyramid = Pyramid(models.build_encoder(name, bands=2, stem="standard"))
    assert pyramid.strides == (4, 8, 16, 32) and pyramid.encoder.training
    maps = pyramid.eval()(torch.zeros(1, 2, 64, 96))
    wanted = [
        (1, w, 64 // s, 96 // s) for w, s in zip(pyramid.widths, pyramid.strides, strict=True)
    ]
    assert [tuple(m.shape) for m in maps] == wanted


@pytest.mark.parametrize("name", [VIT, "torchvision/convnext_tiny"])
def test_dense_features_need_stages(name):
    with pytest.raises(ValueError, match=f"stages of several resolutions, which '{name}' lacks"):
        Pyramid(models.build_encoder(name, stem="standard"))


def test_batch_norms_with_an_activation_keep_it(monkeypatch):
    encoder = models.build_encoder("timm/efficientnet_b0", stem="standard")
    with pytest.raises(ValueError, match="`bn_splits` must be 1 .* BatchNormAct2d, got 2"):
        layers.split_batchnorm(encoder, 2)
    monkeypatch.setattr(setup.dist, "world_size", lambda: 2)
    setup._normalize_parts(encoder, 1, SimpleNamespace(type="cuda"))
    kinds = [type(m).__name__ for m in encoder.modules() if "Norm" in type(m).__name__]
    assert set(kinds) == {"SyncBatchNormAct"}
    acts = [m.act for m in encoder.modules() if type(m).__name__ == "SyncBatchNormAct"]
    assert sum(isinstance(act, nn.SiLU) for act in acts) > 20


def test_names_of_a_library_are_recognized():
    assert backbones.is_library_name(VIT) and backbones.is_library_name("torchvision/swin_t")
    for name in ("vit", "timm/a/b", "timm/../x", "timm/hf-hub:a", "keras/vgg", "timm/", "timm/a.b"):
        assert not backbones.is_library_name(name)


SERVER = """
    import hashlib, http.server, os, threading

    served = []
    HEAD = "/timm/test_convnext.r160_in1k/resolve/main/model.safetensors"

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            known = self.path.startswith(HEAD)
            self.send_response(200 if known else 404)
            if known:
                self.send_header("ETag", f'"{tag}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Content-Length", str(len(data)))
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return known

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(data)
                served.append(len(data))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    import safetensors.torch, timm, torch
    from geossl import models

    net = timm.create_model("test_convnext")
    data = safetensors.torch.save(net.state_dict())
    tag = hashlib.sha256(data).hexdigest()

    encoder = models.load("timm/test_convnext.r160_in1k", bands=["red", "green", "blue"])
    state = encoder.backbone.state_dict()
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items() if k in state)
    assert encoder.mean.tolist() == [127.5] * 3
    again = models.load("timm/test_convnext.r160_in1k")
    assert torch.equal(again.backbone.stem[0].weight, encoder.backbone.stem[0].weight)
    assert served == [len(data)]
    for name in ("timm/test_vit.r160_in1k", "timm/test_convnext.no_such", "timm/no_such"):
        try:
            models.load(name)
        except (ConnectionError, ValueError) as error:
            print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_weights_of_timm_are_downloaded_once(tmp_path):
    code = textwrap.dedent(SERVER)
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8",
        env={**os.environ, "HF_HOME": str(tmp_path)}, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("ConnectionError The weights 'timm/test_vit.r160_in1k' could not")
    assert "timm has no weights 'timm/test_convnext.no_such'" in lines[1]
    assert lines[2].startswith("ValueError `path` must be one that timm has")


@pytest.mark.parametrize(
    "name",
    [
        "torchvision/resnet18",  # its blocks have a conv1 too
        "torchvision/regnet_y_400mf",  # cannot be built on the meta device
        "timm/volo_d1_224",  # its first weights of four axes are no convolution
    ],
)
def test_every_network_comes_back_from_both_kinds_of_files(name, tmp_path):
    encoder = models.build_encoder(name, bands=4, stem="standard", mean=[9.0] * 4, std=[3.0] * 4)
    models.weights.export_torchvision(encoder, tmp_path / "weights.pth")
    models.weights.save_encoder(encoder, tmp_path / "ours")
    before = torch.get_rng_state()
    for path in (tmp_path / "weights.pth", tmp_path / "ours"):
        state = models.load(path).state_dict()
        assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)
