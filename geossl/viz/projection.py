"""Embeddings as points and colors: PCA, t-SNE, UMAP."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from geossl.embeddings import Embeddings
from geossl.utils.validate import PositiveInt, Seed, validated

Method = Literal["pca", "tsne", "umap"]
Report = Callable[[float], None]
SAMPLE = 5_000  # most vectors that t-SNE and UMAP are fitted to: about ten seconds on two cores
_FEWEST = {"pca": 1, "tsne": 4, "umap": 4}  # vectors
_COMPONENTS = 50  # principal components that t-SNE and UMAP see
_PLACED_BY = 5  # fitted neighbors that place a vector


@validated
def project(
    embeddings: Embeddings,
    *,
    dims: Literal[2, 3] = 2,
    method: Method = "pca",
    seed: Seed = 0,
    progress: Report | None = None,
    sample: PositiveInt = SAMPLE,
) -> np.ndarray:
    """Project the vectors, made unit-norm, to coordinates ``(M, dims)`` float32 for a picture.

    t-SNE (perplexity 30, 250 iterations) and UMAP (15 neighbors, 200 epochs) start from 50
    principal components.

    Args:
        embeddings: at least one; four for t-SNE and UMAP.
        dims: 2 or 3.
        method: "pca" (the sign of an axis makes its largest weight positive), "tsne", which needs
            the package openTSNE, or "umap", which needs the package umap-learn; the first UMAP
            after its installation also compiles for half a minute.
        seed: of t-SNE and UMAP.
        progress: called with the share that is done, 0 to 1, now and then. An exception that it
            raises stops the work and reaches the caller: t-SNE at once, UMAP after its epochs.
        sample: most vectors that t-SNE and UMAP are fitted to, at least four. Of more vectors a
            random sample is fitted; each other one is placed beside its nearest of the sample.

    Raises:
        ValueError: too few vectors, or too small a sample.
        ImportError: a package is missing.
    """
    fewest = _FEWEST[method]
    for argument, count in (("embeddings", len(embeddings)), ("sample", sample)):
        if count < fewest:
            raise ValueError(
                f"`{argument}` must have at least {fewest} vectors for method={method!r}, "
                f"got {count}."
            )
    progress = progress or (lambda share: None)
    unit = normalize(embeddings.tensor(), dim=1)
    unit = unit - unit.double().mean(0).float()
    if method == "pca":
        return _pca(unit, dims)
    vectors = torch.from_numpy(_pca(unit, max(dims, min(_COMPONENTS, unit.shape[1]))))  # (M, 50)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(vectors))[:sample])
    fitted = vectors[rows]
    start = fitted[:, :dims].numpy().astype(float)
    start = start / max(start.std(), 1e-12) + rng.normal(scale=1e-3, size=start.shape)
    points = (_tsne if method == "tsne" else _umap)(fitted, start, seed, progress)
    if len(rows) < len(vectors):
        fitted_points, points = points, _place(vectors, fitted, points)
        points[rows] = fitted_points
    progress(1.0)
    return np.asarray(points, np.float32)


@validated
def to_rgb(embeddings: Embeddings) -> np.ndarray:
    """Map vectors to colors ``(M, 3)`` uint8: three principal components, stretched to 2..98 %."""
    axes = project(embeddings, dims=3)
    low, high = np.percentile(axes, [2, 98], axis=0)
    share = np.clip((axes - low) / np.maximum(high - low, 1e-6), 0, 1)
    return np.round(30 + 220 * share).astype(np.uint8)


def _pca(unit: Tensor, dims: int) -> np.ndarray:
    width = unit.shape[1]
    scatter = torch.zeros(width, width, dtype=torch.float64)
    for part in unit.split(8192):
        scatter += part.double().T @ part.double()
    axes = torch.linalg.eigh(scatter)[1].flip(1)[:, :dims]  # (E, dims), the widest first
    axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(0)[None]))
    points = (unit @ axes.float()).numpy()
    return np.pad(points, ((0, 0), (0, dims - points.shape[1])))


def _nearest(
    vectors: Tensor, others: Tensor, k: int, *, exclude_self: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows ``(M, k)`` of the nearest others of each vector, and their distances."""
    rows, distances = [], []
    for start in range(0, len(vectors), 1024):
        distance = torch.cdist(vectors[start : start + 1024], others)
        if exclude_self:
            distance.diagonal(start).fill_(torch.inf)
        best = distance.topk(k, dim=1, largest=False)
        rows.append(best.indices)
        distances.append(best.values)
    return torch.cat(rows).numpy(), torch.cat(distances).numpy()


