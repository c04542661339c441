"""Image files that a table names: within their folder, their kind of pixels, where they lie."""

from __future__ import annotations

import os
import re
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.readers.grids import at
from geossl.readers.headers import COLOURS, names_of_bands
from geossl.readers.tiles import lon_lat

IMAGES = frozenset(".jpg .jpeg .png .tif .tiff .jp2 .webp .bmp .ppm .npy".split())
_TIFS = (".tif", ".tiff")
_OPENED = 100  # files until one can be read
_TRIED = 100_000  # names looked up until a file is there: an index may name more than there is


def inside(root: str | os.PathLike[str], names: Iterable[Any]) -> list[str | None]:
    """Absolute paths of files that data name in a folder; None for a name that leads out of it.

    An absolute name must lie in ``root`` too. Names that are missing, no text or empty give None.
    """
    top = os.path.join(os.path.abspath(root), "")
    odd = re.compile(r"\.\.|^[/\\]|^.:").search  # the others, maybe a million, need no thought

    def one(name: Any) -> str | None:
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            return None
        if not odd(name):
            return top + name
        whole = os.path.normpath(os.path.join(top, name))
        out = not whole.startswith(top) or whole.startswith("/vsi")  # GDAL's way to other places
        return None if out else whole

    return [one(name) for name in names]


def out_of(root: str | os.PathLike[str], name: Any) -> str:
    """The reason why `inside` gave no path for a name."""
    return f"{name!r} names no file in {os.path.abspath(root)}; give root=, the folder of the files"


def fields(files: str) -> list[str]:
    """Names in braces in a pattern of files."""
    return re.findall(r"\{([^{}]*)\}", files)


def matched(frame: pd.DataFrame, files: str, root: Path, bad: dict[int, str]) -> np.ndarray:
    """Files of the rows by a pattern, relative to ``root``; why not goes into ``bad``."""
    names = [name for name in fields(files) if name != "band"]
    absent = [name for name in names if name not in frame]
    if absent:
        raise ValueError(
            f"expected columns of the table in files={files!r}, {absent[0]!r} is not among "
            f"{list(frame)[:40]}"
        )
    start = re.split(r"[{*]", files)[0].rpartition("/")[0]
    top = inside(root, [start or "."])[0] or str(root)
    there = sorted(_walk(top, root)) if "*" in files else []
    values = frame[names].astype("string").fillna("").to_numpy()
    found: dict[tuple[str, ...], str | None] = {}
    paths = np.full(len(frame), None, object)
    for i, key in enumerate(map(tuple, values)):
        if key not in found:
            pattern = files
            for name, value in zip(names, key, strict=True):
                pattern = pattern.replace(f"{{{name}}}", value)
            hits = list(_hits(there, pattern)) if "*" in files else [pattern]
            found[key] = hits[0] if len(hits) == 1 else None
        paths[i] = found[key]
        if paths[i] is None:
            about = dict(zip(names, key, strict=True))
            bad[i] = f"expected one file {files!r} with {about} in {root}, found none or several"
    return paths


