"""fMoW as WILDS has it: ``rgb_metadata.csv`` and ``images/rgb_img_<i>.png`` of 224 pixels."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from geossl.data.files import read_csv
from geossl.datasets.registry import register
from geossl.datasets.shared.table import find_faults, finish_table

__all__ = ["fits", "wilds_fmow"]

_CSV, _IMAGES = "rgb_metadata.csv", "images"
_NEEDED = ("split", "img_filename", "category", "timestamp", "lat", "lon")
_MORE = ("country_code", "region", "cloud_cover")


def wilds_fmow(
    folder: str | os.PathLike[str], *, normalize_lon: bool = False, skip_bad: bool = False
) -> pd.DataFrame:
    """Scene table of the fMoW of WILDS (its folder ``fmow_v1.1``).

    Args:
        folder: holds ``rgb_metadata.csv`` and ``images/``.
        normalize_lon: turn longitudes of 0..360 into -180..180 in place of refusing them.
        skip_bad: leave out rows without a picture, position, date or sequence.

    Returns:
        Rows as in the csv; picture ``i`` belongs to row ``i``, counted from 0 over all splits.
        ``location`` is ``split/category/sequence``, from ``img_filename``. ``split`` is fMoW's own:
        train, val, test or seq (sequestered); WILDS cuts these once more by time, at 2013 and 2016.
        ``country_code, region, cloud_cover`` follow where the csv has them.
        ``attrs["skipped"]`` maps the rows left out to the reason.

    Raises:
        FileNotFoundError: the csv or the folder of images is missing.
        ValueError: the csv cannot be read or lacks columns; a bad row, which is named.

    Source:
        Koh et al., arXiv 2012.07421; the numbers of the pictures as in github.com/p-lambda/wilds.
    """
    path, images = Path(folder) / _CSV, Path(folder) / _IMAGES
    given = read_csv(path, needed=_NEEDED)
    if not images.is_dir():
        raise FileNotFoundError(f"expected the pictures of {path} in {images}, found no folder")
    names = [f"rgb_img_{i}.png" for i in range(len(given))]
    sequence = given["img_filename"].str.extract(r"^([^/]+_\d+)_\d+_rgb\.jpg$")[0]
    table = pd.DataFrame({
        "path": [os.path.join(images, name) for name in names],
        "location": given["split"] + "/" + given["category"] + "/" + sequence,
        "time": given["timestamp"],
        "lon": pd.to_numeric(given["lon"], errors="coerce"),
        "lat": pd.to_numeric(given["lat"], errors="coerce"),
        "label": given["category"],
        "split": given["split"],
        **{name: given[name] for name in _MORE if name in given},
    })  # fmt: skip
    if "cloud_cover" in table:
        table["cloud_cover"] = pd.to_numeric(table["cloud_cover"], errors="coerce")
    there = set(os.listdir(images))
    bad = find_faults(table).to_dict()
    for i in table.index[table["location"].isna()]:
        bad[i] = "expected split, category and img_filename, e.g. airport_7_2_rgb.jpg"
    for i, name in enumerate(names):
        if name not in there:
            bad[i] = f"there is no {name} in {images}"
    table["problem"] = pd.Series(bad, dtype=object).reindex(table.index)
    return finish_table(
        table, reader="wilds_fmow", folder=path, layout="rows", skip_bad=skip_bad,
        normalize_lon=normalize_lon, numbered=True,
    )  # fmt: skip


def fits(path: Path) -> str | None:
    """Why the fMoW of WILDS lies at ``path``; None if it does not."""
    try:
        here = (path / _CSV).is_file() and (path / _IMAGES).is_dir()
    except OSError:
        return None
    return f"holds {_CSV} and {_IMAGES}/" if here else None


register("wilds_fmow", open=wilds_fmow, fits=fits)
