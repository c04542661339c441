import dataclasses

import pytest
import torch
import torchvision.transforms.functional as TF
from torchvision.transforms import RandomResizedCrop

from geossl import transforms
from geossl.transforms import Views, moco_v2
from geossl.utils.resample import resample

PLAIN = Views(crop=(1, 1), ratio=(1, 1), flip=0, dihedral=False, jitter=0)
ZERO, ONE = torch.zeros(3), torch.ones(3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def chips(n=6, bands=3, size=16):
    return torch.randint(0, 256, (n, bands, size, size), dtype=torch.uint8, generator=generator())


def test_without_augmentation_a_view_is_the_normalized_chip():
    x = chips()
    mean, std = torch.tensor([90.0, 100, 110]), torch.tensor([40.0, 50, 60])
    got = PLAIN(x, mean=mean, std=std, generator=generator())
    torch.testing.assert_close(got, (x.float() - mean[:, None, None]) / std[:, None, None])


def test_one_independent_draw_per_image_seeded_and_without_the_global_state():
    x = chips(1).expand(8, -1, -1, -1)
    before = torch.random.get_rng_state()
    a, b, c = (Views()(x, mean=ZERO, std=ONE, generator=generator(s)) for s in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert len({v.sum().item() for v in a}) == 8


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_any_number_of_bands_and_any_real_dtype(bands, dtype):
    views = dataclasses.replace(moco_v2(12), band_gain=0.1, band_offset=0.1, dihedral=True)
    mean, std = torch.zeros(bands), torch.ones(bands)
    got = views(chips(5, bands).to(dtype), mean=mean, std=std, generator=generator())
    assert got.shape == (5, bands, 12, 12) and bool(got.isfinite().all())


def test_dihedral_views_are_the_eight_symmetries_equally_often():
    x = chips(1)
    views = dataclasses.replace(PLAIN, flip=0.5, dihedral=True)
    turned = [x.rot90(k, (2, 3)) for k in range(4)]
    symmetries = torch.cat([*turned, *(t.flip(3) for t in turned)]).float()
    n = 1600
    got = views(x.expand(n, -1, -1, -1), mean=ZERO, std=ONE, generator=generator())
    distance = (got[:, None] - symmetries[None]).abs().amax((2, 3, 4))
    assert float(distance.amin(1).max()) < 1e-2
    counts = distance.argmin(1).bincount(minlength=8)
    assert float(((counts - n / 8) ** 2 / (n / 8)).sum()) < 24.3  # chi-square, 7 df, p = 0.001


def test_a_crop_covers_the_share_it_says_and_stays_inside():
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    x = torch.cat([ramp, ramp.transpose(2, 3)], 1).expand(500, -1, -1, -1)
    views = dataclasses.replace(PLAIN, crop=(0.25, 0.25), ratio=(0.8, 1.25))
    got = views(x, mean=torch.zeros(2), std=torch.ones(2), generator=generator())
    wide = (got[:, 0, 0, -1] - got[:, 0, 0, 0]) * 64 / 63
    tall = (got[:, 1, -1, 0] - got[:, 1, 0, 0]) * 64 / 63
    assert float((wide * tall - 0.25).abs().max()) < 0.02
    assert float((wide / tall).min()) >= 0.75 and float((wide / tall).max()) <= 1.33
    assert float(got.min()) >= 0 and float(got.max()) <= 1


def test_a_crop_lies_anywhere_with_equal_chance_and_a_turn_keeps_it_whole():
    ramp = torch.linspace(-1, 1, 33).expand(1, 1, 33, 33)
    x = torch.cat([ramp, ramp.transpose(2, 3)], 1).expand(1000, -1, -1, -1)
    for dihedral in (False, True):
        views = dataclasses.replace(PLAIN, size_px=9, crop=(0.25, 0.25), dihedral=dihedral)
        got = views(x, mean=torch.zeros(2), std=torch.ones(2), generator=generator())
        middle = got[:, :, 4, 4] * 32 / 33  # where the crop lies, of -0.5 to 0.5
        for axis in (0, 1):
            ordered = middle[:, axis].sort().values + 0.5
            uniform = torch.arange(1, 1001) / 1000
            assert float((ordered - uniform).abs().max()) < 0.0616  # Kolmogorov, p = 0.001
        corners = got[:, :, ::8, ::8].flatten(2) * 32 / 33 - middle[:, :, None]  # (N, 2, 4)
        torch.testing.assert_close(corners.abs(), torch.full_like(corners, 0.5 * 8 / 9))
        assert torch.equal(corners.sum(2).abs() < 1e-4, torch.ones(1000, 2, dtype=torch.bool))


def color_only(**settings):
    off = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "jitter": 1.0}
    return dataclasses.replace(PLAIN, **{**off, **settings})


def test_a_crop_that_does_not_fit_is_drawn_again_as_torchvision_does():
    n = 20_000
    views = dataclasses.replace(PLAIN, crop=(0.2, 1.0), ratio=(3 / 4, 4 / 3))
    means = {}
    for redraw in (False, True):
        views = dataclasses.replace(views, redraw=redraw)
        params = views.sample_params(n, 3, generator=generator())
        width, height = views._draw_crop(params[:, :-1])
        assert float(torch.maximum(width, height).max()) <= 1
        means[redraw] = float((width * height).mean())
    image = torch.zeros(1, 1000, 1000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        boxes = [RandomResizedCrop.get_params(image, (0.2, 1), (3 / 4, 4 / 3)) for _ in range(n)]
    area = torch.tensor([h * w / 1e6 for _, _, h, w in boxes])
    full = dataclasses.replace(views, crop=(1.0, 1.0))  # none fits but by its ratio of 1
    params = full.sample_params(500, 3, generator=generator())
    assert all(bool((side == 1).all()) for side in full._draw_crop(params[:, :-1]))
    # Three standard errors of the difference; cut crops are a tenth larger.
    assert abs(means[True] - float(area.mean())) < 3 * float(area.std()) * (2 / n) ** 0.5
    assert means[False] > means[True] + 0.03


@pytest.mark.parametrize("box", [(0, 0, 16, 16), (3, 2, 12, 9), (5, 7, 4, 8), (1, 0, 2, 16)])
@pytest.mark.parametrize("size", [4, 7, 16, 21])
def test_a_resampled_box_is_torchvisions_resized_crop(box, size):
    x = chips().float()
    top, left, height, width = box
    wanted = TF.resized_crop(x, top, left, height, width, [size, size], antialias=True)
    center = torch.tensor([[2 * left + width - 16, 2 * top + height - 16]]) / 16.0
    extent = torch.tensor([[width, height]]) / 16.0
    got = resample(x, center.expand(6, -1), extent.expand(6, -1), size)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-2)
    mirrored = resample(x, center.expand(6, -1), extent.expand(6, -1) * torch.tensor([-1, 1]), size)
    torch.testing.assert_close(mirrored, got.flip(3), rtol=1e-5, atol=1e-3)


def test_antialiasing_changes_how_a_view_is_read_and_not_what_it_shows():
    x = chips(200).float()
    views = dataclasses.replace(PLAIN, flip=0.5, dihedral=True)
    smooth = dataclasses.replace(views, antialias=True)
    a, b = (v(x, mean=ZERO, std=ONE, generator=generator()) for v in (views, smooth))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-2)  # nothing shrinks: the same symmetries
    ramp = torch.linspace(0, 255, 64).expand(200, 3, 64, 64) + torch.linspace(0, 99, 64)[:, None]
    views = dataclasses.replace(views, crop=(0.25, 1.0), ratio=(0.5, 2.0), size_px=16)
    smooth = dataclasses.replace(views, antialias=True)
    a, b = (v(ramp, mean=ZERO, std=ONE, generator=generator()) for v in (views, smooth))
    inner = (..., slice(2, -2), slice(2, -2))  # a slope looks the same from near and from far
    torch.testing.assert_close(a[inner], b[inner], rtol=1e-3, atol=0.5)


