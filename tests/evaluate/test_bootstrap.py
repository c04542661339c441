import numpy as np
import pytest
import torch
from vectors import RNG

from geossl.evaluate import bootstrap


def test_the_interval_is_that_of_places_and_covers_the_truth():
    """Draws of whole places: of 300 samples about 95 % of the intervals cover the true share."""
    rng, covered, widths = RNG(0), 0, []
    for sample in range(300):
        ease = rng.uniform(0, 1, 80)  # mean .5; chips of one place are alike
        hit = np.repeat(ease, 4) > np.repeat(rng.uniform(0, 1, 80), 4)
        value, low, high = bootstrap.share_interval(hit, np.repeat(np.arange(80), 4), sample)
        assert low <= value == hit.mean() <= high
        covered += low <= 0.5 <= high
        widths.append(high - low)
    assert 0.91 < covered / 300 < 0.98
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(80), rel=0.1)  # 80, not 320


def test_intervals_draw_whole_places():
    """Of any measure: the mean of weighted chips has the interval of `bootstrap.share_interval`."""
    group = np.repeat(np.arange(60), 4)
    hit = np.repeat(RNG(0).uniform(0, 1, 60), 4) > RNG(1).uniform(0, 1, 240)
    asked = []

    def mean(weights):
        asked.append(weights)
        return (weights * torch.from_numpy(hit)).sum(1) / weights.sum(1)

    low, high = bootstrap.bootstrap_interval(mean, group, seed=0, resamples=3000)
    _, want_low, want_high = bootstrap.share_interval(hit, group, 1)
    assert (low, high) == pytest.approx((want_low, want_high), abs=0.015)
    weights = torch.cat(asked)
    assert weights.shape == (3000, 240) and (weights.sum(1) == 240).all()
    assert (weights.reshape(3000, 60, 4) == weights[:, ::4, None]).all()
    nothing = bootstrap.bootstrap_interval(lambda w: w[:, 0] * np.nan, group, seed=0, resamples=3)
    assert np.isnan(nothing).all()
