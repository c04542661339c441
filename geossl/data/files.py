"""Read the csv and json files of others, with one error for those that cannot be read."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.utils.io import check_file
from geossl.utils.validate import PositiveInt, validated

__all__ = ["DatasetError", "csv_head", "open_array", "read_csv", "read_json"]

_MAX_HEADER_BYTES = 2**20  # pandas takes minutes over a million columns
_EMPTY = ["", "nan", "NaN", "NaT", "<NA>"]  # missing values; "NA" is a country
_BYTE_ORDER_MARKS = {  # the longer first: that of UTF-32 starts as that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_NO_TEXT = {
    b"PK\3\4": "a spreadsheet or a zip archive", b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"\x1f\x8b": "a gzip archive", b"PAR1": "a parquet file", b"SQLite format 3\0": "a database",
}  # fmt: skip
_DECIMAL_COMMA = r"[-+]?\d+(?:,\d+)?(?:[eE][-+]?\d+)?"
_COORDINATE = re.compile(r"(?i).*(lat|lon|lng)|[xy]")  # names, where all columns are text


class DatasetError(ValueError):
    """A file of a data set is damaged, or is not what its name says."""


@dataclass(frozen=True)
class _Csv:
    """How a csv is written: its encoding, its separator, its lines before the header."""

    encoding: str
    separator: str
    skip: int
    rows: list[list[str]]  # the header, and the first row if there is one


@validated
def read_csv(
    path: str | os.PathLike[str],
    *,
    needed: Sequence[str] = (),
    text: Collection[str] | None = None,
) -> pd.DataFrame:
    """Read a csv without the guesses that lose names: "NA" is a country, "0001" is not "1".

    UTF-8 or UTF-16, the separator (comma, semicolon, tab or |) and decimal commas are recognized;
    blanks around values, and empty rows are dropped.

    Args:
        path: the file; its first line names the columns.
        needed: columns that the file must have, in any case.
        text: columns to keep as text; all of them if None.

    Returns:
        Its rows; an unnamed first column, the index that pandas wrote, is dropped.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it cannot be read, or a needed column is missing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"The csv file {path} does not exist.")
    check_file(path, "csv file", error=DatasetError)
    try:
        how = _sniff(path)
        table = _parse(path, how, text)
    except UnicodeDecodeError as error:  # which of many encodings it is would be a guess
        before, after = error.object[: error.start], error.object[error.start :]
        value = re.split(b'[,;|\t\r\n"]', before)[-1] + re.split(b'[,;|\t\r\n"]', after)[0]
        latin = value[:40].decode("cp1252", "replace")
        raise DatasetError(
            f"{path} must be UTF-8 or UTF-16, got {value[:40]!r}. Save it as UTF-8; if that is "
            f"{latin!r}, iconv -f WINDOWS-1252 -t UTF-8 does so."
        ) from None
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        if isinstance(error, pd.errors.ParserWarning) or " fields in line " in str(error):
            raise DatasetError(
                f"{path} cannot be read as csv: some rows have more values than the first line "
                f"has names: {[name[:40] for name in how.rows[0][:20]]}. Remove lines above the "
                f"names of the columns, and put values that contain {how.separator!r} in quotes."
            ) from None
        raise DatasetError(f"{path} cannot be read as csv: {_reason(error)}.") from None
    by_lower = {name.lower(): name for name in reversed(list(table))}
    ours = {by_lower[n.lower()]: n for n in needed if n not in table and n.lower() in by_lower}
    table = table.rename(columns=ours)
    missing = [name for name in needed if name not in table]
    if missing:
        raise DatasetError(
            f"{path} needs the columns {', '.join(needed)}; {', '.join(missing)} is missing among "
            f"{[str(name)[:40] for name in table.columns[:20]]}."
        )
    return table


def csv_head(path: str | os.PathLike[str]) -> list[list[str]]:
    """Return the header of a csv and its first row, with what pandas calls an index dropped.

    Raises:
        ValueError: it cannot be read.
        OSError: likewise.
    """
    rows = _sniff(path).rows
    start = int(bool(rows) and rows[0][:1] == ["Unnamed: 0"])
    return [row[start:] for row in rows]


