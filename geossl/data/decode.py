"""What a worker does for a chip store, a thread here or a process on another machine: one chunk."""

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


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of one chunk."""

    chunk: int
    first: int  # row of the table
    rows: pd.DataFrame
    reader: str
    shape: tuple[int, ...]  # (C, H, W)
    dtype: str
    skip_bad: bool
    raw: str
    at: int  # byte of ``raw``
    sync: bool
    folder: str  # that relative paths start from


def decode(job: Job) -> dict[str, Any]:
    """Decode and store a chunk; its record for the journal, with exact integer sums."""
    reader = get_reader(job.reader)
    rows, size_px = _found_from(job.folder, job.rows), job.shape[1]
    pixels: Pixels = reader.read_chips(rows, size_px=size_px)
    chips = np.ascontiguousarray(pixels.chips)
    if chips.shape != (len(rows), *job.shape) or chips.dtype != job.dtype:
        raise ValueError(
            f"expected {np.dtype(job.dtype)} chips {(len(rows), *job.shape)} from the reader "
            f"{job.reader}, came {chips.dtype} {chips.shape}"
        )
    bad = {}
    for i in sorted(pixels.bad):
        path, reason = str(job.rows["path"][i]), pixels.bad[i]
        if path != rows["path"][i]:
            reason = reason.replace(os.path.join(job.folder, ""), "")
        if not job.skip_bad:
            named = reason if path in reason else f"{path}: {reason}"
            raise ValueError(f"{named}; give skip_bad=True to leave such scenes out")
        bad[str(job.first + i)] = reason
    _write(job, chips)
    extra = {
        name: {"dtype": np.asarray(values).dtype.str, "values": np.asarray(values).tolist()}
        for name, values in pixels.extra.items()
    }
    sums = _sums(chips, pixels.valid, list(pixels.bad))
    return {"chunk": job.chunk, "crc": zlib.crc32(chips.data), "bad": bad, "extra": extra, **sums}


def _found_from(folder: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with such relative paths made whole as lead to a place in another folder."""
    if folder == os.getcwd():
        return rows
    whole = [os.path.join(folder, str(path)) for path in rows["path"]]
    there = {name: os.path.isdir(name) for name in {os.path.dirname(path) for path in whole}}
    return rows.assign(
        path=[
            new if there[os.path.dirname(new)] else old
            for new, old in zip(whole, rows["path"], strict=True)
        ]
    )


def _write(job: Job, chips: np.ndarray) -> None:
    # O_DSYNC: on disk before the journal says so; and NFS sends these bytes, not whole pages
    sync = getattr(os, "O_DSYNC", 0) if job.sync else 0
    try:
        with open(job.raw, "rb+", opener=lambda path, flags: os.open(path, flags | sync)) as file:
            file.seek(job.at)
            file.write(chips.data)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"expected the unfinished build {job.raw} on the machine {platform.node()}, found "
            "none; the store's folder must be on a file system that all workers share"
        ) from None


def _sums(chips: np.ndarray, valid: np.ndarray | None, bad: list[int]) -> dict[str, Any]:
    """Exact count, sum and sum of squares per band of the valid pixels ``(M, C, H, W)``."""
    bands = chips.shape[1]
    flat = chips.reshape(len(chips), bands, -1)  # (M, C, P)
    seen = np.ones((len(chips), flat.shape[2]), bool)
    if valid is not None:
        seen[:] = valid.reshape(seen.shape)
    seen[bad] = False
    every = bool(seen.all())
    total, square = np.zeros((2, bands), np.uint64)
    wide = max(1, 2**17 // bands)  # pixels at a time: copies stay small, float64 sums exact
    tall = max(1, wide // flat.shape[2])
    for i in range(0, len(flat), tall):
        for j in range(0, flat.shape[2], wide):
            part = slice(i, i + tall), slice(None), slice(j, j + wide)
            values = flat[part].astype(np.float64)  # (m, C, p)
            if not every:
                values *= seen[part[0], None, part[2]]
            total += values.sum((0, 2)).astype(np.uint64)
            square += np.einsum("mcp,mcp->c", values, values).astype(np.uint64)
    count = int(seen.sum())
    return {"count": count, "sum": total.tolist(), "square": square.tolist()}
