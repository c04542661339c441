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
from geossl.data.sources import file_states
from geossl.utils.validate import validated

__all__ = ["SUMS", "Chunk", "decode_chunk", "statistics"]

SUMS = ("count", "sum", "square")  # of the pixels of a chunk, by band


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
    max_nodata_share: float  # a chip with more is left out


@validated
def decode_chunk(chunk: Chunk) -> dict[str, Any]:
    """Decode and store a chunk; return its record for the journal, with exact integer sums."""
    rows = _resolve_paths(chunk.folder, chunk.rows)
    files = file_states(rows)  # before they are read: a change from now on will be noticed
    pixels = get_reader(chunk.reader).read_chips(rows, size_px=chunk.shape[1])
    _check_pixels(chunk, pixels)
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
    chips = np.ascontiguousarray(pixels.chips)
    shares = np.zeros(len(chips)) if pixels.valid is None else 1 - pixels.valid.mean((1, 2))
    left_out = sorted({*pixels.bad, *np.flatnonzero(shares > chunk.max_nodata_share).tolist()})
    if left_out:
        chips = chips.copy()
        chips[left_out] = 0
    _write(chunk, chips)
    extra = {
        name: {"dtype": np.asarray(values).dtype.str, "values": np.asarray(values).tolist()}
        for name, values in pixels.extra.items()
        if name != "nodata_share"
    }
    record = {"chunk": chunk.number, "crc": zlib.crc32(chips.data), "bad": bad, "extra": extra,
              "nodata": shares.tolist(), "files": files}  # fmt: skip
    return record | _sums(chips, pixels.valid, left_out)


def _check_pixels(chunk: Chunk, pixels: Any) -> None:
    """Refuse what a reader of others returns by mistake, with its name."""
    shape, name = (len(chunk.rows), *chunk.shape), f"The reader {chunk.reader!r}"
    if not isinstance(pixels, Pixels):
        kind = type(pixels).__name__
        raise TypeError(f"{name} must return geossl.data.pixels.Pixels, got {kind}.")
    chips, valid = pixels.chips, pixels.valid
    if chips.shape != shape or chips.dtype != chunk.dtype:
        raise ValueError(
            f"{name} must return {np.dtype(chunk.dtype)} chips {shape}, got {chips.dtype} "
            f"{chips.shape}."
        )
    if valid is not None and (valid.shape != (shape[0], *shape[2:]) or valid.dtype != bool):
        raise ValueError(
            f"{name} must return `valid` as bool {(shape[0], *shape[2:])}, got {valid.dtype} "
            f"{valid.shape}."
        )
    odd = [i for i in pixels.bad if not (isinstance(i, int | np.integer) and 0 <= i < shape[0])]
    if odd:
        raise ValueError(
            f"{name} must count the rows of `bad` from 0 to {shape[0] - 1}, got {odd[0]!r}."
        )
    for column, values in pixels.extra.items():
        if np.shape(values) != shape[:1]:
            raise ValueError(
                f"{name} must return `extra` {column!r} with a value for each of {shape[0]} rows, "
                f"got {np.shape(values)}."
            )


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


@validated
def statistics(records: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return mean and std per band from Python's integers: exact, in any order of the chunks."""
    count = sum(record["count"] for record in records)
    if count == 0:
        raise ValueError("`scenes` have no valid pixel: all chips have no data.")
    total, square = (
        [sum(map(int, sums)) for sums in zip(*(record[key] for record in records), strict=True)]
        for key in ("sum", "square")
    )
    return {
        "mean": [value / count for value in total],
        "std": [
            (max(count * second - first * first, 0) / count**2) ** 0.5 or 1.0
            for first, second in zip(total, square, strict=True)
        ],
    }
