"""Files over HTTP that go on where they broke off, and the list of a public S3 bucket."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode
from xml.etree import ElementTree

from geossl.datasets.download.catalog import File, PublicData
from geossl.utils.parallel import run_tasks

Found = TypeVar("Found")

AT_ONCE = 4  # polite to a public server
_TRIES = 4  # in a row without a byte more
_WAIT_S = 0.5  # before the second try, then twice as long each time
_LONGEST_WAIT_S = 60.0
_TIMEOUT_S = (10, 60)  # to connect, to read
_BLOCK_BYTES = 2**14  # a drop loses what came of a block
_LIST_BYTES = 2**23
_SEQUENCES = 4  # of each category of a bucket


class _Broken(Exception):
    """An attempt that may be repeated, after so many seconds if the server says so."""

    def __init__(self, reason: str, wait_s: float | None = None):
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Resuming:
    """A downloader for pooch, which has none that goes on: it does, by HTTP ranges.

    What came of an earlier call is used only where a checksum tells at the end that both fit.
    """

    file: File
    target: Path
    go_on: bool
    page: str
    tell: Callable[[int], None]

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """What pooch calls."""
        part = self.target.with_name(f"{self.target.name}.part")
        if not self.go_on:
            part.unlink(missing_ok=True)
        self.tell(_size(part))
        _patiently(
            lambda: self._append(part),
            lambda: _size(part),
            f"{url}; give the same command again when the network is there, or download it by hand "
            f"to {self.target} (about it: {self.page})",
        )
        os.replace(part, output_file)

    def _append(self, part: Path) -> None:
        """Add what is missing to ``part``, as much as comes."""
        have, size, url = _size(part), self.file.size, self.file.url
        if have == size and have:
            return
        with _asked(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
            goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if answer.status_code == 416 or (answer.status_code == 206 and not goes_on):
                self._start_again(part)
                raise _Broken("the server has another length")
            if have and answer.status_code != 206:  # all of it again
                self._start_again(part)
                have = 0
            length = _number(answer.headers.get("Content-Length", ""))
            if length is not None and have + length != size:
                self._start_again(part)
                raise ConnectionError(
                    f"{url} has {have + length:,} bytes, expected {size:,}, so it is not the "
                    f"file that is known here (or a page to log in to the network); see {self.page}"
                )
            with open(part, "ab") as file:
                for block in answer.iter_content(_BLOCK_BYTES):
                    block = block[: size - have]
                    file.write(block)
                    self.tell(len(block))
                    have += len(block)
                    if have == size:
                        break
        if have < size:
            raise _Broken(f"it ended after {have:,} of {size:,} bytes")

    def _start_again(self, part: Path) -> None:
        self.tell(-_size(part))
        part.unlink(missing_ok=True)


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _asked(url: str, headers: dict[str, str]) -> Iterator[Any]:
    """The answer of a server, its body still to come; failures that may pass are `_Broken`."""
    import requests

    headers = {"Accept-Encoding": "identity", **headers}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            status = answer.status_code
            if status == 429 or status >= 500:
                wait_s = _number(answer.headers.get("Retry-After", ""))
                raise _Broken(f"the server says {status}", wait_s)
            if status >= 400 and status != 416:
                raise ConnectionError(f"{url} cannot be fetched: the server says {status}")
            yield answer
    except requests.RequestException as error:
        raise _Broken(type(error).__name__) from error


def _patiently(attempt: Callable[[], Found], have: Callable[[], int], from_where: str) -> Found:
    """Repeat an attempt, with growing pauses, until `_TRIES` in a row brought nothing more."""
    failures, before = 0, have()
    while True:
        try:
            return attempt()
        except _Broken as error:
            failures = 0 if have() > before else failures + 1
            before = have()
            if failures >= _TRIES:
                raise ConnectionError(
                    f"no answer, or one that breaks off ({error}), from {from_where}"
                ) from error
            wait_s = _WAIT_S * 2.0 ** (failures - 1) if error.wait_s is None else error.wait_s
            time.sleep(min(wait_s, _LONGEST_WAIT_S))


def in_bucket(data: PublicData) -> Iterator[File]:
    """The first sequences of each folder below an S3 prefix; S3 lists in the order of names."""
    address, prefix = data.bucket or ("", "")
    root = prefix.rstrip("/").rpartition("/")[0] + "/"

    def listed(query: dict[str, str]) -> ElementTree.Element:
        url = f"{address}?{urlencode({'list-type': '2', **query})}"

        def ask() -> ElementTree.Element:
            with _asked(url, {}) as answer:
                text = b""
                for block in answer.iter_content(_BLOCK_BYTES):
                    text += block
                    if len(text) > _LIST_BYTES:
                        raise ConnectionError(f"{address} gives no list of files; see {data.page}")
            try:
                found = ElementTree.fromstring(text)
            except ElementTree.ParseError as error:
                raise _Broken(f"no list of files: {error}") from None
            for element in found.iter():
                element.tag = element.tag.rpartition("}")[2]
            return found

        again = "give the same command again when the network is there"
        return _patiently(ask, lambda: 0, f"{address}; {again} (about it: {data.page})")

    folders = [e.text or "" for e in listed({"prefix": prefix, "delimiter": "/"})
               .findall("CommonPrefixes/Prefix")]  # fmt: skip
    if not folders:
        raise ConnectionError(f"{address} lists nothing below {prefix}; see {data.page}")
    queries = ({"prefix": folder, "max-keys": "500"} for folder in folders)
    with closing(run_tasks(listed, queries, num_workers=AT_ONCE)) as work:
        lists = {query["prefix"]: found for query, found in work}
    for folder in folders:
        rows = [(e.findtext("Key", ""), e) for e in lists[folder].findall("Contents")]
        groups = [list(g) for _, g in groupby(rows, lambda row: row[0].rpartition("/")[0])]
        if lists[folder].findtext("IsTruncated") == "true":
            groups.pop()  # it may go on
        for key, element in (row for group in groups[:_SEQUENCES] for row in group):
            size = _number(element.findtext("Size", ""))
            if key.endswith(("_rgb.jpg", "_rgb.json")) and key.startswith(root) and size:
                tag = element.findtext("ETag", "").strip('"')
                checksum = f"md5:{tag}" if re.fullmatch("[0-9a-f]{32}", tag) else None
                yield File(key.removeprefix(root), address + key, size, checksum)
