"""Embeddings: the vectors of a chip store, kept with its scene table; and neighbors."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import normalize
from tqdm.auto import tqdm

from geossl import models
from geossl.data import scenes
from geossl.data.store import ChipStore
from geossl.data.table_files import to_geo, write
from geossl.utils import dist
from geossl.utils.io import atomic_write

if TYPE_CHECKING:
    import geopandas

_BIG = 100_000_000  # bytes of vectors above which they go into a .npy beside the table
_CELLS = 2**24  # similarities held at a time
_COLUMN = "embedding"


@dataclass(frozen=True, eq=False, repr=False)
class Embeddings:
    """Vectors with the scenes they came from.

    Attributes:
        vectors: ``(M, E)`` float32.
        scenes: scene table, row i = vector i.
    """

    vectors: np.ndarray
    scenes: pd.DataFrame

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", np.asarray(self.vectors, np.float32))
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.scenes):
            raise ValueError(
                "expected vectors (M, E) and M rows of scenes, came "
                f"{self.vectors.shape} and {len(self.scenes)}"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        places = self.scenes["location"].nunique()
        return f"Embeddings({len(self):,} x {self.vectors.shape[1]} of {places:,} places)"

    def tensor(self) -> Tensor:
        """The vectors as a tensor, without a copy where their memory is writable."""
        return torch.from_numpy(np.require(self.vectors, requirements=["C", "W"]))

    def subset(self, rows: ArrayLike) -> Embeddings:
        """Those of a boolean mask ``(M,)`` or of row numbers."""
        rows = _rows(rows, len(self))
        return Embeddings(self.vectors[rows], self.scenes.iloc[rows].reset_index(drop=True))

    def centered(self, *, by: Literal["time", "year"] = "time") -> Embeddings:
        """Less the mean vector of their date: takes out what all images of one date share.

        Args:
            by: a date is an exact time (scenes of many places at once), or a calendar year.

        Raises:
            ValueError: most dates show one place only, so that centering would erase the places.
        """
        if by not in ("time", "year"):
            raise ValueError(f"expected dates by time or year, came {by!r}")
        times = self.scenes["time"]
        dates = pd.factorize(times if by == "time" else times.dt.year, use_na_sentinel=False)[0]
        places = pd.Series(scenes.location_codes(self.scenes)).groupby(dates).nunique().to_numpy()
        alone = int((places[dates] == 1).sum())
        if 2 * alone > len(self):
            raise ValueError(
                "expected several places at each date to center on, came a date of their own for "
                f"{alone} of {len(self)} scenes"
                + ("; center by year" if by == "time" else "; do not center them")
            )
        return Embeddings(self.vectors - self._means(dates)[dates], self.scenes)

    def mean_of_locations(self) -> Embeddings:
        """One vector per location, the mean over its dates, with the location's first row."""
        places = self.scenes.drop_duplicates("location").reset_index(drop=True)
        return Embeddings(self._means(scenes.location_codes(self.scenes)), places)

    def _means(self, groups: np.ndarray) -> np.ndarray:
        """Mean vectors ``(G, E)`` of dense groups ``(M,)``."""
        count = np.bincount(groups)
        total = torch.zeros(len(count), self.vectors.shape[1], dtype=torch.float64)
        total.index_add_(0, torch.from_numpy(groups), self.tensor().double())
        return (total.numpy() / count[:, None]).astype(np.float32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .parquet (or .geoparquet) with a list column ``embedding``; atomic.

        Above 100 MB the vectors go beside the table into ``<stem>.embedding.npy`` and the column
        is empty.

        Raises:
            ValueError: another suffix, or nothing to save.
        """
        path = Path(path)
        if path.suffix not in (".parquet", ".geoparquet"):
            raise ValueError(
                f"expected embeddings ending in .parquet or .geoparquet, came {path.name!r}"
            )
        if len(self) == 0:
            raise ValueError(f"expected at least one embedding to save at {path}, came none")
        beside = _beside(path)
        big = self.vectors.nbytes > _BIG
        table = self.scenes.assign(**{_COLUMN: None if big else list(self.vectors)})
        if big:
            with atomic_write(beside) as part:
                np.save(part, self.vectors)
        write(table, path)
        if not big:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Embeddings:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file, or the vectors beside it are gone.
            ValueError: it holds no embeddings, or others than the vectors beside it.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"expected embeddings at {path}, found no file")
        if not cls.is_file(path):
            raise ValueError(
                f"expected embeddings written by Embeddings.save at {path}, came a file without "
                f"the column {_COLUMN!r}"
            )
        table = pd.read_parquet(path)
        lists = table.pop(_COLUMN)
        if path.suffix == ".geoparquet":
            table = table.drop(columns="geometry", errors="ignore")
        if not lists.isna().all():
            return cls(np.stack(lists.to_list()), table)
        beside = _beside(path)
        if not beside.is_file():
            raise FileNotFoundError(
                f"expected the vectors of {path} beside it at {beside}, found no file; "
                "move the two together"
            )
        return cls(np.load(beside), table)

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
        return to_geo(self.scenes.assign(**{_COLUMN: list(self.vectors)}))


def embed(
    store: ChipStore,
    encoder: models.Encoder,
    *,
    index: ArrayLike | None = None,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> Embeddings:
    """Embeddings of a store's chips; the encoder is left bit for bit as it was.

    Under ``torchrun``, or inside a process group, all processes call it alike; each embeds its
    share of the chips, and all get all vectors.

    Args:
        store: the chips.
        encoder: normalizes the chips itself; BatchNorm uses its running statistics.
        index: ``(M,)`` row numbers or a boolean mask of all chips; all when None.
        batch_size: chips at a time; changes the result by rounding only.
        device: the encoder's own when None; on another one a copy of the encoder does the work.
        progress: show a bar.

    Returns:
        ``(M, E)`` float32 vectors with their rows of the scene table.

    Raises:
        ValueError: an encoder for another number of bands, or chips that the store lacks.
    """
    if encoder.bands != len(store.bands):
        raise ValueError(
            f"expected an encoder for the store's {len(store.bands)} bands {store.bands}, came "
            f"one for {encoder.bands}"
        )
    if batch_size < 1:
        raise ValueError(f"expected batch >= 1, came {batch_size}")
    rows = np.arange(len(store)) if index is None else _rows(index, len(store))
    where = encoder.mean.device if device is None else torch.device(device)
    if where != encoder.mean.device:
        encoder = copy.deepcopy(encoder).to(where)
    modes = {module: module.training for module in encoder.modules()}
    dist.init_process_group(where)
    mine = rows[dist.local_slice(len(rows))]
    vectors = torch.empty(len(mine), encoder.embedding_dim)
    quiet = not progress or dist.rank() > 0
    encoder.eval()
    try:
        bar = tqdm(total=len(mine), unit="chip", disable=quiet)
        with torch.no_grad(), bar:
            for start in range(0, len(mine), batch_size):
                chips = store.gather(mine[start : start + batch_size]).to(where)  # (N, C, H, W)
                found = encoder(encoder.normalize(chips))  # (N, E)
                vectors[start : start + batch_size] = found.float().cpu()
                bar.update(len(chips))
    finally:
        for module, training in modes.items():
            module.training = training
    whole = dist.all_gather(vectors, len(rows)).numpy()
    return Embeddings(whole, store.scenes.iloc[rows].reset_index(drop=True))


def neighbors(
    embeddings: Embeddings, index: ArrayLike, *, k: int = 5, exclude_location: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar chips by cosine similarity.

    Args:
        embeddings: of all chips.
        index: ``(Q,)`` rows to find neighbors of.
        k: how many; fewer when some row has not as many to choose from.
        exclude_location: leave out chips of the same location, else only the chip itself.

    Returns:
        Rows ``(Q, k)`` and similarities ``(Q, k)``, the nearest first.

    Raises:
        ValueError: a row that is not there, or one without any other to choose from.
    """
    index = _rows(np.atleast_1d(np.asarray(index)), len(embeddings))
    codes = np.arange(len(embeddings))
    if exclude_location:
        codes = scenes.location_codes(embeddings.scenes)
    left = len(embeddings) - int(np.bincount(codes)[codes[index]].max(initial=0))
    if k < 1 or left < 1:
        others = "chips of other locations" if exclude_location else "other chips"
        raise ValueError(f"expected k >= 1 and some {others} to choose from, came {k} and {left}")
    unit, group = normalize(embeddings.tensor(), dim=1), torch.from_numpy(codes)
    rows, similarities = [], []
    for part in torch.from_numpy(index).split(max(1, _CELLS // len(unit))):
        similarity = unit[part] @ unit.T  # (q, M)
        similarity.masked_fill_(group[part][:, None] == group[None], -torch.inf)
        best = similarity.topk(min(k, left), dim=1)
        rows.append(best.indices)
        similarities.append(best.values)
    return torch.cat(rows).numpy(), torch.cat(similarities).numpy()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.{_COLUMN}.npy")


def _rows(index: ArrayLike, size: int) -> np.ndarray:
    """Row numbers of an index or a boolean mask, checked."""
    rows = np.asarray(index)
    if rows.dtype == bool:
        if rows.shape != (size,):
            raise ValueError(f"expected a mask of {size} rows, came one of shape {rows.shape}")
        return np.flatnonzero(rows)
    if rows.ndim != 1:
        raise ValueError(f"expected row numbers in one dimension, came the shape {rows.shape}")
    if rows.size and (rows.min() < 0 or rows.max() >= size):
        raise ValueError(
            f"expected row numbers of 0 to {size - 1}, came {rows.min()} to {rows.max()}"
        )
    return rows.astype(np.int64)
