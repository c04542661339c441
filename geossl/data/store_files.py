"""Open the files of a chip store, each checked for what it must be, and find damaged chips."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.data.files import DatasetError, open_array
from geossl.data.pixels import CONSTANT_COLUMNS, join_constants
from geossl.data.table_files import read_parquet
from geossl.utils.io import as_record, load_json
from geossl.utils.validate import Fraction, NonNegativeInt, Positive, PositiveInt, check, validated

__all__ = [
    "FORMAT", "WORK", "StoreInfo", "check_scenes", "damaged_chunks", "damaged_store_error",
    "has_array", "info_crc", "open_chips", "read_plan", "read_scenes", "read_store_json",
    "require_memory", "require_space", "write_header",
]  # fmt: skip

FORMAT = 2  # 1 had the columns of ``pixels`` in the table
WORK = ".build"  # folder of an unfinished build, inside the store's
_MAX_JSON_BYTES = 2**30  # a store of terabytes has many chunks
_NEEDED = ("path", "location", "time", "lon", "lat")


@dataclass(frozen=True)
class Checks:
    """What tells whether the chips of a store are as they were built, and from which files.

    Attributes:
        info: `info_crc` of the rest of ``store.json``.
        rows: rows of the scene table in a chunk; the last one may have fewer.
        total: rows of the scene table.
        table: digest of ``scenes.parquet`` as it was written.
        left_out: for each row without a chip: its number, bytes and time of its file, and why it
            could not be read (None: it has no data).
        extra: dtype of each column that the reader returned.
        records: of each chunk: ``crc`` of its chips, those that are left out as zeros, and the sums
            of its pixels.
    """

    info: NonNegativeInt
    rows: PositiveInt
    total: PositiveInt
    table: str
    left_out: tuple[tuple[NonNegativeInt, int | None, int | None, str | None], ...]
    extra: dict[str, str]
    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class StoreInfo:
    """The content of ``store.json``; what has a default is absent in stores of version 0.1."""

    format: PositiveInt
    n: PositiveInt
    size_px: PositiveInt
    bands: tuple[str, ...]
    dtype: Literal["uint8", "uint16"]
    rgb: tuple[NonNegativeInt, ...]
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    units: str = ""
    source: str = ""
    identity: str = ""
    bad: dict[str, str] = field(default_factory=dict)
    bad_rows: NonNegativeInt = 0
    pixels: dict[str, str | float | None] = field(default_factory=dict)
    max_nodata_share: Fraction = 1.0
    empty_rows: NonNegativeInt = 0
    checks: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        count = len(self.bands)
        if not count or len(self.mean) != count or len(self.std) != count:
            raise ValueError("`mean` and `std` must have a number for each of `bands`")
        if not self.rgb or max(self.rgb) >= count:
            raise ValueError(f"`rgb` must have numbers of bands from 0 to {count - 1}")
        if not set(self.pixels) <= set(CONSTANT_COLUMNS):
            raise ValueError(f"`pixels` must have names of {list(CONSTANT_COLUMNS)}")
        if self.checks is not None:
            checks = as_record(Checks, self.checks)
            if len(checks.records) != -(-checks.total // checks.rows) or (
                checks.total - len(checks.left_out) != self.n
            ):
                raise ValueError("`checks` must be of as many rows as `n` says")


@validated
def read_store_json(path: Path) -> dict[str, Any]:
    """Return the content of a store's ``store.json``, of a format that this version reads."""
    if not (path / "store.json").is_file():
        state = "the folder has no store.json" if path.is_dir() else "it is no folder"
        state = "the folder has an unfinished build" if (path / WORK).is_dir() else state
        raise FileNotFoundError(
            f"There is no chip store at {path}: {state}. `geossl chips` or `ChipStore.build` "
            "writes one from a scene table, and resumes a build that was stopped."
        )
    try:
        info = load_json(path / "store.json", max_bytes=_MAX_JSON_BYTES)
        version = info.get("format") if isinstance(info, dict) else None
        if not isinstance(version, int) or version <= FORMAT:
            as_record(StoreInfo, info)
    except (ValueError, OSError) as error:
        raise damaged_store_error(path, f"store.json: {error}") from None
    if isinstance(version, int) and version > FORMAT:
        raise DatasetError(
            f"The chip store {path} has format {version}, but this geossl reads up to {FORMAT}. "
            "Update geossl, or build the store again in another folder."
        )
    return info


@validated
def info_crc(info: dict[str, Any]) -> int:
    """Return a checksum of the content of ``store.json``, but for this checksum."""
    checks = {name: value for name, value in info["checks"].items() if name != "info"}
    return zlib.crc32(json.dumps({**info, "checks": checks}, sort_keys=True).encode())


@validated
def has_array(path: Path, shape: tuple[int, ...]) -> bool:
    """Return whether a file is an array of a shape."""
    try:
        return open_array(path).shape == shape
    except (DatasetError, FileNotFoundError):
        return False


