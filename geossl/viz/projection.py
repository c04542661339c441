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

Method = Literal["pca", "tsne", "umap"]


def project(
    embeddings: Embeddings,
    *,
    dims: int = 2,
    method: Method = "pca",
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Coordinates ``(M, dims)`` float32 for a picture, of the vectors made unit-norm.

    Args:
        embeddings: at least one; t-SNE and UMAP want four or more, and t-SNE takes minutes above
            about 20,000.
        dims: 2 or 3.
        method: "pca" (the sign of an axis makes its largest weight positive), "tsne", or "umap",
            which wants the package umap-learn.
        seed: of t-SNE and UMAP.
        progress: called with the share that is done, 0 to 1, now and then.

    Raises:
        ValueError: an unknown method, or too few vectors.
        ImportError: "umap" without umap-learn.
    """
    if method not in ("pca", "tsne", "umap"):
        raise ValueError(f"expected method of pca, tsne or umap, came {method!r}")
    least = 1 if method == "pca" else 4
    if len(embeddings) < least:
        raise ValueError(
            f"expected {least} embeddings or more for {method}, came {len(embeddings)}"
        )
    unit = normalize(embeddings.tensor(), dim=1)
    unit = unit - unit.double().mean(0).float()
    if method == "pca":
        return _principal(unit, dims)
    heard = _Heard(progress or (lambda share: None))
    return (_tsne if method == "tsne" else _umap)(unit.numpy(), dims, seed, heard)


def _principal(unit: Tensor, dims: int) -> np.ndarray:
    width = unit.shape[1]
    scatter = torch.zeros(width, width, dtype=torch.float64)
    for part in unit.split(8192):
        scatter += part.double().T @ part.double()
    axes = torch.linalg.eigh(scatter)[1].flip(1)[:, :dims]  # (E, dims), the widest first
    axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(0)[None]))
    found = (unit @ axes.float()).numpy()
    return np.pad(found, ((0, 0), (0, dims - found.shape[1])))


class _Heard(io.TextIOBase):
    """A stream that hears "17/500" or "Iteration 50" in what a library prints, and tells it."""

    def __init__(self, progress: Callable[[float], None]):
        self.progress, self.steps = progress, 0

    def write(self, text: str) -> int:
        found = re.findall(r"(?:Iteration |\b)(\d+)(?:/|: error)", text)
        if found and self.steps:
            self.progress(min(int(found[-1]) / self.steps, 1.0))
        return len(text)


def _tsne(unit: np.ndarray, dims: int, seed: int, heard: _Heard) -> np.ndarray:
    from sklearn.manifold import TSNE

    heard.steps = 1000
    near = min(30.0, (len(unit) - 1) / 3)
    model = TSNE(
        dims, init="pca", perplexity=near, random_state=seed, max_iter=heard.steps, verbose=2
    )
    with contextlib.redirect_stdout(heard):
        return model.fit_transform(unit)


def _umap(unit: np.ndarray, dims: int, seed: int, heard: _Heard) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError:
        raise ImportError(
            'expected the package umap-learn for UMAP, found none; pip install "geossl[umap]", '
            "or take t-SNE"
        ) from None
    heard.steps = 200 if len(unit) > 10_000 else 500  # umap's own choice
    model = UMAP(
        n_components=dims, n_neighbors=min(15, len(unit) - 1), metric="cosine", random_state=seed,
        n_jobs=1, n_epochs=heard.steps, init="pca",
        tqdm_kwds={"file": heard, "bar_format": "{n_fmt}/{total_fmt}", "disable": False,
                   "mininterval": 0.02},
    )  # fmt: skip
    return model.fit_transform(unit)


def to_rgb(embeddings: Embeddings) -> np.ndarray:
    """Colors ``(M, 3)`` uint8: the first three principal components, stretched to 2..98 %."""
    axes = project(embeddings, dims=3)
    low, high = np.percentile(axes, [2, 98], axis=0)
    share = np.clip((axes - low) / np.maximum(high - low, 1e-6), 0, 1)
    return np.round(30 + 220 * share).astype(np.uint8)
