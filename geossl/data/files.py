"""Read the csv and json files of others, with one error for those that cannot be read."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geossl.utils.validate import PositiveInt, validated

__all__ = ["DatasetError", "read_csv", "read_json"]

_MAX_HEADER_BYTES = 2**20  # pandas takes minutes over a million columns
_EMPTY = ["", "nan", "NaN", "NaT", "<NA>"]  # missing values; "NA" is a country


class DatasetError(ValueError):
    """A file of a data set is damaged, or is not what its name says."""


@validated
def read_csv(
    path: str | os.PathLike[str],
    *,
    needed: Sequence[str] = (),
    text: Collection[str] | None = None,
) -> pd.DataFrame:
    """Read a csv without the guesses that lose names: "NA" is a country, "0001" is not "1".

    Args:
        path: UTF-8, with commas, semicolons or tabs: the one that its first line has most of.
        needed: columns that the file must have.
        text: columns to keep as text; all of them if None.

    Returns:
        Its rows; an unnamed first column, the index that pandas wrote, is dropped.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it cannot be read, or a needed column is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The csv file {path} does not exist.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path, sep=csv_separator(path), encoding="utf-8-sig", index_col=False,
                dtype=str if text is None else dict.fromkeys(text, str),
                keep_default_na=False, na_values=_EMPTY, low_memory=False,
            )  # fmt: skip
    except pd.errors.ParserWarning:
        reason = "some rows have more values than the first line has names"
        raise DatasetError(f"{path} cannot be read as csv: {reason}.") from None
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path} cannot be read as csv: {_reason(error)}.") from None
    if str(table.columns[0]).startswith("Unnamed:"):
        table = table.iloc[:, 1:]
    missing = [name for name in needed if name not in table]
    if missing:
        raise DatasetError(
            f"{path} needs the columns {', '.join(needed)}; {', '.join(missing)} is missing among "
            f"{[str(name)[:40] for name in table.columns[:20]]}."
        )
    return table


def csv_separator(path: str | os.PathLike[str]) -> str:
    """Return the separator that the first line of a csv has most of.

    Raises:
        DatasetError: the line is too long for a header.
    """
    with open(path, encoding="utf-8-sig") as file:
        line = file.readline(_MAX_HEADER_BYTES)
    if len(line) == _MAX_HEADER_BYTES:
        raise DatasetError(f"its first line has more than {_MAX_HEADER_BYTES:,} characters")
    return max(",;\t", key=line.count)


@validated
def read_json(path: str | os.PathLike[str], *, max_bytes: PositiveInt | None = 2**26) -> Any:
    """Read a json file.

    Args:
        path: the file.
        max_bytes: the largest size to read; any size if None.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it is too large, damaged or nested too deeply.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The json file {path} does not exist.")
    try:
        size = path.stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise ValueError(f"it has {size:,} bytes, more than {max_bytes:,}")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read as json: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """Return the first line of an error's message, without a final stop."""
    return (str(error).partition("\n")[0][:200] or type(error).__name__).rstrip(".")
