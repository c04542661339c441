"""Images in class folders, the layout of torchvision's ImageFolder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from geossl.data.splits import split_name
from geossl.datasets.raster.files import is_image, is_picture
from geossl.datasets.raster.header import read_headers
from geossl.datasets.registry import register
from geossl.datasets.shared.listing import (
    find_files,
    first_entries,
    is_in_time,
    list_folder,
    subfolders,
)
from geossl.datasets.shared.table import finish_table
from geossl.datasets.table import describes_images
from geossl.utils.patterns import compile_pattern
from geossl.utils.validate import validated

__all__ = ["image_folder"]

_NO_CLASSES = frozenset("images masks labels annotations 3band 8band".split())
_ONE_BAND = re.compile(r"(.*_)?(B\d\d?A?|VV|VH)", re.IGNORECASE)


@validated
def image_folder(
    folder: str | os.PathLike[str],
    *,
    location: str | None = None,
    bands: Sequence[int] | None = None,
    band_names: Sequence[str] | None = None,
    dtype: Literal["uint8", "uint16"] | None = None,
    scale: tuple[float, float] | Literal["tags"] | None = None,
    nodata: float | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of images in class folders; the layout has no times.

    Args:
        folder: contains ``<class>/<file>``, or ``train/<class>/<file>`` and ``val/`` or ``test/``;
            there may be folders between the class and the file. Without class folders, images
            have no class.
        location: regular expression whose first group catches the location in the path from
            ``folder`` on; each file is a location of its own if None.
        bands: numbers of bands; all of the first file if None.
        band_names: their names; the first file's own if None.
        dtype: type of the chips; the first file's own if None.
        scale: (lowest, highest) value that becomes 1 and 65535 of a uint16 chip; "tags" applies the
            files' own scale and offset, and takes the range of some of their pixels.
        nodata: value of pixels without data that the files do not declare (0: in all bands).
        skip_bad: leave out files whose path contains no location, see ``attrs["skipped"]``.

    Returns:
        One row per file, by path; ``label`` is the class; ``lon, lat`` are the center of a
        georeferenced raster, else missing.

    Raises:
        FileNotFoundError: the folder does not exist, or contains no image.
        ValueError: ``location`` is not a regular expression, or does not match a path.
    """
    folder = Path(folder)
    pattern = compile_pattern("location", "(.*)" if location is None else location)
    top = _folder_names(folder)
    has_splits = bool(top) and all(map(split_name, top))
    files, problems = find_files(folder, is_image)
    rows = []
    for path in files:
        name = os.path.relpath(path, folder).replace(os.sep, "/")
        parents = name.split("/")[:-1]
        split = parents.pop(0) if has_splits and parents else None
        hit = pattern.search(name)
        place = hit.group(1 if pattern.groups else 0) if hit else None
        problem = "" if place is not None else f"`location` does not match {name!r}"
        rows.append((path, place, parents[0] if parents else None, split, problem))
    rows = [row for row in rows if row[2] is not None] or rows  # no previews beside the classes
    rows += [(path, None, None, None, why) for path, why in problems.items()]
    columns = ["path", "location", "label", "split", "problem"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    is_raster = [not (is_picture(path) or path.lower().endswith(".npy")) for path in table["path"]]
    headers = read_headers(list(table["path"][is_raster]))
    table["lon"] = table["lat"] = np.nan
    table.loc[is_raster, ["lon", "lat"]] = headers[["lon", "lat"]].to_numpy()
    return finish_table(
        table, reader="image_folder", folder=folder,
        layout="images <class>/<file>", skip_bad=skip_bad, positions=False, detect=True,
        bands=bands, band_names=band_names, dtype=dtype, scale=scale, nodata=nodata,
    )  # fmt: skip


def fits(path: Path) -> str | None:
    """Return why images in class folders are at ``path``, or None, also where a table lists them.

    Other data sets have such folders too, so this is asked last.
    """
    names = sorted(entry.name for entry in subfolders(first_entries(path, 2000)))
    if all(map(split_name, names)):
        names = [
            f"{name}/{entry.name}"
            for name in names
            for entry in subfolders(first_entries(path / name, 64))[:8]
        ]
    labels = [name.rpartition("/")[2] for name in names]
    stems = {re.sub(r"_\d+$", "", label) for label in labels}
    is_numbered = len(stems) == 1 and all(label[-1].isdigit() for label in labels)
    if len(set(labels)) < 2 or is_numbered:
        return None
    if _NO_CLASSES & {label.lower() for label in labels} or describes_images(path):
        return None
    if not _hold_images(path, names):
        return None
    return f"contains {len(names)} folders of images such as {names[0]}/, as for classes"


def _hold_images(path: Path, names: list[str]) -> bool:
    """Return whether half of some folders hold images, of all bands, and are not years."""
    images = [
        [Path(e.path).stem for e in first_entries(path / name) if is_image(e.name) and e.is_file()]
        for name in names[:8]
    ]
    one_band = all(_ONE_BAND.fullmatch(stem) for stems in images for stem in stems)
    held = [name for name, stems in zip(names, images, strict=False) if stems]
    are_dates = all(is_in_time(name.rpartition("/")[2]) for name in held)
    return not (one_band or are_dates) and 2 * len(held) >= len(images)


def lacks(path: Path) -> str | None:
    """Return what images at a path lack to open by themselves, or None."""
    entries = first_entries(path, 2000)
    pictures = [entry.name for entry in entries if is_picture(entry.name)]
    folders = sorted(entry.name for entry in subfolders(entries))
    if folders and _hold_images(path, folders):
        return f"opens {folders[0]} and other folders as classes, if you pass reader='image_folder'"
    if not pictures:
        return None
    classes = f", or {path.parent}, where each folder is a class" if fits(path.parent) else ""
    return (
        f"opens {pictures[0]} and others, without coordinates and classes, if you pass "
        f"reader='image_folder'{classes}"
    )


def _folder_names(folder: str | os.PathLike[str]) -> list[str]:
    entries = list_folder(folder, "class folders with images")
    return [entry.name for entry in subfolders(entries)]


register("image_folder", open=image_folder, fallback=fits, lacks=lacks)
