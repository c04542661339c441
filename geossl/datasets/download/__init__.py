"""`geossl fetch`: public data sets, each from its own address, whole and checked or not at all."""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from geossl.datasets.download.archive import inside, unpack
from geossl.datasets.download.catalog import SETS, File, PublicData
from geossl.datasets.download.http import AT_ONCE, Resuming, in_bucket
from geossl.utils.io import atomic_write
from geossl.utils.parallel import run_tasks


def fetch(name: str, *, output_dir: str | os.PathLike[str] = "data", progress: bool = True) -> Path:
    """Download a public data set; a call that was stopped goes on, a second one returns at once.

    The set comes to ``out/name`` when it is whole; until then its files are in ``out/name.part``,
    where a file that was downloaded by hand is taken as well. Checksums are those of
    `public_data`. ``out/name.sha256`` (for ``sha256sum``) records what came; a file whose checksum
    nobody states must be the same when it is fetched again (trust on first use).

    Args:
        name: one of `public_data.SETS`.
        output_dir: the folder of all sets.
        progress: show a progress bar.

    Returns:
        The folder of the set; of an archive that holds one folder, that folder.

    Raises:
        ValueError: an unknown name; another checksum; an archive that `unpack` refuses.
        ConnectionError: no network, or the server has no such file; says what to do by hand.
        OSError: too little space on the disk.
        ImportError: without the package pooch.
    """
    if name not in SETS:
        raise ValueError(f"expected one of {', '.join(SETS)}, came {name!r}")
    data, folder, part = SETS[name], Path(output_dir) / name, Path(output_dir) / f"{name}.part"
    if not folder.is_dir():
        part.mkdir(parents=True, exist_ok=True)
        try:
            _download(name, data, part, progress)
            if data.unpacked:
                _unpack(part / data.files[0].path, folder, data)
                shutil.rmtree(part)
            else:
                os.rename(part, folder)
        finally:
            if part.is_dir() and not any(part.iterdir()):
                part.rmdir()
    within = list(folder.iterdir())
    return within[0] if data.unpacked and len(within) == 1 and within[0].is_dir() else folder


def listing() -> list[str]:
    """The sets that `fetch` knows, two lines each."""
    lines = []
    for name, data in SETS.items():
        about = "" if data.files else "about "
        lines.append(f"{name:12} {about + _megabytes(data):>13}  {data.what}")
        lines.append(f"{'':27} {data.license}; {data.page}")
    return lines


def _megabytes(data: PublicData) -> str:
    return f"{(sum(file.size for file in data.files) or data.size) / 1e6:,.0f} MB"


def _download(name: str, data: PublicData, part: Path, progress: bool) -> None:
    """All files of a set into ``part``, and their checksums beside it."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            f"fetch needs the package pooch ({error}); pip install 'geossl[fetch]', or download "
            f"{name} by hand from {data.page}"
        ) from None
    from tqdm import tqdm

    sums = part.with_name(f"{name}.sha256")
    known = _read_sums(sums)
    files = data.files or tuple(in_bucket(data))
    missing = [file for file in files if not (part / inside(file.path, data.page)).exists()]
    wanted = sum(file.size for file in missing) + data.unpacked
    free = shutil.disk_usage(part).free
    if wanted > free:
        raise OSError(
            f"{name} needs {wanted / 1e6:,.0f} MB, {part.parent} has {free / 1e6:,.0f} MB free; "
            "make space or give another folder"
        )
    bar = tqdm(total=sum(file.size for file in files), desc=name, unit="B", unit_scale=True,
               disable=not progress)  # fmt: skip
    lock = threading.Lock()

    def tell(more: int) -> None:
        with lock:
            bar.update(more)

    def one(file: File) -> str:
        target = part / file.path
        checksum = file.checksum or known.get(file.path)
        there = target.exists()
        try:
            pooch.retrieve(
                file.url,
                known_hash=checksum,
                fname=target.name,
                path=target.parent,
                downloader=Resuming(file, target, checksum is not None, data.page, tell),
            )
        except ValueError as error:
            if "hash" not in str(error):
                raise
            accept = "" if file.checksum else f" (remove {sums} to trust this one)"
            raise ValueError(
                f"{file.url} has not the checksum {checksum}, so it was changed or damaged and is "
                f"not kept{accept}; see {data.page}"
            ) from None
        if there:
            tell(file.size)
        return pooch.file_hash(str(target))

    with bar, _quiet(pooch), closing(run_tasks(one, files, num_workers=AT_ONCE)) as work:
        came = {file.path: checksum for file, checksum in work}
    with atomic_write(sums) as new:
        new.write_text("".join(f"{came[path]}  {path}\n" for path in sorted(came)), "utf-8")


def _unpack(archive: Path, folder: Path, data: PublicData) -> None:
    try:
        unpack(archive, folder, most_bytes=data.unpacked)
    except ValueError:
        archive.unlink()
        raise


def _read_sums(path: Path) -> dict[str, str]:
    """Checksums of an earlier time by path, from a file of ``sha256sum``."""
    text = path.read_text("utf-8", errors="replace") if path.exists() else ""
    found = re.findall(r"^([0-9a-f]{64})  (.+)$", text, re.MULTILINE)
    return {name: f"sha256:{checksum}" for checksum, name in found}


@contextmanager
def _quiet(pooch: Any) -> Iterator[None]:
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
