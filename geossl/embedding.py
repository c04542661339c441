"""Embeddings: the vectors of a chip store, kept with its scene table; neighbours, projections."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch.nn.functional import normalize
from tqdm.auto import tqdm

from geossl import models, scenes
from geossl.chips import ChipStore
from geossl.files import atomic

if TYPE_CHECKING:
    import geopandas

_BIG = 100_000_000  # bytes of vectors above which they go into a .npy beside the table
_COLUMN = "embedding"


@dataclass(frozen=True)
class Embeddings:
    """Vectors with the scenes they came from.

    Attributes:
        vectors: ``(M, E)`` float32.
        scenes: scene table, row i = vector i.
    """

    vectors: np.ndarray
    scenes: pd.DataFrame

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.scenes):
            raise ValueError(
                "expected vectors (M, E) and M rows of scenes, came "
                f"{self.vectors.shape} and {len(self.scenes)}"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def subset(self, rows: ArrayLike) -> Embeddings:
        """Those of a boolean mask ``(M,)`` or of row numbers."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Embeddings(self.vectors[rows], self.scenes.iloc[rows].reset_index(drop=True))

    def centred(self) -> Embeddings:
        """Less the mean vector of their time: takes out what all images of one date share."""
        times = pd.factorize(self.scenes["time"], use_na_sentinel=False)[0]
        total = np.zeros((times.max(initial=0) + 1, self.vectors.shape[1]))
        np.add.at(total, times, self.vectors)
        mean = total / np.bincount(times, minlength=len(total))[:, None]
        return Embeddings((self.vectors - mean[times]).astype(np.float32), self.scenes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .parquet (or .geoparquet) with a list column ``embedding``; atomic.

        Above 100 MB the vectors go into a ``.npy`` of the same name beside the table.
        """
        path = Path(path)
        if path.suffix not in (".parquet", ".geoparquet"):
            raise ValueError(f"expected embeddings ending in .parquet or .geoparquet, came {path}")
        table = self.scenes.copy(deep=False)
        table.attrs = {}
        beside = path.with_suffix(".npy")
        if self.vectors.nbytes > _BIG:
            with atomic(beside) as part:
                np.save(part, self.vectors)
            table[_COLUMN] = None
        else:
            beside.unlink(missing_ok=True)
            table[_COLUMN] = list(self.vectors)
        with atomic(path) as part:
            if path.suffix == ".geoparquet":
                scenes.to_geo(table).to_parquet(part, index=False)
            else:
                table.to_parquet(part, index=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Embeddings:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no embeddings.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"expected embeddings at {path}, found no file")
        if not cls.is_file(path):
            raise ValueError(
                f"expected embeddings written by Embeddings.save at {path}, came a file without "
                f"the column {_COLUMN!r}"
            )
        table = pd.read_parquet(path).drop(columns="geometry", errors="ignore")
        beside = path.with_suffix(".npy")
        if beside.exists():
            vectors = np.load(beside)
        else:
            vectors = np.stack(table[_COLUMN].to_list()).astype(np.float32)
        return cls(vectors, table.drop(columns=_COLUMN))

    @staticmethod
    def is_file(path: str | os.PathLike[str]) -> bool:
        """Whether a file is a parquet with embeddings."""
        import pyarrow
        from pyarrow import parquet

        try:
            return _COLUMN in parquet.read_schema(path).names
        except (pyarrow.ArrowInvalid, OSError):
            return False

    def to_geo(self) -> geopandas.GeoDataFrame:
        """The scenes as a GeoDataFrame with a column ``embedding``."""
        return scenes.to_geo(self.scenes.assign(**{_COLUMN: list(self.vectors)}))


def embed(
    store: ChipStore,
    encoder: models.Encoder,
    *,
    index: ArrayLike | None = None,
    batch: int = 256,
    progress: bool = False,
) -> Embeddings:
    """Embeddings of a store's chips, on the encoder's own device; the encoder is left as it was.

    Args:
        store: the chips.
        encoder: normalises the chips itself; BatchNorm uses its running statistics.
        index: ``(M,)`` chips; all when None.
        batch: chips at a time.
        progress: show a bar.

    Raises:
        ValueError: an encoder for another number of bands.
    """
    if encoder.bands != len(store.bands):
        raise ValueError(
            f"expected an encoder for the store's {len(store.bands)} bands {store.bands}, came "
            f"one for {encoder.bands}"
        )
    rows = np.arange(len(store)) if index is None else np.asarray(index)
    vectors = np.empty((len(rows), encoder.width), np.float32)
    device, was_training = encoder.mean.device, encoder.training
    encoder.eval()
    try:
        with torch.no_grad(), tqdm(total=len(rows), unit="chip", disable=not progress) as bar:
            for i in range(0, len(rows), batch):
                chips = store.gather(rows[i : i + batch]).to(device)
                found = encoder(encoder.normalise(chips))
                vectors[i : i + batch] = found.float().cpu().numpy()
                bar.update(len(chips))
    finally:
        encoder.train(was_training)
    return Embeddings(vectors, store.scenes.iloc[rows].reset_index(drop=True))


def neighbours(
    embeddings: Embeddings, index: ArrayLike, *, k: int = 5, exclude_location: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar chips by cosine similarity.

    Args:
        embeddings: of all chips.
        index: ``(Q,)`` rows to find neighbours of.
        k: how many; fewer when there are not as many.
        exclude_location: leave out chips of the same location, else only the chip itself.

    Returns:
        Rows ``(Q, k)`` and similarities ``(Q, k)``, the nearest first.
    """
    index = np.atleast_1d(np.asarray(index))
    unit = normalize(torch.from_numpy(embeddings.vectors).float(), dim=1)
    group = torch.arange(len(unit))
    if exclude_location:
        group = torch.from_numpy(scenes.location_codes(embeddings.scenes))
    rows, similarities = [], []
    for part in torch.from_numpy(index).split(512):
        similarity = unit[part] @ unit.T
        similarity.masked_fill_(group[part][:, None] == group[None], -torch.inf)
        best = similarity.topk(min(k, len(unit)), dim=1)
        rows.append(best.indices)
        similarities.append(best.values)
    return torch.cat(rows).numpy(), torch.cat(similarities).numpy()


def project(
    embeddings: Embeddings,
    *,
    dims: int = 2,
    method: Literal["pca", "tsne"] = "pca",
    seed: int = 0,
) -> np.ndarray:
    """Coordinates ``(M, dims)`` float32 for a picture: PCA of the unit vectors, or t-SNE.

    Raises:
        ValueError: an unknown method, or fewer vectors than dimensions.
    """
    if method not in ("pca", "tsne"):
        raise ValueError(f"expected method of pca or tsne, came {method!r}")
    if len(embeddings) <= dims:
        raise ValueError(f"expected more than {dims} embeddings, came {len(embeddings)}")
    unit = normalize(torch.from_numpy(embeddings.vectors).double(), dim=1)
    unit = unit - unit.mean(0)
    if method == "tsne":
        from sklearn.manifold import TSNE

        return TSNE(dims, init="pca", random_state=seed).fit_transform(unit.numpy())
    _, axes = torch.linalg.eigh(unit.T @ unit)
    axes = axes.flip(1)[:, :dims]
    axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(0)[None]))  # a sign that stays
    found = (unit @ axes).float().numpy()
    if found.shape[1] < dims:
        found = np.pad(found, ((0, 0), (0, dims - found.shape[1])))
    return found


def to_rgb(embeddings: Embeddings) -> np.ndarray:
    """Colours ``(M, 3)`` uint8: the first three principal components, stretched to 2..98 %."""
    axes = project(embeddings, dims=3)
    low, high = np.percentile(axes, [2, 98], axis=0)
    share = np.clip((axes - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.round(30 + 220 * share).astype(np.uint8)
