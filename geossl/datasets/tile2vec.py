"""Tile2Vec: numbered arrays of NAIP pixels, and one array of their labels."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tokenize import TokenError

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.datasets.raster.chips import add_pixel_columns
from geossl.datasets.registry import register
from geossl.datasets.shared import listing
from geossl.datasets.shared.table import drop_bad_files
from geossl.utils.parallel import map_threads

__all__ = ["fits", "tile2vec"]

_TILE = re.compile(r"([0-9]{1,12})tile\.npy")
_NO_ARRAY = (OSError, ValueError, OverflowError, MemoryError, SyntaxError, TokenError)  # headers
_NAMES = ("red", "green", "blue", "nir")


def tile2vec(
    folder: str | os.PathLike[str],
    *,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of Tile2Vec's tiles; each is a location of its own, at an unknown time.

    The format has no coordinates: ``lon, lat`` are missing in every row.

    Args:
        folder: holds ``<i>tile.npy`` of ``(H, W, bands)`` and, if there are labels, ``y.npy``.
        scale: (lowest, highest) value that becomes 1 and 65535; needed for arrays of other types
            than uint8 and uint16.
        skip_bad: leave out tiles that are empty, no array, or unlike the first.

    Returns:
        A row a tile, by number. ``label`` is the value of ``y.npy``, of which the first belongs to
        tile 0 if there is one, else to tile 1 as in the published tiles. Of five bands the last,
        which is a mask of the labels, is left out. ``attrs["skipped"]``: path -> why left out.

    Raises:
        FileNotFoundError: no such folder, or no tile in it.
        ValueError: a bad tile, or ``y.npy`` has another length or is no array of one dimension.

    Source:
        Tile2Vec, arXiv 1805.02855.
    """
    hits = [
        (int(hit[1]), file.path)
        for file in listing.list_folder(folder, "Tile2Vec")
        if (hit := _TILE.fullmatch(file.name))
    ]
    table = pd.DataFrame(sorted(hits), columns=["number", "path"])
    labels = _labels(os.path.join(folder, "y.npy"))
    if labels is not None and len(table):
        at = table["number"] - min(table["number"].min(), 1)
        if at.max() >= len(labels):
            raise ValueError(
                f"expected a label for each of tile {table['number'].min()} to "
                f"{table['number'].max()}, came {len(labels)} in {os.path.join(folder, 'y.npy')}"
            )
        table["label"] = labels[at].tolist()
    about = map_threads(_about, list(table["path"]))
    first = next((found for found in about if isinstance(found, tuple)), (0, ""))
    problems = {
        path: found if isinstance(found, str) else f"expected bands and type {first}, came {found}"
        for path, found in zip(table["path"], about, strict=True)
        if found != first
    }
    table["location"] = table["number"].astype(str) + "tile"
    table["lon"] = table["lat"] = np.nan
    table = drop_bad_files(
        table[~table["path"].isin(problems.keys())].drop(columns="number"),
        problems,
        skip_bad=skip_bad,
        what=f"<i>tile.npy in {folder}",
    )
    table = scenes.check(table, positions=False, source=f"Tile2Vec in {folder}")
    count, dtype = first
    kept = range(1, (4 if count == 5 else count) + 1)
    names = [_NAMES[b - 1] if 3 <= count <= 5 else f"band_{b}" for b in kept]
    return add_pixel_columns(
        table, reader="tile2vec", bands=kept, band_names=names,
        dtype="uint16" if scale is not None else dtype, scale=scale,
    )  # fmt: skip


def _open(path: str) -> np.ndarray:
    """A memory map, so that a header of huge dimensions takes no memory."""
    try:
        with np.errstate(over="ignore"):
            return np.lib.format.open_memmap(path, mode="r")  # np.load would open a zip as well
    except _NO_ARRAY as error:
        raise ValueError(f"cannot be read as an array: {error}") from None


def _about(path: str) -> tuple[int, str] | str:
    """Number of bands and type of a tile, or why it is bad."""
    try:
        tile = _open(path)
    except ValueError as error:
        return str(error)
    if tile.ndim != 3 or 0 in tile.shape:
        return f"expected an array (H, W, bands), came {tile.shape}"
    return min(tile.shape[0], tile.shape[2]), str(tile.dtype)


def _labels(path: str) -> np.ndarray | None:
    if not os.path.isfile(path):
        return None
    try:
        labels = _open(path)
    except ValueError as error:
        raise ValueError(f"{path} {error}; mend or remove it") from None
    if labels.ndim != 1 or labels.dtype.kind not in "iufbU":
        raise ValueError(f"expected labels (tiles,) in {path}, came {labels.shape} {labels.dtype}")
    whole = labels.dtype.kind == "f" and bool((labels % 1 == 0).all())
    return np.asarray(labels.astype(np.int64) if whole else labels)


def fits(path: Path) -> str | None:
    """Why ``path`` looks like tiles of Tile2Vec, or None."""
    names = ["0tile.npy", "1tile.npy", *(file.name for file in listing.first_entries(path))]
    found = any(_TILE.fullmatch(name) and os.path.isfile(path / name) for name in names)
    return "holds <i>tile.npy" if found else None


register("tile2vec", open=tile2vec, fits=fits)