def _place(vectors: Tensor, fitted: Tensor, points: np.ndarray) -> np.ndarray:
    """Place each vector at the point of its nearest fitted vector, moved towards the next ones.

    The way is to the mean of five by inverse squared distance, but at most half the way to the
    point's own neighbor: means alone fill the gaps between the groups.
    """
    rows, distances = _nearest(vectors, fitted, min(_PLACED_BY, len(fitted)))
    weights = 1 / np.maximum(distances, 1e-6) ** 2
    weights /= weights.sum(1, keepdims=True)
    nearest = points[rows[:, 0]]
    step = (points[rows] * weights[..., None]).sum(1) - nearest
    grid = torch.from_numpy(points)
    most = _nearest(grid, grid, 1, exclude_self=True)[1][rows[:, 0]] / 2  # (M, 1)
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return nearest + step * np.minimum(1, most / np.maximum(length, 1e-12))


def _tsne(vectors: Tensor, start: np.ndarray, seed: int, progress: Report) -> np.ndarray:
    try:
        from openTSNE import TSNE
        from openTSNE.affinity import PerplexityBasedNN
        from openTSNE.nearest_neighbors import PrecomputedNeighbors
    except ImportError:
        raise ImportError(
            'method="tsne" needs the package openTSNE. Install it with `pip install openTSNE`, or '
            'use method="pca".'
        ) from None
    early, late, every, threads = 75, 175, 5, torch.get_num_threads()
    shares = iter(np.arange(1, (early + late) // every + 1) * every / (early + late))
    k = min(90, len(vectors) - 1)
    affinities = PerplexityBasedNN(
        perplexity=k / 3, n_jobs=threads,
        knn_index=PrecomputedNeighbors(*_nearest(vectors, vectors, k, exclude_self=True)),
    )  # fmt: skip
    model = TSNE(
        start.shape[1], random_state=seed, n_jobs=threads, negative_gradient_method="bh", theta=0.8,
        early_exaggeration_iter=early, n_iter=late, callbacks_every_iters=every,
        callbacks=lambda iteration, error, points: progress(float(next(shares))),
    )  # fmt: skip
    # openTSNE warns above a spread of 1e-4.
    return np.asarray(model.fit(affinities=affinities, initialization=5e-5 * start))


class _Epochs(io.TextIOBase):
    """Where umap-learn's progress bar writes the number of the epoch: it has no callback.

    tqdm holds a lock while it writes, so an exception of ``progress`` waits until the last epoch.
    """

    def __init__(self, progress: Report, epochs: int):
        self.progress, self.epochs = progress, epochs
        self.error: BaseException | None = None

    def write(self, text: str) -> int:
        if self.error is None and text.strip().isdigit():
            try:
                self.progress(int(text) / self.epochs)
            except BaseException as error:
                self.error = error
        return len(text)


def _umap(vectors: Tensor, start: np.ndarray, seed: int, progress: Report) -> np.ndarray:
    try:
        from umap import umap_
    except ImportError:
        raise ImportError(
            'method="umap" needs the package umap-learn. Install it with '
            '`pip install "geossl[umap]"`, or use method="tsne".'
        ) from None
    output = _Epochs(progress, 200)
    k = min(14, len(vectors) - 1)  # 15 with the vector itself
    graph = _fuzzy_graph(*_nearest(vectors, vectors, k, exclude_self=True))
    a, b = umap_.find_ab_params(1.0, 0.1)
    points, _ = umap_.simplicial_set_embedding(
        vectors.numpy(), graph, start.shape[1], initial_alpha=1.0, a=a, b=b, gamma=1.0,
        negative_sample_rate=5, n_epochs=output.epochs, init=start.astype(np.float32),
        random_state=np.random.RandomState(seed), metric="euclidean", metric_kwds={},
        densmap=False, densmap_kwds={}, output_dens=False,
        tqdm_kwds={"file": output, "bar_format": "{n_fmt}", "disable": False, "mininterval": 0.02},
    )  # fmt: skip
    if output.error is not None:
        raise output.error
    return points


def _fuzzy_graph(rows: np.ndarray, distances: np.ndarray):
    """Return UMAP's graph of neighbors, which umap-learn compiles for 8 s in every process.

    Source:
        UMAP, arXiv 1802.03426, Algorithms 2 and 3.
    """
    from scipy.sparse import csr_array

    n, k = rows.shape
    nearest = np.where(distances > 0, distances, np.inf).min(1, keepdims=True)
    nearest[np.isinf(nearest)] = 0
    beyond = np.maximum(distances - nearest, 0).astype(float)
    low, high, width = np.zeros((n, 1)), np.full((n, 1), np.inf), np.ones((n, 1))
    for _ in range(64):
        is_wide = np.exp(-beyond / width).sum(1, keepdims=True) > np.log2(k + 1)
        high, low = np.where(is_wide, width, high), np.where(is_wide, low, width)
        width = np.where(np.isinf(high), 2 * width, (low + high) / 2)
    width = np.maximum(width, 1e-3 * np.where(nearest > 0, distances.mean(1, keepdims=True),
                                              distances.mean()))  # fmt: skip
    weights = np.exp(-beyond / np.maximum(width, 1e-12))
    graph = csr_array((weights.ravel(), rows.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    return graph + graph.T - graph * graph.T
