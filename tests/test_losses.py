import math

import pytest
import torch

from geossl import losses


def triple_loop(query, key, queue, temperature, mask):
    """InfoNCE by hand: for every query, over every entry, over every dimension."""
    unit = [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in query.tolist()]
    keys = [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in key.tolist()]
    total = 0.0
    for i, row in enumerate(unit):
        positive = math.exp(sum(a * b for a, b in zip(row, keys[i], strict=True)) / temperature)
        negatives = 0.0
        for j, entry in enumerate(queue.tolist()):
            if not mask[i][j]:
                dot = sum(a * b for a, b in zip(row, entry, strict=True))
                negatives += math.exp(dot / temperature)
        total -= math.log(positive / (positive + negatives))
    return total / len(unit)


@pytest.mark.parametrize("n, k, d", [(1, 1, 1), (1, 7, 3), (5, 11, 4)])
@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_info_nce_equals_a_triple_loop(n, k, d, temperature):
    g = torch.Generator().manual_seed(n * k + d)
    query, key = torch.randn(n, d, generator=g), torch.randn(n, d, generator=g)
    queue = torch.nn.functional.normalize(torch.randn(k, d, generator=g), dim=1)
    mask = torch.rand(n, k, generator=g) < 0.3
    got = losses.info_nce(query, key, queue, temperature=temperature, mask=mask)
    assert got.item() == pytest.approx(triple_loop(query, key, queue, temperature, mask), rel=1e-4)


def test_info_nce_is_log_of_k_plus_one_when_all_are_equal():
    one = torch.ones(4, 8)
    queue = torch.nn.functional.normalize(torch.ones(15, 8), dim=1)
    assert losses.info_nce(one, one, queue).item() == pytest.approx(math.log(16), rel=1e-5)


def test_masking_every_negative_leaves_no_loss():
    g = torch.Generator().manual_seed(0)
    query, key = torch.randn(3, 4, generator=g), torch.randn(3, 4, generator=g)
    queue = torch.nn.functional.normalize(torch.randn(5, 4, generator=g), dim=1)
    assert losses.info_nce(query, key, queue, mask=torch.ones(3, 5, dtype=torch.bool)).item() == 0


def test_no_gradient_flows_into_key_and_queue():
    query, key, queue = (torch.randn(3, 4, requires_grad=True) for _ in range(3))
    losses.info_nce(query, key, queue).backward()
    assert query.grad is not None and key.grad is None and queue.grad is None


def test_same_location_leaves_unfilled_entries_as_negatives():
    got = losses.same_location(torch.tensor([4, 0]), torch.tensor([-1, 0, 4]))
    assert got.tolist() == [[False, False, True], [False, True, False]]


def test_geo_cross_entropy_leaves_unknown_clusters_out():
    logits = torch.tensor([[2.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    want = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    got = losses.geo_cross_entropy(logits, torch.tensor([0, -1, 1]))
    assert got.item() == pytest.approx(want, rel=1e-6)
    assert losses.geo_cross_entropy(logits, torch.full((3,), -1)).item() == 0


def test_clear_words_for_wrong_arguments():
    good = torch.ones(2, 3)
    with pytest.raises(
        ValueError, match=r"`query`, `key` and `queue` must have the shapes \(N, D\)"
    ):
        losses.info_nce(good, torch.ones(2, 4), good)
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        losses.info_nce(good, good, good, temperature=0)
    with pytest.raises(ValueError, match="mask"):
        losses.info_nce(good, good, good, mask=torch.zeros(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"`logits` and `cluster` must have the shapes \(N, G\)"):
        losses.geo_cross_entropy(good, torch.zeros(3, dtype=torch.long))
