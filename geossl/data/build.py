"""Build a chip store: in parallel, resumable, and published only when it is complete."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.data import scenes as scene_tables
from geossl.data import store_files
from geossl.data.decode import SUMS, Chunk, decode_chunk, statistics
from geossl.data.mend import is_intact, stale_chunks, stored_chunks
from geossl.data.pixels import hash_rows, split_constants
from geossl.data.readers import PIXEL_INFO, pixel_info_of, reader_name
from geossl.data.sources import FILE_COLUMNS, file_columns
from geossl.data.table_files import write
from geossl.utils.io import atomic_write, file_digest, load_json, lock_folder, replace_file
from geossl.utils.parallel import run_tasks
from geossl.utils.progress import progress_bar
from geossl.utils.validate import Fraction, PositiveInt, validated

__all__ = ["MAX_NODATA_SHARE", "ChipBuilder"]

MAX_NODATA_SHARE = 0.9  # of a chip; with more it shows nothing, and pairs with others like it
_JOURNAL = {"chunk", "crc", "bad", "extra", "nodata", "files", *SUMS}  # also of earlier versions
_CHUNK_BYTES = 2**22  # a thread holds about one chunk, so this bounds the memory of a build


class ChipBuilder:
    """Build one chip store in a work folder inside its own, then move the finished files out.

    The work folder has ``plan.json`` (identity of the store, size of a chunk), ``raw.npy`` (chips
    of all rows) and ``journal.jsonl`` (a line per finished chunk, with a checksum of its pixels).
    When all chunks are done, the store's files are written next to them, ``store.json`` last: from
    then on they only have to be moved. So a build that was killed resumes at any point. A finished
    store is mended in the same way: the chunks that are as they were come from its own files, see
    `geossl.data.mend`.

    Args:
        path: folder of the store.
        scenes: a scene table with the column ``reader``.
        size_px: height and width of a chip.
        chunk_size: chips that are decoded together, at most.
        max_nodata_share: a chip with a larger share of pixels without data is left out.
    """

    @validated
    def __init__(
        self,
        path: Path,
        scenes: pd.DataFrame,
        *,
        size_px: PositiveInt,
        chunk_size: PositiveInt,
        max_nodata_share: Fraction = MAX_NODATA_SHARE,
    ):
        table = scene_tables.check(scenes, positions=False)
        self.table = table.drop(columns=list(FILE_COLUMNS), errors="ignore")
        self.reader = reader_name(self.table)
        info = pixel_info_of(self.table, self.reader)
        self.path, self.work = path, path / store_files.WORK
        self.dtype = np.dtype(info["dtype"])
        self.shape = (len(self.table), len(info["bands"]), size_px, size_px)
        self.chip_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.chunk_size = max(1, min(chunk_size, _CHUNK_BYTES // self.chip_bytes))
        self.identity = _identity(self.table, self.shape, info)
        self.max_nodata_share = max_nodata_share
        if max_nodata_share != MAX_NODATA_SHARE:
            text = f"{self.identity} {max_nodata_share}"
            self.identity = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        self.info = {
            "format": store_files.FORMAT,
            "size_px": size_px,
            **{key: info[key] for key in PIXEL_INFO},
        }

    @validated
    def build(
        self,
        *,
        num_workers: PositiveInt | None,
        skip_bad: bool,
        progress: bool,
        dask: str | None,
        verify: bool = False,
    ) -> None:
        """Write the files of the store, unless they exist; see `ChipStore.build`."""
        try:
            self._check_folder()
            self.path.mkdir(parents=True, exist_ok=True)
            with lock_folder(self.path):
                is_finished, stale = self._is_finished(), set[int]()
                if is_finished:
                    stale = stale_chunks(self.path, self.table, verify=verify)
                if stale:
                    self._reuse(stale)
                if stale or not is_finished:
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
        """Refuse a file in place of a folder, and a disk or memory that is too small."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"`path` {self.path} is a file. Use a folder for the chip store.")
        if any((folder / "store.json").exists() for folder in (self.path, self.work)):
            return
        store_files.require_memory(self.chip_bytes, self.shape[-1])
        self._check_space()

    def _check_space(self) -> None:
        raw = self.work / "raw.npy"
        existing = getattr(raw.stat(), "st_blocks", 0) * 512 if raw.exists() else 0
        store_files.require_space(self.path, self.shape[0] * self.chip_bytes - existing)

    def _is_finished(self) -> bool:
        """Return whether the store exists; raise an error if the folder has something else."""
        finished, share = (self.path / "store.json").is_file(), None
        foreign = [n for n in ("chips.npy", "scenes.parquet") if (self.path / n).exists()]
        if foreign and not finished and not self.work.is_dir():
            raise ValueError(
                f"`path` {self.path} contains a {foreign[0]} that is not of a chip store. Use "
                "another folder."
            )
        if finished:
            info = store_files.read_store_json(self.path)
            identity, share = info.get("identity"), info.get("max_nodata_share")
        elif (self.work / "plan.json").is_file():
            identity = store_files.read_plan(self.work).get("identity")
        else:
            return False
        if identity != self.identity:
            state = "a" if finished else "an unfinished"
            if share not in (None, self.max_nodata_share):
                raise ValueError(
                    f"`path` {self.path} contains a chip store built with `max_nodata_share` = "
                    f"{share}, not {self.max_nodata_share}, or of other scenes. Use another folder."
                )
            raise ValueError(
                f"`path` {self.path} contains {state} chip store of other scenes or another "
                "`size_px`. Use another folder, or remove this one."
            )
        return finished

    def _decode(
        self, num_workers: int | None, skip_bad: bool, progress: bool, dask: str | None
    ) -> list[dict[str, Any]]:
        """Decode the chunks that the journal lacks; return the records of all."""
        self._prepare()
        records = self._read_journal(skip_bad)
        count, done = -(-self.shape[0] // self.chunk_size), sum(map(len, map(self._rows, records)))
        chunks = self._chunks((n for n in range(count) if n not in records), skip_bad, bool(dask))
        with (
            open(self.work / "journal.jsonl", "a", encoding="utf-8") as journal,
            progress_bar(self.shape[0], initial=done, desc="chips", unit="chip", scale=True,
                         show=progress) as bar,
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
        plan = self.work / "plan.json"
        if plan.exists() and not store_files.has_array(self.work / "raw.npy", self.shape):
            shutil.rmtree(self.work)  # it was published, or is damaged
        self.work.mkdir(exist_ok=True)
        if not plan.exists():
            write(self.table, self.work / "scenes.parquet")  # fails early, if it does
            start = store_files.write_header(self.work / "raw.npy", self.shape, self.dtype)
            os.truncate(self.work / "raw.npy", start + self.shape[0] * self.chip_bytes)
            with atomic_write(plan) as part:
                content = {"identity": self.identity, "chunk": self.chunk_size}
                part.write_text(json.dumps(content), "utf-8")
        self.chunk_size = store_files.read_plan(self.work)["chunk"]

    def _reuse(self, stale: set[int]) -> None:
        """Begin a build of a finished store with those of its chunks that are not stale."""
        self._check_space()
        (self.work / "store.json").unlink(missing_ok=True)
        self.chunk_size = store_files.read_store_json(self.path)["checks"]["rows"]
        self._prepare()
        done = {*stale, *self._read_journal(skip_bad=True)}
        raw = np.load(self.work / "raw.npy", mmap_mode="r+")
        with open(self.work / "journal.jsonl", "a", encoding="utf-8") as journal:
            for record, kept, chips in stored_chunks(self.path, self.chunk_size, without=done):
                raw[self._rows(record["chunk"]).start + np.flatnonzero(kept)] = chips
                journal.write(f"\n{json.dumps(record)}")
        raw.flush()

    def _read_journal(self, skip_bad: bool) -> dict[int, dict[str, Any]]:
        """Return the records of the chunks whose pixels are in ``raw.npy`` as they were written.

        Files that changed since are read again; those that went leave what was read.
        """
        path, records = self.work / "journal.jsonl", {}
        text = path.read_text("utf-8", errors="replace") if path.exists() else ""
        for line in text.splitlines():
            try:
                record = json.loads(line)
                is_whole = _JOURNAL <= set(record) and 0 <= record["chunk"] * self.chunk_size
                if is_whole and (skip_bad or not record["bad"]):
                    records[record["chunk"]] = record
            except (ValueError, TypeError, KeyError):
                continue  # torn when the build was killed
        chips = np.load(self.work / "raw.npy", mmap_mode="r")
        rows = {number: self._rows(number) for number in records}
        parts = {number: slice(part.start, part.stop) for number, part in rows.items()}
        return {
            number: record
            for number, record in records.items()
            if is_intact(record, self.table.iloc[parts[number]], chips[parts[number]])
        }

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
                max_nodata_share=self.max_nodata_share,
            )

    def _finish(self, records: list[dict[str, Any]]) -> None:
        """Write the store's files to the work folder, ``store.json`` last."""
        bad = {int(row): reason for record in records for row, reason in record["bad"].items()}
        table, files = self.table, [state for record in records for state in record["files"]]
        nodata = np.concatenate([record["nodata"] for record in records])
        if len(bad) == len(table):
            raise ValueError(f"None of the {len(bad)} scenes can be read; the first: {bad[0]}")
        extra = {name: first["dtype"] for name, first in records[0]["extra"].items()}
        for name, kind in extra.items():
            dtype = None if "U" in kind else kind  # texts are of any length
            parts = [np.array(record["extra"][name]["values"], dtype) for record in records]
            table = table.assign(**{name: np.concatenate(parts)})
        table = table.assign(nodata_share=nodata, **file_columns(files))
        paths = {str(table["path"][row]): reason for row, reason in bad.items()}
        good = np.setdiff1d(np.flatnonzero(nodata <= self.max_nodata_share), list(bad))
        about_pixels = statistics(records)
        if len(good) < len(table):
            self._copy_chips(good)
        left_out = [
            [int(row), *(files[row] or [None, None]), bad.get(int(row))]
            for row in np.setdiff1d(np.arange(len(table)), good)
        ]
        table, pixels = split_constants(table.iloc[good].reset_index(drop=True))
        write(table, self.work / "scenes.parquet")
        info = {**self.info, "n": len(table), **about_pixels, "identity": self.identity,
                "bad": paths, "bad_rows": len(bad), "pixels": pixels,
                "max_nodata_share": self.max_nodata_share,
                "empty_rows": len(left_out) - len(bad)}  # fmt: skip
        kept = [{key: record[key] for key in ("crc", *SUMS) if key in record}
                | {"square": list(map(str, record["square"]))}  # may exceed 64 bits
                for record in records]  # fmt: skip
        checks = {"rows": self.chunk_size, "total": len(self.table), "left_out": left_out,
                  "table": file_digest(self.work / "scenes.parquet"), "extra": extra,
                  "records": kept}  # fmt: skip
        checks["info"] = store_files.info_crc({**info, "checks": checks})
        with open(self.work / "raw.npy", "rb+") as file:
            os.fsync(file.fileno())
        with atomic_write(self.work / "store.json") as part:
            text = json.dumps(info, indent=1).removesuffix("\n}")
            part.write_text(f'{text},\n "checks": {json.dumps(checks)}\n}}', "utf-8")

    def _copy_chips(self, rows: np.ndarray) -> None:
        """Copy some chips of ``raw.npy`` to ``chips.npy``, a chunk at a time."""
        chips = np.load(self.work / "raw.npy", mmap_mode="r")
        with atomic_write(self.work / "chips.npy") as part:
            store_files.write_header(part, (len(rows), *self.shape[1:]), self.dtype)
            with open(part, "ab") as file:
                for start in range(0, len(rows), self.chunk_size):
                    some = chips[rows[start : start + self.chunk_size]]
                    file.write(np.ascontiguousarray(some).data)

    def _publish(self) -> None:
        """Move the files to the store's folder, ``store.json`` last; can be repeated."""
        if (self.work / "store.json").exists():
            (self.path / "store.json").unlink(missing_ok=True)  # of a store that was mended
            count = load_json(self.work / "store.json", max_bytes=2**30)["n"]
            chips = self.work / ("raw.npy" if count == self.shape[0] else "chips.npy")
            for source, name in (
                (chips, "chips.npy"),
                (self.work / "scenes.parquet", "scenes.parquet"),
                (self.work / "store.json", "store.json"),
            ):
                if source.exists():
                    replace_file(source, self.path / name)


def _identity(table: pd.DataFrame, shape: tuple[int, ...], info: dict[str, Any]) -> str:
    """Return a hash of all that decides the content of the store, except the files' content."""
    head = json.dumps([list(map(str, table.columns)), shape, info["bands"], info["dtype"]])
    return hashlib.blake2b(head.encode() + hash_rows(table), digest_size=16).hexdigest()
