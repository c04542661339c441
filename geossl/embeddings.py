"""Embed the chips of a store, keep the vectors with their scenes, and find nearest neighbors."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import normalize

from geossl.data import scenes
from geossl.data.store import ChipStore
from geossl.data.table_files import to_geo, write
from geossl.data.vector_files import has_vectors, read_vectors
from geossl.datasets.raster.files import is_tiff
from geossl.datasets.raster.pixel_vectors import read_pixel_vectors
from geossl.models.bands import fit_bands
from geossl.models.encoder import Encoder
from geossl.models.layers import check_cells, cut_cells, resize
from geossl.utils import dist
from geossl.utils.device import check_memory, select_device
from geossl.utils.io import atomic_write
from geossl.utils.progress import progress_bar
from geossl.utils.validate import PositiveInt, advise, check, validated

if TYPE_CHECKING:
    import geopandas

__all__ = ["Embeddings", "embed", "neighbors"]

_BIG = 100_000_000  # bytes of vectors above which they go into an .npy file of their own
_CELLS = 2**24  # similarities held at a time
_COLUMN = "embedding"


@dataclass(frozen=True, eq=False, repr=False)
class Embeddings:
    """Vectors with the scenes they belong to.

    Attributes:
        vectors: ``(M, E)`` float32.
        scenes: scene table, row i = vector i; columns that it lacks are added as missing values,
            and each row is a location of its own without a column ``location``.
    """

    vectors: np.ndarray
    scenes: pd.DataFrame

    def __post_init__(self) -> None:
        check("vectors", self.vectors, ArrayLike)
        check("scenes", self.scenes, pd.DataFrame)
        object.__setattr__(self, "vectors", np.asarray(self.vectors, np.float32))
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.scenes):
            raise ValueError(
                f"`vectors` must be (M, E), a row for each of the {len(self.scenes)} `scenes`, got "
                f"shape {self.vectors.shape}."
            )
        times = self.scenes.get("time", pd.Series())
        if len(self) and not (
            set(scenes.COLUMNS) <= set(self.scenes)
            and pd.api.types.is_datetime64_any_dtype(times.dtype)
        ):
            rows = self.scenes.get("location", pd.Series(range(len(self)), self.scenes.index))
            table = self.scenes.assign(location=rows)
            if {"lon", "lat"} <= set(table):  # half a position is none
                table.loc[table[["lon", "lat"]].isna().any(axis=1), ["lon", "lat"]] = np.nan
            table = scenes.check(table, positions=False)
            object.__setattr__(self, "scenes", table)

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        locations = self.scenes["location"].nunique()
        return f"Embeddings({len(self):,} x {self.vectors.shape[1]} of {locations:,} locations)"

    def tensor(self) -> Tensor:
        """Return the vectors as a tensor, without a copy if their memory is writable."""
        return torch.from_numpy(np.require(self.vectors, requirements=["C", "W"]))

    @validated
    def subset(self, rows: ArrayLike) -> Embeddings:
        """Select the rows of a boolean mask ``(M,)`` or of row numbers."""
        rows = row_numbers("rows", rows, len(self))
        return Embeddings(self.vectors[rows], self.scenes.iloc[rows].reset_index(drop=True))

    @validated
    def centered(self, *, by: Literal["time", "year"] = "time") -> Embeddings:
        """Subtract the mean vector of each date, which all images of one date share.

        Args:
            by: a date is an exact time (scenes of many locations at once), or a calendar year.

        Raises:
            ValueError: no row has a time, or most dates have one location only, so that nothing of
                it would remain.
        """
        times = self.scenes["time"]
        if times.isna().all():
            raise ValueError(
                f"The mean of each date needs times, but no row of {len(self)} has one."
            )
        dates = pd.factorize(times if by == "time" else times.dt.year, use_na_sentinel=False)[0]
        codes = pd.Series(scenes.location_codes(self.scenes))
        alone = int((codes.groupby(dates).transform("nunique") == 1).sum())
        if 2 * alone > len(self):
            raise ValueError(
                f"`by={by!r}` needs several locations at each date, but {alone} of {len(self)} "
                "scenes have a date of their own. "
                + ("Use by='year'." if by == "time" else "Do not center them.")
            )
        return Embeddings(self.vectors - self._means(dates)[dates], self.scenes)

    def mean_of_locations(self) -> Embeddings:
        """Average the vectors of each location over its dates, with the location's first row."""
        table = self.scenes.drop_duplicates("location").reset_index(drop=True)
        return Embeddings(self._means(scenes.location_codes(self.scenes)), table)

    def _means(self, groups: np.ndarray) -> np.ndarray:
        """Return mean vectors ``(G, E)`` of groups ``(M,)`` numbered from 0."""
        counts = np.bincount(groups)
        total = torch.zeros(len(counts), self.vectors.shape[1], dtype=torch.float64)
        total.index_add_(0, torch.from_numpy(groups), self.tensor().double())
        return (total.numpy() / counts[:, None]).astype(np.float32)

    @validated
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .parquet (or .geoparquet) file with a list column ``embedding``; atomic.

        Above 100 MB the vectors go to ``<stem>.embedding.npy`` in the same directory, and the
        column is empty.

        Raises:
            ValueError: another suffix, or no rows.
        """
        path = Path(path)
        if path.suffix not in (".parquet", ".geoparquet"):
            raise ValueError(f"`path` must end in .parquet or .geoparquet, got {path.name!r}.")
        if len(self) == 0:
            raise ValueError(f"There are no embeddings to save at {path}.")
        is_big = self.vectors.nbytes > _BIG
        if is_big:
            with atomic_write(_vectors_path(path)) as part:
                np.save(part, self.vectors)
        write(self.scenes.assign(**{_COLUMN: None if is_big else list(self.vectors)}), path)
        if not is_big:
            _vectors_path(path).unlink(missing_ok=True)

    @classmethod
    @validated
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        vectors: str | os.PathLike[str] | None = None,
        column: str | None = None,
        columns: Mapping[str, str] | None = None,
        skip_bad: bool = False,
        max_pixels: PositiveInt = 20_000,
    ) -> Embeddings:
        """Read a file of `save`, or vectors of another tool.

        Takes a table with a column of lists or with numbered columns (parquet, csv), an .npy with
        a table of the same name beside it, an .npz, or a GeoTIFF with a vector in each pixel. See
        `geossl.data.vector_files` and `geossl.datasets.raster.pixel_vectors` for the layouts, among
        them those of Major TOM, Clay, TESSERA and AlphaEarth.

        Args:
            path: .parquet, .csv, .npy, .npz or .tif file, or a directory of parquet files.
            vectors: .npy file ``(M, E)`` with the vectors of the table ``path``.
            column: column of lists, or prefix of numbered columns, where a table has several.
            columns: its column names -> ours, e.g. ``{"longitude": "lon"}``.
            skip_bad: leave out rows whose vector is missing, of another length or not finite.
            max_pixels: most pixels to take from a GeoTIFF, on a regular grid.

        Raises:
            FileNotFoundError: there is no such file, or its file of vectors is gone.
            DatasetError: it holds no vectors, or a bad one: names row and column.
            ValueError: a suffix, column or scene table that cannot be used.
        """
        path = Path(path)
        if is_tiff(path):
            return cls(*read_pixel_vectors(path, max_pixels=max_pixels))
        if vectors is None and _has_separate_vectors(path):
            vectors = _vectors_path(path)
            if not vectors.is_file():
                raise FileNotFoundError(
                    f"The vectors of {path} must be at {vectors}, but there is no file. Move the "
                    "two together."
                )
        array, table = read_vectors(
            path, vectors=vectors, column=column, columns=columns, skip_bad=skip_bad
        )
        return cls(array, table.drop(columns=_COLUMN, errors="ignore"))

    @staticmethod
    @validated
    def is_file(path: str | os.PathLike[str]) -> bool:
        """Return whether `load` finds vectors in a file, judged by its columns."""
        return has_vectors(path) or is_tiff(path) or _has_separate_vectors(Path(path))

    def to_geo(self) -> geopandas.GeoDataFrame:
        """Return the scenes as a GeoDataFrame with a column ``embedding``."""
        return to_geo(self.scenes.assign(**{_COLUMN: list(self.vectors)}))


@validated
def embed(
    store: ChipStore,
    encoder: Encoder,
    *,
    index: ArrayLike | None = None,
    size_px: PositiveInt | None = None,
    grid: PositiveInt = 1,
    batch_size: PositiveInt = 256,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> Embeddings:
    """Embed a store's chips; the encoder is left bit for bit as it was.

    Under ``torchrun`` all processes call it alike; each embeds its share, and all get all vectors.

    Args:
        store: the chips.
        encoder: normalizes the chips itself and finds its bands among the store's by name; to say
            which it reads, see `geossl.models.with_bands`.
        index: ``(M,)`` row numbers or a boolean mask of all chips; all when None.
        size_px: to which the chips are resized first (bilinear, antialiased), e.g. of the views.
        grid: cells a side; the vectors of a chip's cells, row by row, say what lies where in it.
        batch_size: chips at a time; changes the result by rounding only.
        device: the encoder's own when None; on another one a copy of the encoder does the work.
        progress: show a progress bar.

    Returns:
        ``(M, grid * grid * E)`` float32 vectors with their rows of the scene table.

    Raises:
        ValueError: bands, rows or a size that do not fit, or a side that ``grid`` cannot divide.
    """
    size_px = check_cells(size_px or store.size_px, grid, encoder.stem)
    encoder = fit_bands(encoder, store.bands, mean=store.mean, std=store.std)
    rows = np.arange(len(store)) if index is None else row_numbers("index", index, len(store))
    device = select_device(device) if isinstance(device, str) else device or encoder.mean.device
    chips_bytes = min(batch_size, len(rows)) * encoder.bands * size_px**2 * 4
    check_memory({"`batch_size` or `size_px`": 2 * chips_bytes}, device)
    if device != encoder.mean.device:
        encoder = copy.deepcopy(encoder).to(device)
    dist.init_process_group(device)
    own = rows[dist.local_slice(len(rows))]
    vectors = torch.empty(len(own), grid**2 * encoder.embedding_dim)
    quiet = not progress or dist.rank() > 0
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        with torch.no_grad(), progress_bar(len(own), unit="chip", show=not quiet) as bar:
            for start in range(0, len(own), batch_size):
                chips = store.gather(own[start : start + batch_size]).to(device)  # (N, C, H, W)
                chips = cut_cells(resize(chips, size_px), grid)  # (N * grid * grid, C, h, w)
                batch = encoder(encoder.normalize(chips))  # (N * grid * grid, E)
                vectors[start : start + batch_size] = batch.float().cpu().view(-1, vectors.shape[1])
                bar.update(len(chips) // grid**2)
    finally:
        for module, training in modes.items():
            module.training = training
    all_vectors = dist.all_gather(vectors, len(rows)).numpy()
    return Embeddings(all_vectors, store.scenes.iloc[rows].reset_index(drop=True))


@validated
def neighbors(
    embeddings: Embeddings,
    index: ArrayLike,
    *,
    k: PositiveInt = 5,
    exclude_location: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the most similar chips by cosine similarity.

    Args:
        embeddings: of all chips.
        index: ``(Q,)`` rows to find neighbors of.
        k: how many; fewer if some row has not as many to choose from.
        exclude_location: leave out chips of the same location, else only the chip itself.

    Returns:
        Rows ``(Q, k)`` and similarities ``(Q, k)``, the nearest first.

    Raises:
        ValueError: a row that is not there, or one without any other to choose from.
    """
    index = row_numbers("index", np.atleast_1d(np.asarray(index)), len(embeddings))
    codes = np.arange(len(embeddings))
    if exclude_location:
        codes = scenes.location_codes(embeddings.scenes)
    candidates = len(embeddings) - int(np.bincount(codes)[codes[index]].max(initial=0))
    if candidates < 1:
        others = "chips of other locations" if exclude_location else "other chips"
        raise ValueError(f"`embeddings` has no {others} to choose neighbors from.")
    unit, group = normalize(embeddings.tensor(), dim=1), torch.from_numpy(codes)
    rows, similarities = [], []
    for part in torch.from_numpy(index).split(max(1, _CELLS // len(unit))):
        similarity = unit[part] @ unit.T  # (q, M)
        similarity.masked_fill_(group[part][:, None] == group[None], -torch.inf)
        best = similarity.topk(min(k, candidates), dim=1)
        rows.append(best.indices)
        similarities.append(best.values)
    return torch.cat(rows).numpy(), torch.cat(similarities).numpy()


def _has_separate_vectors(path: Path) -> bool:
    """Return whether a parquet file of `Embeddings.save` has its vectors in a file of their own."""
    import pyarrow
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
    except (pyarrow.ArrowInvalid, OSError):
        return False
    ours = {_COLUMN, *scenes.COLUMNS} <= set(schema.names)
    return ours and pyarrow.types.is_null(schema.field(_COLUMN).type)


def _vectors_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.{_COLUMN}.npy")


def row_numbers(name: str, index: ArrayLike, count: int) -> np.ndarray:
    """Convert row numbers or a boolean mask of ``count`` rows to checked row numbers."""
    rows = np.asarray(index)
    if rows.dtype == bool and rows.shape == (count,):
        return np.flatnonzero(rows)
    if rows.ndim == 1 and (rows.size == 0 or rows.dtype.kind in "iu"):
        if rows.size == 0 or (rows.min() >= 0 and rows.max() < count):
            return rows.astype(np.int64)
    values = f" from {rows.min()} to {rows.max()}" if rows.size and rows.dtype.kind in "iuf" else ""
    raise ValueError(
        f"`{name}` must be row numbers from 0 to {count - 1} or a mask of {count} rows, got "
        f"{rows.dtype}{values} of shape {rows.shape}."
    )


advise(Embeddings, "Load them with Embeddings.load(path).")
