import functools

import numpy as np
import pandas as pd
import pytest
import torch
from vectors import embeddings, rows, standard

from geossl import evaluate
from geossl.embeddings import Embeddings


def test_sgd_is_a_loop_of_numpy():
    """Full batches, so that the order cannot matter: momentum, decay and drops by hand."""
    found = embeddings()
    train, test = rows(found, "train"), rows(found, "test")
    config = evaluate.SGD(
        lr=2.0, momentum=0.8, weight_decay=0.01, batch_size=1000, epochs=9, drops=(4, 7)
    )
    x = np.c_[standard(found, train) / 6**0.5, np.ones(240)]
    y = pd.get_dummies(found.scenes["label"]).to_numpy(float)
    weight, speed = np.zeros((7, 3)), np.zeros((7, 3))

    def softmax(rows):
        e = np.exp(x[rows] @ weight)
        return e / e.sum(1, keepdims=True)

    for epoch in range(9):
        rate = 2.0 if epoch < 4 else 0.2 if epoch < 7 else 0.02
        gradient = x[train].T @ (softmax(train) - y[train]) / len(train) + 0.01 * weight
        speed = 0.8 * speed + gradient
        weight = weight - rate * speed
    result = evaluate.linear(found, solver=config)
    np.testing.assert_allclose(result.probabilities, softmax(test), atol=1e-5)
    assert not np.allclose(result.probabilities.std(0), 0, atol=0.01)


def test_sgd_draws_by_its_seed_and_does_not_care_for_the_scale():
    found = embeddings(noise=2.0)
    before = torch.get_rng_state()
    quick = functools.partial(evaluate.linear, solver=evaluate.SGD(batch_size=16, epochs=5))
    one, again, other = (quick(found, seed=s).probabilities for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(one, again) and not np.allclose(one, other)
    larger = quick(Embeddings(1e4 * found.vectors + 7, found.scenes)).probabilities
    np.testing.assert_allclose(larger, one, atol=0.02)


def test_the_papers_protocol_comes_near_the_optimum():
    found = embeddings(places=240, noise=0.5)
    by_sgd, best = evaluate.linear(found, solver="sgd"), evaluate.linear(found)
    assert by_sgd.value == pytest.approx(best.value, abs=0.05) and by_sgd.value > 0.8
    assert by_sgd.n_train == len(rows(found, "train")) and "SGD" in by_sgd.metric


def test_solvers_that_are_none():
    with pytest.raises(ValueError, match="`solver` must be one of .'lbfgs', 'sgd'., got 'adam'"):
        evaluate.linear(embeddings(), solver="adam")
