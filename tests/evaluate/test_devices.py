import functools
import sys

import numpy as np
import pytest
import torch
from vectors import embeddings

from geossl import evaluate

MEASURES = {
    "linear": evaluate.linear,
    "sgd": functools.partial(evaluate.linear, solver=evaluate.SGD(epochs=5)),
    "knn": evaluate.knn,
    "multi_label": functools.partial(evaluate.multi_label, label="label"),
    "same_location": evaluate.same_location,
}


@pytest.mark.gpu
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_gpu_finds_what_the_cpu_finds(measure):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = embeddings(noise=2.0)
    here, there = (measure(found, device=name) for name in ("cpu", "cuda"))
    assert there.value == pytest.approx(here.value, abs=0.02)
    assert there.n_test == here.n_test and there.more.keys() == here.more.keys()
    if here.probabilities is not None:
        np.testing.assert_allclose(there.probabilities, here.probabilities, atol=2e-3)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_probe_computes_where_it_is_told(measure, monkeypatch):
    asked = []

    def pick(name):
        asked.append(name)
        return torch.device("cpu")

    for name in ("linear", "knn", "multilabel", "retrieval"):
        monkeypatch.setattr(sys.modules[f"geossl.evaluate.{name}"], "select_device", pick)
    measure(embeddings(), device="auto")
    assert asked == ["auto"]


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_device_that_is_not_there_is_told(measure):
    with pytest.raises(
        ValueError, match="`device` must be 'auto', 'cpu', 'cuda', ..., got 'abacus'"
    ):
        measure(embeddings(), device="abacus")
