import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geossl.evaluate import metrics


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("k", "n_train", "n_test"), [(1, 1, 3), (5, 37, 11), (20, 7, 1)])
def test_knn_votes_as_a_loop_over_the_neighbors(k, n_train, n_test):
    train, test = draw(n_train, 6), draw(n_test, 6, seed=1)
    codes = torch.arange(n_train) % 3
    expected = []
    for q in test.double().numpy():
        votes = np.zeros(3)
        cosine = [(q @ t / np.linalg.norm(q) / np.linalg.norm(t)) for t in train.double().numpy()]
        for i in np.argsort(cosine)[::-1][:k]:
            votes[codes[i]] += math.exp(cosine[i] / 0.07)
        expected.append(int(votes.argmax()))
    assert metrics.knn_predict(train, codes, test, k=k).tolist() == expected


def test_knn_in_parts_is_knn_at_once(monkeypatch):
    train, test, codes = draw(40, 6), draw(23, 6, seed=1), torch.arange(40) % 4
    whole = metrics.knn_predict(train, codes, test, k=3)
    monkeypatch.setattr(metrics, "_CELLS", 7 * 40)
    assert torch.equal(metrics.knn_predict(train, codes, test, k=3), whole)
    assert metrics.knn_predict(train, codes, test[:0]).shape == (0,)


def test_knn_says_what_it_needs():
    with pytest.raises(ValueError, match="`train` must have at least one vector, got none"):
        metrics.knn_predict(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="`k` must be > 0, got 0"):
        metrics.knn_predict(draw(3, 2), torch.zeros(3, dtype=torch.long), draw(1, 2), k=0)


@pytest.mark.parametrize("cells", [1, 50, 2**20])
def test_ranks_as_a_loop_over_the_sorted_gallery(monkeypatch, cells):
    monkeypatch.setattr(metrics, "_CELLS", cells)
    query, gallery = draw(9, 4), draw(31, 4, seed=1)
    query_codes, gallery_codes = torch.arange(9), torch.arange(31) % 8  # query 8 has none
    rank, nearest = metrics.ranks(query, gallery, query_codes, gallery_codes)
    cosine = F.normalize(query, dim=1) @ F.normalize(gallery, dim=1).T
    for q in range(9):
        order = cosine[q].argsort(descending=True).tolist()
        own = [place for place, i in enumerate(order) if gallery_codes[i] == query_codes[q]]
        assert rank[q] == (own[0] if own else 31)
        assert nearest[q] == order[0]


def test_collapsed_vectors_and_nan_find_nothing():
    codes = torch.arange(20)
    rank, _ = metrics.ranks(torch.ones(20, 3), torch.ones(20, 3), codes, codes)
    assert rank.tolist() == [10] * 20  # the middle
    assert metrics.recall(rank, k=5) == 0
    hurt = torch.eye(20)
    hurt[3] = torch.nan
    rank, _ = metrics.ranks(hurt, torch.eye(20), codes, codes)
    assert rank[3] == 20 and rank[4] == 0
    assert metrics.recall(rank, k=1) == pytest.approx(0.95)
    rank, _ = metrics.ranks(torch.eye(20), hurt, codes, codes)
    assert rank[3] == 20 and rank[4] == 1


def test_recall_counts_the_first_k():
    rank = torch.tensor([0, 4, 5, 9])
    assert [metrics.recall(rank, k=k).item() for k in (1, 5, 6, 10)] == [0.25, 0.5, 0.75, 1]


def test_accuracy_leaves_the_unknown_out():
    logits = torch.eye(3)
    assert metrics.accuracy(logits, torch.tensor([0, 2, -1])) == 0.5
    assert metrics.accuracy(logits, torch.tensor([-1, -1, -1])) == 0


def test_effective_rank_counts_directions():
    axes = torch.cat([torch.eye(5), -torch.eye(5)])
    assert metrics.effective_rank(axes).item() == pytest.approx(5, rel=1e-5)
    line = torch.linspace(-1, 1, 9)[:, None] * torch.ones(1, 4)
    assert metrics.effective_rank(line).item() == pytest.approx(1, abs=1e-3)
    assert metrics.effective_rank(torch.ones(4, 3)).item() == pytest.approx(1)
    x = draw(50, 6)
    moved = metrics.effective_rank(3 * x + 7)
    assert moved.item() == pytest.approx(metrics.effective_rank(x).item(), rel=1e-4)
    x = x * torch.tensor([4.0, 1, 1, 1, 1, 1])
    values = np.linalg.svd((x - x.mean(0)).double().numpy(), compute_uv=False)
    share = values / values.sum()
    expected = math.exp(-(share * np.log(share)).sum())
    assert metrics.effective_rank(x).item() == pytest.approx(expected, rel=1e-4)


def test_feature_std_is_one_on_the_sphere_and_zero_at_collapse():
    assert metrics.feature_std(draw(5000, 16)).item() == pytest.approx(1, abs=0.02)
    assert metrics.feature_std(5 * draw(5000, 16)).item() == pytest.approx(1, abs=0.02)
    assert metrics.feature_std(draw(1, 16).repeat(9, 1)).item() == pytest.approx(0, abs=1e-6)


