import pytest
import torch

from geossl import models


def small_moco(**settings):
    return models.MoCo(
        models.build_encoder("small"), **{"projection_dim": 8, "queue_size": 10, **settings}
    )


def test_key_weights_equal_query_weights_at_the_start_and_follow_the_momentum_rule():
    moco = small_moco(momentum=0.9)
    pairs = list(zip(moco.encoder.parameters(), moco.key_encoder.parameters(), strict=True))
    pairs += list(zip(moco.head.parameters(), moco.key_head.parameters(), strict=True))
    assert all(torch.equal(q, k) and not k.requires_grad for q, k in pairs)
    with torch.no_grad():
        for q, _ in pairs:
            q.add_(torch.randn(q.shape, generator=torch.Generator().manual_seed(q.numel())))
    before = [k.clone() for _, k in pairs]
    moco.update_key()
    for (q, k), old in zip(pairs, before, strict=True):
        torch.testing.assert_close(k, 0.9 * old + 0.1 * q)
        assert not torch.equal(k, old)


@pytest.mark.parametrize("size, batch", [(10, 1), (10, 3), (10, 10), (10, 4), (7, 16), (1, 5)])
def test_the_queue_holds_the_last_keys_in_order_for_any_batch_size(size, batch):
    moco = small_moco(queue_size=size)
    given = torch.arange(100.0)
    for part in given.split(batch):
        moco.enqueue(part[:, None].expand(-1, 8), part.long())
    newest_first = moco.queue.roll(-moco.pointer, 0).flip(0)
    assert newest_first[:, 0].tolist() == given.flip(0)[:size].tolist()
    assert moco.queue_location.tolist() == moco.queue[:, 0].long().tolist()


def test_the_pointer_travels_in_the_state():
    moco = small_moco()
    moco.enqueue(torch.ones(3, 8), torch.arange(3))
    other = small_moco(seed=1)
    other.load_state_dict(moco.state_dict())
    assert other.pointer == 3 and torch.equal(other.queue, moco.queue)


def test_key_order_changes_who_is_normalized_together_but_not_whose_key_it_is():
    moco = small_moco().eval()
    x = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(moco.key(x, order=order), moco.key(x))
    assert torch.allclose(moco.key(x).norm(dim=1), torch.ones(6))


def test_class_heads_sit_where_they_are_told():
    moco = small_moco(classes={"geo": 5, "label": 3}, heads_on={"label": "embedding"})
    embedding, projection = moco.query(torch.zeros(2, 3, 32, 32))
    assert moco.classify("geo", embedding, projection).shape == (2, 5)
    assert moco.classify("label", embedding, projection).shape == (2, 3)
    want = moco.classifiers["geo"][1](projection.relu())
    torch.testing.assert_close(moco.classify("geo", embedding, projection), want)
    assert moco.classifiers["label"].in_features == moco.encoder.embedding_dim


def test_the_momentum_is_checked():
    with pytest.raises(ValueError, match="`momentum` must be < 1, got 1.0"):
        small_moco(momentum=1.0)
