"""Read the csv files of paths that the papers' code trains on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

import pandas as pd

from geossl.data.files import DatasetError, csv_head, read_csv
from geossl.datasets.shared.paths import outside_reason, resolve_inside
from geossl.datasets.shared.table import find_faults, finish_table
from geossl.utils.patterns import compile_pattern

Location = str | Callable[[str], Hashable]
FMOW_FOLDER = r"^(.+)/[^/]+_\d+_(?:ms)?rgb\.\w+$"  # of <category>_<n>_<k>_rgb.jpg
IMAGE_NAME = re.compile(r".+\.(jpe?g|png|tiff?|webp|npy)", re.IGNORECASE)


def read_path_csv(
    path: str | os.PathLike[str],
    *,
    reader: str,
    has_time: bool,
    root: str | os.PathLike[str] | None,
    strip: str,
    location: Location,
    normalize_lon: bool,
    skip_bad: bool,
) -> pd.DataFrame:
    """Read a csv of labels or clusters and paths, as `gassl_csv` and `satmae_csv` describe it.

    Args:
        path: the csv; its columns count by their place, not by their name.
        reader: the name of the data set.
        has_time: the third column is the time.
        root: see `gassl_csv`, as the others.
        strip: likewise.
        location: likewise.
        normalize_lon: likewise.
        skip_bad: likewise.
    """
    path = Path(path)
    table = read_csv(path)
    header = [str(name) for name in table.columns]
    count = 2 + has_time
    if len(header) < count or any(IMAGE_NAME.fullmatch(name) for name in header):
        columns = ", ".join(("label or cluster", "path", "time")[:count])
        raise DatasetError(
            f"{path} needs a header and the columns ({columns}), got "
            f"{[name[:80] for name in header[:4]]}."
        )
    names = ["cluster" if "cluster" in header[0].lower() else "label", "path", "time"][:count]
    table.columns = pd.Index([*names, *header[count:]])
    table = table.loc[:, ~table.columns.duplicated()]
    if table[names[0]].str.fullmatch(r"-?\d{1,18}", na=False).all():
        table[names[0]] = table[names[0]].astype("int64")
    base = path.parent if root is None else Path(root)
    names_in_csv = table["path"].fillna("")
    table["location"] = _find_locations(names_in_csv, location)
    table["path"] = resolve_inside(base, (name.removeprefix(strip) for name in names_in_csv))
    problems = {
        row: f"the path {names_in_csv[row]!r} contains no location; pass `location`"
        for row in table.index[table["location"].isna()]
    }
    for row in table.index[table["path"].isna()]:
        problems[row] = outside_reason(base, names_in_csv[row])
    table["problem"] = find_row_problems(table, problems, fix="; pass `root` or `strip`")
    return finish_table(
        table, reader=reader, folder=path, layout="rows", skip_bad=skip_bad, positions=False,
        normalize_lon=normalize_lon, numbered=True,
    )  # fmt: skip


def _find_locations(paths: pd.Series, location: Location) -> pd.Series:
    if not isinstance(location, str):
        return paths.map(location)
    pattern = compile_pattern("location", location)
    matches = paths.map(pattern.search)
    return matches.map(lambda match: match.group(min(pattern.groups, 1)) if match else None)


def find_row_problems(
    table: pd.DataFrame, problems: Mapping[int, str], *, fix: str = ""
) -> pd.Series:
    """Return why rows of a csv cannot be used, missing for the others.

    Args:
        table: the rows.
        problems: row -> reason, as far as known; rows whose image file is missing and those with a
            fault in position or time are added.
        fix: what helps if files are missing.
    """
    missing = {
        row: f"there is no file {path}{fix}"
        for row, path in table["path"].items()
        if row not in problems and not os.path.isfile(path)
    }
    reasons = find_faults(table).to_dict() | missing | dict(problems)
    return pd.Series(reasons, dtype=object).reindex(table.index)


def first_lines(path: Path) -> tuple[list[str], list[str]]:
    """Return the header and the first row of a csv; ([], []) for another file.

    An unnamed first column, the index that pandas wrote, is dropped.
    """
    try:
        if path.suffix.lower() == ".csv" and path.is_file():
            header, row = csv_head(path)
            return (header, row) if len(header) == len(row) else ([], [])
    except (OSError, ValueError):
        pass
    return [], []
