"""Embeddings as points and colors: PCA, t-SNE, UMAP."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from geossl.embeddings import Embeddings
from geossl.utils.validate import Seed, validated

Method = Literal["pca", "tsne", "umap"]
_FEWEST = {"pca": 1, "tsne": 4, "umap": 4}  # vectors


@validated
def project(
    embeddings: Embeddings,
    *,
    dims: Literal[2, 3] = 2,
    method: Method = "pca",
    seed: Seed = 0,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Project the vectors, made unit-norm, to coordinates ``(M, dims)`` float32 for a picture.

    Args:
        embeddings: at least one; four for t-SNE and UMAP. t-SNE takes minutes above about 20,000.
        dims: 2 or 3.
        method: "pca" (the sign of an axis makes its largest weight positive), "tsne", or "umap",
            which needs the package umap-learn.
        seed: of t-SNE and UMAP.
        progress: called with the share that is done, 0 to 1, now and then.

    Raises:
        ValueError: too few vectors.
        ImportError: "umap" without umap-learn.
    """
    if len(embeddings) < _FEWEST[method]:
        raise ValueError(
            f"`embeddings` must have at least {_FEWEST[method]} vectors for method={method!r}, "
            f"got {len(embeddings)}."
        )
    unit = normalize(embeddings.tensor(), dim=1)
    unit = unit - unit.double().mean(0).float()
    if method == "pca":
        return _pca(unit, dims)
    output = _ProgressOutput(progress or (lambda share: None))
    return (_tsne if method == "tsne" else _umap)(unit.numpy(), dims, seed, output)


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


class _ProgressOutput(io.TextIOBase):
    """A stream that reads "17/500" or "Iteration 50" in what a library prints, and reports it."""

    def __init__(self, progress: Callable[[float], None]):
        self.progress, self.steps = progress, 0

    def write(self, text: str) -> int:
        numbers = re.findall(r"(?:Iteration |\b)(\d+)(?:/|: error)", text)
        if numbers and self.steps:
            self.progress(min(int(numbers[-1]) / self.steps, 1.0))
        return len(text)


def _tsne(unit: np.ndarray, dims: int, seed: int, output: _ProgressOutput) -> np.ndarray:
    from sklearn.manifold import TSNE

    output.steps = 1000
    model = TSNE(
        dims, init="pca", perplexity=min(30.0, (len(unit) - 1) / 3), random_state=seed,
        max_iter=output.steps, verbose=2,
    )  # fmt: skip
    with contextlib.redirect_stdout(output):
        return model.fit_transform(unit)


def _umap(unit: np.ndarray, dims: int, seed: int, output: _ProgressOutput) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError:
        raise ImportError(
            'method="umap" needs the package umap-learn. Install it with '
            '`pip install "geossl[umap]"`, or use method="tsne".'
        ) from None
    output.steps = 200 if len(unit) > 10_000 else 500  # umap's own choice
    model = UMAP(
        n_components=dims, n_neighbors=min(15, len(unit) - 1), metric="cosine", random_state=seed,
        n_jobs=1, n_epochs=output.steps, init="pca",
        tqdm_kwds={"file": output, "bar_format": "{n_fmt}/{total_fmt}", "disable": False,
                   "mininterval": 0.02},
    )  # fmt: skip
    return model.fit_transform(unit)
