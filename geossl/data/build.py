"""How a chip store is built: in parallel, resumable, and published only when it is whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.data import scenes as scene_tables
from geossl.data.decode import Job, decode
from geossl.data.pixels import PIXEL_COLUMNS, split_constants
from geossl.data.readers import Reader, get_reader
from geossl.data.table_files import write
from geossl.utils.io import atomic_write, lock_folder
from geossl.utils.parallel import run_tasks

FORMAT = 1
_CHUNK_BYTES = 2**22  # a thread holds about one chunk, so this bounds the memory of a build
_WORK = ".build"  # folder of an unfinished build, inside the store's


def build_store(
    path: Path,
    scenes: pd.DataFrame,
    size_px: int,
    num_workers: int | None,
    skip_bad: bool,
    progress: bool,
    chunk_size: int,
    dask: str | None = None,
) -> None:
    """Make the files of a store, or find that they are there; see `ChipStore.build`."""
    for name, value in (
        ("size_px", size_px),
        ("chunk_size", chunk_size),
        ("num_workers", num_workers or 1),
    ):
        if value < 1:
            raise ValueError(f"expected {name} >= 1, came {value}")
    table = scene_tables.check(scenes, positions=False)
    plan = Plan(path, table, *_reader(table), size_px, chunk_size)
    with _full_disk_in_a_sentence(path):
        plan.start()
        with lock_folder(path):
            if not plan.finished():
                plan.decode(num_workers, skip_bad, progress, dask)
                plan.publish()
            shutil.rmtree(plan.work, ignore_errors=True)


class Plan:
    """One build: what it makes of which scenes, and the folder that holds its progress.

    The folder has ``plan.json`` (of what), ``raw.npy`` (chips of all rows) and ``journal.jsonl``
    (a line per finished chunk, with a checksum of its pixels in ``raw.npy``). When all chunks are
    there, the store's files are made beside them; ``store.json`` tells that they only have to move.
    """

    def __init__(
        self,
        path: Path,
        table: pd.DataFrame,
        name: str,
        reader: Reader,
        size_px: int,
        chunk_size: int,
    ):
        info = reader.pixel_info(table)
        self.path, self.table, self.reader, self.size_px = path, table, name, size_px
        self.work = path / _WORK
        self.dtype = np.dtype(info["dtype"])
        self.shape = (len(table), len(info["bands"]), size_px, size_px)
        self.chip_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        self.chunk = max(1, min(chunk_size, _CHUNK_BYTES // self.chip_bytes))
        self.about = {key: info[key] for key in ("bands", "dtype", "rgb", "units", "source")}
        self.about = {"format": FORMAT, "size_px": size_px, **self.about}
        self.identity = _identity(table, self.shape, info)

    def start(self) -> None:
        """Make the store's folder, if there is space for the chips."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"expected a folder for the chip store, {self.path} is a file")
        if not any((at / "store.json").exists() for at in (self.path, self.work)):
            parent = self.path.absolute()
            while not parent.exists():
                parent = parent.parent
            try:
                there = getattr((self.work / "raw.npy").stat(), "st_blocks", 0) * 512
            except FileNotFoundError:
                there = 0
            wanted, free = self.shape[0] * self.chip_bytes - there, shutil.disk_usage(parent).free
            if wanted > free:
                raise OSError(
                    f"the chip store {self.path} needs {wanted / 1e6:,.0f} MB, {parent} has "
                    f"{free / 1e6:,.0f} MB free; make space or give another path"
                )
        self.path.mkdir(parents=True, exist_ok=True)

    def finished(self) -> bool:
        """Whether the store is there; an error when the folder holds something else."""
        path, done = self.path, (self.path / "store.json").is_file()
        foreign = [n for n in ("chips.npy", "scenes.parquet") if (path / n).exists()]
        if foreign and not done and not self.work.is_dir():
            raise ValueError(
                f"expected an empty folder or a chip store, {path} has a {foreign[0]} that is "
                "neither; give another path"
            )
        if done:
            found = read_store_json(path).get("identity")
        elif (self.work / "plan.json").is_file():
            found = json.loads((self.work / "plan.json").read_text("utf-8"))["identity"]
        else:
            return False
        if found != self.identity:
            state = "a" if done else "an unfinished"
            raise ValueError(
                f"{path} holds {state} chip store of other scenes or another size; "
                "remove the folder or give another path"
            )
        return done

    def decode(
        self, num_workers: int | None, skip_bad: bool, progress: bool, dask: str | None
    ) -> None:
        """Decode the chunks that the journal lacks, then make the store's files."""
        from tqdm import tqdm

        if (self.work / "store.json").exists():
            return
        self.work.mkdir(exist_ok=True)
        if not (self.work / "plan.json").exists():
            write(self.table, self.work / "scenes.parquet")  # fails early, if it does
            start = _write_header(self.work / "raw.npy", self.shape, self.dtype)
            os.truncate(self.work / "raw.npy", start + self.shape[0] * self.chip_bytes)
            plan = {"identity": self.identity, "chunk": self.chunk}
            with atomic_write(self.work / "plan.json") as part:
                part.write_text(json.dumps(plan), "utf-8")
        self.chunk = json.loads((self.work / "plan.json").read_text("utf-8"))["chunk"]
        rows, count = self.shape[0], -(-self.shape[0] // self.chunk)
        bar = tqdm(total=rows, desc="chips", unit="chip", unit_scale=True, disable=not progress)
        with bar:
            records = self._journal(skip_bad, bar.update)
            todo = self._jobs((c for c in range(count) if c not in records), skip_bad, bool(dask))
            with open(self.work / "journal.jsonl", "a", encoding="utf-8") as journal:
                with (
                    warnings.catch_warnings(),  # here, for it is not safe within threads
                    closing(run_tasks(decode, todo, num_workers=num_workers, dask=dask)) as work,
                ):
                    warnings.filterwarnings("ignore", "Dataset has no geotransform")
                    for job, record in work:
                        journal.write(f"\n{json.dumps(record)}")  # \n first: a line may be torn
                        journal.flush()
                        records[record["chunk"]] = record
                        bar.update(len(job.rows))
        if dask:  # is what the others wrote there, seen from here?
            records = self._journal(skip_bad, lambda n: None)
            if len(records) < count:
                raise OSError(
                    f"{count - len(records)} of {count} parts of {self.work / 'raw.npy'} do not "
                    f"hold what the workers of {dask} wrote; the folder must be on a file system "
                    "that all share, then the same command goes on"
                )
        self._finish([records[c] for c in sorted(records)])

    def publish(self) -> None:
        """Move the files to their place, ``store.json`` last; may be repeated at any point."""
        if not (self.path / "chips.npy").exists():
            good = self.work / "chips.npy"
            os.replace(good if good.exists() else self.work / "raw.npy", self.path / "chips.npy")
        for name in ("scenes.parquet", "store.json"):
            if (self.work / name).exists():
                os.replace(self.work / name, self.path / name)

    def _rows(self, chunk: int) -> range:
        return range(self.shape[0])[chunk * self.chunk : (chunk + 1) * self.chunk]

    def _journal(self, skip_bad: bool, tell: Any) -> dict[int, dict[str, Any]]:
        """Records of the chunks whose pixels are in ``raw.npy`` as they were written."""
        path, records = self.work / "journal.jsonl", {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # torn when the build was killed
            if skip_bad or not record["bad"]:
                records[record["chunk"]] = record
        chips = np.load(self.work / "raw.npy", mmap_mode="r")
        for c, record in list(records.items()):
            rows = self._rows(c)
            if zlib.crc32(chips[rows.start : rows.stop].tobytes()) == record["crc"]:
                tell(len(rows))
            else:
                del records[c]
        return records

    def _jobs(self, chunks: Iterator[int], skip_bad: bool, sync: bool) -> Iterator[Job]:
        raw, table = self.work.absolute() / "raw.npy", self.table.copy(deep=False)
        table.attrs = {}  # may be long
        start = raw.stat().st_size - self.shape[0] * self.chip_bytes
        for chunk in chunks:
            first = self._rows(chunk).start
            rows = table.take(np.array(self._rows(chunk))).reset_index(drop=True)
            for name in rows.columns[rows.dtypes == "category"]:  # they may be as many as the rows
                rows[name] = rows[name].cat.remove_unused_categories()
            yield Job(
                chunk=chunk,
                first=first,
                rows=rows,
                reader=self.reader,
                shape=self.shape[1:],
                dtype=self.dtype.str,
                skip_bad=skip_bad,
                raw=str(raw),
                at=start + first * self.chip_bytes,
                sync=sync,
                folder=os.getcwd(),
            )

    def _finish(self, records: list[dict[str, Any]]) -> None:
        """The store's files in the work folder, ``store.json`` last."""
        bad = {int(row): reason for r in records for row, reason in r["bad"].items()}
        table = self.table
        for name, first in records[0]["extra"].items():
            kind = None if "U" in first["dtype"] else first["dtype"]  # texts are of any length
            parts = [np.array(r["extra"][name]["values"], kind) for r in records]
            table = table.assign(**{name: np.concatenate(parts)})
        count = sum(r["count"] for r in records)
        if len(bad) == len(table):
            raise ValueError(f"none of the {len(bad)} scenes can be read; the first: {bad[0]}")
        if count == 0:
            raise ValueError(f"expected some valid pixels, all {len(table)} chips have no data")
        paths = {str(table["path"][row]): reason for row, reason in bad.items()}
        good = np.setdiff1d(np.arange(len(table)), list(bad))
        if bad:
            self._compact(good)
            table = table.iloc[good].reset_index(drop=True)
        table, pixels = split_constants(table)
        write(table, self.work / "scenes.parquet")
        total, square = (
            np.array([r[key] for r in records], object).sum(0) for key in ("sum", "square")
        )  # whole numbers of any size: exact, in whatever order the chunks came
        mean = [s / count for s in total]
        std = [
            (max(count * q - s * s, 0) / count**2) ** 0.5 or 1.0
            for s, q in zip(total, square, strict=True)
        ]
        info = {**self.about, "n": len(table), "mean": mean, "std": std, "identity": self.identity,
                "bad": paths, "bad_rows": len(bad), "pixels": pixels}  # fmt: skip
        with open(self.work / "raw.npy", "rb+") as file:
            os.fsync(file.fileno())
        with atomic_write(self.work / "store.json") as part:
            part.write_text(json.dumps(info, indent=1), "utf-8")

    def _compact(self, good: np.ndarray) -> None:
        """Copy the good chips of ``raw.npy`` to ``chips.npy``, a part at a time."""
        chips = np.load(self.work / "raw.npy", mmap_mode="r")
        with atomic_write(self.work / "chips.npy") as part:
            _write_header(part, (len(good), *self.shape[1:]), self.dtype)
            with open(part, "ab") as file:
                for start in range(0, len(good), self.chunk):
                    file.write(np.ascontiguousarray(chips[good[start : start + self.chunk]]).data)


def _reader(table: pd.DataFrame) -> tuple[str, Reader]:
    """The reader of a table and its name, by the column ``reader``."""
    names = list(table["reader"].unique()) if "reader" in table else []
    if len(names) != 1 or not isinstance(names[0], str):
        raise ValueError(
            "`scenes` needs one reader in its column 'reader', got "
            f"{names or 'no such column'}. Make the table with a function of geossl.datasets."
        )
    return names[0], get_reader(names[0])


def read_store_json(path: Path) -> dict[str, Any]:
    """The content of a store's ``store.json``, of a format that this version reads."""
    if not (path / "store.json").is_file():
        state = "an unfinished build" if (path / _WORK).is_dir() else "no store.json"
        raise FileNotFoundError(
            f"expected a chip store at {path}, found {state}; "
            "ChipStore.build makes it, and goes on where a build stopped"
        )
    try:
        info = json.loads((path / "store.json").read_text("utf-8"))
        version = int(info["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_store_error(path, error) from error
    if version > FORMAT:
        raise ValueError(
            f"the chip store {path} has format {version}, this geossl reads up to {FORMAT}; "
            "update geossl, or build the store again elsewhere"
        )
    return info


def damaged_store_error(path: Path, error: Exception) -> ValueError:
    """The error for a store whose files do not fit together."""
    return ValueError(
        f"the chip store {path} is damaged ({type(error).__name__}: {error}); "
        "remove the folder and build it again"
    )


def _identity(table: pd.DataFrame, shape: tuple[int, ...], info: dict[str, Any]) -> str:
    """A hash of everything that decides what is in the store, except the files' contents."""
    for name in table.columns.intersection(PIXEL_COLUMNS):  # version 0.1 repeated the values
        if isinstance(table[name].dtype, pd.CategoricalDtype):
            table = table.assign(**{name: table[name].astype(table[name].cat.categories.dtype)})
    text = {name: str for name in table.columns if table[name].dtype == object}
    rows = pd.util.hash_pandas_object(table.astype(text), index=False).to_numpy()
    head = json.dumps([list(map(str, table.columns)), shape, info["bands"], info["dtype"]])
    return hashlib.blake2b(head.encode() + rows.tobytes(), digest_size=16).hexdigest()


def _write_header(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Write the start of a .npy file; returns its length, where the data begin."""
    head = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": tuple(map(int, shape)),
    }
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        return file.tell()


@contextmanager
def _full_disk_in_a_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            f"the disk of the chip store {path} is full, the build is unfinished; "
            "make space and give the same command again: it goes on where it stopped"
        ) from error
