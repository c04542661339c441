import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from geossl import models
from geossl.models import layers


def test_split_batchnorm_is_batchnorm_of_each_part():
    x = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    norm = layers.split_batchnorm(torch.nn.Sequential(torch.nn.BatchNorm2d(4)), 2)
    want = torch.cat([F.batch_norm(p, None, None, training=True) for p in x.chunk(2)])
    torch.testing.assert_close(norm(x), want)
    whole = torch.nn.BatchNorm2d(4)
    assert not torch.allclose(norm(x), whole(x), atol=1e-3)
    assert list(norm.state_dict()) == ["0." + k for k in whole.state_dict()]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("dilation", [1, 2])
def test_quick_max_pooling_is_torchs_bit_for_bit(layout, learned, dilation):
    mine, torchs = (nn.MaxPool2d(3, 2, 1, dilation, ceil_mode=dilation > 1) for _ in range(2))
    layers.quick_on_a_cpu(mine)
    x = torch.randn(2, 8, 13, 10).round(decimals=1).contiguous(memory_format=layout)  # with ties
    a, b = (x.clone().requires_grad_(learned) for _ in range(2))
    got, want = mine(a), torchs(b)
    assert torch.equal(got, want) and got.stride() == want.stride()
    if learned:
        slope = torch.randn_like(want)
        got.backward(slope)
        want.backward(slope)
        assert torch.equal(a.grad, b.grad)


CONVOLUTIONS = [  # kernel, stride, padding, height and width of the images
    (3, 1, 1, (2, 2)),
    (3, 2, 1, (4, 3)),
    (1, 2, 0, (5, 5)),
    (1, 1, 0, (1, 2)),
    (7, 2, 3, (6, 5)),
    ((3, 2), (1, 2), (0, 1), (4, 5)),
]


def convolution(kernel, stride, padding, dtype=torch.float32):
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, kernel, stride, padding, bias=False, dtype=dtype)
    return layers.quick_on_a_cpu(copy.deepcopy(plain)), plain


def spied(monkeypatch):
    """Where it is noted that the quick way was taken."""
    seen, apply = [], layers._ByProducts.apply
    monkeypatch.setattr(layers._ByProducts, "apply", lambda *a: seen.append(a) or apply(*a))
    return seen


@pytest.mark.parametrize("kernel, stride, padding, size", CONVOLUTIONS)
def test_quick_convolutions_are_torchs(kernel, stride, padding, size, monkeypatch):
    quick, plain = convolution(kernel, stride, padding)
    seen = spied(monkeypatch)
    a, b = (torch.randn(4, 5, *size).requires_grad_() for _ in range(2))
    with torch.no_grad():
        b.copy_(a)
    got, want = quick(a), plain(b)
    assert seen and torch.equal(got, want) and got.stride() == want.stride()
    slope = torch.randn_like(want)
    got.backward(slope)
    want.backward(slope)
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(quick.weight.grad, plain.weight.grad)
    assert quick.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("kernel, stride, padding, size", CONVOLUTIONS)
def test_gradients_by_products_are_right_twice(kernel, stride, padding, size):
    quick, _ = convolution(kernel, stride, padding, torch.float64)
    x = torch.randn(2, 5, *size, dtype=torch.float64).requires_grad_()

    def made(x, weight):
        return layers._ByProducts.apply(x, weight, quick.stride, quick.padding)

    assert torch.autograd.gradcheck(made, (x, quick.weight))
    assert torch.autograd.gradgradcheck(made, (x, quick.weight))


def test_a_gradient_for_each_image_is_there_too():
    quick, _ = convolution(3, 2, 1)
    x = torch.randn(3, 5, 4, 4)

    def loss(weight, one):
        return torch.func.functional_call(quick, {"weight": weight}, one[None]).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(quick.weight.detach(), x)
    for one, got in zip(x, found, strict=True):
        want = torch.autograd.grad(quick(one[None]).square().sum(), quick.weight)[0]
        torch.testing.assert_close(got, want)


def test_torchs_way_is_taken_where_the_other_would_not_pay_or_not_hold(monkeypatch):
    quick, plain = convolution(3, 1, 1)
    seen, x = spied(monkeypatch), torch.randn(2, 5, 3, 3)
    quick(torch.randn(2, 5, 4, 3))  # too many pixels
    quick(x.contiguous(memory_format=torch.channels_last))
    with torch.no_grad():
        quick(x)
    with torch.autocast("cpu", torch.bfloat16):
        quick(x)
    copy.deepcopy(quick).double()(x.double())
    copy.deepcopy(quick).requires_grad_(False)(x.requires_grad_())
    with monkeypatch.context() as tracing:
        tracing.setattr(torch.jit, "is_tracing", lambda: True)
        quick(x)
    quick.to("meta")(x.to("meta"))
    assert not seen


def test_only_plain_layers_are_changed():
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, dilation=2, bias=False), nn.Conv2d(4, 4, 3, padding="same", bias=False),
        nn.Conv2d(4, 4, 3, padding_mode="reflect", bias=False),
        nn.MaxPool2d(2, return_indices=True),
    )  # fmt: skip
    before = [type(layer) for layer in net]
    assert [type(layer) for layer in layers.quick_on_a_cpu(net)] == before


def test_a_resnet_of_few_pixels_learns_as_torchvisions_does(monkeypatch):
    mine = models.build_encoder("resnet18", stem="standard").train()
    torchs = copy.deepcopy(mine)
    for layer in torchs.modules():
        if isinstance(layer, layers.QuickConv2d | layers.QuickMaxPool2d):
            layer.__class__ = type(layer).__base__
    seen, x = spied(monkeypatch), torch.randn(8, 3, 64, 64)
    for net in (mine, torchs):
        net(x).square().mean().backward()
    assert len(seen) == 5  # layer4: four of 3 x 3, and the shortcut
    for a, b in zip(mine.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


def test_a_compiler_sees_one_graph_of_plain_layers(monkeypatch):
    net, seen = models.build_encoder("resnet18", stem="standard").train(), spied(monkeypatch)
    torch.compile(net, fullgraph=True, backend="eager")(torch.randn(2, 3, 64, 64))
    assert not seen
