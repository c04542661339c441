"""Csv files of paths: reading, columns, rows left out."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Callable, Hashable
from itertools import islice
from pathlib import Path

import pandas as pd

from geossl.data import scenes
from geossl.datasets.raster.chips import add_reading_columns
from geossl.datasets.shared.paths import outside_reason, resolve_inside
from geossl.datasets.shared.table import drop_bad_files, find_faults

Location = str | Callable[[str], Hashable]
FMOW_FOLDER = r"^(.+)/[^/]+_\d+_(?:ms)?rgb\.\w+$"  # of <category>_<n>_<k>_rgb.jpg
PICTURE = re.compile(r".+\.(jpe?g|png|tiff?|webp|npy)", re.IGNORECASE)
_LONGEST_HEADER, _MOST_COLUMNS = 2**16, 1000
_COLUMNS = ("label or cluster", "path", "timestamp")


def read_path_csv(
    path: str | os.PathLike[str],
    columns: int,
    *,
    reader: str,
    root: str | os.PathLike[str] | None,
    strip: str,
    location: Location,
    normalize_lon: bool,
    skip_bad: bool,
) -> pd.DataFrame:
    """The table of `gassl_csv` (2 columns) or of `satmae_csv` (3, the last one is the time)."""
    path = Path(path)
    table = read_text_csv(path)
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
    files = resolve_inside(base, (one.removeprefix(strip) for one in told))
    table["path"], table["location"] = files, _locations(told, location)
    nowhere, bad = table["location"].isna(), find_faults(table).to_dict()
    for row, file in enumerate(files):
        if file is None:
            bad[row] = outside_reason(base, told[row])
        elif not os.path.isfile(file):
            bad[row] = f"there is no file {file}; give root= or strip="
        elif nowhere[row]:
            bad[row] = f"the path {told[row]!r} tells no location; give location="
    return drop_rows(table, bad, path, skip_bad, normalize_lon=normalize_lon, positions=False).pipe(
        add_reading_columns, reader=reader
    )


def drop_rows(
    table: pd.DataFrame, bad: dict[int, str], path: Path, skip_bad: bool, **check: bool
) -> pd.DataFrame:
    """The checked table without the bad rows, which are called by their csv and number."""
    left = table.drop(index=list(bad))
    rows = {f"{path} row {row}": bad[row] for row in sorted(bad)}
    left = drop_bad_files(left, rows, skip_bad=skip_bad, of=f"rows in {path}")
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


def read_text_csv(path: Path, *needed: str) -> pd.DataFrame:
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
