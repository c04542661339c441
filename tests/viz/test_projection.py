"""Embeddings as points and colors."""

import io
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import torch

from geossl import Embeddings
from geossl.viz import projection


def vectors_of(m, width=5):
    return np.random.default_rng(m).normal(size=(m, width)).astype("f4")


def table_of(m):
    return pd.DataFrame({
        "chip": np.arange(m), "location": np.arange(m) // 2, "lon": 0.0, "lat": 0.0,
        "time": pd.Timestamp("2020-01-01", tz="UTC"),
    })  # fmt: skip


def test_pca_as_numpy_does_it_up_to_signs_that_stay():
    embeddings = Embeddings(vectors_of(40) * [3, 1, 1, 2, 1], table_of(40))
    found = projection.project(embeddings, dims=3)
    unit = embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    u, s, _ = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(u * s)[:, :3], atol=1e-5)
    backwards = projection.project(embeddings.subset(np.arange(40)[::-1]), dims=3)
    np.testing.assert_allclose(backwards[::-1], found, atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize(("m", "width"), [(1, 5), (2, 1), (9, 2)])
def test_pictures_of_few_or_narrow_vectors(m, width):
    embeddings = Embeddings(vectors_of(m, width), table_of(m))
    assert projection.project(embeddings, dims=3).shape == (m, 3)
    assert projection.to_rgb(embeddings).shape == (m, 3)


def test_colors_follow_the_widest_directions():
    vectors = np.concatenate([vectors_of(30) + [9, 0, 0, 0, 0], vectors_of(30) - [9, 0, 0, 0, 0]])
    rgb = projection.to_rgb(Embeddings(vectors, table_of(60)))
    assert rgb.dtype == np.uint8 and rgb.min() == 30 and rgb.max() == 250
    assert abs(int(rgb[:30, 0].min()) - int(rgb[30:, 0].max())) > 100
    gray = projection.to_rgb(Embeddings(np.ones((4, 3)), table_of(4)))
    assert (gray == 30).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_a_seed_gives_one_picture_and_groups_stay_groups(method):
    if method == "umap":
        pytest.importorskip("umap")
    ends = np.where(np.arange(60)[:, None] < 30, 1, -1) * np.float32([8, 0, 0, 0, 0])
    embeddings = Embeddings(vectors_of(60) + ends, table_of(60))
    told = []
    first, again = (
        projection.project(embeddings, method=method, seed=3, progress=told.append)
        for _ in range(2)
    )
    assert first.shape == (60, 2) and first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert len(told) > 4 and set(np.sign(np.diff(told))) >= {1.0} and max(told) == 1.0
    middle = first[:30].mean(0), first[30:].mean(0)
    own = np.linalg.norm(first[:, None] - np.stack(middle), axis=2).argmin(1)
    assert (own == (np.arange(60) >= 30)).mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsne", "umap"])
@pytest.mark.parametrize("count", [4, 5, 12])
def test_few_vectors(method, count):
    if method == "umap":
        pytest.importorskip("umap")
    found = projection.project(Embeddings(vectors_of(count), table_of(count)), method=method)
    assert found.shape == (count, 2) and np.isfinite(found).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_what_is_not_in_the_sample_is_placed_among_its_own(method):
    if method == "umap":
        pytest.importorskip("umap")
    group = np.arange(400) % 4
    embeddings = Embeddings(vectors_of(400) + 8 * np.eye(5)[group], table_of(400))
    points = projection.project(embeddings, method=method, seed=1, sample=100)
    again = projection.project(embeddings, method=method, seed=1, sample=100)
    np.testing.assert_array_equal(points, again)
    middle = np.stack([points[group == g].mean(0) for g in range(4)])
    own = np.linalg.norm(points[:, None] - middle, axis=2).argmin(1)
    assert (own == group).mean() > 0.97
    assert len(np.unique(points, axis=0)) == 400


def test_a_vector_is_placed_beside_its_nearest_fitted_vector():
    fitted = torch.tensor([[0.0], [1.0], [9.0]])
    points = np.array([[10.0, 0.0], [20.0, 0.0], [20.0, 50.0]])
    where = torch.tensor([[0.0], [0.25], [0.9], [4.9]])
    placed = projection._place(where, fitted, points)
    weights = 1 / np.square(where.numpy() - fitted.numpy().T).clip(1e-12)
    mean = weights @ points / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(placed[0], points[0], atol=1e-5)
    np.testing.assert_allclose(placed[1:3], mean[1:3], atol=1e-5)  # nearer than half of 10
    assert np.linalg.norm(mean[3] - points[1]) > 5  # the mean is further than the limit
    np.testing.assert_allclose(np.linalg.norm(placed[3] - points[1]), 5, atol=1e-5)


@pytest.mark.slow
def test_the_graph_of_umap_is_that_of_umap_learn():
    umap_ = pytest.importorskip("umap").umap_
    vectors = torch.from_numpy(vectors_of(80))
    rows, distances = projection._nearest(vectors, vectors, 14, exclude_self=True)
    rows_, distances_ = (np.c_[a, b] for a, b in ((np.arange(80), rows), (np.zeros(80), distances)))
    distances_ = distances_.astype(np.float32)
    width, nearest = umap_.smooth_knn_dist.py_func(distances_, 15.0)
    i, j, weight, _ = umap_.compute_membership_strengths.py_func(
        rows_.astype(np.int32), distances_, width, nearest
    )
    one_way = np.zeros((80, 80))
    one_way[i, j] = weight
    want = one_way + one_way.T - one_way * one_way.T
    found = projection._fuzzy_graph(rows, distances).toarray()
    np.testing.assert_allclose(found, want, atol=1e-4)
    np.testing.assert_allclose(distances, torch.cdist(vectors, vectors).sort(1).values[:, 1:15])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_an_exception_of_progress_stops_the_work(method):
    if method == "umap":
        tqdm = pytest.importorskip("umap.layouts").tqdm
    embeddings, shares = Embeddings(vectors_of(400), table_of(400)), []

    def progress(share):
        shares.append(share)
        if share > 0.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        projection.project(embeddings, method=method, progress=progress)
    assert 0.1 < shares[-1] < 1 and shares == sorted(shares) and len(shares) < 30
    if method == "umap":  # the lock that all progress bars share is free
        bar = threading.Thread(target=lambda: list(tqdm([1], file=io.StringIO())), daemon=True)
        bar.start()
        bar.join(30)
        assert not bar.is_alive()


def test_what_is_refused(monkeypatch):
    embeddings = Embeddings(vectors_of(12), table_of(12))
    with pytest.raises(
        ValueError, match="`embeddings` must have at least 4 vectors for method='tsne', got 2"
    ):
        projection.project(embeddings.subset([0, 1]), method="tsne")
    with pytest.raises(ValueError, match="`method` must be one of .*pca.*, got 'mds'"):
        projection.project(embeddings, method="mds")
    with pytest.raises(ValueError, match="`sample` must have at least 4 vectors .*, got 3"):
        projection.project(embeddings, method="tsne", sample=3)
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(ImportError, match="needs the package openTSNE"):
        projection.project(embeddings, method="tsne")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match="needs the package umap-learn"):
        projection.project(embeddings, method="umap")
