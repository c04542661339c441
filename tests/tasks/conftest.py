"""Fixtures of the tests of detection and segmentation."""

import numpy as np
import pytest
import torch
from detect_scenes import picture
from segment_scenes import NAMES, small, squares

from geossl.tasks import segment
from geossl.transforms import Views


@pytest.fixture(autouse=True)
def global_random_state_is_left_alone(request):
    if "test_segment" not in request.node.nodeid:
        yield
        return
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.fixture(scope="session")
def seven(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seven")
    return [picture(folder / f"{i}.png") for i in range(7)]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    scenes = squares(folder).assign(split=["train"] * 5 + ["val"])
    config = segment.SegmentConfig(
        epochs=25, batch_size=4, size_px=32, width=32, lr=3e-3, color=Views()
    )
    tuned = segment.train(
        scenes, small(), classes=NAMES, config=config, output_dir=folder / "run", seed=1
    )
    return folder, scenes, tuned
