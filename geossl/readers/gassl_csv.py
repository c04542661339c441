"""The csv of the paper's code: a header, then (label or geo cluster, path) of every picture.

It knows neither coordinates nor times: ``lon, lat`` are missing, unless columns so called follow.
"""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Callable, Hashable
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from geossl import scenes
from geossl.files import atomic
from geossl.readers.fmow import faults
from geossl.readers.images import described, pixel_info, read_chips
from geossl.readers.named import inside, out_of
from geossl.readers.tiles import sifted

__all__ = ["fits", "gassl_csv", "pixel_info", "read_chips", "write_gassl_csv"]

Location = str | Callable[[str], Hashable]
FMOW_FOLDER = r"^(.+)/[^/]+_\d+_(?:ms)?rgb\.\w+$"  # of <category>_<n>_<k>_rgb.jpg
PICTURE = re.compile(r".+\.(jpe?g|png|tiff?|webp|npy)", re.IGNORECASE)
_LONGEST_HEADER, _MOST_COLUMNS = 2**16, 1000
_COLUMNS = ("label or cluster", "path", "timestamp")


def gassl_csv(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    strip: str = "",
    location: Location = FMOW_FOLDER,
    normalise_lon: bool = False,
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
        normalise_lon: turn longitudes of 0..360 into -180..180.
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
    return listed(
        path, 2, reader="gassl_csv", root=root, strip=strip, location=location,
        normalise_lon=normalise_lon, skip_bad=skip_bad,
    )  # fmt: skip


def listed(
    path: str | os.PathLike[str],
    columns: int,
    *,
    reader: str,
    root: str | os.PathLike[str] | None,
    strip: str,
    location: Location,
    normalise_lon: bool,
    skip_bad: bool,
) -> pd.DataFrame:
    """The table of `gassl_csv` (2 columns) or of `satmae_csv` (3, the last one is the time)."""
    path = Path(path)
    table = text_csv(path)
    names = [str(name) for name in table.columns]
    if len(names) < columns or any(PICTURE.fullmatch(name) for name in names):
        wanted = ", ".join(_COLUMNS[:columns])
        came = [name[:80] for name in names[:4]]
        raise ValueError(f"expected a header and the columns ({wanted}) in {path}, came {came}")
    known = ("cluster" if "cluster" in names[0].lower() else "label", "path", "time")[:columns]
    table.columns = pd.Index([*known, *names[columns:]])
    table = table.loc[:, ~table.columns.duplicated()]
    if table[known[0]].str.fullmatch(r"-?\d{1,18}", na=False).all():
        table[known[0]] = table[known[0]].astype("int64")
    base = path.parent if root is None else Path(root)
    told = table["path"].fillna("")
    files = inside(base, (one.removeprefix(strip) for one in told))
    table["path"], table["location"] = files, _locations(told, location)
    nowhere, bad = table["location"].isna(), faults(table).to_dict()
    for row, file in enumerate(files):
        if file is None:
            bad[row] = out_of(base, told[row])
        elif not os.path.isfile(file):
            bad[row] = f"there is no file {file}; give root= or strip="
        elif nowhere[row]:
            bad[row] = f"the path {told[row]!r} tells no location; give location="
    return without(table, bad, path, skip_bad, normalise_lon=normalise_lon, positions=False).pipe(
        described, reader=reader
    )


def without(
    table: pd.DataFrame, bad: dict[int, str], path: Path, skip_bad: bool, **check: bool
) -> pd.DataFrame:
    """The checked table without the bad rows, which are called by their csv and number."""
    left = table.drop(index=list(bad))
    rows = {f"{path} row {row}": bad[row] for row in sorted(bad)}
    left = sifted(left, rows, skip_bad=skip_bad, of=f"rows in {path}")
    return scenes.check(left, source=str(path), **check)


def _locations(paths: pd.Series, location: Location) -> pd.Series:
    if not isinstance(location, str):
        return paths.map(location)
    try:
        pattern = re.compile(location)
    except re.error as error:
        raise ValueError(
            f"expected a regular expression as location, came {location!r}: {error}"
        ) from None
    return paths.str.extract(pattern if pattern.groups else re.compile(f"({location})"))[0]


def text_csv(path: Path, *needed: str) -> pd.DataFrame:
    """A csv with every value as text, missing where it is empty.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or lacks one of the needed columns.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a csv at {path}, found no file")
    try:
        with open(path, encoding="utf-8-sig") as file:
            header = file.readline(_LONGEST_HEADER)
        if len(header) == _LONGEST_HEADER or header.count(",") >= _MOST_COLUMNS:
            raise ValueError("its first line is too long for a header")  # pandas takes minutes
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            table = pd.read_csv(
                path, dtype=str, keep_default_na=False, na_values=[""], index_col=False,
                encoding="utf-8-sig",
            )  # fmt: skip
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ValueError(f"expected a csv at {path}, could not read it: {reason}") from None
    if str(table.columns[0]).startswith("Unnamed:"):  # an index that pandas wrote
        table = table.iloc[:, 1:]
    lacking = [name for name in needed if name not in table]
    if lacking:
        raise ValueError(
            f"expected the columns {', '.join(needed)} in {path}, {', '.join(lacking)} is missing "
            f"among {[str(name)[:40] for name in table.columns[:20]]}"
        )
    return table


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
    with atomic(path) as part:
        frame = pd.DataFrame({"label": codes, "path": table["path"].to_numpy()})
        frame.to_csv(part, index=False)
    return names


def fits(path: Path) -> str | None:
    """Why a csv of the paper's code is at ``path``, by its first two lines; None if it is not."""
    header, row = first_lines(path)
    if len(row) == 2 and PICTURE.fullmatch(row[1]) and not PICTURE.fullmatch(header[1]):
        return "is a csv of two columns, the second with paths of pictures"
    return None


def first_lines(path: Path) -> tuple[list[str], list[str]]:
    """Header and first row of a csv, without an index that pandas wrote; ([], []) for others."""
    try:
        if path.suffix.lower() != ".csv":
            return [], []
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read(2**16)
        header, row = islice(csv.reader(text.splitlines(keepends=True)), 2)
    except (OSError, ValueError, csv.Error):
        return [], []
    start = int(header[:1] == [""])
    return (header[start:], row[start:]) if len(header) == len(row) else ([], [])