def _walk(top: str, root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(top):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")


def _hits(there: list[str], pattern: str) -> Iterator[str]:
    """Of sorted paths those that a pattern with ``*`` fits."""
    head = pattern.split("*")[0]
    fits = re.compile("[^/]*".join(map(re.escape, pattern.split("*"))))
    for path in there[bisect_left(there, head) :]:
        if not path.startswith(head):
            return
        if fits.fullmatch(path):
            yield path


def kind(
    paths: Iterable[str],
    *,
    bands: Sequence[int | str] | None,
    band_names: Sequence[str] | None,
    dtype: str | None,
    scale: tuple[float, float] | None,
) -> dict[str, Any]:
    """What `images.described` wants to know, from the header of the first file that is there.

    Args:
        paths: of the files of a table; ``{band}`` in them stands for a word of ``bands``.
        bands: bands to keep; all but an alpha band when None.
        band_names: their names; the file's own, colours, or ``band_1, ...`` when None.
        dtype: "uint8" or "uint16"; the file's own when None.
        scale: see `images.described`.

    Raises:
        FileNotFoundError: none of the first files is there.
        ValueError: none that is there can be read, or it has no such bands.
    """
    tried = pd.unique(pd.Series(list(paths), dtype=object))[:_TRIED]
    tried = [path.replace("{band}", str(bands[0])) if bands else path for path in tried]
    reason = ""
    for path in islice(filter(os.path.isfile, tried), _OPENED):
        try:
            numbers, names, found = _kind(path)
        except (OSError, ValueError, SyntaxError) as error:
            reason = reason or f"{path} cannot be read: {error}"
            continue
        if bands is not None:
            own = dict(zip(numbers, names, strict=True))
            names = [own.get(band, str(band)) for band in bands]
        kept = dtype or ("uint16" if scale else found)
        return {
            "bands": bands or numbers,
            "band_names": band_names or names,
            "dtype": kept,
            "scale": scale,
        }
    if reason:
        raise ValueError(f"expected images that can be read, but {reason}")
    raise FileNotFoundError(
        f"expected the images that are named, found e.g. no {tried[0]}; give root=, the folder "
        "that their paths start from"
    )


def _kind(path: str) -> tuple[list[Any], list[str], str]:
    """Numbers of the bands, their names and the dtype of one file."""
    from PIL import Image

    suffix = Path(path).suffix.lower()
    if suffix in _TIFS or suffix == ".jp2":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _opened(path) as file:
                colours = [colour.name for colour in file.colorinterp]
                names = names_of_bands(file.descriptions, colours)
                kept = {i: n for i, n in enumerate(names, 1) if colours[i - 1] != "alpha"}
                return list(kept), list(kept.values()), file.dtypes[0]
    if suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        count = 1 if array.ndim == 2 else min(array.shape[0], array.shape[-1])
        numbers = list(range(1, count + 1))
        return numbers, [f"band_{i}" for i in numbers], str(array.dtype)
    try:
        with Image.open(path) as file:
            if file.mode.startswith("I"):
                return [1], ["value"], "uint16"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(str(error)) from None
    return [1, 2, 3], list(COLOURS), "uint8"


def _opened(path: str) -> Any:
    """A raster opened as what its name says, so that it cannot name others to be read."""
    import rasterio
    from rasterio.errors import RasterioError

    driver = "GTiff" if Path(path).suffix.lower() in _TIFS else "JP2OpenJPEG"
    try:
        return rasterio.open(path, driver=driver)
    except RasterioError as error:
        raise ValueError(str(error)) from None


def places(
    paths: Sequence[str], x: Sequence[float] | None = None, y: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Where pixels lie by the headers of georeferenced tifs; a file is opened once.

    Args:
        paths: a file a row.
        x: pixels from the file's left, one a row; its middle when None.
        y: pixels from its top.

    Returns:
        Longitudes and latitudes ``(M,)`` in degrees EPSG:4326, NaN where a file is no tif, cannot
        be read or is not georeferenced.
    """
    east, north = np.full((2, len(paths)), np.nan)
    crs = pd.Series([""] * len(paths), dtype=object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, rows in pd.Series(list(paths), dtype=object).groupby(list(paths)).indices.items():
            if Path(str(path)).suffix.lower() not in _TIFS:
                continue
            try:
                with _opened(str(path)) as file:
                    if not file.crs or file.transform.is_identity:
                        continue
                    crs[rows] = file.crs.to_wkt()
                    column = file.width / 2 if x is None else np.asarray(x, float)[rows]
                    line = file.height / 2 if y is None else np.asarray(y, float)[rows]
                    east[rows], north[rows] = at(file.transform, column, line)
            except ValueError:
                continue
    known = np.flatnonzero((crs != "").to_numpy())
    lon, lat = np.full((2, len(paths)), np.nan)
    if len(known):
        lon[known], lat[known] = lon_lat(crs.iloc[known].reset_index(drop=True),
                                         east[known], north[known])  # fmt: skip
    return lon, lat
