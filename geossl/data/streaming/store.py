"""A stream as a chip store: its table at once, its pixels when they are asked for."""

from __future__ import annotations

import io
import json
import math
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.data import scenes
from geossl.data.store import ChipStore
from geossl.data.streaming.order import arrange
from geossl.data.streaming.reader import StreamPixels, damaged_stream_error
from geossl.data.streaming.storage import open_storage
from geossl.data.streaming.writer import CHUNK, FORMAT, INDEX, INFO, TABLE


@dataclass(frozen=True, eq=False, repr=False)
class StreamStore(ChipStore):
    """A chip store past one disk; made by `geossl.data.streaming.write` or `geossl.data.streaming.open`.

    Attributes:
        path: the folder, or ``s3://bucket/prefix``.
        scenes: the scene table; the dates of a location lie together, in the order of time.
        chips: ``(M, C, H, W)``, read location by location as it is indexed.
        bands, mean, std, dtype, size_px, rgb, info: as of `geossl.ChipStore`.
        location: ``(M,)`` int64 number of each chip's location.
        storage_options: arguments of ``boto3.client``, or None.
    """

    path: str  # type: ignore[assignment]
    chips: StreamPixels  # type: ignore[assignment]
    location: Tensor
    storage_options: dict[str, Any] | None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        memory_bytes: int = 2**30,
        num_threads: int = 16,
        storage_options: dict[str, Any] | None = None,
    ) -> StreamStore:
        """Open a stream; reads its table, no pixels.

        Args:
            path: a folder or ``s3://bucket/prefix``.
            memory_bytes: bytes of locations kept by a process; the more, the better an epoch is mixed.
            num_threads: locations read at the same time.
            storage_options: arguments of ``boto3.client``, e.g. ``endpoint_url``.

        Raises:
            FileNotFoundError: there is no finished stream.
            ValueError: its files do not fit together, or a newer version wrote it.
        """
        if num_threads < 1 or memory_bytes < 1:
            raise ValueError(
                f"expected memory and threads >= 1, came {memory_bytes} and {num_threads}"
            )
        at = open_storage(path, storage_options)
        try:
            text = at.read(INFO)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"expected a stream at {at.path}, found no {INFO}; geossl.data.streaming.write makes it, "
                "and goes on where it stopped"
            ) from None
        try:
            info = json.loads(text)
            if info["format"] > FORMAT:
                raise ValueError(f"format {info['format']}, not {FORMAT} or less; update geossl")
            table = pd.read_parquet(io.BytesIO(at.read(TABLE)))
            index = json.loads(at.read(INDEX))
            location = scenes.location_codes(table)
            shape = (len(table), len(info["bands"]), info["size_px"], info["size_px"])
            _check(info, location, index, shape)
            chips = StreamPixels(
                at, index, shape=shape, dtype=np.dtype(info["dtype"]),
                first=np.flatnonzero(np.diff(location, prepend=-1)),
                chunk=_chunks(info), memory_bytes=memory_bytes, num_threads=num_threads,
            )  # fmt: skip
            return cls(
                path=at.path, scenes=table, chips=chips, bands=info["bands"],
                mean=np.array(info["mean"], np.float32), std=np.array(info["std"], np.float32),
                dtype=info["dtype"], size_px=info["size_px"], rgb=info["rgb"], info=info,
                location=torch.from_numpy(location), storage_options=storage_options,
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError) as error:
            raise damaged_stream_error(at.path, error) from error

    def __repr__(self) -> str:
        return super().__repr__().replace("ChipStore", "StreamStore")

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (
            self.path, self.chips.memory, self.chips.threads, self.storage_options,
        )  # fmt: skip

    @property
    def ordering(self) -> list[Any]:
        """What of the store decides the order of an epoch."""
        return [self.info["identity"], self.chips.memory]

    def arrange(
        self,
        drawn: tuple[Tensor, ...],
        rows: Tensor,
        *,
        batch_size: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, ...]:
        """Bring an epoch's pairs into an order in which each location is read once.

        The pairs of so many locations as half of the memory holds are mixed, see
        `geossl.data.streaming.order.arrange`. The order depends on ``batch_size``, the memory and the
        generator, not on the number of ranks.

        Args:
            drawn: ``(N,)`` queries, or queries and keys, as a policy draws them.
            rows: ``(M,)`` chip of each row that ``drawn`` counts in.
            batch_size: queries of all ranks in a batch.
            generator: of the order.

        Returns:
            The same in another order, without the last incomplete batch.

        Raises:
            ValueError: a pair of two locations.
        """
        whole = len(drawn[0]) // batch_size * batch_size
        drawn = tuple(part[:whole] for part in drawn)
        location, *others = (self.location[rows[part]] for part in drawn)
        if any(not torch.equal(other, location) for other in others):
            raise ValueError(
                "expected pairs of one location, for a stream keeps the dates of a location "
                "together and apart from others; use same_image() or temporal(), or a chip store"
            )
        chip_bytes = math.prod(self.chips.shape[1:]) * self.chips.dtype.itemsize
        order = arrange(
            location, torch.from_numpy(_chunks(self.info)),
            self.location.bincount() * chip_bytes,
            batch_size=batch_size, mix=self.chips.memory / 2, generator=generator,
        )  # fmt: skip
        return tuple(part[order] for part in drawn)


def _again(
    path: str, memory_bytes: int, num_threads: int, options: dict[str, Any] | None
) -> StreamStore:
    """A stream in another process."""
    return StreamStore.open(
        path, memory_bytes=memory_bytes, num_threads=num_threads, storage_options=options
    )


def _chunks(info: dict[str, Any]) -> np.ndarray:
    """``(L,)`` chunk of each location."""
    return np.repeat(np.arange(len(info["locations"])), info["locations"])


def _check(
    info: dict[str, Any], location: np.ndarray, index: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """Do the three files fit together, and does the index name chunks only?"""
    if (np.diff(location, prepend=-1) < 0).any():
        raise ValueError("the dates of a location do not lie together in the table")
    held, counts = [chunk["chunk_size"] for chunk in index["chunks"]], info["locations"]
    if held != counts or min(counts) < 1 or sum(counts) != location[-1] + 1:
        raise ValueError(f"{INDEX}, {INFO} and {TABLE} know different locations")
    for chunk in index["chunks"]:
        if not re.fullmatch(CHUNK, chunk["filename"]) or not chunk["chunk_bytes"] > 0:
            raise ValueError(f"{INDEX} names the file {chunk['filename']!r}")
    field = index["config"]["temporal_schema"]["fields"]["chips"]
    if tuple(field["shape"]) != shape[1:] or np.dtype(field["dtype"]) != info["dtype"]:
        raise ValueError(f"chips {field['shape']} {field['dtype']}, {INFO} says {shape[1:]}")
