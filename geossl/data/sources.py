"""Notice files of scenes that changed, or went, since their chips were decoded."""

from __future__ import annotations

import os
import stat

import numpy as np
import pandas as pd

from geossl.utils.validate import validated

__all__ = ["FILE_COLUMNS", "changed_rows", "file_columns", "file_states"]

FILE_COLUMNS = ("file_bytes", "file_time")  # of a store's table: of the files when they were read


@validated
def file_states(rows: pd.DataFrame) -> list[list[int] | None]:
    """Return the bytes and the time of change of each row's file.

    Args:
        rows: of a scene table; where ``path`` contains ``{band}``, all files of ``bands`` count.

    Returns:
        Bytes, and microseconds since 1970, of each row; None where there is no file.
    """
    bands = rows["bands"].astype(str) if "bands" in rows else [""] * len(rows)
    known: dict[tuple[str, str], list[int] | None] = {}
    states = []
    for key in zip(rows["path"].map(str), bands, strict=True):
        if key not in known:
            known[key] = _state(*key)
        states.append(known[key])
    return states


def _state(path: str, bands: str) -> list[int] | None:
    names = [path]
    if "{band}" in path:
        names = [path.replace("{band}", band) for band in bands.split(",")]
    try:
        files = [os.stat(name) for name in names]
    except (OSError, ValueError):
        return None
    if not all(stat.S_ISREG(file.st_mode) for file in files):
        return None
    return [sum(f.st_size for f in files), max(f.st_mtime_ns for f in files) // 1000]


@validated
def file_columns(states: list[list[int] | None]) -> dict[str, pd.Series]:
    """Return `FILE_COLUMNS` from `file_states`; none at all where no row has a file."""
    if not any(states):
        return {}
    size, time = (pd.Series([s and s[i] for s in states], dtype="Int64") for i in (0, 1))
    return {"file_bytes": size, "file_time": pd.to_datetime(time, unit="us", utc=True)}


@validated
def changed_rows(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows of a store's table have files that changed, and which have none any more.

    Args:
        table: with `FILE_COLUMNS`; without them nothing is known, as of stores of version 0.1.
    """
    if not set(FILE_COLUMNS) <= set(table):
        return np.zeros((2, 0), int)[0], np.zeros(0, int)
    states = file_states(table)
    gone = np.array([state is None for state in states]) & table["file_bytes"].notna().to_numpy()
    now = pd.DataFrame(file_columns(states), index=table.index)
    differs = np.zeros(len(table), bool)
    for name in now:
        differs |= (now[name] != table[name]).fillna(False).to_numpy(bool)
    return np.flatnonzero(differs & ~gone), np.flatnonzero(gone)
