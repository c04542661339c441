"""Writing a stream: chunks by many workers at once, published only when the last one is there."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.data import scenes
from geossl.data.store import ChipStore
from geossl.data.streaming.storage import Storage, import_boto3, open_storage
from geossl.data.table_files import write
from geossl.utils.io import lock_folder
from geossl.utils.parallel import run_tasks

FORMAT = 1
INFO, TABLE, INDEX = "stream.json", "scenes.parquet", "index.json"
CHUNK = r"chunk-[0-9a-f]{8}-[0-9]+\.bin"
_WORK = ".writing"  # folder of the indexes of single chunks, inside the stream's
_LARGEST = 2**31  # bytes of a chunk; its offsets are 32 bits wide


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of one chunk."""

    number: int
    name: str  # file of the chunk
    index: str  # file of its part of the index
    first: int  # row of the stream
    rows: list[np.ndarray]  # rows of the chip store, of each location
    chips: str
    path: str
    options: dict[str, Any] | None
    most: int  # bytes that no chunk exceeds
    there: int  # bytes of the chunk that a killed writer left with its part of the index, or -1


class Plan:
    """What a stream will hold, in which order and in which chunks."""

    def __init__(self, store: ChipStore, seed: int, chunk_mb: float):
        codes = scenes.location_codes(store.scenes)
        places = codes.max() + 1
        turn = np.random.default_rng(seed).permutation(places)  # chunks are samples of the world
        when = store.scenes["time"].to_numpy("datetime64[us]")
        self.rows = np.lexsort((np.arange(len(codes)), when, turn[codes]))
        dates = np.bincount(turn[codes])
        chip_bytes = store.chips[:1].nbytes
        ends = np.cumsum(dates * chip_bytes)
        chunk = (ends - 1) // int(chunk_mb * 1e6)  # the last one may be small
        cuts = np.flatnonzero(np.diff(chunk, prepend=-1, append=chunk[-1] + 1))
        self.locations = np.diff(cuts)  # of each chunk
        self.starts = np.concatenate([[0], np.cumsum(dates)])[cuts]  # rows
        self.dates = np.split(dates, cuts[1:-1])
        wanted = np.diff(self.starts) * (chip_bytes + 8) + 16 * self.locations
        self.most = int(wanted.max()) + 64
        if self.most > _LARGEST:
            raise ValueError(
                f"expected chunks below 2 GB, came {self.most / 1e9:.1f} GB with chunk_mb = "
                f"{chunk_mb} and up to {dates.max()} dates a location; lower chunk_mb"
            )
        self.table = store.scenes.iloc[self.rows].reset_index(drop=True)
        text = {name: str for name in self.table.columns if self.table[name].dtype == object}
        hashed = pd.util.hash_pandas_object(self.table.astype(text), index=False).to_numpy()
        head = [FORMAT, list(store.chips.shape), store.dtype, store.info["mean"], store.info["std"]]
        head += [list(map(str, self.table.columns)), self.locations.tolist(), self.starts.tolist()]
        self.identity = hashlib.blake2b(
            json.dumps(head).encode() + hashed.tobytes(), digest_size=16
        ).hexdigest()

    def jobs(self, store: ChipStore, at: Storage, options: dict[str, Any] | None) -> Iterator[Job]:
        """One of each chunk."""
        short = self.identity[:8]
        path = at.path if at.remote else str(Path(at.path).absolute())
        chunks, begun = at.sizes(), at.sizes(_WORK)
        for number, dates in enumerate(self.dates):
            name = f"{short}-{number}"
            rows = self.rows[self.starts[number] : self.starts[number + 1]]
            yield Job(
                number=number,
                name=f"chunk-{name}.bin",
                index=f"{_WORK}/{name}.json",
                first=int(self.starts[number]),
                rows=np.split(rows, np.cumsum(dates)[:-1]),
                chips=str((store.path / "chips.npy").absolute()),
                path=path,
                options=options,
                most=self.most,
                there=chunks.get(f"chunk-{name}.bin", -1) if f"{name}.json" in begun else -1,
            )


