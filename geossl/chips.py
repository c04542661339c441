"""The chip store: scenes decoded once into one array on disk, with its table and statistics."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import shutil
import zlib
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from geossl import scenes as scene_tables
from geossl.files import atomic
from geossl.readers.pixels import Pixels

FORMAT = 1
_CHUNK_BYTES = 2**22  # a thread holds about one chunk, so this bounds the memory of a build
_WORK = ".build"  # folder of an unfinished build, inside the store's


@dataclass(frozen=True, eq=False, repr=False)
class ChipStore:
    """Chips of one size in one memory-mapped array; made by `build` or `open`.

    Attributes:
        path: its folder: ``chips.npy``, ``scenes.parquet``, ``store.json``.
        scenes: the scene table; row i belongs to chip i.
        chips: ``(M, C, H, W)`` uint8 or uint16, read-only memory map.
        bands: names of the C bands.
        mean: ``(C,)`` float32 over all valid pixels, in stored units.
        std: ``(C,)`` float32 likewise; 1 for a band that is constant.
        dtype: "uint8" or "uint16".
        size_px: height and width of a chip.
        rgb: indices of the bands to show as red, green and blue, or of one to show as grey.
        info: all of ``store.json``: also units, source, and ``bad`` (path -> why it was left out).
    """

    path: Path
    scenes: pd.DataFrame
    chips: np.ndarray
    bands: list[str]
    mean: np.ndarray
    std: np.ndarray
    dtype: str
    size_px: int
    rgb: list[int]
    info: dict[str, Any]

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        scenes: pd.DataFrame,
        *,
        size_px: int,
        workers: int | None = None,
        skip_bad: bool = False,
        progress: bool = True,
        chunk: int = 256,
    ) -> ChipStore:
        """Decode the scenes of a table into a store, in parallel; a killed build goes on.

        A finished store of the same table and size is opened at once. A second process that
        builds the same store waits for the first. Memory: about ``workers`` chunks.

        Args:
            path: folder of the store.
            scenes: a scene table with a column ``reader``, as the readers make it.
            size_px: height and width of a chip.
            workers: threads that decode; all cores when None.
            skip_bad: leave unreadable scenes out, listed in ``info["bad"]``, in place of stopping.
            progress: show a progress bar.
            chunk: chips decoded and recorded together; fewer when they are large.

        Raises:
            ValueError: an unreadable scene (named); a table without reader; no valid pixel; the
                folder holds the store of other scenes or something else.
            OSError: the disk is full; the same call goes on when there is space again.
        """
        path = Path(path)
        for name, value in (("size_px", size_px), ("chunk", chunk), ("workers", workers or 1)):
            if value < 1:
                raise ValueError(f"expected {name} >= 1, came {value}")
        table = scene_tables.check(scenes)
        reader = _reader(table)
        plan = _Plan(path, table, reader, size_px, chunk)
        with _full_disk_in_a_sentence(path):
            if not plan.finished():
                plan.start()
                with _alone(plan.work):
                    if not plan.finished():  # by the process that this one waited for
                        plan.decode(workers or os.cpu_count() or 1, skip_bad, progress)
                        plan.publish()
            shutil.rmtree(plan.work, ignore_errors=True)
        store = cls.open(path)
        if store.info["bad"] and not skip_bad:
            name, reason = next(iter(store.info["bad"].items()))
            raise ValueError(
                f"the chip store {path} was built without {store.info['bad_rows']} unreadable "
                f"scenes ({name}: {reason}); give skip_bad=True to use it, or build another"
            )
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ChipStore:
        """Open a finished store; reads its table, and of the chips only the header.

        Raises:
            FileNotFoundError: there is no store, or its build is unfinished.
            ValueError: a newer version wrote it, or its files do not fit together.
        """
        path = Path(path)
        info = _read_info(path)
        try:
            chips = np.load(path / "chips.npy", mmap_mode="r")
            table = pd.read_parquet(path / "scenes.parquet")
            shape = (info["n"], len(info["bands"]), info["size_px"], info["size_px"])
            if chips.shape != shape or len(table) != len(chips) or chips.dtype != info["dtype"]:
                raise ValueError(
                    f"chips {chips.shape} {chips.dtype}, {len(table)} scenes, "
                    f"store.json says {shape} {info['dtype']}"
                )
            return cls(
                path=path,
                scenes=table,
                chips=chips,
                bands=info["bands"],
                mean=np.array(info["mean"], np.float32),
                std=np.array(info["std"], np.float32),
                dtype=info["dtype"],
                size_px=info["size_px"],
                rgb=info["rgb"],
                info=info,
            )
        except (ValueError, KeyError, FileNotFoundError) as error:
            raise _damaged(path, error) from error

    def __len__(self) -> int:
        return len(self.chips)

    def __repr__(self) -> str:
        shape = f"{len(self):,} chips of {len(self.bands)} x {self.size_px} x {self.size_px}"
        return f"ChipStore({shape} {self.dtype}, {str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ChipStore.open, (self.path,)

    def gather(self, index: ArrayLike | Tensor) -> Tensor:
        """Copies of some chips: ``(len(index), C, H, W)`` of the stored dtype, on the CPU."""
        return torch.from_numpy(self._take(index))

    def preview(self, index: ArrayLike | Tensor) -> np.ndarray:
        """Some chips as people see them: ``(len(index), H, W, 3)`` uint8.

        uint8 is shown as it is; uint16 is stretched from the 2nd to the 98th percentile of each
        band over the whole store, so that colours of different chips compare.
        """
        bands = (list(self.rgb) * 3)[:3] if len(self.rgb) == 1 else list(self.rgb)
        pixels = self._take(index)[:, bands]
        if pixels.dtype != np.uint8:
            low, high = (part[bands, None, None] for part in self._stretch)
            pixels = np.clip((pixels - low) / (high - low) * 255 + 0.5, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))

    def _take(self, index: ArrayLike | Tensor) -> np.ndarray:
        where = np.asarray(index.cpu() if isinstance(index, Tensor) else index)
        if where.size == 0:
            where = where.astype(np.int64)
        return np.ascontiguousarray(self.chips[where])

    @cached_property
    def _stretch(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high ``(C,)`` of each band, from some million pixels all over the store."""
        each = -(-len(self) // 256)
        step = -(-self.size_px // 64)
        some = np.array(self.chips[::each, :, ::step, ::step])
        pixels = some.transpose(1, 0, 2, 3).reshape(len(self.bands), -1)
        seen = pixels[:, pixels.any(0)]  # all bands zero: mostly no data
        low, high = np.percentile(seen if seen.size else pixels, [2, 98], axis=1)
        return low, np.maximum(high, low + 1)


class _Plan:
    """One build: what it makes of which scenes, and the folder that holds its progress.

    The folder has ``plan.json`` (of what), ``raw.npy`` (chips of all rows) and ``journal.jsonl``
    (a line per finished chunk, with a checksum of its pixels in ``raw.npy``). When all chunks are
    there, the store's files are made beside them; ``store.json`` tells that they only have to move.
    """

    def __init__(
        self, path: Path, table: pd.DataFrame, reader: ModuleType, size_px: int, chunk: int
    ):
        info = reader.pixel_info(table)
        self.path, self.table, self.reader, self.size_px = path, table, reader, size_px
        self.work = path / _WORK
        self.dtype = np.dtype(info["dtype"])
        self.shape = (len(table), len(info["bands"]), size_px, size_px)
        self.chip_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        self.chunk = max(1, min(chunk, _CHUNK_BYTES // self.chip_bytes))
        self.about = {key: info[key] for key in ("bands", "dtype", "rgb", "units", "source")}
        self.about = {"format": FORMAT, "size_px": size_px, **self.about}
        self.identity = _identity(table, self.shape, info)

    def finished(self) -> bool:
        """Whether the store is there; an error when the folder holds something else."""
        path, done = self.path, (self.path / "store.json").is_file()
        if path.exists() and not path.is_dir():
            raise ValueError(f"expected a folder for the chip store, {path} is a file")
        foreign = [n for n in ("chips.npy", "scenes.parquet") if (path / n).exists()]
        if foreign and not done and not self.work.is_dir():
            raise ValueError(
                f"expected an empty folder or a chip store, {path} has a {foreign[0]} that is "
                "neither; give another path"
            )
        if done:
            found = _read_info(path).get("identity")
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

    def start(self) -> None:
        """Make the folder, if there is space for the chips."""
        raw, parent = self.work / "raw.npy", self.path.absolute()
        while not parent.exists():
            parent = parent.parent
        there = getattr(raw.stat(), "st_blocks", 0) * 512 if raw.exists() else 0
        wanted, free = self.shape[0] * self.chip_bytes - there, shutil.disk_usage(parent).free
        if wanted > free and not (self.work / "store.json").exists():
            raise OSError(
                f"the chip store {self.path} needs {wanted / 1e6:,.0f} MB, {parent} has "
                f"{free / 1e6:,.0f} MB free; make space or give another path"
            )
        self.work.mkdir(parents=True, exist_ok=True)

    def decode(self, workers: int, skip_bad: bool, progress: bool) -> None:
        """Decode the chunks that the journal lacks, then make the store's files."""
        from tqdm import tqdm

        if (self.work / "store.json").exists():
            return
        if not (self.work / "plan.json").exists():
            scene_tables.write(self.table, self.work / "scenes.parquet")  # fails early, if it does
            start = _write_header(self.work / "raw.npy", self.shape, self.dtype)
            os.truncate(self.work / "raw.npy", start + self.shape[0] * self.chip_bytes)
            plan = {"identity": self.identity, "chunk": self.chunk}
            with atomic(self.work / "plan.json") as part:
                part.write_text(json.dumps(plan), "utf-8")
        self.chunk = json.loads((self.work / "plan.json").read_text("utf-8"))["chunk"]
        rows = self.shape[0]
        bar = tqdm(total=rows, desc="chips", unit="chip", unit_scale=True, disable=not progress)
        with bar:
            records = self._journal(skip_bad, bar.update)
            todo = (c for c in range(-(-rows // self.chunk)) if c not in records)
            with open(self.work / "journal.jsonl", "a", encoding="utf-8") as journal:
                with closing(self._work_off(todo, workers, skip_bad)) as work:
                    for record in work:
                        journal.write(f"\n{json.dumps(record)}")  # \n first: a line may be torn
                        journal.flush()
                        records[record["chunk"]] = record
                        bar.update(len(self._rows(record["chunk"])))
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

    def _work_off(
        self, todo: Iterator[int], workers: int, skip_bad: bool
    ) -> Generator[dict[str, Any], None, None]:
        with ThreadPoolExecutor(workers, thread_name_prefix="geossl-chips") as pool:
            running = {pool.submit(self._one, c, skip_bad) for c in islice(todo, workers + 1)}
            try:
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    running |= {
                        pool.submit(self._one, c, skip_bad) for c in islice(todo, len(done))
                    }
                    for job in done:
                        yield job.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _one(self, chunk: int, skip_bad: bool) -> dict[str, Any]:
        """Decode and store a chunk; its record for the journal, with exact integer sums."""
        rows = self._rows(chunk)
        table = self.table.iloc[rows.start : rows.stop].reset_index(drop=True)
        pixels: Pixels = self.reader.read_chips(table, size_px=self.size_px)
        chips = np.ascontiguousarray(pixels.chips)
        if chips.shape != (len(rows), *self.shape[1:]) or chips.dtype != self.dtype:
            raise ValueError(
                f"expected {self.dtype} chips {(len(rows), *self.shape[1:])} from the reader "
                f"{self.reader.__name__}, came {chips.dtype} {chips.shape}"
            )
        bad = {}
        for i in sorted(pixels.bad):
            path, reason = str(table["path"][i]), pixels.bad[i]
            if not skip_bad:
                named = reason if path in reason else f"{path}: {reason}"
                raise ValueError(f"{named}; give skip_bad=True to leave such scenes out")
            bad[str(rows.start + i)] = reason
        with open(self.work / "raw.npy", "rb+") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            file.seek(rows.start * self.chip_bytes, os.SEEK_CUR)
            file.write(chips.data)
        extra = {
            name: {"dtype": np.asarray(values).dtype.str, "values": np.asarray(values).tolist()}
            for name, values in pixels.extra.items()
        }
        sums = _sums(chips, pixels.valid, list(pixels.bad))
        return {"chunk": chunk, "crc": zlib.crc32(chips.data), "bad": bad, "extra": extra, **sums}

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
        scene_tables.write(table, self.work / "scenes.parquet")
        total, square = (
            np.array([r[key] for r in records], object).sum(0) for key in ("sum", "square")
        )  # whole numbers of any size: exact, in whatever order the chunks came
        mean = [s / count for s in total]
        std = [
            (max(count * q - s * s, 0) / count**2) ** 0.5 or 1.0
            for s, q in zip(total, square, strict=True)
        ]
        info = {**self.about, "n": len(table), "mean": mean, "std": std, "identity": self.identity,
                "bad": paths, "bad_rows": len(bad)}  # fmt: skip
        with open(self.work / "raw.npy", "rb+") as file:
            os.fsync(file.fileno())
        with atomic(self.work / "store.json") as part:
            part.write_text(json.dumps(info, indent=1), "utf-8")

    def _compact(self, good: np.ndarray) -> None:
        """Copy the good chips of ``raw.npy`` to ``chips.npy``, a part at a time."""
        chips = np.load(self.work / "raw.npy", mmap_mode="r")
        with atomic(self.work / "chips.npy") as part:
            _write_header(part, (len(good), *self.shape[1:]), self.dtype)
            with open(part, "ab") as file:
                for start in range(0, len(good), self.chunk):
                    file.write(np.ascontiguousarray(chips[good[start : start + self.chunk]]).data)


def _reader(table: pd.DataFrame) -> ModuleType:
    """The module that reads the pixels of a table: `geossl.readers.NAME` of its column reader."""
    names = list(table["reader"].unique()) if "reader" in table else []
    if len(names) != 1 or not str(names[0]).isidentifier():
        raise ValueError(
            "expected a scene table with one name of a reader in the column 'reader', came "
            f"{names or 'no such column'}; make the table with a function of geossl.readers"
        )
    name = f"geossl.readers.{names[0]}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(f"expected a reader of geossl.readers, came {names[0]!r}") from None


def _read_info(path: Path) -> dict[str, Any]:
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
        raise _damaged(path, error) from error
    if version > FORMAT:
        raise ValueError(
            f"the chip store {path} has format {version}, this geossl reads up to {FORMAT}; "
            "update geossl, or build the store again elsewhere"
        )
    return info


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"the chip store {path} is damaged ({type(error).__name__}: {error}); "
        "remove the folder and build it again"
    )


def _identity(table: pd.DataFrame, shape: tuple[int, ...], info: dict[str, Any]) -> str:
    """A hash of everything that decides what is in the store, except the files' contents."""
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


def _sums(chips: np.ndarray, valid: np.ndarray | None, bad: list[int]) -> dict[str, Any]:
    """Exact count, sum and sum of squares per band of the valid pixels ``(M, C, H, W)``."""
    bands = chips.shape[1]
    flat = chips.reshape(len(chips), bands, -1)  # (M, C, P)
    seen = np.ones((len(chips), flat.shape[2]), bool)
    if valid is not None:
        seen[:] = valid.reshape(seen.shape)
    seen[bad] = False
    total, square = np.zeros((2, bands), np.uint64)
    wide = max(1, 2**17 // bands)  # pixels at a time: 64-bit copies stay small
    tall = max(1, wide // flat.shape[2])
    for i in range(0, len(flat), tall):
        for j in range(0, flat.shape[2], wide):
            part = slice(i, i + tall), slice(None), slice(j, j + wide)
            whole = flat[part].astype(np.uint64) * seen[part[0], None, part[2]]
            total += whole.sum((0, 2))
            square += (whole * whole).sum((0, 2))
    count = int(seen.sum())
    return {"count": count, "sum": total.tolist(), "square": square.tolist()}


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Keep other processes out of a build, where the system has file locks; they wait."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(work / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        work.mkdir(exist_ok=True)  # the process before this one may have removed it
        yield


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