def test_antialiasing_leaves_no_more_detail_than_torchvision_where_a_view_shrinks():
    """At half the size, four neighbors keep a checkerboard that no smaller image can show."""
    noise = torch.rand(32, 3, 64, 64, generator=generator()) * 255
    wanted = TF.resize(noise, [16, 16], antialias=True)

    def detail(x):
        return float((x[..., 1:] - x[..., :-1]).square().mean())

    views = dataclasses.replace(PLAIN, size_px=16)
    sharp, smooth = (
        dataclasses.replace(views, antialias=a)(noise, mean=ZERO, std=ONE, generator=generator())
        for a in (False, True)
    )
    torch.testing.assert_close(smooth, wanted, rtol=1e-4, atol=1e-2)
    assert detail(sharp) > 3 * detail(smooth)


@pytest.mark.parametrize("what", ["brightness", "contrast", "saturation"])
def test_color_jitter_is_torchvisions_at_some_strength_within_the_range(what):
    x = 0.3 + 0.4 * torch.rand(40, 3, 8, 8, generator=generator())  # no clamping happens
    got = color_only(**{what: 0.4})(x, mean=ZERO, std=ONE, generator=generator(1))
    adjust = getattr(TF, f"adjust_{what}")
    strengths = torch.linspace(0.6, 1.4, 161).tolist()
    found = []
    for image, view in zip(x, got, strict=True):
        errors = [float((adjust(image, s) - view).abs().max()) for s in strengths]
        assert min(errors) < 6e-3
        found.append(strengths[errors.index(min(errors))])
    assert min(found) < 0.75 and max(found) > 1.25


