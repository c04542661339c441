import pytest
import torch
from detect_scenes import SMALL, encoder_of

from geossl.tasks import detect
from geossl.tasks.detect.model import build


def test_ignored_anchors_teach_nothing_and_the_rest_does():
    net = build(encoder_of(), 1, SMALL, seed=0)
    x, none = torch.randn(1, 3, 32, 32), torch.zeros(0, 4)
    target = {"boxes": none, "labels": torch.zeros(0, dtype=torch.int64)}
    everywhere = torch.tensor([[-999.0, -999, 999, 999]])
    assert net(x, [target | {"ignored": everywhere}])["classification"] == 0
    assert net(x, [target | {"ignored": none}])["classification"] > 0
    box = {"boxes": torch.tensor([[4.0, 4, 20, 20]]), "labels": torch.tensor([0])}
    losses = net(x, [box | {"ignored": everywhere}])  # an object within is still learned
    assert losses["classification"] > 0 and losses["bbox_regression"] > 0


@pytest.mark.parametrize(
    "change", [{"freeze": "some"}, {"batch_size": 0}, {"upsample": 1.5}, {"boxed": 2}, {"lr": 0},
               {"anchor_sides": ()}, {"anchor_ratios": (0.0,)}, {"warmup": 1.0}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(change):
    (name,) = change
    error = TypeError if change == {"upsample": 1.5} else ValueError
    with pytest.raises(error, match=rf"`{name}(\[0\])?` must"):
        detect.DetectConfig(**change)
    with pytest.raises(ValueError, match="`finest_stride` must be <= 16"):
        build(encoder_of(), 1, detect.DetectConfig(finest_stride=32), seed=0)
