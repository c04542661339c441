"""fMoW as WILDS has it: ``rgb_metadata.csv`` and ``images/rgb_img_<i>.png`` of 224 pixels."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from geossl.data.files import read_csv
from geossl.datasets.registry import register
from geossl.datasets.shared.csv import find_row_problems
from geossl.datasets.shared.table import finish_table
from geossl.utils.validate import validated

__all__ = ["wilds_fmow"]

_CSV, _IMAGES = "rgb_metadata.csv", "images"
_NEEDED = ("split", "img_filename", "category", "timestamp", "lat", "lon")
_OPTIONAL = ("country_code", "region", "cloud_cover")


@validated
def wilds_fmow(
    folder: str | os.PathLike[str], *, normalize_lon: bool = False, skip_bad: bool = False
) -> pd.DataFrame:
    """Build the scene table of the fMoW of WILDS (its folder ``fmow_v1.1``).

    Args:
        folder: contains ``rgb_metadata.csv`` and ``images/``.
        normalize_lon: convert longitudes of 0..360 to -180..180 instead of refusing them.
        skip_bad: leave out rows without an image, position, date or sequence.

    Returns:
        The rows of the csv; image ``i`` belongs to row ``i``, counted from 0 over all splits.
        ``location`` is ``split/category/sequence``, from ``img_filename``. ``split`` is fMoW's own:
        train, val, test or seq (sequestered); WILDS cuts these once more by time, at 2013 and 2016.
        ``country_code, region, cloud_cover`` follow where the csv has them.
        ``attrs["skipped"]`` maps the rows left out to the reason.

    Raises:
        FileNotFoundError: the csv or the folder of images is missing.
        ValueError: the csv is damaged or lacks columns, or a row is bad.

    Source:
        Koh et al., arXiv 2012.07421; image numbers as in github.com/p-lambda/wilds.
    """
    path, images = Path(folder) / _CSV, Path(folder) / _IMAGES
    rows = read_csv(path, needed=_NEEDED)
    if not images.is_dir():
        raise FileNotFoundError(f"{path} needs its images in {images}, which does not exist.")
    sequence = rows["img_filename"].str.extract(r"^([^/]+_\d+)_\d+_rgb\.jpg$")[0]
    table = pd.DataFrame({
        "path": [os.path.join(images, f"rgb_img_{i}.png") for i in range(len(rows))],
        "location": rows["split"] + "/" + rows["category"] + "/" + sequence,
        "time": rows["timestamp"],
        "lon": pd.to_numeric(rows["lon"], errors="coerce"),
        "lat": pd.to_numeric(rows["lat"], errors="coerce"),
        "label": rows["category"],
        "split": rows["split"],
        **{name: rows[name] for name in _OPTIONAL if name in rows},
    })  # fmt: skip
    if "cloud_cover" in table:
        table["cloud_cover"] = pd.to_numeric(table["cloud_cover"], errors="coerce")
    reason = "it needs a split, a category and an img_filename such as airport_7_2_rgb.jpg"
    unnamed = dict.fromkeys(table.index[table["location"].isna()], reason)
    table["problem"] = find_row_problems(table, unnamed)
    return finish_table(
        table, reader="wilds_fmow", folder=path, layout="rows", skip_bad=skip_bad,
        normalize_lon=normalize_lon, numbered=True,
    )  # fmt: skip


def fits(path: Path) -> str | None:
    """Say why ``path`` looks like the fMoW of WILDS, or return None."""
    matches = os.path.isfile(path / _CSV) and os.path.isdir(path / _IMAGES)
    return f"contains {_CSV} and {_IMAGES}/" if matches else None


register("wilds_fmow", open=wilds_fmow, fits=fits)
