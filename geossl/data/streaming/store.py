"""Open a stream as a chip store: its table at once, its pixels when they are indexed."""

from __future__ import annotations

import io
import math
import os
import re
import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geossl.data import scenes
from geossl.data.store import ChipStore, fields_of
from geossl.data.store_files import StoreInfo, check_scenes
from geossl.data.streaming.order import arrange
from geossl.data.streaming.reader import StreamPixels, damaged_stream_error
from geossl.data.streaming.storage import open_storage
from geossl.data.streaming.writer import CHUNK, FORMAT, INDEX, INFO, TABLE
from geossl.data.table_files import read_parquet
from geossl.utils.io import as_record, parse_json
from geossl.utils.validate import PositiveInt, validated

__all__ = ["StreamStore"]


@dataclass(frozen=True)
class StreamInfo(StoreInfo):
    """The content of ``stream.json``."""

    locations: tuple[PositiveInt, ...] = ()  # of each chunk


@dataclass(frozen=True, eq=False, repr=False)
class StreamStore(ChipStore):
    """A chip store larger than a disk; use `geossl.data.streaming.write` or ``open``.

    Attributes:
        path: the folder, or ``s3://bucket/prefix``.
        scenes: the scene table; the dates of a location are consecutive, in order of time.
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
    @validated
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        memory_bytes: PositiveInt = 2**30,
        num_threads: PositiveInt = 16,
        storage_options: dict[str, Any] | None = None,
    ) -> StreamStore:
        """Open a stream; reads its table, no pixels.

        Args:
            path: a folder or ``s3://bucket/prefix``.
            memory_bytes: bytes of locations that a process keeps; more of it mixes an epoch better.
            num_threads: locations read at the same time.
            storage_options: arguments of ``boto3.client``, e.g. ``endpoint_url``.

        Raises:
            FileNotFoundError: there is no finished stream.
            DatasetError: its files do not fit together, or a newer version wrote it.
        """
        storage = open_storage(path, storage_options)
        try:
            text = storage.read(INFO)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"There is no stream at {storage.path}: it has no {INFO}. "
                "`geossl.data.streaming.write` writes one, and resumes where it stopped."
            ) from None
        try:
            info = parse_json(text)
            version = info["format"]
            if isinstance(version, int) and version > FORMAT:
                raise ValueError(f"format {version}, not {FORMAT} or less; update geossl")
            as_record(StreamInfo, info)
            table = check_scenes(read_parquet(io.BytesIO(storage.read(TABLE))), TABLE)
            if len(table) != info["n"]:
                raise ValueError(f"{TABLE} has {len(table)} rows for {info['n']} chips")
            index = parse_json(storage.read(INDEX))
            location = scenes.location_codes(table)
            shape = (len(table), len(info["bands"]), info["size_px"], info["size_px"])
            _check_files(info, location, index, shape)
            chips = StreamPixels(
                storage,
                index,
                shape=shape,
                dtype=np.dtype(info["dtype"]),
                first=np.flatnonzero(np.diff(location, prepend=-1)),
                chunk=_chunk_of_location(info),
                memory_bytes=memory_bytes,
                num_threads=num_threads,
            )
            return cls(
                path=storage.path,
                scenes=table,
                chips=chips,
                info=info,
                location=torch.from_numpy(location),
                storage_options=storage_options,
                **fields_of(info),
            )
        except (
            ValueError, LookupError, TypeError, AttributeError, OverflowError, FileNotFoundError,
            IsADirectoryError,
        ) as error:  # fmt: skip
            raise damaged_stream_error(storage.path, error) from error

    def __reduce__(self) -> tuple[Any, ...]:
        options: dict[str, Any] = {
            "memory_bytes": self.chips.memory_bytes,
            "num_threads": self.chips.num_threads,
            "storage_options": self.storage_options,
        }
        return partial(StreamStore.open, **options), (self.path,)

    @validated
    def check(self) -> dict[str, str]:
        """Read all files and look for damage, see `geossl.ChipStore.check`."""
        storage = open_storage(self.path, self.storage_options)
        chunks = parse_json(storage.read(INDEX))["chunks"]
        if any("crc" not in chunk for chunk in chunks):
            return {"checksums": "none: an earlier version wrote the stream"}
        sizes, damaged = storage.sizes(), []
        for chunk in chunks:
            name = chunk["filename"]
            if name not in sizes or zlib.crc32(storage.read(name)) != chunk["crc"]:
                damaged.append(name)
        if not damaged:
            return {}
        names = ", ".join(damaged[:5]) + (", ..." if len(damaged) > 5 else "")
        return {
            "chips": f"{len(damaged):,} of {len(chunks):,} files are damaged ({names}); remove the "
            "stream and write it again"
        }

    @property
    def ordering(self) -> list[Any]:
        """What decides the order of an epoch, besides the seed, as json can hold it."""
        return [self.info["identity"], self.chips.memory_bytes]

    @validated
    def arrange(
        self,
        pairs: tuple[Tensor, ...],
        rows: Tensor,
        *,
        batch_size: PositiveInt,
        generator: torch.Generator,
    ) -> tuple[Tensor, ...]:
        """Return an epoch's pairs in an order in which each location is read once.

        The pairs of as many locations as half of the memory holds are mixed, see
        `geossl.data.streaming.order.arrange`. The order depends on ``batch_size``, the memory and
        the generator, not on the number of ranks.

        Args:
            pairs: ``(N,)`` queries, or queries and keys, as a sampler draws them.
            rows: ``(M,)`` chip of each row that ``pairs`` count in.
            batch_size: queries of all ranks in a batch.
            generator: of the order.

        Returns:
            The same in another order, without the last incomplete batch.

        Raises:
            ValueError: a pair of two locations.
        """
        complete = len(pairs[0]) // batch_size * batch_size
        pairs = tuple(part[:complete] for part in pairs)
        location, *others = (self.location[rows[part]] for part in pairs)
        if any(not torch.equal(other, location) for other in others):
            raise ValueError(
                "`pairs` must be of one location each, for a stream keeps the dates of a location "
                "together. Use same_image() or temporal(), or a chip store."
            )
        chip_bytes = math.prod(self.chips.shape[1:]) * self.chips.dtype.itemsize
        order = arrange(
            location,
            torch.from_numpy(_chunk_of_location(self.info)),
            self.location.bincount() * chip_bytes,
            batch_size=batch_size,
            mix_bytes=self.chips.memory_bytes / 2,
            generator=generator,
        )
        return tuple(part[order] for part in pairs)


def _chunk_of_location(info: dict[str, Any]) -> np.ndarray:
    return np.repeat(np.arange(len(info["locations"])), info["locations"])


def _check_files(
    info: dict[str, Any], location: np.ndarray, index: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """Check that the three files fit together, and that the index names only chunks."""
    if (np.diff(location, prepend=-1) < 0).any():
        raise ValueError("the dates of a location are not consecutive in the table")
    sizes, counts = [chunk["chunk_size"] for chunk in index["chunks"]], info["locations"]
    if sizes != counts or min(counts) < 1 or sum(counts) != location[-1] + 1:
        raise ValueError(f"{INDEX}, {INFO} and {TABLE} have different locations")
    for chunk in index["chunks"]:
        if not re.fullmatch(CHUNK, chunk["filename"]) or not chunk["chunk_bytes"] > 0:
            raise ValueError(f"{INDEX} names the file {chunk['filename']!r}")
    field = index["config"]["temporal_schema"]["fields"]["chips"]
    if tuple(field["shape"]) != shape[1:] or np.dtype(field["dtype"]) != info["dtype"]:
        raise ValueError(f"chips {field['shape']} {field['dtype']}, {INFO} says {shape[1:]}")
