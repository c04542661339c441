import pytest
import torch
from torch import nn

from geossl import models
from geossl.models import layers, weights


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("synchronized", [False, True])
def test_a_trainable_copy_is_one_and_leaves_the_encoder_as_it_is(frozen, synchronized):
    encoder = layers.split_batchnorm(models.build_encoder("small"), 4)
    if synchronized:  # as on several GPUs; it would wait for the others
        encoder = nn.SyncBatchNorm.convert_sync_batchnorm(models.build_encoder("small"))
    encoder.requires_grad_(frozen).metadata = {"bands": ["r"]}
    first, norm = encoder.backbone[0].weight, encoder.backbone[1]
    first.grad = torch.ones_like(first)
    norm.running_mean.fill_(0.5)
    copied = models.trainable_copy(encoder, frozen=frozen)
    assert all(p.requires_grad != frozen and p.grad is None for p in copied.parameters())
    assert all(p.requires_grad == frozen for p in encoder.parameters())
    assert encoder.backbone[1] is norm and first.grad is not None
    assert type(copied.backbone[1]) is nn.BatchNorm2d
    assert copied.state_dict().keys() == encoder.state_dict().keys()
    assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in copied.state_dict().items())
    with torch.no_grad():
        copied.backbone[0].weight.zero_()
    assert first.any() and copied.metadata == encoder.metadata and copied.config == encoder.config


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, width", [("tiny", 256), ("small", 256), ("resnet18", 512), ("resnet50", 2048)]
)
@pytest.mark.parametrize("stem", models.STEMS)
@pytest.mark.parametrize("bands", [1, 4])
def test_encoders_take_any_number_of_bands(name, width, stem, bands):
    net = models.build_encoder(name, bands=bands, stem=stem).eval()
    assert net.embedding_dim == width
    with torch.no_grad():
        assert net(torch.zeros(2, bands, 32, 32)).shape == (2, width)


def test_the_same_seed_gives_the_same_encoder_and_leaves_the_global_state_alone():
    before = torch.random.get_rng_state()
    a, b, c = (models.build_encoder("small", seed=s).state_dict() for s in (0, 0, 1))
    models.MoCo(models.build_encoder("small"), queue_size=4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


def test_an_encoder_survives_its_file_with_its_normalization(tmp_path):
    net = models.build_encoder("small", bands=2, stem="standard", mean=[5, 6], std=[2, 3]).eval()
    weights.save_encoder(
        net, tmp_path / "a" / "encoder.safetensors", metadata={"bands": ["r", "n"]}
    )
    back = weights.load_encoder(tmp_path / "a" / "encoder.safetensors")
    chips = torch.randint(0, 255, (2, 2, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(net(net.normalize(chips)), back(back.normalize(chips)))
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["encoder.safetensors"]


def test_clear_words_for_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"`name` must be one of \['tiny', .*, got 'resnet19'"):
        models.build_encoder("resnet19")
    with pytest.raises(ValueError, match="`stem` must be one of .*, got 'big'"):
        models.build_encoder("small", stem="big")
    with pytest.raises(ValueError, match=r"`mean` must have .* 3 bands, got \[0.0, 0.0\]"):
        models.build_encoder("small", mean=[0, 0])
    with pytest.raises(ValueError, match="`std` must be > 0 .* constant"):
        models.build_encoder("small", std=[1, 0, 1])
    with pytest.raises(
        FileNotFoundError, match="no encoder at .*no.safetensors.*directory of a run"
    ):
        weights.load_encoder(tmp_path / "no.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a safetensors file")
    with pytest.raises(ValueError, match="damaged"):
        weights.load_encoder(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("size", [(57, 91), (7, 9), (33, 32)])
def test_the_small_encoder_takes_sides_that_its_strides_do_not_divide(size):
    encoder = models.build_encoder("small").eval()
    with torch.no_grad():
        found = encoder(torch.zeros(2, 3, *size))
    assert found.shape == (2, encoder.embedding_dim) and bool(found.isfinite().all())
