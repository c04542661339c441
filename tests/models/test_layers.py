import torch
import torch.nn.functional as F

from geossl.models import layers


def test_split_batchnorm_is_batchnorm_of_each_part():
    x = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    norm = layers.split_batchnorm(torch.nn.Sequential(torch.nn.BatchNorm2d(4)), 2)
    want = torch.cat([F.batch_norm(p, None, None, training=True) for p in x.chunk(2)])
    torch.testing.assert_close(norm(x), want)
    whole = torch.nn.BatchNorm2d(4)
    assert not torch.allclose(norm(x), whole(x), atol=1e-3)
    assert list(norm.state_dict()) == ["0." + k for k in whole.state_dict()]


def test_splitting_keeps_weights_and_statistics():
    plain = torch.nn.BatchNorm2d(3)
    plain.weight.data.uniform_()
    plain.running_mean.uniform_()
    split = layers.split_batchnorm(plain, 2)
    assert split.weight is plain.weight and torch.equal(split.running_mean, plain.running_mean)
    x = torch.randn(4, 3, 2, 2)
    torch.testing.assert_close(split.eval()(x), plain.eval()(x))
