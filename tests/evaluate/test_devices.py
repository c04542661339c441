import functools
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
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


class Held(torch.Tensor):
    """A tensor of another device ("meta"), whose numbers the CPU holds; never of float64."""

    @staticmethod
    def __new__(cls, numbers):
        if numbers.dtype == torch.float64:  # as on Apple's GPU
            raise TypeError("Cannot convert a tensor to float64: the device has none")
        shape, strides = numbers.shape, numbers.stride()
        return torch.Tensor._make_wrapper_subclass(
            cls, shape, strides=strides, dtype=numbers.dtype, device="meta"
        )

    def __init__(self, numbers):
        self.numbers = numbers

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


class DeviceWithoutDoubles(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


def compute(function, args, kwargs):
    there = any(isinstance(leaf, Held) for leaf in tree_leaves((args, kwargs)))
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == "meta"
        kwargs = kwargs | {"device": "cpu"}
    here = tree_map(lambda x: x.numbers if isinstance(x, Held) else x, (args, kwargs))
    result = function(*here[0], **here[1])
    if not there:
        return result
    if function._schema.name.endswith("_"):  # in place
        return args[0]
    return tree_map(lambda x: Held(x) if isinstance(x, torch.Tensor) else x, result)


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_device_without_float64_gives_the_same(measure, monkeypatch):
    for name in ("linear", "knn", "multilabel", "retrieval"):
        module = sys.modules[f"geossl.evaluate.{name}"]
        monkeypatch.setattr(module, "select_device", torch.device)
    vectors = embeddings(noise=2.0)
    here = measure(vectors, device="cpu")
    with DeviceWithoutDoubles():
        there = measure(vectors, device="meta")
    assert there.value == here.value and there.n_test == here.n_test
