"""What becomes of memory that is freed between the steps of a training on the CPU."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from geossl import models

# Numbers of glibc's malloc.h, and what its own rule comes to where large pieces come and go.
_TRIM, _MMAP_ABOVE, _MMAPS = -1, -3, -4
_USUAL = {_MMAPS: 65_536, _MMAP_ABOVE: 32 * 2**20, _TRIM: 64 * 2**20}
_KEEPING = {_MMAPS: 0, _TRIM: 2**31 - 1}
_depth = 0


@contextmanager
def kept() -> Iterator[None]:
    """Inside, freed memory stays with the process for what comes next; it goes back at the end.

    Every step takes the memory that the last one freed. glibc gives large pieces back to the
    system, which clears them page by page when they are taken anew: the small encoder trains 1,200
    pairs a second on two cores with that, and 1,300 to 1,380 without. Elsewhere than on Linux with
    glibc, and where the environment sets malloc's ways, nothing happens.
    """
    global _depth
    libc = _glibc()
    if libc is None:
        yield
        return
    if not _depth:
        _set(libc, _KEEPING)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _set(libc, _USUAL)
            libc.malloc_trim(0)


def _glibc() -> Any:
    """The C library, where its malloc is ours to set."""
    if sys.platform != "linux" or any(k.startswith(("MALLOC_", "GLIBC_T")) for k in os.environ):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def _set(libc: Any, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)


@contextmanager
def single_threaded(encoder: models.Encoder, *, bf16: bool) -> Iterator[None]:
    """Inside, training the small encoder in bf16 on a CPU has one thread.

    oneDNN's threads wait for each other by spinning. In layers this small two of them gain nothing
    on idle cores (1,100 pairs a second, one has 1,190), and fall to 320 beside one other program
    and to 30 beside three, where one keeps 1,160. ResNets gain (33 for 18) and keep all threads.
    """
    before = torch.get_num_threads()
    alone = bf16 and encoder.name == "small" and encoder.mean.device.type == "cpu"
    if alone and before > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if alone and before > 1:
            torch.set_num_threads(before)
