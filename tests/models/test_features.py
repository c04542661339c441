import numpy as np
import pytest
import torch

from geossl import models
from geossl.models import features


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stem"),
    [("small", "small"), ("small", "standard"), ("resnet18", "small"), ("resnet50", "standard")],
)
def test_maps_have_the_strides_and_widths_they_say(name, stem):
    encoder = models.build_encoder(name, stem=stem, bands=2).eval()
    pyramid = features.Pyramid(encoder)
    x = torch.randn(2, 2, 64, 96)
    with torch.no_grad():
        maps = pyramid(x)
        assert [m.shape for m in maps] == [
            (2, width, 64 // stride, 96 // stride)
            for width, stride in zip(pyramid.widths, pyramid.strides, strict=True)
        ]
        torch.testing.assert_close(maps[-1].mean((2, 3)), encoder(x))  # the embedding is its mean


def test_padding_keeps_the_image_and_adds_zeros_after_it():
    x = torch.randn(1, 3, 33, 64)
    y = features.pad_to_multiple(x, 32)
    assert y.shape == (1, 3, 64, 64)
    assert torch.equal(y[..., :33, :], x) and not y[..., 33:, :].any()


@pytest.mark.parametrize(
    ("height", "width", "size", "overlap"),
    [(100, 70, 32, 8), (5, 5, 32, 0), (64, 64, 32, 0), (65, 1, 32, 31)],
)
def test_windows_cover_every_pixel_and_share_the_overlap(height, width, size, overlap):
    count = np.zeros((height + 2 * size, width + 2 * size), int)
    found = list(features.sliding_windows(height, width, size_px=size, overlap_px=overlap))
    for left, top, right, bottom in found:
        assert right - left == bottom - top == size and left < width and top < height
        count[top:bottom, left:right] += 1
    assert (count[:height, :width] >= 1).all()
    lefts = sorted({w[0] for w in found})
    assert all(b - a == size - overlap for a, b in zip(lefts, lefts[1:], strict=False))
    # no window lies whole within what its neighbor shows of the scene
    assert all(left == 0 or left + overlap < width for left in lefts)


@pytest.mark.parametrize(("size", "overlap"), [(8, 8), (8, -1)])
def test_windows_that_do_not_move_on_are_refused(size, overlap):
    with pytest.raises(ValueError, match="`overlap_px` must be (less than `size_px`|>= 0)"):
        list(features.sliding_windows(9, 9, size_px=size, overlap_px=overlap))
