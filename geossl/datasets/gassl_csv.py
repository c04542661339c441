"""The csv of the paper's code: a header, then (label or geo cluster, path) of every picture.

It knows neither coordinates nor times: ``lon, lat`` are missing, unless columns so called follow.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from geossl.data import scenes
from geossl.datasets.registry import register
from geossl.datasets.shared.csv import FMOW_FOLDER, IMAGE_NAME, Location, first_lines, read_path_csv
from geossl.utils.io import atomic_write

__all__ = ["fits", "gassl_csv", "write_gassl_csv"]


def gassl_csv(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    strip: str = "",
    location: Location = FMOW_FOLDER,
    normalize_lon: bool = False,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Scene table of a csv that the paper's code trains on.

    Args:
        path: the csv. Its first column is the label, or the geo cluster if its name says
            "cluster"; the second is the path of a picture; more columns are kept.
        root: folder that paths start from and have to lie in; the csv's own when None.
        strip: start of the paths that is taken away, e.g. the folder that they lay in elsewhere.
        location: what tells which pictures show one place: a regular expression that is searched
            for in a path as the csv has it, its first group or the whole match, or a function of
            that path. By default the folder of an fMoW picture, ``<category>_<n>_<k>_rgb.jpg``.
            With ``location=str`` every picture is a place of its own.
        normalize_lon: turn longitudes of 0..360 into -180..180.
        skip_bad: leave out rows without a file or location, or with a wrong time or position.

    Returns:
        A row per line, in their order. ``label`` or ``cluster`` is int64 where all are whole
        numbers. ``attrs["skipped"]`` maps the rows left out to the reason.

    Raises:
        FileNotFoundError: no such csv.
        ValueError: it has no header or too few columns; a bad row, which is named.

    Source:
        github.com/sustainlab-group/geography-aware-ssl, fmow_dataloader.py: columns count by their
        place, not by their name. It finds other dates by cutting file names, we by ``location``.
    """
    return read_path_csv(
        path, reader="gassl_csv", has_time=False, root=root, strip=strip, location=location,
        normalize_lon=normalize_lon, skip_bad=skip_bad,
    )  # fmt: skip


def write_gassl_csv(
    table: pd.DataFrame, path: str | os.PathLike[str], *, label: str = "label"
) -> list[Any]:
    """Write (label, path) of every scene, with a header: the paper's own format; atomic.

    The paper's code wants labels as numbers from 0, and opens paths as they stand. For geo clusters
    in place of labels there is `GeoClusters.to_csv`.

    Args:
        table: scene table.
        path: of the csv.
        label: column of labels.

    Returns:
        The labels in sorted order; number ``i`` in the csv stands for the ``i``-th.

    Raises:
        ValueError: no such column, or a scene without a label.
    """
    if label not in table:
        raise ValueError(f"expected a column {label!r} of labels, came {list(table.columns)}")
    codes, names = scenes.label_codes(table[label])
    if (codes < 0).any():
        raise ValueError(
            f"expected a label of every scene, {int((codes < 0).sum())} of {len(table)} have none; "
            "leave them out first"
        )
    with atomic_write(path) as part:
        frame = pd.DataFrame({"label": codes, "path": table["path"].to_numpy()})
        frame.to_csv(part, index=False)
    return names


def fits(path: Path) -> str | None:
    """Why a csv of the paper's code is at ``path``, by its first two lines; None if it is not."""
    header, row = first_lines(path)
    if len(row) == 2 and IMAGE_NAME.fullmatch(row[1]) and not IMAGE_NAME.fullmatch(header[1]):
        return "is a csv of two columns, the second with paths of pictures"
    return None


register("gassl_csv", open=gassl_csv, fits=fits)