def _sniff(path: str | os.PathLike[str]) -> _Csv:
    """Find out how a csv is written, from its start."""
    with open(check_file(path), "rb") as file:
        head = file.read(_MAX_HEADER_BYTES)
    for start, kind in _NO_TEXT.items():
        if head.startswith(start):
            raise ValueError(f"it is {kind}, not text. Save it as csv")
    encoding = _find_encoding(head)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    if "\ufffd" in text and re.search(r"[\0-\x08\x0e-\x1f]", text):
        raise ValueError("it is not text")
    lines = text.splitlines(keepends=True)
    skip = next((i for i, line in enumerate(lines) if line.strip()), 0)
    separator = ""
    if lines and (said := re.fullmatch(r"sep=(.)\s*", lines[skip])):  # Excel's own line
        separator, skip = said[1], skip + 1
    line = lines[skip] if skip < len(lines) else ""
    if len(lines) == skip + 1 and len(head) == _MAX_HEADER_BYTES:
        raise ValueError(f"its first line has more than {_MAX_HEADER_BYTES:,} characters")
    if not line.strip():
        raise ValueError("it is empty")
    separator = separator or max(",;\t|", key=re.sub(r'"[^"]*"', "", line).count)
    reader = csv.reader(lines[skip:], delimiter=separator, skipinitialspace=True)
    try:
        rows = [[v.strip() for v in row] for row in islice((row for row in reader if row), 2)]
    except csv.Error as error:
        raise ValueError(str(error)) from None
    names = [name or f"Unnamed: {i}" for i, name in enumerate(rows[0])]
    rows[0] = [
        f"{name}.{names[:i].count(name)}" if name in names[:i] else name
        for i, name in enumerate(names)
    ]
    return _Csv(encoding, separator, skip, rows)


def _find_encoding(head: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return encoding
    for order, start in (("utf-16-le", 1), ("utf-16-be", 0)):  # without a mark: Latin letters
        if head[start::2].count(0) > len(head) / 4 > 8 * head[1 - start :: 2].count(0):
            return order
    return "utf-8"


def _parse(path: Path, how: _Csv, text: Collection[str] | None) -> pd.DataFrame:
    names = how.rows[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = pd.read_csv(
            path, sep=how.separator, encoding=how.encoding, skiprows=how.skip, header=0,
            names=names, index_col=False, dtype=str if text is None else dict.fromkeys(text, str),
            keep_default_na=False, na_values=_EMPTY, low_memory=False, skipinitialspace=True,
        )  # fmt: skip
    for name in table.columns[table.dtypes.map(pd.api.types.is_string_dtype)]:
        values = [v.strip() or None if isinstance(v, str) else v for v in table[name]]
        table[name] = column = pd.Series(values, dtype=table[name].dtype)
        is_number = name not in text if text is not None else _COORDINATE.fullmatch(name)
        filled = column.dropna().astype(str)
        if is_number and len(filled) and filled.str.fullmatch(_DECIMAL_COMMA).all():
            numbers = column.str.replace(",", ".", regex=False)
            table[name] = numbers if text is None else pd.to_numeric(numbers)
    unnamed = [name for name in names if name.startswith("Unnamed: ")]
    unnamed = [name for name in unnamed if name == names[0] or table[name].isna().all()]
    table = table.drop(columns=unnamed)
    if len(table.columns) > 1:  # else a missing value
        table = table.dropna(how="all")
    return table.reset_index(drop=True)


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
    if not path.exists():
        raise FileNotFoundError(f"The json file {path} does not exist.")
    check_file(path, "json file", error=DatasetError)
    try:
        size = path.stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise ValueError(f"it has {size:,} bytes, more than {max_bytes:,}")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read as json: {_reason(error)}.") from None


@validated
def open_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Map a ``.npy`` into memory, so that a header of huge dimensions takes none.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it is no such array, or one of Python objects.
    """
    from tokenize import TokenError

    try:
        path = check_file(path, "array", error=DatasetError)
        with np.errstate(over="ignore"):
            return np.lib.format.open_memmap(path, mode="r")  # np.load would open a zip as well
    except (DatasetError, FileNotFoundError):
        raise
    except (
        OSError, ValueError, TypeError, OverflowError, MemoryError, RecursionError, EOFError,
        SyntaxError, TokenError,
    ) as error:  # fmt: skip
        raise DatasetError(f"{path} cannot be read as an array: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """Return the first line of an error's message, without a final stop."""
    return (str(error).partition("\n")[0][:200] or type(error).__name__).rstrip(".")
