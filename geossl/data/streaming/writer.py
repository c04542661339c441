"""Write a stream: chunks by many workers at once, published when the last one is complete."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geossl.data import scenes
from geossl.data.pixels import hash_rows
from geossl.data.store import ChipStore
from geossl.data.streaming.storage import Bucket, Folder, import_litdata, open_storage
from geossl.data.table_files import write
from geossl.utils.io import lock_folder
from geossl.utils.parallel import run_tasks
from geossl.utils.progress import progress_bar
from geossl.utils.validate import Positive, PositiveInt, Seed, validated

__all__ = ["CHUNK", "FORMAT", "INDEX", "INFO", "TABLE", "write_chunk", "write_stream"]

FORMAT = 1
INFO, TABLE, INDEX = "stream.json", "scenes.parquet", "index.json"
CHUNK = r"chunk-[0-9a-f]{8}-[0-9]+\.bin"
_WORK = ".writing"  # folder of the indexes of single chunks, inside the stream's
_MAX_CHUNK_BYTES = 2**31  # its offsets are 32 bits wide


@dataclass(frozen=True)
class Chunk:
    """What a worker needs to write a chunk."""

    number: int
    name: str  # of its file
    index_name: str  # of the file of its part of the index
    first_row: int  # of the stream
    rows: list[np.ndarray]  # of the chip store, for each location
    chips_path: str
    path: str
    storage_options: dict[str, Any] | None
    max_bytes: int  # that no chunk exceeds
    existing_bytes: int  # of a chunk that a killed writer left with its part of the index, or -1


class StreamPlan:
    """Order and chunks of the locations of a store in a stream."""

    def __init__(self, store: ChipStore, seed: int, chunk_mb: float):
        codes = scenes.location_codes(store.scenes)
        rank = np.random.default_rng(seed).permutation(codes.max() + 1)  # chunks sample the world
        time = store.scenes["time"].to_numpy("datetime64[us]")
        self.rows = np.lexsort((np.arange(len(codes)), time, rank[codes]))
        dates = np.bincount(rank[codes])
        chip_bytes = store.chips[:1].nbytes
        ends = np.cumsum(dates * chip_bytes)
        chunk = (ends - 1) // int(chunk_mb * 1e6)  # the last one may be small
        cuts = np.flatnonzero(np.diff(chunk, prepend=-1, append=chunk[-1] + 1))
        self.locations = np.diff(cuts)  # of each chunk
        self.starts = np.concatenate([[0], np.cumsum(dates)])[cuts]  # rows
        self.dates = np.split(dates, cuts[1:-1])
        sizes = np.diff(self.starts) * (chip_bytes + 8) + 16 * self.locations
        self.max_bytes = int(sizes.max()) + 64
        if self.max_bytes > _MAX_CHUNK_BYTES:
            raise ValueError(
                f"`chunk_mb` = {chunk_mb} gives chunks of {self.max_bytes / 1e9:.1f} GB with up to "
                f"{dates.max()} dates per location; they must be below 2 GB. Use a smaller "
                "`chunk_mb`."
            )
        self.table = store.scenes.iloc[self.rows].reset_index(drop=True)
        head = [FORMAT, list(store.chips.shape), store.dtype, store.info["mean"], store.info["std"]]
        head += [list(map(str, self.table.columns)), self.locations.tolist(), self.starts.tolist()]
        digest = hashlib.blake2b(json.dumps(head).encode(), digest_size=16)
        digest.update(hash_rows(self.table))
        self.identity = digest.hexdigest()

    def chunks(
        self, store: ChipStore, storage: Folder | Bucket, options: dict[str, Any] | None
    ) -> Iterator[Chunk]:
        """Yield the chunks to write."""
        path = storage.path if storage.remote else str(Path(storage.path).absolute())
        sizes, indexes = storage.sizes(), storage.sizes(_WORK)
        for number, dates in enumerate(self.dates):
            short = f"{self.identity[:8]}-{number}"
            name = f"chunk-{short}.bin"
            rows = self.rows[self.starts[number] : self.starts[number + 1]]
            yield Chunk(
                number=number,
                name=name,
                index_name=f"{_WORK}/{short}.json",
                first_row=int(self.starts[number]),
                rows=np.split(rows, np.cumsum(dates)[:-1]),
                chips_path=str((store.path / "chips.npy").absolute()),
                path=path,
                storage_options=options,
                max_bytes=self.max_bytes,
                existing_bytes=sizes.get(name, -1) if f"{short}.json" in indexes else -1,
            )


@validated
def write_stream(
    store: ChipStore,
    storage: Folder | Bucket,
    options: dict[str, Any] | None,
    *,
    seed: Seed,
    chunk_mb: Positive,
    num_workers: PositiveInt | None,
    dask: str | None,
    progress: bool,
) -> None:
    """Write the files of a stream, unless they exist; see `geossl.data.streaming.write`."""
    with import_litdata():
        import litdata
    plan = StreamPlan(store, seed, chunk_mb)
    with _locked(storage):
        if _is_finished(storage, plan.identity):
            return
        indexes = {}
        chunks = plan.chunks(store, storage, options)
        with (
            progress_bar(
                len(plan.rows), desc="stream", unit="chip", scale=True, show=progress
            ) as bar,
            closing(run_tasks(write_chunk, chunks, num_workers=num_workers, dask=dask)) as results,
        ):
            for chunk, text in results:
                indexes[chunk.number] = text
                bar.update(sum(map(len, chunk.rows)))
        info = {
            **{key: value for key, value in store.info.items() if key != "checks"},
            "format": FORMAT, "n": len(plan.table), "seed": seed,
            "identity": plan.identity, "locations": plan.locations.tolist(),
            "written_by": f"litdata {litdata.__version__}",
        }  # fmt: skip
        with _temporary_folder(storage) as folder:
            write(plan.table, folder / TABLE)
            for number, text in indexes.items():
                (folder / f"{number}.index.json").write_text(text, "utf-8")
            litdata.complete_dataset(str(folder))
            (folder / INFO).write_text(json.dumps(info, indent=1), "utf-8")
            for name in (TABLE, INDEX, INFO):  # the last one says that all is there
                storage.put(folder / name, name)
        used = {chunk["filename"] for chunk in json.loads(storage.read(INDEX))["chunks"]}
        storage.remove([n for n in storage.sizes() if re.fullmatch(CHUNK, n) and n not in used])
        storage.clear(_WORK)


@validated
def write_chunk(chunk: Chunk) -> str:
    """Write and publish one chunk, then its part of the index, which is returned."""
    with import_litdata():
        from litdata import TemporalArrayLoader
        from litdata.streaming.writer import BinaryWriter
    storage = open_storage(chunk.path, chunk.storage_options)
    if chunk.existing_bytes >= 0:
        text = storage.read(chunk.index_name).decode()
        if json.loads(text)["chunks"][0]["chunk_bytes"] == chunk.existing_bytes:
            return text
    chips, row = np.load(chunk.chips_path, mmap_mode="r"), chunk.first_row
    with _temporary_folder(storage) as folder:
        writer = BinaryWriter(
            str(folder), chunk_bytes=chunk.max_bytes, chunk_index=0,
            item_loader=TemporalArrayLoader(),
        )  # fmt: skip
        for i, rows in enumerate(chunk.rows):
            writer.add_item(i, {"chips": chips[rows], "row": np.arange(row, row + len(rows))})
            row += len(rows)
        (written,) = writer.done()
        (part,) = folder.glob("*.index.json")
        index = json.loads(part.read_text("utf-8"))
        index["chunks"][0] |= {
            "filename": chunk.name,
            "crc": zlib.crc32(Path(written).read_bytes()),
        }
        part.write_text(json.dumps(index), "utf-8")
        storage.put(Path(written), chunk.name)
        storage.put(part, chunk.index_name)
    return json.dumps(index)


def _is_finished(storage: Folder | Bucket, identity: str) -> bool:
    """Return whether this stream exists; raise an error if another one does."""
    try:
        existing = json.loads(storage.read(INFO)).get("identity")
    except FileNotFoundError:
        foreign = [name for name in storage.sizes() if name in (TABLE, INDEX, "store.json")]
        if foreign and not storage.sizes(_WORK):
            raise ValueError(
                f"`path` {storage.path} contains a {foreign[0]} that is not of a stream. Use "
                "another one."
            ) from None
        return False
    except (ValueError, AttributeError):
        existing = None
    if existing != identity:
        raise ValueError(
            f"`path` {storage.path} contains a stream of other scenes, another `seed` or another "
            "`chunk_mb`. Use another path, or remove this one."
        )
    return True


@contextmanager
def _locked(storage: Folder | Bucket) -> Iterator[None]:
    """Allow one writer at a time in a folder; in a bucket two would write the same bytes."""
    if storage.remote:
        yield
        return
    path = Path(storage.path)
    if path.is_file():
        raise ValueError(f"`path` {path} is a file. Use a folder for the stream.")
    path.mkdir(parents=True, exist_ok=True)
    with lock_folder(path):
        yield


@contextmanager
def _temporary_folder(storage: Folder | Bucket) -> Iterator[Path]:
    """Yield a temporary folder, on the disk of the stream where it has one."""
    parent = None
    if not storage.remote:
        parent = Path(storage.path) / _WORK
        parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="work-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
