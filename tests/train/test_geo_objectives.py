"""The objectives of positions against slow loops, and in runs that stop and resume."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from test_pretrain import TINY, assert_same_run, write_store

from geossl import Embeddings, geo, losses, models, pairs, pretrain, train
from geossl.train.objectives.base import great_circle_km
from geossl.train.objectives.ranking import ranks, soft_ranks

N, K, D = 7, 11, 5


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def places():
    """Positions of seven images of six locations, near ones and antipodes among them."""
    table = pd.DataFrame({
        "location": [0, 1, 2, 3, 4, 5, 5],
        "lon": [0.0, 0.1, 179.9, -179.9, 40.0, 90.0, 90.0],
        "lat": [0.0, 0.0, 10.0, 10.0, -60.0, 89.9, 89.9],
    })  # fmt: skip
    return table


def km_of(table):
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    return geo.great_circle_km(lon[:, None], lat[:, None], lon[None], lat[None])


def batch_of(table, objective, **more):
    """A batch of all rows, for a process alone; its model."""
    model = models.MoCo(models.build_encoder(), projection_dim=D, queue_size=K, seed=1).double()
    target = objective.prepare(table)
    batch = SimpleNamespace(
        part=1, size=N, mine=slice(None), key_order=None,
        location=torch.tensor(table["location"].tolist()),
        targets={} if target is None else {objective.name: target.double()},
        projection=draw(N, D, seed=2).requires_grad_(),
        embedding=draw(N, 256, seed=3).requires_grad_(), views=(None, None), **more,
    )  # fmt: skip
    objective.setup(model)
    if isinstance(objective, torch.nn.Module):
        objective.double()
    return model, batch


def test_distances_are_exact_from_meters_to_antipodes(places):
    vectors = torch.from_numpy(geo.unit_vectors(places["lon"], places["lat"]))
    np.testing.assert_allclose(great_circle_km(vectors, vectors), km_of(places), atol=1e-4)
    near = torch.tensor([[1.0, 0, 0]]), torch.tensor([[1.0, 1e-5, 0]])
    assert abs(float(great_circle_km(*near)) - 0.0637) < 1e-3  # float32: 64 m


@pytest.mark.parametrize(("min_km", "scale_km"), [(500.0, None), (0.0, 300.0), (20.0, 5_000.0)])
def test_a_negative_counts_by_its_distance(places, monkeypatch, min_km, scale_km):
    term = train.Contrastive(
        min_negative_km=min_km, negative_scale_km=scale_km, mask_same_location=False
    )
    model, batch = batch_of(places, term)
    keys = draw(N, D, seed=4)
    monkeypatch.setattr(model, "key", lambda view: keys)
    model.queue_location[:] = torch.tensor([0, 1, 2, 3, 4, 5, 5, 0, 1, -1, -1])
    value, scores = term.loss(model, batch)
    km, total = km_of(places), 0.0

    def counts_of(i, j):
        code = int(model.queue_location[j])
        return code < 0 or km[i, first[code]] >= min_km

    first = places["location"].drop_duplicates().index
    unit = torch.nn.functional.normalize
    query, key = unit(batch.projection.detach(), dim=1), unit(keys, dim=1)
    for i in range(N):
        terms = [torch.exp(query[i] @ key[i] / 0.2)]
        for j in range(K):
            code, count = int(model.queue_location[j]), 1.0
            if code >= 0:
                distance = km[i, first[code]]
                count = 1.0 if scale_km is None else 1 - np.exp(-distance / scale_km)
                count *= distance >= min_km
            terms.append(count * torch.exp(query[i] @ model.queue[j] / 0.2))
        total = total - torch.log(terms[0] / sum(terms))
    torch.testing.assert_close(value.double(), total / N, rtol=1e-4, atol=1e-4)
    value.backward()
    assert batch.projection.grad.isfinite().all()
    hits = (
        [  # a negative that does not count is not in the way
            float(query[i] @ key[i])
            > max(
                [float(query[i] @ model.queue[j]) for j in range(K) if counts_of(i, j) == 1],
                default=-2,
            )
            for i in range(N)
        ]
        if scale_km is None
        else None
    )
    assert hits is None or float(scores["accuracy"]) == pytest.approx(np.mean(hits))


def test_without_distances_the_contrastive_loss_is_as_it_was(places, monkeypatch):
    term = train.Contrastive()
    assert term.prepare(places) is None and "min_negative_km" not in term.settings
    model, batch = batch_of(places, term)
    keys = draw(N, D, seed=4)
    monkeypatch.setattr(model, "key", lambda view: keys)
    wanted = losses.info_nce(batch.projection, keys, model.queue)
    torch.testing.assert_close(term.loss(model, batch)[0], wanted)


def test_regression_is_one_minus_the_cosine(places):
    term = train.GeoRegression()
    model, batch = batch_of(places, term)
    value, scores = term.loss(model, batch)
    guess = (batch.embedding @ term.head.weight.T + term.head.bias).detach()
    lon, lat = geo.lon_lat(guess.numpy())
    km = geo.great_circle_km(lon, lat, places["lon"].to_numpy(), places["lat"].to_numpy())
    angle = km / geo.EARTH_RADIUS_KM
    assert value.item() == pytest.approx(np.mean(1 - np.cos(angle)), abs=1e-5)
    assert float(scores["error_deg"]) == pytest.approx(np.degrees(angle).mean(), abs=1e-3)


def test_ranks_are_counts_of_smaller_values():
    values = draw(3, 6)
    soft = soft_ranks(values, 0.3)
    for row in range(3):
        for i in range(6):
            others = [values[row, j] for j in range(6) if j != i]
            assert ranks(values)[row, i] == 1 + sum(o < values[row, i] for o in others)
            wanted = 1 + sum(1 / (1 + torch.exp((o - values[row, i]) / 0.3)) for o in others)
            torch.testing.assert_close(soft[row, i], wanted)
    torch.testing.assert_close(soft_ranks(values, 1e-6), ranks(values).double())
    assert ranks(torch.tensor([[3.0, 1, 3, 3, 0]])).tolist() == [[4, 2, 4, 4, 1]]


@pytest.mark.parametrize("margin", [0.0, 0.8])
def test_georank_is_the_mean_square_of_ranks_over_near_pairs(places, margin):
    term = train.GeoRank(max_km=9_000, margin=margin, softness=0.1)
    model, batch = batch_of(places, term)
    value, _ = term.loss(model, batch)
    unit = torch.nn.functional.normalize(batch.projection.detach(), dim=1)
    km, terms, norm = km_of(places), [], np.sqrt(sum(r * r for r in range(1, N)))
    for i in range(N):
        others = [j for j in range(N) if j != i]
        similarity = [float(unit[i] @ unit[j]) for j in others]
        soft = [
            1 + sum(1 / (1 + np.exp((s - t) / 0.1)) for k, t in enumerate(similarity) if k != a)
            for a, s in enumerate(similarity)
        ]
        row = km[i, others]
        hard = [(row < d).sum() + ((row == d).sum() + 1) / 2 for d in row]  # ties: the mean rank
        for a, j in enumerate(others):
            if km[i, j] <= 9_000:
                error = soft[a] / np.linalg.norm(soft) - hard[a] / np.linalg.norm(hard)
                terms.append(error**2 if error**2 > (margin / norm) ** 2 else 0.0)
    assert value.item() == pytest.approx(np.mean(terms) * norm, rel=1e-4)
    value.backward()
    assert batch.projection.grad.abs().sum() > 0


def test_the_right_order_costs_nothing():
    """Images on a circle, embedded as they lie."""
    lon = np.linspace(0, 50, N) ** 1.5 / 10
    table = pd.DataFrame({"location": range(N), "lon": lon, "lat": 0.0})
    term = train.GeoRank(softness=1e-7)
    model, batch = batch_of(table, term)
    batch.projection = torch.tensor(geo.unit_vectors(lon, 0 * lon), requires_grad=True)
    value, scores = term.loss(model, batch)
    assert value.item() < 1e-6 and float(scores["correlation"]) > 0.9999
    batch.projection = batch.projection.detach().flip(0).requires_grad_()
    assert term.loss(model, batch)[0].item() > 0.01


def test_a_triplet_is_nearer_to_its_neighbor_by_a_margin(places, monkeypatch):
    term = train.Triplet(margin=3.0, min_km=300, l2=0.01)
    model, batch = batch_of(places, term)
    neighbors = batch.embedding.detach() + 0.9 * draw(N, 256, seed=5)
    monkeypatch.setattr(model, "query", lambda view: (neighbors, None))
    value, scores = term.loss(model, batch)
    km, anchors, total, hits = km_of(places), batch.embedding.detach(), 0.0, 0
    for i in range(N):
        j = next((i + step) % N for step in range(1, N) if km[i, (i + step) % N] >= 300)
        near = torch.dist(anchors[i], neighbors[i])
        far = torch.dist(anchors[i], anchors[j])
        total += max(0.0, float(near - far + 3))
        total += 0.01 * float(anchors[i].norm() + neighbors[i].norm() + anchors[j].norm())
        hits += int(near < far)
    assert value.item() == pytest.approx(total / N)
    assert float(scores["accuracy"]) == pytest.approx(hits / N)


def test_anchors_without_a_distant_image_are_left_out(places, monkeypatch):
    table = places.assign(lon=[0, 0.1, 0.2, 0.3, 0.4, 0.5, 90.0], lat=0.0)
    term = train.Triplet(min_km=1_000, l2=0.0, margin=100.0)
    model, batch = batch_of(table, term)
    monkeypatch.setattr(model, "query", lambda view: (batch.embedding.detach(), None))
    value, _ = term.loss(model, batch)
    far = [torch.dist(batch.embedding[i], batch.embedding[6]).item() for i in range(6)]
    far.append(torch.dist(batch.embedding[6], batch.embedding[0]).item())
    assert value.item() == pytest.approx(np.mean([100 - f for f in far]))
    nowhere = train.Triplet(min_km=20_100)
    assert nowhere.loss(model, batch)[0].item() == 0.0
    for made in (nowhere, train.Contrastive(min_negative_km=20_100)):
        with pytest.raises(ValueError, match="_km` must be at most the extent .* km, got 20100"):
            made.prepare(table)


@pytest.mark.parametrize("features", ["harmonics", "fourier"])
def test_an_image_finds_its_place_and_a_place_its_image(places, features):
    term = train.LocationContrastive(features=features, degree=4, temperature=0.5)
    model, batch = batch_of(places, term)
    value, scores = term.loss(model, batch)
    unit = torch.nn.functional.normalize
    image = unit(batch.projection, dim=1)
    place = unit(term.encoder(batch.targets["satclip"]), dim=1)
    logits, total, hits = image @ place.T / 0.5, 0.0, 0
    for i in range(N):
        rivals = [j for j in range(N) if j == i or places["location"][j] != places["location"][i]]
        for similar in (logits[i], logits[:, i]):
            total = total - torch.log(similar[i].exp() / sum(similar[j].exp() for j in rivals))
        hits += int(max(rivals, key=lambda j: logits[i, j].item()) == i)
    torch.testing.assert_close(value, total / N / 2)
    assert float(scores["accuracy"]) == pytest.approx(hits / N)
    vectors = term.encoder.embed(places).numpy()
    assert vectors.shape == (N, D)
    np.testing.assert_allclose(vectors, term.encoder(batch.targets["satclip"]).detach(), atol=1e-5)


OBJECTIVES = {
    "distances": (lambda: train.Contrastive(min_negative_km=500, negative_scale_km=1e4), True),
    "regression": (train.GeoRegression, False),
    "georank": (lambda: train.GeoRank(softness=0.1), False),
    "triplet": (train.Triplet, True),
    "location": (lambda: train.LocationContrastive(degree=3), False),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("geo_objectives") / "chips")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_learns_stops_and_resumes_with_each(store, tmp_path, name):
    make, paired = OBJECTIVES[name]
    options = {"pairs": pairs.spatial(radius_km=5_000) if paired else None}
    config = dataclasses.replace(TINY, epochs=6, batch_size=16)

    def start(**more):
        return pretrain(store, objectives=[make()], config=config, **options, **more)

    whole = start().finish(progress=False)
    loss = whole.logs["loss"]
    if name == "distances":  # at first the queue is random and easy to tell
        assert np.isfinite(loss).all() and loss.iloc[-1] < np.log(1 + TINY.queue_size)
    else:
        assert loss.iloc[-1] < loss.iloc[0]
    stopped = start(output_dir=tmp_path)
    next(iter(stopped))
    again = start(output_dir=tmp_path)
    assert 0 < again.step < again.steps
    assert_same_run(again.finish(progress=False), whole)


def test_positions_are_needed_and_settings_tell_runs_apart(store, tmp_path):
    lost = dataclasses.replace(store, scenes=store.scenes.assign(lat=np.nan))
    for make, paired in OBJECTIVES.values():
        options = {"pairs": pairs.same_image() if paired else None, "config": TINY}
        with pytest.raises(ValueError, match="needs positions, but 40 of 40 training chips have"):
            pretrain(lost, objectives=[make()], **options)
    next(iter(pretrain(store, objectives=[train.GeoRank()], config=TINY, output_dir=tmp_path)))
    with pytest.raises(ValueError, match="already contains a run with another `max_km`"):
        pretrain(store, objectives=[train.GeoRank(max_km=9)], config=TINY, output_dir=tmp_path)


def test_a_location_encoder_is_mapped_and_probed_by_itself(store):
    term = train.LocationContrastive(degree=3)
    config = dataclasses.replace(TINY, batch_size=16)
    pretrain(store, objectives=[term], config=config).finish(progress=False)
    vectors = Embeddings(term.encoder.embed(store.scenes).numpy(), store.scenes)
    assert vectors.vectors.shape == (len(store), 16)
    same = store.scenes["location"].eq(0).to_numpy()
    assert np.ptp(vectors.vectors[same], axis=0).max() == 0  # two dates of a place are one place
