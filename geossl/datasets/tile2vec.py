"""Tile2Vec: numbered arrays of NAIP pixels, and one array of their labels."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from geossl.data.files import DatasetError, open_array
from geossl.datasets.registry import register
from geossl.datasets.shared import listing
from geossl.datasets.shared.table import draw_split, finish_table
from geossl.utils.parallel import map_threads
from geossl.utils.validate import Fraction, validated

__all__ = ["tile2vec"]

_TILE = re.compile(r"([0-9]{1,12})tile\.npy")
_NAMES = ("red", "green", "blue", "nir")


@validated
def tile2vec(
    folder: str | os.PathLike[str],
    *,
    scale: tuple[float, float] | None = None,
    test_share: Fraction = 0.2,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of Tile2Vec; each tile is a location of its own and has no date.

    The format has no coordinates: ``lon, lat`` are missing in every row.

    Args:
        folder: contains ``<i>tile.npy`` of ``(H, W, bands)`` and, if there are labels, ``y.npy``.
        scale: (lowest, highest) value that becomes 1 and 65535; needed for other types than uint8
            and uint16.
        test_share: about this share of the tiles is ``split`` "test", the others are "train"; 0
            for no ``split``. The default is that of the source's evaluation, which draws tiles
            too; by their names here, so that a tile keeps its split.
        skip_bad: leave out tiles that are empty, damaged, or of other bands or type than the first.

    Returns:
        One row per tile, by number. ``label`` is from ``y.npy``, which starts with tile 0 or, as in
        the published data, tile 1 if there is no tile 0. Of five bands the last, a mask of the
        labels, is left out. ``attrs["skipped"]`` maps the tiles left out to the reason.

    Raises:
        FileNotFoundError: the folder or its tiles do not exist.
        ValueError: a tile is bad, or ``y.npy`` is too short or not one-dimensional.

    Source:
        Tile2Vec, arXiv 1805.02855.
    """
    rows = [
        (int(match[1]), file.path)
        for file in listing.list_folder(folder, "Tile2Vec")
        if (match := _TILE.fullmatch(file.name))
    ]
    table = pd.DataFrame(sorted(rows), columns=["number", "path"])
    labels = _read_labels(os.path.join(folder, "y.npy"))
    if labels is not None and len(table):
        start = min(table["number"].min(), 1)
        needed = table["number"].max() - start + 1
        if len(labels) < needed:
            raise DatasetError(
                f"{os.path.join(folder, 'y.npy')} needs a label for each of tile {start} to "
                f"{table['number'].max()} ({needed} labels), got {len(labels)}."
            )
        table["label"] = labels[table["number"] - start].tolist()
    formats = map_threads(_read_format, list(table["path"]))
    bands, dtype = next((one for one in formats if isinstance(one, tuple)), (0, ""))
    table["problem"] = [
        one if isinstance(one, str)
        else "" if one == (bands, dtype)
        else f"it has {one[0]} bands of {one[1]}, the first tile {bands} of {dtype}"
        for one in formats
    ]  # fmt: skip
    table["location"] = table.pop("number").astype(str) + "tile"
    table["split"] = draw_split(table["location"], test_share=test_share)
    numbers = range(1, (4 if bands == 5 else bands) + 1)
    names = [_NAMES[i - 1] if 3 <= bands <= 5 else f"band_{i}" for i in numbers]
    return finish_table(
        table, reader="tile2vec", folder=folder, layout="<i>tile.npy", skip_bad=skip_bad,
        positions=False, bands=numbers, band_names=names, scale=scale,
        dtype="uint16" if scale else dtype,
    )  # fmt: skip


def _read_format(path: str) -> tuple[int, str] | str:
    """Return the number of bands and the type of a tile, or why it is bad."""
    try:
        tile = open_array(path)
    except DatasetError as error:
        return str(error)
    if tile.ndim != 3 or 0 in tile.shape:
        return f"it has the shape {tile.shape}, not (H, W, bands)"
    return min(tile.shape[0], tile.shape[2]), str(tile.dtype)


def _read_labels(path: str) -> np.ndarray | None:
    if not os.path.isfile(path):
        return None
    labels = open_array(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iufbU":
        raise DatasetError(
            f"{path} needs labels of shape (tiles,), got {labels.shape} of {labels.dtype}."
        )
    integers = labels.dtype.kind == "f" and bool((labels % 1 == 0).all())
    return np.asarray(labels.astype(np.int64) if integers else labels)


def fits(path: Path) -> str | None:
    """Say why ``path`` looks like tiles of Tile2Vec, or return None."""
    names = ["0tile.npy", "1tile.npy", *(file.name for file in listing.first_entries(path))]
    matches = any(_TILE.fullmatch(name) and os.path.isfile(path / name) for name in names)
    return "contains <i>tile.npy" if matches else None


register("tile2vec", open=tile2vec, fits=fits)
