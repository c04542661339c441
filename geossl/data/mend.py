"""Mend a finished chip store: decode again what is damaged, or of files that changed."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.data.files import DatasetError
from geossl.data.notices import DataWarning
from geossl.data.sources import FILE_COLUMNS, changed_rows, file_states
from geossl.data.store_files import (
    chunk_rows,
    damaged_chunks,
    open_chips,
    read_scenes,
    read_store_json,
)
from geossl.utils.validate import PositiveInt, validated

__all__ = ["is_intact", "stale_chunks", "stored_chunks"]


@validated
def stale_chunks(path: Path, scenes: pd.DataFrame, *, verify: bool) -> set[int]:
    """Return the chunks of a finished store to decode again.

    Args:
        path: of the store.
        scenes: the table that it was built of.
        verify: read all chips, to find those that are damaged.

    Raises:
        DatasetError: the store is damaged, and ``verify`` is False.
        ValueError: ``verify`` for a store without checksums, or a file to read again is gone.
    """
    info = read_store_json(path)
    checks = info.get("checks")
    if not checks:
        if verify:
            raise ValueError(
                f"The chip store {path} has no checksums: an earlier version wrote it. Build it "
                "again in another folder."
            )
        return set()
    try:
        chips, table = open_chips(path, info), read_scenes(path, info)
    except DatasetError:
        if verify:
            return set(range(len(checks["records"])))
        raise
    stale = {number for number, _ in damaged_chunks(chips, info)} if verify else set()
    kept = np.concatenate([mask for _, _, mask in chunk_rows(checks)])
    changed, gone = changed_rows(table)
    rows = set(np.flatnonzero(kept)[changed].tolist())
    left_out = {row: [size, time] for row, size, time, _ in checks["left_out"] if size is not None}
    states = file_states(scenes.iloc[list(left_out)])
    rows |= {
        row
        for (row, old), now in zip(left_out.items(), states, strict=True)
        if now is not None and now != old
    }
    stale |= {row // checks["rows"] for row in rows}
    lost = [row for row in gone if np.flatnonzero(kept)[row] // checks["rows"] in stale]
    if lost:
        raise ValueError(
            f"The chip store {path} must read files again that changed, or of damaged chips, but "
            f"files next to them are gone, e.g. {table['path'].iloc[lost[0]]}. Put them back, or "
            "build a store in another folder."
        )
    if len(gone):
        warnings.warn(
            f"The files of {len(gone):,} of {len(table):,} chips are gone, e.g. "
            f"{table['path'].iloc[gone[0]]}. The chip store {path} keeps these chips.",
            DataWarning,
            stacklevel=2,
        )
    return stale


@validated
def is_intact(record: dict[str, Any], rows: pd.DataFrame, chips: np.ndarray) -> bool:
    """Return whether what a journal says of a chunk is true of its chips, and of its files now."""
    if len(rows) != len(record["files"]):
        return False
    pairs = zip(file_states(rows), record["files"], strict=True)
    same = all(None in (now, then) or now == then for now, then in pairs)
    return same and zlib.crc32(chips.tobytes()) == record["crc"]


@validated
def stored_chunks(
    path: Path, chunk_size: PositiveInt, *, without: set[int]
) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """Yield chunks of a finished store, so that they need not be decoded again.

    Args:
        path: of the store.
        chunk_size: rows of a chunk; if the store has another, none can be used.
        without: chunks to leave out.

    Yields:
        What the journal said of the chunk, which of its rows have a chip, and these chips.
    """
    info = read_store_json(path)
    checks = info["checks"]
    if checks["rows"] != chunk_size or without >= set(range(len(checks["records"]))):
        return
    chips, table = open_chips(path, info), read_scenes(path, info)
    if not {"nodata_share", *checks["extra"]} <= set(table):  # edited
        return
    for number, stored, kept in chunk_rows(checks):
        if number not in without:
            part = slice(stored.start, stored.stop)
            yield _record(checks, number, kept, table.iloc[part]), kept, chips[part]


def _record(
    checks: dict[str, Any], number: int, mask: np.ndarray, part: pd.DataFrame
) -> dict[str, Any]:
    """Return what the journal said of a chunk, from the files of the finished store."""
    rows = range(number * checks["rows"], number * checks["rows"] + len(mask))
    left_out = {row: rest for row, *rest in checks["left_out"] if row in rows}
    files: list[Any] = [None] * len(rows)
    nodata = np.ones(len(rows))
    nodata[mask] = part["nodata_share"]
    kept = np.flatnonzero(mask)
    if set(FILE_COLUMNS) <= set(part):
        times = part["file_time"].dt.tz_convert(None).to_numpy("datetime64[us]").astype(int)
        for i, size, time in zip(kept, part["file_bytes"], times, strict=True):
            files[i] = None if pd.isna(size) else [int(size), int(time)]
    for row, (size, time, _) in left_out.items():
        files[row - rows.start] = None if size is None else [size, time]
    extra = {}
    for name, kind in checks["extra"].items():
        values = np.zeros(len(rows), object if "U" in kind else kind)
        values[mask] = part[name]
        extra[name] = {"dtype": kind, "values": np.where(values == 0, "", values).tolist()
                       if "U" in kind else values.tolist()}  # fmt: skip
    bad = {str(row): reason for row, (_, _, reason) in left_out.items() if reason is not None}
    return {"chunk": number, "bad": bad, "extra": extra, "nodata": nodata.tolist(),
            "files": files, **checks["records"][number]}  # fmt: skip
