"""Images in class folders, the layout of torchvision's ImageFolder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from geossl.data import scenes
from geossl.datasets.eurosat import fits as is_eurosat
from geossl.datasets.raster import chips
from geossl.datasets.raster.files import IMAGE_SUFFIXES as IMAGES
from geossl.datasets.raster.header import detect_pixel_format
from geossl.datasets.registry import register
from geossl.datasets.shared.listing import first_entries, list_folder
from geossl.datasets.shared.table import drop_bad_files

__all__ = ["image_folder"]

_SPLITS = frozenset(("train", "val", "valid", "validation", "test"))
_NO_CLASSES = frozenset("images masks labels annotations 3band 8band".split())
_BAND = re.compile(r"(.*_)?(B\d\d?A?|VV|VH)", re.IGNORECASE)


def image_folder(
    folder: str | os.PathLike[str],
    *,
    location: str | None = None,
    bands: Sequence[int] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: str | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of images in class folders; the layout knows no coordinates and no times.

    Args:
        folder: holds ``<class>/<file>``, or ``train/<class>/<file>`` and ``val/`` or ``test/``;
            there may be folders between the class and the file.
        location: regular expression whose first group catches the place in the path from
            ``folder`` on; each file is a place of its own when None.
        bands: numbers of bands; all of the first file when None.
        band_names: their names; the first file's own when None.
        dtype: "uint8" or "uint16"; the first file's own when None.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip.
        skip_bad: leave out files whose path tells no location, see ``attrs["skipped"]``.

    Returns:
        A row a file, by path; ``label`` is the class, ``lon, lat`` are missing.

    Raises:
        FileNotFoundError: there is no such folder, or no image in class folders.
        ValueError: ``location`` is no regular expression or does not find a place in a path.
    """
    try:
        find = re.compile("(.*)" if location is None else location, re.DOTALL)
    except re.error as error:
        raise ValueError(
            f"expected a regular expression as location, came {location!r}: {error}"
        ) from None
    top = _folders(folder)
    split = bool(top) and {name.lower() for name in top} <= _SPLITS
    classes = [
        (name if split else None, kind, os.path.join(folder, name, kind if split else ""))
        for name in top
        for kind in (_folders(os.path.join(folder, name)) if split else [name])
    ]
    rows, bad = [], {}
    for part, kind, place in classes:
        for path in _images(place):
            name = os.path.relpath(path, folder).replace(os.sep, "/")
            hit = find.search(name)
            where = hit.group(1 if find.groups else 0) if hit else None
            if where is None:
                bad[path] = f"location={location!r} finds no place in {name!r}"
            else:
                rows.append((path, where, kind, part))
    table = pd.DataFrame(rows, columns=["path", "location", "label", "split"], dtype=object)
    table = drop_bad_files(table, bad, skip_bad=skip_bad, what=f"images <class>/<file> in {folder}")
    table = scenes.check(table, positions=False, source=str(folder))
    about = detect_pixel_format(
        table["path"], bands=bands, band_names=band_names, dtype=dtype, scale=scale
    )
    return chips.add_pixel_columns(table, reader="image_folder", **about)


def fits(path: Path) -> str | None:
    """Why images in class folders are at ``path``, or None; a table beside them speaks against."""
    if not path.is_dir():
        return None
    entries = [e for e in first_entries(path, 2000) if e.name[0] != "."]
    names = sorted(e.name for e in entries if os.path.isdir(e.path))
    tables = (".csv", ".tsv", ".json", ".geojson", ".gpkg", ".parquet", ".geoparquet")
    if any(e.name.lower().endswith(tables) for e in entries):
        return None
    split = bool(names) and {name.lower() for name in names} <= _SPLITS
    if split:
        names = [f"{name}/{kind}" for name in names for kind in _folders(path / name)[:8]]
    kinds = [name.rpartition("/")[2] for name in names]
    same_class = {re.sub(r"_\d+$", "", kind) for kind in kinds if re.search(r"_\d+$", kind)}
    if (
        len(set(kinds)) < 2
        or _NO_CLASSES & {kind.lower() for kind in kinds}
        or is_eurosat(path)
        or (len(same_class) == 1 and len(kinds) > 1 and all(k[-1].isdigit() for k in kinds))
    ):
        return None
    seen = [e for name in names[:8] for e in first_entries(path / name, 8) if e.name[0] != "."]
    files = [Path(e.name) for e in seen if os.path.isfile(e.path)]
    if not files or any(file.suffix.lower() not in IMAGES for file in files):
        return None
    if all(_BAND.fullmatch(file.stem) for file in files):
        return None
    return f"holds {len(names)} folders of images such as {names[0]}/, as for classes"


def _folders(folder: str | os.PathLike[str]) -> list[str]:
    found = list_folder(folder, "class folders with images")
    return [e.name for e in found if os.path.isdir(e.path) and e.name[0] != "."]


def _images(folder: str) -> list[str]:
    """Paths of the images in a folder and its sub-folders, sorted."""
    return sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name[0] != "." and os.path.splitext(name)[1].lower() in IMAGES
    )


register("image_folder", open=image_folder, fits=fits)
