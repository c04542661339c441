"""Build a chip store: in parallel, resumable, and published only when it is complete."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.data import scenes as scene_tables
from geossl.data.decode import Chunk, decode_chunk
from geossl.data.files import DatasetError, read_json
from geossl.data.pixels import PIXEL_COLUMNS, split_constants
from geossl.data.readers import get_reader
from geossl.data.table_files import write
from geossl.utils.io import atomic_write, lock_folder
from geossl.utils.parallel import run_tasks
from geossl.utils.validate import PositiveInt, validated

__all__ = ["FORMAT", "ChipBuilder", "damaged_store_error", "hash_rows", "read_store_json"]

FORMAT = 2  # 1 had the columns of ``pixels`` in the table
_CHUNK_BYTES = 2**22  # a thread holds about one chunk, so this bounds the memory of a build
_WORK = ".build"  # folder of an unfinished build, inside the store's


class ChipBuilder:
    """Build one chip store in a work folder inside its own, then move the finished files out.

    The work folder has ``plan.json`` (identity of the store, size of a chunk), ``raw.npy`` (chips
    of all rows) and ``journal.jsonl`` (a line per finished chunk, with a checksum of its pixels).
    When all chunks are done, the store's files are written next to them, ``store.json`` last: from
    then on they only have to be moved. So a build that was killed resumes at any point.

    Args:
        path: folder of the store.
        scenes: a scene table with the column ``reader``.
        size_px: height and width of a chip.
        chunk_size: chips that are decoded together, at most.
    """

    @validated
    def __init__(
        self, path: Path, scenes: pd.DataFrame, *, size_px: PositiveInt, chunk_size: PositiveInt
    ):
        self.table = scene_tables.check(scenes, positions=False)
        self.reader = _reader_name(self.table)
        info = get_reader(self.reader).pixel_info(self.table)
        self.path, self.work = path, path / _WORK
        self.dtype = np.dtype(info["dtype"])
        self.shape = (len(self.table), len(info["bands"]), size_px, size_px)
        self.chip_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        self.chunk_size = max(1, min(chunk_size, _CHUNK_BYTES // self.chip_bytes))
        self.identity = _identity(self.table, self.shape, info)
        copied = {key: info[key] for key in ("bands", "dtype", "rgb", "units", "source")}
        self.info = {"format": FORMAT, "size_px": size_px, **copied}

    @validated
    def build(
        self, *, num_workers: PositiveInt | None, skip_bad: bool, progress: bool, dask: str | None
    ) -> None:
        """Write the files of the store, unless they exist; see `ChipStore.build`."""
        try:
            self._check_folder()
            self.path.mkdir(parents=True, exist_ok=True)
            with lock_folder(self.path):
                if not self._is_finished():
                    if not (self.work / "store.json").exists():
                        records = self._decode(num_workers, skip_bad, progress, dask)
                        self._finish(records)
                    self._publish()
                shutil.rmtree(self.work, ignore_errors=True)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(
                f"The disk of the chip store {self.path} is full, and the build is unfinished. "
                "Make space and run the same command again to resume."
            ) from error

    def _check_folder(self) -> None:
        """Refuse a file in place of a folder, and a disk that is too small."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"`path` {self.path} is a file. Use a folder for the chip store.")
        if any((folder / "store.json").exists() for folder in (self.path, self.work)):
            return
        parent = self.path.absolute()
        while not parent.exists():
            parent = parent.parent
        try:
            existing = getattr((self.work / "raw.npy").stat(), "st_blocks", 0) * 512
        except FileNotFoundError:
            existing = 0
        needed, free = self.shape[0] * self.chip_bytes - existing, shutil.disk_usage(parent).free
        if needed > free:
            raise OSError(
                f"The chip store {self.path} needs {needed / 1e6:,.0f} MB, but {parent} has "
                f"{free / 1e6:,.0f} MB free. Make space or use another `path`."
            )

    def _is_finished(self) -> bool:
        """Return whether the store exists; raise an error if the folder has something else."""
        finished = (self.path / "store.json").is_file()
        foreign = [n for n in ("chips.npy", "scenes.parquet") if (self.path / n).exists()]
        if foreign and not finished and not self.work.is_dir():
            raise ValueError(
                f"`path` {self.path} contains a {foreign[0]} that is not of a chip store. Use "
                "another folder."
            )
        if finished:
            identity = read_store_json(self.path).get("identity")
        elif (self.work / "plan.json").is_file():
            identity = json.loads((self.work / "plan.json").read_text("utf-8"))["identity"]
        else:
            return False
        if identity != self.identity:
            state = "a" if finished else "an unfinished"
            raise ValueError(
                f"`path` {self.path} contains {state} chip store of other scenes or another "
                "`size_px`. Use another folder, or remove this one."
            )
        return finished

    def _decode(
        self, num_workers: int | None, skip_bad: bool, progress: bool, dask: str | None
    ) -> list[dict[str, Any]]:
        """Decode the chunks that the journal lacks; return the records of all."""
        from tqdm import tqdm

        self._prepare()
        records = self._read_journal(skip_bad)
        count, done = -(-self.shape[0] // self.chunk_size), sum(map(len, map(self._rows, records)))
        chunks = self._chunks((n for n in range(count) if n not in records), skip_bad, bool(dask))
        with (
            open(self.work / "journal.jsonl", "a", encoding="utf-8") as journal,
            tqdm(total=self.shape[0], initial=done, desc="chips", unit="chip", unit_scale=True,
                 disable=not progress) as bar,
            warnings.catch_warnings(),  # here, for it is not safe within threads
            closing(run_tasks(decode_chunk, chunks, num_workers=num_workers, dask=dask)) as results,
        ):  # fmt: skip
            warnings.filterwarnings("ignore", "Dataset has no geotransform")
            for chunk, record in results:
                journal.write(f"\n{json.dumps(record)}")  # \n first: a line may be torn
                journal.flush()
                records[chunk.number] = record
                bar.update(len(chunk.rows))
        if dask and len(records := self._read_journal(skip_bad)) < count:
            raise OSError(
                f"{count - len(records)} of {count} parts of {self.work / 'raw.npy'} are not what "
                f"the workers of {dask} wrote. The folder must be on a file system that all "
                "share; then run the same command again."
            )
        return [records[number] for number in sorted(records)]

    def _prepare(self) -> None:
        """Create the files of the work folder, ``plan.json`` last, or read the chunk size there."""
        self.work.mkdir(exist_ok=True)
        plan = self.work / "plan.json"
        if not plan.exists():
            write(self.table, self.work / "scenes.parquet")  # fails early, if it does
            start = _write_header(self.work / "raw.npy", self.shape, self.dtype)
            os.truncate(self.work / "raw.npy", start + self.shape[0] * self.chip_bytes)
            with atomic_write(plan) as part:
                content = {"identity": self.identity, "chunk": self.chunk_size}
                part.write_text(json.dumps(content), "utf-8")
        self.chunk_size = json.loads(plan.read_text("utf-8"))["chunk"]

    def _read_journal(self, skip_bad: bool) -> dict[int, dict[str, Any]]:
        """Return the records of the chunks whose pixels are in ``raw.npy`` as they were written."""
        path, records = self.work / "journal.jsonl", {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # torn when the build was killed
            if skip_bad or not record["bad"]:
                records[record["chunk"]] = record
        chips = np.load(self.work / "raw.npy", mmap_mode="r")

        def is_intact(number: int) -> bool:
            rows = self._rows(number)
            return zlib.crc32(chips[rows.start : rows.stop].tobytes()) == records[number]["crc"]

        return {number: record for number, record in records.items() if is_intact(number)}

    def _rows(self, number: int) -> range:
        return range(self.shape[0])[number * self.chunk_size : (number + 1) * self.chunk_size]

    def _chunks(self, numbers: Iterable[int], skip_bad: bool, sync: bool) -> Iterator[Chunk]:
        raw, table = self.work.absolute() / "raw.npy", self.table.copy(deep=False)
        table.attrs = {}  # may be long
        start = raw.stat().st_size - self.shape[0] * self.chip_bytes
        for number in numbers:
            first = self._rows(number).start
            rows = table.take(np.array(self._rows(number))).reset_index(drop=True)
            for name in rows.columns[rows.dtypes == "category"]:  # they may be as many as the rows
                rows[name] = rows[name].cat.remove_unused_categories()
            yield Chunk(
                number=number,
                first_row=first,
                rows=rows,
                reader=self.reader,
                shape=self.shape[1:],
                dtype=self.dtype.str,
                skip_bad=skip_bad,
                path=str(raw),
                offset=start + first * self.chip_bytes,
                sync=sync,
                folder=os.getcwd(),
            )

    def _finish(self, records: list[dict[str, Any]]) -> None:
        """Write the store's files to the work folder, ``store.json`` last."""
        bad = {int(row): reason for record in records for row, reason in record["bad"].items()}
        table = self.table
        if len(bad) == len(table):
            raise ValueError(f"None of the {len(bad)} scenes can be read; the first: {bad[0]}")
        for name, first in records[0]["extra"].items():
            dtype = None if "U" in first["dtype"] else first["dtype"]  # texts are of any length
            parts = [np.array(record["extra"][name]["values"], dtype) for record in records]
            table = table.assign(**{name: np.concatenate(parts)})
        paths = {str(table["path"][row]): reason for row, reason in bad.items()}
        if bad:
            good = np.setdiff1d(np.arange(len(table)), list(bad))
            self._copy_chips(good)
            table = table.iloc[good].reset_index(drop=True)
        table, pixels = split_constants(table)
        write(table, self.work / "scenes.parquet")
        info = {**self.info, "n": len(table), **_mean_and_std(records), "identity": self.identity,
                "bad": paths, "bad_rows": len(bad), "pixels": pixels}  # fmt: skip
        with open(self.work / "raw.npy", "rb+") as file:
            os.fsync(file.fileno())
        with atomic_write(self.work / "store.json") as part:
            part.write_text(json.dumps(info, indent=1), "utf-8")

    def _copy_chips(self, rows: np.ndarray) -> None:
        """Copy some chips of ``raw.npy`` to ``chips.npy``, a chunk at a time."""
        chips = np.load(self.work / "raw.npy", mmap_mode="r")
        with atomic_write(self.work / "chips.npy") as part:
            _write_header(part, (len(rows), *self.shape[1:]), self.dtype)
            with open(part, "ab") as file:
                for start in range(0, len(rows), self.chunk_size):
                    some = chips[rows[start : start + self.chunk_size]]
                    file.write(np.ascontiguousarray(some).data)

    def _publish(self) -> None:
        """Move the files to the store's folder, ``store.json`` last; can be repeated."""
        if not (self.path / "chips.npy").exists():
            good = self.work / "chips.npy"
            os.replace(good if good.exists() else self.work / "raw.npy", self.path / "chips.npy")
        for name in ("scenes.parquet", "store.json"):
            if (self.work / name).exists():
                os.replace(self.work / name, self.path / name)


@validated
def read_store_json(path: Path) -> dict[str, Any]:
    """Return the content of a store's ``store.json``, of a format that this version reads."""
    if not (path / "store.json").is_file():
        state = "an unfinished build" if (path / _WORK).is_dir() else "no store.json"
        raise FileNotFoundError(
            f"There is no chip store at {path}: the folder has {state}. `ChipStore.build` writes "
            "one, and resumes a build that was stopped."
        )
    try:
        info = read_json(path / "store.json")
        version = int(info["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_store_error(path, error) from error
    if version > FORMAT:
        raise DatasetError(
            f"The chip store {path} has format {version}, but this geossl reads up to {FORMAT}. "
            "Update geossl, or build the store again in another folder."
        )
    return info


def damaged_store_error(path: Path, error: Exception) -> DatasetError:
    """Return the error for a store whose files do not fit together."""
    return DatasetError(
        f"The chip store {path} is damaged ({type(error).__name__}: {error}). Remove the folder "
        "and build it again."
    )


def _reader_name(table: pd.DataFrame) -> str:
    names = list(table["reader"].unique()) if "reader" in table else []
    if len(names) != 1 or not isinstance(names[0], str):
        raise ValueError(
            "`scenes` needs one reader in its column 'reader', got "
            f"{names or 'no such column'}. Make the table with a function of geossl.datasets."
        )
    return names[0]


def _identity(table: pd.DataFrame, shape: tuple[int, ...], info: dict[str, Any]) -> str:
    """Return a hash of all that decides the content of the store, except the files' content."""
    head = json.dumps([list(map(str, table.columns)), shape, info["bands"], info["dtype"]])
    return hashlib.blake2b(head.encode() + hash_rows(table), digest_size=16).hexdigest()


@validated
def hash_rows(table: pd.DataFrame) -> bytes:
    """Return a hash of each row of a table."""
    for name in table.columns.intersection(PIXEL_COLUMNS):  # format 1 repeated the values
        if isinstance(table[name].dtype, pd.CategoricalDtype):
            table = table.assign(**{name: table[name].astype(table[name].cat.categories.dtype)})
    text = {name: str for name in table.columns if table[name].dtype == object}
    return pd.util.hash_pandas_object(table.astype(text), index=False).to_numpy().tobytes()


def _mean_and_std(records: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return mean and std per band from Python's integers: exact, in any order of the chunks."""
    count = sum(record["count"] for record in records)
    if count == 0:
        raise ValueError("`scenes` have no valid pixel: all chips have no data.")
    totals = [sum(sums) for sums in zip(*(r["sum"] for r in records), strict=True)]
    squares = [sum(sums) for sums in zip(*(r["square"] for r in records), strict=True)]
    return {
        "mean": [total / count for total in totals],
        "std": [
            (max(count * square - total * total, 0) / count**2) ** 0.5 or 1.0
            for total, square in zip(totals, squares, strict=True)
        ],
    }


def _write_header(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Write the header of a .npy file; return its length."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": tuple(map(int, shape)),
    }
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        return file.tell()
