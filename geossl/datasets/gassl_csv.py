"""The csv of the paper's code: a header, then (label or geo cluster, path) of every image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from geossl.data import scenes
from geossl.datasets.registry import register
from geossl.datasets.shared.csv import FMOW_FOLDER, IMAGE_NAME, Location, first_lines, read_path_csv
from geossl.utils.io import atomic_write
from geossl.utils.validate import check_choice, validated

__all__ = ["gassl_csv", "write_gassl_csv"]


@validated
def gassl_csv(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    strip: str = "",
    location: Location = FMOW_FOLDER,
    normalize_lon: bool = False,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Build the scene table of a csv that the paper's code trains on.

    The format has neither coordinates nor times: ``lon, lat, time`` are missing unless columns with
    these names follow.

    Args:
        path: the csv. Its first column is the label, or the geo cluster if its name contains
            "cluster"; the second is the path of an image; more columns are kept.
        root: folder that the paths start from and must lie in; the folder of the csv when None.
        strip: start of the paths to remove, e.g. the folder of the images on another machine.
        location: which images show the same location: a regular expression to find in the path in
            the csv (its first group, or else the match), or a function of that path. The default
            is the folder of an fMoW image; with ``str`` each image is a location of its own.
        normalize_lon: convert longitudes of 0..360 to -180..180 instead of refusing them.
        skip_bad: leave out rows without a file or location, or with a wrong time or position.

    Returns:
        The rows of the csv. ``label`` or ``cluster`` is int64 if all its values are integers.
        ``attrs["skipped"]`` maps the rows left out to the reason.

    Raises:
        FileNotFoundError: the csv does not exist.
        ValueError: it has no header or too few columns, or a row is bad.

    Source:
        github.com/sustainlab-group/geography-aware-ssl, fmow_dataloader.py: columns count by their
        order, not by their name. It finds other dates by cutting file names, we by ``location``.
    """
    return read_path_csv(
        path, reader="gassl_csv", has_time=False, root=root, strip=strip, location=location,
        normalize_lon=normalize_lon, skip_bad=skip_bad,
    )  # fmt: skip


@validated
def write_gassl_csv(
    table: pd.DataFrame, path: str | os.PathLike[str], *, label: str = "label"
) -> list[Any]:
    """Write (label, path) of every scene with a header, the paper's own format; atomic.

    The paper's code needs labels as numbers from 0, and opens the paths as they are. For geo
    clusters instead of labels use `GeoClusters.to_csv`.

    Args:
        table: scene table.
        path: of the csv.
        label: column of labels.

    Returns:
        The labels in sorted order; number ``i`` in the csv stands for the ``i``-th.

    Raises:
        ValueError: the column does not exist, or a scene has no label.
    """
    check_choice("label", label, table.columns)
    codes, names = scenes.label_codes(table[label])
    if (codes < 0).any():
        raise ValueError(
            f"Every scene needs a label, but {int((codes < 0).sum())} of {len(table)} have none in "
            f"the column {label!r}. Drop these rows first."
        )
    with atomic_write(path) as part:
        frame = pd.DataFrame({"label": codes, "path": table["path"].to_numpy()})
        frame.to_csv(part, index=False)
    return names


def fits(path: Path) -> str | None:
    """Say why ``path`` looks like a csv of the paper's code, from two lines, or return None."""
    header, row = first_lines(path)
    if len(row) == 2 and IMAGE_NAME.fullmatch(row[1]) and not IMAGE_NAME.fullmatch(header[1]):
        return "is a csv of two columns, the second with paths of images"
    return None


register("gassl_csv", open=gassl_csv, fits=fits)
