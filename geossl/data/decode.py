"""Decode one chunk of chips, in a thread here or in a process of another machine."""

from __future__ import annotations

import os
import platform
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geossl.data.pixels import Pixels
from geossl.data.readers import get_reader
from geossl.utils.validate import validated

__all__ = ["Chunk", "decode_chunk"]


@dataclass(frozen=True)
class Chunk:
    """Rows to decode together, and where their chips go."""

    number: int
    first_row: int  # of the table
    rows: pd.DataFrame
    reader: str
    shape: tuple[int, ...]  # (C, H, W)
    dtype: str
    skip_bad: bool
    path: str  # file of all chips
    offset: int  # of this chunk in it, in bytes
    sync: bool
    folder: str  # that relative paths start from


@validated
def decode_chunk(chunk: Chunk) -> dict[str, Any]:
    """Decode and store a chunk; return its record for the journal, with exact integer sums."""
    rows = _resolve_paths(chunk.folder, chunk.rows)
    pixels: Pixels = get_reader(chunk.reader).read_chips(rows, size_px=chunk.shape[1])
    chips = np.ascontiguousarray(pixels.chips)
    shape = (len(rows), *chunk.shape)
    if chips.shape != shape or chips.dtype != chunk.dtype:
        raise ValueError(
            f"The reader {chunk.reader!r} must return {np.dtype(chunk.dtype)} chips {shape}, got "
            f"{chips.dtype} {chips.shape}."
        )
    bad = {}
    for i in sorted(pixels.bad):
        path, reason = str(chunk.rows["path"][i]), pixels.bad[i]
        if path != rows["path"][i]:
            reason = reason.replace(os.path.join(chunk.folder, ""), "")
        if not chunk.skip_bad:
            named = reason if path in reason else f"{path}: {reason}"
            raise ValueError(
                f"{named.removesuffix('.')}. Use skip_bad=True to leave out such scenes."
            )
        bad[str(chunk.first_row + i)] = reason
    _write(chunk, chips)
    extra = {
        name: {"dtype": np.asarray(values).dtype.str, "values": np.asarray(values).tolist()}
        for name, values in pixels.extra.items()
    }
    sums = _sums(chips, pixels.valid, list(pixels.bad))
    crc = zlib.crc32(chips.data)
    return {"chunk": chunk.number, "crc": crc, "bad": bad, "extra": extra, **sums}


def _resolve_paths(folder: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Make relative paths absolute where they exist in another folder than the current one."""
    if folder == os.getcwd():
        return rows
    paths = [os.path.join(folder, str(path)) for path in rows["path"]]
    exists = {name: os.path.isdir(name) for name in {os.path.dirname(path) for path in paths}}
    return rows.assign(
        path=[
            new if exists[os.path.dirname(new)] else old
            for new, old in zip(paths, rows["path"], strict=True)
        ]
    )


def _write(chunk: Chunk, chips: np.ndarray) -> None:
    # O_DSYNC: on disk before the journal says so; and NFS sends these bytes, not whole pages
    sync = getattr(os, "O_DSYNC", 0) if chunk.sync else 0
    try:
        with open(
            chunk.path, "rb+", opener=lambda path, flags: os.open(path, flags | sync)
        ) as file:
            file.seek(chunk.offset)
            file.write(chips.data)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"The unfinished build {chunk.path} is not visible on the machine {platform.node()}. "
            "The store's folder must be on a file system that all workers share."
        ) from None


def _sums(chips: np.ndarray, valid: np.ndarray | None, bad: list[int]) -> dict[str, Any]:
    """Return the exact count, and sum and sum of squares per band, of the valid pixels."""
    count, _, height, width = chips.shape
    mask = np.ones((count, 1, height, width), bool)
    if valid is not None:
        mask[:, 0] = valid
    mask[bad] = False
    if not mask.all():
        chips = chips * mask
    square = np.einsum("mchw,mchw->c", chips, chips, dtype=np.uint64)
    total = chips.sum((0, 2, 3), dtype=np.uint64)
    return {"count": int(mask.sum()), "sum": total.tolist(), "square": square.tolist()}