def resamples(n, seed=2):
    return torch.randint(0, 3, (4, n), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("levels", [4, 10**9])  # mostly equal scores, and none
def test_average_precision_is_scikit_learns(levels):
    from sklearn.metrics import average_precision_score

    scores = (torch.rand(60, 5, generator=torch.Generator().manual_seed(0)) * levels).floor()
    truth = draw(60, 5, seed=1) > 0.7
    truth[:, 3] = True
    weights = resamples(60)
    found = metrics.average_precision(scores, truth, weights=weights)
    plain = metrics.average_precision(scores, truth)
    assert found.shape == (4, 5) and plain.shape == (5,)
    for c in range(5):
        pair = truth[:, c].numpy(), scores[:, c].numpy()
        assert plain[c] == pytest.approx(average_precision_score(*pair))
        for weight, row in zip(weights.numpy(), found, strict=True):
            assert row[c] == pytest.approx(average_precision_score(*pair, sample_weight=weight))


def test_average_precision_of_odd_cases():
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.1], [0.7, 0.1]])
    truth = torch.tensor([[True, False], [False, False], [True, False]])
    first, none = metrics.average_precision(scores, truth).tolist()
    assert first == pytest.approx((1 + 2 / 3) / 2) and math.isnan(none)
    assert metrics.average_precision(scores[:1], truth[:1])[0] == 1
    assert metrics.average_precision(torch.zeros(3, 1), truth[:, :1])[0] == pytest.approx(2 / 3)
    assert metrics.average_precision(scores[:0], truth[:0]).isnan().all()


def test_macro_f1_is_scikit_learns_over_the_true_classes():
    from sklearn.metrics import f1_score

    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 5, (50,), generator=generator)
    guess = torch.where(draw(50) > 0, truth, torch.randint(0, 7, (50,), generator=generator))
    truth[truth == 2] = 3  # predicted, never true
    weights = resamples(50)
    weights[0, truth == 4] = 0
    found = metrics.macro_f1(truth, guess, weights=weights)
    for weight, value in zip(weights.numpy(), found, strict=True):
        real = np.unique(truth[weight > 0])
        how = {"average": "macro", "labels": real, "zero_division": 0, "sample_weight": weight}
        assert value == pytest.approx(f1_score(truth, guess, **how))
    one = metrics.macro_f1(truth, guess)
    assert one == pytest.approx(f1_score(truth, guess, average="macro", labels=np.unique(truth)))
    hot = [torch.nn.functional.one_hot(x, 7).bool() for x in (truth, guess)]
    assert metrics.macro_f1(*hot) == pytest.approx(float(one))
    torch.testing.assert_close(metrics.macro_f1(*hot, weights=weights), found)


def test_calibration_is_a_loop_over_the_bins():
    sure = torch.rand(200, generator=torch.Generator().manual_seed(0))
    sure[:4] = torch.tensor([0.0, 1.0, 0.2, 0.4])  # on the edges
    hit = torch.rand(200, generator=torch.Generator().manual_seed(1)) < sure**2
    weights = resamples(200)
    expected = []
    for weight in [torch.ones(200), *weights]:
        gap = 0.0
        for low, high in [(-1, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1)]:
            rows = (sure > low) & (sure <= high)
            w = weight[rows].double()
            apart = (w * sure[rows]).sum() / w.sum() - (w * hit[rows]).sum() / w.sum()
            gap += float(abs(apart) * w.sum() / weight.sum())
        expected.append(gap)
    assert metrics.calibration_error(sure, hit, bins=5) == pytest.approx(expected[0])
    found = metrics.calibration_error(sure, hit, bins=5, weights=weights)
    assert found.tolist() == pytest.approx(expected[1:])
    chips, _, right = metrics.reliability(torch.tensor([0.75, 0.75]), torch.tensor([True, False]))
    assert chips.sum() == 2 and chips[11] == 2 and right[11] == 0.5 and not right[0]
    edges = torch.tensor([0.0, 0.25, 0.26, 0.5, 1.0])
    assert metrics.reliability(edges, edges > 0, bins=4)[0].tolist() == [2, 2, 0, 1]
    with pytest.raises(ValueError, match="`bins` must be > 0, got 0"):
        metrics.calibration_error(sure, hit, bins=0)


def test_the_first_five_are_those_of_a_stable_sort():
    scores = (torch.rand(40, 9, generator=torch.Generator().manual_seed(0)) * 5).floor()
    target = torch.arange(40) % 9
    hits = metrics.top_k_hits(scores, target, k=5)
    for row in range(40):
        order = scores[row].argsort(descending=True, stable=True)[:5]
        assert hits[row] == (target[row] in order and scores[row, target[row]] > 0)
    assert 0 < hits.float().mean() < 1
    assert metrics.top_k_hits(scores, scores.argmax(1), k=1).all()
    assert not metrics.top_k_hits(torch.zeros(1, 9), torch.tensor([0]), k=5)