def test_hue_and_saturation_keep_the_luma_and_gray_has_none_left():
    x = torch.rand(20, 3, 8, 8, generator=generator())
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    got = color_only(hue=0.3, saturation=0.5)(x, mean=ZERO, std=ONE, generator=generator())
    torch.testing.assert_close((got * luma).sum(1), (x * luma).sum(1), atol=2e-3, rtol=0)
    assert float((got - x).abs().max()) > 0.05
    gray = color_only(grayscale=1.0)(x, mean=ZERO, std=ONE, generator=generator())
    torch.testing.assert_close(gray, (x * luma).sum(1, keepdim=True).expand_as(x))


def test_blur_equals_torchvisions_on_exactly_its_share():
    x = torch.rand(10, 2, 16, 16, generator=generator())
    views = dataclasses.replace(PLAIN, blur=0.5, blur_sigma_px=(1.0, 1.0))
    got = views(x, mean=torch.zeros(2), std=torch.ones(2), generator=generator())
    same = (got - x).abs().amax((1, 2, 3)) < 1e-5
    assert int(same.sum()) == 5
    want = TF.gaussian_blur(x[~same], [5, 5], [1.0, 1.0])
    torch.testing.assert_close(got[~same], want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("blur", [0.0, 0.1, 0.5])
def test_views_by_numbers_drawn_before_are_those_of_a_call_and_each_row_stands_for_itself(blur):
    views = dataclasses.replace(moco_v2(12), blur=blur, band_gain=0.1, dihedral=True)
    x, units = chips(7), {"mean": ZERO, "std": ONE}
    draws = views.sample_params(7, 3, generator=generator())
    whole = views.apply(x, draws, **units)
    torch.testing.assert_close(whole, views(x, generator=generator(), **units))
    assert float(draws[:, -1].sum()) == round(blur * 7)
    parts = [views.apply(x[rows], draws[rows], **units) for rows in (slice(0, 1), slice(1, 7))]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_blur_of_oblong_views_mirrors_at_each_edge():
    x = torch.rand(3, 2, 9, 14, generator=generator())
    views = Views(blur=1.0, blur_sigma_px=(1.5, 1.5))
    want = TF.gaussian_blur(x, [7, 7], [1.5, 1.5])
    got = views._blur(x.clone(), torch.zeros(3), torch.arange(3))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_chips_are_cropped_alike_in_parts(monkeypatch):
    views, x = moco_v2(12), chips(7)
    draws = views.sample_params(7, 3, generator=generator())
    whole = views.apply(x, draws, mean=ZERO, std=ONE)
    monkeypatch.setattr(transforms, "_PART", 2 * x[0].numel())
    assert torch.equal(views.apply(x, draws, mean=ZERO, std=ONE), whole)


def test_views_can_be_differentiated_after_they_were_drawn_in_inference_mode():
    transforms._constants.cache_clear()
    transforms._taps.cache_clear()
    with torch.inference_mode():
        moco_v2()(chips(), mean=ZERO, std=ONE, generator=generator())
    x = chips().float().requires_grad_()
    moco_v2()(x, mean=ZERO, std=ONE, generator=generator()).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


def test_clear_words_for_wrong_arguments():
    with pytest.raises(ValueError, match=r"`crop` must be \(smallest, largest\), got \(0.5, 0.2\)"):
        Views(crop=(0.5, 0.2))
    with pytest.raises(ValueError, match=r"`ratio\[0\]` must be > 0, got 0"):
        Views(ratio=(0, 1))
    with pytest.raises(ValueError, match="`size_px` must be > 0, got 0"):
        Views(size_px=0)
    with pytest.raises(ValueError, match=r"`chips` must be \(N, C, H, W\)"):
        PLAIN(torch.zeros(3, 8, 8), mean=ZERO, std=ONE, generator=generator())
    for name in ("mean", "std"):
        values = {"mean": ZERO, "std": ONE, name: torch.ones(2)}
        with pytest.raises(ValueError, match=f"`{name}` must have one value .* 3 bands"):
            PLAIN(chips(), **values, generator=generator())


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Views)])
@pytest.mark.parametrize("value", ["word", -1, float("nan"), float("inf"), object()])
def test_each_option_is_checked_by_name(name, value):
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must be "):
        Views(**{name: value})