@validated
def open_chips(path: Path, info: dict[str, Any]) -> np.ndarray:
    """Map ``chips.npy`` into memory; its header, size, first and last chunk are checked.

    Raises:
        DatasetError: it is damaged, or not what ``store.json`` says.
    """
    try:
        chips: Any = open_array(path / "chips.npy")
        shape = (info["n"], len(info["bands"]), info["size_px"], info["size_px"])
        if chips.shape != shape or chips.dtype != np.dtype(info["dtype"]):
            raise ValueError(
                f"chips.npy has {chips.shape} {chips.dtype}, store.json says {shape} "
                f"{info['dtype']}"
            )
        size = (path / "chips.npy").stat().st_size
        if not chips.flags.c_contiguous or size != chips.offset + chips.nbytes:
            raise ValueError("chips.npy has another size or order of its bytes than was written")
    except (ValueError, OSError) as error:
        raise damaged_store_error(path, error) from None
    last = len(info["checks"]["records"]) - 1 if info.get("checks") else 0
    for _, rows in damaged_chunks(chips, info, only={0, last}):
        raise damaged_store_error(
            path, f"chips {rows.start} to {rows.stop - 1} in chips.npy are not what was written"
        )
    return chips


@validated
def damaged_chunks(
    chips: np.ndarray, info: dict[str, Any], *, only: set[int] | None = None
) -> Iterator[tuple[int, range]]:
    """Yield the chunks of which the pixels are not those that were written.

    Args:
        chips: of the store.
        info: content of its ``store.json``; without ``checks``, nothing is known.
        only: numbers of the chunks to read; all if None.

    Yields:
        Number of the chunk, and the chips of it.
    """
    if not info.get("checks"):
        return
    for number, rows, kept in chunk_rows(info["checks"]):
        if only is not None and number not in only:
            continue
        part = chips[rows.start : rows.stop]
        if not kept.all():
            part = np.zeros((len(kept), *chips.shape[1:]), chips.dtype)
            part[kept] = chips[rows.start : rows.stop]
        if zlib.crc32(part.data) != info["checks"]["records"][number].get("crc"):
            yield number, rows


def chunk_rows(checks: dict[str, Any]) -> Iterator[tuple[int, range, np.ndarray]]:
    """Yield each chunk's number, its chips, and which rows of the scene table have one."""
    kept = np.ones(checks["total"], bool)
    kept[[row for row, *_ in checks["left_out"]]] = False
    first = 0
    for number, start in enumerate(range(0, checks["total"], checks["rows"])):
        mask = kept[start : start + checks["rows"]]
        stop = first + int(mask.sum())
        yield number, range(first, stop), mask
        first = stop


@validated
def read_scenes(path: Path, info: dict[str, Any]) -> pd.DataFrame:
    """Return the scene table of a store; users may edit it, so its content has no checksum.

    Raises:
        DatasetError: it is damaged, or no scene table with a row for each chip.
    """
    try:
        table = check_scenes(read_parquet(path / "scenes.parquet"), "scenes.parquet")
        if len(table) != info["n"]:
            raise ValueError(f"scenes.parquet has {len(table)} rows for {info['n']} chips")
    except (ValueError, OSError) as error:
        raise damaged_store_error(path, error) from None
    return join_constants(table, info.get("pixels", {}))


@validated
def check_scenes(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Check the scene table of a store or stream, see `geossl.data.scenes.check`.

    Raises:
        ValueError: a column is absent, or has values that cannot be.
    """
    if missing := [name for name in _NEEDED if name not in table]:
        raise ValueError(f"{source} has no column {missing[0]!r}")
    try:
        return scenes.check(table, positions=False, source=source)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{source} has values that cannot be read ({error})") from None


@validated
def damaged_store_error(path: Path, reason: Exception | str) -> DatasetError:
    """Return the error for a store whose files do not fit together."""
    text = str(reason).replace(f"{path}{os.sep}", "").rstrip(".")
    return DatasetError(
        f"The chip store {path} is damaged ({text}). Remove the folder and build it again."
    )


@validated
def write_header(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Write the header of a .npy file; return the length."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": tuple(map(int, shape)),
    }
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        return file.tell()


@validated
def read_plan(work: Path) -> dict[str, Any]:
    """Return the content of ``plan.json`` of an unfinished build."""
    try:
        plan = load_json(work / "plan.json")
        check("chunk", plan["chunk"], PositiveInt)
        return plan
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(
            f"The unfinished build {work} is damaged ({error}). Remove it and run the same command "
            "again."
        ) from None


@validated
def require_memory(chip_bytes: PositiveInt, size_px: PositiveInt) -> None:
    """Refuse chips that do not fit into memory, where the system says how much there is."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if chip_bytes > memory:
        raise ValueError(
            f"`size_px` = {size_px:,} gives chips of {chip_bytes / 1e6:,.0f} MB, which do not fit "
            f"into {memory / 1e6:,.0f} MB of memory. Use a smaller `size_px`."
        )


@validated
def require_space(path: Path, needed: int) -> None:
    """Refuse to write more bytes for a chip store than the disk has free."""
    parent = path.absolute()
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise OSError(
            f"The chip store {path} needs {needed / 1e6:,.0f} MB, but {parent} has "
            f"{free / 1e6:,.0f} MB free. Make space or use another `path`."
        )
