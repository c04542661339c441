import pytest
import torch
from segment_scenes import noise, same, small, states

from geossl import models
from geossl.tasks.segment.model import Network


@pytest.mark.slow
@pytest.mark.parametrize("head", ["fpn", "fcn", "deeplab"])
@pytest.mark.parametrize(("name", "stem"), [("small", "small"), ("resnet18", "standard")])
def test_scores_have_the_resolution_of_the_image(head, name, stem):
    encoder = models.build_encoder(name, stem=stem, bands=2)
    net = Network(encoder, classes=5, head=head, width=8, seed=3)
    assert net.encoder is not encoder and net.stride == (16 if name == "small" else 32)
    assert net.eval()(noise(2, 2, 64, 32)).shape == (2, 5, 64, 32)
    again = Network(encoder, classes=5, head=head, width=8, seed=3)
    other = Network(encoder, classes=5, head=head, width=8, seed=4)
    assert same(states(net), states(again))
    assert not same(states(other.head), states(again.head))


def test_pixels_without_data_do_not_reach_the_network():
    net = Network(small(), classes=2, head="fpn", width=8).eval()
    chips, valid = 90 * noise(1, 3, 32, 32), torch.ones(1, 32, 32, dtype=torch.bool)
    valid[:, 10:14] = False
    with torch.no_grad():
        first = net.from_chips(chips, valid)
        chips[:, :, 10:14] = 9999
        assert torch.equal(net.from_chips(chips, valid), first)
        chips[:, :, 10:14] = 60  # the mean
        assert torch.allclose(net.from_chips(chips, torch.ones_like(valid)), first, atol=1e-6)


def test_an_encoder_of_several_processes_is_tuned_in_one():
    encoder = torch.nn.SyncBatchNorm.convert_sync_batchnorm(small())
    maps = Network(encoder, classes=2, head="fcn").pyramid.train()(noise(2, 3, 32, 32))
    assert maps[-1].isfinite().all() and isinstance(encoder.backbone[1], torch.nn.SyncBatchNorm)
