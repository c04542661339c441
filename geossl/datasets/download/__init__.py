"""Download public data sets, each from its own address: complete and verified, or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

from geossl.datasets.download.archive import safe_path, unpack
from geossl.datasets.download.bucket import files_in_bucket
from geossl.datasets.download.catalog import SETS, File, PublicData
from geossl.utils.http import RetryPolicy, UnavailableError, download
from geossl.utils.io import atomic_write, replace_file
from geossl.utils.parallel import run_tasks
from geossl.utils.progress import progress_bar
from geossl.utils.validate import check_choice, validated

__all__ = ["describe_sets", "fetch"]

_CONNECTIONS = 4  # polite to a public server
_POLICY = RetryPolicy(tries=4, timeout_s=60)


@validated
def fetch(name: str, *, output_dir: str | os.PathLike[str] = "data", progress: bool = True) -> Path:
    """Download a public data set; resumes a call that was stopped, and runs only once.

    The data set appears as ``output_dir/name`` when it is complete; until then its files are in
    ``output_dir/name.part``, where files that were downloaded by hand are used as well. Checksums
    are those of the catalog. ``output_dir/name.sha256`` (for ``sha256sum``) records what was
    downloaded; a file without a published checksum must stay the same when it is fetched again
    (trust on first use).

    Args:
        name: one of `geossl.datasets.download.catalog.SETS`.
        output_dir: the folder of all data sets.
        progress: show a progress bar.

    Returns:
        The folder of the data set; of an archive that holds one folder, that folder.

    Raises:
        ValueError: an unknown name, another checksum, or an archive that `unpack` refuses.
        ConnectionError: no network, or the server has no such file; says what to do by hand.
        OSError: too little space on the disk.
        ImportError: without the package requests.
    """
    check_choice("name", name, SETS)
    data, folder, part = SETS[name], Path(output_dir) / name, Path(output_dir) / f"{name}.part"
    if not folder.is_dir():
        part.mkdir(parents=True, exist_ok=True)
        try:
            _download(name, data, part, progress)
            if data.unpacked:
                _unpack(part / data.files[0].path, folder, data)
                shutil.rmtree(part)
            else:
                replace_file(part, folder)
        finally:
            if part.is_dir() and not any(part.iterdir()):
                part.rmdir()
    content = list(folder.iterdir())
    return content[0] if data.unpacked and len(content) == 1 and content[0].is_dir() else folder


def describe_sets() -> list[str]:
    """Describe the data sets that `fetch` knows, two lines each."""
    lines = []
    for name, data in SETS.items():
        about = "" if data.files else "about "
        megabytes = (sum(file.size for file in data.files) or data.size) / 1e6
        lines.append(f"{name:12} {f'{about}{megabytes:,.0f} MB':>13}  {data.title}")
        lines.append(f"{'':27} {data.license}; {data.page}")
    return lines


def _download(name: str, data: PublicData, part: Path, progress: bool) -> None:
    """Download all files of a data set into ``part``, and write their checksums next to it."""
    try:
        import requests  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"`fetch` needs the package requests ({error}). Run: pip install 'geossl[fetch]', or "
            f"download {name} by hand from {data.page}."
        ) from None
    sums = part.with_name(f"{name}.sha256")
    known = _read_sums(sums)
    files = data.files or tuple(files_in_bucket(data, policy=_POLICY, num_workers=_CONNECTIONS))
    missing = [file for file in files if not (part / safe_path(file.path, data.page)).exists()]
    needed = sum(file.size for file in missing) + data.unpacked
    free = shutil.disk_usage(part).free
    if needed > free:
        raise OSError(
            f"{name} needs {needed / 1e6:,.0f} MB, {part.parent} has {free / 1e6:,.0f} MB free. "
            "Make space or use another `output_dir`."
        )
    total = sum(file.size for file in files)
    bar = progress_bar(total, desc=name, unit="B", scale=True, show=progress)
    lock = threading.Lock()
    done: dict[str, int] = {}

    def report(path: str, have: int) -> None:
        with lock:
            done[path] = have
            bar.update(sum(done.values()) - bar.n)

    def get(file: File) -> str:
        checksum = file.checksum or known.get(file.path)
        target = part / file.path
        if not (target.exists() and _matches(target, checksum)):
            accept = "" if file.checksum else f" (remove {sums} to trust this one)"
            _get(file, target, checksum, accept, data.page, partial(report, file.path))
        report(file.path, file.size)
        return _digest(target, "sha256")

    with bar, closing(run_tasks(get, files, num_workers=_CONNECTIONS)) as results:
        digests = {file.path: digest for file, digest in results}
    with atomic_write(sums) as temporary:
        lines = (f"{digests[path]}  {path}\n" for path in sorted(digests))
        temporary.write_text("".join(lines), "utf-8", newline="\n")  # sha256sum takes no other


def _get(
    file: File, target: Path, checksum: str | None, accept: str, page: str, report: partial[None]
) -> None:
    """Download and verify one file."""
    incomplete = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if checksum is None:  # nothing would tell whether two parts fit together
        incomplete.unlink(missing_ok=True)
    try:
        download(file.url, incomplete, size=file.size, policy=_POLICY, on_progress=report)
    except UnavailableError as error:
        again = "Run the same command again later, or download" if error.temporary else "Download"
        raise ConnectionError(
            f"{file.url} cannot be downloaded: {error}. {again} it by hand to {target} "
            f"(see {page})."
        ) from error
    if not _matches(incomplete, checksum):
        incomplete.unlink()
        raise ValueError(
            f"{file.url} does not have the checksum {checksum}: it was changed or damaged, and is "
            f"not kept{accept}. See {page}."
        )
    replace_file(incomplete, target)


def _unpack(archive: Path, folder: Path, data: PublicData) -> None:
    try:
        unpack(archive, folder, max_bytes=data.unpacked)
    except ValueError:
        archive.unlink()
        raise


def _read_sums(path: Path) -> dict[str, str]:
    """Return the checksums of an earlier download by path, from a file of ``sha256sum``."""
    text = path.read_text("utf-8", errors="replace") if path.exists() else ""
    matches = re.findall(r"^([0-9a-f]{64})  (.+)$", text, re.MULTILINE)
    return {name: f"sha256:{digest}" for digest, name in matches}


def _matches(path: Path, checksum: str | None) -> bool:
    algorithm, _, digest = (checksum or "").partition(":")
    return checksum is None or _digest(path, algorithm) == digest


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
