"""Seasonal contrast against slow loops, its views, and in runs that stop and resume."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_pretrain import TINY, assert_same_run, write_store

from geossl import models, pairs, pretrain, train
from geossl.train.objectives import plan_views

N, K, D = 6, 9, 5


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def made():
    """A model, the objective, and a batch of six pairs of four locations."""
    model = models.MoCo(models.build_encoder(), projection_dim=D, queue_size=1, seed=1).double()
    term = train.SeCo(queue_size=K, temperature=0.3)
    term.setup(model)
    term.double()
    for module in (term.key_heads, model.key_head, model.key_encoder):  # unlike the queries'
        for p in module.parameters():
            p.data += 0.01 * torch.sign(p.data)
    location = torch.tensor([0, 1, 1, 2, 3, 3])
    term.queue_location[:] = torch.tensor([3, 0, 1, 2, -1, -1, 7, 8, 3])
    views = tuple(draw(N, 3, 16, 16, seed=10 + i) for i in range(4))
    embedding, projection = model.query(views[0])
    batch = SimpleNamespace(
        part=1, size=N, mine=slice(None), location=location, views=views, embedding=embedding,
        projection=projection,
    )  # fmt: skip
    return model, term, batch


@pytest.mark.parametrize("mask", [True, False])
def test_three_spaces_of_which_two_tell_the_other_keys_apart(made, mask):
    model, term, batch = made
    term.mask_same_location = mask
    value, scores = term.loss(model, batch)
    unit = torch.nn.functional.normalize
    embedded = [model.key_encoder(view) for view in batch.views[1:]]
    heads = [(model.head, model.key_head), *zip(term.heads, term.key_heads, strict=True)]
    total, hits = 0.0, np.zeros((3, N))
    for space, (head, key_head) in enumerate(heads):
        query = unit(head(batch.embedding), dim=1)
        keys = [unit(key_head(e), dim=1) for e in embedded]
        for i in range(N):
            here = batch.location[i]
            rivals = [
                term.queue[space, k] for k in range(K) if not mask or term.queue_location[k] != here
            ]
            for kind in range(3):
                if space and kind != space:
                    rivals += [
                        keys[kind][j]
                        for j in range(N)
                        if j == i or not mask or batch.location[j] != here
                    ]
            positive = query[i] @ keys[space][i]
            similar = torch.stack([query[i] @ rival for rival in rivals])
            terms = torch.cat([positive[None], similar]) / 0.3
            total = total - (terms[0] - terms.logsumexp(0)) / N
            hits[space, i] = positive > similar.max()
    torch.testing.assert_close(value.double(), total, rtol=1e-5, atol=1e-5)
    assert [float(scores[f"{s}_accuracy"]) for s in ("both", "season", "color")] == pytest.approx(
        hits.mean(1).tolist()
    )
    value.backward()
    for module in (model.encoder, model.head, *term.heads):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    frozen = (model.key_encoder, model.key_head, term.key_heads)
    assert all(p.grad is None for module in frozen for p in module.parameters())


def test_each_space_queues_its_own_kind_of_key(made):
    model, term, batch = made
    before = term.queue.clone()
    term.loss(model, batch)
    term.after_backward(model, batch)
    unit = torch.nn.functional.normalize
    for space, head in enumerate((model.key_head, *term.key_heads)):
        key = unit(head(model.key_encoder(batch.views[1 + space])), dim=1)
        torch.testing.assert_close(term.queue[space, :N], key, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(term.queue[:, N:], before[:, : K - N])
    assert term.queue_location.tolist() == [0, 1, 1, 2, 3, 3, 3, 0, 1]


def test_its_heads_follow_by_the_models_momentum(made):
    model, term, batch = made
    model.momentum, batch.part = 0.75, 0
    fast, slow = (list(h.parameters())[0].detach().clone() for h in (term.heads, term.key_heads))
    term.loss(model, batch)
    after = next(iter(term.key_heads.parameters()))
    torch.testing.assert_close(after, 0.75 * slow + 0.25 * fast)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("seco") / "chips", dates=5)


def test_views_are_a_crop_two_other_dates_and_the_query_again(store):
    """Each chip is one gray level, so that a view shows whose it is and what was done to it."""
    chips = np.broadcast_to(np.arange(120, dtype=np.uint8)[:, None, None, None], (120, 3, 16, 16))
    flat = dataclasses.replace(store, chips=np.ascontiguousarray(chips))
    run = pretrain(flat, pairs=pairs.temporal(), objectives=[train.SeCo()], config=TINY)
    mean, std = torch.zeros(3), torch.ones(3)
    seen = []
    for batch in run._loader.between(0, run._loader.per_epoch):
        views = run._loader.make_views(batch, mean=mean, std=std)
        query, key, other = (c[:, 0, 0, 0].long() for c in batch.chips)
        for view, chip in ((views[0], query), (views[2], other)):
            torch.testing.assert_close(view, chip[:, None, None, None].expand_as(view).float())
        for view, chip in ((views[1], key), (views[3], query)):
            assert (view - chip[:, None, None, None]).abs().amax((1, 2, 3)).gt(1e-3).sum() > 2
        seen += zip(query.tolist(), key.tolist(), other.tolist(), strict=True)
    query, key, other = np.array(seen).T
    assert (query // 5 == key // 5).all() and (query // 5 == other // 5).all()
    assert (query != key).all() and (query != other).all()
    assert 0.1 < (key == other).mean() < 0.5  # one in four: drawn independently
    again = pretrain(flat, pairs=pairs.temporal(), objectives=[train.SeCo()], config=TINY)
    rows = again._loader.pairs_of(0)
    assert len(rows) == 3 and torch.equal(rows[2], run._loader.pairs_of(0)[2])
    assert not torch.equal(rows[2], again._loader.pairs_of(1)[2])


def test_a_run_learns_stops_and_resumes(store, tmp_path):
    config = dataclasses.replace(TINY, epochs=6, batch_size=16, accumulation_steps=2)

    def start(**more):
        terms = [train.SeCo(queue_size=20), train.GeoRegression()]
        return pretrain(store, pairs=pairs.temporal(), objectives=terms, config=config, **more)

    whole = start().finish(progress=False)
    logs = whole.logs
    chance = 3 * np.log(20) + 2 * np.log(20 + 2 * 16)
    assert logs["seco_loss"].iloc[-1] < min(chance, logs["seco_loss"].max())
    assert {"seco_both_accuracy", "seco_season_accuracy", "seco_color_accuracy"} <= set(logs)
    stopped = start(output_dir=tmp_path)
    next(iter(stopped))
    again = start(output_dir=tmp_path)
    assert 0 < again.step < again.steps
    assert_same_run(again.finish(progress=False), whole)


def test_what_does_not_fit_is_refused(store):
    with pytest.raises(ValueError, match="`pairs` is needed by the objective 'seco'"):
        pretrain(store, objectives=[train.SeCo()], config=TINY)
    config = dataclasses.replace(TINY, bn_splits=2)
    with pytest.raises(ValueError, match="`bn_splits` must be 1 for the objective 'seco', got 2"):
        pretrain(store, pairs=pairs.temporal(), objectives=[train.SeCo()], config=config)

    class Other(train.Objective):
        name, views = "other", (train.View("query"), train.View("query"))

    with pytest.raises(ValueError, match="must agree on the views, but .'seco', 'other'. ask for"):
        plan_views([train.SeCo(), Other()])
    with pytest.raises(ValueError, match="`chip` must be one of .*, got 'neighbor'"):
        train.View("neighbor")
    Other.views = 3
    with pytest.raises((TypeError, ValueError), match="`views of other` must be"):
        pretrain(store, pairs=pairs.temporal(), objectives=[Other()], config=TINY)
