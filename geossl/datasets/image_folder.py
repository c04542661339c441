"""Images in class folders, the layout of torchvision's ImageFolder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from geossl.datasets.eurosat import fits as is_eurosat
from geossl.datasets.raster.files import IMAGE_SUFFIXES
from geossl.datasets.registry import register
from geossl.datasets.shared.listing import (
    find_files,
    first_entries,
    list_folder,
    subfolders,
)
from geossl.datasets.shared.table import finish_table
from geossl.utils.patterns import compile_pattern
from geossl.utils.validate import validated

__all__ = ["image_folder"]

_SPLITS = frozenset(("train", "val", "valid", "validation", "test"))
_NO_CLASSES = frozenset("images masks labels annotations 3band 8band".split())
_TABLES = (".csv", ".tsv", ".json", ".geojson", ".gpkg", ".parquet", ".geoparquet")
_ONE_BAND = re.compile(r"(.*_)?(B\d\d?A?|VV|VH)", re.IGNORECASE)


@validated
def image_folder(
    folder: str | os.PathLike[str],
    *,
    location: str | None = None,
    bands: Sequence[int] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: Literal["uint8", "uint16"] | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of images in class folders; the layout has no coordinates or times.

    Args:
        folder: contains ``<class>/<file>``, or ``train/<class>/<file>`` and ``val/`` or ``test/``;
            there may be folders between the class and the file.
        location: regular expression whose first group catches the location in the path from
            ``folder`` on; each file is a location of its own if None.
        bands: numbers of bands; all of the first file if None.
        band_names: their names; the first file's own if None.
        dtype: type of the chips; the first file's own if None.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip.
        skip_bad: leave out files whose path contains no location, see ``attrs["skipped"]``.

    Returns:
        One row per file, by path; ``label`` is the class, ``lon, lat`` are missing.

    Raises:
        FileNotFoundError: the folder does not exist, or contains no image in class folders.
        ValueError: ``location`` is not a regular expression, or does not match a path.
    """
    folder = Path(folder)
    pattern = compile_pattern("location", "(.*)" if location is None else location)
    top = _folder_names(folder)
    has_splits = bool(top) and {name.lower() for name in top} <= _SPLITS
    folders = (  # of a class: split or None, and its path in the folder
        [(split, f"{split}/{label}") for split in top for label in _folder_names(folder / split)]
        if has_splits
        else [(None, label) for label in top]
    )
    rows = []
    for split, class_folder in folders:
        for path in find_files(folder / class_folder, IMAGE_SUFFIXES):
            name = os.path.relpath(path, folder).replace(os.sep, "/")
            hit = pattern.search(name)
            place = hit.group(1 if pattern.groups else 0) if hit else None
            problem = "" if place is not None else f"`location` does not match {name!r}"
            rows.append((path, place, class_folder.rpartition("/")[2], split, problem))
    columns = ["path", "location", "label", "split", "problem"]
    return finish_table(
        pd.DataFrame(rows, columns=columns, dtype=object), reader="image_folder", folder=folder,
        layout="images <class>/<file>", skip_bad=skip_bad, positions=False, detect=True,
        bands=bands, band_names=band_names, dtype=dtype, scale=scale,
    )  # fmt: skip


def fits(path: Path) -> str | None:
    """Return why images in class folders are at ``path``, or None, also where a table is there."""
    entries = [entry for entry in first_entries(path, 2000) if entry.name[0] != "."]
    if any(entry.name.lower().endswith(_TABLES) for entry in entries):
        return None
    names = sorted(entry.name for entry in subfolders(entries))
    if names and {name.lower() for name in names} <= _SPLITS:
        names = [f"{name}/{label}" for name in names for label in _folder_names(path / name)[:8]]
    labels = [name.rpartition("/")[2] for name in names]
    stems = {re.sub(r"_\d+$", "", label) for label in labels}
    is_numbered = len(stems) == 1 and all(label[-1].isdigit() for label in labels)
    if len(set(labels)) < 2 or is_numbered or is_eurosat(path):
        return None
    if _NO_CLASSES & {label.lower() for label in labels}:
        return None
    examples = [entry for name in names[:8] for entry in first_entries(path / name, 8)]
    files = [Path(e.name) for e in examples if e.name[0] != "." and os.path.isfile(e.path)]
    if not files or any(file.suffix.lower() not in IMAGE_SUFFIXES for file in files):
        return None
    if all(_ONE_BAND.fullmatch(file.stem) for file in files):
        return None
    return f"contains {len(names)} folders of images such as {names[0]}/, as for classes"


def _folder_names(folder: str | os.PathLike[str]) -> list[str]:
    entries = list_folder(folder, "class folders with images")
    return [entry.name for entry in subfolders(entries) if entry.name[0] != "."]


register("image_folder", open=image_folder, fits=fits)