def write_stream(
    store: ChipStore,
    at: Storage,
    options: dict[str, Any] | None,
    *,
    seed: int,
    chunk_mb: float,
    num_workers: int | None,
    dask: str | None,
    progress: bool,
) -> None:
    """Make the files of a stream, or find that they are there; see `geossl.data.streaming.write`."""
    if not chunk_mb > 0:
        raise ValueError(f"expected chunk_mb > 0, came {chunk_mb}")
    from tqdm import tqdm

    with import_boto3():
        import litdata
    plan = Plan(store, seed, chunk_mb)
    with _alone(at):
        if _finished(at, plan.identity):
            return
        entries = {}
        with (
            tqdm(total=len(plan.rows), unit="chip", unit_scale=True, disable=not progress) as bar,
            closing(
                run_tasks(
                    write_chunk, plan.jobs(store, at, options), num_workers=num_workers, dask=dask
                )
            ) as work,
        ):
            for job, text in work:
                entries[job.number] = text
                bar.update(sum(map(len, job.rows)))
        info = {
            **store.info, "format": FORMAT, "n": len(plan.table), "seed": seed,
            "identity": plan.identity, "locations": plan.locations.tolist(),
            "written_by": f"litdata {litdata.__version__}",
        }  # fmt: skip
        with _folder(at) as folder:
            plan.table.attrs = {}
            write(plan.table, folder / TABLE)
            at.put(folder / TABLE, TABLE)
            for number, text in entries.items():
                (folder / f"{number}.index.json").write_text(text, "utf-8")
            litdata.complete_dataset(str(folder))
            at.put(folder / INDEX, INDEX)
            (folder / INFO).write_text(json.dumps(info, indent=1), "utf-8")
            at.put(folder / INFO, INFO)  # last: it tells that all is there
        kept = {chunk["filename"] for chunk in json.loads(at.read(INDEX))["chunks"]}
        at.remove([n for n in at.sizes() if re.fullmatch(CHUNK, n) and n not in kept])
        at.clear(_WORK)


def write_chunk(job: Job) -> str:
    """Write and publish one chunk, then its part of the index, which is returned."""
    with import_boto3():
        from litdata import TemporalArrayLoader
        from litdata.streaming.writer import BinaryWriter
    at, chips = open_storage(job.path, job.options), np.load(job.chips, mmap_mode="r")
    if job.there >= 0:
        text = at.read(job.index).decode()
        if json.loads(text)["chunks"][0]["chunk_bytes"] == job.there:
            return text
    first = job.first
    with _folder(at) as work:
        writer = BinaryWriter(
            str(work), chunk_bytes=job.most, chunk_index=0, item_loader=TemporalArrayLoader()
        )
        for i, rows in enumerate(job.rows):
            writer.add_item(i, {"chips": chips[rows], "row": np.arange(first, first + len(rows))})
            first += len(rows)
        (written,) = writer.done()
        (part,) = work.glob("*.index.json")
        index = json.loads(part.read_text("utf-8"))
        index["chunks"][0]["filename"] = job.name
        part.write_text(json.dumps(index), "utf-8")
        at.put(Path(written), job.name)
        at.put(part, job.index)
    return json.dumps(index)


def _finished(at: Storage, identity: str) -> bool:
    """Whether this stream is there; an error when it is another one."""
    try:
        found = json.loads(at.read(INFO)).get("identity")
    except FileNotFoundError:
        foreign = [name for name in at.sizes() if name in (TABLE, INDEX, "store.json")]
        if foreign and not at.sizes(_WORK):
            raise ValueError(
                f"expected an empty place or a stream, {at.path} has a {foreign[0]} that is "
                "neither; give another path"
            ) from None
        return False
    except (ValueError, AttributeError):
        found = None
    if found != identity:
        raise ValueError(
            f"{at.path} holds a stream of other scenes, another seed or another chunk_mb; remove "
            "it or give another path"
        )
    return True


@contextmanager
def _alone(at: Storage) -> Iterator[None]:
    """One writer at a time in a folder; in a bucket two would write the same bytes."""
    if at.remote:
        yield
        return
    if Path(at.path).is_file():
        raise ValueError(f"expected a folder for the stream, {at.path} is a file")
    Path(at.path).mkdir(parents=True, exist_ok=True)
    with lock_folder(Path(at.path)):
        yield


@contextmanager
def _folder(at: Storage) -> Iterator[Path]:
    """A folder for one piece of work, on the disk of the stream where it has one."""
    home = None
    if not at.remote:
        home = Path(at.path) / _WORK
        home.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=home, prefix="work-"))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
